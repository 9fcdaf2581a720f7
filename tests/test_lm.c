/* The language model through the public header against recorded runs of the original: every
 * intermediate when tokens run freely, logits under forcing, and whole conversations from samples
 * to samples in both first-frame conventions. */
#include "check.h"
#include "drive.h"

#include <stdlib.h>
#include <string.h>

enum { STEPS = 64 };

static const char taps[] = "lm.in_tokens lm.layer.*.out lm.out_norm lm.text_logits lm.text_token "
                           "lm.out_tokens depth.*.hidden depth.*.logits depth.*.token "
                           "mimi.enc.codes";

/* One recorded model: folder, weights file, tag of its recordings. */
typedef struct model {
    const char *dir, *file, *tag;
    int flags;
} model;

static bool load_golden(const model *m, const char *what, tensors *g) {
    char name[128];
    snprintf(name, sizeof name, "%s/golden.%s%s.safetensors", m->dir, what, m->tag);
    const char *path = golden_path(name);
    if (!path) {
        SKIP("%s is not here", name);
        return false;
    }
    return CHECK(tensors_load(g, path), "%s not read", name);
}

static moshi_engine *open_model(const model *m, int flags) {
    char name[128];
    snprintf(name, sizeof name, "%s/%s", m->dir, m->file);
    const char *path = golden_path(name);
    if (!path) test_die("%s is missing", name);
    return open_engine(path, NULL, 0, 1, 2, flags | m->flags);
}

static double compare(const tap_log *log, const char *tap, const float *want, size_t steps,
                      size_t stride, size_t width) {
    const float *got = tap_f32(log, steps * width, "%s", tap);
    double worst = 0;
    for (size_t s = 0; s < steps; s++) {
        double d = max_diff(got + s * width, want + s * stride, width);
        if (d > worst) worst = d;
    }
    return worst;
}

static void check_ints(const tap_log *log, const char *tap, const tensors *g, const char *name) {
    const tensor *want = tensors_find(g, name);
    if (!CHECK(want && want->i, "no recorded %s", name)) return;
    const int32_t *got = tap_i32(log, want->count, "%s", tap);
    size_t bad = first_diff(got, want->i, want->count);
    size_t width = want->count / (size_t)want->shape[0];
    CHECK(bad == want->count, "%s: step %zu, element %zu: %d instead of %d", name, bad / width,
          bad % width, bad < want->count ? got[bad] : 0, bad < want->count ? want->i[bad] : 0);
}

static void check_depth(const tap_log *log, const tensors *g, const moshi_engine_info *info) {
    size_t dep_q = (size_t)info->dep_q, card = (size_t)info->card;
    const tensor *hidden = tensors_find(g, "dep_hidden");
    const int32_t *tokens = tensors_i32(g, STEPS * dep_q, "audio_tokens");
    const float *logits = tensors_f32(g, STEPS * dep_q * card, "dep_logits");
    size_t e = (size_t)hidden->shape[2];
    double worst_hidden = 0, worst_logits = 0;
    int wrong = 0;
    for (size_t k = 0; k < dep_q; k++) {
        char tap[64];
        snprintf(tap, sizeof tap, "depth.%02zu.hidden", k);
        double d = compare(log, tap, hidden->f + k * e, STEPS, dep_q * e, e);
        if (d > worst_hidden) worst_hidden = d;
        snprintf(tap, sizeof tap, "depth.%02zu.logits", k);
        d = compare(log, tap, logits + k * card, STEPS, dep_q * card, card);
        if (d > worst_logits) worst_logits = d;
        const int32_t *got = tap_i32(log, STEPS, "depth.%02zu.token", k);
        for (size_t s = 0; s < STEPS; s++) wrong += got[s] != tokens[s * dep_q + k];
    }
    CHECK(worst_hidden < 2e-4, "depth hidden differs by %g", worst_hidden);
    CHECK(worst_logits < 2e-4, "depth logits differ by %g", worst_logits);
    CHECK(wrong == 0, "%d audio tokens differ", wrong);
}

/* [channels, STEPS] as recorded -> [STEPS, channels] as pushed. */
static int32_t *step_major(const int32_t *codes, size_t channels, size_t steps) {
    int32_t *out = test_alloc(channels * steps, sizeof *out);
    for (size_t c = 0; c < channels; c++)
        for (size_t s = 0; s < steps; s++) out[s * channels + c] = codes[c * steps + s];
    return out;
}

static void test_free_running(const model *m) {
    tensors g = {0};
    if (!load_golden(m, "", &g)) return;
    moshi_engine *engine = open_model(m, MOSHI_NO_CODEC);
    moshi_engine_info info;
    moshi_engine_get_info(engine, &info);
    moshi_session *session = open_session(engine, &(moshi_session_options){.flags = MOSHI_GREEDY});
    size_t users = (size_t)info.user_codebooks, dim;
    int32_t *codes = step_major(tensors_i32(&g, STEPS * users, "user_codes"), users, STEPS);
    tap_log log = {0};
    event_log events;
    event_log_init(&events, engine);
    moshi_engine_trace(engine, taps, tap_log_fn, &log);
    run_codes(engine, session, codes, NULL, STEPS, &events);

    check_ints(&log, "lm.in_tokens", &g, "in_tokens");
    check_ints(&log, "lm.text_token", &g, "text_token");
    const tensor *hidden = tensors_find(&g, "hidden");
    size_t layers = (size_t)hidden->shape[1];
    dim = (size_t)hidden->shape[2];
    for (size_t l = 0; l < layers; l++) {
        char tap[64];
        snprintf(tap, sizeof tap, "lm.layer.%02zu.out", l);
        double d = compare(&log, tap, hidden->f + l * dim, STEPS, layers * dim, dim);
        CHECK(d < 2e-4, "%s: layer %zu differs by %g", m->dir, l, d);
    }
    double d = compare(&log, "lm.out_norm", tensors_f32(&g, 0, "transformer_out"), STEPS, dim, dim);
    CHECK(d < 2e-4, "%s: transformer_out differs by %g", m->dir, d);
    size_t card = (size_t)info.text_card;
    d = compare(&log, "lm.text_logits", tensors_f32(&g, 0, "text_logits"), STEPS, card, card);
    CHECK(d < 2e-4, "%s: text_logits differ by %g", m->dir, d);
    if (info.dep_q) check_depth(&log, &g, &info);

    size_t delay = (size_t)info.max_delay, width = 1 + (size_t)info.dep_q;
    const int32_t *out = tensors_i32(&g, STEPS * width, "out_tokens") + delay * width;
    CHECK(events.frames == STEPS - delay, "%s: %zu frames came out", m->dir, events.frames);
    CHECK(first_diff(events.tokens, out, events.frames * width) == events.frames * width,
          "%s: out_tokens differ", m->dir);
    moshi_engine_close(engine);
    event_log_free(&events);
    tap_log_free(&log);
    tensors_free(&g);
    free(codes);
}

/* The original's full-sequence forward pass over 40 given frames: position t of channel c is what
 * the step t + delay[c] computes when it is fed those frames. */
static void test_teacher(const model *m) {
    enum { FRAMES = 40, DEP_Q = 8, N_Q = 16, CARD = 128, TEXT = 500, DELAY = 1 };
    tensors g = {0};
    if (!load_golden(m, "teacher.", &g)) return;
    const int32_t *codes = tensors_i32(&g, (1 + N_Q) * FRAMES, "codes");
    int32_t *user = test_alloc((FRAMES + DELAY) * (N_Q - DEP_Q), sizeof *user);
    int32_t *force = test_alloc((FRAMES + DELAY) * (1 + DEP_Q), sizeof *force);
    moshi_engine *engine = open_model(m, MOSHI_NO_CODEC);
    moshi_engine_info info;
    moshi_engine_get_info(engine, &info);
    for (int s = 0; s < FRAMES + DELAY; s++) {
        for (int c = 0; c < N_Q - DEP_Q; c++) /* a frame is passed one step after its time */
            user[s * (N_Q - DEP_Q) + c] =
                s > 0 && s <= FRAMES ? codes[(1 + DEP_Q + c) * FRAMES + s - 1] : 0;
        for (int c = 0; c <= DEP_Q; c++) {
            int t = s - info.delays[c];
            force[s * (1 + DEP_Q) + c] = t >= 0 && t < FRAMES ? codes[c * FRAMES + t] : MOSHI_FREE;
        }
    }
    moshi_session *session = open_session(engine, &(moshi_session_options){.flags = MOSHI_GREEDY});
    tap_log log = {0};
    event_log events;
    event_log_init(&events, engine);
    moshi_engine_trace(engine, taps, tap_log_fn, &log);
    run_codes(engine, session, user, force, FRAMES + DELAY, &events);
    const float *text = tap_f32(&log, (FRAMES + DELAY) * TEXT, "lm.text_logits");
    double d = max_diff(text, tensors_f32(&g, FRAMES * TEXT, "text_logits"), FRAMES * TEXT);
    CHECK(d < 2e-4, "teacher: text logits differ by %g", d);
    const float *want = tensors_f32(&g, DEP_Q * FRAMES * CARD, "logits");
    const int32_t *mask = tensors_i32(&g, DEP_Q * FRAMES, "mask");
    int compared = 0;
    double worst = 0;
    for (int k = 0; k < DEP_Q; k++) {
        const float *got = tap_f32(&log, (FRAMES + DELAY) * CARD, "depth.%02d.logits", k);
        for (int t = 0; t < FRAMES; t++) {
            /* in the first steps the original chains on initial tokens, a stream on its own */
            int s = t + info.delays[1 + k];
            if (!mask[k * FRAMES + t] || s < DELAY) continue;
            d = max_diff(got + s * CARD, want + (k * FRAMES + t) * CARD, CARD);
            if (d > worst) worst = d;
            compared++;
        }
    }
    CHECK(worst < 2e-4, "teacher: depth logits differ by %g", worst);
    CHECK(compared >= DEP_Q * (FRAMES - 2), "teacher: only %d positions compared", compared);
    moshi_engine_close(engine);
    event_log_free(&events);
    tap_log_free(&log);
    tensors_free(&g);
    free(user);
    free(force);
}

/* PersonaPlex speaks all channels, and its prompts and the user's sound are tokens given in the
 * place of sampled ones: the recording says for each step which were given. What the original
 * stores at a step goes into the depformer there and into the model one step later. */
static void test_provided(const model *m) {
    enum { CALLS = 59, DEP_Q = 16, WIDTH = 1 + DEP_Q, CARD = 128, TEXT = 500 };
    tensors g = {0};
    if (!load_golden(m, "", &g)) return;
    const int32_t *target = tensors_i32(&g, CALLS * WIDTH, "target");
    const int32_t *provided = tensors_i32(&g, CALLS * WIDTH, "provided");
    const int32_t *text = tensors_i32(&g, CALLS, "sampled_text");
    const int32_t *audio = tensors_i32(&g, CALLS * DEP_Q, "sampled_audio");
    int32_t force[CALLS * WIDTH];
    for (int i = 0; i < CALLS * WIDTH; i++) force[i] = provided[i] ? target[i] : MOSHI_FREE;
    moshi_engine *engine = open_model(m, MOSHI_NO_CODEC);
    moshi_session *session = open_session(engine, &(moshi_session_options){.flags = MOSHI_GREEDY});
    tap_log log = {0};
    event_log events;
    event_log_init(&events, engine);
    moshi_engine_trace(engine, taps, tap_log_fn, &log);
    run_codes(engine, session, NULL, force, CALLS, &events);

    check_ints(&log, "lm.in_tokens", &g, "in_tokens");
    double d = compare(&log, "lm.text_logits", tensors_f32(&g, CALLS * TEXT, "text_logits"), CALLS,
                       TEXT, TEXT);
    CHECK(d < 2e-4, "%s: text logits differ by %g", m->dir, d);
    const float *logits = tensors_f32(&g, CALLS * DEP_Q * CARD, "dep_logits");
    int wrong = 0, sampled = 0;
    for (int k = 0; k < WIDTH; k++) {
        const int32_t *got = k ? tap_i32(&log, CALLS, "depth.%02d.token", k - 1)
                               : tap_i32(&log, CALLS, "lm.text_token");
        for (int s = 0; s < CALLS; s++) {
            bool given = provided[s * WIDTH + k];
            int32_t own = k ? audio[s * DEP_Q + k - 1] : text[s];
            wrong += got[s] != (given ? target[s * WIDTH + k] : own);
            sampled += !given;
        }
        if (k == 0) continue;
        char tap[64];
        snprintf(tap, sizeof tap, "depth.%02d.logits", k - 1);
        d = compare(&log, tap, logits + (k - 1) * CARD, CALLS, DEP_Q * CARD, CARD);
        CHECK(d < 2e-4, "%s: %s differ by %g", m->dir, tap, d);
    }
    CHECK(wrong == 0 && sampled > 300, "%s: %d tokens differ, %d were sampled", m->dir, wrong,
          sampled);
    moshi_engine_close(engine);
    event_log_free(&events);
    tap_log_free(&log);
    tensors_free(&g);
}

/* Six seconds of sound through codec, model and codec. */
static void test_end_to_end(const model *m, bool server) {
    enum { FRAMES = 75, DEP_Q = 8, N = FRAMES * 1920 };
    tensors g = {0}, input = {0};
    if (!load_golden(m, server ? "e2e_server." : "e2e_inference.", &g)) return;
    if (!CHECK(tensors_load(&input, golden_path("mimi-tiny/golden.safetensors")), "no input"))
        return;
    moshi_engine *engine = open_model(m, 0);
    moshi_session *session = open_session(
        engine,
        &(moshi_session_options){.flags = MOSHI_GREEDY | (server ? MOSHI_FIRST_FRAME_SERVER : 0)});
    tap_log log = {0};
    event_log events;
    event_log_init(&events, engine);
    moshi_engine_trace(engine, taps, tap_log_fn, &log);
    run_pcm(engine, session, tensors_f32(&input, N, "input.audio"), N, 0, &events);
    const char *name = server ? "server" : "inference";
    int32_t *codes = step_major(tensors_i32(&g, FRAMES * DEP_Q, "in_codes"), DEP_Q, FRAMES);
    CHECK(first_diff(tap_i32(&log, FRAMES * DEP_Q, "mimi.enc.codes"), codes, FRAMES * DEP_Q) ==
              FRAMES * DEP_Q,
          "%s: codes of the input differ", name);
    check_ints(&log, "lm.in_tokens", &g, "in_tokens");
    const tensor *out = tensors_find(&g, "out_tokens"), *pcm = tensors_find(&g, "out_audio");
    CHECK(events.frames == (size_t)out->shape[0], "%s: %zu frames came out instead of %d", name,
          events.frames, (int)out->shape[0]);
    if (events.frames == (size_t)out->shape[0]) {
        size_t bad = first_diff(events.tokens, out->i, out->count);
        CHECK(bad == out->count, "%s: token %zu of frame %zu differs", name, bad % 9, bad / 9);
    }
    if (CHECK(events.n_pcm == pcm->count, "%s: %zu samples came out", name, events.n_pcm)) {
        double d = max_diff(events.pcm, pcm->f, pcm->count);
        CHECK(d < 1e-5, "%s: audio differs by %g", name, d);
    }
    moshi_engine_close(engine);
    event_log_free(&events);
    tap_log_free(&log);
    tensors_free(&g);
    tensors_free(&input);
    free(codes);
}

int main(void) {
    static const model moshi[] = {{"moshi-tiny", "model.f32.safetensors", "f32", 0},
                                  {"moshi-tiny", "model.safetensors", "bf16w", 0},
                                  {"moshi-tiny", "model.safetensors", "bf16w", MOSHI_EXACT}};
    static const model others[] = {{"hibiki-zero-tiny", "model.safetensors", "bf16w", 0},
                                   {"stt-tiny", "model.safetensors", "bf16w", 0}};
    for (size_t i = 0; i < sizeof moshi / sizeof *moshi; i++) {
        test_free_running(&moshi[i]);
        test_teacher(&moshi[i]);
        test_end_to_end(&moshi[i], false);
        test_end_to_end(&moshi[i], true);
    }
    static const model personaplex = {"personaplex-tiny", "model.safetensors", "bf16w", 0};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) test_free_running(&others[i]);
    test_provided(&personaplex);
    return check_done("test_lm");
}
