/* Low-rank adapters: a model with adapters says what the model with merged weights says. */
#include "check.h"
#include "drive.h"
#include "make_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STEPS = 20, RANK = 3 };

static char path[] = "/tmp/moshi-test-lora-XXXXXX";

static void write_file(const tensors *set) {
    size_t size;
    uint8_t *bytes = safetensors_build(set, &size);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, size, f) != size) test_die("cannot write %s", path);
    fclose(f);
    free(bytes);
}

/* A random pair for layer `name`, out x in; also adds scale * B A to `w`. */
static void add_pair(tensors *set, const char *name, int64_t out, int64_t in, float scale,
                     test_rng *rng, float *w) {
    char full[128];
    snprintf(full, sizeof full, "%s.lora_A.weight", name);
    tensor *a = tensors_add(set, full, 2, (int64_t[]){RANK, in});
    for (size_t i = 0; i < a->count; i++) a->f[i] = rng_f32(rng) * 0.2f;
    float *av = a->f;
    snprintf(full, sizeof full, "%s.lora_B.weight", name);
    tensor *b = tensors_add(set, full, 2, (int64_t[]){out, RANK});
    for (size_t i = 0; i < b->count; i++) b->f[i] = rng_f32(rng) * 0.2f;
    for (int64_t r = 0; r < out; r++)
        for (int64_t c = 0; c < in; c++) {
            double sum = 0;
            for (int k = 0; k < RANK; k++) sum += (double)b->f[r * RANK + k] * av[k * in + c];
            w[r * in + c] += (float)(scale * sum);
        }
}

static tap_log run(const made_model *model, const moshi_lora *loras, size_t n) {
    moshi_engine *engine;
    moshi_error err;
    moshi_engine_options options = {.blobs = model->blobs,
                                    .n_blobs = MADE_BLOBS,
                                    .flags = MOSHI_NO_CODEC,
                                    .loras = loras,
                                    .n_loras = n};
    if (moshi_engine_open(&engine, &options, &err) < 0) test_die("%s", err.text);
    moshi_session_options so = {.flags = MOSHI_GREEDY};
    tap_log log = {.slot = -1};
    event_log events;
    int32_t codes[STEPS * 8] = {0};
    for (int i = 0; i < STEPS * 8; i++) codes[i] = i * 7 % model->spec.lm.card;
    event_log_init(&events, engine);
    moshi_engine_trace(engine, "lm.text_logits depth.*.logits", tap_log_fn, &log);
    run_codes(engine, open_session(engine, &so), codes, NULL, STEPS, &events);
    event_log_free(&events);
    moshi_engine_close(engine);
    return log;
}

static double difference(const tap_log *a, const tap_log *b) {
    double worst = 0;
    for (size_t i = 0; i < a->n; i++) {
        const tap_series *x = &a->series[i], *y = tap_find(b, x->name);
        size_t n = x->calls * x->width;
        if (!y || y->calls * y->width != n) test_die("%s: other sizes", x->name);
        double d = max_diff((const float *)x->data, (const float *)y->data, n);
        if (d > worst) worst = d;
    }
    return worst;
}

static float *weights(made_model *m, const char *name) {
    tensor *t = tensors_find(&m->lm, name);
    if (!t) test_die("no tensor %s", name);
    return t->f;
}

/* The layers an adapter can sit on: whole matrices, and weight sets of stacked ones. */
static void adapters(tensors *set, made_model *m, float scale, uint64_t seed) {
    const mo_lm_config *c = &m->spec.lm;
    test_rng rng = {seed};
    int64_t e = c->dep_dim;
    add_pair(set, "text_linear", c->text_card_out, c->dim, scale, &rng,
             weights(m, "text_linear.weight"));
    add_pair(set, "transformer.layers.1.self_attn.in_projs.0", 3 * c->dim, c->dim, scale, &rng,
             weights(m, "transformer.layers.1.self_attn.in_proj_weight"));
    add_pair(set, "depformer.layers.0.self_attn.in_projs.1", 3 * e, e, scale, &rng,
             weights(m, "depformer.layers.0.self_attn.in_proj_weight") + 3 * e * e);
    add_pair(set, "depformer.layers.0.gating.1.linear_in", 2 * c->dep_hidden, e, scale, &rng,
             weights(m, "depformer.layers.0.gating.1.linear_in.weight"));
}

static void refused(const made_model *m, const moshi_lora *lora, const char *word) {
    moshi_engine *engine;
    moshi_error err;
    moshi_engine_options options = {.blobs = m->blobs,
                                    .n_blobs = MADE_BLOBS,
                                    .flags = MOSHI_NO_CODEC,
                                    .loras = lora,
                                    .n_loras = 1};
    int rc = moshi_engine_open(&engine, &options, &err);
    if (!CHECK(rc < 0, "accepted; wanted a refusal that says '%s'", word)) {
        moshi_engine_close(engine);
        return;
    }
    CHECK(strstr(err.text, word), "'%s' does not say '%s'", err.text, word);
}

/* A conversion with the adapters is the merged model, weight sets and all. */
static void converted(made_model *plain, made_model *merged, const moshi_lora *lora) {
    char dir[] = "/tmp/moshi-test-lora-XXXXXX", out[64];
    moshi_convert_options options = {
        .type = "f32", .threads = 2, .verify = 1, .loras = lora, .n_loras = 1};
    moshi_error err = {0};
    tensors found = {0};
    if (!mkdtemp(dir)) test_die("no temporary directory");
    model_write(plain, dir);
    snprintf(out, sizeof out, "%s/merged.safetensors", dir);
    CHECK(moshi_convert(dir, out, &options, &err) == 0, "%s", err.text);
    if (CHECK(tensors_load(&found, out), "%s cannot be read", out)) {
        double worst = 0;
        for (size_t i = 0; i < merged->lm.n; i++) {
            const tensor *want = &merged->lm.t[i], *t = tensors_find(&found, want->name);
            if (!CHECK(t && t->count == want->count, "%s is missing", want->name)) continue;
            double d = max_diff(t->f, want->f, t->count);
            if (d > worst) worst = d;
        }
        CHECK(worst < 1e-5, "converted with adapters and merged weights differ by %g", worst);
    }
    tensors_free(&found);
    unlink(out);
    for (int i = 0; i < MADE_BLOBS; i++) {
        snprintf(out, sizeof out, "%s/%s", dir, plain->blobs[i].name);
        unlink(out);
    }
    CHECK(rmdir(dir) == 0, "files were left in %s", dir);
}

int main(void) {
    made_model plain, merged;
    model_spec spec;
    spec_small(&spec);
    spec.lm_dtype = MO_F32;
    model_make(&plain, &spec);
    model_make(&merged, &spec);
    int fd = mkstemp(path);
    if (fd < 0) test_die("no temporary file");
    close(fd);

    tensors set = {0};
    adapters(&set, &merged, 1.5f, 1);
    model_rebuild(&merged);
    write_file(&set);
    moshi_lora lora = {.path = path, .scale = 1.5f};
    tap_log without = run(&plain, NULL, 0), with = run(&plain, &lora, 1),
            truth = run(&merged, NULL, 0);
    CHECK(difference(&without, &truth) > 1e-2, "the adapters change nothing");
    CHECK(difference(&with, &truth) < 2e-4, "adapters and merged weights differ by %g",
          difference(&with, &truth));
    tap_log_free(&with);

    converted(&plain, &merged, &lora);

    /* the same file twice is the sum; half the scale twice is the whole */
    moshi_lora halves[] = {{path, 0.75f}, {path, 0.75f}};
    with = run(&plain, halves, 2);
    CHECK(difference(&with, &truth) < 2e-4, "two adapters differ from their sum by %g",
          difference(&with, &truth));
    tap_log_free(&with);
    tap_log_free(&without);
    tap_log_free(&truth);

    float ignored[64 * 64] = {0};
    test_rng rng = {9};
    add_pair(&set, "transformer.layers.99.gating.linear_in", 8, 8, 1, &rng, ignored);
    write_file(&set);
    refused(&plain, &lora, "layers.99");
    tensors_free(&set);
    set = (tensors){0};
    add_pair(&set, "text_linear", 8, 8, 1, &rng, ignored);
    write_file(&set);
    refused(&plain, &lora, "text_linear");
    unlink(path);
    refused(&plain, &lora, "no such file");
    tensors_free(&set);
    model_free(&plain);
    model_free(&merged);
    return check_done("test_lora");
}
