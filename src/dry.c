#include "dry.h"

#include <stdlib.h>
#include <string.h>

typedef struct dry {
    mo_backend base;
    mo_backend_ops ops; /* the table `base` points to: some entries are the device's own */
    mo_backend *device;
    bool borrowed; /* the device is somebody else's */
} dry;

static const mo_backend *device_of(const mo_backend *be) {
    return ((const dry *)be)->device;
}

static void dry_close(mo_backend *be) {
    if (!be) return;
    dry *d = (dry *)be;
    if (!d->borrowed) d->device->ops->close(d->device);
    free(d);
}

/* What the device would refuse however much memory is free. */
static mo_buf *dry_alloc(mo_backend *be, size_t bytes) {
    mo_backend *device = ((dry *)be)->device;
    const uint64_t most = device->ops->largest ? device->ops->largest(device) : UINT64_MAX;
    if (bytes > most) {
        mo_backend_problem(be, "%.2f MB at once, the device gives %.2f MB at most",
                           (double)bytes * 1e-6, (double)most * 1e-6);
        return NULL;
    }
    mo_buf *buf = mo_calloc(1, sizeof *buf);
    if (buf) buf->bytes = bytes;
    return buf;
}

static void dry_free(mo_backend *be, mo_buf *buf) {
    (void)be;
    free(buf);
}

static void dry_write(mo_backend *be, mo_buf *buf, size_t offset, const void *src, size_t bytes) {
    (void)be;
    (void)buf;
    (void)offset;
    (void)src;
    (void)bytes;
}

static void dry_read(mo_backend *be, const mo_buf *buf, size_t offset, void *dst, size_t bytes) {
    (void)be;
    (void)buf;
    (void)offset;
    memset(dst, 0, bytes);
}

static void dry_zero(mo_backend *be, mo_buf *buf, size_t offset, size_t bytes) {
    (void)be;
    (void)buf;
    (void)offset;
    (void)bytes;
}

static uint64_t dry_weight_bytes(const mo_backend *be, const mo_matrix *src, mo_layout layout,
                                 mo_weight *out) {
    return device_of(be)->ops->weight_bytes(device_of(be), src, layout, out);
}

static int dry_weight(mo_backend *be, const mo_matrix *src, mo_layout layout, mo_weight *out) {
    mo_weight w;
    memset(out, 0, sizeof *out);
    uint64_t bytes = dry_weight_bytes(be, src, layout, &w);
    if (bytes == 0) return MOSHI_EINVAL;
    w.buf = dry_alloc(be, (size_t)bytes);
    if (!w.buf) return MOSHI_ENOMEM;
    *out = w;
    return 0;
}

static void dry_weight_free(mo_backend *be, mo_weight *w) {
    dry_free(be, w->buf);
    w->buf = NULL;
}

static bool dry_supports(mo_backend *be, mo_op_kind kind, mo_dtype dtype) {
    mo_backend *device = ((dry *)be)->device;
    return device->ops->supports(device, kind, dtype);
}

static mo_program *dry_record(mo_backend *be, const mo_op *ops, int n, int slots) {
    (void)be;
    (void)ops;
    (void)n;
    (void)slots;
    return mo_calloc(1, 1); /* something to free: nobody looks inside */
}

static void dry_program_free(mo_backend *be, mo_program *p) {
    (void)be;
    free(p);
}

static int dry_run(mo_backend *be, mo_program *p, int first, int last, const uint8_t *exec) {
    (void)be;
    (void)p;
    (void)first;
    (void)last;
    (void)exec;
    return MOSHI_EDEVICE;
}

static int dry_threads(const mo_backend *be) {
    return device_of(be)->ops->threads(device_of(be));
}

static const char *dry_kernels(const mo_backend *be) {
    return device_of(be)->ops->kernels(device_of(be));
}

int mo_dry_over(mo_backend **out, mo_backend *device, moshi_error *err) {
    dry *d = mo_calloc(1, sizeof *d);
    *out = NULL;
    if (!d) return mo_fail(err, MOSHI_ENOMEM, "%s: out of memory", device->ops->name);
    d->device = device;
    d->borrowed = true;
    d->ops = (mo_backend_ops){.name = device->ops->name,
                              .dry = true,
                              .caches = device->ops->caches,
                              .close = dry_close,
                              .alloc = dry_alloc,
                              .alloc_input = device->ops->alloc_input ? dry_alloc : NULL,
                              .free = dry_free,
                              .write = dry_write,
                              .read = dry_read,
                              .zero = dry_zero,
                              .weight_bytes = dry_weight_bytes,
                              .weight = dry_weight,
                              .weight_free = dry_weight_free,
                              .supports = dry_supports,
                              .record = dry_record,
                              .program_free = dry_program_free,
                              .run = dry_run,
                              .threads = dry_threads,
                              .kernels = dry_kernels};
    d->base.ops = &d->ops;
    *out = &d->base;
    return 0;
}

int mo_dry_open(mo_backend **out, const mo_backend_ops *device, const mo_backend_options *options,
                moshi_error *err) {
    mo_backend *be;
    *out = NULL;
    int rc = device->open(&be, options, err);
    if (rc < 0) return rc;
    rc = mo_dry_over(out, be, err);
    if (rc < 0) be->ops->close(be);
    if (rc == 0) ((dry *)*out)->borrowed = false;
    return rc;
}
