/* resample.h - change of sample rate for mono streams: windowed sinc, any two rates.
 *
 * Output sample n is the band-limited input at time n * in_hz / out_hz; there is no delay, and an
 * input of N samples gives ceil(N * out_hz / in_hz) samples. How the stream is cut changes nothing,
 * to the last bit. With equal rates samples pass through unchanged. */
#ifndef APP_RESAMPLE_H
#define APP_RESAMPLE_H

#include "sinc.h"

enum { RESAMPLE_MIN_HZ = 1000, RESAMPLE_MAX_HZ = 768000 };

typedef struct resampler resampler;

/* With the settings for files, SINC_FILE. Rates within RESAMPLE_MIN_HZ..RESAMPLE_MAX_HZ. NULL when
 * out of memory. */
resampler *resampler_open(int in_hz, int out_hz);
/* With any settings that resample (length > 0). Rates need not be whole: they count in 1/1000 Hz.
 * NULL when out of memory, or when settings or rates are out of range. */
resampler *resampler_open_with(const sinc_settings *settings, double in_hz, double out_hz);
void resampler_close(resampler *r);
/* Give input; returns how many samples were taken (fewer when full: pull, then push the rest). */
size_t resampler_push(resampler *r, const float *in, size_t n);
/* No more input will come. */
void resampler_end(resampler *r);
/* Take up to `cap` samples; 0 when more input is needed, or at the end. */
size_t resampler_pull(resampler *r, float *out, size_t cap);

/* What it computes with, settings included; no weights when the rates are equal. Borrowed until
 * closed. */
const sinc_table *resampler_table(const resampler *r);

#endif
