/* packed.h - a matrix as checkpoints store it: plain floats, ggml blocks, MLX groups with scales
 * and biases, or int8 with one scale per row; read row by row as float32. */
#ifndef MO_PACKED_H
#define MO_PACKED_H

#include "quant.h"

typedef enum mo_packing {
    MO_PACKED_FLOAT,  /* F32, F16, BF16 */
    MO_PACKED_BLOCKS, /* Q8_0, Q4_0, Q4_K, Q5_K, Q6_K */
    MO_PACKED_GROUPS, /* MLX: U32 words of `bits`-wide numbers; w = scale * q + bias per group */
    MO_PACKED_ROWS    /* int8; w = q * scb / 127 per row */
} mo_packing;

typedef struct mo_packed {
    mo_packing packing;
    const mo_tensor_view *t, *scales, *biases;
    int64_t rows, cols;
    int bits;                /* GROUPS */
    int64_t group;           /* GROUPS: columns per scale */
    const mo_quant_set *set; /* what unpacks: the plain one unless chosen */
    const mo_quant *quant;   /* FLOAT, BLOCKS */
} mo_packed;

/* Do numbers of this type need unpacking? */
bool mo_dtype_is_packed(mo_dtype dtype);

/* Find out how the matrix `name` ([rows, cols] when unpacked) is stored and check every part of it.
 * `t` is its main tensor. MOSHI_EMODEL with wanted and found when something does not fit. */
int mo_packed_open(mo_packed *out, const mo_checkpoint *ck, const mo_tensor_view *t, int64_t rows,
                   int64_t cols, moshi_error *err);
/* A tensor without companions (mo_quant_of() knows its type), of any shape, as that many rows of
 * whole blocks. */
void mo_packed_flat(mo_packed *out, const mo_tensor_view *t, int64_t rows, int64_t cols);
/* Unpack with other instructions. */
void mo_packed_use(mo_packed *p, const mo_quant_set *set);
/* Rows first .. first + n - 1 as float32 [n, cols]. Any number of threads may read. */
void mo_packed_read(const mo_packed *p, int64_t first, int64_t n, float *out);

#endif
