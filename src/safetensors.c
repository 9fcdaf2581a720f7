/* safetensors.c - the header of a safetensors file, checked until every view can be trusted.
 *
 * Layout: u64 little-endian length of the header, the header (JSON, may end in spaces), data.
 * The header maps names to {"dtype", "shape", "data_offsets": [begin, end]}, offsets counted from
 * the end of the header. */
#include "checkpoint.h"
#include "json.h"

#include <stdlib.h>
#include <string.h>

enum { HEADER_MAX_BYTES = 100 * 1000 * 1000 };

/* What one entry says, as far as it has been read. */
typedef struct entry {
    const mo_json_value *dtype, *shape, *offsets;
} entry;

static int bad(const char *file, const char *tensor, const char *field, const char *wanted,
               const mo_json_value *found, moshi_error *err) {
    char text[96] = "nothing";
    if (found) mo_json_show(found, text, sizeof text);
    return mo_fail(err, MOSHI_EMODEL, "%s: tensor \"%.200s\": %s: wanted %s, found %s", file,
                   tensor, field, wanted, text);
}

static int split_entry(const mo_json *json, const mo_json_value *v, const char *file, entry *out,
                       moshi_error *err) {
    if (v->type != MO_JSON_OBJECT)
        return bad(file, v->key, "entry", "an object with dtype, shape and data_offsets", v, err);
    memset(out, 0, sizeof *out);
    for (const mo_json_value *f = mo_json_first(json, v); f; f = mo_json_after(json, v, f)) {
        const mo_json_value **slot = strcmp(f->key, "dtype") == 0          ? &out->dtype
                                     : strcmp(f->key, "shape") == 0        ? &out->shape
                                     : strcmp(f->key, "data_offsets") == 0 ? &out->offsets
                                                                           : NULL;
        if (!slot || *slot)
            return mo_fail(err, MOSHI_EMODEL,
                           "%s: tensor \"%.200s\": wanted dtype, shape and data_offsets once each, "
                           "found %s \"%.60s\"",
                           file, v->key, slot ? "a second" : "an unknown field", f->key);
        *slot = f;
    }
    if (!out->dtype || out->dtype->type != MO_JSON_STRING)
        return bad(file, v->key, "dtype", "a name such as \"F32\"", out->dtype, err);
    if (!out->shape || out->shape->type != MO_JSON_ARRAY)
        return bad(file, v->key, "shape", "an array of sizes", out->shape, err);
    if (!out->offsets || out->offsets->type != MO_JSON_ARRAY || out->offsets->count != 2)
        return bad(file, v->key, "data_offsets", "[begin, end]", out->offsets, err);
    return 0;
}

static int read_dtype(const mo_json_value *v, const char *file, const char *name, mo_dtype *out,
                      moshi_error *err) {
    for (int d = 0; d < MO_DTYPE_COUNT; d++)
        if (mo_dtype_block((mo_dtype)d) == 1 &&
            strcmp(v->as.string, mo_dtype_name((mo_dtype)d)) == 0) {
            *out = (mo_dtype)d;
            return 0;
        }
    return bad(file, name, "dtype", "one of F32 F16 BF16 F64 I8 U8 I16 U16 I32 U32 I64 U64 BOOL", v,
               err);
}

/* Sizes and their product; `bytes` fits because it is compared with the file's. */
static int read_shape(const mo_json *json, const mo_json_value *v, const char *file,
                      mo_tensor_view *t, moshi_error *err) {
    if (v->count > MO_MAX_DIMS) return bad(file, t->name, "shape", "at most 5 dimensions", v, err);
    uint64_t count = 1;
    bool fits = true;
    for (const mo_json_value *d = mo_json_first(json, v); d; d = mo_json_after(json, v, d)) {
        if (d->type != MO_JSON_INT || d->as.integer < 0)
            return bad(file, t->name, "shape", "sizes that are whole numbers >= 0", d, err);
        uint64_t size = (uint64_t)d->as.integer;
        /* A zero may follow a product that overflowed: still refused, no real file has it. */
        if (size && count > INT64_MAX / 8 / size) fits = false;
        if (fits) count *= size;
        t->shape[t->ndim++] = d->as.integer;
    }
    if (!fits) return bad(file, t->name, "shape", "a product below 2^60", v, err);
    t->count = count;
    t->bytes = count * mo_dtype_bytes(t->dtype);
    return 0;
}

/* `end` is where the tensor's data ends, counted from the end of the header. Whether the file goes
 * that far is judged when all entries are known, so that the message can say how much is missing.
 */
static int read_tensor(const mo_json *json, const mo_json_value *v, const char *file,
                       mo_tensor_view *t, uint64_t *begin, uint64_t *end, moshi_error *err) {
    entry e;
    memset(t, 0, sizeof *t);
    t->name = v->key;
    int rc = split_entry(json, v, file, &e, err);
    if (rc == 0) rc = read_dtype(e.dtype, file, v->key, &t->dtype, err);
    if (rc == 0) rc = read_shape(json, e.shape, file, t, err);
    if (rc < 0) return rc;
    const mo_json_value *first = mo_json_first(json, e.offsets);
    const mo_json_value *last = mo_json_after(json, e.offsets, first);
    if (first->type != MO_JSON_INT || first->as.integer < 0)
        return bad(file, v->key, "data_offsets", "whole numbers >= 0", first, err);
    if (last->type != MO_JSON_INT || last->as.integer < first->as.integer)
        return bad(file, v->key, "data_offsets", "an end that is not before the beginning", last,
                   err);
    *begin = (uint64_t)first->as.integer;
    *end = (uint64_t)last->as.integer;
    if (*end - *begin != t->bytes)
        return mo_fail(err, MOSHI_EMODEL,
                       "%s: tensor \"%.200s\": its shape of %llu elements of %s wants %llu bytes, "
                       "data_offsets gives %llu",
                       file, v->key, (unsigned long long)t->count, mo_dtype_name(t->dtype),
                       (unsigned long long)t->bytes, (unsigned long long)(*end - *begin));
    return 0;
}

static int check_metadata(const mo_json *json, const mo_json_value *v, const char *file,
                          moshi_error *err) {
    bool ok = v->type == MO_JSON_OBJECT;
    for (const mo_json_value *m = ok ? mo_json_first(json, v) : NULL; m;
         m = mo_json_after(json, v, m))
        ok = ok && m->type == MO_JSON_STRING;
    if (!ok)
        return mo_fail(err, MOSHI_EMODEL, "%s: __metadata__: wanted an object of strings", file);
    return 0;
}

/* Fill ck->tensors from the parsed header. *ends: where the last tensor does. */
static int read_entries(mo_checkpoint *ck, const mo_json *json, const uint8_t *data, size_t size,
                        size_t data_at, uint64_t *ends, const char *file, moshi_error *err) {
    const mo_json_value *root = json->values;
    bool metadata = false;
    uint64_t needed = 0;
    for (const mo_json_value *v = mo_json_first(json, root); v; v = mo_json_after(json, root, v)) {
        int rc;
        if (strcmp(v->key, "__metadata__") == 0) {
            if (metadata)
                return mo_fail(err, MOSHI_EMODEL, "%s: __metadata__ is there twice", file);
            metadata = true;
            rc = check_metadata(json, v, file, err);
        } else {
            uint64_t begin = 0, end = 0;
            mo_tensor_view *t = &ck->tensors[ck->n_tensors];
            rc = read_tensor(json, v, file, t, &begin, &end, err);
            if (rc == 0) {
                ck->n_tensors++;
                if (end > needed) needed = end;
                /* Only a position so far; checked below before anyone reads it. */
                t->data = end <= size - data_at ? data + data_at + begin : NULL;
            }
        }
        if (rc < 0) return rc;
    }
    if (needed > size - data_at) return mo_checkpoint_truncated(file, data_at + needed, size, err);
    *ends = data_at + needed;
    return 0;
}

/* Length of the header, checked against the file. */
static int header_length(const uint8_t *data, size_t size, const char *file, size_t *out,
                         moshi_error *err) {
    if (size == 0)
        return mo_fail(err, MOSHI_EMODEL, "%s: the file is empty (0 bytes); wanted safetensors",
                       file);
    if (size < 10)
        return mo_fail(err, MOSHI_EMODEL, "%s: wanted safetensors, found a file of only %zu bytes",
                       file, size);
    uint64_t n = 0;
    for (int i = 7; i >= 0; i--) n = n << 8 | data[i];
    if (n < 2 || n > HEADER_MAX_BYTES)
        return mo_fail(err, MOSHI_EMODEL,
                       "%s: not a safetensors file: it begins with a header length of %llu bytes, "
                       "wanted 2 to %d",
                       file, (unsigned long long)n, HEADER_MAX_BYTES);
    if (data[8] != '{')
        return mo_fail(err, MOSHI_EMODEL,
                       "%s: not a safetensors file: wanted '{' at byte 8, found 0x%02x", file,
                       data[8]);
    if (n > size - 8)
        return mo_fail(err, MOSHI_EMODEL,
                       "%s: the file is truncated inside its header of %llu bytes: it has %zu "
                       "bytes in all; it looks like an unfinished download",
                       file, (unsigned long long)n, size);
    *out = (size_t)n;
    return 0;
}

int mo_safetensors_parse(mo_checkpoint *ck, const uint8_t *data, size_t size, const char *file,
                         moshi_error *err) {
    size_t header = 0;
    uint64_t ends = 0;
    int rc = header_length(data, size, file, &header, err);
    if (rc < 0) return rc;
    char *what = mo_format("%s: header", file);
    if (!what) return mo_fail(err, MOSHI_ENOMEM, "%s: out of memory", file);
    mo_json json;
    rc = mo_json_parse(&json, (const char *)data + 8, header, what, err);
    free(what);
    if (rc < 0) return rc;
    ck->tensors = mo_calloc(json.values[0].count, sizeof *ck->tensors);
    if (!ck->tensors) {
        rc = mo_fail(err, MOSHI_ENOMEM, "%s: out of memory", file);
    } else {
        rc = read_entries(ck, &json, data, size, 8 + header, &ends, file, err);
        if (rc == 0) rc = mo_checkpoint_sort(ck, file, err);
        /* As the reference does: what nobody describes may be half of another file. */
        if (rc == 0 && ends < size)
            rc = mo_fail(err, MOSHI_EMODEL,
                         "%s: wanted a file that ends with its last tensor, at %llu bytes, found "
                         "%zu bytes: %llu too many",
                         file, (unsigned long long)ends, size, (unsigned long long)(size - ends));
    }
    ck->names = json.strings; /* the views' names point into it */
    json.strings = NULL;
    mo_json_free(&json);
    if (rc < 0) {
        free(ck->tensors);
        free(ck->names);
        ck->tensors = NULL;
        ck->names = NULL;
        ck->n_tensors = 0;
    }
    return rc;
}
