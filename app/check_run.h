/* check_run.h - one run of `moshi check`: a model hears the input, what a loudspeaker would play is
 * judged, and everything about it goes into a record. */
#ifndef APP_CHECK_RUN_H
#define APP_CHECK_RUN_H

#include "answer.h"
#include "experiment.h"
#include "judge.h"
#include "modelfiles.h"
#include "stimulus.h"
#include "variant.h"

/* What all runs share. */
typedef struct check_setup {
    const arguments *args;
    model_choice model;
    model_files files;
    stimulus input;
    char program_sha256[SHA_HEX];
    int device_hz;  /* rate of the loudspeaker */
    bool both_ways; /* the input comes from a microphone of that rate, too */
    bool quiet;
    json_t *earlier; /* records of all runs so far, those of earlier starts included */
} check_setup;

enum { CHECK_RATE_HZ = 24000, CHECK_FRAME = 1920 };

/* What runs on the same device with the same weights share; opened when the first of them needs it.
 */
typedef struct check_group {
    moshi_device_info device;
    const char *type; /* a number format, or "stored" */
    variant v;
    moshi_engine *engine;
    moshi_engine_info info;
    moshi_codec *codec;
    control_results controls;
    double load_s;
    /* The last answer. Runs that differ only behind the model share it: it would be the same. */
    answer said;
    code_speech speech; /* of its codes */
    uint64_t said_seed;
    char said_to[SHA_HEX];       /* hash of what the model heard */
    char said_in[EXPERIMENT_ID]; /* the run in which it was computed; "" before the first */
} check_group;

typedef enum check_verdict { CHECK_PASS, CHECK_FAIL, CHECK_INVALID } check_verdict;

typedef struct check_run {
    const sinc_settings *resampler;
    uint64_t seed;
    experiment where;
    json_t *inputs; /* everything that decides the result */
    json_t *record; /* NULL until there is one */
    bool skipped;   /* it was there already */
    check_verdict verdict;
} check_run;

/* "stored", "f32", ... -> the group's weights; the device must be filled in. */
int check_group_set_type(check_group *g, const char *type, app_error *err);
void check_group_close(check_group *g);

/* Name the run and look whether it is there already; `why` says why it is not used if it is there.
 */
int check_run_find(check_run *run, const check_setup *setup, const check_group *g, char *why,
                   size_t n, app_error *err);
/* Do it. */
int check_run_make(check_run *run, check_setup *setup, check_group *g, app_error *err);
void check_run_free(check_run *run);

const char *check_verdict_name(check_verdict verdict);
check_verdict check_verdict_of(const json_t *record);
/* For each setting another run, if there is one, that differs from this one in it alone and sounds
 * the same to the last bit: [{setting, value, other_value, other_run}]; NULL when out of memory. */
json_t *check_no_effect(const json_t *record, const json_t *others);

#endif
