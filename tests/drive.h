/* drive.h - running an engine or a codec through the public header and keeping all it says. */
#ifndef MO_TESTS_DRIVE_H
#define MO_TESTS_DRIVE_H

#include "moshi.h"
#include "tensors.h"

/* Everything one tap delivered, call after call. */
typedef struct tap_series {
    char name[64];
    moshi_dtype dtype;
    size_t calls, width; /* width: elements per call */
    int64_t rows;        /* first axis of a call's array */
    size_t cap;
    uint32_t *data; /* float or int32_t */
} tap_series;

typedef struct tap_log {
    tap_series *series;
    size_t n;
    int slot; /* listen to this slot only; -1: to all */
} tap_log;

/* A moshi_tap_fn; user is a tap_log. */
void tap_log_fn(void *user, const moshi_tap *tap);
void tap_log_free(tap_log *log);
/* Data of a tap that must have delivered `count` elements in all (0: any number). */
const float *tap_f32(const tap_log *log, size_t count, const char *fmt, ...) MO_PRINTF(3, 4);
const int32_t *tap_i32(const tap_log *log, size_t count, const char *fmt, ...) MO_PRINTF(3, 4);
const tap_series *tap_find(const tap_log *log, const char *name);
/* Calls of [channels, t] put side by side: [channels, t * calls]. Free the result. */
float *tap_channels(const tap_log *log, size_t count, const char *name);

/* Everything a session said. */
typedef struct event_log {
    size_t channels, users; /* 1 + dep_q and user_codebooks of the engine */
    size_t frames;          /* TOKENS events with output */
    size_t silent;          /* TOKENS events without */
    int32_t *tokens;        /* [frames, channels] */
    int32_t *codes;         /* [frames + silent, users] */
    float *pcm;
    size_t n_pcm;
    char *text; /* pieces put together */
    size_t n_text;
    char *words; /* "word start stop\n" */
    size_t n_words;
    bool ended;
    size_t cap_tokens, cap_codes, cap_pcm, cap_text, cap_words;
} event_log;

void event_log_init(event_log *log, const moshi_engine *engine);
void event_log_free(event_log *log);
/* Pull until nothing waits. */
void event_log_drain(event_log *log, moshi_session *session);
/* Same bytes in everything? */
bool event_log_same(const event_log *a, const event_log *b);

/* Open or end the test with the engine's own words. Where the options name no device, TEST_DEVICE
 * in the environment does, else the CPU with kernels that are drawn once a run; what was drawn is
 * told on standard error. */
moshi_engine *open_engine(const char *path, const moshi_blob *blobs, size_t n_blobs, int sessions,
                          int threads, int flags);
moshi_engine *open_engine_with(const moshi_engine_options *options);
moshi_session *open_session(moshi_engine *engine, const moshi_session_options *options);
moshi_codec *open_codec(const char *path, const moshi_blob *blobs, size_t n_blobs, int codebooks,
                        int frames_per_call, int flags);
moshi_codec *open_codec_with(const moshi_codec_options *options);

/* A recording of 24 kHz and one channel, filled up with silence to whole frames of 80 ms and so
 * many more; ends the test when it cannot be read. */
float *load_speech(const char *path, size_t silent_frames, size_t *n);
/* What moshi_inspect() says about files in memory; one thread. */
int inspect_blobs_of(moshi_model_info **info, const moshi_blob *blobs, size_t n, moshi_error *err);

/* Push everything in chunks of at most `chunk` samples (0: random sizes), step, pull, to the end.
 */
void run_pcm(moshi_engine *engine, moshi_session *session, const float *pcm, size_t n, size_t chunk,
             event_log *log);
/* The same with tokens; force may be NULL. */
void run_codes(moshi_engine *engine, moshi_session *session, const int32_t *codes,
               const int32_t *force, size_t frames, event_log *log);

#endif
