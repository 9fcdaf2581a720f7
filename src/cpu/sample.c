/* sample.c - choosing one token from logits. */
#include "sample.h"

#include "kernels.h"

#include <math.h>
#include <string.h>

void mo_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* The half keeps u away from 0, where the noise is infinite, and from 1, where it is 0 and the
 * least likely token would win. In double, so that it survives the rounding. */
float mo_philox_noise_at(void *ctx, int token) {
    mo_philox_noise *noise = ctx;
    uint32_t block = (uint32_t)token / 4;
    if (block != noise->block) {
        uint32_t counter[4] = {block, noise->channel, noise->step, 0};
        mo_philox(counter, noise->key, noise->lanes);
        noise->block = block;
    }
    double u = ((double)noise->lanes[token % 4] + 0.5) * 0x1p-32;
    return (float)-log(u);
}

int mo_pick_greedy(const float *logits, int n) {
    int best = 0;
    float high = -INFINITY;
    for (int i = 0; i < n; i++) {
        if (logits[i] > high) {
            high = logits[i];
            best = i;
        }
    }
    return best;
}

/* Unsigned numbers in the order of the floats; both zeros are one, NaN is below everything. Without
 * branches: nobody can guess the sign of a logit. */
static uint32_t order_key(float x) {
    uint32_t bits;
    float sum = x + 0.0f; /* -0 becomes 0 */
    memcpy(&bits, &sum, sizeof bits);
    bits ^= (0u - (bits >> 31)) | 0x80000000u;
    return x == x ? bits : 0;
}

/* Bits of a key that are settled at a time. */
enum { PASSES = 3, DIGIT = 11, MOST_LISTED = 4096 };
static const int shifts[PASSES] = {21, 10, 0}, widths[PASSES] = {DIGIT, DIGIT, 10};

/* Tokens that top_k or another way of choosing leaves over: all n, or those in a list. */
typedef struct tokens {
    const int *list; /* ascending; NULL: 0 .. n-1 */
    int n;
} tokens;

static int token_at(tokens t, int i) {
    return t.list ? t.list[i] : i;
}

/* The bin that holds the k-th largest of all; *larger grows by what the bins above hold. */
static uint32_t bin_of(const int *counts, uint32_t last, int k, int *larger) {
    uint32_t digit = last;
    while (digit > 0 && *larger + counts[digit] < k) *larger += counts[digit--];
    return digit;
}

/* Write down those of n tokens that may be among the k most likely, by the upper bits of their
 * keys; what is left to do for the others costs more than for these. All of them when that leaves
 * more than MOST_LISTED. */
static tokens narrow(const float *logits, int n, int k, int *list) {
    int counts[1 << DIGIT] = {0}, above = 0, m = 0;
    for (int i = 0; i < n; i++) counts[order_key(logits[i]) >> shifts[0]]++;
    uint32_t digit = bin_of(counts, (1u << DIGIT) - 1, k, &above);
    if (above + counts[digit] >= MOST_LISTED) return (tokens){NULL, n};
    for (int i = 0; i < n; i++) {
        list[m] = i;
        m += order_key(logits[i]) >> shifts[0] >= digit;
    }
    return (tokens){list, m};
}

/* The k-th largest key (1 <= k <= t.n) and how many of the k are strictly above it: three passes
 * over the tokens, each settling 11, 11 and 10 bits of the key by counting. */
static uint32_t kth_largest(const float *logits, tokens t, int k, int *above) {
    uint32_t prefix = 0, known = 0; /* bits settled so far, and their mask */
    int larger = 0;
    for (int pass = 0; pass < PASSES; pass++) {
        int counts[1 << DIGIT] = {0};
        uint32_t mask = (1u << widths[pass]) - 1u;
        for (int i = 0; i < t.n; i++) {
            uint32_t key = order_key(logits[token_at(t, i)]);
            if ((key & known) == prefix) counts[key >> shifts[pass] & mask]++;
        }
        prefix |= bin_of(counts, mask, k, &larger) << shifts[pass];
        known |= mask << shifts[pass];
    }
    *above = larger;
    return prefix;
}

/* Neither the sum of the softmax nor the order of the kept tokens changes which p / q is largest,
 * so neither is computed. */
int mo_pick(const float *logits, int n, float temp, int top_k, mo_noise_fn noise, void *ctx) {
    int first_max = mo_pick_greedy(logits, n), list[MOST_LISTED];
    float max = logits[first_max];
    uint32_t border = 0;
    int border_left = n; /* how many tokens exactly at the border may still be kept */
    tokens t = {NULL, n};
    if (top_k > 0 && top_k < n) {
        int above;
        t = narrow(logits, n, top_k, list);
        border = kth_largest(logits, t, top_k, &above);
        border_left = top_k - above;
    }
    int best = first_max;
    float high = 0.0f;
    for (int i = 0; i < t.n; i++) {
        int token = token_at(t, i);
        uint32_t key = order_key(logits[token]);
        if (key < border || (key == border && border_left-- <= 0)) continue;
        float ratio = mo_exp((logits[token] - max) / temp) / noise(ctx, token);
        if (ratio > high) {
            high = ratio;
            best = token;
        }
    }
    return best;
}
