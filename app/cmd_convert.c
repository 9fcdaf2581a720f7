/* cmd_convert.c - `moshi convert`: a model file in other number formats, or in one file. */
#include "model.h"
#include "progress.h"
#include "verb.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

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
    LORA_OPTION,
    {.name = "verify", .kind = OPTION_FLAG, .help = "read the result back, print every error"},
    {.name = "threads",
     .kind = OPTION_INTEGER,
     .value = "N",
     .help = "worker threads (default: one per physical core)",
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

static void summarise(const run *r, const char *out) {
    double seconds = app_now_s() - r->started_s;
    char in_size[32], out_size[32];
    fprintf(stderr, "moshi: %zu tensors, %s -> %s in %.2f s (%.0f MB/s), written to %s\n",
            r->tensors, app_size_text(in_size, r->bytes_in), app_size_text(out_size, r->bytes_out),
            seconds, (double)r->bytes_in / 1e6 / (seconds > 0 ? seconds : 1e-9), out);
}

static int run_conversion(const arguments *args, model_choice *in, const moshi_lora *loras,
                          size_t n_loras, app_error *err) {
    run r = {.started_s = app_now_s(), .verify = option_given(args, "verify")};
    bool quiet = option_given(args, "quiet");
    moshi_convert_options options = {.type = option_text(args, "type"),
                                     .keep = option_text(args, "keep"),
                                     .threads = (int)option_of(args, "threads")->integer,
                                     .verify = r.verify,
                                     .progress = on_progress,
                                     .report = on_report,
                                     .finder = {hub_look_up, &in->lookup},
                                     .user = &r,
                                     .loras = loras,
                                     .n_loras = n_loras};
    moshi_error why = {0};
    progress_start(&r.bar, quiet);
    int rc = moshi_convert(in->path, args->positional[1], &options, &why);
    progress_clear(&r.bar);
    if (rc < 0) return model_fail(in, err, rc, why.text);
    if (!quiet) summarise(&r, args->positional[1]);
    return EXIT_OK;
}

static int convert(const arguments *args, app_error *err) {
    if (args->n_positional < 2)
        return app_fail(err, EXIT_USAGE,
                        "convert: from what to what? moshi convert IN OUT "
                        "--type q8_0");
    if (!option_given(args, "type"))
        return app_fail(err, EXIT_USAGE, "convert: --type is missing: wanted one of %s",
                        OPTIONS[0].value);
    model_choice in = {.path = args->positional[0], .name = args->positional[0]};
    const char *lora = option_text(args, "lora");
    moshi_lora loras[LORAS_MAX];
    size_t n_loras;
    char *lora_text;
    int rc = model_parse_loras(lora, &lora_text, loras, &n_loras, err);
    if (rc == EXIT_OK) rc = model_check_loras(lora, args->positional[1], err);
    if (rc == EXIT_OK) rc = model_find(&in, err);
    if (rc == EXIT_OK) rc = run_conversion(args, &in, loras, n_loras, err);
    model_choice_free(&in);
    free(lora_text);
    return rc == EXIT_OK ? app_flush_stdout(err) : rc;
}

const verb verb_convert = {
    .name = "convert",
    .usage = "IN OUT --type TYPE [options]",
    .summary = "a model in another number format, in one file",
    .text = "Reads a model in any format (directory, safetensors or GGUF file, or ORG/NAME as\n"
            "moshi pull downloads it) and writes OUT, a .gguf or .safetensors file. A .gguf\n"
            "holds the whole model with configuration, tokenizer and codec: it is all that -m\n"
            "needs. A .safetensors holds the language model alone, as f32, f16 or bf16. The\n"
            "depth transformer and the output heads get one step finer than TYPE, vectors stay\n"
            "float32, the codec stays as it is. Damaged weights are refused. OUT appears only\n"
            "when it is whole; an interrupted run leaves nothing.\n"
            "\n"
            "With --verify every tensor is read back before OUT gets its name; standard output\n"
            "lists its old and new format, its relative error and its name.",
    .example = "moshi convert models/demo demo-q8.gguf --type q8_0 --verify\n"
               "moshi reply question.wav -o answer.wav -m demo-q8.gguf",
    VERB_OPTIONS(OPTIONS),
    .max_positional = 2,
    .run = convert,
};
