/* fuzz_config.c - any bytes as a configuration, of either kind: what is accepted must be sane
 * enough to size a model by. */
#include "config.h"
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

static void check_failure(int rc, const moshi_error *err) {
    need_true(rc == MOSHI_EMODEL && err->code == rc && strstr(err->text, "fuzz") != NULL);
}

static void check_lm(const mo_lm_config *c) {
    need_true(c->dim >= 1 && c->layers >= 1 && c->heads >= 1 && c->context >= 1);
    need_true(c->dim % c->heads == 0 && c->dim / c->heads % 2 == 0);
    need_true(c->kv_repeat >= 1 && c->heads % c->kv_repeat == 0);
    need_true(c->hidden >= 1 && c->max_period >= 1.0f && c->norm_eps > 0);
    need_true(c->n_q >= 1 && c->n_q < MO_MAX_CHANNELS && c->card >= 1 && c->text_card >= 1);
    need_true(c->text_card_out >= 1 && c->text_card_out <= c->text_card + 1);
    need_true(c->text_pad >= 0 && c->text_pad <= c->text_card);
    int max = 0;
    for (int i = 0; i <= c->n_q; i++) {
        need_true(c->delays[i] >= 0 && c->delays[i] <= 1000);
        if (c->delays[i] > max) max = c->delays[i];
    }
    need_true(max == c->max_delay);
    need_true(c->dep_q >= 0 && c->dep_q <= c->n_q && c->dep_q <= MO_MAX_CODEBOOKS);
    for (int k = 0; k < c->dep_q; k++)
        need_true(c->dep_schedule[k] >= 0 && c->dep_schedule[k] < c->dep_sets);
    if (c->dep_q > 0) {
        need_true(c->dep_dim >= 1 && c->dep_layers >= 1 && c->dep_heads >= 1);
        need_true(c->dep_dim % c->dep_heads == 0 && c->dep_hidden >= 1);
        need_true(c->dep_sets >= 1 && c->dep_sets <= MO_MAX_CODEBOOKS && c->dep_low_rank >= 0);
    }
    need_true(c->text_temp >= 0 && c->audio_temp >= 0 && c->text_top_k >= 0 && c->audio_top_k >= 0);
    need_true(memchr(c->moshi_name, 0, sizeof c->moshi_name) != NULL);
    need_true(memchr(c->model_type, 0, sizeof c->model_type) != NULL);
    need_true(memchr(c->tokenizer_name, 0, sizeof c->tokenizer_name) != NULL);
}

static void check_mimi(const mo_mimi_config *c) {
    long long hop = 1, channels = c->filters;
    need_true(c->n_ratios >= 1 && c->n_ratios <= MO_MAX_RATIOS);
    for (int i = 0; i < c->n_ratios; i++) {
        need_true(c->ratios[i] >= 1);
        hop *= c->ratios[i];
        channels *= 2;
    }
    need_true(hop == c->hop && channels <= 65536 && c->stride >= 1);
    need_true((long long)c->frame_samples == hop * c->stride && c->frame_rate_hz > 0);
    need_true(c->filters >= c->compress && c->compress >= 1 && c->dimension >= 1);
    need_true(c->kernel >= 1 && c->residual_kernel >= 1 && c->last_kernel >= 1);
    need_true(c->residual_layers >= 1 && c->dilation_base >= 1);
    need_true(c->layers >= 1 && c->heads >= 1 && c->dimension % c->heads == 0);
    need_true(c->dimension / c->heads % 2 == 0 && c->feed_forward >= 1 && c->context >= 1);
    need_true(c->codebooks > c->semantic_codebooks && c->semantic_codebooks >= 1);
    need_true(c->codebooks <= MO_MAX_CODEBOOKS && c->bins >= 1 && c->codebook_dim >= 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *text = (const char *)data;
    mo_lm_config lm;
    mo_mimi_config mimi;
    moshi_error err = {0};
    int rc = mo_lm_config_parse(&lm, text, size, "fuzz", &err);
    if (rc < 0) {
        check_failure(rc, &err);
    } else {
        check_lm(&lm);
    }
    rc = mo_mimi_config_parse(&mimi, text, size, "fuzz", &err);
    if (rc < 0) {
        check_failure(rc, &err);
    } else {
        check_mimi(&mimi);
        mo_config_kind kind;
        need_true(mo_config_kind_of(&kind, text, size) == 0 && kind == MO_CONFIG_MIMI);
    }
    return 0;
}
