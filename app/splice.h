/* splice.h - seams in a sound: where its samples do not follow from those before.
 *
 * A linear predictor knows speech well enough that a cut shows as an outlier of its error. Single
 * outliers mean little (speech clicks and bursts too), but outliers that fall on one grid more
 * often than chance allows mean blocks that were dropped, shuffled or turned around. */
#ifndef APP_SPLICE_H
#define APP_SPLICE_H

#include "app.h"

typedef enum splice_mark_kind {
    MARK_SEAM,
    MARK_REPEAT,
    MARK_GAP,
    MARK_WRAP,
    MARK_KINDS
} splice_mark_kind;

/* A place where something was found, for pictures. */
typedef struct splice_mark {
    size_t at, length; /* samples; length 0: the edge before sample `at` */
} splice_mark;

enum { SPLICE_MARKS = 256 };

typedef struct splice_facts {
    double prediction_gain_db; /* of active frames: how well samples follow from earlier ones */
    double events_per_s;       /* strong outliers of the prediction error */
    /* The most unlikely grid. */
    int period;        /* samples; 0: none */
    int phase;         /* first boundary */
    double surprise;   /* -log10 of the chance that so many outliers fall on any such grid */
    int boundaries;    /* of that grid, in active parts */
    int broken;        /* of those, how many carry an outlier */
    double size;       /* of such an outlier at least, in medians of the error around it */
    double strange_db; /* how much worse what follows a broken boundary is predicted by what is
                          before it, than elsewhere: small when the sound goes on behind it */
    double mend_reverse, mend_swap, mend_order; /* share of broken boundaries mended by turning each
                         block around, by swapping neighbours, by reversing the order of blocks */
    /* Adjacent repetitions. */
    int repeats;       /* blocks that equal the one before */
    int repeat_period; /* their length in samples */
    double repeat_s;   /* where the first one is */
    /* Runs of one value, whole frames long, with hard edges inside the sound. */
    int gaps;
    int gaps_on_grid; /* of those, how many begin where a frame of a stream does */
    double gap_s;     /* length of the median one */
    int wraps;        /* jumps across the whole range that vanish modulo the range */
    /* Where: the first SPLICE_MARKS of each kind. */
    int n_marks[MARK_KINDS];
    splice_mark marks[MARK_KINDS][SPLICE_MARKS];
} splice_facts;

int splice_measure(splice_facts *out, const float *pcm, size_t n, int rate_hz, app_error *err);

/* Copy n samples with the samples of each block of the grid that splice_measure() found turned
 * around. */
void splice_turn_blocks(float *out, const float *in, size_t n, const splice_facts *facts);

/* Mean prediction gain in dB over the active 20 ms frames of n samples; `order` coefficients. */
int splice_prediction_gain(double *gain_db, const float *pcm, size_t n, int rate_hz,
                           app_error *err);

#endif
