#include "lm.h"

#include "delays.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- shapes ------------------------------------------------------------------------------- */

static mo_layer_shape temporal_shape(const mo_lm_config *c) {
    return (mo_layer_shape){.dim = c->dim,
                            .heads = c->heads,
                            .kv_heads = c->heads / c->kv_repeat,
                            .head_dim = c->dim / c->heads,
                            .hidden = c->hidden,
                            .gated = true,
                            .norm = MO_NORM_RMS,
                            .norm_eps = c->norm_eps,
                            .rope = c->rope,
                            .context = c->context};
}

/* Attends over the codebooks of one frame: no rotary embedding, the whole frame visible. */
static mo_layer_shape depth_shape(const mo_lm_config *c) {
    return (mo_layer_shape){.dim = c->dep_dim,
                            .heads = c->dep_heads,
                            .kv_heads = c->dep_heads,
                            .head_dim = c->dep_dim / c->dep_heads,
                            .hidden = c->dep_hidden,
                            .gated = true,
                            .norm = MO_NORM_RMS,
                            .norm_eps = c->norm_eps,
                            .rope = MO_ROPE_NONE,
                            .context = c->dep_q};
}

/* ---- loading ------------------------------------------------------------------------------ */

static mo_layer *layers_new(mo_loader *ld, int n) {
    mo_layer *layers = mo_calloc((size_t)n + 1, sizeof *layers);
    if (!layers && !ld->failed) ld->failed = mo_fail(ld->err, MOSHI_ENOMEM, "out of memory");
    return layers;
}

/* gating.linear_in of one weight set; models with a single set may leave the set number out. */
static void load_gating(mo_loader *ld, const mo_layer_shape *s, const char *prefix, int set,
                        int sets, mo_layer *l) {
    char p[112];
    snprintf(p, sizeof p, "%s.gating.%d", prefix, set);
    if (sets == 1 && !mo_load_has(ld, "%s.linear_in.weight", p))
        snprintf(p, sizeof p, "%s.gating", prefix);
    l->linear1 =
        mo_load_matrix(ld, MO_LAYOUT_STRIPS, 2 * s->hidden, s->dim, "%s.linear_in.weight", p);
    l->linear2 = mo_load_matrix(ld, MO_LAYOUT_STRIPS, s->dim, s->hidden, "%s.linear_out.weight", p);
}

static void load_layer_set(mo_loader *ld, const mo_layer_shape *s, const char *prefix, int set,
                           int sets, mo_layer *l) {
    char p[112];
    snprintf(p, sizeof p, "%s.self_attn.", prefix);
    l->in_proj = mo_load_projection(ld, p, "in_proj", set, sets, mo_layer_qkv_rows(s), s->dim);
    l->out_proj = mo_load_projection(ld, p, "out_proj", set, sets, s->dim, s->dim);
    load_gating(ld, s, prefix, set, sets, l);
}

static void load_temporal(mo_loader *ld, mo_lm *lm) {
    const mo_lm_config *c = &lm->cfg;
    mo_layer_shape s = temporal_shape(c);
    for (int q = 0; q < c->n_q; q++)
        lm->embeddings[q] =
            mo_load_matrix(ld, MO_LAYOUT_ROWS, c->card + 1, c->dim, "emb.%d.weight", q);
    /* Hibiki was trained with the end-of-text token looking like padding; the reference copies the
     * row when it loads such a model, and only then. */
    if (!strcmp(c->model_type, "hibiki") && c->text_card > 3)
        lm->embeddings[c->n_q] =
            mo_load_matrix_patched(ld, c->text_card + 1, c->dim, 2, 3, "text_emb.weight");
    else
        lm->embeddings[c->n_q] =
            mo_load_matrix(ld, MO_LAYOUT_ROWS, c->text_card + 1, c->dim, "text_emb.weight");
    lm->layers = layers_new(ld, c->layers);
    for (int i = 0; i < c->layers && !ld->failed; i++) {
        char p[64];
        snprintf(p, sizeof p, "transformer.layers.%d", i);
        lm->layers[i].norm1 = mo_load_vector(ld, c->dim, "%s.norm1.alpha", p);
        lm->layers[i].norm2 = mo_load_vector(ld, c->dim, "%s.norm2.alpha", p);
        load_layer_set(ld, &s, p, 0, 1, &lm->layers[i]);
    }
    if (c->rope != MO_ROPE_NONE) lm->rope_freq = mo_load_rope_freq(ld, s.head_dim, c->max_period);
    lm->out_norm = mo_load_vector(ld, c->dim, "out_norm.alpha");
    lm->text_head =
        mo_load_matrix(ld, MO_LAYOUT_STRIPS, c->text_card_out, c->dim, "text_linear.weight");
    for (int i = 0; i < c->extra_heads; i++)
        if (mo_load_has(ld, "extra_heads.%d.weight", i)) /* published files may omit them */
            lm->extra_heads[i] = mo_load_matrix(ld, MO_LAYOUT_STRIPS, c->extra_heads_dim, c->dim,
                                                "extra_heads.%d.weight", i);
}

static mo_embedding load_dep_embedding(mo_loader *ld, const mo_lm_config *c, int rows,
                                       const char *name) {
    mo_embedding e = {0};
    int cols = c->dep_low_rank ? c->dep_low_rank : c->dep_dim;
    e.table = mo_load_matrix(ld, MO_LAYOUT_ROWS, rows, cols, "%s.weight", name);
    if (c->dep_low_rank)
        e.up = mo_load_matrix(ld, MO_LAYOUT_STRIPS, c->dep_dim, cols, "%s.low_rank.weight", name);
    return e;
}

static void load_depth(mo_loader *ld, mo_lm *lm) {
    const mo_lm_config *c = &lm->cfg;
    mo_layer_shape s = depth_shape(c);
    char p[64];
    for (int w = 0; w < c->dep_sets; w++) {
        lm->sets[w].in =
            mo_load_matrix(ld, MO_LAYOUT_STRIPS, c->dep_dim, c->dim, "depformer_in.%d.weight", w);
        lm->sets[w].layers = layers_new(ld, c->dep_layers);
        for (int i = 0; i < c->dep_layers && !ld->failed; i++) {
            mo_layer *l = &lm->sets[w].layers[i];
            snprintf(p, sizeof p, "depformer.layers.%d", i);
            if (w == 0) {
                l->norm1 = mo_load_vector(ld, c->dep_dim, "%s.norm1.alpha", p);
                l->norm2 = mo_load_vector(ld, c->dep_dim, "%s.norm2.alpha", p);
            } else {
                l->norm1 = lm->sets[0].layers[i].norm1;
                l->norm2 = lm->sets[0].layers[i].norm2;
            }
            load_layer_set(ld, &s, p, w, c->dep_sets, l);
        }
    }
    for (int k = 0; k < c->dep_q; k++) {
        snprintf(p, sizeof p, k ? "depformer_emb.%d" : "depformer_text_emb", k - 1);
        lm->dep_embeddings[k] = load_dep_embedding(ld, c, k ? c->card + 1 : c->text_card + 1, p);
        if (c->dep_norm) {
            lm->dep_norms[k] = mo_load_vector(ld, c->dep_dim, "depformer_norms.%d.weight", k);
            lm->dep_norm_biases[k] = mo_load_vector(ld, c->dep_dim, "depformer_norms.%d.bias", k);
        }
        lm->heads[k] =
            mo_load_matrix(ld, MO_LAYOUT_STRIPS, c->card, c->dep_dim, "linears.%d.weight", k);
    }
}

int mo_lm_load(mo_lm *lm, const mo_lm_config *cfg, mo_loader *ld) {
    memset(lm, 0, sizeof *lm);
    lm->cfg = *cfg;
    ld->names = mo_names_detect(ld->ck, cfg);
    load_temporal(ld, lm);
    if (cfg->dep_q > 0 && !ld->failed) load_depth(ld, lm);
    mo_load_copies(ld);
    return ld->failed;
}

void mo_lm_free(mo_lm *lm) {
    free(lm->layers);
    for (int w = 0; w < MO_MAX_CODEBOOKS; w++) free(lm->sets[w].layers);
    memset(lm, 0, sizeof *lm);
}

/* ---- recording ---------------------------------------------------------------------------- */

/* Tokens of the grid's current column -> `normed` [1, dim], the vector every head reads. */
static mo_view record_temporal(mo_graph *g, const mo_lm *lm, mo_dtype kv_type, mo_view tokens,
                               mo_view pos) {
    const mo_lm_config *c = &lm->cfg;
    mo_layer_shape shape = temporal_shape(c);
    mo_view x = mo_scratch(g, 1, c->dim), normed = mo_scratch(g, 1, c->dim);
    mo_layer_time time = {.pos = pos, .table = mo_scratch(g, 1, shape.head_dim)};
    mo_layer_scratch s = mo_layer_scratch_new(g, &shape, 1);
    char name[32];
    /* Additions in the reference's order: audio channels, then text. */
    mo_embed_sum(g, lm->embeddings, c->n_q, mo_cols(tokens, 1, c->n_q), x, false);
    mo_embed_sum(g, &lm->embeddings[c->n_q], 1, mo_cols(tokens, 0, 1), x, true);
    mo_tap(g, x, true, "lm.embed");
    mo_rope_table(g, lm->rope_freq, pos, time.table);
    for (int i = 0; i < c->layers; i++) {
        mo_kv kv = mo_kv_ring(g, kv_type, shape.kv_heads, c->context, shape.head_dim);
        snprintf(name, sizeof name, "lm.layer.%02d", i);
        mo_layer_attention(g, &shape, &lm->layers[i], &s, &time, kv, x, name);
        mo_layer_feed_forward(g, &shape, &lm->layers[i], &s, x, name);
    }
    mo_norm(g, MO_NORM_RMS, c->norm_eps, lm->out_norm, NULL, x, normed);
    mo_tap(g, normed, true, "lm.out_norm");
    return normed;
}

/* x += embedding of `token` (a previous sample). */
static void record_dep_embedding(mo_graph *g, const mo_lm *lm, int k, mo_view token, mo_view low,
                                 mo_view x) {
    const mo_embedding *e = &lm->dep_embeddings[k];
    mo_embed_sum(g, &e->table, 1, token, e->up ? low : x, !e->up);
    if (e->up) mo_project(g, e->up, NULL, low, x, x);
}

/* The depth transformer: codebook after codebook, each one position, each seeing the ones before.
 */
static void record_depth(mo_graph *g, mo_lm *lm, mo_view normed, mo_view tokens,
                         mo_op_sample *sample) {
    const mo_lm_config *c = &lm->cfg;
    mo_layer_shape shape = depth_shape(c);
    mo_layer_scratch s = mo_layer_scratch_new(g, &shape, 1);
    mo_view x = mo_scratch(g, 1, c->dep_dim), logits = mo_scratch(g, 1, c->card);
    mo_view low = c->dep_low_rank ? mo_scratch(g, 1, c->dep_low_rank) : (mo_view){0};
    mo_kv *kv = mo_calloc((size_t)c->dep_layers + 1, sizeof *kv);
    if (!kv) {
        if (!g->failed) g->failed = mo_fail(g->err, MOSHI_ENOMEM, "out of memory");
        return;
    }
    for (int i = 0; i < c->dep_layers; i++)
        kv[i] = mo_kv_ring(g, MO_F32, shape.kv_heads, c->dep_q, shape.head_dim);
    for (int k = 0; k < c->dep_q; k++) {
        const mo_depth_set *set = &lm->sets[c->dep_schedule[k]];
        mo_layer_time time = {.static_pos = k};
        mo_project(g, set->in, NULL, normed, (mo_view){0}, x);
        record_dep_embedding(g, lm, k, mo_cols(tokens, k, 1), low, x);
        mo_tap(g, x, true, "depth.%02d.in", k);
        for (int i = 0; i < c->dep_layers; i++) {
            char name[48];
            snprintf(name, sizeof name, "depth.%02d.layer.%02d", k, i);
            mo_layer_attention(g, &shape, &set->layers[i], &s, &time, kv[i], x, name);
            mo_layer_feed_forward(g, &shape, &set->layers[i], &s, x, name);
        }
        mo_tap(g, x, true, "depth.%02d.hidden", k);
        if (c->dep_norm)
            mo_norm(g, MO_NORM_LAYER, 1e-5f, lm->dep_norms[k], lm->dep_norm_biases[k], x, x);
        mo_project(g, lm->heads[k], NULL, x, (mo_view){0}, logits);
        mo_tap(g, logits, true, "depth.%02d.logits", k);
        sample->channel = 1 + k;
        sample->logits = logits;
        sample->token = mo_cols(tokens, 1 + k, 1);
        mo_sample(g, sample);
        mo_tap_i32(g, sample->token, "depth.%02d.token", k);
    }
    free(kv);
}

void mo_lm_record(mo_graph *g, mo_lm *lm, mo_dtype kv_type) {
    const mo_lm_config *c = &lm->cfg;
    mo_grid grid = mo_grid_new(g, c);
    mo_view in_tokens = mo_scratch(g, 1, 1 + c->n_q);
    mo_view tokens = mo_scratch(g, 1, 1 + c->dep_q);
    mo_view logits = mo_scratch(g, 1, c->text_card_out);
    if (c->n_q > c->dep_q) lm->user_codes = mo_state_view(g, 1, c->n_q - c->dep_q, 0);
    lm->force = mo_state_view(g, 1, 1 + c->dep_q, MOSHI_FREE);
    lm->params = mo_state_view(g, 1, MO_SAMPLE_COLS, 0);
    lm->out_tokens = mo_scratch(g, 1, 1 + c->dep_q);

    mo_grid_read(g, &grid, lm->user_codes, in_tokens);
    mo_tap_i32(g, in_tokens, "lm.in_tokens");
    mo_view normed = record_temporal(g, lm, kv_type, in_tokens, grid.step);
    mo_project(g, lm->text_head, NULL, normed, (mo_view){0}, logits);
    mo_tap(g, logits, true, "lm.text_logits");
    for (int i = 0; i < c->extra_heads; i++)
        if (lm->extra_heads[i]) {
            mo_view head = mo_scratch(g, 1, c->extra_heads_dim);
            mo_project(g, lm->extra_heads[i], NULL, normed, (mo_view){0}, head);
            mo_tap(g, head, true, "lm.extra_head.%d", i);
        }
    mo_op_sample sample = {.channel = 0,
                           .logits = logits,
                           .params = lm->params,
                           .force = lm->force,
                           .step = grid.step,
                           .token = mo_cols(tokens, 0, 1)};
    mo_sample(g, &sample);
    mo_tap_i32(g, sample.token, "lm.text_token");
    lm->depth_op = g->n_ops;
    if (c->dep_q > 0) record_depth(g, lm, normed, tokens, &sample);
    mo_grid_write(g, &grid, tokens, lm->out_tokens);
    mo_tap_i32(g, lm->out_tokens, "lm.out_tokens");
    if (c->dep_q == 0) lm->depth_op = g->n_ops;
}
