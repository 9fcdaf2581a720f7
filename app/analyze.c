/* analyze.c - from measures to a verdict. */
#include "analyze.h"

#include "misread.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Nothing is audible below this. */
static const double SILENT_DB = -72;
/* Clean speech stays below 2, cut speech above 10. */
static const double SEAM_SURPRISE = 4.5;
/* Speech has many outliers, and there are many grids: three on one are an accident, unless
 * they are large. */
static const int SEAMS_FEW = 4;
/* Behind a glitch the sound goes on; another frame is another sound. */
static const double STRANGE_DB = 3.7;
/* Of less speech the voice's opinions on direction and speed are told, but are no fault. */
static const double DIRECTION_S = 1.0, SPEED_S = 0.5;
/* However short: of 2900 intact recordings with that much speech none came nearer to another speed
 * than 5.8 (fast) and 7.7 (slow), but for a synthetic voice at 8.9, deeper than any person's. */
static const double FAST_MOST = 8.25, SLOW_MOST = 10.5;
/* Snores and the cries of monkeys sound like slow giants, but have hardly any pitch. More must
 * speak for another speed then: at half speed low voices have none either. */
static const double VOICED_LEAST = 0.24, VOICELESS_MORE = 3;
static const double DOUBT = 0.9 * FINDING_FAULT;
/* What one cause explains is not counted as a second fault: confidences of later hypotheses are
 * multiplied by how much room the earlier ones leave. */
static double left_over(const findings *f) {
    return f->n ? 1 - f->list[0].confidence : 1;
}

/* ---- level ---------------------------------------------------------------------------------- */

static void judge_level(analysis *a) {
    const level_facts *l = &a->level;
    /* Flat tops, or what a resampler or lossy codec leaves of them. */
    double flat = finding_confidence(l->flat_share, 0.006, 0.004);
    double rail = finding_confidence(l->rail_share, 0.2, 0.04);
    double room = left_over(&a->found);
    finding *f = flat >= rail
                     ? findings_add(&a->found, FINDING_CLIPPED, room * flat,
                                    "share of samples in flat tops", l->flat_share, 0.006)
                     : findings_add(&a->found, FINDING_CLIPPED, room * rail,
                                    "share of samples above 85 % of the peak", l->rail_share, 0.2);
    snprintf(f->evidence, sizeof f->evidence,
             "%.2f %% of the sounding samples lie in flat tops and %.2f %% near the peak of %.3f",
             100 * l->flat_share, 100 * l->rail_share, l->peak);
    /* Cheap sound cards have some: it is a fault when it is most of the signal. */
    f = findings_add(&a->found, FINDING_DC_OFFSET, room * finding_confidence(fabs(l->dc), 1.5, 0.4),
                     "mean relative to the RMS of the rest", fabs(l->dc), 1.5);
    snprintf(f->evidence, sizeof f->evidence,
             "the samples' mean is %.2f of the RMS of the rest, at least for a quarter of the time",
             l->dc);
}

/* Speech rises and falls with its syllables and is voiced about half of the time. */
static void judge_speech(analysis *a) {
    const level_facts *l = &a->level;
    if (a->voice.heard_s < 0.5) return;
    double flat = finding_confidence(-l->fluctuation_db, -3, 0.7);
    double voiceless = finding_confidence(-a->voice.voiced_share, -0.04, 0.02);
    double noise = finding_confidence(-a->splice.prediction_gain_db, -4, 1);
    double mute = voiceless * noise, room = left_over(&a->found);
    finding *f = flat >= mute ? findings_add(&a->found, FINDING_NOT_SPEECH, room * flat,
                                             "fluctuation of the level, dB", l->fluctuation_db, 3)
                              : findings_add(&a->found, FINDING_NOT_SPEECH, room * mute,
                                             "share of voiced frames", a->voice.voiced_share, 0.04);
    snprintf(f->evidence, sizeof f->evidence,
             "the level fluctuates by %.1f dB, %.0f %% of the frames are voiced, prediction gains "
             "%.1f dB",
             l->fluctuation_db, 100 * a->voice.voiced_share, a->splice.prediction_gain_db);
}

/* ---- seams ---------------------------------------------------------------------------------- */

static finding_kind kind_of_seams(const splice_facts *s, double turned_direction) {
    /* Turning the blocks around mends seams in two cases: then, or else in reverse order, the whole
     * sound runs as it did. Which of them it is, the voice must tell. */
    double turned = s->mend_reverse > s->mend_order ? s->mend_reverse : s->mend_order;
    if (turned > 0.5 && turned >= s->mend_swap)
        return turned_direction >= 0 ? FINDING_FRAMES_REVERSED : FINDING_ORDER_REVERSED;
    if (s->mend_swap > 0.5) return FINDING_FRAMES_SWAPPED;
    if (s->broken * 10 > s->boundaries * 4)
        return s->strange_db < STRANGE_DB ? FINDING_GLITCHES : FINDING_FRAMES_SHUFFLED;
    return FINDING_FRAMES_DROPPED;
}

static void judge_repeats(analysis *a) {
    const splice_facts *s = &a->splice;
    if (s->repeats == 0) return;
    finding *f = findings_add(&a->found, FINDING_FRAMES_REPEATED,
                              left_over(&a->found) * finding_confidence(s->repeats, 0.8, 0.5),
                              "blocks equal to the one before", s->repeats, 0.8);
    snprintf(f->evidence, sizeof f->evidence,
             "%d blocks of %d samples (%.0f ms) equal the block before them, the first at %.2f s",
             s->repeats, s->repeat_period, s->repeat_period * 1000.0 / a->rate_hz, s->repeat_s);
}

static void judge_losses(analysis *a) {
    const splice_facts *s = &a->splice;
    double room = left_over(&a->found);
    finding *f;
    if (s->gaps > 0) {
        /* Synthetic voices have closures of 20 ms that are as silent. One on the grid of a stream
         * has two witnesses: its length and its place. */
        double gaps = (s->gaps + s->gaps_on_grid) * fmin(1, s->gap_s / 0.04);
        f = findings_add(
            &a->found, FINDING_GAPS, room * finding_confidence(gaps, 1.5, 0.7),
            "silent runs with hard edges, short ones in part, those on a frame's grid twice", gaps,
            1.5);
        snprintf(
            f->evidence, sizeof f->evidence,
            "%d runs of one value, %.0f ms on average, are cut into the sound, %d of them where "
            "a frame begins",
            s->gaps, 1000 * s->gap_s, s->gaps_on_grid);
    }
    if (s->wraps > 0) {
        f = findings_add(&a->found, FINDING_WRAPPED, room * finding_confidence(s->wraps, 3.5, 1.5),
                         "jumps across the whole range", s->wraps, 3.5);
        snprintf(f->evidence, sizeof f->evidence,
                 "%d jumps vanish when the range is taken as a circle", s->wraps);
    }
}

/* How sure a grid is: chance must not explain it, and neither may the frames of a codec. Telephone
 * codecs leave marks at few boundaries, neural ones small marks at up to half of them. */
static double seam_confidence(const splice_facts *s) {
    double share = s->boundaries ? (double)s->broken / s->boundaries : 0;
    double mark = finding_confidence(s->size * share, s->size < 5 ? 2.2 : 0.9, 0.3);
    bool weak = s->broken < SEAMS_FEW && s->size < 14;
    double surprise = weak ? SEAM_SURPRISE + 1 : SEAM_SURPRISE;
    return mark * finding_confidence(s->surprise, surprise, 0.8);
}

static void judge_seams(analysis *a, double turned_direction) {
    const splice_facts *s = &a->splice;
    if (s->period == 0) return;
    finding *f = findings_add(&a->found, kind_of_seams(s, turned_direction),
                              left_over(&a->found) * seam_confidence(s),
                              "surprise, -log10 of chance", s->surprise, SEAM_SURPRISE);
    snprintf(f->evidence, sizeof f->evidence,
             "samples do not follow from those before at %d of %d boundaries of %d samples "
             "(%.1f ms, first at %d); mended by turning blocks around %.0f %%, by swapping "
             "neighbours %.0f %%, by reversing the order %.0f %%",
             s->broken, s->boundaries, s->period, s->period * 1000.0 / a->rate_hz, s->phase,
             100 * s->mend_reverse, 100 * s->mend_swap, 100 * s->mend_order);
}

/* Shuffled silence has hard edges, and muted frames lie on a grid: what breaks most boundaries goes
 * first, but gaps at nearly every one are no accident. */
static int judge_cuts(analysis *a, const float *pcm, size_t n, app_error *err) {
    const splice_facts *s = &a->splice;
    voice_facts turned = {0};
    if (s->mend_reverse > 0.5 || s->mend_order > 0.5) {
        float *x = malloc(n * sizeof *x);
        if (!x) return app_no_memory(err);
        splice_turn_blocks(x, pcm, n, s);
        int rc = voice_measure(&turned, x, n, a->rate_hz, err);
        free(x);
        if (rc != EXIT_OK) return rc;
    }
    bool gaps_everywhere = s->gaps * 10 > s->boundaries * 7;
    bool most = s->broken * 10 > s->boundaries * 4 && !gaps_everywhere;
    judge_repeats(a);
    if (most) judge_seams(a, turned.direction);
    judge_losses(a);
    if (!most) judge_seams(a, turned.direction);
    return EXIT_OK;
}

/* ---- time ----------------------------------------------------------------------------------- */

static void judge_time(analysis *a) {
    const voice_facts *v = &a->voice;
    double room = left_over(&a->found);
    /* The network's mean is evidence per second: what counts is its sum, and a little for the
     * recording that is unlike any it was trained on, which does not fade with time. */
    double needed = 0.5 + 7 / (v->heard_s + 0.1), most = v->heard_s < DIRECTION_S ? DOUBT : 1;
    finding *f = findings_add(&a->found, FINDING_REVERSED,
                              room * fmin(most, finding_confidence(-v->direction, needed, 1.5)),
                              "evidence for backwards", -v->direction, needed);
    snprintf(f->evidence, sizeof f->evidence,
             "over %.1f s of speech, onsets and decays speak for time running %s (%.1f; speech "
             "has about +10, reversed speech -10)",
             v->heard_s, v->direction < 0 ? "backwards" : "forwards", v->direction);
    bool fast = v->too_fast > v->too_slow;
    double odds = fast ? v->too_fast : v->too_slow;
    /* No intact recording of those in GARBLED.md reached this. Short ones came nearest: quick
     * talkers, actors, and a synthetic voice deeper than any person's. */
    double heard = v->heard_s + 0.1;
    double unusual = fast ? fmin(2.4 + 6 / (heard * heard), FAST_MOST)
                          : fmin(1.1 + 25 / (heard * heard), SLOW_MOST);
    if (v->voiced_share < VOICED_LEAST) unusual += VOICELESS_MORE;
    most = v->heard_s < SPEED_S ? DOUBT : 1;
    f = findings_add(&a->found, fast ? FINDING_TOO_FAST : FINDING_TOO_SLOW,
                     room * fmin(most, finding_confidence(odds, unusual, 1)),
                     "evidence for another speed, logarithm of odds", odds, unusual);
    snprintf(f->evidence, sizeof f->evidence,
             "spectrum and syllables are those of speech played %.2f times as fast",
             exp2(v->rate_octaves));
}

/* ---- all of it ------------------------------------------------------------------------------ */

static void conclude(analysis *a) {
    double worst = a->found.n ? a->found.list[0].confidence : 0;
    a->score = 100 * (1 - worst);
    a->verdict = VERDICT_CLEAN;
    if (worst >= FINDING_FAULT) {
        finding_kind kind = a->found.list[0].kind;
        a->verdict = kind == FINDING_SILENT        ? VERDICT_SILENT
                     : kind == FINDING_NOT_SPEECH  ? VERDICT_NOT_SPEECH
                     : kind == FINDING_OTHER_WORDS ? VERDICT_DIFFERENT
                                                   : VERDICT_GARBLED;
    } else if (a->seconds < ANALYZE_SHORTEST_S || a->voice.heard_s < ANALYZE_SHORTEST_S / 2) {
        a->verdict = VERDICT_TOO_SHORT;
    }
}

/* `raw` may hold anything, `pcm` is finite. */
static int judge_all(analysis *a, const float *raw, const float *pcm, size_t n, app_error *err) {
    int rc = misread_find(&a->found, raw, n, a->rate_hz, err);
    if (rc != EXIT_OK) return rc;
    double wild = a->level.not_finite, none = a->level.not_numbers;
    if (none > 0 && none == wild) {
        /* Bits of integers would give large numbers too. */
        finding *f = findings_add(&a->found, FINDING_NOT_NUMBERS, 0.99,
                                  "share of samples that are no numbers", none, 0);
        snprintf(f->evidence, sizeof f->evidence,
                 "%.3f %% of the samples are NaN or infinite: whatever computed them is wrong",
                 100 * none);
    } else if (wild > 0) {
        finding *f = findings_add(&a->found, FINDING_INT16_AS_FLOAT,
                                  left_over(&a->found) * finding_confidence(wild, 1e-3, 1e-3),
                                  "share of samples that are no finite numbers", wild, 1e-3);
        snprintf(f->evidence, sizeof f->evidence,
                 "%.1f %% of the samples are no finite numbers or absurdly large", 100 * wild);
    }
    judge_speech(a);
    judge_level(a);
    rc = judge_cuts(a, pcm, n, err);
    if (rc != EXIT_OK) return rc;
    judge_time(a);
    return EXIT_OK;
}

void analyze_channels(analysis *a, double cancel) {
    double loss_db = -10 * log10(cancel + 1e-9);
    finding *f =
        findings_add(&a->found, FINDING_CHANNELS_CANCEL, finding_confidence(loss_db, 15, 4),
                     "loss by mixing the channels, dB", loss_db, 15);
    snprintf(f->evidence, sizeof f->evidence, "mixed to one, the channels lose %.1f dB", loss_db);
    conclude(a);
}

void analyze_length(analysis *a, double found_s, double promised_s) {
    if (promised_s <= 0) return;
    finding *f = findings_add(&a->found, FINDING_CUT_OFF, 0.95, "part of what its header promises",
                              found_s / promised_s, 1);
    snprintf(f->evidence, sizeof f->evidence, "its header promises %.2f s, there are %.2f s",
             promised_s, found_s);
    conclude(a);
}

/* ---- beside the reference ------------------------------------------------------------------- */

/* Put `kind` in the list once, with the better evidence. */
static finding *confirm(analysis *a, finding_kind kind, double confidence, const char *measure,
                        double measured, double threshold) {
    confidence = fmax(confidence, findings_confidence(&a->found, kind));
    findings_remove(&a->found, kind);
    return findings_add(&a->found, kind, confidence, measure, measured, threshold);
}

/* Undoing it must make the two alike, and much more so than they were. */
static void judge_trial(analysis *a, const reference_trial *t) {
    const likeness *was = &a->reference.alike, *is = &t->alike;
    double leap = is->estoi - was->estoi, confidence = finding_confidence(leap, 0.2, 0.08) *
                                                       finding_confidence(is->estoi, 0.4, 0.08);
    finding *f = confirm(a, t->kind, confidence, "leap of ESTOI when it is undone", leap, 0.2);
    snprintf(f->evidence, sizeof f->evidence,
             "%s, it has STOI %.2f, ESTOI %.2f and SI-SDR %.1f dB with the reference; as it is, "
             "%.2f, %.2f and %.1f dB",
             t->what, is->stoi, is->estoi, is->si_sdr_db, was->stoi, was->estoi, was->si_sdr_db);
}

/* Most of it is there, in another order. */
static void judge_pieces(analysis *a) {
    const reference_facts *r = &a->reference;
    if (r->in_order > 0.95 || r->n_pieces < 6) return;
    finding_kind kind = r->in_order <= 0.5 ? FINDING_FRAMES_SHUFFLED
                        : r->ahead > 0.5   ? FINDING_FRAMES_DROPPED
                                           : FINDING_FRAMES_REPEATED;
    finding *f = confirm(a, kind, finding_confidence(r->found, 0.5, 0.15),
                         "share of its pieces that occur in the reference", r->found, 0.5);
    snprintf(f->evidence, sizeof f->evidence,
             "%.0f %% of its 80 ms pieces occur in the reference; of those %.0f %% continue the "
             "one before, and of the others %.0f %% come from farther on",
             100 * r->found, 100 * r->in_order, 100 * r->ahead);
}

/* Less of the reference's sound than this, and a word is missing. */
#define COVERED_LEAST 0.9

/* What is there is right, but it is not all of it. */
static void judge_coverage(analysis *a) {
    const alignment *laid = &a->reference.laid;
    finding *f =
        confirm(a, FINDING_CUT_OFF, finding_confidence(-laid->covered, -COVERED_LEAST, 0.04),
                "part of the reference that is there", laid->covered, COVERED_LEAST);
    snprintf(f->evidence, sizeof f->evidence,
             "%.2f s in common, %.0f %% of the sound of the reference", laid->common_s,
             100 * laid->covered);
}

static void judge_reference(analysis *a) {
    const reference_facts *r = &a->reference;
    const likeness *l = &r->alike;
    if (r->verdict == REFERENCE_SAYS_THE_SAME) judge_coverage(a);
    if (r->verdict == REFERENCE_OPEN || r->verdict == REFERENCE_SAYS_THE_SAME) return;
    if (r->verdict == REFERENCE_DAMAGED && r->n_trials > 0) judge_trial(a, &r->trials[0]);
    if (r->verdict == REFERENCE_DAMAGED) judge_pieces(a);
    double best = fmax(l->estoi, r->n_trials ? r->trials[0].alike.estoi : 0);
    finding *f;
    if (r->verdict == REFERENCE_DAMAGED) {
        f = findings_add(&a->found, FINDING_UNLIKE_REFERENCE,
                         left_over(&a->found) * finding_confidence(-l->estoi, -REFERENCE_SAME, 0.1),
                         "ESTOI", l->estoi, REFERENCE_SAME);
        snprintf(f->evidence, sizeof f->evidence,
                 "STOI %.2f, ESTOI %.2f, SI-SDR %.1f dB, mel-cepstral distance %.1f dB; %.0f %% of "
                 "its pieces occur in the reference",
                 l->stoi, l->estoi, l->si_sdr_db, l->mel_cepstral_db, 100 * r->found);
        return;
    }
    f = findings_add(&a->found, FINDING_OTHER_WORDS,
                     left_over(&a->found) * finding_confidence(-best, -REFERENCE_TRACE, 0.06),
                     "ESTOI at best", best, REFERENCE_TRACE);
    snprintf(f->evidence, sizeof f->evidence,
             "whatever is undone, ESTOI stays below %.2f (STOI %.2f), and %.0f %% of its pieces "
             "occur in the reference",
             best, l->stoi, 100 * r->found);
}

int analyze_reference(analysis *a, const float *pcm, size_t n, const sound *reference,
                      app_error *err) {
    int rc = reference_measure(&a->reference, pcm, n, a->rate_hz, reference, &a->splice, err);
    if (rc != EXIT_OK) return rc;
    judge_reference(a);
    conclude(a);
    return EXIT_OK;
}

/* ---- through the codec ---------------------------------------------------------------------- */

/* What the codes themselves say, whatever the recording is. */
static void judge_displaced(analysis *a) {
    const recode_facts *r = &a->codec;
    if (!r->displaced) return;
    finding *f = findings_add(
        &a->found, r->displaced->delay ? FINDING_CODES_DELAYED : FINDING_CODES_REORDERED,
        finding_confidence(r->without, AGREEMENT_LEAST, 0.05),
        "part of the first codebook that comes back without it", r->without, AGREEMENT_LEAST);
    snprintf(f->evidence, sizeof f->evidence,
             "the codes themselves: %s; as they are, %.0f %% of the first codebook comes back, "
             "without that %.0f %%",
             r->displaced->name, 100 * r->possible[0], 100 * r->without);
}

/* A file that begins and ends with the codes, at their rate, was never played: it should be their
 * sound exactly. Other codes of the same words may be 2 dB louder or softer; by a factor of two and
 * more somebody has changed the level, and perhaps more. When it only says the same, an encoder
 * that forgets or that serves two callers has made other codes of the words. Lossy codecs leave an
 * ESTOI of 0.95 and more, but for those of 12 kbit/s. */
static void judge_copy(analysis *a, const recode_trial *as_is) {
    const alignment *laid = &as_is->laid;
    bool copy = a->codec.as_long && fabs(laid->delay_s) * a->rate_hz < 0.5 && !laid->inverted &&
                fabs(laid->gain_db) < 6;
    double estoi = as_is->alike.estoi;
    if (!copy || !as_is->alike.understood || estoi < REFERENCE_SAME) return;
    finding *f = findings_add(&a->found, FINDING_CODES_DIFFER,
                              left_over(&a->found) * finding_confidence(-estoi, -0.942, 0.01),
                              "ESTOI with the sound of the codes", estoi, 0.942);
    snprintf(f->evidence, sizeof f->evidence,
             "it begins and ends with the sound of the codes, but is not that sound: SI-SDR %.1f "
             "dB, ESTOI %.2f; other codes of these words (an encoder that forgets?), or a lossy "
             "codec of very low rate",
             as_is->alike.si_sdr_db, estoi);
}

static void judge_codes(analysis *a) {
    const recode_facts *r = &a->codec;
    const recode_trial *best = &r->trials[0], *as_is = recode_as_is(r);
    double leap = best->alike.si_sdr_db - as_is->alike.si_sdr_db;
    if (best->kind != FINDING_KINDS && recode_explains(best) && leap > 3) {
        finding *f = findings_add(&a->found, best->kind, finding_confidence(leap, 5, 2),
                                  "leap of SI-SDR with the codes so displaced, dB", leap, 5);
        snprintf(f->evidence, sizeof f->evidence,
                 "the sound is that of the codes with this: %s (SI-SDR %.1f dB); as they are, %.1f "
                 "dB",
                 best->what, best->alike.si_sdr_db, as_is->alike.si_sdr_db);
        return;
    }
    /* The very sound of the codes needs no other proof. */
    if (as_is->alike.si_sdr_db < RECODE_VERY_DB) judge_copy(a, as_is);
    if (as_is->alike.si_sdr_db >= RECODE_EXACT_DB || !r->codes.judged) return;
    finding *f = findings_add(
        &a->found, FINDING_UNLIKE_CODES,
        left_over(&a->found) * finding_confidence(-r->codes.part[0], -r->codes.wanted, 0.03),
        "part of the first codebook's codes that comes back", r->codes.part[0], r->codes.wanted);
    snprintf(f->evidence, sizeof f->evidence,
             "%.0f %% of the first codebook's codes come back, of a fresh decoding %.0f %%; SI-SDR "
             "with that is %.1f dB, ESTOI %.2f",
             100 * r->codes.part[0], 100 * r->possible[0], as_is->alike.si_sdr_db,
             as_is->alike.estoi);
}

int analyze_codec(analysis *a, const float *pcm, size_t n, const codec_opener *opener,
                  const code_rows *codes, app_error *err) {
    sound heard = {0};
    if (a->verdict == VERDICT_SILENT) return EXIT_OK;
    int rc = sound_make(&heard, n, a->rate_hz, err);
    for (size_t i = 0; rc == EXIT_OK && i < n; i++)
        heard.pcm[i] = fabsf(pcm[i]) <= 1e6f ? pcm[i] : 0;
    if (rc == EXIT_OK) rc = recode_measure(&a->codec, opener, &heard, codes, err);
    sound_free(&heard);
    if (rc != EXIT_OK || !codes) return rc;
    judge_displaced(a);
    judge_codes(a);
    conclude(a);
    return EXIT_OK;
}

int analyze_pcm(analysis *out, const float *pcm, size_t n, int rate_hz, app_error *err) {
    memset(out, 0, sizeof *out);
    size_t most = (size_t)(ANALYZE_LONGEST_S * rate_hz), wild = 0, none = 0;
    if (n > most) n = most;
    out->rate_hz = rate_hz;
    out->seconds = (double)n / rate_hz;
    float *x = calloc(n + 1, sizeof *x);
    if (!x) return app_no_memory(err);
    for (size_t i = 0; i < n; i++) {
        /* Beyond this it is no sample but some other number. */
        bool sane = fabsf(pcm[i]) <= 1e6f;
        x[i] = sane ? pcm[i] : 0;
        wild += !sane;
        none += !isfinite(pcm[i]);
    }
    int rc = level_measure(&out->level, x, n, rate_hz, err);
    out->level.not_finite = n ? (double)wild / (double)n : 0;
    out->level.not_numbers = n ? (double)none / (double)n : 0;
    /* Of what sounds, however long the pauses are. */
    double level = fmax(out->level.rms_db, out->level.active_db);
    if (rc == EXIT_OK && (level < SILENT_DB || n == 0) && wild == 0) {
        finding *f = findings_add(&out->found, FINDING_SILENT, 0.99, "level, dB", level, SILENT_DB);
        snprintf(f->evidence, sizeof f->evidence, "the level is %.0f dB", level);
    } else if (rc == EXIT_OK && out->seconds >= ANALYZE_SHORTEST_S) {
        rc = splice_measure(&out->splice, x, n, rate_hz, err);
        if (rc == EXIT_OK) rc = voice_measure(&out->voice, x, n, rate_hz, err);
        if (rc == EXIT_OK) rc = judge_all(out, pcm, x, n, err);
    }
    free(x);
    if (rc == EXIT_OK) conclude(out);
    return rc;
}

const char *analysis_verdict_name(analysis_verdict verdict) {
    static const char *const NAMES[] = {"clean",  "garbled",           "not speech",
                                        "silent", "not the reference", "too short to judge"};
    return NAMES[verdict];
}

bool analysis_has_score(const analysis *a) {
    return a->verdict != VERDICT_TOO_SHORT;
}

bool analysis_passes(const analysis *a) {
    return a->verdict == VERDICT_CLEAN || a->verdict == VERDICT_TOO_SHORT;
}
