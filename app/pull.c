/* pull.c - which files, from where, is there room, are they what they should be.
 *
 * The order matters: facts of every file first, then room, then contents, each verified before it
 * gets its name, then its link; the revision is noted last, so that it never leads to a snapshot
 * with files missing. */
#include "pull.h"

#include "fetch.h"
#include "options.h"
#include "progress.h"
#include "repos.h"
#include "sha.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
    FILES_MAX = 64,
    CONNECTIONS = 8,
    CHUNK_KB = 64 << 10,
    BACKOFF_MS = 1000,
    STALL_S = 30,
    LISTING_MAX = 16 << 20,
    CONFIG_MAX = 1 << 20,
    UNSIZED_MAX = 64 << 20 /* files whose length the server does not tell */
};

typedef struct pull_file {
    char name[HUB_FILE_MAX];
    char blob[160]; /* its hash, and its name among the blobs */
    int64_t size;   /* -1: the server does not tell */
    bool here;
} pull_file;

typedef struct pull {
    const hub_id *id;
    fetch *f;
    char *endpoint, *token, *cache, *repo_dir;
    char commit[HUB_COMMIT];
    json_t *listing; /* what the hub knows about the repository */
    pull_file files[FILES_MAX];
    int n_files;
    bool quiet;
    uint64_t chunk;
    /* Progress of all files together. */
    progress bar;
    uint64_t total, before; /* bytes to come; those of files that are through */
    uint64_t at_start;      /* bytes of the present file that were there already */
    double started_s;
} pull;

/* ---- telling people ------------------------------------------------------------------------- */

static void note(void *user, const char *text) {
    pull *p = user;
    if (p->quiet) return;
    progress_clear(&p->bar);
    fprintf(stderr, "%s\n", text);
}

static void draw(pull *p, uint64_t have, const char *what) {
    char text[120], a[32], b[32], c[32];
    double now = app_now_s();
    uint64_t new_bytes = have > p->at_start ? have - p->at_start : 0;
    double speed = now > p->started_s ? (double)new_bytes / (now - p->started_s) : 0;
    uint64_t all = p->before + have;
    snprintf(text, sizeof text, "%s %s of %s, %s/s", what, app_size_text(a, all),
             app_size_text(b, p->total), app_size_text(c, (uint64_t)speed));
    /* The bar reckons the time left from its start: as if all bytes had come at this speed. */
    if (speed > 0) p->bar.started_s = now - (double)all / speed;
    progress_draw(&p->bar, p->total ? (double)all / (double)p->total : 0, text);
}

static void on_progress(void *user, uint64_t have) {
    draw(user, have, "received");
}

static void on_waiting(void *user) {
    note(user, "another program is downloading this file; waiting for it");
}

/* ---- URLs and answers ----------------------------------------------------------------------- */

/* Everything that has a meaning in URLs as %XX; '/' only where it is part of a name. */
static void escape(char *out, size_t size, const char *text, bool keep_slash) {
    size_t n = 0;
    for (; *text && n + 4 < size; text++) {
        unsigned char c = (unsigned char)*text;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     strchr("-._~", c) || (c == '/' && keep_slash);
        n += (size_t)snprintf(out + n, size - n, plain ? "%c" : "%%%02X", c);
    }
    out[n] = 0;
}

static int file_url(const pull *p, const char *file, char **out, app_error *err) {
    char name[3 * HUB_FILE_MAX + 4];
    escape(name, sizeof name, file, true);
    return hub_path(out, err, "%s/%s/resolve/%s/%s", p->endpoint, p->id->repo, p->commit, name);
}

static int fail_gated(const pull *p, app_error *err) {
    return app_fail(err, EXIT_MODEL,
                    "%s is gated: accept its licence at %s/%s, then %s and try again", p->id->repo,
                    p->endpoint, p->id->repo,
                    p->token ? "wait until the account of your token has access"
                             : "set HF_TOKEN to a token of your account "
                               "(https://huggingface.co/settings/tokens)");
}

static int fail_no_repo(const pull *p, app_error *err) {
    char near[64];
    nearest_repo(p->id->repo, near);
    return app_fail(
        err, EXIT_MODEL, "%s: %s has no such repository, or %s%s%s%s%s", p->id->repo, p->endpoint,
        p->token ? "your token may not see it" : "it is private and HF_TOKEN is not set",
        near[0] ? "; did you mean '" : "", near, near[0] ? "'?" : "",
        near[0] ? "" : "; moshi pull --list shows some");
}

static int fail_no_file(const pull *p, const char *file, app_error *err) {
    const char *names[256];
    int n = 0;
    size_t i;
    json_t *entry;
    json_array_foreach(json_object_get(p->listing, "siblings"), i, entry) {
        const char *name = json_string_value(json_object_get(entry, "rfilename"));
        if (name && hub_is_file_name(name) && n < 256) names[n++] = name;
    }
    const char *near = nearest_word(file, names, n);
    return app_fail(err, EXIT_MODEL, "%s@%s has no file '%s'%s%s%s", p->id->repo, p->id->revision,
                    file, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

/* A status that is not success, in words. `file` is NULL when the repository itself was asked. */
static int fail_status(const pull *p, const fetch_reply *r, const char *file, app_error *err) {
    const char *code = r->error_code;
    bool denied = r->status == 401 || r->status == 403;
    if (!strcmp(code, "GatedRepo")) return fail_gated(p, err);
    if (!strcmp(code, "RevisionNotFound"))
        return app_fail(err, EXIT_MODEL, "%s has no revision '%s'", p->id->repo, p->id->revision);
    if (file && (r->status == 404 || !strcmp(code, "EntryNotFound")))
        return fail_no_file(p, file, err);
    if (!strcmp(code, "RepoNotFound") || r->status == 404 || (r->status == 401 && !code[0]))
        return fail_no_repo(p, err);
    return app_fail(err, denied ? EXIT_MODEL : EXIT_NETWORK, "%s: the server answers %ld %s",
                    p->id->repo, r->status, r->error_message[0] ? r->error_message : code);
}

/* ---- what is there -------------------------------------------------------------------------- */

/* The commit and the names of all files. */
static int read_listing(pull *p, app_error *err) {
    char revision[3 * HUB_REVISION_MAX + 4], *url;
    app_buffer text = {0};
    fetch_reply reply;
    escape(revision, sizeof revision, p->id->revision, false);
    int rc =
        hub_path(&url, err, "%s/api/models/%s/revision/%s", p->endpoint, p->id->repo, revision);
    if (rc != EXIT_OK) return rc;
    rc = fetch_text(p->f, url, LISTING_MAX, &text, &reply, err);
    if (rc == EXIT_OK && reply.status / 100 != 2) rc = fail_status(p, &reply, NULL, err);
    if (rc == EXIT_OK) {
        p->listing = json_loadb(text.data ? text.data : "", text.n, 0, NULL);
        const char *commit = json_string_value(json_object_get(p->listing, "sha"));
        if (commit && hub_is_commit(commit))
            memcpy(p->commit, commit, sizeof p->commit);
        else
            rc = app_fail(err, EXIT_NETWORK, "%s: wanted JSON with the commit of '%s' as 'sha'",
                          url, p->id->revision);
    }
    app_buffer_free(&text);
    free(url);
    return rc;
}

static bool is_listed(const pull *p, const char *file) {
    size_t i;
    json_t *entry;
    json_array_foreach(json_object_get(p->listing, "siblings"), i, entry) {
        const char *name = json_string_value(json_object_get(entry, "rfilename"));
        if (name && !strcmp(name, file)) return true;
    }
    return false;
}

/* Does the content lie among the blobs already? Only whole files get that name. */
static int look_for_blob(const pull *p, pull_file *file, app_error *err) {
    char *path;
    struct stat st;
    int rc = hub_path(&path, err, "%s/blobs/%s", p->repo_dir, file->blob);
    if (rc != EXIT_OK) return rc;
    file->here = stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
                 (file->size < 0 || (int64_t)st.st_size == file->size);
    free(path);
    return rc;
}

/* Ask for size and hash. */
static int read_facts(pull *p, pull_file *file, app_error *err) {
    char *url;
    fetch_reply reply;
    int rc = file_url(p, file->name, &url, err);
    if (rc != EXIT_OK) return rc;
    rc = fetch_head(p->f, url, &reply, err);
    bool linked = reply.linked_etag[0];
    if (rc == EXIT_OK && reply.status / 100 != 2 && !(linked && reply.status / 100 == 3))
        rc = fail_status(p, &reply, file->name, err);
    if (rc == EXIT_OK) {
        const char *etag = linked ? reply.linked_etag : reply.etag;
        file->size = linked && reply.linked_length >= 0 ? reply.linked_length : reply.length;
        if (linked && reply.status / 100 == 3) file->size = reply.linked_length;
        snprintf(file->blob, sizeof file->blob, "%s", etag);
        if (!hub_is_blob_name(etag))
            rc = app_fail(err, EXIT_NETWORK,
                          "%s: wanted an ETag of letters and digits, found '%.140s'", url, etag);
        else if (file->size > (int64_t)PARTIAL_MAX_SIZE)
            rc = app_fail(err, EXIT_NETWORK, "%s: the server announces a length that cannot be",
                          url);
    }
    if (rc == EXIT_OK) rc = look_for_blob(p, file, err);
    free(url);
    return rc;
}

static int add_file(pull *p, const char *name, app_error *err) {
    for (int i = 0; i < p->n_files; i++)
        if (!strcmp(p->files[i].name, name)) return EXIT_OK;
    if (p->n_files == FILES_MAX)
        return app_fail(err, EXIT_USAGE, "more than %d files at once", FILES_MAX);
    pull_file *file = &p->files[p->n_files++];
    memset(file, 0, sizeof *file);
    snprintf(file->name, sizeof file->name, "%s", name);
    return read_facts(p, file, err);
}

/* ---- is it whole ---------------------------------------------------------------------------- */

/* What hash a blob's name is; false when it is none. */
static bool hash_of(const char *blob, sha_kind *kind) {
    size_t n = strlen(blob);
    *kind = n == 64 ? SHA_256 : SHA_1;
    return (n == 64 || n == 40) && strspn(blob, "0123456789abcdef") == n;
}

/* Git's hash of a file begins with its kind and length. */
static void start_hash(sha *s, sha_kind kind, uint64_t size) {
    char head[48];
    sha_start(s, kind);
    int n = snprintf(head, sizeof head, "blob %llu", (unsigned long long)size);
    if (kind == SHA_1) sha_add(s, head, (size_t)n + 1);
}

static int judge_hash(const pull_file *file, sha *s, app_error *err) {
    char hex[SHA_HEX];
    sha_end(s, hex);
    if (!strcmp(hex, file->blob)) return EXIT_OK;
    return app_fail(err, EXIT_NETWORK, "%s: wrong content: wanted %s %s, found %s", file->name,
                    s->kind == SHA_1 ? "git hash" : "SHA-256", file->blob, hex);
}

static int verify_text(const pull_file *file, const app_buffer *text, app_error *err) {
    sha_kind kind;
    sha s;
    if (!hash_of(file->blob, &kind))
        return app_fail(err, EXIT_NETWORK,
                        "%s: the server tells neither length nor hash, so nobody could know "
                        "whether it is whole",
                        file->name);
    start_hash(&s, kind, text->n);
    sha_add(&s, text->data, text->n);
    return judge_hash(file, &s, err);
}

static int verify_part(pull *p, const pull_file *file, const partial *part, app_error *err) {
    enum { BLOCK = 1 << 20 };
    sha_kind kind;
    sha s;
    if (!hash_of(file->blob, &kind)) return EXIT_OK;
    char *block = malloc(BLOCK);
    if (!block) return app_no_memory(err);
    int rc = EXIT_OK;
    start_hash(&s, kind, part->size);
    for (uint64_t at = 0; at < part->size && rc == EXIT_OK;) {
        uint64_t left = part->size - at;
        ssize_t n = pread(part->fd, block, left < BLOCK ? (size_t)left : BLOCK, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            rc = app_fail(err, EXIT_USAGE, "%s: cannot read: %s", part->path, strerror(errno));
            break;
        }
        sha_add(&s, block, (size_t)n);
        at += (uint64_t)n;
        rc = app_check_interrupted(err);
        p->started_s = app_now_s();
        draw(p, part->size, "verifying");
    }
    free(block);
    return rc == EXIT_OK ? judge_hash(file, &s, err) : rc;
}

/* ---- contents ------------------------------------------------------------------------------- */

/* What a failure leaves, in words after it. */
static int say_kept(const partial *part, int rc, app_error *err) {
    char a[32], b[32], why[1500];
    if (rc != EXIT_NETWORK && rc < EXIT_SIGNAL) return rc;
    uint64_t have = partial_have(part);
    snprintf(why, sizeof why, "%.1499s", rc >= EXIT_SIGNAL ? "interrupted" : err->text);
    return app_fail(err, rc, "%s; %s of %s are kept, the same command goes on from there", why,
                    app_size_text(a, have), app_size_text(b, part->size));
}

/* Receive what is missing, and verify. */
static int complete_part(pull *p, const pull_file *file, const char *url, partial *part,
                         app_error *err) {
    sha_kind kind;
    int rc = EXIT_OK;
    /* What no hash can judge is not taken up again. */
    if (partial_have(part) && !hash_of(file->blob, &kind)) rc = partial_reset(part, p->chunk, err);
    bool resumed = rc == EXIT_OK && partial_have(part) > 0;
    for (int attempt = 0; rc == EXIT_OK; attempt++) {
        p->at_start = partial_have(part);
        p->started_s = app_now_s();
        rc = fetch_parts(p->f, url, part, err);
        if (rc != EXIT_OK) return say_kept(part, rc, err);
        rc = verify_part(p, file, part, err);
        if (rc != EXIT_NETWORK) return rc >= EXIT_SIGNAL ? say_kept(part, rc, err) : rc;
        /* Wrong content is no start for anything. */
        app_error ignored;
        int reset = partial_reset(part, p->chunk, &ignored);
        if (!resumed || attempt > 0 || reset != EXIT_OK) return rc;
        note(p, "what was kept of an earlier attempt is damaged: from the beginning");
        rc = EXIT_OK;
    }
    return rc;
}

static int get_sized(pull *p, const pull_file *file, const char *url, const char *path,
                     app_error *err) {
    char *incomplete;
    partial part = {0};
    int rc = hub_path(&incomplete, err, "%s.moshi.incomplete", path);
    if (rc != EXIT_OK) return rc;
    rc = partial_open(&part, incomplete, (uint64_t)file->size, p->chunk, err);
    if (rc == EXIT_OK) {
        rc = complete_part(p, file, url, &part, err);
        if (rc == EXIT_OK) rc = partial_commit(&part, path, err);
        /* A file without a byte in it is no use to anybody. */
        if (rc != EXIT_OK && part.path && partial_have(&part) == 0) unlink(incomplete);
    }
    partial_close(&part);
    free(incomplete);
    return rc;
}

/* The server does not tell the length, as for small files that it compresses. */
static int get_unsized(pull *p, pull_file *file, const char *url, const char *path,
                       app_error *err) {
    app_buffer text = {0};
    fetch_reply reply;
    partial part = {0};
    char *incomplete = NULL;
    int rc = fetch_text(p->f, url, UNSIZED_MAX, &text, &reply, err);
    if (rc == EXIT_OK && reply.status / 100 != 2) rc = fail_status(p, &reply, file->name, err);
    if (rc == EXIT_OK) rc = verify_text(file, &text, err);
    if (rc == EXIT_OK) rc = hub_path(&incomplete, err, "%s.moshi.incomplete", path);
    if (rc == EXIT_OK) rc = partial_open(&part, incomplete, text.n, text.n + 1, err);
    if (rc == EXIT_OK) rc = partial_reset(&part, text.n + 1, err);
    if (rc == EXIT_OK && text.n) rc = partial_add(&part, 0, text.data, text.n, err);
    if (rc == EXIT_OK) rc = partial_commit(&part, path, err);
    if (rc == EXIT_OK) file->size = (int64_t)text.n;
    partial_close(&part);
    free(incomplete);
    app_buffer_free(&text);
    return rc;
}

static int get_blob(pull *p, pull_file *file, app_error *err) {
    char *url = NULL, *path = NULL;
    int rc = file_url(p, file->name, &url, err);
    if (rc == EXIT_OK) rc = hub_path(&path, err, "%s/blobs/%s", p->repo_dir, file->blob);
    if (rc == EXIT_OK) rc = hub_make_parents(path, err);
    if (rc == EXIT_OK)
        rc = file->size < 0 ? get_unsized(p, file, url, path, err)
                            : get_sized(p, file, url, path, err);
    free(path);
    free(url);
    return rc;
}

/* One file: its content under a lock, then its name. */
static int get_file(pull *p, pull_file *file, app_error *err) {
    hub_lock lock;
    char *lock_path, text[HUB_FILE_MAX + 48], size[32];
    int rc = hub_path(&lock_path, err, "%s/.locks/%s/%s.lock", p->cache,
                      strrchr(p->repo_dir, '/') + 1, file->blob);
    if (rc != EXIT_OK) return rc;
    if (!file->here) {
        rc = hub_lock_take(&lock, lock_path, on_waiting, p, err);
        if (rc == EXIT_OK) {
            /* Whoever held the lock may have brought it. */
            rc = look_for_blob(p, file, err);
            if (rc == EXIT_OK && !file->here) {
                snprintf(text, sizeof text, "%s%s%s", file->name, file->size < 0 ? "" : ", ",
                         file->size < 0 ? "" : app_size_text(size, (uint64_t)file->size));
                note(p, text);
                rc = get_blob(p, file, err);
            }
            hub_lock_release(&lock);
        }
        progress_clear(&p->bar);
    }
    free(lock_path);
    if (rc == EXIT_OK && file->size > 0 && !file->here) p->before += (uint64_t)file->size;
    if (rc == EXIT_OK) file->here = true;
    return rc == EXIT_OK ? hub_link(p->repo_dir, p->commit, file->name, file->blob, err) : rc;
}

/* Bytes of `file` still to be written to the disk. */
static uint64_t missing_bytes(const pull *p, const pull_file *file) {
    char *path;
    app_error ignored;
    struct stat st;
    if (file->here || file->size < 0) return 0;
    uint64_t size = (uint64_t)file->size, there = 0;
    if (hub_path(&path, &ignored, "%s/blobs/%s.moshi.incomplete", p->repo_dir, file->blob) !=
        EXIT_OK)
        return size;
    if (stat(path, &st) == 0) there = (uint64_t)st.st_blocks * 512;
    free(path);
    return there < size ? size - there : 0;
}

static int check_room(pull *p, app_error *err) {
    struct statvfs fs;
    char a[32], b[32];
    uint64_t need = 0;
    p->total = p->before = 0;
    for (int i = 0; i < p->n_files; i++) {
        need += missing_bytes(p, &p->files[i]);
        if (!p->files[i].here && p->files[i].size > 0) p->total += (uint64_t)p->files[i].size;
    }
    if (!need || statvfs(p->cache, &fs) != 0) return EXIT_OK;
    uint64_t room = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (need <= room) return EXIT_OK;
    return app_fail(
        err, EXIT_USAGE,
        "%s: not enough room: %s are to come, %s are free (HF_HOME names another place)", p->cache,
        app_size_text(a, need), app_size_text(b, room));
}

/* ---- which files ---------------------------------------------------------------------------- */

/* What config.json calls a file, and what it is called when config.json does not say. */
static const struct {
    const char *key;
    const char *usual[6];
} PARTS[] = {
    {"moshi_name",
     {"model.safetensors", "model.q8.gguf", "model.q8.safetensors", "model.q4.safetensors",
      "model.gguf"}},
    {"mimi_name", {"tokenizer-e351c8d8-checkpoint125.safetensors"}},
    {"tokenizer_name", {"tokenizer_spm_32k_3.model"}},
    {"mimi_config_name", {NULL}},
    {"lora_name", {NULL}},
};

/* config.json of the snapshot; NULL, without an error, when the repository has none. */
static int read_config(pull *p, json_t **config, app_error *err) {
    char *path;
    *config = NULL;
    if (!is_listed(p, "config.json")) return EXIT_OK;
    int rc = add_file(p, "config.json", err);
    if (rc == EXIT_OK && p->files[0].size > CONFIG_MAX)
        return app_fail(err, EXIT_MODEL, "config.json of %s: longer than %d bytes", p->id->repo,
                        CONFIG_MAX);
    if (rc == EXIT_OK) rc = check_room(p, err);
    if (rc == EXIT_OK) rc = get_file(p, &p->files[0], err);
    if (rc == EXIT_OK) rc = hub_path(&path, err, "%s/blobs/%s", p->repo_dir, p->files[0].blob);
    if (rc != EXIT_OK) return rc;
    *config = json_load_file(path, 0, NULL);
    free(path);
    if (json_is_object(*config)) return EXIT_OK;
    return app_fail(err, EXIT_MODEL, "config.json of %s: not JSON", p->id->repo);
}

static int choose_part(pull *p, const json_t *config, int part, app_error *err) {
    const char *key = PARTS[part].key;
    const char *name = json_string_value(json_object_get(config, key));
    if (name && !strncmp(name, "hf://", 5)) {
        /* Of another repository: one is downloaded at a time. */
        char text[2 * HUB_FILE_MAX];
        const char *slash = strchr(name + 5, '/'), *file = slash ? strchr(slash + 1, '/') : NULL;
        snprintf(text, sizeof text,
                 "its %s is in another repository; also needed: moshi pull %.*s %s", key,
                 file ? (int)(file - name - 5) : 0, name + 5, file ? file + 1 : "");
        if (file) note(p, text);
        return EXIT_OK;
    }
    if (name && name[0]) {
        if (!hub_is_file_name(name))
            return app_fail(err, EXIT_MODEL,
                            "config.json of %s: %s: wanted the name of a file in the repository",
                            p->id->repo, key);
        if (!is_listed(p, name)) {
            int rc = fail_no_file(p, name, err);
            char why[1024];
            snprintf(why, sizeof why, "%.1000s", err->text);
            return app_fail(err, rc, "%s; its config.json names it as %s", why, key);
        }
        return add_file(p, name, err);
    }
    for (int i = 0; PARTS[part].usual[i]; i++)
        if (is_listed(p, PARTS[part].usual[i])) return add_file(p, PARTS[part].usual[i], err);
    return EXIT_OK;
}

static int choose_files(pull *p, app_error *err) {
    json_t *config;
    int rc = read_config(p, &config, err);
    int before = p->n_files;
    for (int i = 0; rc == EXIT_OK && i < (int)(sizeof PARTS / sizeof PARTS[0]); i++) {
        rc = choose_part(p, config, i, err);
        if (rc == EXIT_OK && i == 0 && p->n_files == before)
            rc = app_fail(err, EXIT_MODEL,
                          "%s: no weights under any of the usual names; name the files to download "
                          "after the repository",
                          p->id->repo);
    }
    json_decref(config);
    return rc;
}

static int name_files(pull *p, const char *const *files, int n, app_error *err) {
    int rc = EXIT_OK;
    for (int i = 0; i < n && rc == EXIT_OK; i++) rc = add_file(p, files[i], err);
    return rc;
}

/* ---- all of it ------------------------------------------------------------------------------ */

/* A number from the environment, for tests: real networks need no other values. */
static long tuned(const char *name, long usual) {
    const char *text = app_env(name);
    long value = text ? strtol(text, NULL, 10) : usual;
    return value > 0 && value < 1 << 24 ? value : usual;
}

static int open_pull(pull *p, app_error *err) {
    const char *endpoint = app_env("HF_ENDPOINT");
    if (!endpoint) endpoint = "https://huggingface.co";
    if (strncmp(endpoint, "https://", 8) != 0 && strncmp(endpoint, "http://", 7) != 0)
        return app_fail(err, EXIT_USAGE,
                        "HF_ENDPOINT: wanted https://... or http://..., found '%s'", endpoint);
    size_t n = strlen(endpoint);
    while (endpoint[n - 1] == '/') n--;
    p->chunk = (uint64_t)tuned("MOSHI_PULL_CHUNK_KB", CHUNK_KB) * 1024;
    int rc = hub_path(&p->endpoint, err, "%.*s", (int)n, endpoint);
    if (rc == EXIT_OK) rc = hub_token(&p->token, err);
    if (rc == EXIT_OK) rc = hub_cache_dir(&p->cache, err);
    if (rc == EXIT_OK) rc = hub_repo_dir(&p->repo_dir, p->cache, p->id, err);
    if (rc == EXIT_OK) rc = hub_make_parents(p->repo_dir, err);
    fetch_options options = {
        .token = p->token,
        .token_for = p->endpoint,
        .connections = CONNECTIONS,
        .backoff_s = 0.001 * (double)tuned("MOSHI_PULL_BACKOFF_MS", BACKOFF_MS),
        .stall_s = tuned("MOSHI_PULL_STALL_S", STALL_S),
        .note = note,
        .progress = on_progress,
        .user = p,
    };
    return rc == EXIT_OK ? fetch_open(&p->f, &options, err) : rc;
}

static void close_pull(pull *p) {
    fetch_close(p->f);
    json_decref(p->listing);
    free(p->endpoint);
    free(p->token);
    free(p->cache);
    free(p->repo_dir);
}

static int get_all(pull *p, const char *const *files, int n_files, char **dir, app_error *err) {
    int rc = read_listing(p, err);
    if (rc == EXIT_OK) rc = n_files ? name_files(p, files, n_files, err) : choose_files(p, err);
    if (rc == EXIT_OK) rc = check_room(p, err);
    for (int i = 0; i < p->n_files && rc == EXIT_OK; i++) rc = get_file(p, &p->files[i], err);
    if (rc == EXIT_OK && !hub_is_commit(p->id->revision))
        rc = hub_write_ref(p->repo_dir, p->id->revision, p->commit, err);
    if (rc == EXIT_OK) rc = hub_path(dir, err, "%s/snapshots/%s", p->repo_dir, p->commit);
    return rc;
}

/* Without the network: is everything that was named there? */
static int find_offline(const hub_id *id, const char *const *files, int n_files, char **dir,
                        app_error *err) {
    int rc = hub_find(dir, id, err);
    if (rc == EXIT_OK && !*dir)
        return app_fail(err, EXIT_NETWORK, "%s@%s is not in the cache, and HF_HUB_OFFLINE is set",
                        id->repo, id->revision);
    for (int i = 0; rc == EXIT_OK && i < n_files; i++) {
        char *path;
        rc = hub_path(&path, err, "%s/%s", *dir, files[i]);
        if (rc != EXIT_OK) break;
        if (access(path, R_OK) != 0)
            rc = app_fail(err, EXIT_NETWORK, "%s: not in the cache, and HF_HUB_OFFLINE is set",
                          path);
        free(path);
    }
    return rc;
}

int pull_repo(const hub_id *id, const char *const *files, int n_files, bool quiet, char **dir,
              app_error *err) {
    *dir = NULL;
    for (int i = 0; i < n_files; i++)
        if (!hub_is_file_name(files[i]))
            return app_fail(err, EXIT_USAGE, "'%s': not the name of a file in a repository",
                            files[i]);
    int rc;
    if (hub_is_offline()) {
        rc = find_offline(id, files, n_files, dir, err);
    } else {
        pull *p = calloc(1, sizeof *p);
        if (!p) return app_no_memory(err);
        p->id = id;
        p->quiet = quiet;
        progress_start(&p->bar, quiet);
        rc = open_pull(p, err);
        if (rc == EXIT_OK) rc = get_all(p, files, n_files, dir, err);
        progress_clear(&p->bar);
        close_pull(p);
        free(p);
    }
    if (rc != EXIT_OK) {
        free(*dir);
        *dir = NULL;
        if (rc >= EXIT_SIGNAL && strstr(err->text, "nothing was written"))
            app_fail(err, rc, "interrupted; files that were complete are kept");
    }
    return rc;
}
