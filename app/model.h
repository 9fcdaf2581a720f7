/* model.h - from the options -m, --device, --threads, --exact and the environment to an open engine
 * or codec. */
#ifndef APP_MODEL_H
#define APP_MODEL_H

#include "hub.h"
#include "json.h"
#include "moshi.h"
#include "options.h"

/* Rows for the tables of options of verbs that open a model. */
/* Two rows: which model, and whether it may be downloaded. */
#define MODEL_OPTION                                                                           \
    {.name = "model",                                                                          \
     .letter = 'm',                                                                            \
     .kind = OPTION_TEXT,                                                                      \
     .value = "MODEL",                                                                         \
     .help = "model directory, checkpoint file with config.json beside it, or ORG/NAME as "    \
             "moshi pull downloads it (default: $MOSHI_MODEL, else the demo model inside the " \
             "program)"},                                                                      \
    {                                                                                          \
        .name = "pull", .kind = OPTION_FLAG,                                                   \
        .help = "download the model ORG/NAME when it is not there yet"                         \
    }
#define THREADS_OPTION                                                                      \
    {                                                                                       \
        .name = "threads", .kind = OPTION_INTEGER, .value = "N", .min = 1, .max = 256,      \
        .help = "worker threads (default: one per physical core, or as few as are as fast)" \
    }
#define CODEC_THREADS_OPTION                                                                  \
    {                                                                                         \
        .name = "codec-threads", .kind = OPTION_INTEGER, .value = "N", .min = 0, .max = 256,  \
        .help = "threads that only hear, one frame ahead of the model, while that computes; " \
                "pays on processors with more cores than the memory can feed (default: 0)"    \
    }
#define DEVICE_OPTION                                                                           \
    {                                                                                           \
        .name = "device", .kind = OPTION_TEXT, .value = "NAME",                                 \
        .help = "device to compute on: auto, cpu or another that moshi doctor lists (default: " \
                "$MOSHI_DEVICE, else auto: the best that works)"                                \
    }
#define EXACT_OPTION                                                           \
    {                                                                          \
        .name = "exact", .kind = OPTION_FLAG,                                  \
        .help = "float32 throughout, quantised weights widened: the yardstick" \
    }

#define KV_OPTION                                                                    \
    {                                                                                \
        .name = "kv", .kind = OPTION_CHOICE, .value = "f32|bf16|q8_0",               \
        .help = "numbers the model remembers a conversation with: bf16 takes half, " \
                "q8_0 a quarter of the memory of f32 (default: f32)"                 \
    }

#define LORA_OPTION                                                             \
    {                                                                           \
        .name = "lora", .kind = OPTION_TEXT, .value = "FILE[:SCALE],...",       \
        .help = "low-rank adapters to add to the model (SCALE: 2 unless given)" \
    }

/* What the user chose: a path, or the embedded files. */
typedef struct model_choice {
    const char *path; /* NULL: the embedded model */
    const moshi_blob *blobs;
    size_t n_blobs;
    const char *name;  /* for people */
    char *found;       /* where `path` is when it was found in the cache of downloads */
    hub_lookup lookup; /* for files that its configuration looks for among the downloads */
} model_choice;

/* `path` may come from the command line; NULL asks the environment. */
model_choice model_choose(const char *path);
/* When the choice is ORG/NAME and no file, find it among the downloads; with --pull, download it.
 * Never uses the network otherwise. Done by model_open_*(). */
int model_locate(model_choice *choice, const arguments *args, bool quiet, app_error *err);
/* The same without a download. */
int model_find(model_choice *choice, app_error *err);
/* For another process: what model_choice_of() makes a choice of again. */
json_t *model_choice_json(const model_choice *choice);
model_choice model_choice_of(const json_t *told);
void model_choice_free(model_choice *choice);
/* app_fail_library() for a failure to open the choice: also says how to get a missing file. */
int model_fail(const model_choice *choice, app_error *err, int code, const char *text);

enum { LORAS_MAX = 16 };

/* What --lora says (NULL: nothing). The paths point into *text, which is to be freed in any case.
 */
int model_parse_loras(const char *given, char **text, moshi_lora list[LORAS_MAX], size_t *n,
                      app_error *err);
/* Refuse an output that is one of the adapters in `given`. */
int model_check_loras(const char *given, const char *path, app_error *err);

/* --kv as the library says it. */
moshi_kv model_kv(const arguments *args);
/* Open what the options (those above and --quiet) ask for. `flags` are added to what --exact gives.
 */
int model_open_engine(moshi_engine **out, const arguments *args, int flags, app_error *err);
/* `options` holds what the caller already knows: codebooks, frames_per_call, flags. `asked` names
 * in messages what asked for that many codebooks: an option, or a file of codes. */
int model_open_codec(moshi_codec **out, const arguments *args, moshi_codec_options options,
                     const char *asked, app_error *err);
/* Refuse an output that is a file of the model that is in use, or one of the adapters in `loras`
 * (what --lora says, or NULL). Cheap: comes before anything is loaded. */
int model_check_output(const arguments *args, const char *path, const char *loras, app_error *err);

/* A MOSHI_E* code as an error of the program; `text` is the library's message, or "". */
int app_fail_library(app_error *err, int code, const char *text);

#endif
