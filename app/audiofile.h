/* audiofile.h - audio from files: anything libsndfile reads, as one mono stream at the rate the
 * model wants.
 *
 * Files are hostile: headers are checked before anything is sized by them, samples must be finite
 * and of a plausible size, and reading is block by block whatever length the header claims. */
#ifndef APP_AUDIOFILE_H
#define APP_AUDIOFILE_H

#include "app.h"

typedef struct audio_in audio_in;

typedef struct audio_facts {
    int rate_hz, channels;
    int64_t frames;    /* as the header claims; 0 when it does not say */
    double seconds;    /* frames / rate_hz */
    double promised_s; /* what the header promises, when less was found; otherwise 0 */
    char format[128];  /* in words: "WAV (Microsoft), Signed 16 bit PCM" */
} audio_facts;

enum { AUDIO_MAX_CHANNELS = 64 };

int audio_in_open(audio_in **out, const char *path, app_error *err);
/* The same for a file of `n` bytes in memory, which stays the caller's and must stay as it is.
 * `name` is for messages. */
int audio_in_open_memory(audio_in **out, const char *name, const void *data, size_t n,
                         app_error *err);
const audio_facts *audio_in_facts(const audio_in *in);
/* Say once on standard error what of the recording is missing. Some files tell when they are
 * opened, others only at their end: call after both. */
void audio_in_warn(audio_in *in);
/* Notes on standard error: what is done to the samples to make them mono at `rate_hz`. */
void audio_in_note(const audio_in *in, int rate_hz);
/* Rate of the samples audio_in_read() gives; default: the file's own. Call before reading. */
int audio_in_set_rate(audio_in *in, int rate_hz, app_error *err);
/* Up to n mono samples at that rate into pcm; *got < n only at the end. Channels are averaged. */
int audio_in_read(audio_in *in, float *pcm, size_t n, size_t *got, app_error *err);
/* Up to n frames as they are in the file, at its rate: pcm[n, channels], channels interleaved, any
 * numbers, not only those that can be audio. Not to be mixed with audio_in_read(). */
int audio_in_read_raw(audio_in *in, float *pcm, size_t n, size_t *got, app_error *err);
void audio_in_close(audio_in *in);

#endif
