/* partial.c - data, then a table: magic, size, chunk length, bytes done of each chunk. All numbers
 * are 64-bit in the machine's order: the file does not leave the machine. */
#include "partial.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint64_t MAGIC = UINT64_C(0x31747261506f4d); /* "MoPart1" */
enum { HEADER_WORDS = 3 };

static int fail_io(const partial *p, app_error *err) {
    return app_fail(err, EXIT_USAGE, "%s: cannot write: %s", p->path, strerror(errno));
}

static int write_at(const partial *p, uint64_t at, const void *data, size_t n, app_error *err) {
    const char *from = data;
    while (n > 0) {
        ssize_t done = pwrite(p->fd, from, n, (off_t)at);
        if (done < 0 && errno == EINTR) continue;
        if (done == 0) errno = ENOSPC;
        if (done <= 0) return fail_io(p, err);
        from += done;
        at += (uint64_t)done;
        n -= (size_t)done;
    }
    return EXIT_OK;
}

static bool read_at(const partial *p, uint64_t at, void *data, size_t n) {
    char *to = data;
    while (n > 0) {
        ssize_t done = pread(p->fd, to, n, (off_t)at);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return false;
        to += done;
        at += (uint64_t)done;
        n -= (size_t)done;
    }
    return true;
}

static uint64_t chunks_of(uint64_t size, uint64_t chunk) {
    return size / chunk + (size % chunk != 0);
}

uint64_t partial_begin(const partial *p, uint64_t index) {
    return index * p->chunk;
}

uint64_t partial_length(const partial *p, uint64_t index) {
    uint64_t rest = p->size - partial_begin(p, index);
    return rest < p->chunk ? rest : p->chunk;
}

uint64_t partial_have(const partial *p) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < p->n; i++) sum += p->done[i];
    return sum;
}

/* Exactly the file: ended between losing its table and getting its name. Its hash will tell. */
static bool take_up_whole(partial *p) {
    p->done = malloc(sizeof *p->done);
    if (!p->done) return false;
    p->done[0] = p->chunk = p->size;
    p->n = 1;
    return true;
}

/* Read the table; true when it fits this size. The chunk length is the one of then. */
static bool take_up(partial *p) {
    struct stat st;
    uint64_t header[HEADER_WORDS];
    if (fstat(p->fd, &st) != 0 || !S_ISREG(st.st_mode)) return false;
    if ((uint64_t)st.st_size == p->size && p->size) return take_up_whole(p);
    if (!read_at(p, p->size, header, sizeof header)) return false;
    if (header[0] != MAGIC || header[1] != p->size || header[2] == 0) return false;
    uint64_t n = chunks_of(p->size, header[2]);
    /* The table must be in the file before memory is taken for it. */
    if (n > ((uint64_t)st.st_size - p->size) / 8) return false;
    if ((uint64_t)st.st_size != p->size + sizeof header + 8 * n) return false;
    uint64_t *done = malloc((size_t)(8 * n + 1));
    if (!done || !read_at(p, p->size + sizeof header, done, (size_t)(8 * n))) {
        free(done);
        return false;
    }
    p->chunk = header[2];
    p->n = n;
    bool good = true;
    for (uint64_t i = 0; i < n; i++) good = good && done[i] <= partial_length(p, i);
    if (good) {
        p->done = done;
    } else {
        free(done);
    }
    return good;
}

int partial_reset(partial *p, uint64_t chunk, app_error *err) {
    free(p->done);
    p->chunk = chunk;
    p->n = chunks_of(p->size, chunk);
    p->done = calloc((size_t)p->n + 1, sizeof *p->done);
    if (!p->done) return app_no_memory(err);
    uint64_t header[HEADER_WORDS] = {MAGIC, p->size, chunk};
    if (ftruncate(p->fd, 0) != 0) return fail_io(p, err);
    int rc = write_at(p, p->size + sizeof header, p->done, (size_t)(8 * p->n), err);
    return rc == EXIT_OK ? write_at(p, p->size, header, sizeof header, err) : rc;
}

int partial_open(partial *p, const char *path, uint64_t size, uint64_t chunk, app_error *err) {
    memset(p, 0, sizeof *p);
    if (size > PARTIAL_MAX_SIZE)
        return app_fail(err, EXIT_NETWORK, "%s: the server announces %llu bytes, which cannot be",
                        path, (unsigned long long)size);
    p->path = strdup(path);
    if (!p->path) return app_no_memory(err);
    p->size = size;
    /* Never through a link that somebody put there. */
    p->fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
    int rc = p->fd < 0 ? fail_io(p, err) : EXIT_OK;
    if (rc == EXIT_OK && !take_up(p)) rc = partial_reset(p, chunk, err);
    if (rc != EXIT_OK) partial_close(p);
    return rc;
}

int partial_add(partial *p, uint64_t index, const void *data, size_t n, app_error *err) {
    if (n > partial_length(p, index) - p->done[index])
        return app_fail(err, EXIT_NETWORK, "the server sent more bytes than it was asked for");
    int rc = write_at(p, partial_begin(p, index) + p->done[index], data, n, err);
    if (rc != EXIT_OK) return rc;
    p->done[index] += n;
    return write_at(p, p->size + 8 * (HEADER_WORDS + index), &p->done[index], 8, err);
}

void sync_directory_of(const char *path) {
    char *dir = strdup(path);
    char *slash = dir ? strrchr(dir, '/') : NULL;
    if (slash) *slash = 0;
    int fd = slash ? open(dir, O_RDONLY | O_CLOEXEC) : -1;
    /* Not every file system can do this; then the rename is as durable as it gets. */
    if (fd >= 0) {
        (void)!fsync(fd);
        close(fd);
    }
    free(dir);
}

int partial_commit(partial *p, const char *path, app_error *err) {
    if (partial_have(p) != p->size)
        return app_fail(err, EXIT_INTERNAL, "%s: not complete", p->path);
    if (ftruncate(p->fd, (off_t)p->size) != 0 || fsync(p->fd) != 0) return fail_io(p, err);
    if (rename(p->path, path) != 0) return fail_io(p, err);
    sync_directory_of(path);
    partial_close(p);
    return EXIT_OK;
}

void partial_close(partial *p) {
    if (p->path && p->fd >= 0) close(p->fd);
    free(p->path);
    free(p->done);
    memset(p, 0, sizeof *p);
}
