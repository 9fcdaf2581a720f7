/* experiment.c - directories that appear whole, found again, removed again. */
#include "experiment.h"

#include "outfile.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char PARTIAL[] = ".moshi-part-";
static const char *const FILES[] = {EXPERIMENT_RECORD, EXPERIMENT_HEARD, EXPERIMENT_ANSWER};
enum { N_FILES = sizeof FILES / sizeof FILES[0], ID_DIGITS = 12, BLOCK = 1 << 16 };

static int fail_path(const char *path, app_error *err) {
    return app_fail(err, EXIT_USAGE, "%s: %s", path, strerror(errno));
}

static int join(char path[PATH_MAX], const char *directory, const char *name, app_error *err) {
    if (snprintf(path, PATH_MAX, "%s/%s", directory, name) < PATH_MAX) return EXIT_OK;
    return app_fail(err, EXIT_USAGE, "%s/%s: too long", directory, name);
}

static int hash_path(const char *path, char hex[SHA_HEX], app_error *err) {
    static const size_t block = BLOCK;
    unsigned char data[BLOCK];
    sha hash;
    size_t n;
    FILE *f = fopen(path, "rb");
    if (!f) return fail_path(path, err);
    sha_start(&hash, SHA_256);
    while ((n = fread(data, 1, block, f)) > 0) sha_add(&hash, data, n);
    sha_end(&hash, hex);
    int rc = ferror(f) ? fail_path(path, err) : EXIT_OK;
    fclose(f);
    return rc;
}

/* ---- names ---------------------------------------------------------------------------------- */

int experiment_name(experiment *e, const char *words, const json_t *inputs, app_error *err) {
    memset(e, 0, sizeof *e);
    char *text = json_dumps(inputs, JSON_SORT_KEYS | JSON_COMPACT | JSON_REAL_PRECISION(12));
    if (!text) return app_no_memory(err);
    char hex[SHA_HEX];
    sha hash;
    sha_start(&hash, SHA_256);
    sha_add(&hash, text, strlen(text));
    sha_end(&hash, hex);
    free(text);
    int n = snprintf(e->id, sizeof e->id, "%s-%.*s", words, ID_DIGITS, hex);
    if (n >= (int)sizeof e->id)
        return app_fail(err, EXIT_USAGE, "%s: too long for the name of a run", words);
    for (char *c = e->id; *c; c++) {
        bool plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                     (*c >= '0' && *c <= '9') || strchr("-_.", *c);
        if (!plain) *c = '_';
    }
    return join(e->path, EXPERIMENTS_DIRECTORY, e->id, err);
}

/* ---- reading -------------------------------------------------------------------------------- */

/* The record in a directory, if `moshi check` wrote it for a run of this name. */
static json_t *read_record(const char *directory, const char *id) {
    char path[PATH_MAX];
    app_error ignored;
    if (join(path, directory, EXPERIMENT_RECORD, &ignored) != EXIT_OK) return NULL;
    json_t *record = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    const char *writer = json_string_value(json_object_get(record, "written_by"));
    const char *name = json_string_value(json_object_get(record, "run_id"));
    if (writer && name && !strcmp(writer, EXPERIMENT_WRITER) && !strcmp(name, id)) return record;
    json_decref(record);
    return NULL;
}

json_t *experiment_find(const experiment *e, char *why, size_t n) {
    struct stat st;
    *why = 0;
    if (stat(e->path, &st) != 0) return NULL;
    json_t *record = read_record(e->path, e->id);
    if (!record) {
        snprintf(why, n, "its record is missing or damaged");
        return NULL;
    }
    const json_t *hashes = json_object_get(record, "files");
    for (int i = 1; i < N_FILES; i++) {
        const char *want = json_string_value(json_object_get(hashes, FILES[i]));
        char path[PATH_MAX], hex[SHA_HEX];
        app_error ignored;
        if (want && join(path, e->path, FILES[i], &ignored) == EXIT_OK &&
            hash_path(path, hex, &ignored) == EXIT_OK && !strcmp(hex, want))
            continue;
        snprintf(why, n, "its %s is missing or was changed", FILES[i]);
        json_decref(record);
        return NULL;
    }
    return record;
}

json_t *experiments_read(void) {
    json_t *all = json_array();
    DIR *dir = all ? opendir(EXPERIMENTS_DIRECTORY) : NULL;
    app_error ignored;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        char path[PATH_MAX];
        if (e->d_name[0] == '.') continue;
        if (join(path, EXPERIMENTS_DIRECTORY, e->d_name, &ignored) != EXIT_OK) continue;
        json_t *record = read_record(path, e->d_name);
        if (record) json_array_append_new(all, record);
    }
    if (dir) closedir(dir);
    return all;
}

/* ---- removing ------------------------------------------------------------------------------- */

/* A directory with nothing in it but a run's files; what else is in it stays, and so does it. */
static void remove_run(const char *directory) {
    char path[PATH_MAX];
    app_error ignored;
    for (int i = N_FILES - 1; i >= 0; i--) /* the record last: it says whose the directory is */
        if (join(path, directory, FILES[i], &ignored) == EXIT_OK) unlink(path);
    rmdir(directory);
}

int experiments_clear(size_t *removed, app_error *err) {
    *removed = 0;
    DIR *dir = opendir(EXPERIMENTS_DIRECTORY);
    if (!dir && errno == ENOENT) return EXIT_OK;
    if (!dir) return fail_path(EXPERIMENTS_DIRECTORY, err);
    int rc = EXIT_OK;
    for (struct dirent *e; rc == EXIT_OK && (e = readdir(dir));) {
        char path[PATH_MAX];
        bool partial = !strncmp(e->d_name, PARTIAL, sizeof PARTIAL - 1);
        rc = join(path, EXPERIMENTS_DIRECTORY, e->d_name, err);
        json_t *record = rc == EXIT_OK ? read_record(path, e->d_name) : NULL;
        if (!record && !partial) continue;
        json_decref(record);
        remove_run(path);
        *removed += record != NULL;
    }
    closedir(dir);
    return rc;
}

/* ---- writing -------------------------------------------------------------------------------- */

static int make_directory(const char *path, app_error *err) {
    struct stat st;
    if (mkdir(path, 0777) == 0) return EXIT_OK;
    if (errno == EEXIST && stat(path, &st) == 0 && S_ISDIR(st.st_mode)) return EXIT_OK;
    return fail_path(path, err);
}

int experiment_begin(experiment *e, app_error *err) {
    int rc = make_directory("./tmp", err);
    if (rc == EXIT_OK) rc = make_directory(EXPERIMENTS_DIRECTORY, err);
    if (rc != EXIT_OK) return rc;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%sXXXXXX", EXPERIMENTS_DIRECTORY, PARTIAL);
    if (!mkdtemp(path)) return fail_path(path, err);
    mode_t mask = umask(0);
    umask(mask);
    /* A file system without permissions is no reason to fail. */
    (void)!chmod(path, 0777 & ~mask);
    memcpy(e->partial, path, sizeof path);
    return EXIT_OK;
}

int experiment_file(const experiment *e, const char *name, char path[PATH_MAX], app_error *err) {
    return join(path, e->partial, name, err);
}

int experiment_hash(const experiment *e, const char *name, char hex[SHA_HEX], app_error *err) {
    char path[PATH_MAX];
    int rc = join(path, e->partial, name, err);
    return rc == EXIT_OK ? hash_path(path, hex, err) : rc;
}

static int write_record(const experiment *e, const json_t *record, app_error *err) {
    char path[PATH_MAX];
    outfile out = {0};
    char *text = json_dumps(record, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    if (!text) return app_no_memory(err);
    int rc = join(path, e->partial, EXPERIMENT_RECORD, err);
    if (rc == EXIT_OK) rc = outfile_open(&out, path, NULL, OUTFILE_IN_ORDER, err);
    if (rc == EXIT_OK) rc = outfile_write(&out, text, strlen(text), err);
    if (rc == EXIT_OK) rc = outfile_write(&out, "\n", 1, err);
    if (rc == EXIT_OK) rc = outfile_commit(&out, err);
    outfile_close(&out);
    free(text);
    return rc;
}

int experiment_commit(experiment *e, const json_t *record, app_error *err) {
    int rc = write_record(e, record, err);
    if (rc != EXIT_OK) return rc;
    /* What is there under this name was found damaged, or another process was quicker; both may go.
     */
    remove_run(e->path);
    if (rename(e->partial, e->path) != 0) return fail_path(e->path, err);
    e->partial[0] = 0;
    return EXIT_OK;
}

void experiment_abandon(experiment *e) {
    if (e->partial[0]) remove_run(e->partial);
    e->partial[0] = 0;
}
