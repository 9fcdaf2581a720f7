/* resample.c - streaming resampler: an output sample is one dot product with weights interpolated
 * from the rows of the kernel's table that lie nearest to its fraction of an input sample. */
#include "resample.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    BLOCK = 8192,          /* input samples that may wait */
    ROWS_MAX = 4,          /* rows that are interpolated between */
    KEPT_MAX = 256 * 1024, /* weights kept at most, so that they need no interpolation each time */
    RATE_STEPS = 1000      /* rates count in 1/1000 Hz */
};

struct resampler {
    uint64_t up, down; /* out_hz / in_hz in lowest terms */
    sinc_table table;  /* half 0: rates are equal */
    double *weights;   /* [up, 2 * half], interpolated once, when `kept`; else room for one row */
    bool kept;
    uint64_t position; /* input sample at or before the next output ... */
    uint64_t fraction; /* ... and how far behind it, in 1/up */
    float *buffer;     /* [capacity] input samples first .. first + count - 1 */
    size_t capacity, count;
    uint64_t first;
    bool ended;
};

static uint64_t gcd(uint64_t a, uint64_t b) {
    while (b) {
        uint64_t t = a % b;
        a = b;
        b = t;
    }
    return a;
}

void resampler_close(resampler *r) {
    if (!r) return;
    sinc_table_free(&r->table);
    free(r->buffer);
    free(r->weights);
    free(r);
}

/* Forget the input that no later output needs. */
static void drop_used(resampler *r) {
    uint64_t needed = r->position + 1 > r->table.half ? r->position + 1 - r->table.half : 0;
    if (needed <= r->first) return;
    size_t drop = needed - r->first < r->count ? (size_t)(needed - r->first) : r->count;
    memmove(r->buffer, r->buffer + drop, (r->count - drop) * sizeof *r->buffer);
    r->first += drop;
    r->count -= drop;
}

size_t resampler_push(resampler *r, const float *in, size_t n) {
    if (r->count + n > r->capacity) drop_used(r);
    size_t room = r->capacity - r->count;
    if (n > room) n = room;
    if (n) memcpy(r->buffer + r->count, in, n * sizeof *in);
    r->count += n;
    return n;
}

void resampler_end(resampler *r) {
    r->ended = true;
}

/* Weights of the rows around a fraction `beyond` (0..1) past row `row`: the polynomial through 1,
 * 2, 3 or 4 of them (Lagrange). *first is the row that weight[0] belongs to; returns how many. */
static int row_weights(sinc_interpolation interpolation, ptrdiff_t row, double beyond,
                       ptrdiff_t *first, double weight[ROWS_MAX]) {
    double x = beyond;
    *first = row;
    weight[0] = 1;
    if (x == 0) return 1;
    switch (interpolation) {
    case SINC_NONE:
    case SINC_NEAREST:
        *first = row + (x >= 0.5);
        return 1;
    case SINC_LINEAR:
        weight[0] = 1 - x;
        weight[1] = x;
        return 2;
    case SINC_QUADRATIC:
        *first = row + (x >= 0.5) - 1;
        x -= x >= 0.5;
        weight[0] = 0.5 * x * (x - 1);
        weight[1] = 1 - x * x;
        weight[2] = 0.5 * x * (x + 1);
        return 3;
    case SINC_CUBIC:
        *first = row - 1;
        weight[0] = -x * (x - 1) * (x - 2) / 6;
        weight[1] = 0.5 * (x + 1) * (x - 1) * (x - 2);
        weight[2] = -0.5 * (x + 1) * x * (x - 2);
        weight[3] = (x + 1) * x * (x - 1) / 6;
        return 4;
    }
    return 1;
}

/* Four partial sums that depend on nothing but the position in the kernel: the same on every
 * machine and for every way to cut the stream. */
static double dot(const double *w, const float *x, size_t n) {
    double s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        s0 += w[i] * (double)x[i];
        s1 += w[i + 1] * (double)x[i + 1];
        s2 += w[i + 2] * (double)x[i + 2];
        s3 += w[i + 3] * (double)x[i + 3];
    }
    for (; i < n; i++) s0 += w[i] * (double)x[i];
    return (s0 + s1) + (s2 + s3);
}

/* The weights for an output `fraction` of 1/up behind an input sample: [2 * half]. */
static void make_weights(const resampler *r, uint64_t fraction, double *out) {
    const sinc_table *table = &r->table;
    uint64_t at = fraction * table->rows;
    double weight[ROWS_MAX];
    ptrdiff_t first;
    int n = row_weights(table->settings.interpolation, (ptrdiff_t)(at / r->up),
                        (double)(at % r->up) / (double)r->up, &first, weight);
    for (size_t i = 0; i < 2 * table->half; i++) {
        double sum = 0;
        for (int k = 0; k < n; k++) sum += weight[k] * sinc_row(table, first + k)[i];
        out[i] = sum;
    }
}

static float output_at(resampler *r) {
    /* Outside the input there is silence: those terms are left out. */
    size_t half = r->table.half;
    int64_t base = (int64_t)r->position + 1 - (int64_t)half;
    uint64_t lo = base > 0 ? (uint64_t)base : 0;
    uint64_t hi = r->position + half + 1, end = r->first + r->count;
    if (hi > end) hi = end;
    double *w = r->weights + (r->kept ? r->fraction * 2 * half : 0);
    if (!r->kept) make_weights(r, r->fraction, w);
    return (float)dot(w + ((int64_t)lo - base), r->buffer + (lo - r->first), (size_t)(hi - lo));
}

size_t resampler_pull(resampler *r, float *out, size_t cap) {
    size_t n = 0;
    for (; n < cap; n++) {
        uint64_t end = r->first + r->count;
        if (r->position >= end || (!r->ended && r->position + r->table.half >= end)) break;
        out[n] = r->table.half ? output_at(r) : r->buffer[r->position - r->first];
        r->fraction += r->down;
        r->position += r->fraction / r->up;
        r->fraction %= r->up;
    }
    return n;
}

/* ---- opening -------------------------------------------------------------------------------- */

/* Usual pairs of rates have few fractions: 147 from 24000 to 44100. */
static bool keep_weights(resampler *r) {
    size_t taps = 2 * r->table.half;
    r->kept = r->up <= KEPT_MAX && r->up * taps <= KEPT_MAX;
    size_t rows = r->kept ? (size_t)r->up : 1;
    r->weights = malloc((rows * taps + 1) * sizeof *r->weights);
    for (size_t i = 0; r->weights && r->kept && taps && i < rows; i++)
        make_weights(r, i, r->weights + i * taps);
    return r->weights != NULL;
}

static bool settings_ok(const sinc_settings *s) {
    return s->length > 0 && s->length <= SINC_LENGTH_MAX && s->cutoff > 0 && s->cutoff <= 1 &&
           s->interpolation != SINC_NONE && s->oversampling >= 0 &&
           s->oversampling <= SINC_OVERSAMPLING_MAX;
}

static bool rate_ok(double hz) {
    return hz >= RESAMPLE_MIN_HZ && hz <= RESAMPLE_MAX_HZ;
}

resampler *resampler_open_with(const sinc_settings *settings, double in_hz, double out_hz) {
    if (!settings_ok(settings) || !rate_ok(in_hz) || !rate_ok(out_hz)) return NULL;
    resampler *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    uint64_t in = (uint64_t)llrint(in_hz * RATE_STEPS), out = (uint64_t)llrint(out_hz * RATE_STEPS);
    uint64_t common = gcd(in, out);
    r->up = out / common;
    r->down = in / common;
    r->table.settings = *settings;
    double scale = r->down > r->up ? (double)r->down / (double)r->up : 1;
    if (r->up != r->down && !sinc_table_make(&r->table, settings, scale, r->up)) {
        resampler_close(r);
        return NULL;
    }
    r->capacity = 2 * r->table.half + BLOCK;
    r->buffer = malloc(r->capacity * sizeof *r->buffer);
    if (!r->buffer || !keep_weights(r)) {
        resampler_close(r);
        return NULL;
    }
    return r;
}

resampler *resampler_open(int in_hz, int out_hz) {
    return resampler_open_with(&SINC_FILE, in_hz, out_hz);
}

const sinc_table *resampler_table(const resampler *r) {
    return &r->table;
}
