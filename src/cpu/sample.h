/* sample.h - choosing one token from logits. */
#ifndef MO_CPU_SAMPLE_H
#define MO_CPU_SAMPLE_H

#include <stdint.h>

/* Philox4x32-10: 128 random bits from a counter and a key. */
void mo_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* Where the exponential noise q_j > 0 of token j comes from; it may be anything from `most` on if
 * the true one is that large, too, for then j is not chosen. Tokens are asked for in ascending
 * order. */
typedef float (*mo_noise_fn)(void *ctx, int token, float most);

/* First maximum; 0 if every logit is NaN. */
int mo_pick_greedy(const float *logits, int n);
/* argmax of p_j / q_j over the top_k most likely tokens (top_k <= 0: all; ties at the border:
 * lowest index first), p = softmax(logits / temp); temp > 0. Always a valid index. */
int mo_pick(const float *logits, int n, float temp, int top_k, mo_noise_fn noise, void *ctx);

/* Noise of one draw: q_j = -log(u_j), u_j = (r + 1/2) / 2^32 with r lane j % 4 of Philox at counter
 * (j / 4, channel, step, 0). */
typedef struct mo_philox_noise {
    uint32_t key[2], channel, step;
    uint32_t block, lanes[4]; /* the last block computed; start with block = UINT32_MAX */
} mo_philox_noise;
float mo_philox_noise_at(void *ctx, int token, float most);

#endif
