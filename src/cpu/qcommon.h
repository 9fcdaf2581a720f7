/* qcommon.h - what products of quantised numbers share on every level, in plain C: activations to
 * whole numbers (loops of fixed length over 32 numbers are what compilers turn into vectors by
 * themselves) and what follows the sums. */
#ifndef MO_CPU_QCOMMON_H
#define MO_CPU_QCOMMON_H

#include "inline.h"
#include "qkernels.h"

#include <string.h>

#ifdef __AVX512VNNI__
#include <immintrin.h>
#endif

#define Q_TOP_LEAST 0x1p-100f

/* How whole numbers lie in a block, and the zero point that is taken off them. */
typedef enum q_kind { Q_BYTES, Q_HALVES, Q_SIXES } q_kind;

static inline q_kind q_kind_of(mo_qform form) {
    size_t bytes = mo_q_numbers(form);
    return bytes == 512 ? Q_BYTES : bytes == 256 ? Q_HALVES : Q_SIXES;
}
static inline int q_zero_of(mo_qform form) {
    switch (form) {
    case MO_QFORM_Q8:
    case MO_QFORM_ROWS8:
        return 128;
    case MO_QFORM_Q4:
        return 8;
    case MO_QFORM_Q6_K:
        return 32;
    default:
        return 0;
    }
}

/* Where the parts of block b of a record go. */
typedef struct q_block {
    int8_t *q;
    float *d, *d_sum;
    int32_t *sum, *half;
} q_block;

static inline q_block q_block_at(uint8_t *record, size_t blocks, size_t b) {
    float *steps = mo_q_steps(record, blocks);
    int32_t *sums = (int32_t *)(void *)(steps + 2 * blocks);
    return (q_block){(int8_t *)record + b * MO_BLOCK, steps + b, steps + blocks + b, sums + b,
                     sums + blocks + b};
}

/* Numbers of a block from x * inverse, and their sums. */
static inline void round_block(const float *restrict x, float inverse, q_block out, float d) {
#ifdef __AVX512VNNI__
    const __m512 round = _mm512_set1_ps(MO_EXP_ROUND), factor = _mm512_set1_ps(inverse);
    __m512 a = _mm512_add_ps(_mm512_mul_ps(_mm512_loadu_ps(x), factor), round);
    __m512 b = _mm512_add_ps(_mm512_mul_ps(_mm512_loadu_ps(x + 16), factor), round);
    __m128i low = _mm512_cvtepi32_epi8(_mm512_castps_si512(a));
    __m128i high = _mm512_cvtepi32_epi8(_mm512_castps_si512(b));
    __m256i q = _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
    _mm256_storeu_si256((__m256i *)(void *)out.q, q);
    __m256i sums = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), q);
    sums = _mm256_hadd_epi32(sums, sums);
    sums = _mm256_hadd_epi32(sums, sums);
    int32_t half = _mm256_cvtsi256_si32(sums);
    int32_t sum = half + _mm_cvtsi128_si32(_mm256_extracti128_si256(sums, 1));
#else
    int32_t q[MO_BLOCK], sum = 0, half = 0;
    for (int i = 0; i < MO_BLOCK; i++) { /* the sum leaves the nearest whole number in low bits */
        float t = x[i] * inverse + MO_EXP_ROUND;
        memcpy(&q[i], &t, sizeof q[i]);
        q[i] -= 0x4B400000;
    }
    for (int i = 0; i < MO_BLOCK; i++) out.q[i] = (int8_t)q[i];
    for (int i = 0; i < MO_BLOCK / 2; i++) half += q[i];
    for (int i = MO_BLOCK / 2; i < MO_BLOCK; i++) sum += q[i];
    sum += half;
#endif
    *out.d = d;
    *out.d_sum = d * (float)sum;
    *out.sum = sum;
    *out.half = half;
}

/* Bits of the largest magnitude: they order like magnitudes, NaN above all. */
static inline int32_t top_bits_of(const float *x) {
#ifdef __AVX512VNNI__
    const __m512i most = _mm512_set1_epi32(0x7FFFFFFF);
    __m512i a = _mm512_and_si512(_mm512_loadu_si512(x), most);
    return _mm512_reduce_max_epi32(
        _mm512_max_epi32(a, _mm512_and_si512(_mm512_loadu_si512(x + 16), most)));
#else
    int32_t bits[MO_BLOCK], top = 0;
    memcpy(bits, x, sizeof bits);
    for (int i = 0; i < MO_BLOCK; i++) {
        int32_t magnitude = bits[i] & 0x7FFFFFFF;
        top = magnitude > top ? magnitude : top;
    }
    return top;
#endif
}

/* mo_op_linear in backend.h says what comes out. */
static inline void quantise_block(const float *restrict x, q_block out) {
    const int32_t top_bits = top_bits_of(x);
    float top;
    memcpy(&top, &top_bits, sizeof top);
    bool finite = top_bits < 0x7F800000, any = finite && top >= Q_TOP_LEAST;
    if (any) {
        round_block(x, 127.0f / top, out, top / 127.0f);
        return;
    }
    const uint32_t nan = 0x7FC00000;
    float f = 0;
    if (!finite) memcpy(&f, &nan, sizeof f);
    memset(out.q, 0, MO_BLOCK);
    *out.d = *out.d_sum = f;
    *out.sum = *out.half = 0;
}

/* n inputs of a row from `first` on, wherever its taps lie. */
static inline void gather(const mo_linear_job *job, const float *in, size_t first, size_t n,
                          float *out) {
    for (size_t i = 0; i < n;) {
        size_t segment = (first + i) / job->run, at = (first + i) % job->run;
        size_t some = job->run - at < n - i ? job->run - at : n - i;
        memcpy(out + i, in + segment * job->run_step + at, some * sizeof *out);
        i += some;
    }
}

/* The inputs of row m of the batch. */
static inline const float *inputs_of(const mo_qlinear_job *q, int m) {
    const mo_linear_job *job = &q->job;
    return job->in.data + (size_t)job->active[m / job->rows] * job->in.slot +
           (size_t)(m % job->rows) * job->in.row;
}

/* Block b of a row. */
static inline void quantise_one(const mo_linear_job *job, const float *in, size_t b, q_block out) {
    const size_t first = b * MO_BLOCK, left = job->k - first;
    if (job->segments == 1 && left >= MO_BLOCK) {
        quantise_block(in + first, out);
        return;
    }
    float x[MO_BLOCK] = {0};
    gather(job, in, first, left < MO_BLOCK ? left : MO_BLOCK, x);
    quantise_block(x, out);
}

static inline void quantise_records(const mo_qlinear_job *q, int row0, int row1, int block0,
                                    int block1) {
    const size_t blocks = q->shape.blocks;
    for (int m = row0; m < row1; m++) {
        uint8_t *record = q->records + (size_t)m * mo_q_record_bytes(blocks);
        const float *in = inputs_of(q, m);
        for (size_t b = (size_t)block0; b < (size_t)block1; b++)
            quantise_one(&q->job, in, b, q_block_at(record, blocks, b));
    }
}

static inline void quantise_all(const mo_qlinear_job *q, int block0, int block1) {
    quantise_records(q, 0, q->batch, block0, block1);
}

/* What follows the sum of products: 16 outputs of one row, the last strip has fewer. */
static inline void finish_strip(const mo_linear_job *job, const float *sums, int strip,
                                const float *add, float *out) {
    float t[MO_STRIP], other[MO_STRIP] = {0};
    int first = strip * MO_STRIP;
    size_t lanes = job->n - first < MO_STRIP ? (size_t)(job->n - first) : MO_STRIP;
    memcpy(t, sums, sizeof t);
    if (job->bias) {
        memcpy(other, job->bias + first, lanes * sizeof *other);
        for (int j = 0; j < MO_STRIP; j++) t[j] = t[j] + other[j];
    }
    if (job->scale) {
        memcpy(other, job->scale + first, lanes * sizeof *other);
        for (int j = 0; j < MO_STRIP; j++) t[j] = other[j] * t[j];
    }
    if (add) {
        memcpy(other, add + first, lanes * sizeof *other);
        for (int j = 0; j < MO_STRIP; j++) t[j] = other[j] + t[j];
    }
    memcpy(out + first, t, lanes * sizeof *t);
}

#endif
