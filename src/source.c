#include "source.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_ENTRIES = 10000 };

static const char HUB[] = "hf://";

static const char *plain_name(const char *name) {
    while (name[0] == '.' && name[1] == '/') name += 2;
    return name;
}

const char *mo_source_place(const mo_source *s) {
    return s->blobs ? "the blobs" : s->dir[0] ? s->dir : ".";
}

static const moshi_blob *find_blob(const mo_source *s, const char *name) {
    for (size_t i = 0; i < s->n_blobs; i++)
        if (strcmp(plain_name(s->blobs[i].name), plain_name(name)) == 0) return &s->blobs[i];
    return NULL;
}

/* Path of a file, also its name in messages. NULL when out of memory. */
static char *full_path(const mo_source *s, const char *name) {
    size_t n = strlen(s->dir);
    if (s->blobs || n == 0 || name[0] == '/') return mo_format("%s", name);
    return mo_format("%s%s%s", s->dir, s->dir[n - 1] == '/' ? "" : "/", plain_name(name));
}

/* 1 when there is a plain name beside the others, with its path in *path. */
static int find_beside(const mo_source *s, const char *name, char **path, moshi_error *err) {
    struct stat st;
    *path = full_path(s, name);
    if (!*path) return mo_fail(err, MOSHI_ENOMEM, "%s: out of memory", name);
    if (s->blobs ? find_blob(s, name) != NULL : stat(*path, &st) == 0) return 1;
    free(*path);
    *path = NULL;
    return 0;
}

/* FILE of hf://ORG/NAME/FILE: first with its directories, then without. "" when it is no such name.
 */
static const char *hub_file(const char *name) {
    const char *p = name + strlen(HUB);
    for (int i = 0; i < 2; i++) {
        p = strchr(p, '/');
        if (!p) return "";
        p++;
    }
    return p;
}

static int find_hub(const mo_source *s, const char *name, char **path, moshi_error *err) {
    const char *file = hub_file(name), *last = strrchr(file, '/');
    int rc = file[0] ? find_beside(s, file, path, err) : 0;
    if (rc == 0 && last && last[1]) rc = find_beside(s, last + 1, path, err);
    const char *found = rc == 0 && s->finder.find ? s->finder.find(s->finder.user, name) : NULL;
    if (!found) return rc;
    *path = mo_format("%s", found);
    return *path ? 1 : mo_fail(err, MOSHI_ENOMEM, "%s: out of memory", name);
}

int mo_source_find(const mo_source *s, const char *name, char **path, moshi_error *err) {
    *path = NULL;
    return strncmp(name, HUB, strlen(HUB)) ? find_beside(s, name, path, err)
                                           : find_hub(s, name, path, err);
}

int mo_source_has(const mo_source *s, const char *name, moshi_error *err) {
    char *path;
    int rc = mo_source_find(s, name, &path, err);
    free(path);
    return rc;
}

static int fail_absent(const mo_source *s, const char *name, const char *role, const char *why,
                       moshi_error *err) {
    if (!strncmp(name, HUB, strlen(HUB)))
        return mo_fail(err, MOSHI_EMODEL,
                       "%s: not in %s, and not among the downloaded files; wanted as %s (%s)", name,
                       mo_source_place(s), role, why);
    char *path = full_path(s, name);
    if (!path) return mo_fail(err, MOSHI_ENOMEM, "%s: out of memory", name);
    int rc = mo_fail(err, MOSHI_EMODEL, "%s: no such file%s; wanted as %s (%s)", path,
                     s->blobs ? " among the blobs" : "", role, why);
    free(path);
    return rc;
}

int mo_source_open(const mo_source *s, const char *name, const char *role, const char *why,
                   mo_file *out, moshi_error *err) {
    char *path;
    memset(out, 0, sizeof *out);
    int rc = mo_source_find(s, name, &path, err);
    if (rc < 0) return rc;
    if (rc == 0) return fail_absent(s, name, role, why, err);
    const moshi_blob *blob = s->blobs ? find_blob(s, path) : NULL;
    rc = blob ? mo_file_borrow(out, blob->data, blob->size, path, err)
              : mo_file_map(out, path, path, err);
    free(path);
    return rc;
}

/* ---- listing -------------------------------------------------------------------------------- */

static int add_name(mo_source_names *out, const char *name) {
    if (out->n % 64 == 0) {
        char **names = realloc(out->names, (out->n + 64) * sizeof *names);
        if (!names) return MOSHI_ENOMEM;
        out->names = names;
    }
    out->names[out->n] = mo_format("%s", name);
    return out->names[out->n++] ? 0 : MOSHI_ENOMEM;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int list_directory(const mo_source *s, mo_source_names *out, moshi_error *err) {
    const char *place = mo_source_place(s);
    int rc = 0;
    DIR *dir = opendir(place);
    if (!dir)
        return mo_fail(err, errno == ENOMEM ? MOSHI_ENOMEM : MOSHI_EIO, "%s: cannot be read: %s",
                       place, strerror(errno));
    for (struct dirent *e; rc == 0 && (e = readdir(dir)) != NULL;) {
        if (e->d_name[0] == '.') continue;
        if (out->n == MAX_ENTRIES)
            rc = mo_fail(err, MOSHI_EMODEL,
                         "%s: wanted a model's directory, found one of more than %d files", place,
                         MAX_ENTRIES);
        else
            rc = add_name(out, e->d_name);
    }
    closedir(dir);
    return rc;
}

int mo_source_list(const mo_source *s, mo_source_names *out, moshi_error *err) {
    int rc = 0;
    memset(out, 0, sizeof *out);
    if (!s->blobs) rc = list_directory(s, out, err);
    for (size_t i = 0; rc == 0 && i < s->n_blobs; i++) rc = add_name(out, s->blobs[i].name);
    if (rc == MOSHI_ENOMEM) mo_fail(err, rc, "%s: out of memory", mo_source_place(s));
    if (rc < 0)
        mo_source_names_free(out);
    else if (out->n)
        qsort(out->names, out->n, sizeof *out->names, by_name);
    return rc;
}

void mo_source_names_free(mo_source_names *names) {
    for (size_t i = 0; i < names->n; i++) free(names->names[i]);
    free(names->names);
    memset(names, 0, sizeof *names);
}
