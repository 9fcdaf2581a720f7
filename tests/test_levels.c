/* Whole models on every set of kernels this machine has, through the public header: what the
 * original said must come out of each, and the same bits as out of plain C. */
#include "check.h"
#include "cpu/kernels.h"
#include "drive.h"
#include "make_model.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FRAMES = 24, N = FRAMES * 1920 };

static const char taps[] = "mimi.enc.codes lm.layer.*.out lm.text_logits depth.*.logits";

typedef struct heard {
    event_log events;
    tap_log taps;
} heard;

static void heard_free(heard *h) {
    event_log_free(&h->events);
    tap_log_free(&h->taps);
}

/* What the model at `path` says to the recording, on these kernels. */
static heard converse(const char *path, const float *pcm, mo_cpu_level level) {
    char device[64];
    heard h = {.taps = {.slot = -1}};
    snprintf(device, sizeof device, "cpu/%s", mo_cpu_level_name(level));
    moshi_engine *engine = open_engine_with(
        &(moshi_engine_options){.model = path, .device = device, .threads = 2, .sessions = 1});
    moshi_engine_info info;
    moshi_engine_get_info(engine, &info);
    CHECK(!strcmp(info.kernels, mo_cpu_level_name(level)), "%s computes with %s", device,
          info.kernels);
    event_log_init(&h.events, engine);
    moshi_engine_trace(engine, taps, tap_log_fn, &h.taps);
    moshi_session_options o = {.flags = MOSHI_GREEDY};
    run_pcm(engine, open_session(engine, &o), pcm, N, 0, &h.events);
    moshi_engine_close(engine);
    return h;
}

/* Do both say the same, and by the same bits? Layers whose weights may be split into pieces sum in
 * another order: the sound is only near. */
static void check_same(const heard *want, const heard *got, const char *what, const char *level) {
    const event_log *a = &want->events, *b = &got->events;
    bool frames = a->frames == b->frames && a->n_pcm == b->n_pcm;
    if (!CHECK(frames && a->frames > 0, "%s on %s: %zu frames", what, level, b->frames)) return;
    CHECK(first_diff(a->tokens, b->tokens, a->frames * a->channels) == a->frames * a->channels,
          "%s on %s: tokens differ", what, level);
    double d = max_diff(a->pcm, b->pcm, a->n_pcm);
    CHECK(d < 1e-5, "%s on %s: sound differs by %g", what, level, d);
    CHECK(want->taps.n > 0 && want->taps.n == got->taps.n, "%s on %s: %zu taps", what, level,
          got->taps.n);
    for (size_t i = 0; i < want->taps.n && i < got->taps.n; i++) {
        const tap_series *x = &want->taps.series[i], *y = tap_find(&got->taps, x->name);
        CHECK(y && x->calls == y->calls && x->width == y->width &&
                  !memcmp(x->data, y->data, x->calls * x->width * sizeof *x->data),
              "%s on %s: %s has other bits", what, level, x->name);
    }
}

/* Against the recording of the original: what was heard and what was said. */
static void check_golden(const heard *h, const tensors *g) {
    const int32_t *codes = tap_i32(&h->taps, FRAMES * 8, "mimi.enc.codes");
    const tensor *in = tensors_find(g, "in_codes"), *out = tensors_find(g, "out_tokens");
    size_t all = (size_t)in->shape[1];
    int wrong = 0;
    for (size_t t = 0; t < FRAMES; t++)
        for (size_t k = 0; k < 8; k++) wrong += codes[t * 8 + k] != in->i[k * all + t];
    CHECK(wrong == 0, "%d codes differ from the recorded ones", wrong);
    size_t n = h->events.frames * h->events.channels;
    if (CHECK(n > 0 && n <= out->count, "%zu frames", h->events.frames))
        CHECK(first_diff(h->events.tokens, out->i, n) == n, "recorded tokens differ");
}

static void test_model(const char *path, const char *what, const float *pcm, const tensors *g) {
    heard want = converse(path, pcm, MO_CPU_LEVEL_C);
    if (g) check_golden(&want, g);
    for (mo_cpu_level l = MO_CPU_LEVEL_C + 1; l < MO_CPU_LEVEL_COUNT; l++) {
        if (!mo_kernels_get(l)) continue;
        heard got = converse(path, pcm, l);
        if (g) check_golden(&got, g);
        check_same(&want, &got, what, mo_cpu_level_name(l));
        heard_free(&got);
    }
    heard_free(&want);
}

/* The same model with fewer bits: nobody has recorded it, but plain C is the reference. */
static void test_type(const char *type, const float *pcm) {
    char path[64];
    moshi_error err;
    snprintf(path, sizeof path, "/tmp/moshi-test-levels-%d.gguf", (int)getpid());
    moshi_convert_options o = {.type = type, .threads = 2};
    if (CHECK(moshi_convert("models/demo", path, &o, &err) == 0, "%s: %s", type, err.text))
        test_model(path, type, pcm, NULL);
    unlink(path);
}

static void test_names(void) {
    moshi_device_info info;
    moshi_error err;
    CHECK(moshi_device_find("cpu/c", &info, &err) == 0 && !strcmp(info.name, "cpu/c") &&
              !strcmp(info.driver, "c kernels"),
          "cpu/c is %s with %s", info.name, info.driver);
    CHECK(moshi_device_find("cpu/avx1024", &info, &err) == MOSHI_EDEVICE &&
              strstr(err.text, "cpu/avx1024") &&
              strstr(err.text, "kernels of this processor are c"),
          "unknown kernels: %s", err.text);
}

int main(void) {
    tensors g;
    size_t n;
    test_names();
    if (mo_cpu_level_best() == MO_CPU_LEVEL_C)
        SKIP("no vector instructions here: only the C kernels were tested");
    float *pcm = load_speech("samples/00_what_is_three_plus_seven_user.wav", 12, &n);
    if (n < N) test_die("the recording is too short");
    if (!tensors_load(&g,
                      "tests/golden/demo/00_what_is_three_plus_seven_user.inference.safetensors"))
        test_die("no recorded conversation");
    test_model("models/demo", "bf16", pcm, &g);
    test_type("q8_0", pcm);
    test_type("q4_K", pcm);
    tensors_free(&g);
    free(pcm);
    return check_done("test_levels");
}
