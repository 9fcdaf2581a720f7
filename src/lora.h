/* lora.h - low-rank adapters: W += scale * B A while weights are loaded. A file holds pairs
 * X.lora_A.weight [rank, in], X.lora_B.weight [out, rank] for linear layers X. */
#ifndef MO_LORA_H
#define MO_LORA_H

#include "checkpoint.h"

typedef struct mo_lora {
    mo_checkpoint ck;
    float scale;
    uint8_t *used; /* [ck.n_tensors] */
} mo_lora;

typedef struct mo_loras {
    mo_lora *items;
    size_t n;
} mo_loras;

int mo_loras_open(mo_loras *out, const moshi_lora *list, size_t n, moshi_error *err);
void mo_loras_close(mo_loras *loras);

/* Which rows of which matrix are being loaded. `name` is PyTorch's; `set` is the number of the part
 * when the matrix stacks weight sets, because adapters are trained per set. */
typedef struct mo_lora_target {
    const char *name;
    int set;
    int64_t rows, cols; /* of the whole matrix */
    int64_t first, n;   /* rows wanted, of one weight set */
    int64_t part_rows;  /* of a weight set */
} mo_lora_target;

/* Does any adapter change this matrix? */
bool mo_loras_touch(const mo_loras *loras, const mo_lora_target *target);
/* Add every adapter's share to w [n, cols]; w NULL: only check that it fits. Threads may do this at
 * the same time for targets that were checked before. */
int mo_loras_apply(mo_loras *loras, const mo_lora_target *target, float *w, moshi_error *err);
/* All adapters of a model must have found their layer. */
int mo_loras_check_used(const mo_loras *loras, moshi_error *err);

#endif
