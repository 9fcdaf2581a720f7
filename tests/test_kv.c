/* Key/value caches of fewer bits in whole models: what attention gives follows from what came out
 * of the projections and the rule of rounding, streams stay lawful to the last bit, memory shrinks
 * as promised, and what the rounding costs stays within what it must. */
#include "check.h"
#include "make_model.h"
#include "teacher.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const moshi_kv kinds[] = {MOSHI_KV_F32, MOSHI_KV_BF16, MOSHI_KV_Q8_0};
static const char *const names[] = {"f32", "bf16", "q8_0"};
enum { KINDS = 3, FRAMES = 13, LOOSE = 700, SLOTS = 8 };

static made_model model;
static float *speech;
static size_t n_speech;

static moshi_engine *open_kv(const char *path, int kind, int sessions, int threads, int flags) {
    moshi_engine_options o = {.model = path, .sessions = sessions, .threads = threads};
    o.kv = kinds[kind], o.flags = flags;
    if (!path) o.blobs = model.blobs, o.n_blobs = MADE_BLOBS;
    return open_engine_with(&o);
}

/* ---- arithmetic --------------------------------------------------------------------------- */

static void make_shape(int which) {
    model_spec spec;
    spec_small(&spec);
    mo_lm_config *c = &spec.lm;
    spec.seed = 20 + (uint64_t)which;
    spec.lm_dtype = MADE_MIXED;
    if (which == 1) c->dim = 48, c->heads = 12, c->kv_repeat = 3, c->context = 7;
    if (which == 2) c->dim = 40, c->heads = 4, c->rope = MO_ROPE_HALVES, c->kv_repeat = 2;
    model_make(&model, &spec);
}

/* x as it can be kept. */
static void keep(int kind, const float *x, int n, double *out) {
    float most = 0;
    for (int i = 0; i < n; i++) most = fmaxf(most, fabsf(x[i]));
    float d = most / 127.0f;
    for (int i = 0; i < n; i++) {
        out[i] = (double)x[i];
        if (kinds[kind] == MOSHI_KV_BF16) out[i] = (double)mo_bf16_to_f32(mo_f32_to_bf16(x[i]));
        if (kinds[kind] == MOSHI_KV_Q8_0) out[i] = d > 0 ? (double)d * rint((double)(x[i] / d)) : 0;
    }
}

/* The key of one head as the engine computes it, to the bit: everything rounds to float. */
static void rotate_key(const mo_lm_config *c, float *k, int hd, int position) {
    for (int i = 0; i < hd / 2; i++) {
        float slope = (float)(-log((double)c->max_period) * 2.0 / hd);
        float angle = (float)position * (float)exp((double)((float)i * slope));
        float cs = (float)cos((double)angle), sn = (float)sin((double)angle);
        float *re = c->rope == MO_ROPE_PAIRS ? k + 2 * i : k + i;
        float *im = c->rope == MO_ROPE_PAIRS ? k + 2 * i + 1 : k + hd / 2 + i;
        float a = *re, b = *im;
        *re = a * cs - b * sn;
        *im = a * sn + b * cs;
    }
}

/* Attention of the last of n steps: q [hd], kept keys and values [n, hd] -> largest distance of
 * `got` from the sum in double precision, as a share of the values' size. */
static double attend_error(const float *q, const double *k, const double *v, int n, int hd,
                           int context, const float *got) {
    double *e = test_alloc((size_t)n, sizeof *e), total = 0, worst = 0, size = 0;
    int first = n > context ? n - context : 0;
    for (int p = first; p < n; p++) {
        double dot = 0;
        for (int i = 0; i < hd; i++) dot += (double)q[i] * k[p * hd + i];
        total += e[p] = exp(dot / sqrt(hd));
    }
    for (int i = 0; i < hd; i++) {
        double y = 0;
        for (int p = first; p < n; p++) {
            y += e[p] / total * v[p * hd + i];
            size = fmax(size, fabs(v[p * hd + i]));
        }
        worst = fmax(worst, fabs(y - (double)got[i]));
    }
    free(e);
    return worst / size;
}

/* Every head of one layer at every step, from what the projection gave. */
static double layer_error(const mo_lm_config *c, int kind, const tap_log *log, int layer,
                          int steps) {
    int hd = c->dim / c->heads, kv_heads = c->heads / c->kv_repeat;
    int width = c->dim + 2 * kv_heads * hd;
    size_t rows = (size_t)steps;
    const float *qkv = tap_f32(log, rows * (size_t)width, "lm.layer.%02d.in_proj", layer);
    const float *q = tap_f32(log, rows * (size_t)c->dim, "lm.layer.%02d.rope", layer);
    const float *got = tap_f32(log, rows * (size_t)c->dim, "lm.layer.%02d.attend", layer);
    double *k = test_alloc(rows * (size_t)hd, sizeof *k), *v = test_alloc(rows * (size_t)hd, 8);
    double worst = 0;
    for (int h = 0; h < c->heads; h++) {
        int group = h / c->kv_repeat;
        for (int s = 0; s < steps; s++) {
            float key[64];
            const float *row = qkv + (size_t)s * (size_t)width;
            memcpy(key, row + c->dim + group * hd, (size_t)hd * sizeof *key);
            rotate_key(c, key, hd, s);
            keep(kind, key, hd, k + s * hd);
            keep(kind, row + c->dim + (kv_heads + group) * hd, hd, v + s * hd);
        }
        for (int s = 0; s < steps; s++)
            worst = fmax(worst, attend_error(q + s * c->dim + h * hd, k, v, s + 1, hd, c->context,
                                             got + s * c->dim + h * hd));
    }
    free(k);
    free(v);
    return worst;
}

static void test_arithmetic(int which) {
    make_shape(which);
    const mo_lm_config *c = &model.spec.lm;
    int steps = 3 * c->context + 5, users = c->n_q - c->dep_q;
    int32_t *codes = test_alloc((size_t)(steps * users), sizeof *codes);
    test_rng rng = {9};
    for (int i = 0; i < steps * users; i++) codes[i] = rng_below(&rng, c->card);
    for (int kind = 0; kind < KINDS; kind++) {
        moshi_engine *engine = open_kv(NULL, kind, 1, 2, MOSHI_NO_CODEC);
        tap_log log = {0};
        event_log events;
        event_log_init(&events, engine);
        moshi_engine_trace(engine, "lm.layer.*.in_proj lm.layer.*.rope lm.layer.*.attend",
                           tap_log_fn, &log);
        run_codes(engine, open_session(engine, NULL), codes, NULL, (size_t)steps, &events);
        for (int layer = 0; layer < c->layers; layer++) {
            double d = layer_error(c, kind, &log, layer, steps);
            CHECK(d < 1e-5, "shape %d, %s: layer %d differs by %g", which, names[kind], layer, d);
            /* and the rule matters: another type's would be seen */
            double other = layer_error(c, (kind + 1) % KINDS, &log, layer, steps);
            CHECK(other > 1e-4, "shape %d, %s: the rule of %s fits too (%g)", which, names[kind],
                  names[(kind + 1) % KINDS], other);
        }
        moshi_engine_close(engine);
        event_log_free(&events);
        tap_log_free(&log);
    }
    free(codes);
    model_free(&model);
}

/* ---- memory and options ------------------------------------------------------------------- */

static void test_memory(void) {
    const mo_lm_config *c = &model.spec.lm;
    uint64_t rows = 3 * 2 * (uint64_t)(c->layers * c->heads * c->context);
    uint64_t hd = (uint64_t)(c->dim / c->heads), f32_bytes = 0;
    for (int kind = 0; kind < KINDS; kind++) {
        uint64_t row = kind == 0 ? 4 * hd : kind == 1 ? 2 * hd : hd + 4;
        for (int dry = 0; dry < 2; dry++) {
            moshi_engine *engine = open_kv(NULL, kind, 3, 1, dry ? MOSHI_DRY_RUN : 0);
            moshi_engine_info info;
            moshi_engine_get_info(engine, &info);
            CHECK(!strcmp(info.kv, names[kind]), "%s calls itself %s", names[kind], info.kv);
            if (kind == 0) f32_bytes = info.state_bytes;
            uint64_t want = f32_bytes - rows * (4 * hd - row);
            CHECK(info.state_bytes == want, "%s takes %llu bytes instead of %llu", names[kind],
                  (unsigned long long)info.state_bytes, (unsigned long long)want);
            moshi_engine_close(engine);
        }
    }
}

static void test_options(void) {
    static const struct {
        int kv, flags, code;
        const char *says;
    } cases[] = {
        {MOSHI_KV_DEFAULT, 0, 0, ""},
        {MOSHI_KV_F32, MOSHI_EXACT, 0, ""},
        {MOSHI_KV_DEFAULT, MOSHI_EXACT, 0, ""},
        {MOSHI_KV_BF16, MOSHI_EXACT, MOSHI_EINVAL, "wanted f32 with MOSHI_EXACT, found bf16"},
        {MOSHI_KV_Q8_0, MOSHI_EXACT, MOSHI_EINVAL, "wanted f32 with MOSHI_EXACT, found q8_0"},
        {4, 0, MOSHI_EINVAL, "kv: wanted a moshi_kv, found 4"},
        {-1, 0, MOSHI_EINVAL, "kv: wanted a moshi_kv, found -1"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        moshi_engine_options o = {.blobs = model.blobs, .n_blobs = MADE_BLOBS, .threads = 1};
        moshi_error err = {0};
        moshi_engine *engine = NULL;
        o.flags = cases[i].flags;
        memcpy(&o.kv, &cases[i].kv, sizeof o.kv);
        int rc = moshi_engine_open(&engine, &o, &err);
        CHECK(rc == cases[i].code && strstr(err.text, cases[i].says), "kv %d, flags %d: %d, \"%s\"",
              cases[i].kv, cases[i].flags, rc, err.text);
        moshi_engine_info info = {0};
        if (rc == 0) moshi_engine_get_info(engine, &info);
        CHECK(rc < 0 || !strcmp(info.kv, "f32"), "kv %d is %s", cases[i].kv, info.kv);
        moshi_engine_close(engine);
    }
}

/* ---- laws --------------------------------------------------------------------------------- */

static event_log alone(int kind, int threads, size_t chunk) {
    event_log log;
    moshi_engine *engine = open_kv(NULL, kind, 1, threads, 0);
    event_log_init(&log, engine);
    moshi_session *session = open_session(engine, &(moshi_session_options){.seed = 5});
    run_pcm(engine, session, speech, n_speech, chunk, &log);
    moshi_engine_close(engine);
    return log;
}

static void law_pieces(int kind, const event_log *whole) {
    static const size_t chunks[] = {7, 1919, 1921, 0};
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
        event_log cut = alone(kind, 1 + (int)i, chunks[i]);
        CHECK(event_log_same(whole, &cut), "%s: chunks of %zu and %zu threads change the result",
              names[kind], chunks[i], i + 1);
        event_log_free(&cut);
    }
}

static void law_reset(int kind, const event_log *whole) {
    moshi_engine *engine = open_kv(NULL, kind, 1, 2, 0);
    moshi_session *session = open_session(engine, &(moshi_session_options){.seed = 5});
    for (int round = 0; round < 3; round++) {
        event_log again;
        moshi_push_pcm(session, speech + 100, (size_t)round * 5000);
        while (moshi_step(engine) > 0) continue;
        moshi_session_reset(session);
        event_log_init(&again, engine);
        run_pcm(engine, session, speech, n_speech, 0, &again);
        CHECK(event_log_same(whole, &again), "%s: a reset is not fresh", names[kind]);
        event_log_free(&again);
        moshi_session_reset(session);
    }
    moshi_engine_close(engine);
}

/* Slot k among eight that come, go and speak of other things. */
static void law_neighbours(int kind, const event_log *whole) {
    for (int k = 0; k < SLOTS; k++) {
        moshi_engine *engine = open_kv(NULL, kind, SLOTS, 1 + k % 2, 0);
        moshi_session *s[SLOTS];
        test_rng rng = {(uint64_t)(60 + k)};
        event_log log;
        for (int i = 0; i < SLOTS; i++)
            s[i] = open_session(engine, &(moshi_session_options){.seed = i == k ? 5 : 77});
        event_log_init(&log, engine);
        size_t at = 0;
        while (!log.ended) {
            int other = rng_below(&rng, SLOTS);
            moshi_event ev;
            if (other != k && rng_below(&rng, 5) == 0) moshi_session_reset(s[other]);
            if (other != k) moshi_push_pcm(s[other], speech, (size_t)rng_below(&rng, 9000));
            for (int i = 0; i < SLOTS; i++)
                while (i != k && moshi_pull(s[i], &ev) > 0) continue;
            size_t n = (size_t)rng_below(&rng, 6000);
            if (n > n_speech - at) n = n_speech - at;
            at += (size_t)moshi_push_pcm(s[k], speech + at, n);
            if (at == n_speech) moshi_push_end(s[k]);
            moshi_step(engine);
            event_log_drain(&log, s[k]);
        }
        CHECK(event_log_same(whole, &log), "%s: slot %d says something else", names[kind], k);
        event_log_free(&log);
        moshi_engine_close(engine);
    }
}

/* Of f32 they are told in test_laws.c. */
static void test_laws(void) {
    for (int kind = 1; kind < KINDS; kind++) {
        event_log whole = alone(kind, 1, n_speech);
        CHECK(whole.frames == FRAMES + 1, "%s: %zu frames", names[kind], whole.frames);
        law_pieces(kind, &whole);
        law_reset(kind, &whole);
        law_neighbours(kind, &whole);
        event_log_free(&whole);
    }
}

/* ---- cost --------------------------------------------------------------------------------- */

/* How far the logits may be off, as a share of their size. A number kept in bf16 is wrong by
 * 2^-9 / sqrt(3) of itself, one of a row of 64 bytes by d / sqrt(12), d = 2.9 / 127 of the row's
 * size (2.9: the largest of 64 normal numbers). Scores of up to 20 in a head of 64 then move by
 * 20 / 8 = 2.5 times that, so what a layer attends to is off by sqrt(1 + 2.5^2) = 2.7 times it; six
 * layers add up as squares do, and at the worst nothing else is in the sum they add to. */
static double allowed_error(int kind) {
    double row = kind == 1 ? 0x1p-9 / sqrt(3) : 2.9 / 127 / sqrt(12);
    return kind == 0 ? 0 : row * 2.7 * sqrt(6);
}

/* And a distribution whose logits move by independent amounts of variance s^2 diverges by
 * s^2 / 2. */
static void check_cost(int kind, const char *stream, const marks *m) {
    double error = sqrt(m->error / m->signal), kl = m->kl / (double)m->n;
    double most = allowed_error(kind), moved = most * sqrt(m->signal / (double)m->logits);
    printf("  kv %-4s %-5s logits off by %.5f of their size (allowed %.5f), largest %.3f; KL %.1e "
           "(allowed %.1e), worst %.1e; %zu of %zu alike\n",
           names[kind], stream, error, most, m->largest, kl, moved * moved / 2, m->worst_kl,
           m->same, m->n);
    CHECK(error <= most, "%s, %s: logits off by %g of their size", names[kind], stream, error);
    CHECK(kl <= moved * moved / 2, "%s, %s: KL %g", names[kind], stream, kl);
    CHECK(kind == 0 || error > most / 100, "%s, %s: nothing was rounded", names[kind], stream);
    CHECK(m->n - m->same <= m->n / 200, "%s, %s: only %zu of %zu tokens alike", names[kind], stream,
          m->same, m->n);
}

static void test_cost(void) {
    static const char *const paths[] = {"samples/00_what_is_three_plus_seven_user.wav",
                                        "samples/03_tell_me_the_days_of_the_week_user.wav"};
    lesson lessons[2];
    moshi_engine *yardstick = open_kv("models/demo", 0, 1, 2, MOSHI_EXACT);
    for (int i = 0; i < 2; i++) {
        size_t n;
        float *pcm = load_speech(paths[i], 40, &n);
        lesson_record(&lessons[i], yardstick, pcm, n);
        free(pcm);
    }
    moshi_engine_close(yardstick);
    for (int kind = 0; kind < KINDS; kind++) {
        moshi_engine *variant =
            open_kv("models/demo", kind, 1, 2, MOSHI_NO_CODEC | (kind ? 0 : MOSHI_EXACT));
        marks text = {0}, audio = {0};
        for (int i = 0; i < 2; i++) lesson_take(&lessons[i], variant, &text, &audio);
        check_cost(kind, "text", &text);
        check_cost(kind, "audio", &audio);
        moshi_engine_close(variant);
    }
    for (int i = 0; i < 2; i++) lesson_free(&lessons[i]);
}

int main(void) {
    for (int which = 0; which < 3; which++) test_arithmetic(which);
    make_shape(0);
    n_speech = FRAMES * 1920 + LOOSE;
    speech = test_alloc(n_speech, sizeof *speech);
    test_signal(speech, n_speech, 4);
    test_memory();
    test_options();
    test_laws();
    test_cost();
    model_free(&model);
    free(speech);
    return check_done("test_kv");
}
