/* resample.h - change of sample rate for mono streams: windowed sinc, any two rates.
 *
 * Output sample n is the band-limited input at time n * in_hz / out_hz; there is no delay, and an
 * input of N samples gives ceil(N * out_hz / in_hz) samples. Flat up to 0.9 of the lower rate's
 * Nyquist frequency, nothing above it. With equal rates samples pass through unchanged. */
#ifndef APP_RESAMPLE_H
#define APP_RESAMPLE_H

#include <stdbool.h>
#include <stddef.h>

enum { RESAMPLE_MIN_HZ = 1000, RESAMPLE_MAX_HZ = 768000 };

typedef struct resampler resampler;

/* Rates within RESAMPLE_MIN_HZ..RESAMPLE_MAX_HZ. NULL when out of memory. */
resampler *resampler_open(int in_hz, int out_hz);
void resampler_close(resampler *r);
/* Give input; returns how many samples were taken (fewer when full: pull, then push the rest). */
size_t resampler_push(resampler *r, const float *in, size_t n);
/* No more input will come. */
void resampler_end(resampler *r);
/* Take up to `cap` samples; 0 when more input is needed, or at the end. */
size_t resampler_pull(resampler *r, float *out, size_t cap);

#endif
