#include "forecast.h"

#include <math.h>
#include <string.h>

/* Where nothing was measured: what the kernels reached on the machine of SPEED.md. */
static const double USUAL_SHARE = 0.8, USUAL_FLOPS_SHARE = 0.3;
/* Weights that stay in a cache tell nothing about those that do not. */
static const double OUT_OF_CACHE = 256e6;

static double number(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

static double share_of(const json_t *stages, const char *name) {
    const json_t *s = json_object_get(stages, name);
    bool large = number(s, "weight_bytes") + number(s, "kv_bytes") >= OUT_OF_CACHE;
    return large ? fmin(number(s, "share_of_read"), 1) : 0;
}

static double rate_of(const json_t *stages, const char *name) {
    const json_t *s = json_object_get(stages, name);
    double ms = number(s, "median_ms");
    return ms > 0 ? number(s, "operations") / ms * 1e3 : 0;
}

forecast_basis forecast_basis_of(const json_t *root) {
    const json_t *stages = json_object_get(root, "stages"),
                 *limits = json_object_get(root, "limits");
    const double memory = number(limits, "memory_bytes_s");
    const bool large = number(limits, "read_over_bytes") >= OUT_OF_CACHE;
    return (forecast_basis){.read_bytes_s = memory > 0 ? memory
                                            : large    ? number(limits, "read_bytes_s")
                                                       : 0,
                            .flops = number(limits, "flops"),
                            .temporal_share = share_of(stages, "temporal"),
                            .depth_share = share_of(stages, "depth"),
                            .encode_rate = rate_of(stages, "encode"),
                            .decode_rate = rate_of(stages, "decode")};
}

/* The first that was measured; else the usual one, which is noted. */
static double choose(double a, double b, double usual, bool *assumed) {
    if (a > 0) return a;
    if (b > 0) return b;
    *assumed = true;
    return usual;
}

static double stage_s(const forecast_basis *b, moshi_engine *engine, moshi_stage stage,
                      bool *assumed) {
    moshi_stage_info i;
    moshi_engine_get_stage(engine, stage, &i);
    if (i.weight_bytes == 0) return 0;
    double bytes = (double)i.weight_bytes + (double)i.position_bytes * i.max_positions / 2;
    double encode = b->encode_rate, decode = b->decode_rate, usual = USUAL_FLOPS_SHARE * b->flops;
    switch (stage) {
    case MOSHI_STAGE_ENCODE:
        return i.operations / choose(encode, decode, usual, assumed);
    case MOSHI_STAGE_DECODE:
        return i.operations / choose(decode, encode, usual, assumed);
    case MOSHI_STAGE_DEPTH:
        return bytes / b->read_bytes_s /
               choose(b->depth_share, b->temporal_share, USUAL_SHARE, assumed);
    default:
        return bytes / b->read_bytes_s /
               choose(b->temporal_share, b->depth_share, USUAL_SHARE, assumed);
    }
}

static json_t *forecast_one(const forecast_basis *b, const char *preset, const char *type) {
    moshi_engine *engine;
    moshi_engine_info info;
    moshi_engine_options options = {
        .preset = preset, .preset_type = type, .flags = MOSHI_DRY_RUN, .kv = MOSHI_KV_Q8_0};
    double seconds = 0;
    bool assumed = false;
    if (moshi_engine_open(&engine, &options, NULL) < 0) return NULL;
    moshi_engine_get_info(engine, &info);
    for (int s = 0; s < MOSHI_STAGES; s++) seconds += stage_s(b, engine, (moshi_stage)s, &assumed);
    moshi_engine_close(engine);
    return json_pack("{s:s, s:s, s:f, s:f, s:I, s:b}", "preset", preset, "type", type, "frames_s",
                     1 / seconds, "real_time", 1 / seconds / info.frame_rate_hz, "memory_bytes",
                     (json_int_t)(info.weight_bytes + info.state_bytes), "assumed", assumed);
}

json_t *forecast_all(const forecast_basis *basis) {
    static const char *const types[] = {"bf16", "q8_0", "q4_K"};
    json_t *all = json_array();
    const char *preset;
    if (basis->read_bytes_s <= 0 || basis->flops <= 0) return all;
    for (int i = 0; (preset = moshi_preset_name(i)) != NULL; i++)
        for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
            json_t *one = forecast_one(basis, preset, types[k]);
            if (one) json_array_append_new(all, one);
        }
    return all;
}

void forecast_print(const json_t *all, double available_bytes) {
    const char *last = "";
    size_t i;
    json_t *f;
    bool assumed = false, tight = false;
    json_array_foreach(all, i, f) {
        const char *preset = json_string_value(json_object_get(f, "preset"));
        double x = number(f, "real_time");
        bool too_large = available_bytes > 0 && number(f, "memory_bytes") > available_bytes;
        if (strcmp(last, preset) != 0) printf("%s  %-14s", i ? "\n" : "", preset);
        printf("  %s %5.2fx%s%s", json_string_value(json_object_get(f, "type")), x,
               x >= 1 ? "" : " -", too_large ? " *" : "  ");
        last = preset;
        assumed |= json_is_true(json_object_get(f, "assumed"));
        tight |= too_large;
    }
    printf("\n  (times real time with key/value cache q8_0, half full; -: too slow to talk "
           "with%s%s)\n",
           tight ? "; *: more memory than there is" : "",
           assumed ? "; what was not measured here is taken from another machine" : "");
}
