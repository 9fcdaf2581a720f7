/* test_sinc.c - the settings of the resampler: that they arrive, what each of them does to tones,
 * and that the way a stream is cut does nothing. With a word as argument, prints the table of
 * measurements for SPEED.md and the like. */
#include "check.h"
#include "resample_quality.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const double RATES[][2] = {{24000, 48000}, {24000, 44100}, {48000, 24000}, {44100, 24000}};
enum { N_RATES = sizeof RATES / sizeof RATES[0], RESAMPLING = SINC_NAMED_COUNT - 1 };

/* ---- the named settings --------------------------------------------------------------------- */

static void test_named(void) {
    static const sinc_settings want[] = {
        {"config_1_ultra_high_quality", "", 512, 0.99, SINC_LINEAR, 512, WINDOW_BLACKMAN},
        {"config_2_cubic_interpolation", "", 512, 0.99, SINC_CUBIC, 512, WINDOW_BLACKMAN},
        {"config_3_lower_cutoff", "", 512, 0.95, SINC_LINEAR, 512, WINDOW_BLACKMAN},
        {"config_4_shorter_sinc", "", 256, 0.95, SINC_CUBIC, 256, WINDOW_BLACKMAN_HARRIS2},
        {"config_5_no_resampling", "", 0, 0.0, SINC_NONE, 0, WINDOW_NONE}};
    for (int i = 0; i < SINC_NAMED_COUNT; i++) {
        const sinc_settings *s = sinc_find(want[i].name);
        char number[2] = {(char)('1' + i), 0};
        if (!CHECK(s != NULL, "%s is not known", want[i].name)) continue;
        CHECK(s == &SINC_NAMED[i] && s == sinc_find(number), "%s is not number %d", s->name, i + 1);
        CHECK(s->length == want[i].length && s->cutoff == want[i].cutoff &&
                  s->interpolation == want[i].interpolation &&
                  s->oversampling == want[i].oversampling && s->window == want[i].window,
              "%s: other settings", s->name);
    }
    CHECK(sinc_find("default") == &SINC_NAMED[0], "default is not the first");
    CHECK(sinc_find("none") == &SINC_NAMED[4], "none is not the last");
    CHECK(!sinc_find("") && !sinc_find("0") && !sinc_find("6") && !sinc_find("config_1"),
          "found what is not there");
}

/* The settings a resampler reports are those its weights come from: another setting, other
 * weights. */
static void test_arrive(void) {
    const sinc_settings base = {"base", "", 64, 0.9, SINC_LINEAR, 32, WINDOW_BLACKMAN};
    sinc_settings other[6] = {base, base, base, base, base, base};
    other[1].length = 66;
    other[2].cutoff = 0.91;
    other[3].interpolation = SINC_CUBIC;
    other[4].oversampling = 33;
    other[5].window = WINDOW_HANN;
    float out[6][400] = {{0}}, in[200];
    for (int i = 0; i < 200; i++) in[i] = (float)sin(0.9 * i * i / 200);
    for (int i = 0; i < 6; i++) {
        resampler *r = resampler_open_with(&other[i], 24000, 44100);
        if (!CHECK(r != NULL, "setting %d: does not open", i)) continue;
        const sinc_settings *active = &resampler_table(r)->settings;
        CHECK(active->length == other[i].length && active->cutoff == other[i].cutoff &&
                  active->interpolation == other[i].interpolation &&
                  active->oversampling == other[i].oversampling &&
                  active->window == other[i].window,
              "setting %d: reports others", i);
        resampler_push(r, in, 200);
        resampler_end(r);
        resampler_pull(r, out[i], 400);
        resampler_close(r);
        for (int k = 0; k < i; k++)
            CHECK(memcmp(out[i], out[k], sizeof out[i]), "settings %d and %d: the same output", i,
                  k);
    }
}

static void test_refused(void) {
    const sinc_settings base = {"base", "", 64, 0.9, SINC_LINEAR, 32, WINDOW_BLACKMAN};
    sinc_settings bad[7] = {base, base, base, base, base, base, base};
    bad[0].length = 0;
    bad[1].length = SINC_LENGTH_MAX + 1;
    bad[2].cutoff = 0;
    bad[3].cutoff = 1.01;
    bad[4].interpolation = SINC_NONE;
    bad[5].oversampling = -1;
    bad[6].oversampling = SINC_OVERSAMPLING_MAX + 1;
    for (int i = 0; i < 7; i++)
        CHECK(!resampler_open_with(&bad[i], 24000, 44100), "bad settings %d are taken", i);
    static const double rates[] = {0, -1, 999, 768001, NAN, INFINITY};
    for (int i = 0; i < 6; i++)
        CHECK(!resampler_open_with(&base, rates[i], 24000) &&
                  !resampler_open_with(&base, 24000, rates[i]),
              "a rate of %g Hz is taken", rates[i]);
}

/* ---- chunks --------------------------------------------------------------------------------- */

static size_t convert(const sinc_settings *s, double in_hz, double out_hz, const float *x, size_t n,
                      size_t push, size_t pull, float *y, size_t room) {
    resampler *r = resampler_open_with(s, in_hz, out_hz);
    size_t done = 0, got = 0;
    bool ended = false;
    while (r) {
        size_t want = room - got < pull ? room - got : pull;
        size_t more = resampler_pull(r, y + got, want);
        got += more;
        if (more > 0) continue;
        if (ended) break;
        done += resampler_push(r, x + done, n - done < push ? n - done : push);
        if (done == n) {
            resampler_end(r);
            ended = true;
        }
    }
    resampler_close(r);
    return got;
}

static void test_chunks(void) {
    static const double rates[][2] = {
        {24000, 44100}, {44100, 24000}, {24000, 48000}, {24000, 24000.123}, {16000.5, 24000}};
    static const size_t cuts[][2] = {{1, 1}, {7, 13}, {1920, 480}};
    enum { N = 1500, ROOM = 4000 };
    static float x[N], whole[ROOM], y[ROOM];
    uint32_t state = 1;
    for (int i = 0; i < N; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)state / 2147483648.0f;
    }
    for (int s = 0; s < RESAMPLING; s++)
        for (int p = 0; p < 5; p++) {
            size_t n =
                convert(&SINC_NAMED[s], rates[p][0], rates[p][1], x, N, N, ROOM, whole, ROOM);
            size_t want = (size_t)ceil(N * rates[p][1] / rates[p][0] - 1e-9);
            CHECK(n == want, "%s, %g -> %g Hz: %zu samples, wanted %zu", SINC_NAMED[s].name,
                  rates[p][0], rates[p][1], n, want);
            for (int c = 0; c < 3; c++) {
                size_t m = convert(&SINC_NAMED[s], rates[p][0], rates[p][1], x, N, cuts[c][0],
                                   cuts[c][1], y, ROOM);
                CHECK(m == n && !memcmp(y, whole, n * sizeof *y),
                      "%s, %g -> %g Hz: cut into %zu and %zu it differs", SINC_NAMED[s].name,
                      rates[p][0], rates[p][1], cuts[c][0], cuts[c][1]);
            }
        }
}

/* ---- measurements --------------------------------------------------------------------------- */

/* Worse than any of these is a defect. Measured values are a few dB better. */
static const struct {
    double edge, ripple_db, snr_db, reject_db;
} BOUNDS[RESAMPLING] = {{0.975, 1e-4, 115, 94},
                        {0.975, 1e-4, 120, 94},
                        {0.935, 2e-4, 115, 108},
                        {0.91, 1e-4, 148, 148}};

static void test_quality(bool print) {
    if (print) printf("| settings | rates | -0.1 dB at | ripple to 0.9 | SNR | rejection |\n");
    for (int s = 0; s < RESAMPLING; s++)
        for (int p = 0; p < N_RATES; p++) {
            const sinc_settings *settings = &SINC_NAMED[s];
            resample_quality q;
            bool ok = resample_measure(&q, settings, RATES[p][0], RATES[p][1]);
            if (!CHECK(ok, "%s: cannot be measured", settings->name)) continue;
            if (print)
                printf("| `%s` | %g -> %g | %.3f | %.5f dB | %.1f dB | %.1f dB |\n", settings->name,
                       RATES[p][0], RATES[p][1], q.edge, q.ripple_db, q.snr_db, q.reject_db);
            CHECK(q.edge > BOUNDS[s].edge, "%s: gain falls at %.3f", settings->name, q.edge);
            CHECK(q.ripple_db < BOUNDS[s].ripple_db, "%s: ripple of %.5f dB", settings->name,
                  q.ripple_db);
            CHECK(q.snr_db > BOUNDS[s].snr_db, "%s: SNR of %.1f dB", settings->name, q.snr_db);
            CHECK(q.reject_db > BOUNDS[s].reject_db, "%s: aliases at -%.1f dB", settings->name,
                  q.reject_db);
        }
}

/* With few rows, each order of interpolation is better than the one before; with one row for every
 * fraction there is nothing to interpolate. */
static void test_interpolation(bool print) {
    sinc_settings s = {"few rows", "", 256, 0.95, SINC_NEAREST, 32, WINDOW_BLACKMAN_HARRIS};
    double last = 0;
    for (; s.interpolation <= SINC_CUBIC; s.interpolation++) {
        resample_quality q = {0};
        resample_measure(&q, &s, 24000, 44100);
        if (print) printf("%s %.1f dB\n", sinc_interpolation_name(s.interpolation), q.snr_db);
        CHECK(q.snr_db > last + 6, "%s: %.1f dB, the order before %.1f",
              sinc_interpolation_name(s.interpolation), q.snr_db, last);
        last = q.snr_db;
    }
    s.oversampling = 0;
    s.interpolation = SINC_NEAREST;
    resample_quality q = {0};
    resample_measure(&q, &s, 24000, 44100);
    if (print) printf("every fraction %.1f dB\n", q.snr_db);
    CHECK(q.snr_db > 100, "a row for every fraction: %.1f dB", q.snr_db);
}

/* A filter designed with a window reaches the attenuation that textbooks give for it (Hann 44 dB,
 * Blackman 74 dB, Blackman-Harris 109 dB) where its transition ends: 3.1, 5.5 or 8 Nyquist
 * frequencies divided by the length above the cutoff. Squared windows need twice the width. */
static void test_windows(bool print) {
    static const struct {
        sinc_window window;
        double width, reject_db;
    } want[] = {
        {WINDOW_HANN, 3.1, 44}, {WINDOW_BLACKMAN, 5.5, 74}, {WINDOW_BLACKMAN_HARRIS, 8, 109}};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        int length = (int)ceil(want[i].width / 0.12);
        sinc_settings s = {"window", "", length, 0.9, SINC_CUBIC, 512, want[i].window};
        resample_quality q = {0}, squared = {0};
        resample_measure(&q, &s, 48000, 24000);
        s.length *= 2;
        s.window++; /* the square of it */
        resample_measure(&squared, &s, 48000, 24000);
        if (print) printf("%d %.1f dB, %.1f dB\n", (int)s.window, q.reject_db, squared.reject_db);
        CHECK(fabs(q.reject_db - want[i].reject_db) < 4, "%s: aliases at -%.1f dB, wanted -%.0f",
              sinc_window_name(want[i].window), q.reject_db, want[i].reject_db);
        CHECK(squared.reject_db > q.reject_db + 15, "%s: aliases at -%.1f dB, without 2 at -%.1f",
              sinc_window_name(s.window), squared.reject_db, q.reject_db);
    }
}

int main(int argc, char **argv) {
    (void)argv;
    bool print = argc > 1;
    test_named();
    test_arrive();
    test_refused();
    test_chunks();
    test_quality(print);
    test_interpolation(print);
    test_windows(print);
    return check_done("test_sinc");
}
