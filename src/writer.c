/* writer.c - headers of safetensors and GGUF files, and bytes at their places. */
#include "writer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
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

/* ---- a header in memory --------------------------------------------------------------------- */

/* Grows at the end; after a failed allocation nothing more is added. */
typedef struct header {
    uint8_t *data;
    size_t n, capacity;
    bool failed;
} header;

static void put(header *h, const void *data, size_t size) {
    if (h->failed || size == 0) return;
    if (size > SIZE_MAX / 4 - h->n) {
        h->failed = true;
        return;
    }
    if (h->n + size > h->capacity) {
        size_t capacity = 2 * (h->n + size);
        uint8_t *more = realloc(h->data, capacity);
        h->failed = !more;
        if (!more) return;
        h->data = more;
        h->capacity = capacity;
    }
    memcpy(h->data + h->n, data, size);
    h->n += size;
}

static void put_u32(header *h, uint32_t v) {
    uint8_t b[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
    put(h, b, sizeof b);
}

static void put_u64(header *h, uint64_t v) {
    put_u32(h, (uint32_t)v);
    put_u32(h, (uint32_t)(v >> 32));
}

static void put_string(header *h, const void *data, size_t size) {
    put_u64(h, size);
    put(h, data, size);
}

static void put_text(header *h, const char *text) {
    put(h, text, strlen(text));
}

static uint64_t aligned(uint64_t n) {
    return (n + GGUF_ALIGN - 1) / GGUF_ALIGN * GGUF_ALIGN;
}

/* ---- headers -------------------------------------------------------------------------------- */

static void put_value(header *h, const mo_out_value *v) {
    put_string(h, v->key, strlen(v->key));
    put_u32(h, v->bytes ? GGUF_KIND_ARRAY : GGUF_KIND_STRING);
    if (v->bytes) put_u32(h, GGUF_KIND_U8);
    put_string(h, v->data, v->size);
}

/* Leaves in t[i].at where the data begin, counted from the end of the header; returns their end. */
static uint64_t make_gguf(header *h, mo_out_tensor *t, size_t n, const mo_out_value *values,
                          size_t n_values) {
    static const uint8_t zeros[GGUF_ALIGN];
    uint64_t end = 0;
    put(h, "GGUF", 4);
    put_u32(h, GGUF_VERSION);
    put_u64(h, n);
    put_u64(h, n_values);
    for (size_t i = 0; i < n_values; i++) put_value(h, &values[i]);
    for (size_t i = 0; i < n; i++) {
        t[i].at = aligned(end);
        end = t[i].at + t[i].bytes;
        put_string(h, t[i].name, strlen(t[i].name));
        put_u32(h, (uint32_t)t[i].ndim);
        for (int d = t[i].ndim - 1; d >= 0; d--) /* innermost first */
            put_u64(h, (uint64_t)t[i].shape[d]);
        put_u32(h, (uint32_t)gguf_type(t[i].dtype));
        put_u64(h, t[i].at);
    }
    put(h, zeros, (size_t)(aligned(h->n) - h->n));
    return end;
}

static uint64_t make_safetensors(header *h, mo_out_tensor *t, size_t n) {
    uint64_t end = 0;
    char part[128];
    put_u64(h, 0); /* length of what follows: see below */
    put_text(h, "{");
    for (size_t i = 0; i < n; i++) {
        t[i].at = end;
        end += t[i].bytes;
        /* Names come from a checkpoint that was read: they hold no quotes or control characters. */
        put_text(h, i ? ",\"" : "\"");
        put_text(h, t[i].name);
        snprintf(part, sizeof part, "\":{\"dtype\":\"%s\",\"shape\":[", mo_dtype_name(t[i].dtype));
        put_text(h, part);
        for (int d = 0; d < t[i].ndim; d++) {
            snprintf(part, sizeof part, d ? ",%" PRId64 : "%" PRId64, t[i].shape[d]);
            put_text(h, part);
        }
        snprintf(part, sizeof part, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", t[i].at, end);
        put_text(h, part);
    }
    put_text(h, "}");
    while (h->n % 8 != 0 && !h->failed) put_text(h, " ");
    header length = {.data = h->data, .capacity = 8};
    if (!h->failed) put_u64(&length, h->n - 8);
    return end;
}

/* ---- the file ------------------------------------------------------------------------------- */

static int create(mo_writer *w) {
    if (!w->path || !w->temporary) return mo_fail(w->err, MOSHI_ENOMEM, "out of memory");
    w->fd = mkstemp(w->temporary);
    if (w->fd < 0) {
        int rc = mo_fail(w->err, MOSHI_EIO, "%s: cannot create: %s", w->path, strerror(errno));
        free(w->temporary);
        w->temporary = NULL; /* nothing to remove */
        return rc;
    }
    fchmod(w->fd, 0644);
    return 0;
}

/* Better now than after an hour. File systems that do not tell are believed. */
static int check_room(const mo_writer *w) {
    struct statvfs fs;
    if (fstatvfs(w->fd, &fs) != 0 || fs.f_blocks == 0) return 0;
    double room = (double)fs.f_bavail * (double)fs.f_frsize;
    if (room >= (double)w->size) return 0;
    return mo_fail(w->err, MOSHI_EIO, "%s: no space left there: wanted %.1f MB, found %.1f MB free",
                   w->path, (double)w->size / 1e6, room / 1e6);
}

int mo_writer_failed(const mo_writer *w, int error) {
    return mo_fail(w->err, MOSHI_EIO, "%s: cannot write: %s", w->path, strerror(error));
}

int mo_writer_put(const mo_writer *w, uint64_t at, const void *data, size_t size) {
    const uint8_t *p = data;
    while (size > 0) {
        ssize_t n = pwrite(w->fd, p, size, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n < 0 ? errno : EIO;
        p += n;
        at += (uint64_t)n;
        size -= (size_t)n;
    }
    return 0;
}

int mo_writer_open(mo_writer *w, const char *path, mo_file_format format, mo_out_tensor *tensors,
                   size_t n_tensors, const mo_out_value *values, size_t n_values,
                   moshi_error *err) {
    header h = {0};
    uint64_t data = format == MO_FORMAT_GGUF ? make_gguf(&h, tensors, n_tensors, values, n_values)
                                             : make_safetensors(&h, tensors, n_tensors);
    for (size_t i = 0; i < n_tensors; i++) tensors[i].at += h.n;
    *w = (mo_writer){.fd = -1, .size = h.n + data, .err = err};
    w->path = mo_format("%s", path);
    w->temporary = mo_format("%s.part-XXXXXX", path);
    int rc = h.failed ? mo_fail(err, MOSHI_ENOMEM, "%s: out of memory", path) : create(w);
    if (rc == 0) rc = check_room(w);
    int error = rc == 0 ? mo_writer_put(w, 0, h.data, h.n) : 0;
    if (error) rc = mo_writer_failed(w, error);
    if (rc < 0) mo_writer_abort(w);
    free(h.data);
    return rc;
}

int mo_writer_flush(mo_writer *w) {
    /* What lies between tensors was never written, nor is it when the last one is empty. */
    if (ftruncate(w->fd, (off_t)w->size) == 0 && fsync(w->fd) == 0) return 0;
    return mo_writer_failed(w, errno);
}

int mo_writer_finish(mo_writer *w) {
    bool ok = close(w->fd) == 0;
    w->fd = -1;
    if (!ok || rename(w->temporary, w->path) != 0) {
        int rc = mo_writer_failed(w, errno);
        mo_writer_abort(w);
        return rc;
    }
    free(w->temporary);
    w->temporary = NULL;
    mo_writer_abort(w);
    return 0;
}

void mo_writer_abort(mo_writer *w) {
    if (w->fd >= 0) close(w->fd);
    if (w->temporary) unlink(w->temporary);
    free(w->temporary);
    free(w->path);
    *w = (mo_writer){.fd = -1};
}
