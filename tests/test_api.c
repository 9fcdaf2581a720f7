/* The public header's own promises: codes for wrong use, facts of an open engine, event fields, the
 * several ways to name a model, and what inspect tells. */
#include "check.h"
#include "drive.h"
#include "make_model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static made_model model;

/* ---- wrong use ---------------------------------------------------------------------------- */

static void expect_open(const moshi_engine_options *o, int code, const char *word) {
    moshi_engine *engine = (moshi_engine *)(uintptr_t)1;
    moshi_error err;
    memset(&err, 'x', sizeof err);
    int rc = moshi_engine_open(&engine, o, &err);
    CHECK(rc == code && err.code == code, "code %d instead of %d: %s", rc, code, err.text);
    CHECK(engine == NULL, "an engine was left behind");
    CHECK(strstr(err.text, word), "the message does not say \"%s\": %s", word, err.text);
    CHECK(moshi_engine_open(&engine, o, NULL) == code, "another code without room for words");
}

static void wrong_engine_options(void) {
    moshi_engine_options good = {.blobs = model.blobs, .n_blobs = MADE_BLOBS}, o;
    moshi_engine *engine;
    moshi_error err;
    CHECK(moshi_engine_open(NULL, &good, &err) == MOSHI_EINVAL, "no place for the engine");
    CHECK(moshi_engine_open(&engine, NULL, &err) == MOSHI_EINVAL, "no options");
    o = (moshi_engine_options){0};
    expect_open(&o, MOSHI_EINVAL, "model");
    o = good, o.sessions = 1025;
    expect_open(&o, MOSHI_EINVAL, "1025");
    o = good, o.sessions = -1;
    expect_open(&o, MOSHI_EINVAL, "-1");
    o = good, o.threads = 257;
    expect_open(&o, MOSHI_EINVAL, "257");
    o = good, o.flags = 1 << 20;
    expect_open(&o, MOSHI_EINVAL, "flags");
    o = good, o.device = "abacus";
    expect_open(&o, MOSHI_EDEVICE, "abacus");
}

static void wrong_session_options(moshi_engine *engine) {
    moshi_session *session;
    moshi_error err;
    moshi_session_options o = {.flags = 1 << 20};
    CHECK(moshi_session_open(&session, engine, &o, &err) == MOSHI_EINVAL && !session && err.text[0],
          "unknown flags");
    o = (moshi_session_options){.text_temp = NAN};
    CHECK(moshi_session_open(&session, engine, &o, &err) == MOSHI_EINVAL, "a temperature of NaN");
    CHECK(moshi_session_open(NULL, engine, NULL, &err) == MOSHI_EINVAL, "no place for the session");
    CHECK(moshi_session_open(&session, NULL, NULL, &err) == MOSHI_EINVAL, "no engine");
}

static void wrong_calls(void) {
    moshi_engine *engine = open_engine(NULL, model.blobs, MADE_BLOBS, 2, 1, 0);
    moshi_session *a = open_session(engine, NULL), *b = open_session(engine, NULL), *c;
    float pcm[8] = {0};
    int32_t codes[2] = {0}, force[3] = {MOSHI_FREE, MOSHI_FREE, MOSHI_FREE};
    moshi_event ev;
    moshi_error err;
    CHECK(moshi_session_open(&c, engine, NULL, &err) == MOSHI_EBUSY && strstr(err.text, "2"),
          "a third session in two slots");
    CHECK(moshi_session_slot(a) == 0 && moshi_session_slot(b) == 1, "slots are not in order");
    CHECK(moshi_step(engine) == 0, "a step without input");
    CHECK(moshi_pull(a, &ev) == 0, "an event without a step");
    CHECK(moshi_push_pcm(a, pcm, 8) == 8, "samples not taken");
    CHECK(moshi_push_pcm(a, NULL, 0) == 0, "no samples");
    CHECK(moshi_push_pcm(a, NULL, 1) == MOSHI_EINVAL, "samples from nowhere");
    CHECK(moshi_push_codes(a, codes, NULL, 1) == MOSHI_EINVAL, "codes after samples");
    pcm[5] = INFINITY;
    CHECK(moshi_push_pcm(a, pcm, 8) == MOSHI_EINVAL, "an infinite sample");
    pcm[5] = NAN;
    CHECK(moshi_push_pcm(a, pcm, 8) == MOSHI_EINVAL, "a sample that is no number");
    CHECK(moshi_push_codes(b, codes, force, 1) == 1, "codes not taken");
    CHECK(moshi_push_pcm(b, pcm, 1) == MOSHI_EINVAL, "samples after codes");
    codes[1] = 1000;
    CHECK(moshi_push_codes(b, codes, NULL, 1) == MOSHI_EINVAL, "a code out of range");
    codes[1] = -7;
    CHECK(moshi_push_codes(b, codes, NULL, 1) == MOSHI_EINVAL, "a negative code");
    codes[1] = 0, force[0] = 1000;
    CHECK(moshi_push_codes(b, codes, force, 1) == MOSHI_EINVAL, "a forced token out of range");
    CHECK(moshi_push_codes(b, NULL, NULL, 1) == MOSHI_EINVAL, "codes from nowhere");
    CHECK(moshi_push_end(b) == 0 && moshi_push_codes(b, codes, NULL, 1) == MOSHI_EEND,
          "codes after the end");
    CHECK(moshi_push_end(a) == 0 && moshi_push_pcm(a, pcm, 1) == MOSHI_EEND,
          "samples after the end");
    CHECK(moshi_step(engine) == 2, "the started frame was not filled up");
    CHECK(moshi_push_pcm(NULL, pcm, 1) == MOSHI_EINVAL && moshi_push_end(NULL) == MOSHI_EINVAL &&
              moshi_pull(NULL, &ev) == MOSHI_EINVAL && moshi_pull(a, NULL) == MOSHI_EINVAL &&
              moshi_step(NULL) == MOSHI_EINVAL && moshi_session_reset(NULL) == MOSHI_EINVAL,
          "NULL was taken for something");
    wrong_session_options(engine);
    moshi_session_close(a);
    CHECK(moshi_session_open(&c, engine, NULL, &err) == 0, "a slot given back is not free");
    moshi_engine_close(engine); /* with sessions still open */
    moshi_engine_close(NULL);
    moshi_session_close(NULL);
    moshi_codec_close(NULL);
    moshi_model_info_free(NULL);
}

/* All its channels are its own. */
static void model_without_user(void) {
    model_spec spec;
    made_model m;
    const float pcm[1920] = {0};
    spec_tiny(&spec);
    spec.lm.n_q = spec.lm.dep_q;
    model_make(&m, &spec);
    moshi_engine *engine = open_engine(NULL, m.blobs, MADE_BLOBS, 1, 1, 0);
    moshi_session *s = open_session(engine, NULL);
    CHECK(moshi_push_pcm(s, pcm, 1920) == MOSHI_EINVAL && moshi_step(engine) == 0,
          "sound for a model that listens to nobody");
    CHECK(moshi_push_codes(s, NULL, NULL, 1) == 1 && moshi_step(engine) == 1, "it speaks");
    moshi_engine_close(engine);
    model_free(&m);
}

static void wrong_codec_calls(void) {
    moshi_codec *codec;
    moshi_error err;
    moshi_codec_options good = {.blobs = model.blobs, .n_blobs = MADE_BLOBS}, o;
    float pcm[1920] = {0};
    int32_t codes[4] = {0};
    CHECK(moshi_codec_open(NULL, &good, &err) == MOSHI_EINVAL, "no place for the codec");
    o = good, o.codebooks = 5;
    CHECK(moshi_codec_open(&codec, &o, &err) < 0 && !codec && strstr(err.text, "5"),
          "five codebooks of four: %s", err.text);
    o = good, o.frames_per_call = -1;
    CHECK(moshi_codec_open(&codec, &o, &err) == MOSHI_EINVAL, "-1 frames per call");
    o = good, o.calls_at_once = -1;
    CHECK(moshi_codec_open(&codec, &o, &err) == MOSHI_EINVAL, "-1 calls at once");
    o = good, o.frames_per_call = 16, o.calls_at_once = 17;
    CHECK(moshi_codec_open(&codec, &o, &err) == MOSHI_EINVAL && strstr(err.text, "1..16"),
          "272 frames at once: %s", err.text);
    o = good, o.flags = MOSHI_NO_CODEC;
    CHECK(moshi_codec_open(&codec, &o, &err) == MOSHI_EINVAL, "a codec without a codec");
    o = good, o.device = "abacus";
    CHECK(moshi_codec_open(&codec, &o, &err) == MOSHI_EDEVICE, "an unknown device");
    codec = open_codec(NULL, model.blobs, MADE_BLOBS, 0, 1, 0);
    codes[3] = 24;
    CHECK(moshi_codec_decode(codec, codes, 1, pcm) == MOSHI_EINVAL, "a code out of range");
    codes[3] = -1;
    CHECK(moshi_codec_decode(codec, codes, 1, pcm) == MOSHI_EINVAL, "a negative code");
    pcm[1919] = NAN;
    CHECK(moshi_codec_encode(codec, pcm, 1, codes) == MOSHI_EINVAL, "a sample that is no number");
    CHECK(moshi_codec_encode(codec, NULL, 1, codes) == MOSHI_EINVAL, "samples from nowhere");
    CHECK(moshi_codec_encode(codec, NULL, 0, NULL) == 0, "no frames");
    moshi_codec_close(codec);
}

/* ---- facts -------------------------------------------------------------------------------- */

static void texts(void) {
    static const int codes[] = {
#define NAMED(name, value, text) name,
        MOSHI_ERROR_LIST(NAMED)
#undef NAMED
    };
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", MOSHI_VERSION_MAJOR, MOSHI_VERSION_MINOR,
             MOSHI_VERSION_PATCH);
    CHECK(!strcmp(moshi_version(), version), "version %s", moshi_version());
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        for (size_t j = 0; j < i; j++)
            CHECK(strcmp(moshi_strerror(codes[i]), moshi_strerror(codes[j])) != 0,
                  "codes %d and %d read the same", codes[i], codes[j]);
    CHECK(moshi_strerror(0) && moshi_strerror(-1000) && moshi_strerror(77), "a code without words");
}

static void engine_facts(void) {
    const mo_lm_config *c = &model.spec.lm;
    const char *named = getenv("TEST_DEVICE"), *device = named ? named : "cpu";
    moshi_engine *engine = open_engine(NULL, model.blobs, MADE_BLOBS, 3, 2, 0);
    moshi_engine_info i;
    CHECK(moshi_engine_get_info(engine, &i) == 0 && moshi_engine_get_info(NULL, &i) < 0 &&
              moshi_engine_get_info(engine, NULL) < 0,
          "information");
    CHECK(!strcmp(i.model_type, "moshi") && !strncmp(i.device, device, strlen(device)) &&
              i.kernels && i.kernels[0],
          "names");
    /* A card has one thread of the host whatever is asked for. */
    CHECK(i.threads == (strncmp(device, "cpu", 3) ? 1 : 2) && i.sessions == 3,
          "%d threads, %d sessions", i.threads, i.sessions);
    CHECK(i.sample_rate_hz == 24000 && i.frame_samples == 1920 && i.frame_rate_hz == 12.5, "rates");
    CHECK(i.n_q == c->n_q && i.dep_q == c->dep_q && i.user_codebooks == c->n_q - c->dep_q,
          "channels");
    CHECK(i.text_card == c->text_card && i.card == c->card && i.context == c->context, "sizes");
    CHECK(i.max_delay == 1 && i.delays[0] == 0 && i.delays[2] == 1 && i.delays[4] == 1, "delays");
    CHECK(i.text_temp == c->text_temp && i.audio_temp == c->audio_temp &&
              i.text_top_k == c->text_top_k && i.audio_top_k == c->audio_top_k,
          "sampling defaults");
    CHECK(i.parameters > 10000 && i.weight_bytes > i.parameters && i.state_bytes > 1000, "memory");
    moshi_engine_close(engine);
    engine = open_engine(NULL, model.blobs, MADE_BLOBS, 0, 0, MOSHI_NO_CODEC);
    moshi_engine_get_info(engine, &i);
    CHECK(i.sessions == 1 && i.threads >= 1, "defaults: %d sessions, %d threads", i.sessions,
          i.threads);
    CHECK(i.sample_rate_hz == 0 && i.frame_samples == 0 && i.frame_rate_hz == 12.5,
          "a codec where none was wanted");
    moshi_session *session = open_session(engine, NULL);
    float pcm[1] = {0};
    CHECK(moshi_push_pcm(session, pcm, 1) == MOSHI_EINVAL, "samples without a codec");
    moshi_engine_close(engine);
}

typedef struct progress {
    uint64_t done, total;
    int calls, cancel_at;
    bool backwards;
} progress;

static int count_progress(void *user, uint64_t done, uint64_t total) {
    progress *p = user;
    if (done < p->done || done > total || (p->calls && total != p->total)) p->backwards = true;
    p->done = done;
    p->total = total;
    return ++p->calls == p->cancel_at;
}

static void loading_progress(void) {
    moshi_engine *engine;
    moshi_error err;
    progress p = {0};
    moshi_engine_options o = {.blobs = model.blobs,
                              .n_blobs = MADE_BLOBS,
                              .threads = 1,
                              .progress = count_progress,
                              .progress_user = &p};
    CHECK(moshi_engine_open(&engine, &o, &err) == 0, "%s", err.text);
    CHECK(p.calls > 3 && !p.backwards, "%d reports of progress", p.calls);
    moshi_engine_close(engine);
    for (int at = 1; at <= p.calls; at += 7) {
        progress stop = {.cancel_at = at};
        o.progress_user = &stop;
        int rc = moshi_engine_open(&engine, &o, &err);
        CHECK(rc == MOSHI_ECANCELLED && !engine && stop.calls == at,
              "cancelled at %d: %d, %d calls", at, rc, stop.calls);
    }
}

typedef struct crumbs {
    moshi_breadcrumb crumb;
    bool in_turn;
    uint64_t calls;
} crumbs;

static int follow_weights(void *user, uint64_t done, uint64_t total) {
    crumbs *c = user;
    c->calls++;
    c->in_turn &= c->crumb.stage && !strcmp(c->crumb.stage, "weights") &&
                  c->crumb.done == c->calls && c->crumb.total >= c->calls && c->crumb.detail &&
                  strstr(c->crumb.detail, ".") && done <= total;
    return 0;
}

/* The breadcrumb names the stage while it lasts, and in a frame the op that ran last. */
static void breadcrumbs(void) {
    moshi_engine *engine;
    moshi_error err;
    crumbs c = {.in_turn = true};
    moshi_engine_options o = {.blobs = model.blobs,
                              .n_blobs = MADE_BLOBS,
                              .threads = 1,
                              .progress = follow_weights,
                              .progress_user = &c,
                              .breadcrumb = &c.crumb};
    if (!CHECK(moshi_engine_open(&engine, &o, &err) == 0, "%s", err.text)) return;
    CHECK(c.in_turn && c.calls > 3, "tensors in turn, %d of them", (int)c.calls);
    CHECK(!strcmp(c.crumb.stage, "ready") && !c.crumb.detail, "open: %s", c.crumb.stage);
    moshi_session *session = open_session(engine, NULL);
    float pcm[1920] = {0};
    for (int i = 1; i <= 3; i++) {
        moshi_push_pcm(session, pcm, 1920);
        moshi_step(engine);
        CHECK(!strcmp(c.crumb.stage, "ready") && c.crumb.done == (uint64_t)i, "frame %d", i);
    }
    moshi_engine_close(engine);
    o.device = "abacus";
    c.crumb = (moshi_breadcrumb){0};
    moshi_engine_open(&engine, &o, &err);
    CHECK(!c.crumb.stage, "no device, no stage");
    moshi_codec *codec;
    moshi_codec_options co = {.blobs = model.blobs, .n_blobs = MADE_BLOBS, .breadcrumb = &c.crumb};
    int32_t codes[32];
    if (!CHECK(moshi_codec_open(&codec, &co, &err) == 0, "%s", err.text)) return;
    CHECK(!strcmp(c.crumb.stage, "ready"), "codec: %s", c.crumb.stage);
    moshi_codec_encode(codec, pcm, 1, codes);
    CHECK(!strcmp(c.crumb.stage, "encode") && c.crumb.detail, "encoding: %s", c.crumb.stage);
    moshi_codec_close(codec);
}

/* Frames count up, times follow them, words are the text cut at its spaces. */
static void event_fields(void) {
    enum { FRAMES = 40 };
    moshi_engine *engine = open_engine(NULL, model.blobs, MADE_BLOBS, 1, 1, 0);
    moshi_session *session = open_session(engine, &(moshi_session_options){.seed = 2});
    float pcm[1920];
    int64_t tokens = 0, sound = 0, ends = 0;
    double last_word = 0;
    char text[4096] = "", words[4096] = "";
    for (int f = 0; f <= FRAMES; f++) {
        moshi_event ev;
        test_signal(pcm, 1920, (uint64_t)f);
        if (f < FRAMES)
            moshi_push_pcm(session, pcm, 1920);
        else
            moshi_push_end(session);
        moshi_step(engine);
        while (moshi_pull(session, &ev) > 0) {
            if (ev.type == MOSHI_EVENT_TOKENS) {
                CHECK(ev.frame == tokens++ && ev.n == 3 && ev.tokens && ev.codes,
                      "TOKENS of frame %d", (int)ev.frame);
                CHECK(fabs(ev.start_s - (double)ev.frame * 0.08) < 1e-9 &&
                          fabs(ev.stop_s - ev.start_s - 0.08) < 1e-9,
                      "times of frame %d", (int)ev.frame);
            } else if (ev.type == MOSHI_EVENT_AUDIO) {
                CHECK(ev.frame == sound++ && ev.n == 1920 && ev.pcm, "AUDIO of frame %d",
                      (int)ev.frame);
            } else if (ev.type == MOSHI_EVENT_TEXT) {
                CHECK(ev.frame == tokens - 1 && ev.n == strlen(ev.text) && ev.n > 0 &&
                          ev.token != 0 && ev.token != 3,
                      "TEXT of frame %d", (int)ev.frame);
                strcat(text, ev.text);
            } else if (ev.type == MOSHI_EVENT_WORD) {
                CHECK(ev.start_s >= last_word && ev.stop_s > ev.start_s &&
                          ev.stop_s <= (double)tokens * 0.08 + 1e-9,
                      "word %s lasts from %g to %g", ev.text, ev.start_s, ev.stop_s);
                CHECK(!strchr(ev.text, ' '), "a word with a space");
                last_word = ev.start_s;
                strcat(words, ev.text);
            } else {
                ends++;
            }
        }
    }
    CHECK(tokens == FRAMES && sound == FRAMES && ends == 1, "%d frames, %d sounds, %d ends",
          (int)tokens, (int)sound, (int)ends);
    char *to = text;
    for (const char *from = text; *from; from++)
        if (*from != ' ') *to++ = *from;
    *to = 0;
    CHECK(text[0] && !strcmp(text, words), "words \"%s\" of the text \"%s\"", words, text);
    moshi_engine_close(engine);
}

static void count_tap(void *user, const moshi_tap *tap) {
    int *n = user;
    int64_t size = 1;
    for (int d = 0; d < tap->ndim; d++) size *= tap->shape[d];
    CHECK(tap->name[0] && tap->data && tap->ndim >= 1 && tap->ndim <= 4 && size > 0,
          "an odd tap %s", tap->name);
    ++*n;
}

static void last_step(void *user, const moshi_tap *tap) {
    *(int64_t *)user = tap->step;
}

/* How many taps one tick of pushed codes gives. */
static int taps_of(moshi_engine *engine, moshi_session *session, const char *globs) {
    int n = 0;
    int32_t codes[2] = {1, 2};
    moshi_event ev;
    CHECK(moshi_engine_trace(engine, globs, globs ? count_tap : NULL, &n) == 0, "no trace of %s",
          globs ? globs : "nothing");
    moshi_push_codes(session, codes, NULL, 1);
    CHECK(moshi_step(engine) == 1, "no step");
    while (moshi_pull(session, &ev) > 0) continue;
    return n;
}

static void tracing(void) {
    moshi_engine *engine = open_engine(NULL, model.blobs, MADE_BLOBS, 1, 1, 0);
    moshi_session *session = open_session(engine, NULL);
    CHECK(taps_of(engine, session, "lm.text_logits") == 1, "one tap");
    CHECK(taps_of(engine, session, "depth.??.logits") == 2, "two taps");
    CHECK(taps_of(engine, session, "lm.layer.*.attn lm.layer.*.out") == 4, "four taps");
    CHECK(taps_of(engine, session, "nothing.like.it") == 0, "no tap");
    int all = taps_of(engine, session, "*");
    CHECK(all > 15, "%d taps in all", all);
    CHECK(taps_of(engine, session, NULL) == 0, "tracing was turned off");
    /* steps are counted per session, from its last reset */
    int64_t step = -1;
    moshi_session_reset(session);
    moshi_engine_trace(engine, "lm.in_tokens", last_step, &step);
    int32_t codes[6] = {0};
    moshi_push_codes(session, codes, NULL, 3);
    while (moshi_step(engine) > 0) continue;
    CHECK(step == 2, "the third step after a reset calls itself %d", (int)step);
    CHECK(moshi_engine_trace(engine, NULL, count_tap, NULL) == MOSHI_EINVAL, "no globs");
    CHECK(moshi_engine_trace(NULL, "*", count_tap, NULL) == MOSHI_EINVAL, "no engine");
    moshi_engine_close(engine);
}

/* ---- ways to name a model ----------------------------------------------------------------- */

static event_log say_something(const char *path) {
    float pcm[1920 * 3];
    event_log log;
    moshi_engine *engine = path ? open_engine(path, NULL, 0, 1, 1, 0)
                                : open_engine(NULL, model.blobs, MADE_BLOBS, 1, 1, 0);
    test_signal(pcm, 1920 * 3, 6);
    event_log_init(&log, engine);
    run_pcm(engine, open_session(engine, NULL), pcm, 1920 * 3, 0, &log);
    moshi_engine_close(engine);
    return log;
}

static void naming(void) {
    char dir[] = "/tmp/moshi-test-api-XXXXXX", path[128];
    if (!mkdtemp(dir)) test_die("no temporary directory");
    model_write(&model, dir);
    event_log blobs = say_something(NULL);
    static const char *const forms[] = {"%s", "%s/", "%s/model.safetensors"};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (i == 0) snprintf(path, sizeof path, "%s", dir);
        if (i == 1) snprintf(path, sizeof path, "%s/", dir);
        if (i == 2) snprintf(path, sizeof path, "%s/model.safetensors", dir);
        event_log log = say_something(path);
        CHECK(event_log_same(&blobs, &log), "%s says something else", forms[i]);
        event_log_free(&log);
    }
    snprintf(path, sizeof path, "%s/mimi.safetensors", dir);
    moshi_codec *codec =
        open_codec(path, NULL, 0, 0, 1, 0); /* its file, beside the model's config */
    moshi_codec_info info;
    moshi_codec_get_info(codec, &info);
    CHECK(info.codebooks == 4 && info.max_codebooks == 4 && info.bins == 24 &&
              info.frame_samples == 1920 && info.sample_rate_hz == 24000 &&
              info.frame_rate_hz == 12.5 && info.parameters > 1000 && info.weight_bytes > 4000 &&
              info.state_bytes > 1000,
          "facts of the codec");
    moshi_codec_close(codec);
    for (int i = 0; i < MADE_BLOBS; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, model.blobs[i].name);
        unlink(path);
    }
    rmdir(dir);
    event_log_free(&blobs);
}

/* ---- inspect ------------------------------------------------------------------------------ */

static void inspecting(void) {
    moshi_model_info *info;
    moshi_error err;
    int rc = inspect_blobs_of(&info, model.blobs, MADE_BLOBS, &err);
    if (!CHECK(rc == 0, "inspect: %s", err.text)) return;
    const mo_lm_config *c = &model.spec.lm;
    CHECK(!strcmp(info->kind, "moshi") && info->summary[0] && info->runs && !info->reason,
          "the model itself: %s", info->reason ? info->reason : "");
    CHECK(info->dim == c->dim && info->layers == c->layers && info->heads == c->heads &&
              info->depformer_dim == c->dep_dim && info->depformer_layers == c->dep_layers &&
              info->depformer_heads == c->dep_heads,
          "sizes");
    CHECK(info->engine.n_q == c->n_q && info->engine.card == c->card && info->codec.bins == 24,
          "more sizes");
    CHECK(info->n_tensors == model.lm.n + model.mimi.n, "%zu tensors", info->n_tensors);
    int problems = 0;
    for (size_t i = 0; i < info->n_tensors; i++) problems += info->tensors[i].problem != NULL;
    CHECK(problems == 0, "%d tensors of a sound model have problems", problems);
    moshi_model_info_free(info);

    made_model sick;
    model_make(&sick, &model.spec);
    tensors_find(&sick.lm, "linears.1.weight")->f[3] = NAN;
    model_rebuild(&sick);
    rc = inspect_blobs_of(&info, sick.blobs, MADE_BLOBS, &err);
    if (CHECK(rc == 0, "inspect: %s", err.text)) {
        CHECK(!info->runs && info->reason && strstr(info->reason, "linears.1.weight"),
              "a NaN goes unseen: %s", info->reason ? info->reason : "");
        for (size_t i = 0; i < info->n_tensors; i++)
            if (!strcmp(info->tensors[i].name, "linears.1.weight"))
                CHECK(info->tensors[i].problem != NULL, "the tensor with NaN has no problem");
            else
                problems += info->tensors[i].problem != NULL;
        CHECK(problems == 0, "%d others have", problems);
        moshi_model_info_free(info);
    }
    model_free(&sick);

    moshi_blob codec[] = {
        {"config.json", model.blobs[MADE_MIMI_CONFIG].data, model.blobs[MADE_MIMI_CONFIG].size},
        {"model.safetensors", model.blobs[MADE_MIMI].data, model.blobs[MADE_MIMI].size}};
    rc = inspect_blobs_of(&info, codec, 2, &err);
    if (CHECK(rc == 0, "inspect a codec: %s", err.text)) {
        CHECK(!strcmp(info->kind, "mimi") && info->runs && info->codec.codebooks == 4,
              "a codec is taken for %s", info->kind);
        moshi_model_info_free(info);
    }
    CHECK(moshi_inspect(&info, &(moshi_inspect_options){.model = "/no/such/place"}, &err) ==
                  MOSHI_EMODEL &&
              !info,
          "inspect nothing");
    CHECK(moshi_inspect(NULL, &(moshi_inspect_options){.model = "x"}, &err) == MOSHI_EINVAL,
          "no place for information");
    CHECK(moshi_inspect(&info, &(moshi_inspect_options){0}, &err) == MOSHI_EINVAL,
          "nothing to inspect");
}

int main(void) {
    model_spec spec;
    spec_small(&spec);
    model_make(&model, &spec);
    wrong_engine_options();
    wrong_calls();
    model_without_user();
    wrong_codec_calls();
    texts();
    engine_facts();
    loading_progress();
    breadcrumbs();
    event_fields();
    tracing();
    naming();
    inspecting();
    model_free(&model);
    return check_done("test_api");
}
