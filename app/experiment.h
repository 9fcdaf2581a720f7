/* experiment.h - where runs of `moshi check` are kept: one directory each under
 * ./tmp/experiments, named after a hash of everything that decides the result, which appears when
 * the run is whole. Other files there are nobody's business. */
#ifndef APP_EXPERIMENT_H
#define APP_EXPERIMENT_H

#include "json.h"
#include "sha.h"

#include <limits.h>

#define EXPERIMENTS_DIRECTORY "./tmp/experiments"
#define EXPERIMENT_RESPONSE   "./tmp/moshi-response.wav"
#define EXPERIMENT_RECORD     "record.json"
#define EXPERIMENT_HEARD      "heard.wav"
#define EXPERIMENT_ANSWER     "answer.wav"
/* In every record: who wrote it. */
#define EXPERIMENT_WRITER "moshi check"

enum { EXPERIMENT_ID = 160 };

typedef struct experiment {
    char id[EXPERIMENT_ID];
    char path[PATH_MAX];    /* where it will be */
    char partial[PATH_MAX]; /* where it is being written; "" when it is not */
} experiment;

/* Name a run: readable words, and the beginning of the hash of `inputs`. Nothing is written. */
int experiment_name(experiment *e, const char *words, const json_t *inputs, app_error *err);
/* The record of a finished run of that name, whose files are as they were written; or NULL, with
 * the reason in `why` ("" when there simply is none). */
json_t *experiment_find(const experiment *e, char *why, size_t n);
/* Begin to write. */
int experiment_begin(experiment *e, app_error *err);
/* Where a file of the run that is being written goes. */
int experiment_file(const experiment *e, const char *name, char path[PATH_MAX], app_error *err);
/* Hash of a file of that run. */
int experiment_hash(const experiment *e, const char *name, char hex[SHA_HEX], app_error *err);
/* Write the record and let the run appear. */
int experiment_commit(experiment *e, const json_t *record, app_error *err);
/* Remove what was written of a run that does not get finished. */
void experiment_abandon(experiment *e);

/* All records that `moshi check` has written, [{...}]; NULL when out of memory. */
json_t *experiments_read(void);
/* Remove what `moshi check` has written, and nothing else; *removed runs. */
int experiments_clear(size_t *removed, app_error *err);

#endif
