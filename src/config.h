/* config.h - config.json of a language model and of a Mimi codec as plain structs.
 *
 * A key that would change the arithmetic and that this version does not implement is refused by
 * name; so is a key it has never heard of, unless its value is null or false. */
#ifndef MO_CONFIG_H
#define MO_CONFIG_H

#include "util.h"

enum {
    MO_MAX_CHANNELS = 129,
    MO_MAX_CODEBOOKS = 64,
    MO_MAX_RATIOS = 8,
    MO_MAX_RESIDUAL_LAYERS = 16,
    MO_NAME_MAX = 256
};

typedef enum mo_norm_kind {
    MO_NORM_RMS,  /* x * alpha / sqrt(mean(x^2) + eps) */
    MO_NORM_LAYER /* (x - mean) / sqrt(var + eps) * weight + bias */
} mo_norm_kind;

typedef enum mo_rope_kind {
    MO_ROPE_NONE,
    MO_ROPE_PAIRS, /* "rope": rotates elements 2i, 2i+1 */
    MO_ROPE_HALVES /* "rope_concat": rotates i, i + hd/2 */
} mo_rope_kind;

typedef struct mo_lm_config {
    char model_type[64];
    int dim, layers, heads, kv_repeat;
    int hidden;  /* of the gated feed-forward: rows of linear_out's input */
    int context; /* keys a query sees, itself included */
    float max_period;
    mo_rope_kind rope;
    float norm_eps; /* temporal and depth norms: "rms_norm_f32" 1e-8, "rms_norm" 1e-5 */
    int n_q, dep_q, card, text_card, text_card_out;
    int text_pad;                /* existing_text_padding_id */
    int delays[MO_MAX_CHANNELS]; /* [1 + n_q] */
    int max_delay;
    int dep_dim, dep_layers, dep_heads, dep_hidden;
    int dep_sets;                       /* weight sets of the depth transformer */
    int dep_schedule[MO_MAX_CODEBOOKS]; /* codebook -> weight set */
    int dep_low_rank;                   /* 0, or the rank of depformer_emb */
    bool dep_norm;                      /* depformer_norms.k (LayerNorm 1e-5) before each head */
    int extra_heads, extra_heads_dim;
    float text_temp, audio_temp; /* lm_gen_config, or the reference's defaults */
    int text_top_k, audio_top_k; /* 0: the whole vocabulary */
    /* names of the files beside config.json; empty when not given */
    char moshi_name[MO_NAME_MAX], mimi_name[MO_NAME_MAX];
    char tokenizer_name[MO_NAME_MAX], mimi_config_name[MO_NAME_MAX];
} mo_lm_config;

typedef struct mo_mimi_config {
    int sample_rate_hz;
    double frame_rate_hz;
    int filters;   /* n_filters: channels of the outermost convolution */
    int dimension; /* latent width */
    int residual_layers, compress, dilation_base;
    int kernel, residual_kernel, last_kernel;
    int n_ratios, ratios[MO_MAX_RATIOS]; /* decoder order; the encoder runs them backwards */
    int layers, heads, feed_forward, context;
    float max_period;
    int codebooks, semantic_codebooks, bins, codebook_dim;
    /* derived */
    int hop;           /* product of ratios */
    int stride;        /* latent steps per frame: 2 */
    int frame_samples; /* hop * stride */
} mo_mimi_config;

/* `text` need not be terminated; `file` is for messages. */
int mo_lm_config_parse(mo_lm_config *out, const char *text, size_t size, const char *file,
                       moshi_error *err);
/* Only model_type ("" if not given) and the names of the files, from a configuration this version
 * may not be able to run. */
int mo_lm_config_names(mo_lm_config *out, const char *text, size_t size, const char *file,
                       moshi_error *err);
int mo_mimi_config_parse(mo_mimi_config *out, const char *text, size_t size, const char *file,
                         moshi_error *err);
/* The published 24 kHz, 12.5 Hz codec with 32 codebooks of 2048. */
void mo_mimi_config_official(mo_mimi_config *out);
typedef enum mo_config_kind {
    MO_CONFIG_LM,    /* a language model's, or nobody knows what: the parser will say */
    MO_CONFIG_MIMI,  /* a codec's: has "seanet" */
    MO_CONFIG_SILENT /* an object that gives no sizes, at most names of files */
} mo_config_kind;

/* Never fails but with MOSHI_ENOMEM. */
int mo_config_kind_of(mo_config_kind *kind, const char *text, size_t size);

#endif
