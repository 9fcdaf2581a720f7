/* gguf.h - what a GGUF file says about itself beside its tensors: values by key. */
#ifndef MO_GGUF_H
#define MO_GGUF_H

#include "checkpoint.h"

/* Numbers as in the file. */
typedef enum mo_gguf_type {
    MO_GGUF_U8,
    MO_GGUF_I8,
    MO_GGUF_U16,
    MO_GGUF_I16,
    MO_GGUF_U32,
    MO_GGUF_I32,
    MO_GGUF_F32,
    MO_GGUF_BOOL,
    MO_GGUF_STRING,
    MO_GGUF_ARRAY,
    MO_GGUF_U64,
    MO_GGUF_I64,
    MO_GGUF_F64,
    MO_GGUF_TYPE_COUNT
} mo_gguf_type;

struct mo_gguf_value {
    const char *key;
    mo_gguf_type type, element; /* `element`: of an array */
    uint64_t count;             /* elements of an array, bytes of a string, else 1 */
    const uint8_t *data;        /* in the file, at any address; strings are not terminated */
};

/* NULL when the file has no such key, or is no GGUF file. */
const mo_gguf_value *mo_gguf_find(const mo_checkpoint *ck, const char *key);
/* The value of any integer type; false for other types (NULL included) and above INT64_MAX. */
bool mo_gguf_integer(const mo_gguf_value *v, int64_t *out);
/* Strings of an array one after the other: start with *at = v->data and call v->count times. */
const char *mo_gguf_next_string(const uint8_t **at, size_t *bytes);

#endif
