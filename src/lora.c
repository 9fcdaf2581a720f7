#include "lora.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the reference multiplies adapters with unless told otherwise. */
static const float DEFAULT_SCALE = 2.0f;
enum { LAYER_BYTES = 256, NAME_BYTES = LAYER_BYTES + 32 };

/* ---- files ---------------------------------------------------------------------------------- */

static int open_one(mo_lora *l, const moshi_lora *from, moshi_error *err) {
    mo_file file;
    if (!from->path || !isfinite(from->scale))
        return mo_fail(err, MOSHI_EINVAL, "lora: wanted a path and a finite scale");
    l->scale = from->scale != 0 ? from->scale : DEFAULT_SCALE;
    int rc = mo_file_map(&file, from->path, from->path, err);
    if (rc == 0) rc = mo_checkpoint_open(&l->ck, &file, err);
    if (rc < 0) return rc;
    l->used = mo_calloc(l->ck.n_tensors + 1, 1);
    if (!l->used) return mo_fail(err, MOSHI_ENOMEM, "%s: out of memory", from->path);
    return 0;
}

int mo_loras_open(mo_loras *out, const moshi_lora *list, size_t n, moshi_error *err) {
    *out = (mo_loras){0};
    if (n == 0) return 0;
    if (!list) return mo_fail(err, MOSHI_EINVAL, "lora: %zu adapters at a null pointer", n);
    out->items = mo_calloc(n, sizeof *out->items);
    if (!out->items) return mo_fail(err, MOSHI_ENOMEM, "out of memory");
    out->n = n;
    for (size_t i = 0; i < n; i++) {
        int rc = open_one(&out->items[i], &list[i], err);
        if (rc < 0) return rc;
    }
    return 0;
}

void mo_loras_close(mo_loras *loras) {
    for (size_t i = 0; i < loras->n; i++) {
        mo_checkpoint_close(&loras->items[i].ck);
        free(loras->items[i].used);
    }
    free(loras->items);
    *loras = (mo_loras){0};
}

/* ---- pairs ---------------------------------------------------------------------------------- */

typedef struct pair {
    const mo_tensor_view *a, *b;
    int64_t first; /* row of B that belongs to the first row wanted */
    bool of_part;  /* of one weight set */
} pair;

static const mo_tensor_view *half(const mo_lora *l, const char *layer, const char *which) {
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%s.%s.weight", layer, which);
    return mo_checkpoint_find(&l->ck, name);
}

/* The adapter of a target: of the matrix as a whole, or of this weight set of it. */
static bool find_pair(const mo_lora *l, const mo_lora_target *t, pair *out) {
    char layer[LAYER_BYTES], set[LAYER_BYTES];
    size_t n = strlen(t->name), w = strlen(".weight");
    if (n > w && (!strcmp(t->name + n - w, ".weight") || !strcmp(t->name + n - w, "_weight")))
        n -= w;
    snprintf(layer, sizeof layer, "%.*s", (int)n, t->name);
    *out = (pair){half(l, layer, "lora_A"), half(l, layer, "lora_B"), t->first, false};
    if (out->a || out->b) return true;
    /* in_proj and out_proj: the reference has one module per weight set, in_projs.S */
    snprintf(set, sizeof set, "%.*ss.%d", (int)n, t->name, t->set);
    *out = (pair){half(l, set, "lora_A"), half(l, set, "lora_B"), t->first - t->set * t->part_rows,
                  true};
    return out->a || out->b;
}

bool mo_loras_touch(const mo_loras *loras, const mo_lora_target *t) {
    pair p;
    for (size_t i = 0; loras && i < loras->n; i++)
        if (find_pair(&loras->items[i], t, &p)) return true;
    return false;
}

static int check_pair(const mo_lora *l, const mo_lora_target *t, const pair *p, moshi_error *err) {
    if (!p->a || !p->b)
        return mo_fail(err, MOSHI_EMODEL, "%s: the adapter of '%s' has only one of lora_A, lora_B",
                       l->ck.file.name, t->name);
    const mo_tensor_view *a = p->a, *b = p->b;
    bool fits = mo_dtype_is_float(a->dtype) && mo_dtype_is_float(b->dtype) && a->ndim == 2 &&
                b->ndim == 2 && a->shape[1] == t->cols && b->shape[1] == a->shape[0] &&
                b->shape[0] == (p->of_part ? t->part_rows : t->rows);
    if (!fits)
        return mo_fail(
            err, MOSHI_EMODEL,
            "%s: the adapter of '%s': wanted float lora_A [rank, %" PRId64 "] and lora_B [%" PRId64
            ", rank], found %s of %d axes, first %" PRId64 ", and %s of %d axes, first %" PRId64,
            l->ck.file.name, t->name, t->cols, t->n, mo_dtype_name(a->dtype), a->ndim,
            a->ndim ? a->shape[0] : 0, mo_dtype_name(b->dtype), b->ndim, b->ndim ? b->shape[0] : 0);
    return 0;
}

/* Threads may add adapters at the same time once all are marked: then nobody writes here. */
static void mark(mo_lora *l, const mo_tensor_view *t) {
    uint8_t *used = &l->used[t - l->ck.tensors];
    if (!*used) *used = 1;
}

static int apply_one(mo_lora *l, const mo_lora_target *t, const pair *p, float *w,
                     moshi_error *err) {
    int rc = check_pair(l, t, p, err);
    if (rc < 0) return rc;
    int64_t rank = p->a->shape[0];
    mark(l, p->a);
    mark(l, p->b);
    if (!w) return 0;
    float *a = mo_calloc((size_t)p->a->count, sizeof *a), *b = mo_calloc((size_t)rank, sizeof *b);
    if (a && b) {
        mo_tensor_read(p->a, 0, p->a->count, a);
        for (int64_t r = 0; r < t->n; r++) {
            float *row = w + r * t->cols;
            mo_tensor_read(p->b, (uint64_t)((p->first + r) * rank), (uint64_t)rank, b);
            for (int64_t k = 0; k < rank; k++) {
                float f = l->scale * b[k];
                for (int64_t c = 0; c < t->cols; c++) row[c] += f * a[k * t->cols + c];
            }
        }
    } else {
        rc = mo_fail(err, MOSHI_ENOMEM, "%s: out of memory", l->ck.file.name);
    }
    free(a);
    free(b);
    return rc;
}

int mo_loras_apply(mo_loras *loras, const mo_lora_target *t, float *w, moshi_error *err) {
    pair p;
    for (size_t i = 0; i < loras->n; i++) {
        if (!find_pair(&loras->items[i], t, &p)) continue;
        int rc = apply_one(&loras->items[i], t, &p, w, err);
        if (rc < 0) return rc;
    }
    return 0;
}

int mo_loras_check_used(const mo_loras *loras, moshi_error *err) {
    for (size_t i = 0; i < loras->n; i++) {
        const mo_lora *l = &loras->items[i];
        for (size_t k = 0; k < l->ck.n_tensors; k++)
            if (!l->used[k])
                return mo_fail(
                    err, MOSHI_EMODEL,
                    "%s: '%s' belongs to no layer of this model: wanted adapters trained "
                    "for it",
                    l->ck.file.name, l->ck.tensors[k].name);
    }
    return 0;
}
