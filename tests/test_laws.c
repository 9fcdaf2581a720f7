/* Laws of streams, to the last bit: how the input is cut, which slot a session sits in, what its
 * neighbours do, how many threads work and which thread pushes never changes what a session says.
 */
#include "check.h"
#include "drive.h"
#include "make_model.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { FRAMES = 14, LOOSE = 700 }; /* whole frames and some samples more */

static made_model model;
static float *speech;
static size_t n_speech;

static const moshi_session_options sampled = {.seed = 5};

/* Of the encoder's own, for every engine opened from now on. */
static int codec_threads;

static moshi_engine *open_made(int sessions, int threads) {
    return open_engine_with(&(moshi_engine_options){.blobs = model.blobs,
                                                    .n_blobs = MADE_BLOBS,
                                                    .sessions = sessions,
                                                    .threads = threads,
                                                    .codec_threads = codec_threads});
}

/* What one session says alone in an engine of one slot. */
static event_log alone(const moshi_session_options *options, int threads, size_t chunk) {
    event_log log;
    moshi_engine *engine = open_made(1, threads);
    event_log_init(&log, engine);
    run_pcm(engine, open_session(engine, options), speech, n_speech, chunk, &log);
    moshi_engine_close(engine);
    return log;
}

/* ---- one session -------------------------------------------------------------------------- */

static void law_chunks(void) {
    static const size_t chunks[] = {1, 7, 1919, 1920, 1921, 5000, 0};
    static const int flags[] = {0, MOSHI_GREEDY, MOSHI_FIRST_FRAME_SERVER};
    for (size_t f = 0; f < sizeof flags / sizeof *flags; f++) {
        moshi_session_options o = {.flags = flags[f], .seed = 9};
        event_log whole = alone(&o, 1, n_speech);
        CHECK(whole.frames == FRAMES + 1 - (f == 2), "%zu frames came out", whole.frames);
        for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
            event_log cut = alone(&o, 1, chunks[i]);
            CHECK(event_log_same(&whole, &cut),
                  "chunks of %zu samples change the result (flags %d)", chunks[i], flags[f]);
            event_log_free(&cut);
        }
        event_log_free(&whole);
    }
}

static void law_threads(void) {
    event_log one = alone(&sampled, 1, 0);
    for (int threads = 2; threads <= 5; threads++) {
        event_log many = alone(&sampled, threads, 0);
        CHECK(event_log_same(&one, &many), "%d threads change the result", threads);
        event_log_free(&many);
    }
    event_log_free(&one);
}

static void law_reset(void) {
    event_log fresh = alone(&sampled, 2, 0), junk, again;
    moshi_engine *engine = open_made(1, 2);
    moshi_session *session = open_session(engine, &sampled);
    event_log_init(&junk, engine);
    for (size_t cut = 0; cut < 5; cut++) {
        size_t n = cut * 4321; /* in the middle of frames, words and queues */
        moshi_push_pcm(session, speech + 100, n);
        for (size_t i = 0; i < cut; i++) moshi_step(engine);
        if (cut & 1) event_log_drain(&junk, session);
        if (cut == 4) moshi_push_end(session);
        CHECK(moshi_session_reset(session) == 0, "reset failed");
        event_log_init(&again, engine);
        run_pcm(engine, session, speech, n_speech, 0, &again);
        CHECK(event_log_same(&fresh, &again), "a reset after %zu samples is not fresh", n);
        event_log_free(&again);
        moshi_session_reset(session);
    }
    /* closing and opening takes the same slot */
    moshi_session_close(session);
    session = open_session(engine, &sampled);
    event_log_init(&again, engine);
    run_pcm(engine, session, speech, n_speech, 0, &again);
    CHECK(event_log_same(&fresh, &again), "a second session in a slot is not fresh");
    moshi_engine_close(engine);
    event_log_free(&again);
    event_log_free(&junk);
    event_log_free(&fresh);
}

static void law_seed(void) {
    moshi_session_options other = {.seed = 6}, zero = {0}, standard = {.seed = 299792458};
    event_log a = alone(&sampled, 1, 0), b = alone(&sampled, 1, 0), c = alone(&other, 1, 0);
    event_log d = alone(&zero, 1, 0), e = alone(&standard, 1, 0);
    CHECK(event_log_same(&a, &b), "the same seed says something else");
    CHECK(!event_log_same(&a, &c), "another seed says the same");
    CHECK(event_log_same(&d, &e), "seed 0 is not the documented default");
    moshi_session_options greedy = {.flags = MOSHI_GREEDY, .seed = 1};
    moshi_session_options cold = {.text_temp = -1, .audio_temp = -1, .seed = 2};
    moshi_session_options narrow = {.text_top_k = 1, .audio_top_k = 1, .seed = 3};
    event_log f = alone(&greedy, 1, 0), g = alone(&cold, 1, 0), h = alone(&narrow, 1, 0);
    CHECK(event_log_same(&f, &g), "temperatures below 0 are not greedy");
    CHECK(event_log_same(&f, &h), "top-k of 1 is not greedy");
    CHECK(!event_log_same(&f, &a), "sampling says what greedy says");
    event_log *all[] = {&a, &b, &c, &d, &e, &f, &g, &h};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) event_log_free(all[i]);
}

static void law_no_audio(void) {
    moshi_session_options mute = sampled;
    mute.flags = MOSHI_NO_AUDIO;
    event_log loud = alone(&sampled, 1, 0), quiet = alone(&mute, 1, 0);
    CHECK(quiet.n_pcm == 0, "MOSHI_NO_AUDIO gave %zu samples", quiet.n_pcm);
    CHECK(loud.n_pcm == loud.frames * 1920, "%zu samples in %zu frames", loud.n_pcm, loud.frames);
    quiet.pcm = loud.pcm; /* but for the sound they are the same */
    quiet.n_pcm = loud.n_pcm;
    CHECK(event_log_same(&loud, &quiet), "MOSHI_NO_AUDIO changes tokens or words");
    quiet.pcm = NULL;
    event_log_free(&loud);
    event_log_free(&quiet);
}

/* Codes instead of samples, and forcing what would have been chosen anyway. */
static void law_forced(void) {
    enum { STEPS = 30 };
    moshi_engine *engine = open_made(1, 1);
    moshi_engine_info info;
    moshi_engine_get_info(engine, &info);
    size_t users = (size_t)info.user_codebooks, channels = 1 + (size_t)info.dep_q;
    int32_t *codes = test_alloc(STEPS * users, sizeof *codes);
    int32_t *force = test_alloc(STEPS * channels, sizeof *force);
    test_rng rng = {3};
    for (size_t i = 0; i < STEPS * users; i++) codes[i] = rng_below(&rng, info.card);
    tap_log taps = {0};
    event_log free_log, forced_log, unforced_log;
    moshi_engine_trace(engine, "lm.text_token depth.*.token", tap_log_fn, &taps);
    moshi_session *session = open_session(engine, &sampled);
    event_log_init(&free_log, engine);
    run_codes(engine, session, codes, NULL, STEPS, &free_log);
    for (size_t s = 0; s < STEPS; s++) {
        force[s * channels] = tap_i32(&taps, STEPS, "lm.text_token")[s];
        for (size_t k = 1; k < channels; k++)
            force[s * channels + k] = tap_i32(&taps, STEPS, "depth.%02zu.token", k - 1)[s];
    }
    moshi_engine_trace(engine, NULL, NULL, NULL);
    moshi_session_reset(session);
    event_log_init(&forced_log, engine);
    run_codes(engine, session, codes, force, STEPS, &forced_log);
    CHECK(event_log_same(&free_log, &forced_log), "forcing the chosen tokens changes the result");
    for (size_t i = 0; i < STEPS * channels; i++) force[i] = MOSHI_FREE;
    moshi_session_reset(session);
    event_log_init(&unforced_log, engine);
    run_codes(engine, session, codes, force, STEPS, &unforced_log);
    CHECK(event_log_same(&free_log, &unforced_log), "MOSHI_FREE everywhere changes the result");
    CHECK(free_log.n_pcm == free_log.frames * 1920, "no sound from pushed codes");
    moshi_engine_close(engine);
    tap_log_free(&taps);
    event_log_free(&free_log);
    event_log_free(&forced_log);
    event_log_free(&unforced_log);
    free(codes);
    free(force);
}

/* Whoever does not pull holds up only itself, and loses nothing. */
static void law_backpressure(void) {
    size_t n = 100 * 1920, at = 0;
    float *pcm = test_alloc(n, sizeof *pcm);
    test_signal(pcm, n, 77);
    event_log fluent, stalled;
    moshi_engine *engine = open_made(1, 2);
    moshi_session *session = open_session(engine, &sampled);
    event_log_init(&fluent, engine);
    run_pcm(engine, session, pcm, n, 0, &fluent);
    moshi_session_reset(session);
    event_log_init(&stalled, engine);
    int taken = moshi_push_pcm(session, pcm, n);
    CHECK(taken == MOSHI_INPUT_FRAMES * 1920, "the input queue took %d samples", taken);
    at = (size_t)(taken > 0 ? taken : 0);
    CHECK(moshi_push_pcm(session, pcm + at, n - at) == 0, "a full queue took more");
    int steps = 0;
    while (moshi_step(engine) > 0) steps++;
    /* the first tick may have put nothing out */
    CHECK(steps >= MOSHI_OUTPUT_FRAMES && steps <= MOSHI_OUTPUT_FRAMES + 2,
          "%d steps without a pull", steps);
    while (at < n) {
        event_log_drain(&stalled, session);
        while (moshi_step(engine) > 0) continue;
        taken = moshi_push_pcm(session, pcm + at, n - at);
        if (!CHECK(taken > 0, "the queue stays full")) break;
        at += (size_t)taken;
    }
    moshi_push_end(session);
    do event_log_drain(&stalled, session);
    while (moshi_step(engine) > 0);
    event_log_drain(&stalled, session);
    CHECK(event_log_same(&fluent, &stalled), "pulling late changes the result");
    moshi_engine_close(engine);
    event_log_free(&fluent);
    event_log_free(&stalled);
    free(pcm);
}

/* ---- neighbours --------------------------------------------------------------------------- */

enum { SLOTS = 8 };

/* Something another session of the engine might do at any time. */
static void disturb(moshi_engine *engine, moshi_session **s, test_rng *rng) {
    static const float bad[] = {0.5f, NAN, 0.25f};
    moshi_event ev;
    int32_t codes[64] = {0};
    moshi_session_options o = {.seed = rng_u64(rng), .flags = rng_below(rng, 8)};
    if (!*s) {
        *s = open_session(engine, &o);
        return;
    }
    switch (rng_below(rng, 9)) {
    case 0:
        moshi_session_close(*s);
        *s = NULL;
        break;
    case 1:
        moshi_session_reset(*s);
        break;
    case 2:
        CHECK(moshi_push_pcm(*s, bad, 3) < 0, "a NaN was taken");
        break;
    case 3:
        codes[0] = 1 << 20;
        CHECK(moshi_push_codes(*s, codes, NULL, 1) < 0, "a code out of range was taken");
        break;
    case 4:
        moshi_push_codes(*s, codes, NULL, 1 + (size_t)rng_below(rng, 3));
        break;
    case 5:
        moshi_push_end(*s);
        break;
    case 6:
        while (moshi_pull(*s, &ev) > 0) continue;
        break;
    default:
        moshi_push_pcm(*s, speech, (size_t)rng_below(rng, 6000));
    }
}

static void law_neighbours(int threads) {
    event_log lonely = alone(&sampled, 1, 0), log;
    for (int k = 0; k < SLOTS; k++) {
        moshi_engine *engine = open_made(SLOTS, threads);
        moshi_session *others[SLOTS] = {0}, *mine = NULL;
        test_rng rng = {(uint64_t)(100 + k)};
        for (int i = 0; i < SLOTS; i++) { /* slots are given out in order */
            moshi_session *s = open_session(engine, i == k ? &sampled : NULL);
            if (i == k)
                mine = s;
            else
                others[i] = s;
        }
        CHECK(moshi_session_slot(mine) == k, "slot %d instead of %d", moshi_session_slot(mine), k);
        event_log_init(&log, engine);
        size_t at = 0;
        while (!log.ended) {
            for (int i = 0; i < 4; i++) {
                int other = rng_below(&rng, SLOTS);
                if (other != k) disturb(engine, &others[other], &rng);
            }
            size_t n = (size_t)rng_below(&rng, 4000);
            if (n > n_speech - at) n = n_speech - at;
            at += (size_t)moshi_push_pcm(mine, speech + at, n);
            if (at == n_speech) moshi_push_end(mine);
            moshi_step(engine);
            event_log_drain(&log, mine);
        }
        CHECK(event_log_same(&lonely, &log), "slot %d among %d says something else", k, SLOTS);
        event_log_free(&log);
        moshi_engine_close(engine);
    }
    event_log_free(&lonely);
}

/* Eight sessions with the same input and eight seeds, in step: each as if alone. */
static void law_batch(void) {
    moshi_engine *engine = open_made(SLOTS, 2);
    moshi_session *s[SLOTS];
    event_log logs[SLOTS];
    for (int i = 0; i < SLOTS; i++) {
        s[i] = open_session(engine, &(moshi_session_options){.seed = 50 + (uint64_t)i});
        event_log_init(&logs[i], engine);
        CHECK(moshi_push_pcm(s[i], speech, n_speech) == (int)n_speech, "speech not taken");
        moshi_push_end(s[i]);
    }
    int advanced = moshi_step(engine);
    CHECK(advanced == SLOTS, "%d sessions advanced", advanced);
    do
        for (int i = 0; i < SLOTS; i++) event_log_drain(&logs[i], s[i]);
    while (moshi_step(engine) > 0);
    for (int i = 0; i < SLOTS; i++) {
        event_log_drain(&logs[i], s[i]);
        moshi_session_options o = {.seed = 50 + (uint64_t)i};
        event_log lonely = alone(&o, 1, 0);
        CHECK(event_log_same(&lonely, &logs[i]), "session %d of a batch says something else", i);
        event_log_free(&lonely);
        event_log_free(&logs[i]);
    }
    moshi_engine_close(engine);
}

/* ---- several threads ---------------------------------------------------------------------- */

typedef struct stepper {
    moshi_engine *engine;
    atomic_bool stop;
} stepper;

static void *keep_stepping(void *arg) {
    stepper *s = arg;
    while (!atomic_load(&s->stop))
        if (moshi_step(s->engine) < 0) test_die("step failed");
    return NULL;
}

static void *come_and_go(void *arg) {
    stepper *s = arg;
    test_rng rng = {11};
    while (!atomic_load(&s->stop)) {
        moshi_session *guest = open_session(s->engine, NULL);
        moshi_push_pcm(guest, speech, (size_t)rng_below(&rng, 4000));
        if (rng_below(&rng, 2)) moshi_session_reset(guest);
        moshi_session_close(guest);
    }
    return NULL;
}

static void law_other_thread(void) {
    event_log lonely = alone(&sampled, 1, 0), log;
    stepper s = {open_made(3, 2), false};
    moshi_session *session = open_session(s.engine, &sampled);
    event_log_init(&log, s.engine);
    pthread_t stepping, visiting;
    if (pthread_create(&stepping, NULL, keep_stepping, &s) ||
        pthread_create(&visiting, NULL, come_and_go, &s))
        test_die("no threads");
    test_rng rng = {8};
    size_t at = 0;
    while (!log.ended) {
        size_t n = (size_t)rng_below(&rng, 3000);
        if (n > n_speech - at) n = n_speech - at;
        at += (size_t)moshi_push_pcm(session, speech + at, n);
        if (at == n_speech) moshi_push_end(session);
        event_log_drain(&log, session);
    }
    atomic_store(&s.stop, true);
    pthread_join(stepping, NULL);
    pthread_join(visiting, NULL);
    CHECK(event_log_same(&lonely, &log), "pushing from another thread changes the result");
    moshi_engine_close(s.engine);
    event_log_free(&log);
    event_log_free(&lonely);
}

/* Engines side by side share nothing. */
static void law_two_engines(void) {
    event_log lonely = alone(&sampled, 1, 0), logs[2];
    stepper s[2];
    moshi_session *session[2];
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        s[i].engine = open_made(1, 2);
        atomic_init(&s[i].stop, false);
        session[i] = open_session(s[i].engine, &sampled);
        event_log_init(&logs[i], s[i].engine);
        moshi_push_pcm(session[i], speech, n_speech);
        moshi_push_end(session[i]);
        if (pthread_create(&threads[i], NULL, keep_stepping, &s[i])) test_die("no thread");
    }
    for (int i = 0; i < 2; i++) {
        while (!logs[i].ended) event_log_drain(&logs[i], session[i]);
        atomic_store(&s[i].stop, true);
        pthread_join(threads[i], NULL);
        CHECK(event_log_same(&lonely, &logs[i]), "engine %d of two says something else", i);
        moshi_engine_close(s[i].engine);
        event_log_free(&logs[i]);
    }
    event_log_free(&lonely);
}

/* ---- an encoder that hears ahead ---------------------------------------------------------- */

static uint64_t frames_heard(const moshi_engine *engine) {
    moshi_stage_info info;
    moshi_engine_get_stage(engine, MOSHI_STAGE_ENCODE, &info);
    return info.runs;
}

/* It is at the next frame when that is there, and never at one twice; cards have none. */
static void law_ahead_works(int threads) {
    codec_threads = threads;
    moshi_engine *engine = open_made(1, 1);
    moshi_engine_info info;
    moshi_engine_get_info(engine, &info);
    if (strncmp(info.device, "cpu", 3) != 0) threads = 0;
    CHECK(info.codec_threads == threads, "%d threads hear, not %d", info.codec_threads, threads);
    moshi_session *session = open_session(engine, &sampled);
    const size_t frame = (size_t)info.frame_samples;
    const struct {
        size_t push;
        uint64_t runs, runs_ahead;
    } steps[] = {{2 * frame, 1, 2}, {frame, 2, 3}, {0, 3, 3}, {frame, 4, 4}, {frame + 9, 5, 5}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        moshi_push_pcm(session, speech, steps[i].push);
        CHECK(moshi_step(engine) == 1, "step %zu had nothing to do", i);
        const uint64_t want = threads ? steps[i].runs_ahead : steps[i].runs;
        CHECK(frames_heard(engine) == want, "step %zu, %d threads ahead: %llu frames, not %llu", i,
              threads, (unsigned long long)frames_heard(engine), (unsigned long long)want);
    }
    moshi_engine_close(engine);
}

/* What the model says is the same, whoever comes, goes or begins again meanwhile. */
static void law_ahead(void) {
    static const size_t chunks[] = {1921, 3 * 1920, 0};
    static const int flags[] = {0, MOSHI_FIRST_FRAME_SERVER, MOSHI_NO_AUDIO};
    for (size_t f = 0; f < sizeof flags / sizeof *flags; f++) {
        const moshi_session_options o = {.flags = flags[f], .seed = 9};
        codec_threads = 0;
        event_log in_turn = alone(&o, 1, 0);
        for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
            codec_threads = 1 + (int)i % 2;
            event_log ahead = alone(&o, 2, chunks[i]);
            CHECK(event_log_same(&in_turn, &ahead),
                  "hearing ahead changes the result (flags %d, chunks of %zu)", flags[f],
                  chunks[i]);
            event_log_free(&ahead);
        }
        event_log_free(&in_turn);
    }
    codec_threads = 1;
    law_reset();
    law_forced();
    law_backpressure();
    law_neighbours(1);
    law_batch();
    law_other_thread();
    law_two_engines();
    codec_threads = 0;
}

/* ---- codec -------------------------------------------------------------------------------- */

static void law_codec(void) {
    enum { N = 12 };
    moshi_codec *codec = open_codec(NULL, model.blobs, MADE_BLOBS, 0, 1, 0);
    moshi_codec_info info;
    moshi_codec_get_info(codec, &info);
    size_t frame = (size_t)info.frame_samples, k = (size_t)info.codebooks;
    int32_t *whole = test_alloc(N * k, sizeof *whole), *cut = test_alloc(N * k, sizeof *cut);
    float *pcm = test_alloc(N * frame, sizeof *pcm), *back = test_alloc(N * frame, sizeof *back);
    moshi_codec_encode(codec, speech, N, whole);
    moshi_codec_decode(codec, whole, N, pcm);
    for (int round = 0; round < 2; round++) {
        moshi_codec_reset(codec);
        for (size_t t = 0; t < N; t++) { /* both directions in turn, a frame at a time */
            moshi_codec_encode(codec, speech + t * frame, 1, cut + t * k);
            moshi_codec_decode(codec, whole + t * k, 1, back + t * frame);
        }
        CHECK(memcmp(whole, cut, N * k * sizeof *cut) == 0, "codes depend on how they are asked");
        CHECK(memcmp(pcm, back, N * frame * sizeof *back) == 0, "sound depends on how it is asked");
    }
    moshi_codec_close(codec);
    free(whole);
    free(cut);
    free(pcm);
    free(back);
}

int main(void) {
    model_spec spec;
    spec_small(&spec);
    spec.lm_dtype = MADE_MIXED;
    model_make(&model, &spec);
    n_speech = FRAMES * 1920 + LOOSE;
    speech = test_alloc(n_speech, sizeof *speech);
    test_signal(speech, n_speech, 4);
    law_chunks();
    law_threads();
    law_reset();
    law_seed();
    law_no_audio();
    law_forced();
    law_backpressure();
    law_neighbours(1);
    law_neighbours(2);
    law_batch();
    law_other_thread();
    law_two_engines();
    law_ahead_works(0);
    law_ahead_works(1);
    law_ahead();
    law_codec();
    free(speech);
    model_free(&model);
    return check_done("test_laws");
}
