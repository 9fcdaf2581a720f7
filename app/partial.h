/* partial.h - a file that is being downloaded in chunks and survives interruption.
 *
 * On disk it is the file itself, full length, with holes, followed by a table of how much of each
 * chunk is there. It never has the name of a whole file: partial_commit() takes the table off and
 * renames. The caller puts the hash of the content into the name, so that what is taken up again
 * belongs to the same content. */
#ifndef APP_PARTIAL_H
#define APP_PARTIAL_H

#include "app.h"

typedef struct partial {
    int fd;     /* of no meaning while path is NULL */
    char *path; /* "blobs/HASH.moshi.incomplete" */
    uint64_t size, chunk;
    uint64_t n;     /* chunks */
    uint64_t *done; /* [n] bytes of each chunk that are there, from its beginning */
} partial;

/* Larger than any model by orders of magnitude: a server that says more is lying. */
#define PARTIAL_MAX_SIZE ((uint64_t)1 << 46)

/* Take up what `path` holds when it is of this size, else begin anew. */
int partial_open(partial *p, const char *path, uint64_t size, uint64_t chunk, app_error *err);
/* Forget all data; `chunk` is the new length of chunks. */
int partial_reset(partial *p, uint64_t chunk, app_error *err);
uint64_t partial_begin(const partial *p, uint64_t index);
uint64_t partial_length(const partial *p, uint64_t index);
/* Bytes that are there. */
uint64_t partial_have(const partial *p);
/* Append to a chunk; never beyond its end. */
int partial_add(partial *p, uint64_t index, const void *data, size_t n, app_error *err);
/* All of it is there and verified: make it durable and give it its name. */
int partial_commit(partial *p, const char *path, app_error *err);
/* Closes; the file stays for the next attempt. A zeroed struct is fine. */
void partial_close(partial *p);
/* Make the names in a directory durable. */
void sync_directory_of(const char *path);

#endif
