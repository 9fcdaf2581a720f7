/* cmd_inspect.c - `moshi inspect`: what a model file is and whether it would run. */
#include "json.h"
#include "model.h"
#include "plan.h"
#include "verb.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { CENSUS_MAX = 32 };

/* How many tensors and bytes of each dtype. */
typedef struct census {
    const char *dtype[CENSUS_MAX];
    uint64_t tensors[CENSUS_MAX], bytes[CENSUS_MAX];
    int n;
    size_t problems;
} census;

static void take_census(census *c, const moshi_model_info *info) {
    memset(c, 0, sizeof *c);
    for (size_t i = 0; i < info->n_tensors; i++) {
        const moshi_tensor_info *t = &info->tensors[i];
        int k = 0;
        while (k < c->n && strcmp(c->dtype[k], t->dtype) != 0) k++;
        if (k == CENSUS_MAX) continue;
        if (k == c->n) c->dtype[c->n++] = t->dtype;
        c->tensors[k]++;
        c->bytes[k] += t->bytes;
        c->problems += t->problem != NULL;
    }
}

/* ---- for people ----------------------------------------------------------------------------- */

static void print_tensor(const moshi_tensor_info *t) {
    char shape[160];
    size_t at = (size_t)snprintf(shape, sizeof shape, "[");
    for (int i = 0; i < t->ndim && at < sizeof shape; i++)
        at += (size_t)snprintf(shape + at, sizeof shape - at, "%s%" PRId64, i ? ", " : "",
                               t->shape[i]);
    printf("  %-4s %-20s] %s: %s%s%s\n", t->dtype, shape, t->file, t->name,
           t->problem ? "  PROBLEM: " : "", t->problem ? t->problem : "");
}

static void print_language_model(const moshi_model_info *info) {
    const moshi_engine_info *e = &info->engine;
    printf("type            %s\n", e->model_type);
    printf("temporal        %d layers of %d, %d heads, context %d frames\n", info->layers,
           info->dim, info->heads, e->context);
    if (e->dep_q > 0)
        printf("depth           %d layers of %d, %d heads\n", info->depformer_layers,
               info->depformer_dim, info->depformer_heads);
    printf("channels        reads %d, speaks %d, hears %d of the user\n", e->n_q, e->dep_q,
           e->user_codebooks);
    printf("vocabulary      %d text, %d per audio channel\n", e->text_card, e->card);
    if (e->delays) {
        printf("delays          text %d, audio", e->delays[0]);
        for (int i = 1; i <= e->n_q; i++) printf(" %d", e->delays[i]);
        printf("\n");
    }
    printf("sampling        text %g top %d, audio %g top %d\n", (double)e->text_temp, e->text_top_k,
           (double)e->audio_temp, e->audio_top_k);
}

static void print_codec(const moshi_codec_info *c) {
    printf("codec           %d Hz, %g frames of %d samples per second, %d codebooks of %d\n",
           c->sample_rate_hz, c->frame_rate_hz, c->frame_samples, c->max_codebooks, c->bins);
}

/* Which verbs run it: reply needs a model that hears the user and speaks. */
static const char *verbs_of(const moshi_model_info *info) {
    if (info->dim == 0) return "yes, with codec";
    bool talks = info->engine.user_codebooks > 0 && info->engine.dep_q > 0;
    return talks ? "yes" : "yes, with trace only (reply needs a model that hears and speaks)";
}

static void print_info(const moshi_model_info *info, const memory_plan *plan, const char *name,
                       bool all) {
    census c;
    take_census(&c, info);
    printf("%s: %s\n", name, info->summary);
    if (info->dim > 0) print_language_model(info);
    if (info->codec.frame_samples > 0) print_codec(&info->codec);
    for (int i = 0; i < c.n; i++)
        printf("%-15s %" PRIu64 " %s, %.1f MB\n", i ? "" : "tensors", c.tensors[i], c.dtype[i],
               (double)c.bytes[i] / 1e6);
    plan_print(plan);
    if (c.problems) printf("problems        %zu tensors\n", c.problems);
    for (size_t i = 0; i < info->n_tensors; i++)
        if (all || info->tensors[i].problem) print_tensor(&info->tensors[i]);
    if (info->runs)
        printf("runs            %s\n", verbs_of(info));
    else
        printf("runs            no: %s\n", info->reason);
}

/* ---- for machines --------------------------------------------------------------------------- */

static json_t *tensor_json(const moshi_tensor_info *t) {
    json_t *shape = json_array();
    for (int i = 0; i < t->ndim; i++) json_array_append_new(shape, json_integer(t->shape[i]));
    json_t *problem = t->problem ? json_string(t->problem) : json_null();
    return json_pack("{s:s, s:s, s:s, s:o, s:I, s:o}", "file", t->file, "name", t->name, "dtype",
                     t->dtype, "shape", shape, "bytes", (json_int_t)t->bytes, "problem", problem);
}

static json_t *language_model_json(const moshi_model_info *info) {
    const moshi_engine_info *e = &info->engine;
    json_t *delays = json_array();
    for (int i = 0; e->delays && i <= e->n_q; i++)
        json_array_append_new(delays, json_integer(e->delays[i]));
    return json_pack(
        "{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:o, s:f, s:i, s:f, "
        "s:i}",
        "type", e->model_type, "dim", info->dim, "layers", info->layers, "heads", info->heads,
        "context_frames", e->context, "depformer_dim", info->depformer_dim, "depformer_layers",
        info->depformer_layers, "depformer_heads", info->depformer_heads, "n_q", e->n_q, "dep_q",
        e->dep_q, "user_codebooks", e->user_codebooks, "text_card", e->text_card, "card", e->card,
        "delays", delays, "text_temp", (double)e->text_temp, "text_top_k", e->text_top_k,
        "audio_temp", (double)e->audio_temp, "audio_top_k", e->audio_top_k);
}

static json_t *census_json(const census *c) {
    json_t *all = json_object();
    for (int i = 0; i < c->n; i++)
        json_object_set_new(all, c->dtype[i],
                            json_pack("{s:I, s:I}", "tensors", (json_int_t)c->tensors[i], "bytes",
                                      (json_int_t)c->bytes[i]));
    return all;
}

static int print_json(const moshi_model_info *info, const memory_plan *plan, const char *name,
                      bool all, app_error *err) {
    census c;
    take_census(&c, info);
    json_t *tensors = json_array();
    for (size_t i = 0; i < info->n_tensors; i++)
        if (all || info->tensors[i].problem)
            json_array_append_new(tensors, tensor_json(&info->tensors[i]));
    json_t *root = json_pack("{s:o, s:s, s:s, s:b, s:o, s:o, s:I}", "model", json_text(name),
                             "kind", info->kind, "summary", info->summary, "runs", info->runs,
                             "dtypes", census_json(&c), all ? "tensors" : "problems", tensors,
                             "parameters", (json_int_t)info->engine.parameters);
    if (root && info->reason) json_object_set_new(root, "reason", json_text(info->reason));
    if (root && plan->n > 0) json_object_set_new(root, "memory", plan_json(plan));
    if (root && info->dim > 0) json_object_set_new(root, "lm", language_model_json(info));
    const moshi_codec_info *codec = &info->codec;
    if (root && codec->frame_samples > 0)
        json_object_set_new(root, "codec",
                            json_pack("{s:i, s:i, s:f, s:i, s:i}", "sample_rate",
                                      codec->sample_rate_hz, "frame_samples", codec->frame_samples,
                                      "frame_rate_hz", codec->frame_rate_hz, "codebooks",
                                      codec->max_codebooks, "bins", codec->bins));
    return json_print(root, err);
}

/* ---- verb ----------------------------------------------------------------------------------- */

static int run(const arguments *args, app_error *err) {
    const char *path = option_text(args, "model");
    if (path && args->n_positional)
        return app_fail(err, EXIT_USAGE, "inspect: the model was named twice: '%s' and -m '%s'",
                        args->positional[0], path);
    model_choice choice = model_choose(path ? path : args->positional[0]);
    moshi_model_info *info;
    moshi_error why = {0};
    int rc = model_locate(&choice, args, false, err);
    if (rc != EXIT_OK) return rc;
    rc = moshi_inspect(&info, choice.path, choice.blobs, choice.n_blobs, &why);
    memory_plan plan = {.n = 0};
    if (rc == 0 && info->runs)
        plan_make(&plan, &choice, info, (int)option_of(args, "sessions")->integer);
    model_choice_free(&choice);
    if (rc < 0) return app_fail_library(err, rc, why.text);
    bool all = option_given(args, "tensors");
    rc = EXIT_OK;
    if (option_given(args, "json"))
        rc = print_json(info, &plan, choice.name, all, err);
    else
        print_info(info, &plan, choice.name, all);
    if (rc == EXIT_OK) rc = app_flush_stdout(err);
    if (rc == EXIT_OK && !info->runs)
        rc = app_fail(err, EXIT_MODEL, "would not run: %s", info->reason);
    moshi_model_info_free(info);
    return rc;
}

static const option_spec SPECS[] = {
    MODEL_OPTION,
    {.name = "sessions",
     .kind = OPTION_INTEGER,
     .value = "N",
     .min = 1,
     .max = 1024,
     .help = "also how much memory N conversations at once would take"},
    {.name = "tensors", .kind = OPTION_FLAG, .help = "list every tensor"},
    {.name = "json", .kind = OPTION_FLAG, .help = "print the result as JSON"},
};

const verb verb_inspect = {
    .name = "inspect",
    .usage = "[MODEL] [options]",
    .summary = "what a model is, what it needs, and whether it would run",
    .text = "Prints sizes, channels, delays, codebooks, sampling defaults, how the weights are\n"
            "stored, the memory that one and eight conversations take on each device, and every\n"
            "tensor that looks damaged. Exit code 3 when this version could not run the model,\n"
            "with the reason. MODEL may also be a codec alone.",
    .example = "  moshi inspect path/to/model",
    VERB_OPTIONS(SPECS),
    .max_positional = 1,
    .run = run,
};
