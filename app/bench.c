#include "bench.h"

#include "model.h"
#include "system.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WARM_UP = 2, LEAST_FRAMES = 3 };
/* Of the time for frames: before and after them. */
static const double LIMITS_PART = 0.1, LIMITS_MOST_S = 0.5;
enum { LIMITS_LEAST = 1 << 26, LIMITS_APART = 1 << 28, LIMITS_MOST = 1 << 30 };

const char *bench_stage_name(int stage) {
    static const char *const names[] = {"encode", "temporal", "depth", "decode", "other", "frame"};
    return names[stage];
}

void bench_stage_info(const bench *b, moshi_stage stage, moshi_stage_info *info) {
    memset(info, 0, sizeof *info);
    if (b->engine)
        moshi_engine_get_stage(b->engine, stage, info);
    else
        moshi_codec_get_stage(b->codec, stage, info);
}

/* ---- frames --------------------------------------------------------------------------------- */

/* Sessions, what they hear, and what a codec makes of it. */
typedef struct stage_set {
    const bench *b;
    moshi_session *sessions[1024];
    float *pcm;
    int32_t *codes;
    bool hears;
} stage_set;

/* A tone in noise: silence might be cheaper. */
static void make_sound(float *pcm, int n) {
    uint32_t noise = 1;
    for (int i = 0; i < n; i++) {
        noise = noise * 1664525u + 1013904223u;
        pcm[i] = (i % 120 < 60 ? 0.1f : -0.1f) + 0.05f * ((float)(noise >> 8) * 0x1p-23f - 1);
    }
}

static int open_sessions(stage_set *s) {
    const bench *b = s->b;
    int rc = 0, codes = b->info.user_codebooks;
    if (b->codec) codes = b->info.n_q;
    s->pcm = calloc((size_t)b->info.frame_samples + 1, sizeof *s->pcm);
    s->codes = calloc((size_t)codes + 1, sizeof *s->codes);
    s->hears = b->info.frame_samples > 0 && b->info.user_codebooks > 0;
    if (!s->pcm || !s->codes) return MOSHI_ENOMEM;
    make_sound(s->pcm, b->info.frame_samples);
    for (int i = 0; b->engine && i < b->sessions && rc >= 0; i++) {
        rc = moshi_session_open(&s->sessions[i], b->engine, NULL, NULL);
        if (rc >= 0) rc = moshi_session_pretend(s->sessions[i], b->context);
        /* what an encoder with threads of its own hears ahead */
        if (rc >= 0 && b->info.codec_threads > 0)
            rc = moshi_push_pcm(s->sessions[i], s->pcm, (size_t)b->info.frame_samples);
    }
    return rc;
}

static void close_sessions(stage_set *s) {
    for (int i = 0; i < s->b->sessions; i++) moshi_session_close(s->sessions[i]);
    free(s->pcm);
    free(s->codes);
}

/* One frame of everybody; *seconds without what comes before and after. */
static int step(stage_set *s, double *seconds) {
    const bench *b = s->b;
    moshi_event event;
    int rc = 0;
    for (int i = 0; b->engine && i < b->sessions && rc >= 0; i++)
        rc = s->hears ? moshi_push_pcm(s->sessions[i], s->pcm, (size_t)b->info.frame_samples)
                      : moshi_push_codes(s->sessions[i], s->codes, NULL, 1);
    double start = app_now_s();
    if (rc >= 0 && b->engine) rc = moshi_step(b->engine);
    if (rc >= 0 && b->codec) rc = moshi_codec_encode(b->codec, s->pcm, 1, s->codes);
    if (rc >= 0 && b->codec) rc = moshi_codec_decode(b->codec, s->codes, 1, s->pcm);
    *seconds = app_now_s() - start;
    if (b->codec) make_sound(s->pcm, b->info.frame_samples);
    for (int i = 0; b->engine && i < b->sessions; i++)
        while (moshi_pull(s->sessions[i], &event) > 0) continue;
    return rc;
}

/* Threads whose time a stage takes. */
static int threads_of(const bench *b, int stage) {
    const int model = b->info.threads, codec = b->info.codec_threads;
    if (stage == BENCH_FRAME) return model + codec;
    return stage == MOSHI_STAGE_ENCODE && codec > 0 ? codec : model;
}

typedef struct frame_figures {
    double of[BENCH_FIGURES][BENCH_STAGES];
} frame_figures;

static bool keep(bench_times *t, const frame_figures *frame) {
    int capacity = t->capacity ? 2 * t->capacity : 256;
    for (int f = 0; f < BENCH_FIGURES; f++)
        for (int i = 0; i < BENCH_STAGES; i++) {
            double **of = &t->of[f][i];
            double *more = t->n < t->capacity ? *of : realloc(*of, (size_t)capacity * sizeof *more);
            if (!more) return false;
            *of = more;
            more[t->n] = frame->of[f][i];
        }
    if (t->n == t->capacity) t->capacity = capacity;
    t->n++;
    return true;
}

/* `busy` seconds of all threads together, of them at `products`. */
static void note_shares(const bench *b, frame_figures *frame, int stage, double busy,
                        double products) {
    const double all = frame->of[BENCH_SECONDS][stage] * threads_of(b, stage);
    const bool told = all > 0 && busy > 0;
    frame->of[BENCH_WAITING][stage] = told ? fmax(1 - busy / all, 0) : 0;
    frame->of[BENCH_REST][stage] = told ? (busy - products) / all : 0;
}

static int timed_step(stage_set *s, frame_figures *frame) {
    moshi_stage_info before[MOSHI_STAGES], after;
    double *seconds = frame->of[BENCH_SECONDS], busy = 0, products = 0;
    memset(frame, 0, sizeof *frame);
    for (int i = 0; i < MOSHI_STAGES; i++) bench_stage_info(s->b, (moshi_stage)i, &before[i]);
    int rc = step(s, &seconds[BENCH_FRAME]);
    seconds[BENCH_OTHER] = seconds[BENCH_FRAME];
    for (int i = 0; i < MOSHI_STAGES; i++) {
        bench_stage_info(s->b, (moshi_stage)i, &after);
        seconds[i] = after.seconds - before[i].seconds;
        seconds[BENCH_OTHER] -= seconds[i];
        after.busy_seconds -= before[i].busy_seconds;
        after.product_seconds -= before[i].product_seconds;
        note_shares(s->b, frame, i, after.busy_seconds, after.product_seconds);
        busy += after.busy_seconds;
        products += after.product_seconds;
    }
    note_shares(s->b, frame, BENCH_FRAME, busy, products);
    /* an encoder that works beside the model leaves less than nothing */
    seconds[BENCH_OTHER] = fmax(seconds[BENCH_OTHER], 0);
    return rc;
}

/* Keys and values that all sessions read in the middle frame of those measured. */
static double kv_bytes(const bench *b, const moshi_stage_info *i, int frames) {
    double positions =
        ((double)b->context + WARM_UP + b->info.max_delay + frames / 2.0) * i->frame_positions;
    return (double)i->position_bytes * fmin(positions, i->max_positions) * b->sessions;
}

uint64_t bench_limits_bytes(const bench *b) {
    double bytes = 0;
    for (int i = 0; i < MOSHI_STAGES; i++) {
        moshi_stage_info stage;
        bench_stage_info(b, (moshi_stage)i, &stage);
        bytes += (double)stage.weight_bytes + kv_bytes(b, &stage, 0);
    }
    return (uint64_t)fmin(fmax(bytes, LIMITS_LEAST), LIMITS_MOST);
}

static double limits_s(const bench *b) {
    return fmin(fmax(LIMITS_PART * b->seconds, 0.05), LIMITS_MOST_S);
}

static void take_limits(const bench *b, bench_times *t, const char *device) {
    moshi_device_speed now, *best = &t->limits;
    const int threads = threads_of(b, BENCH_FRAME);
    if (app_interrupted() ||
        moshi_device_measure(&now, device, threads, bench_limits_bytes(b), limits_s(b), NULL) < 0)
        return;
    best->read_bytes_s = fmax(best->read_bytes_s, now.read_bytes_s);
    best->flops = fmax(best->flops, now.flops);
    best->int8_ops = fmax(best->int8_ops, now.int8_ops);
}

/* Reading what no cache holds: a GB, or half of what is left. */
static void take_memory_limit(const bench *b, bench_times *t, const char *device) {
    moshi_device_speed now;
    const uint64_t available = system_memory_available();
    uint64_t bytes = LIMITS_MOST;
    if (available > 0 && available / 2 < bytes) bytes = available / 2;
    if (bytes < LIMITS_APART || app_interrupted()) return;
    if (bench_limits_bytes(b) >= bytes)
        t->memory_bytes_s = t->limits.read_bytes_s;
    else if (moshi_device_measure(&now, device, threads_of(b, BENCH_FRAME), bytes, limits_s(b),
                                  NULL) >= 0)
        t->memory_bytes_s = now.read_bytes_s;
}

static bool enough(const bench *b, int n, double until) {
    if (n == BENCH_FRAMES_MAX || app_interrupted()) return true;
    if (b->frames) return n >= b->frames;
    return n >= LEAST_FRAMES && app_now_s() >= until;
}

int bench_run(const bench *b, const char *device, bench_times *out, app_error *err) {
    stage_set s = {.b = b};
    frame_figures frame;
    double first;
    memset(out, 0, sizeof *out);
    int rc = open_sessions(&s);
    /* The first frames have no answer to decode, and one of them is stepped twice. */
    for (int i = 0; rc >= 0 && i < WARM_UP + b->info.max_delay && !app_interrupted(); i++)
        rc = step(&s, &first);
    out->peak_bytes = system_peak_memory();
    if (rc >= 0) take_limits(b, out, device);
    double until = app_now_s() + b->seconds;
    while (rc >= 0 && !enough(b, out->n, until)) {
        rc = timed_step(&s, &frame);
        if (rc >= 0 && !keep(out, &frame)) rc = MOSHI_ENOMEM;
    }
    if (rc >= 0) take_limits(b, out, device);
    if (rc >= 0) take_memory_limit(b, out, device);
    close_sessions(&s);
    return rc < 0 ? app_fail_library(err, rc, "") : EXIT_OK;
}

void bench_times_free(bench_times *t) {
    for (int f = 0; f < BENCH_FIGURES; f++)
        for (int i = 0; i < BENCH_STAGES; i++) free(t->of[f][i]);
    memset(t, 0, sizeof *t);
}

/* ---- the tree ------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_quantile(double *times, int n, double part) {
    if (n == 0) return 0;
    qsort(times, (size_t)n, sizeof *times, by_value);
    int at = (int)ceil(part * n) - 1;
    return times[at < 0 ? 0 : at];
}

static json_t *stage_json(const bench *b, bench_times *t, int stage, double *all_bytes) {
    double *times = t->of[BENCH_SECONDS][stage], median = bench_quantile(times, t->n, 0.5);
    json_t *all = json_pack("{s:f, s:f, s:f}", "median_ms", 1e3 * median, "p90_ms",
                            1e3 * bench_quantile(times, t->n, 0.9), "p99_ms",
                            1e3 * bench_quantile(times, t->n, 0.99));
    double weights = all_bytes[0], kv = all_bytes[1], operations = all_bytes[2];
    if (stage == BENCH_OTHER || !all) return all;
    if (stage < MOSHI_STAGES) {
        moshi_stage_info i;
        bench_stage_info(b, (moshi_stage)stage, &i);
        weights = (double)i.weight_bytes;
        kv = kv_bytes(b, &i, t->n);
        operations = i.operations * b->sessions;
        all_bytes[0] += weights;
        all_bytes[1] += kv;
        all_bytes[2] += operations;
    }
    json_object_set_new(all, "weight_bytes", json_integer((json_int_t)weights));
    json_object_set_new(all, "kv_bytes", json_integer((json_int_t)kv));
    json_object_set_new(all, "operations", json_real(operations));
    if (median <= 0) return all;
    const double waiting = bench_quantile(t->of[BENCH_WAITING][stage], t->n, 0.5),
                 rest = bench_quantile(t->of[BENCH_REST][stage], t->n, 0.5);
    if (rest > 0) json_object_set_new(all, "waiting", json_real(waiting));
    if (rest > 0) json_object_set_new(all, "rest", json_real(rest));
    double rate = (weights + kv) / median;
    json_object_set_new(all, "read_bytes_s", json_real(rate));
    if (t->limits.read_bytes_s > 0)
        json_object_set_new(all, "share_of_read", json_real(rate / t->limits.read_bytes_s));
    if (t->limits.flops > 0)
        json_object_set_new(all, "share_of_flops",
                            json_real(operations / median / t->limits.flops));
    return all;
}

void bench_add_times(json_t *root, const bench *b, bench_times *t) {
    json_t *stages = json_object();
    double sums[3] = {0}, median = bench_quantile(t->of[BENCH_SECONDS][BENCH_FRAME], t->n, 0.5);
    for (int i = 0; i < BENCH_STAGES; i++)
        json_object_set_new(stages, bench_stage_name(i), stage_json(b, t, i, sums));
    json_object_set_new(
        root, "limits",
        json_pack("{s:f, s:I, s:f, s:f, s:f}", "read_bytes_s", t->limits.read_bytes_s,
                  "read_over_bytes", (json_int_t)bench_limits_bytes(b), "memory_bytes_s",
                  t->memory_bytes_s, "flops", t->limits.flops, "int8_ops", t->limits.int8_ops));
    json_object_set_new(root, "stages", stages);
    json_object_set_new(root, "frames", json_integer(t->n));
    json_object_set_new(root, "frame_rate_hz", json_real(b->info.frame_rate_hz));
    json_object_set_new(root, "frames_s", json_real(median > 0 ? 1 / median : 0));
    json_object_set_new(root, "real_time",
                        json_real(median > 0 ? 1 / median / b->info.frame_rate_hz : 0));
}
