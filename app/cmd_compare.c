/* cmd_compare.c - `moshi compare A B`: which of two is wrong, and where.
 *
 * Both sides, and a reference (the CPU in float32 on the unchanged model), compute the same thing
 * under control; what differs beyond what number formats explain has a name. Then each side's own
 * answer is judged as audio. */
#include "audiofile.h"
#include "difference.h"
#include "json.h"
#include "variant.h"
#include "verb.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_FRAMES = 50 };

typedef struct side {
    variant v;
    recording r;
    difference d; /* from the reference */
    char device[64];
} side;

typedef enum verdict { VERDICT_A, VERDICT_B, VERDICT_C, VERDICT_D, VERDICT_UNCLEAR } verdict;

typedef struct compare {
    const arguments *args;
    model_choice model;
    side reference, a, b;
    difference between; /* of a and b */
    float *pcm;
    size_t samples;
    verdict verdict;
    char reason[640], next[512];
} compare;

/* ---- running -------------------------------------------------------------------------------- */

static int read_input(compare *c, int rate_hz, size_t most, app_error *err) {
    audio_in *in;
    int rc = audio_in_open(&in, option_text(c->args, "input"), err);
    if (rc != EXIT_OK) return rc;
    c->pcm = malloc(most * sizeof *c->pcm);
    rc = c->pcm ? audio_in_set_rate(in, rate_hz, err) : app_no_memory(err);
    audio_in_warn(in);
    if (rc == EXIT_OK) rc = audio_in_read(in, c->pcm, most, &c->samples, err);
    audio_in_close(in);
    return rc;
}

static int run_side(compare *c, side *s, const plan *common, app_error *err) {
    moshi_engine *engine = NULL;
    moshi_engine_info info;
    progress bar;
    int rc = variant_open(&s->v, &c->model, &engine, err);
    if (rc != EXIT_OK) return rc;
    moshi_engine_get_info(engine, &info);
    snprintf(s->device, sizeof s->device, "%s (%s)", info.device, info.kernels);
    if (info.sample_rate_hz == 0)
        rc = app_fail(err, EXIT_MODEL, "%s: has no codec: nothing could be heard", s->v.text);
    size_t frames = option_given(c->args, "frames") ? (size_t)option_of(c->args, "frames")->integer
                                                    : DEFAULT_FRAMES;
    if (rc == EXIT_OK && !c->pcm)
        rc = read_input(c, info.sample_rate_hz, frames * (size_t)info.frame_samples, err);
    progress_start(&bar, option_given(c->args, "quiet"));
    if (rc == EXIT_OK) rc = recording_make(&s->r, engine, c->pcm, c->samples, common, &bar, err);
    progress_clear(&bar);
    moshi_engine_close(engine);
    if (rc == EXIT_OK && c->reference.r.n && s->r.rate_hz != c->reference.r.rate_hz)
        rc = app_fail(err, EXIT_USAGE, "%s: wanted a model at %d Hz, found %d", s->v.text,
                      c->reference.r.rate_hz, s->r.rate_hz);
    return rc;
}

/* ---- verdict -------------------------------------------------------------------------------- */

static bool wrong(const side *s) {
    return s->d.first.found;
}

static bool same_fault(const side *a, const side *b) {
    return !strcmp(a->d.first.tap, b->d.first.tap) && a->d.first.step == b->d.first.step &&
           a->d.first.element == b->d.first.element;
}

static void blame(compare *c, const side *bad, const side *good) {
    const divergence *f = &bad->d.first;
    snprintf(c->reason, sizeof c->reason,
             "%s computes something else than the reference, %s does not; first: %s (%s, step "
             "%" PRId64 ")",
             bad->v.text, good->v.text, f->words, f->tap, f->step);
    if (bad->v.delay >= 0)
        snprintf(c->next, sizeof c->next,
                 "use the delays of the model's own config.json (moshi inspect prints them)");
    else if (bad->v.type || bad->v.path)
        snprintf(c->next, sizeof c->next,
                 "moshi inspect the file; convert it again with --verify, from the published "
                 "weights");
    else
        snprintf(c->next, sizeof c->next,
                 "moshi doctor checks every operation of %s; use %s until it is mended, and send "
                 "the output of doctor with a report",
                 bad->v.text, good->v.text);
}

static void judge(compare *c) {
    bool a = wrong(&c->a), b = wrong(&c->b);
    if (a && !b) {
        c->verdict = VERDICT_A;
        blame(c, &c->a, &c->b);
    } else if (b && !a) {
        c->verdict = VERDICT_D;
        blame(c, &c->b, &c->a);
    } else if (a && same_fault(&c->a, &c->b)) {
        c->verdict = VERDICT_B;
        snprintf(c->reason, sizeof c->reason,
                 "both compute the same wrong thing; first: %s (%s, step %" PRId64 ")",
                 c->a.d.first.words, c->a.d.first.tap, c->a.d.first.step);
        snprintf(c->next, sizeof c->next,
                 "look at what they share: the model's files (moshi inspect) and its config.json");
    } else if (a) {
        c->verdict = VERDICT_UNCLEAR;
        snprintf(c->reason, sizeof c->reason,
                 "both differ from the reference, each in its own way; first: %s (%s) and %s (%s)",
                 c->a.d.first.words, c->a.d.first.tap, c->b.d.first.words, c->b.d.first.tap);
        snprintf(c->next, sizeof c->next, "compare each of them with cpu+exact alone");
    } else {
        c->verdict = VERDICT_C;
        snprintf(c->reason, sizeof c->reason,
                 "both compute what the reference computes, within what their number formats "
                 "explain");
        snprintf(c->next, sizeof c->next,
                 "if it still sounds wrong, look outside the model: moshi analyze the recording "
                 "that was heard (rate, sample format, dropped frames)");
    }
}

static const char *const VERDICT_WORDS[] = {
    "A: the first one is wrong",
    "B: both are wrong in the same way",
    "C: both are fine",
    "D: the second one is wrong",
    "inconclusive",
};

/* ---- output --------------------------------------------------------------------------------- */

static void print_difference(const difference *d) {
    if (d->first.found && d->first.allowed > 0)
        printf("    first: %s\n           tap %s, step %" PRId64
               ": relative error %.2g%s, explained %.2g;\n           element %zu: wanted %g, found "
               "%g\n",
               d->first.words, d->first.tap, d->first.step, d->first.error,
               d->first.one_element ? " of one element" : "", d->first.allowed, d->first.element,
               d->first.wanted, d->first.got);
    else if (d->first.found)
        printf("    first: %s\n           tap %s, step %" PRId64
               ", element %zu: wanted %.0f, found %.0f\n",
               d->first.words, d->first.tap, d->first.step, d->first.element, d->first.wanted,
               d->first.got);
    printf("    codes equal %.2f %%, hidden state within %.2g, logits: cosine %.6f\n",
           100 * d->codes_equal, d->hidden_error, d->cosine);
    printf("    KL text %.2g, audio %.2g; same first choice %.1f %% and %.1f %%\n", d->kl_text,
           d->kl_audio, 100 * d->top1_text, 100 * d->top1_audio);
    if (isinf(d->pcm_snr_db))
        printf("    decoded audio equal");
    else
        printf("    decoded audio: SNR %.1f dB", d->pcm_snr_db);
    if (d->parted < 0)
        printf("; left alone, every token equal\n");
    else
        printf("; left alone, %.1f %% of tokens equal, first other one at step %" PRId64 "\n",
               100 * d->tokens_equal, d->parted);
}

static void print_side(const char *letter, const side *s) {
    const difference *d = &s->d;
    printf("%s  %s on %s: %s\n", letter, s->v.text, s->device,
           wrong(s) ? "differs from the reference"
                    : "equals the reference within its number formats");
    print_difference(d);
    printf("    says: %s\n", s->r.words.n ? s->r.words.data : "(nothing)");
}

static void print_words(const compare *c) {
    printf("reference  %s on %s, %zu frames\n    says: %s\n", c->reference.v.text,
           c->reference.device, c->samples / 1920 + (c->samples % 1920 != 0),
           c->reference.r.words.n ? c->reference.r.words.data : "(nothing)");
    print_side("A", &c->a);
    print_side("B", &c->b);
    printf("A against B\n");
    print_difference(&c->between);
    printf("\nverdict  %s\nreason   %s\nnext     %s\n", VERDICT_WORDS[c->verdict], c->reason,
           c->next);
}

static json_t *difference_json(const difference *d) {
    json_t *o = json_object();
    json_object_set_new(o, "codes_equal", json_real(d->codes_equal));
    json_object_set_new(o, "hidden_error", json_real(d->hidden_error));
    json_object_set_new(o, "logit_cosine", json_real(d->cosine));
    json_object_set_new(o, "kl_text", json_real(d->kl_text));
    json_object_set_new(o, "kl_audio", json_real(d->kl_audio));
    json_object_set_new(o, "top1_text", json_real(d->top1_text));
    json_object_set_new(o, "top1_audio", json_real(d->top1_audio));
    json_object_set_new(o, "pcm_snr_db",
                        isinf(d->pcm_snr_db) ? json_null() : json_real(d->pcm_snr_db));
    json_object_set_new(o, "free_tokens_equal", json_real(d->tokens_equal));
    json_object_set_new(o, "free_first_other_step", json_integer(d->parted));
    if (d->first.found) {
        json_t *f = json_object();
        json_object_set_new(f, "tap", json_string(d->first.tap));
        json_object_set_new(f, "operation", json_string(d->first.words));
        json_object_set_new(f, "step", json_integer(d->first.step));
        json_object_set_new(f, "element", json_integer((json_int_t)d->first.element));
        json_object_set_new(f, "wanted", json_real(d->first.wanted));
        json_object_set_new(f, "found", json_real(d->first.got));
        json_object_set_new(f, "error",
                            isfinite(d->first.error) ? json_real(d->first.error) : json_null());
        json_object_set_new(f, "explained", json_real(d->first.allowed));
        json_object_set_new(o, "first_divergence", f);
    }
    return o;
}

static json_t *side_json(const side *s) {
    json_t *o = json_object();
    json_object_set_new(o, "what", json_text(s->v.text));
    json_object_set_new(o, "device", json_text(s->device));
    json_object_set_new(o, "words", json_text(s->r.words.n ? s->r.words.data : ""));
    json_object_set_new(o, "wrong", json_boolean(wrong(s)));
    json_object_set_new(o, "against_reference", difference_json(&s->d));
    return o;
}

static int print_json(const compare *c, app_error *err) {
    static const char *const letters[] = {"A", "B", "C", "D", "inconclusive"};
    json_t *root = json_object();
    json_object_set_new(root, "verdict", json_string(letters[c->verdict]));
    json_object_set_new(root, "words", json_string(VERDICT_WORDS[c->verdict]));
    json_object_set_new(root, "reason", json_text(c->reason));
    json_object_set_new(root, "next", json_text(c->next));
    json_object_set_new(root, "a", side_json(&c->a));
    json_object_set_new(root, "b", side_json(&c->b));
    json_object_set_new(root, "a_against_b", difference_json(&c->between));
    return json_print(root, err);
}

/* ---- the verb ------------------------------------------------------------------------------- */

static int compare_all(compare *c, app_error *err) {
    int rc = variant_parse(&c->reference.v, "cpu+exact", err);
    if (rc == EXIT_OK) rc = variant_parse(&c->a.v, c->args->positional[0], err);
    if (rc == EXIT_OK) rc = variant_parse(&c->b.v, c->args->positional[1], err);
    if (rc == EXIT_OK) rc = model_locate(&c->model, c->args, false, err);
    if (rc == EXIT_OK) rc = run_side(c, &c->reference, NULL, err);
    if (rc == EXIT_OK) rc = run_side(c, &c->a, &c->reference.r.chosen, err);
    if (rc == EXIT_OK) rc = run_side(c, &c->b, &c->reference.r.chosen, err);
    if (rc != EXIT_OK) return rc;
    double ea = c->a.v.weight_error, eb = c->b.v.weight_error;
    difference_of(&c->a.d, &c->reference.r, &c->a.r, ea);
    difference_of(&c->b.d, &c->reference.r, &c->b.r, eb);
    difference_of(&c->between, &c->a.r, &c->b.r, ea > eb ? ea : eb);
    judge(c);
    return EXIT_OK;
}

static void close_side(side *s) {
    variant_close(&s->v);
    recording_free(&s->r);
}

static int run(const arguments *args, app_error *err) {
    if (args->n_positional < 2)
        return app_fail(err, EXIT_USAGE, "compare: what with what? moshi compare cpu q8_0");
    if (!option_given(args, "input"))
        return app_fail(err, EXIT_USAGE, "compare: --input is missing: a recording of speech");
    compare c = {.args = args, .model = model_choose(option_text(args, "model"))};
    int rc = compare_all(&c, err);
    if (rc == EXIT_OK && option_given(args, "json"))
        rc = print_json(&c, err);
    else if (rc == EXIT_OK)
        print_words(&c);
    bool fine = c.verdict == VERDICT_C;
    close_side(&c.reference);
    close_side(&c.a);
    close_side(&c.b);
    model_choice_free(&c.model);
    free(c.pcm);
    if (rc != EXIT_OK) return rc;
    return fine ? EXIT_OK : EXIT_FAILED;
}

static const option_spec SPECS[] = {
    MODEL_OPTION,
    {.name = "input", .kind = OPTION_TEXT, .value = "FILE", .help = "the recording both listen to"},
    {.name = "frames",
     .kind = OPTION_INTEGER,
     .value = "N",
     .min = 2,
     .max = 100000,
     .help = "how much of it, in frames of 80 ms (default 50)"},
    {.name = "json", .kind = OPTION_FLAG, .help = "the same facts for programs"},
    {.name = "quiet", .kind = OPTION_FLAG, .help = "no progress"},
};

const verb verb_compare = {
    .name = "compare",
    .usage = "A B --input FILE [options]",
    .summary = "which of two devices, formats, settings or models is wrong, and where",
    .text = "A and B are words joined by '+': a device (cpu), a number format to convert the\n"
            "model to (f32 f16 bf16 q8_0 q6_K q4_K q4_0), exact, delay=N (of the acoustic\n"
            "codebooks), threads=N, or the path of another model. Both, and a reference (the\n"
            "CPU in float32 on the unchanged model), first compute the same thing under\n"
            "control: same codes, same tokens. The first operation, layer and step that differs\n"
            "by more than the number formats explain is named. Then each is left alone.\n"
            "\n"
            "Verdict A: the first is wrong; B: both, in the same way; C: both are fine (exit\n"
            "code 0; else 1); D: the second is wrong; or inconclusive, with what is missing.",
    .example = "  moshi compare cpu q4_K --input question.wav\n"
               "  moshi compare cpu delay=2 --input question.wav --json",
    VERB_OPTIONS(SPECS),
    .max_positional = 2,
    .run = run,
};
