#include "make_model.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- growing byte strings ----------------------------------------------------------------- */

typedef struct bytes {
    uint8_t *p;
    size_t n, cap;
} bytes;

static void put(bytes *b, const void *data, size_t n) {
    if (n == 0) return;
    if (b->n + n > b->cap) {
        b->cap = 2 * (b->n + n) + 64;
        b->p = realloc(b->p, b->cap);
        if (!b->p) test_die("out of memory");
    }
    memcpy(b->p + b->n, data, n);
    b->n += n;
}

MO_PRINTF(2, 3) static void putf(bytes *b, const char *fmt, ...) {
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof text) test_die("text too long");
    put(b, text, (size_t)n);
}

/* ---- safetensors -------------------------------------------------------------------------- */

static void put_value(bytes *b, mo_dtype dtype, float v) {
    uint16_t half = dtype == MO_BF16 ? mo_f32_to_bf16(v) : mo_f32_to_f16(v);
    double wide = v;
    switch (dtype) {
    case MO_F32:
        put(b, &v, 4);
        return;
    case MO_F16:
    case MO_BF16:
        put(b, &half, 2);
        return;
    case MO_F64:
        put(b, &wide, 8);
        return;
    default: { /* integer types, for files that are wrong on purpose */
        int64_t i = (int64_t)v;
        put(b, &i, mo_dtype_bytes(dtype));
    }
    }
}

uint8_t *safetensors_build(const tensors *set, size_t *size) {
    bytes head = {0}, data = {0}, all = {0};
    putf(&head, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = 0; i < set->n; i++) {
        const tensor *t = &set->t[i];
        size_t begin = data.n;
        for (size_t k = 0; k < t->count; k++) put_value(&data, t->dtype, t->f[k]);
        putf(&head, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", t->name, mo_dtype_name(t->dtype));
        for (int d = 0; d < t->ndim; d++) putf(&head, "%s%" PRId64, d ? "," : "", t->shape[d]);
        putf(&head, "],\"data_offsets\":[%zu,%zu]}", begin, data.n);
    }
    putf(&head, "}");
    uint64_t length = head.n;
    put(&all, &length, 8);
    put(&all, head.p, head.n);
    put(&all, data.p ? data.p : head.p, data.n);
    free(head.p);
    free(data.p);
    *size = all.n;
    return all.p;
}

/* ---- weights ------------------------------------------------------------------------------ */

typedef struct maker {
    tensors *set;
    test_rng rng;
    int dtype;
} maker;

static float round_to(float v, mo_dtype dtype) {
    if (dtype == MO_BF16) return mo_bf16_to_f32(mo_f32_to_bf16(v));
    if (dtype == MO_F16) return mo_f16_to_f32(mo_f32_to_f16(v));
    return v;
}

/* A tensor of uniform numbers middle - spread .. middle + spread. */
static tensor *uniform(maker *m, float middle, float spread, int ndim, const int64_t *shape,
                       const char *name) {
    static const mo_dtype some[] = {MO_F32, MO_F16, MO_BF16};
    tensor *t = tensors_add(m->set, name, ndim, shape);
    t->dtype = m->dtype == MADE_MIXED ? some[rng_below(&m->rng, 3)] : (mo_dtype)m->dtype;
    for (size_t i = 0; i < t->count; i++)
        t->f[i] = round_to(middle + spread * rng_f32(&m->rng), t->dtype);
    return t;
}

/* Spread that keeps the size of what goes through: outputs of unit inputs have deviation `gain`. */
static float spread_of(double gain, int64_t fan_in) {
    return (float)(gain * sqrt(3.0 / (double)fan_in));
}

MO_PRINTF(5, 6)
static void matrix(maker *m, double gain, int64_t rows, int64_t cols, const char *fmt, ...) {
    char name[MO_NAME_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    uniform(m, 0, spread_of(gain, cols), 2, (int64_t[]){rows, cols}, name);
}

MO_PRINTF(5, 6)
static void vector(maker *m, double middle, double spread, int64_t n, const char *fmt, ...) {
    char name[MO_NAME_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    uniform(m, (float)middle, (float)spread, 1, &n, name);
}

static void make_temporal(maker *m, const mo_lm_config *c) {
    int kv = c->dim / c->kv_repeat;
    matrix(m, sqrt(c->dim), c->text_card + 1, c->dim, "text_emb.weight");
    for (int i = 0; i < c->n_q; i++)
        matrix(m, 0.5 * sqrt(c->dim), c->card + 1, c->dim, "emb.%d.weight", i);
    for (int l = 0; l < c->layers; l++) {
        const char *at = "transformer.layers";
        matrix(m, 1.5, c->dim + 2 * kv, c->dim, "%s.%d.self_attn.in_proj_weight", at, l);
        matrix(m, 1, c->dim, c->dim, "%s.%d.self_attn.out_proj.weight", at, l);
        vector(m, 1, 0.3, c->dim, "%s.%d.norm1.alpha", at, l);
        vector(m, 1, 0.3, c->dim, "%s.%d.norm2.alpha", at, l);
        matrix(m, 1.2, 2 * c->hidden, c->dim, "%s.%d.gating.linear_in.weight", at, l);
        matrix(m, 1.2, c->dim, c->hidden, "%s.%d.gating.linear_out.weight", at, l);
    }
    vector(m, 1, 0.3, c->dim, "out_norm.alpha");
    matrix(m, 2, c->text_card_out, c->dim, "text_linear.weight");
    for (int i = 0; i < c->extra_heads; i++)
        matrix(m, 1, c->extra_heads_dim, c->dim, "extra_heads.%d.weight", i);
}

/* What the depth transformer hears of the token before: the text for codebook 0. */
static void make_depth_embeddings(maker *m, const mo_lm_config *c) {
    int width = c->dep_low_rank ? c->dep_low_rank : c->dep_dim;
    for (int k = 0; k < c->dep_q; k++) {
        char at[64] = "depformer_text_emb";
        if (k > 0) snprintf(at, sizeof at, "depformer_emb.%d", k - 1);
        matrix(m, sqrt(width), (k ? c->card : c->text_card) + 1, width, "%s.weight", at);
        if (c->dep_low_rank) matrix(m, 1, c->dep_dim, width, "%s.low_rank.weight", at);
    }
}

static void make_depth(maker *m, const mo_lm_config *c) {
    if (c->dep_q == 0) return;
    int e = c->dep_dim;
    make_depth_embeddings(m, c);
    for (int s = 0; s < c->dep_sets; s++) matrix(m, 1, e, c->dim, "depformer_in.%d.weight", s);
    for (int l = 0; l < c->dep_layers; l++) {
        const char *at = "depformer.layers";
        matrix(m, 1.5, (int64_t)c->dep_sets * 3 * e, e, "%s.%d.self_attn.in_proj_weight", at, l);
        matrix(m, 1, (int64_t)c->dep_sets * e, e, "%s.%d.self_attn.out_proj.weight", at, l);
        vector(m, 1, 0.3, e, "%s.%d.norm1.alpha", at, l);
        vector(m, 1, 0.3, e, "%s.%d.norm2.alpha", at, l);
        for (int s = 0; s < c->dep_sets; s++) {
            matrix(m, 1.2, 2 * c->dep_hidden, e, "%s.%d.gating.%d.linear_in.weight", at, l, s);
            matrix(m, 1.2, e, c->dep_hidden, "%s.%d.gating.%d.linear_out.weight", at, l, s);
        }
    }
    for (int k = 0; k < c->dep_q; k++) {
        matrix(m, 1.5, c->card, e, "linears.%d.weight", k);
        if (!c->dep_norm) continue;
        vector(m, 1, 0.3, e, "depformer_norms.%d.weight", k);
        vector(m, 0, 0.2, e, "depformer_norms.%d.bias", k);
    }
}

static void conv_weight(maker *m, double gain, int64_t out, int64_t in, int64_t taps,
                        const char *at, int index, const char *part) {
    char name[MO_NAME_MAX];
    snprintf(name, sizeof name, "%s.model.%d%s.conv.conv.weight", at, index, part);
    uniform(m, 0, spread_of(gain, in * taps), 3, (int64_t[]){out, in, taps}, name);
    vector(m, 0, 0.1, out, "%s.model.%d%s.conv.conv.bias", at, index, part);
}

static int make_resblocks(maker *m, const mo_mimi_config *c, const char *at, int index, int width) {
    for (int j = 0; j < c->residual_layers; j++, index++) {
        int inner = width / c->compress;
        conv_weight(m, 1, inner, width, c->residual_kernel, at, index, ".block.1");
        conv_weight(m, 0.5, width, inner, 1, at, index, ".block.3");
    }
    return index;
}

static void make_seanet(maker *m, const mo_mimi_config *c) {
    int index = 1, width = c->filters;
    char name[MO_NAME_MAX];
    conv_weight(m, 3, width, 1, c->kernel, "encoder", 0, "");
    for (int r = c->n_ratios - 1; r >= 0; r--, width *= 2) {
        index = make_resblocks(m, c, "encoder", index, width) + 1;
        conv_weight(m, 1.2, 2 * width, width, 2 * c->ratios[r], "encoder", index++, "");
    }
    conv_weight(m, 1.2, c->dimension, width, c->last_kernel, "encoder", index + 1, "");
    conv_weight(m, 1.2, width, c->dimension, c->kernel, "decoder", 0, "");
    index = 1;
    for (int r = 0; r < c->n_ratios; r++) {
        int stride = c->ratios[r];
        snprintf(name, sizeof name, "decoder.model.%d.convtr.convtr.weight", ++index);
        uniform(m, 0, spread_of(1.2, 2 * width), 3, (int64_t[]){width, width / 2, 2 * stride},
                name);
        width /= 2;
        vector(m, 0, 0.1, width, "decoder.model.%d.convtr.convtr.bias", index);
        index = make_resblocks(m, c, "decoder", index + 1, width);
    }
    conv_weight(m, 0.3, 1, width, c->last_kernel, "decoder", index + 1, "");
}

static void make_mimi_transformer(maker *m, const mo_mimi_config *c, const char *which) {
    int d = c->dimension;
    for (int l = 0; l < c->layers; l++) {
        char at[128];
        snprintf(at, sizeof at, "%s.transformer.layers.%d", which, l);
        matrix(m, 1.5, 3 * d, d, "%s.self_attn.in_proj_weight", at);
        matrix(m, 1, d, d, "%s.self_attn.out_proj.weight", at);
        matrix(m, 1, c->feed_forward, d, "%s.linear1.weight", at);
        matrix(m, 1, d, c->feed_forward, "%s.linear2.weight", at);
        for (int n = 1; n <= 2; n++) {
            vector(m, 1, 0.3, d, "%s.norm%d.weight", at, n);
            vector(m, 0, 0.2, d, "%s.norm%d.bias", at, n);
            vector(m, 0.3, 0.4, d, "%s.layer_scale_%d.scale", at, n);
        }
    }
}

/* Entries get smaller from stage to stage, as residuals do. Some are hardly used, which is where
 * the clamp of the usage count matters. */
static void make_codebook(maker *m, const mo_mimi_config *c, int k) {
    char name[MO_NAME_MAX];
    bool first = k < c->semantic_codebooks;
    const char *half = first ? "rvq_first" : "rvq_rest";
    int layer = first ? k : k - c->semantic_codebooks, dtype = m->dtype;
    float size = 1.5f * powf(0.85f, (float)layer);
    float *usage = test_alloc((size_t)c->bins, sizeof *usage);
    vector(m, 1, 0, 1, "quantizer.%s.vq.layers.%d._codebook._initialized", half, layer);
    m->dtype = MO_F32;
    vector(m, 2, 1.5, c->bins, "quantizer.%s.vq.layers.%d._codebook.cluster_usage", half, layer);
    float *u = m->set->t[m->set->n - 1].f;
    static const float rare[] = {0, 3e-6f, 1e-5f};
    for (int i = 0; i < 3 && i < c->bins - 1; i++) u[rng_below(&m->rng, c->bins)] = rare[i];
    for (int j = 0; j < c->bins; j++) usage[j] = u[j] > 1e-5f ? u[j] : 1e-5f;
    snprintf(name, sizeof name, "quantizer.%s.vq.layers.%d._codebook.embedding_sum", half, layer);
    m->dtype = dtype == MADE_MIXED ? MO_F32 : dtype;
    tensor *t = uniform(m, 0, size, 2, (int64_t[]){c->bins, c->codebook_dim}, name);
    for (size_t i = 0; i < t->count; i++)
        t->f[i] = round_to(t->f[i] * usage[i / (size_t)c->codebook_dim], t->dtype);
    m->dtype = dtype;
    free(usage);
}

static void make_quantizer(maker *m, const mo_mimi_config *c) {
    int64_t dim = c->codebook_dim, d = c->dimension;
    for (int h = 0; h < 2; h++) {
        char name[MO_NAME_MAX];
        const char *half = h ? "rvq_rest" : "rvq_first";
        snprintf(name, sizeof name, "quantizer.%s.input_proj.weight", half);
        uniform(m, 0, spread_of(1, d), 3, (int64_t[]){dim, d, 1}, name);
        snprintf(name, sizeof name, "quantizer.%s.output_proj.weight", half);
        uniform(m, 0, spread_of(1, dim), 3, (int64_t[]){d, dim, 1}, name);
    }
    for (int k = 0; k < c->codebooks; k++) make_codebook(m, c, k);
}

static void make_mimi(maker *m, const mo_mimi_config *c) {
    int64_t d = c->dimension, taps = 2 * c->stride;
    make_seanet(m, c);
    make_mimi_transformer(m, c, "encoder_transformer");
    make_mimi_transformer(m, c, "decoder_transformer");
    if (c->stride > 1) {
        uniform(m, 0, spread_of(1.2, d * taps), 3, (int64_t[]){d, d, taps},
                "downsample.conv.conv.conv.weight");
        uniform(m, 0.5f, 0.5f, 3, (int64_t[]){d, 1, taps}, "upsample.convtr.convtr.convtr.weight");
    }
    make_quantizer(m, c);
}

/* ---- spelling ----------------------------------------------------------------------------- */

/* Rows of `t`, part i of n, as a tensor of another name. */
static void copy_part(tensors *to, const tensor *t, int i, int n, const char *name) {
    int64_t shape[MO_MAX_DIMS];
    memcpy(shape, t->shape, sizeof shape);
    shape[0] /= n;
    tensor *c = tensors_add(to, name, t->ndim, shape);
    c->dtype = t->dtype;
    memcpy(c->f, t->f + (size_t)i * c->count, c->count * sizeof *c->f);
}

/* Replace a name's tail. False when it does not end in `from`. */
static bool retail(char out[MO_NAME_MAX], const char *name, const char *from, const char *to) {
    size_t n = strlen(name), f = strlen(from);
    if (n < f || strcmp(name + n - f, from) != 0) return false;
    snprintf(out, MO_NAME_MAX, "%.*s%s", (int)(n - f), name, to);
    return true;
}

static void spell_projection(tensors *to, const tensor *t, const model_spec *spec) {
    static const char *const plural[] = {"self_attn.in_projs", "self_attn.out_projs"};
    char name[MO_NAME_MAX], stem[MO_NAME_MAX];
    bool in = retail(stem, t->name, "self_attn.in_proj_weight", plural[0]);
    int sets = strncmp(t->name, "depformer", 9) == 0 ? spec->lm.dep_sets : 1;
    if (spec->names == MADE_DOTTED && in) {
        retail(name, t->name, "in_proj_weight", "in_proj.weight");
        copy_part(to, t, 0, 1, name);
    } else if (spec->names == MADE_PER_SET) {
        if (!in) retail(stem, t->name, "self_attn.out_proj.weight", plural[1]);
        for (int s = 0; s < sets; s++) {
            if (snprintf(name, sizeof name, "%s.%d.weight", stem, s) >= (int)sizeof name)
                test_die("name too long");
            copy_part(to, t, s, sets, name);
        }
    } else {
        copy_part(to, t, 0, 1, t->name);
    }
}

static void spell_one(tensors *to, const tensor *t, const model_spec *spec) {
    static const char *const old[][2] = {{"_codebook._initialized", "_codebook.inited"},
                                         {"_codebook.cluster_usage", "_codebook.cluster_size"},
                                         {"_codebook.embedding_sum", "_codebook.embed_sum"}};
    char name[MO_NAME_MAX];
    if (strstr(t->name, "self_attn.in_proj_weight") ||
        strstr(t->name, "self_attn.out_proj.weight")) {
        spell_projection(to, t, spec);
        return;
    }
    for (int i = 0; spec->old_codebook_names && i < 3; i++) {
        if (retail(name, t->name, old[i][0], old[i][1])) {
            copy_part(to, t, 0, 1, name);
            return;
        }
    }
    copy_part(to, t, 0, 1, t->name);
    if (!spec->flat_norms && retail(name, t->name, ".alpha", ".alpha")) {
        tensor *c = &to->t[to->n - 1];
        c->ndim = 3;
        c->shape[2] = c->shape[0];
        c->shape[0] = c->shape[1] = 1;
    }
}

/* ---- configurations ----------------------------------------------------------------------- */

static void put_ints(bytes *b, const char *key, const int *v, int n) {
    putf(b, "\"%s\": [", key);
    for (int i = 0; i < n; i++) putf(b, "%s%d", i ? ", " : "", v[i]);
    putf(b, "],\n");
}

/* Feed-forward sizes are given before the gate takes two thirds of them. */
static int ungated(int hidden) {
    return (3 * hidden + 1) / 2;
}

static void put_depth_config(bytes *b, const model_spec *s) {
    const mo_lm_config *c = &s->lm;
    if (c->dep_q == 0) return;
    putf(b, "\"depformer_dim\": %d, \"depformer_num_heads\": %d, \"depformer_num_layers\": %d,\n",
         c->dep_dim, c->dep_heads, c->dep_layers);
    if (s->null_feed_forward)
        putf(b, "\"depformer_dim_feedforward\": null,\n");
    else
        putf(b, "\"depformer_dim_feedforward\": %d,\n", ungated(c->dep_hidden));
    putf(b, "\"depformer_multi_linear\": true, \"depformer_context\": %d,\n", c->dep_q);
    putf(b, "\"depformer_max_period\": 10000, \"depformer_gating\": \"silu\",\n");
    putf(b, "\"depformer_pos_emb\": \"none\", \"depformer_weights_per_step\": true,\n");
    if (c->dep_sets != c->dep_q)
        put_ints(b, "depformer_weights_per_step_schedule", c->dep_schedule, c->dep_q);
    if (c->dep_low_rank) putf(b, "\"depformer_low_rank_embeddings\": %d,\n", c->dep_low_rank);
    if (c->kv_repeat != 1) putf(b, "\"depformer_kv_repeat\": 1,\n");
    if (c->dep_norm) putf(b, "\"depformer_norm\": \"layer_norm\",\n");
}

static void lm_config_text(bytes *b, const model_spec *s) {
    static const char *const ropes[] = {"none", "rope", "rope_concat"};
    const mo_lm_config *c = &s->lm;
    putf(b, "{\n\"dim\": %d, \"num_layers\": %d, \"num_heads\": %d,\n", c->dim, c->layers,
         c->heads);
    /* the quarter keeps int(hidden_scale * dim) clear of rounding */
    putf(b, "\"hidden_scale\": %.17g,\n", (ungated(c->hidden) + 0.25) / c->dim);
    putf(b, "\"n_q\": %d, \"dep_q\": %d, \"card\": %d, \"text_card\": %d,\n", c->n_q, c->dep_q,
         c->card, c->text_card);
    putf(b, "\"existing_text_padding_id\": %d,\n", c->text_pad);
    if (c->text_card_out != c->text_card) putf(b, "\"text_card_out\": %d,\n", c->text_card_out);
    if (c->kv_repeat != 1) putf(b, "\"kv_repeat\": %d,\n", c->kv_repeat);
    putf(b, "\"causal\": true, \"layer_scale\": null, \"context\": %d,\n", c->context);
    putf(b, "\"max_period\": %.9g, \"gating\": \"silu\",\n", c->max_period);
    putf(b, "\"norm\": \"%s\", \"positional_embedding\": \"%s\",\n",
         c->norm_eps > 1e-7f ? "rms_norm" : "rms_norm_f32", ropes[c->rope]);
    put_depth_config(b, s);
    put_ints(b, "delays", c->delays, 1 + c->n_q);
    if (c->extra_heads)
        putf(b, "\"extra_heads_num_heads\": %d, \"extra_heads_dim\": %d,\n", c->extra_heads,
             c->extra_heads_dim);
    putf(b, "\"moshi_name\": \"%s\", \"mimi_name\": \"%s\",\n", c->moshi_name, c->mimi_name);
    putf(b, "\"tokenizer_name\": \"%s\", \"mimi_config_name\": \"%s\",\n", c->tokenizer_name,
         c->mimi_config_name);
    putf(b, "\"lm_gen_config\": {\"temp\": %.9g, \"temp_text\": %.9g, ", c->audio_temp,
         c->text_temp);
    putf(b, "\"top_k\": %d, \"top_k_text\": %d},\n", c->audio_top_k, c->text_top_k);
    putf(b, "\"model_type\": \"%s\"\n}\n", c->model_type);
}

static void mimi_config_text(bytes *b, const mo_mimi_config *c) {
    putf(b, "{\n\"sample_rate\": %d, \"channels\": 1, \"frame_rate\": %.17g,\n", c->sample_rate_hz,
         c->frame_rate_hz);
    putf(b, "\"seanet\": {\n\"channels\": 1, \"dimension\": %d, \"causal\": true,\n", c->dimension);
    putf(b, "\"n_filters\": %d, \"n_residual_layers\": %d, \"activation\": \"ELU\",\n", c->filters,
         c->residual_layers);
    putf(b, "\"compress\": %d, \"dilation_base\": %d, \"disable_norm_outer_blocks\": 0,\n",
         c->compress, c->dilation_base);
    putf(b, "\"kernel_size\": %d, \"residual_kernel_size\": %d, \"last_kernel_size\": %d,\n",
         c->kernel, c->residual_kernel, c->last_kernel);
    put_ints(b, "ratios", c->ratios, c->n_ratios);
    putf(b, "\"norm\": \"none\", \"pad_mode\": \"constant\", \"true_skip\": true\n},\n");
    putf(b, "\"quantizer\": {\"dimension\": %d, \"n_q\": %d, \"bins\": %d,\n", c->codebook_dim,
         c->codebooks, c->bins);
    if (c->semantic_codebooks != 1) putf(b, "\"n_q_semantic\": %d,\n", c->semantic_codebooks);
    putf(b, "\"input_dimension\": %d, \"output_dimension\": %d},\n", c->dimension, c->dimension);
    putf(b, "\"transformer\": {\n\"d_model\": %d, \"num_heads\": %d, \"num_layers\": %d,\n",
         c->dimension, c->heads, c->layers);
    putf(b, "\"causal\": true, \"layer_scale\": 0.01, \"context\": %d,\n", c->context);
    putf(b, "\"conv_layout\": true, \"max_period\": %.9g, \"gating\": \"none\",\n", c->max_period);
    putf(b, "\"norm\": \"layer_norm\", \"positional_embedding\": \"rope\",\n");
    putf(b, "\"dim_feedforward\": %d, \"input_dimension\": %d,\n", c->feed_forward, c->dimension);
    putf(b, "\"output_dimensions\": [%d]\n}\n}\n", c->dimension);
}

/* ---- tokenizer ---------------------------------------------------------------------------- */

/* One piece of a SentencePiece model: field 1 of the file, {1: piece, 2: score, 3: type}. */
static void put_piece(bytes *b, const char *piece, int type) {
    float score = 0;
    uint8_t head[] = {0x0a, (uint8_t)(2 + strlen(piece) + 5 + 2), 0x0a, (uint8_t)strlen(piece)};
    uint8_t tail[] = {0x18, (uint8_t)type}, score_tag = 0x15;
    put(b, head, sizeof head);
    put(b, piece, strlen(piece));
    put(b, &score_tag, 1);
    put(b, &score, 4);
    put(b, tail, sizeof tail);
}

static void text_model(bytes *b, int n) {
    static const char *const special[] = {"<unk>", "<s>", "</s>", "<pad>"};
    char piece[32];
    for (int i = 0; i < n; i++) {
        if (i < 4) {
            put_piece(b, special[i], i == 0 ? 2 : 3);
        } else if (i % 5 == 0) {
            snprintf(piece, sizeof piece, "<0x%02X>", 0x41 + i % 26);
            put_piece(b, piece, 6);
        } else {
            snprintf(piece, sizeof piece, "%sw%d", i % 3 ? "\xe2\x96\x81" : "", i);
            put_piece(b, piece, 1);
        }
    }
}

/* ---- whole models ------------------------------------------------------------------------- */

void spec_small(model_spec *spec) {
    memset(spec, 0, sizeof *spec);
    mo_lm_config *c = &spec->lm;
    c->dim = 32, c->layers = 2, c->heads = 2, c->kv_repeat = 1, c->hidden = 40, c->context = 10;
    c->max_period = 10000, c->rope = MO_ROPE_PAIRS, c->norm_eps = 1e-8f;
    c->n_q = 4, c->dep_q = 2, c->card = 24, c->text_card = 40, c->text_pad = 3;
    c->delays[2] = c->delays[4] = 1;
    c->dep_dim = 16, c->dep_layers = 2, c->dep_heads = 2, c->dep_hidden = 24;
    c->text_temp = 0.7f, c->audio_temp = 0.8f, c->text_top_k = 25, c->audio_top_k = 250;
    mo_mimi_config *m = &spec->mimi;
    m->sample_rate_hz = 24000;
    m->filters = 4, m->dimension = 16, m->residual_layers = 1, m->compress = 2;
    m->dilation_base = 2, m->kernel = 7, m->residual_kernel = 3, m->last_kernel = 3;
    m->n_ratios = 4, m->ratios[0] = 8, m->ratios[1] = 6, m->ratios[2] = 5, m->ratios[3] = 4;
    m->layers = 2, m->heads = 2, m->feed_forward = 24, m->context = 12, m->max_period = 10000;
    m->codebooks = 4, m->semantic_codebooks = 1, m->bins = 24, m->codebook_dim = 8;
    m->stride = 2;
    spec->lm_dtype = MO_BF16, spec->mimi_dtype = MO_F32;
    spec->seed = 1;
}

void spec_tiny(model_spec *spec) {
    spec_small(spec);
    mo_lm_config *c = &spec->lm;
    c->dim = 16, c->layers = 2, c->hidden = 16, c->context = 8;
    c->n_q = 2, c->dep_q = 1, c->card = 12, c->text_card = 16;
    c->delays[2] = 1;
    c->dep_dim = 8, c->dep_layers = 1, c->dep_hidden = 8;
    mo_mimi_config *m = &spec->mimi;
    m->filters = 2, m->dimension = 8, m->n_ratios = 2, m->ratios[0] = 4, m->ratios[1] = 3;
    m->layers = 1, m->feed_forward = 8, m->context = 6;
    m->codebooks = 2, m->bins = 12, m->codebook_dim = 4;
}

static void derive(model_spec *s) {
    mo_lm_config *c = &s->lm;
    mo_mimi_config *m = &s->mimi;
    if (!c->text_card_out) c->text_card_out = c->text_card;
    c->max_delay = 0;
    for (int i = 0; i <= c->n_q; i++)
        if (c->delays[i] > c->max_delay) c->max_delay = c->delays[i];
    if (!c->dep_sets) {
        c->dep_sets = c->dep_q;
        for (int k = 0; k < c->dep_q; k++) c->dep_schedule[k] = k;
    }
    m->hop = 1;
    for (int i = 0; i < m->n_ratios; i++) m->hop *= m->ratios[i];
    m->frame_samples = m->hop * m->stride;
    m->frame_rate_hz = (double)m->sample_rate_hz / m->frame_samples;
    strcpy(c->model_type, "moshi");
    strcpy(c->moshi_name, "model.safetensors");
    strcpy(c->mimi_name, "mimi.safetensors");
    strcpy(c->mimi_config_name, "mimi_config.json");
    strcpy(c->tokenizer_name, "text.model");
}

static void set_blob(made_model *m, int blob, bytes b) {
    static const char *const names[] = {"config.json", "model.safetensors", "mimi_config.json",
                                        "mimi.safetensors", "text.model"};
    free((void *)(uintptr_t)m->blobs[blob].data);
    m->blobs[blob] = (moshi_blob){names[blob], b.p, b.n};
}

void model_make(made_model *out, const model_spec *spec) {
    memset(out, 0, sizeof *out);
    out->spec = *spec;
    derive(&out->spec);
    maker lm = {&out->lm, {spec->seed}, spec->lm_dtype};
    make_temporal(&lm, &out->spec.lm);
    make_depth(&lm, &out->spec.lm);
    maker mimi = {&out->mimi, {spec->seed + 1000}, spec->mimi_dtype};
    make_mimi(&mimi, &out->spec.mimi);
    bytes config = {0}, mimi_config = {0}, text = {0};
    lm_config_text(&config, &out->spec);
    mimi_config_text(&mimi_config, &out->spec.mimi);
    text_model(&text, out->spec.lm.text_card);
    set_blob(out, MADE_CONFIG, config);
    set_blob(out, MADE_MIMI_CONFIG, mimi_config);
    set_blob(out, MADE_TEXT, text);
    model_rebuild(out);
}

void model_rebuild(made_model *m) {
    for (int which = 0; which < 2; which++) {
        const tensors *from = which ? &m->mimi : &m->lm;
        tensors spelled = {0};
        bytes b = {0};
        for (size_t i = 0; i < from->n; i++) spell_one(&spelled, &from->t[i], &m->spec);
        b.p = safetensors_build(&spelled, &b.n);
        set_blob(m, which ? MADE_MIMI : MADE_LM, b);
        tensors_free(&spelled);
    }
}

void model_free(made_model *m) {
    for (int i = 0; i < MADE_BLOBS; i++) set_blob(m, i, (bytes){0});
    tensors_free(&m->lm);
    tensors_free(&m->mimi);
}

void model_replace(made_model *m, int blob, const void *data, size_t size) {
    bytes b = {0};
    put(&b, data, size);
    set_blob(m, blob, b);
}

void model_edit(made_model *m, int blob, const char *from, const char *to) {
    bytes b = {0};
    size_t n = m->blobs[blob].size, f = strlen(from);
    const char *text = m->blobs[blob].data;
    for (size_t i = 0; i + f <= n; i++) {
        if (memcmp(text + i, from, f) != 0) continue;
        put(&b, text, i);
        put(&b, to, strlen(to));
        put(&b, text + i + f, n - i - f);
        set_blob(m, blob, b);
        return;
    }
    test_die("%s does not contain %s", m->blobs[blob].name, from);
}

void model_write(const made_model *m, const char *dir) {
    for (int i = 0; i < MADE_BLOBS; i++) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", dir, m->blobs[i].name);
        FILE *f = fopen(path, "wb");
        if (!f || fwrite(m->blobs[i].data, 1, m->blobs[i].size, f) != m->blobs[i].size ||
            fclose(f) != 0)
            test_die("cannot write %s", path);
    }
}

void test_signal(float *pcm, size_t n, uint64_t seed) {
    test_rng rng = {seed};
    double phase = 0, pitch = 0.02;
    for (size_t i = 0; i < n; i++) {
        if (i % 1500 == 0) pitch = 0.01 + 0.1 * fabs(rng_f32(&rng));
        phase += pitch;
        pcm[i] = (float)(0.3 * sin(phase)) + 0.2f * rng_f32(&rng);
    }
}
