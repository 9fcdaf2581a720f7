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

/* Unsigned numbers in the order of the floats; both zeros are one, NaN is below everything. */
static uint32_t order_key(float x) {
    if (isnan(x)) return 0;
    uint32_t bits;
    x = x + 0.0f; /* -0 becomes 0 */
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/* The k-th largest key (1 <= k <= n) and how many of the k are strictly above it: three passes over
 * the logits, each settling 11, 11 and 10 bits of the key by counting. */
static uint32_t kth_largest(const float *logits, int n, int k, int *above) {
    static const int shifts[3] = {21, 10, 0}, widths[3] = {11, 11, 10};
    uint32_t prefix = 0, known = 0; /* bits settled so far, and their mask */
    int larger = 0;
    for (int pass = 0; pass < 3; pass++) {
        int counts[1 << 11] = {0};
        uint32_t mask = (1u << widths[pass]) - 1u;
        for (int i = 0; i < n; i++) {
            uint32_t key = order_key(logits[i]);
            if ((key & known) == prefix) counts[key >> shifts[pass] & mask]++;
        }
        uint32_t digit = mask;
        while (digit > 0 && larger + counts[digit] < k) larger += counts[digit--];
        prefix |= digit << shifts[pass];
        known |= mask << shifts[pass];
    }
    *above = larger;
    return prefix;
}

/* Neither the sum of the softmax nor the order of the kept tokens changes which p / q is largest,
 * so neither is computed. */
int mo_pick(const float *logits, int n, float temp, int top_k, mo_noise_fn noise, void *ctx) {
    int first_max = mo_pick_greedy(logits, n);
    float max = logits[first_max];
    uint32_t border = 0;
    int border_left = n; /* how many tokens exactly at the border may still be kept */
    if (top_k > 0 && top_k < n) {
        int above;
        border = kth_largest(logits, n, top_k, &above);
        border_left = top_k - above;
    }
    int best = first_max;
    float high = 0.0f;
    for (int i = 0; i < n; i++) {
        uint32_t key = order_key(logits[i]);
        if (key < border || (key == border && border_left-- <= 0)) continue;
        float ratio = mo_exp((logits[i] - max) / temp) / noise(ctx, i);
        if (ratio > high) {
            high = ratio;
            best = i;
        }
    }
    return best;
}
