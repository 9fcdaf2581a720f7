/* audioout.h - the audio files the program writes: mono, of the kind that their name ends in.
 *
 * wav is written here, in order, so that pipes take it too; the others by libsndfile. */
#ifndef APP_AUDIOOUT_H
#define APP_AUDIOOUT_H

#include "app.h"
#include "outfile.h"

typedef struct audio_out audio_out;

/* 16-bit samples with saturation, or with `is_float` (wav only) 32-bit float ones. A name without
 * an ending means wav. `not_this` as in outfile_open(). */
int audio_out_open(audio_out **out, const char *path, const char *not_this, bool is_float,
                   app_error *err);
/* Must come before the first sample. */
int audio_out_start(audio_out *out, int rate_hz, app_error *err);
int audio_out_write(audio_out *out, const float *pcm, size_t n, app_error *err);
int audio_out_commit(audio_out *out, app_error *err);
/* Samples that had to be saturated. */
uint64_t audio_out_clipped(const audio_out *out);
/* Leaves nothing behind unless it was committed. NULL is fine. */
void audio_out_close(audio_out *out);

#endif
