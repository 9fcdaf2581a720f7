/* source.h - where a model's files come from: a directory, or blobs in memory. */
#ifndef MO_SOURCE_H
#define MO_SOURCE_H

#include "checkpoint.h"

typedef struct mo_source {
    const char *dir; /* "" is the current directory */
    const moshi_blob *blobs;
    size_t n_blobs;
    moshi_finder finder;
} mo_source;

/* Where a file is: 1 and its path (a blob's name) to be freed, 0 and NULL when it is not there,
 * MOSHI_ENOMEM. Names are relative to the directory; "hf://ORG/NAME/FILE" is looked for as FILE
 * beside the others, then by the finder. */
int mo_source_find(const mo_source *s, const char *name, char **path, moshi_error *err);
/* The same without the path. */
int mo_source_has(const mo_source *s, const char *name, moshi_error *err);
/* Open a file. `role` (what it is for) and `why` (it has that name) explain a missing one. */
int mo_source_open(const mo_source *s, const char *name, const char *role, const char *why,
                   mo_file *out, moshi_error *err);

/* Names of everything there that is not hidden, sorted. Free with mo_source_names_free(). */
typedef struct mo_source_names {
    char **names;
    size_t n;
} mo_source_names;

int mo_source_list(const mo_source *s, mo_source_names *out, moshi_error *err);
void mo_source_names_free(mo_source_names *names);
/* How messages call the place: the directory, or "the blobs". */
const char *mo_source_place(const mo_source *s);

#endif
