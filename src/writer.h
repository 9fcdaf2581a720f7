/* writer.h - a model file being written: first the header, then the tensors' bytes in any order.
 * The file appears under its name only when it is whole. */
#ifndef MO_WRITER_H
#define MO_WRITER_H

#include "checkpoint.h"

typedef enum mo_file_format { MO_FORMAT_SAFETENSORS, MO_FORMAT_GGUF } mo_file_format;

typedef struct mo_out_tensor {
    const char *name;
    mo_dtype dtype;
    int ndim;
    int64_t shape[MO_MAX_DIMS];
    uint64_t bytes;
    uint64_t at; /* where they begin in the file; mo_writer_open() says */
} mo_out_tensor;

/* GGUF metadata: a string, or bytes. */
typedef struct mo_out_value {
    const char *key;
    bool bytes;
    const void *data;
    size_t size;
} mo_out_value;

typedef struct mo_writer {
    int fd; /* -1: closed */
    char *path, *temporary;
    uint64_t size; /* of the whole file */
    moshi_error *err;
} mo_writer;

/* Can this format hold tensors of this type? */
bool mo_format_holds(mo_file_format format, mo_dtype dtype);
/* Create a temporary file beside `path`, if there is room for all of it, and write the header. */
int mo_writer_open(mo_writer *w, const char *path, mo_file_format format, mo_out_tensor *tensors,
                   size_t n_tensors, const mo_out_value *values, size_t n_values, moshi_error *err);
/* Bytes at a place of the file. 0, or an errno for mo_writer_failed(). Threads may write at the
 * same time. */
int mo_writer_put(const mo_writer *w, uint64_t at, const void *data, size_t size);
int mo_writer_failed(const mo_writer *w, int error);
/* Everything was written: flush it to the disk. Until it is finished, the file can be read back
 * under w->temporary. */
int mo_writer_flush(mo_writer *w);
/* Put the file under its name; then the writer is closed. */
int mo_writer_finish(mo_writer *w);
/* Close and remove what was written. Does nothing after mo_writer_finish(). */
void mo_writer_abort(mo_writer *w);

#endif
