/* cmd_compare.c - `moshi compare A B`: which of two is wrong, and where.
 *
 * Both sides, and a reference (the CPU in float32 on the unchanged model), compute the same thing
 * under control; what differs beyond what number formats explain has a name. Then each side's own
 * answer is judged as audio. */
#include "json.h"
#include "modelfiles.h"
#include "side.h"
#include "soundpair.h"
#include "verb.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_FRAMES = 50 };
static const double DEFAULT_HEAR_S = 30, DEFAULT_TAIL_S = 3;

typedef enum verdict { VERDICT_A, VERDICT_B, VERDICT_C, VERDICT_D, VERDICT_UNCLEAR } verdict;

typedef struct compare {
    const arguments *args;
    side_setup setup;
    side reference, a, b;
    bool pair;          /* there is a second side */
    bool sounds;        /* both are recordings */
    difference between; /* of a and b */
    witness instruments;
    gains gains; /* of the model's codec */
    verdict verdict;
    char reason[1400], next[640];
} compare;

/* ---- verdict -------------------------------------------------------------------------------- */

static bool wrong(const side *s) {
    return s->d.first.found;
}

static bool broken(const side *s) {
    return s->sound.kind == EVIDENCE_BROKEN;
}

static bool speaks(const side *s) {
    return s->sound.kind == EVIDENCE_SPEECH;
}

static bool same_fault(const side *a, const side *b) {
    return !strcmp(a->d.first.tap, b->d.first.tap) && a->d.first.step == b->d.first.step &&
           a->d.first.element == b->d.first.element;
}

/* `bad` differs from the reference, `good` does not. */
static void blame(compare *c, const side *bad, const side *good) {
    const divergence *f = &bad->d.first;
    snprintf(c->reason, sizeof c->reason,
             "%s computes something else than the reference, %s does not; first: %s (%s, step "
             "%" PRId64 ")",
             bad->v.text, good->v.text, f->words, f->tap, f->step);
    if (bad->v.delay >= 0)
        snprintf(c->next, sizeof c->next,
                 "use the delays of the model's own config.json (moshi inspect prints them)");
    else if (bad->traced)
        snprintf(c->next, sizeof c->next,
                 "moshi doctor on the machine and with the build it was recorded with: %s, on %s",
                 bad->facts.build, bad->facts.device);
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

/* What inspect has to say against the model's files; "" when nothing. */
static void inspect_files(side_setup *s, char *out, size_t cap) {
    moshi_model_info *info;
    moshi_error why;
    moshi_inspect_options options = {.model = s->model.path,
                                     .blobs = s->model.path ? NULL : s->model.blobs,
                                     .n_blobs = s->model.path ? 0 : s->model.n_blobs,
                                     .finder = {hub_look_up, &s->model.lookup}};
    out[0] = 0;
    if (moshi_inspect(&info, &options, &why) < 0) return;
    if (info->n_findings)
        snprintf(out, cap, "moshi inspect finds: %.300s; ", info->findings[0].text);
    moshi_model_info_free(info);
}

/* What to do about files that give no speech on any device. */
static void advise_files(compare *c, const evidence *e) {
    char found[340];
    inspect_files(&c->setup, found, sizeof found);
    const char *path = c->setup.model.path;
    int delay = e->fault ? c->reference.delay - e->fault->delay : 0;
    if (e->fault && e->fault->delay)
        snprintf(c->next, sizeof c->next,
                 "compare 'delays' in config.json with those of the model's own: of the acoustic "
                 "codebooks they are %d and should probably be %d; to prove it: moshi compare cpu "
                 "cpu,delay=%d%s%.300s",
                 c->reference.delay, delay, delay, path ? " -m " : "", path ? path : "");
    else if (e->fault)
        snprintf(c->next, sizeof c->next,
                 "whoever converted the model put its codebooks in another order; convert it again "
                 "from the published weights");
    else
        snprintf(c->next, sizeof c->next,
                 "%slook at what they share: moshi inspect the model's files, compare config.json "
                 "with the published one, moshi check with another model (without -m: the one "
                 "inside the program)",
                 found);
}

/* The reference follows the model's files, and what it says is no speech; `other` differs from it
 * and speaks: the files are wrong, and `same`, which follows them, with them. */
static void blame_files(compare *c, const side *same, const side *other) {
    snprintf(c->reason, sizeof c->reason,
             "%s computes what the model's files say, and that is no speech: %s; %s computes "
             "something else (first: %s) and speaks",
             same->v.text, c->reference.sound.words, other->v.text, other->d.first.words);
    advise_files(c, &c->reference.sound);
}

static void judge_one(compare *c, const side *bad, const side *good, verdict whose,
                      verdict the_other) {
    if (broken(&c->reference) && speaks(bad)) {
        c->verdict = the_other;
        blame_files(c, good, bad);
    } else {
        c->verdict = whose;
        blame(c, bad, good);
    }
}

/* Both differ from the reference. */
static void judge_both(compare *c) {
    const side *a = &c->a, *b = &c->b;
    if (broken(&c->reference) && speaks(a) && speaks(b)) {
        c->verdict = VERDICT_C;
        snprintf(c->reason, sizeof c->reason,
                 "both speak; they differ from the model's files, and these give no speech: %s",
                 c->reference.sound.words);
        advise_files(c, &c->reference.sound);
    } else if (same_fault(a, b)) {
        c->verdict = VERDICT_B;
        snprintf(c->reason, sizeof c->reason,
                 "both compute the same wrong thing; first: %s (%s, step %" PRId64 ")",
                 a->d.first.words, a->d.first.tap, a->d.first.step);
        snprintf(c->next, sizeof c->next,
                 "look at what they share: the model's files (moshi inspect) and its config.json");
    } else {
        c->verdict = VERDICT_UNCLEAR;
        snprintf(c->reason, sizeof c->reason,
                 "both differ from the reference, each in its own way; first: %s (%s) and %s (%s)",
                 a->d.first.words, a->d.first.tap, b->d.first.words, b->d.first.tap);
        snprintf(c->next, sizeof c->next,
                 "compare each of them with the reference alone: moshi compare cpu+exact %s",
                 a->v.text);
    }
}

/* One of them is no speech, although every operation is as exact as its format is. */
static void judge_sound_of(compare *c, const side *bad, const side *good, verdict whose) {
    c->verdict = whose;
    snprintf(c->reason, sizeof c->reason,
             "%s computes what the reference computes as exactly as its number formats allow, but "
             "what it says is no speech: %s; %s speaks",
             bad->v.text, bad->sound.words, good->v.text);
    snprintf(c->next, sizeof c->next,
             "its number format is too coarse for this model: take a finer one (moshi convert "
             "--type), and moshi check --type to see that it speaks");
}

/* Both compute what the reference computes: is that speech? */
static void judge_equal(compare *c) {
    const side *a = &c->a, *b = &c->b, *r = &c->reference;
    if (c->instruments.codec_broken) {
        c->verdict = VERDICT_B;
        snprintf(c->reason, sizeof c->reason,
                 "both compute the same, and no speech can come of it: recordings that are known "
                 "to be clear do not survive the model's codec (%s)",
                 c->instruments.controls.wrong);
        snprintf(c->next, sizeof c->next,
                 "the file of the codec (Mimi) is damaged or another model's: moshi inspect it, "
                 "get it again, then moshi codec roundtrip FILE");
    } else if (broken(r) || (broken(a) && broken(b))) {
        const evidence *e = broken(r) ? &r->sound : &a->sound;
        c->verdict = VERDICT_B;
        snprintf(c->reason, sizeof c->reason,
                 "both compute the same as the reference, and what comes of it is no speech: %s",
                 e->words);
        advise_files(c, e);
    } else if (broken(a)) {
        judge_sound_of(c, a, b, VERDICT_A);
    } else if (broken(b)) {
        judge_sound_of(c, b, a, VERDICT_D);
    } else if (!speaks(a) || !speaks(b)) {
        const side *mute = speaks(a) ? b : a;
        c->verdict = VERDICT_UNCLEAR;
        snprintf(c->reason, sizeof c->reason,
                 "both compute what the reference computes, within what their number formats "
                 "explain; whether that is speech cannot be told of %s: %s",
                 mute->v.text, mute->sound.words);
        snprintf(c->next, sizeof c->next,
                 "let it hear and say more: a longer --input, --hear and --tail; moshi check lets "
                 "it choose at random");
    } else {
        c->verdict = VERDICT_C;
        snprintf(c->reason, sizeof c->reason,
                 "both compute what the reference computes, within what their number formats "
                 "explain, and what they say is speech");
        snprintf(c->next, sizeof c->next,
                 "if it still sounds wrong, look outside the model: moshi analyze the recording "
                 "that was heard (rate, sample format, dropped frames)");
    }
}

static void judge(compare *c) {
    bool a = wrong(&c->a), b = wrong(&c->b);
    if (a && b)
        judge_both(c);
    else if (a)
        judge_one(c, &c->a, &c->b, VERDICT_A, VERDICT_D);
    else if (b)
        judge_one(c, &c->b, &c->a, VERDICT_D, VERDICT_A);
    else
        judge_equal(c);
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

static void print_said(const side *s) {
    static const char *const kinds[] = {"cannot be judged", "passes", "is BROKEN"};
    printf("    says: ");
    app_print_clean(stdout, s->r.words.n ? s->r.words.data : "(nothing)");
    printf("\n    its sound %s: %s\n", kinds[s->sound.kind], s->sound.words);
}

static void print_side(const char *letter, const side *s) {
    printf("%s  ", letter);
    app_print_clean(stdout, s->v.text);
    if (s->traced) {
        printf(", recorded by %s: ", s->facts.build);
        app_print_clean(stdout, s->facts.side);
    }
    printf(" on ");
    app_print_clean(stdout, s->facts.device);
    printf(": %s\n", wrong(s) ? "differs from the reference"
                              : "equals the reference within its number formats");
    print_difference(&s->d);
    print_said(s);
}

static void print_verdict(const compare *c) {
    printf("\nverdict  %s\nreason   %s\nnext     %s\n", VERDICT_WORDS[c->verdict], c->reason,
           c->next);
}

static void print_words(const compare *c) {
    const stimulus *in = &c->setup.input;
    printf("input      %s, %.2f s; %zu frames of it number by number\n", in->source,
           (double)in->sound.n / in->sound.rate_hz, c->setup.frames);
    printf("model      %s\n", c->setup.model.name);
    if (c->instruments.examined)
        printf("codec      %s\n", c->instruments.codec_broken
                                      ? "BROKEN: clear speech does not survive it"
                                      : "clear speech survives it, broken speech is told apart");
    printf("reference  %s on %s\n", c->reference.v.text, c->reference.facts.device);
    print_said(&c->reference);
    print_side("A", &c->a);
    if (!c->pair) return;
    print_side("B", &c->b);
    printf("A against B\n");
    print_difference(&c->between);
    print_verdict(c);
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
    json_object_set_new(o, "recorded_side", s->traced ? json_text(s->facts.side) : json_null());
    json_object_set_new(o, "device", json_text(s->facts.device));
    json_object_set_new(o, "build", json_text(s->facts.build));
    json_object_set_new(o, "words", json_text(s->r.words.n ? s->r.words.data : ""));
    json_object_set_new(o, "sound", evidence_json(&s->sound));
    json_object_set_new(o, "explained_error", json_real(s->v.error.model));
    json_object_set_new(o, "explained_codec_error", json_real(s->v.error.codec));
    json_object_set_new(o, "seconds", s->traced ? json_null() : json_real(s->r.seconds));
    json_object_set_new(o, "wrong", json_boolean(wrong(s)));
    json_object_set_new(o, "against_reference", difference_json(&s->d));
    return o;
}

static json_t *input_json(const compare *c) {
    const stimulus *in = &c->setup.input;
    return json_pack("{s:o, s:s, s:f, s:I}", "source", json_text(in->source), "sha256", in->sha256,
                     "seconds", (double)in->sound.n / in->sound.rate_hz, "frames_compared",
                     (json_int_t)c->setup.frames);
}

static void add_verdict(json_t *root, const compare *c) {
    static const char *const letters[] = {"A", "B", "C", "D", "inconclusive"};
    json_object_set_new(root, "verdict", json_string(letters[c->verdict]));
    json_object_set_new(root, "words", json_string(VERDICT_WORDS[c->verdict]));
    json_object_set_new(root, "reason", json_text(c->reason));
    json_object_set_new(root, "next", json_text(c->next));
}

static int print_json(const compare *c, app_error *err) {
    json_t *root = json_object();
    json_object_set_new(root, "model", json_text(c->setup.model.name));
    if (c->setup.model_sha256[0])
        json_object_set_new(root, "model_sha256", json_string(c->setup.model_sha256));
    json_object_set_new(root, "input", input_json(c));
    json_object_set_new(root, "codec", witness_json(&c->instruments));
    json_object_set_new(root, "reference", side_json(&c->reference));
    json_object_set_new(root, "a", side_json(&c->a));
    if (c->pair) {
        json_object_set_new(root, "b", side_json(&c->b));
        json_object_set_new(root, "a_against_b", difference_json(&c->between));
        add_verdict(root, c);
    }
    return json_print(root, err);
}

/* ---- from the words to the verdict ---------------------------------------------------------- */

/* Hashing the files of a large model takes a while; only traces need it. */
static int hash_model(compare *c, app_error *err) {
    side_setup *s = &c->setup;
    model_files files;
    bool traces = option_given(c->args, "record");
    for (int i = 0; i < c->args->n_positional; i++) traces |= tracefile_is(c->args->positional[i]);
    if (!traces) return EXIT_OK;
    int rc = model_files_hash(&files, &s->model, s->quiet, err);
    memcpy(s->model_sha256, files.sha256, sizeof files.sha256);
    model_files_free(&files);
    return rc;
}

static int parse_sides(compare *c, app_error *err) {
    side_setup *s = &c->setup;
    const char *const *text = c->args->positional;
    int rc = model_locate(&s->model, c->args, s->quiet, err);
    if (rc == EXIT_OK) rc = hash_model(c, err);
    if (rc == EXIT_OK) rc = side_parse(&c->reference, s, "cpu+exact", err);
    if (rc == EXIT_OK) rc = side_parse(&c->a, s, text[0], err);
    if (rc == EXIT_OK && c->pair) rc = side_parse(&c->b, s, text[1], err);
    return rc;
}

/* An answer that is the reference's to the last bit needs no judging of its own. */
static int hear(compare *c, side *s, app_error *err) {
    const recording *a = &c->reference.r, *b = &s->r;
    bool same = s != &c->reference && a->audio.n == b->audio.n && a->spoken.n == b->spoken.n &&
                (!a->audio.n || !memcmp(a->audio.data, b->audio.data, a->audio.n)) &&
                (!a->spoken.n || !memcmp(a->spoken.data, b->spoken.data, a->spoken.n));
    if (!same) return witness_hear(&s->sound, &c->instruments, b, err);
    s->sound = c->reference.sound;
    return EXIT_OK;
}

static int measure(compare *c, app_error *err) {
    side *sides[] = {&c->reference, &c->a, &c->b};
    int n = c->pair ? 3 : 2, rc = EXIT_OK;
    for (int i = 0; rc == EXIT_OK && i < n; i++) rc = side_run(sides[i], &c->setup, err);
    if (rc == EXIT_OK)
        rc = witness_open(&c->instruments, &c->setup.model, c->setup.common.channels - 1, err);
    if (rc == EXIT_OK) rc = gains_measure(&c->gains, c->instruments.codec, err);
    for (int i = 0; rc == EXIT_OK && i < n; i++) {
        rc = hear(c, sides[i], err);
        if (i)
            difference_of(&sides[i]->d, &c->reference.r, &sides[i]->r, sides[i]->v.error,
                          &c->gains);
    }
    if (rc != EXIT_OK || !c->pair) return rc;
    explained a = c->a.v.error, b = c->b.v.error;
    explained both = {fmax(a.model, b.model), fmax(a.codec, b.codec)};
    difference_of(&c->between, &c->a.r, &c->b.r, both, &c->gains);
    /* It takes a while, and decides only when the numbers do not. */
    if (!wrong(&c->a) && !wrong(&c->b)) rc = witness_examine(&c->instruments, c->setup.quiet, err);
    if (rc == EXIT_OK) judge(c);
    return rc;
}

/* --record writes what the first side computed. */
static int record(const compare *c, app_error *err) {
    const char *path = option_text(c->args, "record");
    if (!path) return EXIT_OK;
    int rc =
        tracefile_write(path, c->setup.input_path, &c->a.facts, &c->a.r, &c->setup.common, err);
    if (rc == EXIT_OK && !c->setup.quiet)
        fprintf(stderr, "moshi: %s: what %s computed\n", path, c->a.v.text);
    return rc;
}

/* ---- two recordings ------------------------------------------------------------------------- */

/* Below it, two recordings share no words: others reach 0.27, the same voice in noise 0.46. */
#define UNLIKE_ESTOI 0.3

static bool heard_wrong(const pair_side *s) {
    return !analysis_passes(&s->found);
}

static const char *fault_of(const pair_side *s) {
    const findings *f = &s->found.found;
    return f->n ? finding_name(f->list[0].kind) : analysis_verdict_name(s->found.verdict);
}

static void judge_sounds(compare *c, const sound_pair *p) {
    const pair_side *a = &p->a, *b = &p->b;
    bool short_one = a->found.verdict == VERDICT_TOO_SHORT || b->found.verdict == VERDICT_TOO_SHORT;
    snprintf(c->next, sizeof c->next,
             "moshi analyze on each tells more; --reference lays one on the other");
    if (heard_wrong(a) && heard_wrong(b)) {
        bool same = !strcmp(fault_of(a), fault_of(b));
        c->verdict = same ? VERDICT_B : VERDICT_UNCLEAR;
        snprintf(c->reason, sizeof c->reason, "neither is intact speech: %s%s%s", fault_of(a),
                 same ? "" : "; ", same ? "" : fault_of(b));
        snprintf(
            c->next, sizeof c->next,
            "moshi check, and moshi compare of two devices: is it what the model says, or what "
            "is done to it afterwards?");
    } else if (heard_wrong(a) || heard_wrong(b)) {
        const pair_side *bad = heard_wrong(a) ? a : b, *good = heard_wrong(a) ? b : a;
        c->verdict = heard_wrong(a) ? VERDICT_A : VERDICT_D;
        snprintf(c->reason, sizeof c->reason, "%.300s: %s; nothing is wrong with %.300s", bad->path,
                 fault_of(bad), good->path);
    } else if (short_one) {
        c->verdict = VERDICT_UNCLEAR;
        snprintf(c->reason, sizeof c->reason, "one is too short to be judged");
        snprintf(c->next, sizeof c->next, "longer recordings");
    } else {
        c->verdict = VERDICT_C;
        bool unlike = p->laid && p->alike.understood && p->alike.estoi < UNLIKE_ESTOI;
        snprintf(c->reason, sizeof c->reason, "nothing is wrong with either%s",
                 p->equal ? ", and they are the same"
                 : unlike ? ", but they do not say the same"
                          : "");
    }
}

static int compare_sounds(compare *c, app_error *err) {
    sound_pair p = {0};
    int rc = sound_pair_measure(&p, c->args->positional[0], c->args->positional[1], err);
    if (rc == EXIT_OK) judge_sounds(c, &p);
    if (rc == EXIT_OK && option_given(c->args, "json")) {
        json_t *root = json_object();
        sound_pair_json(root, &p);
        add_verdict(root, c);
        rc = json_print(root, err);
    } else if (rc == EXIT_OK) {
        sound_pair_print(&p);
        print_verdict(c);
    }
    sound_pair_free(&p);
    if (rc != EXIT_OK) return rc;
    return c->verdict == VERDICT_C ? EXIT_OK : EXIT_FAILED;
}

/* How many of the sides are recordings? */
static int count_sounds(const arguments *args) {
    int n = 0;
    for (int i = 0; i < args->n_positional; i++) n += sound_pair_is_sound(args->positional[i]);
    return n;
}

/* ---- the verb ------------------------------------------------------------------------------- */

static int check_arguments(compare *c, app_error *err) {
    const arguments *args = c->args;
    const char *path = option_text(args, "record");
    if (args->n_positional < 1 || (args->n_positional < 2 && !path))
        return app_fail(err, EXIT_USAGE, "compare: what with what? moshi compare cpu q8_0");
    c->pair = args->n_positional > 1;
    int sounds = count_sounds(args);
    if (sounds == 1 || (sounds && path))
        return app_fail(err, EXIT_USAGE,
                        "compare: a recording can only be compared with another recording; what a "
                        "device computes is recorded with --record, what it says with moshi reply");
    c->sounds = sounds > 0;
    return path ? model_check_output(args, path, NULL, err) : EXIT_OK;
}

static int run(const arguments *args, app_error *err) {
    compare c = {.args = args};
    side_setup *s = &c.setup;
    int rc = check_arguments(&c, err);
    if (rc != EXIT_OK) return rc;
    if (c.sounds) return compare_sounds(&c, err);
    s->model = model_choose(option_text(args, "model"));
    s->input_path = option_text(args, "input");
    s->hear_s = option_given(args, "hear") ? option_of(args, "hear")->real : DEFAULT_HEAR_S;
    s->tail_s = option_given(args, "tail") ? option_of(args, "tail")->real : DEFAULT_TAIL_S;
    s->frames =
        option_given(args, "frames") ? (size_t)option_of(args, "frames")->integer : DEFAULT_FRAMES;
    s->quiet = option_given(args, "quiet");
    rc = parse_sides(&c, err);
    if (rc == EXIT_OK) rc = measure(&c, err);
    if (rc == EXIT_OK) rc = record(&c, err);
    if (rc == EXIT_OK && option_given(args, "json"))
        rc = print_json(&c, err);
    else if (rc == EXIT_OK)
        print_words(&c);
    bool fine = !c.pair || c.verdict == VERDICT_C;
    side_free(&c.reference);
    side_free(&c.a);
    side_free(&c.b);
    witness_close(&c.instruments);
    gains_free(&c.gains);
    side_setup_free(s);
    if (rc != EXIT_OK) return rc;
    return fine ? EXIT_OK : EXIT_FAILED;
}

static const option_spec SPECS[] = {
    MODEL_OPTION,
    {.name = "input",
     .kind = OPTION_TEXT,
     .value = "FILE",
     .help = "the recording all listen to (default: two questions inside the program, 10.4 s)"},
    {.name = "hear",
     .kind = OPTION_REAL,
     .value = "SECONDS",
     .min = 0.2,
     .max = 3600,
     .help = "of it at most (default 30)"},
    {.name = "tail",
     .kind = OPTION_REAL,
     .value = "SECONDS",
     .min = 0,
     .max = 600,
     .help = "silence after it, in which they answer (default 3)"},
    {.name = "frames",
     .kind = OPTION_INTEGER,
     .value = "N",
     .min = 2,
     .max = 100000,
     .help = "how much is compared number by number, in frames of 80 ms (default 50)"},
    {.name = "record",
     .kind = OPTION_TEXT,
     .value = "FILE",
     .help = "write what A computed, to be compared with other builds or machines; B may be "
             "missing"},
    {.name = "json", .kind = OPTION_FLAG, .help = "the same facts for programs"},
    {.name = "quiet", .kind = OPTION_FLAG, .help = "no progress"},
};

const verb verb_compare = {
    .name = "compare",
    .usage = "A B [options]",
    .summary = "which of two devices, formats, settings or builds is wrong, and where",
    .text = "A and B are ways to compute: words joined by '+' or ',': a device (cpu), a number\n"
            "format to convert the model to (f32 f16 bf16 q8_0 q6_K q4_K q4_0), exact,\n"
            "kv=f32|bf16|q8_0, delay=N (of the acoustic codebooks), threads=N, or the path of\n"
            "another model; or a file that --record has written. Both, and a reference (the CPU\n"
            "in float32 on the unchanged model), first compute the same thing under control: same\n"
            "codes, same tokens. The first operation, layer and step that differs by more than\n"
            "the number formats explain is named. Then each is left alone, and what it says is\n"
            "judged as check does. Or A and B are two recordings: what is each, and is one the\n"
            "other?\n"
            "\n"
            "Verdict A: the first is wrong; B: both, in the same way (code, configuration or the\n"
            "model's files); C: both are fine; D: the second is wrong; inconclusive, with what is\n"
            "missing. Exit code 0 for C, 1 for the others.",
    .example = "  moshi compare cpu q4_K\n"
               "  moshi compare cpu cpu,delay=2 --input question.wav --json\n"
               "  moshi compare --record old.trace cpu; moshi compare old.trace cpu\n"
               "  moshi compare answer.wav played.wav",
    VERB_OPTIONS(SPECS),
    .max_positional = 2,
    .run = run,
};
