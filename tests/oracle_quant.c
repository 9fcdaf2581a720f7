#include "oracle_quant.h"

#include "util.h"

#include <math.h>

static float as_f16(float v) {
    return mo_f16_to_f32(mo_f32_to_f16(v));
}

/* ---- Q4_K: 8 lines scale * q - minimum ------------------------------------------------------- */

typedef struct line {
    float scale, minimum;
} line;

/* The group stretched to 0 .. 1, its weights and their sums. */
typedef struct group {
    float z[32], weight[32], low, range;
    float w, wz, wzz;
} group;

static void group_begin(group *g, const float *x) {
    float low = 0, high = x[0], squares = 0;
    for (int i = 0; i < 32; i++) {
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
        squares += x[i] * x[i];
    }
    *g = (group){.low = low, .range = high - low};
    float spread = sqrtf(squares / 32), inverse = 1 / g->range;
    for (int i = 0; i < 32; i++) {
        g->z[i] = (x[i] - low) * inverse;
        g->weight[i] = (spread + fabsf(x[i])) * inverse;
        g->w += g->weight[i];
        g->wz += g->weight[i] * g->z[i];
        g->wzz += g->weight[i] * g->z[i] * g->z[i];
    }
}

/* Weighted least squares of z on rounded z, minima kept from being negative. */
static bool group_try(const group *g, float steps, float *slope, float *start, float *loss) {
    float wq = 0, wqq = 0, wzq = 0, inverse, zero = -g->low * (1 / g->range);
    for (int i = 0; i < 32; i++) {
        float q = fminf(rintf(g->z[i] * steps), 15), weighted = g->weight[i] * q;
        wq += weighted;
        wqq += weighted * q;
        wzq += weighted * g->z[i];
    }
    float determinant = g->w * wqq - wq * wq;
    if (!(determinant > 0)) return false;
    if (wqq * g->wz - wq * wzq > zero * determinant) {
        inverse = 1 / wqq;
        *slope = (wzq - zero * wq) * inverse;
        *start = zero;
    } else {
        inverse = 1 / determinant;
        *slope = (g->w * wzq - g->wz * wq) * inverse;
        *start = (wqq * g->wz - wq * wzq) * inverse;
    }
    float a = *slope, b = *start;
    *loss = g->wzz - 2 * (a * wzq + b * g->wz) + a * a * wqq + 2 * a * b * wq + b * b * g->w;
    return a > 0;
}

static line best_line(const float *x) {
    group g;
    group_begin(&g, x);
    if (!(g.range > 1e-20f)) return (line){0, -g.low};
    float slope = 1 / 15.0f, start = 0, least = INFINITY, a, b, loss;
    for (int step = 0; step <= 10; step++)
        if (group_try(&g, 14 + 0.2f * (float)step, &a, &b, &loss) && loss < least) {
            slope = a;
            start = b;
            least = loss;
        }
    return (line){slope * g.range, fmaxf(-(g.low + start * g.range), 0)};
}

void oracle_q4_k(const float x[256], float back[256]) {
    line lines[8];
    float scales = 0, minima = 0;
    for (int g = 0; g < 8; g++) {
        lines[g] = best_line(x + 32 * g);
        scales = fmaxf(scales, lines[g].scale);
        minima = fmaxf(minima, lines[g].minimum);
    }
    float d = as_f16(scales / 63), m = as_f16(minima / 63);
    for (int g = 0; g < 8; g++) {
        float scale = d > 0 ? d * roundf(lines[g].scale * (63 / scales)) : 0;
        float minimum = m > 0 ? m * roundf(lines[g].minimum * (63 / minima)) : 0;
        for (int k = 32 * g; k < 32 * g + 32; k++) {
            float q = scale > 0 ? truncf((x[k] + minimum) * (1 / scale) + 0.5f) : 0;
            back[k] = scale * fminf(fmaxf(q, 0), 15) - minimum;
        }
    }
}

/* ---- Q6_K: 16 scales ---------------------------------------------------------------------------
 */

static float best_scale(const float *x) {
    float largest = 0, best_wrq = 0, best_wqq = 1;
    for (int i = 0; i < 16; i++)
        if (fabsf(x[i]) > fabsf(largest)) largest = x[i];
    if (!(fabsf(largest) > 1e-15f)) return 0;
    for (int step = -3; step <= 3; step++) {
        float steps = -(32 + 0.3f * (float)step), wrq = 0, wqq = 0;
        for (int i = 0; i < 16; i++) {
            float r = x[i] * (1 / largest), w = r * r;
            float q = fminf(fmaxf(rintf(r * steps), -32), 31);
            wrq += w * q * r;
            wqq += w * q * q;
        }
        if (wrq * wrq * best_wqq > best_wrq * best_wrq * wqq) {
            best_wrq = wrq;
            best_wqq = wqq;
        }
    }
    return largest * (best_wrq / best_wqq);
}

void oracle_q6_k(const float x[256], float back[256]) {
    float scales[16], largest = 0;
    for (int g = 0; g < 16; g++) {
        scales[g] = best_scale(x + 16 * g);
        if (fabsf(scales[g]) > fabsf(largest)) largest = scales[g];
    }
    float d = as_f16(largest / -128);
    for (int g = 0; g < 16; g++) {
        float scale = d != 0 ? d * fminf(roundf(scales[g] * (-128 / largest)), 127) : 0;
        for (int k = 16 * g; k < 16 * g + 16; k++) {
            float q = scale != 0 ? floorf(x[k] * (1 / scale) + 32.5f) : 32;
            back[k] = scale * (fminf(fmaxf(q, 0), 63) - 32);
        }
    }
}
