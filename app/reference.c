/* reference.c - a recording beside its reference: what has to be undone to make them alike. */
#include "reference.h"

#include "misread.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COMMON_HZ = 24000, PIECES_HZ = 8000 };

/* Pictures so much alike are of the same sound, and no speed needs to be looked for. */
static const double CERTAIN = 0.97;
/* A piece that correlates so well with a place of the reference comes from there. */
static const double PIECE_FOUND = 0.9;
/* Pieces are looked for in this much of both sounds. */
static const double PIECES_LONGEST_S = 15;

const char *reference_verdict_name(reference_verdict verdict) {
    static const char *const NAMES[] = {"the same", "the same words, damaged", "something else",
                                        "too little to compare"};
    return NAMES[verdict];
}

/* ---- trials --------------------------------------------------------------------------------- */

/* A trial that is worth comparing. */
typedef struct candidate {
    reference_trial trial;
    sound undone;
    double match; /* of the pictures */
} candidate;

/* What trials are made of. */
typedef struct bench {
    const float *raw; /* [n] as it came from the file */
    sound heard;      /* the same without what is no number */
    const sound *reference;
    sound wanted;        /* the reference at the rate of comparison */
    mel_picture picture; /* of that */
    const splice_facts *seams;
    candidate best[REFERENCE_TRIALS]; /* best first */
    int n_best;
    reference_facts *out;
} bench;

/* Comparing takes long: pictures say which trials deserve it. Takes `undone`. */
static int try_sound(bench *b, const reference_trial *trial, sound *undone, app_error *err) {
    candidate c = {.trial = *trial, .undone = *undone};
    mel_picture picture = {0};
    double lag_s;
    int at = 0, rc = mel_picture_make(&picture, undone->pcm, undone->n, undone->rate_hz, err);
    if (rc == EXIT_OK) rc = likeness_of_pictures(&lag_s, &c.match, &picture, &b->picture, err);
    mel_picture_free(&picture);
    while (at < b->n_best && b->best[at].match >= c.match) at++;
    if (rc != EXIT_OK || at == REFERENCE_TRIALS) {
        sound_free(undone);
        return rc;
    }
    if (b->n_best == REFERENCE_TRIALS) sound_free(&b->best[--b->n_best].undone);
    memmove(&b->best[at + 1], &b->best[at], (size_t)(b->n_best - at) * sizeof b->best[0]);
    b->best[at] = c;
    b->n_best++;
    return app_check_interrupted(err);
}

static void keep(reference_facts *out, const reference_trial *trial) {
    int at = out->n_trials++;
    for (; at > 0 && likeness_merit(&out->trials[at - 1].alike) < likeness_merit(&trial->alike);
         at--)
        out->trials[at] = out->trials[at - 1];
    out->trials[at] = *trial;
}

/* Compare at the common rate. */
static int compare_best(bench *b, app_error *err) {
    int rc = EXIT_OK;
    for (int i = 0; i < b->n_best; i++) {
        candidate *c = &b->best[i];
        sound heard = {0};
        if (rc == EXIT_OK)
            rc = sound_resample(&heard, &c->undone, &SINC_FILE, b->out->rate_hz, NULL, err);
        if (rc == EXIT_OK)
            rc = likeness_compare(&c->trial.laid, &c->trial.alike, &heard, &b->wanted, err);
        if (rc == EXIT_OK) keep(b->out, &c->trial);
        if (rc == EXIT_OK) rc = app_check_interrupted(err);
        sound_free(&heard);
    }
    return rc;
}

static int try_reversed(bench *b, app_error *err) {
    reference_trial t = {.kind = FINDING_REVERSED, .what = "turned around", .speed = 1};
    sound undone;
    int rc = sound_copy(&undone, &b->heard, err);
    if (rc != EXIT_OK) return rc;
    sound_reverse(undone.pcm, undone.n);
    return try_sound(b, &t, &undone, err);
}

/* Blocks of `block` samples, the first one of `phase` if that is not 0. */
static void undo_blocks(float *out, const float *in, size_t n, size_t block, size_t phase,
                        finding_kind kind) {
    size_t blocks = (n - phase) / block;
    memcpy(out, in, n * sizeof *out);
    if (kind == FINDING_FRAMES_REVERSED) sound_reverse(out, phase);
    for (size_t k = 0; k < blocks; k++) {
        size_t from = k;
        if (kind == FINDING_ORDER_REVERSED) from = blocks - 1 - k;
        if (kind == FINDING_FRAMES_SWAPPED) from = (k ^ 1) < blocks ? k ^ 1 : k;
        memcpy(out + phase + k * block, in + phase + from * block, block * sizeof *out);
        if (kind == FINDING_FRAMES_REVERSED) sound_reverse(out + phase + k * block, block);
    }
    if (kind == FINDING_FRAMES_REVERSED)
        sound_reverse(out + phase + blocks * block, n - phase - blocks * block);
}

static int try_blocks(bench *b, size_t block, size_t phase, app_error *err) {
    static const struct {
        finding_kind kind;
        const char *what;
    } WAYS[] = {{FINDING_FRAMES_REVERSED, "turned around"},
                {FINDING_ORDER_REVERSED, "put in reverse order"},
                {FINDING_FRAMES_SWAPPED, "swapped with their neighbours"}};
    int rc = EXIT_OK;
    if (block < 2 || phase >= b->heard.n || b->heard.n - phase < 2 * block) return EXIT_OK;
    for (size_t i = 0; rc == EXIT_OK && i < sizeof WAYS / sizeof WAYS[0]; i++) {
        reference_trial t = {.kind = WAYS[i].kind, .speed = 1};
        sound undone;
        snprintf(t.what, sizeof t.what, "blocks of %zu samples (%.1f ms) %s", block,
                 1000.0 * (double)block / b->heard.rate_hz, WAYS[i].what);
        rc = sound_make(&undone, b->heard.n, b->heard.rate_hz, err);
        if (rc != EXIT_OK) break;
        undo_blocks(undone.pcm, b->heard.pcm, b->heard.n, block, phase, WAYS[i].kind);
        rc = try_sound(b, &t, &undone, err);
    }
    return rc;
}

/* Samples that lie much farther from those after the next than from the next are no alternating
 * channels: they may be slow, which leaving out every second one would cure too. */
static bool flows(const sound *s) {
    double one = 1e-12, two = 0;
    for (size_t i = 0; i + 2 < s->n; i++) {
        one += pow((double)s->pcm[i + 1] - (double)s->pcm[i], 2);
        two += pow((double)s->pcm[i + 2] - (double)s->pcm[i], 2);
    }
    return two > 2.5 * one;
}

static int try_every_second(bench *b, app_error *err) {
    reference_trial t = {
        .kind = FINDING_INTERLEAVED, .what = "every second sample left out", .speed = 1};
    sound undone;
    if (flows(&b->heard)) return EXIT_OK;
    int rc = sound_make(&undone, b->heard.n / 2, b->heard.rate_hz, err);
    if (rc != EXIT_OK) return rc;
    for (size_t i = 0; i < undone.n; i++) undone.pcm[i] = b->heard.pcm[2 * i];
    return try_sound(b, &t, &undone, err);
}

static void make_finite(float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(x[i]) <= 1e6f)) x[i] = 0;
}

static int try_readings(bench *b, app_error *err) {
    int rc = EXIT_OK;
    for (int r = 0; rc == EXIT_OK && r < MISREAD_READINGS; r++) {
        reference_trial t = {.speed = 1};
        sound undone = {.rate_hz = b->heard.rate_hz};
        const char *what;
        rc = misread_undo(&undone.pcm, &undone.n, &t.kind, &what, r, b->raw, b->heard.n, err);
        if (rc != EXIT_OK || !undone.pcm) continue;
        snprintf(t.what, sizeof t.what, "%s", what);
        make_finite(undone.pcm, undone.n);
        rc = try_sound(b, &t, &undone, err);
    }
    return rc;
}

/* ---- another speed -------------------------------------------------------------------------- */

/* Ratios of rates that are in use; what is found near one of them is meant to be it. */
static const int RATES_HZ[] = {8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000};
enum { RATES = sizeof RATES_HZ / sizeof RATES_HZ[0] };
static const double SPEED_LOWEST = 0.3, SPEED_STEP = 1.04, SPEED_FINE = 1.005, SPEED_NEAR = 0.013;

static double ratio_near(double speed) {
    double best = speed, distance = SPEED_NEAR;
    for (int i = 0; i < RATES; i++)
        for (int k = 0; k < RATES; k++) {
            double ratio = (double)RATES_HZ[i] / RATES_HZ[k], off = fabs(log(ratio / speed));
            if (off >= distance || i == k) continue;
            distance = off;
            best = ratio;
        }
    return best;
}

/* The speed from low to high at which the pictures are most alike. */
static int find_speed(double *speed, double low, double high, double step, const bench *b,
                      app_error *err) {
    size_t most = (size_t)(PIECES_LONGEST_S * b->heard.rate_hz);
    size_t n = b->heard.n < most ? b->heard.n : most;
    double best = -1;
    int rc = EXIT_OK;
    for (double s = low; rc == EXIT_OK && s < high; s *= step) {
        mel_picture p = {0};
        double lag_s, match = -1;
        rc = mel_picture_make(&p, b->heard.pcm, n, b->heard.rate_hz / s, err);
        if (rc == EXIT_OK) rc = likeness_of_pictures(&lag_s, &match, &p, &b->picture, err);
        if (match > best) best = match, *speed = s;
        mel_picture_free(&p);
        if (rc == EXIT_OK) rc = app_check_interrupted(err);
    }
    return rc;
}

static int try_speed(bench *b, app_error *err) {
    double speed = 1;
    int rc = find_speed(&speed, SPEED_LOWEST, 1 / SPEED_LOWEST, SPEED_STEP, b, err);
    if (rc == EXIT_OK)
        rc = find_speed(&speed, speed / SPEED_STEP, speed * SPEED_STEP, SPEED_FINE, b, err);
    speed = ratio_near(speed);
    if (rc != EXIT_OK || fabs(log(speed)) < SPEED_NEAR) return rc;
    reference_trial t = {.kind = speed > 1 ? FINDING_TOO_FAST : FINDING_TOO_SLOW, .speed = speed};
    sound undone;
    snprintf(t.what, sizeof t.what, "played %.3f times as fast", 1 / speed);
    rc = sound_copy(&undone, &b->heard, err);
    if (rc != EXIT_OK) return rc;
    undone.rate_hz = (int)lrint(b->heard.rate_hz / speed);
    if (undone.rate_hz < RESAMPLE_MIN_HZ || undone.rate_hz > RESAMPLE_MAX_HZ) {
        sound_free(&undone);
        return EXIT_OK;
    }
    return try_sound(b, &t, &undone, err);
}

/* ---- pieces --------------------------------------------------------------------------------- */

/* Sums of squares up to each sample: energy of any stretch in two steps. */
static double *running_energy(const sound *s) {
    double *sum = malloc((s->n + 1) * sizeof *sum);
    if (!sum) return NULL;
    sum[0] = 0;
    for (size_t i = 0; i < s->n; i++) sum[i + 1] = sum[i] + (double)s->pcm[i] * (double)s->pcm[i];
    return sum;
}

/* Where in `from` n samples occur; `found` has room for from->n + n - 1. */
static int find_piece(reference_piece *out, const float *piece, size_t n, const sound *from,
                      const double *energy, float *found, app_error *err) {
    double own = 1e-12, floor = 1e-4 * energy[from->n] / (double)from->n * (double)n;
    for (size_t i = 0; i < n; i++) own += (double)piece[i] * (double)piece[i];
    int rc = spectrum_correlate(found, from->pcm, from->n, piece, n, err);
    out->match = 0;
    for (size_t i = 0; rc == EXIT_OK && i + n <= from->n; i++) {
        double there = energy[i + n] - energy[i];
        if (there < floor) continue;
        double match = (double)found[i + n - 1] / sqrt(own * there);
        if (fabs(match) <= fabs(out->match)) continue;
        out->match = match;
        out->from_s = (double)i / from->rate_hz;
    }
    return rc;
}

static int find_pieces_in(reference_facts *out, const sound *heard, const sound *from, size_t block,
                          size_t phase, app_error *err) {
    double *energy = running_energy(from), all = 0;
    float *found = malloc((from->n + block) * sizeof *found);
    int rc = energy && found ? EXIT_OK : app_no_memory(err);
    for (size_t i = 0; i < heard->n; i++) all += (double)heard->pcm[i] * (double)heard->pcm[i];
    for (size_t at = phase; rc == EXIT_OK && at + block <= heard->n; at += block) {
        double here = 0;
        if (out->n_pieces == REFERENCE_PIECES) break;
        for (size_t i = at; i < at + block; i++)
            here += (double)heard->pcm[i] * (double)heard->pcm[i];
        if (here < 0.03 * all / (double)heard->n * (double)block) continue;
        reference_piece *p = &out->pieces[out->n_pieces++];
        p->at_s = (double)at / heard->rate_hz;
        rc = find_piece(p, heard->pcm + at, block, from, energy, found, err);
        if (rc == EXIT_OK) rc = app_check_interrupted(err);
    }
    free(energy);
    free(found);
    return rc;
}

/* Do the pieces go on where the one before ended? */
static void count_pieces(reference_facts *out, double block_s) {
    int found = 0, pairs = 0, next = 0, ahead = 0;
    for (int i = 0; i < out->n_pieces; i++) {
        const reference_piece *p = &out->pieces[i];
        if (fabs(p->match) < PIECE_FOUND) continue;
        found++;
        if (i == 0 || fabs(p[-1].match) < PIECE_FOUND) continue;
        double jump = (p->from_s - p[-1].from_s) - (p->at_s - p[-1].at_s);
        pairs++;
        next += fabs(jump) < 0.1 * block_s;
        ahead += jump >= 0.1 * block_s;
    }
    out->found = out->n_pieces ? (double)found / out->n_pieces : 0;
    out->in_order = pairs ? (double)next / pairs : 0;
    out->ahead = pairs > next ? (double)ahead / (pairs - next) : 0;
}

static int find_pieces(bench *b, app_error *err) {
    sound heard = {0}, from = {0};
    int rc = sound_resample(&heard, &b->heard, &SINC_FILE, PIECES_HZ, NULL, err);
    if (rc == EXIT_OK) rc = sound_resample(&from, b->reference, &SINC_FILE, PIECES_HZ, NULL, err);
    size_t most = (size_t)(PIECES_LONGEST_S * PIECES_HZ), block = PIECES_HZ * 2 / 25;
    if (heard.n > most) heard.n = most;
    if (from.n > most) from.n = most;
    if (rc == EXIT_OK && from.n >= block) rc = find_pieces_in(b->out, &heard, &from, block, 0, err);
    count_pieces(b->out, (double)block / PIECES_HZ);
    sound_free(&heard);
    sound_free(&from);
    return rc;
}

/* ---- all of it ------------------------------------------------------------------------------ */

static int try_all(bench *b, app_error *err) {
    size_t frame = (size_t)b->heard.rate_hz * 2 / 25, period = (size_t)b->seams->period;
    size_t phase = (size_t)b->seams->phase;
    int rc = mel_picture_make(&b->picture, b->wanted.pcm, b->wanted.n, b->wanted.rate_hz, err);
    if (rc == EXIT_OK) rc = try_reversed(b, err);
    if (rc == EXIT_OK) rc = try_blocks(b, frame, 0, err);
    if (rc == EXIT_OK && period != frame) rc = try_blocks(b, period, phase, err);
    if (rc == EXIT_OK) rc = try_every_second(b, err);
    if (rc == EXIT_OK) rc = try_readings(b, err);
    if (rc == EXIT_OK && (b->n_best == 0 || b->best[0].match < CERTAIN)) rc = try_speed(b, err);
    if (rc == EXIT_OK) rc = compare_best(b, err);
    if (rc == EXIT_OK && (b->out->n_trials == 0 || b->out->trials[0].alike.estoi < REFERENCE_SAME))
        rc = find_pieces(b, err);
    return rc;
}

static reference_verdict decide(const reference_facts *f) {
    double best = f->alike.estoi;
    if (!f->alike.understood) return REFERENCE_OPEN;
    if (f->alike.estoi >= REFERENCE_SAME) return REFERENCE_SAYS_THE_SAME;
    for (int i = 0; i < f->n_trials; i++) best = fmax(best, f->trials[i].alike.estoi);
    return best >= REFERENCE_TRACE || f->found > 0.4 ? REFERENCE_DAMAGED : REFERENCE_DIFFERENT;
}

int reference_measure(reference_facts *out, const float *raw, size_t n, int rate_hz,
                      const sound *reference, const splice_facts *seams, app_error *err) {
    bench b = {.raw = raw, .seams = seams, .out = out};
    sound shorter = *reference, heard = {0};
    size_t most = (size_t)(REFERENCE_LONGEST_S * reference->rate_hz);
    memset(out, 0, sizeof *out);
    if (shorter.n > most) shorter.n = most;
    if (n > (size_t)(REFERENCE_LONGEST_S * rate_hz)) n = (size_t)(REFERENCE_LONGEST_S * rate_hz);
    b.reference = &shorter;
    out->measured = true;
    out->seconds = (double)shorter.n / shorter.rate_hz;
    out->rate_hz = rate_hz < shorter.rate_hz ? rate_hz : shorter.rate_hz;
    if (out->rate_hz > COMMON_HZ) out->rate_hz = COMMON_HZ;
    int rc = sound_make(&b.heard, n, rate_hz, err);
    if (rc == EXIT_OK) {
        memcpy(b.heard.pcm, raw, n * sizeof *raw);
        make_finite(b.heard.pcm, n);
        rc = sound_resample(&heard, &b.heard, &SINC_FILE, out->rate_hz, NULL, err);
    }
    if (rc == EXIT_OK)
        rc = sound_resample(&b.wanted, &shorter, &SINC_FILE, out->rate_hz, NULL, err);
    if (rc == EXIT_OK) rc = likeness_compare(&out->laid, &out->alike, &heard, &b.wanted, err);
    if (rc == EXIT_OK && decide(out) != REFERENCE_SAYS_THE_SAME) rc = try_all(&b, err);
    out->verdict = decide(out);
    sound_free(&heard);
    sound_free(&b.heard);
    sound_free(&b.wanted);
    mel_picture_free(&b.picture);
    for (int i = 0; i < b.n_best; i++) sound_free(&b.best[i].undone);
    return rc;
}
