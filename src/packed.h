/* packed.h - a matrix as checkpoints store it: plain floats, ggml blocks, MLX groups with scales
 * and biases, or int8 with one scale per row; read row by row as float32. */
#ifndef MO_PACKED_H
#define MO_PACKED_H

#include "backend.h"
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
/* What is wrong with rows first .. first + n - 1, in words; NULL when nothing is. Numbers that are
 * not finite, or a matrix of zeros. */
const char *mo_packed_problem(const mo_packed *p, int64_t first, int64_t n);
/* The same rows as a device takes them. Scales and biases that do not lie in the file as they are
 * wanted are missing: mo_packed_scales() fills `scales` and `biases`, [n, scales_per_row] each. */
mo_matrix mo_packed_matrix(const mo_packed *p, int64_t first, int64_t n);
int64_t mo_packed_scales_per_row(const mo_packed *p);
void mo_packed_scales(const mo_packed *p, int64_t first, int64_t n, float *scales, float *biases);
/* Rows first .. first + n - 1 as float32 [n, cols]. Any number of threads may read. */
void mo_packed_read(const mo_packed *p, int64_t first, int64_t n, float *out);

#endif
