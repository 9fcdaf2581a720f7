/* qkernels.h - products of quantised weights and quantised activations: how both lie in memory, and
 * the inner loops over them, one table per instruction set.
 *
 * Weights. A strip is 16 rows; its columns go by blocks of 32, and blocks by groups that share
 * something. A strip is groups one after the other, a group is its head, then its blocks, a block
 * is its head, then its numbers:
 *
 *              group     head of the group          head of a block           numbers
 *   Q8         1 block   16 f16 d                   -                         512 bytes, q ^ 0x80
 *   Q4         1 block   16 f16 d                   -                         256
 *   Q4_K       8 blocks  16 f16 d, 16 f16 m         16 u8 scale, 16 u8 min.   256
 *   Q6_K       8 blocks  16 f16 d                   16 + 16 i8 scale          384
 *   GROUPS4/8  any       16 scales, 16 biases       -                         256 / 512
 *   ROWS8      the strip 16 f32 scale / 127         -                         512, q ^ 0x80
 *
 * Bytes: number 4 j + i of row r at 64 j + 4 r + i, so that 64 bytes are one step of a dot product
 * for 16 rows. Half bytes: number k in the lower half of byte (k % 16), number k + 16 in the upper
 * one, bytes placed as before. Q6_K: 256 bytes of such lower halves, then the upper two bits,
 * number 4 j + i of row r at bits 2 (j % 4) of byte 64 (j / 4) + 4 r + i.
 *
 * Activations. The inputs of one row of the batch are a record of whole cache lines: `blocks` times
 * 32 q, then arrays [blocks] of f32 d, f32 d * sum(q), i32 sum(q), i32 sum of the first 16 q. A
 * level may lay the records of 16 rows out otherwise: they are its own, from quantise() to
 * linear(). */
#ifndef MO_CPU_QKERNELS_H
#define MO_CPU_QKERNELS_H

#include "kernels.h"

enum { MO_BLOCK = MO_QUANT_GROUP };

typedef enum mo_qform {
    MO_QFORM_NONE, /* not quantised, or not in a way these kernels know */
    MO_QFORM_Q8,
    MO_QFORM_Q4,
    MO_QFORM_Q4_K,
    MO_QFORM_Q6_K,
    MO_QFORM_GROUPS4,
    MO_QFORM_GROUPS4_WIDE, /* f32 scales and biases; else bf16 */
    MO_QFORM_GROUPS8,
    MO_QFORM_GROUPS8_WIDE,
    MO_QFORM_ROWS8
} mo_qform;

typedef struct mo_qshape {
    mo_qform form;
    size_t blocks;       /* of 32 columns, the last one possibly filled up with zeros */
    size_t group_blocks; /* of them in a group */
    size_t strip_bytes;  /* from one to the next */
    size_t apart;        /* of them the last, which nobody reads */
} mo_qshape;

/* Sizes of heads and numbers. */
static inline size_t mo_q_group_head(mo_qform form) {
    switch (form) {
    case MO_QFORM_Q8:
    case MO_QFORM_Q4:
    case MO_QFORM_Q6_K:
        return 32;
    case MO_QFORM_GROUPS4_WIDE:
    case MO_QFORM_GROUPS8_WIDE:
        return 128;
    default:
        return 64;
    }
}
static inline size_t mo_q_block_head(mo_qform form) {
    return form == MO_QFORM_Q4_K || form == MO_QFORM_Q6_K ? 32 : 0;
}
static inline bool mo_q_has_bias(mo_qform form) {
    return form >= MO_QFORM_GROUPS4 && form <= MO_QFORM_GROUPS8_WIDE;
}
static inline size_t mo_q_numbers(mo_qform form) {
    switch (form) {
    case MO_QFORM_Q4:
    case MO_QFORM_Q4_K:
    case MO_QFORM_GROUPS4:
    case MO_QFORM_GROUPS4_WIDE:
        return 256;
    case MO_QFORM_Q6_K:
        return 384;
    default:
        return 512;
    }
}

/* Bytes of one row of activations, and where its arrays begin. Rows come in panels of 16, the last
 * of which has room for 16, too. */
enum { MO_Q_PANEL = 16 };
static inline size_t mo_q_record_bytes(size_t blocks) {
    return (blocks * (MO_BLOCK + 16) + 63) / 64 * 64;
}
static inline float *mo_q_steps(uint8_t *record, size_t blocks) {
    return (float *)(void *)(record + blocks * MO_BLOCK);
}

/* One linear op on quantised weights: job.w is strips as above, rows are as in mo_linear_job. */
typedef struct mo_qlinear_job {
    mo_linear_job job;
    mo_qshape shape;
    int batch;        /* rows of all slots that take part */
    uint8_t *records; /* [batch, rounded up to whole panels] of mo_q_record_bytes() */
} mo_qlinear_job;

typedef struct mo_qkernels {
    /* Fill blocks block0 .. block1-1 of the records of all rows of the batch. */
    void (*quantise)(const mo_qlinear_job *job, int block0, int block1);
    /* As mo_kernels.linear, from the records: see mo_op_linear. */
    void (*linear)(const mo_qlinear_job *job, int row0, int row1, int strip0, int strip1);
} mo_qkernels;

/* The table of a level; NULL exactly where mo_kernels_get() is. */
const mo_qkernels *mo_qkernels_get(mo_cpu_level level);

/* Tables as built: NULL where the file was compiled without its instruction set. */
const mo_qkernels *mo_qkernels_avx2(void);
const mo_qkernels *mo_qkernels_avx2_vnni(void);
const mo_qkernels *mo_qkernels_avx512_vnni(void);
const mo_qkernels *mo_qkernels_amx(void);
const mo_qkernels *mo_qkernels_neon(void);
const mo_qkernels *mo_qkernels_neon_dot(void);
const mo_qkernels *mo_qkernels_neon_i8mm(void);

#endif
