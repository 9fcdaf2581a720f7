/* make_model.h - random models of any shape, in memory: configuration texts, weight files in every
 * spelling the loader accepts, a tokenizer. Values are what the file's dtype can hold, so that an
 * oracle reading them and an engine reading the file see the same numbers. */
#ifndef MO_TESTS_MAKE_MODEL_H
#define MO_TESTS_MAKE_MODEL_H

#include "config.h"
#include "tensors.h"

typedef enum made_names {
    MADE_UNDERSCORE, /* in_proj_weight: weight sets stacked */
    MADE_DOTTED,     /* in_proj.weight */
    MADE_PER_SET,    /* in_projs.S.weight, out_projs.S.weight */
    MADE_NAMES_COUNT
} made_names;

/* Types of the weights; MADE_MIXED takes a random one for every tensor. */
enum { MADE_MIXED = MO_DTYPE_COUNT };

typedef struct model_spec {
    mo_lm_config lm; /* derived fields are filled in by model_make() */
    mo_mimi_config mimi;
    made_names names;
    bool old_codebook_names; /* inited, cluster_size, embed_sum */
    bool flat_norms;         /* alpha as [d] instead of [1, 1, d] */
    bool null_feed_forward;  /* depformer_dim_feedforward: null, dep_hidden follows hidden_scale */
    int lm_dtype, mimi_dtype;
    uint64_t seed;
} model_spec;

enum { MADE_CONFIG, MADE_LM, MADE_MIMI_CONFIG, MADE_MIMI, MADE_TEXT, MADE_BLOBS };

typedef struct made_model {
    model_spec spec;
    tensors lm, mimi; /* PyTorch names, whatever spelling the files use */
    moshi_blob blobs[MADE_BLOBS];
} made_model;

/* A small Moshi: 2 layers, n_q 4, dep_q 2, delays 0 0 1 0 1, a codec of 4 codebooks. */
void spec_small(model_spec *spec);
/* As small as it gets: hundreds of frames per second in a sanitizer build. */
void spec_tiny(model_spec *spec);

void model_make(made_model *out, const model_spec *spec);
void model_free(made_model *m);
/* Build the weight files again after a test has changed m->lm or m->mimi. */
void model_rebuild(made_model *m);
/* Put other bytes in place of one file; copied. */
void model_replace(made_model *m, int blob, const void *data, size_t size);
/* Replace the first `from` in a text file of the model; ends the test when it is not there. */
void model_edit(made_model *m, int blob, const char *from, const char *to);
/* Write all files into an existing directory. */
void model_write(const made_model *m, const char *dir);

/* A safetensors file of `set` as it stands. Free the result. */
uint8_t *safetensors_build(const tensors *set, size_t *size);

/* Test signals: `n` samples of something with both tone and noise. */
void test_signal(float *pcm, size_t n, uint64_t seed);

#endif
