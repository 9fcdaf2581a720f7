/* soundfile.c - reading all of a file. */
#include "soundfile.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_FRAMES = 8192 };

typedef struct mixing {
    double mixed, apart; /* sums of squares */
} mixing;

static void mix(float *out, const float *in, size_t frames, size_t channels, mixing *m) {
    for (size_t i = 0; i < frames; i++) {
        double sum = 0, square = 0;
        for (size_t c = 0; c < channels; c++) {
            double x = (double)in[i * channels + c];
            sum += x, square += x * x;
        }
        double mean = sum / (double)channels;
        out[i] = channels == 1 ? in[i] : (float)mean;
        if (!isfinite(square)) continue;
        m->mixed += mean * mean;
        m->apart += square / (double)channels;
    }
}

static int read_all(soundfile *out, audio_in *in, size_t most, app_error *err) {
    app_buffer all = {0};
    mixing m = {0};
    size_t channels = (size_t)out->facts.channels, got = 1;
    float *block = malloc(BLOCK_FRAMES * channels * sizeof *block);
    float *mono = malloc(BLOCK_FRAMES * sizeof *mono);
    int rc = block && mono ? EXIT_OK : app_no_memory(err);
    while (rc == EXIT_OK && got > 0 && out->n < most) {
        size_t want = most - out->n < BLOCK_FRAMES ? most - out->n : BLOCK_FRAMES;
        rc = audio_in_read_raw(in, block, want, &got, err);
        if (rc != EXIT_OK) break;
        mix(mono, block, got, channels, &m);
        rc = app_buffer_add(&all, mono, got * sizeof *mono, err);
        out->n += got;
        if (rc == EXIT_OK) rc = app_check_interrupted(err);
    }
    out->whole = got == 0;
    out->cancel = m.apart > 0 ? m.mixed / m.apart : 1;
    out->pcm = (float *)(void *)all.data;
    free(block);
    free(mono);
    return rc;
}

int soundfile_read(soundfile *out, const char *path, double longest_s, app_error *err) {
    audio_in *in;
    *out = (soundfile){0};
    int rc = audio_in_open(&in, path, err);
    if (rc != EXIT_OK) return rc;
    out->facts = *audio_in_facts(in);
    rc = read_all(out, in, (size_t)(longest_s * out->facts.rate_hz), err);
    if (rc == EXIT_OK && out->n == 0) rc = app_fail(err, EXIT_USAGE, "%s: has no samples", path);
    audio_in_close(in);
    if (rc != EXIT_OK) soundfile_free(out);
    return rc;
}

void soundfile_free(soundfile *r) {
    free(r->pcm);
    r->pcm = NULL;
}
