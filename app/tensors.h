/* tensors.h - safetensors files as the program's own inputs and outputs: token grids, traces.
 *
 * Reading checks every offset against the file before anything is sized by it. Writing lays all
 * arrays out first, so that rows can be put in any order and nothing has to be held in memory. */
#ifndef APP_TENSORS_H
#define APP_TENSORS_H

#include "app.h"
#include "outfile.h"

enum { TENSOR_MAX_DIMS = 8 };

typedef struct tensor_entry {
    char *name;
    char dtype[8]; /* "F32", "I32", "U8", ... */
    int ndim;
    int64_t shape[TENSOR_MAX_DIMS];
    uint64_t begin, bytes; /* place in the file */
} tensor_entry;

typedef struct tensors_in tensors_in;

int tensors_in_open(tensors_in **out, const char *path, app_error *err);
/* NULL when there is no array of that name. */
const tensor_entry *tensors_in_find(const tensors_in *in, const char *name);
/* An I32 array of `ndim` dimensions as fresh memory; an axis of `shape` >= 0 must have that size,
 * -1 takes any and is filled in. Messages name file, array, wanted and found. */
int tensors_in_read_i32(const tensors_in *in, const char *name, int ndim, int64_t *shape,
                        int32_t **data, app_error *err);
size_t tensors_in_count(const tensors_in *in);
/* In the order of the header. */
const tensor_entry *tensors_in_at(const tensors_in *in, size_t index);
/* Add the bytes of an array. */
int tensors_in_read(const tensors_in *in, const tensor_entry *entry, app_buffer *out,
                    app_error *err);
const char *tensors_in_path(const tensors_in *in);
void tensors_in_close(tensors_in *in);

typedef enum tensor_dtype { TENSOR_F32, TENSOR_I32, TENSOR_U8 } tensor_dtype;

typedef struct tensors_out tensors_out;

/* OUTFILE_IN_ORDER: arrays will be put whole and one after another, so that a pipe may take them.
 */
int tensors_out_open(tensors_out **out, const char *path, const char *not_this, outfile_order order,
                     app_error *err);
/* Declare an array; returns its index, or -1 when out of memory. Arrays of bytes come last. */
int tensors_out_add(tensors_out *out, const char *name, tensor_dtype dtype, int ndim,
                    const int64_t *shape);
/* After the last array: write the header. */
int tensors_out_start(tensors_out *out, app_error *err);
/* Put bytes at a position within an array. */
int tensors_out_put(tensors_out *out, int index, uint64_t offset, const void *data, size_t bytes,
                    app_error *err);
int tensors_out_commit(tensors_out *out, app_error *err);
/* Leaves nothing behind unless it was committed. NULL is fine. */
void tensors_out_close(tensors_out *out);

#endif
