/* likeness.h - how alike two sounds are, one laid on the other first. */
#ifndef APP_LIKENESS_H
#define APP_LIKENESS_H

#include "sound.h"
#include "spectrum.h"

/* Two aligned sounds. */
typedef struct likeness {
    /* Scale-invariant signal-to-distortion ratio (Le Roux, Wisdom, Erdogan, Hershey, 2019), dB,
     * within +-100. */
    double si_sdr_db;
    double stoi, estoi; /* stoi.h */
    bool understood;    /* there was enough speech for these two */
    /* RMS difference of smoothed mel spectra without their level, dB: 10 / ln 10 * sqrt(2 * the sum
     * of squared differences of the mel cepstra 1..12 of the power), mean over frames where the
     * reference sounds (Kubichek, "Mel-cepstral distance measure for objective speech quality
     * assessment", 1993). */
    double mel_cepstral_db;
} likeness;

/* Where the recording lies on the reference. */
typedef struct alignment {
    double delay_s;  /* positive: the recording comes later */
    bool inverted;   /* opposite polarity */
    double gain_db;  /* of the recording */
    double common_s; /* time that both have */
    double covered;  /* share of the sounding time of the reference that lies within that */
} alignment;

/* Lay `heard` on `reference`, both at one rate, and compare what they have in common. */
int likeness_compare(alignment *laid, likeness *alike, const sound *heard, const sound *reference,
                     app_error *err);
/* Of two likenesses the one with more merit is the better one: by what can be understood, and by
 * the samples where that is the same. */
double likeness_merit(const likeness *alike);

/* The lag in seconds at which two pictures are most alike, and how alike they are there, -1..1. */
int likeness_of_pictures(double *lag_s, double *match, const mel_picture *heard,
                         const mel_picture *reference, app_error *err);

#endif
