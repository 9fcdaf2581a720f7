#include "weights.h"

#include "foreign.h"
#include "packed.h"
#include "quant.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MO_F16_MAX 65504.0f

enum { NAME_BYTES = MO_TENSOR_NAME_BYTES };

/* ---- the pool ----------------------------------------------------------------------------- */

void mo_weights_open(mo_weights *ws, mo_backend *be) {
    memset(ws, 0, sizeof *ws);
    ws->be = be;
}

void mo_weights_close(mo_weights *ws) {
    for (int i = 0; i < ws->n; i++) {
        ws->be->ops->weight_free(ws->be, ws->items[i]);
        free(ws->items[i]);
    }
    free(ws->items);
    memset(ws, 0, sizeof *ws);
}

static int loader_nomem(mo_loader *ld) {
    const char *why = ld->pool->be->problem;
    if (!ld->failed)
        ld->failed = mo_fail(
            ld->err, MOSHI_ENOMEM, "%s: tensor '%s': out of memory while loading weights%s%s",
            ld->ck->file.name, ld->tensor ? ld->tensor : "", why[0] ? ": " : "", why);
    return ld->failed;
}

/* These bytes have become weights: their pages of a mapped file would count as memory in use as
 * long as it is open. They can be read again all the same. */
static void done_with(const mo_loader *ld, const void *data, uint64_t bytes) {
    const mo_file *f = &ld->ck->file;
    const uint8_t *p = data;
    if (f->map && p >= f->data && p < f->data + f->size) mo_file_advise(f, data, bytes, false);
}

static uint64_t matrix_bytes(const mo_matrix *m) {
    uint64_t numbers = (uint64_t)m->rows * (uint64_t)m->cols;
    return m->dtype == MO_U32 ? numbers * (uint64_t)m->bits / 8
                              : (uint64_t)m->rows * mo_dtype_row_bytes(m->dtype, (uint64_t)m->cols);
}

static const mo_weight *pool_add(mo_loader *ld, const mo_matrix *src, mo_layout layout) {
    mo_weights *ws = ld->pool;
    if (ld->failed) return NULL;
    if (ws->n == ws->cap) {
        int cap = ws->cap ? ws->cap * 2 : 256;
        mo_weight **items = realloc(ws->items, (size_t)cap * sizeof *items);
        if (!items) {
            loader_nomem(ld);
            return NULL;
        }
        ws->items = items;
        ws->cap = cap;
    }
    mo_weight *w = mo_calloc(1, sizeof *w);
    if (!w || ws->be->ops->weight(ws->be, src, layout, w) < 0) {
        free(w);
        loader_nomem(ld);
        return NULL;
    }
    done_with(ld, src->data, matrix_bytes(src));
    ws->items[ws->n++] = w;
    ws->bytes += ws->be->ops->weight_bytes(ws->be, src, layout, NULL);
    return w;
}

/* ---- health ------------------------------------------------------------------------------- */

/* OR of all magnitudes and whether any exponent is all ones, over n little-endian words. */
static void scan16(const uint8_t *p, uint64_t n, uint16_t exponent, uint32_t *any, bool *special) {
    uint32_t bits = 0, bad = 0;
    for (uint64_t i = 0; i < n; i++) {
        uint16_t v;
        memcpy(&v, p + i * 2, 2);
        bits |= v & 0x7fffu;
        bad |= (v & exponent) == exponent;
    }
    *any = bits;
    *special = bad;
}

static void scan32(const uint8_t *p, uint64_t n, uint32_t *any, bool *special) {
    uint32_t bits = 0, bad = 0;
    for (uint64_t i = 0; i < n; i++) {
        uint32_t v;
        memcpy(&v, p + i * 4, 4);
        bits |= v & 0x7fffffffu;
        bad |= (v & 0x7f800000u) == 0x7f800000u;
    }
    *any = bits;
    *special = bad;
}

/* Norm vectors and biases may legitimately be zero; a matrix never is. */
static bool is_matrix(const mo_tensor_view *t) {
    int wide = 0;
    for (int i = 0; i < t->ndim; i++) wide += t->shape[i] > 1;
    return wide >= 2;
}

static const char *special_kind(const mo_tensor_view *t) {
    for (uint64_t i = 0; i < t->count; i++) {
        float v = mo_tensor_at(t, i);
        if (v != v) return "contains NaN";
    }
    return "contains infinite numbers";
}

/* Blocks are judged by the numbers they stand for, which their scales tell most about. Looks for
 * numbers other than zero until one is found: *any may be set already. */
static void scan_blocks(const mo_tensor_view *t, uint32_t *any, bool *special) {
    enum { CHUNK = 1024 }; /* whole blocks of every format */
    float x[CHUNK];
    bool bad;
    const uint8_t *p = t->data;
    *special = !mo_quant_finite(t->dtype, p, (size_t)t->count);
    for (uint64_t i = 0; i < t->count && !*any; i += CHUNK) {
        uint64_t n = t->count - i < CHUNK ? t->count - i : CHUNK;
        mo_quant_of(t->dtype)->dequantise(p, x, (size_t)n);
        scan32((const uint8_t *)x, n, any, &bad);
        p += mo_dtype_row_bytes(t->dtype, n);
    }
}

/* One tensor, or rows of one, looked at by several threads. */
typedef struct scan {
    mo_tensor_view t;
    atomic_bool any, special;
} scan;

static void scan_numbers(scan *s, uint64_t first, uint64_t n) {
    const mo_dtype dtype = s->t.dtype;
    const size_t block = mo_dtype_block(dtype);
    mo_tensor_view part = {.dtype = dtype, .count = n};
    uint32_t any = atomic_load(&s->any);
    bool special = false;
    part.data =
        (const uint8_t *)s->t.data + first / block * (size_t)mo_dtype_row_bytes(dtype, block);
    if (block > 1)
        scan_blocks(&part, &any, &special);
    else if (dtype == MO_F32)
        scan32(part.data, n, &any, &special);
    else if (dtype == MO_BF16)
        scan16(part.data, n, 0x7f80, &any, &special);
    else if (dtype == MO_F16)
        scan16(part.data, n, 0x7c00, &any, &special);
    else
        any = 1; /* whole numbers: nothing to judge */
    if (any) atomic_store(&s->any, true);
    if (special) atomic_store(&s->special, true);
}

/* mo_matrix.look */
static void scan_rows(void *user, int64_t first, int64_t n) {
    scan *s = user;
    uint64_t cols = (uint64_t)s->t.shape[1];
    scan_numbers(s, (uint64_t)first * cols, (uint64_t)n * cols);
}

static const char *scan_problem(const scan *s) {
    if (s->special)
        return mo_dtype_block(s->t.dtype) > 1 ? "contains numbers that are not finite"
                                              : special_kind(&s->t);
    return !s->any && is_matrix(&s->t) ? "is all zeros" : NULL;
}

const char *mo_tensor_problem(const mo_tensor_view *t) {
    scan s = {.t = *t};
    scan_numbers(&s, 0, t->count);
    return scan_problem(&s);
}

void mo_shape_text(const int64_t *shape, int ndim, char *out, size_t cap) {
    size_t n = (size_t)snprintf(out, cap, "[");
    for (int i = 0; i < ndim && n < cap; i++)
        n += (size_t)snprintf(out + n, cap - n, i ? ", %" PRId64 : "%" PRId64, shape[i]);
    if (n < cap) snprintf(out + n, cap - n, "]");
}

/* ---- finding tensors ---------------------------------------------------------------------- */

int mo_loader_begin(mo_loader *ld, mo_weights *pool, const mo_checkpoint *ck, moshi_error *err) {
    ld->pool = pool;
    ld->ck = ck;
    ld->err = err;
    ld->failed = 0;
    ld->dry = pool->be->ops->dry;
    ld->trusted = ld->dry || ck->made;
    ld->names = (mo_names){.scheme = MO_NAMES_PYTORCH};
    ld->used = mo_calloc(ck->n_tensors + 1, 1);
    return ld->used ? 0 : loader_nomem(ld);
}

/* ld->failed was just set: an ordinary loader stops here, an audit notes it and goes on. */
static void gave_up(mo_loader *ld, mo_fault fault, const char *tensor) {
    const mo_audit *s = ld->audit;
    if (!s || ld->failed == MOSHI_ENOMEM) return;
    ld->failed = s->fault(s->user, fault, tensor, ld->err ? ld->err->text : "");
}

static void refuse_surplus(mo_loader *ld, size_t i, size_t n) {
    const mo_tensor_view *t = &ld->ck->tensors[i];
    char shape[96];
    mo_shape_text(t->shape, t->ndim, shape, sizeof shape);
    ld->failed = mo_fail(ld->err, MOSHI_EMODEL,
                         "%s: tensor '%s' %s has no place in the model config.json describes "
                         "(%zu such tensors): wanted none, config and weights do not belong "
                         "together",
                         ld->ck->file.name, t->name, shape, n);
    gave_up(ld, MO_FAULT_SURPLUS, t->name);
}

int mo_loader_finish(mo_loader *ld) {
    const mo_checkpoint *ck = ld->ck;
    size_t surplus = 0;
    for (size_t i = 0; i < ck->n_tensors; i++) {
        surplus += !ld->used[i];
        if (ld->audit) ld->audit->notes[i].use = ld->used[i];
    }
    for (size_t i = 0; !ld->failed && i < ck->n_tensors; i++)
        if (!ld->used[i]) refuse_surplus(ld, i, surplus);
    free(ld->used);
    ld->used = NULL;
    return ld->failed;
}

static void name_format(char name[NAME_BYTES], const char *fmt, va_list ap) {
    vsnprintf(name, NAME_BYTES, fmt, ap);
}

/* A tensor by its PyTorch name, whatever the file calls it. */
static const mo_tensor_view *find(const mo_loader *ld, const char *name) {
    char translated[NAME_BYTES];
    mo_names_translate(&ld->names, name, translated);
    return mo_checkpoint_find(ld->ck, translated);
}

bool mo_load_has(const mo_loader *ld, const char *fmt, ...) {
    char name[NAME_BYTES];
    va_list ap;
    va_start(ap, fmt);
    name_format(name, fmt, ap);
    va_end(ap);
    return find(ld, name) != NULL;
}

void mo_load_ignore(mo_loader *ld, const char *prefix) {
    size_t n = strlen(prefix);
    for (size_t i = 0; !ld->failed && i < ld->ck->n_tensors; i++)
        if (!strncmp(ld->ck->tensors[i].name, prefix, n)) ld->used[i] = MO_NOT_NEEDED;
}

static const mo_tensor_view *fail_missing(mo_loader *ld, const char *name, const char *wanted) {
    char translated[NAME_BYTES], guess[MO_FOREIGN_BYTES] = "";
    mo_names_translate(&ld->names, name, translated);
    /* With none of its tensors in use the whole file may be another. */
    bool alien = !ld->audit && !memchr(ld->used, MO_USED, ld->ck->n_tensors);
    if (alien) mo_foreign_checkpoint(ld->ck, guess);
    ld->failed = mo_fail(ld->err, MOSHI_EMODEL, "%s: tensor '%s' is missing (wanted shape %s)%s%s",
                         ld->ck->file.name, translated, wanted, *guess ? "; " : "", guess);
    gave_up(ld, MO_FAULT_MISSING, translated);
    return NULL;
}

/* Its type or shape does not fit; ld->failed says how. */
static const mo_tensor_view *fail_unfit(mo_loader *ld, const mo_tensor_view *t) {
    if (ld->audit) ld->used[t - ld->ck->tensors] = MO_USED;
    gave_up(ld, MO_FAULT_UNFIT, t->name);
    return NULL;
}

/* Count a tensor that is used for the first time. */
static void count_tensor(mo_loader *ld, const mo_tensor_view *t, uint64_t parameters) {
    ld->used[t - ld->ck->tensors] = MO_USED;
    ld->pool->parameters += parameters;
    if (ld->audit) ld->audit->notes[t - ld->ck->tensors].parameters = parameters;
}

static bool fail_problem(mo_loader *ld, const char *name, const char *problem) {
    ld->failed = mo_fail(ld->err, MOSHI_EMODEL,
                         "%s: tensor '%s' %s: wanted trained weights; the file is damaged or was "
                         "converted wrongly",
                         ld->ck->file.name, name, problem);
    return false;
}

static void leave_crumb(mo_loader *ld, const char *tensor) {
    ld->tensor = tensor;
    moshi_breadcrumb *crumb = ld->pool->be->crumb;
    if (!crumb) return;
    crumb->done++;
    crumb->detail = tensor;
}

static void progress(mo_loader *ld, uint64_t bytes) {
    ld->done += bytes;
    if (ld->progress && !ld->failed && ld->progress(ld->progress_user, ld->done, ld->total))
        ld->failed = mo_fail(ld->err, MOSHI_ECANCELLED, "loading was cancelled");
}

/* The tensor, if it exists, is a float tensor, and has the wanted shape. ndim 0 in `want` asks for
 * shape[0] elements in any shape. */
static const mo_tensor_view *find_fitting(mo_loader *ld, const char *name, int ndim,
                                          const int64_t *want) {
    if (ld->failed) return NULL;
    char wanted[96], found[96];
    if (ndim)
        mo_shape_text(want, ndim, wanted, sizeof wanted);
    else
        snprintf(wanted, sizeof wanted, "[%" PRId64 "]", want[0]);
    const mo_tensor_view *t = find(ld, name);
    if (!t) {
        if (ld->audit && ld->audit->missing) ld->audit->missing(ld->audit->user, name, ndim, want);
        return fail_missing(ld, name, wanted);
    }
    name = t->name;
    const char *file = ld->ck->file.name;
    if (t->dtype != MO_F32 && t->dtype != MO_F16 && t->dtype != MO_BF16) {
        ld->failed = mo_fail(ld->err, MOSHI_EMODEL,
                             "%s: tensor '%s': wanted dtype F32, F16 or BF16, found %s", file, name,
                             mo_dtype_name(t->dtype));
        return fail_unfit(ld, t);
    }
    bool fits = ndim ? t->ndim == ndim : t->count == (uint64_t)want[0];
    for (int i = 0; fits && i < ndim; i++) fits = t->shape[i] == want[i];
    if (!fits) {
        mo_shape_text(t->shape, t->ndim, found, sizeof found);
        ld->failed = mo_fail(ld->err, MOSHI_EMODEL, "%s: tensor '%s': wanted shape %s, found %s",
                             file, name, wanted, found);
        return fail_unfit(ld, t);
    }
    return t;
}

/* Its numbers are sound; count it when it was not counted yet, as another part of it. */
static const mo_tensor_view *accept(mo_loader *ld, const mo_tensor_view *t) {
    if (ld->used[t - ld->ck->tensors]) return t;
    count_tensor(ld, t, t->count);
    progress(ld, t->bytes);
    return ld->failed ? NULL : t;
}

/* The same, and its numbers are sound. */
static const mo_tensor_view *take(mo_loader *ld, const char *name, int ndim, const int64_t *want) {
    const mo_tensor_view *t = find_fitting(ld, name, ndim, want);
    if (!t || ld->used[t - ld->ck->tensors]) return t;
    const char *problem = ld->trusted ? NULL : mo_tensor_problem(t);
    if (problem && !fail_problem(ld, t->name, problem)) return NULL;
    leave_crumb(ld, t->name);
    return accept(ld, t);
}

/* Rows as they are, judged by the threads that upload them, who read them anyway. */
static const mo_weight *upload_judged(mo_loader *ld, const mo_tensor_view *t, mo_matrix src,
                                      mo_layout layout) {
    scan s = {.t = {.dtype = src.dtype, .ndim = 2, .shape = {src.rows, src.cols}}};
    s.t.count = (uint64_t)src.rows * (uint64_t)src.cols;
    s.t.data = src.data;
    if (!ld->trusted) {
        src.look = scan_rows;
        src.look_user = &s;
    }
    const mo_weight *w = pool_add(ld, &src, layout);
    const char *problem = w && !ld->trusted ? scan_problem(&s) : NULL;
    if (problem) fail_problem(ld, t->name, problem);
    return problem ? NULL : w;
}

/* ---- loading ------------------------------------------------------------------------------ */

/* Format the name and take the tensor in one go. */
#define TAKE_FORMATTED(t, ndim, want) \
    char name[NAME_BYTES];            \
    va_list ap;                       \
    va_start(ap, fmt);                \
    name_format(name, fmt, ap);       \
    va_end(ap);                       \
    const mo_tensor_view *t = take(ld, name, ndim, want)

static void use(mo_loader *ld, const mo_tensor_view *t) {
    if (t) ld->used[t - ld->ck->tensors] = MO_USED;
}

/* Room for numbers on their way to the device. A dry run moves none: then *out is NULL, and so is
 * the data of the matrix that is "uploaded". */
static bool staging(mo_loader *ld, size_t n, float **out) {
    *out = ld->dry ? NULL : mo_calloc(n, sizeof **out);
    if (!*out && !ld->dry) loader_nomem(ld);
    return *out || ld->dry;
}

/* Sizes that an audit cannot read from the shape of a packed tensor. */
static void note_matrix(mo_loader *ld, const mo_tensor_view *t, int64_t rows, int64_t cols) {
    if (!ld->audit) return;
    ld->audit->notes[t - ld->ck->tensors].rows = rows;
    ld->audit->notes[t - ld->ck->tensors].cols = cols;
}

/* A matrix of plain floats. */
static mo_matrix floats(mo_dtype dtype, int64_t rows, int64_t cols, const void *data) {
    return (mo_matrix){.dtype = dtype, .rows = rows, .cols = cols, .data = data};
}

/* The first part of a tensor that is read counts for all of it. */
static void count_packed(mo_loader *ld, const mo_packed *p) {
    if (!ld->used[p->t - ld->ck->tensors]) {
        count_tensor(ld, p->t, (uint64_t)p->rows * (uint64_t)p->cols);
        note_matrix(ld, p->t, p->rows, p->cols);
        leave_crumb(ld, p->t->name);
        progress(ld, p->t->bytes);
    }
    use(ld, p->t);
    use(ld, p->scales);
    use(ld, p->biases);
}

/* Numbers of a matrix that has to be unpacked or changed before it is uploaded; v NULL: only check
 * that they could be. */
static bool read_rows(mo_loader *ld, const mo_tensor_view *t, const mo_lora_target *m, float *v) {
    mo_packed p;
    int rc = mo_packed_open(&p, ld->ck, t, m->rows, m->cols, ld->err);
    if (rc == 0) {
        const char *problem = ld->trusted ? NULL : mo_packed_problem(&p, m->first, m->n);
        if (problem) return fail_problem(ld, t->name, problem);
        if (v) mo_packed_read(&p, m->first, m->n, v);
        count_packed(ld, &p);
    }
    if (rc == 0 && ld->loras) rc = mo_loras_apply(ld->loras, m, v, ld->err);
    if (rc < 0) {
        ld->failed = rc;
        fail_unfit(ld, t);
    }
    return rc == 0 && !ld->failed;
}

/* A sum of K products in float32 may be off by K 2^-24 of their magnitudes. Three digits add 2^-24
 * of the largest magnitude of a row: an eighth of that at most when no weight is above K / 8 times
 * the mean of its row. */
static bool fits_digits(const mo_matrix *m) {
    const uint8_t *p = m->data; /* NULL in a dry run: then it is assumed */
    for (int64_t r = 0; p && r < m->rows; r++) {
        double sum = 0;
        float most = 0;
        for (int64_t c = 0; c < m->cols; c++, p += sizeof(float)) {
            float a;
            memcpy(&a, p, sizeof a);
            a = fabsf(a);
            sum += (double)a;
            if (a > most) most = a;
        }
        if (!((double)most * 8 <= sum)) return false;
    }
    return true;
}

/* `channels` of the columns lie side by side in the inputs. */
static int digits_for(const mo_loader *ld, const mo_matrix *m, int64_t channels) {
    if (ld->exact || channels % MO_DIGIT_BLOCK != 0) return 0;
    if (ld->digits == 3 && (m->dtype != MO_F32 || !fits_digits(m))) return 0;
    return ld->digits;
}

static const mo_weight *upload_as(mo_loader *ld, mo_dtype to, mo_layout layout, int64_t rows,
                                  int64_t cols, const float *v, int64_t channels, int pieces) {
    if (to == MO_F32) {
        mo_matrix src = floats(to, rows, cols, v);
        src.pieces = pieces;
        if (layout == MO_LAYOUT_STRIPS) src.digits = digits_for(ld, &src, channels);
        return pool_add(ld, &src, layout);
    }
    size_t n = (size_t)(rows * cols);
    uint16_t *half = v ? mo_calloc(n, sizeof *half) : NULL;
    if (v && !half) {
        loader_nomem(ld);
        return NULL;
    }
    if (v) mo_quant_of(to)->quantise(v, half, n);
    mo_matrix src = floats(to, rows, cols, half);
    if (layout == MO_LAYOUT_STRIPS) src.digits = digits_for(ld, &src, channels);
    const mo_weight *w = pool_add(ld, &src, layout);
    free(half);
    return w;
}

/* Strips of float32, or of float16 where that is allowed and holds the numbers' range. `channels`
 * of the columns lie side by side in the inputs. */
static const mo_weight *upload_strips(mo_loader *ld, int64_t rows, int64_t cols, int64_t channels,
                                      const float *v) {
    bool half = ld->half && !ld->exact;
    for (int64_t i = 0; half && v && i < rows * cols; i++) half = fabsf(v[i]) <= MO_F16_MAX;
    int pieces = !ld->exact && channels % MO_QUANT_GROUP == 0 ? ld->pieces : 0;
    return upload_as(ld, half ? MO_F16 : MO_F32, MO_LAYOUT_STRIPS, rows, cols, v, channels, pieces);
}

/* 16-bit weights stay 16-bit when an adapter was added, as when the reference fuses one; quantised
 * ones become bfloat16, which rounds less than their blocks do. */
static const mo_weight *upload_rows(mo_loader *ld, const mo_tensor_view *t, mo_layout layout,
                                    const mo_lora_target *m, float *v) {
    bool packed = mo_dtype_is_packed(t->dtype), adapted = mo_loras_touch(ld->loras, m);
    mo_dtype to = packed && adapted && !ld->exact ? MO_BF16 : packed ? MO_F32 : t->dtype;
    return upload_as(ld, to, layout, m->n, m->cols, v, m->cols, 0);
}

static const mo_weight *load_changed(mo_loader *ld, const mo_tensor_view *t, mo_layout layout,
                                     const mo_lora_target *m) {
    float *v;
    if (!staging(ld, (size_t)m->n * (size_t)m->cols, &v)) return NULL;
    const mo_weight *w = NULL;
    if (read_rows(ld, t, m, v)) w = upload_rows(ld, t, layout, m, v);
    free(v);
    done_with(ld, t->data, t->bytes);
    return w;
}

/* A packed matrix as it is. */
static const mo_weight *load_packed(mo_loader *ld, const mo_packed *p, mo_layout layout,
                                    const mo_lora_target *m) {
    bool blocks = p->packing == MO_PACKED_BLOCKS;
    const char *problem = blocks || ld->trusted ? NULL : mo_packed_problem(p, m->first, m->n);
    if (problem) {
        fail_problem(ld, p->t->name, problem);
        return NULL;
    }
    count_packed(ld, p);
    mo_matrix src = mo_packed_matrix(p, m->first, m->n);
    if (blocks) return upload_judged(ld, p->t, src, layout);
    size_t n = (size_t)(m->n * mo_packed_scales_per_row(p));
    float *scales = NULL;
    if (n > 0 && !staging(ld, 2 * n, &scales)) return NULL;
    if (scales) {
        mo_packed_scales(p, m->first, m->n, scales, scales + n);
        src.scales = scales;
        src.biases = scales + n;
    }
    const mo_weight *w = pool_add(ld, &src, layout);
    free(scales);
    return w;
}

/* Quantised tables give the same numbers as they are; matrices do not, because activations are
 * quantised with them. What the device cannot hold as it is becomes float32. */
static const mo_weight *load_quantised(mo_loader *ld, const mo_tensor_view *t, mo_layout layout,
                                       const mo_lora_target *m) {
    const mo_backend *be = ld->pool->be;
    mo_packed p;
    int rc = mo_packed_open(&p, ld->ck, t, m->rows, m->cols, ld->err);
    if (rc < 0) {
        ld->failed = rc;
        fail_unfit(ld, t);
        return NULL;
    }
    mo_matrix src = mo_packed_matrix(&p, m->first, m->n);
    bool widen = (ld->exact && layout == MO_LAYOUT_STRIPS) ||
                 (ld->loras && mo_loras_touch(ld->loras, m)) ||
                 !be->ops->weight_bytes(be, &src, layout, NULL);
    return widen ? load_changed(ld, t, layout, m) : load_packed(ld, &p, layout, m);
}

static const mo_weight *load_halved(mo_loader *ld, const mo_tensor_view *t,
                                    const mo_lora_target *m) {
    float *v;
    size_t n = (size_t)(m->n * m->cols);
    if (!staging(ld, n, &v)) return NULL;
    if (v) mo_tensor_read(t, (uint64_t)(m->first * m->cols), n, v);
    const mo_weight *w = upload_strips(ld, m->n, m->cols, m->cols, v);
    free(v);
    const size_t row = (size_t)m->cols * sizeof(float);
    done_with(ld, (const uint8_t *)t->data + (size_t)m->first * row, (size_t)m->n * row);
    return w;
}

/* Rows of a matrix in any form. */
static const mo_weight *load_rows(mo_loader *ld, mo_layout layout, const mo_lora_target *m) {
    if (ld->failed) return NULL;
    const mo_tensor_view *t = find(ld, m->name);
    if (t && ld->matrix) ld->matrix(ld->matrix_user, t, m);
    if (t && mo_dtype_is_packed(t->dtype)) return load_quantised(ld, t, layout, m);
    const int64_t shape[] = {m->rows, m->cols};
    bool adapted = ld->loras && mo_loras_touch(ld->loras, m);
    bool halved = t && t->dtype == MO_F32 && layout == MO_LAYOUT_STRIPS && ld->half && !ld->exact;
    t = adapted || halved ? take(ld, m->name, 2, shape) : find_fitting(ld, m->name, 2, shape);
    if (!t) return NULL;
    if (adapted) return load_changed(ld, t, layout, m);
    if (halved) return load_halved(ld, t, m);
    size_t skip = (size_t)m->first * (size_t)m->cols * mo_dtype_bytes(t->dtype);
    mo_matrix src = floats(t->dtype, m->n, m->cols, (const uint8_t *)t->data + skip);
    if (!ld->used[t - ld->ck->tensors]) leave_crumb(ld, t->name); /* before it can go wrong */
    if (layout == MO_LAYOUT_STRIPS) src.digits = digits_for(ld, &src, m->cols);
    const mo_weight *w = upload_judged(ld, t, src, layout);
    return w && accept(ld, t) ? w : NULL;
}

const mo_weight *mo_load_matrix(mo_loader *ld, mo_layout layout, int64_t rows, int64_t cols,
                                const char *fmt, ...) {
    char name[NAME_BYTES];
    va_list ap;
    va_start(ap, fmt);
    name_format(name, fmt, ap);
    va_end(ap);
    return load_rows(ld, layout, &(mo_lora_target){name, 0, rows, cols, 0, rows, rows});
}

const mo_weight *mo_load_part(mo_loader *ld, int part, int parts, int64_t rows, int64_t cols,
                              const char *fmt, ...) {
    char name[NAME_BYTES];
    va_list ap;
    va_start(ap, fmt);
    name_format(name, fmt, ap);
    va_end(ap);
    return load_rows(ld, MO_LAYOUT_STRIPS,
                     &(mo_lora_target){name, part, parts * rows, cols, part * rows, rows, rows});
}

const mo_weight *mo_load_const(mo_loader *ld, mo_layout layout, int64_t rows, int64_t cols,
                               const float *data) {
    const mo_matrix src = floats(MO_F32, rows, cols, data);
    return pool_add(ld, &src, layout);
}

static const mo_weight *load_tiled(mo_loader *ld, const mo_tensor_view *t, int64_t n, int times) {
    float *v;
    if (!t || !staging(ld, (size_t)n * (size_t)times, &v)) return NULL;
    for (int i = 0; v && i < times; i++)
        mo_tensor_read(t, 0, (uint64_t)n, v + (size_t)i * (size_t)n);
    const mo_weight *w = mo_load_const(ld, MO_LAYOUT_ROWS, 1, n * times, v);
    free(v);
    done_with(ld, t->data, t->bytes);
    return w;
}

const mo_weight *mo_load_vector(mo_loader *ld, int64_t n, const char *fmt, ...) {
    TAKE_FORMATTED(t, 0, &n);
    return load_tiled(ld, t, n, 1);
}

const mo_weight *mo_load_vector_tiled(mo_loader *ld, int64_t n, int times, const char *fmt, ...) {
    TAKE_FORMATTED(t, 0, &n);
    return load_tiled(ld, t, n, times);
}

const mo_weight *mo_load_conv(mo_loader *ld, int out, int in, int k, const char *fmt, ...) {
    int64_t want[] = {out, in, k};
    TAKE_FORMATTED(t, 3, want);
    if (!t) return NULL;
    size_t row = (size_t)in * (size_t)k;
    float *v, *src = NULL;
    const mo_weight *w = NULL;
    if (staging(ld, (size_t)out * row, &v) && staging(ld, row, &src)) {
        for (int o = 0; v && o < out; o++) {
            mo_tensor_read(t, (uint64_t)o * row, row, src);
            for (int j = 0; j < k; j++)
                for (int i = 0; i < in; i++)
                    v[(size_t)o * row + (size_t)(j * in + i)] = src[i * k + j];
        }
        w = upload_strips(ld, out, (int64_t)row, in, v);
    }
    free(src);
    free(v);
    done_with(ld, t->data, t->bytes);
    return w;
}

const mo_weight *mo_load_convt(mo_loader *ld, int in, int out, int k, int stride, const char *fmt,
                               ...) {
    int64_t want[] = {in, out, k};
    TAKE_FORMATTED(t, 3, want);
    if (!t) return NULL;
    int taps = (k + stride - 1) / stride;
    size_t cols = (size_t)taps * (size_t)in, rows = (size_t)stride * (size_t)out;
    size_t plane = (size_t)out * (size_t)k;
    float *v, *src = NULL;
    const mo_weight *w = NULL;
    if (staging(ld, rows * cols, &v) && staging(ld, plane, &src)) {
        for (int i = 0; v && i < in; i++) {
            mo_tensor_read(t, (uint64_t)i * plane, plane, src);
            for (int o = 0; o < out; o++)
                for (int kk = 0; kk < k; kk++) {
                    /* y[t * stride + kk] gets x[t]: input step t is `kk / stride` steps before the
                     * output's own step, which is window row taps - 1 - kk / stride */
                    size_t row = (size_t)(kk % stride) * (size_t)out + (size_t)o;
                    size_t col = (size_t)(taps - 1 - kk / stride) * (size_t)in + (size_t)i;
                    v[row * cols + col] = src[(size_t)o * (size_t)k + (size_t)kk];
                }
        }
        w = upload_strips(ld, (int64_t)rows, (int64_t)cols, in, v);
    }
    free(src);
    free(v);
    done_with(ld, t->data, t->bytes);
    return w;
}

const mo_weight *mo_load_depthwise(mo_loader *ld, int channels, int k, const char *name) {
    int64_t want[] = {channels, 1, k};
    const mo_tensor_view *t = take(ld, name, 3, want);
    float *v;
    if (!t || !staging(ld, (size_t)t->count, &v)) return NULL;
    if (v) mo_tensor_read(t, 0, t->count, v);
    const mo_weight *w = mo_load_const(ld, MO_LAYOUT_ROWS, channels, k, v);
    free(v);
    done_with(ld, t->data, t->bytes);
    return w;
}

/* Old training code spelled these three differently. */
static const char *codebook_name(const mo_loader *ld, char name[NAME_BYTES], const char *prefix,
                                 const char *const *spellings) {
    for (int i = 0; spellings[i]; i++) {
        snprintf(name, NAME_BYTES, "%s%s", prefix, spellings[i]);
        if (mo_checkpoint_find(ld->ck, name)) return name;
    }
    snprintf(name, NAME_BYTES, "%s%s", prefix, spellings[0]);
    return name;
}

enum { BLUR_PART = 256 };

/* Up to BLUR_PART numbers, as float16 holds them if that is asked for. */
static const float *numbers_of(const float *x, float room[BLUR_PART], int n, bool half) {
    uint16_t halves[BLUR_PART];
    if (!half) return x;
    mo_quant_of(MO_F16)->quantise(x, halves, (size_t)n);
    mo_quant_of(MO_F16)->dequantise(halves, room, (size_t)n);
    return room;
}

static float largest_of(const float *entry, int dim, bool half) {
    float top = 0, room[BLUR_PART];
    for (int i = 0; i < dim; i += BLUR_PART) {
        const int n = dim - i < BLUR_PART ? dim - i : BLUR_PART;
        const float *x = numbers_of(entry + i, room, n, half);
        for (int k = 0; k < n; k++) top = fabsf(x[k]) > top ? fabsf(x[k]) : top;
    }
    return top;
}

/* The nearest whole number, of two the even one: what is left when the sum is rounded. */
static double round_whole(double x) {
    const double sum = x + 0x1.8p52;
    return sum - 0x1.8p52;
}

/* An entry's score is off by |x| times its distance from its copy (Cauchy-Schwarz). Digits of the
 * inputs are off by 2^-14 of the largest each, hence all together by sqrt(dim) 2^-14 |x| at most,
 * which counts times the length of the copy. */
float mo_entry_blur(const float *entry, int dim, bool half, int digits) {
    const float top = digits ? largest_of(entry, dim, half) : 0;
    const bool rounded = digits && top >= 0x1p-89f; /* below, digits may all be 0 */
    const double exact = rounded ? (double)top / 127 : 1, whole = 1 / exact;
    const double step = rounded ? (double)(float)exact : 0;
    double apart = 0, length = 0;
    float room[BLUR_PART];
    for (int i = 0; i < dim; i += BLUR_PART) {
        const int n = dim - i < BLUR_PART ? dim - i : BLUR_PART;
        const float *x = numbers_of(entry + i, room, n, half);
        for (int k = 0; k < n; k++) {
            const double y = digits ? round_whole((double)x[k] * whole) * step : (double)x[k];
            apart += ((double)entry[i + k] - y) * ((double)entry[i + k] - y);
            length += y * y;
        }
    }
    const double inputs = digits ? sqrt((double)dim * length) * 0x1p-14 : 0;
    return (float)((sqrt(apart) + inputs) * 1.000001);
}

/* What is searched: float16 takes half the time to read, one digit a quarter. */
static void load_search(mo_loader *ld, int bins, int dim, const float *entries, mo_codebook *book) {
    float *blurs;
    const mo_weight *w = upload_strips(ld, bins, dim, dim, entries);
    if (!w || !staging(ld, (size_t)bins, &blurs)) return;
    for (int b = 0; blurs && b < bins; b++) {
        blurs[b] =
            mo_entry_blur(entries + (size_t)b * (size_t)dim, dim, w->dtype == MO_F16, w->digits);
        if (blurs[b] > book->blur) book->blur = blurs[b];
    }
    book->search = w;
    book->blurs = mo_load_const(ld, MO_LAYOUT_ROWS, 1, bins, blurs);
    free(blurs);
}

mo_codebook mo_load_codebook(mo_loader *ld, int bins, int dim, const char *prefix) {
    static const char *const usage_names[] = {"cluster_usage", "cluster_size", NULL};
    static const char *const sum_names[] = {"embedding_sum", "embed_sum", "embed_avg", NULL};
    char name[NAME_BYTES];
    int64_t want[] = {bins, dim};
    const mo_tensor_view *usage =
        take(ld, codebook_name(ld, name, prefix, usage_names), 1, (int64_t[]){bins});
    const mo_tensor_view *sum = take(ld, codebook_name(ld, name, prefix, sum_names), 2, want);
    /* a flag of the training code, unused */
    snprintf(name, sizeof name, "%s_initialized", prefix);
    mo_load_ignore(ld, name);
    snprintf(name, sizeof name, "%sinited", prefix);
    mo_load_ignore(ld, name);
    mo_codebook book = {0};
    if (!usage || !sum) return book;

    float *entries, *halves = NULL;
    if (staging(ld, (size_t)bins * (size_t)dim, &entries) && staging(ld, (size_t)bins, &halves)) {
        for (int b = 0; entries && b < bins; b++) {
            float *e = entries + (size_t)b * (size_t)dim;
            float n = mo_tensor_at(usage, (uint64_t)b);
            double square = 0;
            mo_tensor_read(sum, (uint64_t)b * (uint64_t)dim, (uint64_t)dim, e);
            for (int i = 0; i < dim; i++) {
                e[i] /= n > 1e-5f ? n : 1e-5f;
                square += (double)e[i] * (double)e[i];
            }
            halves[b] = (float)(-square / 2);
        }
        if (ld->half && !ld->exact) load_search(ld, bins, dim, entries, &book);
        const bool apart = book.search && book.search->digits; /* entries are measured one by one */
        book.entries =
            mo_load_const(ld, apart ? MO_LAYOUT_ROWS : MO_LAYOUT_STRIPS, bins, dim, entries);
        if (!book.search) book.search = book.entries;
        book.half_norms = mo_load_const(ld, MO_LAYOUT_ROWS, 1, bins, halves);
    }
    free(entries);
    done_with(ld, sum->data, sum->bytes);
    free(halves);
    return book;
}

const mo_weight *mo_load_matrix_patched(mo_loader *ld, int64_t rows, int64_t cols, int64_t to,
                                        int64_t from, const char *name) {
    const mo_weight *w =
        load_rows(ld, MO_LAYOUT_ROWS, &(mo_lora_target){name, 0, rows, cols, 0, rows, rows});
    if (!w) return NULL;
    size_t row = w->buf->bytes / (size_t)rows;
    uint8_t *copy = mo_calloc(1, row + 1);
    if (!copy) {
        loader_nomem(ld);
        return NULL;
    }
    const mo_backend_ops *ops = ld->pool->be->ops;
    ops->read(ld->pool->be, w->buf, (size_t)from * row, copy, row);
    ops->write(ld->pool->be, w->buf, (size_t)to * row, copy, row);
    free(copy);
    return w;
}

void mo_load_copies(mo_loader *ld) {
    char name[NAME_BYTES];
    for (size_t i = 0; !ld->failed && i < ld->ck->n_tensors; i++) {
        const mo_tensor_view *copy = &ld->ck->tensors[i];
        if (ld->used[i] || !mo_names_copy_of(&ld->names, copy->name, name)) continue;
        const mo_tensor_view *t = mo_checkpoint_find(ld->ck, name);
        if (!t) continue; /* the loader said or will say so */
        bool same = t->bytes == copy->bytes &&
                    (ld->dry || memcmp(t->data, copy->data, (size_t)t->bytes) == 0);
        if (!same)
            ld->failed = mo_fail(ld->err, MOSHI_EMODEL,
                                 "%s: tensor '%s': wanted the same numbers as in '%s', because "
                                 "config.json says their codebooks share weights, found others",
                                 ld->ck->file.name, copy->name, name);
        ld->used[i] = MO_USED;
        if (!same) gave_up(ld, MO_FAULT_UNFIT, copy->name);
    }
}
