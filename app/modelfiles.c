/* modelfiles.c - finding and hashing a model's files. */
#include "modelfiles.h"

#include "crash.h"
#include "device.h"
#include "progress.h"
#include "system.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { BLOCK = 1 << 20, FINGER = 1 << 16 };

static int add(model_files *files, const char *name, uint64_t bytes, app_error *err) {
    if (files->n == MODEL_FILES_MAX)
        return app_fail(err, EXIT_MODEL, "more than %d files in the model's directory",
                        MODEL_FILES_MAX);
    if (!files->list) files->list = calloc(MODEL_FILES_MAX, sizeof *files->list);
    char *copy = strdup(name);
    if (!files->list || !copy) {
        free(copy);
        return app_no_memory(err);
    }
    files->list[files->n++] = (model_file){.name = copy, .bytes = bytes};
    return EXIT_OK;
}

static bool belongs(const char *name) {
    static const char *const endings[] = {".json", ".safetensors", ".gguf", ".model"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof endings / sizeof endings[0]; i++)
        if (!strcmp(dot, endings[i])) return name[0] != '.';
    return false;
}

static int fail_path(const char *path, app_error *err) {
    return app_fail(err, EXIT_MODEL, "%s: %s", path, strerror(errno));
}

/* ---- which files ---------------------------------------------------------------------------- */

/* `directory`/`name`, if it is a regular file. */
static int add_file(model_files *files, const char *directory, const char *name, app_error *err) {
    char path[PATH_MAX];
    struct stat st;
    if (snprintf(path, sizeof path, "%s/%s", directory, name) >= PATH_MAX)
        return app_fail(err, EXIT_MODEL, "%s/%s: too long", directory, name);
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode)) return EXIT_OK;
    return add(files, name, (uint64_t)st.st_size, err);
}

static int add_directory(model_files *files, const char *path, app_error *err) {
    DIR *dir = opendir(path);
    int rc = EXIT_OK;
    if (!dir) return fail_path(path, err);
    for (struct dirent *e; rc == EXIT_OK && (e = readdir(dir));)
        if (belongs(e->d_name)) rc = add_file(files, path, e->d_name, err);
    closedir(dir);
    return rc;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const model_file *)a)->name, ((const model_file *)b)->name);
}

/* `directory` is filled in with where the names lie. */
static int find_files(model_files *files, const char *path, char directory[PATH_MAX],
                      app_error *err) {
    struct stat st;
    if (stat(path, &st) != 0) return fail_path(path, err);
    const char *slash = strrchr(path, '/');
    int rc;
    if (S_ISDIR(st.st_mode)) {
        snprintf(directory, PATH_MAX, "%s", path);
        rc = add_directory(files, path, err);
    } else {
        size_t n = slash ? (size_t)(slash - path) : 1;
        if (n >= PATH_MAX) return app_fail(err, EXIT_MODEL, "%s: too long", path);
        snprintf(directory, PATH_MAX, "%.*s", (int)n, slash ? path : ".");
        rc = add_file(files, directory, slash ? slash + 1 : path, err);
        if (rc == EXIT_OK) rc = add_file(files, directory, "config.json", err);
    }
    if (rc == EXIT_OK && files->n) qsort(files->list, files->n, sizeof *files->list, by_name);
    return rc;
}

/* ---- hashing -------------------------------------------------------------------------------- */

static int hash_file(model_file *file, const char *directory, unsigned char *block, progress *bar,
                     uint64_t *done, uint64_t total, app_error *err) {
    char path[PATH_MAX];
    size_t n;
    sha hash;
    int rc = EXIT_OK;
    if (snprintf(path, sizeof path, "%s/%s", directory, file->name) >= PATH_MAX)
        return app_fail(err, EXIT_MODEL, "%s/%s: too long", directory, file->name);
    FILE *f = fopen(path, "rb");
    if (!f) return fail_path(path, err);
    sha_start(&hash, SHA_256);
    while (rc == EXIT_OK && (n = fread(block, 1, BLOCK, f)) > 0) {
        sha_add(&hash, block, n);
        *done += n;
        progress_draw(bar, total ? (double)*done / (double)total : 1, "hashing the model's files");
        rc = app_check_interrupted(err);
    }
    if (rc == EXIT_OK && ferror(f)) rc = fail_path(path, err);
    fclose(f);
    sha_end(&hash, file->sha256);
    return rc;
}

static int hash_files(model_files *files, const char *directory, bool quiet, app_error *err) {
    progress bar;
    uint64_t done = 0, total = 0;
    unsigned char *block = malloc(BLOCK);
    if (!block) return app_no_memory(err);
    for (size_t i = 0; i < files->n; i++) total += files->list[i].bytes;
    progress_start(&bar, quiet);
    int rc = EXIT_OK;
    for (size_t i = 0; rc == EXIT_OK && i < files->n; i++)
        rc = hash_file(&files->list[i], directory, block, &bar, &done, total, err);
    progress_clear(&bar);
    free(block);
    return rc;
}

static int hash_blobs(model_files *files, const model_choice *choice, app_error *err) {
    int rc = EXIT_OK;
    for (size_t i = 0; rc == EXIT_OK && i < choice->n_blobs; i++) {
        sha hash;
        rc = add(files, choice->blobs[i].name, choice->blobs[i].size, err);
        if (rc != EXIT_OK) break;
        sha_start(&hash, SHA_256);
        sha_add(&hash, choice->blobs[i].data, choice->blobs[i].size);
        sha_end(&hash, files->list[i].sha256);
    }
    return rc;
}

int model_files_hash(model_files *out, const model_choice *choice, bool quiet, app_error *err) {
    char directory[PATH_MAX];
    memset(out, 0, sizeof *out);
    int rc =
        choice->path ? find_files(out, choice->path, directory, err) : hash_blobs(out, choice, err);
    if (rc == EXIT_OK && choice->path) rc = hash_files(out, directory, quiet, err);
    sha all;
    sha_start(&all, SHA_256);
    for (size_t i = 0; i < out->n; i++) {
        sha_add(&all, out->list[i].name, strlen(out->list[i].name) + 1);
        sha_add(&all, out->list[i].sha256, SHA_HEX - 1);
    }
    sha_end(&all, out->sha256);
    return rc;
}

static bool finger_file(sha *hash, const model_file *file, const char *directory, char *block) {
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", directory, file->name) >= PATH_MAX) return false;
    FILE *f = fopen(path, "rb");
    if (!f) return false;
    sha_add(hash, block, fread(block, 1, FINGER, f));
    if (file->bytes > FINGER && fseek(f, -(long)FINGER, SEEK_END) == 0)
        sha_add(hash, block, fread(block, 1, FINGER, f));
    bool read = !ferror(f);
    fclose(f);
    return read;
}

static void finger_blob(sha *hash, const moshi_blob *blob) {
    size_t n = blob->size < FINGER ? blob->size : FINGER;
    sha_add(hash, blob->data, n);
    if (blob->size > FINGER) sha_add(hash, (const char *)blob->data + blob->size - n, n);
}

void model_files_fingerprint(char hex[SHA_HEX], const model_choice *choice) {
    char directory[PATH_MAX];
    model_files files = {0};
    app_error ignored;
    sha hash;
    bool read = true;
    char *block = malloc(FINGER);
    hex[0] = 0;
    sha_start(&hash, SHA_256);
    if (choice->path) read = find_files(&files, choice->path, directory, &ignored) == EXIT_OK;
    for (size_t i = 0; read && block && i < files.n; i++) {
        sha_add(&hash, files.list[i].name, strlen(files.list[i].name) + 1);
        sha_add(&hash, &files.list[i].bytes, sizeof files.list[i].bytes);
        read = finger_file(&hash, &files.list[i], directory, block);
    }
    for (size_t i = 0; !choice->path && i < choice->n_blobs; i++) {
        uint64_t bytes = choice->blobs[i].size;
        sha_add(&hash, choice->blobs[i].name, strlen(choice->blobs[i].name) + 1);
        sha_add(&hash, &bytes, sizeof bytes);
        finger_blob(&hash, &choice->blobs[i]);
    }
    if (read && block) sha_end(&hash, hex);
    free(block);
    model_files_free(&files);
}

void model_note_for_crashes(const model_choice *choice, const char *device) {
    char hash[SHA_HEX];
    char *name = strdup(choice->name);
    if (!device) device = "cpu";
    if (name) system_hide_home(name);
    model_files_fingerprint(hash, choice);
    crash_note_model(name, hash);
    crash_note_device(device, device_driver(device));
    free(name);
}

const char *model_files_config(const model_files *files) {
    for (size_t i = 0; i < files->n; i++)
        if (!strcmp(files->list[i].name, "config.json")) return files->list[i].sha256;
    return "";
}

json_t *model_files_json(const model_files *files) {
    json_t *list = json_array();
    for (size_t i = 0; i < files->n; i++)
        json_array_append_new(
            list, json_pack("{s:o, s:I, s:s}", "name", json_text(files->list[i].name), "bytes",
                            (json_int_t)files->list[i].bytes, "sha256", files->list[i].sha256));
    return list;
}

void model_files_free(model_files *files) {
    for (size_t i = 0; i < files->n; i++) free(files->list[i].name);
    free(files->list);
    memset(files, 0, sizeof *files);
}
