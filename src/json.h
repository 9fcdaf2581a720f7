/* json.h - JSON text as one flat array of values, for files that may be hostile.
 *
 * Not a library's parser, because every answer here must be exact: memory is taken once, its size
 * known beforehand and proportional to the text; running out of it is told apart from bad text; no
 * recursion; integers stay integers; a message says line and column. */
#ifndef MO_JSON_H
#define MO_JSON_H

#include "util.h"

typedef enum mo_json_type {
    MO_JSON_NULL,
    MO_JSON_BOOL,
    MO_JSON_INT,  /* fits int64_t and is written without fraction and exponent */
    MO_JSON_REAL, /* finite */
    MO_JSON_STRING,
    MO_JSON_ARRAY,
    MO_JSON_OBJECT
} mo_json_type;

/* Values lie in the order of the text: the first child of an array or object follows it, the next
 * sibling is `next`. A member of an object has a key. */
typedef struct mo_json_value {
    mo_json_type type;
    uint32_t next;  /* index after this value and everything in it */
    uint32_t count; /* children of an array or object */
    const char *key;
    union {
        bool boolean;
        int64_t integer;
        double real;
        const char *string; /* valid UTF-8 without NUL, terminated */
    } as;
} mo_json_value;

typedef struct mo_json {
    mo_json_value *values; /* [0] is the whole text */
    uint32_t n;
    char *strings;
} mo_json;

enum { MO_JSON_MAX_DEPTH = 32, MO_JSON_MAX_VALUES = 1 << 20 };

/* `what` begins every message ("config.json", "model.safetensors: header"). MOSHI_EMODEL for bad
 * text, MOSHI_ENOMEM when memory runs out. Keys may repeat: callers decide. */
int mo_json_parse(mo_json *out, const char *text, size_t size, const char *what, moshi_error *err);
void mo_json_free(mo_json *json);

/* First child of `parent` and the sibling after `child`; NULL at the end. */
const mo_json_value *mo_json_first(const mo_json *json, const mo_json_value *parent);
const mo_json_value *mo_json_after(const mo_json *json, const mo_json_value *parent,
                                   const mo_json_value *child);
/* The value as it would be shown in a message: 4.5, "text" (shortened), an array of 3, ... */
void mo_json_show(const mo_json_value *value, char *out, size_t cap);

#endif
