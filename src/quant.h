/* quant.h - the number formats weights come in: one row per format, blocks byte for byte as ggml
 * lays them out.
 *
 *   Q8_0  32 numbers: f16 d, 32 int8 q                            d * q
 *   Q4_0  32 numbers: f16 d, 16 bytes q, low halves first         d * (q - 8)
 *   Q4_K  256 numbers in 8 groups: f16 d, f16 m, 8 six-bit scales and minima, 128 bytes q
 *                                                                 d * scale * q - m * minimum
 *   Q5_K  the same with a fifth bit of every q in 32 more bytes
 *   Q6_K  256 numbers in 16 groups: 128 bytes of low halves, 64 of upper two bits, 16 int8 scales,
 *         f16 d                                                   d * scale * (q - 32)
 *
 * Blocks may lie at any address. Sizes: mo_dtype_block(), mo_dtype_row_bytes(). */
#ifndef MO_QUANT_H
#define MO_QUANT_H

#include "checkpoint.h"

/* Counts are whole blocks; in and out do not overlap. Quantising takes any numbers: those outside a
 * format's range become its largest, a NaN its lowest, and nothing it writes reads back as NaN or
 * infinite; formats without blocks keep both as they are. */
typedef struct mo_quant {
    mo_dtype dtype;
    const char *name;                                      /* as people write it: "q4_K" */
    void (*quantise)(const float *x, void *out, size_t n); /* NULL: read only */
    void (*dequantise)(const void *in, float *x, size_t n);
} mo_quant;

/* NULL for integers, which are no weights, and for unknown names. Capitals do not matter. */
const mo_quant *mo_quant_of(mo_dtype dtype);
const mo_quant *mo_quant_find(const char *name);
/* Every format in order; NULL at the end. */
const mo_quant *mo_quant_at(size_t i);

/* The rows above are compiled for any processor of this architecture. Sets do the same, to the last
 * bit, with more of what the machine has. */
typedef struct mo_quant_set {
    const char *name; /* "plain", "avx2", "avx512" */
    const mo_quant *rows;
    size_t n_rows;
    /* n numbers of `bits` (1, 2, 4 or 8) each, whole bytes, low bits first: scale * q + bias. */
    void (*unpack_group)(const uint8_t *in, int bits, float scale, float bias, float *x, size_t n);
    void (*unpack_row)(const int8_t *in, float absmax, float *x, size_t n); /* q * absmax / 127 */
    /* The bits of all magnitudes or-ed (0: all are zero), and whether one is NaN or infinite. */
    void (*scan)(const float *x, size_t n, uint32_t *bits, bool *special);
} mo_quant_set;

/* Sets that this build has and this machine can run, the plain one first, the fastest last; NULL
 * at the end. Asks the processor, which takes microseconds: keep what it returns. */
const mo_quant_set *mo_quant_set_at(size_t i);
const mo_quant_set *mo_quant_set_fast(void); /* the last of them */
/* As mo_quant_of(), of a set. */
const mo_quant *mo_quant_row(const mo_quant_set *set, mo_dtype dtype);

/* Sets as built: NULL where the file was compiled without its instruction set. */
const mo_quant_set *mo_quant_set_plain(void);
const mo_quant_set *mo_quant_set_avx2(void);
const mo_quant_set *mo_quant_set_avx512(void);

/* 32 numbers of a row in parts, for code that computes on them as they are. */
typedef struct mo_quant_group {
    uint8_t q[32];   /* as stored: Q8_0 signed bytes, the others from 0 up */
    uint16_t d, m;   /* f16 bits; m: Q4_K */
    int8_t scale[2]; /* Q4_K: one; Q6_K: of either half */
    uint8_t minimum; /* Q4_K */
} mo_quant_group;

/* Group i of a row of Q8_0, Q4_0, Q4_K or Q6_K. */
void mo_quant_group_at(mo_dtype dtype, const void *row, size_t i, mo_quant_group *out);

/* Are all numbers of n / block size blocks finite? Looks at their scales only. */
bool mo_quant_finite(mo_dtype dtype, const void *blocks, size_t n);

/* Sum of row[i] * x[i] in double precision: what fast paths are compared with. */
float mo_quant_dot(const mo_quant *q, const void *row, const float *x, size_t n);

#endif
