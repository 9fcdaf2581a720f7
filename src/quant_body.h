/* quant_body.h - everything in quant.h that touches numbers, compiled once per instruction set.
 *
 * A file that includes this first defines LEVEL, its name, and LANES, how many floats a vector
 * holds. There are two kinds of loops: plain ones over the numbers of a block, which compilers turn
 * into vectors themselves, and searches for scales, which work on LANES groups side by side, one
 * per lane, so that no sum crosses lanes. Either way a group's numbers are treated alike and in the
 * same order at every level: all of them give the same bits. What would break that is a sum over
 * lanes or a fused multiply-add. */
#include "quant_blocks.h"

#include <math.h>
#include <string.h>
#if LANES > 4
#include <immintrin.h>
#endif

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));

#define F16_LARGEST 65504.0f

static inline float get_f16(const uint8_t *p) {
    return mo_f16_to_f32((uint16_t)(p[0] | p[1] << 8));
}

/* Store a scale and return what readers will see: never infinite, and one zero only. */
static inline float put_f16(uint8_t *p, float v) {
    uint16_t h = mo_f32_to_f16(v < F16_LARGEST ? v : F16_LARGEST);
    if ((h & 0x7FFF) == 0) h = 0;
    p[0] = (uint8_t)(h & 0xFF);
    p[1] = (uint8_t)(h >> 8);
    return mo_f16_to_f32(h);
}

/* v within lo .. hi. */
static inline float clamp(float v, float lo, float hi) {
    v = v > lo ? v : lo;
    return v < hi ? v : hi;
}

/* Nearest whole number, halves away from zero: added to them, the largest number below 1/2 makes
 * them whole, as sums are rounded to even, and nothing else. */
static inline int nearest(float v) {
    return (int)(v + copysignf(0x1.fffffep-2f, v));
}

/* Copy with every number within -limit .. limit, so that no scale overflows. NaN becomes -limit. */
static inline void limited(const float *restrict x, size_t n, float limit, float *restrict out) {
    for (size_t i = 0; i < n; i++) out[i] = clamp(x[i], -limit, limit);
}

/* The largest magnitude. The bits of floats >= 0 have the order of the floats, and compilers make
 * vectors of whole numbers where they may not of floats. */
static inline float magnitude(const float v[SMALL]) {
    uint32_t top = 0;
    for (int k = 0; k < SMALL; k++) {
        uint32_t bits = mo_f32_to_bits(v[k]) & 0x7FFFFFFFu;
        top = bits > top ? bits : top;
    }
    return mo_bits_to_f32(top);
}

/* Numbers below 16 as low and high halves of bytes. n is a multiple of 8: so many at once. */
static inline void join_nibbles(const uint8_t *low, const uint8_t *high, int n, uint8_t *out) {
    for (int k = 0; k < n; k += 8) {
        uint64_t a, b;
        memcpy(&a, low + k, sizeof a);
        memcpy(&b, high + k, sizeof b);
        a |= b << 4;
        memcpy(out + k, &a, sizeof a);
    }
}

/* ---- vectors ------------------------------------------------------------------------------- */

static inline vec v_select(ivec mask, vec yes, vec no) {
    return (vec)((mask & (ivec)yes) | (~mask & (ivec)no));
}

/* b where a number is NaN: what the instructions of x86 do, which compilers do not find here. */
static inline vec v_min(vec a, vec b) {
#if LANES == 16
    return _mm512_min_ps(a, b);
#elif LANES == 8
    return _mm256_min_ps(a, b);
#else
    return v_select(a < b, a, b);
#endif
}
static inline vec v_max(vec a, vec b) {
#if LANES == 16
    return _mm512_max_ps(a, b);
#elif LANES == 8
    return _mm256_max_ps(a, b);
#else
    return v_select(a > b, a, b);
#endif
}
static inline vec v_abs(vec a) {
    return (vec)((ivec)a & 0x7FFFFFFF);
}
/* Nearest whole number, halves to even, for magnitudes below 2^22. */
static inline vec v_round(vec a) {
    return (a + 0x1.8p23f) - 0x1.8p23f;
}

/* (x + shift) * inverse + half, cut off to whole numbers within 0 .. top. n is a multiple of 16. */
static inline void to_whole(const float *x, int n, float shift, float inverse, float half,
                            float top, uint8_t *out) {
    int32_t whole[GROUP];
    for (int i = 0; i < n; i += LANES) {
        vec v;
        memcpy(&v, x + i, sizeof v);
        v = (v + shift) * inverse + half;
        v = v_min(v_max(v, (vec){0}), (vec){0} + top);
        ivec w = __builtin_convertvector(v, ivec);
        memcpy(whole + i, &w, sizeof w);
    }
    for (int i = 0; i < n; i++) out[i] = (uint8_t)whole[i];
}

/* n numbers of each of LANES groups, lane by lane: out[i][lane] = x[lane * n + i]. */
static void side_by_side(const float *restrict x, int n, vec *restrict out) {
    float *to = (float *)out;
    for (int lane = 0; lane < LANES; lane++)
        for (int i = 0; i < n; i++) to[i * LANES + lane] = x[lane * n + i];
}

/* ---- plain floats -------------------------------------------------------------------------- */

static void quantise_f32(const float *restrict x, void *restrict out, size_t n) {
    if (n) memcpy(out, x, n * sizeof *x);
}

static void dequantise_f32(const void *restrict in, float *restrict x, size_t n) {
    if (n) memcpy(x, in, n * sizeof *x);
}

static void quantise_f16(const float *restrict x, void *restrict out, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint16_t h = mo_f32_to_f16(x[i]);
        memcpy((uint8_t *)out + i * sizeof h, &h, sizeof h);
    }
}

static void dequantise_f16(const void *restrict in, float *restrict x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, (const uint8_t *)in + i * sizeof h, sizeof h);
        x[i] = mo_f16_to_f32(h);
    }
}

static void quantise_bf16(const float *restrict x, void *restrict out, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint16_t h = mo_f32_to_bf16(x[i]);
        memcpy((uint8_t *)out + i * sizeof h, &h, sizeof h);
    }
}

static void dequantise_bf16(const void *restrict in, float *restrict x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, (const uint8_t *)in + i * sizeof h, sizeof h);
        x[i] = mo_bf16_to_f32(h);
    }
}

/* ---- Q8_0 ---------------------------------------------------------------------------------- */

static void quantise_q8_0(const float *restrict x, void *restrict out, size_t n) {
    block_q8_0 *b = out;
    float v[SMALL];
    for (size_t i = 0; i < n; i += SMALL, b++) {
        limited(x + i, SMALL, F16_LARGEST * 127, v);
        float d = magnitude(v) / 127;
        /* The quotient takes the scale before it is rounded; one that rounds to zero leaves
         * nothing to tell apart. */
        float inverse = put_f16(b->d, d) > 0 ? 1 / d : 0;
        for (int k = 0; k < SMALL; k++) b->q[k] = (int8_t)nearest(v[k] * inverse);
    }
}

static void dequantise_q8_0(const void *restrict in, float *restrict x, size_t n) {
    const block_q8_0 *b = in;
    for (size_t i = 0; i < n; i += SMALL, b++) {
        float d = get_f16(b->d);
        for (int k = 0; k < SMALL; k++) x[i + (size_t)k] = d * (float)b->q[k];
    }
}

/* ---- Q4_0 ---------------------------------------------------------------------------------- */

/* The number of largest magnitude, the first if there are several. */
static inline float largest_of(const float v[SMALL]) {
    uint32_t top = mo_f32_to_bits(magnitude(v)), first = SMALL - 1;
    for (uint32_t k = 0; k < SMALL; k++) {
        uint32_t here = (mo_f32_to_bits(v[k]) & 0x7FFFFFFFu) == top ? k : SMALL - 1;
        first = here < first ? here : first;
    }
    return v[first];
}

static void quantise_q4_0(const float *restrict x, void *restrict out, size_t n) {
    block_q4_0 *b = out;
    float v[SMALL];
    uint8_t q[SMALL];
    for (size_t i = 0; i < n; i += SMALL, b++) {
        limited(x + i, SMALL, F16_LARGEST * 8, v);
        /* The largest becomes -8, the one value without a counterpart, whatever its sign. */
        float d = largest_of(v) / -8;
        float inverse = put_f16(b->d, d) != 0 ? 1 / d : 0;
        for (int k = 0; k < SMALL; k++) {
            int whole = (int)(v[k] * inverse + 8.5f); /* 0 .. 16 */
            q[k] = (uint8_t)(whole < 15 ? whole : 15);
        }
        join_nibbles(q, q + SMALL / 2, SMALL / 2, b->q);
    }
}

static void dequantise_q4_0(const void *restrict in, float *restrict x, size_t n) {
    const block_q4_0 *b = in;
    for (size_t i = 0; i < n; i += SMALL, b++) {
        float d = get_f16(b->d);
        for (int k = 0; k < SMALL / 2; k++) {
            x[i + (size_t)k] = d * (float)((b->q[k] & 15) - 8);
            x[i + (size_t)k + SMALL / 2] = d * (float)((b->q[k] >> 4) - 8);
        }
    }
}

/* ---- Q4_K and Q5_K ------------------------------------------------------------------------- */

/* The other way round: see unpack_scales. */
static void pack_scales(uint8_t *p, const uint8_t scale[GROUPS], const uint8_t minimum[GROUPS]) {
    for (int j = 0; j < 4; j++) {
        p[j] = (uint8_t)(scale[j] | (scale[j + 4] >> 4) << 6);
        p[j + 4] = (uint8_t)(minimum[j] | (minimum[j + 4] >> 4) << 6);
        p[j + 8] = (uint8_t)((scale[j + 4] & 15) | (minimum[j + 4] & 15) << 4);
    }
}

enum { TILE = 16 }; /* groups that are searched in one go: 2 blocks of Q4_K, 1 of Q6_K */

/* x is about scale * q - minimum, both >= 0. */
typedef struct line {
    float scale, minimum;
} line;

/* Groups to fit lines to, one per lane, moved and stretched so that z reaches from 0 to 1. */
typedef struct span {
    vec z[GROUP];
    vec weight[GROUP];       /* errors of large numbers count more */
    vec low, range, inverse; /* x = low + range * z */
    vec w, wz, wzz;          /* sums of weight, weight * z, weight * z * z */
} span;

static void span_begin(span *s, const float *x) {
    vec squares = {0}, low = {0};
    side_by_side(x, GROUP, s->z);
    vec high = s->z[0];
    for (int i = 0; i < GROUP; i++) {
        low = v_min(s->z[i], low);
        high = v_max(s->z[i], high);
        squares += s->z[i] * s->z[i];
    }
    s->low = low;
    s->range = high - low;
    /* Far below the smallest scale a block can hold: spares the divisions below. */
    s->inverse = v_select(s->range > 1e-20f, 1.0f / s->range, (vec){0});
    vec spread = {0};
    for (int lane = 0; lane < LANES; lane++) spread[lane] = sqrtf(squares[lane] / GROUP);
    s->w = s->wz = s->wzz = (vec){0};
    for (int i = 0; i < GROUP; i++) {
        s->weight[i] = (spread + v_abs(s->z[i])) * s->inverse;
        s->z[i] = (s->z[i] - low) * s->inverse;
        vec wz = s->weight[i] * s->z[i];
        s->w += s->weight[i];
        s->wz += wz;
        s->wzz += wz * s->z[i];
    }
}

/* Round z * steps and find the line z = slope * q + start that loses least for these q; returns the
 * loss, or a huge one where there is no such line. */
static vec span_try(const span *s, float steps, float top, vec *slope, vec *start) {
    vec wq = {0}, wqq = {0}, wzq = {0}, limit = (vec){0} + top;
    for (int i = 0; i < GROUP; i++) {
        vec q = v_min(v_round(s->z[i] * steps), limit);
        vec weighted = s->weight[i] * q;
        wq += weighted;
        wqq += weighted * q;
        wzq += weighted * s->z[i];
    }
    vec determinant = s->w * wqq - wq * wq;
    vec a = s->w * wzq - s->wz * wq, b = wqq * s->wz - wq * wzq;
    /* Minima are never negative: no line starts above zero. Then the best one from zero. */
    vec zero = -s->low * s->inverse;
    ivec above = b > zero * determinant;
    vec inverse = 1.0f / v_select(above, wqq, determinant); /* the one division */
    a = v_select(above, wzq - zero * wq, a) * inverse;
    b = v_select(above, zero, b * inverse);
    *slope = a;
    *start = b;
    vec loss =
        s->wzz - 2.0f * (a * wzq + b * s->wz) + a * a * wqq + 2.0f * a * b * wq + b * b * s->w;
    return v_select((determinant > 0.0f) & (a > 0.0f), loss, (vec){0} + 1e30f);
}

/* The lines that lose least: starting points a little apart from the plain min-max line lead to
 * different roundings, each of which has its own best line. Twice as many of them gain a thousandth
 * of the error. `top` is the largest q. */
static void fit_lines(const float *x, float top, line out[LANES]) {
    span s;
    span_begin(&s, x);
    vec slope = (vec){0} + 1 / top, start = {0}, least = (vec){0} + 1e29f;
    for (int step = 0; step <= 10; step++) {
        vec a, b, loss = span_try(&s, top - 1 + 0.2f * (float)step, top, &a, &b);
        ivec better = loss < least;
        slope = v_select(better, a, slope);
        start = v_select(better, b, start);
        least = v_select(better, loss, least);
    }
    vec scale = v_select(s.inverse > 0.0f, slope * s.range, (vec){0});
    vec minimum = v_max(-(s.low + start * s.range), (vec){0});
    for (int lane = 0; lane < LANES; lane++) out[lane] = (line){scale[lane], minimum[lane]};
}

/* Quantise the lines themselves to 6 bits under two f16 scales, and say what readers will see. */
static void put_lines(block_q4_k *b, line lines[GROUPS]) {
    float scale_top = 0, minimum_top = 0;
    uint8_t scale[GROUPS], minimum[GROUPS];
    for (int g = 0; g < GROUPS; g++) {
        scale_top = lines[g].scale > scale_top ? lines[g].scale : scale_top;
        minimum_top = lines[g].minimum > minimum_top ? lines[g].minimum : minimum_top;
    }
    float d = put_f16(b->d, scale_top / 63), m = put_f16(b->m, minimum_top / 63);
    float per_scale = d > 0 ? 63 / scale_top : 0, per_minimum = m > 0 ? 63 / minimum_top : 0;
    for (int g = 0; g < GROUPS; g++) {
        scale[g] = (uint8_t)nearest(lines[g].scale * per_scale);
        minimum[g] = (uint8_t)nearest(lines[g].minimum * per_minimum);
        lines[g] = (line){d * (float)scale[g], m * (float)minimum[g]};
    }
    pack_scales(b->scales, scale, minimum);
}

/* One block of limited numbers under the lines found for its groups. */
static void put_q4_k(block_q4_k *b, const float v[LARGE], line lines[GROUPS]) {
    uint8_t q[LARGE];
    put_lines(b, lines);
    for (int g = 0; g < GROUPS; g++) {
        float minimum = lines[g].minimum, inverse = lines[g].scale > 0 ? 1 / lines[g].scale : 0;
        to_whole(v + g * GROUP, GROUP, minimum, inverse, 0.5f, 15, q + g * GROUP);
    }
    for (int g = 0; g < GROUPS; g += 2) /* two groups share 32 bytes */
        join_nibbles(q + g * GROUP, q + (g + 1) * GROUP, GROUP, b->q + g / 2 * GROUP);
}

static void quantise_q4_k(const float *restrict x, void *restrict out, size_t n) {
    enum { NUMBERS = TILE * GROUP };
    block_q4_k *b = out;
    float v[NUMBERS];
    line lines[TILE];
    for (size_t i = 0; i < n; i += NUMBERS) {
        size_t some = n - i < NUMBERS ? n - i : NUMBERS;
        memset(v, 0, sizeof v);
        limited(x + i, some, F16_LARGEST * 63, v);
        for (int g = 0; g < TILE; g += LANES) fit_lines(v + g * GROUP, 15, lines + g);
        for (size_t k = 0; k < some; k += LARGE) put_q4_k(b++, v + k, lines + k / GROUP);
    }
}

static void dequantise_q4_k(const void *restrict in, float *restrict x, size_t n) {
    const block_q4_k *b = in;
    uint8_t scale[GROUPS], minimum[GROUPS];
    for (size_t i = 0; i < n; i += LARGE, b++) {
        float d = get_f16(b->d), m = get_f16(b->m);
        unpack_scales(b->scales, scale, minimum);
        for (int g = 0; g < GROUPS; g++) {
            const uint8_t *q = b->q + g / 2 * GROUP;
            float *to = x + i + (size_t)g * GROUP;
            float step = d * (float)scale[g], below = m * (float)minimum[g];
            int shift = g % 2 * 4;
            for (int k = 0; k < GROUP; k++) to[k] = step * (float)(q[k] >> shift & 15) - below;
        }
    }
}

static void dequantise_q5_k(const void *restrict in, float *restrict x, size_t n) {
    const block_q5_k *b = in;
    uint8_t scale[GROUPS], minimum[GROUPS];
    for (size_t i = 0; i < n; i += LARGE, b++) {
        float d = get_f16(b->d), m = get_f16(b->m);
        unpack_scales(b->scales, scale, minimum);
        for (int g = 0; g < GROUPS; g++) { /* bit g of `high` is the fifth bit of group g */
            const uint8_t *q = b->q + g / 2 * GROUP;
            float *to = x + i + (size_t)g * GROUP;
            float step = d * (float)scale[g], below = m * (float)minimum[g];
            int shift = g % 2 * 4;
            for (int k = 0; k < GROUP; k++) {
                int whole = (q[k] >> shift & 15) | (b->high[k] >> g & 1) << 4;
                to[k] = step * (float)whole - below;
            }
        }
    }
}

/* ---- Q6_K ---------------------------------------------------------------------------------- */

/* The scales for which scale * q, q in -32..31, lose least, with errors weighted by x * x. For
 * fixed q the best scale is sum(w x q) / sum(w q q), and the larger sum(w x q)^2 / sum(w q q), the
 * less is lost. */
static void fit_scales(const float *x, float out[LANES]) {
    vec r[FINE], w[FINE], largest = {0};
    side_by_side(x, FINE, r);
    for (int i = 0; i < FINE; i++) largest = v_select(v_abs(r[i]) > v_abs(largest), r[i], largest);
    ivec some = v_abs(largest) > 1e-15f; /* far below the smallest scale */
    vec inverse = v_select(some, 1.0f / largest, (vec){0});
    for (int i = 0; i < FINE; i++) { /* relative numbers: powers of plain ones may overflow */
        r[i] *= inverse;
        w[i] = r[i] * r[i];
    }
    vec best_wrq = {0}, best_wqq = (vec){0} + 1.0f, lo = (vec){0} - 32.0f, hi = (vec){0} + 31.0f;
    for (int step = -3; step <= 3; step++) {
        float steps = -(32 + 0.3f * (float)step);
        vec wrq = {0}, wqq = {0};
        for (int i = 0; i < FINE; i++) {
            vec q = v_min(v_max(v_round(r[i] * steps), lo), hi);
            vec weighted = w[i] * q;
            wrq += weighted * r[i];
            wqq += weighted * q;
        }
        ivec better = wrq * wrq * best_wqq > best_wrq * best_wrq * wqq;
        best_wrq = v_select(better, wrq, best_wrq);
        best_wqq = v_select(better, wqq, best_wqq);
    }
    vec scale = v_select(some, largest * (best_wrq / best_wqq), (vec){0});
    memcpy(out, &scale, sizeof scale);
}

static void pack_q6_k(block_q6_k *b, const uint8_t q[LARGE]) {
    for (int half = 0; half < 2; half++) {
        const uint8_t *from = q + half * 128;
        for (int k = 0; k < 32; k++) {
            b->low[half * 64 + k] = (uint8_t)((from[k] & 15) | (from[k + 64] & 15) << 4);
            b->low[half * 64 + k + 32] = (uint8_t)((from[k + 32] & 15) | (from[k + 96] & 15) << 4);
            b->high[half * 32 + k] = (uint8_t)(from[k] >> 4 | (from[k + 32] >> 4) << 2 |
                                               (from[k + 64] >> 4) << 4 | (from[k + 96] >> 4) << 6);
        }
    }
}

static void quantise_q6_k(const float *restrict x, void *restrict out, size_t n) {
    block_q6_k *b = out;
    float v[LARGE], scales[TILE];
    uint8_t q[LARGE];
    for (size_t i = 0; i < n; i += LARGE, b++) {
        limited(x + i, LARGE, F16_LARGEST * 128 * 31, v);
        for (int g = 0; g < TILE; g += LANES) fit_scales(v + g * FINE, scales + g);
        float largest = 0;
        for (int g = 0; g < TILE; g++)
            if (fabsf(scales[g]) > fabsf(largest)) largest = scales[g];
        /* The largest scale becomes -128, as the largest number of Q4_0 becomes -8. */
        float top = largest / -128, d = put_f16(b->d, top > -F16_LARGEST ? top : -F16_LARGEST);
        float per_scale = d != 0 ? -128 / largest : 0;
        for (int g = 0; g < TILE; g++) {
            b->scales[g] = (int8_t)nearest(clamp(scales[g] * per_scale, -128, 127));
            float scale = d * (float)b->scales[g], inverse = scale != 0 ? 1 / scale : 0;
            to_whole(v + g * FINE, FINE, 0, inverse, 32.5f, 63, q + g * FINE);
        }
        pack_q6_k(b, q);
    }
}

/* Group g of 16: of each half of a block, groups 0..3 and 4..7 have their low bits in the lower and
 * upper halves of the same 64 bytes; their upper bits lie at 0, 2, 4, 6 of the same 32 bytes. */
static void dequantise_q6_k(const void *restrict in, float *restrict x, size_t n) {
    const block_q6_k *b = in;
    for (size_t i = 0; i < n; i += LARGE, b++) {
        float d = get_f16(b->d);
        for (int g = 0; g < LARGE / FINE; g++) {
            const uint8_t *low = b->low + g / 8 * 64 + g % 4 * FINE;
            const uint8_t *high = b->high + g / 8 * 32 + g % 2 * FINE;
            int low_at = g % 8 / 4 * 4, high_at = g % 8 / 2 * 2;
            float *to = x + i + (size_t)g * FINE, scale = d * (float)b->scales[g];
            for (int k = 0; k < FINE; k++) {
                int q = (low[k] >> low_at & 15) | (high[k] >> high_at & 3) << 4;
                to[k] = scale * (float)(q - 32);
            }
        }
    }
}

/* ---- what other programs pack ---------------------------------------------------------------- */

/* Numbers of a few bits, low ones first, under one scale and bias. */
static inline void unpack(const uint8_t *restrict in, int bits, float scale, float bias,
                          float *restrict x, size_t n) {
    size_t per = 8 / (size_t)bits;
    for (size_t i = 0; i < n / per; i++)
        for (size_t k = 0; k < per; k++)
            x[i * per + k] = scale * (float)(in[i] >> k * (size_t)bits & ((1 << bits) - 1)) + bias;
}

static void unpack_group(const uint8_t *restrict in, int bits, float scale, float bias,
                         float *restrict x, size_t n) {
    switch (bits) { /* widths that the compiler knows */
    case 8:
        unpack(in, 8, scale, bias, x, n);
        break;
    case 4:
        unpack(in, 4, scale, bias, x, n);
        break;
    default:
        unpack(in, bits, scale, bias, x, n);
    }
}

static void unpack_row(const int8_t *restrict in, float absmax, float *restrict x, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = (float)in[i] * absmax / 127.0f;
}

/* ---- damage -------------------------------------------------------------------------------- */

static void scan(const float *x, size_t n, uint32_t *bits, bool *special) {
    uint32_t any = 0, carry = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t magnitude = mo_f32_to_bits(x[i]) & 0x7FFFFFFFu;
        any |= magnitude;
        carry |= magnitude + 0x00800000u; /* reaches the top when all bits of the exponent are 1 */
    }
    *bits = any;
    *special = carry >> 31;
}

/* ---- the rows ------------------------------------------------------------------------------ */

static const mo_quant rows[] = {
    {MO_F32, "f32", quantise_f32, dequantise_f32},
    {MO_F16, "f16", quantise_f16, dequantise_f16},
    {MO_BF16, "bf16", quantise_bf16, dequantise_bf16},
    {MO_Q8_0, "q8_0", quantise_q8_0, dequantise_q8_0},
    {MO_Q4_0, "q4_0", quantise_q4_0, dequantise_q4_0},
    {MO_Q4_K, "q4_K", quantise_q4_k, dequantise_q4_k},
    {MO_Q5_K, "q5_K", NULL, dequantise_q5_k},
    {MO_Q6_K, "q6_K", quantise_q6_k, dequantise_q6_k},
};

static const mo_quant_set this_set = {LEVEL,        rows,       sizeof rows / sizeof *rows,
                                      unpack_group, unpack_row, scan};
