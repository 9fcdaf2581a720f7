/* controls.c - ways to break speech. */
#include "controls.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    EVERY = 5, /* of this many frames one is dropped or repeated */
    PAUSE = 5  /* frames */
};
static const double TOO_LOUD = 10;  /* 20 dB above what fits */
static const float SILENT = 0.001f; /* no sample above this */

static const struct {
    const char *name, *description;
    bool whole;
} CONTROL_FACTS[CONTROLS] = {
    [CONTROL_CLEAN] = {"clean", "the input as it is", true},
    [CONTROL_ROUNDTRIP] = {"codec_roundtrip", "through the codec and back", true},
    [CONTROL_REVERSED] = {"reversed", "played backwards", false},
    [CONTROL_FRAMES_REVERSED] = {"frames_reversed", "every 80 ms frame backwards", false},
    [CONTROL_FRAMES_SHUFFLED] = {"frames_shuffled", "80 ms frames in random order", false},
    [CONTROL_HALF_SPEED] = {"half_speed", "48 kHz taken for 24 kHz", false},
    [CONTROL_DOUBLE_SPEED] = {"double_speed", "12 kHz taken for 24 kHz", false},
    [CONTROL_DELAY_SHIFTED] = {"delay_shifted", "acoustic codebooks one frame late", false},
    [CONTROL_CODEBOOKS_PERMUTED] = {"codebooks_permuted", "codebooks in another order", false},
    [CONTROL_CLIPPED] = {"clipped", "20 dB too loud", false},
    [CONTROL_FRAMES_DROPPED] = {"frames_dropped", "every fifth frame is missing", false},
    [CONTROL_FRAMES_REPEATED] = {"frames_repeated", "every fifth frame comes twice", false},
};

const char *control_name(control_kind kind) {
    return CONTROL_FACTS[kind].name;
}

const char *control_description(control_kind kind) {
    return CONTROL_FACTS[kind].description;
}

bool control_is_whole(control_kind kind) {
    return CONTROL_FACTS[kind].whole;
}

bool control_applies(control_kind kind, size_t codebooks) {
    return codebooks > 1 || (kind != CONTROL_DELAY_SHIFTED && kind != CONTROL_CODEBOOKS_PERMUTED);
}

static bool is_pause(const float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (fabsf(x[i]) > SILENT) return false;
    return true;
}

int control_input(sound *out, const sound *in, size_t frame, app_error *err) {
    int rc = sound_copy(out, in, err), silent = 0;
    if (rc != EXIT_OK) return rc;
    out->n = 0;
    for (size_t at = 0; at + frame <= in->n; at += frame) {
        silent = is_pause(in->pcm + at, frame) ? silent + 1 : 0;
        if (silent > PAUSE) continue;
        memcpy(out->pcm + out->n, in->pcm + at, frame * sizeof *out->pcm);
        out->n += frame;
    }
    return EXIT_OK;
}

/* ---- samples -------------------------------------------------------------------------------- */

static void reverse_frames(sound *s, size_t frame) {
    for (size_t at = 0; at + frame <= s->n; at += frame) sound_reverse(s->pcm + at, frame);
}

/* Fisher and Yates, with a generator of fixed seed: the same order on every machine. */
static void shuffle_frames(sound *s, size_t frame) {
    uint32_t state = 1;
    for (size_t i = s->n / frame; i > 1; i--) {
        state = state * 1664525u + 1013904223u;
        float *a = s->pcm + (i - 1) * frame, *b = s->pcm + (state >> 8) % i * frame;
        for (size_t k = 0; k < frame; k++) {
            float swap = a[k];
            a[k] = b[k];
            b[k] = swap;
        }
    }
}

static void clip(sound *s) {
    double peak = 1e-9;
    for (size_t i = 0; i < s->n; i++) peak = fmax(peak, fabs((double)s->pcm[i]));
    for (size_t i = 0; i < s->n; i++)
        s->pcm[i] = (float)fmax(-1, fmin(1, (double)s->pcm[i] * TOO_LOUD / peak));
}

/* Frames of `from` into `to`: with `times` 0 every EVERY-th is left out, with 2 it comes twice. */
static void drop_or_repeat(sound *to, const sound *from, size_t frame, size_t times) {
    to->n = 0;
    for (size_t f = 0; (f + 1) * frame <= from->n; f++) {
        size_t copies = f % EVERY == EVERY - 1 ? times : 1;
        for (size_t i = 0; i < copies; i++, to->n += frame)
            memcpy(to->pcm + to->n, from->pcm + f * frame, frame * sizeof *to->pcm);
    }
}

static int other_speed(sound *out, const sound *clean, int rate_hz, app_error *err) {
    int rc = sound_resample(out, clean, &SINC_FILE, rate_hz, NULL, err);
    out->rate_hz = clean->rate_hz;
    return rc;
}

static int make_samples(sound *out, control_kind kind, const sound *clean, size_t frame,
                        app_error *err) {
    if (kind == CONTROL_HALF_SPEED) return other_speed(out, clean, 2 * clean->rate_hz, err);
    if (kind == CONTROL_DOUBLE_SPEED) return other_speed(out, clean, clean->rate_hz / 2, err);
    if (kind == CONTROL_FRAMES_DROPPED || kind == CONTROL_FRAMES_REPEATED) {
        int rc = sound_make(out, 2 * clean->n, clean->rate_hz, err);
        if (rc == EXIT_OK)
            drop_or_repeat(out, clean, frame, kind == CONTROL_FRAMES_REPEATED ? 2 : 0);
        return rc;
    }
    int rc = sound_copy(out, clean, err);
    if (rc != EXIT_OK) return rc;
    if (kind == CONTROL_REVERSED) sound_reverse(out->pcm, out->n);
    if (kind == CONTROL_FRAMES_REVERSED) reverse_frames(out, frame);
    if (kind == CONTROL_FRAMES_SHUFFLED) shuffle_frames(out, frame);
    if (kind == CONTROL_CLIPPED) clip(out);
    return EXIT_OK;
}

/* ---- codes ---------------------------------------------------------------------------------- */

int control_make(sound *out, control_kind kind, const sound *clean, size_t frame,
                 const code_rows *codes, moshi_codec *codec, app_error *err) {
    memset(out, 0, sizeof *out);
    if (kind == CONTROL_ROUNDTRIP) return code_rows_decode(out, codec, codes, err);
    if (kind != CONTROL_DELAY_SHIFTED && kind != CONTROL_CODEBOOKS_PERMUTED)
        return make_samples(out, kind, clean, frame, err);
    bool late = kind == CONTROL_DELAY_SHIFTED;
    code_fault fault = {.delay = late, .rotate = !late, .rotate_all = !late};
    code_rows moved = {0};
    int rc = code_rows_displace(&moved, codes, &fault, err);
    if (rc == EXIT_OK) rc = code_rows_decode(out, codec, &moved, err);
    code_rows_free(&moved);
    return rc;
}
