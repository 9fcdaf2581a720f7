/* modelfiles.h - the files a model consists of, and their hashes. */
#ifndef APP_MODELFILES_H
#define APP_MODELFILES_H

#include "json.h"
#include "model.h"
#include "sha.h"

enum { MODEL_FILES_MAX = 256 };

typedef struct model_file {
    char *name;
    uint64_t bytes;
    char sha256[SHA_HEX];
} model_file;

typedef struct model_files {
    model_file *list; /* sorted by name */
    size_t n;
    char sha256[SHA_HEX]; /* of all names and hashes */
} model_files;

/* Hash what `choice` (already located) consists of: the embedded files; of a directory all files
 * that models are made of (.json, .safetensors, .gguf, .model); of a single file that one and the
 * config.json beside it. */
int model_files_hash(model_files *out, const model_choice *choice, bool quiet, app_error *err);
/* A hash that is quick to make: of names, sizes, and the first and last 64 KB of each file. Tells
 * models apart, not damage to their numbers. "" when the files cannot be read. */
void model_files_fingerprint(char hex[SHA_HEX], const model_choice *choice);
/* The hash of config.json; "" when there is none. */
const char *model_files_config(const model_files *files);
/* [{name, bytes, sha256}]; NULL when out of memory. */
json_t *model_files_json(const model_files *files);
/* What crash reports are to say of a model, and of a device that device.h has seen (NULL: cpu).
 */
void model_note_for_crashes(const model_choice *choice, const char *device);
void model_files_free(model_files *files);

#endif
