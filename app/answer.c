/* answer.c - running a session and timing it. The stages are told apart by taps: the library
 * delivers them in the order of the work, each when its value is there. */
#include "answer.h"

#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char TAPS[] = "mimi.enc.codes lm.text_token lm.out_tokens";

typedef struct conversation {
    answer *out;
    moshi_engine *engine;
    moshi_session *session;
    moshi_engine_info info;
    app_buffer pcm, codes, text;
    answer_stage stage; /* going on now */
    double since_s;     /* when it began */
    bool ended;
} conversation;

const char *answer_stage_name(answer_stage stage) {
    static const char *const names[] = {"encode", "temporal", "depth", "decode"};
    return names[stage];
}

static void next_stage(conversation *c, answer_stage next) {
    double now = app_now_s();
    c->out->stage_s[c->stage] += now - c->since_s;
    c->stage = next;
    c->since_s = now;
}

/* The first frame steps the language model twice; its taps then come twice. */
static void on_tap(void *user, const moshi_tap *tap) {
    if (!strcmp(tap->name, "mimi.enc.codes"))
        next_stage(user, STAGE_TEMPORAL);
    else if (!strcmp(tap->name, "lm.text_token"))
        next_stage(user, STAGE_DEPTH);
    else
        next_stage(user, STAGE_DECODE);
}

static int open_session(conversation *c, uint64_t seed, app_error *err) {
    moshi_error why = {0};
    moshi_session_options options = {.seed = seed};
    int rc = moshi_session_open(&c->session, c->engine, &options, &why);
    if (rc < 0) return app_fail_library(err, rc, why.text);
    moshi_engine_get_info(c->engine, &c->info);
    rc = moshi_engine_trace(c->engine, TAPS, on_tap, c);
    return rc < 0 ? app_fail_library(err, rc, "") : EXIT_OK;
}

static int on_event(conversation *c, const moshi_event *ev, app_error *err) {
    switch (ev->type) {
    case MOSHI_EVENT_TOKENS:
        c->out->frames++;
        return app_buffer_add(&c->codes, ev->tokens + 1, (ev->n - 1) * sizeof *ev->tokens, err);
    case MOSHI_EVENT_AUDIO:
        return app_buffer_add(&c->pcm, ev->pcm, ev->n * sizeof *ev->pcm, err);
    case MOSHI_EVENT_TEXT:
        return app_buffer_add(&c->text, ev->text, ev->n, err);
    case MOSHI_EVENT_WORD:
        c->out->words++;
        break;
    case MOSHI_EVENT_END:
        c->ended = true;
    }
    return EXIT_OK;
}

/* Step while there is a whole frame of input, and take what comes out. */
static int advance(conversation *c, app_error *err) {
    for (;;) {
        int rc = app_check_interrupted(err), advanced = 0;
        if (rc != EXIT_OK) return rc;
        double started = c->since_s = app_now_s();
        c->stage = STAGE_ENCODE;
        advanced = moshi_step(c->engine);
        if (advanced < 0) return app_fail_library(err, advanced, moshi_engine_problem(c->engine));
        if (advanced > 0) {
            next_stage(c, STAGE_ENCODE);
            double took = app_now_s() - started;
            c->out->seconds += took;
            if (took > c->out->slowest_step_s) c->out->slowest_step_s = took;
            c->out->steps++;
        }
        moshi_event ev;
        while (rc == EXIT_OK && moshi_pull(c->session, &ev) > 0) rc = on_event(c, &ev, err);
        if (rc != EXIT_OK || advanced == 0) return rc;
    }
}

static int hear(conversation *c, const sound *in, progress *bar, app_error *err) {
    size_t frame = (size_t)c->info.frame_samples;
    int rc = EXIT_OK;
    for (size_t at = 0; rc == EXIT_OK && at + frame <= in->n; at += frame) {
        int taken = moshi_push_pcm(c->session, in->pcm + at, frame);
        if (taken < 0) return app_fail_library(err, taken, "");
        if ((size_t)taken < frame) return app_fail(err, EXIT_INTERNAL, "the input queue is full");
        rc = advance(c, err);
        progress_draw(bar, (double)at / (double)in->n, "the model listens and answers");
    }
    if (rc != EXIT_OK) return rc;
    moshi_push_end(c->session);
    rc = advance(c, err);
    if (rc == EXIT_OK && !c->ended) rc = app_fail(err, EXIT_INTERNAL, "the session did not end");
    return rc;
}

/* Hand the collected bytes over to the answer. */
static int collect(conversation *c, app_error *err) {
    answer *a = c->out;
    /* A buffer nothing was added to has no bytes at all. */
    int rc = app_buffer_add(&c->pcm, "", 0, err);
    if (rc == EXIT_OK) rc = app_buffer_add(&c->codes, "", 0, err);
    if (rc == EXIT_OK) rc = app_buffer_add(&c->text, "", 0, err);
    if (rc != EXIT_OK) return rc;
    a->sound =
        (sound){(float *)(void *)c->pcm.data, c->pcm.n / sizeof(float), c->info.sample_rate_hz};
    a->codes = (int32_t *)(void *)c->codes.data;
    a->codebooks = (size_t)c->info.dep_q;
    a->text = c->text.data;
    if (a->text[0] == ' ') memmove(a->text, a->text + 1, strlen(a->text));
    c->pcm.data = c->codes.data = c->text.data = NULL;
    return EXIT_OK;
}

int answer_make(answer *out, moshi_engine *engine, uint64_t seed, const sound *in, progress *bar,
                app_error *err) {
    conversation c = {.out = out, .engine = engine};
    memset(out, 0, sizeof *out);
    int rc = open_session(&c, seed, err);
    if (rc == EXIT_OK) rc = hear(&c, in, bar, err);
    if (rc == EXIT_OK) rc = collect(&c, err);
    moshi_engine_trace(engine, NULL, NULL, NULL);
    moshi_session_close(c.session);
    app_buffer_free(&c.pcm);
    app_buffer_free(&c.codes);
    app_buffer_free(&c.text);
    progress_clear(bar);
    return rc;
}

void answer_free(answer *a) {
    sound_free(&a->sound);
    free(a->codes);
    free(a->text);
    memset(a, 0, sizeof *a);
}
