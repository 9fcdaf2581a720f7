#include "made.h"

#include "dry.h"
#include "model.h"
#include "presets.h"
#include "quant.h"
#include "recipe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A matrix of 4096 inputs gives outputs as large as its inputs, as trained ones about do: numbers
 * neither vanish nor grow on their way through the layers. */
static const float SPREAD = 1.0f / 64;

enum {
    /* Numbers until they repeat. The number of blocks is a prime: rows differ from one another. */
    PERIOD = 256 * 4099,
    STARTS = 64, /* blocks where a tensor may begin, so that tensors differ */
};

/* ---- what a model asks for ------------------------------------------------------------------ */

typedef struct wish {
    char name[MO_TENSOR_NAME_BYTES];
    int ndim;
    int64_t shape[MO_MAX_DIMS];
} wish;

typedef struct wishes {
    wish *items;
    size_t n, cap;
    bool failed;
} wishes;

/* Parts of a stack of weights are asked for one by one, each with the shape of the stack. */
static bool is_known(const wishes *ws, const char *name) {
    for (size_t i = 0; i < ws->n; i++)
        if (!strcmp(ws->items[i].name, name)) return true;
    return false;
}

static void note_missing(void *user, const char *name, int ndim, const int64_t *shape) {
    wishes *ws = user;
    if (ws->failed || is_known(ws, name)) return;
    if (ws->n == ws->cap) {
        size_t cap = ws->cap ? ws->cap * 2 : 256;
        wish *items = realloc(ws->items, cap * sizeof *items);
        if (!items) {
            ws->failed = true;
            return;
        }
        ws->items = items;
        ws->cap = cap;
    }
    wish *w = &ws->items[ws->n++];
    snprintf(w->name, sizeof w->name, "%s", name);
    w->ndim = ndim ? ndim : 1;
    memcpy(w->shape, shape, (size_t)w->ndim * sizeof *shape);
}

static int on_fault(void *user, mo_fault fault, const char *tensor, const char *text) {
    const wishes *ws = user;
    (void)fault;
    (void)tensor;
    (void)text;
    return ws->failed ? MOSHI_ENOMEM : 0;
}

/* Load from files without a single tensor and write down what is missed: the loader itself knows
 * best what it wants. */
static int list_wishes(const mo_model_files *f, wishes *lm, wishes *mimi, moshi_error *err) {
    mo_backend *be;
    moshi_error mismatch;
    uint64_t parameters;
    mo_audit lm_audit = {.missing = note_missing, .fault = on_fault, .user = lm};
    mo_audit mimi_audit = {.missing = note_missing, .fault = on_fault, .user = mimi};
    int rc = mo_dry_open(&be, &mo_backend_cpu, &(mo_backend_options){.threads = 1}, err);
    if (rc < 0) return rc;
    rc = mo_model_audit(f, be, &lm_audit, &mimi_audit, &parameters, &mismatch, err);
    be->ops->close(be);
    if (rc == 0 && mismatch.code) rc = mo_fail(err, mismatch.code, "%s", mismatch.text);
    return rc;
}

/* ---- numbers -------------------------------------------------------------------------------- */

/* Roughly Gaussian: the sum of four uniform numbers. xorshift64 (Marsaglia, Xorshift RNGs, 2003).
 */
static void fill_random(float *x, size_t n) {
    uint64_t state = UINT64_C(0x9E3779B97F4A7C15);
    for (size_t i = 0; i < n; i++) {
        int32_t sum = 0;
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        for (int k = 0; k < 4; k++) sum += (int32_t)(state >> (16 * k) & 0xFFFF) - 0x8000;
        x[i] = (float)sum * (SPREAD * 0x1p-15f * 0.866f); /* the sum's spread is 2 / sqrt(3) */
    }
}

/* `bytes` of blocks of `dtype`, whole ones: a stretch of numbers again and again. */
static bool fill_blocks(uint8_t *out, size_t bytes, mo_dtype dtype) {
    size_t block = mo_dtype_block(dtype), n = PERIOD;
    size_t period = (size_t)mo_dtype_row_bytes(dtype, n);
    size_t needed = bytes / (size_t)mo_dtype_row_bytes(dtype, block) * block;
    if (needed < n) {
        n = needed;
        period = bytes;
    }
    float *x = mo_calloc(n + 1, sizeof *x);
    if (!x) return false;
    fill_random(x, n);
    mo_quant_of(dtype)->quantise(x, out, n);
    free(x);
    for (size_t done = period; done < bytes; done += period)
        memcpy(out + done, out, bytes - done < period ? bytes - done : period);
    return true;
}

/* ---- checkpoints ---------------------------------------------------------------------------- */

/* Numbers that must not be near zero, or that the others are multiplied with. */
static bool is_scale(const char *name) {
    return mo_glob("*.alpha *norm*.weight *.scale *cluster_usage", name);
}

static mo_dtype type_of(const wish *w, mo_dtype type) {
    bool matrix = w->ndim == 2 && w->shape[0] > 1 && w->shape[1] > 1 && !is_scale(w->name) &&
                  !mo_glob("*_codebook.*", w->name);
    return matrix ? mo_recipe_type(w->name, type, w->shape[1]) : MO_F32;
}

static int by_name(const void *a, const void *b) {
    const mo_tensor_view *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static void make_view(mo_tensor_view *t, const wish *w, const char *name, mo_dtype type) {
    *t = (mo_tensor_view){.name = name, .dtype = type_of(w, type), .ndim = w->ndim, .count = 1};
    memcpy(t->shape, w->shape, sizeof t->shape);
    for (int k = 0; k < t->ndim; k++) t->count *= (uint64_t)t->shape[k];
    t->bytes = t->count / mo_dtype_block(t->dtype) *
               mo_dtype_row_bytes(t->dtype, mo_dtype_block(t->dtype));
}

/* Memory behind the tensors: for every format as much as the largest tensor needs, and a stretch of
 * ones for scales. */
static int make_numbers(mo_checkpoint *ck, bool dry, moshi_error *err) {
    size_t sizes[MO_DTYPE_COUNT + 1] = {0}, starts[MO_DTYPE_COUNT + 1], all = 0;
    for (size_t i = 0; i < ck->n_tensors; i++) {
        const mo_tensor_view *t = &ck->tensors[i];
        int kind = is_scale(t->name) ? MO_DTYPE_COUNT : (int)t->dtype;
        size_t slack = STARTS * (size_t)mo_dtype_row_bytes(t->dtype, mo_dtype_block(t->dtype));
        if (t->bytes + slack > sizes[kind]) sizes[kind] = (size_t)t->bytes + slack;
    }
    for (int kind = 0; kind <= MO_DTYPE_COUNT; kind++) {
        starts[kind] = all;
        all += (sizes[kind] + 63) / 64 * 64;
    }
    uint8_t *made = ck->made = mo_aligned_calloc(all);
    bool ok = made != NULL;
    for (int kind = 0; ok && !dry && kind < MO_DTYPE_COUNT; kind++)
        if (sizes[kind]) ok = fill_blocks(made + starts[kind], sizes[kind], (mo_dtype)kind);
    if (!ok) return mo_fail(err, MOSHI_ENOMEM, "%s: out of memory", ck->file.name);
    float *ones = (float *)(void *)(made + starts[MO_DTYPE_COUNT]);
    for (size_t i = 0; !dry && i < sizes[MO_DTYPE_COUNT] / sizeof *ones; i++) ones[i] = 1;
    for (size_t i = 0; i < ck->n_tensors; i++) {
        mo_tensor_view *t = &ck->tensors[i];
        int kind = is_scale(t->name) ? MO_DTYPE_COUNT : (int)t->dtype;
        size_t block = (size_t)mo_dtype_row_bytes(t->dtype, mo_dtype_block(t->dtype));
        t->data = made + starts[kind] + i * 29 % STARTS * block;
    }
    return 0;
}

static int make_checkpoint(mo_checkpoint *ck, const wishes *ws, mo_dtype type, bool dry,
                           moshi_error *err) {
    ck->tensors = mo_calloc(ws->n + 1, sizeof *ck->tensors);
    ck->names = mo_calloc(ws->n + 1, MO_TENSOR_NAME_BYTES);
    if (!ck->tensors || !ck->names)
        return mo_fail(err, MOSHI_ENOMEM, "%s: out of memory", ck->file.name);
    for (size_t i = 0; i < ws->n; i++) {
        char *name = ck->names + i * MO_TENSOR_NAME_BYTES;
        memcpy(name, ws->items[i].name, MO_TENSOR_NAME_BYTES);
        make_view(&ck->tensors[i], &ws->items[i], name, type);
    }
    ck->n_tensors = ws->n;
    qsort(ck->tensors, ck->n_tensors, sizeof *ck->tensors, by_name);
    return make_numbers(ck, dry, err);
}

/* ---- models --------------------------------------------------------------------------------- */

static int fail_unknown(const char *name, moshi_error *err) {
    char known[256] = "";
    const mo_preset *p;
    for (size_t i = 0; (p = mo_preset_at(i)) != NULL; i++) {
        size_t at = strlen(known);
        snprintf(known + at, sizeof known - at, "%s, ", p->name);
    }
    return mo_fail(err, MOSHI_EINVAL, "preset '%s': wanted %s%s", name, known, MO_PRESET_CODEC);
}

static int choose_type(const char *name, bool codec, mo_dtype *type, moshi_error *err) {
    if (!name) name = codec ? "f32" : "bf16";
    const mo_quant *q = mo_quant_find(name);
    if (!q || !q->quantise)
        return mo_fail(err, MOSHI_EINVAL,
                       "preset: type '%s': wanted f32, f16, bf16, q8_0, q6_K, q4_K or q4_0", name);
    if (codec && mo_dtype_block(q->dtype) > 1)
        return mo_fail(err, MOSHI_EINVAL, "preset: type '%s': a codec takes f32, f16 or bf16",
                       name);
    *type = q->dtype;
    return 0;
}

static int describe(mo_model_files *out, const char *name, int want, moshi_error *err) {
    const mo_preset *p;
    mo_mimi_config_official(&out->mimi);
    out->codec_only = !strcmp(name, MO_PRESET_CODEC);
    out->has_mimi = (want & MO_WANT_MIMI) != 0;
    out->lm_file.file.name = mo_format("preset %s", name);
    out->mimi_file.file.name = mo_format("preset %s, codec", name);
    if (!out->lm_file.file.name || !out->mimi_file.file.name)
        return mo_fail(err, MOSHI_ENOMEM, "out of memory");
    if (out->codec_only)
        return want & MO_WANT_LM ? mo_fail(err, MOSHI_EINVAL,
                                           "preset '%s' is a codec; wanted a language model", name)
                                 : 0;
    for (size_t i = 0; (p = mo_preset_at(i)) != NULL && strcmp(p->name, name) != 0; i++) continue;
    if (!p) return fail_unknown(name, err);
    out->preset = p;
    out->has_lm = (want & MO_WANT_LM) != 0;
    return mo_lm_config_parse(&out->lm, p->config, strlen(p->config), p->name, err);
}

int mo_made_files_open(mo_model_files *out, const char *name, const char *type_name, int want,
                       bool dry, moshi_error *err) {
    wishes lm = {0}, mimi = {0};
    mo_dtype type = MO_F32;
    moshi_error listing = {0}; /* while they are listed, every tensor is missing */
    memset(out, 0, sizeof *out);
    int rc = describe(out, name, want, err);
    if (rc == 0) rc = choose_type(type_name, out->codec_only, &type, err);
    if (rc == 0) {
        rc = list_wishes(out, &lm, &mimi, &listing);
        if (rc < 0 && err) *err = listing;
    }
    if (rc == 0 && (lm.failed || mimi.failed)) rc = mo_fail(err, MOSHI_ENOMEM, "out of memory");
    if (rc == 0 && out->has_lm) rc = make_checkpoint(&out->lm_file, &lm, type, dry, err);
    if (rc == 0 && out->has_mimi)
        rc = make_checkpoint(&out->mimi_file, &mimi, out->codec_only ? type : MO_F32, dry, err);
    free(lm.items);
    free(mimi.items);
    if (rc < 0) mo_model_files_close(out);
    return rc;
}
