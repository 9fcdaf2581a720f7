#include "packed.h"

#include "weights.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 300 };

bool mo_dtype_is_packed(mo_dtype dtype) {
    return dtype == MO_U32 || dtype == MO_I8 || (mo_quant_of(dtype) && mo_dtype_block(dtype) > 1);
}

/* The tensor that accompanies `name`: `suffix` replaces ".weight" (MLX) or follows the whole name
 * (int8). */
static const mo_tensor_view *companion(const mo_checkpoint *ck, const char *name,
                                       const char *suffix, bool replace) {
    char full[NAME_BYTES];
    size_t n = strlen(name), w = strlen(".weight");
    if (replace && n > w && !strcmp(name + n - w, ".weight")) n -= w;
    snprintf(full, sizeof full, "%.*s%s", (int)n, name, suffix);
    return mo_checkpoint_find(ck, full);
}

static int refuse(const mo_checkpoint *ck, const mo_tensor_view *t, moshi_error *err,
                  const char *wanted) {
    char found[64];
    size_t n = (size_t)snprintf(found, sizeof found, "%s [", mo_dtype_name(t->dtype));
    for (int i = 0; i < t->ndim && n < sizeof found; i++)
        n += (size_t)snprintf(found + n, sizeof found - n, i ? ", %" PRId64 : "%" PRId64,
                              t->shape[i]);
    return mo_fail(err, MOSHI_EMODEL, "%s: tensor '%s': wanted %s, found %s]", ck->file.name,
                   t->name, wanted, found);
}

/* MLX: the width of a number and of a group follow from the shapes. */
static int open_groups(mo_packed *p, const mo_checkpoint *ck, moshi_error *err) {
    const mo_tensor_view *t = p->t;
    p->scales = companion(ck, t->name, ".scales", true);
    p->biases = companion(ck, t->name, ".biases", true);
    if (!p->scales || !p->biases)
        return refuse(ck, t, err, "'.scales' and '.biases' beside packed U32 weights");
    int64_t words = t->ndim == 2 ? t->shape[1] : 0;
    int64_t bits = words > 0 && words * 32 % p->cols == 0 ? words * 32 / p->cols : 0;
    if (t->shape[0] != p->rows || bits < 1 || bits > 8 || 32 % bits != 0)
        return refuse(ck, t, err, "packed rows of 1, 2, 4 or 8 bits per weight for its layer");
    p->bits = (int)bits;
    const mo_tensor_view *s = p->scales, *b = p->biases;
    if (!mo_dtype_is_float(s->dtype) || s->ndim != 2 || s->shape[0] != p->rows || s->shape[1] < 1 ||
        p->cols % s->shape[1] != 0)
        return refuse(ck, s, err, "one float scale per group of each row");
    p->group = p->cols / s->shape[1];
    if (!mo_dtype_is_float(b->dtype) || b->ndim != 2 || b->shape[0] != p->rows ||
        b->shape[1] != s->shape[1])
        return refuse(ck, b, err, "as many biases as scales");
    return 0;
}

static int open_rows(mo_packed *p, const mo_checkpoint *ck, moshi_error *err) {
    p->scales = companion(ck, p->t->name, "_scb", false);
    if (!p->scales) return refuse(ck, p->t, err, "'_scb' scales beside I8 weights");
    if (!mo_dtype_is_float(p->scales->dtype) || p->scales->count != (uint64_t)p->rows)
        return refuse(ck, p->scales, err, "one float scale per row");
    return 0;
}

int mo_packed_open(mo_packed *out, const mo_checkpoint *ck, const mo_tensor_view *t, int64_t rows,
                   int64_t cols, moshi_error *err) {
    char wanted[96];
    snprintf(wanted, sizeof wanted, "shape [%" PRId64 ", %" PRId64 "]", rows, cols);
    *out = (mo_packed){.t = t, .rows = rows, .cols = cols, .set = mo_quant_set_plain()};
    if (t->dtype == MO_U32) {
        out->packing = MO_PACKED_GROUPS;
        return open_groups(out, ck, err);
    }
    if (t->ndim != 2 || t->shape[0] != rows || t->shape[1] != cols)
        return refuse(ck, t, err, wanted);
    if (t->dtype == MO_I8) {
        out->packing = MO_PACKED_ROWS;
        return open_rows(out, ck, err);
    }
    if (!mo_quant_of(t->dtype)) return refuse(ck, t, err, "a number format this version knows");
    mo_packed_flat(out, t, rows, cols);
    return 0;
}

void mo_packed_flat(mo_packed *out, const mo_tensor_view *t, int64_t rows, int64_t cols) {
    *out = (mo_packed){.packing = mo_dtype_block(t->dtype) > 1 ? MO_PACKED_BLOCKS : MO_PACKED_FLOAT,
                       .t = t,
                       .rows = rows,
                       .cols = cols,
                       .set = mo_quant_set_plain(),
                       .quant = mo_quant_of(t->dtype)};
}

void mo_packed_use(mo_packed *p, const mo_quant_set *set) {
    p->set = set;
    if (p->quant) p->quant = mo_quant_row(set, p->t->dtype);
}

/* One row of MLX groups: number i sits in word i / per, lowest bits first, which makes bytes in
 * order. A group that ends within a byte is unpacked number by number. */
static void read_groups(const mo_packed *p, int64_t row, float *out) {
    int64_t groups = p->cols / p->group, step = p->group * p->bits;
    const uint8_t *src = (const uint8_t *)p->t->data + (size_t)(row * p->t->shape[1]) * 4;
    for (int64_t g = 0; g < groups; g++, out += p->group) {
        float scale = mo_tensor_at(p->scales, (uint64_t)(row * groups + g));
        float bias = mo_tensor_at(p->biases, (uint64_t)(row * groups + g));
        if (step % 8 == 0) {
            p->set->unpack_group(src + g * step / 8, p->bits, scale, bias, out, (size_t)p->group);
            continue;
        }
        for (int64_t i = 0, bit = g * step; i < p->group; i++, bit += p->bits)
            out[i] = scale * (float)(src[bit / 8] >> bit % 8 & ((1 << p->bits) - 1)) + bias;
    }
}

static void read_row(const mo_packed *p, int64_t row, float *out) {
    const int8_t *q = (const int8_t *)p->t->data + row * p->cols;
    p->set->unpack_row(q, mo_tensor_at(p->scales, (uint64_t)row), out, (size_t)p->cols);
}

void mo_packed_read(const mo_packed *p, int64_t first, int64_t n, float *out) {
    if (p->quant) {
        size_t row = (size_t)mo_dtype_row_bytes(p->t->dtype, (uint64_t)p->cols);
        p->quant->dequantise((const uint8_t *)p->t->data + (size_t)first * row, out,
                             (size_t)(n * p->cols));
        return;
    }
    for (int64_t r = 0; r < n; r++, out += p->cols) {
        if (p->packing == MO_PACKED_GROUPS)
            read_groups(p, first + r, out);
        else
            read_row(p, first + r, out);
    }
}

/* ---- as they are ----------------------------------------------------------------------------- */

static const uint8_t *rows_at(const mo_packed *p, int64_t first) {
    uint64_t row = p->packing == MO_PACKED_GROUPS
                       ? (uint64_t)p->t->shape[1] * 4
                       : mo_dtype_row_bytes(p->t->dtype, (uint64_t)p->cols);
    return (const uint8_t *)p->t->data + (uint64_t)first * row;
}

int64_t mo_packed_scales_per_row(const mo_packed *p) {
    if (p->packing == MO_PACKED_GROUPS) return p->cols / p->group;
    return p->packing == MO_PACKED_ROWS ? 1 : 0;
}

void mo_packed_scales(const mo_packed *p, int64_t first, int64_t n, float *scales, float *biases) {
    uint64_t per_row = (uint64_t)mo_packed_scales_per_row(p);
    mo_tensor_read(p->scales, (uint64_t)first * per_row, (uint64_t)n * per_row, scales);
    if (p->biases)
        mo_tensor_read(p->biases, (uint64_t)first * per_row, (uint64_t)n * per_row, biases);
}

mo_matrix mo_packed_matrix(const mo_packed *p, int64_t first, int64_t n) {
    mo_matrix m = {.dtype = p->t->dtype, .rows = n, .cols = p->cols, .data = rows_at(p, first)};
    if (p->packing == MO_PACKED_GROUPS) {
        bool narrow = p->scales->dtype == MO_BF16 && p->biases->dtype == MO_BF16;
        m.bits = p->bits;
        m.group = p->group;
        m.scales_dtype = narrow ? MO_BF16 : MO_F32;
    }
    return m;
}

/* Number i of a row of words or bytes. */
static float number_at(const mo_packed *p, const uint8_t *row, int64_t i, float scale, float bias) {
    if (p->packing == MO_PACKED_ROWS) return (float)(int8_t)row[i] * scale / 127.0f;
    int64_t bit = i * p->bits; /* words are little endian and `bits` divides 8 */
    unsigned q = row[bit / 8] >> (bit % 8) & ((1u << p->bits) - 1);
    return scale * (float)q + bias;
}

const char *mo_packed_problem(const mo_packed *p, int64_t first, int64_t n) {
    if (p->packing == MO_PACKED_FLOAT || p->packing == MO_PACKED_BLOCKS) {
        mo_tensor_view part = {.dtype = p->t->dtype, .ndim = 2, .shape = {n, p->cols}};
        part.count = (uint64_t)(n * p->cols);
        part.data = rows_at(p, first);
        return mo_tensor_problem(&part);
    }
    bool any = n < 2 || p->cols < 2; /* no matrix: may be zero */
    const bool groups = p->packing == MO_PACKED_GROUPS;
    const int64_t per_row = mo_packed_scales_per_row(p), group = p->cols / per_row;
    const float top = groups ? (float)((1u << p->bits) - 1) : 128.0f;
    for (int64_t r = first; r < first + n; r++)
        for (int64_t g = 0; g < per_row; g++) {
            float scale = mo_tensor_at(p->scales, (uint64_t)(r * per_row + g));
            float bias = groups ? mo_tensor_at(p->biases, (uint64_t)(r * per_row + g)) : 0;
            if (any && isfinite(fabsf(scale) * top + fabsf(bias))) continue;
            for (int64_t i = g * group; i < (g + 1) * group; i++) {
                float v = number_at(p, rows_at(p, r), i, scale, bias);
                if (!isfinite(v)) return v != v ? "contains NaN" : "contains infinite numbers";
                any |= v != 0;
            }
        }
    return any ? NULL : "is all zeros";
}
