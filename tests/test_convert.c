/* Conversion: a model in one file says what it said as a directory, every type keeps as much as its
 * format can, and a conversion that ends early leaves nothing. */
#include "alloc_fail.h"
#include "check.h"
#include "drive.h"
#include "make_model.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SAMPLES = 1920 * 12 };

static char dir[] = "/tmp/moshi-test-convert-XXXXXX";

/* A path in the test's directory; lives until the fourth call from now. */
static const char *at(const char *name) {
    static char paths[4][128];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

static int count_files(void) {
    int n = 0;
    DIR *d = opendir(dir);
    if (!d) test_die("cannot list %s", dir);
    for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

/* ---- what a model says ---------------------------------------------------------------------- */

static event_log say(const char *path) {
    float pcm[SAMPLES];
    event_log log;
    moshi_session_options options = {.flags = MOSHI_GREEDY};
    moshi_engine *engine = open_engine(path, NULL, 0, 1, 1, 0);
    test_signal(pcm, SAMPLES, 3);
    event_log_init(&log, engine);
    run_pcm(engine, open_session(engine, &options), pcm, SAMPLES, 0, &log);
    moshi_engine_close(engine);
    return log;
}

typedef struct errors {
    double worst; /* of tensors of type `to` */
    const char *to;
    int tensors, of_type;
} errors;

static void note_error(void *user, const moshi_converted *t) {
    errors *e = user;
    e->tensors++;
    if (strcmp(t->to, e->to) != 0) return;
    e->of_type++;
    if (t->error > e->worst) e->worst = t->error;
}

static int convert(const char *in, const char *out, const char *type, const char *keep, errors *e) {
    moshi_error err;
    moshi_convert_options options = {
        .type = type, .keep = keep, .threads = 2, .verify = 1, .report = note_error, .user = e};
    int rc = moshi_convert(in, out, &options, &err);
    CHECK(rc == 0, "%s to %s: %s", in, type, rc < 0 ? err.text : "");
    return rc;
}

/* The same weights in one file: not a bit of what comes out may change. */
static void lossless(void) {
    event_log before = say(dir);
    static const char *const types[] = {"f32", "bf16"}; /* the model is bf16 */
    for (size_t i = 0; i < 2; i++) {
        errors e = {.to = i ? "BF16" : "F32"};
        convert(dir, at("one.gguf"), types[i], NULL, &e);
        CHECK(e.worst == 0 && e.of_type > 10, "%s: error %g", types[i], e.worst);
        event_log after = say(at("one.gguf"));
        CHECK(event_log_same(&before, &after), "%s: one file says something else", types[i]);
        event_log_free(&after);
        /* and back out of the one file, beside the configuration */
        convert(at("one.gguf"), at("model2.safetensors"), types[i], NULL, &e);
        rename(at("model2.safetensors"), at("model.safetensors"));
        after = say(dir);
        CHECK(event_log_same(&before, &after), "%s: the way back says something else", types[i]);
        event_log_free(&after);
        unlink(at("one.gguf"));
    }
    event_log_free(&before);
}

/* Relative RMS error of the format on uniform random weights: the step over the spread. */
static void lossy(void) {
    static const struct {
        const char *type, *name;
        double least, most;
    } cases[] = {
        {"q8_0", "Q8_0", 1e-3, 8e-3},
        {"q6_K", "Q6_K", 5e-3, 3e-2},
        {"q4_K", "Q4_K", 2e-2, 1e-1},
        {"q4_0", "Q4_0", 3e-2, 1.2e-1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        errors e = {.to = cases[i].name};
        convert(dir, at("q.gguf"), cases[i].type, NULL, &e);
        CHECK(e.of_type > 0, "no tensor became %s", cases[i].name);
        CHECK(e.worst > cases[i].least && e.worst < cases[i].most, "%s: error %g", cases[i].name,
              e.worst);
        event_log log = say(at("q.gguf"));
        CHECK(log.frames == SAMPLES / 1920 && log.n_pcm == SAMPLES, "%s: it does not speak",
              cases[i].name);
        event_log_free(&log);
    }
    errors e = {.to = "F16"};
    convert(dir, at("q.gguf"), "q8_0", "text_linear*=f16,depformer*=f32", &e);
    CHECK(e.of_type == 1, "keep: %d tensors became F16", e.of_type);
    unlink(at("q.gguf"));
}

/* ---- refusals ------------------------------------------------------------------------------- */

static void refuse(const char *in, const char *out, const char *type, const char *keep, int want,
                   const char *word) {
    moshi_error err;
    moshi_convert_options options = {.type = type, .keep = keep};
    int files = count_files();
    int rc = moshi_convert(in, out, &options, &err);
    CHECK(rc == want, "%s %s: %d instead of %d", out, type ? type : "(none)", rc, want);
    CHECK(rc == 0 || strstr(err.text, word), "'%s' does not say %s", err.text, word);
    CHECK(count_files() == files, "%s: something was left behind", out);
}

static int cancel_late(void *user, uint64_t done, uint64_t total) {
    (void)user;
    return done > total / 2;
}

static void refusals(void) {
    refuse(dir, at("x.gguf"), "q5_1", NULL, MOSHI_EINVAL, "q5_1");
    refuse(dir, at("x.gguf"), NULL, NULL, MOSHI_EINVAL, "type");
    refuse(dir, at("x.bin"), "f32", NULL, MOSHI_EINVAL, ".gguf");
    refuse(dir, at("x.safetensors"), "q8_0", NULL, MOSHI_EINVAL, "safetensors");
    refuse(dir, at("x.safetensors"), "q4_0", NULL, MOSHI_EINVAL, "q4_0 cannot");
    refuse(dir, at("x.safetensors"), "f16", "emb*=q8_0", MOSHI_EINVAL, "keep: q8_0 cannot");
    refuse(dir, at("x.gguf"), "f32", "text_liner.*=f16", MOSHI_EINVAL, "text_linear.weight");
    refuse(dir, at("x.gguf"), "f32", "out_norm*=f16", MOSHI_EINVAL, "out_norm*");
    refuse(dir, at("x.gguf"), "f32", "nonsense", MOSHI_EINVAL, "nonsense");
    refuse(dir, at("x.gguf"), "f32", "emb*=q9", MOSHI_EINVAL, "q9");
    refuse(dir, at("missing/x.gguf"), "f32", NULL, MOSHI_EIO, "missing");
    refuse(at("nowhere"), at("x.gguf"), "f32", NULL, MOSHI_EMODEL, "nowhere");

    refuse(dir, at("model.safetensors"), "f32", NULL, MOSHI_EINVAL, "another name");

    moshi_error err;
    moshi_convert_options options = {.type = "q8_0", .progress = cancel_late};
    int files = count_files();
    CHECK(moshi_convert(dir, at("x.gguf"), &options, &err) == MOSHI_ECANCELLED, "not cancelled");
    CHECK(count_files() == files, "a cancelled conversion left something");
}

/* Packed weights of other programs: their numbers arrive as they are, and in any format. */
static void packed(void) {
    static const char *const files[] = {
        "moshi-tiny-q/model.mlx.q4.safetensors", "moshi-tiny-q/model.mlx.q8.safetensors",
        "moshi-tiny/model.q8.safetensors", "moshi-tiny/model.q8.split.safetensors",
        "moshi-tiny/model.candle.q8.gguf"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        const char *path = golden_path(files[i]);
        if (!path) {
            SKIP("%s is not there", files[i]);
            continue;
        }
        errors e = {.to = "F32"};
        convert(path, at("p.gguf"), "f32", NULL, &e);
        CHECK(e.of_type > 100 && e.of_type == e.tensors && e.worst == 0, "%s: error %g", files[i],
              e.worst);
        event_log before = say(path), after = say(at("p.gguf"));
        CHECK(before.frames == after.frames && before.frames == SAMPLES / 1920,
              "%s: converted it does not speak", files[i]);
        event_log_free(&before);
        event_log_free(&after);
        e = (errors){.to = "Q8_0"};
        convert(path, at("p.gguf"), "q8_0", NULL, &e);
        CHECK(e.of_type > 100 && e.worst < 8e-3, "%s as q8_0: error %g", files[i], e.worst);
        unlink(at("p.gguf"));
    }
}

/* Damage must not come out as sound weights of another format. */
static void damaged(made_model *model) {
    tensor *t = tensors_find(&model->lm, "transformer.layers.0.gating.linear_in.weight");
    t->f[7] = NAN;
    model_rebuild(model);
    model_write(model, dir);
    refuse(dir, at("x.gguf"), "q8_0", NULL, MOSHI_EMODEL, "transformer.layers.0.gating.linear_in");
    t->f[7] = 0.01f;
    model_rebuild(model);
    model_write(model, dir);
}

static void without_memory(void) {
    moshi_error err;
    moshi_convert_options options = {.type = "q8_0", .threads = 1};
    if (!alloc_fail_works()) {
        SKIP("allocations cannot be made to fail in this build");
        return;
    }
    int rc = MOSHI_ENOMEM, files = count_files();
    long n = 0;
    while (rc == MOSHI_ENOMEM && ++n < 20000) {
        alloc_fail_at(n, false);
        rc = moshi_convert(dir, at("m.gguf"), &options, &err);
        alloc_fail_at(0, false);
        if (rc == MOSHI_ENOMEM && count_files() != files) break;
    }
    CHECK(rc == 0 && n > 50, "allocation %ld failing gives %d: %s", n, rc, rc < 0 ? err.text : "");
    unlink(at("m.gguf"));
}

int main(void) {
    made_model model;
    model_spec spec;
    spec_small(&spec);
    spec.lm.dim = 256; /* whole blocks of every format */
    spec.lm.heads = 4;
    spec.lm_dtype = MO_BF16;
    spec.mimi_dtype = MO_F32;
    model_make(&model, &spec);
    if (!mkdtemp(dir)) test_die("no temporary directory");
    model_write(&model, dir);
    lossless();
    model_write(&model, dir);
    lossy();
    refusals();
    packed();
    damaged(&model);
    without_memory();
    for (int i = 0; i < MADE_BLOBS; i++) unlink(at(model.blobs[i].name));
    CHECK(rmdir(dir) == 0, "files were left in %s", dir);
    model_free(&model);
    return check_done("test_convert");
}
