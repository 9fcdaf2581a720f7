/* recording.h - everything an engine computed for one input, for comparing it with another.
 *
 * Two runs. The free one hears the input and answers greedily: its encoder's intermediates, its
 * codes, tokens and audio. The forced one is given the codes and tokens of a common plan, so that
 * two engines compute the same thing at every step, whatever they would have chosen: the
 * intermediates of the language model and of the decoder. */
#ifndef APP_RECORDING_H
#define APP_RECORDING_H

#include "moshi.h"

#include "app.h"
#include "progress.h"
#include "sound.h"

/* All rows of one intermediate. */
typedef struct track {
    char *name; /* of the tap */
    moshi_dtype dtype;
    size_t width; /* elements in a row */
    size_t rows;
    app_buffer data;
} track;

/* The codes and tokens both engines are given. */
typedef struct plan {
    int user, channels; /* user codebooks; 1 + dep_q */
    int64_t steps;
    int32_t *codes; /* [steps, user] */
    int32_t *force; /* [steps, channels] */
} plan;

typedef struct recording {
    track *tracks; /* in the order in which they were computed */
    size_t n, cursor;
    app_buffer audio; /* float samples of the free run's answer */
    int rate_hz;
    app_buffer spoken; /* int32 [frames, channels - 1]: what `audio` was decoded from */
    app_buffer words;  /* of the free run, separated by blanks */
    plan chosen;       /* what the free run heard and chose */
    double seconds;    /* both runs */
    double forced_s;   /* of the forced run alone */
} recording;

/* Run `engine` on `heard` (at the engine's rate), keeping the intermediates of the first `frames`
 * frames, then as many frames of `common`, or, when NULL, of what the free run itself chose. */
int recording_make(recording *r, moshi_engine *engine, const sound *heard, size_t frames,
                   const plan *common, progress *bar, app_error *err);
void recording_free(recording *r);

/* Are these for models with the same channels? */
bool plan_fits(const plan *a, const plan *b);
void plan_free(plan *p);

const track *recording_find(const recording *r, const char *name);

#endif
