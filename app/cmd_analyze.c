/* cmd_analyze.c - `moshi analyze`: is a recording intact speech, and if not, what happened to it?
 */
#include "analyze.h"
#include "json.h"
#include "model.h"
#include "report.h"
#include "soundfile.h"
#include "verb.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Hypotheses less likely than this are not worth a line. */
static const double WORTH_SAYING = 0.05;

/* ---- for people ----------------------------------------------------------------------------- */

static void print_finding(const finding *f) {
    printf("  %3.0f %%     %s [%s]\n            %s\n", 100 * f->confidence, finding_name(f->kind),
           finding_id(f->kind), f->evidence);
}

static void print_facts(const analysis *a, const soundfile *r) {
    const level_facts *l = &a->level;
    const voice_facts *v = &a->voice;
    printf("  file      %s, %d Hz, %d channel%s, %.2f s%s\n", r->facts.format, r->facts.rate_hz,
           r->facts.channels, r->facts.channels == 1 ? "" : "s", a->seconds,
           r->whole ? "" : " examined, it is longer");
    printf("  level     peak %.3f, %.1f dB, background %.1f dB, sounding %.0f %%, %d pauses\n",
           l->peak, l->active_db, l->noise_db, 100 * l->active_share, l->pauses);
    if (a->verdict != VERDICT_SILENT) {
        printf("  speech    time runs %s (%+.1f), speed %.2f, pitch %.0f Hz, %.0f %% voiced, "
               "syllables at %.1f Hz\n",
               fabs(v->direction) < 2 ? "either way"
               : v->direction > 0     ? "forwards"
                                      : "backwards",
               v->direction, exp2(v->rate_octaves), v->pitch_hz, 100 * v->voiced_share,
               l->modulation_peak_hz);
        printf("  samples   prediction gain %.1f dB, %.1f outliers per second\n",
               a->splice.prediction_gain_db, a->splice.events_per_s);
    }
    printf("  legacy    %d of 100 by four features that cannot tell speech from reversed speech\n",
           l->legacy.points);
}

static void print_likeness(const char *what, const likeness *l) {
    printf("  %-9s SI-SDR %.1f dB, STOI %.3f, ESTOI %.3f, mel-cepstral distance %.1f dB\n", what,
           l->si_sdr_db, l->stoi, l->estoi, l->mel_cepstral_db);
}

static void print_reference(const reference_facts *r) {
    printf("  reference %s; laid at %+.4f s, %+.1f dB%s, %.2f s in common, %.0f %% of it covered\n",
           reference_verdict_name(r->verdict), r->laid.delay_s, r->laid.gain_db,
           r->laid.inverted ? ", upside down" : "", r->laid.common_s, 100 * r->laid.covered);
    print_likeness("as it is", &r->alike);
    for (int i = 0; i < r->n_trials && i < 3; i++) {
        printf("  undone    %s\n", r->trials[i].what);
        print_likeness("", &r->trials[i].alike);
    }
    if (r->n_pieces)
        printf(
            "  pieces    %.0f %% of %d occur in the reference, %.0f %% of those follow each other "
            "there\n",
            100 * r->found, r->n_pieces, 100 * r->in_order);
}

static void print_parts(const char *what, const double *parts, int n) {
    printf("  %-9s", what);
    for (int k = 0; k < n; k++) printf(" %.2f", parts[k]);
    putchar('\n');
}

static void print_codec(const recode_facts *r) {
    printf("  codec     %d codebooks; of %zu frames that sound, part of each codebook that comes "
           "back:\n",
           r->codebooks, r->frames);
    print_parts("its own", r->returns, r->codebooks);
    print_likeness("roundtrip", &r->roundtrip);
    if (!r->from_codes) return;
    print_parts("given", r->possible, r->codebooks);
    print_parts("of those", r->codes.part, r->codebooks);
    if (!recode_explains(&r->trials[0]))
        printf("  codes     nothing that is known to happen to codes gives this sound\n");
    for (int i = 0, shown = 0; i < r->n_trials && shown < 4; i++) {
        if (!recode_explains(&r->trials[i]) && r->trials[i].kind != FINDING_KINDS) continue;
        shown++;
        printf("  codes     %s\n", r->trials[i].what);
        print_likeness("", &r->trials[i].alike);
    }
}

static void print_analysis(const analysis *a, const soundfile *r, const char *path) {
    app_print_clean(stdout, path);
    printf(": %s", analysis_verdict_name(a->verdict));
    if (analysis_has_score(a)) printf(", score %.0f", a->score);
    putchar('\n');
    for (int i = 0; i < a->found.n; i++)
        if (a->found.list[i].confidence >= WORTH_SAYING) print_finding(&a->found.list[i]);
    print_facts(a, r);
    if (a->reference.measured) print_reference(&a->reference);
    if (a->codec.measured) print_codec(&a->codec);
}

/* ---- for machines --------------------------------------------------------------------------- */

static json_t *findings_json(const findings *found) {
    json_t *list = json_array();
    for (int i = 0; i < found->n; i++) {
        const finding *f = &found->list[i];
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:f, s:b, s:s, s:f, s:f, s:s}", "id", finding_id(f->kind),
                            "name", finding_name(f->kind), "confidence", f->confidence, "fault",
                            f->confidence >= FINDING_FAULT, "measure", f->measure, "measured",
                            f->measured, "threshold", f->threshold, "evidence", f->evidence));
    }
    return list;
}

static json_t *level_json(const level_facts *l) {
    json_t *legacy = json_pack("{s:i, s:f, s:f, s:f, s:f, s:s}", "score", l->legacy.points,
                               "silence_ratio", l->legacy.silence, "speech_band", l->legacy.band,
                               "zcr", l->legacy.zcr, "dynamics", l->legacy.dynamics, "note",
                               "for comparison only: blind to reversal and order");
    return json_pack(
        "{s:f, s:f, s:f, s:f, s:f, s:f, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, "
        "s:f, s:o}",
        "peak", l->peak, "rms_db", l->rms_db, "active_db", l->active_db, "noise_db", l->noise_db,
        "active_s", l->active_s, "active_share", l->active_share, "pauses", l->pauses,
        "longest_pause_s", l->longest_pause_s, "dc", l->dc, "flat_share", l->flat_share,
        "rail_share", l->rail_share, "not_finite", l->not_finite, "beyond_full_scale", l->beyond,
        "modulation_2_10_hz", l->modulation, "modulation_peak_hz", l->modulation_peak_hz,
        "fluctuation_db", l->fluctuation_db, "tilt_db", l->tilt_db, "band_hz", l->band_hz, "legacy",
        legacy);
}

static json_t *splice_json(const splice_facts *s) {
    return json_pack(
        "{s:f, s:f, s:i, s:i, s:f, s:i, s:i, s:f, s:f, s:f, s:i, s:i, s:f, s:i, s:f, s:i}",
        "prediction_gain_db", s->prediction_gain_db, "outliers_per_s", s->events_per_s, "period",
        s->period, "phase", s->phase, "surprise", s->surprise, "boundaries", s->boundaries,
        "broken", s->broken, "mended_by_reversal", s->mend_reverse, "mended_by_swapping",
        s->mend_swap, "mended_by_order", s->mend_order, "repeats", s->repeats, "repeat_period",
        s->repeat_period, "repeat_s", s->repeat_s, "gaps", s->gaps, "gap_s", s->gap_s, "wraps",
        s->wraps);
}

static json_t *voice_json(const voice_facts *v) {
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "heard_s", v->heard_s, "direction",
                     v->direction, "too_fast", v->too_fast, "too_slow", v->too_slow, "rate_octaves",
                     v->rate_octaves, "pitch_hz", v->pitch_hz, "voiced_share", v->voiced_share,
                     "pitch_jumps", v->pitch_jumps);
}

static json_t *likeness_json(const likeness *l) {
    return json_pack("{s:f, s:f, s:f, s:b, s:f}", "si_sdr_db", l->si_sdr_db, "stoi", l->stoi,
                     "estoi", l->estoi, "enough_speech", l->understood, "mel_cepstral_db",
                     l->mel_cepstral_db);
}

static json_t *alignment_json(const alignment *l) {
    return json_pack("{s:f, s:b, s:f, s:f, s:f}", "delay_s", l->delay_s, "inverted", l->inverted,
                     "gain_db", l->gain_db, "common_s", l->common_s, "covered", l->covered);
}

static json_t *reference_json(const reference_facts *r) {
    if (!r->measured) return json_null();
    json_t *trials = json_array(), *pieces = json_array();
    for (int i = 0; i < r->n_trials; i++) {
        const reference_trial *t = &r->trials[i];
        json_array_append_new(trials, json_pack("{s:s, s:s, s:f, s:o, s:o}", "id",
                                                finding_id(t->kind), "undone", t->what, "speed",
                                                t->speed, "alignment", alignment_json(&t->laid),
                                                "likeness", likeness_json(&t->alike)));
    }
    for (int i = 0; i < r->n_pieces; i++)
        json_array_append_new(pieces,
                              json_pack("{s:f, s:f, s:f}", "at_s", r->pieces[i].at_s, "from_s",
                                        r->pieces[i].from_s, "match", r->pieces[i].match));
    return json_pack("{s:s, s:f, s:i, s:o, s:o, s:o, s:o, s:f, s:f, s:f}", "verdict",
                     reference_verdict_name(r->verdict), "seconds", r->seconds, "rate_hz",
                     r->rate_hz, "alignment", alignment_json(&r->laid), "likeness",
                     likeness_json(&r->alike), "trials", trials, "pieces", pieces, "pieces_found",
                     r->found, "pieces_in_order", r->in_order, "pieces_ahead", r->ahead);
}

static json_t *parts_json(const double *parts, int n) {
    json_t *list = json_array();
    for (int k = 0; k < n; k++) json_array_append_new(list, json_real(parts[k]));
    return list;
}

static json_t *codes_json(const recode_facts *r) {
    if (!r->from_codes) return json_null();
    json_t *trials = json_array();
    for (int i = 0; i < r->n_trials; i++) {
        const recode_trial *t = &r->trials[i];
        json_array_append_new(
            trials, json_pack("{s:s, s:s, s:i, s:o, s:o}", "what", t->what, "id",
                              t->kind == FINDING_KINDS ? "none" : finding_id(t->kind), "codebooks",
                              t->codebooks, "alignment", alignment_json(&t->laid), "likeness",
                              likeness_json(&t->alike)));
    }
    json_t *displaced =
        r->displaced ? json_pack("{s:s, s:f}", "what", r->displaced->name, "agreement", r->without)
                     : json_null();
    return json_pack(
        "{s:I, s:I, s:o, s:o, s:b, s:b, s:f, s:o, s:o}", "frames", (json_int_t)r->given_frames,
        "compared", (json_int_t)r->codes.frames, "possible", parts_json(r->possible, r->codebooks),
        "agreement", parts_json(r->codes.part, r->codebooks), "judged", r->codes.judged, "holds",
        r->codes.holds, "wanted", r->codes.wanted, "displaced", displaced, "trials", trials);
}

static json_t *codec_json(const recode_facts *r) {
    if (!r->measured) return json_null();
    return json_pack("{s:i, s:I, s:o, s:o, s:o}", "codebooks", r->codebooks, "frames",
                     (json_int_t)r->frames, "returns", parts_json(r->returns, r->codebooks),
                     "roundtrip", likeness_json(&r->roundtrip), "codes", codes_json(r));
}

static json_t *analysis_json(const analysis *a, const soundfile *r, const char *path) {
    json_t *file = json_pack("{s:s, s:i, s:i, s:f, s:f, s:b}", "format", r->facts.format, "rate_hz",
                             r->facts.rate_hz, "channels", r->facts.channels, "examined_s",
                             a->seconds, "channels_cancel", r->cancel, "whole", r->whole);
    json_t *score = analysis_has_score(a) ? json_real(a->score) : json_null();
    return json_pack("{s:o, s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "path",
                     json_text(path), "verdict", analysis_verdict_name(a->verdict), "passes",
                     analysis_passes(a), "score", score, "findings", findings_json(&a->found),
                     "file", file, "level", level_json(&a->level), "splice",
                     splice_json(&a->splice), "voice", voice_json(&a->voice), "reference",
                     reference_json(&a->reference), "codec", codec_json(&a->codec));
}

/* ---- the verb ------------------------------------------------------------------------------- */

/* Everything that is known beside the recordings. */
typedef struct beside {
    sound reference; /* empty: none */
    code_rows codes; /* likewise */
    const char *codes_path;
    codec_opener opener; /* opens nothing: no codec */
    report *files;       /* what is written; NULL: nothing */
} beside;

static int open_codec(moshi_codec **out, int codebooks, const void *user, app_error *err) {
    const arguments *args = user;
    moshi_codec_options options = {.codebooks = codebooks, .frames_per_call = 1};
    const char *codes = option_text(args, "codes");
    return model_open_codec(out, args, options, codes ? codes : "the codec", err);
}

/* What only matters to a codec is refused without one. */
static int load_beside(beside *b, const arguments *args, app_error *err) {
    static const char *const OF_CODEC[] = {"pull", "threads", "device", "exact"};
    const char *reference = option_text(args, "reference"), *codes = option_text(args, "codes");
    bool codec = codes || option_given(args, "model");
    memset(b, 0, sizeof *b);
    for (size_t i = 0; !codec && i < sizeof OF_CODEC / sizeof OF_CODEC[0]; i++)
        if (option_given(args, OF_CODEC[i]))
            return app_fail(err, EXIT_USAGE, "--%s has no effect without -m or --codes",
                            OF_CODEC[i]);
    b->codes_path = codes;
    if (codec) b->opener = (codec_opener){open_codec, args};
    int rc = reference ? sound_load(&b->reference, reference, 0, err) : EXIT_OK;
    if (rc == EXIT_OK && codes) rc = recode_load(&b->codes, codes, err);
    return rc;
}

static void free_beside(beside *b) {
    sound_free(&b->reference);
    code_rows_free(&b->codes);
}

/* A codec that refuses codes does not know which file they are from. */
static int through_codec(analysis *a, const soundfile *r, const beside *b, app_error *err) {
    const code_rows *codes = b->codes.codes ? &b->codes : NULL;
    int rc = analyze_codec(a, r->pcm, r->n, &b->opener, codes, err);
    if (rc != EXIT_USAGE || !codes) return rc;
    app_error why = *err;
    return app_fail(err, rc, "%s: %s", b->codes_path, why.text);
}

static int examine(const soundfile *r, const char *path, const beside *b, json_t *list,
                   bool *failed, app_error *err) {
    analysis a;
    int rc = analyze_pcm(&a, r->pcm, r->n, r->facts.rate_hz, err);
    if (rc == EXIT_OK && r->facts.channels > 1) analyze_channels(&a, r->cancel);
    if (rc == EXIT_OK) analyze_length(&a, r->facts.seconds, r->facts.promised_s);
    if (rc == EXIT_OK && b->reference.pcm)
        rc = analyze_reference(&a, r->pcm, r->n, &b->reference, err);
    if (rc == EXIT_OK && b->opener.open) rc = through_codec(&a, r, b, err);
    if (rc == EXIT_OK) rc = report_add(b->files, path, r, &a, err);
    if (rc != EXIT_OK) return rc;
    *failed |= !analysis_passes(&a);
    if (list)
        json_array_append_new(list, analysis_json(&a, r, path));
    else
        print_analysis(&a, r, path);
    return EXIT_OK;
}

/* What keeps a file from being read costs no other file its verdict: the reason stands in the list,
 * and the last one also ends the program. */
static void pass_over(const char *path, const app_error *why, json_t *list, app_error *last) {
    if (list)
        json_array_append_new(
            list, json_pack("{s:o, s:o}", "path", json_text(path), "error", json_text(why->text)));
    if (last->text[0]) {
        fputs("moshi: ", stderr);
        app_print_clean(stderr, last->text);
        fputc('\n', stderr);
    }
    *last = *why;
}

/* EXIT_USAGE when some file could not be read; all others are examined then, too. */
static int examine_all(const arguments *args, const beside *b, json_t *list, bool *failed,
                       app_error *err) {
    int worst = EXIT_OK;
    for (int i = 0; i < args->n_positional; i++) {
        const char *path = args->positional[i];
        app_error why = {0};
        soundfile r;
        int rc = soundfile_read(&r, path, ANALYZE_LONGEST_S, &why);
        if (rc == EXIT_USAGE) {
            pass_over(path, &why, list, err);
            worst = rc;
            continue;
        }
        if (rc == EXIT_OK) {
            rc = examine(&r, path, b, list, failed, &why);
            soundfile_free(&r);
        }
        if (rc != EXIT_OK) {
            *err = why;
            return rc;
        }
    }
    return worst;
}

static int run(const arguments *args, app_error *err) {
    bool failed = false;
    if (args->n_positional < 1)
        return app_fail(err, EXIT_USAGE, "analyze: which file? moshi analyze FILE...");
    json_t *list = option_given(args, "json") ? json_array() : NULL;
    beside b;
    int rc = load_beside(&b, args, err);
    if (rc == EXIT_OK) rc = report_open(&b.files, args, err);
    bool begun = rc == EXIT_OK;
    if (rc == EXIT_OK) rc = examine_all(args, &b, list, &failed, err);
    if (rc == EXIT_OK) rc = report_commit(b.files, err);
    if (list && begun && (rc == EXIT_OK || rc == EXIT_USAGE)) {
        app_error printing;
        int printed = json_print(json_incref(list), &printing);
        if (rc == EXIT_OK && printed != EXIT_OK) *err = printing;
        if (rc == EXIT_OK) rc = printed;
    }
    json_decref(list);
    report_close(b.files);
    free_beside(&b);
    return rc == EXIT_OK && failed ? EXIT_FAILED : rc;
}

static const option_spec SPECS[] = {
    {.name = "reference",
     .kind = OPTION_TEXT,
     .value = "FILE",
     .help = "what the recordings should be: compare with it, and name what has to be undone"},
    {.name = "report",
     .kind = OPTION_TEXT,
     .value = "OUT.html",
     .help = "write a page with verdict, reasons, pictures and numbers; it loads nothing"},
    {.name = "png",
     .kind = OPTION_TEXT,
     .value = "DIR",
     .help = "write the pictures: DIR/waveform.png, spectrogram.png, modulation.png..."},
    {.name = "codes",
     .kind = OPTION_TEXT,
     .value = "FILE",
     .help = "codes they should have been decoded from (codec encode, reply --tokens): say what "
             "happened to them"},
    MODEL_OPTION,
    THREADS_OPTION,
    DEVICE_OPTION,
    EXACT_OPTION,
    {.name = "quiet", .kind = OPTION_FLAG, .help = "no notes"},
    {.name = "json", .kind = OPTION_FLAG, .help = "print everything that was measured as JSON"}};

const verb verb_analyze = {
    .name = "analyze",
    .usage = "FILE... [options]",
    .summary = "is a recording intact speech, and if not, what happened to it?",
    .text = "Examines each recording by its samples alone and prints a verdict (clean, garbled,\n"
            "not speech, silent, too short to judge), a score, and what probably happened:\n"
            "reversed, frames reversed, shuffled, dropped or repeated, wrong speed, clipped,\n"
            "bytes swapped, mu-law read as linear, interleaved channels and more, each with\n"
            "the number measured and how sure it is. A file that cannot be read is told, and the\n"
            "others are examined nevertheless.\n\n"
            "--report writes a page with pictures and the faults marked in them.\n\n"
            "The score is 100 less the confidence in the most likely fault, in percent; below\n"
            "50 the recording fails. Exit code 0: all passed, 1: some recording failed,\n"
            "2: some file could not be read.\n\n"
            "With --reference it is laid on what it should be (delay, level, polarity) and\n"
            "compared: SI-SDR, STOI, ESTOI, mel-cepstral distance. Where the two are not alike,\n"
            "everything that can be undone is undone on trial: what makes them alike is what\n"
            "happened.\n\n"
            "With -m it goes through the codec of MODEL, and the part of each codebook's codes\n"
            "that comes back is printed; that alone decides nothing. With --codes, the codes it\n"
            "should have been decoded from, it is said what happened to them: codebooks that\n"
            "come late or early, stand in another order, or are missing.\n",
    .example = "  moshi analyze answer.wav\n"
               "  moshi analyze *.wav --json\n"
               "  moshi analyze answer.wav --report answer.html --png pictures\n"
               "  moshi analyze played.wav --reference answer.wav\n"
               "  moshi analyze answer.wav --codes answer.safetensors",
    VERB_OPTIONS(SPECS),
    .max_positional = ARGUMENTS_MAX - 1,
    .run = run,
};
