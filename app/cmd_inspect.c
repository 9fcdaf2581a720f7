/* cmd_inspect.c - `moshi inspect`: what a model is, whether it would run, and what is wrong with
 * it. */
#include "progress.h"
#include "report_model.h"
#include "verb.h"

#include <stdio.h>

static int on_progress(void *user, uint64_t done, uint64_t total) {
    progress_draw(user, total ? (double)done / (double)total : 0, "reading the weights");
    return app_interrupted();
}

/* The verdict as an exit code. */
static int verdict(const model_report *r, app_error *err) {
    const moshi_model_info *info = r->info;
    char reason[1900];
    if (!info->runs) {
        report_reason(r, reason, sizeof reason);
        return app_fail(err, EXIT_MODEL, "would not run: %s", reason);
    }
    if (info->n_findings)
        return app_fail(err, EXIT_FAILED, "would run, but hardly sound as it should: %.1800s",
                        info->findings[0].text);
    return EXIT_OK;
}

static int print_report(model_report *r, bool json, app_error *err) {
    int rc = EXIT_OK;
    report_recognise(r);
    if (json)
        rc = report_print_json(r, err);
    else
        report_print(r);
    if (rc == EXIT_OK) rc = app_flush_stdout(err);
    return rc == EXIT_OK ? verdict(r, err) : rc;
}

/* Nothing could be read, as *err tells; machines are told so, too. */
static int unreadable(const model_choice *choice, const arguments *args, app_error *err) {
    app_error broken;
    if (err->exit_code != EXIT_MODEL || !option_given(args, "json")) return err->exit_code;
    int rc = report_print_unreadable(choice->name, err->text, &broken);
    if (rc != EXIT_OK) *err = broken;
    return err->exit_code;
}

static int inspect(model_choice *choice, const arguments *args, app_error *err) {
    moshi_model_info *info;
    moshi_error why = {0};
    progress bar;
    progress_start(&bar, false);
    moshi_inspect_options options = {.model = choice->path,
                                     .blobs = choice->blobs,
                                     .n_blobs = choice->n_blobs,
                                     .finder = {hub_look_up, &choice->lookup},
                                     .threads = (int)option_of(args, "threads")->integer,
                                     .progress = on_progress,
                                     .progress_user = &bar};
    if (option_given(args, "quick")) options.flags |= MOSHI_INSPECT_QUICK;
    int rc = moshi_inspect(&info, &options, &why);
    progress_clear(&bar);
    if (rc < 0) {
        model_fail(choice, err, rc, why.text);
        return unreadable(choice, args, err);
    }
    model_report r = {.info = info,
                      .name = choice->name,
                      .quick = option_given(args, "quick"),
                      .tensors = option_given(args, "tensors")};
    if (info->runs)
        plan_make(&r.plan, choice, info, (int)option_of(args, "sessions")->integer, model_kv(args));
    rc = print_report(&r, option_given(args, "json"), err);
    moshi_model_info_free(info);
    return rc;
}

static int run(const arguments *args, app_error *err) {
    const char *path = option_text(args, "model");
    if (path && args->n_positional)
        return app_fail(err, EXIT_USAGE, "inspect: the model was named twice: '%s' and -m '%s'",
                        args->positional[0], path);
    model_choice choice = model_choose(path ? path : args->positional[0]);
    int rc = model_locate(&choice, args, false, err);
    rc = rc == EXIT_OK ? inspect(&choice, args, err) : unreadable(&choice, args, err);
    model_choice_free(&choice);
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
    KV_OPTION,
    {.name = "quick",
     .kind = OPTION_FLAG,
     .help = "read the tables of tensors only, not the numbers: nothing is found that is "
             "wrong with those"},
    {.name = "tensors", .kind = OPTION_FLAG, .help = "list every tensor"},
    THREADS_OPTION,
    {.name = "json", .kind = OPTION_FLAG, .help = "print the result as JSON"},
};

const verb verb_inspect = {
    .name = "inspect",
    .usage = "[MODEL] [options]",
    .summary = "what a model is, what it needs, and what is wrong with it",
    .text =
        "Prints what the model is and which published one it looks like, its files and their\n"
        "format, sizes, channels, delays, codebooks, parameters part by part, the memory that\n"
        "one and eight conversations take on each device; then what is wrong: parts that are\n"
        "missing or do not belong together, tensors that are missing, surplus, of the wrong\n"
        "shape, damaged (NaN, zeros) or unlike trained weights. MODEL may also be a codec "
        "alone.\n\n"
        "Exit code 3 when this version could not run the model, with the reason; 1 when it would\n"
        "run but something is odd.",
    .example = "  moshi inspect path/to/model\n"
               "  moshi inspect kyutai/moshiko-pytorch-q8 --quick --sessions 4",
    VERB_OPTIONS(SPECS),
    .max_positional = 1,
    .run = run,
};
