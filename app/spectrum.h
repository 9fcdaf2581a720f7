/* spectrum.h - the picture of a sound: short-time spectra in mel bands.
 *
 * kissfft does the transforms. A build without it has no spectra: every function here that returns
 * an exit code then fails and says so. */
#ifndef APP_SPECTRUM_H
#define APP_SPECTRUM_H

#include "app.h"

enum {
    MEL_BANDS = 20,
    MEL_HZ = 100 /* pictures per second */
};

/* Logarithmic energies in MEL_BANDS mel-spaced bands of 120..3800 Hz, which telephones keep too, in
 * Hann windows of 25 ms every 10 ms. */
typedef struct mel_picture {
    size_t frames;
    float *log_energy; /* [frames, MEL_BANDS], natural logarithm of mean square, above a floor */
    float *level_db;   /* [frames], all bands together */
} mel_picture;

/* `rate_hz` need not be the real one: with twice the real rate the picture is that of the sound
 * played twice as fast. Bands above half the rate stay at the floor. */
int mel_picture_make(mel_picture *out, const float *pcm, size_t n, double rate_hz, app_error *err);
void mel_picture_free(mel_picture *picture);

/* Mean power of n samples over frequency: Hann windows of `size` samples overlapping by half, the
 * mean of each taken off (Welch 1967). power[size / 2 + 1] sums up to about the mean square. When
 * n < size the one window is filled up with zeros. */
int spectrum_welch(double *power, const float *pcm, size_t n, size_t size, app_error *err);

/* Magnitude of the analytic signal (Hilbert transform through one long transform). */
int spectrum_envelope(float *envelope, const float *pcm, size_t n, app_error *err);

/* Squared magnitude of the transform of n samples, filled up with zeros to `size`:
 * power[size / 2 + 1]. `size` even. */
int spectrum_power(float *power, const float *pcm, size_t n, size_t size, app_error *err);
/* The next size >= n that is fast to transform, even. */
size_t spectrum_fast_size(size_t n);

/* Correlation of a with b at lags -(n_b - 1) .. n_a - 1: out[lag + n_b - 1] = sum a[i + lag] b[i].
 * out has n_a + n_b - 1 elements. */
int spectrum_correlate(float *out, const float *a, size_t n_a, const float *b, size_t n_b,
                       app_error *err);

#endif
