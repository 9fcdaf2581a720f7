#include "sparse.h"

#include "checkpoint.h"
#include "tensors.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct entry {
    char name[128];
    mo_dtype dtype;
    int ndim;
    int64_t shape[3];
} entry;

typedef struct table {
    entry *e;
    size_t n, cap;
    mo_names names;
    sparse_numbers numbers;
} table;

static void add_entry(table *t, const char *name, mo_dtype dtype, int ndim, int64_t a, int64_t b,
                      int64_t c) {
    if (t->n == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 256;
        t->e = realloc(t->e, t->cap * sizeof *t->e);
        if (!t->e) test_die("out of memory");
    }
    entry *e = &t->e[t->n++];
    *e = (entry){.dtype = dtype, .ndim = ndim, .shape = {a, b, c}};
    snprintf(e->name, sizeof e->name, "%s", name);
}

/* `name` without ".weight" and with `suffix`. */
static void companion(char out[160], const char *name, const char *suffix) {
    snprintf(out, 160, "%.*s%s", (int)(strlen(name) - strlen(".weight")), name, suffix);
}

/* The file's name of a tensor, from PyTorch's. */
static void file_name(const table *t, char out[MO_TENSOR_NAME_BYTES], const char *fmt, va_list ap) {
    char name[MO_TENSOR_NAME_BYTES];
    vsnprintf(name, sizeof name, fmt, ap);
    mo_names_translate(&t->names, name, out);
}

/* A matrix; `linear` ones are what int8 quantises. */
MO_PRINTF(5, 6)
static void matrix(table *t, bool linear, int64_t rows, int64_t cols, const char *fmt, ...) {
    char name[MO_TENSOR_NAME_BYTES], other[160];
    va_list ap;
    va_start(ap, fmt);
    file_name(t, name, fmt, ap);
    va_end(ap);
    if (t->numbers == SPARSE_INT8 && linear) {
        add_entry(t, name, MO_I8, 2, rows, cols, 0);
        snprintf(other, sizeof other, "%.140s_scb", name);
        add_entry(t, other, MO_F32, 1, rows, 0, 0);
    } else if (t->numbers == SPARSE_MLX_Q4 && cols % 32 == 0) {
        add_entry(t, name, MO_U32, 2, rows, cols / 8, 0);
        companion(other, name, ".scales");
        add_entry(t, other, MO_BF16, 2, rows, cols / 32, 0);
        companion(other, name, ".biases");
        add_entry(t, other, MO_BF16, 2, rows, cols / 32, 0);
    } else if (t->numbers == SPARSE_Q8_0) {
        add_entry(t, name, cols % 32 ? MO_F32 : MO_Q8_0, 2, rows, cols, 0);
    } else {
        add_entry(t, name, MO_BF16, 2, rows, cols, 0);
    }
}

MO_PRINTF(3, 4)
static void norm(table *t, int64_t n, const char *fmt, ...) {
    char name[MO_TENSOR_NAME_BYTES];
    va_list ap;
    va_start(ap, fmt);
    file_name(t, name, fmt, ap);
    va_end(ap);
    add_entry(t, name, t->numbers == SPARSE_Q8_0 ? MO_F32 : MO_BF16, 3, 1, 1, n);
}

static void temporal(table *t, const mo_lm_config *c) {
    int64_t kv = c->dim / c->kv_repeat;
    matrix(t, false, c->text_card + 1, c->dim, "text_emb.weight");
    for (int q = 0; q < c->n_q; q++) matrix(t, false, c->card + 1, c->dim, "emb.%d.weight", q);
    for (int i = 0; i < c->layers; i++) {
        norm(t, c->dim, "transformer.layers.%d.norm1.alpha", i);
        norm(t, c->dim, "transformer.layers.%d.norm2.alpha", i);
        matrix(t, true, c->dim + 2 * kv, c->dim, "transformer.layers.%d.self_attn.in_proj_weight",
               i);
        matrix(t, true, c->dim, c->dim, "transformer.layers.%d.self_attn.out_proj.weight", i);
        matrix(t, true, 2 * c->hidden, c->dim, "transformer.layers.%d.gating.linear_in.weight", i);
        matrix(t, true, c->dim, c->hidden, "transformer.layers.%d.gating.linear_out.weight", i);
    }
    norm(t, c->dim, "out_norm.alpha");
    matrix(t, true, c->text_card_out, c->dim, "text_linear.weight");
}

static void depth_layer(table *t, const mo_lm_config *c, int i) {
    const char *p = "depformer.layers";
    int64_t e = c->dep_dim, sets = c->dep_sets;
    norm(t, e, "%s.%d.norm1.alpha", p, i);
    norm(t, e, "%s.%d.norm2.alpha", p, i);
    if (t->names.scheme == MO_NAMES_PYTORCH) {
        matrix(t, true, sets * 3 * e, e, "%s.%d.self_attn.in_proj_weight", p, i);
        matrix(t, true, sets * e, e, "%s.%d.self_attn.out_proj.weight", p, i);
    }
    for (int w = 0; w < c->dep_sets; w++) {
        if (t->names.scheme != MO_NAMES_PYTORCH) {
            matrix(t, true, 3 * e, e, "%s.%d.self_attn.in_projs.%d.weight", p, i, w);
            matrix(t, true, e, e, "%s.%d.self_attn.out_projs.%d.weight", p, i, w);
        }
        matrix(t, true, 2 * c->dep_hidden, e, "%s.%d.gating.%d.linear_in.weight", p, i, w);
        matrix(t, true, e, c->dep_hidden, "%s.%d.gating.%d.linear_out.weight", p, i, w);
    }
}

static void depth(table *t, const mo_lm_config *c) {
    for (int w = 0; w < c->dep_sets; w++)
        matrix(t, true, c->dep_dim, c->dim, "depformer_in.%d.weight", w);
    for (int i = 0; i < c->dep_layers; i++) depth_layer(t, c, i);
    matrix(t, false, c->text_card + 1, c->dep_dim, "depformer_text_emb.weight");
    for (int k = 0; k < c->dep_q; k++) {
        if (k) matrix(t, false, c->card + 1, c->dep_dim, "depformer_emb.%d.weight", k - 1);
        matrix(t, true, c->card, c->dep_dim, "linears.%d.weight", k);
    }
}

/* ---- writing -------------------------------------------------------------------------------- */

static uint64_t entry_bytes(const entry *e) {
    uint64_t n = 1;
    for (int i = 0; i < e->ndim; i++) n *= (uint64_t)e->shape[i];
    return mo_dtype_row_bytes(e->dtype, n);
}

static void write_safetensors(FILE *f, const table *t, uint64_t *end) {
    char *text = test_alloc(t->n + 1, 300);
    size_t n = (size_t)sprintf(text, "{");
    uint64_t at = 0;
    for (size_t i = 0; i < t->n; i++) {
        const entry *e = &t->e[i];
        n += (size_t)sprintf(text + n, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", i ? "," : "",
                             e->name, mo_dtype_name(e->dtype));
        for (int d = 0; d < e->ndim; d++)
            n += (size_t)sprintf(text + n, d ? ",%" PRId64 : "%" PRId64, e->shape[d]);
        n += (size_t)sprintf(text + n, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", at,
                             at + entry_bytes(e));
        at += entry_bytes(e);
    }
    n += (size_t)sprintf(text + n, "}");
    while (n % 8) text[n++] = ' ';
    uint64_t length = n;
    fwrite(&length, 8, 1, f);
    fwrite(text, 1, n, f);
    free(text);
    *end = 8 + n + at;
}

static void put(FILE *f, uint64_t value, size_t bytes) {
    fwrite(&value, bytes, 1, f); /* little endian, as everything these tests run on */
}

static void write_gguf(FILE *f, const table *t, uint64_t *end) {
    uint64_t at = 0;
    fwrite("GGUF", 1, 4, f);
    put(f, 3, 4);
    put(f, t->n, 8);
    put(f, 0, 8);
    for (size_t i = 0; i < t->n; i++) {
        const entry *e = &t->e[i];
        put(f, strlen(e->name), 8);
        fputs(e->name, f);
        put(f, (uint64_t)e->ndim, 4);
        for (int d = e->ndim - 1; d >= 0; d--) put(f, (uint64_t)e->shape[d], 8);
        put(f, e->dtype == MO_Q8_0 ? 8 : 0, 4);
        put(f, at, 8);
        at += (entry_bytes(e) + 31) / 32 * 32;
    }
    *end = ((uint64_t)ftell(f) + 31) / 32 * 32 + at;
}

static void write_table(const char *path, table *t) {
    uint64_t end = 0;
    FILE *f = fopen(path, "wb");
    if (!f) test_die("%s: cannot be written", path);
    if (t->numbers == SPARSE_Q8_0)
        write_gguf(f, t, &end);
    else
        write_safetensors(f, t, &end);
    if (fclose(f) != 0 || truncate(path, (off_t)end) != 0) test_die("%s: cannot be written", path);
    free(t->e);
}

void sparse_lm(const char *path, const mo_lm_config *cfg, mo_name_scheme names,
               sparse_numbers numbers) {
    table t = {.numbers = numbers, .names = {.scheme = names, .dep_q = cfg->dep_q}};
    for (int k = cfg->dep_q - 1; k >= 0; k--) {
        t.names.schedule[k] = cfg->dep_schedule[k];
        t.names.owner[cfg->dep_schedule[k]] = k;
    }
    temporal(&t, cfg);
    if (cfg->dep_q) depth(&t, cfg);
    write_table(path, &t);
}

/* ---- the codec ------------------------------------------------------------------------------ */

MO_PRINTF(5, 6)
static void codec_tensor(table *t, int64_t a, int64_t b, int64_t c, const char *fmt, ...) {
    char name[128];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    add_entry(t, name, MO_F32, c ? 3 : b ? 2 : 1, a, b, c);
}

static void conv(table *t, int64_t out, int64_t in, int64_t k, const char *name) {
    codec_tensor(t, out, in, k, "%s.conv.conv.weight", name);
    codec_tensor(t, out, 0, 0, "%s.conv.conv.bias", name);
}

static void residual(table *t, const mo_mimi_config *c, int64_t width, const char *side, int at) {
    char name[64];
    snprintf(name, sizeof name, "%s.model.%d.block.1", side, at);
    conv(t, width / c->compress, width, c->residual_kernel, name);
    snprintf(name, sizeof name, "%s.model.%d.block.3", side, at);
    conv(t, width, width / c->compress, 1, name);
}

/* Modules of the published layout: one residual block per level. */
static void seanet(table *t, const mo_mimi_config *c) {
    char name[64];
    int64_t width = c->filters;
    int at = 1;
    conv(t, width, 1, c->kernel, "encoder.model.0");
    for (int i = c->n_ratios - 1; i >= 0; i--, at += 3, width *= 2) {
        residual(t, c, width, "encoder", at);
        snprintf(name, sizeof name, "encoder.model.%d", at + 2);
        conv(t, 2 * width, width, 2 * c->ratios[i], name);
    }
    snprintf(name, sizeof name, "encoder.model.%d", at + 1);
    conv(t, c->dimension, width, c->last_kernel, name);
    conv(t, width, c->dimension, c->kernel, "decoder.model.0");
    at = 2;
    for (int i = 0; i < c->n_ratios; i++, at += 3, width /= 2) {
        codec_tensor(t, width, width / 2, 2 * c->ratios[i], "decoder.model.%d.convtr.convtr.weight",
                     at);
        codec_tensor(t, width / 2, 0, 0, "decoder.model.%d.convtr.convtr.bias", at);
        residual(t, c, width / 2, "decoder", at + 1);
    }
    snprintf(name, sizeof name, "decoder.model.%d", at);
    conv(t, 1, width, c->last_kernel, name);
}

static void codec_transformer(table *t, const mo_mimi_config *c, const char *side) {
    static const char *const vectors[] = {"norm1.weight",        "norm1.bias",
                                          "norm2.weight",        "norm2.bias",
                                          "layer_scale_1.scale", "layer_scale_2.scale"};
    int64_t d = c->dimension;
    for (int i = 0; i < c->layers; i++) {
        char p[64];
        snprintf(p, sizeof p, "%s_transformer.transformer.layers.%d", side, i);
        for (size_t v = 0; v < sizeof vectors / sizeof *vectors; v++)
            codec_tensor(t, d, 0, 0, "%s.%s", p, vectors[v]);
        codec_tensor(t, 3 * d, d, 0, "%s.self_attn.in_proj_weight", p);
        codec_tensor(t, d, d, 0, "%s.self_attn.out_proj.weight", p);
        codec_tensor(t, c->feed_forward, d, 0, "%s.linear1.weight", p);
        codec_tensor(t, d, c->feed_forward, 0, "%s.linear2.weight", p);
    }
}

void sparse_mimi(const char *path, const mo_mimi_config *c) {
    table t = {.numbers = SPARSE_BF16};
    int64_t d = c->dimension;
    seanet(&t, c);
    codec_transformer(&t, c, "encoder");
    codec_transformer(&t, c, "decoder");
    codec_tensor(&t, d, d, 2 * c->stride, "downsample.conv.conv.conv.weight");
    codec_tensor(&t, d, 1, 2 * c->stride, "upsample.convtr.convtr.convtr.weight");
    for (int g = 0; g < 2; g++) {
        const char *group = g ? "quantizer.rvq_rest" : "quantizer.rvq_first";
        int n = g ? c->codebooks - c->semantic_codebooks : c->semantic_codebooks;
        codec_tensor(&t, c->codebook_dim, d, 1, "%s.input_proj.weight", group);
        codec_tensor(&t, d, c->codebook_dim, 1, "%s.output_proj.weight", group);
        for (int k = 0; k < n; k++) {
            codec_tensor(&t, 1, 0, 0, "%s.vq.layers.%d._codebook._initialized", group, k);
            codec_tensor(&t, c->bins, 0, 0, "%s.vq.layers.%d._codebook.cluster_usage", group, k);
            codec_tensor(&t, c->bins, c->codebook_dim, 0, "%s.vq.layers.%d._codebook.embedding_sum",
                         group, k);
        }
    }
    write_table(path, &t);
}
