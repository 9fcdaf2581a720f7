/* recipe.c - from the files of a model and the wishes of a user to a list of tensors to write. */
#include "recipe.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- rules for single tensors --------------------------------------------------------------- */

/* GLOB=TYPE of --keep. */
typedef struct rule {
    char *glob;
    const mo_quant *type;
    size_t hits;
} rule;

typedef struct rules {
    rule *items;
    size_t n;
} rules;

static int bad_type(mo_file_format format, const mo_quant *type, const char *prefix,
                    moshi_error *err) {
    if (mo_format_holds(format, type->dtype)) return 0;
    return mo_fail(
        err, MOSHI_EINVAL,
        "%s%s cannot be stored in a safetensors file: write a .gguf, or take f32, f16 or "
        "bf16",
        prefix, type->name);
}

static int read_rule(rule *r, const char *text, size_t n, mo_file_format format, moshi_error *err) {
    r->glob = mo_format("%.*s", (int)n, text);
    if (!r->glob) return mo_fail(err, MOSHI_ENOMEM, "out of memory");
    char *equals = strrchr(r->glob, '=');
    r->type = equals ? mo_quant_find(equals + 1) : NULL;
    if (!r->type || !r->type->quantise || equals == r->glob)
        return mo_fail(err, MOSHI_EINVAL,
                       "keep: '%s': wanted GLOB=TYPE with a type that can be written", r->glob);
    *equals = 0;
    return bad_type(format, r->type, "keep: ", err);
}

static void rules_free(rules *rs) {
    for (size_t i = 0; i < rs->n; i++) free(rs->items[i].glob);
    free(rs->items);
}

static int rules_read(rules *rs, const char *text, mo_file_format format, moshi_error *err) {
    size_t n = 1;
    *rs = (rules){0};
    if (!text || !*text) return 0;
    for (const char *p = text; *p; p++) n += *p == ',';
    rs->items = mo_calloc(n, sizeof *rs->items);
    if (!rs->items) return mo_fail(err, MOSHI_ENOMEM, "out of memory");
    for (const char *p = text; rs->n < n; p += strcspn(p, ",") + 1) {
        int rc = read_rule(&rs->items[rs->n++], p, strcspn(p, ","), format, err);
        if (rc < 0) return rc;
    }
    return 0;
}

/* The first rule that names this tensor; NULL: none does. */
static rule *rules_find(const rules *rs, const char *name) {
    for (size_t i = 0; i < rs->n; i++)
        if (mo_glob(rs->items[i].glob, name)) return &rs->items[i];
    return NULL;
}

/* How many characters must be changed for `glob` to match `name`; stars match anything for free. */
static int glob_distance(const char *glob, const char *name) {
    int row[MO_TENSOR_NAME_BYTES];
    size_t n = strlen(name);
    if (n >= MO_TENSOR_NAME_BYTES) return MO_TENSOR_NAME_BYTES;
    for (size_t i = 0; i <= n; i++) row[i] = (int)i;
    for (const char *g = glob; *g; g++) {
        int free_of_charge = *g == '*', diagonal = row[0];
        row[0] += !free_of_charge;
        for (size_t i = 1; i <= n; i++) {
            int above = row[i], same = *g == '?' || *g == name[i - 1];
            int best = free_of_charge ? above : diagonal + !same;
            if (above + !free_of_charge < best) best = above + !free_of_charge;
            if (row[i - 1] + !free_of_charge < best) best = row[i - 1] + !free_of_charge;
            diagonal = above;
            row[i] = best;
        }
    }
    return row[n];
}

/* Names like the one that was meant. */
static int refuse_rule(const mo_recipe *r, const char *glob, moshi_error *err) {
    enum { NEAR = 3 };
    const char *names[NEAR] = {"", "", ""};
    int distances[NEAR] = {INT32_MAX, INT32_MAX, INT32_MAX};
    for (size_t i = 0; i < r->n; i++) {
        const mo_recipe_item *it = &r->items[i];
        if (!it->is_matrix) continue;
        int d = glob_distance(glob, it->name), at = NEAR;
        while (at > 0 && d < distances[at - 1]) at--;
        for (int k = NEAR - 1; k > at; k--) {
            names[k] = names[k - 1];
            distances[k] = distances[k - 1];
        }
        if (at == NEAR) continue;
        names[at] = it->name;
        distances[at] = d;
    }
    return mo_fail(err, MOSHI_EINVAL,
                   "keep: '%s' names no matrix that is converted; near it:%s%s%s%s%s%s", glob,
                   *names[0] ? " " : " nothing", names[0], *names[1] ? ", " : "", names[1],
                   *names[2] ? ", " : "", names[2]);
}

static int check_rules(const mo_recipe *r, const rules *rs, moshi_error *err) {
    for (size_t i = 0; i < rs->n; i++)
        if (rs->items[i].hits == 0) return refuse_rule(r, rs->items[i].glob, err);
    return 0;
}

/* ---- formats -------------------------------------------------------------------------------- */

/* Formats from coarse to fine, and what the sensitive parts get instead. */
static mo_dtype finer(mo_dtype t) {
    switch (t) {
    case MO_Q4_0:
    case MO_Q4_K:
        return MO_Q6_K;
    case MO_Q6_K:
        return MO_Q8_0;
    default:
        return t;
    }
}

/* The nearest finer format whose blocks fill rows of `cols`. */
static mo_dtype fitting(mo_dtype t, int64_t cols) {
    if (cols % (int64_t)mo_dtype_block(t) == 0) return t;
    return mo_dtype_block(t) > 32 && cols % 32 == 0 ? MO_Q8_0 : MO_BF16;
}

/* The depth transformer speaks the audio and is a tenth of the bytes; heads decide every token. */
static bool sensitive(const char *name) {
    return mo_glob("depformer* linears.* text_linear.* extra_heads.*", name);
}

mo_dtype mo_recipe_type(const char *name, mo_dtype type, int64_t cols) {
    return fitting(sensitive(name) ? finer(type) : type, cols);
}

/* ---- reading -------------------------------------------------------------------------------- */

static bool is_matrix(const mo_tensor_view *t) {
    return t->ndim == 2 && t->shape[0] > 1 && t->shape[1] > 1;
}

/* More than one axis is longer than 1: such weights are never all zero. */
static bool is_wide(const mo_tensor_view *t) {
    int wide = 0;
    for (int i = 0; i < t->ndim; i++) wide += t->shape[i] > 1;
    return wide >= 2;
}

/* Any rows of whole blocks will do for numbers that are no matrix. */
static void read_flat(mo_recipe_item *it) {
    const mo_tensor_view *t = it->t;
    int64_t cols = is_matrix(t) ? t->shape[1] : (int64_t)mo_dtype_block(t->dtype);
    mo_packed_flat(&it->from, t, t->count ? (int64_t)t->count / cols : 0, cols);
}

static int check_source(const mo_checkpoint *ck, const mo_tensor_view *t, moshi_error *err) {
    if (!mo_quant_of(t->dtype) && t->dtype != MO_I8 && t->dtype != MO_U32)
        return mo_fail(err, MOSHI_EMODEL, "%s: tensor '%s': wanted weights, found %s",
                       ck->file.name, t->name, mo_dtype_name(t->dtype));
    for (const char *p = t->name; *p; p++)
        if ((uint8_t)*p < 0x20 || *p == '"' || *p == '\\')
            return mo_fail(err, MOSHI_EMODEL,
                           "%s: a tensor's name holds quotes or control characters: wanted a plain "
                           "name",
                           ck->file.name);
    return 0;
}

/* How to read the numbers of an item. */
static int open_source(mo_recipe_item *it, moshi_error *err) {
    int rc = check_source(it->ck, it->t, err);
    if (rc < 0) return rc;
    it->bytes_in = it->t->bytes;
    it->must_not_be_0 = is_wide(it->t);
    if (!it->use && !mo_quant_of(it->t->dtype))
        return mo_fail(err, MOSHI_EMODEL, "%s: tensor '%s': wanted weights of this model, found %s",
                       it->ck->file.name, it->t->name, mo_dtype_name(it->t->dtype));
    if (!it->use) {
        read_flat(it);
        return 0;
    }
    rc = mo_packed_open(&it->from, it->ck, it->t, it->use->rows, it->use->cols, err);
    if (rc == 0 && it->from.scales) it->bytes_in += it->from.scales->bytes;
    if (rc == 0 && it->from.biases) it->bytes_in += it->from.biases->bytes;
    return rc;
}

/* ---- the list ------------------------------------------------------------------------------- */

/* Tensors of one checkpoint. uses NULL: copied as they are; else of the language model. */
typedef struct part {
    const mo_checkpoint *ck;
    const char *prefix; /* of the names in the result */
    const mo_use *uses;
    bool copy;
} part;

/* Scales and biases go with the matrix they belong to. */
static int mark_companions(const part *p, uint8_t *companion, moshi_error *err) {
    mo_packed packed;
    for (size_t i = 0; p->uses && i < p->ck->n_tensors; i++) {
        const mo_tensor_view *t = &p->ck->tensors[i];
        const mo_use *u = &p->uses[i];
        if (!u->rows || (t->dtype != MO_U32 && t->dtype != MO_I8)) continue;
        int rc = mo_packed_open(&packed, p->ck, t, u->rows, u->cols, err);
        if (rc < 0) return rc;
        companion[packed.scales - p->ck->tensors] = 1;
        if (packed.biases) companion[packed.biases - p->ck->tensors] = 1;
    }
    return 0;
}

static void choose_type(mo_recipe_item *it, const mo_recipe_wish *wish, const rules *rs) {
    it->is_matrix = it->use || is_matrix(it->t);
    if (!it->is_matrix) {
        it->to = MO_F32;
        return;
    }
    rule *kept = rules_find(rs, it->name);
    if (kept) kept->hits++;
    it->to = kept ? fitting(kept->type->dtype, it->from.cols)
                  : mo_recipe_type(it->name, wish->type->dtype, it->from.cols);
}

/* Does an adapter change this matrix, or one of the weight sets in it? */
static bool adapted(const mo_recipe_wish *wish, const mo_use *u) {
    bool touched = false;
    for (int64_t first = 0; u && !touched && first < u->rows; first += u->part_rows)
        touched = mo_loras_touch(wish->loras, &(mo_lora_target){.name = u->name,
                                                                .set = (int)(first / u->part_rows),
                                                                .rows = u->rows,
                                                                .cols = u->cols,
                                                                .first = first,
                                                                .n = u->part_rows,
                                                                .part_rows = u->part_rows});
    return touched;
}

static int add_item(mo_recipe *r, const part *p, size_t i, const mo_recipe_wish *wish,
                    const rules *rs, moshi_error *err) {
    mo_recipe_item *it = &r->items[r->n];
    const mo_tensor_view *t = &p->ck->tensors[i];
    *it = (mo_recipe_item){.ck = p->ck, .t = t, .name = mo_format("%s%s", p->prefix, t->name)};
    if (!it->name) return mo_fail(err, MOSHI_ENOMEM, "out of memory");
    r->n++;
    if (p->uses && p->uses[i].rows) it->use = &p->uses[i];
    it->has_adapter = adapted(wish, it->use);
    int rc = open_source(it, err);
    if (rc < 0) return rc;
    if (p->copy)
        it->to = t->dtype;
    else
        choose_type(it, wish, rs);
    r->bytes_in += it->bytes_in;
    return 0;
}

static int add_part(mo_recipe *r, const part *p, const mo_recipe_wish *wish, const rules *rs,
                    moshi_error *err) {
    uint8_t *companion = mo_calloc(p->ck->n_tensors + 1, 1);
    if (!companion) return mo_fail(err, MOSHI_ENOMEM, "out of memory");
    int rc = mark_companions(p, companion, err);
    for (size_t i = 0; rc == 0 && i < p->ck->n_tensors; i++)
        if (!companion[i]) rc = add_item(r, p, i, wish, rs, err);
    free(companion);
    return rc;
}

static int by_position(const void *a, const void *b) {
    const mo_recipe_item *x = a, *y = b;
    const uint8_t *file_x = x->ck->file.data, *file_y = y->ck->file.data;
    if (file_x != file_y) return (uintptr_t)file_x < (uintptr_t)file_y ? -1 : 1;
    const uint8_t *at_x = x->t->data, *at_y = y->t->data;
    return (at_x > at_y) - (at_x < at_y);
}

static int describe_out(mo_recipe *r, moshi_error *err) {
    r->out = mo_calloc(r->n + 1, sizeof *r->out);
    if (!r->out) return mo_fail(err, MOSHI_ENOMEM, "out of memory");
    for (size_t i = 0; i < r->n; i++) {
        const mo_recipe_item *it = &r->items[i];
        mo_out_tensor *o = &r->out[i];
        *o = (mo_out_tensor){.name = it->name, .dtype = it->to, .ndim = it->t->ndim};
        memcpy(o->shape, it->t->shape, sizeof o->shape);
        if (it->use) o->shape[1] = it->use->cols; /* more than there are words of packed bits */
        o->bytes = (uint64_t)it->from.rows * mo_dtype_row_bytes(it->to, (uint64_t)it->from.cols);
    }
    return 0;
}

static int make(mo_recipe *r, const mo_model_files *f, const mo_recipe_wish *wish, const rules *rs,
                moshi_error *err) {
    bool whole = f->has_lm && wish->format == MO_FORMAT_GGUF;
    r->items = mo_calloc(f->lm_file.n_tensors + f->mimi_file.n_tensors + 1, sizeof *r->items);
    if (!r->items) return mo_fail(err, MOSHI_ENOMEM, "out of memory");
    int rc = f->has_lm ? mo_survey(&r->uses, f, wish->loras, err) : 0;
    if (rc == 0 && f->has_lm)
        rc = add_part(r, &(part){&f->lm_file, "", r->uses, false}, wish, rs, err);
    if (rc == 0 && whole && f->has_mimi)
        rc = add_part(r, &(part){&f->mimi_file, MO_MIMI_PREFIX, NULL, true}, wish, rs, err);
    if (rc == 0 && !f->has_lm)
        rc = add_part(r, &(part){&f->mimi_file, "", NULL, false}, wish, rs, err);
    if (rc == 0) rc = check_rules(r, rs, err);
    if (rc < 0) return rc;
    /* Disks like to be read in order; so does whoever reads the result. */
    qsort(r->items, r->n, sizeof *r->items, by_position);
    return describe_out(r, err);
}

int mo_recipe_make(mo_recipe *out, const mo_model_files *files, const mo_recipe_wish *wish,
                   moshi_error *err) {
    rules rs;
    memset(out, 0, sizeof *out);
    int rc = bad_type(wish->format, wish->type, "", err);
    if (rc < 0) return rc;
    rc = rules_read(&rs, wish->keep, wish->format, err);
    if (rc == 0) rc = make(out, files, wish, &rs, err);
    rules_free(&rs);
    return rc;
}

void mo_recipe_free(mo_recipe *r) {
    for (size_t i = 0; i < r->n; i++) free(r->items[i].name);
    free(r->items);
    free(r->out);
    free(r->uses);
    memset(r, 0, sizeof *r);
}
