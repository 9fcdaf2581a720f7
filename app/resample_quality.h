/* resample_quality.h - what a resampler does to tones: measured by sending them through. */
#ifndef APP_RESAMPLE_QUALITY_H
#define APP_RESAMPLE_QUALITY_H

#include "resample.h"

/* Frequencies are parts of the lower rate's Nyquist frequency. */
typedef struct resample_quality {
    double edge;      /* where the gain has fallen by 0.1 dB */
    double ripple_db; /* largest deviation of the gain from 0 dB, tones up to 0.9 */
    double snr_db;    /* tone against everything else that came out; the worst of those tones */
    double reject_db; /* how far below a tone what must not be there is; the worst. To a lower
                         rate: what is left of tones from 1.02 on. To a higher rate: the images of
                         tones up to 0.98 */
} resample_quality;

/* False when out of memory or when settings or rates are out of range. */
bool resample_measure(resample_quality *quality, const sinc_settings *settings, double in_hz,
                      double out_hz);

#endif
