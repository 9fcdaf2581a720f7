/* test_reference.c - likeness of two sounds against figures computed elsewhere in double precision,
 * and what has to be undone to make a spoilt recording its reference again. */
#include "check.h"
#include "damage.h"
#include "likeness.h"
#include "reference.h"
#include "stoi.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifdef APP_HAVE_KISSFFT

/* Three tones whose levels swing, and the same with other swings and a fourth tone. The figures
 * come from the papers' formulas in numpy with 64-bit floats (frames, bands and segments as stoi.h
 * says) on these samples rounded to floats. */
enum { N = 12000 };

static void make_tones(float *x, double swing, double fourth) {
    for (int i = 0; i < N; i++) {
        double t = i / (double)STOI_HZ, sum = 0;
        for (int k = 1; k <= 3; k++)
            sum += sin(2 * M_PI * 333 * k * k * t) * (1.1 + sin(2 * M_PI * (swing + k) * t + k));
        sum += fourth * sin(2 * M_PI * 1111 * t) * (1 + sin(2 * M_PI * 2.5 * t));
        /* Half a second in which the reference is silent. */
        x[i] = (float)(0.1 * sum * (i >= 5000 && i < 7500 && fourth == 0 ? 0 : 1));
    }
}

static void test_stoi(void) {
    float *x = malloc(N * sizeof *x), *y = malloc(N * sizeof *y);
    stoi_result r;
    app_error err = {0};
    make_tones(x, 1, 0);
    make_tones(y, 1.1, 0.3);
    CHECK(stoi_measure(&r, x, x, N, &err) == EXIT_OK, "%s", err.text);
    CHECK(fabs(r.stoi - 1) < 1e-5 && fabs(r.estoi - 1) < 1e-5, "itself: %g, %g", r.stoi, r.estoi);
    CHECK(stoi_measure(&r, x, y, N, &err) == EXIT_OK, "%s", err.text);
    CHECK(r.segments == 45, "segments: %zu", r.segments);
    CHECK(fabs(r.stoi - 0.7547645) < 1e-4, "STOI %.6f", r.stoi);
    CHECK(fabs(r.estoi - 0.5371426) < 1e-4, "ESTOI %.6f", r.estoi);
    CHECK(stoi_measure(&r, x, y, 3000, &err) == EXIT_OK && r.segments == 0 && r.stoi == 0,
          "0.3 s: %zu segments, %g", r.segments, r.stoi);
    free(x);
    free(y);
}

/* ---- two sounds ----------------------------------------------------------------------------- */

enum { RATE = 16000 };

/* Noise that swings like syllables; `seed` says which. */
static sound make_noise(size_t n, uint64_t seed) {
    app_error err = {0};
    sound s;
    if (!CHECK(sound_make(&s, n, RATE, &err) == EXIT_OK, "%s", err.text)) exit(1);
    for (size_t i = 0; i < n; i++) {
        double swing = 1.05 + sin(2 * M_PI * 3.3 * (double)i / RATE + sin((double)i / 5000.0));
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        s.pcm[i] = (float)(((double)(seed >> 40) / (1 << 24) - 0.5) * swing);
    }
    return s;
}

static void compare(alignment *laid, likeness *alike, const sound *heard, const sound *reference) {
    app_error err = {0};
    CHECK(likeness_compare(laid, alike, heard, reference, &err) == EXIT_OK, "%s", err.text);
}

/* Heard is a quarter of the reference, upside down and 1234 samples late, plus other noise. */
static void test_si_sdr(void) {
    enum { LATE = 1234, LENGTH = 4 * RATE };
    sound r = make_noise(LENGTH, 1), h = make_noise(LENGTH + LATE, 2);
    alignment laid;
    likeness alike;
    double mean_r = 0, mean_h = 0, rr = 0, hh = 0, rh = 0;
    for (size_t i = 0; i < h.n; i++)
        h.pcm[i] = 0.03f * h.pcm[i] - (i >= LATE ? 0.25f * r.pcm[i - LATE] : 0);
    for (size_t i = 0; i < r.n; i++) {
        mean_r += (double)r.pcm[i] / LENGTH;
        mean_h += (double)h.pcm[i + LATE] / LENGTH;
    }
    for (size_t i = 0; i < r.n; i++) {
        double a = (double)r.pcm[i] - mean_r, b = (double)h.pcm[i + LATE] - mean_h;
        rr += a * a, hh += b * b, rh += a * b;
    }
    double target = rh * rh / rr, want = 10 * log10(target / (hh - target));
    compare(&laid, &alike, &h, &r);
    CHECK(fabs(laid.delay_s * RATE - LATE) < 0.05, "delay %g samples", laid.delay_s * RATE);
    CHECK(laid.inverted, "polarity was missed");
    CHECK(fabs(laid.gain_db - 10 * log10(hh / rr)) < 0.02, "gain %g", laid.gain_db);
    CHECK(want > 17 && want < 20 && fabs(alike.si_sdr_db - want) < 0.05, "SI-SDR %g, wanted %g",
          alike.si_sdr_db, want);
    CHECK(alike.stoi > 0.95 && alike.estoi > 0.8 && alike.understood, "STOI %g, ESTOI %g",
          alike.stoi, alike.estoi);
    CHECK(laid.covered > 0.99 && fabs(laid.common_s - 4) < 0.01, "covered %g, %g s", laid.covered,
          laid.common_s);
    sound_free(&h);
    sound_free(&r);
}

/* Half a sample late, which a sinc undoes: what is left of a band-limited sound is small. */
static void test_part_of_sample(void) {
    sound r, h;
    app_error err = {0};
    alignment laid;
    likeness alike;
    CHECK(sound_make(&r, 2 * RATE, RATE, &err) == EXIT_OK, "%s", err.text);
    CHECK(sound_make(&h, 2 * RATE, RATE, &err) == EXIT_OK, "%s", err.text);
    for (int k = 1; k < 40; k++)
        for (size_t i = 0; i < r.n; i++) {
            double hz = 117.3 * k + 0.7 * k * k;
            r.pcm[i] += (float)(0.02 * sin(2 * M_PI * hz * (double)i / RATE + k * k));
            h.pcm[i] += (float)(0.02 * sin(2 * M_PI * hz * ((double)i - 0.4) / RATE + k * k));
        }
    compare(&laid, &alike, &h, &r);
    CHECK(fabs(laid.delay_s * RATE - 0.4) < 0.06, "delay %g samples", laid.delay_s * RATE);
    CHECK(alike.si_sdr_db > 25, "SI-SDR %g", alike.si_sdr_db);
    sound_free(&h);
    sound_free(&r);
}

/* A filter moves the log power of each band by a known amount; what that is in cepstra needs no
 * spectrum. */
static void test_cepstra(void) {
    sound r = make_noise(4 * RATE, 3), h = make_noise(4 * RATE, 3);
    alignment laid;
    likeness alike;
    double want = 0, low = 1127 * log1p(120 / 700.0), high = 1127 * log1p(3800 / 700.0);
    for (size_t i = h.n - 1; i > 0; i--) h.pcm[i] = 0.5f * (h.pcm[i] - 0.8f * h.pcm[i - 1]);
    for (int d = 1; d <= 12; d++) {
        double sum = 0;
        for (int b = 0; b < MEL_BANDS; b++) {
            double hz = 700 * expm1((low + (high - low) * (b + 1) / (MEL_BANDS + 1)) / 1127);
            double w = 2 * M_PI * hz / RATE;
            sum += log(1 + 0.64 - 1.6 * cos(w)) * cos(M_PI * d * (b + 0.5) / MEL_BANDS) / MEL_BANDS;
        }
        want += 2 * sum * sum;
    }
    want = 10 / log(10) * sqrt(want);
    compare(&laid, &alike, &h, &r);
    CHECK(want > 3 && fabs(alike.mel_cepstral_db - want) < 0.05 * want, "%g dB, wanted %g",
          alike.mel_cepstral_db, want);
    compare(&laid, &alike, &r, &r);
    CHECK(alike.mel_cepstral_db < 1e-6 && alike.si_sdr_db > 99 && alike.stoi > 0.9999,
          "itself: %g dB, SI-SDR %g, STOI %g", alike.mel_cepstral_db, alike.si_sdr_db, alike.stoi);
    sound_free(&h);
    sound_free(&r);
}

/* ---- a recording and its reference ---------------------------------------------------------- */

static const char SPEECH[] = "samples/conversation_user.flac",
                  OTHER[] = "samples/03_tell_me_the_days_of_the_week_user.wav";

static bool load(sound *s, const char *path, double seconds) {
    app_error err = {0};
    if (!CHECK(sound_load(s, path, 0, &err) == EXIT_OK, "%s", err.text)) return false;
    if (s->n > (size_t)(seconds * s->rate_hz)) s->n = (size_t)(seconds * s->rate_hz);
    return true;
}

static void measure(reference_facts *out, const float *pcm, size_t n, const sound *reference) {
    app_error err = {0};
    splice_facts seams = {0};
    CHECK(reference_measure(out, pcm, n, reference->rate_hz, reference, &seams, &err) == EXIT_OK,
          "%s", err.text);
}

/* What is undone must be what was done. */
static void test_damages(void) {
    static const char *const NAMES[] = {"reversed",   "frames-reversed", "order-reversed",
                                        "half-speed", "frames-swapped",  "swapped-bytes",
                                        "odd-byte"};
    sound s;
    reference_facts f;
    app_error err = {0};
    if (!load(&s, SPEECH, 2.6)) return;
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++) {
        const damage *d = damage_find(NAMES[i]);
        float *pcm;
        size_t n;
        if (!CHECK(d && damage_make(d, &pcm, &n, s.pcm, s.n, s.rate_hz, 7, &err) == EXIT_OK,
                   "%s: %s", NAMES[i], err.text))
            continue;
        measure(&f, pcm, n, &s);
        CHECK(f.verdict == REFERENCE_DAMAGED, "%s: %s, ESTOI %g", NAMES[i],
              reference_verdict_name(f.verdict), f.alike.estoi);
        CHECK(f.n_trials > 0 && f.trials[0].kind == d->kind, "%s is undone by: %s", NAMES[i],
              f.trials[0].what);
        CHECK(f.trials[0].alike.estoi > 0.9, "%s undone: ESTOI %g", NAMES[i],
              f.trials[0].alike.estoi);
        free(pcm);
    }
    sound_free(&s);
}

static void test_shuffled(void) {
    sound s;
    reference_facts f;
    app_error err = {0};
    float *pcm;
    size_t n;
    if (!load(&s, SPEECH, 2.6)) return;
    CHECK(damage_make(damage_find("frames-shuffled"), &pcm, &n, s.pcm, s.n, s.rate_hz, 7, &err) ==
              EXIT_OK,
          "%s", err.text);
    measure(&f, pcm, n, &s);
    CHECK(f.verdict == REFERENCE_DAMAGED, "shuffled: %s", reference_verdict_name(f.verdict));
    CHECK(f.found > 0.8 && f.in_order < 0.3, "%g of the pieces found, %g in order", f.found,
          f.in_order);
    free(pcm);
    sound_free(&s);
}

static void test_the_same(void) {
    sound s, other;
    reference_facts f;
    if (!load(&s, SPEECH, 2.6)) return;
    if (!load(&other, OTHER, 5)) return;
    measure(&f, other.pcm, other.n, &s);
    CHECK(f.verdict == REFERENCE_DIFFERENT, "another recording: %s, ESTOI %g",
          reference_verdict_name(f.verdict), f.alike.estoi);
    /* A second late, quieter, with noise 20 dB below. */
    size_t late = (size_t)s.rate_hz, n = s.n + late;
    float *pcm = calloc(n, sizeof *pcm);
    double square = 0;
    uint32_t state = 1;
    for (size_t i = 0; i < s.n; i++) square += pow((double)s.pcm[i], 2) / (double)s.n;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        double noise = ((double)state / 4294967296.0 - 0.5) * sqrt(12 * square) / 10;
        pcm[i] = (float)(0.2 * (noise + (i >= late ? (double)s.pcm[i - late] : 0)));
    }
    measure(&f, pcm, n, &s);
    CHECK(f.verdict == REFERENCE_SAYS_THE_SAME && f.n_trials == 0, "with noise: %s, ESTOI %g",
          reference_verdict_name(f.verdict), f.alike.estoi);
    CHECK(fabs(f.laid.delay_s - 1) < 1e-3, "delay %g", f.laid.delay_s);
    CHECK(fabs(f.alike.si_sdr_db - 20) < 0.5, "SI-SDR %g", f.alike.si_sdr_db);
    measure(&f, pcm, 0, &s);
    CHECK(f.verdict == REFERENCE_OPEN, "nothing: %s", reference_verdict_name(f.verdict));
    free(pcm);
    sound_free(&s);
    sound_free(&other);
}

int main(void) {
    test_stoi();
    test_si_sdr();
    test_part_of_sample();
    test_cepstra();
    test_damages();
    test_shuffled();
    test_the_same();
    return check_done("test_reference");
}

#else

int main(void) {
    SKIP("built without kissfft: comparing with a reference");
    return check_done("test_reference");
}

#endif
