/* kernels.c - the plain C reference of every inner loop, and the choice of a level.
 *
 * Naive on purpose: one loop per sentence of the contract in kernels.h. fmaf() is the only rounding
 * trick; the build must not contract a * b + c on its own. */
#include "kernels.h"

#include "cpuid.h"
#include "digits.h"
#include "pieces.h"
#include "qkernels.h"

#include <math.h>
#include <string.h>

/* ---- scalar functions ---------------------------------------------------------------------- */

/* e^x as scale * (1 + m): *scale = 2^n, returns m = e^r - 1. MO_EXP_MIN <= x <= MO_EXP_MAX; the
 * callers' clamps are written so that NaN stays NaN. */
static float exp_parts(float x, float *scale) {
    float t = fmaf(x, MO_EXP_LOG2E, MO_EXP_ROUND);
    float n = t - MO_EXP_ROUND;
    float r = fmaf(n, -MO_EXP_LN2_HI, x);
    r = fmaf(n, -MO_EXP_LN2_LO, r);
    float q = MO_EXP_Q4;
    q = fmaf(q, r, MO_EXP_Q3);
    q = fmaf(q, r, MO_EXP_Q2);
    q = fmaf(q, r, MO_EXP_Q1);
    q = fmaf(q, r, MO_EXP_Q0);
    uint32_t bits; /* the low bits of t hold n; moved into the exponent of 1.0f they make 2^n */
    memcpy(&bits, &t, sizeof bits);
    bits = (bits << 23) + 0x3F800000u;
    memcpy(scale, &bits, sizeof bits);
    return fmaf(r * r, q, r);
}

float mo_exp(float x) {
    if (x < MO_EXP_MIN) return 0.0f;
    float scale, m = exp_parts(MO_EXP_MAX < x ? MO_EXP_MAX : x, &scale);
    return fmaf(scale, m, scale);
}

/* The parts are kept apart so that e^x - 1 loses nothing near 0. */
static float elu(float x) {
    if (x > 0.0f) return x;
    float scale, m = exp_parts(MO_EXP_MIN > x ? MO_EXP_MIN : x, &scale);
    return fmaf(scale, m, scale - 1.0f);
}

static float gelu(float x) {
    float a = fabsf(x);
    float t = 1.0f / fmaf(MO_TAIL_C, a, 1.0f);
    float p = MO_TAIL_P6;
    p = fmaf(p, t, MO_TAIL_P5);
    p = fmaf(p, t, MO_TAIL_P4);
    p = fmaf(p, t, MO_TAIL_P3);
    p = fmaf(p, t, MO_TAIL_P2);
    p = fmaf(p, t, MO_TAIL_P1);
    p = fmaf(p, t, MO_TAIL_P0);
    float tail = mo_exp((a * a) * -0.5f) * (t * p);
    return x > 0.0f ? fmaf(-x, tail, x) : x * tail;
}

static float silu(float x) {
    return x / (1.0f + mo_exp(-x));
}

/* 8+8, 4+4, 2+2, 1+1 */
static float fold(float partial[16]) {
    for (int half = 8; half > 0; half /= 2)
        for (int i = 0; i < half; i++) partial[i] = partial[i] + partial[i + half];
    return partial[0];
}

static int padded(int n) {
    return (n + 15) / 16 * 16;
}

static float dot(const float *a, const float *b, int n) {
    float partial[16] = {0};
    for (int i = 0; i < padded(n); i++)
        partial[i % 16] = fmaf(i < n ? a[i] : 0.0f, i < n ? b[i] : 0.0f, partial[i % 16]);
    return fold(partial);
}

static float sum(const float *a, int n) {
    float partial[16] = {0};
    for (int i = 0; i < padded(n); i++) partial[i % 16] = partial[i % 16] + (i < n ? a[i] : 0.0f);
    return fold(partial);
}

/* ---- linear -------------------------------------------------------------------------------- */

static float weight_at(const mo_linear_job *job, size_t i) {
    switch (job->dtype) {
    case MO_F16:
        return mo_f16_to_f32(((const uint16_t *)job->w)[i]);
    case MO_BF16:
        return mo_bf16_to_f32(((const uint16_t *)job->w)[i]);
    default:
        return ((const float *)job->w)[i];
    }
}

static size_t at(const mo_span *span, const mo_linear_job *job, int m) {
    return (size_t)job->active[m / job->rows] * span->slot + (size_t)(m % job->rows) * span->row;
}

/* All 16 outputs of a strip side by side: the weights are read in memory order and widened once. */
static void linear_strip(const mo_linear_job *job, int m, int strip) {
    const float *in = job->in.data + at(&job->in, job, m);
    size_t w = (size_t)strip * job->k * MO_STRIP;
    float acc[MO_STRIP] = {0};
    for (int s = 0; s < job->segments; s++)
        for (size_t i = 0; i < job->run; i++, w += MO_STRIP)
            for (size_t j = 0; j < MO_STRIP; j++)
                acc[j] = fmaf(weight_at(job, w + j), in[(size_t)s * job->run_step + i], acc[j]);
    int first = strip * MO_STRIP;
    for (int j = 0; j < MO_STRIP && first + j < job->n; j++) {
        int n = first + j;
        float t = acc[j];
        if (job->bias) t = t + job->bias[n];
        if (job->scale) t = job->scale[n] * t;
        if (job->add.data) t = job->add.data[at(&job->add, job, m) + (size_t)n] + t;
        job->out.data[at(&job->out, job, m) + (size_t)n] = t;
    }
}

static void linear_c(const mo_linear_job *job, int row0, int row1, int strip0, int strip1) {
    for (int m = row0; m < row1; m++)
        for (int strip = strip0; strip < strip1; strip++) linear_strip(job, m, strip);
}

/* ---- the rest ------------------------------------------------------------------------------ */

static void norm_c(mo_norm_kind kind, float eps, const float *weight, const float *bias,
                   const float *in, float *out, int cols) {
    if (kind == MO_NORM_RMS) {
        float inv = 1.0f / sqrtf(dot(in, in, cols) / (float)cols + eps);
        for (int i = 0; i < cols; i++) out[i] = (in[i] * inv) * weight[i];
        return;
    }
    float mean = sum(in, cols) / (float)cols;
    float partial[16] = {0};
    for (int i = 0; i < padded(cols); i++) {
        float d = i < cols ? in[i] - mean : 0.0f;
        partial[i % 16] = fmaf(d, d, partial[i % 16]);
    }
    float inv = 1.0f / sqrtf(fold(partial) / (float)cols + eps);
    for (int i = 0; i < cols; i++)
        out[i] = fmaf((in[i] - mean) * inv, weight[i], bias ? bias[i] : 0.0f);
}

static void act_c(mo_act act, const float *in, float *out, size_t n) {
    for (size_t i = 0; i < n; i++)
        out[i] = act == MO_ACT_ELU ? elu(in[i]) : act == MO_ACT_GELU ? gelu(in[i]) : in[i];
}

static void act_mul_c(const float *gate, const float *up, float *out, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = silu(gate[i]) * up[i];
}

static const char *kv_row(const mo_attend_job *job, const void *ring, int i) {
    size_t entry = (size_t)((job->first + i) % job->capacity);
    return (const char *)ring + entry * job->row_bytes;
}

/* Column c of a row, without the factor of an I8 row. */
static float kv_value(mo_dtype dtype, const void *row, int c) {
    switch (dtype) {
    case MO_I8:
        return (float)((const int8_t *)row + MO_KV_SCALE_BYTES)[c];
    case MO_BF16:
        return mo_bf16_to_f32(((const uint16_t *)row)[c]);
    default:
        return ((const float *)row)[c];
    }
}

static float kv_factor(const char *row) {
    float d;
    memcpy(&d, row, sizeof d);
    return d;
}

static float attend_score(const mo_attend_job *job, const char *k) {
    float partial[16] = {0};
    int hd = job->head_dim;
    for (int c = 0; c < padded(hd); c++)
        partial[c % 16] = fmaf(c < hd ? job->q[c] : 0.0f,
                               c < hd ? kv_value(job->dtype, k, c) : 0.0f, partial[c % 16]);
    float sums = fold(partial);
    return (job->dtype == MO_I8 ? sums * kv_factor(k) : sums) * job->scale;
}

static void attend_c(const mo_attend_job *job) {
    float max = -INFINITY;
    for (int i = 0; i < job->n; i++) {
        job->scores[i] = attend_score(job, kv_row(job, job->k, i));
        if (job->scores[i] > max) max = job->scores[i];
    }
    for (int i = 0; i < job->n; i++) job->scores[i] = mo_exp(job->scores[i] - max);
    float total = sum(job->scores, job->n);
    if (job->dtype == MO_I8)
        for (int i = 0; i < job->n; i++)
            job->scores[i] = job->scores[i] * kv_factor(kv_row(job, job->v, i));
    for (int c = 0; c < job->head_dim; c++) {
        float acc = 0.0f;
        for (int i = 0; i < job->n; i++)
            acc = fmaf(job->scores[i], kv_value(job->dtype, kv_row(job, job->v, i), c), acc);
        job->out[c] = acc / total;
    }
}

/* ---- shortlist ------------------------------------------------------------------------------ */

static int shortlist_c(const float *scores, const float *blur, float reach, float slack, int n,
                       int32_t *places) {
    float high = -INFINITY;
    int count = 0;
    for (int i = 0; i < n; i++) {
        float low = fmaf(-reach, blur ? blur[i] : 0.0f, scores[i]);
        if (low > high) high = low;
    }
    for (int i = 0; i < n; i++)
        if (fmaf(reach, blur ? blur[i] : 0.0f, scores[i]) >= high - slack) places[count++] = i;
    return count;
}

/* ---- levels -------------------------------------------------------------------------------- */

static const mo_kernels kernels_c = {"c",       linear_c, norm_c, act_c,
                                     act_mul_c, attend_c, NULL,   shortlist_c};

const char *mo_cpu_level_name(mo_cpu_level level) {
    static const char *const names[MO_CPU_LEVEL_COUNT] = {
        "auto",      "c",      "neon",        "neon_dot", "neon_i8mm", "avx2",
        "avx2_vnni", "avx512", "avx512_vnni", "amx",      "amx_bf16"};
    return (int)level >= 0 && level < MO_CPU_LEVEL_COUNT ? names[level] : "?";
}

mo_cpu_level mo_cpu_level_best(void) {
    mo_cpu_level best = MO_CPU_LEVEL_COUNT - 1;
    while (!mo_kernels_get(best)) best--;
    return best;
}

const mo_kernels *mo_kernels_get(mo_cpu_level level) {
    switch (level) {
    case MO_CPU_LEVEL_C:
        return &kernels_c;
    case MO_CPU_LEVEL_NEON:
        return mo_cpu_has_neon() ? mo_kernels_neon() : NULL;
    case MO_CPU_LEVEL_NEON_DOT:
        return mo_cpu_has_neon_dot() && mo_qkernels_neon_dot() ? mo_kernels_neon() : NULL;
    case MO_CPU_LEVEL_NEON_I8MM:
        return mo_cpu_has_neon_i8mm() && mo_qkernels_neon_i8mm() ? mo_kernels_neon() : NULL;
    case MO_CPU_LEVEL_AVX2:
        return mo_cpu_has_avx2() ? mo_kernels_avx2() : NULL;
    case MO_CPU_LEVEL_AVX2_VNNI:
        return mo_cpu_has_avx_vnni() && mo_qkernels_avx2_vnni() ? mo_kernels_avx2() : NULL;
    case MO_CPU_LEVEL_AVX512:
        return mo_cpu_has_avx512() ? mo_kernels_avx512() : NULL;
    case MO_CPU_LEVEL_AVX512_VNNI:
        return mo_cpu_has_avx512_vnni() && mo_qkernels_avx512_vnni() ? mo_kernels_avx512() : NULL;
    case MO_CPU_LEVEL_AMX:
        return mo_cpu_has_amx_int8() && mo_qkernels_amx() ? mo_kernels_avx512() : NULL;
    case MO_CPU_LEVEL_AMX_BF16:
        return mo_cpu_has_amx_bf16() && mo_qkernels_amx() && mo_pieces_amx() && mo_digits_amx()
                   ? mo_kernels_avx512()
                   : NULL;
    case MO_CPU_LEVEL_AUTO:
        return mo_kernels_get(mo_cpu_level_best());
    default:
        return NULL;
    }
}
