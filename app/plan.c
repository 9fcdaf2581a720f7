/* plan.c - asking the library for its own memory plan. */
#include "plan.h"

#include "device.h"

#include <stdio.h>
#include <string.h>

enum { DEADLINE_S = 60 };

/* What is to be planned. */
typedef struct plan_wish {
    bool codec_only;
    int flags, sessions;
    moshi_kv kv;
} plan_wish;

static void note_problem(device_plan *d, const moshi_error *err) {
    snprintf(d->problem, sizeof d->problem, "%.255s", err->text);
}

static void plan_codec(device_plan *d, model_choice *choice) {
    moshi_codec *codec;
    moshi_codec_info info;
    moshi_error err;
    moshi_codec_options options = {.model = choice->path,
                                   .blobs = choice->blobs,
                                   .n_blobs = choice->n_blobs,
                                   .device = d->device,
                                   .finder = {hub_look_up, &choice->lookup},
                                   .flags = MOSHI_DRY_RUN};
    if (moshi_codec_open(&codec, &options, &err) < 0) {
        note_problem(d, &err);
        return;
    }
    moshi_codec_get_info(codec, &info);
    moshi_codec_close(codec);
    d->weights = info.weight_bytes;
    d->scratch = info.scratch_bytes;
    d->state = info.state_bytes - info.scratch_bytes;
    d->sessions[d->n] = 1;
    d->total[d->n++] = info.weight_bytes + info.state_bytes;
}

static void plan_engine(device_plan *d, model_choice *choice, int sessions, int flags,
                        moshi_kv kv) {
    moshi_engine *engine;
    moshi_engine_info info;
    moshi_error err;
    moshi_engine_options options = {.model = choice->path,
                                    .blobs = choice->blobs,
                                    .n_blobs = choice->n_blobs,
                                    .device = d->device,
                                    .finder = {hub_look_up, &choice->lookup},
                                    .sessions = sessions,
                                    .kv = kv,
                                    .flags = flags | MOSHI_DRY_RUN};
    if (d->problem[0]) return;
    if (moshi_engine_open(&engine, &options, &err) < 0) {
        note_problem(d, &err);
        return;
    }
    moshi_engine_get_info(engine, &info);
    moshi_engine_close(engine);
    d->weights = info.weight_bytes;
    d->scratch = info.scratch_bytes / (uint64_t)sessions;
    d->state = (info.state_bytes - info.scratch_bytes) / (uint64_t)sessions;
    d->sessions[d->n] = sessions;
    d->total[d->n++] = info.weight_bytes + info.state_bytes;
}

static void plan_device(device_plan *d, model_choice *choice, const plan_wish *w) {
    if (w->codec_only) {
        plan_codec(d, choice);
        return;
    }
    plan_engine(d, choice, 1, w->flags, w->kv);
    if (w->sessions > 1 && w->sessions < 8) plan_engine(d, choice, w->sessions, w->flags, w->kv);
    plan_engine(d, choice, 8, w->flags, w->kv);
    if (w->sessions > 8) plan_engine(d, choice, w->sessions, w->flags, w->kv);
}

static json_t *device_json(const device_plan *d);

int plan_run(probe *p, const json_t *ctx) {
    moshi_device_info all[PLAN_DEVICES];
    model_choice choice = model_choice_of(json_object_get(ctx, "model"));
    const plan_wish w = {
        .codec_only = json_is_true(json_object_get(ctx, "codec_only")),
        .flags = (int)json_integer_value(json_object_get(ctx, "flags")),
        .sessions = (int)json_integer_value(json_object_get(ctx, "sessions")),
        .kv = (moshi_kv)json_integer_value(json_object_get(ctx, "kv")),
    };
    probe_stage(p, "looking for devices");
    int n = moshi_device_list(all, PLAN_DEVICES);
    for (int i = 0; i < n && !all[i].on_request; i++) {
        device_plan d = {.n = 0};
        memcpy(d.device, all[i].name, sizeof d.device);
        probe_stage(p, "%s", d.device);
        plan_device(&d, &choice, &w);
        probe_tell(p, device_json(&d));
    }
    return 0;
}

static uint64_t bytes_in(const json_t *told, const char *key) {
    return (uint64_t)json_integer_value(json_object_get(told, key));
}

static void take_device(device_plan *d, const json_t *told) {
    const char *name = json_string_value(json_object_get(told, "device"));
    const char *problem = json_string_value(json_object_get(told, "problem"));
    const json_t *rows = json_object_get(told, "needs");
    snprintf(d->device, sizeof d->device, "%s", name ? name : "");
    snprintf(d->problem, sizeof d->problem, "%s", problem ? problem : "");
    d->weights = bytes_in(told, "weight_bytes");
    d->state = bytes_in(told, "session_state_bytes");
    d->scratch = bytes_in(told, "session_scratch_bytes");
    for (; d->n < PLAN_ROWS && d->n < (int)json_array_size(rows); d->n++) {
        const json_t *row = json_array_get(rows, (size_t)d->n);
        d->sessions[d->n] = (int)json_integer_value(json_object_get(row, "sessions"));
        d->total[d->n] = bytes_in(row, "bytes");
    }
}

/* Drivers are asked in a child. One that ends it is named, and the CPU is planned for here. */
void plan_make(memory_plan *plan, model_choice *choice, const moshi_model_info *info, int sessions,
               moshi_kv kv) {
    char ending[64];
    probe_result r;
    app_error err;
    size_t i;
    json_t *fact;
    const plan_wish w = {.codec_only = info->dim == 0,
                         .flags = info->codec.frame_samples > 0 ? 0 : MOSHI_NO_CODEC,
                         .sessions = sessions,
                         .kv = kv};
    memset(plan, 0, sizeof *plan);
    int rc = probe_run(&r, "plan",
                       json_pack("{s:o, s:b, s:i, s:i, s:i}", "model", model_choice_json(choice),
                                 "codec_only", w.codec_only, "flags", w.flags, "sessions",
                                 w.sessions, "kv", (int)w.kv),
                       DEADLINE_S, &err);
    json_array_foreach(r.facts, i, fact) {
        if (plan->n < PLAN_DEVICES) take_device(&plan->devices[plan->n++], fact);
    }
    json_decref(r.facts);
    const char *ended = rc == EXIT_OK ? probe_ending(&r, ending, sizeof ending) : NULL;
    if (ended && plan->n < PLAN_DEVICES - 1) {
        device_plan *d = &plan->devices[plan->n++];
        snprintf(d->device, sizeof d->device, "%.60s", r.stage);
        snprintf(d->problem, sizeof d->problem, "%s", ended);
    }
    if (plan->n > 0 && device_is_cpu(plan->devices[plan->n - 1].device)) return;
    if (plan->n == PLAN_DEVICES) plan->n--;
    device_plan *cpu = &plan->devices[plan->n++];
    *cpu = (device_plan){.device = "cpu"};
    plan_device(cpu, choice, &w);
}

void plan_print(const memory_plan *plan) {
    char a[32], b[32], c[32];
    for (int i = 0; i < plan->n; i++) {
        const device_plan *d = &plan->devices[i];
        char title[32] = "memory";
        if (plan->n > 1) snprintf(title, sizeof title, "%.20s memory", d->device);
        if (d->problem[0]) {
            printf("%-15s unknown: %s\n", title, d->problem);
            continue;
        }
        printf("%-15s weights %s; each session %s of state, %s of scratch\n", title,
               app_size_text(a, d->weights), app_size_text(b, d->state),
               app_size_text(c, d->scratch));
        printf("%-15s needs", "");
        for (int r = 0; r < d->n; r++)
            printf("%s %s at %d session%s", r ? "," : "", app_size_text(a, d->total[r]),
                   d->sessions[r], d->sessions[r] == 1 ? "" : "s");
        printf("\n");
    }
}

static json_t *device_json(const device_plan *d) {
    json_t *rows = json_array();
    if (d->problem[0]) {
        json_decref(rows);
        return json_pack("{s:s, s:o}", "device", d->device, "problem", json_text(d->problem));
    }
    for (int r = 0; r < d->n; r++)
        json_array_append_new(rows, json_pack("{s:i, s:I}", "sessions", d->sessions[r], "bytes",
                                              (json_int_t)d->total[r]));
    return json_pack("{s:s, s:I, s:I, s:I, s:o}", "device", d->device, "weight_bytes",
                     (json_int_t)d->weights, "session_state_bytes", (json_int_t)d->state,
                     "session_scratch_bytes", (json_int_t)d->scratch, "needs", rows);
}

json_t *plan_json(const memory_plan *plan) {
    json_t *all = json_array();
    for (int i = 0; i < plan->n; i++) json_array_append_new(all, device_json(&plan->devices[i]));
    return all;
}
