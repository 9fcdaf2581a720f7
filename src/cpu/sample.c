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
 * least likely token would win. In double, so that it survives the rounding. -log(u) is
 * 2 (z + z^3 / 3 + ...), z = (1 - u) / (1 + u). */
float mo_philox_noise_at(void *ctx, int token, float most) {
    mo_philox_noise *noise = ctx;
    uint32_t block = (uint32_t)token / 4;
    if (block != noise->block) {
        uint32_t counter[4] = {block, noise->channel, noise->step, 0};
        mo_philox(counter, noise->key, noise->lanes);
        noise->block = block;
    }
    double u = ((double)noise->lanes[token % 4] + 0.5) * 0x1p-32;
    float least = (float)(2.0 * (1.0 - u) / (1.0 + u));
    return least >= most ? least : (float)-log(u);
}

/* In lanes, which compilers turn into vectors. */
enum { LANES = 16 };
int mo_pick_greedy(const float *logits, int n) {
    float most[LANES], high = -INFINITY;
    int i = 0, best = 0;
    for (int j = 0; j < LANES; j++) most[j] = high;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) most[j] = logits[i + j] > most[j] ? logits[i + j] : most[j];
    for (int j = 0; j < LANES; j++) high = most[j] > high ? most[j] : high;
    for (; i < n; i++) high = logits[i] > high ? logits[i] : high;
    if (high == -INFINITY) return 0;
    while (logits[best] != high) best++;
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

/* Bits of a key that are settled at a time: many at first, which hardly differ, then few, whose
 * table is soon cleared. */
enum { KEY = 32, FIRST = 11, NEXT = 7, MOST_LISTED = 4096, NARROW = 8 };

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

/* The first bits of the k-th largest key of n (1 <= k <= n). */
static uint32_t first_bits(const float *x, int n, int k) {
    int counts[1 << FIRST] = {0}, above = 0;
    for (int i = 0; i < n; i++) counts[order_key(x[i]) >> (KEY - FIRST)]++;
    return bin_of(counts, (1u << FIRST) - 1, k, &above);
}

/* The k-th largest key (1 <= k <= t.n), settled by counting, and how many of the k are strictly
 * above it. */
static uint32_t kth_largest(const float *x, tokens t, int k, int *above) {
    uint32_t prefix = 0;
    *above = 0;
    for (int digit = FIRST, shift = KEY - FIRST; shift >= 0; digit = NEXT, shift -= NEXT) {
        int counts[1 << FIRST];
        const uint32_t last = (1u << digit) - 1;
        memset(counts, 0, (last + 1) * sizeof *counts);
        for (int i = 0; i < t.n; i++) {
            uint32_t key = order_key(x[token_at(t, i)]) >> shift;
            if (key >> digit == prefix) counts[key & last]++;
        }
        prefix = prefix << digit | bin_of(counts, last, k, above);
    }
    return prefix;
}

/* The largest of n numbers; NaN when all are NaN or negative infinity. */
static float largest(const float *x, int n) {
    float most = -INFINITY;
    for (int i = 0; i < n; i++) most = x[i] > most ? x[i] : most;
    return most > -INFINITY ? most : NAN;
}

/* List the tokens of blocks of `width` whose keys begin with `least` or more; all when they are
 * more than MOST_LISTED. Without branches where the next one is as likely as not. */
static tokens list_from(const float *logits, int n, const float *maxima, int width, uint32_t least,
                        int *list) {
    int m = 0;
    for (int first = 0; first < n && m + width < MOST_LISTED; first += width) {
        const int end = first + width < n ? first + width : n;
        if (width > 1 && order_key(maxima[first / width]) >> (KEY - FIRST) < least) continue;
        for (int i = first; i < end; i++) {
            list[m] = i;
            m += order_key(logits[i]) >> (KEY - FIRST) >= least;
        }
    }
    return m + width < MOST_LISTED ? (tokens){list, m} : (tokens){NULL, n};
}

/* Tokens that may be among the k most likely, or all, where that many are not fewer work. Of k
 * blocks the largest token is at least as large as the k-th largest such, hence all k are, and only
 * blocks with such a token are looked through. */
static tokens narrow(const float *logits, int n, int k, int *list) {
    float maxima[MOST_LISTED];
    int width = 1;
    while (n / (4 * width * width) >= k)
        width *= 2; /* about the root of n / k, for the least work */
    if (width < NARROW) width = 1;
    const int blocks = (n + width - 1) / width;
    if (width > 1 && blocks > MOST_LISTED) return (tokens){NULL, n};
    for (int b = 0; width > 1 && b < blocks; b++) {
        int left = n - b * width;
        maxima[b] = largest(logits + b * width, left < width ? left : width);
    }
    uint32_t least = first_bits(width > 1 ? maxima : logits, blocks, k);
    return list_from(logits, n, maxima, width, least, list);
}

/* As mo_pick_greedy() of those of t. */
static int first_largest(const float *logits, tokens t) {
    if (!t.list) return mo_pick_greedy(logits, t.n);
    int best = 0;
    float high = -INFINITY;
    for (int i = 0; i < t.n; i++) {
        if (!(logits[t.list[i]] > high)) continue;
        best = t.list[i];
        high = logits[best];
    }
    return best;
}

/* At least e^x, and by 7 % more at most, for -86 < x <= 0; not 0 below: 2^(n + f) <= (1 + f) 2^n.
 */
static float exp_at_most(float x) {
    float t = x * 1.442695f + 127.0f;
    uint32_t bits = (uint32_t)((t > 1.0f ? t : 1.0f) * 0x1p23f);
    memcpy(&x, &bits, sizeof x);
    return x * 1.001f;
}

/* Neither the sum of the softmax nor the order of the kept tokens changes which p / q is largest,
 * so neither is computed; nor are p and q of tokens that cannot win. */
int mo_pick(const float *logits, int n, float temp, int top_k, mo_noise_fn noise, void *ctx) {
    int list[MOST_LISTED];
    uint32_t border = 0;
    int border_left = n; /* how many tokens exactly at the border may still be kept */
    tokens t = {NULL, n};
    if (top_k > 0 && top_k < n) {
        int above;
        t = narrow(logits, n, top_k, list);
        border = kth_largest(logits, t, top_k, &above);
        border_left = top_k - above;
    }
    int best = first_largest(logits, t);
    float max = logits[best];
    float high = 0.0f, reach = INFINITY; /* q >= p * reach: not the largest */
    for (int i = 0; i < t.n; i++) {
        int token = token_at(t, i);
        uint32_t key = order_key(logits[token]);
        if (key < border || (key == border && border_left-- <= 0)) continue;
        float x = (logits[token] - max) / temp, most = exp_at_most(x) * reach;
        float q = noise(ctx, token, most);
        if (q >= most) continue;
        float ratio = mo_exp(x) / q;
        if (ratio > high) {
            high = ratio;
            reach = 1.001f / high;
            best = token;
        }
    }
    return best;
}
