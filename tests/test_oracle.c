/* The oracles against recorded outputs of the original implementation: before they judge the
 * engine, they are judged themselves. */
#include "check.h"
#include "oracle_lm.h"
#include "oracle_mimi.h"
#include "tensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Whole file as text; free it. NULL when absent. */
static char *read_text(const char *path, size_t *size) {
    FILE *f = path ? fopen(path, "rb") : NULL;
    if (!f) return NULL;
    char *text = test_alloc(1 << 16, 1);
    *size = fread(text, 1, (1 << 16) - 1, f);
    fclose(f);
    return text;
}

static bool load_mimi_config(mo_mimi_config *c, const char *path) {
    moshi_error err;
    size_t n;
    char *text = read_text(path, &n);
    bool ok = text && mo_mimi_config_parse(c, text, n, path, &err) == 0;
    free(text);
    return CHECK(ok, "mimi configuration not read");
}

static bool load_lm_config(mo_lm_config *c, const char *path) {
    moshi_error err = {0};
    size_t n;
    char *text = read_text(path, &n);
    bool ok = text && mo_lm_config_parse(c, text, n, path, &err) == 0;
    free(text);
    return CHECK(ok, "language model configuration not read: %s", err.text);
}

static void check_signal(const char *mode, const char *what, signal s, const tensors *g) {
    size_t n = (size_t)s.channels * (size_t)s.n;
    double d = max_diff_d(tensors_f32(g, n, "%s.%s", mode, what), s.x, n);
    CHECK(d < 2e-5, "%s.%s differs by %g", mode, what, d);
}

/* per_call: frames the recorded run took at once; 0: the exact mask. */
static void mimi_mode(const mo_mimi_config *c, const tensors *w, const tensors *g, const char *mode,
                      int per_call) {
    oracle_codes enc;
    const float *pcm = tensors_f32(g, 144000, "input.audio");
    oracle_mimi_encode(c, w, pcm, 75, per_call, &enc);
    check_signal(mode, "enc.seanet", enc.seanet, g);
    check_signal(mode, "enc.transformer", enc.transformer, g);
    check_signal(mode, "enc.latent", enc.latent, g);
    size_t n = 32 * 75;
    CHECK(first_diff(enc.codes, tensors_i32(g, n, "%s.enc.codes", mode), n) == n,
          "%s: codes differ", mode);
    CHECK(max_diff_d(tensors_f32(g, n, "%s.enc.code_margin", mode), enc.margin, n) < 1e-4,
          "%s: margins differ", mode);
    for (int k = 8; k <= 32; k += 24) {
        char name[64];
        oracle_audio dec;
        oracle_mimi_decode(c, w, enc.codes, k, 75, per_call, &dec);
        snprintf(name, sizeof name, "%s.dec%d", mode, k);
        check_signal(name, "quantized", dec.quantized, g);
        check_signal(name, "upsampled", dec.upsampled, g);
        check_signal(name, "transformer", dec.transformer, g);
        double d = max_diff_d(tensors_f32(g, 144000, "%s.audio", name), dec.audio.x, 144000);
        CHECK(d < 5e-6, "%s.audio differs by %g", name, d);
        oracle_audio_free(&dec);
    }
    oracle_codes_free(&enc);
}

static void mimi_odd(const mo_mimi_config *c, const tensors *w, const tensors *g) {
    size_t n = 39177;
    float *pcm = test_alloc(21 * 1920, sizeof *pcm);
    memcpy(pcm, tensors_f32(g, n, "odd.audio"), n * sizeof *pcm);
    oracle_codes enc;
    oracle_mimi_encode(c, w, pcm, 21, 0, &enc);
    n = 32 * 21;
    CHECK(first_diff(enc.codes, tensors_i32(g, n, "odd.codes"), n) == n, "odd: codes differ");
    oracle_codes_free(&enc);
    free(pcm);
}

static void test_mimi(void) {
    tensors g = {0}, w = {0};
    mo_mimi_config c;
    const char *golden = golden_path("mimi-tiny/golden.safetensors");
    if (!CHECK(golden && tensors_load(&g, golden) &&
                   tensors_load(&w, golden_path("mimi-tiny/model.safetensors")),
               "mimi-tiny not read"))
        return;
    if (tensors_find(&g, "subset")) {
        SKIP("most of the mimi-tiny reference data is not here");
    } else if (load_mimi_config(&c, golden_path("mimi-tiny/config.json"))) {
        mimi_mode(&c, &w, &g, "offline", 0);
        mimi_mode(&c, &w, &g, "stream1", 1);
        mimi_mode(&c, &w, &g, "stream5", 5);
        mimi_odd(&c, &w, &g);
    }
    tensors_free(&g);
    tensors_free(&w);
}

/* Logits of every codebook of every step, chained on the recorded tokens. */
static void check_depth(const mo_lm_config *c, const tensors *w, const tensors *g, int steps,
                        const double *normed, const int32_t *text, const int32_t *audio) {
    size_t dep_q = (size_t)c->dep_q, e = (size_t)c->dep_dim, card = (size_t)c->card;
    const float *want_hidden = tensors_f32(g, (size_t)steps * dep_q * e, "dep_hidden");
    const float *want_logits = tensors_f32(g, (size_t)steps * dep_q * card, "dep_logits");
    double *hidden = test_alloc(dep_q * e, sizeof *hidden), worst_hidden = 0;
    double *logits = test_alloc(dep_q * card, sizeof *logits), worst_logits = 0;
    int32_t *greedy = test_alloc(dep_q, sizeof *greedy);
    int wrong = 0;
    for (size_t s = 0; s < (size_t)steps; s++) {
        const double *x = normed + s * (size_t)c->dim;
        oracle_lm_depth(c, w, x, text[s], audio + s * dep_q, hidden, logits);
        worst_hidden =
            fmax(worst_hidden, max_diff_d(want_hidden + s * dep_q * e, hidden, dep_q * e));
        worst_logits =
            fmax(worst_logits, max_diff_d(want_logits + s * dep_q * card, logits, dep_q * card));
        if (s % 8) continue; /* the free chain is slow here and the same thing again */
        oracle_lm_depth_greedy(c, w, x, text[s], greedy);
        wrong += first_diff(greedy, audio + s * dep_q, dep_q) != dep_q;
    }
    CHECK(worst_hidden < 1e-4, "depth hidden differs by %g", worst_hidden);
    CHECK(worst_logits < 1e-4, "depth logits differ by %g", worst_logits);
    CHECK(wrong == 0, "%d steps choose other audio tokens", wrong);
    free(hidden);
    free(logits);
    free(greedy);
}

static void check_temporal(const mo_lm_config *c, const tensors *w, const tensors *g) {
    enum { STEPS = 64 };
    size_t users = (size_t)(c->n_q - c->dep_q), channels = 1 + (size_t)c->n_q;
    size_t dep_q = (size_t)c->dep_q, dim = (size_t)c->dim;
    int32_t *user = test_alloc(STEPS * users, sizeof *user);
    int32_t *in = test_alloc(STEPS * channels, sizeof *in);
    int32_t *out = test_alloc(STEPS * (1 + dep_q), sizeof *out);
    const int32_t *codes = tensors_i32(g, STEPS * users, "user_codes");
    const int32_t *text = tensors_i32(g, STEPS, "text_token");
    const int32_t *audio = dep_q ? tensors_i32(g, STEPS * dep_q, "audio_tokens") : NULL;
    for (size_t s = 0; s < STEPS; s++)
        for (size_t k = 0; k < users; k++) user[s * users + k] = codes[k * STEPS + s];
    oracle_grid(c, STEPS, user, text, audio, in, out);
    CHECK(first_diff(in, tensors_i32(g, STEPS * channels, "in_tokens"), STEPS * channels) ==
              STEPS * channels,
          "model inputs differ");
    size_t first = (size_t)c->max_delay * (1 + dep_q), all = STEPS * (1 + dep_q);
    CHECK(first_diff(out + first, tensors_i32(g, all, "out_tokens") + first, all - first) ==
              all - first,
          "outputs differ");
    oracle_temporal t;
    oracle_lm_temporal(c, w, in, STEPS, 0, &t);
    double d = max_diff_d(tensors_f32(g, 0, "hidden"), t.hidden, STEPS * (size_t)c->layers * dim);
    CHECK(d < 1e-4, "hidden differs by %g", d);
    d = max_diff_d(tensors_f32(g, STEPS * dim, "transformer_out"), t.normed, STEPS * dim);
    CHECK(d < 5e-5, "transformer_out differs by %g", d);
    size_t card = (size_t)c->text_card_out;
    d = max_diff_d(tensors_f32(g, STEPS * card, "text_logits"), t.logits, STEPS * card);
    CHECK(d < 5e-5, "text_logits differ by %g", d);
    int wrong = 0;
    double margin;
    for (size_t s = 0; s < STEPS; s++)
        wrong += oracle_argmax(t.logits + s * card, (int)card, &margin) != text[s];
    CHECK(wrong == 0, "%d steps choose another text token", wrong);
    if (dep_q) check_depth(c, w, g, STEPS, t.normed, text, audio);
    oracle_temporal_free(&t);
    free(user);
    free(in);
    free(out);
}

static void test_lm(const char *dir, const char *model, const char *tag) {
    char name[128];
    tensors g = {0}, w = {0};
    mo_lm_config c;
    snprintf(name, sizeof name, "%s/golden.%s.safetensors", dir, tag);
    const char *golden = golden_path(name);
    if (!golden) {
        SKIP("%s reference data is not here", dir);
        return;
    }
    snprintf(name, sizeof name, "%s/%s", dir, model);
    bool ok = tensors_load(&g, golden) && tensors_load(&w, golden_path(name));
    snprintf(name, sizeof name, "%s/config.json", dir);
    if (CHECK(ok, "%s not read", dir) && load_lm_config(&c, golden_path(name))) {
        if (!strcmp(c.model_type, "hibiki")) { /* row EOS := row PAD, as the original loads it */
            tensor *text_emb = tensors_find(&w, "text_emb.weight");
            memcpy(text_emb->f + 2 * c.dim, text_emb->f + 3 * c.dim, (size_t)c.dim * sizeof(float));
        }
        check_temporal(&c, &w, &g);
    }
    tensors_free(&g);
    tensors_free(&w);
}

int main(void) {
    test_mimi();
    test_lm("moshi-tiny", "model.f32.safetensors", "f32");
    test_lm("moshi-tiny", "model.safetensors", "bf16w");
    test_lm("hibiki-zero-tiny", "model.safetensors", "bf16w");
    test_lm("stt-tiny", "model.safetensors", "bf16w");
    return check_done("test_oracle");
}
