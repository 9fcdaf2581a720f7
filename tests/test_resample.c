/* test_resample.c - length, delay, passband, stopband and chunking of the resampler, measured. */
#include "check.h"
#include "resample.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct signal {
    float *x;
    size_t n;
} signal;

/* Run a whole signal through, pushing `push` and pulling `pull` samples at a time. */
static signal convert(const float *x, size_t n, int in_hz, int out_hz, size_t push, size_t pull) {
    size_t cap = (size_t)((double)n * out_hz / in_hz) + 16, done = 0;
    signal out = {calloc(cap + pull, sizeof(float)), 0};
    resampler *r = resampler_open(in_hz, out_hz);
    if (!CHECK(r && out.x, "%d -> %d Hz: out of memory", in_hz, out_hz)) return out;
    for (bool ended = false; out.n < cap;) {
        size_t got = resampler_pull(r, out.x + out.n, pull);
        out.n += got;
        if (got > 0) continue;
        if (ended) break;
        size_t want = n - done < push ? n - done : push;
        done += resampler_push(r, x + done, want);
        if (done == n) {
            resampler_end(r);
            ended = true;
        }
    }
    resampler_close(r);
    return out;
}

static float *make_noise(size_t n) {
    float *x = calloc(n + 1, sizeof *x);
    uint32_t state = 12345;
    for (size_t i = 0; x && i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)state / 2147483648.0f;
    }
    return x;
}

static const int PAIRS[][2] = {{48000, 24000},  {44100, 24000}, {16000, 24000},  {8000, 24000},
                               {96000, 24000},  {22050, 24000}, {44101, 24000},  {24000, 44100},
                               {192000, 24000}, {24000, 23999}, {768000, 24000}, {1000, 24000}};
enum { N_PAIRS = sizeof PAIRS / sizeof PAIRS[0] };

static void test_length(void) {
    static const size_t lengths[] = {0, 1, 2, 3, 79, 80, 1919, 1920, 1921, 8192, 20011};
    float *x = make_noise(20011);
    for (int p = 0; p < N_PAIRS; p++)
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
            uint64_t in = (uint64_t)PAIRS[p][0], out = (uint64_t)PAIRS[p][1];
            uint64_t want = (lengths[i] * out + in - 1) / in;
            signal y = convert(x, lengths[i], PAIRS[p][0], PAIRS[p][1], 4096, 4096);
            CHECK(y.n == want, "%d -> %d Hz, %zu samples: wanted %llu, got %zu", PAIRS[p][0],
                  PAIRS[p][1], lengths[i], (unsigned long long)want, y.n);
            free(y.x);
        }
    free(x);
}

static void test_chunks(void) {
    static const size_t chunks[][2] = {{1, 1}, {7, 3}, {1920, 480}, {100000, 100000}};
    enum { N = 12000 };
    float *x = make_noise(N);
    for (int p = 0; p < N_PAIRS; p++) {
        signal whole = convert(x, N, PAIRS[p][0], PAIRS[p][1], N, N);
        for (size_t c = 0; c < sizeof chunks / sizeof chunks[0]; c++) {
            signal y = convert(x, N, PAIRS[p][0], PAIRS[p][1], chunks[c][0], chunks[c][1]);
            CHECK(y.n == whole.n && !memcmp(y.x, whole.x, y.n * sizeof *y.x),
                  "%d -> %d Hz: differs when cut into %zu and %zu", PAIRS[p][0], PAIRS[p][1],
                  chunks[c][0], chunks[c][1]);
            free(y.x);
        }
        free(whole.x);
    }
    free(x);
}

static void test_same_rate(void) {
    enum { N = 30000 };
    float *x = make_noise(N);
    static const int rates[] = {1000, 24000, 44100, 768000};
    for (int i = 0; i < 4; i++) {
        signal y = convert(x, N, rates[i], rates[i], 1000, 777);
        CHECK(y.n == N && !memcmp(x, y.x, N * sizeof *x), "%d Hz: samples changed", rates[i]);
        free(y.x);
    }
    free(x);
}

/* A sine of `hz` at the input rate, long enough for the kernel to be filled in the middle. */
static signal sine_through(double hz, int in_hz, int out_hz) {
    int low = in_hz < out_hz ? in_hz : out_hz;
    size_t n = (size_t)(600.0 * in_hz / low);
    float *x = calloc(n, sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = (float)sin(2 * M_PI * hz * (double)i / in_hz + 0.3);
    signal y = convert(x, n, in_hz, out_hz, 5000, 5000);
    free(x);
    return y;
}

/* Against the same sine sampled at the output rate: gain, delay and images all count. The limit of
 * -100 dB is far inside the 0.01 dB (1.1e-3) of ripple the program promises. */
static void test_passband(void) {
    for (int p = 0; p < N_PAIRS; p++) {
        int in_hz = PAIRS[p][0], out_hz = PAIRS[p][1];
        double nyquist = 0.5 * (in_hz < out_hz ? in_hz : out_hz);
        for (double part = 0.02; part < 0.901; part += 0.04) {
            signal y = sine_through(part * nyquist, in_hz, out_hz);
            double worst = 0;
            for (size_t i = y.n / 4; i < y.n * 3 / 4; i++) {
                double want = sin(2 * M_PI * part * nyquist * (double)i / out_hz + 0.3);
                worst = fmax(worst, fabs((double)y.x[i] - want));
            }
            CHECK(y.n > 100 && worst < 1e-5, "%d -> %d Hz: error %.2g at %.2f of Nyquist", in_hz,
                  out_hz, worst, part);
            free(y.x);
        }
    }
}

/* What lies above the output's Nyquist frequency must not come back as something else. */
static void test_stopband(void) {
    for (int p = 0; p < N_PAIRS; p++) {
        int in_hz = PAIRS[p][0], out_hz = PAIRS[p][1];
        double top = (double)in_hz / out_hz; /* the input's Nyquist in units of the output's */
        if (top < 1.1) continue;
        for (double part = 1.0; part < top; part += part < 1.2 ? 0.02 : (top - 1) / 13) {
            signal y = sine_through(part * 0.5 * out_hz, in_hz, out_hz);
            double power = 0;
            size_t from = y.n / 4, to = y.n * 3 / 4;
            for (size_t i = from; i < to; i++) power += (double)y.x[i] * (double)y.x[i];
            double db = 10 * log10(power / (double)(to - from) / 0.5 + 1e-20);
            CHECK(db < -100, "%d -> %d Hz: only %.1f dB at %.3f of Nyquist", in_hz, out_hz, db,
                  part);
            free(y.x);
        }
    }
}

static void test_constant(void) {
    float x[4000];
    for (int i = 0; i < 4000; i++) x[i] = 0.75f;
    signal y = convert(x, 4000, 48000, 24000, 4000, 4000);
    double worst = 0;
    for (size_t i = 200; i < y.n - 200; i++) worst = fmax(worst, fabs((double)y.x[i] - 0.75));
    CHECK(worst < 1e-7, "a constant moves by %.2g", worst);
    free(y.x);
}

int main(void) {
    test_length();
    test_chunks();
    test_same_rate();
    test_passband();
    test_stopband();
    test_constant();
    return check_done("test_resample");
}
