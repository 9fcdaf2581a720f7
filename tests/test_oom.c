/* Every single allocation fails once: opening ends in MOSHI_ENOMEM with words, or in success where
 * the memory was not needed after all; nothing leaks (the address sanitizer watches), and what was
 * open before still works. */
#include "alloc_fail.h"
#include "check.h"
#include "drive.h"
#include "make_model.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static made_model model;
static char dir[] = "/tmp/moshi-test-oom-XXXXXX";

/* One way to take memory: returns the code, cleans up after success. */
typedef int (*attempt)(moshi_error *err);

static int open_blobs(moshi_error *err) {
    moshi_engine *engine;
    moshi_engine_options o = {.blobs = model.blobs, .n_blobs = MADE_BLOBS, .sessions = 2};
    o.threads = 1;
    int rc = moshi_engine_open(&engine, &o, err);
    if (rc < 0)
        CHECK(engine == NULL, "an engine was left behind");
    else
        moshi_engine_close(engine);
    return rc;
}

static int open_dry(moshi_error *err) {
    moshi_engine *engine;
    moshi_engine_options o = {.blobs = model.blobs, .n_blobs = MADE_BLOBS, .threads = 1};
    o.flags = MOSHI_DRY_RUN;
    int rc = moshi_engine_open(&engine, &o, err);
    if (rc == 0) moshi_engine_close(engine);
    return rc;
}

static int open_threads(moshi_error *err) {
    moshi_engine *engine;
    moshi_engine_options o = {.blobs = model.blobs, .n_blobs = MADE_BLOBS, .threads = 3};
    int rc = moshi_engine_open(&engine, &o, err);
    if (rc == 0) moshi_engine_close(engine);
    return rc;
}

static int open_directory(moshi_error *err) {
    moshi_engine *engine;
    moshi_engine_options o = {.model = dir, .threads = 1};
    int rc = moshi_engine_open(&engine, &o, err);
    if (rc == 0) moshi_engine_close(engine);
    return rc;
}

static int open_codec_only(moshi_error *err) {
    moshi_codec *codec;
    moshi_codec_options o = {.blobs = model.blobs, .n_blobs = MADE_BLOBS, .threads = 1};
    int rc = moshi_codec_open(&codec, &o, err);
    if (rc < 0)
        CHECK(codec == NULL, "a codec was left behind");
    else
        moshi_codec_close(codec);
    return rc;
}

static int inspect_blobs(moshi_error *err) {
    moshi_model_info *info;
    int rc = inspect_blobs_of(&info, model.blobs, MADE_BLOBS, err);
    if (rc < 0)
        CHECK(info == NULL, "information was left behind");
    else
        CHECK(info->runs, "memory ran out, but the model was blamed: %s", info->reason);
    if (rc == 0) moshi_model_info_free(info);
    return rc;
}

static int inspect_directory(moshi_error *err) {
    moshi_model_info *info;
    int rc = moshi_inspect(&info, &(moshi_inspect_options){.model = dir}, err);
    if (rc == 0) moshi_model_info_free(info);
    return rc;
}

static moshi_engine *open_before;

static int open_one_session(moshi_error *err) {
    moshi_session *session;
    int rc = moshi_session_open(&session, open_before, NULL, err);
    if (rc < 0)
        CHECK(session == NULL, "a session was left behind");
    else
        moshi_session_close(session);
    return rc;
}

static void ignore_tap(void *user, const moshi_tap *tap) {
    (void)user;
    (void)tap;
}

static int set_trace(moshi_error *err) {
    int rc = moshi_engine_trace(open_before, "lm.* mimi.*", ignore_tap, NULL);
    /* this function has no room for words */
    err->code = rc;
    strcpy(err->text, "out of memory");
    moshi_engine_trace(open_before, NULL, NULL, NULL);
    return rc;
}

/* sticky: from the n-th on all fail. */
static void fail_everywhere(attempt what, const char *name, bool sticky) {
    long n = 0, survived = 0;
    bool good = true;
    for (;;) {
        moshi_error err = {0};
        n++;
        alloc_fail_at(n, sticky);
        int rc = what(&err);
        long asked = alloc_count();
        alloc_fail_at(0, false);
        if (asked < n) { /* nothing was left to fail */
            good = CHECK(rc == 0, "%s: failed without a reason: %s", name, err.text) && good;
            break;
        }
        survived += rc == 0;
        good = CHECK(rc == 0 || rc == MOSHI_ENOMEM, "%s: allocation %ld: code %d, %s", name, n, rc,
                     err.text) &&
               CHECK(rc == 0 || (err.code == rc && err.text[0]), "%s: allocation %ld: no words",
                     name, n) &&
               good;
        if (!good && n > 5) break;
    }
    CHECK(n > 1, "%s: takes no memory at all", name);
    CHECK(!sticky || survived == 0, "%s: %ld times it opened without memory", name, survived);
}

int main(void) {
    model_spec spec;
    if (!alloc_fail_works()) {
        SKIP("allocations cannot be made to fail in this build");
        return check_done("test_oom");
    }
    spec_tiny(&spec);
    spec.names = MADE_PER_SET;
    model_make(&model, &spec);
    if (!mkdtemp(dir)) test_die("no temporary directory");
    model_write(&model, dir);
    for (int sticky = 0; sticky < 2; sticky++) {
        fail_everywhere(open_blobs, "engine from blobs", sticky);
        fail_everywhere(open_threads, "engine with threads", sticky);
        fail_everywhere(open_directory, "engine from a directory", sticky);
        fail_everywhere(open_codec_only, "codec", sticky);
        fail_everywhere(open_dry, "open without memory", sticky);
        fail_everywhere(inspect_blobs, "inspect blobs", sticky);
        fail_everywhere(inspect_directory, "inspect a directory", sticky);
    }
    open_before = open_engine(NULL, model.blobs, MADE_BLOBS, 2, 1, 0);
    for (int sticky = 0; sticky < 2; sticky++) {
        fail_everywhere(open_one_session, "session", sticky);
        fail_everywhere(set_trace, "trace", sticky);
    }
    /* after all that the engine still speaks */
    float pcm[24 * 20];
    event_log log;
    test_signal(pcm, sizeof pcm / sizeof *pcm, 1);
    event_log_init(&log, open_before);
    run_pcm(open_before, open_session(open_before, NULL), pcm, sizeof pcm / sizeof *pcm, 0, &log);
    CHECK(log.frames == 20, "%zu frames came out", log.frames);
    event_log_free(&log);
    moshi_engine_close(open_before);
    for (int i = 0; i < MADE_BLOBS; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", dir, model.blobs[i].name);
        unlink(path);
    }
    rmdir(dir);
    model_free(&model);
    return check_done("test_oom");
}
