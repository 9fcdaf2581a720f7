/* The same model in every format it is published in: PyTorch, candle and MLX names, int8, ggml
 * blocks and MLX groups, against runs of the original with the unpacked weights. */
#include "check.h"
#include "drive.h"

#include <stdlib.h>
#include <string.h>

enum { STEPS = 48, ALL_STEPS = 64 };

typedef struct format {
    const char *dir, *file;
    const char *recorded; /* forced.* and free.* of this format; NULL: the plain recording */
} format;

static const format formats[] = {
    {"moshi-tiny", "model.candle.safetensors", NULL},
    {"moshi-tiny", "model.mlx.safetensors", NULL},
    {"moshi-tiny", "model.candle.q8.gguf", "candle_q8"},
    {"moshi-tiny", "model.mlx.q4.safetensors", "mlx_q4"},
    {"moshi-tiny", "model.q8.safetensors", "torch_q8"},
    {"moshi-tiny", "model.q8.split.safetensors", "torch_q8"},
    {"moshi-tiny-q", "model.mlx.q4.safetensors", "mlx_q4"},
    {"moshi-tiny-q", "model.mlx.q8.safetensors", "mlx_q8"},
    {"stt-tiny", "model.candle.safetensors", NULL},
    {"stt-tiny", "model.mlx.safetensors", NULL},
    {"stt-tiny", "model.candle.q8.gguf", "candle_q8"},
    {"stt-tiny", "model.mlx.q4.safetensors", "mlx_q4"},
    {"stt-tiny", "model.q8.safetensors", "torch_q8"},
};

static const char taps[] = "lm.out_norm lm.text_logits lm.text_token depth.*.logits depth.*.token";

static bool load(tensors *g, const format *f, const char *tag) {
    char name[128];
    snprintf(name, sizeof name, "%s/golden.%s.safetensors", f->dir, tag);
    const char *path = golden_path(name);
    return path && tensors_load(g, path);
}

/* User codes and, when forcing, the recorded tokens of each step, as moshi_push_codes takes them.
 */
static void inputs(const tensors *g, const moshi_engine_info *info, int32_t **codes,
                   int32_t **force) {
    size_t user = (size_t)info->user_codebooks, dep_q = (size_t)info->dep_q;
    const int32_t *user_codes = tensors_i32(g, user * ALL_STEPS, "user_codes");
    const int32_t *text = tensors_i32(g, ALL_STEPS, "text_token");
    const int32_t *audio = dep_q ? tensors_i32(g, ALL_STEPS * dep_q, "audio_tokens") : NULL;
    *codes = test_alloc(STEPS * user, sizeof **codes);
    *force = test_alloc(STEPS * (1 + dep_q), sizeof **force);
    for (size_t s = 0; s < STEPS; s++) {
        for (size_t c = 0; c < user; c++) (*codes)[s * user + c] = user_codes[c * ALL_STEPS + s];
        (*force)[s * (1 + dep_q)] = text[s];
        for (size_t k = 0; k < dep_q; k++) (*force)[s * (1 + dep_q) + 1 + k] = audio[s * dep_q + k];
    }
}

static tap_log run(moshi_engine *engine, const int32_t *codes, const int32_t *force) {
    moshi_session_options options = {.flags = MOSHI_GREEDY | MOSHI_NO_AUDIO};
    moshi_session *session = open_session(engine, &options);
    tap_log log = {.slot = -1};
    event_log events;
    event_log_init(&events, engine);
    moshi_engine_trace(engine, taps, tap_log_fn, &log);
    run_codes(engine, session, codes, force, STEPS, &events);
    moshi_engine_trace(engine, NULL, NULL, NULL);
    event_log_free(&events);
    moshi_session_close(session);
    return log;
}

static void check_logits(const tap_log *log, const tensors *g, const char *prefix,
                         const moshi_engine_info *info, const char *what) {
    size_t card = (size_t)info->card, dep_q = (size_t)info->dep_q;
    char name[64];
    snprintf(name, sizeof name, "%stext_logits", prefix);
    const tensor *text = tensors_find(g, name);
    size_t n = STEPS * (text->count / (size_t)text->shape[0]);
    double d = max_diff(tap_f32(log, n, "lm.text_logits"), text->f, n);
    CHECK(d < 2e-4, "%s: text logits differ by %g", what, d);
    for (size_t k = 0; k < dep_q; k++) {
        const float *got = tap_f32(log, STEPS * card, "depth.%02zu.logits", k);
        const float *want = tensors_f32(g, 0, "%sdep_logits", prefix) + k * card;
        double worst = 0;
        for (size_t s = 0; s < STEPS; s++) {
            double step = max_diff(got + s * card, want + s * dep_q * card, card);
            if (step > worst) worst = step;
        }
        CHECK(worst < 2e-4, "%s: logits of codebook %zu differ by %g", what, k, worst);
    }
}

static void check_tokens(const tap_log *log, const tensors *g, const char *prefix,
                         const moshi_engine_info *info, const char *what) {
    size_t dep_q = (size_t)info->dep_q;
    const int32_t *text = tensors_i32(g, 0, "%stext_token", prefix);
    size_t at = first_diff(tap_i32(log, STEPS, "lm.text_token"), text, STEPS);
    CHECK(at == STEPS, "%s: text token of step %zu differs", what, at);
    for (size_t k = 0; k < dep_q; k++) {
        const int32_t *got = tap_i32(log, STEPS, "depth.%02zu.token", k);
        const int32_t *want = tensors_i32(g, 0, "%saudio_tokens", prefix);
        size_t wrong = 0;
        for (size_t s = 0; s < STEPS; s++) wrong += got[s] != want[s * dep_q + k];
        CHECK(wrong == 0, "%s: %zu tokens of codebook %zu differ", what, wrong, k);
    }
}

static void test_format(const format *f) {
    char name[128], what[160];
    tensors plain = {0}, packed = {0};
    snprintf(name, sizeof name, "%s/%s", f->dir, f->file);
    const char *path = golden_path(name);
    if (!path || !load(&plain, f, "bf16w") || (f->recorded && !load(&packed, f, f->recorded))) {
        SKIP("%s or its recording is not here", name);
        tensors_free(&plain);
        return;
    }
    moshi_engine *engine = open_engine(path, NULL, 0, 1, 1, MOSHI_NO_CODEC | MOSHI_EXACT);
    moshi_engine_info info;
    moshi_engine_get_info(engine, &info);
    int32_t *codes, *force;
    inputs(&plain, &info, &codes, &force);
    const tensors *g = f->recorded ? &packed : &plain;

    snprintf(what, sizeof what, "%s, forced", name);
    tap_log log = run(engine, codes, force);
    check_logits(&log, g, f->recorded ? "forced." : "", &info, what);
    tap_log_free(&log);
    snprintf(what, sizeof what, "%s, free", name);
    log = run(engine, codes, NULL);
    check_tokens(&log, g, f->recorded ? "free." : "", &info, what);
    tap_log_free(&log);

    free(codes);
    free(force);
    moshi_engine_close(engine);
    tensors_free(&plain);
    tensors_free(&packed);
}

int main(void) {
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) test_format(&formats[i]);
    return check_done("test_formats");
}
