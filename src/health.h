/* health.h - looking at the numbers of a model's tensors: what they are like, and what is not as
 * trained weights are.
 *
 * A tensor is damaged when an engine refuses it: NaN, infinite numbers, a matrix of zeros. It is
 * odd when an engine would run it and it would hardly sound as it should:
 *   - a matrix that holds one number throughout, or more than nine zeros in ten
 *   - a norm's weights that are all zero: nothing passes that layer
 *   - a matrix whose gain (RMS times the square root of its row length) differs by more than a
 *     factor of 100 from the median of its kind. Of a kind are the tensors of one file whose names
 *     differ in numbers only; there must be four of them
 *   - a matrix with an RMS below 1e-8 or above 1e4, any other tensor with one above 1e6
 * Codebooks are kept as sums and counts, of which only damage can be told. */
#ifndef MO_HEALTH_H
#define MO_HEALTH_H

#include "checkpoint.h"

/* One tensor, and what its numbers are like; of quantised matrices the numbers they stand for. */
typedef struct mo_measured {
    const mo_checkpoint *ck;
    const mo_tensor_view *t;
    int64_t rows, cols; /* of the packed matrix it stands for; 0: its shape is the whole truth */
    /* filled by mo_health_measure() */
    bool numbers; /* it holds numbers that can be judged */
    bool hole;    /* nothing of it was ever written to the file */
    uint64_t count, nan, inf, zeros;
    float min, max; /* of the finite ones */
    double rms;     /* of the finite ones */
    /* of its kind */
    uint64_t kind;
    double gain, typical_gain;
    size_t alike;
} mo_measured;

typedef struct mo_health_progress {
    int (*fn)(void *user, uint64_t done, uint64_t total); /* in bytes; non-zero cancels */
    void *user;
} mo_health_progress;

/* Read all numbers, on several threads (0: one per core). */
int mo_health_measure(mo_measured *tensors, size_t n, int threads,
                      const mo_health_progress *progress, moshi_error *err);

/* Wide in two dimensions at least: its numbers cannot all be zero. */
bool mo_health_is_matrix(const mo_measured *m);

typedef enum mo_verdict { MO_SOUND, MO_ODD, MO_DAMAGED } mo_verdict;

/* Judge a measured tensor. What is wrong goes to `why`, to follow the tensor's name. */
mo_verdict mo_health_judge(const mo_measured *m, char *why, size_t cap);

#endif
