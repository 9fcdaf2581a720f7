/* qkernels.c - the plain C reference of products of quantised numbers, and the choice of a level.
 */
#include "qkernels.h"

#include "qcommon.h"

#include <math.h>

/* ---- one block of one row ------------------------------------------------------------------ */

static float f16_at(const uint8_t *p, int r) {
    uint16_t h;
    memcpy(&h, p + 2 * r, sizeof h);
    return mo_f16_to_f32(h);
}

static float bf16_at(const uint8_t *p, int r) {
    uint16_t h;
    memcpy(&h, p + 2 * r, sizeof h);
    return mo_bf16_to_f32(h);
}

static float f32_at(const uint8_t *p, int r) {
    float f;
    memcpy(&f, p + 4 * r, sizeof f);
    return f;
}

/* Number k of row r of a block, without its zero point. */
static int number_at(mo_qform form, const uint8_t *p, int r, int k) {
    size_t numbers = mo_q_numbers(form), byte = (size_t)(k / 4 * 64 + 4 * r + k % 4);
    if (numbers == 512) return p[byte];
    int half = k < 16 ? p[byte] & 15 : p[byte - 256] >> 4;
    if (numbers == 256) return half;
    int upper = p[256 + k / 16 * 64 + 4 * r + k % 4] >> (2 * (k / 4 % 4)) & 3;
    return half | upper << 4;
}

/* sum(w q) over numbers k0 .. k1-1. */
static float dot(mo_qform form, const uint8_t *p, int r, const q_block *x, int k0, int k1) {
    int sum = 0;
    for (int k = k0; k < k1; k++) sum += (number_at(form, p, r, k) - q_zero_of(form)) * x->q[k];
    return (float)sum;
}

/* One block of row r: `group` and `block` are heads, `p` the numbers. */
static float block_add(mo_qform form, const uint8_t *group, const uint8_t *block, const uint8_t *p,
                       int r, const q_block *x, float acc) {
    const bool wide = form == MO_QFORM_GROUPS4_WIDE || form == MO_QFORM_GROUPS8_WIDE;
    switch (form) {
    case MO_QFORM_Q8:
    case MO_QFORM_Q4:
        return fmaf(dot(form, p, r, x, 0, 32), f16_at(group, r) * *x->d, acc);
    case MO_QFORM_Q4_K:
        acc = fmaf(dot(form, p, r, x, 0, 32), (f16_at(group, r) * (float)block[r]) * *x->d, acc);
        return fmaf(f16_at(group + 32, r) * (float)block[16 + r], -*x->d_sum, acc);
    case MO_QFORM_Q6_K:
        for (int half = 0; half < 2; half++) {
            float scale = f16_at(group, r) * (float)(int8_t)block[16 * half + r];
            acc = fmaf(dot(form, p, r, x, 16 * half, 16 * half + 16), scale * *x->d, acc);
        }
        return acc;
    case MO_QFORM_ROWS8:
        return fmaf(dot(form, p, r, x, 0, 32), *x->d, acc);
    default:
        acc = fmaf(dot(form, p, r, x, 0, 32), (wide ? f32_at(group, r) : bf16_at(group, r)) * *x->d,
                   acc);
        return fmaf(wide ? f32_at(group + 64, r) : bf16_at(group + 32, r), *x->d_sum, acc);
    }
}

/* ---- the op -------------------------------------------------------------------------------- */

static void strip_sums(const mo_qlinear_job *q, int m, int strip, float sums[MO_STRIP]) {
    const mo_qform form = q->shape.form;
    const size_t block_head = mo_q_block_head(form), numbers = mo_q_numbers(form);
    const uint8_t *w = (const uint8_t *)q->job.w + (size_t)strip * q->shape.strip_bytes;
    const uint8_t *first = w, *group = w;
    uint8_t *record = q->records + (size_t)m * mo_q_record_bytes(q->shape.blocks);
    for (int r = 0; r < MO_STRIP; r++) sums[r] = 0;
    for (size_t b = 0; b < q->shape.blocks; b++) {
        if (b % q->shape.group_blocks == 0) {
            group = w;
            w += mo_q_group_head(form);
        }
        q_block x = q_block_at(record, q->shape.blocks, b);
        for (int r = 0; r < MO_STRIP; r++)
            sums[r] = block_add(form, group, w, w + block_head, r, &x, sums[r]);
        w += block_head + numbers;
    }
    for (int r = 0; form == MO_QFORM_ROWS8 && r < MO_STRIP; r++)
        sums[r] = sums[r] * f32_at(first, r);
}

static void linear_c(const mo_qlinear_job *q, int row0, int row1, int strip0, int strip1) {
    const mo_linear_job *job = &q->job;
    float sums[MO_STRIP];
    for (int m = row0; m < row1; m++) {
        size_t slot = (size_t)job->active[m / job->rows], row = (size_t)(m % job->rows);
        float *out = job->out.data + slot * job->out.slot + row * job->out.row;
        const float *add = job->add.data;
        if (add) add += slot * job->add.slot + row * job->add.row;
        for (int strip = strip0; strip < strip1; strip++) {
            strip_sums(q, m, strip, sums);
            finish_strip(job, sums, strip, add, out);
        }
    }
}

/* ---- levels -------------------------------------------------------------------------------- */

static const mo_qkernels kernels_c = {quantise_all, linear_c};

const mo_qkernels *mo_qkernels_get(mo_cpu_level level) {
    if (!mo_kernels_get(level)) return NULL;
    switch (level) {
    case MO_CPU_LEVEL_NEON:
        return mo_qkernels_neon();
    case MO_CPU_LEVEL_NEON_DOT:
        return mo_qkernels_neon_dot();
    case MO_CPU_LEVEL_NEON_I8MM:
        return mo_qkernels_neon_i8mm();
    case MO_CPU_LEVEL_AVX2:
    case MO_CPU_LEVEL_AVX512: /* without VNNI longer vectors gain little where memory is waited for
                               */
        return mo_qkernels_avx2();
    case MO_CPU_LEVEL_AVX2_VNNI:
        return mo_qkernels_avx2_vnni();
    case MO_CPU_LEVEL_AVX512_VNNI:
        return mo_qkernels_avx512_vnni();
    case MO_CPU_LEVEL_AMX:
    case MO_CPU_LEVEL_AMX_BF16:
        return mo_qkernels_amx();
    case MO_CPU_LEVEL_AUTO:
        return mo_qkernels_get(mo_cpu_level_best());
    default:
        return &kernels_c;
    }
}
