/* presets.h - configurations of published models that come without one, and telling from the
 * tensors of a file which of them it is. */
#ifndef MO_PRESETS_H
#define MO_PRESETS_H

#include "checkpoint.h"
#include "config.h"

/* One row per model, as a config.json without the names of files. */
typedef struct mo_preset {
    const char *name;
    const char *config;
    bool has_config; /* the published one brings its own: sizes to measure with, never guessed */
} mo_preset;

/* A preset, too, but none of a language model: the published Mimi. */
#define MO_PRESET_CODEC "mimi"

/* NULL after the last. */
const mo_preset *mo_preset_at(size_t i);

/* What the names and shapes of a language model's tensors tell; 0 where they do not. */
typedef struct mo_lm_shapes {
    int dim, layers, hidden, kv_repeat;
    int n_q, card, text_card, text_card_out;
    int dep_q, dep_dim, dep_layers, dep_hidden;
    int dep_sets;  /* -1: unknown, the file has one copy per codebook */
    bool low_rank; /* embeddings of the depth transformer are products of two matrices */
    bool extras;   /* tensors of conditions or cross-attention */
} mo_lm_shapes;

/* Does it hold a language model, under any of the known spellings? Fills *out if so. */
bool mo_lm_shapes_read(mo_lm_shapes *out, const mo_checkpoint *ck);
/* "32 layers of 4096, ..." */
void mo_lm_shapes_text(const mo_lm_shapes *shapes, char *out, size_t cap);

/* The preset of these shapes, or NULL in *out with MOSHI_EMODEL and what was found, and what
 * config.json would have to say. `model_type`, if not "", must be the preset's. */
int mo_preset_find(const mo_preset **out, const mo_checkpoint *ck, const char *model_type,
                   moshi_error *err);

#endif
