/* quant.c - weights in blocks of few bits, and the plain floats beside them. */
#include "quant.h"

#include <math.h>
#include <string.h>
#include <strings.h>

/* Blocks as they lie in files. Only bytes, so that any address will do. */
typedef struct block_q8_0 {
    uint8_t d[2];
    int8_t q[32];
} block_q8_0;

typedef struct block_q4_0 {
    uint8_t d[2];
    uint8_t q[16];
} block_q4_0;

typedef struct block_q4_k {
    uint8_t d[2], m[2];
    uint8_t scales[12];
    uint8_t q[128];
} block_q4_k;

typedef struct block_q5_k {
    uint8_t d[2], m[2];
    uint8_t scales[12];
    uint8_t high[32];
    uint8_t q[128];
} block_q5_k;

typedef struct block_q6_k {
    uint8_t low[128];
    uint8_t high[64];
    int8_t scales[16];
    uint8_t d[2];
} block_q6_k;

enum {
    SMALL = 32,  /* elements of a Q8_0 or Q4_0 block */
    LARGE = 256, /* elements of the others */
    GROUP = 32,  /* elements of Q4_K and Q5_K under one scale */
    GROUPS = 8,  /* of them in a block */
    FINE = 16,   /* elements of Q6_K under one scale */
    FINE_GROUPS = 16
};

#define F16_LARGEST 65504.0f

static float get_f16(const uint8_t *p) {
    return mo_f16_to_f32((uint16_t)(p[0] | p[1] << 8));
}

/* Store a scale and return what readers will see: never infinite, and one zero only. */
static float put_f16(uint8_t *p, float v) {
    uint16_t h = mo_f32_to_f16(fminf(v, F16_LARGEST));
    if ((h & 0x7FFF) == 0) h = 0;
    p[0] = (uint8_t)(h & 0xFF);
    p[1] = (uint8_t)(h >> 8);
    return mo_f16_to_f32(h);
}

/* Nearest whole number, halves away from zero, within lo .. hi. NaN gives lo. */
static int nearest(float v, int lo, int hi) {
    if (!(v > (float)lo)) return lo;
    return v < (float)hi ? (int)roundf(v) : hi;
}

/* Copy with every number within -limit .. limit, so that no scale overflows; returns the one of
 * largest magnitude, the first if there are several. */
static float limited(const float *x, size_t n, float limit, float *out) {
    float largest = 0;
    for (size_t i = 0; i < n; i++) {
        float v = x[i] > -limit ? x[i] : -limit;
        out[i] = v < limit ? v : limit;
        if (fabsf(out[i]) > fabsf(largest)) largest = out[i];
    }
    return largest;
}

/* Sum of a[i] * b[i] over n, a multiple of 8: eight sums side by side, which compilers turn into
 * vectors where one sum in order must stay slow. */
static inline float dot(const float *a, const float *b, int n) {
    float s[8] = {0};
    for (int i = 0; i < n; i += 8)
        for (int k = 0; k < 8; k++) s[k] += a[i + k] * b[i + k];
    return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]));
}

/* ---- plain floats -------------------------------------------------------------------------- */

static void quantise_f32(const float *x, void *out, size_t n) {
    if (n) memcpy(out, x, n * sizeof *x);
}

static void dequantise_f32(const void *in, float *x, size_t n) {
    if (n) memcpy(x, in, n * sizeof *x);
}

static void quantise_f16(const float *x, void *out, size_t n) {
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

static void quantise_bf16(const float *x, void *out, size_t n) {
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

static void quantise_q8_0(const float *x, void *out, size_t n) {
    block_q8_0 *b = out;
    float v[SMALL];
    for (size_t i = 0; i < n; i += SMALL, b++) {
        float d = fabsf(limited(x + i, SMALL, F16_LARGEST * 127, v)) / 127;
        /* The quotient takes the scale before it is rounded; one that rounds to zero leaves
         * nothing to tell apart. */
        float inverse = put_f16(b->d, d) > 0 ? 1 / d : 0;
        for (int k = 0; k < SMALL; k++) b->q[k] = (int8_t)nearest(v[k] * inverse, -127, 127);
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

static void quantise_q4_0(const float *x, void *out, size_t n) {
    block_q4_0 *b = out;
    float v[SMALL];
    for (size_t i = 0; i < n; i += SMALL, b++) {
        /* The largest becomes -8, the one value without a counterpart, whatever its sign. */
        float d = limited(x + i, SMALL, F16_LARGEST * 8, v) / -8;
        float inverse = put_f16(b->d, d) != 0 ? 1 / d : 0;
        for (int k = 0; k < SMALL / 2; k++) {
            int low = (int)fminf(v[k] * inverse + 8.5f, 15);
            int high = (int)fminf(v[k + SMALL / 2] * inverse + 8.5f, 15);
            b->q[k] = (uint8_t)(low | high << 4);
        }
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

/* Scales and minima of the 8 groups, 6 bits each: the first four of both lie in the low bits of
 * bytes 0..7; of the last four, 4 bits lie in bytes 8..11 and 2 bits on top of bytes 0..7. */
static void unpack_scales(const uint8_t *p, uint8_t scale[GROUPS], uint8_t minimum[GROUPS]) {
    for (int j = 0; j < 4; j++) {
        scale[j] = p[j] & 63;
        minimum[j] = p[j + 4] & 63;
        scale[j + 4] = (uint8_t)((p[j + 8] & 15) | (p[j] >> 6) << 4);
        minimum[j + 4] = (uint8_t)(p[j + 8] >> 4 | (p[j + 4] >> 6) << 4);
    }
}

static void pack_scales(uint8_t *p, const uint8_t scale[GROUPS], const uint8_t minimum[GROUPS]) {
    for (int j = 0; j < 4; j++) {
        p[j] = (uint8_t)(scale[j] | (scale[j + 4] >> 4) << 6);
        p[j + 4] = (uint8_t)(minimum[j] | (minimum[j + 4] >> 4) << 6);
        p[j + 8] = (uint8_t)((scale[j + 4] & 15) | (minimum[j + 4] & 15) << 4);
    }
}

/* x is about scale * q - minimum, both >= 0. */
typedef struct line {
    float scale, minimum;
} line;

/* A group to fit lines to. */
typedef struct group {
    const float *x;
    float low, range;
    float weight[GROUP]; /* errors of large numbers count more */
    float w, wx;         /* sums of weight and of weight * x */
} group;

static void group_begin(group *g, const float *x) {
    float low = 0, high = x[0], spread = sqrtf(dot(x, x, GROUP) / GROUP);
    g->w = 0;
    for (int i = 0; i < GROUP; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
        g->weight[i] = spread + fabsf(x[i]);
        g->w += g->weight[i];
    }
    g->x = x;
    g->low = low;
    g->range = high - low;
    g->wx = dot(g->weight, x, GROUP);
}

/* The q next to (x - low) * inverse, which is never negative. */
static void group_round(const group *g, float inverse, float top, float *q) {
    for (int i = 0; i < GROUP; i++) {
        float v = (float)(int)((g->x[i] - g->low) * inverse + 0.5f);
        q[i] = v < top ? v : top;
    }
}

static float line_error(line f, const group *g, const float *q) {
    float error[GROUP], weighted[GROUP];
    for (int i = 0; i < GROUP; i++) {
        error[i] = f.scale * q[i] - f.minimum - g->x[i];
        weighted[i] = g->weight[i] * error[i];
    }
    return dot(weighted, error, GROUP);
}

/* Least squares for fixed q; false when all q are the same. */
static bool line_solve(line *f, const group *g, const float *q) {
    float weighted[GROUP];
    for (int i = 0; i < GROUP; i++) weighted[i] = g->weight[i] * q[i];
    float wq = dot(g->weight, q, GROUP), wqq = dot(weighted, q, GROUP);
    float wxq = dot(weighted, g->x, GROUP), determinant = g->w * wqq - wq * wq;
    if (!(determinant > 0)) return false;
    f->scale = (g->w * wxq - g->wx * wq) / determinant;
    f->minimum = (wq * wxq - wqq * g->wx) / determinant;
    if (f->minimum < 0) { /* no block can say that: the best line through zero */
        f->minimum = 0;
        f->scale = wxq / wqq;
    }
    return f->scale > 0;
}

/* The line that loses least: starting points a little apart from the plain min-max line lead to
 * different roundings, each of which has its own best line. `top` is the largest q. */
static line line_fit(const float *x, float top) {
    group g;
    float q[GROUP];
    group_begin(&g, x);
    /* Far below the smallest scale a block can hold: spares the divisions below. */
    if (!(g.range > 1e-20f)) return (line){0, -g.low};
    line best = {g.range / top, -g.low};
    group_round(&g, top / g.range, top, q);
    float least = line_error(best, &g, q);
    for (int step = 0; step <= 20; step++) {
        line f;
        group_round(&g, (top - 1 + 0.1f * (float)step) / g.range, top, q);
        if (!line_solve(&f, &g, q)) continue;
        float error = line_error(f, &g, q);
        if (error < least) {
            best = f;
            least = error;
        }
    }
    return best;
}

/* Quantise the lines themselves to 6 bits under two f16 scales, and say what readers will see. */
static void put_lines(block_q4_k *b, line lines[GROUPS]) {
    float scale_top = 0, minimum_top = 0;
    uint8_t scale[GROUPS], minimum[GROUPS];
    for (int g = 0; g < GROUPS; g++) {
        scale_top = fmaxf(scale_top, lines[g].scale);
        minimum_top = fmaxf(minimum_top, lines[g].minimum);
    }
    float d = put_f16(b->d, scale_top / 63), m = put_f16(b->m, minimum_top / 63);
    for (int g = 0; g < GROUPS; g++) {
        scale[g] = (uint8_t)(d > 0 ? nearest(lines[g].scale * (63 / scale_top), 0, 63) : 0);
        minimum[g] = (uint8_t)(m > 0 ? nearest(lines[g].minimum * (63 / minimum_top), 0, 63) : 0);
        lines[g] = (line){d * (float)scale[g], m * (float)minimum[g]};
    }
    pack_scales(b->scales, scale, minimum);
}

static void quantise_q4_k(const float *x, void *out, size_t n) {
    block_q4_k *b = out;
    float v[LARGE];
    line lines[GROUPS];
    uint8_t q[LARGE];
    for (size_t i = 0; i < n; i += LARGE, b++) {
        limited(x + i, LARGE, F16_LARGEST * 63, v);
        for (int g = 0; g < GROUPS; g++) lines[g] = line_fit(v + g * GROUP, 15);
        put_lines(b, lines);
        for (int k = 0; k < LARGE; k++) {
            line f = lines[k / GROUP];
            q[k] = (uint8_t)(f.scale > 0 ? nearest((v[k] + f.minimum) / f.scale, 0, 15) : 0);
        }
        for (int g = 0; g < GROUPS; g += 2) /* two groups share 32 bytes: low halves, high halves */
            for (int k = 0; k < GROUP; k++)
                b->q[g / 2 * GROUP + k] = (uint8_t)(q[g * GROUP + k] | q[(g + 1) * GROUP + k] << 4);
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

/* The scale for which scale * q, q in -32..31, loses least, with errors weighted by x * x. For
 * fixed q the best scale is sum(w x q) / sum(w q q), and the larger sum(w x q)^2 / sum(w q q), the
 * less is lost. */
static float fine_scale(const float *x) {
    float largest = 0, gain = 0, best = 0, r[FINE], w[FINE], wr[FINE], q[FINE], wq[FINE];
    for (int i = 0; i < FINE; i++)
        if (fabsf(x[i]) > fabsf(largest)) largest = x[i];
    if (!(fabsf(largest) > 1e-15f)) return 0; /* far below the smallest scale */
    for (int i = 0; i < FINE; i++) { /* relative numbers: powers of plain ones may overflow */
        r[i] = x[i] / largest;
        w[i] = r[i] * r[i];
        wr[i] = w[i] * r[i];
    }
    for (int step = -9; step <= 9; step++) {
        float steps = -(32 + 0.1f * (float)step);
        for (int i = 0; i < FINE; i++) {
            float v = r[i] * steps;
            v = (float)(int)(v < 0 ? v - 0.5f : v + 0.5f);
            v = v > -32 ? v : -32;
            q[i] = v < 31 ? v : 31;
            wq[i] = w[i] * q[i];
        }
        float wrq = dot(wr, q, FINE), wqq = dot(wq, q, FINE);
        if (wqq > 0 && wrq * wrq > gain * wqq) {
            gain = wrq * wrq / wqq;
            best = largest * (wrq / wqq);
        }
    }
    return best;
}

static void put_q6_k(block_q6_k *b, const uint8_t q[LARGE]) {
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

static void quantise_q6_k(const float *x, void *out, size_t n) {
    block_q6_k *b = out;
    float v[LARGE], scales[FINE_GROUPS];
    uint8_t q[LARGE];
    for (size_t i = 0; i < n; i += LARGE, b++) {
        limited(x + i, LARGE, F16_LARGEST * 128 * 31, v);
        float largest = 0;
        for (int g = 0; g < FINE_GROUPS; g++) {
            scales[g] = fine_scale(v + g * FINE);
            if (fabsf(scales[g]) > fabsf(largest)) largest = scales[g];
        }
        /* The largest scale becomes -128, as the largest number of Q4_0 becomes -8. */
        float d = put_f16(b->d, fmaxf(largest / -128, -F16_LARGEST));
        for (int g = 0; g < FINE_GROUPS; g++) {
            b->scales[g] = (int8_t)(d != 0 ? nearest(scales[g] * (-128 / largest), -128, 127) : 0);
            float scale = d * (float)b->scales[g];
            for (int k = g * FINE; k < (g + 1) * FINE; k++)
                q[k] = (uint8_t)(32 + (scale != 0 ? nearest(v[k] / scale, -32, 31) : 0));
        }
        put_q6_k(b, q);
    }
}

/* Group g of 16: of each half of a block, groups 0..3 and 4..7 have their low bits in the lower and
 * upper halves of the same 64 bytes; their upper bits lie at 0, 2, 4, 6 of the same 32 bytes. */
static void dequantise_q6_k(const void *restrict in, float *restrict x, size_t n) {
    const block_q6_k *b = in;
    for (size_t i = 0; i < n; i += LARGE, b++) {
        float d = get_f16(b->d);
        for (int g = 0; g < FINE_GROUPS; g++) {
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

/* ---- the table ----------------------------------------------------------------------------- */

static const mo_quant formats[] = {
    {MO_F32, "f32", quantise_f32, dequantise_f32},
    {MO_F16, "f16", quantise_f16, dequantise_f16},
    {MO_BF16, "bf16", quantise_bf16, dequantise_bf16},
    {MO_Q8_0, "q8_0", quantise_q8_0, dequantise_q8_0},
    {MO_Q4_0, "q4_0", quantise_q4_0, dequantise_q4_0},
    {MO_Q4_K, "q4_K", quantise_q4_k, dequantise_q4_k},
    {MO_Q5_K, "q5_K", NULL, dequantise_q5_k},
    {MO_Q6_K, "q6_K", quantise_q6_k, dequantise_q6_k},
};

const mo_quant *mo_quant_at(size_t i) {
    return i < sizeof formats / sizeof *formats ? &formats[i] : NULL;
}

const mo_quant *mo_quant_of(mo_dtype dtype) {
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (formats[i].dtype == dtype) return &formats[i];
    return NULL;
}

const mo_quant *mo_quant_find(const char *name) {
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcasecmp(formats[i].name, name) == 0) return &formats[i];
    return NULL;
}

float mo_quant_dot(const mo_quant *q, const void *row, const float *x, size_t n) {
    float v[LARGE];
    double sum = 0;
    for (size_t i = 0; i < n; i += LARGE) {
        size_t some = n - i < LARGE ? n - i : LARGE;
        q->dequantise((const uint8_t *)row + mo_dtype_row_bytes(q->dtype, i), v, some);
        for (size_t k = 0; k < some; k++) sum += (double)v[k] * (double)x[i + k];
    }
    return (float)sum;
}
