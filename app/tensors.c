/* tensors.c - bounds-checked safetensors reader and a writer of fixed layout. */
#include "tensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "safetensors are little endian; this program needs a little-endian machine"
#endif

enum { PREFIX_BYTES = 8 };
static const uint64_t HEADER_MAX = 16u << 20;

struct tensors_in {
    char *path;
    int fd;
    uint64_t size;
    tensor_entry *entries;
    size_t n;
};

static int read_at(const tensors_in *in, uint64_t offset, void *data, size_t n, app_error *err) {
    char *at = data;
    while (n > 0) {
        ssize_t got = pread(in->fd, at, n, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0)
            return app_fail(err, EXIT_USAGE, "%s: cannot read: %s", in->path,
                            got < 0 ? strerror(errno) : "the file became shorter");
        at += got;
        offset += (uint64_t)got;
        n -= (size_t)got;
    }
    return EXIT_OK;
}

static unsigned dtype_bytes(const char *dtype) {
    static const struct {
        const char *name;
        unsigned bytes;
    } known[] = {{"F32", 4}, {"I32", 4}, {"U8", 1},  {"F16", 2}, {"BF16", 2}, {"F64", 8}, {"I8", 1},
                 {"I16", 2}, {"U16", 2}, {"U32", 4}, {"I64", 8}, {"U64", 8},  {"BOOL", 1}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (!strcmp(dtype, known[i].name)) return known[i].bytes;
    return 0;
}

/* "[8, 64]"; an axis of -1 is shown as "any". */
static void print_shape(char *text, size_t cap, int ndim, const int64_t *shape) {
    size_t at = (size_t)snprintf(text, cap, "[");
    for (int i = 0; i < ndim && at < cap; i++) {
        const char *comma = i ? ", " : "";
        if (shape[i] < 0)
            at += (size_t)snprintf(text + at, cap - at, "%sany", comma);
        else
            at += (size_t)snprintf(text + at, cap - at, "%s%" PRId64, comma, shape[i]);
    }
    if (at < cap) snprintf(text + at, cap - at, "]");
}

static bool is_size(json_t *value) {
    return json_is_integer(value) && json_integer_value(value) >= 0;
}

static int read_shape(tensor_entry *entry, json_t *shape, const char *path, const char *name,
                      app_error *err) {
    bool sound = json_is_array(shape) && json_array_size(shape) <= TENSOR_MAX_DIMS;
    entry->ndim = sound ? (int)json_array_size(shape) : 0;
    for (int i = 0; i < entry->ndim; i++) {
        sound = sound && is_size(json_array_get(shape, (size_t)i));
        entry->shape[i] = json_integer_value(json_array_get(shape, (size_t)i));
    }
    if (sound) return EXIT_OK;
    return app_fail(err, EXIT_USAGE,
                    "%s: array '%s': shape: wanted at most %d sizes that are whole numbers >= 0",
                    path, name, TENSOR_MAX_DIMS);
}

/* Bytes of an entry with this shape; UINT64_MAX when no file has so many. */
static uint64_t bytes_of(const tensor_entry *entry) {
    uint64_t bytes = dtype_bytes(entry->dtype);
    for (int i = 0; i < entry->ndim; i++)
        if (entry->shape[i] == 0) return 0;
    for (int i = 0; i < entry->ndim; i++) {
        if (bytes > INT64_MAX / (uint64_t)entry->shape[i]) return UINT64_MAX;
        bytes *= (uint64_t)entry->shape[i];
    }
    return bytes;
}

/* Where it lies, which must be within the file and as long as its shape says. */
static int read_place(tensor_entry *entry, json_t *offsets, uint64_t data_bytes, const char *path,
                      const char *name, app_error *err) {
    json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !is_size(first) || !is_size(last) ||
        json_integer_value(last) < json_integer_value(first))
        return app_fail(err, EXIT_USAGE,
                        "%s: array '%s': data_offsets: wanted [begin, end], whole numbers in order",
                        path, name);
    uint64_t begin = (uint64_t)json_integer_value(first), end = (uint64_t)json_integer_value(last);
    if (end > data_bytes)
        return app_fail(err, EXIT_USAGE,
                        "%s: array '%s': ends %" PRIu64 " bytes after the header, where the file "
                        "has %" PRIu64 "; is it cut off?",
                        path, name, end, data_bytes);
    entry->begin = begin;
    entry->bytes = bytes_of(entry);
    if (entry->bytes == end - begin) return EXIT_OK;
    char shape[200], wanted[32] = "more";
    print_shape(shape, sizeof shape, entry->ndim, entry->shape);
    if (entry->bytes != UINT64_MAX) snprintf(wanted, sizeof wanted, "%" PRIu64, entry->bytes);
    return app_fail(err, EXIT_USAGE,
                    "%s: array '%s': wanted %s bytes for %s %s, found data_offsets of %" PRIu64,
                    path, name, wanted, entry->dtype, shape, end - begin);
}

static int parse_entry(tensors_in *in, const char *name, json_t *value, uint64_t data_start,
                       app_error *err) {
    tensor_entry *entry = &in->entries[in->n];
    const char *dtype = json_string_value(json_object_get(value, "dtype"));
    if (!dtype || !dtype_bytes(dtype))
        return app_fail(err, EXIT_USAGE, "%s: array '%s': unknown dtype '%s'", in->path, name,
                        dtype ? dtype : "(none)");
    snprintf(entry->dtype, sizeof entry->dtype, "%s", dtype);
    int rc = read_shape(entry, json_object_get(value, "shape"), in->path, name, err);
    if (rc == EXIT_OK)
        rc = read_place(entry, json_object_get(value, "data_offsets"), in->size - data_start,
                        in->path, name, err);
    if (rc != EXIT_OK) return rc;
    entry->begin += data_start;
    entry->name = strdup(name);
    if (!entry->name) return app_no_memory(err);
    in->n++;
    return EXIT_OK;
}

/* As the reference does: what no array describes does not belong there. */
static int check_end(const tensors_in *in, uint64_t data_start, app_error *err) {
    uint64_t end = data_start;
    for (size_t i = 0; i < in->n; i++) {
        uint64_t its = in->entries[i].begin + in->entries[i].bytes;
        if (its > end) end = its;
    }
    if (end == in->size) return EXIT_OK;
    return app_fail(err, EXIT_USAGE,
                    "%s: wanted a file that ends with its last array, at %" PRIu64
                    " bytes, found %" PRIu64 " bytes",
                    in->path, end, in->size);
}

static int parse_header(tensors_in *in, const char *text, uint64_t length, app_error *err) {
    json_error_t why;
    json_t *root = json_loadb(text, (size_t)length, JSON_REJECT_DUPLICATES, &why);
    if (!json_is_object(root)) {
        bool memory = !root && !why.text[0]; /* all that jansson says when malloc() fails */
        json_decref(root);
        if (memory) return app_no_memory(err);
        return app_fail(err, EXIT_USAGE, "%s: not a safetensors file: header: %s", in->path,
                        root ? "not an object" : why.text);
    }
    int rc = EXIT_OK;
    in->entries = calloc(json_object_size(root) + 1, sizeof *in->entries);
    if (!in->entries) rc = app_no_memory(err);
    const char *name;
    json_t *value;
    json_object_foreach(root, name, value) {
        if (rc != EXIT_OK) break;
        if (strcmp(name, "__metadata__"))
            rc = parse_entry(in, name, value, PREFIX_BYTES + length, err);
    }
    if (rc == EXIT_OK) rc = check_end(in, PREFIX_BYTES + length, err);
    json_decref(root);
    return rc;
}

static int read_header(tensors_in *in, app_error *err) {
    struct stat st;
    in->fd = open(in->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (in->fd < 0 && errno == ENOENT && !strcmp(in->path, "-"))
        return app_fail(err, EXIT_USAGE,
                        "-: standard input is not read; wanted a safetensors file");
    if (in->fd < 0 || fstat(in->fd, &st) != 0)
        return app_fail(err, EXIT_USAGE, "%s: cannot open: %s", in->path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return app_fail(err, EXIT_USAGE, "%s: is %s; wanted a safetensors file", in->path,
                        S_ISDIR(st.st_mode) ? "a directory" : "not a regular file");
    in->size = (uint64_t)st.st_size;
    uint8_t prefix[PREFIX_BYTES];
    uint64_t length = 0;
    if (in->size >= PREFIX_BYTES) {
        int rc = read_at(in, 0, prefix, sizeof prefix, err);
        if (rc != EXIT_OK) return rc;
        for (int i = PREFIX_BYTES - 1; i >= 0; i--) length = length << 8 | prefix[i];
    }
    if (length < 2 || length > HEADER_MAX || length > in->size - PREFIX_BYTES)
        return app_fail(err, EXIT_USAGE,
                        "%s: not a safetensors file: a header of %" PRIu64 " bytes in %" PRIu64
                        " bytes",
                        in->path, length, in->size);
    char *text = malloc((size_t)length);
    if (!text) return app_no_memory(err);
    int rc = read_at(in, PREFIX_BYTES, text, (size_t)length, err);
    if (rc == EXIT_OK) rc = parse_header(in, text, length, err);
    free(text);
    return rc;
}

int tensors_in_open(tensors_in **out, const char *path, app_error *err) {
    *out = NULL;
    tensors_in *in = calloc(1, sizeof *in);
    if (!in) return app_no_memory(err);
    in->fd = -1;
    in->path = strdup(path);
    int rc = in->path ? read_header(in, err) : app_no_memory(err);
    if (rc != EXIT_OK) {
        tensors_in_close(in);
        return rc;
    }
    *out = in;
    return EXIT_OK;
}

const tensor_entry *tensors_in_find(const tensors_in *in, const char *name) {
    for (size_t i = 0; i < in->n; i++)
        if (!strcmp(in->entries[i].name, name)) return &in->entries[i];
    return NULL;
}

size_t tensors_in_count(const tensors_in *in) {
    return in->n;
}

const tensor_entry *tensors_in_at(const tensors_in *in, size_t index) {
    return &in->entries[index];
}

int tensors_in_read(const tensors_in *in, const tensor_entry *entry, app_buffer *out,
                    app_error *err) {
    char *more = realloc(out->data, out->n + (size_t)entry->bytes + 1);
    if (!more) return app_no_memory(err);
    out->data = more;
    out->capacity = out->n + (size_t)entry->bytes + 1;
    int rc = read_at(in, entry->begin, out->data + out->n, (size_t)entry->bytes, err);
    if (rc == EXIT_OK) out->n += (size_t)entry->bytes;
    out->data[out->n] = 0;
    return rc;
}

const char *tensors_in_path(const tensors_in *in) {
    return in->path;
}

/* Everything in the file, in words, as far as there is room. */
static void list_arrays(const tensors_in *in, char *text, size_t cap) {
    size_t at = (size_t)snprintf(text, cap, in->n ? "" : "nothing");
    for (size_t i = 0; i < in->n && at < cap; i++) {
        char shape[200];
        print_shape(shape, sizeof shape, in->entries[i].ndim, in->entries[i].shape);
        at += (size_t)snprintf(text + at, cap - at, "%s%.80s %s %s", i ? ", " : "",
                               in->entries[i].name, in->entries[i].dtype, shape);
    }
    if (at >= cap) memcpy(text + cap - 4, "...", 4);
}

int tensors_in_read_i32(const tensors_in *in, const char *name, int ndim, int64_t *shape,
                        int32_t **data, app_error *err) {
    const tensor_entry *entry = tensors_in_find(in, name);
    *data = NULL;
    if (!entry) {
        char found[1000];
        list_arrays(in, found, sizeof found);
        return app_fail(err, EXIT_USAGE, "%s: wanted an array '%s', found %s", in->path, name,
                        found);
    }
    bool fits = !strcmp(entry->dtype, "I32") && entry->ndim == ndim;
    for (int i = 0; fits && i < ndim; i++) fits = shape[i] < 0 || shape[i] == entry->shape[i];
    if (!fits) {
        char wanted[200], found[200];
        print_shape(wanted, sizeof wanted, ndim, shape);
        print_shape(found, sizeof found, entry->ndim, entry->shape);
        return app_fail(err, EXIT_USAGE, "%s: array '%s': wanted I32 %s, found %s %s", in->path,
                        name, wanted, entry->dtype, found);
    }
    memcpy(shape, entry->shape, (size_t)ndim * sizeof *shape);
    *data = malloc(entry->bytes ? (size_t)entry->bytes : 1);
    if (!*data) return app_no_memory(err);
    int rc = read_at(in, entry->begin, *data, (size_t)entry->bytes, err);
    if (rc != EXIT_OK) {
        free(*data);
        *data = NULL;
    }
    return rc;
}

void tensors_in_close(tensors_in *in) {
    if (!in) return;
    if (in->fd >= 0) close(in->fd);
    for (size_t i = 0; i < in->n; i++) free(in->entries[i].name);
    free(in->entries);
    free(in->path);
    free(in);
}

/* ---- writing -------------------------------------------------------------------------------- */

struct tensors_out {
    outfile file;
    tensor_entry *entries; /* begin counts from the start of the data until tensors_out_start() */
    size_t n, capacity;
    uint64_t bytes;
};

int tensors_out_open(tensors_out **out, const char *path, const char *not_this, outfile_order order,
                     app_error *err) {
    *out = NULL;
    tensors_out *made = calloc(1, sizeof *made);
    if (!made) return app_no_memory(err);
    int rc = outfile_open(&made->file, path, not_this, order, err);
    if (rc != EXIT_OK) {
        free(made);
        return rc;
    }
    *out = made;
    return EXIT_OK;
}

int tensors_out_add(tensors_out *out, const char *name, tensor_dtype dtype, int ndim,
                    const int64_t *shape) {
    static const char *const names[] = {"F32", "I32", "U8"};
    if (out->n == out->capacity) {
        size_t capacity = out->capacity ? 2 * out->capacity : 16;
        tensor_entry *more = realloc(out->entries, capacity * sizeof *more);
        if (!more) return -1;
        out->entries = more;
        out->capacity = capacity;
    }
    tensor_entry *entry = &out->entries[out->n];
    memset(entry, 0, sizeof *entry);
    entry->name = strdup(name);
    if (!entry->name) return -1;
    snprintf(entry->dtype, sizeof entry->dtype, "%s", names[dtype]);
    entry->ndim = ndim;
    entry->bytes = dtype_bytes(entry->dtype);
    for (int i = 0; i < ndim; i++) {
        entry->shape[i] = shape[i];
        entry->bytes *= (uint64_t)shape[i];
    }
    entry->begin = out->bytes;
    out->bytes += entry->bytes;
    return (int)out->n++;
}

static char *make_header(const tensors_out *out) {
    json_t *root = json_object();
    for (size_t i = 0; i < out->n; i++) {
        const tensor_entry *entry = &out->entries[i];
        json_t *shape = json_array();
        for (int k = 0; k < entry->ndim; k++)
            json_array_append_new(shape, json_integer(entry->shape[k]));
        json_object_set_new(root, entry->name,
                            json_pack("{s:s, s:o, s:[I, I]}", "dtype", entry->dtype, "shape", shape,
                                      "data_offsets", (json_int_t)entry->begin,
                                      (json_int_t)(entry->begin + entry->bytes)));
    }
    /* Fewer names than arrays: jansson ran out of memory on the way. */
    char *text = json_object_size(root) == out->n ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return text;
}

int tensors_out_start(tensors_out *out, app_error *err) {
    char *text = make_header(out);
    if (!text) return app_no_memory(err);
    /* Padded with spaces, so that the data is aligned to 8 bytes. */
    size_t length = strlen(text), padded = (length + 7) / 8 * 8;
    uint8_t prefix[PREFIX_BYTES];
    for (int i = 0; i < PREFIX_BYTES; i++) prefix[i] = (uint8_t)((uint64_t)padded >> (8 * i));
    int rc = outfile_write(&out->file, prefix, sizeof prefix, err);
    if (rc == EXIT_OK) rc = outfile_write(&out->file, text, length, err);
    if (rc == EXIT_OK) rc = outfile_write(&out->file, "       ", padded - length, err);
    free(text);
    for (size_t i = 0; i < out->n; i++) out->entries[i].begin += PREFIX_BYTES + padded;
    return rc;
}

int tensors_out_put(tensors_out *out, int index, uint64_t offset, const void *data, size_t bytes,
                    app_error *err) {
    const tensor_entry *entry = &out->entries[index];
    if (offset > entry->bytes || bytes > entry->bytes - offset)
        return app_fail(err, EXIT_INTERNAL, "array '%s' is too small for what it gets",
                        entry->name);
    return outfile_write_at(&out->file, entry->begin + offset, data, bytes, err);
}

int tensors_out_commit(tensors_out *out, app_error *err) {
    return outfile_commit(&out->file, err);
}

void tensors_out_close(tensors_out *out) {
    if (!out) return;
    outfile_close(&out->file);
    for (size_t i = 0; i < out->n; i++) free(out->entries[i].name);
    free(out->entries);
    free(out);
}
