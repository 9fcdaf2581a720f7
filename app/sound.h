/* sound.h - a mono recording in memory, and what is done to one as a whole. */
#ifndef APP_SOUND_H
#define APP_SOUND_H

#include "resample.h"
#include "sha.h"

#include "app.h"

/* A zeroed struct is empty. */
typedef struct sound {
    float *pcm; /* [n], nominal range -1..1 */
    size_t n;
    int rate_hz;
} sound;

/* What a resampler says of itself after the work, for records. */
typedef struct resample_report {
    sinc_settings active; /* read back from the table of weights that was used */
    double in_hz, out_hz;
    size_t taps, rows;           /* of that table; 0: samples passed through unchanged */
    char kernel_sha256[SHA_HEX]; /* of the weights; "" without any */
    double seconds;              /* the work took */
} resample_report;

/* n samples of silence. */
int sound_make(sound *out, size_t n, int rate_hz, app_error *err);
/* A file, or one in memory (`name` is for messages), at `rate_hz`, 0: its own; at most an hour. */
int sound_load(sound *out, const char *path, int rate_hz, app_error *err);
int sound_load_memory(sound *out, const char *name, const void *data, size_t n, int rate_hz,
                      app_error *err);
int sound_copy(sound *out, const sound *in, app_error *err);
/* Everything in `from` after what is in `to`; the rates must be equal. */
int sound_append(sound *to, const sound *from, app_error *err);
/* `in` at another rate. Settings without length change nothing: the sound keeps its rate. `report`
 * may be NULL. */
int sound_resample(sound *out, const sound *in, const sinc_settings *settings, int rate_hz,
                   resample_report *report, app_error *err);
/* n samples in reverse order, in place. */
void sound_reverse(float *pcm, size_t n);
/* Of the samples as 32-bit floats in this machine's order. */
void sound_sha256(const sound *s, char hex[SHA_HEX]);
/* Mono wav, 16 bits, appearing whole; *clipped: samples that were too loud for that. */
int sound_save(const sound *s, const char *path, uint64_t *clipped, app_error *err);
void sound_free(sound *s);

#endif
