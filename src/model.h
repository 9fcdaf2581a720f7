/* model.h - language model and codec as one: do the pieces belong together, and load them. */
#ifndef MO_MODEL_H
#define MO_MODEL_H

#include "files.h"
#include "lm.h"
#include "mimi.h"

typedef struct mo_model {
    mo_weights weights;
    mo_lm lm;     /* zero in a codec-only model */
    mo_mimi mimi; /* zero without a codec */
} mo_model;

typedef struct mo_progress {
    int (*fn)(void *user, uint64_t done, uint64_t total);
    void *user;
} mo_progress;

/* Check and load what `files` holds onto a backend, with adapters (may be NULL) added to the
 * language model. `exact`: quantised matrices become float32. On failure *m can still be freed. */
int mo_model_load(mo_model *m, const mo_model_files *files, mo_backend *be, mo_loras *loras,
                  bool exact, const mo_progress *progress, moshi_error *err);
/* Load a codec alone with its first `codebooks` codebooks. */
int mo_model_load_codec(mo_model *m, const mo_model_files *files, mo_backend *be, int codebooks,
                        bool exact, moshi_error *err);
/* Go through everything an engine would load and note all that is wrong instead of the first thing.
 * `be` only counts (dry.h). `mismatch` gets why the pieces do not belong together, or "". Fails
 * with MOSHI_ENOMEM only. */
int mo_model_audit(const mo_model_files *files, mo_backend *be, mo_audit *lm, mo_audit *mimi,
                   uint64_t *parameters, moshi_error *mismatch, moshi_error *err);
void mo_model_free(mo_model *m);

/* The facts that follow from the configuration; device, threads and sizes are left alone. Pointers
 * are borrowed from `files`. */
void mo_model_describe(const mo_model_files *files, moshi_engine_info *info);
/* The same for its codec, with `codebooks` in use. */
void mo_codec_describe(const mo_mimi_config *mimi, int codebooks, moshi_codec_info *info);

#endif
