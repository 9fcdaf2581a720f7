/* hub.c - names, directories, links and locks of the cache. */
#include "hub.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- names ---------------------------------------------------------------------------------- */

static bool is_plain(char c) {
    return isalnum((unsigned char)c) || c == '.' || c == '_' || c == '-';
}

/* One half of ORG/NAME. "--" separates the halves in the cache, so no name may hold it. */
static bool is_name(const char *s, size_t n) {
    if (n == 0 || s[0] == '.' || s[0] == '-' || s[n - 1] == '.' || s[n - 1] == '-') return false;
    for (size_t i = 0; i < n; i++) {
        if (!is_plain(s[i])) return false;
        if (i && s[i] == s[i - 1] && (s[i] == '-' || s[i] == '.')) return false;
    }
    return true;
}

/* A path of plain names: no empty part, none that begins with a dot and means something. */
static bool is_relative(const char *s, bool only_plain) {
    for (;;) {
        size_t n = strcspn(s, "/");
        if (n == 0 || (n == 1 && s[0] == '.') || (n == 2 && s[0] == '.' && s[1] == '.'))
            return false;
        for (size_t i = 0; i < n; i++) {
            unsigned char c = (unsigned char)s[i];
            if (c < 0x20 || c == 0x7f || c == '\\' || (only_plain && !is_plain(s[i]))) return false;
        }
        if (!s[n]) return true;
        s += n + 1;
    }
}

bool hub_parse(hub_id *id, const char *text) {
    const char *at = strchr(text, '@'), *slash = strchr(text, '/');
    size_t n = at ? (size_t)(at - text) : strlen(text);
    const char *revision = at ? at + 1 : "main";
    if (!slash || n >= sizeof id->repo || slash >= text + n) return false;
    size_t org = (size_t)(slash - text);
    if (!is_name(text, org) || !is_name(slash + 1, n - org - 1)) return false;
    if (strlen(revision) >= sizeof id->revision || !is_relative(revision, true)) return false;
    if (revision[0] == '-') return false;
    memcpy(id->repo, text, n);
    id->repo[n] = 0;
    snprintf(id->revision, sizeof id->revision, "%s", revision);
    return true;
}

bool hub_is_file_name(const char *name) {
    return strlen(name) < HUB_FILE_MAX && is_relative(name, false);
}

bool hub_is_commit(const char *text) {
    return strlen(text) == HUB_COMMIT - 1 && strspn(text, "0123456789abcdef") == HUB_COMMIT - 1;
}

bool hub_is_blob_name(const char *text) {
    size_t n = strlen(text);
    if (n == 0 || n > 128 || text[0] == '.') return false;
    for (size_t i = 0; i < n; i++)
        if (!is_plain(text[i])) return false;
    return true;
}

/* ---- where ---------------------------------------------------------------------------------- */

int hub_path(char **out, app_error *err, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    *out = n < 0 ? NULL : malloc((size_t)n + 1);
    if (!*out) return app_no_memory(err);
    va_start(ap, fmt);
    vsnprintf(*out, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return EXIT_OK;
}

/* $NAME, or NULL when unset or empty; unlike app_env(), "no" is a fine name for a directory. */
static const char *variable(const char *name) {
    const char *value = getenv(name);
    return value && value[0] ? value : NULL;
}

/* The directory that holds the cache and the token. */
static int hub_home(char **out, app_error *err) {
    const char *home = variable("HF_HOME"), *xdg = variable("XDG_CACHE_HOME");
    if (home && home[0] == '~' && home[1] == '/' && variable("HOME"))
        return hub_path(out, err, "%s%s", variable("HOME"), home + 1);
    if (home) return hub_path(out, err, "%s", home);
    if (xdg) return hub_path(out, err, "%s/huggingface", xdg);
    if (variable("HOME")) return hub_path(out, err, "%s/.cache/huggingface", variable("HOME"));
    return app_fail(err, EXIT_USAGE,
                    "where are downloaded models? Neither HF_HOME nor HOME is set");
}

int hub_cache_dir(char **out, app_error *err) {
    const char *cache = variable("HF_HUB_CACHE");
    if (!cache) cache = variable("HUGGINGFACE_HUB_CACHE");
    if (cache) return hub_path(out, err, "%s", cache);
    char *home;
    int rc = hub_home(&home, err);
    if (rc != EXIT_OK) return rc;
    rc = hub_path(out, err, "%s/hub", home);
    free(home);
    return rc;
}

/* A token becomes part of a request, so nothing but visible characters is let through. */
static int check_token(char **out, const char *text, const char *from, app_error *err) {
    size_t n = strcspn(text, " \t\r\n");
    for (size_t i = 0; i < n; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return app_fail(err, EXIT_USAGE, "%s: not a token of the hub", from);
    if (text[n + strspn(text + n, " \t\r\n")])
        return app_fail(err, EXIT_USAGE, "%s: not a token of the hub", from);
    return n ? hub_path(out, err, "%.*s", (int)n, text) : EXIT_OK;
}

int hub_token(char **out, app_error *err) {
    const char *token = variable("HF_TOKEN"), *path = variable("HF_TOKEN_PATH");
    *out = NULL;
    if (!token) token = variable("HUGGING_FACE_HUB_TOKEN");
    if (token) return check_token(out, token, "HF_TOKEN", err);
    char *home = NULL, *file;
    /* No home, no token: public repositories need none. */
    if (!path && hub_home(&home, err) != EXIT_OK) return EXIT_OK;
    int rc = path ? hub_path(&file, err, "%s", path) : hub_path(&file, err, "%s/token", home);
    free(home);
    if (rc != EXIT_OK) return rc;
    char text[1024] = "";
    FILE *in = fopen(file, "r");
    if (in) {
        text[fread(text, 1, sizeof text - 1, in)] = 0;
        fclose(in);
        rc = check_token(out, text, file, err);
    }
    free(file);
    return rc;
}

bool hub_is_offline(void) {
    const char *value = variable("HF_HUB_OFFLINE");
    return value && (!strcmp(value, "1") || !strcasecmp(value, "on") || !strcasecmp(value, "yes") ||
                     !strcasecmp(value, "true"));
}

int hub_repo_dir(char **out, const char *cache, const hub_id *id, app_error *err) {
    const char *slash = strchr(id->repo, '/');
    return hub_path(out, err, "%s/models--%.*s--%s", cache, (int)(slash - id->repo), id->repo,
                    slash + 1);
}

/* The commit that refs/REVISION names; "" when there is none. */
static int read_ref(char commit[HUB_COMMIT], const char *repo_dir, const char *revision,
                    app_error *err) {
    char *path, text[HUB_COMMIT + 8] = "";
    commit[0] = 0;
    int rc = hub_path(&path, err, "%s/refs/%s", repo_dir, revision);
    if (rc != EXIT_OK) return rc;
    FILE *in = fopen(path, "r");
    free(path);
    if (!in) return EXIT_OK;
    text[fread(text, 1, sizeof text - 1, in)] = 0;
    fclose(in);
    text[strcspn(text, " \r\n")] = 0;
    if (hub_is_commit(text)) memcpy(commit, text, HUB_COMMIT);
    return EXIT_OK;
}

static int find_in(char **out, const char *repo_dir, const hub_id *id, app_error *err) {
    char commit[HUB_COMMIT];
    struct stat st;
    int rc = EXIT_OK;
    if (hub_is_commit(id->revision))
        memcpy(commit, id->revision, sizeof commit);
    else
        rc = read_ref(commit, repo_dir, id->revision, err);
    if (rc != EXIT_OK || !commit[0]) return rc;
    rc = hub_path(out, err, "%s/snapshots/%s", repo_dir, commit);
    if (rc == EXIT_OK && (stat(*out, &st) != 0 || !S_ISDIR(st.st_mode))) {
        free(*out);
        *out = NULL;
    }
    return rc;
}

int hub_find(char **out, const hub_id *id, app_error *err) {
    char *cache = NULL, *repo_dir = NULL;
    *out = NULL;
    int rc = hub_cache_dir(&cache, err);
    if (rc == EXIT_OK) rc = hub_repo_dir(&repo_dir, cache, id, err);
    if (rc == EXIT_OK) rc = find_in(out, repo_dir, id, err);
    free(repo_dir);
    free(cache);
    return rc;
}

const char *hub_look_up(void *lookup, const char *name) {
    static const char scheme[] = "hf://";
    hub_lookup *l = lookup;
    hub_id id = {.revision = "main"};
    app_error ignored;
    hub_lookup_free(l);
    const char *org = name + strlen(scheme);
    if (strncmp(name, scheme, strlen(scheme)) != 0) return NULL;
    const char *slash = strchr(org, '/'), *file = slash ? strchr(slash + 1, '/') : NULL;
    if (!file || (size_t)(file - org) >= sizeof id.repo) return NULL;
    snprintf(id.repo, sizeof id.repo, "%.*s", (int)(file - org), org);
    /* An @ belongs to the name of the file: revisions are not written here. */
    hub_id checked;
    if (strchr(id.repo, '@') || !hub_parse(&checked, id.repo) || !hub_is_file_name(++file))
        return NULL;
    char *dir;
    if (hub_find(&dir, &id, &ignored) == EXIT_OK && dir &&
        hub_path(&l->path, &ignored, "%s/%s", dir, file) == EXIT_OK && access(l->path, F_OK) == 0) {
        free(dir);
        return l->path;
    }
    free(dir);
    hub_lookup_free(l);
    snprintf(l->missing, sizeof l->missing, "%s %s", id.repo, file);
    return NULL;
}

void hub_lookup_free(hub_lookup *lookup) {
    free(lookup->path);
    lookup->path = NULL;
}

/* ---- writing -------------------------------------------------------------------------------- */

static int fail_path(const char *path, const char *what, app_error *err) {
    return app_fail(err, EXIT_USAGE, "%s: cannot %s: %s", path, what, strerror(errno));
}

int hub_make_parents(const char *path, app_error *err) {
    char *dir = strdup(path);
    if (!dir) return app_no_memory(err);
    int rc = EXIT_OK;
    for (char *slash = strchr(dir + 1, '/'); slash && rc == EXIT_OK;
         slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (mkdir(dir, 0777) != 0 && errno != EEXIST) rc = fail_path(dir, "create", err);
        *slash = '/';
    }
    free(dir);
    return rc;
}

/* "../../" for the snapshot, and one more for every directory in the file's name. */
static int link_target(char **out, const char *file, const char *blob, app_error *err) {
    char up[3 * HUB_FILE_MAX] = "../../";
    for (const char *c = file; *c; c++)
        if (*c == '/') strcat(up, "../");
    return hub_path(out, err, "%sblobs/%s", up, blob);
}

int hub_link(const char *repo_dir, const char *commit, const char *file, const char *blob,
             app_error *err) {
    char *path = NULL, *temp = NULL, *target = NULL;
    int rc = hub_path(&path, err, "%s/snapshots/%s/%s", repo_dir, commit, file);
    if (rc == EXIT_OK) rc = hub_path(&temp, err, "%s.%ld.new", path, (long)getpid());
    if (rc == EXIT_OK) rc = link_target(&target, file, blob, err);
    if (rc == EXIT_OK) rc = hub_make_parents(path, err);
    if (rc == EXIT_OK) {
        unlink(temp);
        /* A link cannot be overwritten, but renamed over: no moment without one. */
        if (symlink(target, temp) != 0 || rename(temp, path) != 0) {
            rc = fail_path(path, "create", err);
            unlink(temp);
        }
    }
    free(target);
    free(temp);
    free(path);
    return rc;
}

int hub_write_ref(const char *repo_dir, const char *revision, const char *commit, app_error *err) {
    char *path = NULL, *temp = NULL;
    int rc = hub_path(&path, err, "%s/refs/%s", repo_dir, revision);
    if (rc == EXIT_OK) rc = hub_path(&temp, err, "%s.%ld.new", path, (long)getpid());
    if (rc == EXIT_OK) rc = hub_make_parents(path, err);
    if (rc == EXIT_OK) {
        FILE *out = fopen(temp, "w");
        bool good = out && fputs(commit, out) >= 0 && fflush(out) == 0 && fsync(fileno(out)) == 0;
        if (out && fclose(out) != 0) good = false;
        if (!good || rename(temp, path) != 0) {
            rc = fail_path(path, "write", err);
            unlink(temp);
        }
    }
    free(temp);
    free(path);
    return rc;
}

/* ---- locks ---------------------------------------------------------------------------------- */

int hub_lock_take(hub_lock *lock, const char *path, void (*waiting)(void *user), void *user,
                  app_error *err) {
    const struct timespec nap = {.tv_nsec = 50000000};
    bool said = false;
    lock->fd = -1;
    int rc = hub_make_parents(path, err);
    if (rc != EXIT_OK) return rc;
    lock->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (lock->fd < 0) return fail_path(path, "create", err);
    while (flock(lock->fd, LOCK_EX | LOCK_NB) != 0) {
        /* Network file systems without locks: better unlocked than not at all. */
        if (errno == ENOSYS || errno == EOPNOTSUPP) return EXIT_OK;
        if (errno != EWOULDBLOCK && errno != EINTR) {
            rc = fail_path(path, "lock", err);
            hub_lock_release(lock);
            return rc;
        }
        if (!said) waiting(user);
        said = true;
        rc = app_check_interrupted(err);
        if (rc != EXIT_OK) {
            hub_lock_release(lock);
            return rc;
        }
        nanosleep(&nap, NULL);
    }
    return EXIT_OK;
}

void hub_lock_release(hub_lock *lock) {
    /* The file stays: removing it would let a third program lock another file of that name. */
    if (lock->fd >= 0) close(lock->fd);
    lock->fd = -1;
}
