/* checkpoint.h - one read-only view (name, dtype, shape, bytes) over any weights file.
 *
 * Files are hostile: every offset and size is checked against the file before a view is handed out,
 * so that code behind this header may trust data, shape and bytes of a mo_tensor_view. */
#ifndef MO_CHECKPOINT_H
#define MO_CHECKPOINT_H

#include "util.h"

enum { MO_MAX_DIMS = 5 };

typedef enum mo_dtype {
    MO_F32,
    MO_F16,
    MO_BF16,
    MO_F64,
    MO_I8,
    MO_U8,
    MO_I16,
    MO_U16,
    MO_I32,
    MO_U32,
    MO_I64,
    MO_U64,
    MO_BOOL,
    MO_Q8_0, /* blocks of numbers with shared scales, as ggml lays them out: see quant.h */
    MO_Q4_0,
    MO_Q4_K,
    MO_Q5_K,
    MO_Q6_K,
    MO_DTYPE_COUNT
} mo_dtype;

/* Name as files spell it ("BF16", "Q8_0") and bytes per element; 0 for types made of blocks. */
const char *mo_dtype_name(mo_dtype dtype);
size_t mo_dtype_bytes(mo_dtype dtype);
/* Elements per block, 1 for plain types, and bytes of n elements in a row: 0 when they are not
 * whole blocks or too many. */
size_t mo_dtype_block(mo_dtype dtype);
uint64_t mo_dtype_row_bytes(mo_dtype dtype, uint64_t n);

typedef struct mo_tensor_view {
    const char *name;
    mo_dtype dtype;
    int ndim;
    int64_t shape[MO_MAX_DIMS];
    uint64_t count; /* product of shape; rows of types made of blocks are whole blocks */
    uint64_t bytes;
    const void *data; /* little endian, row-major, NOT necessarily aligned */
} mo_tensor_view;

enum { MO_MAX_HOLES = 16 };

/* Bytes of a file: mapped from disk, or borrowed from a blob. */
typedef struct mo_file {
    char *name; /* as shown in messages */
    const uint8_t *data;
    size_t size;
    void *map; /* what to unmap; NULL when borrowed */
    /* Stretches that were never written and read as zeros: what an unfinished download leaves. The
     * first of them, as far as the file system tells. */
    struct {
        size_t first, end;
    } holes[MO_MAX_HOLES];
    int n_holes;
} mo_file;

/* Map `path`; `name` is used in messages. Directories, missing and unreadable files each get their
 * own message. */
int mo_file_map(mo_file *out, const char *path, const char *name, moshi_error *err);
int mo_file_borrow(mo_file *out, const void *data, size_t size, const char *name, moshi_error *err);
void mo_file_close(mo_file *file);
/* Some bytes of a mapped file are needed soon, or not needed any more (they can be read again all
 * the same). Only advice. */
void mo_file_advise(const mo_file *file, const void *data, uint64_t bytes, bool need);
/* Does all of it, some bytes of the file's, lie in a hole? */
bool mo_file_is_hole(const mo_file *file, const void *data, size_t bytes);

typedef struct mo_gguf_value mo_gguf_value; /* gguf.h */

typedef struct mo_checkpoint {
    mo_file file;
    mo_tensor_view *tensors; /* sorted by name */
    size_t n_tensors;
    mo_gguf_value *values; /* metadata of a GGUF file, sorted by key */
    size_t n_values;
    char *names; /* storage behind names and keys */
    void *made;  /* numbers that come from no file (made.h), which the tensors share */
} mo_checkpoint;

/* Read the table of tensors of `file` (safetensors or GGUF, told from its content). Takes the file
 * over: it is closed with the checkpoint, and also on failure. */
int mo_checkpoint_open(mo_checkpoint *out, mo_file *file, moshi_error *err);
void mo_checkpoint_close(mo_checkpoint *ck);
/* Move the tensors whose names begin with `prefix` to `out`, without it. `out` borrows names and
 * data of `ck`: close both, and use neither after either is closed. */
int mo_checkpoint_split(mo_checkpoint *ck, const char *prefix, mo_checkpoint *out,
                        moshi_error *err);
/* NULL when there is no tensor of that name. */
const mo_tensor_view *mo_checkpoint_find(const mo_checkpoint *ck, const char *name);

/* safetensors.c, gguf.c: parse a file already in memory into ck->tensors. Both reject duplicate
 * names, unknown dtypes, offsets outside the file, overlaps, sizes that do not match the shape. On
 * failure mo_checkpoint_close() frees what is there. */
int mo_safetensors_parse(mo_checkpoint *ck, const uint8_t *data, size_t size, const char *file,
                         moshi_error *err);
int mo_gguf_parse(mo_checkpoint *ck, const uint8_t *data, size_t size, const char *file,
                  moshi_error *err);
/* What both end with: sort ck->tensors by name, refuse duplicates and shared bytes. */
int mo_checkpoint_sort(mo_checkpoint *ck, const char *file, moshi_error *err);
/* And what both say when data lies behind the end of the file: `need` bytes in all. */
int mo_checkpoint_truncated(const char *file, uint64_t need, size_t size, moshi_error *err);

/* Element i (< count) of a float tensor as float32; values convert exactly. */
float mo_tensor_at(const mo_tensor_view *t, uint64_t i);
/* Copy elements first .. first+n-1 of a float tensor (F32, F16, BF16, F64) as float32. For types
 * made of blocks see quant.h. */
void mo_tensor_read(const mo_tensor_view *t, uint64_t first, uint64_t n, float *out);
bool mo_dtype_is_float(mo_dtype dtype);

#endif
