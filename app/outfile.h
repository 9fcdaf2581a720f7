/* outfile.h - output files that appear whole or not at all.
 *
 * Everything is written to a temporary file in the destination's directory, which takes its name
 * only at outfile_commit(). Destinations that are no regular files (/dev/null, a pipe) are written
 * directly; so is standard output, which is called "-". */
#ifndef APP_OUTFILE_H
#define APP_OUTFILE_H

#include "app.h"

typedef struct outfile {
    int fd;        /* -1: not open; of no meaning while path is NULL */
    char *path;    /* as the user gave it, for messages */
    char *real;    /* where it goes, symbolic links followed */
    char *temp;    /* what is being written; NULL when written directly */
    uint64_t done; /* bytes of outfile_write() */
    bool can_seek;
} outfile;

/* How a file is written: outputs that need OUTFILE_ANYWHERE are refused by pipes and "-". */
typedef enum outfile_order { OUTFILE_IN_ORDER, OUTFILE_ANYWHERE } outfile_order;

/* `not_this`, if not NULL, is an input file that must not be the destination. A pipe is waited for
 * until somebody reads it, but not for long. */
int outfile_open(outfile *out, const char *path, const char *not_this, outfile_order order,
                 app_error *err);
int outfile_write(outfile *out, const void *data, size_t n, app_error *err);
/* Write at an absolute position, leaving the position of outfile_write() alone. In a pipe that must
 * be where the last write ended, and outfile_write() goes on behind it. */
int outfile_write_at(outfile *out, uint64_t offset, const void *data, size_t n, app_error *err);
bool outfile_can_seek(const outfile *out);
/* Give the file its name. */
int outfile_commit(outfile *out, app_error *err);
/* Forget the file unless it was committed. A zeroed struct is fine. */
void outfile_close(outfile *out);

bool is_standard_output(const char *path);
/* Do two names lead to one file, there already or not? Devices such as /dev/null are never the
 * same: they take any number of outputs. */
bool same_file(const char *a, const char *b);

#endif
