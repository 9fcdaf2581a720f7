/* resample.c - polyphase windowed-sinc resampler.
 *
 * The kernel is a sinc cut off in the middle of the transition band, under a Kaiser window. Its
 * values are tabulated as rows, one per fraction of an input sample, so that an output sample is
 * one dot product. Rates with a small ratio (48000 -> 24000, 44100 -> 24000) get a row for every
 * fraction that occurs; others (44101 -> 24000) interpolate between the two nearest rows. */
#include "resample.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* The transition runs from 0.9 to 1.0 of the lower Nyquist frequency. A Kaiser window of 120 dB
 * needs (120 - 8) / (2.285 * 0.1 * pi) = 156 samples of the lower rate for that. */
static const double CUTOFF = 0.95;
static const double KAISER_BETA = 12.3;
enum {
    HALF_WIDTH = 80,        /* samples of the lower rate on either side */
    FINE_STEPS = 2048,      /* rows per sample of the lower rate when interpolating: -130 dB */
    TABLE_MAX = 512 * 1024, /* entries; beyond that rows are interpolated */
    WINDOW_STEPS = 16384,   /* the window is interpolated between these: -140 dB */
    BLOCK = 8192            /* input samples that may wait */
};

struct resampler {
    uint64_t up, down; /* out_hz / in_hz in lowest terms */
    size_t half;       /* input samples on either side of an output; 0: rates are equal */
    size_t rows;       /* fractions of an input sample in the table */
    double *table;     /* [rows + 1, 2 * half] */
    uint64_t position; /* input sample at or before the next output ... */
    uint64_t fraction; /* ... and how far behind it, in 1/up */
    float *buffer;     /* [capacity] input samples first .. first + count - 1 */
    size_t capacity, count;
    uint64_t first;
    bool ended;
};

static uint64_t gcd(uint64_t a, uint64_t b) {
    while (b) {
        uint64_t t = a % b;
        a = b;
        b = t;
    }
    return a;
}

/* Modified Bessel function of order zero; converges quickly for the arguments used here. */
static double bessel_i0(double x) {
    double sum = 1, term = 1;
    for (int k = 1; term > 1e-17 * sum; k++) {
        term *= (x / (2 * k)) * (x / (2 * k));
        sum += term;
    }
    return sum;
}

/* Half a Kaiser window, from its centre to just beyond its edge; a Bessel function for every entry
 * of a large table would take seconds. */
static double *make_window(void) {
    double *window = calloc(WINDOW_STEPS + 2, sizeof *window);
    for (int i = 0; window && i < WINDOW_STEPS; i++) {
        double edge = (double)i / WINDOW_STEPS;
        window[i] = bessel_i0(KAISER_BETA * sqrt(1 - edge * edge));
    }
    return window;
}

/* Kernel at `t` input samples from its centre, `scale` input samples per sample of the lower rate.
 */
static double kernel(const double *window, double t, double scale) {
    double at = fabs(t) / (HALF_WIDTH * scale) * WINDOW_STEPS;
    if (at >= WINDOW_STEPS) return 0;
    double x = M_PI * CUTOFF * t / scale;
    double sinc = fabs(x) < 1e-9 ? 1 : sin(x) / x;
    int i = (int)at;
    return sinc * (window[i] + (at - i) * (window[i + 1] - window[i]));
}

static bool build_table(resampler *r) {
    double scale = r->down > r->up ? (double)r->down / (double)r->up : 1;
    r->half = (size_t)ceil(HALF_WIDTH * scale);
    size_t taps = 2 * r->half;
    r->rows = (size_t)r->up;
    if (r->rows * taps > TABLE_MAX) r->rows = (size_t)ceil(FINE_STEPS / scale);
    double *window = make_window();
    r->table = malloc((r->rows + 1) * taps * sizeof *r->table);
    for (size_t row = 0; window && r->table && row <= r->rows; row++) {
        double *w = r->table + row * taps, sum = 0;
        for (size_t i = 0; i < taps; i++) {
            double behind = (double)row / (double)r->rows + (double)r->half - 1 - (double)i;
            w[i] = kernel(window, behind, scale);
            sum += w[i];
        }
        for (size_t i = 0; i < taps; i++) w[i] /= sum; /* a constant stays the same constant */
    }
    free(window);
    return window && r->table;
}

resampler *resampler_open(int in_hz, int out_hz) {
    resampler *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    uint64_t common = gcd((uint64_t)in_hz, (uint64_t)out_hz);
    r->up = (uint64_t)out_hz / common;
    r->down = (uint64_t)in_hz / common;
    if (r->up != r->down && !build_table(r)) {
        resampler_close(r);
        return NULL;
    }
    r->capacity = 2 * r->half + BLOCK;
    r->buffer = malloc(r->capacity * sizeof *r->buffer);
    if (!r->buffer) {
        resampler_close(r);
        return NULL;
    }
    return r;
}

void resampler_close(resampler *r) {
    if (!r) return;
    free(r->table);
    free(r->buffer);
    free(r);
}

/* Forget the input that no later output needs. */
static void drop_used(resampler *r) {
    uint64_t needed = r->position + 1 > r->half ? r->position + 1 - r->half : 0;
    if (needed <= r->first) return;
    size_t drop = needed - r->first < r->count ? (size_t)(needed - r->first) : r->count;
    memmove(r->buffer, r->buffer + drop, (r->count - drop) * sizeof *r->buffer);
    r->first += drop;
    r->count -= drop;
}

size_t resampler_push(resampler *r, const float *in, size_t n) {
    if (r->count + n > r->capacity) drop_used(r);
    size_t room = r->capacity - r->count;
    if (n > room) n = room;
    if (n) memcpy(r->buffer + r->count, in, n * sizeof *in);
    r->count += n;
    return n;
}

void resampler_end(resampler *r) {
    r->ended = true;
}

/* Input samples lo .. hi - 1 weighted with the row; the row's first entry belongs to `base`. */
static double dot(const resampler *r, size_t row, int64_t base, uint64_t lo, uint64_t hi) {
    const double *w = r->table + row * 2 * r->half + ((int64_t)lo - base);
    const float *x = r->buffer + (lo - r->first);
    double sum = 0;
    for (uint64_t i = 0; i < hi - lo; i++) sum += w[i] * (double)x[i];
    return sum;
}

static float output_at(const resampler *r) {
    /* Outside the input there is silence: those terms are left out. */
    int64_t base = (int64_t)r->position + 1 - (int64_t)r->half;
    uint64_t lo = base > 0 ? (uint64_t)base : 0;
    uint64_t hi = r->position + r->half + 1, end = r->first + r->count;
    if (hi > end) hi = end;
    size_t row = (size_t)(r->fraction * r->rows / r->up);
    double beyond = (double)(r->fraction * r->rows % r->up) / (double)r->up;
    double y = dot(r, row, base, lo, hi);
    if (beyond > 0) y += beyond * (dot(r, row + 1, base, lo, hi) - y);
    return (float)y;
}

size_t resampler_pull(resampler *r, float *out, size_t cap) {
    size_t n = 0;
    for (; n < cap; n++) {
        uint64_t end = r->first + r->count;
        if (r->position >= end || (!r->ended && r->position + r->half >= end)) break;
        out[n] = r->half ? output_at(r) : r->buffer[r->position - r->first];
        r->fraction += r->down;
        r->position += r->fraction / r->up;
        r->fraction %= r->up;
    }
    return n;
}
