/* bench.h - timing the stages of frames on an open engine or codec, as one JSON tree. */
#ifndef APP_BENCH_H
#define APP_BENCH_H

#include "json.h"
#include "moshi.h"

enum { BENCH_FRAMES_MAX = 100000, BENCH_STAGES = MOSHI_STAGES + 2 };

/* What is to be measured. Exactly one of engine and codec is open. */
typedef struct bench {
    moshi_engine *engine;
    moshi_codec *codec;
    moshi_engine_info info; /* of the engine, or what a codec has of it */
    int sessions;
    int64_t context; /* frames that have passed before the first */
    int frames;      /* 0: as many as fit into `seconds` */
    double seconds;
} bench;

/* A moshi_stage, or these two: */
enum {
    BENCH_OTHER = MOSHI_STAGES /* what no stage is charged with */,
    BENCH_FRAME /* all of it */
};

/* "encode", "temporal", "depth", "decode", "other", "frame". */
const char *bench_stage_name(int stage);
/* moshi_engine_get_stage() or moshi_codec_get_stage(). */
void bench_stage_info(const bench *b, moshi_stage stage, moshi_stage_info *info);

/* What is noted of every frame and stage. Shares are of the time of all threads together, 0 where
 * threads do not tell what they do. */
enum {
    BENCH_SECONDS,
    BENCH_WAITING, /* share */
    BENCH_REST,    /* share of computing anything but products of matrices and attention */
    BENCH_FIGURES
};

typedef struct bench_times {
    double *of[BENCH_FIGURES][BENCH_STAGES]; /* [n] */
    int n, capacity;
    uint64_t peak_bytes;       /* of memory, after the first frames */
    moshi_device_speed limits; /* of reading what a frame reads */
    double memory_bytes_s;     /* of reading what no cache holds; 0: there was no memory for that */
} bench_times;

/* What measuring the limits reads, and takes: as much as a frame reads, which a cache then keeps as
 * much or as little of. */
uint64_t bench_limits_bytes(const bench *b);

/* Time frames until there are enough of them, or the user interrupts: what is in *out by then
 * counts. The limits of the device are measured before and after. */
int bench_run(const bench *b, const char *device, bench_times *out, app_error *err);
void bench_times_free(bench_times *t);

/* The frame that `part` (0..1) of all n take no longer than; sorts them. */
double bench_quantile(double *times, int n, double part);

/* Members "stages", "limits", "frames_s", "real_time", "frame_rate_hz", "frames" of `root`. */
void bench_add_times(json_t *root, const bench *b, bench_times *t);

#endif
