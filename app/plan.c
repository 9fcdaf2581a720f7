/* plan.c - asking the library for its own memory plan. */
#include "plan.h"

#include <stdio.h>
#include <string.h>

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

void plan_make(memory_plan *plan, model_choice *choice, const moshi_model_info *info, int sessions,
               moshi_kv kv) {
    memset(plan, 0, sizeof *plan);
    int flags = info->codec.frame_samples > 0 ? 0 : MOSHI_NO_CODEC;
    moshi_device_info device;
    /* Those by request come last. */
    while (plan->n < PLAN_DEVICES && moshi_device_get(plan->n, &device) == 1 &&
           !device.on_request) {
        device_plan *d = &plan->devices[plan->n++];
        memcpy(d->device, device.name, sizeof d->device);
        if (info->dim == 0) {
            plan_codec(d, choice);
            continue;
        }
        plan_engine(d, choice, 1, flags, kv);
        if (sessions > 1 && sessions < 8) plan_engine(d, choice, sessions, flags, kv);
        plan_engine(d, choice, 8, flags, kv);
        if (sessions > 8) plan_engine(d, choice, sessions, flags, kv);
    }
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

json_t *plan_json(const memory_plan *plan) {
    json_t *all = json_array();
    for (int i = 0; i < plan->n; i++) {
        const device_plan *d = &plan->devices[i];
        json_t *rows = json_array();
        if (d->problem[0]) {
            json_decref(rows);
            json_array_append_new(all, json_pack("{s:s, s:o}", "device", d->device, "problem",
                                                 json_text(d->problem)));
            continue;
        }
        for (int r = 0; r < d->n; r++)
            json_array_append_new(rows, json_pack("{s:i, s:I}", "sessions", d->sessions[r], "bytes",
                                                  (json_int_t)d->total[r]));
        json_array_append_new(
            all, json_pack("{s:s, s:I, s:I, s:I, s:o}", "device", d->device, "weight_bytes",
                           (json_int_t)d->weights, "session_state_bytes", (json_int_t)d->state,
                           "session_scratch_bytes", (json_int_t)d->scratch, "needs", rows));
    }
    return all;
}
