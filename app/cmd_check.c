/* cmd_check.c - `moshi check`: the audio test mode. Every combination of devices, weight types,
 * resamplers and seeds that was asked for, one after the other, each on record. */
#include "build.h"
#include "check_run.h"
#include "device.h"
#include "html_report.h"
#include "outfile.h"
#include "verb.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LIST_MAX = 16, DEFAULT_DEVICE_HZ = 44100, DEADLINE_S = 60 };
static const double DEFAULT_TAIL_S = 3.0;
static const char DEFAULT_SEED[] = "299792458";

/* Words between commas. */
typedef struct word_list {
    char *text; /* the copy they point into */
    char *words[LIST_MAX];
    int n;
} word_list;

typedef struct check {
    check_setup setup;
    bool json;
    word_list device_words, types, resampler_words, seed_words;
    moshi_device_info devices[LIST_MAX];
    int n_devices;
    const sinc_settings *resamplers[LIST_MAX];
    int n_resamplers;
    uint64_t seeds[LIST_MAX];
    int runs, done, skipped, verdicts[CHECK_INVALID + 1];
    bool device_passes[LIST_MAX]; /* all runs so far */
    json_t *records;              /* of this start's matrix, in order */
    outfile page_file;            /* --report; not open: none wanted */
    html_report page;
    json_t *left_out; /* devices that do not work: [{name, reason}] */
} check;

/* ---- what was asked for --------------------------------------------------------------------- */

static int split(word_list *list, const char *option, const char *text, app_error *err) {
    list->text = strdup(text);
    if (!list->text) return app_no_memory(err);
    for (char *word = list->text, *next; word; word = next) {
        next = strchr(word, ',');
        if (next) *next++ = 0;
        if (!*word) return app_fail(err, EXIT_USAGE, "--%s: a word is empty in '%s'", option, text);
        if (list->n == LIST_MAX)
            return app_fail(err, EXIT_USAGE, "--%s: wanted at most %d words", option, LIST_MAX);
        for (int i = 0; i < list->n; i++)
            if (!strcmp(list->words[i], word))
                return app_fail(err, EXIT_USAGE, "--%s: '%s' comes twice", option, word);
        list->words[list->n++] = word;
    }
    return EXIT_OK;
}

static const char *text_or(const arguments *args, const char *option, const char *otherwise) {
    return option_given(args, option) ? option_text(args, option) : otherwise;
}

static int find_device(moshi_device_info *out, const char *name, app_error *err) {
    app_error why;
    int rc = device_find(out, name, &why);
    return rc == EXIT_OK ? EXIT_OK : app_fail(err, rc, "%s, or all", why.text);
}

/* MOSHI_USE_CPU is stronger than everything; what contradicts it on the command line is refused,
 * because it would have no effect. */
static int choose_devices(check *c, const arguments *args, app_error *err) {
    const char *given = text_or(args, "device", NULL);
    bool cpu = app_env("MOSHI_USE_CPU") != NULL;
    if (cpu && given && !device_is_cpu(given))
        return app_fail(
            err, EXIT_USAGE,
            "--device %s has no effect: MOSHI_USE_CPU in the environment forces the CPU", given);
    if (cpu && !given) given = "cpu";
    if (!given) given = app_env("MOSHI_DEVICE");
    if (!given || !strcmp(given, "auto")) return EXIT_OK; /* best_device() */
    if (!strcmp(given, "all")) {
        c->n_devices = device_list(c->devices, LIST_MAX);
        while (c->n_devices > 0 && c->devices[c->n_devices - 1].on_request) c->n_devices--;
        return app_check_interrupted(err);
    }
    int rc = split(&c->device_words, "device", given, err);
    for (int i = 0; rc == EXIT_OK && i < c->device_words.n; i++)
        rc = find_device(&c->devices[c->n_devices++], c->device_words.words[i], err);
    return rc;
}

/* Without a name, the best device that works with this model. */
static int best_device(check *c, const arguments *args, app_error *err) {
    device_choice choice = {0};
    trial what = {.model = &c->setup.model, .threads = (int)option_of(args, "threads")->integer};
    int rc = device_choose(&choice, args, &what, err);
    if (rc == EXIT_OK) rc = find_device(&c->devices[c->n_devices++], choice.name, err);
    return rc;
}

/* A device that ends the process, refuses or never answers costs its own runs and no others. One
 * that computes wrong is what the runs are for. */
static int leave_out_dead(check *c, const arguments *args, app_error *err) {
    int rc = EXIT_OK, alive = 0, asked = c->n_devices;
    for (int i = 0; rc == EXIT_OK && i < asked; i++) {
        const char *name = c->devices[i].name, *verdict = "works";
        char reason[1024] = "";
        probe_result r = {0};
        trial t = {.device = name,
                   .model = &c->setup.model,
                   .threads = (int)option_of(args, "threads")->integer};
        bool cpu = !strcmp(c->devices[i].kind, "cpu");
        if (!cpu) device_tell_crashes_of(name);
        if (!cpu) rc = trial_do(&t, DEADLINE_S, &r, &verdict, reason, sizeof reason, err);
        bool works =
            !strcmp(verdict, "works") || !strcmp(verdict, "wrong answers") || r.code == TRIAL_MODEL;
        json_decref(r.facts);
        if (rc == EXIT_OK && works && reason[0])
            fprintf(stderr, "moshi: device '%s': %s; its runs show what that sounds like\n", name,
                    reason);
        if (rc == EXIT_OK && works) {
            c->devices[alive++] = c->devices[i];
        } else if (rc == EXIT_OK && asked == 1) {
            rc = app_fail(err, EXIT_DEVICE, "device '%s' does not work: %s", name, reason);
        } else if (rc == EXIT_OK) {
            fprintf(stderr, "moshi: device '%s' does not work: %s; its runs are left out\n", name,
                    reason);
            json_array_append_new(
                c->left_out, json_pack("{s:s, s:o}", "name", name, "reason", json_text(reason)));
        }
    }
    c->n_devices = alive;
    if (rc == EXIT_OK && alive == 0)
        rc = app_fail(err, EXIT_DEVICE, "no device of those that were named works");
    return rc;
}

static int choose_resamplers(check *c, const arguments *args, app_error *err) {
    const char *given = text_or(args, "resampler", "all");
    if (!strcmp(given, "all")) {
        for (int i = 0; i < SINC_NAMED_COUNT; i++) c->resamplers[i] = &SINC_NAMED[i];
        c->n_resamplers = SINC_NAMED_COUNT;
        return EXIT_OK;
    }
    int rc = split(&c->resampler_words, "resampler", given, err);
    for (int i = 0; rc == EXIT_OK && i < c->resampler_words.n; i++) {
        const sinc_settings *s = sinc_find(c->resampler_words.words[i]);
        if (!s)
            return app_fail(err, EXIT_USAGE,
                            "--resampler: wanted all, none, default, 1..%d or a name (%s, ...), "
                            "found '%s'",
                            SINC_NAMED_COUNT, SINC_NAMED[0].name, c->resampler_words.words[i]);
        for (int k = 0; k < c->n_resamplers; k++)
            if (c->resamplers[k] == s)
                return app_fail(err, EXIT_USAGE, "--resampler: %s comes twice", s->name);
        c->resamplers[c->n_resamplers++] = s;
    }
    return rc;
}

static int choose_seeds(check *c, const arguments *args, app_error *err) {
    int rc = split(&c->seed_words, "seed", text_or(args, "seed", DEFAULT_SEED), err);
    for (int i = 0; rc == EXIT_OK && i < c->seed_words.n; i++) {
        const char *word = c->seed_words.words[i];
        char *end = NULL;
        bool digits = strspn(word, "0123456789") == strlen(word) && strlen(word) < 19;
        if (digits) c->seeds[i] = strtoull(word, &end, 10);
        /* The library takes 0 for its default; under that name it would be a second run of it. */
        if (!digits || c->seeds[i] == 0)
            return app_fail(err, EXIT_USAGE,
                            "--seed: wanted whole numbers 1..999999999999999999, found '%s'", word);
    }
    return rc;
}

static int open_page(check *c, const char *path, app_error *err) {
    if (is_standard_output(path))
        return app_fail(err, EXIT_USAGE,
                        "--report -: the verdicts go to standard output; wanted a file name");
    int rc = model_check_output(c->setup.args, path, NULL, err);
    if (rc != EXIT_OK) return rc;
    return outfile_open(&c->page_file, path, option_text(c->setup.args, "input"), OUTFILE_IN_ORDER,
                        err);
}

static int choose(check *c, const arguments *args, app_error *err) {
    c->json = option_given(args, "json");
    c->setup.args = args;
    c->setup.quiet = option_given(args, "quiet");
    c->setup.both_ways = option_of(args, "path")->choice == 1;
    c->setup.device_hz =
        option_given(args, "rate") ? (int)option_of(args, "rate")->integer : DEFAULT_DEVICE_HZ;
    int rc = choose_resamplers(c, args, err);
    if (rc == EXIT_OK) rc = choose_seeds(c, args, err);
    if (rc == EXIT_OK) rc = split(&c->types, "type", text_or(args, "type", "stored"), err);
    for (int i = 0; rc == EXIT_OK && i < c->types.n; i++) { /* a typing error must not cost hours */
        check_group g = {0};
        rc = check_group_set_type(&g, c->types.words[i], err);
        check_group_close(&g);
    }
    if (rc == EXIT_OK) rc = choose_devices(c, args, err);
    const char *page = option_text(args, "report");
    if (rc == EXIT_OK && page) rc = open_page(c, page, err);
    return rc;
}

static int prepare(check *c, app_error *err) {
    const arguments *args = c->setup.args;
    check_setup *s = &c->setup;
    double tail = option_given(args, "tail") ? option_of(args, "tail")->real : DEFAULT_TAIL_S;
    int rc = stimulus_load(&s->input, option_text(args, "input"), CHECK_RATE_HZ, CHECK_FRAME,
                           INFINITY, tail, err);
    if (rc != EXIT_OK) return rc;
    s->model = model_choose(option_text(args, "model"));
    rc = model_locate(&s->model, args, s->quiet, err);
    c->left_out = json_array();
    if (rc == EXIT_OK && c->n_devices == 0)
        rc = best_device(c, args, err);
    else if (rc == EXIT_OK)
        rc = leave_out_dead(c, args, err);
    c->runs = c->n_devices * c->types.n * c->n_resamplers * c->seed_words.n;
    if (rc == EXIT_OK) rc = model_files_hash(&s->files, &s->model, s->quiet, err);
    if (rc != EXIT_OK) return rc;
    build_program_sha256(s->program_sha256);
    size_t removed = 0;
    if (option_given(args, "fresh")) rc = experiments_clear(&removed, err);
    if (rc == EXIT_OK && removed && !s->quiet)
        fprintf(stderr, "moshi: %zu earlier runs removed from %s\n", removed,
                EXPERIMENTS_DIRECTORY);
    s->earlier = experiments_read();
    c->records = json_array();
    return rc == EXIT_OK && (!s->earlier || !c->records) ? app_no_memory(err) : rc;
}

/* ---- while it runs -------------------------------------------------------------------------- */

static void print_head(const check *c) {
    const stimulus *input = &c->setup.input;
    printf("input    %s, %.2f s, then silence up to %.2f s\n", input->source,
           (double)input->recorded / CHECK_RATE_HZ, (double)input->sound.n / CHECK_RATE_HZ);
    printf("model    %s\n", c->setup.model.name);
    for (int i = 0; i < c->n_devices; i++)
        printf("device   %s: %s, %s\n", c->devices[i].name, c->devices[i].description,
               c->devices[i].driver);
    printf("matrix   %d device%s x %d weight type%s x %d resampler%s x %d seed%s = %d run%s\n",
           c->n_devices, c->n_devices == 1 ? "" : "s", c->types.n, c->types.n == 1 ? "" : "s",
           c->n_resamplers, c->n_resamplers == 1 ? "" : "s", c->seed_words.n,
           c->seed_words.n == 1 ? "" : "s", c->runs, c->runs == 1 ? "" : "s");
}

static void print_controls(const check_group *g) {
    const control_results *r = &g->controls;
    printf("\ncontrols on %s, %s: %s\n", g->device.name, g->type,
           r->valid ? "the instruments tell speech from broken speech" : r->wrong);
    for (int k = 0; k < CONTROLS; k++) {
        if (!r->applies[k]) continue;
        bool right = r->list[k].passes == control_is_whole(k);
        printf("  %-20s %-36s %s, score %3.0f%s\n", control_name(k), control_description(k),
               r->list[k].passes ? "passes" : "fails ", r->list[k].score,
               right ? "" : "   <- must not");
    }
}

static const char *text_of(const json_t *o, const char *key) {
    const char *text = json_string_value(json_object_get(o, key));
    return text ? text : "";
}

/* What a model says may hold control characters; a terminal would obey them. */
static void print_said(const char *text) {
    for (; *text; text++) putchar((unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text);
}

static void print_no_effect(const json_t *list) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *one = json_array_get(list, i);
        char *value = json_dumps(json_object_get(one, "value"), JSON_ENCODE_ANY);
        char *other = json_dumps(json_object_get(one, "other_value"), JSON_ENCODE_ANY);
        printf("    no effect: %s %s sounds like %s to the last bit (%s)\n",
               text_of(one, "setting"), value ? value : "?", other ? other : "?",
               text_of(one, "other_run"));
        free(value);
        free(other);
    }
}

static void print_run(const check *c, const check_run *run) {
    const json_t *record = run->record;
    double score = json_number_value(json_object_get(json_object_get(record, "scores"), "score"));
    printf("\nrun %d of %d  %s\n", c->done, c->runs, run->where.id);
    if (run->skipped)
        printf("    skipped: it was done %s with the same inputs; --fresh does it again\n",
               text_of(record, "timestamp"));
    printf("    %s, score %.0f: %s\n    says: ", check_verdict_name(run->verdict), score,
           text_of(record, "reason"));
    print_said(text_of(record, "text"));
    const char *from = text_of(record, "answer_computed_in");
    if (strcmp(from, run->where.id) != 0)
        printf("\n    (the answer of %s: only what comes after the model differs)", from);
    printf("\n    %s\n", text_of(record, "audio_path"));
    print_no_effect(json_object_get(record, "no_effect"));
}

static int add_record(check *c, const check_run *run, app_error *err) {
    json_t *copy = json_copy(run->record);
    if (!copy) return app_no_memory(err);
    json_object_set_new(copy, "skipped", json_boolean(run->skipped));
    json_array_append_new(c->records, copy);
    if (!run->skipped) json_array_append(c->setup.earlier, run->record);
    return EXIT_OK;
}

/* ---- the page ------------------------------------------------------------------------------- */

/* What was heard in a run, of this start or an earlier one, as `moshi analyze` sees it. */
static int add_to_page(check *c, const check_run *run, app_error *err) {
    char path[PATH_MAX + 32], says[1200];
    soundfile heard;
    analysis a;
    plot_set plots = {0};
    snprintf(path, sizeof path, "%s/%s", run->where.path, EXPERIMENT_HEARD);
    snprintf(says, sizeof says, "moshi check: %s: %s", check_verdict_name(run->verdict),
             text_of(run->record, "reason"));
    html_note note = {.says = says, .fails = run->verdict != CHECK_PASS};
    int rc = soundfile_read(&heard, path, ANALYZE_LONGEST_S, err);
    if (rc != EXIT_OK) return rc;
    plot_source from = {
        .pcm = heard.pcm, .n = heard.n, .rate_hz = heard.facts.rate_hz, .found = &a};
    rc = analyze_pcm(&a, heard.pcm, heard.n, heard.facts.rate_hz, err);
    if (rc == EXIT_OK) rc = plots_draw(&plots, &from, err);
    if (rc == EXIT_OK) rc = html_report_add(&c->page, path, &heard, &a, &plots, &note, err);
    plots_free(&plots);
    soundfile_free(&heard);
    return rc;
}

static int write_page(check *c, app_error *err) {
    app_buffer page = {0};
    int rc = html_report_page(&page, &c->page, err);
    if (rc == EXIT_OK) rc = outfile_write(&c->page_file, page.data, page.n, err);
    if (rc == EXIT_OK) rc = outfile_commit(&c->page_file, err);
    app_buffer_free(&page);
    return rc;
}

/* ---- the matrix ----------------------------------------------------------------------------- */

static int do_run(check *c, check_group *g, check_run *run, app_error *err) {
    char why[200];
    int rc = check_run_find(run, &c->setup, g, why, sizeof why, err);
    if (rc != EXIT_OK) return rc;
    c->done++;
    if (why[0] && !c->setup.quiet)
        fprintf(stderr, "moshi: %s is there but %s: it is done again\n", run->where.path, why);
    bool first = !g->codec;
    if (!run->skipped) rc = check_run_make(run, &c->setup, g, err);
    if (rc != EXIT_OK) return rc;
    if (first && !run->skipped && !c->json) print_controls(g);
    c->skipped += run->skipped;
    c->verdicts[run->verdict]++;
    if (!c->json) print_run(c, run);
    rc = add_record(c, run, err);
    if (rc == EXIT_OK && c->page_file.path) rc = add_to_page(c, run, err);
    return rc == EXIT_OK ? app_flush_stdout(err) : rc;
}

static int run_group(check *c, int device, const char *type, app_error *err) {
    check_group g = {.device = c->devices[device]};
    int rc = check_group_set_type(&g, type, err);
    g.v.threads = (int)option_of(c->setup.args, "threads")->integer;
    for (int s = 0; rc == EXIT_OK && s < c->seed_words.n; s++)
        for (int r = 0; rc == EXIT_OK && r < c->n_resamplers; r++) {
            check_run run = {.resampler = c->resamplers[r], .seed = c->seeds[s]};
            rc = do_run(c, &g, &run, err);
            if (rc == EXIT_OK && run.verdict != CHECK_PASS) c->device_passes[device] = false;
            check_run_free(&run);
        }
    check_group_close(&g);
    return rc;
}

static int run_matrix(check *c, app_error *err) {
    int rc = EXIT_OK;
    for (int d = 0; rc == EXIT_OK && d < c->n_devices; d++) {
        c->device_passes[d] = true;
        for (int t = 0; rc == EXIT_OK && t < c->types.n; t++)
            rc = run_group(c, d, c->types.words[t], err);
    }
    if (app_interrupted())
        return app_fail(err, EXIT_SIGNAL + app_interrupted(),
                        "interrupted: %d of %d runs are done and whole, of the next nothing is "
                        "left",
                        (int)json_array_size(c->records), c->runs);
    return rc;
}

/* When nothing had to be done the latest answer may still be missing. */
static int restore_response(const check *c, app_error *err) {
    size_t n = json_array_size(c->records);
    const char *path = text_of(json_array_get(c->records, n - 1), "audio_path");
    if (c->skipped < c->runs || access(EXPERIMENT_RESPONSE, F_OK) == 0) return EXIT_OK;
    sound heard = {0};
    uint64_t clipped;
    int rc = sound_load(&heard, path, 0, err);
    if (rc == EXIT_OK) rc = sound_save(&heard, EXPERIMENT_RESPONSE, &clipped, err);
    sound_free(&heard);
    return rc;
}

/* ---- the conclusion ------------------------------------------------------------------------- */

/* The question of a comparison of backends, in its own words: A, only the other device is wrong;
 * B, both are; C, neither; D, only the CPU is. */
typedef struct conclusion {
    const char *scenario; /* "A", ..., "one device", "invalid" */
    char text[900], next[600];
} conclusion;

static void conclude_one(const check *c, conclusion *out) {
    const char *name = c->devices[0].name;
    bool passes = c->device_passes[0], cpu = !strcmp(c->devices[0].kind, "cpu");
    bool only = device_count() < 2;
    out->scenario = "one device";
    int n = snprintf(out->text, sizeof out->text,
                     "%s %s. Scenario A (the other device is wrong) and scenario B (both are) can "
                     "only be told apart with two. ",
                     only ? "There is one device here:" : "One device was checked:", name);
    snprintf(out->text + n, sizeof out->text - (size_t)n, "%s",
             passes && cpu ? "What is certain: on the CPU the code, the configuration and the "
                             "model file give intact speech. So they are not the cause (scenario B "
                             "is ruled out); a device that garbles the same run is itself at fault "
                             "(scenario A)."
             : passes      ? "What is certain: this device, the code, the configuration and the "
                             "model file give intact speech."
             : cpu         ? "What is certain: the CPU computes by itself, without any driver, and "
                             "its answer fails, so a device is not the only cause (scenario A is "
                             "ruled out): look at the model file, its configuration and the input."
                           : "Whether the device or the model is the cause, the CPU tells.");
    if (!only)
        snprintf(out->next, sizeof out->next, "moshi check --device all");
    else if (passes)
        snprintf(out->next, sizeof out->next,
                 "the same command on the machine with the other device, then there: moshi compare "
                 "cpu DEVICE");
    else
        snprintf(out->next, sizeof out->next,
                 "moshi inspect MODEL (damaged weights? delays?); moshi check --type f32,q8_0 (the "
                 "weights or their format?); moshi check with another model (the model or this "
                 "machine?)");
}

static void conclude_several(const check *c, conclusion *out) {
    bool cpu = false, cpu_good = true, others_pass = json_array_size(c->left_out) == 0;
    for (int i = 0; i < c->n_devices; i++) {
        bool is_cpu = !strcmp(c->devices[i].kind, "cpu");
        cpu |= is_cpu;
        if (c->device_passes[i]) continue;
        if (is_cpu) cpu_good = false;
        if (!is_cpu) others_pass = false;
    }
    if (!cpu) {
        out->scenario = "inconclusive";
        snprintf(out->text, sizeof out->text,
                 "%s, but without the CPU there is nothing to hold them against.",
                 others_pass ? "All devices give intact speech"
                             : "Not all devices give intact speech");
        snprintf(out->next, sizeof out->next, "moshi check --device all");
        return;
    }
    static const struct {
        const char *scenario, *text, *next;
    } cases[2][2] = {
        {{"B",
          "The CPU and another device fail alike: the code, the configuration or the model "
          "file is at fault, not one device.",
          "moshi inspect MODEL (damaged weights? delays?); moshi check --type f32,q8_0; moshi "
          "analyze on both recordings: do they fail in the same way?"},
         {"D", "The CPU's answer fails and the other device's passes.",
          "moshi doctor (is the CPU at fault?); moshi compare cpu DEVICE"}},
        {{"A",
          "The CPU gives intact speech and another device does not: that device, its driver or "
          "its kernels are at fault; the code, the configuration and the model file are not.",
          "moshi doctor and moshi compare cpu DEVICE name the first operation that differs; until "
          "it is mended use the CPU (MOSHI_USE_CPU=1)"},
         {"C", "All devices give intact speech.",
          "if it still sounds wrong, look behind the model: moshi analyze on a recording of what "
          "was heard"}},
    };
    int row = cpu_good, column = others_pass;
    out->scenario = cases[row][column].scenario;
    snprintf(out->text, sizeof out->text, "%s", cases[row][column].text);
    snprintf(out->next, sizeof out->next, "%s", cases[row][column].next);
}

/* Where the CPU's own runs pass, instruments that fail on another device are its fault. */
static bool cpu_passes(const check *c) {
    for (int i = 0; i < c->n_devices; i++)
        if (!strcmp(c->devices[i].kind, "cpu") && c->device_passes[i]) return true;
    return false;
}

static void conclude(const check *c, conclusion *out) {
    if (c->verdicts[CHECK_INVALID] && !cpu_passes(c)) {
        out->scenario = "invalid";
        snprintf(out->text, sizeof out->text,
                 "With this model on this machine the instruments cannot tell speech from broken "
                 "speech: these runs prove nothing, whatever they sound like.");
        snprintf(out->next, sizeof out->next,
                 "moshi codec roundtrip on the input, and listen: if that is broken, the codec's "
                 "file is (moshi inspect); else --input with a clear recording of one voice");
    } else if (c->n_devices == 1 && json_array_size(c->left_out) == 0) {
        conclude_one(c, out);
    } else {
        conclude_several(c, out);
    }
}

/* "name  text", broken into lines. */
static void print_wrapped(const char *name, const char *text) {
    enum { COLUMN = 12, WIDTH = 92 };
    int at = printf("%-*s", COLUMN, name);
    while (*text) {
        int n = (int)strcspn(text, " ");
        if (at > COLUMN && at + 1 + n > WIDTH)
            at = printf("\n%*s", COLUMN, "") - 1;
        else if (at > COLUMN)
            at += printf(" ");
        at += printf("%.*s", n, text);
        text += n;
        text += *text == ' ';
    }
    putchar('\n');
}

static int report(const check *c, app_error *err) {
    conclusion end = {0};
    conclude(c, &end);
    if (c->json)
        return json_print(
            json_pack("{s:i, s:i, s:i, s:i, s:i, s:s, s:s, s:s, s:s, s:O, s:O}", "runs", c->runs,
                      "skipped", c->skipped, "passed", c->verdicts[CHECK_PASS], "failed",
                      c->verdicts[CHECK_FAIL], "invalid", c->verdicts[CHECK_INVALID], "response",
                      EXPERIMENT_RESPONSE, "scenario", end.scenario, "conclusion", end.text, "next",
                      end.next, "records", c->records, "left_out", c->left_out),
            err);
    printf("\n%d runs: %d pass, %d fail, %d invalid; %d of them were there already\n", c->runs,
           c->verdicts[CHECK_PASS], c->verdicts[CHECK_FAIL], c->verdicts[CHECK_INVALID],
           c->skipped);
    print_wrapped("listen", EXPERIMENT_RESPONSE);
    print_wrapped("scenario", end.scenario);
    print_wrapped("conclusion", end.text);
    print_wrapped("next", end.next);
    return app_flush_stdout(err);
}

/* ---- the verb ------------------------------------------------------------------------------- */

static void check_close(check *c) {
    word_list *lists[] = {&c->device_words, &c->types, &c->resampler_words, &c->seed_words};
    for (int i = 0; i < 4; i++) free(lists[i]->text);
    stimulus_free(&c->setup.input);
    model_files_free(&c->setup.files);
    model_choice_free(&c->setup.model);
    json_decref(c->setup.earlier);
    json_decref(c->records);
    json_decref(c->left_out);
    outfile_close(&c->page_file);
    html_report_free(&c->page);
    free(c);
}

static int run(const arguments *args, app_error *err) {
    check *c = calloc(1, sizeof *c);
    if (!c) return app_no_memory(err);
    int rc = choose(c, args, err);
    if (rc == EXIT_OK) rc = prepare(c, err);
    if (rc == EXIT_OK && !c->json) print_head(c);
    if (rc == EXIT_OK) rc = run_matrix(c, err);
    if (rc == EXIT_OK) rc = restore_response(c, err);
    if (rc == EXIT_OK && c->page_file.path) rc = write_page(c, err);
    if (rc == EXIT_OK) rc = report(c, err);
    bool all_pass = c->verdicts[CHECK_PASS] == c->runs && json_array_size(c->left_out) == 0;
    check_close(c);
    if (rc != EXIT_OK) return rc;
    return all_pass ? EXIT_OK : EXIT_FAILED;
}

static const option_spec SPECS[] = {
    MODEL_OPTION,
    {.name = "input",
     .kind = OPTION_TEXT,
     .value = "FILE",
     .help = "what the model hears (default: two questions inside the program)"},
    {.name = "device",
     .kind = OPTION_TEXT,
     .value = "LIST",
     .help = "devices, or all (default: $MOSHI_DEVICE, else the best; $MOSHI_USE_CPU: the CPU)"},
    {.name = "type",
     .kind = OPTION_TEXT,
     .value = "LIST",
     .help = "weight types: stored (as the files are), f32, f16, bf16, q8_0, q6_K, q4_K, q4_0 "
             "(default: stored)"},
    {.name = "resampler",
     .kind = OPTION_TEXT,
     .value = "LIST",
     .help = "configurations by number 1..5 or name; none is the fifth (default: all)"},
    {.name = "seed",
     .kind = OPTION_TEXT,
     .value = "LIST",
     .help = "seeds of the sampling (default: 299792458)"},
    {.name = "rate",
     .kind = OPTION_INTEGER,
     .value = "HZ",
     .min = RESAMPLE_MIN_HZ,
     .max = RESAMPLE_MAX_HZ,
     .help = "rate of the loudspeaker, to which the answer is resampled (default: 44100)"},
    {.name = "path",
     .kind = OPTION_CHOICE,
     .value = "output|both",
     .help = "what goes through the resampler: the answer (default), or also the input, as from a "
             "microphone of that rate"},
    {.name = "tail",
     .kind = OPTION_REAL,
     .value = "seconds",
     .max = 600,
     .help = "silence to listen to after the input, while the model answers (default: 3)"},
    {.name = "fresh",
     .kind = OPTION_FLAG,
     .help = "remove all earlier runs first (only what check wrote)"},
    {.name = "report",
     .kind = OPTION_TEXT,
     .value = "OUT.html",
     .help = "write a page with pictures of what was heard in every run (moshi analyze)"},
    {.name = "json", .kind = OPTION_FLAG, .help = "print all records as JSON"},
    {.name = "quiet", .kind = OPTION_FLAG, .help = "no progress, no notes"},
    THREADS_OPTION,
};

const verb verb_check = {
    .name = "check",
    .usage = "[options]",
    .summary = "the audio test mode: does a model's answer arrive as intact speech?",
    .text =
        "The model hears a recording and answers; the answer is resampled for a loudspeaker and\n"
        "judged as it would be heard. LIST is words between commas: every combination of\n"
        "devices, weight types, resampler configurations and seeds is one run, with a directory\n"
        "of its own under ./tmp/experiments: heard.wav, answer.wav (before the resampler) and\n"
        "record.json, in which every setting, hash, time and score is. ./tmp/moshi-response.wav\n"
        "is what was heard last. A run that was done before with the same inputs is skipped.\n"
        "\n"
        "In every run the instruments prove themselves on controls: the input, and the input\n"
        "through the codec, must pass; the same reversed, shuffled, at a wrong rate, with\n"
        "displaced codebooks, clipped, with dropped and repeated frames must fail. Where they\n"
        "do not, the run is invalid. Exit code 0 when every run passes, 1 when one does not.\n"
        "\n"
        "MOSHI_TEST_MODE=1 moshi --dev is the same. Nothing needs a network.",
    .example = "  moshi check\n"
               "  moshi check --device all --type stored,q8_0 --resampler 1,none --seed 1,2 --json",
    VERB_OPTIONS(SPECS),
    .run = run,
};
