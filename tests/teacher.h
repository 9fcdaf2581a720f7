/* teacher.h - how far a variant of a model is from its yardstick when both are led along the same
 * conversation, token by token: what numbers of fewer bits cost, without the chance of sampling. */
#ifndef MO_TESTS_TEACHER_H
#define MO_TESTS_TEACHER_H

#include "drive.h"

/* A conversation of the yardstick: what it heard, chose (always the likeliest) and thought. */
typedef struct lesson {
    size_t steps, users, dep_q, text_card, card;
    int32_t *codes;  /* [steps, users] */
    int32_t *tokens; /* [steps, 1 + dep_q] */
    float *text;     /* logits [steps, text_card] */
    float *audio;    /* logits [steps, dep_q, card] */
} lesson;

/* Let `yardstick`, which has a codec, hear a recording in a new session. */
void lesson_record(lesson *l, moshi_engine *yardstick, const float *pcm, size_t n);
void lesson_free(lesson *l);

/* What became of one stream of tokens, text or all audio codebooks together, over any number of
 * lessons. Divergences are those of the yardstick's distribution at temperature 1, in nats. */
typedef struct marks {
    size_t n, same;       /* decisions, and how many a greedy variant would have made alike */
    double kl, worst_kl;  /* sum of the divergences, and the largest */
    double error, signal; /* sums of squares: difference of the logits, logits about their mean */
    size_t logits;        /* numbers in these sums */
    double largest;       /* difference of a logit */
} marks;

/* Lead `variant` along the lesson in a new session and add up. */
void lesson_take(const lesson *l, moshi_engine *variant, marks *text, marks *audio);

#endif
