/* level.h - how loud a sound is, how its loudness moves, and the four-feature score of old. */
#ifndef APP_LEVEL_H
#define APP_LEVEL_H

#include "app.h"

/* Third octaves from 0.5 Hz to 20 Hz. */
enum { MODULATION_BANDS = 17 };
#define MODULATION_LOWEST_HZ 0.5

typedef struct level_facts {
    double peak;         /* largest magnitude, 1 is full scale */
    double rms_db;       /* of all samples, relative to full scale */
    double active_db;    /* of the active frames */
    double noise_db;     /* 10th percentile of the 20 ms frames */
    double active_s;     /* time in 20 ms frames less than 30 dB below the loud ones */
    double active_share; /* of all time */
    int pauses;          /* stretches of 200 ms or more that are not active, between active ones */
    double longest_pause_s;
    double dc;          /* mean, relative to the RMS of the rest */
    double flat_share;  /* of active samples: in runs of three or more at the largest value */
    double rail_share;  /* of active samples: above 85 % of the peak */
    double not_finite;  /* share of samples that are no finite numbers, or absurdly large */
    double not_numbers; /* share of samples that are NaN or infinite */
    double beyond;      /* share of samples beyond full scale */
    double modulation;  /* share of the envelope's fluctuation at 2..10 Hz of that at 0.5..40 */
    double modulation_peak_hz;
    /* Share of the envelope's fluctuation (at 0.5..40 Hz) in each third octave. */
    double modulation_bands[MODULATION_BANDS];
    double fluctuation_db; /* standard deviation of the level of 20 ms frames */
    double tilt_db;        /* level above 1 kHz relative to that below */
    double band_hz;        /* 99 % of the power lies below */
    /* The score of a script that others used: 25 points for each of four features within its range.
     * It cannot tell speech from reversed or shuffled speech; kept for comparison only. */
    struct legacy_score {
        int points;
        double silence, band, zcr, dynamics;
    } legacy;
} level_facts;

/* `pcm` must be finite. */
int level_measure(level_facts *out, const float *pcm, size_t n, int rate_hz, app_error *err);

#endif
