/* audiofile.h - audio in and out of files: anything libsndfile reads, as one mono stream at the
 * rate the model wants; wav out.
 *
 * Files are hostile: headers are checked before anything is sized by them, samples must be finite
 * and of a plausible size, and reading is block by block whatever length the header claims. */
#ifndef APP_AUDIOFILE_H
#define APP_AUDIOFILE_H

#include "app.h"
#include "outfile.h"

typedef struct audio_in audio_in;

typedef struct audio_facts {
    int rate_hz, channels;
    int64_t frames;   /* as the header claims; 0 when it does not say */
    double seconds;   /* frames / rate_hz */
    char format[128]; /* in words: "WAV (Microsoft), Signed 16 bit PCM" */
} audio_facts;

enum { AUDIO_MAX_CHANNELS = 64 };

int audio_in_open(audio_in **out, const char *path, app_error *err);
const audio_facts *audio_in_facts(const audio_in *in);
/* Rate of the samples audio_in_read() gives; default: the file's own. Call before reading. */
int audio_in_set_rate(audio_in *in, int rate_hz, app_error *err);
/* Up to n mono samples at that rate into pcm; *got < n only at the end. Channels are averaged. */
int audio_in_read(audio_in *in, float *pcm, size_t n, size_t *got, app_error *err);
void audio_in_close(audio_in *in);

/* Mono wav: 16-bit PCM with saturation, or 32-bit float. */
typedef struct wav_out {
    outfile file;
    int rate_hz;
    bool is_float;
    uint64_t samples;
    size_t pending;   /* bytes in block */
    uint8_t *block;   /* [WAV_BLOCK] */
    uint64_t clipped; /* samples that had to be saturated */
} wav_out;

int wav_out_open(wav_out *wav, const char *path, const char *not_this, bool is_float,
                 app_error *err);
/* Must come before the first sample; writes the header. */
int wav_out_start(wav_out *wav, int rate_hz, app_error *err);
int wav_out_write(wav_out *wav, const float *pcm, size_t n, app_error *err);
int wav_out_commit(wav_out *wav, app_error *err);
/* Leaves nothing behind unless it was committed. */
void wav_out_close(wav_out *wav);

#endif
