/* damage.h - the known ways to spoil a recording, done on purpose: controls for the instruments
 * that should notice. */
#ifndef APP_DAMAGE_H
#define APP_DAMAGE_H

#include "finding.h"

typedef struct damage {
    const char *name;  /* "frames-reversed"; some kinds come in several forms */
    finding_kind kind; /* what an examination should call it */
    int (*make)(float **out, size_t *n_out, const float *pcm, size_t n, int rate_hz, uint64_t seed,
                app_error *err);
} damage;

extern const damage DAMAGES[];
extern const int N_DAMAGES;

/* NULL when there is no damage of that name. */
const damage *damage_find(const char *name);

/* Spoil n samples (mono, -1..1). The result is a new array of *n_out samples at the same rate, to
 * be freed by the caller. `seed` decides which frames go where. */
int damage_make(const damage *d, float **out, size_t *n_out, const float *pcm, size_t n,
                int rate_hz, uint64_t seed, app_error *err);

#endif
