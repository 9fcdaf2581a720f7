/* quant_parts.c - blocks taken apart, for code that computes on quantised numbers as they are. */
#include "quant_blocks.h"

#include <string.h>

static uint16_t f16_bits(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}

static void group_of_q4_0(const block_q4_0 *b, mo_quant_group *out) {
    out->d = f16_bits(b->d);
    for (int k = 0; k < SMALL / 2; k++) {
        out->q[k] = b->q[k] & 15;
        out->q[k + SMALL / 2] = b->q[k] >> 4;
    }
}

static void group_of_q4_k(const block_q4_k *b, int g, mo_quant_group *out) {
    uint8_t scale[GROUPS], minimum[GROUPS];
    const uint8_t *q = b->q + g / 2 * GROUP;
    unpack_scales(b->scales, scale, minimum);
    out->d = f16_bits(b->d);
    out->m = f16_bits(b->m);
    out->scale[0] = (int8_t)scale[g];
    out->minimum = minimum[g];
    if (g % 2)
        for (int k = 0; k < GROUP; k++) out->q[k] = q[k] >> 4;
    else
        for (int k = 0; k < GROUP; k++) out->q[k] = q[k] & 15;
}

/* Groups 2 g and 2 g + 1 of the 16: see dequantise_q6_k. */
static void group_of_q6_k(const block_q6_k *b, int g, mo_quant_group *out) {
    const uint8_t *low = b->low + g / 4 * 64 + g % 2 * 32, *high = b->high + g / 4 * 32;
    int low_at = g % 4 / 2 * 4, high_at = g % 4 * 2;
    out->d = f16_bits(b->d);
    out->scale[0] = b->scales[2 * g];
    out->scale[1] = b->scales[2 * g + 1];
    for (int k = 0; k < 32; k++)
        out->q[k] = (uint8_t)((low[k] >> low_at & 15) | (high[k] >> high_at & 3) << 4);
}

void mo_quant_group_at(mo_dtype dtype, const void *row, size_t i, mo_quant_group *out) {
    if (dtype == MO_Q8_0) {
        const block_q8_0 *b = (const block_q8_0 *)row + i;
        out->d = f16_bits(b->d);
        memcpy(out->q, b->q, SMALL);
    } else if (dtype == MO_Q4_0) {
        group_of_q4_0((const block_q4_0 *)row + i, out);
    } else if (dtype == MO_Q4_K) {
        group_of_q4_k((const block_q4_k *)row + i / GROUPS, (int)(i % GROUPS), out);
    } else {
        group_of_q6_k((const block_q6_k *)row + i / GROUPS, (int)(i % GROUPS), out);
    }
}

/* A scale that is not finite makes NaN even of zeros; finite ones cannot overflow a float32. */
static bool finite_f16(const uint8_t *p) {
    return (f16_bits(p) & 0x7C00) != 0x7C00;
}

bool mo_quant_finite(mo_dtype dtype, const void *blocks, size_t n) {
    const uint8_t *p = blocks;
    size_t size = (size_t)mo_dtype_row_bytes(dtype, mo_dtype_block(dtype));
    size_t d = dtype == MO_Q6_K ? offsetof(block_q6_k, d) : 0;
    size_t m = dtype == MO_Q4_K || dtype == MO_Q5_K ? offsetof(block_q4_k, m) : d;
    bool ok = true;
    for (n /= mo_dtype_block(dtype); n > 0; n--, p += size)
        ok &= finite_f16(p + d) && finite_f16(p + m);
    return ok;
}
