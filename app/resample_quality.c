/* resample_quality.c - tones one after the other through one resampler; of each, the middle, where
 * the kernel is filled, is compared with the best fitting tone of the same frequency. */
#include "resample_quality.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    MIDDLE = 600, /* samples of the lower rate that are looked at */
    PASS_TONES = 20,
    EDGE_TONES = 21,
    REJECT_TONES = 12,
    TONES = PASS_TONES + EDGE_TONES + REJECT_TONES
};

typedef struct tone {
    double part; /* frequency, in lower Nyquist frequencies */
    double gain_db,
        noise_db; /* of the tone that came out; of the rest; both against the one sent */
} tone;

/* One measurement: a buffer of tones, each `length` samples at its rate. */
typedef struct bench {
    double in_hz, out_hz, low_hz;
    tone tones[TONES];
    size_t in_length, out_length;
    float *in, *out; /* [TONES, length] */
} bench;

static void choose_tones(bench *b, double cutoff) {
    tone *t = b->tones;
    double top = b->in_hz > b->out_hz ? b->in_hz / b->low_hz : 0.98;
    for (int i = 0; i < PASS_TONES; i++) t++->part = 0.01 + 0.89 * i / (PASS_TONES - 1);
    for (int i = 0; i < EDGE_TONES; i++) t++->part = cutoff - 0.08 * (1 - i / (EDGE_TONES - 1.0));
    double from = top > 1 ? 1.02 : 0.9;
    for (int i = 0; i < REJECT_TONES; i++) t++->part = from + (top - from) * i / (REJECT_TONES - 1);
}

static bool bench_make(bench *b, const sinc_settings *settings, double in_hz, double out_hz) {
    b->in_hz = in_hz;
    b->out_hz = out_hz;
    b->low_hz = in_hz < out_hz ? in_hz : out_hz;
    choose_tones(b, settings->cutoff);
    double seconds = (MIDDLE + 2.0 * settings->length) / b->low_hz;
    b->in_length = (size_t)ceil(seconds * in_hz);
    b->out_length = (size_t)((double)b->in_length * out_hz / in_hz);
    b->in = calloc(TONES * b->in_length, sizeof *b->in);
    b->out = calloc(TONES * (b->out_length + 1) + 1, sizeof *b->out);
    if (!b->in || !b->out) return false;
    for (size_t t = 0; t < TONES; t++) {
        double step = M_PI * b->tones[t].part * b->low_hz / in_hz;
        for (size_t i = 0; i < b->in_length; i++) {
            double at = (double)(t * b->in_length + i);
            b->in[t * b->in_length + i] = (float)sin(step * at + 0.3);
        }
    }
    return true;
}

static bool bench_run(bench *b, const sinc_settings *settings) {
    resampler *r = resampler_open_with(settings, b->in_hz, b->out_hz);
    size_t n = TONES * b->in_length, room = TONES * (b->out_length + 1), done = 0, got = 0;
    while (r) {
        size_t more = resampler_pull(r, b->out + got, room - got);
        got += more;
        if (more > 0) continue;
        if (done == n) break;
        done += resampler_push(r, b->in + done, n - done);
    }
    resampler_close(r);
    return r != NULL;
}

/* Least squares: x[i] = a cos + b sin + rest. */
static void fit_tone(bench *b, size_t index) {
    tone *t = &b->tones[index];
    double ratio = b->out_hz / b->in_hz, step = M_PI * t->part * b->low_hz / b->out_hz;
    size_t n = (size_t)(MIDDLE * b->out_hz / b->low_hz);
    size_t from = (size_t)((double)(index * b->in_length) * ratio) + (b->out_length - n) / 2;
    double cc = 0, ss = 0, cs = 0, xc = 0, xs = 0, rest = 0;
    for (size_t i = from; i < from + n; i++) {
        double c = cos(step * (double)i), s = sin(step * (double)i), x = (double)b->out[i];
        cc += c * c, ss += s * s, cs += c * s, xc += x * c, xs += x * s;
    }
    double det = cc * ss - cs * cs, p = (xc * ss - xs * cs) / det, q = (xs * cc - xc * cs) / det;
    for (size_t i = from; i < from + n; i++) {
        double y = p * cos(step * (double)i) + q * sin(step * (double)i);
        rest += ((double)b->out[i] - y) * ((double)b->out[i] - y);
    }
    double sent = 0.5 * (double)n;
    t->gain_db = 10 * log10(p * p + q * q + 1e-30);
    t->noise_db = 10 * log10(rest / sent + 1e-30);
    /* A tone above the output's Nyquist frequency must vanish: all that came out is rest. */
    if (t->part * b->low_hz > b->out_hz) {
        double all = rest + (p * p + q * q) * sent;
        t->noise_db = 10 * log10(all / sent + 1e-30);
    }
}

static void judge(const bench *b, resample_quality *q) {
    const tone *t = b->tones;
    *q = (resample_quality){.edge = t[PASS_TONES].part, .snr_db = 400, .reject_db = 400};
    for (int i = 0; i < PASS_TONES; i++, t++) {
        q->ripple_db = fmax(q->ripple_db, fabs(t->gain_db));
        q->snr_db = fmin(q->snr_db, t->gain_db - t->noise_db);
    }
    bool flat = true;
    for (int i = 0; i < EDGE_TONES; i++, t++) {
        flat = flat && t->gain_db > -0.1;
        if (flat) q->edge = t->part;
    }
    for (int i = 0; i < REJECT_TONES; i++, t++) q->reject_db = fmin(q->reject_db, -t->noise_db);
}

bool resample_measure(resample_quality *quality, const sinc_settings *settings, double in_hz,
                      double out_hz) {
    bench b = {0};
    bool ok = bench_make(&b, settings, in_hz, out_hz) && bench_run(&b, settings);
    for (size_t i = 0; ok && i < TONES; i++) fit_tone(&b, i);
    if (ok) judge(&b, quality);
    free(b.in);
    free(b.out);
    return ok;
}
