/* sparse.h - files of published sizes that take no room on disk: a true table of tensors in front
 * of gigabytes that were never written. For everything that reads sizes and no numbers. */
#ifndef MO_TESTS_SPARSE_H
#define MO_TESTS_SPARSE_H

#include "config.h"
#include "names.h"

typedef enum sparse_numbers {
    SPARSE_BF16,
    SPARSE_INT8,   /* PyTorch: I8 and weight_scb */
    SPARSE_MLX_Q4, /* U32 and scales and biases, groups of 32 */
    SPARSE_Q8_0    /* a GGUF file, as candle quantises: matrices Q8_0, the rest F32 */
} sparse_numbers;

/* A language model's file. Ends the test when it cannot be written. */
void sparse_lm(const char *path, const mo_lm_config *cfg, mo_name_scheme names,
               sparse_numbers numbers);
/* A codec's file in float32. */
void sparse_mimi(const char *path, const mo_mimi_config *cfg);

#endif
