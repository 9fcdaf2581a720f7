/* outfile.h - output files that appear whole or not at all.
 *
 * Everything is written to a temporary file in the destination's directory, which takes its name
 * only at outfile_commit(). Destinations that are not regular files (/dev/null, a pipe) are written
 * directly. */
#ifndef APP_OUTFILE_H
#define APP_OUTFILE_H

#include "app.h"

typedef struct outfile {
    int fd;     /* -1: not open; of no meaning while path is NULL */
    char *path; /* as the user gave it, for messages */
    char *real; /* where it goes, symbolic links followed */
    char *temp; /* what is being written; NULL when written directly */
} outfile;

/* `not_this`, if not NULL, is an input file that must not be the destination. */
int outfile_open(outfile *out, const char *path, const char *not_this, app_error *err);
int outfile_write(outfile *out, const void *data, size_t n, app_error *err);
/* Write at an absolute position, leaving the position of outfile_write() alone. */
int outfile_write_at(outfile *out, uint64_t offset, const void *data, size_t n, app_error *err);
bool outfile_can_seek(const outfile *out);
/* Give the file its name. */
int outfile_commit(outfile *out, app_error *err);
/* Forget the file unless it was committed. A zeroed struct is fine. */
void outfile_close(outfile *out);

#endif
