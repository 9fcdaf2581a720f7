/* cmd_convert.c - `moshi convert`: a model file in other number formats, or in one file. */
#include "model.h"
#include "progress.h"
#include "verb.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const option_spec OPTIONS[] = {
    {.name = "type",
     .letter = 't',
     .kind = OPTION_CHOICE,
     .value = "f32|f16|bf16|q8_0|q6_K|q4_K|q4_0",
     .help = "number format of the big matrices"},
    {.name = "keep",
     .kind = OPTION_TEXT,
     .value = "GLOB=TYPE,...",
     .help = "formats for tensors by name; the first match wins"},
    {.name = "verify", .kind = OPTION_FLAG, .help = "read the result back, print every error"},
    {.name = "threads",
     .kind = OPTION_INTEGER,
     .value = "N",
     .help = "worker threads (default: one per core)",
     .min = 1,
     .max = 256},
    {.name = "quiet", .letter = 'q', .kind = OPTION_FLAG, .help = "no progress, no summary"},
};

/* What the callbacks of one conversion share. */
typedef struct run {
    progress bar;
    double started_s;
    bool verify;
    uint64_t bytes_in, bytes_out;
    size_t tensors;
} run;

static int on_progress(void *user, uint64_t done, uint64_t total) {
    run *r = user;
    char note[64];
    double seconds = app_now_s() - r->started_s;
    snprintf(note, sizeof note, "%.2f GB, %.0f MB/s", (double)done / 1e9,
             seconds > 0 ? (double)done / 1e6 / seconds : 0.0);
    progress_draw(&r->bar, total ? (double)done / (double)total : 1.0, note);
    return app_interrupted();
}

static void on_report(void *user, const moshi_converted *t) {
    run *r = user;
    r->bytes_in += t->bytes_in;
    r->bytes_out += t->bytes_out;
    r->tensors++;
    if (r->verify) printf("%-5s %-5s %.2e  %s\n", t->from, t->to, t->error, t->name);
}

static int exit_code_of(int rc, app_error *err, const moshi_error *why) {
    switch (rc) {
    case MOSHI_EINVAL:
    case MOSHI_EIO:
        return app_fail(err, EXIT_USAGE, "convert: %s", why->text);
    case MOSHI_ENOMEM:
        return app_fail(err, EXIT_MEMORY, "convert: %s", why->text);
    case MOSHI_EMODEL:
        return app_fail(err, EXIT_MODEL, "%s", why->text);
    default:
        return app_fail(err, EXIT_INTERNAL, "convert: %s", why->text);
    }
}

static int convert(const arguments *args, app_error *err) {
    if (args->n_positional < 2)
        return app_fail(err, EXIT_USAGE,
                        "convert: from what to what? moshi convert IN OUT "
                        "--type q8_0");
    if (!option_given(args, "type"))
        return app_fail(err, EXIT_USAGE, "convert: --type is missing: wanted one of %s",
                        OPTIONS[0].value);
    run r = {.started_s = app_now_s(), .verify = option_given(args, "verify")};
    bool quiet = option_given(args, "quiet");
    hub_lookup lookup = {0};
    moshi_convert_options options = {.type = option_text(args, "type"),
                                     .keep = option_text(args, "keep"),
                                     .threads = (int)option_of(args, "threads")->integer,
                                     .verify = r.verify,
                                     .progress = on_progress,
                                     .report = on_report,
                                     .finder = {hub_look_up, &lookup},
                                     .user = &r};
    moshi_error why;
    progress_start(&r.bar, quiet);
    int rc = moshi_convert(args->positional[0], args->positional[1], &options, &why);
    hub_lookup_free(&lookup);
    progress_clear(&r.bar);
    if (app_interrupted()) return app_check_interrupted(err);
    if (rc < 0) return exit_code_of(rc, err, &why);
    double seconds = app_now_s() - r.started_s;
    if (!quiet)
        fprintf(stderr,
                "moshi: %zu tensors, %.1f MB -> %.1f MB in %.2f s (%.0f MB/s), written to %s\n",
                r.tensors, (double)r.bytes_in / 1e6, (double)r.bytes_out / 1e6, seconds,
                (double)r.bytes_in / 1e6 / (seconds > 0 ? seconds : 1e-9), args->positional[1]);
    return app_flush_stdout(err);
}

const verb verb_convert = {
    .name = "convert",
    .usage = "IN OUT --type TYPE [options]",
    .summary = "a model in another number format, in one file",
    .text = "Reads a model (directory, safetensors or GGUF file) and writes OUT, a .gguf or\n"
            ".safetensors file. A .gguf holds the whole model with configuration, tokenizer and\n"
            "codec: it is all that -m needs. A .safetensors holds the language model alone. The\n"
            "depth transformer and the output heads get one step finer than TYPE, vectors stay\n"
            "float32, the codec stays as it is. OUT appears only when it is whole; an\n"
            "interrupted run leaves nothing.\n"
            "\n"
            "With --verify every tensor is read back; standard output lists its old and new\n"
            "format, its relative error and its name.",
    .example = "moshi convert models/demo demo-q8.gguf --type q8_0 --verify\n"
               "moshi reply question.wav -o answer.wav -m demo-q8.gguf",
    VERB_OPTIONS(OPTIONS),
    .max_positional = 2,
    .run = convert,
};
