/* gain.c - gains of a codec's convolutions, measured with speech. */
#include "gain.h"

#include "agreement.h"
#include "stimulus.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of the question inside the program: its first words. */
static const double KNOWN_S = 1.5;

/* Taps come in the order in which they are computed, so that an activation is followed by the
 * convolution that reads it. */
typedef struct meter {
    gains *g;
    app_error error; /* the callback has no way to return one */
    char before[64];
    double before_rms;
} meter;

static bool ends_with(const char *name, const char *end) {
    size_t n = strlen(name), k = strlen(end);
    return n >= k && !strcmp(name + n - k, end);
}

/* The second activation of a residual block is not among them: to its convolution the block's input
 * is added, and the sum says nothing of the matrix. */
static bool feeds_convolution(const char *tap) {
    return ends_with(tap, ".elu") || ends_with(tap, ".elu1");
}

static double rms_of(const moshi_tap *tap) {
    const float *x = tap->data;
    double sum = 0;
    size_t n = 1;
    for (int i = 0; i < tap->ndim; i++) n *= (size_t)tap->shape[i];
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sqrt(sum / (double)n);
}

static gain *gain_of(meter *m, const char *tap) {
    gains *g = m->g;
    for (size_t i = 0; i < g->n; i++)
        if (!strcmp(g->list[i].tap, tap)) return &g->list[i];
    gain *more = realloc(g->list, (g->n + 1) * sizeof *more);
    if (!more) {
        app_no_memory(&m->error);
        return NULL;
    }
    g->list = more;
    g->list[g->n] = (gain){0};
    snprintf(g->list[g->n].tap, sizeof g->list->tap, "%s", tap);
    snprintf(g->list[g->n].operand, sizeof g->list->operand, "%s", m->before);
    return &g->list[g->n++];
}

static void on_tap(void *user, const moshi_tap *tap) {
    meter *m = user;
    if (m->error.exit_code || tap->dtype != MOSHI_F32) return;
    double rms = rms_of(tap);
    if (feeds_convolution(m->before) && m->before_rms > 0) {
        gain *g = gain_of(m, tap->name);
        if (g && isfinite(rms) && rms > g->loudest) {
            g->loudest = rms;
            g->ratio = rms / m->before_rms;
        }
    }
    snprintf(m->before, sizeof m->before, "%s", tap->name);
    m->before_rms = rms;
}

int gains_measure(gains *g, moshi_codec *codec, app_error *err) {
    moshi_codec_info info;
    stimulus known = {0};
    code_rows codes = {0};
    sound back = {0};
    meter m = {.g = g};
    moshi_codec_get_info(codec, &info);
    int rc = stimulus_load(&known, NULL, info.sample_rate_hz, (size_t)info.frame_samples, KNOWN_S,
                           0, err);
    if (rc == EXIT_OK && moshi_codec_trace(codec, "mimi.*", on_tap, &m) < 0)
        rc = app_no_memory(err);
    if (rc == EXIT_OK) rc = code_rows_encode(&codes, codec, &known.sound, err);
    if (rc == EXIT_OK) rc = code_rows_decode(&back, codec, &codes, err);
    moshi_codec_trace(codec, NULL, NULL, NULL);
    if (rc == EXIT_OK && m.error.exit_code) {
        *err = m.error;
        rc = err->exit_code;
    }
    code_rows_free(&codes);
    sound_free(&back);
    stimulus_free(&known);
    return rc;
}

const gain *gains_find(const gains *g, const char *tap) {
    for (size_t i = 0; i < g->n; i++)
        if (!strcmp(g->list[i].tap, tap)) return &g->list[i];
    return NULL;
}

void gains_free(gains *g) {
    free(g->list);
    *g = (gains){0};
}
