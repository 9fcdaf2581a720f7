/* checkpoint.c - files in memory, telling what a file is, and reading tensors as float32. */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* SEEK_HOLE */
#endif
#include "checkpoint.h"

#include "foreign.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- dtypes -------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    size_t block, bytes; /* elements per block and their bytes */
} dtypes[MO_DTYPE_COUNT] = {
    [MO_F32] = {"F32", 1, 4},       [MO_F16] = {"F16", 1, 2},       [MO_BF16] = {"BF16", 1, 2},
    [MO_F64] = {"F64", 1, 8},       [MO_I8] = {"I8", 1, 1},         [MO_U8] = {"U8", 1, 1},
    [MO_I16] = {"I16", 1, 2},       [MO_U16] = {"U16", 1, 2},       [MO_I32] = {"I32", 1, 4},
    [MO_U32] = {"U32", 1, 4},       [MO_I64] = {"I64", 1, 8},       [MO_U64] = {"U64", 1, 8},
    [MO_BOOL] = {"BOOL", 1, 1},     [MO_Q8_0] = {"Q8_0", 32, 34},   [MO_Q4_0] = {"Q4_0", 32, 18},
    [MO_Q4_K] = {"Q4_K", 256, 144}, [MO_Q5_K] = {"Q5_K", 256, 176}, [MO_Q6_K] = {"Q6_K", 256, 210}};

const char *mo_dtype_name(mo_dtype dtype) {
    return (unsigned)dtype < MO_DTYPE_COUNT ? dtypes[dtype].name : "?";
}

size_t mo_dtype_block(mo_dtype dtype) {
    return (unsigned)dtype < MO_DTYPE_COUNT ? dtypes[dtype].block : 0;
}

size_t mo_dtype_bytes(mo_dtype dtype) {
    return mo_dtype_block(dtype) == 1 ? dtypes[dtype].bytes : 0;
}

uint64_t mo_dtype_row_bytes(mo_dtype dtype, uint64_t n) {
    size_t block = mo_dtype_block(dtype);
    if (block == 0 || n % block || n / block > UINT64_MAX / dtypes[dtype].bytes) return 0;
    return n / block * dtypes[dtype].bytes;
}

bool mo_dtype_is_float(mo_dtype dtype) {
    return dtype == MO_F32 || dtype == MO_F16 || dtype == MO_BF16 || dtype == MO_F64;
}

/* ---- files --------------------------------------------------------------------------------- */

static int set_name(mo_file *file, const char *name, moshi_error *err) {
    file->name = mo_format("%s", name);
    return file->name ? 0 : mo_fail(err, MOSHI_ENOMEM, "%s: out of memory", name);
}

/* Never fails: a file system that cannot tell has no holes. */
static void find_holes(mo_file *out, int fd) {
#ifdef SEEK_HOLE
    off_t at = 0, size = (off_t)out->size;
    while (out->n_holes < MO_MAX_HOLES && at < size) {
        off_t first = lseek(fd, at, SEEK_HOLE);
        if (first < 0 || first >= size) return;
        off_t end = lseek(fd, first, SEEK_DATA);
        if (end < 0 || end > size) end = size; /* no data behind it */
        if (end <= first) return;
        out->holes[out->n_holes].first = (size_t)first;
        out->holes[out->n_holes++].end = (size_t)end;
        at = end;
    }
#else
    (void)out;
    (void)fd;
#endif
}

bool mo_file_is_hole(const mo_file *file, const void *data, size_t bytes) {
    const uint8_t *p = data;
    if (!file->n_holes || bytes == 0 || p < file->data || p >= file->data + file->size)
        return false;
    size_t first = (size_t)(p - file->data);
    for (int i = 0; i < file->n_holes; i++)
        if (first >= file->holes[i].first && first + bytes <= file->holes[i].end) return true;
    return false;
}

static int map_open(mo_file *out, int fd, const char *name, moshi_error *err) {
    struct stat st;
    if (fstat(fd, &st) != 0)
        return mo_fail(err, MOSHI_EIO, "%s: cannot be examined: %s", name, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return mo_fail(err, MOSHI_EMODEL, "%s: wanted a file, found a directory", name);
    if (!S_ISREG(st.st_mode))
        return mo_fail(err, MOSHI_EMODEL, "%s: wanted a regular file, found a device or pipe",
                       name);
    if ((uint64_t)st.st_size > SIZE_MAX / 2)
        return mo_fail(err, MOSHI_ENOMEM, "%s: %lld bytes are more than this machine can address",
                       name, (long long)st.st_size);
    out->size = (size_t)st.st_size;
    if (out->size == 0) { /* nothing to map; readers say that the file is empty */
        out->data = (const uint8_t *)"";
        return 0;
    }
    void *map = mmap(NULL, out->size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED)
        return mo_fail(err, errno == ENOMEM ? MOSHI_ENOMEM : MOSHI_EIO,
                       "%s: cannot be mapped into memory: %s", name, strerror(errno));
    out->map = map;
    out->data = map;
    find_holes(out, fd);
    return 0;
}

int mo_file_map(mo_file *out, const char *path, const char *name, moshi_error *err) {
    memset(out, 0, sizeof *out);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not block */
    if (fd < 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            return mo_fail(err, MOSHI_EMODEL, "%s: no such file", name);
        if (errno == EACCES || errno == EPERM)
            return mo_fail(err, MOSHI_EMODEL, "%s: cannot be read: permission denied", name);
        return mo_fail(err, MOSHI_EIO, "%s: cannot be opened: %s", name, strerror(errno));
    }
    int rc = map_open(out, fd, name, err);
    close(fd);
    if (rc == 0) rc = set_name(out, name, err);
    if (rc < 0) mo_file_close(out);
    return rc;
}

int mo_file_borrow(mo_file *out, const void *data, size_t size, const char *name,
                   moshi_error *err) {
    memset(out, 0, sizeof *out);
    if (!data && size)
        return mo_fail(err, MOSHI_EINVAL, "%s: %zu bytes at a null pointer", name, size);
    int rc = set_name(out, name, err);
    if (rc < 0) return rc;
    out->data = size ? data : (const uint8_t *)"";
    out->size = size;
    return 0;
}

void mo_file_close(mo_file *file) {
    if (file->map) munmap(file->map, file->size);
    free(file->name);
    memset(file, 0, sizeof *file);
}

/* Whole pages: all that hold a byte are fetched, those that hold nothing else are dropped. */
void mo_file_advise(const mo_file *file, const void *data, uint64_t bytes, bool need) {
#if defined(MADV_WILLNEED) && defined(MADV_DONTNEED)
    if (!file->map || bytes == 0) return;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t first = (size_t)((const uint8_t *)data - file->data), end = first + (size_t)bytes;
    first = need ? first / page * page : (first + page - 1) / page * page;
    if (!need) end = end / page * page;
    if (first < end)
        (void)madvise((uint8_t *)file->map + first, end - first,
                      need ? MADV_WILLNEED : MADV_DONTNEED);
#else
    (void)file;
    (void)data;
    (void)bytes;
    (void)need;
#endif
}

/* ---- checkpoints --------------------------------------------------------------------------- */

static bool begins(const mo_file *file, const char *magic, size_t n) {
    return file->size >= n && memcmp(file->data, magic, n) == 0;
}

static bool all_zero(const uint8_t *data, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (data[i]) return false;
    return true;
}

/* A safetensors file begins with the header's length, below 2^32, and '{': one whose length happens
 * to look like the beginning of another format is still let through. */
static int refuse_foreign(const mo_file *file, moshi_error *err) {
    if (file->size == 0)
        return mo_fail(err, MOSHI_EMODEL,
                       "%s: the file is empty (0 bytes); wanted safetensors or GGUF", file->name);
    if (all_zero(file->data, file->size < 65536 ? file->size : 65536))
        return mo_fail(err, MOSHI_EMODEL,
                       "%s: the file holds only zeros where its header should be (%zu bytes in "
                       "all); it looks like an unfinished download",
                       file->name, file->size);
    if (file->size > 8 && all_zero(file->data + 4, 4) && file->data[8] == '{') return 0;
    if (begins(file, "GGUF", 4)) return 0;
    bool json = file->data[0] == '{';
    return mo_foreign_refuse(file,
                             json ? "safetensors or GGUF, or the directory of a config.json"
                                  : "safetensors or GGUF",
                             err);
}

int mo_checkpoint_open(mo_checkpoint *out, mo_file *file, moshi_error *err) {
    memset(out, 0, sizeof *out);
    out->file = *file;
    memset(file, 0, sizeof *file);
    const mo_file *f = &out->file;
    int rc = refuse_foreign(f, err);
    if (rc == 0 && begins(f, "GGUF", 4))
        rc = mo_gguf_parse(out, f->data, f->size, f->name, err);
    else if (rc == 0)
        rc = mo_safetensors_parse(out, f->data, f->size, f->name, err);
    if (rc < 0) mo_checkpoint_close(out);
    return rc;
}

static int by_position(const void *a, const void *b) {
    const mo_tensor_view *x = a, *y = b;
    if (x->data != y->data) return (uintptr_t)x->data < (uintptr_t)y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* empty ones overlap nothing */
}

static int by_name(const void *a, const void *b) {
    const mo_tensor_view *x = a, *y = b;
    return strcmp(x->name, y->name);
}

int mo_checkpoint_sort(mo_checkpoint *ck, const char *file, moshi_error *err) {
    mo_tensor_view *t = ck->tensors;
    qsort(t, ck->n_tensors, sizeof *t, by_position);
    for (size_t i = 1; i < ck->n_tensors; i++)
        if ((const uint8_t *)t[i - 1].data + t[i - 1].bytes > (const uint8_t *)t[i].data)
            return mo_fail(err, MOSHI_EMODEL,
                           "%s: tensors \"%.200s\" and \"%.200s\" share bytes; wanted data of "
                           "their own for each",
                           file, t[i - 1].name, t[i].name);
    qsort(t, ck->n_tensors, sizeof *t, by_name);
    for (size_t i = 1; i < ck->n_tensors; i++)
        if (strcmp(t[i - 1].name, t[i].name) == 0)
            return mo_fail(err, MOSHI_EMODEL, "%s: tensor \"%.200s\" is there twice", file,
                           t[i].name);
    return 0;
}

int mo_checkpoint_truncated(const char *file, uint64_t need, size_t size, moshi_error *err) {
    return mo_fail(err, MOSHI_EMODEL,
                   "%s: the file is truncated: its header promises %llu bytes, it has %zu "
                   "(%.1f %%); it looks like an unfinished download",
                   file, (unsigned long long)need, size, 100.0 * (double)size / (double)need);
}

void mo_checkpoint_close(mo_checkpoint *ck) {
    free(ck->tensors);
    free(ck->values);
    free(ck->names);
    mo_aligned_free(ck->made);
    mo_file_close(&ck->file);
    memset(ck, 0, sizeof *ck);
}

const mo_tensor_view *mo_checkpoint_find(const mo_checkpoint *ck, const char *name) {
    size_t lo = 0, hi = ck->n_tensors;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int order = strcmp(name, ck->tensors[mid].name);
        if (order == 0) return &ck->tensors[mid];
        if (order < 0) {
            hi = mid;
        } else {
            lo = mid + 1;
        }
    }
    return NULL;
}

/* ---- values -------------------------------------------------------------------------------- */

/* memcpy everywhere because tensors sit at any offset of the file. */
void mo_tensor_read(const mo_tensor_view *t, uint64_t first, uint64_t n, float *out) {
    const uint8_t *p = (const uint8_t *)t->data + first * mo_dtype_bytes(t->dtype);
    uint16_t h;
    double d;
    switch (t->dtype) {
    case MO_F32:
        if (n) memcpy(out, p, (size_t)n * sizeof *out);
        break;
    case MO_F16:
        for (uint64_t i = 0; i < n; i++, p += sizeof h) {
            memcpy(&h, p, sizeof h);
            out[i] = mo_f16_to_f32(h);
        }
        break;
    case MO_BF16:
        for (uint64_t i = 0; i < n; i++, p += sizeof h) {
            memcpy(&h, p, sizeof h);
            out[i] = mo_bf16_to_f32(h);
        }
        break;
    case MO_F64:
        for (uint64_t i = 0; i < n; i++, p += sizeof d) {
            memcpy(&d, p, sizeof d);
            out[i] = (float)d;
        }
        break;
    default: /* not a float tensor: callers ask mo_dtype_is_float() first */
        for (uint64_t i = 0; i < n; i++) out[i] = 0.0f;
    }
}

float mo_tensor_at(const mo_tensor_view *t, uint64_t i) {
    float value;
    mo_tensor_read(t, i, 1, &value);
    return value;
}

int mo_checkpoint_split(mo_checkpoint *ck, const char *prefix, mo_checkpoint *out,
                        moshi_error *err) {
    size_t skip = strlen(prefix), first = 0, n = 0;
    memset(out, 0, sizeof *out);
    while (first < ck->n_tensors && strncmp(ck->tensors[first].name, prefix, skip) != 0) first++;
    while (first + n < ck->n_tensors && !strncmp(ck->tensors[first + n].name, prefix, skip)) n++;
    int rc = mo_file_borrow(&out->file, ck->file.data, ck->file.size, ck->file.name, err);
    if (rc < 0) return rc;
    out->tensors = mo_calloc(n + 1, sizeof *out->tensors);
    if (!out->tensors) {
        mo_file_close(&out->file);
        return mo_fail(err, MOSHI_ENOMEM, "%s: out of memory", ck->file.name);
    }
    memcpy(out->tensors, ck->tensors + first, n * sizeof *out->tensors);
    for (size_t i = 0; i < n; i++) out->tensors[i].name += skip;
    out->n_tensors = n;
    memmove(ck->tensors + first, ck->tensors + first + n,
            (ck->n_tensors - first - n) * sizeof *ck->tensors);
    ck->n_tensors -= n;
    return 0;
}
