/* gguf.c - the header of a GGUF file (versions 2 and 3, little endian), checked until every view
 * and value can be trusted.
 *
 * Layout: "GGUF", u32 version, u64 tensors, u64 values; the values (key, u32 type, bytes); the
 * tensors (name, u32 dimensions, u64 sizes innermost first, u32 type, u64 offset); padding up to
 * the alignment; data, which offsets count from. A string is a u64 length and its bytes. */
#include "gguf.h"

#include <stdlib.h>
#include <string.h>

enum {
    MIN_VALUE_BYTES = 8 + 1 + 4 + 1,          /* key of one letter, type, one byte */
    MIN_TENSOR_BYTES = 8 + 1 + 4 + 0 + 4 + 8, /* name of one letter, no dimensions */
    MAX_NESTING = 4,                          /* arrays of arrays */
    DEFAULT_ALIGNMENT = 32,
    SHOWN = 200 /* bytes of a name in messages */
};

/* ---- types --------------------------------------------------------------------------------- */

/* Bytes of one value; strings and arrays carry their own length. */
static const uint8_t value_bytes[MO_GGUF_TYPE_COUNT] = {
    [MO_GGUF_U8] = 1,  [MO_GGUF_I8] = 1,  [MO_GGUF_U16] = 2, [MO_GGUF_I16] = 2,
    [MO_GGUF_U32] = 4, [MO_GGUF_I32] = 4, [MO_GGUF_F32] = 4, [MO_GGUF_BOOL] = 1,
    [MO_GGUF_U64] = 8, [MO_GGUF_I64] = 8, [MO_GGUF_F64] = 8,
};

/* Types of tensors: a dtype, or at least a name for the message. */
typedef struct tensor_type {
    uint32_t id;
    mo_dtype dtype; /* MO_DTYPE_COUNT: not read here */
    const char *name;
} tensor_type;

static const tensor_type tensor_types[] = {
    {0, MO_F32, "F32"},
    {1, MO_F16, "F16"},
    {2, MO_Q4_0, "Q4_0"},
    {3, MO_DTYPE_COUNT, "Q4_1"},
    {6, MO_DTYPE_COUNT, "Q5_0"},
    {7, MO_DTYPE_COUNT, "Q5_1"},
    {8, MO_Q8_0, "Q8_0"},
    {9, MO_DTYPE_COUNT, "Q8_1"},
    {10, MO_DTYPE_COUNT, "Q2_K"},
    {11, MO_DTYPE_COUNT, "Q3_K"},
    {12, MO_Q4_K, "Q4_K"},
    {13, MO_Q5_K, "Q5_K"},
    {14, MO_Q6_K, "Q6_K"},
    {15, MO_DTYPE_COUNT, "Q8_K"},
    {16, MO_DTYPE_COUNT, "IQ2_XXS"},
    {17, MO_DTYPE_COUNT, "IQ2_XS"},
    {18, MO_DTYPE_COUNT, "IQ3_XXS"},
    {19, MO_DTYPE_COUNT, "IQ1_S"},
    {20, MO_DTYPE_COUNT, "IQ4_NL"},
    {21, MO_DTYPE_COUNT, "IQ3_S"},
    {22, MO_DTYPE_COUNT, "IQ2_S"},
    {23, MO_DTYPE_COUNT, "IQ4_XS"},
    {24, MO_I8, "I8"},
    {25, MO_I16, "I16"},
    {26, MO_I32, "I32"},
    {27, MO_I64, "I64"},
    {28, MO_F64, "F64"},
    {29, MO_DTYPE_COUNT, "IQ1_M"},
    {30, MO_BF16, "BF16"},
    {34, MO_DTYPE_COUNT, "TQ1_0"},
    {35, MO_DTYPE_COUNT, "TQ2_0"},
    {39, MO_DTYPE_COUNT, "MXFP4"},
};

/* ---- reading ------------------------------------------------------------------------------- */

typedef struct reader {
    const uint8_t *data;
    size_t size, at;
    const char *file;
    moshi_error *err;
} reader;

/* Not terminated. The file holds its length in the 8 bytes before it. */
typedef struct text {
    const char *at;
    size_t n;
} text;

static uint64_t little_endian(const uint8_t *p, int bytes) {
    uint64_t v = 0;
    for (int i = bytes; i-- > 0;) v = v << 8 | p[i];
    return v;
}

static int cut_off(const reader *r, const char *where, uint64_t wanted) {
    return mo_fail(r->err, MOSHI_EMODEL,
                   "%s: %s: wanted %llu more bytes at byte %zu, found %zu; the file is truncated "
                   "or damaged",
                   r->file, where, (unsigned long long)wanted, r->at, r->size - r->at);
}

static int read_number(reader *r, int bytes, const char *where, uint64_t *out) {
    if (r->size - r->at < (size_t)bytes) return cut_off(r, where, (uint64_t)bytes);
    *out = little_endian(r->data + r->at, bytes);
    r->at += (size_t)bytes;
    return 0;
}

static int skip(reader *r, uint64_t bytes, const char *where) {
    if (bytes > r->size - r->at) return cut_off(r, where, bytes);
    r->at += (size_t)bytes;
    return 0;
}

/* Keys and names: something to show and to compare as a C string. */
static int read_text(reader *r, const char *where, text *out) {
    uint64_t n = 0;
    int rc = read_number(r, 8, where, &n);
    if (rc < 0) return rc;
    out->at = (const char *)r->data + r->at;
    if ((rc = skip(r, n, where)) < 0) return rc;
    out->n = (size_t)n;
    bool ok = n > 0;
    for (size_t i = 0, step; ok && i < out->n; i += step) {
        step = mo_utf8_length(out->at + i, out->n - i);
        ok = step > 0 && out->at[i] != 0;
    }
    if (ok) return 0;
    return mo_fail(r->err, MOSHI_EMODEL,
                   "%s: %s at byte %zu: wanted UTF-8 text without zero characters, found %s",
                   r->file, where, r->at - out->n, n ? "other bytes" : "nothing");
}

static int shown(text t) {
    return t.n < SHOWN ? (int)t.n : SHOWN;
}

/* ---- values -------------------------------------------------------------------------------- */

static int read_type(reader *r, text key, mo_gguf_type *out) {
    uint64_t type = 0;
    int rc = read_number(r, 4, "type of a value", &type);
    if (rc == 0 && type >= MO_GGUF_TYPE_COUNT)
        rc = mo_fail(r->err, MOSHI_EMODEL, "%s: key \"%.*s\": wanted a type of 0 to %d, found %llu",
                     r->file, shown(key), key.at, MO_GGUF_TYPE_COUNT - 1, (unsigned long long)type);
    *out = (mo_gguf_type)type;
    return rc;
}

/* Every pass takes bytes of the file, so that a count can promise no endless loop. */
static int skip_elements(reader *r, text key, mo_gguf_type type, uint64_t count, int nesting) {
    if (value_bytes[type]) {
        if (count > r->size) return cut_off(r, "array", count);
        return skip(r, count * value_bytes[type], "array");
    }
    int rc = 0;
    for (uint64_t i = 0; rc == 0 && i < count; i++) {
        uint64_t n = 0;
        if (type == MO_GGUF_STRING) {
            rc = read_number(r, 8, "string", &n);
            if (rc == 0) rc = skip(r, n, "string");
            continue;
        }
        mo_gguf_type inner = MO_GGUF_U8;
        if (nesting == MAX_NESTING)
            return mo_fail(r->err, MOSHI_EMODEL,
                           "%s: key \"%.*s\": wanted arrays at most %d deep, found deeper ones",
                           r->file, shown(key), key.at, MAX_NESTING);
        rc = read_type(r, key, &inner);
        if (rc == 0) rc = read_number(r, 8, "array", &n);
        if (rc == 0) rc = skip_elements(r, key, inner, n, nesting + 1);
    }
    return rc;
}

/* v->key lies in the file for now. */
static int read_value(reader *r, mo_gguf_value *v) {
    text key;
    int rc = read_text(r, "key", &key);
    if (rc == 0) rc = read_type(r, key, &v->type);
    if (rc < 0) return rc;
    v->key = key.at;
    v->count = 1;
    v->element = v->type;
    if (v->type == MO_GGUF_ARRAY && (rc = read_type(r, key, &v->element)) < 0) return rc;
    if (!value_bytes[v->type] && (rc = read_number(r, 8, "length of a value", &v->count)) < 0)
        return rc;
    v->data = r->data + r->at;
    if (v->type == MO_GGUF_STRING) return skip(r, v->count, "string");
    return skip_elements(r, key, v->element, v->count, 1);
}

/* ---- tensors ------------------------------------------------------------------------------- */

static int read_dtype(reader *r, text name, mo_dtype *out) {
    uint64_t id = 0;
    const char *known = "unknown";
    int rc = read_number(r, 4, "type of a tensor", &id);
    if (rc < 0) return rc;
    for (size_t i = 0; i < sizeof tensor_types / sizeof *tensor_types; i++)
        if (tensor_types[i].id == id) {
            known = tensor_types[i].name;
            *out = tensor_types[i].dtype;
            if (*out != MO_DTYPE_COUNT) return 0;
        }
    return mo_fail(
        r->err, MOSHI_EMODEL,
        "%s: tensor \"%.*s\": type: wanted F32, F16, BF16, Q8_0, Q4_0, Q4_K, Q5_K, Q6_K, "
        "F64 or an integer type, found %s (ggml type %llu)",
        r->file, shown(name), name.at, known, (unsigned long long)id);
}

/* Sizes come innermost first. */
static int read_shape(reader *r, text name, mo_tensor_view *t) {
    uint64_t ndim = 0, size = 0;
    int rc = read_number(r, 4, "dimensions of a tensor", &ndim);
    if (rc == 0 && ndim > MO_MAX_DIMS)
        rc = mo_fail(r->err, MOSHI_EMODEL,
                     "%s: tensor \"%.*s\": wanted at most %d dimensions, found %llu", r->file,
                     shown(name), name.at, MO_MAX_DIMS, (unsigned long long)ndim);
    t->ndim = rc == 0 ? (int)ndim : 0;
    t->count = 1;
    for (int i = t->ndim; rc == 0 && i-- > 0;) {
        if ((rc = read_number(r, 8, "sizes of a tensor", &size)) < 0) break;
        /* A zero may follow a product that is too large: still refused, no real file has it. */
        if (size > INT64_MAX / 8 || (size && t->count > INT64_MAX / 8 / size))
            return mo_fail(r->err, MOSHI_EMODEL,
                           "%s: tensor \"%.*s\": shape: wanted a product below 2^60, found a size "
                           "of %llu",
                           r->file, shown(name), name.at, (unsigned long long)size);
        t->shape[i] = (int64_t)size;
        t->count *= size;
    }
    return rc;
}

/* Whether the data is in the file is judged when all tensors are known. */
static int read_tensor(reader *r, mo_tensor_view *t, uint64_t *offset) {
    text name;
    int rc = read_text(r, "name of a tensor", &name);
    if (rc == 0) rc = read_shape(r, name, t);
    if (rc == 0) rc = read_dtype(r, name, &t->dtype);
    if (rc == 0) rc = read_number(r, 8, "offset of a tensor", offset);
    if (rc < 0) return rc;
    t->name = name.at;
    uint64_t row = t->ndim ? (uint64_t)t->shape[t->ndim - 1] : 1;
    if (row % mo_dtype_block(t->dtype))
        return mo_fail(r->err, MOSHI_EMODEL,
                       "%s: tensor \"%.*s\": wanted rows of a multiple of %zu for %s, found %llu",
                       r->file, shown(name), name.at, mo_dtype_block(t->dtype),
                       mo_dtype_name(t->dtype), (unsigned long long)row);
    t->bytes = mo_dtype_row_bytes(t->dtype, t->count);
    if (*offset > INT64_MAX / 2)
        return mo_fail(r->err, MOSHI_EMODEL,
                       "%s: tensor \"%.*s\": wanted an offset inside the file, found %llu", r->file,
                       shown(name), name.at, (unsigned long long)*offset);
    return 0;
}

/* ---- the whole header ---------------------------------------------------------------------- */

static int read_version(reader *r) {
    uint64_t version = 0;
    int rc = skip(r, 4, "header");
    if (rc == 0) rc = read_number(r, 4, "header", &version);
    if (rc < 0 || version == 2 || version == 3) return rc;
    if (version == 1)
        return mo_fail(r->err, MOSHI_EMODEL,
                       "%s: a GGUF file of version 1, which was in use for a few weeks of 2023; "
                       "wanted version 2 or 3",
                       r->file);
    if (version && version % 0x1000000 == 0)
        return mo_fail(r->err, MOSHI_EMODEL,
                       "%s: a big-endian GGUF file (version bytes 00 00 00 %02x); wanted a "
                       "little-endian one",
                       r->file, (unsigned)(version >> 24));
    return mo_fail(r->err, MOSHI_EMODEL, "%s: a GGUF file of version %llu; wanted version 2 or 3",
                   r->file, (unsigned long long)version);
}

/* A count is believed only as far as the file could hold that many, so that the memory taken for
 * them is in proportion to the file. */
static int read_count(reader *r, const char *what, size_t least, size_t *out) {
    uint64_t n = 0;
    int rc = read_number(r, 8, "header", &n);
    if (rc == 0 && n > r->size / least)
        rc = mo_fail(r->err, MOSHI_EMODEL,
                     "%s: header: wanted at most %zu %s in a file of %zu bytes, found %llu; the "
                     "file is truncated or damaged",
                     r->file, r->size / least, what, r->size, (unsigned long long)n);
    *out = rc == 0 ? (size_t)n : 0;
    return rc;
}

static int read_values(mo_checkpoint *ck, reader *r, size_t n) {
    int rc = 0;
    for (; rc == 0 && ck->n_values < n; ck->n_values += rc == 0)
        rc = read_value(r, &ck->values[ck->n_values]);
    return rc;
}

/* Offsets of the tensors' data go to `offsets`. */
static int read_tensors(mo_checkpoint *ck, reader *r, size_t n, uint64_t *offsets) {
    int rc = 0;
    for (; rc == 0 && ck->n_tensors < n; ck->n_tensors += rc == 0)
        rc = read_tensor(r, &ck->tensors[ck->n_tensors], &offsets[ck->n_tensors]);
    return rc;
}

static size_t text_length(const char *in_file) {
    return (size_t)little_endian((const uint8_t *)in_file - 8, 8);
}

/* A terminated copy; returns where the next one goes. */
static char *copy_text(char *to, const char **name) {
    size_t n = text_length(*name);
    memcpy(to, *name, n);
    to[n] = 0;
    *name = to;
    return to + n + 1;
}

/* Names and keys stop pointing into the file, where they are not terminated. */
static int copy_texts(mo_checkpoint *ck, const reader *r) {
    size_t bytes = 0; /* no more than the file has: every text stands in it with 8 bytes besides */
    for (size_t i = 0; i < ck->n_values; i++) bytes += text_length(ck->values[i].key) + 1;
    for (size_t i = 0; i < ck->n_tensors; i++) bytes += text_length(ck->tensors[i].name) + 1;
    ck->names = mo_calloc(bytes, 1);
    if (!ck->names) return mo_fail(r->err, MOSHI_ENOMEM, "%s: out of memory", r->file);
    char *to = ck->names;
    for (size_t i = 0; i < ck->n_values; i++) to = copy_text(to, &ck->values[i].key);
    for (size_t i = 0; i < ck->n_tensors; i++) to = copy_text(to, &ck->tensors[i].name);
    return 0;
}

static int by_key(const void *a, const void *b) {
    const mo_gguf_value *x = a, *y = b;
    return strcmp(x->key, y->key);
}

static int sort_values(mo_checkpoint *ck, const reader *r) {
    mo_gguf_value *v = ck->values;
    qsort(v, ck->n_values, sizeof *v, by_key);
    for (size_t i = 1; i < ck->n_values; i++)
        if (strcmp(v[i - 1].key, v[i].key) == 0)
            return mo_fail(r->err, MOSHI_EMODEL, "%s: key \"%.200s\" is there twice", r->file,
                           v[i].key);
    return 0;
}

static int find_alignment(const mo_checkpoint *ck, const reader *r, uint64_t *out) {
    const mo_gguf_value *v = mo_gguf_find(ck, "general.alignment");
    int64_t found = DEFAULT_ALIGNMENT;
    if (v && !mo_gguf_integer(v, &found))
        return mo_fail(r->err, MOSHI_EMODEL,
                       "%s: general.alignment: wanted a whole number, found another type", r->file);
    if (found < 1 || found > 1 << 30 || (found & (found - 1)))
        return mo_fail(r->err, MOSHI_EMODEL,
                       "%s: general.alignment: wanted a power of two up to 2^30, found %lld",
                       r->file, (long long)found);
    *out = (uint64_t)found;
    return 0;
}

/* From offsets to addresses, once the data section's place is known. */
static int place_tensors(mo_checkpoint *ck, const reader *r, const uint64_t *offsets) {
    uint64_t alignment = 0, need = 0;
    int rc = find_alignment(ck, r, &alignment);
    if (rc < 0) return rc;
    uint64_t data_at = (r->at + alignment - 1) / alignment * alignment;
    for (size_t i = 0; i < ck->n_tensors; i++) {
        mo_tensor_view *t = &ck->tensors[i];
        uint64_t begin = data_at + offsets[i], end = begin + t->bytes;
        if (offsets[i] % alignment)
            return mo_fail(r->err, MOSHI_EMODEL,
                           "%s: tensor \"%.200s\": wanted an offset that is a multiple of %llu, "
                           "found %llu",
                           r->file, t->name, (unsigned long long)alignment,
                           (unsigned long long)offsets[i]);
        if (end > need) need = end;
        t->data = end <= r->size ? r->data + begin : NULL;
    }
    return need > r->size ? mo_checkpoint_truncated(r->file, need, r->size, r->err) : 0;
}

static int read_all(mo_checkpoint *ck, reader *r, size_t n_tensors, size_t n_values) {
    ck->values = mo_calloc(n_values, sizeof *ck->values);
    ck->tensors = mo_calloc(n_tensors, sizeof *ck->tensors);
    uint64_t *offsets = mo_calloc(n_tensors, sizeof *offsets);
    int rc = ck->values && ck->tensors && offsets
                 ? 0
                 : mo_fail(r->err, MOSHI_ENOMEM, "%s: out of memory", r->file);
    if (rc == 0) rc = read_values(ck, r, n_values);
    if (rc == 0) rc = read_tensors(ck, r, n_tensors, offsets);
    if (rc == 0) rc = copy_texts(ck, r);
    if (rc == 0) rc = sort_values(ck, r);
    if (rc == 0) rc = place_tensors(ck, r, offsets);
    if (rc == 0) rc = mo_checkpoint_sort(ck, r->file, r->err);
    free(offsets);
    return rc;
}

int mo_gguf_parse(mo_checkpoint *ck, const uint8_t *data, size_t size, const char *file,
                  moshi_error *err) {
    reader r = {data, size, 0, file, err};
    size_t n_tensors = 0, n_values = 0;
    int rc = read_version(&r);
    if (rc == 0) rc = read_count(&r, "tensors", MIN_TENSOR_BYTES, &n_tensors);
    if (rc == 0) rc = read_count(&r, "values", MIN_VALUE_BYTES, &n_values);
    return rc < 0 ? rc : read_all(ck, &r, n_tensors, n_values);
}

/* ---- asking -------------------------------------------------------------------------------- */

const mo_gguf_value *mo_gguf_find(const mo_checkpoint *ck, const char *key) {
    mo_gguf_value wanted = {.key = key};
    if (ck->n_values == 0) return NULL;
    return bsearch(&wanted, ck->values, ck->n_values, sizeof wanted, by_key);
}

bool mo_gguf_integer(const mo_gguf_value *v, int64_t *out) {
    if (!v) return false;
    uint64_t bits = value_bytes[v->type] ? little_endian(v->data, value_bytes[v->type]) : 0;
    switch (v->type) {
    case MO_GGUF_I8:
        *out = (int8_t)bits;
        return true;
    case MO_GGUF_I16:
        *out = (int16_t)bits;
        return true;
    case MO_GGUF_I32:
        *out = (int32_t)bits;
        return true;
    case MO_GGUF_I64:
        *out = (int64_t)bits;
        return true;
    case MO_GGUF_U8:
    case MO_GGUF_U16:
    case MO_GGUF_U32:
    case MO_GGUF_U64:
        if (bits > INT64_MAX) return false;
        *out = (int64_t)bits;
        return true;
    default:
        return false;
    }
}

const char *mo_gguf_next_string(const uint8_t **at, size_t *bytes) {
    const char *string = (const char *)*at + 8;
    *bytes = (size_t)little_endian(*at, 8);
    *at += 8 + *bytes;
    return string;
}
