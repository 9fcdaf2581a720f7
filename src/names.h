/* names.h - tensor names of the other ports, as data: PyTorch (what model code asks for) -> candle
 * and MLX.
 *
 * PyTorch keeps one depth transformer whose weight sets several codebooks may share. candle and MLX
 * write one complete small model per codebook, shared sets once for every codebook that uses them.
 */
#ifndef MO_NAMES_H
#define MO_NAMES_H

#include "checkpoint.h"
#include "config.h"

typedef enum mo_name_scheme { MO_NAMES_PYTORCH, MO_NAMES_CANDLE, MO_NAMES_MLX } mo_name_scheme;

typedef struct mo_names {
    mo_name_scheme scheme;
    int dep_q;
    int owner[MO_MAX_CODEBOOKS];    /* weight set -> first codebook that uses it */
    int schedule[MO_MAX_CODEBOOKS]; /* codebook -> weight set */
} mo_names;

enum { MO_TENSOR_NAME_BYTES = 256 };

/* Tell the scheme from the names in a language model's checkpoint. Without a depth transformer
 * candle's names are PyTorch's. */
mo_name_scheme mo_names_scheme(const mo_checkpoint *ck);
mo_names mo_names_detect(const mo_checkpoint *ck, const mo_lm_config *cfg);
/* What the file calls the tensor PyTorch calls `name`; names that are the same everywhere, or that
 * the scheme does not know, come back as they are. */
void mo_names_translate(const mo_names *names, const char *name, char out[MO_TENSOR_NAME_BYTES]);
/* If `name` belongs to a codebook's copy of something that is stored with another codebook: write
 * the original's name to `out` and return true. */
bool mo_names_copy_of(const mo_names *names, const char *name, char out[MO_TENSOR_NAME_BYTES]);

#endif
