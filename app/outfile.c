/* outfile.c - temporary file beside the destination, renamed at the end. */
#include "outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail_write(const outfile *out, app_error *err) {
    return app_fail(err, EXIT_USAGE, "%s: cannot write: %s", out->path, strerror(errno));
}

/* A fresh file next to `real`, with the permissions an ordinary new file would get. */
static int open_temp(outfile *out, app_error *err) {
    size_t size = strlen(out->real) + sizeof ".part-XXXXXX";
    out->temp = malloc(size);
    if (!out->temp) return app_no_memory(err);
    snprintf(out->temp, size, "%s.part-XXXXXX", out->real);
    out->fd = mkstemp(out->temp);
    if (out->fd < 0) {
        int why = errno;
        free(out->temp);
        out->temp = NULL;
        errno = why;
        return fail_write(out, err);
    }
    mode_t mask = umask(0);
    umask(mask);
    /* A file system without permissions is no reason to fail. */
    (void)!fchmod(out->fd, 0666 & ~mask);
    return EXIT_OK;
}

static int check_destination(const outfile *out, const char *not_this, bool *direct,
                             app_error *err) {
    struct stat to, from;
    *direct = false;
    if (stat(out->real, &to) != 0) return errno == ENOENT ? EXIT_OK : fail_write(out, err);
    if (S_ISDIR(to.st_mode))
        return app_fail(err, EXIT_USAGE, "%s: is a directory; wanted the name of a file to write",
                        out->path);
    if (not_this && stat(not_this, &from) == 0 && from.st_dev == to.st_dev &&
        from.st_ino == to.st_ino)
        return app_fail(err, EXIT_USAGE,
                        "%s: is the input file; wanted another name for the output", out->path);
    *direct = !S_ISREG(to.st_mode);
    /* rename() would replace a file that may not be written. */
    if (access(out->real, W_OK) != 0) return fail_write(out, err);
    return EXIT_OK;
}

int outfile_open(outfile *out, const char *path, const char *not_this, app_error *err) {
    memset(out, 0, sizeof *out);
    out->fd = -1;
    if (!path[0]) return app_fail(err, EXIT_USAGE, "the name of the output file is empty");
    out->path = strdup(path);
    out->real = realpath(path, NULL);
    if (!out->real) out->real = strdup(path);
    bool direct = false;
    int rc = out->path && out->real ? check_destination(out, not_this, &direct, err)
                                    : app_no_memory(err);
    if (rc == EXIT_OK && !direct) rc = open_temp(out, err);
    if (rc == EXIT_OK && direct) {
        out->fd = open(out->real, O_WRONLY);
        if (out->fd < 0) rc = fail_write(out, err);
    }
    if (rc != EXIT_OK) outfile_close(out);
    return rc;
}

int outfile_write(outfile *out, const void *data, size_t n, app_error *err) {
    const char *at = data;
    while (n > 0) {
        ssize_t done = write(out->fd, at, n);
        if (done < 0 && errno == EINTR) continue;
        if (done == 0) errno = ENOSPC;
        if (done <= 0) return fail_write(out, err);
        at += done;
        n -= (size_t)done;
    }
    return EXIT_OK;
}

int outfile_write_at(outfile *out, uint64_t offset, const void *data, size_t n, app_error *err) {
    const char *at = data;
    while (n > 0) {
        ssize_t done = pwrite(out->fd, at, n, (off_t)offset);
        if (done < 0 && errno == EINTR) continue;
        if (done == 0) errno = ENOSPC;
        if (done <= 0) return fail_write(out, err);
        at += done;
        offset += (uint64_t)done;
        n -= (size_t)done;
    }
    return EXIT_OK;
}

bool outfile_can_seek(const outfile *out) {
    return lseek(out->fd, 0, SEEK_CUR) >= 0;
}

int outfile_commit(outfile *out, app_error *err) {
    int rc = EXIT_OK;
    /* Some errors (disk full on a network, quota) show only here. */
    if (out->temp && fsync(out->fd) != 0 && errno != EINVAL && errno != ENOSYS)
        rc = fail_write(out, err);
    if (close(out->fd) != 0 && rc == EXIT_OK) rc = fail_write(out, err);
    out->fd = -1;
    if (rc == EXIT_OK && out->temp && rename(out->temp, out->real) != 0) rc = fail_write(out, err);
    if (rc == EXIT_OK) {
        free(out->temp);
        out->temp = NULL;
    }
    outfile_close(out);
    return rc;
}

void outfile_close(outfile *out) {
    if (!out->path) return;
    if (out->fd >= 0) close(out->fd);
    if (out->temp) unlink(out->temp);
    free(out->temp);
    free(out->real);
    free(out->path);
    memset(out, 0, sizeof *out);
    out->fd = -1;
}
