/* Frames that are queued ahead, which a device may lay ready while it is at another: every stream
 * comes out to the last bit as it does alone and one frame at a time, also where sessions are
 * reset, closed and opened again with other inputs, sit a frame out, or a trace runs in between. On
 * the device that TEST_DEVICE names, else on the CPU and on vulkan:0 where there is one. */
#include "check.h"
#include "drive.h"
#include "make_model.h"

#include <stdlib.h>
#include <string.h>

enum { SLOTS = 5, STEPS = 22, TRACED = 7, PULLED_LATE = 17 /* a step after its output is full */ };

/* A stream of one session, in steps first .. last - 1. */
typedef struct life {
    int slot, first, last;
    bool codes, forced, server, late;
    bool reset; /* follows the one before by a reset, not by closing and opening */
    int ends;   /* after so many frames and a part of one; 0: it does not */
} life;

static const life lives[] = {
    {.slot = 0, .last = STEPS, .server = true, .ends = 5},
    {.slot = 1, .last = STEPS, .codes = true, .forced = true},
    {.slot = 2, .last = 3},
    {.slot = 2, .first = 3, .last = 12, .reset = true},
    {.slot = 2, .first = 12, .last = STEPS, .codes = true, .reset = true},
    {.slot = 3, .last = 5, .codes = true, .forced = true},
    {.slot = 3, .first = 5, .last = 10},
    {.slot = 3, .first = 10, .last = STEPS, .codes = true},
    {.slot = 4, .last = STEPS, .late = true},
};
enum { LIVES = sizeof lives / sizeof *lives };

static made_model model;
static float *sound[LIVES]; /* [STEPS frames] */
static int32_t *codes[LIVES], *force[LIVES];

static void make_inputs(const moshi_engine_info *info) {
    size_t frame = (size_t)info->frame_samples, out = 1 + (size_t)info->dep_q;
    size_t user = (size_t)info->user_codebooks;
    test_rng rng = {31};
    for (int i = 0; i < LIVES; i++) {
        sound[i] = test_alloc(STEPS * frame, sizeof *sound[i]);
        codes[i] = test_alloc(STEPS * user, sizeof *codes[i]);
        force[i] = test_alloc(STEPS * out, sizeof *force[i]);
        test_signal(sound[i], STEPS * frame, 40 + (uint64_t)i);
        for (size_t k = 0; k < STEPS * user; k++) codes[i][k] = rng_below(&rng, info->card);
        for (size_t k = 0; k < STEPS * out; k++)
            force[i][k] = rng_below(&rng, 2) ? MOSHI_FREE : rng_below(&rng, info->card);
    }
}

static void free_inputs(void) {
    for (int i = 0; i < LIVES; i++) {
        free(sound[i]);
        free(codes[i]);
        free(force[i]);
    }
}

/* ---- playing -------------------------------------------------------------------------------- */

/* A life that is being lived. */
typedef struct player {
    moshi_session *session;
    int pushed;
    event_log log;
} player;

static void begin(moshi_engine *e, player *all, int i) {
    const life *l = &lives[i];
    player *p = &all[i];
    event_log_init(&p->log, e);
    if (l->first > 0 && all[i - 1].session) { /* it has the slot */
        p->session = all[i - 1].session;
        all[i - 1].session = NULL;
        if (l->reset) moshi_session_reset(p->session);
        if (l->reset) return;
        moshi_session_close(p->session);
    }
    p->session = open_session(
        e, &(moshi_session_options){.flags = l->server ? MOSHI_FIRST_FRAME_SERVER : 0, .seed = 5});
}

/* Frames up to number `until` of the stream. */
static void push(const moshi_engine_info *info, player *p, int i, int until) {
    const life *l = &lives[i];
    size_t frame = (size_t)info->frame_samples, out = 1 + (size_t)info->dep_q;
    for (; p->pushed < until && (!l->ends || p->pushed <= l->ends); p->pushed++) {
        size_t at = (size_t)p->pushed;
        bool part = l->ends && p->pushed == l->ends;
        if (l->codes)
            CHECK(moshi_push_codes(p->session, codes[i] + at * (size_t)info->user_codebooks,
                                   l->forced ? force[i] + at * out : NULL, 1) == 1,
                  "codes of stream %d", i);
        else
            CHECK(moshi_push_pcm(p->session, sound[i] + at * frame, part ? frame / 3 : frame) > 0,
                  "sound of stream %d", i);
        if (part) moshi_push_end(p->session);
    }
}

static void no_tap(void *user, const moshi_tap *tap) {
    (void)tap;
    ++*(int *)user;
}

/* All streams, or one alone, with so many frames queued ahead. */
static void play(const char *device, int only, int ahead, player *all) {
    moshi_engine *e = open_engine_with(&(moshi_engine_options){
        .blobs = model.blobs, .n_blobs = MADE_BLOBS, .sessions = SLOTS, .device = device});
    moshi_engine_info info;
    int taps = 0;
    moshi_engine_get_info(e, &info);
    if (!sound[0]) make_inputs(&info);
    for (int t = 0; t < STEPS; t++) {
        for (int i = 0; i < LIVES; i++) {
            const life *l = &lives[i];
            if (t < l->first || t >= l->last || (only >= 0 && i != only)) continue;
            if (t == l->first) begin(e, all, i);
            int until = t - l->first + 1 + ahead;
            push(&info, &all[i], i, until < STEPS ? until : STEPS);
        }
        moshi_engine_trace(e, "*.text_token", t == TRACED && only < 0 ? no_tap : NULL, &taps);
        int n = moshi_step(e);
        CHECK(n >= 0, "step %d", t);
        if (only < 0 && t == PULLED_LATE - 1)
            CHECK(n == SLOTS - 2, "%d took part: one has ended, one is not pulled", n);
        for (int i = 0; i < LIVES; i++)
            if (all[i].session && (!lives[i].late || t >= PULLED_LATE - 1))
                event_log_drain(&all[i].log, all[i].session);
    }
    CHECK(only >= 0 || taps > 0, "nothing was traced");
    moshi_engine_close(e);
    for (int i = 0; i < LIVES; i++) all[i].session = NULL;
}

/* Also the user's codes, in which a frame's sound shows at once. */
static bool same_streams(const event_log *a, const event_log *b) {
    size_t n = (a->frames + a->silent) * a->users;
    return event_log_same(a, b) && first_diff(a->codes, b->codes, n) == n;
}

static void test_on(const char *device) {
    player alone[LIVES] = {0};
    for (int i = 0; i < LIVES; i++) play(device, i, 0, alone);
    for (int ahead = 0; ahead < 4; ahead++) {
        player all[LIVES] = {0};
        play(device, -1, ahead, all);
        for (int i = 0; i < LIVES; i++) {
            CHECK(all[i].log.frames > 0 && same_streams(&alone[i].log, &all[i].log),
                  "%s: stream %d is another with %d frames ahead (%zu frames, %zu alone)",
                  device ? device : "", i, ahead, all[i].log.frames, alone[i].log.frames);
            event_log_free(&all[i].log);
        }
    }
    CHECK(alone[0].log.ended, "the stream that ends");
    for (int i = 0; i < LIVES; i++) event_log_free(&alone[i].log);
}

int main(void) {
    const char *named = getenv("TEST_DEVICE");
    moshi_device_info info;
    model_spec spec;
    spec_tiny(&spec);
    model_make(&model, &spec);
    test_on(named);
    if (!named && moshi_device_find("vulkan:0", &info, NULL) == 0) test_on("vulkan:0");
    free_inputs();
    model_free(&model);
    return check_done("test_ahead");
}
