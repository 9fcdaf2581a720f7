/* outfile.c - temporary file beside the destination, renamed at the end. */
#include "outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* How long a pipe may have no reader, which may be started after this program. */
static const double PIPE_PATIENCE_S = 5.0;

static int fail_write(const outfile *out, app_error *err) {
    return app_fail(err, EXIT_USAGE, "%s: cannot write: %s", out->path, strerror(errno));
}

static const char *last_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* A fresh file next to `real`, with the permissions of the file that it will replace, or (`mode` 0)
 * those that an ordinary new file gets. */
static int open_temp(outfile *out, mode_t mode, app_error *err) {
    size_t size = strlen(out->real) + sizeof ".part-XXXXXX";
    out->temp = malloc(size);
    if (!out->temp) return app_no_memory(err);
    /* A name that is as long as names may be has no room for more. */
    size_t name = strlen(last_name(out->real)), most = NAME_MAX - (sizeof ".part-XXXXXX" - 1);
    size_t kept = strlen(out->real) - (name > most ? name - most : 0);
    snprintf(out->temp, size, "%.*s.part-XXXXXX", (int)kept, out->real);
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
    (void)!fchmod(out->fd, mode ? mode : 0666 & ~mask);
    return EXIT_OK;
}

/* ---- where it goes -------------------------------------------------------------------------- */

bool is_standard_output(const char *path) {
    return !strcmp(path, "-");
}

/* The directory that holds `path`, links followed. */
static bool stat_directory(const char *path, struct stat *st) {
    const char *slash = strrchr(path, '/');
    char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    bool found = dir && stat(dir, st) == 0;
    free(dir);
    return found;
}

bool same_file(const char *a, const char *b) {
    struct stat sa, sb;
    bool a_there = stat(a, &sa) == 0, b_there = stat(b, &sb) == 0;
    if (a_there != b_there) return false;
    if (a_there) return !S_ISCHR(sa.st_mode) && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
    /* To be made: then the place where it will be decides. */
    return stat_directory(a, &sa) && stat_directory(b, &sb) && sa.st_dev == sb.st_dev &&
           sa.st_ino == sb.st_ino && !strcmp(last_name(a), last_name(b));
}

/* *mode: what is there; 0 when nothing is. */
static int check_destination(const outfile *out, const char *not_this, mode_t *mode,
                             app_error *err) {
    struct stat to;
    *mode = 0;
    if (stat(out->real, &to) != 0) return errno == ENOENT ? EXIT_OK : fail_write(out, err);
    *mode = to.st_mode;
    if (S_ISDIR(to.st_mode) || S_ISBLK(to.st_mode) || S_ISSOCK(to.st_mode))
        return app_fail(err, EXIT_USAGE, "%s: is a %s; wanted the name of a file to write",
                        out->path,
                        S_ISDIR(to.st_mode)   ? "directory"
                        : S_ISBLK(to.st_mode) ? "disk"
                                              : "socket");
    if (not_this && same_file(out->real, not_this))
        return app_fail(err, EXIT_USAGE,
                        "%s: is the input file (%s); wanted another name for the output", out->path,
                        not_this);
    /* rename() would replace a file that may not be written. */
    if (access(out->real, W_OK) != 0) return fail_write(out, err);
    return EXIT_OK;
}

/* Opening a pipe for writing blocks until it has a reader: say so, and not for ever. */
static int open_pipe(outfile *out, app_error *err) {
    const struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
    double started = app_now_s();
    bool told = false;
    for (;;) {
        out->fd = open(out->real, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
        if (out->fd >= 0) break;
        if (errno != ENXIO) return fail_write(out, err);
        if (app_now_s() - started > PIPE_PATIENCE_S)
            return app_fail(err, EXIT_USAGE, "%s: is a pipe that nobody reads: waited %g s",
                            out->path, PIPE_PATIENCE_S);
        if (!told) fprintf(stderr, "moshi: %s: waiting for a reader of this pipe\n", out->path);
        told = true;
        nanosleep(&pause, NULL);
        int rc = app_check_interrupted(err);
        if (rc != EXIT_OK) return rc;
    }
    int flags = fcntl(out->fd, F_GETFL);
    if (flags < 0 || fcntl(out->fd, F_SETFL, flags & ~O_NONBLOCK) < 0) return fail_write(out, err);
    return EXIT_OK;
}

static int refuse_order(const outfile *out, app_error *err) {
    return app_fail(err, EXIT_USAGE,
                    "%s: takes data in order only, and this is not written in order; wanted the "
                    "name of a file",
                    out->path);
}

static int open_stdout(outfile *out, outfile_order order, app_error *err) {
    if (order != OUTFILE_IN_ORDER) return refuse_order(out, err);
    if (isatty(STDOUT_FILENO))
        return app_fail(err, EXIT_USAGE,
                        "-o -: standard output is a terminal; wanted a file name, or a pipe");
    out->fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    return out->fd < 0 ? fail_write(out, err) : EXIT_OK;
}

static int open_named(outfile *out, const char *not_this, outfile_order order, app_error *err) {
    mode_t mode;
    out->real = realpath(out->path, NULL);
    if (!out->real) out->real = strdup(out->path);
    int rc = out->real ? check_destination(out, not_this, &mode, err) : app_no_memory(err);
    if (rc != EXIT_OK) return rc;
    if (mode == 0 || S_ISREG(mode)) return open_temp(out, mode & 0777, err);
    if (S_ISFIFO(mode) && order != OUTFILE_IN_ORDER) return refuse_order(out, err);
    if (S_ISFIFO(mode)) return open_pipe(out, err);
    out->fd = open(out->real, O_WRONLY | O_CLOEXEC);
    return out->fd < 0 ? fail_write(out, err) : EXIT_OK;
}

int outfile_open(outfile *out, const char *path, const char *not_this, outfile_order order,
                 app_error *err) {
    memset(out, 0, sizeof *out);
    out->fd = -1;
    if (!path[0]) return app_fail(err, EXIT_USAGE, "the name of the output file is empty");
    bool standard = is_standard_output(path);
    out->path = strdup(standard ? "standard output" : path);
    int rc = !out->path ? app_no_memory(err)
             : standard ? open_stdout(out, order, err)
                        : open_named(out, not_this, order, err);
    if (rc == EXIT_OK)
        /* A file that standard output appends to, or shares, is written in order too. */
        out->can_seek = !standard && lseek(out->fd, 0, SEEK_CUR) >= 0;
    else
        outfile_close(out);
    return rc;
}

/* ---- writing -------------------------------------------------------------------------------- */

/* Blocked on a pipe, a write ends when a signal comes: the one that is to end the program, or one
 * that means nothing. */
static int after_failed_write(const outfile *out, ssize_t done, app_error *err) {
    if (done < 0 && errno == EINTR) return app_check_interrupted(err);
    if (done == 0) errno = ENOSPC;
    return fail_write(out, err);
}

int outfile_write(outfile *out, const void *data, size_t n, app_error *err) {
    const char *at = data;
    while (n > 0) {
        ssize_t done = write(out->fd, at, n);
        if (done <= 0) {
            int rc = after_failed_write(out, done, err);
            if (rc != EXIT_OK) return rc;
            continue;
        }
        at += done;
        n -= (size_t)done;
        out->done += (uint64_t)done;
    }
    return EXIT_OK;
}

int outfile_write_at(outfile *out, uint64_t offset, const void *data, size_t n, app_error *err) {
    const char *at = data;
    if (!out->can_seek && offset == out->done) return outfile_write(out, data, n, err);
    if (!out->can_seek) return refuse_order(out, err);
    while (n > 0) {
        ssize_t done = pwrite(out->fd, at, n, (off_t)offset);
        if (done <= 0) {
            int rc = after_failed_write(out, done, err);
            if (rc != EXIT_OK) return rc;
            continue;
        }
        at += done;
        offset += (uint64_t)done;
        n -= (size_t)done;
    }
    return EXIT_OK;
}

bool outfile_can_seek(const outfile *out) {
    return out->can_seek;
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
