#include "model.h"

#include <string.h>

static const double DEFAULT_FRAME_RATE_HZ = 12.5;

/* Codebooks the codec must have: as many as come in from the user, or as the model speaks. */
static int codebooks_needed(const mo_lm_config *c) {
    int user = c->n_q - c->dep_q;
    return user > c->dep_q ? user : c->dep_q;
}

/* A Mimi or a tokenizer of another model would not crash, it would garble. */
static int pieces_check(const mo_model_files *f, moshi_error *err) {
    const mo_lm_config *c = &f->lm;
    if (c->text_card_out > c->text_card + 1)
        return mo_fail(err, MOSHI_EMODEL,
                       "config.json: text_card_out is %d, but only %d text tokens have embeddings",
                       c->text_card_out, c->text_card + 1);
    if (f->has_mimi && codebooks_needed(c) > f->mimi.codebooks)
        return mo_fail(err, MOSHI_EMODEL,
                       "%s: the model needs a Mimi with %d codebooks, this one has %d",
                       f->mimi_file.file.name, codebooks_needed(c), f->mimi.codebooks);
    if (f->has_mimi && c->card != f->mimi.bins)
        return mo_fail(err, MOSHI_EMODEL,
                       "%s: the model speaks codes 0..%d (card %d), this Mimi has codebooks of %d: "
                       "they do not belong together",
                       f->mimi_file.file.name, c->card - 1, c->card, f->mimi.bins);
    if (f->has_text && f->text.n != c->text_card)
        return mo_fail(err, MOSHI_EMODEL,
                       "%s: the model's text vocabulary has %d entries (text_card), this tokenizer "
                       "has %d: they do not belong together",
                       f->tokenizer.name, c->text_card, f->text.n);
    return 0;
}

static uint64_t checkpoint_bytes(const mo_checkpoint *ck) {
    uint64_t n = 0;
    for (size_t i = 0; i < ck->n_tensors; i++) n += ck->tensors[i].bytes;
    return n;
}

static int load_lm(mo_model *m, const mo_model_files *f, mo_loader *ld, moshi_error *err) {
    int rc = mo_loader_begin(ld, &m->weights, &f->lm_file, err);
    if (rc < 0) return rc;
    mo_lm_load(&m->lm, &f->lm, ld);
    rc = mo_loader_finish(ld);
    return rc == 0 && ld->loras ? mo_loras_check_used(ld->loras, err) : rc;
}

static int load_mimi(mo_model *m, const mo_model_files *f, int codebooks, bool encoder,
                     bool decoder, mo_loader *ld, moshi_error *err) {
    int rc = mo_loader_begin(ld, &m->weights, &f->mimi_file, err);
    if (rc < 0) return rc;
    mo_mimi_load(&m->mimi, &f->mimi, codebooks, encoder, decoder, ld);
    return mo_loader_finish(ld);
}

int mo_model_load(mo_model *m, const mo_model_files *f, mo_backend *be, mo_loras *loras, bool exact,
                  const mo_progress *progress, moshi_error *err) {
    memset(m, 0, sizeof *m);
    mo_weights_open(&m->weights, be);
    int rc = pieces_check(f, err);
    if (rc < 0) return rc;
    mo_loader ld = {.total = checkpoint_bytes(&f->lm_file), .loras = loras, .exact = exact};
    if (f->has_mimi) ld.total += checkpoint_bytes(&f->mimi_file);
    size_t tensors = f->lm_file.n_tensors + (f->has_mimi ? f->mimi_file.n_tensors : 0);
    mo_crumb_drop(be->crumb, "weights", 0, tensors);
    if (progress) {
        ld.progress = progress->fn;
        ld.progress_user = progress->user;
    }
    rc = load_lm(m, f, &ld, err);
    if (rc < 0 || !f->has_mimi) return rc;
    bool encoder = f->lm.n_q > f->lm.dep_q, decoder = f->lm.dep_q > 0;
    return load_mimi(m, f, codebooks_needed(&f->lm), encoder, decoder, &ld, err);
}

int mo_model_load_codec(mo_model *m, const mo_model_files *f, mo_backend *be, int codebooks,
                        bool exact, moshi_error *err) {
    memset(m, 0, sizeof *m);
    mo_weights_open(&m->weights, be);
    if (codebooks > f->mimi.codebooks)
        return mo_fail(err, MOSHI_EINVAL, "codebooks: wanted 1..%d, which %s has, found %d",
                       f->mimi.codebooks, f->mimi_file.file.name, codebooks);
    mo_loader ld = {.total = checkpoint_bytes(&f->mimi_file), .exact = exact};
    mo_crumb_drop(be->crumb, "weights", 0, f->mimi_file.n_tensors);
    return load_mimi(m, f, codebooks, true, true, &ld, err);
}

int mo_model_audit(const mo_model_files *f, mo_backend *be, mo_audit *lm, mo_audit *mimi,
                   uint64_t *parameters, moshi_error *mismatch, moshi_error *err) {
    mo_model m = {0};
    mo_loader lm_loader = {.audit = lm}, mimi_loader = {.audit = mimi};
    int rc = 0;
    *mismatch = (moshi_error){0};
    mo_weights_open(&m.weights, be);
    if (f->has_lm) {
        pieces_check(f, mismatch);
        rc = load_lm(&m, f, &lm_loader, err);
    }
    if (rc == 0 && f->has_mimi) {
        /* Alone, or beside a language model that cannot be judged, all of it is wanted. */
        bool all = !f->has_lm;
        int codebooks = all ? f->mimi.codebooks : codebooks_needed(&f->lm);
        if (codebooks > f->mimi.codebooks) codebooks = f->mimi.codebooks;
        rc = load_mimi(&m, f, codebooks, all || f->lm.n_q > f->lm.dep_q, all || f->lm.dep_q > 0,
                       &mimi_loader, err);
    }
    *parameters = m.weights.parameters;
    mo_model_free(&m);
    return rc;
}

void mo_model_free(mo_model *m) {
    mo_lm_free(&m->lm);
    mo_mimi_free(&m->mimi);
    if (m->weights.be) mo_weights_close(&m->weights);
}

void mo_model_describe(const mo_model_files *f, moshi_engine_info *i) {
    const mo_lm_config *c = &f->lm;
    i->model_type = c->model_type[0] ? c->model_type : "moshi";
    i->frame_rate_hz = DEFAULT_FRAME_RATE_HZ;
    if (f->has_mimi) {
        i->sample_rate_hz = f->mimi.sample_rate_hz;
        i->frame_samples = f->mimi.frame_samples;
        i->frame_rate_hz = f->mimi.frame_rate_hz;
    }
    i->n_q = c->n_q;
    i->dep_q = c->dep_q;
    i->user_codebooks = c->n_q - c->dep_q;
    i->text_card = c->text_card;
    i->card = c->card;
    i->delays = c->delays;
    i->max_delay = c->max_delay;
    i->context = c->context;
    i->text_temp = c->text_temp;
    i->audio_temp = c->audio_temp;
    i->text_top_k = c->text_top_k;
    i->audio_top_k = c->audio_top_k;
}

void mo_codec_describe(const mo_mimi_config *mimi, int codebooks, moshi_codec_info *info) {
    *info = (moshi_codec_info){.sample_rate_hz = mimi->sample_rate_hz,
                               .frame_samples = mimi->frame_samples,
                               .frame_rate_hz = mimi->frame_rate_hz,
                               .codebooks = codebooks,
                               .max_codebooks = mimi->codebooks,
                               .bins = mimi->bins};
}
