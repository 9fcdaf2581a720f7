/* quant_blocks.h - the blocks of quant.h byte for byte. */
#ifndef MO_QUANT_BLOCKS_H
#define MO_QUANT_BLOCKS_H

#include "quant.h"

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
    FINE = 16    /* elements of Q6_K under one scale; 16 of them in a block */
};

/* Scales and minima of the 8 groups, 6 bits each: the first four of both lie in the low bits of
 * bytes 0..7; of the last four, 4 bits lie in bytes 8..11 and 2 bits on top of bytes 0..7. */
static inline void unpack_scales(const uint8_t *p, uint8_t scale[GROUPS], uint8_t minimum[GROUPS]) {
    for (int j = 0; j < 4; j++) {
        scale[j] = p[j] & 63;
        minimum[j] = p[j + 4] & 63;
        scale[j + 4] = (uint8_t)((p[j + 8] & 15) | (p[j] >> 6) << 4);
        minimum[j + 4] = (uint8_t)(p[j + 8] >> 4 | (p[j + 4] >> 6) << 4);
    }
}

#endif
