#include "writer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    GGUF_VERSION = 3,
    GGUF_ALIGN = 32,
    GGUF_KIND_U32 = 4,
    GGUF_KIND_STRING = 8,
    GGUF_KIND_ARRAY = 9,
    GGUF_KIND_U8 = 0
};

/* ggml's numbers of the types; -1: none. */
static int gguf_type(mo_dtype dtype) {
    switch (dtype) {
    case MO_F32:
        return 0;
    case MO_F16:
        return 1;
    case MO_Q4_0:
        return 2;
    case MO_Q8_0:
        return 8;
    case MO_Q4_K:
        return 12;
    case MO_Q5_K:
        return 13;
    case MO_Q6_K:
        return 14;
    case MO_BF16:
        return 30;
    default:
        return -1;
    }
}

bool mo_format_holds(mo_file_format format, mo_dtype dtype) {
    return format == MO_FORMAT_GGUF ? gguf_type(dtype) >= 0 : mo_dtype_block(dtype) == 1;
}

/* ---- bytes ---------------------------------------------------------------------------------- */

static int put(mo_writer *w, const void *data, size_t size) {
    if (size && fwrite(data, 1, size, w->file) != size)
        return mo_fail(w->err, MOSHI_EIO, "%s: cannot write: %s", w->path, strerror(errno));
    w->at += size;
    return 0;
}

static int put_u32(mo_writer *w, uint32_t v) {
    uint8_t b[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
    return put(w, b, sizeof b);
}

static int put_u64(mo_writer *w, uint64_t v) {
    int rc = put_u32(w, (uint32_t)v);
    return rc < 0 ? rc : put_u32(w, (uint32_t)(v >> 32));
}

static int put_string(mo_writer *w, const void *data, size_t size) {
    int rc = put_u64(w, size);
    return rc < 0 ? rc : put(w, data, size);
}

static uint64_t aligned(uint64_t n) {
    return (n + GGUF_ALIGN - 1) / GGUF_ALIGN * GGUF_ALIGN;
}

static int put_padding(mo_writer *w) {
    static const uint8_t zeros[GGUF_ALIGN];
    return put(w, zeros, (size_t)(aligned(w->at) - w->at));
}

/* ---- headers -------------------------------------------------------------------------------- */

static int put_value(mo_writer *w, const mo_out_value *v) {
    int rc = put_string(w, v->key, strlen(v->key));
    if (rc == 0) rc = put_u32(w, v->bytes ? GGUF_KIND_ARRAY : GGUF_KIND_STRING);
    if (rc == 0 && v->bytes) rc = put_u32(w, GGUF_KIND_U8);
    return rc < 0 ? rc : put_string(w, v->data, v->size);
}

static int put_gguf_header(mo_writer *w, const mo_out_tensor *t, size_t n,
                           const mo_out_value *values, size_t n_values) {
    uint64_t offset = 0;
    int rc = put(w, "GGUF", 4);
    if (rc == 0) rc = put_u32(w, GGUF_VERSION);
    if (rc == 0) rc = put_u64(w, n);
    if (rc == 0) rc = put_u64(w, n_values);
    for (size_t i = 0; rc == 0 && i < n_values; i++) rc = put_value(w, &values[i]);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = put_string(w, t[i].name, strlen(t[i].name));
        if (rc == 0) rc = put_u32(w, (uint32_t)t[i].ndim);
        for (int d = t[i].ndim - 1; rc == 0 && d >= 0; d--) /* innermost first */
            rc = put_u64(w, (uint64_t)t[i].shape[d]);
        if (rc == 0) rc = put_u32(w, (uint32_t)gguf_type(t[i].dtype));
        if (rc == 0) rc = put_u64(w, offset);
        offset = aligned(offset + t[i].bytes);
    }
    return rc < 0 ? rc : put_padding(w);
}

/* Append to a growing string; false when out of memory. */
static bool append(char **text, size_t *n, size_t *cap, const char *more) {
    size_t m = strlen(more);
    if (*n + m + 1 > *cap) {
        size_t bigger = (*n + m + 1) * 2;
        char *p = realloc(*text, bigger);
        if (!p) return false;
        *text = p;
        *cap = bigger;
    }
    memcpy(*text + *n, more, m + 1);
    *n += m;
    return true;
}

static bool append_tensor(char **text, size_t *n, size_t *cap, const mo_out_tensor *t,
                          uint64_t offset, bool last) {
    char part[128];
    /* Names come from a checkpoint that was read: they hold no quotes or control characters. */
    bool ok = append(text, n, cap, "\"") && append(text, n, cap, t->name);
    snprintf(part, sizeof part, "\":{\"dtype\":\"%s\",\"shape\":[", mo_dtype_name(t->dtype));
    ok = ok && append(text, n, cap, part);
    for (int d = 0; ok && d < t->ndim; d++) {
        snprintf(part, sizeof part, d ? ",%" PRId64 : "%" PRId64, t->shape[d]);
        ok = append(text, n, cap, part);
    }
    snprintf(part, sizeof part, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}%s", offset,
             offset + t->bytes, last ? "" : ",");
    return ok && append(text, n, cap, part);
}

static int put_safetensors_header(mo_writer *w, const mo_out_tensor *t, size_t n) {
    char *text = NULL;
    size_t length = 0, cap = 0;
    uint64_t offset = 0;
    bool ok = append(&text, &length, &cap, "{");
    for (size_t i = 0; ok && i < n; i++) {
        ok = append_tensor(&text, &length, &cap, &t[i], offset, i + 1 == n);
        offset += t[i].bytes;
    }
    ok = ok && append(&text, &length, &cap, "}");
    while (ok && length % 8 != 0) ok = append(&text, &length, &cap, " ");
    int rc = ok ? put_u64(w, length) : mo_fail(w->err, MOSHI_ENOMEM, "%s: out of memory", w->path);
    if (rc == 0) rc = put(w, text, length);
    free(text);
    return rc;
}

/* ---- the file ------------------------------------------------------------------------------- */

static int create(mo_writer *w) {
    int fd = w->path && w->temporary ? mkstemp(w->temporary) : -1;
    if (!w->path || !w->temporary) return mo_fail(w->err, MOSHI_ENOMEM, "out of memory");
    if (fd < 0) {
        int rc = mo_fail(w->err, MOSHI_EIO, "%s: cannot create: %s", w->path, strerror(errno));
        free(w->temporary);
        w->temporary = NULL; /* nothing to remove */
        return rc;
    }
    fchmod(fd, 0644);
    w->file = fdopen(fd, "wb");
    if (w->file) return 0;
    close(fd);
    return mo_fail(w->err, MOSHI_EIO, "%s: cannot open: %s", w->path, strerror(errno));
}

int mo_writer_open(mo_writer *w, const char *path, mo_file_format format,
                   const mo_out_tensor *tensors, size_t n_tensors, const mo_out_value *values,
                   size_t n_values, moshi_error *err) {
    *w = (mo_writer){.format = format, .err = err};
    w->path = mo_format("%s", path);
    w->temporary = mo_format("%s.part-XXXXXX", path);
    int rc = create(w);
    if (rc == 0)
        rc = format == MO_FORMAT_GGUF ? put_gguf_header(w, tensors, n_tensors, values, n_values)
                                      : put_safetensors_header(w, tensors, n_tensors);
    if (rc < 0) mo_writer_abort(w);
    return rc;
}

int mo_writer_data(mo_writer *w, const void *data, size_t size, bool first) {
    int rc = first && w->format == MO_FORMAT_GGUF ? put_padding(w) : 0;
    return rc < 0 ? rc : put(w, data, size);
}

int mo_writer_finish(mo_writer *w) {
    bool ok = fflush(w->file) == 0 && fsync(fileno(w->file)) == 0;
    ok = fclose(w->file) == 0 && ok;
    w->file = NULL;
    if (!ok || rename(w->temporary, w->path) != 0) {
        int rc = mo_fail(w->err, MOSHI_EIO, "%s: cannot write: %s", w->path, strerror(errno));
        mo_writer_abort(w);
        return rc;
    }
    free(w->temporary);
    w->temporary = NULL;
    mo_writer_abort(w);
    return 0;
}

void mo_writer_abort(mo_writer *w) {
    if (w->file) fclose(w->file);
    if (w->temporary) unlink(w->temporary);
    free(w->temporary);
    free(w->path);
    memset(w, 0, sizeof *w);
}
