/* cmd_analyze.c - `moshi analyze`: is a recording intact speech, and if not, what happened to it?
 */
#include "analyze.h"
#include "json.h"
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

static void print_analysis(const analysis *a, const soundfile *r, const char *path) {
    printf("%s: %s, score %.0f\n", path, analysis_verdict_name(a->verdict), a->score);
    for (int i = 0; i < a->found.n; i++)
        if (a->found.list[i].confidence >= WORTH_SAYING) print_finding(&a->found.list[i]);
    print_facts(a, r);
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
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "heard_s", v->heard_s, "direction",
                     v->direction, "rate_octaves", v->rate_octaves, "pitch_hz", v->pitch_hz,
                     "voiced_share", v->voiced_share, "pitch_jumps", v->pitch_jumps);
}

static json_t *analysis_json(const analysis *a, const soundfile *r, const char *path) {
    json_t *file = json_pack("{s:s, s:i, s:i, s:f, s:f, s:b}", "format", r->facts.format, "rate_hz",
                             r->facts.rate_hz, "channels", r->facts.channels, "examined_s",
                             a->seconds, "channels_cancel", r->cancel, "whole", r->whole);
    return json_pack("{s:o, s:s, s:b, s:f, s:o, s:o, s:o, s:o, s:o}", "path", json_text(path),
                     "verdict", analysis_verdict_name(a->verdict), "passes", analysis_passes(a),
                     "score", a->score, "findings", findings_json(&a->found), "file", file, "level",
                     level_json(&a->level), "splice", splice_json(&a->splice), "voice",
                     voice_json(&a->voice));
}

/* ---- the verb ------------------------------------------------------------------------------- */

static int examine(const char *path, json_t *list, bool *failed, app_error *err) {
    soundfile r;
    analysis a;
    int rc = soundfile_read(&r, path, ANALYZE_LONGEST_S, err);
    if (rc != EXIT_OK) return rc;
    rc = analyze_pcm(&a, r.pcm, r.n, r.facts.rate_hz, err);
    if (rc == EXIT_OK && r.facts.channels > 1) analyze_channels(&a, r.cancel);
    if (rc == EXIT_OK) {
        *failed |= !analysis_passes(&a);
        if (list)
            json_array_append_new(list, analysis_json(&a, &r, path));
        else
            print_analysis(&a, &r, path);
    }
    soundfile_free(&r);
    return rc;
}

static int run(const arguments *args, app_error *err) {
    bool failed = false;
    if (args->n_positional < 1)
        return app_fail(err, EXIT_USAGE, "analyze: which file? moshi analyze FILE...");
    json_t *list = option_given(args, "json") ? json_array() : NULL;
    int rc = EXIT_OK;
    for (int i = 0; rc == EXIT_OK && i < args->n_positional; i++)
        rc = examine(args->positional[i], list, &failed, err);
    if (rc == EXIT_OK && list) rc = json_print(json_incref(list), err);
    json_decref(list);
    return rc == EXIT_OK && failed ? EXIT_FAILED : rc;
}

static const option_spec SPECS[] = {
    {.name = "json", .kind = OPTION_FLAG, .help = "print everything that was measured as JSON"}};

const verb verb_analyze = {
    .name = "analyze",
    .usage = "FILE... [options]",
    .summary = "is a recording intact speech, and if not, what happened to it?",
    .text = "Examines each recording by its samples alone and prints a verdict (clean, garbled,\n"
            "not speech, silent, too short to judge), a score, and what probably happened:\n"
            "reversed, frames reversed, shuffled, dropped or repeated, wrong speed, clipped,\n"
            "bytes swapped, mu-law read as linear, interleaved channels and more, each with\n"
            "the number measured and how sure it is.\n\n"
            "The score is 100 less the confidence in the most likely fault, in percent; below\n"
            "50 the recording fails. Exit code 0: all passed, 1: some recording failed.",
    .example = "  moshi analyze answer.wav\n"
               "  moshi analyze *.wav --json",
    VERB_OPTIONS(SPECS),
    .max_positional = ARGUMENTS_MAX - 1,
    .run = run,
};
