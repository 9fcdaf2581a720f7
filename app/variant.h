/* variant.h - one side of a comparison: a model with some things different.
 *
 * Written as words joined by '+' or ',': "cpu", "q8_0", "exact", "delay=2", "cpu,q8_0,kv=bf16",
 * "vulkan:0+q4_K", or the path of another model. What a word changes that the model's files must
 * say (number format, delays) is put into a temporary directory beside links to the unchanged
 * files. */
#ifndef APP_VARIANT_H
#define APP_VARIANT_H

#include "difference.h"
#include "model.h"

typedef struct variant {
    const char *text;   /* as the user wrote it */
    char *words;        /* a copy, cut into words */
    const char *device; /* NULL: cpu */
    const char *type;   /* number format to convert to, or NULL: as the files are */
    const char *path;   /* another model than the common one, or NULL */
    bool exact;
    int threads;     /* 0: default */
    moshi_kv kv;     /* numbers of the key/value cache */
    int delay;       /* of the acoustic codebooks; -1: as config.json says */
    char *directory; /* temporary files, or NULL */
    double kv_error; /* relative error of its key/value cache */
    explained error; /* by its weights and its arithmetic */
} variant;

/* What words there are besides names of devices and files, for messages. */
#define VARIANT_WORDS \
    "f32 f16 bf16 q8_0 q6_K q4_K q4_0, exact, kv=f32|bf16|q8_0, delay=N, threads=N"

int variant_parse(variant *v, const char *text, app_error *err);
/* Open it; `model` is the common model, already located. The engine has one slot. */
int variant_open(variant *v, model_choice *model, moshi_engine **out, app_error *err);
/* Remove what was made for it. */
void variant_close(variant *v);

#endif
