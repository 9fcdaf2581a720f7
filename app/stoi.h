/* stoi.h - how much of speech can still be understood, by the envelopes of its bands.
 *
 * STOI: Taal, Hendriks, Heusdens, Jensen, "An Algorithm for Intelligibility Prediction of
 * Time-Frequency Weighted Noisy Speech", 2011. ESTOI: Jensen, Taal, "An Algorithm for Predicting
 * the Intelligibility of Speech Masked by Modulated Noise Maskers", 2016.
 *
 * At 10 kHz: frames of 256 samples every 128 under a Hann window whose ends are not zero, filled up
 * to 512; 15 third-octave bands around 150 Hz * 2^(k/3), between the bins nearest to their edges;
 * correlations over 30 frames (384 ms). Frames of the reference more than 40 dB below its loudest
 * one are cut out of both sounds. */
#ifndef APP_STOI_H
#define APP_STOI_H

#include "app.h"

enum { STOI_HZ = 10000 };

typedef struct stoi_result {
    double stoi, estoi; /* up to 1, which is the reference itself; strangers are near 0 */
    size_t segments;    /* they are means of; 0: too little speech, and both are 0 */
} stoi_result;

/* Compare n samples at STOI_HZ, sample by sample: what is to be understood first. */
int stoi_measure(stoi_result *out, const float *reference, const float *heard, size_t n,
                 app_error *err);

#endif
