/* The engine against the oracles on models nobody trained: sizes, layer counts, delays, contexts,
 * vocabularies, codebook counts, weight sharing and name spellings drawn far from the published
 * ones. */
#include "check.h"
#include "drive.h"
#include "make_model.h"
#include "oracle_lm.h"
#include "oracle_mimi.h"
#include "sanitizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Where the oracle's best two are closer than this, rounding may decide; such a choice is not
 * judged, only counted. */
static const double TIE = 1e-4;
static int ties, choices;

static const char lm_taps[] = "lm.in_tokens lm.out_norm lm.text_logits lm.text_token lm.out_tokens "
                              "depth.*.logits depth.*.token mimi.enc.codes";

static double largest(const double *x, size_t n) {
    double top = 1;
    for (size_t i = 0; i < n; i++) top = fmax(top, fabs(x[i]));
    return top;
}

/* Is `token` what the oracle would have chosen? */
static bool agrees(int token, const double *logits, int n) {
    double margin;
    int best = oracle_argmax(logits, n, &margin);
    choices++;
    if (margin < TIE) ties++;
    return token == best || margin < TIE;
}

/* ---- language model ----------------------------------------------------------------------- */

/* What a run of an engine left in the taps, step by step. */
typedef struct lm_run {
    const mo_lm_config *c;
    const tensors *w;
    const tap_log *log;
    const char *name;
    int steps;
} lm_run;

/* Chosen tokens of all steps: text [steps], audio [steps, dep_q]. */
static void chosen(const lm_run *r, int32_t *text, int32_t *audio) {
    memcpy(text, tap_i32(r->log, (size_t)r->steps, "lm.text_token"),
           (size_t)r->steps * sizeof *text);
    for (int k = 0; k < r->c->dep_q; k++) {
        const int32_t *t = tap_i32(r->log, (size_t)r->steps, "depth.%02d.token", k);
        for (int s = 0; s < r->steps; s++) audio[s * r->c->dep_q + k] = t[s];
    }
}

static void check_grid(const lm_run *r, const int32_t *user, const int32_t *text,
                       const int32_t *audio) {
    size_t in_n = (size_t)r->steps * (1 + (size_t)r->c->n_q);
    size_t out_n = (size_t)r->steps * (1 + (size_t)r->c->dep_q);
    int32_t *in = test_alloc(in_n, sizeof *in), *out = test_alloc(out_n, sizeof *out);
    oracle_grid(r->c, r->steps, user, text, audio, in, out);
    size_t bad = first_diff(tap_i32(r->log, in_n, "lm.in_tokens"), in, in_n);
    CHECK(bad == in_n, "%s: step %zu: input of channel %zu differs", r->name,
          bad / (1 + (size_t)r->c->n_q), bad % (1 + (size_t)r->c->n_q));
    CHECK(first_diff(tap_i32(r->log, out_n, "lm.out_tokens"), out, out_n) == out_n,
          "%s: outputs differ", r->name);
    free(in);
    free(out);
}

static void check_depth(const lm_run *r, const double *normed, const int32_t *text,
                        const int32_t *audio) {
    const mo_lm_config *c = r->c;
    size_t card = (size_t)c->card;
    double *hidden = test_alloc((size_t)(c->dep_q * c->dep_dim), sizeof *hidden);
    double *logits = test_alloc((size_t)c->dep_q * card, sizeof *logits);
    double worst = 0;
    int wrong = 0;
    for (int s = 0; s < r->steps; s++) {
        oracle_lm_depth(c, r->w, normed + s * c->dim, text[s], audio + s * c->dep_q, hidden,
                        logits);
        for (int k = 0; k < c->dep_q; k++) {
            const double *want = logits + (size_t)k * card;
            const float *got = tap_f32(r->log, (size_t)r->steps * card, "depth.%02d.logits", k);
            worst =
                fmax(worst, max_diff_d(got + (size_t)s * card, want, card) / largest(want, card));
            wrong += !agrees(audio[s * c->dep_q + k], want, c->card);
        }
    }
    CHECK(worst < 2e-4, "%s: depth logits differ by %g of their size", r->name, worst);
    CHECK(wrong == 0, "%s: %d audio tokens are not the most likely ones", r->name, wrong);
    free(hidden);
    free(logits);
}

/* Everything the engine computed, from nothing but what it chose. */
static void check_lm(const lm_run *r, const int32_t *user) {
    const mo_lm_config *c = r->c;
    size_t steps = (size_t)r->steps, card = (size_t)c->text_card_out;
    int32_t *text = test_alloc(steps, sizeof *text);
    int32_t *audio = test_alloc(steps * (size_t)c->dep_q, sizeof *audio);
    oracle_temporal t;
    chosen(r, text, audio);
    check_grid(r, user, text, audio);
    oracle_lm_temporal(c, r->w, tap_i32(r->log, 0, "lm.in_tokens"), r->steps, 0, &t);
    size_t n = steps * (size_t)c->dim;
    double d = max_diff_d(tap_f32(r->log, n, "lm.out_norm"), t.normed, n) / largest(t.normed, n);
    CHECK(d < 2e-4, "%s: out_norm differs by %g of its size", r->name, d);
    n = steps * card;
    d = max_diff_d(tap_f32(r->log, n, "lm.text_logits"), t.logits, n) / largest(t.logits, n);
    CHECK(d < 2e-4, "%s: text logits differ by %g of their size", r->name, d);
    int wrong = 0;
    for (size_t s = 0; s < steps; s++) wrong += !agrees(text[s], t.logits + s * card, (int)card);
    CHECK(wrong == 0, "%s: %d text tokens are not the most likely ones", r->name, wrong);
    if (c->dep_q) check_depth(r, t.normed, text, audio);
    oracle_temporal_free(&t);
    free(text);
    free(audio);
}

static void run_lm_shape(const model_spec *spec, const char *name, int flags) {
    made_model m;
    model_make(&m, spec);
    const mo_lm_config *c = &m.spec.lm;
    int users = c->n_q - c->dep_q, steps = c->context + c->max_delay + 8;
    moshi_engine *engine = open_engine(NULL, m.blobs, MADE_BLOBS, 1, 2, MOSHI_NO_CODEC | flags);
    moshi_session *session = open_session(engine, &(moshi_session_options){.flags = MOSHI_GREEDY});
    int32_t *user = test_alloc((size_t)(steps * users), sizeof *user);
    test_rng rng = {spec->seed + 7};
    for (int i = 0; i < steps * users; i++) user[i] = rng_below(&rng, c->card);
    tap_log log = {0};
    event_log events;
    event_log_init(&events, engine);
    moshi_engine_trace(engine, lm_taps, tap_log_fn, &log);
    run_codes(engine, session, user, NULL, (size_t)steps, &events);
    check_lm(&(lm_run){c, &m.lm, &log, name, steps}, user);
    CHECK(events.frames == (size_t)(steps - c->max_delay), "%s: %zu frames came out of %d steps",
          name, events.frames, steps);
    moshi_engine_close(engine);
    event_log_free(&events);
    tap_log_free(&log);
    model_free(&m);
    free(user);
}

static void set_delays(mo_lm_config *c, const int *pattern, int n) {
    memset(c->delays, 0, sizeof c->delays);
    for (int i = 0; i <= c->n_q; i++) c->delays[i] = pattern[i % n];
}

static void set_schedule(mo_lm_config *c, int sets) {
    c->dep_sets = sets;
    for (int k = 0; k < c->dep_q; k++) c->dep_schedule[k] = k < sets ? k : sets - 1;
}

/* One line per shape; what is 0 stays as spec_small() has it. */
typedef struct lm_shape {
    const char *name;
    int dim, layers, heads, kv_repeat, hidden, context;
    mo_rope_kind rope;
    int n_q, dep_q, card, text_card, text_card_out;
    int dep_dim, dep_layers, dep_heads, dep_hidden, sets, low_rank;
    bool dep_norm, coarse_eps;
    int extra_heads;
    int delays[4], n_delays;
    made_names names;
    int dtype;
} lm_shape;

static const lm_shape lm_shapes[] = {
    {.name = "small", .dtype = MO_BF16},
    {.name = "official topology",
     .n_q = 16,
     .dep_q = 8,
     .delays = {0, 1},
     .n_delays = 2,
     .dtype = MO_BF16,
     .names = MADE_DOTTED},
    {.name = "odd sizes",
     .dim = 30,
     .heads = 3,
     .hidden = 37,
     .card = 13,
     .text_card = 11,
     .dep_dim = 15,
     .dep_heads = 5,
     .dep_hidden = 17,
     .dtype = MO_F32},
    {.name = "one head, one layer",
     .layers = 1,
     .heads = 1,
     .dep_layers = 1,
     .dep_heads = 1,
     .context = 1,
     .dtype = MO_F16,
     .names = MADE_PER_SET},
    {.name = "grouped heads",
     .dim = 48,
     .heads = 12,
     .kv_repeat = 3,
     .context = 7,
     .dtype = MADE_MIXED},
    {.name = "half rotation",
     .rope = MO_ROPE_HALVES,
     .dim = 40,
     .heads = 4,
     .kv_repeat = 2,
     .context = 17,
     .dtype = MO_F32,
     .names = MADE_PER_SET},
    {.name = "five delays",
     .n_q = 7,
     .dep_q = 3,
     .delays = {2, 0, 5, 1},
     .n_delays = 4,
     .context = 40,
     .dtype = MO_BF16},
    {.name = "late text",
     .n_q = 3,
     .dep_q = 1,
     .delays = {3, 0, 1},
     .n_delays = 3,
     .dtype = MO_F32},
    {.name = "no delay", .n_q = 5, .dep_q = 5, .delays = {0}, .n_delays = 1, .dtype = MO_BF16},
    {.name = "shared sets",
     .n_q = 9,
     .dep_q = 7,
     .sets = 3,
     .delays = {0, 2},
     .n_delays = 2,
     .dtype = MADE_MIXED,
     .names = MADE_DOTTED},
    {.name = "low rank",
     .n_q = 6,
     .dep_q = 4,
     .sets = 2,
     .low_rank = 5,
     .dtype = MO_BF16,
     .names = MADE_PER_SET},
    {.name = "depth norm",
     .n_q = 6,
     .dep_q = 3,
     .dep_norm = true,
     .coarse_eps = true,
     .dtype = MO_F16},
    {.name = "listens only",
     .n_q = 32,
     .dep_q = 0,
     .delays = {0},
     .n_delays = 1,
     .extra_heads = 4,
     .dtype = MO_BF16},
    {.name = "speaks only", .n_q = 3, .dep_q = 3, .text_card_out = 21, .dtype = MO_F32},
    {.name = "deep and wide",
     .dim = 112,
     .layers = 3,
     .heads = 7,
     .hidden = 130,
     .context = 33,
     .dep_dim = 72,
     .dep_layers = 3,
     .dep_heads = 3,
     .dep_hidden = 50,
     .dtype = MADE_MIXED},
};

static void or_keep(int *field, int value) {
    if (value) *field = value;
}

static void shape_spec(model_spec *spec, const lm_shape *s) {
    spec_small(spec);
    mo_lm_config *c = &spec->lm;
    or_keep(&c->dim, s->dim), or_keep(&c->layers, s->layers), or_keep(&c->heads, s->heads);
    or_keep(&c->kv_repeat, s->kv_repeat), or_keep(&c->hidden, s->hidden);
    or_keep(&c->context, s->context);
    or_keep(&c->n_q, s->n_q), or_keep(&c->card, s->card), or_keep(&c->text_card, s->text_card);
    if (s->n_q) c->dep_q = s->dep_q;
    c->text_card_out = s->text_card_out;
    or_keep(&c->dep_dim, s->dep_dim), or_keep(&c->dep_layers, s->dep_layers);
    or_keep(&c->dep_heads, s->dep_heads), or_keep(&c->dep_hidden, s->dep_hidden);
    if (s->rope) c->rope = s->rope;
    if (s->sets) set_schedule(c, s->sets);
    if (s->n_delays) set_delays(c, s->delays, s->n_delays);
    if (s->coarse_eps) c->norm_eps = 1e-5f;
    c->dep_low_rank = s->low_rank, c->dep_norm = s->dep_norm;
    c->extra_heads = s->extra_heads, c->extra_heads_dim = 6;
    spec->names = s->names, spec->lm_dtype = s->dtype;
}

/* A shape out of the blue, the same for the same seed. */
static void random_spec(model_spec *spec, uint64_t seed) {
    test_rng r = {seed * 977};
    spec_small(spec);
    mo_lm_config *c = &spec->lm;
    c->heads = 1 + rng_below(&r, 6), c->dim = c->heads * 2 * (1 + rng_below(&r, 9));
    c->layers = 1 + rng_below(&r, 3), c->hidden = 1 + rng_below(&r, 90);
    while (2 * (3 * c->hidden + 1) / 2 == 8 * c->dim) c->hidden++; /* the special case of 4 * dim */
    c->context = 1 + rng_below(&r, 40), c->max_period = (float)(10 + rng_below(&r, 100000));
    if (c->heads % 2 == 0 && rng_below(&r, 2)) c->kv_repeat = 2;
    c->rope = rng_below(&r, 2) ? MO_ROPE_PAIRS : MO_ROPE_HALVES;
    c->n_q = 1 + rng_below(&r, 12), c->dep_q = rng_below(&r, c->n_q + 1);
    c->card = 1 + rng_below(&r, 150), c->text_card = 4 + rng_below(&r, 150);
    int delays[4];
    for (int i = 0; i < 4; i++) delays[i] = rng_below(&r, 6);
    set_delays(c, delays, 4);
    c->dep_heads = 1 + rng_below(&r, 5), c->dep_dim = c->dep_heads * (1 + rng_below(&r, 20));
    c->dep_layers = 1 + rng_below(&r, 3), c->dep_hidden = 1 + rng_below(&r, 60);
    while (2 * (3 * c->dep_hidden + 1) / 2 == 8 * c->dep_dim) c->dep_hidden++;
    if (c->dep_q > 1 && rng_below(&r, 2)) set_schedule(c, 1 + rng_below(&r, c->dep_q));
    if (rng_below(&r, 3) == 0) c->dep_low_rank = 1 + rng_below(&r, 9);
    c->dep_norm = rng_below(&r, 3) == 0;
    spec->names = (made_names)rng_below(&r, MADE_NAMES_COUNT);
    spec->lm_dtype = MADE_MIXED;
    spec->seed = seed;
}

static void test_lm_shapes(void) {
    model_spec spec;
    char name[64];
    for (size_t i = 0; i < sizeof lm_shapes / sizeof *lm_shapes; i++) {
        shape_spec(&spec, &lm_shapes[i]);
        run_lm_shape(&spec, lm_shapes[i].name, i % 2 ? MOSHI_EXACT : 0);
    }
    for (uint64_t seed = 1; seed <= (SANITIZED ? 8 : 40); seed++) {
        random_spec(&spec, seed);
        snprintf(name, sizeof name, "random shape %d", (int)seed);
        run_lm_shape(&spec, name, seed % 2 ? MOSHI_EXACT : 0);
    }
}

/* ---- codec -------------------------------------------------------------------------------- */

static void check_latent(const tap_log *log, const char *tap, signal s, const char *name) {
    size_t n = (size_t)s.channels * (size_t)s.n;
    const tap_series *series = tap_find(log, tap);
    /* a stream that ends inside a call: its taps go on into the silence */
    if (series && series->calls * series->width > n) return;
    float *got = tap_channels(log, n, tap);
    double d = max_diff_d(got, s.x, n) / largest(s.x, n);
    CHECK(d < 2e-5, "%s: %s differs by %g of its size", name, tap, d);
    free(got);
}

/* got: [frames, codebooks]. A code may differ where the oracle's two nearest are as good as equal;
 * the codes after it quantise another rest and say nothing. */
static void check_codes(const oracle_codes *want, const int32_t *got, int codebooks, int semantic,
                        int frames, const char *name) {
    int wrong = 0;
    for (int t = 0; t < frames; t++) {
        bool off = false;
        for (int k = 0; k < codebooks; k++) {
            if (k == semantic) off = false; /* the second quantiser starts from the latent again */
            choices++;
            if (off || want->margin[k * frames + t] < TIE) {
                ties++;
                off = off || got[t * codebooks + k] != want->codes[k * frames + t];
            } else {
                wrong += got[t * codebooks + k] != want->codes[k * frames + t];
            }
        }
    }
    CHECK(wrong == 0, "%s: %d codes differ", name, wrong);
}

/* per_call 0: the exact mask, some frames at a time. */
static void run_mimi_shape(const model_spec *spec, const char *name, int codebooks, int per_call) {
    enum { FRAMES = 24 };
    made_model m;
    model_make(&m, spec);
    const mo_mimi_config *c = &m.spec.mimi;
    size_t samples = FRAMES * (size_t)c->frame_samples;
    moshi_blob alone[] = {
        {"config.json", m.blobs[MADE_MIMI_CONFIG].data, m.blobs[MADE_MIMI_CONFIG].size},
        {"model.safetensors", m.blobs[MADE_MIMI].data, m.blobs[MADE_MIMI].size}};
    bool whole = spec->seed % 2; /* of a whole model, or a codec's own directory */
    moshi_codec *codec =
        open_codec(NULL, whole ? m.blobs : alone, whole ? MADE_BLOBS : 2, codebooks,
                   per_call ? per_call : 4, per_call ? 0 : MOSHI_EXACT_MASK);
    float *pcm = test_alloc(samples, sizeof *pcm), *back = test_alloc(samples, sizeof *back);
    int32_t *codes = test_alloc((size_t)(FRAMES * codebooks), sizeof *codes);
    tap_log log = {.slot = -1};
    moshi_codec_trace(codec, "mimi.enc.seanet mimi.*.transformer mimi.enc.latent", tap_log_fn,
                      &log);
    test_signal(pcm, samples, spec->seed);
    oracle_codes enc;
    oracle_audio dec;
    oracle_mimi_encode(c, &m.mimi, pcm, FRAMES, per_call, &enc);
    int r = moshi_codec_encode(codec, pcm, FRAMES, codes);
    CHECK(r == FRAMES, "%s: encode returned %d", name, r);
    check_latent(&log, "mimi.enc.seanet", enc.seanet, name);
    check_latent(&log, "mimi.enc.transformer", enc.transformer, name);
    check_latent(&log, "mimi.enc.latent", enc.latent, name);
    check_codes(&enc, codes, codebooks, c->semantic_codebooks, FRAMES, name);
    oracle_mimi_decode(c, &m.mimi, enc.codes, codebooks, FRAMES, per_call, &dec);
    for (int t = 0; t < FRAMES; t++)
        for (int k = 0; k < codebooks; k++) codes[t * codebooks + k] = enc.codes[k * FRAMES + t];
    r = moshi_codec_decode(codec, codes, FRAMES, back);
    CHECK(r == FRAMES, "%s: decode returned %d", name, r);
    check_latent(&log, "mimi.dec.transformer", dec.transformer, name);
    double d = max_diff_d(back, dec.audio.x, samples) / largest(dec.audio.x, samples);
    CHECK(d < 1e-5, "%s: audio differs by %g", name, d);
    oracle_codes_free(&enc);
    oracle_audio_free(&dec);
    moshi_codec_close(codec);
    tap_log_free(&log);
    model_free(&m);
    free(pcm);
    free(back);
    free(codes);
}

static void set_ratios(mo_mimi_config *c, int n, const int *ratios) {
    c->n_ratios = n;
    memcpy(c->ratios, ratios, (size_t)n * sizeof *ratios);
}

static void random_mimi(model_spec *spec, uint64_t seed) {
    static const int ratios[][4] = {{8, 6, 5, 4}, {2, 3}, {5}, {4, 2, 7}, {3, 1, 2}, {16, 3}};
    static const int counts[] = {4, 2, 1, 3, 3, 2};
    test_rng r = {seed * 131};
    spec_tiny(spec);
    mo_mimi_config *c = &spec->mimi;
    int pick = (int)(seed % 6);
    set_ratios(c, counts[pick], ratios[pick]);
    c->filters = 2 + rng_below(&r, 7), c->heads = 1 + rng_below(&r, 4);
    c->dimension = c->heads * 2 * (1 + rng_below(&r, 8));
    c->layers = 1 + rng_below(&r, 3), c->feed_forward = 1 + rng_below(&r, 70);
    c->context = 1 + rng_below(&r, 40), c->compress = 1 + rng_below(&r, 2);
    c->residual_layers = 1 + rng_below(&r, 3), c->dilation_base = 1 + rng_below(&r, 3);
    c->kernel = 1 + rng_below(&r, 8), c->residual_kernel = 1 + rng_below(&r, 5);
    c->last_kernel = 1 + rng_below(&r, 5);
    c->codebooks = 2 + rng_below(&r, 31), c->bins = 3 + rng_below(&r, 298);
    c->semantic_codebooks = 1 + rng_below(&r, 2);
    if (c->semantic_codebooks >= c->codebooks) c->semantic_codebooks = 1;
    c->codebook_dim = 1 + rng_below(&r, 20);
    c->stride = seed % 5 == 0 ? 1 : seed % 7 == 0 ? 3 : 2;
    spec->names = (made_names)rng_below(&r, MADE_NAMES_COUNT);
    spec->old_codebook_names = rng_below(&r, 2);
    spec->mimi_dtype = rng_below(&r, 2) ? MO_F32 : MADE_MIXED;
    spec->seed = seed;
    spec->lm.card = c->bins;
}

static void test_mimi_shapes(void) {
    model_spec spec;
    char name[64];
    spec_small(&spec);
    run_mimi_shape(&spec, "small codec", 4, 1);
    run_mimi_shape(&spec, "small codec, one codebook", 1, 1);
    run_mimi_shape(&spec, "small codec, five frames", 3, 5);
    run_mimi_shape(&spec, "small codec, exact mask", 4, 0);
    for (uint64_t seed = 1; seed <= (SANITIZED ? 8 : 30); seed++) {
        random_mimi(&spec, seed);
        snprintf(name, sizeof name, "random codec %d", (int)seed);
        run_mimi_shape(&spec, name, 1 + (int)seed % spec.mimi.codebooks, (int)seed % 4);
    }
}

/* ---- whole conversations ------------------------------------------------------------------ */

enum { TALK_FRAMES = 20 };

/* The user's codes of every step, from the samples: the first frame twice, or once and then the
 * codec starts anew. */
static void user_steps(const made_model *m, const float *pcm, bool server, const int32_t *heard,
                       int32_t *user, const char *name) {
    const mo_mimi_config *c = &m->spec.mimi;
    int users = m->spec.lm.n_q - m->spec.lm.dep_q, first = server ? 1 : 0;
    size_t row = (size_t)users * sizeof *user;
    oracle_codes enc;
    if (server) {
        oracle_mimi_encode(c, &m->mimi, pcm, 1, 1, &enc);
        check_codes(&enc, heard, users < c->codebooks ? users : c->codebooks, c->semantic_codebooks,
                    1, name);
        oracle_codes_free(&enc);
    }
    int rest = TALK_FRAMES - first;
    oracle_mimi_encode(c, &m->mimi, pcm + first * c->frame_samples, rest, 1, &enc);
    check_codes(&enc, heard + first * users, users, c->semantic_codebooks, rest, name);
    oracle_codes_free(&enc);
    for (int s = 0; s < TALK_FRAMES + !server; s++)
        memcpy(user + s * users, heard + (server || s == 0 ? s : s - 1) * users, row);
}

/* Sound of the tokens that came out. */
static void check_speech(const made_model *m, const event_log *events, const char *name) {
    const mo_mimi_config *c = &m->spec.mimi;
    int dep_q = m->spec.lm.dep_q, n = (int)events->frames;
    int32_t *codes = test_alloc((size_t)(dep_q * n), sizeof *codes);
    for (int t = 0; t < n; t++)
        for (int k = 0; k < dep_q; k++) codes[k * n + t] = events->tokens[t * (1 + dep_q) + 1 + k];
    oracle_audio dec;
    oracle_mimi_decode(c, &m->mimi, codes, dep_q, n, 1, &dec);
    size_t samples = (size_t)(n * c->frame_samples);
    double d = max_diff_d(events->pcm, dec.audio.x, samples) / largest(dec.audio.x, samples);
    CHECK(d < 1e-5, "%s: speech differs by %g", name, d);
    oracle_audio_free(&dec);
    free(codes);
}

static void run_talk(const model_spec *spec, bool server, const char *name) {
    made_model m;
    model_make(&m, spec);
    const mo_lm_config *c = &m.spec.lm;
    int frame = m.spec.mimi.frame_samples, users = c->n_q - c->dep_q;
    int steps = TALK_FRAMES + !server;
    size_t n = (size_t)(TALK_FRAMES * frame);
    moshi_engine *engine = open_engine(NULL, m.blobs, MADE_BLOBS, 1, 2, 0);
    moshi_session *session = open_session(
        engine,
        &(moshi_session_options){.flags = MOSHI_GREEDY | (server ? MOSHI_FIRST_FRAME_SERVER : 0)});
    float *pcm = test_alloc(n, sizeof *pcm);
    int32_t *user = test_alloc((size_t)(steps * users), sizeof *user);
    test_signal(pcm, n, spec->seed);
    tap_log log = {0};
    event_log events;
    event_log_init(&events, engine);
    moshi_engine_trace(engine, lm_taps, tap_log_fn, &log);
    run_pcm(engine, session, pcm, n, 0, &events);
    user_steps(&m, pcm, server, tap_i32(&log, (size_t)(TALK_FRAMES * users), "mimi.enc.codes"),
               user, name);
    check_lm(&(lm_run){c, &m.lm, &log, name, steps}, user);
    /* one frame comes out per frame that went in, but for the first steps */
    int silent = c->max_delay > !server ? c->max_delay - !server : 0;
    size_t out = (size_t)(TALK_FRAMES - silent);
    CHECK(events.frames == out, "%s: %zu frames instead of %zu", name, events.frames, out);
    size_t sound = c->dep_q ? out * (size_t)frame : 0;
    if (CHECK(events.n_pcm == sound, "%s: %zu samples", name, events.n_pcm) && sound)
        check_speech(&m, &events, name);
    moshi_engine_close(engine);
    event_log_free(&events);
    tap_log_free(&log);
    model_free(&m);
    free(pcm);
    free(user);
}

static void test_talk(void) {
    model_spec spec;
    static const int delays[][3] = {{0, 0, 1}, {0, 0, 0}, {0, 2, 3}};
    char name[64];
    for (int i = 0; i < 3; i++) {
        for (int server = 0; server < 2; server++) {
            spec_small(&spec);
            spec.mimi.n_ratios = 2; /* frames of 96 samples: fast */
            spec.seed = (uint64_t)(30 + i);
            set_delays(&spec.lm, delays[i], 3);
            snprintf(name, sizeof name, "talk %d, %s", i, server ? "server" : "file");
            run_talk(&spec, server, name);
        }
    }
    spec_tiny(&spec);
    spec.lm.dep_q = 0; /* listens only */
    run_talk(&spec, false, "transcriber");
}

int main(void) {
    test_lm_shapes();
    test_mimi_shapes();
    test_talk();
    printf("%d of %d choices were too close to judge\n", ties, choices);
    CHECK(ties * 50 < choices, "%d of %d choices were too close to judge", ties, choices);
    return check_done("test_shapes");
}
