/* model.c - opening the chosen model. */
#include "model.h"

#include "crash.h"
#include "device.h"
#include "embedded.h"
#include "modelfiles.h"
#include "outfile.h"
#include "progress.h"
#include "pull.h"
#include "system.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int app_fail_library(app_error *err, int code, const char *text) {
    int exit_code = EXIT_INTERNAL;
    switch (code) {
    case MOSHI_EINVAL:
    case MOSHI_EIO:
        exit_code = EXIT_USAGE;
        break;
    case MOSHI_EMODEL:
        exit_code = EXIT_MODEL;
        break;
    case MOSHI_EDEVICE:
        exit_code = EXIT_DEVICE;
        break;
    case MOSHI_ENOMEM:
        exit_code = EXIT_MEMORY;
        break;
    case MOSHI_ECANCELLED:
        if (app_interrupted()) return app_check_interrupted(err);
    }
    return app_fail(err, exit_code, "%s", text[0] ? text : moshi_strerror(code));
}

model_choice model_choose(const char *path) {
    if (!path) path = app_env("MOSHI_MODEL");
    if (path) return (model_choice){.path = path, .name = path};
    return (model_choice){.blobs = embedded_model(),
                          .n_blobs = EMBEDDED_FILES,
                          .name = "the demo model inside the program"};
}

/* Paths are bytes and JSON is Unicode: every byte becomes the character of its number. */
json_t *model_choice_json(const model_choice *choice) {
    if (!choice->path) return json_null();
    char *text = malloc(2 * strlen(choice->path) + 1), *to = text;
    for (const char *from = choice->path; text && *from; from++) {
        unsigned char c = (unsigned char)*from;
        if (c >= 0x80) *to++ = (char)(0xC0 | c >> 6);
        *to++ = (char)(c >= 0x80 ? 0x80 | (c & 0x3F) : c);
    }
    if (text) *to = 0;
    json_t *told = text ? json_string(text) : NULL;
    free(text);
    return told;
}

model_choice model_choice_of(const json_t *told) {
    const char *from = json_string_value(told);
    if (!from) return (model_choice){.blobs = embedded_model(), .n_blobs = EMBEDDED_FILES};
    char *path = malloc(strlen(from) + 1), *to = path;
    for (; path && *from; from++) {
        unsigned char c = (unsigned char)*from;
        if (c >= 0x80 && from[1]) c = (unsigned char)(c << 6 | (*++from & 0x3F));
        *to++ = (char)c;
    }
    if (path) *to = 0;
    return (model_choice){.path = path, .name = path, .found = path};
}

int model_find(model_choice *choice, app_error *err) {
    hub_id id;
    /* What lies there under that name is meant, whatever else the name may be. */
    if (!choice->path || access(choice->path, F_OK) == 0 || !hub_parse(&id, choice->path))
        return EXIT_OK;
    int rc = choice->found ? EXIT_OK : hub_find(&choice->found, &id, err);
    if (rc != EXIT_OK) return rc;
    if (!choice->found)
        return app_fail(err, EXIT_MODEL,
                        "%s: no such file, and not among the downloaded models; this downloads it: "
                        "moshi pull %s",
                        choice->path, choice->path);
    choice->path = choice->found;
    return EXIT_OK;
}

int model_locate(model_choice *choice, const arguments *args, bool quiet, app_error *err) {
    hub_id id;
    if (option_given(args, "pull") && !(choice->path && hub_parse(&id, choice->path)))
        return app_fail(err, EXIT_USAGE,
                        "--pull has no effect on %s: wanted a model ORG/NAME (-m, or MOSHI_MODEL)",
                        choice->name);
    if (option_given(args, "pull") && access(choice->path, F_OK) != 0) {
        int rc = hub_find(&choice->found, &id, err);
        if (rc == EXIT_OK && !choice->found)
            rc = pull_repo(&id, NULL, 0, quiet, &choice->found, err);
        if (rc != EXIT_OK) return rc;
    }
    return model_find(choice, err);
}

void model_choice_free(model_choice *choice) {
    free(choice->found);
    choice->found = NULL;
    hub_lookup_free(&choice->lookup);
}

int model_fail(const model_choice *choice, app_error *err, int code, const char *text) {
    char more[sizeof((moshi_error *)0)->text + 500];
    if (code != MOSHI_EMODEL || !choice->lookup.missing[0] || !strstr(text, "hf://"))
        return app_fail_library(err, code, text);
    snprintf(more, sizeof more, "%s; this downloads it: moshi pull %s", text,
             choice->lookup.missing);
    return app_fail_library(err, code, more);
}

/* Also how Ctrl-C ends a long load. */
static int on_progress(void *user, uint64_t done, uint64_t total) {
    if (app_interrupted()) return 1;
    progress_draw(user, total ? (double)done / (double)total : 0, "loading the model");
    return 0;
}

/* "FILE[:SCALE],FILE[:SCALE]" */
int model_parse_loras(const char *given, char **text, moshi_lora list[LORAS_MAX], size_t *n,
                      app_error *err) {
    *n = 0;
    *text = given ? strdup(given) : NULL;
    if (given && !*text) return app_no_memory(err);
    for (char *p = *text, *next; p; p = next) {
        next = strchr(p, ',');
        if (next) *next++ = 0;
        if (*n == LORAS_MAX)
            return app_fail(err, EXIT_USAGE, "--lora: wanted at most %d adapters", LORAS_MAX);
        moshi_lora *l = &list[(*n)++];
        *l = (moshi_lora){.path = p};
        char *colon = strrchr(p, ':'), *end;
        if (colon && colon[1]) {
            float scale = strtof(colon + 1, &end);
            if (*end == 0) { /* else the colon is part of the name */
                if (!isfinite(scale) || scale == 0)
                    return app_fail(err, EXIT_USAGE,
                                    "--lora: scale: wanted a number but 0, found '%s'", colon + 1);
                l->scale = scale;
                *colon = 0;
            }
        }
        if (!*p) return app_fail(err, EXIT_USAGE, "--lora: wanted FILE[:SCALE], found nothing");
    }
    return EXIT_OK;
}

moshi_kv model_kv(const arguments *args) {
    static const moshi_kv choices[] = {MOSHI_KV_F32, MOSHI_KV_BF16, MOSHI_KV_Q8_0};
    const option_value *value = option_of(args, "kv");
    return value->given ? choices[value->choice] : MOSHI_KV_DEFAULT;
}

static int choose_kv(const arguments *args, moshi_kv *kv, app_error *err) {
    const option_value *value = option_of(args, "kv");
    *kv = model_kv(args);
    if (option_given(args, "exact") && value->given && *kv != MOSHI_KV_F32)
        return app_fail(err, EXIT_USAGE, "--exact computes in float32: leave out --kv %s",
                        value->text);
    return EXIT_OK;
}

int model_open_engine(moshi_engine **out, const arguments *args, int flags, app_error *err) {
    model_choice choice = model_choose(option_text(args, "model"));
    progress bar;
    moshi_error why = {0};
    moshi_lora loras[LORAS_MAX];
    size_t n_loras;
    char *lora_text;
    moshi_kv kv;
    int rc = choose_kv(args, &kv, err);
    if (rc != EXIT_OK) return rc;
    rc = model_parse_loras(option_text(args, "lora"), &lora_text, loras, &n_loras, err);
    if (rc == EXIT_OK) rc = model_locate(&choice, args, option_given(args, "quiet"), err);
    if (rc != EXIT_OK) {
        free(lora_text);
        return rc;
    }
    progress_start(&bar, option_given(args, "quiet"));
    moshi_engine_options options = {
        .loras = loras,
        .n_loras = n_loras,
        .model = choice.path,
        .blobs = choice.blobs,
        .n_blobs = choice.n_blobs,
        .threads = (int)option_of(args, "threads")->integer,
        .codec_threads =
            flags & MOSHI_NO_CODEC ? 0 : (int)option_of(args, "codec-threads")->integer,
        .flags = flags | (option_given(args, "exact") ? MOSHI_EXACT : 0),
        .kv = kv,
        .finder = {hub_look_up, &choice.lookup},
        .progress = on_progress,
        .progress_user = &bar,
        .breadcrumb = crash_breadcrumb(),
    };
    trial what = {.model = &choice, .threads = options.threads, .flags = options.flags, .kv = kv};
    device_choice device = {0};
    do {
        rc = device_choose(&device, args, &what, err);
        if (rc != EXIT_OK) break;
        options.device = device.name;
        options.cache = device_cache(device.name);
        model_note_for_crashes(&choice, device.name);
        rc = moshi_engine_open(out, &options, &why);
    } while (rc < 0 && device_give_up(&device, rc, why.text));
    progress_clear(&bar);
    if (rc < 0) rc = model_fail(&choice, err, rc, why.text);
    model_choice_free(&choice);
    free(lora_text);
    return rc;
}

int model_open_codec(moshi_codec **out, const arguments *args, moshi_codec_options options,
                     const char *asked, app_error *err) {
    model_choice choice = model_choose(option_text(args, "model"));
    moshi_error why = {0};
    int rc = model_locate(&choice, args, option_given(args, "quiet"), err);
    if (rc != EXIT_OK) return rc;
    options.model = choice.path;
    options.blobs = choice.blobs;
    options.n_blobs = choice.n_blobs;
    options.finder = (moshi_finder){hub_look_up, &choice.lookup};
    options.threads = (int)option_of(args, "threads")->integer;
    if (option_given(args, "exact")) options.flags |= MOSHI_EXACT;
    options.breadcrumb = crash_breadcrumb();
    trial what = {
        .model = &choice, .codec = true, .threads = options.threads, .flags = options.flags};
    device_choice device = {0};
    do {
        rc = device_choose(&device, args, &what, err);
        if (rc != EXIT_OK) break;
        options.device = device.name;
        options.cache = device_cache(device.name);
        model_note_for_crashes(&choice, device.name);
        rc = moshi_codec_open(out, &options, &why);
    } while (rc < 0 && device_give_up(&device, rc, why.text));
    /* The only argument that the parser of options could not judge. */
    if (rc == MOSHI_EINVAL)
        rc = app_fail(err, EXIT_USAGE, "%s: %s", asked, why.text);
    else if (rc < 0)
        rc = model_fail(&choice, err, rc, why.text);
    model_choice_free(&choice);
    return rc;
}

/* Where the chosen model is now: *path NULL when it is inside the program or not there. */
static int find_quietly(model_choice *choice, app_error *err) {
    hub_id id;
    if (!choice->path || access(choice->path, F_OK) == 0) return EXIT_OK;
    int rc = hub_parse(&id, choice->path) ? hub_find(&choice->found, &id, err) : EXIT_OK;
    choice->path = choice->found;
    return rc;
}

int model_check_loras(const char *given, const char *path, app_error *err) {
    moshi_lora loras[LORAS_MAX];
    size_t n;
    char *text;
    int rc = model_parse_loras(given, &text, loras, &n, err);
    for (size_t i = 0; rc == EXIT_OK && i < n; i++)
        if (same_file(path, loras[i].path))
            rc = app_fail(err, EXIT_USAGE,
                          "%s: cannot be the output: it is %s, an adapter of the model; wanted "
                          "another name",
                          path, loras[i].path);
    free(text);
    return rc;
}

int model_check_output(const arguments *args, const char *path, const char *loras, app_error *err) {
    model_choice choice = model_choose(option_text(args, "model"));
    moshi_error why = {0};
    int rc = model_check_loras(loras, path, err);
    if (rc == EXIT_OK) rc = find_quietly(&choice, err);
    if (rc == EXIT_OK && choice.path) {
        int code = moshi_check_output(path, choice.path, &why);
        if (code < 0) rc = app_fail_library(err, code, why.text);
    }
    model_choice_free(&choice);
    return rc;
}
