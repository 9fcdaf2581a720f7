/* resample.c - streaming resampler: an output sample is one dot product with the rows of a table of
 * weights that lie nearest to its fraction of an input sample. */
#include "resample.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    BLOCK = 8192,     /* input samples that may wait */
    LANES = 8,        /* partial sums of a dot product, which a compiler can keep in vectors */
    ROWS_MAX = 4,     /* rows that are interpolated between */
    RATE_STEPS = 1000 /* rates count in 1/1000 Hz */
};

struct resampler {
    uint64_t up, down; /* out_hz / in_hz in lowest terms */
    sinc_table table;  /* half 0: rates are equal */
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
    if (!r->buffer) {
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

void resampler_close(resampler *r) {
    if (!r) return;
    sinc_table_free(&r->table);
    free(r->buffer);
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

static double dot(const double *w, const float *x, size_t n) {
    double lanes[LANES] = {0}, sum = 0;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t k = 0; k < LANES; k++) lanes[k] += w[i + k] * (double)x[i + k];
    for (; i < n; i++) sum += w[i] * (double)x[i];
    for (size_t k = 0; k < LANES; k++) sum += lanes[k];
    return sum;
}

static float output_at(const resampler *r) {
    /* Outside the input there is silence: those terms are left out. */
    const sinc_table *table = &r->table;
    int64_t base = (int64_t)r->position + 1 - (int64_t)table->half;
    uint64_t lo = base > 0 ? (uint64_t)base : 0;
    uint64_t hi = r->position + table->half + 1, end = r->first + r->count;
    if (hi > end) hi = end;
    uint64_t at = r->fraction * table->rows;
    double weight[ROWS_MAX], sum = 0;
    ptrdiff_t first;
    int n = row_weights(table->settings.interpolation, (ptrdiff_t)(at / r->up),
                        (double)(at % r->up) / (double)r->up, &first, weight);
    for (int k = 0; k < n; k++)
        sum += weight[k] * dot(sinc_row(table, first + k) + ((int64_t)lo - base),
                               r->buffer + (lo - r->first), (size_t)(hi - lo));
    return (float)sum;
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
