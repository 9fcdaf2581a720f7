#include "drive.h"

#include "cpu/kernels.h"

#include <sndfile.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void *grow(void *p, size_t size, size_t need, size_t *cap) {
    if (need <= *cap) return p;
    *cap = 2 * need + 16;
    p = realloc(p, *cap * size);
    if (!p) test_die("out of memory");
    return p;
}

/* ---- taps --------------------------------------------------------------------------------- */

const tap_series *tap_find(const tap_log *log, const char *name) {
    for (size_t i = 0; i < log->n; i++)
        if (!strcmp(log->series[i].name, name)) return &log->series[i];
    return NULL;
}

void tap_log_fn(void *user, const moshi_tap *tap) {
    tap_log *log = user;
    if (log->slot >= 0 && tap->slot != log->slot) return;
    tap_series *s = (tap_series *)(uintptr_t)tap_find(log, tap->name);
    if (!s) {
        log->series = realloc(log->series, (log->n + 1) * sizeof *s);
        if (!log->series) test_die("out of memory");
        s = &log->series[log->n++];
        memset(s, 0, sizeof *s);
        snprintf(s->name, sizeof s->name, "%s", tap->name);
        s->dtype = tap->dtype;
        s->rows = tap->shape[0];
        s->width = 1;
        for (int d = 0; d < tap->ndim; d++) s->width *= (size_t)tap->shape[d];
    }
    s->data = grow(s->data, sizeof *s->data, (s->calls + 1) * s->width, &s->cap);
    memcpy(s->data + s->calls * s->width, tap->data, s->width * sizeof *s->data);
    s->calls++;
}

void tap_log_free(tap_log *log) {
    for (size_t i = 0; i < log->n; i++) free(log->series[i].data);
    free(log->series);
    *log = (tap_log){.slot = log->slot};
}

static const tap_series *must_find(const tap_log *log, size_t count, moshi_dtype dtype,
                                   const char *fmt, va_list ap) {
    char name[64];
    vsnprintf(name, sizeof name, fmt, ap);
    const tap_series *s = tap_find(log, name);
    if (!s) test_die("no tap %s", name);
    if (s->dtype != dtype) test_die("tap %s has another type", name);
    if (count && s->calls * s->width != count)
        test_die("tap %s gave %zu x %zu elements, expected %zu", name, s->calls, s->width, count);
    return s;
}

const float *tap_f32(const tap_log *log, size_t count, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    const tap_series *s = must_find(log, count, MOSHI_F32, fmt, ap);
    va_end(ap);
    return (const float *)s->data;
}

const int32_t *tap_i32(const tap_log *log, size_t count, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    const tap_series *s = must_find(log, count, MOSHI_I32, fmt, ap);
    va_end(ap);
    return (const int32_t *)s->data;
}

float *tap_channels(const tap_log *log, size_t count, const char *name) {
    const float *data = tap_f32(log, count, "%s", name);
    const tap_series *s = tap_find(log, name);
    size_t rows = (size_t)s->rows, cols = s->width / rows;
    float *out = test_alloc(count, sizeof *out);
    for (size_t call = 0; call < s->calls; call++)
        for (size_t r = 0; r < rows; r++)
            memcpy(out + (r * s->calls + call) * cols, data + (call * rows + r) * cols,
                   cols * sizeof *out);
    return out;
}

/* ---- events ------------------------------------------------------------------------------- */

void event_log_init(event_log *log, const moshi_engine *engine) {
    moshi_engine_info info;
    if (moshi_engine_get_info(engine, &info) < 0) test_die("no engine information");
    memset(log, 0, sizeof *log);
    log->channels = 1 + (size_t)info.dep_q;
    log->users = (size_t)info.user_codebooks;
}

void event_log_free(event_log *log) {
    free(log->tokens);
    free(log->codes);
    free(log->pcm);
    free(log->text);
    free(log->words);
    memset(log, 0, sizeof *log);
}

static void add_tokens(event_log *log, const moshi_event *ev) {
    if (ev->n != log->channels) test_die("TOKENS event of %zu tokens", ev->n);
    if (ev->codes && log->users) {
        size_t at = (log->frames + log->silent) * log->users;
        log->codes = grow(log->codes, sizeof *log->codes, at + log->users, &log->cap_codes);
        memcpy(log->codes + at, ev->codes, log->users * sizeof *log->codes);
    }
    if (ev->tokens[0] == MOSHI_NO_TOKEN) {
        log->silent++;
        return;
    }
    size_t at = log->frames++ * log->channels;
    log->tokens = grow(log->tokens, sizeof *log->tokens, at + ev->n, &log->cap_tokens);
    memcpy(log->tokens + at, ev->tokens, ev->n * sizeof *log->tokens);
}

static void add_audio(event_log *log, const moshi_event *ev) {
    log->pcm = grow(log->pcm, sizeof *log->pcm, log->n_pcm + ev->n, &log->cap_pcm);
    memcpy(log->pcm + log->n_pcm, ev->pcm, ev->n * sizeof *log->pcm);
    log->n_pcm += ev->n;
}

static void add_text(event_log *log, const moshi_event *ev) {
    size_t n = strlen(ev->text);
    log->text = grow(log->text, 1, log->n_text + n + 1, &log->cap_text);
    memcpy(log->text + log->n_text, ev->text, n + 1);
    log->n_text += n;
}

static void add_word(event_log *log, const moshi_event *ev) {
    size_t n = strlen(ev->text) + 64;
    log->words = grow(log->words, 1, log->n_words + n, &log->cap_words);
    log->n_words += (size_t)snprintf(log->words + log->n_words, n, "%s %.2f %.2f\n", ev->text,
                                     ev->start_s, ev->stop_s);
}

void event_log_drain(event_log *log, moshi_session *session) {
    moshi_event ev;
    int r;
    while ((r = moshi_pull(session, &ev)) > 0) {
        if (log->ended) test_die("an event after the end");
        switch (ev.type) {
        case MOSHI_EVENT_TOKENS:
            add_tokens(log, &ev);
            break;
        case MOSHI_EVENT_AUDIO:
            add_audio(log, &ev);
            break;
        case MOSHI_EVENT_TEXT:
            add_text(log, &ev);
            break;
        case MOSHI_EVENT_WORD:
            add_word(log, &ev);
            break;
        case MOSHI_EVENT_END:
            log->ended = true;
            break;
        }
    }
    if (r < 0) test_die("pull failed: %s", moshi_strerror(r));
}

static bool same(const void *a, size_t n, const void *b, size_t m, size_t size) {
    return n == m && (n == 0 || memcmp(a, b, n * size) == 0);
}

bool event_log_same(const event_log *a, const event_log *b) {
    size_t na = a->frames * a->channels, nb = b->frames * b->channels;
    return a->ended == b->ended && a->silent == b->silent &&
           same(a->tokens, na, b->tokens, nb, sizeof *a->tokens) &&
           same(a->pcm, a->n_pcm, b->pcm, b->n_pcm, sizeof *a->pcm) &&
           same(a->text, a->n_text, b->text, b->n_text, 1) &&
           same(a->words, a->n_words, b->words, b->n_words, 1);
}

/* ---- running ------------------------------------------------------------------------------ */

moshi_engine *open_engine(const char *path, const moshi_blob *blobs, size_t n_blobs, int sessions,
                          int threads, int flags) {
    return open_engine_with(&(moshi_engine_options){.model = path,
                                                    .blobs = blobs,
                                                    .n_blobs = n_blobs,
                                                    .sessions = sessions,
                                                    .threads = threads,
                                                    .flags = flags});
}

/* Half of the runs compute with the best kernels, the others with some lesser ones of this machine:
 * what holds must hold on all of them. Not those in plain C, which are slow and have tests of their
 * own. */
static const char *device_of_run(void) {
    static char name[MOSHI_DEVICE_NAME];
    if (getenv("TEST_DEVICE")) return getenv("TEST_DEVICE");
    if (name[0]) return name;
    mo_cpu_level lesser[MO_CPU_LEVEL_COUNT], best = mo_cpu_level_best();
    int n = 0;
    for (mo_cpu_level l = MO_CPU_LEVEL_C + 1; l < best; l++)
        if (mo_kernels_get(l)) lesser[n++] = l;
    test_rng rng = {(uint64_t)time(NULL) * 65537 + (uint64_t)getpid()};
    int pick = n ? rng_below(&rng, 2 * n) : 0;
    snprintf(name, sizeof name, "cpu/%s", mo_cpu_level_name(pick < n ? lesser[pick] : best));
    if (pick >= n) snprintf(name, sizeof name, "cpu");
    fprintf(stderr, "computing on %s; TEST_DEVICE=%s repeats it\n", name, name);
    return name;
}

moshi_engine *open_engine_with(const moshi_engine_options *options) {
    moshi_engine *engine = NULL;
    moshi_error err = {0};
    moshi_engine_options o = *options;
    if (!o.device) o.device = device_of_run();
    if (moshi_engine_open(&engine, &o, &err) < 0) test_die("engine: %s", err.text);
    return engine;
}

float *load_speech(const char *path, size_t silent_frames, size_t *n) {
    SF_INFO info = {0};
    SNDFILE *f = sf_open(path, SFM_READ, &info);
    if (!f || info.channels != 1 || info.samplerate != 24000)
        test_die("%s: %s", path, sf_strerror(f));
    *n = (((size_t)info.frames + 1919) / 1920 + silent_frames) * 1920;
    float *pcm = test_alloc(*n, sizeof *pcm);
    if (sf_readf_float(f, pcm, info.frames) != info.frames) test_die("%s is cut", path);
    sf_close(f);
    return pcm;
}

moshi_session *open_session(moshi_engine *engine, const moshi_session_options *options) {
    moshi_session *session = NULL;
    moshi_error err = {0};
    if (moshi_session_open(&session, engine, options, &err) < 0) test_die("session: %s", err.text);
    return session;
}

moshi_codec *open_codec_with(const moshi_codec_options *options) {
    moshi_codec *codec = NULL;
    moshi_error err = {0};
    moshi_codec_options o = *options;
    if (!o.device) o.device = device_of_run();
    if (moshi_codec_open(&codec, &o, &err) < 0) test_die("codec: %s", err.text);
    return codec;
}

moshi_codec *open_codec(const char *path, const moshi_blob *blobs, size_t n_blobs, int codebooks,
                        int frames_per_call, int flags) {
    return open_codec_with(&(moshi_codec_options){.model = path,
                                                  .blobs = blobs,
                                                  .n_blobs = n_blobs,
                                                  .codebooks = codebooks,
                                                  .frames_per_call = frames_per_call,
                                                  .flags = flags});
}

static int step_and_pull(moshi_engine *engine, moshi_session *session, event_log *log) {
    int r = moshi_step(engine);
    if (r < 0) test_die("step failed: %s", moshi_strerror(r));
    event_log_drain(log, session);
    return r;
}

static void finish(moshi_engine *engine, moshi_session *session, event_log *log) {
    int r = moshi_push_end(session);
    if (r < 0) test_die("end of input refused: %s", moshi_strerror(r));
    while (step_and_pull(engine, session, log) > 0) continue;
    if (!log->ended) test_die("the end never came");
}

void run_pcm(moshi_engine *engine, moshi_session *session, const float *pcm, size_t n, size_t chunk,
             event_log *log) {
    test_rng rng = {n};
    size_t at = 0;
    while (at < n) {
        size_t want = chunk ? chunk : (size_t)rng_below(&rng, 5000);
        if (want > n - at) want = n - at;
        int r = moshi_push_pcm(session, pcm + at, want);
        if (r < 0) test_die("samples refused: %s", moshi_strerror(r));
        at += (size_t)r;
        while (step_and_pull(engine, session, log) > 0) continue;
    }
    finish(engine, session, log);
}

void run_codes(moshi_engine *engine, moshi_session *session, const int32_t *codes,
               const int32_t *force, size_t frames, event_log *log) {
    size_t at = 0;
    while (at < frames) {
        int r = moshi_push_codes(session, codes ? codes + at * log->users : NULL,
                                 force ? force + at * log->channels : NULL, frames - at);
        if (r < 0) test_die("codes refused: %s", moshi_strerror(r));
        at += (size_t)r;
        while (step_and_pull(engine, session, log) > 0) continue;
    }
    finish(engine, session, log);
}

int inspect_blobs_of(moshi_model_info **info, const moshi_blob *blobs, size_t n, moshi_error *err) {
    return moshi_inspect(info, &(moshi_inspect_options){.blobs = blobs, .n_blobs = n, .threads = 1},
                         err);
}
