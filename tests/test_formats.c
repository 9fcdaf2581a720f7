/* The same model in every format it is published in: PyTorch, candle and MLX names, int8, ggml
 * blocks and MLX groups, against runs of the original with the unpacked weights: exactly, and as
 * computed on quantised weights, whose distance is measured and must stay within theory. */
#include "check.h"
#include "drive.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* Largest difference between the logits of a head and the recorded ones: 0 text, 1 + k codebook k.
 */
static double error_of(const tap_log *log, const tensors *g, const char *prefix,
                       const moshi_engine_info *info, int head) {
    size_t card = (size_t)info->card, dep_q = (size_t)info->dep_q;
    char name[64];
    if (head == 0) {
        snprintf(name, sizeof name, "%stext_logits", prefix);
        const tensor *text = tensors_find(g, name);
        size_t n = STEPS * (text->count / (size_t)text->shape[0]);
        return max_diff(tap_f32(log, n, "lm.text_logits"), text->f, n);
    }
    const float *got = tap_f32(log, STEPS * card, "depth.%02d.logits", head - 1);
    const float *want = tensors_f32(g, 0, "%sdep_logits", prefix) + (size_t)(head - 1) * card;
    double worst = 0;
    for (size_t s = 0; s < STEPS; s++)
        worst = fmax(worst, max_diff(got + s * card, want + s * dep_q * card, card));
    return worst;
}

static void check_logits(const tap_log *exact, const tap_log *fast, const tensors *g,
                         const char *prefix, const moshi_engine_info *info, const char *what) {
    double audio = 0, audio_fast = 0;
    for (int head = 0; head <= info->dep_q; head++) {
        double e = error_of(exact, g, prefix, info, head);
        CHECK(e < 2e-4, "%s: logits of head %d differ by %g", what, head, e);
        if (head == 0) continue;
        audio = fmax(audio, e);
        audio_fast = fmax(audio_fast, error_of(fast, g, prefix, info, head));
    }
    printf("%s: largest difference from the recorded logits: text %.1e exact, %.1e fast; audio "
           "%.1e exact, %.1e fast\n",
           what, error_of(exact, g, prefix, info, 0), error_of(fast, g, prefix, info, 0), audio,
           audio_fast);
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

/* ---- the distance of computing on quantised weights ---------------------------------------- */

/* What rounding activations to int8 in blocks of 32 costs one matrix, as relative RMS: 0.5 % of
 * Gaussian numbers (a step is amax / 127, an error step / sqrt(12), amax about 2.1 sigma), 1 % with
 * outliers. Errors of matrices one after the other are independent and add up as squares. */
static double expected_rms(int matrices) {
    return 0.0103 * sqrt((double)matrices);
}

/* Matrices between the tokens and the logits of a head: 0 text, 1 + k codebook k. */
static int matrices_before(const moshi_model_info *m, int head) {
    int temporal = 4 * m->layers + 1;
    return head == 0 ? temporal : temporal + 4 * m->depformer_layers + 1;
}

/* Logits of one head over all steps, in order. */
typedef struct logits {
    float *v;
    size_t steps, card;
} logits;

static logits logits_of(const tap_log *log, const moshi_engine_info *info, int head) {
    const tap_series *text = tap_find(log, "lm.text_logits");
    logits l = {NULL, STEPS, head ? (size_t)info->card : text->width};
    const float *from = head ? tap_f32(log, l.steps * l.card, "depth.%02d.logits", head - 1)
                             : tap_f32(log, l.steps * l.card, "lm.text_logits");
    l.v = test_alloc(l.steps * l.card, sizeof *l.v);
    memcpy(l.v, from, l.steps * l.card * sizeof *l.v);
    return l;
}

typedef struct distance {
    double rms, max; /* of the difference, relative to the spread of the logits */
    double kl;       /* mean, in nats */
    int agree, steps;
    int wrong; /* first choices that differ although the margin is far above the noise */
} distance;

static int first_of(const float *v, size_t n) {
    int best = 0;
    for (size_t i = 1; i < n; i++)
        if (v[i] > v[best]) best = (int)i;
    return best;
}

/* By how much the first choice leads. */
static double margin_of(const float *v, size_t n) {
    int best = first_of(v, n);
    double second = -INFINITY;
    for (size_t i = 0; i < n; i++)
        if ((int)i != best && (double)v[i] > second) second = (double)v[i];
    return (double)v[best] - second;
}

static double mean_of(const float *v, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)v[i];
    return sum / (double)n;
}

static double kl_of(const float *p, const float *q, size_t n) {
    double zp = 0, zq = 0, kl = 0;
    for (size_t i = 0; i < n; i++) {
        zp += exp((double)p[i]);
        zq += exp((double)q[i]);
    }
    for (size_t i = 0; i < n; i++)
        kl += exp((double)p[i]) / zp * ((double)p[i] - log(zp) - (double)q[i] + log(zq));
    return kl;
}

/* Root mean square of the logits around each step's mean: what softmax sees. */
static double spread_of(const logits *l) {
    double sum = 0;
    for (size_t s = 0; s < l->steps; s++) {
        const float *v = l->v + s * l->card;
        double mean = mean_of(v, l->card);
        for (size_t i = 0; i < l->card; i++) sum += pow((double)v[i] - mean, 2);
    }
    return sqrt(sum / (double)(l->steps * l->card));
}

/* A first choice may change only where two logits, each off by the expected error, meet: beyond six
 * standard deviations of their difference it must not. */
static double safe_margin(const logits *want, double expected) {
    return 6 * sqrt(2.0) * expected * spread_of(want);
}

static distance distance_of(const logits *want, const logits *got, double expected) {
    distance d = {.steps = (int)want->steps};
    double sum = 0, spread = spread_of(want), safe = safe_margin(want, expected);
    for (size_t s = 0; s < want->steps; s++) {
        const float *p = want->v + s * want->card, *q = got->v + s * want->card;
        double shift = mean_of(q, want->card) - mean_of(p, want->card);
        for (size_t i = 0; i < want->card; i++) {
            double e = (double)q[i] - (double)p[i] - shift;
            sum += e * e;
            d.max = fmax(d.max, fabs(e) / spread);
        }
        d.kl += kl_of(p, q, want->card) / (double)want->steps;
        bool same = first_of(p, want->card) == first_of(q, want->card);
        d.agree += same;
        d.wrong += !same && margin_of(p, want->card) > safe;
    }
    d.rms = sqrt(sum / (double)(want->steps * want->card)) / spread;
    return d;
}

static void check_distance(const moshi_model_info *m, const logits *want, const logits *got,
                           int head, bool quantised, const char *what) {
    double expected = expected_rms(matrices_before(m, head));
    distance d = distance_of(want, got, expected);
    if (!quantised) {
        CHECK(d.max == 0, "%s: head %d: floats are no longer exact", what, head);
        return;
    }
    if (head < 2)
        printf("%s: %s logits: error %.2f %% of their spread (expected at most %.2f), largest "
               "%.1f %%, KL %.5f, first choice the same in %d of %d\n",
               what, head ? "audio" : "text", 100 * d.rms, 100 * expected, 100 * d.max, d.kl,
               d.agree, d.steps);
    CHECK(d.rms > 0, "%s: head %d: was not computed on quantised weights", what, head);
    CHECK(d.rms < expected, "%s: head %d: error %.2f %%, expected %.2f", what, head, 100 * d.rms,
          100 * expected);
    /* Longer tails than normal ones: steps differ in how far errors grow. */
    CHECK(d.max < 10 * expected,
          "%s: head %d: a logit is off by %.1f %%, ten times %.2f is the limit", what, head,
          100 * d.max, 100 * expected);
    CHECK(d.wrong == 0, "%s: head %d: %d first choices differ by more than noise", what, head,
          d.wrong);
}

/* Running free, the first token that differs must have been a close call. */
static void check_free(const moshi_model_info *m, const tap_log *want, const tap_log *got,
                       const moshi_engine_info *info, const char *what) {
    for (size_t s = 0; s < STEPS; s++)
        for (int head = 0; head <= info->dep_q; head++) {
            const int32_t *a = head ? tap_i32(want, STEPS, "depth.%02d.token", head - 1)
                                    : tap_i32(want, STEPS, "lm.text_token");
            const int32_t *b = head ? tap_i32(got, STEPS, "depth.%02d.token", head - 1)
                                    : tap_i32(got, STEPS, "lm.text_token");
            if (a[s] == b[s]) continue;
            logits l = logits_of(want, info, head);
            double margin = margin_of(l.v + s * l.card, l.card);
            double safe = safe_margin(&l, expected_rms(matrices_before(m, head)));
            CHECK(margin <= safe, "%s: token %d of step %zu differs, its margin was %g of %g", what,
                  head, s, margin, safe);
            printf("%s: free: the same tokens up to step %zu, channel %d\n", what, s, head);
            free(l.v);
            return;
        }
    printf("%s: free: the same tokens in all %d steps\n", what, STEPS);
}

/* ---- both ways ------------------------------------------------------------------------------ */

typedef struct both_runs {
    tap_log forced, free;
    uint64_t weight_bytes;
} both_runs;

static both_runs run_both(const char *path, int flags, const int32_t *codes, const int32_t *force) {
    moshi_engine *engine = open_engine(path, NULL, 0, 1, 1, MOSHI_NO_CODEC | flags);
    moshi_engine_info info;
    moshi_engine_get_info(engine, &info);
    both_runs r = {run(engine, codes, force), run(engine, codes, NULL), info.weight_bytes};
    moshi_engine_close(engine);
    return r;
}

static void both_free(both_runs *r) {
    tap_log_free(&r->forced);
    tap_log_free(&r->free);
}

static void test_quantised(const char *path, const both_runs *exact, const both_runs *fast,
                           const moshi_engine_info *info, bool quantised, const char *name) {
    moshi_model_info *m;
    moshi_error err;
    if (moshi_inspect(&m, &(moshi_inspect_options){.model = path, .flags = MOSHI_INSPECT_QUICK},
                      &err) < 0)
        test_die("%s", err.text);
    for (int head = 0; head <= info->dep_q; head++) {
        logits want = logits_of(&exact->forced, info, head);
        logits got = logits_of(&fast->forced, info, head);
        check_distance(m, &want, &got, head, quantised, name);
        free(want.v);
        free(got.v);
    }
    if (quantised) check_free(m, &exact->free, &fast->free, info, name);
    if (quantised)
        CHECK(fast->weight_bytes < exact->weight_bytes / 2, "%s: %llu bytes of weights, exact %llu",
              name, (unsigned long long)fast->weight_bytes,
              (unsigned long long)exact->weight_bytes);
    moshi_model_info_free(m);
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
    moshi_engine *engine = open_engine(path, NULL, 0, 1, 1, MOSHI_NO_CODEC | MOSHI_DRY_RUN);
    moshi_engine_info info;
    moshi_engine_get_info(engine, &info);
    int32_t *codes, *force;
    inputs(&plain, &info, &codes, &force);
    const tensors *g = f->recorded ? &packed : &plain;

    both_runs exact = run_both(path, MOSHI_EXACT, codes, force);
    both_runs fast = run_both(path, 0, codes, force);
    check_logits(&exact.forced, &fast.forced, g, f->recorded ? "forced." : "", &info, name);
    snprintf(what, sizeof what, "%s, free", name);
    check_tokens(&exact.free, g, f->recorded ? "free." : "", &info, what);

    test_quantised(path, &exact, &fast, &info, f->recorded != NULL, name);
    CHECK(fast.weight_bytes == info.weight_bytes,
          "%s: a dry run counts %llu bytes of weights, %llu", name,
          (unsigned long long)info.weight_bytes, (unsigned long long)fast.weight_bytes);

    both_free(&exact);
    both_free(&fast);
    free(codes);
    free(force);
    moshi_engine_close(engine);
    tensors_free(&plain);
    tensors_free(&packed);
}

/* A converted model takes that much less memory as its file is smaller. */
static void test_memory(const char *type) {
    char dir[] = "/tmp/moshi-formats-XXXXXX", out[64];
    const char *paths[] = {"models/demo", out};
    double file[2], held[2];
    moshi_error err;
    if (!mkdtemp(dir)) test_die("no temporary directory");
    snprintf(out, sizeof out, "%s/model.gguf", dir);
    if (moshi_convert(paths[0], out, &(moshi_convert_options){.type = type}, &err) < 0)
        test_die("%s", err.text);
    for (int i = 0; i < 2; i++) {
        moshi_model_info *m;
        moshi_inspect_options options = {.model = paths[i], .flags = MOSHI_INSPECT_QUICK};
        if (moshi_inspect(&m, &options, &err) < 0) test_die("%s", err.text);
        file[i] = held[i] = 0;
        for (size_t t = 0; t < m->n_tensors; t++) file[i] += (double)m->tensors[t].bytes;
        moshi_model_info_free(m);
        moshi_engine *engine = open_engine(paths[i], NULL, 0, 1, 1, MOSHI_DRY_RUN);
        moshi_engine_info info;
        moshi_engine_get_info(engine, &info);
        held[i] = (double)info.weight_bytes;
        moshi_engine_close(engine);
    }
    remove(out);
    rmdir(dir);
    printf("%s: %.2f MB smaller than bfloat16 in the file, %.2f MB in memory\n", type,
           (file[0] - file[1]) * 1e-6, (held[0] - held[1]) * 1e-6);
    CHECK(held[0] - held[1] > 0.97 * (file[0] - file[1]),
          "%s: %.0f bytes of weights, bfloat16 %.0f", type, held[1], held[0]);
}

int main(void) {
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) test_format(&formats[i]);
    test_memory("q8_0");
    test_memory("q4_K");
    return check_done("test_formats");
}
