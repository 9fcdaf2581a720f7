/* lm.h - the language model: temporal transformer over frames, depth transformer over the codebooks
 * of one frame, and the token grid between them. */
#ifndef MO_LM_H
#define MO_LM_H

#include "layers.h"

/* Weights of one depth-transformer weight set. */
typedef struct mo_depth_set {
    const mo_weight *in; /* [dep_dim, dim] */
    mo_layer *layers;    /* [dep_layers]; norms shared with the other sets */
} mo_depth_set;

/* An embedding table, possibly of low rank followed by a projection. */
typedef struct mo_embedding {
    const mo_weight *table, *up;
} mo_embedding;

typedef struct mo_lm {
    mo_lm_config cfg;
    const mo_weight *embeddings[MO_MAX_CHANNELS]; /* audio 0 .. n_q-1, then text */
    mo_layer *layers;
    const mo_weight *rope_freq, *out_norm, *text_head;
    const mo_weight *extra_heads[MO_MAX_CODEBOOKS];
    mo_depth_set sets[MO_MAX_CODEBOOKS];
    mo_embedding dep_embeddings[MO_MAX_CODEBOOKS]; /* [k]: of the token before codebook k */
    const mo_weight *dep_norms[MO_MAX_CODEBOOKS], *dep_norm_biases[MO_MAX_CODEBOOKS];
    const mo_weight *heads[MO_MAX_CODEBOOKS];
    /* what follows is filled by mo_lm_record */
    int depth_op; /* where the depth transformer's ops begin; their number when it has none */
    /* where hosts write and read */
    mo_view user_codes; /* i32 [1, n_q - dep_q]; absent when there are none */
    mo_view force;      /* i32 [1, 1 + dep_q], MOSHI_FREE = sample */
    mo_view params;     /* [1, MO_SAMPLE_COLS] */
    mo_view out_tokens; /* i32 [1, 1 + dep_q] */
} mo_lm;

int mo_lm_load(mo_lm *lm, const mo_lm_config *cfg, mo_loader *ld);
void mo_lm_free(mo_lm *lm);
/* Record one step of one frame, keys and values of the temporal transformer kept as `kv_type`. */
void mo_lm_record(mo_graph *g, mo_lm *lm, mo_dtype kv_type);

#endif
