/* What is told about a model without running it: the memory an engine would take, which must be
 * what it takes. */
#include "check.h"
#include "drive.h"
#include "make_model.h"
#include "presets.h"
#include "sparse.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static char dir[] = "/tmp/moshi-test-inspect-XXXXXX";

/* Path of a file in the test's directory; lives until the fourth call from now. */
static const char *at(const char *name) {
    static char paths[4][300];
    static int turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

static void write_file(const char *name, const void *data, size_t size) {
    FILE *f = fopen(at(name), "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0) test_die("cannot write %s", name);
}

/* ---- memory --------------------------------------------------------------------------------- */

static bool same_facts(const moshi_engine_info *a, const moshi_engine_info *b) {
    return a->weight_bytes == b->weight_bytes && a->state_bytes == b->state_bytes &&
           a->scratch_bytes == b->scratch_bytes && a->parameters == b->parameters &&
           a->n_q == b->n_q && a->dep_q == b->dep_q && a->sessions == b->sessions &&
           a->frame_samples == b->frame_samples && !strcmp(a->device, b->device) &&
           !strcmp(a->kernels, b->kernels) && !strcmp(a->model_type, b->model_type);
}

/* A dry run of an engine says what the engine says, with 1 and with 8 sessions. */
static void plan_is_true(moshi_engine_options o, const char *what) {
    static const int counts[] = {1, 8};
    uint64_t state[2] = {0};
    for (int i = 0; i < 2; i++) {
        moshi_engine *engine, *dry;
        moshi_engine_info real, told;
        moshi_error err;
        o.threads = 1;
        o.sessions = counts[i];
        if (!CHECK(moshi_engine_open(&engine, &o, &err) == 0, "%s: %s", what, err.text)) return;
        moshi_engine_get_info(engine, &real);
        o.flags |= MOSHI_DRY_RUN;
        if (CHECK(moshi_engine_open(&dry, &o, &err) == 0, "%s, dry: %s", what, err.text)) {
            moshi_engine_get_info(dry, &told);
            CHECK(same_facts(&real, &told),
                  "%s, %d sessions: %llu + %llu (%llu) bytes foretold, %llu + %llu (%llu) taken",
                  what, counts[i], (unsigned long long)told.weight_bytes,
                  (unsigned long long)told.state_bytes, (unsigned long long)told.scratch_bytes,
                  (unsigned long long)real.weight_bytes, (unsigned long long)real.state_bytes,
                  (unsigned long long)real.scratch_bytes);
            state[i] = told.state_bytes;
            moshi_engine_close(dry);
        }
        o.flags &= ~MOSHI_DRY_RUN;
        moshi_engine_close(engine);
    }
    CHECK(state[0] > 0 && state[1] == 8 * state[0], "%s: state of 8 sessions", what);
}

static void plans(void) {
    static const char *const files[] = {
        "moshi-tiny/model.safetensors",
        "moshi-tiny/model.f32.safetensors",
        "moshi-tiny/model.candle.safetensors",
        "moshi-tiny/model.candle.q8.gguf",
        "moshi-tiny/model.mlx.q4.safetensors",
        "moshi-tiny/model.q8.safetensors",
        "moshi-tiny/model.q8.split.safetensors",
        "moshi-tiny-q/model.mlx.q8.safetensors",
        "stt-tiny/model.safetensors",
        "stt-tiny/model.candle.q8.gguf",
        "personaplex-tiny/model.safetensors",
        "hibiki-zero-tiny/model.safetensors",
    };
    plan_is_true((moshi_engine_options){.model = "models/demo"}, "the demo model");
    plan_is_true((moshi_engine_options){.model = "models/demo", .flags = MOSHI_EXACT_MASK},
                 "the demo model, exact mask");
    plan_is_true((moshi_engine_options){.model = "models/demo", .flags = MOSHI_NO_CODEC},
                 "the demo model without its codec");
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        const char *path = golden_path(files[i]);
        if (!path) {
            SKIP("%s is not there", files[i]);
            continue;
        }
        plan_is_true((moshi_engine_options){.model = path, .flags = MOSHI_NO_CODEC}, files[i]);
    }
}

/* Adapters keep 16-bit weights and widen quantised ones: the plan knows. */
static void plan_with_adapters(void) {
    made_model m;
    model_spec spec;
    tensors pair = {0};
    size_t size;
    spec_small(&spec);
    spec.lm_dtype = MO_BF16;
    model_make(&m, &spec);
    test_rng rng = {1};
    const char *names[] = {"transformer.layers.0.self_attn.out_proj.lora_A.weight",
                           "transformer.layers.0.self_attn.out_proj.lora_B.weight"};
    for (int i = 0; i < 2; i++) {
        int64_t d = m.spec.lm.dim;
        tensor *t = tensors_add(&pair, names[i], 2, (int64_t[]){i ? d : 4, i ? 4 : d});
        for (size_t k = 0; k < t->count; k++) t->f[k] = rng_f32(&rng);
    }
    uint8_t *file = safetensors_build(&pair, &size);
    write_file("lora.safetensors", file, size);
    moshi_lora lora = {.path = at("lora.safetensors")};
    plan_is_true(
        (moshi_engine_options){
            .blobs = m.blobs, .n_blobs = MADE_BLOBS, .loras = &lora, .n_loras = 1},
        "a model with an adapter");
    unlink(at("lora.safetensors"));
    free(file);
    tensors_free(&pair);
    model_free(&m);
}

static void codec_plan(void) {
    moshi_codec *codec, *dry;
    moshi_codec_info real, told;
    moshi_error err;
    float pcm[1920] = {0};
    int32_t codes[8] = {0};
    moshi_codec_options o = {.model = "models/demo", .codebooks = 8, .threads = 1};
    if (!CHECK(moshi_codec_open(&codec, &o, &err) == 0, "codec: %s", err.text)) return;
    o.flags = MOSHI_DRY_RUN;
    if (CHECK(moshi_codec_open(&dry, &o, &err) == 0, "dry codec: %s", err.text)) {
        moshi_codec_get_info(codec, &real);
        moshi_codec_get_info(dry, &told);
        CHECK(!memcmp(&real, &told, sizeof real) && told.weight_bytes > 0 &&
                  told.scratch_bytes < told.state_bytes,
              "a dry codec says something else");
        CHECK(moshi_codec_encode(dry, pcm, 1, codes) == MOSHI_EDEVICE &&
                  moshi_codec_decode(dry, codes, 1, pcm) == MOSHI_EDEVICE,
              "a dry codec runs");
        moshi_codec_reset(dry);
        moshi_codec_close(dry);
    }
    moshi_codec_close(codec);
}

static long peak_kilobytes(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

/* 7.7 billion weights: known to the byte, and neither read nor held. */
static void big_plan(void) {
    const uint64_t parameters = UINT64_C(7687729152); /* as the reference counts them */
    const uint64_t rings = UINT64_C(2) * 32 * 3000 * 4096 * 4;
    mo_lm_config cfg;
    moshi_error err;
    moshi_engine *engine;
    moshi_session *session;
    moshi_engine_info info;
    const char *config = mo_preset_at(0)->config;
    if (mo_lm_config_parse(&cfg, config, strlen(config), "config.json", &err) < 0)
        test_die("%s", err.text);
    sparse_lm(at("model.safetensors"), &cfg, MO_NAMES_PYTORCH, SPARSE_BF16);
    long before = peak_kilobytes();
    moshi_engine_options o = {
        .model = dir, .sessions = 8, .threads = 1, .flags = MOSHI_NO_CODEC | MOSHI_DRY_RUN};
    if (CHECK(moshi_engine_open(&engine, &o, &err) == 0, "7B: %s", err.text)) {
        moshi_engine_get_info(engine, &info);
        CHECK(info.parameters == parameters, "7B: %llu parameters",
              (unsigned long long)info.parameters);
        /* padding of strips and tables of frequencies come on top */
        CHECK(info.weight_bytes >= 2 * parameters && info.weight_bytes < 2 * parameters + 1000000,
              "7B: weights of %llu bytes", (unsigned long long)info.weight_bytes);
        CHECK(info.state_bytes > 8 * rings && info.state_bytes < 8 * rings + 10000000,
              "7B: 8 sessions of %llu bytes", (unsigned long long)info.state_bytes);
        CHECK(moshi_session_open(&session, engine, NULL, &err) == MOSHI_EDEVICE && !session &&
                  strstr(err.text, "DRY_RUN"),
              "a session on a dry engine: %s", err.text);
        CHECK(moshi_step(engine) == 0, "a step of a dry engine");
        moshi_engine_close(engine);
    }
    long grown = peak_kilobytes() - before;
    CHECK(grown < 64 << 10, "7B: the plan took %ld kB", grown);
    unlink(at("model.safetensors"));
}

int main(void) {
    if (!mkdtemp(dir)) test_die("no temporary directory");
    plans();
    plan_with_adapters();
    codec_plan();
    big_plan();
    rmdir(dir);
    return check_done("test_inspect");
}
