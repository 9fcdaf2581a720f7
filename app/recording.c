#include "recording.h"

#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- tracks --------------------------------------------------------------------------------- */

typedef struct catcher {
    recording *r;
    app_error error; /* the callback has no way to return one */
} catcher;

static size_t elements(const moshi_tap *tap) {
    size_t n = 1;
    for (int i = 0; i < tap->ndim; i++) n *= (size_t)tap->shape[i];
    return n;
}

const track *recording_find(const recording *r, const char *name) {
    for (size_t i = 0; i < r->n; i++)
        if (!strcmp(r->tracks[i].name, name)) return &r->tracks[i];
    return NULL;
}

/* Taps come in the same order at every step: the next one is nearly always the one after. */
static track *track_of(recording *r, const moshi_tap *tap, app_error *err) {
    for (size_t i = 0; i < r->n; i++) {
        track *t = &r->tracks[(r->cursor + i) % r->n];
        if (strcmp(t->name, tap->name) != 0) continue;
        r->cursor = (r->cursor + i + 1) % r->n;
        return t;
    }
    track *more = realloc(r->tracks, (r->n + 1) * sizeof *more);
    char *name = strdup(tap->name);
    if (more) r->tracks = more;
    if (!more || !name) {
        free(name);
        app_no_memory(err);
        return NULL;
    }
    r->tracks[r->n] = (track){.name = name, .dtype = tap->dtype, .width = elements(tap)};
    return &r->tracks[r->n++];
}

static void on_tap(void *user, const moshi_tap *tap) {
    catcher *c = user;
    if (c->error.exit_code) return;
    track *t = track_of(c->r, tap, &c->error);
    if (!t) return;
    if (t->width != elements(tap)) {
        app_fail(&c->error, EXIT_INTERNAL, "tap %s: is not what it was at the first step",
                 tap->name);
        return;
    }
    /* both dtypes have 4 bytes */
    if (app_buffer_add(&t->data, tap->data, t->width * 4, &c->error) == EXIT_OK) t->rows++;
}

/* ---- running -------------------------------------------------------------------------------- */

static int take_event(recording *r, const moshi_event *ev, bool keep, app_error *err) {
    if (!keep) return EXIT_OK;
    if (ev->type == MOSHI_EVENT_AUDIO)
        return app_buffer_add(&r->audio, ev->pcm, ev->n * sizeof(float), err);
    if (ev->type == MOSHI_EVENT_TOKENS)
        return app_buffer_add(&r->spoken, ev->tokens + 1, (ev->n - 1) * sizeof *ev->tokens, err);
    if (ev->type != MOSHI_EVENT_WORD) return EXIT_OK;
    int rc = r->words.n ? app_buffer_add(&r->words, " ", 1, err) : EXIT_OK;
    return rc == EXIT_OK ? app_buffer_add(&r->words, ev->text, strlen(ev->text), err) : rc;
}

/* Step while there is input, and take what comes. */
static int drain(recording *r, moshi_engine *engine, moshi_session *session, bool keep, catcher *c,
                 app_error *err) {
    moshi_event ev;
    int rc;
    while ((rc = moshi_step(engine)) > 0) {
        int failed = EXIT_OK;
        while (failed == EXIT_OK && moshi_pull(session, &ev) > 0)
            failed = take_event(r, &ev, keep, err);
        if (failed == EXIT_OK) failed = app_check_interrupted(err);
        if (failed != EXIT_OK) return failed;
        if (c->error.exit_code) {
            *err = c->error;
            return err->exit_code;
        }
    }
    return rc < 0 ? app_fail_library(err, rc, moshi_engine_problem(engine)) : EXIT_OK;
}

static int open_session(moshi_session **session, moshi_engine *engine, const char *globs,
                        catcher *c, app_error *err) {
    moshi_error why = {0};
    int rc =
        moshi_session_open(session, engine, &(moshi_session_options){.flags = MOSHI_GREEDY}, &why);
    if (rc < 0) return app_fail_library(err, rc, why.text);
    rc = moshi_engine_trace(engine, globs, on_tap, c);
    return rc < 0 ? app_fail_library(err, rc, "") : EXIT_OK;
}

/* In small pieces, so that the bar moves and Ctrl-C is seen. The encoder's intermediates are large:
 * they are kept of the first `frames` frames, of the others only what was heard and chosen. */
static int run_free(recording *r, moshi_engine *engine, const sound *heard, size_t frames,
                    progress *bar, app_error *err) {
    catcher c = {.r = r};
    moshi_session *session = NULL;
    bool all = true;
    int rc = open_session(&session, engine, "mimi.enc.* lm.text_token depth.*.token", &c, err);
    for (size_t done = 0; rc == EXIT_OK && done < heard->n;) {
        size_t n = heard->n - done < 4096 ? heard->n - done : 4096;
        int taken = moshi_push_pcm(session, heard->pcm + done, n);
        if (taken < 0) rc = app_fail_library(err, taken, "");
        if (rc == EXIT_OK) rc = drain(r, engine, session, true, &c, err);
        done += taken > 0 ? (size_t)taken : 0;
        const track *codes = recording_find(r, "mimi.enc.codes");
        if (all && codes && codes->rows >= frames) {
            static const char small[] = "mimi.enc.codes lm.text_token depth.*.token";
            all = false;
            if (moshi_engine_trace(engine, small, on_tap, &c) < 0) rc = app_no_memory(err);
        }
        progress_draw(bar, 0.5 * (double)done / (double)heard->n, "listening and answering");
    }
    if (rc == EXIT_OK && moshi_push_end(session) < 0) rc = app_fail(err, EXIT_INTERNAL, "no end");
    if (rc == EXIT_OK) rc = drain(r, engine, session, true, &c, err);
    moshi_engine_trace(engine, NULL, NULL, NULL);
    moshi_session_close(session);
    return rc;
}

static int run_forced(recording *r, moshi_engine *engine, const plan *p, int64_t most,
                      progress *bar, app_error *err) {
    int64_t steps = p->steps < most ? p->steps : most;
    catcher c = {.r = r};
    moshi_session *session = NULL;
    double begin = app_now_s();
    int rc = open_session(
        &session, engine,
        "lm.in_tokens lm.embed lm.layer.* lm.out_norm lm.text_logits lm.extra_head.* depth.*.in "
        "depth.*.layer.* depth.*.hidden depth.*.logits lm.out_tokens mimi.dec.*",
        &c, err);
    for (int64_t s = 0; rc == EXIT_OK && s < steps; s++) {
        int pushed = moshi_push_codes(session, p->user ? p->codes + s * p->user : NULL,
                                      p->force + s * p->channels, 1);
        if (pushed != 1) rc = app_fail_library(err, pushed < 0 ? pushed : MOSHI_EINTERNAL, "");
        if (rc == EXIT_OK) rc = drain(r, engine, session, false, &c, err);
        progress_draw(bar, 0.5 + 0.5 * (double)s / (double)steps, "computing under control");
    }
    moshi_engine_trace(engine, NULL, NULL, NULL);
    moshi_session_close(session);
    r->forced_s = app_now_s() - begin;
    return rc;
}

bool plan_fits(const plan *a, const plan *b) {
    return a->user == b->user && a->channels == b->channels;
}

/* What the free run heard and chose, step by step. The first frame is stepped twice with the same
 * codes, so there is one step more than frames. */
static int plan_from_run(recording *r, const moshi_engine_info *info, app_error *err) {
    plan *p = &r->chosen;
    const track *text = recording_find(r, "lm.text_token"), *heard;
    heard = recording_find(r, "mimi.enc.codes");
    p->user = info->user_codebooks;
    p->channels = 1 + info->dep_q;
    p->steps = text ? (int64_t)text->rows : 0;
    if (p->steps < 2 || (p->user && (!heard || heard->rows + 1 != text->rows)))
        return app_fail(err, EXIT_USAGE, "the input is too short: wanted at least two frames");
    p->codes = calloc((size_t)(p->steps * p->user) + 1, sizeof *p->codes);
    p->force = calloc((size_t)(p->steps * p->channels), sizeof *p->force);
    if (!p->codes || !p->force) return app_no_memory(err);
    for (int64_t s = 0; s < p->steps; s++) {
        size_t row = (size_t)(p->user ? p->user : 0), frame = s ? (size_t)s - 1 : 0;
        if (row)
            memcpy(p->codes + s * p->user, (int32_t *)heard->data.data + frame * heard->width,
                   row * sizeof *p->codes);
        for (int k = 0; k < p->channels; k++) {
            char name[32];
            snprintf(name, sizeof name, k ? "depth.%02d.token" : "lm.text_token", k - 1);
            const track *t = recording_find(r, name);
            if (!t || t->rows <= (size_t)s)
                return app_fail(err, EXIT_INTERNAL, "%s: step %lld is missing", name, (long long)s);
            p->force[s * p->channels + k] = ((int32_t *)t->data.data)[s];
        }
    }
    return EXIT_OK;
}

int recording_make(recording *r, moshi_engine *engine, const sound *heard, size_t frames,
                   const plan *common, progress *bar, app_error *err) {
    moshi_engine_info info;
    double begin = app_now_s();
    *r = (recording){0};
    moshi_engine_get_info(engine, &info);
    r->rate_hz = info.sample_rate_hz;
    int rc = run_free(r, engine, heard, frames, bar, err);
    if (rc == EXIT_OK) rc = plan_from_run(r, &info, err);
    if (rc == EXIT_OK && common && !plan_fits(common, &r->chosen))
        return app_fail(err, EXIT_USAGE,
                        "the models cannot be compared: wanted %d user codebooks and %d of its "
                        "own, found %d and %d",
                        common->user, common->channels - 1, r->chosen.user, r->chosen.channels - 1);
    /* The first frame is stepped twice. */
    if (rc == EXIT_OK)
        rc = run_forced(r, engine, common ? common : &r->chosen, (int64_t)frames + 1, bar, err);
    r->seconds = app_now_s() - begin;
    return rc;
}

void plan_free(plan *p) {
    free(p->codes);
    free(p->force);
    *p = (plan){0};
}

void recording_free(recording *r) {
    for (size_t i = 0; i < r->n; i++) {
        free(r->tracks[i].name);
        app_buffer_free(&r->tracks[i].data);
    }
    free(r->tracks);
    app_buffer_free(&r->audio);
    app_buffer_free(&r->spoken);
    app_buffer_free(&r->words);
    plan_free(&r->chosen);
    *r = (recording){0};
}
