/* misread.c - readings of a file that might have been meant. */
#include "misread.h"

#include "splice.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The undone reading must be this much more predictable, and predictable enough to be speech. */
static const double LEAP_DB = 5, LEAP_WIDTH_DB = 2, SPEECH_DB = 8, ORDINARY_DB = 14;
/* As much of the sound as is needed to be sure. */
static const double EXAMINED_S = 4;

typedef enum reading {
    READ_SWAPPED,      /* bytes of each 16-bit sample exchanged */
    READ_ODD_LITTLE,   /* samples begin in the middle of ours */
    READ_ODD_BIG,      /* the same, other byte order */
    READ_FLIPPED,      /* sign bit of 16 bits */
    READ_FLIPPED_8,    /* sign bit of 8 bits */
    READ_ULAW_8,       /* one code per sample */
    READ_ULAW_8S,      /* the same, read as signed bytes */
    READ_ULAW_PAIRS,   /* two codes per 16-bit sample */
    READ_ALAW_8,       /* likewise */
    READ_ALAW_8S,      /* likewise */
    READ_ALAW_PAIRS,   /* likewise */
    READ_FLOAT_PAIRS,  /* two 16-bit samples are a float */
    READ_INT16_PAIRS,  /* a float is two 16-bit samples */
    READ_LINEAR_PAIRS, /* two mu-law codes are the bytes of a 16-bit sample */
    READ_LINEAR_8,     /* a mu-law code is an unsigned byte */
    READ_ULAW_AS_ALAW, /* A-law values, whose codes are mu-law */
    READ_ALAW_AS_ULAW, /* mu-law values, whose codes are A-law */
    READ_NEIGHBOURS,   /* every two samples exchanged: words of 32 bits, halves swapped */
    READINGS
} reading;
_Static_assert(READINGS == (int)MISREAD_READINGS, "as many as the header says");

static const struct {
    finding_kind kind;
    const char *what;
} READING[READINGS] = {
    [READ_SWAPPED] = {FINDING_SWAPPED_BYTES, "with the bytes of each sample exchanged"},
    [READ_ODD_LITTLE] = {FINDING_ODD_BYTE, "read from one byte later, low byte first"},
    [READ_ODD_BIG] = {FINDING_ODD_BYTE, "read from one byte later, high byte first"},
    [READ_FLIPPED] = {FINDING_SIGN_FLIPPED, "with the sign bit of 16 bits flipped"},
    [READ_FLIPPED_8] = {FINDING_SIGN_FLIPPED, "with the sign bit of 8 bits flipped"},
    [READ_ULAW_8] = {FINDING_ULAW_AS_LINEAR, "its unsigned bytes taken as mu-law codes"},
    [READ_ULAW_8S] = {FINDING_ULAW_AS_LINEAR, "its signed bytes taken as mu-law codes"},
    [READ_ULAW_PAIRS] = {FINDING_ULAW_AS_LINEAR, "each sample taken as two mu-law codes"},
    [READ_ALAW_8] = {FINDING_ALAW_AS_LINEAR, "its unsigned bytes taken as A-law codes"},
    [READ_ALAW_8S] = {FINDING_ALAW_AS_LINEAR, "its signed bytes taken as A-law codes"},
    [READ_ALAW_PAIRS] = {FINDING_ALAW_AS_LINEAR, "each sample taken as two A-law codes"},
    [READ_FLOAT_PAIRS] = {FINDING_FLOAT_AS_INT16, "two samples taken as one float"},
    [READ_INT16_PAIRS] = {FINDING_INT16_AS_FLOAT, "one float taken as two samples"},
    [READ_LINEAR_PAIRS] = {FINDING_LINEAR_AS_ULAW, "two codes taken as the bytes of one sample"},
    [READ_LINEAR_8] = {FINDING_LINEAR_AS_ULAW, "codes taken as linear bytes"},
    [READ_ULAW_AS_ALAW] = {FINDING_LAWS_EXCHANGED, "its codes taken as mu-law instead of A-law"},
    [READ_ALAW_AS_ULAW] = {FINDING_LAWS_EXCHANGED, "its codes taken as A-law instead of mu-law"},
    [READ_NEIGHBOURS] = {FINDING_PAIRS_EXCHANGED, "with every two samples exchanged"},
};

/* ---- G.711 (ITU-T, 1988) -------------------------------------------------------------------- */

static int ulaw_decode(unsigned code) {
    code = ~code & 0xff;
    int magnitude = (int)((((code & 15) << 3) + 132) << (code >> 4 & 7)) - 132;
    return code & 0x80 ? -magnitude : magnitude;
}

static int alaw_decode(unsigned code) {
    code ^= 0x55;
    unsigned exponent = code >> 4 & 7, mantissa = (code & 15) << 4;
    int magnitude = (int)(exponent ? (mantissa + 264) << (exponent - 1) : mantissa + 8);
    return code & 0x80 ? magnitude : -magnitude;
}

static unsigned ulaw_encode(int value) {
    unsigned sign = value < 0 ? 0x80 : 0, exponent = 7;
    unsigned magnitude = (unsigned)(value < 0 ? -value : value);
    magnitude = (magnitude > 32635 ? 32635 : magnitude) + 132;
    while (exponent > 0 && !(magnitude >> (exponent + 7))) exponent--;
    return ~(sign | exponent << 4 | (magnitude >> (exponent + 3) & 15)) & 0xff;
}

static unsigned alaw_encode(int value) {
    unsigned sign = value < 0 ? 0 : 0x80, exponent = 7;
    unsigned magnitude = (unsigned)(value < 0 ? -value : value);
    if (magnitude > 32767) magnitude = 32767;
    while (exponent > 0 && !(magnitude >> (exponent + 7))) exponent--;
    unsigned mantissa = magnitude >> (exponent ? exponent + 3 : 4) & 15;
    return (sign | exponent << 4 | mantissa) ^ 0x55;
}

/* ---- readings ------------------------------------------------------------------------------- */

/* What the samples are made of decides which mistakes are possible. */
typedef struct source {
    const float *raw;
    const uint16_t *bits; /* [n] as 16-bit samples; NULL when they are none */
    size_t n;
    bool bytes;  /* all low bytes are zero: 8-bit samples */
    bool ulaw;   /* all samples are values of mu-law codes */
    bool alaw;   /* all samples are values of A-law codes */
    bool failed; /* what is no number came out of arithmetic */
} source;

static int16_t signed_of(uint16_t bits) {
    return (int16_t)(bits < 0x8000 ? (int)bits : (int)bits - 0x10000);
}

static float unit(int value) {
    return (float)value / 32768.0f;
}

static float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static bool possible(const source *s, reading r) {
    switch (r) {
    case READ_FLIPPED_8:
    case READ_ULAW_8:
    case READ_ULAW_8S:
    case READ_ALAW_8:
    case READ_ALAW_8S:
        return s->bits && s->bytes;
    case READ_LINEAR_PAIRS:
    case READ_LINEAR_8:
        return s->bits && s->ulaw;
    case READ_ALAW_AS_ULAW:
        return s->bits && s->ulaw && !s->bytes;
    case READ_ULAW_AS_ALAW:
        return s->bits && s->alaw && !s->bytes;
    case READ_NEIGHBOURS:
        return s->bits;
    case READ_INT16_PAIRS:
        return !s->bits && !s->failed;
    default:
        return s->bits && !s->bytes;
    }
}

/* One to one: sample i of the reading. */
static float read_one(const source *s, reading r, size_t i) {
    uint16_t b = s->bits[i], next = s->bits[i + 1 < s->n ? i + 1 : i];
    switch (r) {
    case READ_SWAPPED:
        return unit(signed_of((uint16_t)(b << 8 | b >> 8)));
    case READ_ODD_LITTLE:
        return unit(signed_of((uint16_t)((next & 0xff) << 8 | b >> 8)));
    case READ_ODD_BIG:
        return unit(signed_of((uint16_t)((b & 0xff00) | (next & 0xff))));
    case READ_FLIPPED:
    case READ_FLIPPED_8:
        return unit(signed_of(b ^ 0x8000));
    case READ_ULAW_8:
        return unit(ulaw_decode(((unsigned)b >> 8) ^ 0x80));
    case READ_ULAW_8S:
        return unit(ulaw_decode((unsigned)b >> 8));
    case READ_ALAW_8:
        return unit(alaw_decode(((unsigned)b >> 8) ^ 0x80));
    case READ_ALAW_8S:
        return unit(alaw_decode((unsigned)b >> 8));
    case READ_ULAW_AS_ALAW:
        return unit(ulaw_decode(alaw_encode(signed_of(b))));
    case READ_ALAW_AS_ULAW:
        return unit(alaw_decode(ulaw_encode(signed_of(b))));
    case READ_NEIGHBOURS:
        return unit(signed_of(s->bits[(i ^ 1) < s->n ? i ^ 1 : i]));
    default:
        return unit(((int)ulaw_encode(signed_of(b)) - 128) * 256);
    }
}

/* Fill out (room for 2 n) with a reading; how many samples it has. */
static size_t read_as(float *out, const source *s, reading r) {
    size_t n = s->n;
    switch (r) {
    case READ_ULAW_PAIRS:
    case READ_ALAW_PAIRS:
        for (size_t i = 0; i < 2 * n; i++) {
            unsigned code = s->bits[i / 2] >> (i & 1 ? 8 : 0) & 0xff;
            out[i] = unit(r == READ_ULAW_PAIRS ? ulaw_decode(code) : alaw_decode(code));
        }
        return 2 * n;
    case READ_FLOAT_PAIRS:
        for (size_t i = 0; i < n / 2; i++)
            out[i] = float_of((uint32_t)s->bits[2 * i + 1] << 16 | s->bits[2 * i]);
        return n / 2;
    case READ_INT16_PAIRS:
        for (size_t i = 0; i < 2 * n; i++)
            out[i] = unit(signed_of((uint16_t)(bits_of(s->raw[i / 2]) >> (i & 1 ? 16 : 0))));
        return 2 * n;
    case READ_LINEAR_PAIRS:
        for (size_t i = 0; i < n / 2; i++)
            out[i] = unit(signed_of((uint16_t)(ulaw_encode(signed_of(s->bits[2 * i + 1])) << 8 |
                                               ulaw_encode(signed_of(s->bits[2 * i])))));
        return n / 2;
    default:
        for (size_t i = 0; i < n; i++) out[i] = read_one(s, r, i);
        return n;
    }
}

/* Make a reading comparable: slow movement filtered out, since the edges of what became of silence
 * are easy to predict; peak 1. False when it cannot be sound: hardly any different values, or
 * numbers from outer space. */
static bool tidy(float *x, size_t n) {
    double before = 0, y = 0, peak = 0;
    size_t steps = 0;
    for (size_t i = 0; i < n; i++) {
        double now = (double)x[i];
        if (!(fabs(now) <= 8)) return false;
        if (i == 0) before = now;
        steps += now != before;
        y = now - before + 0.98 * y;
        before = now;
        x[i] = (float)y;
        if (fabs(y) > peak) peak = fabs(y);
    }
    if (peak < 1e-4 || steps < n / 50) return false;
    for (size_t i = 0; i < n; i++) x[i] = (float)((double)x[i] / peak);
    return true;
}

/* Prediction gain of a reading; 0 when it cannot be sound. */
static int gain_of(double *gain_db, float *x, size_t n, int rate_hz, app_error *err) {
    *gain_db = 0;
    if (n < (size_t)rate_hz / 10 || !tidy(x, n)) return EXIT_OK;
    return splice_prediction_gain(gain_db, x, n, rate_hz, err);
}

static int try_readings(findings *found, const source *s, int rate_hz, app_error *err) {
    float *x = malloc((2 * s->n + 2) * sizeof *x);
    if (!x) return app_no_memory(err);
    memcpy(x, s->raw, s->n * sizeof *x);
    double gain_db, best_db;
    int rc = gain_of(&gain_db, x, s->n, rate_hz, err);
    best_db = gain_db;
    /* What is predictable as it is needs no other reading. */
    bool ordinary = gain_db > ORDINARY_DB + 6;
    reading best = READINGS;
    for (reading r = 0; rc == EXIT_OK && !ordinary && r < READINGS; r++) {
        double undone_db = 0;
        if (!possible(s, r)) continue;
        rc = gain_of(&undone_db, x, read_as(x, s, r), rate_hz, err);
        /* Nothing but a decoder makes values of codes only: of such no other reading is needed. */
        bool decoded = r == READ_ULAW_AS_ALAW || r == READ_ALAW_AS_ULAW;
        double than = decoded ? gain_db + LEAP_DB + LEAP_WIDTH_DB : best_db + 1;
        if (rc != EXIT_OK || undone_db < SPEECH_DB || undone_db < than) continue;
        best_db = undone_db;
        best = r;
    }
    free(x);
    if (rc != EXIT_OK || best == READINGS) return rc;
    double leap = best_db - gain_db;
    double odd = finding_confidence(-gain_db, -ORDINARY_DB, 2);
    finding *f = findings_add(found, READING[best].kind,
                              odd * finding_confidence(leap, LEAP_DB, LEAP_WIDTH_DB),
                              "leap of the prediction gain, dB", leap, LEAP_DB);
    snprintf(f->evidence, sizeof f->evidence,
             "%s, samples follow from those before with %.1f dB of prediction gain; as they are, "
             "with %.1f dB",
             READING[best].what, best_db, gain_db);
    return EXIT_OK;
}

/* ---- direct signs --------------------------------------------------------------------------- */

/* In an ordinary recording samples of even and of odd number are alike: as loud, and as far from
 * those after them. Where two channels alternate they are not. Only what repeats throughout the
 * recording counts, hence the sums over all of it. Neural codecs double their rates with filters
 * that make steps differ too, by 0.65 nepers at most so far: alike channels make them differ by
 * much more. */
static void find_alternation(findings *found, const float *raw, size_t n) {
    double power[2] = {1e-12, 1e-12}, step[2] = {1e-12, 1e-12}, bend[2] = {1e-12, 1e-12}, mean = 0;
    for (size_t i = 0; i + 2 < n; i++) mean += (double)raw[i] / (double)n;
    for (size_t i = 0; i + 2 < n; i++) {
        double x = (double)raw[i], d = (double)raw[i + 1] - x;
        if (!(fabs(x) <= 2) || !(fabs(d) <= 4)) return;
        /* An offset would weigh a whistle at half the rate up in one of them. */
        power[i & 1] += (x - mean) * (x - mean);
        step[i & 1] += d * d;
        double middle = (double)raw[i + 1] - (x + (double)raw[i + 2]) / 2;
        bend[~i & 1] += middle * middle;
    }
    if (power[0] + power[1] < 1e-6 * (double)n) return;
    /* Where a rate was doubled by straight lines, every second sample is the middle of its
     * neighbours, hence quieter: dull, but nobody's second channel. */
    int quiet = power[1] < power[0];
    if (bend[quiet] < 0.1 * bend[!quiet]) return;
    double louder = fabs(log(power[0] / power[1])), farther = fabs(log(step[0] / step[1]));
    double most = fmax(louder / 0.4, farther / 1.6);
    finding *f = findings_add(found, FINDING_INTERLEAVED, finding_confidence(most, 1, 0.3),
                              "difference of even and odd samples, of what is suspicious", most, 1);
    snprintf(f->evidence, sizeof f->evidence,
             "even and odd samples differ by %.1f dB in level and by %.1f dB in their steps to the "
             "next, as when channels alternate",
             4.343 * louder, 4.343 * farther);
}

/* Integers that were never scaled down, or were cut off at 1. */
static void find_unscaled(findings *found, const float *raw, size_t n) {
    size_t whole = 0, beyond = 0, cut = 0, between = 0, sounding = 0;
    for (size_t i = 0; i < n; i++) {
        double size = fabs((double)raw[i]);
        whole += raw[i] == rintf(raw[i]);
        beyond += size > 2;
        cut += size > 0.9998 && size <= 1;
        between += size > 1e-3 && size <= 0.9998;
        sounding += size > 1e-5;
    }
    double integers = n ? (double)whole / (double)n : 0;
    double rails = sounding ? (double)cut / (double)sounding : 0;
    if (beyond > n / 100 && integers > 0.9) {
        finding *f = findings_add(found, FINDING_INT16_AS_FLOAT, 0.99, "share of whole numbers",
                                  integers, 0.9);
        snprintf(f->evidence, sizeof f->evidence,
                 "samples go far beyond 1 and %.0f %% of them are whole numbers", 100 * integers);
    } else if (rails > 0.3 && between < sounding / 30) {
        finding *f =
            findings_add(found, FINDING_INT16_AS_FLOAT, finding_confidence(rails, 0.55, 0.12),
                         "share of samples at full scale", rails, 0.55);
        snprintf(f->evidence, sizeof f->evidence,
                 "%.0f %% of the sounding samples are at full scale, as when integers are cut off "
                 "at 1",
                 100 * rails);
    }
}

/* With the wrong sign bit, quiet sounds lie at the far ends of the range and nothing lies in the
 * middle. Cut off samples do so too, but they all are the same. */
static void find_flipped(findings *found, const float *raw, size_t n) {
    size_t middle = 0, ends = 0, alive = 0;
    for (size_t i = 0; i < n; i++) {
        double size = fabs((double)raw[i]), to_end = 1 - size;
        middle += size < 0.25;
        ends += to_end >= 0 && to_end < 0.25;
        alive += to_end > 2e-4 && to_end < 0.25;
    }
    double share = n ? ((double)ends - (double)middle) / (double)n : 0;
    double life = n ? (double)alive / (double)n : 0;
    finding *f =
        findings_add(found, FINDING_SIGN_FLIPPED,
                     finding_confidence(share, 0.6, 0.15) * finding_confidence(life, 0.04, 0.015),
                     "share at the ends of the range less that in the middle", share, 0.6);
    snprintf(f->evidence, sizeof f->evidence,
             "%.0f %% of the samples lie in the outer quarter of the range, %.0f %% in the inner "
             "one",
             100.0 * (double)ends / (double)(n + !n), 100.0 * (double)middle / (double)(n + !n));
}

/* ---- all of it ------------------------------------------------------------------------------ */

static bool inspect_values(source *s, uint16_t *bits) {
    bool ulaw = true, alaw = true, bytes = true;
    for (size_t i = 0; i < s->n; i++) {
        float scaled = s->raw[i] * 32768.0f;
        if (!(fabsf(scaled) <= 32768.0f) || scaled != rintf(scaled)) return false;
        int value = (int)scaled > 32767 ? 32767 : (int)scaled;
        bits[i] = (uint16_t)value;
        bytes = bytes && (value & 0xff) == 0;
        ulaw = ulaw && ulaw_decode(ulaw_encode(value)) == value;
        alaw = alaw && alaw_decode(alaw_encode(value)) == value;
    }
    s->bytes = bytes;
    s->ulaw = ulaw;
    s->alaw = alaw;
    return true;
}

/* Arithmetic that fails gives an infinity or the one quiet NaN of the processor; pairs of integers
 * give NaNs of all kinds (every second sample between -1 and -128 makes one). */
static bool arithmetic_failed(const float *raw, size_t n) {
    size_t plain = 0, none = 0;
    for (size_t i = 0; i < n; i++) {
        if (isfinite(raw[i])) continue;
        uint32_t bits = bits_of(raw[i]) & 0x7fffffff;
        plain += bits == 0x7f800000 || bits == 0x7fc00000;
        none++;
    }
    return none > 0 && 2 * plain > none;
}

/* Where to take `most` of n samples; half a second at a time. What moves most, not what is loudest:
 * misread silence may be as loud as can be. */
static size_t busiest_part(const float *raw, size_t n, size_t most) {
    size_t step = most / 8, best = 0;
    double busiest = -1;
    if (step == 0) return 0;
    for (size_t at = 0; at + most <= n; at += step) {
        double sum = 0;
        for (size_t i = at; i + 1 < at + most; i += 7) {
            double step_to_next = (double)raw[i + 1] - (double)raw[i];
            if (fabs(step_to_next) < 4) sum += step_to_next * step_to_next;
        }
        if (sum > busiest) busiest = sum, best = at;
    }
    return best;
}

int misread_undo(float **out, size_t *n_out, finding_kind *kind, const char **what, int which,
                 const float *raw, size_t n, app_error *err) {
    source s = {.raw = raw, .n = n};
    uint16_t *bits = malloc((n + 1) * sizeof *bits);
    int rc = bits ? EXIT_OK : app_no_memory(err);
    *out = NULL;
    *kind = READING[which].kind;
    *what = READING[which].what;
    if (bits && inspect_values(&s, bits)) s.bits = bits;
    if (bits && possible(&s, (reading)which)) {
        *out = malloc((2 * n + 2) * sizeof **out);
        if (*out)
            *n_out = read_as(*out, &s, (reading)which);
        else
            rc = app_no_memory(err);
    }
    free(bits);
    return rc;
}

int misread_find(findings *found, const float *raw, size_t n, int rate_hz, app_error *err) {
    size_t most = (size_t)(EXAMINED_S * rate_hz);
    raw += busiest_part(raw, n, most);
    source s = {.raw = raw, .n = n < most ? n : most};
    uint16_t *bits = malloc((s.n + 1) * sizeof *bits);
    if (!bits) return app_no_memory(err);
    if (inspect_values(&s, bits)) s.bits = bits;
    s.failed = !s.bits && arithmetic_failed(s.raw, s.n);
    find_alternation(found, raw, s.n);
    find_unscaled(found, raw, s.n);
    bool settled = findings_confidence(found, FINDING_INT16_AS_FLOAT) >= FINDING_FAULT ||
                   findings_confidence(found, FINDING_INTERLEAVED) >= FINDING_FAULT;
    /* Codes of companded bytes lie at the ends too. */
    if (!settled && !s.bytes) find_flipped(found, raw, s.n);
    settled = settled || findings_confidence(found, FINDING_SIGN_FLIPPED) >= FINDING_FAULT;
    int rc = settled ? EXIT_OK : try_readings(found, &s, rate_hz, err);
    free(bits);
    return rc;
}
