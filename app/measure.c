/* measure.c - timing frames. The parts of an engine's frame are told apart by sessions that leave
 * some of them out: tokens in and no audio out is the language model alone. */
#include "measure.h"

#include "model.h"

#include <stdlib.h>
#include <string.h>

enum { FRAMES_MAX = 200, WARM_UP = 2 };

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *times, int n) {
    qsort(times, (size_t)n, sizeof *times, by_value);
    return n == 0 ? 0 : n % 2 ? times[n / 2] : (times[n / 2 - 1] + times[n / 2]) / 2;
}

typedef struct timing {
    moshi_engine *engine;
    const moshi_engine_info *info;
    float *pcm;     /* a frame of something to hear */
    int32_t *codes; /* the same as tokens */
} timing;

/* Median of one kind of frame: samples or tokens in, audio out or not. Negative: the library's
 * error. */
static double time_frames(const timing *t, bool samples, bool audio, int frames, double budget_s,
                          int *done) {
    double times[FRAMES_MAX], until = app_now_s() + budget_s;
    moshi_session *session;
    moshi_session_options options = {.flags = audio ? 0 : MOSHI_NO_AUDIO};
    moshi_event event;
    /* The first frames have no answer to decode, and one of them is stepped twice. */
    int warm_up = WARM_UP + t->info->max_delay;
    int n = 0, rc = moshi_session_open(&session, t->engine, &options, NULL);
    if (rc < 0) return rc;
    if (frames > FRAMES_MAX) frames = FRAMES_MAX;
    for (int i = 0; rc >= 0 && n < frames && !app_interrupted(); i++) {
        size_t size = (size_t)t->info->frame_samples;
        rc = samples ? moshi_push_pcm(session, t->pcm, size)
                     : moshi_push_codes(session, t->codes, NULL, 1);
        double from = app_now_s();
        if (rc >= 0) rc = moshi_step(t->engine);
        double now = app_now_s();
        while (moshi_pull(session, &event) > 0) {
        }
        if (i >= warm_up) times[n++] = now - from;
        if (n >= 2 && now > until) break;
    }
    moshi_session_close(session);
    *done = n;
    return rc < 0 ? rc : median(times, n);
}

static double above_zero(double x) {
    return x > 0 ? x : 0;
}

/* A tone in noise: sound costs more than silence in no part, but denormals might. */
static void make_sound(float *pcm, int n) {
    uint32_t noise = 1;
    for (int i = 0; i < n; i++) {
        noise = noise * 1664525u + 1013904223u;
        pcm[i] = (i % 120 < 60 ? 0.1f : -0.1f) + 0.05f * ((float)(noise >> 8) * 0x1p-23f - 1);
    }
}

int measure_engine(moshi_engine *engine, int frames, double budget_s, frame_times *out,
                   app_error *err) {
    moshi_engine_info info;
    moshi_engine_get_info(engine, &info);
    memset(out, 0, sizeof *out);
    timing t = {.engine = engine, .info = &info};
    t.pcm = calloc((size_t)info.frame_samples + 1, sizeof *t.pcm);
    t.codes = calloc((size_t)info.user_codebooks + 1, sizeof *t.codes);
    double step = MOSHI_ENOMEM, heard = 0, all = 0;
    if (t.pcm && t.codes) {
        make_sound(t.pcm, info.frame_samples);
        bool hears = info.frame_samples > 0 && info.user_codebooks > 0;
        bool speaks = info.frame_samples > 0 && info.dep_q > 0;
        step = time_frames(&t, false, false, frames, budget_s, &out->frames);
        heard = step >= 0 && hears ? time_frames(&t, true, false, frames, budget_s, &out->frames)
                                   : step;
        all = heard >= 0 && speaks ? time_frames(&t, hears, true, frames, budget_s, &out->frames)
                                   : heard;
    }
    free(t.pcm);
    free(t.codes);
    if (all < 0 || heard < 0 || step < 0)
        return app_fail_library(err, (int)(step < 0 ? step : heard < 0 ? heard : all), "");
    out->step_s = step;
    out->encode_s = above_zero(heard - step);
    out->decode_s = above_zero(all - heard);
    out->frame_s = all;
    out->real_time = all > 0 ? 1 / info.frame_rate_hz / all : 0;
    return app_check_interrupted(err);
}

int measure_codec(moshi_codec *codec, int frames, double budget_s, frame_times *out,
                  app_error *err) {
    moshi_codec_info info;
    double encode[FRAMES_MAX], decode[FRAMES_MAX], until = app_now_s() + budget_s;
    moshi_codec_get_info(codec, &info);
    memset(out, 0, sizeof *out);
    float *pcm = calloc((size_t)info.frame_samples, sizeof *pcm);
    int32_t *codes = calloc((size_t)info.codebooks, sizeof *codes);
    int rc = pcm && codes ? 0 : MOSHI_ENOMEM, n = 0;
    if (frames > FRAMES_MAX) frames = FRAMES_MAX;
    for (int i = 0; rc >= 0 && n < frames && !app_interrupted(); i++) {
        make_sound(pcm, info.frame_samples);
        double start = app_now_s();
        rc = moshi_codec_encode(codec, pcm, 1, codes);
        double middle = app_now_s();
        if (rc >= 0) rc = moshi_codec_decode(codec, codes, 1, pcm);
        double end = app_now_s();
        if (i < WARM_UP) continue;
        encode[n] = middle - start;
        decode[n++] = end - middle;
        if (n >= 2 && end > until) break;
    }
    free(pcm);
    free(codes);
    if (rc < 0) return app_fail_library(err, rc, "");
    out->frames = n;
    out->encode_s = median(encode, n);
    out->decode_s = median(decode, n);
    out->frame_s = out->encode_s + out->decode_s;
    out->real_time = out->frame_s > 0 ? 1 / info.frame_rate_hz / out->frame_s : 0;
    return app_check_interrupted(err);
}
