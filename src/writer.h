/* writer.h - a model file being written: header first, then the tensors' bytes in order. The file
 * appears under its name only when it is whole. */
#ifndef MO_WRITER_H
#define MO_WRITER_H

#include "checkpoint.h"

#include <stdio.h>

typedef enum mo_file_format { MO_FORMAT_SAFETENSORS, MO_FORMAT_GGUF } mo_file_format;

typedef struct mo_out_tensor {
    const char *name;
    mo_dtype dtype;
    int ndim;
    int64_t shape[MO_MAX_DIMS];
    uint64_t bytes;
} mo_out_tensor;

/* GGUF metadata: a string, or bytes. */
typedef struct mo_out_value {
    const char *key;
    bool bytes;
    const void *data;
    size_t size;
} mo_out_value;

typedef struct mo_writer {
    FILE *file;
    char *path, *temporary;
    uint64_t at; /* bytes written */
    mo_file_format format;
    moshi_error *err;
} mo_writer;

/* Can this format hold tensors of this type? */
bool mo_format_holds(mo_file_format format, mo_dtype dtype);
/* Create a temporary file beside `path` and write the header. */
int mo_writer_open(mo_writer *w, const char *path, mo_file_format format,
                   const mo_out_tensor *tensors, size_t n_tensors, const mo_out_value *values,
                   size_t n_values, moshi_error *err);
/* Bytes of the next tensor; `first` says whether they begin one (GGUF aligns them). */
int mo_writer_data(mo_writer *w, const void *data, size_t size, bool first);
/* Flush to the disk and put the file under its name; then the writer is closed. */
int mo_writer_finish(mo_writer *w);
/* Close and remove what was written. Does nothing after mo_writer_finish(). */
void mo_writer_abort(mo_writer *w);

#endif
