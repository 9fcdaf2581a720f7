/* answer.h - one conversation with a model, from sound to sound, with everything that can be known
 * about it afterwards. */
#ifndef APP_ANSWER_H
#define APP_ANSWER_H

#include "moshi.h"
#include "progress.h"
#include "sound.h"

/* Where the time of a frame goes. */
typedef enum answer_stage {
    STAGE_ENCODE,   /* sound to codes */
    STAGE_TEMPORAL, /* the large transformer, up to the text token */
    STAGE_DEPTH,    /* the audio tokens */
    STAGE_DECODE,   /* codes to sound, and what comes after the last tap */
    ANSWER_STAGES
} answer_stage;

typedef struct answer {
    sound sound;
    int32_t *codes; /* [frames, codebooks]: what `sound` was decoded from */
    size_t frames, codebooks;
    char *text; /* the inner monologue */
    size_t words;
    size_t steps;                   /* frames of input */
    double stage_s[ANSWER_STAGES];  /* in all */
    double seconds, slowest_step_s; /* all steps; the slowest one */
} answer;

const char *answer_stage_name(answer_stage stage);

/* Let the model hear `in` and collect what it says. `in` is whole frames at the engine's rate.
 * Ctrl-C ends it (app_check_interrupted). The engine's trace is used and turned off again. */
int answer_make(answer *out, moshi_engine *engine, uint64_t seed, const sound *in, progress *bar,
                app_error *err);
void answer_free(answer *a);

#endif
