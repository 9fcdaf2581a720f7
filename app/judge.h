/* judge.h - the verdict on one sound, from two instruments: what the sound says about itself, and
 * whether it still says what it was decoded from. */
#ifndef APP_JUDGE_H
#define APP_JUDGE_H

#include "agreement.h"
#include "controls.h"
#include "json.h"

typedef struct judgement {
    bool passes;
    double score;    /* 0..100, below 50 fails: the worse of both instruments */
    agreement codes; /* against the codes it was decoded from */
    char sound[32];  /* verdict on the sound alone, in words */
    double sound_score;
    char reason[320]; /* what decided, in words */
} judgement;

/* `speech` is what the sound is known to have been decoded from, in frames that begin with it. */
int judge_sound(judgement *out, moshi_codec *codec, const code_speech *speech, const sound *s,
                app_error *err);
/* {passes, score, sound, sound_score, code_agreement, reason}; NULL when out of memory. */
json_t *judgement_json(const judgement *j);

/* All controls of one input, judged. */
typedef struct control_results {
    judgement list[CONTROLS];
    bool applies[CONTROLS];
    bool valid;      /* each came out as it must */
    char wrong[320]; /* which did not, in words; "" when valid */
    double seconds;  /* it took */
} control_results;

/* Made of `in`, whole frames. Ctrl-C ends it. */
int controls_judge(control_results *out, moshi_codec *codec, const sound *in, bool quiet,
                   app_error *err);
json_t *controls_json(const control_results *results);

#endif
