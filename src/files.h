/* files.h - from what the caller names (a directory, a checkpoint, blobs in memory) to the files of
 * a model: configurations, weights, tokenizer. */
#ifndef MO_FILES_H
#define MO_FILES_H

#include "checkpoint.h"
#include "config.h"
#include "text.h"

/* Metadata of a GGUF file that is a whole model: its other files as they were (strings; bytes for
 * the tokenizer). The codec's tensors are in it too, their names behind this prefix. */
#define MO_KEY_CONFIG      "moshi.config_json"
#define MO_KEY_MIMI_CONFIG "moshi.mimi_config_json"
#define MO_KEY_TOKENIZER   "moshi.tokenizer"
#define MO_MIMI_PREFIX     "mimi."

/* What a caller may need; files that are not asked for are not opened. Tolerant: open what can be
 * opened, and keep why the rest cannot. */
enum { MO_WANT_LM = 1, MO_WANT_MIMI = 2, MO_WANT_TEXT = 4, MO_TOLERANT = 8 };

/* Where a model is: a path, or blobs. */
typedef struct mo_model_place {
    const char *path;
    const moshi_blob *blobs;
    size_t n_blobs;
    moshi_finder finder;
} mo_model_place;

typedef struct mo_model_files {
    bool has_lm, has_mimi, has_text;
    bool codec_only; /* there is no language model here: Mimi's own directory, or its file alone */
    bool file_named; /* the caller named one of a whole model's files */
    bool mimi_named; /* and that one is its codec */
    const struct mo_preset *preset; /* where lm is from when no configuration gives sizes */
    moshi_error why[3]; /* tolerant: why there is no lm (its weights may be open), mimi, text */
    mo_lm_config lm;
    mo_mimi_config mimi;
    mo_checkpoint lm_file, mimi_file;
    mo_text text;
    /* what lm, mimi and text were read from; data NULL when there was no such file */
    mo_file config, mimi_config, tokenizer;
} mo_model_files;

/* Open what `want` asks for.
 *   path = directory: config.json names the files (relative paths and hf://ORG/NAME/FILE allowed).
 *          Without moshi_name: model.safetensors. A directory whose config.json is Mimi's own is a
 *          codec-only model.
 *   path = file: the checkpoint itself with config.json beside it (its own name wins over
 *          moshi_name); for MO_WANT_MIMI alone also a Mimi file: with Mimi's config.json beside it,
 *          or of the official sizes.
 *          A GGUF file that carries its own configuration needs nothing beside it.
 *   blobs: as a directory, names matched after dropping a leading "./".
 * Without config.json the sizes are those of the preset that the weights fit, and the files are
 * told by their content; so are files that config.json does not name and that are not there under
 * their usual names. Two files that could be meant are an error.
 * Missing pieces that were asked for are errors that say which file was looked for and where. */
int mo_model_files_open(mo_model_files *out, const mo_model_place *place, int want,
                        moshi_error *err);
void mo_model_files_close(mo_model_files *files);

#endif
