/* stoi.c - STOI and ESTOI. */
#include "stoi.h"

#include "spectrum.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FRAME = 256, HOP = 128, SIZE = 512, BANDS = 15, SPAN = 30 };

static const double LOWEST_HZ = 150, RANGE_DB = 40, CLIP_DB = -15;

/* ---- frames --------------------------------------------------------------------------------- */

static void hann(double *window) {
    for (int i = 0; i < FRAME; i++)
        window[i] = 0.5 * (1 - cos(2 * M_PI * (i + 1) / (double)(FRAME + 1)));
}

static size_t frames_in(size_t n) {
    return n < FRAME ? 0 : (n - FRAME) / HOP + 1;
}

static double energy_db(const float *x, const double *window) {
    double sum = 0;
    for (size_t i = 0; i < FRAME; i++) sum += pow((double)x[i] * window[i], 2);
    return 10 * log10(sum + 1e-30);
}

/* Put the frames of both that sound in the reference next to each other, overlapping as before;
 * returns how many samples that makes. */
static size_t cut_silence(float *x, float *y, const float *reference, const float *heard, size_t n,
                          const double *window) {
    double loudest = -HUGE_VAL;
    size_t frames = frames_in(n), kept = 0;
    for (size_t f = 0; f < frames; f++)
        loudest = fmax(loudest, energy_db(reference + f * HOP, window));
    for (size_t f = 0; f < frames; f++) {
        if (energy_db(reference + f * HOP, window) <= loudest - RANGE_DB) continue;
        for (size_t i = 0; i < FRAME; i++) {
            x[kept * HOP + i] += (float)((double)reference[f * HOP + i] * window[i]);
            y[kept * HOP + i] += (float)((double)heard[f * HOP + i] * window[i]);
        }
        kept++;
    }
    return kept ? (kept - 1) * HOP + FRAME : 0;
}

/* ---- bands ---------------------------------------------------------------------------------- */

static size_t nearest_bin(double hz) {
    return (size_t)lrint(hz * SIZE / STOI_HZ);
}

/* Amplitudes [frames, BANDS]. */
static int take_bands(double *bands, const float *x, size_t frames, const double *window,
                      app_error *err) {
    float frame[FRAME], power[SIZE / 2 + 1];
    for (size_t f = 0; f < frames; f++) {
        for (size_t i = 0; i < FRAME; i++) frame[i] = (float)((double)x[f * HOP + i] * window[i]);
        int rc = spectrum_power(power, frame, FRAME, SIZE, err);
        if (rc != EXIT_OK) return rc;
        for (int b = 0; b < BANDS; b++) {
            double sum = 0;
            size_t from = nearest_bin(LOWEST_HZ * exp2((2 * b - 1) / 6.0));
            size_t to = nearest_bin(LOWEST_HZ * exp2((2 * b + 1) / 6.0));
            for (size_t k = from; k < to; k++) sum += (double)power[k];
            bands[f * BANDS + (size_t)b] = sqrt(sum);
        }
    }
    return EXIT_OK;
}

/* ---- segments ------------------------------------------------------------------------------- */

/* Take the mean off n numbers, `step` apart, and make their norm 1; of what does not move nothing
 * is left. */
static void normalise(double *x, size_t n, size_t step) {
    double mean = 0, square = 0;
    for (size_t i = 0; i < n; i++) mean += x[i * step] / (double)n;
    for (size_t i = 0; i < n; i++) {
        x[i * step] -= mean;
        square += x[i * step] * x[i * step];
    }
    double scale = square > 1e-30 ? 1 / sqrt(square) : 0;
    for (size_t i = 0; i < n; i++) x[i * step] *= scale;
}

static double product(const double *a, const double *b, size_t n, size_t step) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += a[i * step] * b[i * step];
    return sum;
}

/* [SPAN, BANDS] each. Brought to the level of the reference, and clipped where the noise is so
 * loud that more of it makes nothing worse, band by band. */
static double stoi_of(const double *x, const double *y) {
    double sum = 0, limit = 1 + pow(10, -CLIP_DB / 20), a[SPAN], b[SPAN];
    for (size_t k = 0; k < BANDS; k++) {
        double gain =
            sqrt(product(x + k, x + k, SPAN, BANDS) / (product(y + k, y + k, SPAN, BANDS) + 1e-30));
        for (size_t f = 0; f < SPAN; f++) {
            a[f] = x[f * BANDS + k];
            b[f] = fmin(gain * y[f * BANDS + k], limit * a[f]);
        }
        normalise(a, SPAN, 1);
        normalise(b, SPAN, 1);
        sum += product(a, b, SPAN, 1) / BANDS;
    }
    return sum;
}

static void normalise_both_ways(double *x) {
    for (size_t k = 0; k < BANDS; k++) normalise(x + k, SPAN, BANDS);
    for (size_t f = 0; f < SPAN; f++) normalise(x + f * BANDS, BANDS, 1);
}

static double estoi_of(const double *x, const double *y) {
    double a[SPAN * BANDS], b[SPAN * BANDS];
    memcpy(a, x, sizeof a);
    memcpy(b, y, sizeof b);
    normalise_both_ways(a);
    normalise_both_ways(b);
    return product(a, b, (size_t)SPAN * BANDS, 1) / SPAN;
}

static void compare(stoi_result *out, const double *x, const double *y, size_t frames) {
    out->segments = frames < SPAN ? 0 : frames - SPAN + 1;
    for (size_t s = 0; s < out->segments; s++) {
        out->stoi += stoi_of(x + s * BANDS, y + s * BANDS) / (double)out->segments;
        out->estoi += estoi_of(x + s * BANDS, y + s * BANDS) / (double)out->segments;
    }
}

int stoi_measure(stoi_result *out, const float *reference, const float *heard, size_t n,
                 app_error *err) {
    double window[FRAME];
    memset(out, 0, sizeof *out);
    hann(window);
    float *x = calloc(n + 1, sizeof *x), *y = calloc(n + 1, sizeof *y);
    double *bands = malloc((2 * frames_in(n) + 1) * BANDS * sizeof *bands);
    int rc = x && y && bands ? EXIT_OK : app_no_memory(err);
    if (rc == EXIT_OK) {
        size_t frames = frames_in(cut_silence(x, y, reference, heard, n, window));
        double *other = bands + frames * BANDS;
        rc = take_bands(bands, x, frames, window, err);
        if (rc == EXIT_OK) rc = take_bands(other, y, frames, window, err);
        if (rc == EXIT_OK) compare(out, bands, other, frames);
    }
    free(x);
    free(y);
    free(bands);
    return rc;
}
