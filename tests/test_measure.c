/* What is there to measure with: presets made up in memory, what stages cost, conversations that
 * never took place, the limits of the machine. Never how fast anything is. */
#include "check.h"
#include "drive.h"
#include "made.h"
#include "make_model.h"
#include "presets.h"
#include "quant.h"
#include "weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- presets -------------------------------------------------------------------------------- */

static void stage_of(const moshi_engine *engine, moshi_stage stage, moshi_stage_info *info) {
    CHECK(moshi_engine_get_stage(engine, stage, info) == 0, "stage %d", (int)stage);
}

/* Weights that a frame multiplies with, sets of the depth transformer once for every codebook that
 * uses them, as counted by the reference's own modules; 2 operations each. And what the bytes of a
 * type come to, in strips of 16 rows: of every number in q8_0, 8.5 bits. */
static void test_costs(void) {
    static const struct {
        const char *name;
        double matvec; /* 0: what the reference computes is not all here */
        double norms;  /* of these: weights of norms, which are no products */
        uint64_t kv_floats;
        int context;
    } facts[] = {{"moshi-7b", 7374913536.0, 278528, 262144, 3000},
                 {"personaplex-7b", 8041807872.0, 278528, 262144, 3000},
                 {"stt-1b", 838535168.0, 67584, 65536, 750},
                 {"stt-2.6b", 2474641408.0, 198656, 196608, 375},
                 {"hibiki-1b", 1570584576.0, 79872, 65536, 3000},
                 {"hibiki-2b", 2798461667.0, 133632, 122880, 1500},
                 {"tts-1.6b", 0, 0, 65536, 500}};
    const size_t n = sizeof facts / sizeof *facts;
    for (size_t i = 0; i < n; i++) {
        moshi_engine *engine;
        moshi_engine_info info;
        moshi_stage_info t, d, e;
        moshi_error err;
        moshi_engine_options o = {.preset = facts[i].name,
                                  .preset_type = "q8_0",
                                  .threads = 1,
                                  .kv = MOSHI_KV_BF16,
                                  .flags = MOSHI_NO_CODEC | MOSHI_DRY_RUN};
        CHECK(moshi_preset_name((int)i) != NULL, "preset %zu has a name", i);
        if (!CHECK(moshi_engine_open(&engine, &o, &err) == 0 && !err.code, "%s", err.text))
            continue;
        moshi_engine_get_info(engine, &info);
        stage_of(engine, MOSHI_STAGE_TEMPORAL, &t);
        stage_of(engine, MOSHI_STAGE_DEPTH, &d);
        stage_of(engine, MOSHI_STAGE_ENCODE, &e);
        double numbers = (t.operations + d.operations) / 2;
        /* embeddings of low rank are shared out unevenly in the reference's count */
        double slack = info.dep_q == 16 && info.n_q == 32 ? 4e6 : 0;
        double wanted = facts[i].matvec - facts[i].norms;
        if (wanted > 0)
            CHECK(fabs(numbers - wanted) <= slack, "%s: %.0f weights a frame, wanted %.0f",
                  facts[i].name, numbers, wanted);
        /* a frame also reads a row of every table: less than a megabyte */
        double bytes = (double)(t.weight_bytes + d.weight_bytes) - numbers * 34 / 32;
        CHECK(bytes >= 0 && bytes < 1e6, "%s: %.0f bytes more than weights of 8.5 bits",
              facts[i].name, bytes);
        CHECK(t.position_bytes == 2 * facts[i].kv_floats && t.frame_positions == 1 &&
                  t.max_positions == facts[i].context,
              "%s: %llu bytes of keys and values a position, %d positions", facts[i].name,
              (unsigned long long)t.position_bytes, t.max_positions);
        CHECK((d.weight_bytes > 0) == (info.dep_q > 0) && d.position_bytes == 0 &&
                  e.weight_bytes == 0 && t.runs == 0 && t.seconds == 0,
              "%s: stages it does not have, or has not run", facts[i].name);
        moshi_engine_close(engine);
    }
    CHECK(!strcmp(moshi_preset_name((int)n), "mimi") && !moshi_preset_name((int)n + 1) &&
              !moshi_preset_name(-1),
          "the codec is the last preset");
}

static void test_codec_preset(void) {
    moshi_codec *codec;
    moshi_codec_info info;
    moshi_stage_info stage;
    moshi_error err;
    moshi_codec_options o = {.preset = "mimi", .threads = 1, .flags = MOSHI_DRY_RUN};
    if (!CHECK(moshi_codec_open(&codec, &o, &err) == 0 && !err.code && !err.text[0], "%s",
               err.text))
        return;
    moshi_codec_get_info(codec, &info);
    /* 96 151 393 numbers in the published file, one of which in each codebook is a flag */
    CHECK(info.parameters == 96151393 - 32 && info.codebooks == 32, "%llu parameters",
          (unsigned long long)info.parameters);
    CHECK(moshi_codec_get_stage(codec, MOSHI_STAGE_ENCODE, &stage) == 0 && stage.operations > 4e8 &&
              stage.operations < 6e8 && stage.frame_positions == 2 && stage.max_positions == 250,
          "encoder: %.0f operations", stage.operations);
    CHECK(moshi_codec_get_stage(codec, MOSHI_STAGE_DEPTH, &stage) == MOSHI_EINVAL,
          "a codec has no depth transformer");
    moshi_codec_close(codec);
}

static void refuse(const moshi_engine_options *o, int code, const char *words) {
    moshi_engine *engine;
    moshi_error err;
    int rc = moshi_engine_open(&engine, o, &err);
    CHECK(rc == code && strstr(err.text, words), "wanted \"%s\", found %d %s", words, rc, err.text);
    if (rc == 0) moshi_engine_close(engine);
}

static void test_refused(void) {
    const int dry = MOSHI_DRY_RUN;
    refuse(&(moshi_engine_options){.preset = "moshi-8b", .flags = dry}, MOSHI_EINVAL, "moshi-7b");
    refuse(&(moshi_engine_options){.preset = "mimi", .flags = dry}, MOSHI_EINVAL, "a codec");
    refuse(&(moshi_engine_options){.preset = "stt-1b", .preset_type = "q5_K", .flags = dry},
           MOSHI_EINVAL, "q5_K");
    refuse(&(moshi_engine_options){.preset = "stt-1b", .model = "x", .flags = dry}, MOSHI_EINVAL,
           "not both");
    refuse(&(moshi_engine_options){.model = "x", .preset_type = "q8_0", .flags = dry}, MOSHI_EINVAL,
           "preset_type: wanted a preset with it, found 'q8_0' alone");
    moshi_codec *codec;
    moshi_error err;
    const moshi_codec_options o = {.model = "x", .preset_type = "f16"};
    int rc = moshi_codec_open(&codec, &o, &err);
    CHECK(rc == MOSHI_EINVAL && strstr(err.text, "preset_type: wanted a preset"), "%d %s", rc,
          err.text);
}

/* Numbers of every format: finite, of the spread that keeps activations in bounds, different in
 * every tensor; scales are ones. Takes the memory of one large tensor, not of the model. */
static void test_numbers(void) {
    static const char *const types[] = {"f32", "f16", "bf16", "q8_0", "q6_K", "q4_K", "q4_0"};
    enum { SOME = 4096 };
    static float x[SOME], y[SOME];
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        mo_model_files f;
        moshi_error err;
        if (!CHECK(mo_made_files_open(&f, "stt-1b", types[i], MO_WANT_LM, false, &err) == 0, "%s",
                   err.text))
            continue;
        const mo_tensor_view *norm =
            mo_checkpoint_find(&f.lm_file, "transformer.layers.3.norm1.alpha");
        const mo_tensor_view *a =
            mo_checkpoint_find(&f.lm_file, "transformer.layers.3.self_attn.in_proj_weight");
        const mo_tensor_view *b =
            mo_checkpoint_find(&f.lm_file, "transformer.layers.4.self_attn.in_proj_weight");
        bool there = CHECK(norm && a && b && f.lm_file.n_tensors == 131, "%s: tensors", types[i]);
        if (there) {
            double sum = 0, square = 0;
            CHECK(a->dtype == mo_quant_find(types[i])->dtype && !mo_tensor_problem(a) &&
                      !mo_tensor_problem(norm) && norm->dtype == MO_F32 &&
                      mo_tensor_at(norm, 7) == 1.0f,
                  "%s: formats", types[i]);
            mo_quant_of(a->dtype)->dequantise(a->data, x, SOME);
            mo_quant_of(b->dtype)->dequantise(b->data, y, SOME);
            for (int k = 0; k < SOME; k++)
                sum += (double)x[k], square += (double)x[k] * (double)x[k];
            CHECK(fabs(sum / SOME) < 0.002 && fabs(sqrt(square / SOME) * 64 - 1) < 0.1,
                  "%s: mean %g, spread %g", types[i], sum / SOME, sqrt(square / SOME));
            CHECK(memcmp(x, y, sizeof x) != 0, "%s: two tensors are the same", types[i]);
        }
        mo_model_files_close(&f);
    }
}

/* ---- frames --------------------------------------------------------------------------------- */

static made_model model;

static void step_once(moshi_engine *engine, moshi_session *s, const float *pcm, int n) {
    moshi_event event;
    CHECK(moshi_push_pcm(s, pcm, (size_t)n) == n && moshi_step(engine) == 1, "a step");
    while (moshi_pull(s, &event) > 0)
        for (size_t i = 0; event.type == MOSHI_EVENT_AUDIO && i < event.n; i++)
            if (!isfinite(event.pcm[i])) {
                CHECK(false, "sound is not finite");
                return;
            }
}

/* Each step runs every stage once, whatever is said to have been before, in caches of any format;
 * the time of a stage only grows. */
static void test_pretend(moshi_kv kv, int64_t frames) {
    moshi_engine_options o = {
        .blobs = model.blobs, .n_blobs = MADE_BLOBS, .sessions = 2, .threads = 1, .kv = kv};
    moshi_engine *engine = open_engine_with(&o);
    moshi_engine_info info;
    moshi_session *s, *other;
    moshi_stage_info before, after;
    moshi_error err;
    static float pcm[4096];
    moshi_engine_get_info(engine, &info);
    for (int i = 0; i < info.frame_samples && i < 4096; i++) pcm[i] = 0.1f * (float)(i % 7 - 3);
    if (moshi_session_open(&other, engine, NULL, &err) < 0 ||
        moshi_session_open(&s, engine, NULL, &err) < 0)
        test_die("%s", err.text);
    CHECK(moshi_session_pretend(s, -1) == MOSHI_EINVAL &&
              moshi_session_pretend(s, (int64_t)1 << 25) == MOSHI_EINVAL,
          "no conversation lasts that long");
    CHECK(moshi_session_pretend(s, frames) == 0, "pretending %lld frames", (long long)frames);
    for (int i = 0; i < 3; i++) {
        stage_of(engine, MOSHI_STAGE_DECODE, &before);
        step_once(engine, s, pcm, info.frame_samples);
        stage_of(engine, MOSHI_STAGE_DECODE, &after);
        CHECK(after.runs == before.runs + 1 && after.seconds >= before.seconds,
              "frame %d after %lld: decoded %d times", i, (long long)frames,
              (int)(after.runs - before.runs));
    }
    stage_of(engine, MOSHI_STAGE_TEMPORAL, &after);
    CHECK(after.runs == 3 && after.max_positions == info.context, "%d temporal steps in 3 frames",
          (int)after.runs);
    CHECK(moshi_session_pretend(s, 5) == MOSHI_EINVAL, "it has stepped already");
    /* The other slot is as fresh as ever: its first frame is stepped twice. */
    step_once(engine, other, pcm, info.frame_samples);
    stage_of(engine, MOSHI_STAGE_TEMPORAL, &after);
    CHECK(after.runs == 5, "the other session");
    moshi_engine_close(engine);
}

static void test_speed(void) {
    moshi_device_speed speed;
    moshi_error err;
    CHECK(moshi_device_measure(&speed, NULL, 2, 1 << 26, 0.05, &err) == 0 &&
              speed.read_bytes_s > 1e8 && speed.read_bytes_s < 1e14 && speed.flops >= 0 &&
              speed.int8_ops >= 0,
          "%s", err.text);
    CHECK(moshi_device_measure(&speed, "abacus", 1, 0, 0.05, &err) == MOSHI_EDEVICE, "%s",
          err.text);
    CHECK(moshi_device_measure(&speed, NULL, 1, 0, 0, &err) == MOSHI_EINVAL, "%s", err.text);
    CHECK(moshi_device_measure(&speed, NULL, 1, 1 << 25, 1, &err) == MOSHI_EINVAL, "%s", err.text);
    CHECK(moshi_device_measure(&speed, NULL, 1, UINT64_MAX, 1, &err) == MOSHI_EINVAL, "%s",
          err.text);
}

int main(void) {
    model_spec spec;
    test_costs();
    test_codec_preset();
    test_refused();
    test_numbers();
    spec_small(&spec);
    model_make(&model, &spec);
    test_pretend(MOSHI_KV_F32, 3);
    test_pretend(MOSHI_KV_BF16, 1000);
    test_pretend(MOSHI_KV_Q8_0, spec.lm.context);
    test_pretend(MOSHI_KV_F32, 1 << 24);
    model_free(&model);
    test_speed();
    return check_done("test_measure");
}
