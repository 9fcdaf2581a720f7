/* voice.h - what only speech can tell: which way its time runs, how fast it was played.
 *
 * Speech sets in faster than it dies away, closures come before bursts, pitch falls: no single one
 * of these is reliable in a second of sound, so that a small convolutional network was trained to
 * weigh them (tools/ear/README.md says on what and how). It sees mel bands of telephone width
 * without their long-term mean, so that microphones and lines do not matter. What it says about
 * time is the difference between its opinions on the sound and on the sound reversed: without a
 * preference it says 0, by construction. A second one judges the speed, from the whole recording at
 * once: how far syllables and formants together are from those of people. */
#ifndef APP_VOICE_H
#define APP_VOICE_H

#include "spectrum.h"

typedef struct voice_facts {
    double heard_s;   /* time that sounds, of which the following was judged */
    double direction; /* positive: forwards; speech has around 10, reversed speech around -10 */
    /* Evidence that it was played too fast (by 4/3 and more), and too slowly, as logarithms of
     * odds: speech has around -5; 0 when it is too short to tell. */
    double too_fast, too_slow;
    double rate_octaves; /* base 2 logarithm of how much too fast it seems; +-0.2 is ordinary */
    double pitch_hz;     /* median of the voiced frames; 0: none */
    double voiced_share; /* of the sounding frames, with a clear pitch */
    double pitch_jumps;  /* share of steps between voiced frames of more than a fifth */
} voice_facts;

int voice_measure(voice_facts *out, const float *pcm, size_t n, int rate_hz, app_error *err);

#endif
