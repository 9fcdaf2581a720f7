#include "survey.h"

#include "dry.h"
#include "lm.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct survey {
    const mo_checkpoint *ck;
    mo_use *uses;
} survey;

static void note_matrix(void *user, const mo_tensor_view *t, const mo_lora_target *m) {
    const survey *s = user;
    mo_use *use = &s->uses[t - s->ck->tensors];
    *use = (mo_use){.rows = m->rows, .cols = m->cols, .part_rows = m->n};
    snprintf(use->name, sizeof use->name, "%s", m->name);
}

/* Codebooks' own copies of shared weights are what their originals are. */
static void note_copies(const survey *s, const mo_names *names) {
    char original[MO_TENSOR_NAME_BYTES];
    for (size_t i = 0; i < s->ck->n_tensors; i++) {
        if (s->uses[i].rows || !mo_names_copy_of(names, s->ck->tensors[i].name, original)) continue;
        const mo_tensor_view *t = mo_checkpoint_find(s->ck, original);
        if (t) s->uses[i] = s->uses[t - s->ck->tensors];
    }
}

int mo_survey(mo_use **uses, const mo_model_files *f, mo_loras *loras, moshi_error *err) {
    mo_backend *be;
    mo_weights weights;
    mo_lm lm;
    survey s = {&f->lm_file, mo_calloc(f->lm_file.n_tensors + 1, sizeof(mo_use))};
    mo_loader ld = {.loras = loras, .matrix = note_matrix, .matrix_user = &s};
    *uses = NULL;
    if (!s.uses) return mo_fail(err, MOSHI_ENOMEM, "out of memory");
    int rc = mo_dry_open(&be, &mo_backend_cpu, &(mo_backend_options){.threads = 1}, err);
    if (rc < 0) {
        free(s.uses);
        return rc;
    }
    mo_weights_open(&weights, be);
    rc = mo_loader_begin(&ld, &weights, s.ck, err);
    if (rc == 0) {
        mo_lm_load(&lm, &f->lm, &ld);
        mo_names names = ld.names;
        rc = mo_loader_finish(&ld);
        if (rc == 0) note_copies(&s, &names);
        mo_lm_free(&lm);
    }
    if (rc == 0 && loras) rc = mo_loras_check_used(loras, err);
    mo_weights_close(&weights);
    be->ops->close(be);
    if (rc == 0)
        *uses = s.uses;
    else
        free(s.uses);
    return rc;
}
