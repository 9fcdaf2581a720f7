/* 100,000 frames: 2.2 hours of conversation on a model small enough to take seconds. Memory stays
 * as it was, nothing is allocated, positions pass 2^16, the context wraps thousands of times, and
 * the end is what a computation over its own past alone gives. */
#include "alloc_fail.h"
#include "check.h"
#include "drive.h"
#include "make_model.h"
#include "oracle_lm.h"
#include "oracle_mimi.h"
#include "sanitizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { STEPS = 100000, TAIL = 16, MAX_WINDOW = 128 };

/* The last steps of the run, as taps gave them: a ring. */
typedef struct tail {
    int n_q, dim, card;
    int64_t steps;
    int32_t in[MAX_WINDOW][8];
    float normed[MAX_WINDOW][32], logits[MAX_WINDOW][64];
} tail;

static void tail_fn(void *user, const moshi_tap *tap) {
    tail *t = user;
    size_t at = (size_t)(tap->step % MAX_WINDOW);
    if (!strcmp(tap->name, "lm.in_tokens")) {
        memcpy(t->in[at], tap->data, (size_t)(1 + t->n_q) * sizeof t->in[0][0]);
        t->steps = tap->step + 1;
    } else if (!strcmp(tap->name, "lm.out_norm")) {
        memcpy(t->normed[at], tap->data, (size_t)t->dim * sizeof t->normed[0][0]);
    } else if (!strcmp(tap->name, "lm.text_logits")) {
        memcpy(t->logits[at], tap->data, (size_t)t->card * sizeof t->logits[0][0]);
    }
}

/* Recompute the last TAIL steps from as far back as they can see: layers * context steps. */
static void check_tail(const made_model *m, const tail *t, const char *what) {
    const mo_lm_config *c = &m->spec.lm;
    int past = c->layers * c->context, n = past + TAIL;
    int64_t first = t->steps - n;
    int32_t *in = test_alloc((size_t)n * (size_t)(1 + c->n_q), sizeof *in);
    for (int i = 0; i < n; i++)
        memcpy(in + i * (1 + c->n_q), t->in[(first + i) % MAX_WINDOW],
               (size_t)(1 + c->n_q) * sizeof *in);
    oracle_temporal o;
    oracle_lm_temporal(c, &m->lm, in, n, first, &o);
    double worst = 0;
    for (int i = past; i < n; i++) {
        size_t at = (size_t)((first + i) % MAX_WINDOW);
        worst = fmax(worst, max_diff_d(t->normed[at], o.normed + i * c->dim, (size_t)c->dim));
        worst = fmax(worst, max_diff_d(t->logits[at], o.logits + i * c->text_card_out,
                                       (size_t)c->text_card_out));
    }
    CHECK(worst < 2e-4, "%s: after %lld steps the output differs by %g", what, (long long)t->steps,
          worst);
    oracle_temporal_free(&o);
    free(in);
}

static long resident_kb(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_maxrss;
}

static void drop_events(moshi_session *session) {
    moshi_event ev;
    while (moshi_pull(session, &ev) > 0) continue;
}

/* From here to the end every allocation fails. */
static void forbid_allocation(void) {
    alloc_fail_at(1, true);
}

static void check_no_allocation(bool works, long kb_before, const char *what) {
    long n = alloc_count();
    alloc_fail_at(0, false);
    if (works) CHECK(n == 0, "%s: %ld allocations after opening", what, n);
    long grown = resident_kb() - kb_before;
    CHECK(grown < (SANITIZED ? 65536 : 1024), "%s: memory grew by %ld KB", what, grown);
}

static void long_tokens(bool works) {
    made_model m;
    model_spec spec;
    spec_tiny(&spec);
    model_make(&m, &spec);
    const mo_lm_config *c = &m.spec.lm;
    int users = c->n_q - c->dep_q;
    tail t = {.n_q = c->n_q, .dim = c->dim, .card = c->text_card_out};
    moshi_engine *engine = open_engine(NULL, m.blobs, MADE_BLOBS, 1, 1, MOSHI_NO_CODEC);
    moshi_session *session = open_session(engine, &(moshi_session_options){.seed = 3});
    moshi_engine_trace(engine, "lm.in_tokens lm.out_norm lm.text_logits", tail_fn, &t);
    test_rng rng = {12};
    int32_t codes[8];
    bool ok = true;
    drop_events(session);
    long kb = resident_kb();
    forbid_allocation();
    for (int s = 0; s < STEPS && ok; s++) {
        for (int i = 0; i < users; i++) codes[i] = rng_below(&rng, c->card);
        ok = moshi_push_codes(session, codes, NULL, 1) == 1 && moshi_step(engine) == 1;
        drop_events(session);
        if (s == 5000 && !SANITIZED) kb = resident_kb(); /* everything has been touched */
    }
    check_no_allocation(works, kb, "tokens");
    CHECK(ok && t.steps == STEPS, "stopped after %lld steps", (long long)t.steps);
    if (ok) check_tail(&m, &t, "tokens");
    moshi_engine_close(engine);
    model_free(&m);
}

/* Samples through codec, model and codec: a quarter of the way, but the codec's transformers see
 * two positions a frame, so they pass 2^16 before their model would. */
static void long_sound(bool works) {
    enum { FRAMES = 34000, KEEP = 40 };
    made_model m;
    model_spec spec;
    spec_tiny(&spec);
    model_make(&m, &spec);
    const mo_mimi_config *c = &m.spec.mimi;
    size_t frame = (size_t)c->frame_samples, dep_q = (size_t)m.spec.lm.dep_q;
    moshi_engine *engine = open_engine(NULL, m.blobs, MADE_BLOBS, 1, 1, 0);
    moshi_session *session = open_session(engine, &(moshi_session_options){.seed = 4});
    float *pcm = test_alloc(frame, sizeof *pcm), *last = test_alloc(KEEP * frame, sizeof *last);
    int32_t *codes = test_alloc(KEEP * dep_q, sizeof *codes);
    int64_t frames = 0;
    bool ok = true;
    long kb = resident_kb();
    forbid_allocation();
    for (int s = 0; s < FRAMES && ok; s++) {
        moshi_event ev;
        test_signal(pcm, frame, (uint64_t)s);
        ok = moshi_push_pcm(session, pcm, frame) == (int)frame && moshi_step(engine) == 1;
        while (moshi_pull(session, &ev) > 0) {
            size_t at = (size_t)(ev.frame % KEEP);
            if (ev.type == MOSHI_EVENT_TOKENS)
                for (size_t k = 0; k < dep_q; k++) codes[k * KEEP + at] = ev.tokens[1 + k];
            if (ev.type == MOSHI_EVENT_AUDIO) {
                memcpy(last + at * frame, ev.pcm, frame * sizeof *last);
                frames = ev.frame + 1;
            }
        }
        if (s == 2000 && !SANITIZED) kb = resident_kb();
    }
    check_no_allocation(works, kb, "sound");
    CHECK(ok && frames == FRAMES, "stopped after %lld frames", (long long)frames);
    double energy = 0;
    for (size_t i = 0; i < KEEP * frame; i++) energy += (double)last[i] * (double)last[i];
    CHECK(energy > 0 && isfinite(energy), "the sound died");
    moshi_engine_close(engine);
    model_free(&m);
    free(pcm);
    free(last);
    free(codes);
}

/* The codec alone, whose past can be recomputed: decoding is a function of the last codes only, up
 * to the positions, so the oracle starts as many frames earlier as its layers can see. */
static void long_codec(bool works) {
    enum { FRAMES = 40000, KEEP = 24 };
    made_model m;
    model_spec spec;
    spec_tiny(&spec);
    model_make(&m, &spec);
    const mo_mimi_config *c = &m.spec.mimi;
    size_t frame = (size_t)c->frame_samples, k = (size_t)c->codebooks;
    moshi_codec *codec = open_codec(NULL, m.blobs, MADE_BLOBS, 0, 1, 0);
    int32_t *codes = test_alloc(KEEP * k, sizeof *codes), *row = test_alloc(k, sizeof *row);
    float *pcm = test_alloc(KEEP * frame, sizeof *pcm);
    test_rng rng = {5};
    bool ok = true;
    long kb = resident_kb();
    forbid_allocation();
    for (int t = 0; t < FRAMES && ok; t++) {
        size_t at = (size_t)(t % KEEP);
        for (size_t i = 0; i < k; i++) row[i] = codes[i * KEEP + at] = rng_below(&rng, c->bins);
        ok = moshi_codec_decode(codec, row, 1, pcm + at * frame) == 1;
        if (t == 2000 && !SANITIZED) kb = resident_kb();
    }
    check_no_allocation(works, kb, "codec");
    CHECK(ok, "decoding stopped");
    int32_t *ordered = test_alloc(KEEP * k, sizeof *ordered);
    for (size_t i = 0; i < k; i++)
        for (int t = 0; t < KEEP; t++)
            ordered[i * KEEP + (size_t)t] = codes[i * KEEP + (size_t)((FRAMES + t) % KEEP)];
    oracle_audio dec;
    oracle_mimi_decode_at(c, &m.mimi, ordered, (int)k, KEEP, 1, (FRAMES - KEEP) * c->stride, &dec);
    double worst = 0;
    /* one layer of context 6 and convolutions: half of the kept frames is more than enough past */
    for (size_t t = KEEP / 2; t < KEEP; t++)
        worst = fmax(worst,
                     max_diff_d(pcm + (FRAMES + t) % KEEP * frame, dec.audio.x + t * frame, frame));
    CHECK(worst < 1e-5, "after %d frames the sound differs by %g", FRAMES, worst);
    oracle_audio_free(&dec);
    moshi_codec_close(codec);
    model_free(&m);
    free(codes);
    free(row);
    free(pcm);
    free(ordered);
}

int main(void) {
    bool works = alloc_fail_works();
    if (!works) SKIP("allocations cannot be watched in this build");
    long_tokens(works);
    long_sound(works);
    long_codec(works);
    return check_done("test_long");
}
