/* trial.c - the stages of a trial. */
#include "trial.h"

#include "device.h"
#include "measure.h"
#include "system.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MEASURED_FRAMES = 15, FIRST_FRAMES = 2 };
/* What measuring takes at most, and the least it can do with. */
enum { LIMITS_MEMORY = 1 << 30, LIMITS_LEAST = 1 << 26 };
static const double MEASURE_S = 3, LIMITS_S = 0.3;

/* ---- in the child --------------------------------------------------------------------------- */

static int tell_problem(probe *p, const char *text) {
    probe_tell(p, json_pack("{s:o}", "problem", json_text(text)));
    return TRIAL_FAILED;
}

/* A model that could not be opened: is it the files or the device? */
static int tell_error(probe *p, const moshi_error *err) {
    tell_problem(p, err->text);
    return err->code == MOSHI_EMODEL || err->code == MOSHI_EINVAL ? TRIAL_MODEL : TRIAL_FAILED;
}

static void tell_device(probe *p, const moshi_device_info *d) {
    probe_tell(p, json_pack("{s:{s:s, s:s, s:o, s:o, s:I, s:b}}", "device", "name", d->name, "kind",
                            d->kind, "description", json_text(d->description), "driver",
                            json_text(d->driver), "memory_bytes", (json_int_t)d->memory_bytes,
                            "on_request", d->on_request));
}

int trial_list(probe *p, const json_t *ctx) {
    enum { MOST = 32 };
    moshi_device_info all[MOST], d;
    moshi_error err;
    const char *asked = json_string_value(ctx);
    probe_stage(p, "looking for devices");
    int n = moshi_device_list(all, MOST);
    for (int i = 0; i < n; i++) tell_device(p, &all[i]);
    if (asked && moshi_device_find(asked, &d, &err) == 0) {
        if (strchr(d.name, '/')) tell_device(p, &d); /* with kernels by name it is on no list */
        probe_tell(p, json_pack("{s:s}", "asked", d.name));
    } else if (asked) {
        probe_tell(p, json_pack("{s:o}", "refused", json_text(err.text)));
    }
    return 0;
}

/* JSON has no infinity. */
static double finite_or_large(double x) {
    return isfinite(x) ? x : 1e300;
}

static int on_op(void *user, const moshi_op_check *c) {
    probe *p = user;
    if (c->cases == 0) {
        probe_stage(p, "kernels: %s", c->op);
        return 0;
    }
    json_t *op = json_pack("{s:s, s:i, s:i, s:f, s:f}", "name", c->op, "cases", c->cases, "failed",
                           c->failed, "worst", finite_or_large(c->worst), "bound", c->bound);
    if (op && c->failed) json_object_set_new(op, "problem", json_text(c->problem));
    probe_tell(p, json_pack("{s:o}", "op", op));
    return 0;
}

static int on_weights(void *user, uint64_t done, uint64_t total) {
    probe *p = user;
    moshi_breadcrumb *crumb = probe_breadcrumb(p);
    (void)done;
    (void)total;
    probe_stage(p, "weights %llu/%llu", (unsigned long long)crumb->done,
                (unsigned long long)crumb->total);
    return 0;
}

/* Will it fit? Only asked of the memory that the system tells about. */
static int check_memory(probe *p, const char *device, uint64_t needed) {
    uint64_t available = system_memory_available();
    probe_tell(p, json_pack("{s:I}", "memory", (json_int_t)needed));
    if (!device_is_cpu(device) || available == 0 || needed <= available) return TRIAL_WORKS;
    char text[128];
    snprintf(text, sizeof text, "the model needs %.1f GB of memory, %.1f GB are available",
             (double)needed * 1e-9, (double)available * 1e-9);
    return tell_problem(p, text);
}

static int tell_speed(probe *p, const frame_times *t) {
    probe_tell(p, json_pack("{s:{s:i, s:f, s:f, s:f, s:f, s:f}}", "speed", "frames", t->frames,
                            "encode_ms", 1e3 * t->encode_s, "step_ms", 1e3 * t->step_s, "decode_ms",
                            1e3 * t->decode_s, "frame_ms", 1e3 * t->frame_s, "real_time",
                            t->real_time));
    return TRIAL_WORKS;
}

static bool all_finite(const float *pcm, size_t n) {
    bool ok = true;
    for (size_t i = 0; i < n; i++) ok &= isfinite(pcm[i]) != 0;
    return ok;
}

/* The first frames of a conversation in which nobody speaks. */
static int first_frames(probe *p, moshi_engine *engine, const moshi_engine_info *info) {
    moshi_session *session;
    moshi_error err;
    moshi_event event;
    float *pcm = calloc((size_t)info->frame_samples + 1, sizeof *pcm);
    int32_t *codes = calloc((size_t)info->user_codebooks + 1, sizeof *codes);
    int rc = pcm && codes ? moshi_session_open(&session, engine, NULL, &err) : MOSHI_ENOMEM;
    bool opened = rc == 0, finite = true;
    bool hears = info->frame_samples > 0 && info->user_codebooks > 0;
    for (int i = 0; rc >= 0 && i < FIRST_FRAMES + info->max_delay; i++) {
        probe_stage(p, i ? "frame %d" : "first frame", i + 1);
        rc = hears ? moshi_push_pcm(session, pcm, (size_t)info->frame_samples)
                   : moshi_push_codes(session, codes, NULL, 1);
        if (rc >= 0) rc = moshi_step(engine);
        while (rc >= 0 && moshi_pull(session, &event) > 0)
            if (event.type == MOSHI_EVENT_AUDIO) finite &= all_finite(event.pcm, event.n);
    }
    if (opened) moshi_session_close(session);
    free(pcm);
    free(codes);
    const char *why = moshi_engine_problem(engine);
    if (rc < 0) return tell_problem(p, why[0] ? why : moshi_strerror(rc));
    return finite ? TRIAL_WORKS : tell_problem(p, "its sound holds samples that are no numbers");
}

static int try_engine(probe *p, const trial *t) {
    moshi_engine *engine;
    moshi_engine_info info;
    moshi_error err;
    moshi_engine_options o = {.model = t->model->path,
                              .blobs = t->model->blobs,
                              .n_blobs = t->model->n_blobs,
                              .device = t->device,
                              .threads = t->threads,
                              .kv = t->kv,
                              .finder = {hub_look_up, &t->model->lookup},
                              .flags = t->flags | MOSHI_DRY_RUN};
    probe_stage(p, "memory");
    if (moshi_engine_open(&engine, &o, &err) < 0) return tell_error(p, &err);
    moshi_engine_get_info(engine, &info);
    moshi_engine_close(engine);
    int rc = check_memory(p, t->device, info.weight_bytes + info.state_bytes);
    if (rc != TRIAL_WORKS) return rc;
    o.flags = t->flags;
    o.cache = device_cache(t->device);
    o.progress = on_weights;
    o.progress_user = p;
    o.breadcrumb = probe_breadcrumb(p);
    probe_stage(p, "weights");
    if (moshi_engine_open(&engine, &o, &err) < 0) {
        const char *stage = o.breadcrumb->stage;
        if (stage && !strcmp(stage, "weights")) on_weights(p, 0, 0); /* the one that failed */
        return tell_error(p, &err);
    }
    moshi_engine_get_info(engine, &info);
    probe_tell(p, json_pack("{s:s, s:i}", "kernels", info.kernels, "threads", info.threads));
    rc = first_frames(p, engine, &info);
    frame_times times;
    app_error why;
    if (rc == TRIAL_WORKS && t->measure) {
        probe_stage(p, "measuring");
        rc = measure_engine(engine, MEASURED_FRAMES, MEASURE_S, &times, &why) == EXIT_OK
                 ? tell_speed(p, &times)
                 : tell_problem(p, why.text);
    }
    moshi_engine_close(engine);
    return rc;
}

static int try_codec(probe *p, const trial *t) {
    moshi_codec *codec;
    moshi_codec_info info;
    moshi_error err;
    moshi_codec_options o = {.model = t->model->path,
                             .blobs = t->model->blobs,
                             .n_blobs = t->model->n_blobs,
                             .device = t->device,
                             .threads = t->threads,
                             .finder = {hub_look_up, &t->model->lookup},
                             .flags = t->flags | MOSHI_DRY_RUN};
    probe_stage(p, "memory");
    if (moshi_codec_open(&codec, &o, &err) < 0) return tell_error(p, &err);
    moshi_codec_get_info(codec, &info);
    moshi_codec_close(codec);
    int rc = check_memory(p, t->device, info.weight_bytes + info.state_bytes);
    if (rc != TRIAL_WORKS) return rc;
    o.flags = t->flags;
    o.cache = device_cache(t->device);
    o.breadcrumb = probe_breadcrumb(p);
    probe_stage(p, "weights");
    if (moshi_codec_open(&codec, &o, &err) < 0) return tell_error(p, &err);
    probe_stage(p, "first frame");
    frame_times times;
    app_error why;
    rc = measure_codec(codec, t->measure ? MEASURED_FRAMES : 1, MEASURE_S, &times, &why) == EXIT_OK
             ? TRIAL_WORKS
             : tell_problem(p, why.text);
    if (rc == TRIAL_WORKS && t->measure) tell_speed(p, &times);
    moshi_codec_close(codec);
    return rc;
}

/* {"vulkan": "1.3.0, ...", ...}: what its driver says. */
static void tell_details(probe *p, const trial *t) {
    enum { MOST = 4096 };
    moshi_error err;
    char text[MOST];
    if (moshi_device_details(t->device, text, sizeof text, &err) < 0 || !text[0]) return;
    json_t *details = json_object();
    for (char *line = text, *next; line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        char *colon = strstr(line, ": ");
        if (!colon) continue;
        *colon = 0;
        json_object_set_new(details, line, json_text(colon + 2));
    }
    probe_tell(p, json_pack("{s:o}", "details", details));
}

/* What the device can do at most, if it can be told. */
static void tell_limits(probe *p, const trial *t) {
    moshi_device_speed s;
    const uint64_t available = system_memory_available();
    uint64_t bytes = LIMITS_MEMORY;
    if (available > 0 && available / 4 < bytes) bytes = available / 4;
    if (bytes < LIMITS_LEAST) return;
    probe_stage(p, "measuring");
    if (moshi_device_measure(&s, t->device, t->threads, bytes, LIMITS_S, NULL) < 0) return;
    probe_tell(p, json_pack("{s:{s:f, s:I, s:f, s:f}}", "limits", "read_bytes_s", s.read_bytes_s,
                            "read_over_bytes", (json_int_t)bytes, "flops", s.flops, "int8_ops",
                            s.int8_ops));
}

static int run(probe *p, const trial *t) {
    moshi_error err;
    probe_stage(p, "open");
    if (t->measure) tell_details(p, t);
    int wrong = moshi_device_check(t->device, t->threads, device_cache(t->device), on_op, p, &err);
    if (wrong < 0) return tell_problem(p, err.text);
    if (wrong > 0) return TRIAL_WRONG;
    if (t->measure) tell_limits(p, t);
    if (!t->model) return TRIAL_WORKS;
    return t->codec ? try_codec(p, t) : try_engine(p, t);
}

static json_t *trial_json(const trial *t) {
    json_t *told =
        json_pack("{s:o, s:b, s:b, s:i, s:i, s:i}", "device",
                  json_text(t->device ? t->device : "cpu"), "codec", t->codec, "measure",
                  t->measure, "threads", t->threads, "flags", t->flags, "kv", (int)t->kv);
    if (t->model) json_object_set_new(told, "model", model_choice_json(t->model));
    return told;
}

static int integer(const json_t *told, const char *key) {
    return (int)json_integer_value(json_object_get(told, key));
}

int trial_run(probe *p, const json_t *ctx) {
    const json_t *model = json_object_get(ctx, "model");
    model_choice choice = model_choice_of(model);
    const trial t = {.device = json_string_value(json_object_get(ctx, "device")),
                     .model = model ? &choice : NULL,
                     .codec = json_is_true(json_object_get(ctx, "codec")),
                     .measure = json_is_true(json_object_get(ctx, "measure")),
                     .threads = integer(ctx, "threads"),
                     .flags = integer(ctx, "flags"),
                     .kv = (moshi_kv)integer(ctx, "kv")};
    return run(p, &t);
}

/* ---- in the parent -------------------------------------------------------------------------- */

const char *trial_fact(const probe_result *result, const char *key) {
    size_t i;
    json_t *fact;
    json_array_foreach(result->facts, i, fact) {
        const char *text = json_string_value(json_object_get(fact, key));
        if (text) return text;
    }
    return NULL;
}

/* "ELU, GELU": the ops that were wrong. */
static void wrong_ops(const probe_result *r, char *out, size_t cap) {
    size_t i, at = 0;
    json_t *fact;
    out[0] = 0;
    json_array_foreach(r->facts, i, fact) {
        json_t *op = json_object_get(fact, "op");
        if (json_integer_value(json_object_get(op, "failed")) == 0 || at >= cap) continue;
        at += (size_t)snprintf(out + at, cap - at, "%s%s", at ? ", " : "",
                               json_string_value(json_object_get(op, "name")));
    }
}

int trial_do(const trial *t, double deadline_s, probe_result *r, const char **verdict, char *reason,
             size_t cap, app_error *err) {
    char ending[64], ops[200];
    const char *problem;
    int rc = probe_run(r, "trial", trial_json(t), deadline_s, err);
    if (rc != EXIT_OK) return rc;
    reason[0] = 0;
    if (probe_ending(r, ending, sizeof ending)) {
        *verdict = r->hung ? "hung" : "crashed";
        snprintf(reason, cap, "%s at: %s%s%s%s", ending, r->stage, r->said[0] ? "; it said: " : "",
                 r->said, "");
    } else if (r->code == TRIAL_WRONG) {
        *verdict = "wrong answers";
        wrong_ops(r, ops, sizeof ops);
        snprintf(reason, cap, "wrong answers from: %s", ops);
    } else if (r->code != TRIAL_WORKS) {
        *verdict = "failed";
        problem = trial_fact(r, "problem");
        snprintf(reason, cap, "%s (at: %s)", problem ? problem : "it ended without a word",
                 r->stage);
    } else {
        *verdict = "works";
    }
    return EXIT_OK;
}
