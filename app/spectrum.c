/* spectrum.c - short-time spectra through kissfft. */
#include "spectrum.h"

#ifndef APP_HAVE_KISSFFT

static int no_kissfft(app_error *err) {
    return app_fail(err, EXIT_USAGE,
                    "this moshi was built without kissfft, so it has no spectra (Debian: "
                    "libkissfft-dev, then build again)");
}

int mel_picture_make(mel_picture *out, const float *pcm, size_t n, double rate_hz, app_error *err) {
    (void)pcm, (void)n, (void)rate_hz;
    *out = (mel_picture){0};
    return no_kissfft(err);
}

void mel_picture_free(mel_picture *picture) {
    (void)picture;
}

int spectrum_welch(double *power, const float *pcm, size_t n, size_t size, app_error *err) {
    (void)power, (void)pcm, (void)n, (void)size;
    return no_kissfft(err);
}

int spectrum_envelope(float *envelope, const float *pcm, size_t n, app_error *err) {
    (void)envelope, (void)pcm, (void)n;
    return no_kissfft(err);
}

int spectrum_power(float *power, const float *pcm, size_t n, size_t size, app_error *err) {
    (void)power, (void)pcm, (void)n, (void)size;
    return no_kissfft(err);
}

size_t spectrum_fast_size(size_t n) {
    return n;
}

int spectrum_correlate(float *out, const float *a, size_t n_a, const float *b, size_t n_b,
                       app_error *err) {
    (void)out, (void)a, (void)n_a, (void)b, (void)n_b;
    return no_kissfft(err);
}

#else

#include <kiss_fft.h>
#include <kiss_fftr.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A transform of real samples with its buffers. */
typedef struct transform {
    size_t size;
    kiss_fftr_cfg plan, back;
    float *in;         /* [size] */
    kiss_fft_cpx *out; /* [size / 2 + 1] */
} transform;

static void transform_close(transform *t) {
    kiss_fftr_free(t->plan);
    kiss_fftr_free(t->back);
    free(t->in);
    free(t->out);
}

static int transform_open(transform *t, size_t size, bool both_ways, app_error *err) {
    *t = (transform){.size = size};
    t->plan = kiss_fftr_alloc((int)size, 0, NULL, NULL);
    if (both_ways) t->back = kiss_fftr_alloc((int)size, 1, NULL, NULL);
    t->in = calloc(size, sizeof *t->in);
    t->out = calloc(size / 2 + 1, sizeof *t->out);
    if (t->plan && t->in && t->out && (t->back || !both_ways)) return EXIT_OK;
    transform_close(t);
    return app_no_memory(err);
}

static double square(double x) {
    return x * x;
}

static double bin_power(const transform *t, size_t bin) {
    return square((double)t->out[bin].r) + square((double)t->out[bin].i);
}

size_t spectrum_fast_size(size_t n) {
    return (size_t)kiss_fftr_next_fast_size_real((int)n);
}

/* ---- mel ------------------------------------------------------------------------------------ */

static const double LOW_HZ = 120, HIGH_HZ = 3800;
/* What is 55 dB below the loud parts of a recording says more about its room and its format than
 * about speech. */
static const double FLOOR_BELOW_LOUD = 3.2e-6;

static double mel_of_hz(double hz) {
    return 1127.0 * log1p(hz / 700.0);
}

static double hz_of_mel(double mel) {
    return 700.0 * expm1(mel / 1127.0);
}

typedef struct mel_work {
    transform t;
    size_t window;
    float *hann;              /* [window] */
    float *weights;           /* [MEL_BANDS, size / 2 + 1] triangles */
    size_t first[MEL_BANDS];  /* where each triangle begins */
    size_t beyond[MEL_BANDS]; /* and ends */
} mel_work;

static void mel_work_close(mel_work *w) {
    transform_close(&w->t);
    free(w->hann);
    free(w->weights);
}

static int mel_work_open(mel_work *w, double rate_hz, app_error *err) {
    memset(w, 0, sizeof *w);
    w->window = (size_t)lrint(0.025 * rate_hz);
    int rc = transform_open(&w->t, spectrum_fast_size(w->window), false, err);
    if (rc != EXIT_OK) return rc;
    size_t bins = w->t.size / 2 + 1;
    w->hann = malloc(w->window * sizeof *w->hann);
    w->weights = calloc(MEL_BANDS * bins, sizeof *w->weights);
    if (!w->hann || !w->weights) {
        mel_work_close(w);
        return app_no_memory(err);
    }
    for (size_t i = 0; i < w->window; i++)
        w->hann[i] = (float)square(sin(M_PI * ((double)i + 0.5) / (double)w->window));
    double step = (mel_of_hz(HIGH_HZ) - mel_of_hz(LOW_HZ)) / (MEL_BANDS + 1);
    double scale = 1.0 / (square((double)w->window) * 0.25 * 0.375 * 4);
    for (size_t b = 0; b < MEL_BANDS; b++) {
        double low = hz_of_mel(mel_of_hz(LOW_HZ) + step * (double)b);
        double mid = hz_of_mel(mel_of_hz(LOW_HZ) + step * (double)(b + 1));
        double high = hz_of_mel(mel_of_hz(LOW_HZ) + step * (double)(b + 2));
        w->first[b] = bins;
        for (size_t k = 0; k < bins; k++) {
            double hz = (double)k * rate_hz / (double)w->t.size;
            double up = (hz - low) / (mid - low), down = (high - hz) / (high - mid);
            double weight = up < down ? up : down;
            if (weight <= 0) continue;
            if (w->first[b] == bins) w->first[b] = k;
            w->beyond[b] = k + 1;
            w->weights[b * bins + k] = (float)(weight * scale);
        }
    }
    return EXIT_OK;
}

static void mel_frame(mel_work *w, const float *pcm, float *energy) {
    size_t bins = w->t.size / 2 + 1;
    for (size_t i = 0; i < w->window; i++) w->t.in[i] = pcm[i] * w->hann[i];
    kiss_fftr(w->t.plan, w->t.in, w->t.out);
    for (size_t b = 0; b < MEL_BANDS; b++) {
        double sum = 0;
        for (size_t k = w->first[b]; k < w->beyond[b]; k++)
            sum += (double)w->weights[b * bins + k] * bin_power(&w->t, k);
        energy[b] = (float)sum;
    }
}

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Energies to logarithms above a floor that hangs on the 95th percentile of the frames. */
static int take_logs(mel_picture *p, app_error *err) {
    float *total = malloc(p->frames * sizeof *total);
    if (!total) return app_no_memory(err);
    for (size_t f = 0; f < p->frames; f++) {
        double sum = 0;
        for (size_t b = 0; b < MEL_BANDS; b++) sum += (double)p->log_energy[f * MEL_BANDS + b];
        total[f] = (float)sum;
        p->level_db[f] = (float)(10 * log10(sum + 1e-12));
    }
    qsort(total, p->frames, sizeof *total, ascending);
    double loud = (double)total[p->frames * 95 / 100];
    double floor = loud / MEL_BANDS * FLOOR_BELOW_LOUD + 1e-14;
    for (size_t i = 0; i < p->frames * MEL_BANDS; i++)
        p->log_energy[i] = (float)log((double)p->log_energy[i] + floor);
    free(total);
    return EXIT_OK;
}

int mel_picture_make(mel_picture *out, const float *pcm, size_t n, double rate_hz, app_error *err) {
    mel_work w;
    *out = (mel_picture){0};
    int rc = mel_work_open(&w, rate_hz, err);
    if (rc != EXIT_OK) return rc;
    double hop = rate_hz / MEL_HZ;
    out->frames = n < w.window ? 0 : 1 + (size_t)((double)(n - w.window) / hop);
    out->log_energy = malloc((out->frames + 1) * MEL_BANDS * sizeof *out->log_energy);
    out->level_db = malloc((out->frames + 1) * sizeof *out->level_db);
    if (!out->log_energy || !out->level_db) rc = app_no_memory(err);
    for (size_t f = 0; rc == EXIT_OK && f < out->frames; f++)
        mel_frame(&w, pcm + (size_t)((double)f * hop), out->log_energy + f * MEL_BANDS);
    if (rc == EXIT_OK && out->frames > 0) rc = take_logs(out, err);
    mel_work_close(&w);
    if (rc != EXIT_OK) mel_picture_free(out);
    return rc;
}

void mel_picture_free(mel_picture *picture) {
    free(picture->log_energy);
    free(picture->level_db);
    *picture = (mel_picture){0};
}

/* ---- whole signals -------------------------------------------------------------------------- */

int spectrum_welch(double *power, const float *pcm, size_t n, size_t size, app_error *err) {
    transform t;
    int rc = transform_open(&t, size, false, err);
    if (rc != EXIT_OK) return rc;
    size_t windows = 0;
    memset(power, 0, (size / 2 + 1) * sizeof *power);
    for (size_t at = 0; windows == 0 || at + size <= n; at += size / 2) {
        double mean = 0;
        size_t have = n - at < size ? n - at : size;
        for (size_t i = 0; i < have; i++) mean += (double)pcm[at + i] / (double)have;
        for (size_t i = 0; i < size; i++) {
            double hann = square(sin(M_PI * (double)i / (double)size));
            t.in[i] = i < have ? (float)(hann * ((double)pcm[at + i] - mean)) : 0;
        }
        kiss_fftr(t.plan, t.in, t.out);
        for (size_t k = 0; k <= size / 2; k++) power[k] += bin_power(&t, k);
        windows++;
    }
    /* Both halves of the spectrum count, except the bins that have no mirror image. */
    double scale = 2 / (0.375 * square((double)size) * (double)windows);
    for (size_t k = 0; k <= size / 2; k++) power[k] *= k == 0 || k == size / 2 ? scale / 2 : scale;
    transform_close(&t);
    return EXIT_OK;
}

int spectrum_power(float *power, const float *pcm, size_t n, size_t size, app_error *err) {
    transform t;
    int rc = transform_open(&t, size, false, err);
    if (rc != EXIT_OK) return rc;
    memcpy(t.in, pcm, n * sizeof *pcm);
    kiss_fftr(t.plan, t.in, t.out);
    for (size_t k = 0; k <= size / 2; k++) power[k] = (float)bin_power(&t, k);
    transform_close(&t);
    return EXIT_OK;
}

int spectrum_envelope(float *envelope, const float *pcm, size_t n, app_error *err) {
    transform t;
    int rc = transform_open(&t, spectrum_fast_size(n), true, err);
    if (rc != EXIT_OK) return rc;
    memcpy(t.in, pcm, n * sizeof *pcm);
    kiss_fftr(t.plan, t.in, t.out);
    /* A quarter turn of every positive frequency is the imaginary part. */
    for (size_t k = 0; k <= t.size / 2; k++) {
        kiss_fft_cpx x = t.out[k];
        bool edge = k == 0 || k == t.size / 2;
        t.out[k] = edge ? (kiss_fft_cpx){0, 0} : (kiss_fft_cpx){x.i, -x.r};
    }
    kiss_fftri(t.back, t.out, t.in);
    for (size_t i = 0; i < n; i++)
        envelope[i] = (float)hypot((double)pcm[i], (double)t.in[i] / (double)t.size);
    transform_close(&t);
    return EXIT_OK;
}

int spectrum_correlate(float *out, const float *a, size_t n_a, const float *b, size_t n_b,
                       app_error *err) {
    transform t;
    int rc = transform_open(&t, spectrum_fast_size(n_a + n_b - 1), true, err);
    if (rc != EXIT_OK) return rc;
    kiss_fft_cpx *first = malloc((t.size / 2 + 1) * sizeof *first);
    if (first) {
        memcpy(t.in, a, n_a * sizeof *a);
        kiss_fftr(t.plan, t.in, first);
        memset(t.in, 0, t.size * sizeof *t.in);
        memcpy(t.in, b, n_b * sizeof *b);
        kiss_fftr(t.plan, t.in, t.out);
        for (size_t k = 0; k <= t.size / 2; k++) {
            kiss_fft_cpx x = first[k], y = t.out[k];
            t.out[k] = (kiss_fft_cpx){x.r * y.r + x.i * y.i, x.i * y.r - x.r * y.i};
        }
        kiss_fftri(t.back, t.out, t.in);
        /* Negative lags wrapped around to the end. */
        for (size_t i = 0; i < n_a + n_b - 1; i++) {
            size_t at = i >= n_b - 1 ? i - (n_b - 1) : t.size - (n_b - 1) + i;
            out[i] = t.in[at] / (float)t.size;
        }
    }
    free(first);
    transform_close(&t);
    return first ? EXIT_OK : app_no_memory(err);
}

#endif
