/* splice.c - seams: prediction error outliers, grids they fall on, repetitions, gaps. */
#include "splice.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ORDER_MAX = 20, THRESHOLDS = 6, LAGS_MAX = 48 };

static const double ACTIVE_BELOW_LOUD_DB = 35;
/* Outliers are counted above several sizes: hard cuts are few and large, cuts under noise are many
 * and small. */
static const float SIZES[THRESHOLDS] = {4, 6, 9, 14, 22, 40};
/* Half a step of 16 bits: prediction errors below it are rounding. */
static const double ROUNDING = 1.5e-5;

/* ---- prediction error ----------------------------------------------------------------------- */

/* Prediction errors by two yardsticks, 0 where nothing sounds: in medians of their 20 ms, which
 * shows cuts that come often; and in sixths of the largest one up to 12 ms away, which shows rare
 * cuts between the pulses of a voice. */
typedef struct errors {
    float *size;   /* [n] by the yardstick in use */
    float *other;  /* [n] by the other one */
    size_t active; /* samples where something sounds */
    double gain_db;
} errors;

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Levinson-Durbin: autocorrelation r[0..order] to predictor a[1..order], a[0] = 1; returns the
 * share of the energy that is left. */
static double levinson(const double *r, int order, double *a) {
    double left = r[0];
    memset(a, 0, sizeof *a * (size_t)(order + 1));
    a[0] = 1;
    for (int m = 1; m <= order; m++) {
        double sum = r[m], next[ORDER_MAX + 1];
        for (int k = 1; k < m; k++) sum += a[k] * r[m - k];
        double reflection = -sum / left;
        for (int k = 1; k < m; k++) next[k] = a[k] + reflection * a[m - k];
        memcpy(a + 1, next + 1, sizeof *a * (size_t)(m - 1));
        a[m] = reflection;
        left *= 1 - reflection * reflection;
    }
    return left / r[0];
}

static int order_of(int rate_hz) {
    int order = rate_hz / 1000 + 2;
    return order < 8 ? 8 : order > ORDER_MAX ? ORDER_MAX : order;
}

/* Predictor of the 40 ms around a hop of 20 ms; hann[2 * hop], x[2 * hop] is scratch. Returns the
 * share of the energy that is left. */
static double fit(const float *pcm, size_t n, size_t from, size_t hop, int order, const float *hann,
                  float *x, double *a) {
    size_t begin = from > hop / 2 ? from - hop / 2 : 0;
    size_t end = from + hop + hop / 2 < n ? from + hop + hop / 2 : n, count = end - begin;
    size_t skipped = begin == 0 ? 2 * hop - count : 0;
    double r[ORDER_MAX + 1] = {0};
    for (size_t i = 0; i < count; i++) x[i] = pcm[begin + i] * hann[i + skipped];
    for (int k = 0; k <= order; k++) {
        /* Four sums at once, since a compiler may not reorder one. */
        double sum[4] = {0};
        size_t i = (size_t)k, back = (size_t)k;
        for (; i + 4 <= count; i += 4)
            for (size_t j = 0; j < 4; j++) sum[j] += (double)x[i + j] * (double)x[i + j - back];
        for (; i < count; i++) sum[0] += (double)x[i] * (double)x[i - back];
        r[k] = sum[0] + sum[1] + sum[2] + sum[3];
    }
    r[0] = r[0] * (1 + 1e-7) + (double)count * ROUNDING * ROUNDING;
    return levinson(r, order, a);
}

/* Median of n numbers (Hoare's selection); leaves them in another order. */
static float median(float *x, size_t n) {
    ptrdiff_t low = 0, high = (ptrdiff_t)n - 1, wanted = (ptrdiff_t)(n / 2);
    while (low < high) {
        float pivot = x[(low + high) / 2];
        ptrdiff_t i = low, k = high;
        while (i <= k) {
            while (x[i] < pivot) i++;
            while (x[k] > pivot) k--;
            if (i > k) break;
            float kept = x[i];
            x[i++] = x[k];
            x[k--] = kept;
        }
        if (wanted <= k)
            high = k;
        else if (wanted >= i)
            low = i;
        else
            break;
    }
    return x[wanted];
}

static void frame_errors(errors *e, const float *pcm, size_t from, size_t hop, int order,
                         const double *a, float *sorted) {
    for (size_t i = from; i < from + hop; i++) {
        double sum = 0;
        for (size_t k = 0; k <= (size_t)order && k <= i; k++) sum += a[k] * (double)pcm[i - k];
        e->size[i] = (float)fabs(sum);
    }
    memcpy(sorted, e->size + from, hop * sizeof *sorted);
    float scale = (float)(1 / (1.4826 * (double)median(sorted, hop) + ROUNDING));
    for (size_t i = from; i < from + hop; i++) e->size[i] *= scale;
}

/* Without the mean, since an offset is no sound. */
static double frame_power(const float *pcm, size_t hop) {
    double sum = 0, mean = 0;
    for (size_t i = 0; i < hop; i++) {
        sum += (double)pcm[i] * (double)pcm[i];
        mean += (double)pcm[i] / (double)hop;
    }
    double power = sum / (double)hop - mean * mean;
    return power > 0 ? power : 0;
}

static void errors_free(errors *e) {
    free(e->size < e->other ? e->size : e->other);
}

static void change_yardstick(errors *e) {
    float *kept = e->size;
    e->size = e->other;
    e->other = kept;
}

/* Fill e->other from e->size. */
static int compare_neighbours(errors *e, size_t n, int rate_hz, app_error *err) {
    enum { NEAR = 1, FAR = 12 };
    size_t part = (size_t)(rate_hz / 1000), parts = n / part;
    float *largest = calloc(parts + 1, sizeof *largest);
    if (!largest) return app_no_memory(err);
    for (size_t i = 0; i < parts * part; i++)
        if (e->size[i] > largest[i / part]) largest[i / part] = e->size[i];
    for (size_t p = 0; p < parts; p++) {
        float around = 3; /* medians: less is no pulse */
        for (size_t d = NEAR + 1; d <= FAR; d++) {
            if (p >= d && largest[p - d] > around) around = largest[p - d];
            if (p + d < parts && largest[p + d] > around) around = largest[p + d];
        }
        for (size_t i = p * part; i < (p + 1) * part; i++) e->other[i] = 6 * e->size[i] / around;
    }
    free(largest);
    return EXIT_OK;
}

/* Level below which a 20 ms frame does not count; frames at the 95th percentile are loud. */
static int find_gate(double *gate, const float *pcm, size_t n, size_t hop, app_error *err) {
    size_t frames = n / hop;
    float *power = malloc((frames + 1) * sizeof *power);
    if (!power) return app_no_memory(err);
    for (size_t f = 0; f < frames; f++) power[f] = (float)frame_power(pcm + f * hop, hop);
    qsort(power, frames, sizeof *power, ascending);
    *gate =
        frames ? (double)power[(frames - 1) * 95 / 100] * pow(10, -ACTIVE_BELOW_LOUD_DB / 10) : 0;
    if (*gate < 1e-11) *gate = 1e-11;
    free(power);
    return EXIT_OK;
}

static int find_errors(errors *e, const float *pcm, size_t n, int rate_hz, app_error *err) {
    size_t hop = (size_t)(rate_hz / 50), frames = 0;
    int order = order_of(rate_hz);
    double a[ORDER_MAX + 1], gate = 0;
    *e = (errors){0};
    e->size = calloc(2 * (n + 1), sizeof *e->size);
    e->other = e->size + n + 1;
    float *sorted = malloc(5 * hop * sizeof *sorted), *hann = sorted + hop;
    int rc = e->size && sorted ? find_gate(&gate, pcm, n, hop, err) : app_no_memory(err);
    for (size_t i = 0; rc == EXIT_OK && i < 2 * hop; i++)
        hann[i] = (float)(0.5 - 0.5 * cos(M_PI * ((double)i + 0.5) / (double)hop));
    for (size_t from = 0; rc == EXIT_OK && from + hop <= n; from += hop) {
        if (frame_power(pcm + from, hop) < gate) continue;
        double left = fit(pcm, n, from, hop, order, hann, hann + 2 * hop, a);
        frame_errors(e, pcm, from, hop, order, a, sorted);
        e->gain_db -= 10 * log10(left + 1e-12);
        e->active += hop;
        frames++;
    }
    if (frames) e->gain_db /= (double)frames;
    free(sorted);
    if (rc == EXIT_OK) rc = compare_neighbours(e, n, rate_hz, err);
    if (rc != EXIT_OK) errors_free(e);
    return rc;
}

int splice_prediction_gain(double *gain_db, const float *pcm, size_t n, int rate_hz,
                           app_error *err) {
    errors e;
    int rc = find_errors(&e, pcm, n, rate_hz, err);
    if (rc != EXIT_OK) return rc;
    *gain_db = e.gain_db;
    errors_free(&e);
    return EXIT_OK;
}

/* ---- outliers on a grid --------------------------------------------------------------------- */

typedef struct outlier {
    size_t at;
    float size;
} outlier;

/* Largest error within 2 ms on either side; `at` is where it begins to rise. */
static size_t find_outliers(outlier *out, const errors *e, size_t n, int rate_hz) {
    size_t reach = (size_t)(rate_hz / 500), count = 0, order = (size_t)order_of(rate_hz);
    for (size_t i = reach; i + reach < n; i++) {
        float size = e->size[i];
        if (size < SIZES[0]) continue;
        bool largest = true;
        for (size_t j = i - reach; largest && j <= i + reach; j++)
            largest = e->size[j] < size || (e->size[j] == size && j >= i);
        if (!largest) continue;
        size_t at = i > order ? i - order : 0;
        while (e->size[at] < 0.4f * size) at++;
        out[count++] = (outlier){at, size};
    }
    return count;
}

/* -log10 of the chance of `count` or more when `expected` is the mean of a Poisson distribution. */
static double surprise_of(double count, double expected) {
    if (count <= expected || count < 3) return 0;
    double tail = log(1 - expected / (count + 1));
    return -(count * log(expected) - expected - lgamma(count + 1) - tail) / log(10);
}

typedef struct grid {
    size_t period, phase;
    double surprise;
    float size; /* outliers of this size or more were counted */
    bool other; /* by the second yardstick */
} grid;

/* Of three neighbouring phases, the one with most outliers. */
static size_t sharpest(const unsigned *counts, size_t period, size_t p) {
    size_t before = (p + period - 1) % period, after = (p + 1) % period, best = p;
    if (counts[before] > counts[best]) best = before;
    if (counts[after] > counts[best]) best = after;
    return best;
}

/* Fold the outliers with one period. counts[period] is scratch that is all zero before and after. A
 * boundary's outlier may begin one sample early or late. */
static void fold(grid *best, const outlier *out, size_t n_out, const size_t *above, int lowest,
                 size_t active, size_t period, double trials, unsigned *counts) {
    if (active < 4 * period) return;
    for (int t = lowest; t < THRESHOLDS && above[t] >= 3; t++) {
        double expected = 3.0 * (double)above[t] / (double)period;
        for (size_t i = 0; i < n_out; i++)
            if (out[i].size >= SIZES[t]) counts[out[i].at % period]++;
        for (size_t i = 0; i < n_out; i++) {
            size_t p = out[i].at % period;
            unsigned near =
                counts[(p + period - 1) % period] + counts[p] + counts[(p + 1) % period];
            if (near < 3 || (double)near < 2 * expected) continue;
            /* Streams are cut into frames from their first sample on: that grid is one guess, any
             * other is one of as many as the period has samples. */
            bool at_zero = p <= 1 || p + 1 == period;
            double guesses = trials * THRESHOLDS * (at_zero ? 2 : (double)period);
            double surprise = surprise_of(near, expected) - log10(guesses);
            if (surprise > best->surprise)
                *best = (grid){period, sharpest(counts, period, p), surprise, SIZES[t], false};
        }
        for (size_t i = 0; i < n_out; i++) counts[out[i].at % period] = 0;
    }
}

/* Frame lengths that programs use: in milliseconds, and in samples whatever the rate. */
static size_t usual_periods(size_t *periods, int rate_hz) {
    static const double MS[] = {80, 40, 20, 10, 30, 60, 160, 120, 100, 50, 5};
    static const size_t SAMPLES[] = {1920, 960,  480,  240,  120, 288, 256, 512,
                                     1024, 2048, 4096, 1152, 160, 441, 882, 3840};
    size_t n = 0;
    for (size_t i = 0; i < sizeof MS / sizeof MS[0]; i++)
        periods[n++] = (size_t)lrint(MS[i] * rate_hz / 1000);
    for (size_t i = 0; i < sizeof SAMPLES / sizeof SAMPLES[0]; i++) {
        bool known = false;
        for (size_t k = 0; k < n; k++) known |= periods[k] == SAMPLES[i];
        if (!known) periods[n++] = SAMPLES[i];
    }
    return n;
}

enum { UNUSUAL_MS_MIN = 8, UNUSUAL_MS_MAX = 250, UNUSUAL_OUTLIERS = 120 };

/* Try the usual periods, then, with the largest outliers only, every other one: those have to be
 * far more surprising. Leaves only these in `out`. */
static int find_grid(grid *best, outlier *out, size_t n_out, size_t active, int rate_hz,
                     app_error *err) {
    size_t usual[LAGS_MAX], n_usual = usual_periods(usual, rate_hz), above[THRESHOLDS] = {0};
    size_t low = (size_t)rate_hz * UNUSUAL_MS_MIN / 1000;
    size_t high = (size_t)rate_hz * UNUSUAL_MS_MAX / 1000;
    size_t longest = high > 4096 ? high : 4096;
    unsigned *counts = calloc(longest + 1, sizeof *counts);
    *best = (grid){0};
    if (!counts) return app_no_memory(err);
    for (size_t i = 0; i < n_out; i++)
        for (int t = 0; t < THRESHOLDS; t++) above[t] += out[i].size >= SIZES[t];
    for (size_t i = 0; i < n_usual; i++)
        fold(best, out, n_out, above, 0, active, usual[i], (double)n_usual, counts);
    int lowest = 0;
    while (lowest < THRESHOLDS && above[lowest] > UNUSUAL_OUTLIERS) lowest++;
    size_t kept = 0;
    for (size_t i = 0; lowest < THRESHOLDS && i < n_out; i++)
        if (out[i].size >= SIZES[lowest]) out[kept++] = out[i];
    for (size_t p = low; lowest < THRESHOLDS && p <= high; p++)
        fold(best, out, kept, above, lowest, active, p, (double)(high - low) * 10, counts);
    free(counts);
    return EXIT_OK;
}

static void add_mark(splice_facts *out, splice_mark_kind kind, size_t at, size_t length) {
    if (out->n_marks[kind] < SPLICE_MARKS)
        out->marks[kind][out->n_marks[kind]++] = (splice_mark){at, length};
}

/* The largest outlier of a boundary; 0 where nothing sounds. */
static float boundary_size(const errors *e, size_t at) {
    float size = 0;
    if (e->size[at] == 0) return 0;
    for (size_t i = at - 1; i <= at + 2; i++)
        if (e->size[i] > size) size = e->size[i];
    return size;
}

/* Boundaries where something sounds, and those among them with an outlier; these are marked in
 * `marks`, which may be NULL. */
static void count_broken(const errors *e, size_t n, const grid *g, int *boundaries, int *broken,
                         splice_facts *marks) {
    *boundaries = *broken = 0;
    for (size_t at = g->phase; at + 3 < n; at += g->period) {
        if (at < 2 || e->size[at] == 0) continue;
        ++*boundaries;
        if (boundary_size(e, at) < g->size) continue;
        ++*broken;
        if (marks) add_mark(marks, MARK_SEAM, at, 0);
    }
}

/* ---- what lies on either side --------------------------------------------------------------- */

static double predicted(const float *x, size_t n, int order, const double *a) {
    double energy = ROUNDING * ROUNDING;
    for (size_t i = (size_t)order; i < n; i++) {
        double sum = 0;
        for (size_t k = 0; k <= (size_t)order; k++) sum += a[k] * (double)x[i - k];
        energy += sum * sum;
    }
    return energy;
}

/* How much worse `reach` samples from `at` on are predicted by what is before them than by
 * themselves, dB; scratch[2 * reach], whose first half is a window. */
static double foreign_db(const float *pcm, size_t n, size_t at, size_t reach, int order,
                         float *scratch) {
    double before[ORDER_MAX + 1], own[ORDER_MAX + 1];
    size_t hop = reach / 2, centre = hop / 2;
    fit(pcm, n, at - reach + centre, hop, order, scratch, scratch + reach, before);
    fit(pcm, n, at + centre, hop, order, scratch, scratch + reach, own);
    return 10 * log10(predicted(pcm + at, reach, order, before) /
                      predicted(pcm + at, reach, order, own));
}

/* Compare the broken boundaries with the middles of the blocks behind them. */
static int find_strangeness(splice_facts *out, const errors *e, const float *pcm, size_t n,
                            int rate_hz, const grid *g, app_error *err) {
    int order = order_of(rate_hz);
    size_t reach = (size_t)(rate_hz / 50), half = g->period / 2, count = 0;
    if (reach > half) reach = half;
    reach -= reach % 4;
    size_t most = n / g->period + 1;
    float *across = calloc(2 * most + 2 * reach, sizeof *across);
    if (!across) return app_no_memory(err);
    float *inside = across + most, *scratch = inside + most;
    for (size_t i = 0; i < reach; i++)
        scratch[i] = (float)(0.5 - 0.5 * cos(2 * M_PI * ((double)i + 0.5) / (double)reach));
    for (size_t at = g->phase; at + g->period + 3 < n; at += g->period) {
        if (at < reach + 2 || boundary_size(e, at) < g->size || e->size[at + half] == 0) continue;
        across[count] = (float)foreign_db(pcm, n, at, reach, order, scratch);
        inside[count++] = (float)foreign_db(pcm, n, at + half, reach, order, scratch);
    }
    out->strange_db = count ? (double)median(across, count) - (double)median(inside, count) : 0;
    free(across);
    return EXIT_OK;
}

/* ---- undoing -------------------------------------------------------------------------------- */

typedef enum mend { MEND_REVERSE, MEND_SWAP_EVEN, MEND_SWAP_ODD, MEND_ORDER } mend;

/* Copy in to out with the blocks of a grid rearranged; what is left at the edges stays. */
static void rearrange(float *out, const float *in, size_t n, const grid *g, mend how) {
    size_t blocks = (n - g->phase) / g->period, p = g->period;
    memcpy(out, in, n * sizeof *out);
    for (size_t b = 0; b < blocks; b++) {
        size_t from = b;
        bool odd = (b & 1) == (how == MEND_SWAP_ODD ? 0 : 1);
        if (how == MEND_ORDER) from = blocks - 1 - b;
        if (how == MEND_SWAP_EVEN || how == MEND_SWAP_ODD) from = odd ? b - 1 : b + 1;
        if (from >= blocks) continue;
        const float *source = in + g->phase + from * p;
        for (size_t i = 0; i < p; i++)
            out[g->phase + b * p + i] = source[how == MEND_REVERSE ? p - 1 - i : i];
    }
}

void splice_turn_blocks(float *out, const float *in, size_t n, const splice_facts *facts) {
    grid g = {.period = (size_t)facts->period, .phase = (size_t)facts->phase};
    rearrange(out, in, n, &g, MEND_REVERSE);
}

static int try_mend(double *mended, const float *pcm, float *scratch, size_t n, int rate_hz,
                    const grid *g, int broken, mend how, app_error *err) {
    errors e;
    int boundaries, left;
    rearrange(scratch, pcm, n, g, how);
    int rc = find_errors(&e, scratch, n, rate_hz, err);
    if (rc != EXIT_OK) return rc;
    if (g->other) change_yardstick(&e);
    count_broken(&e, n, g, &boundaries, &left, NULL);
    double share = broken > 0 ? 1 - (double)left / broken : 0;
    if (share > *mended) *mended = share;
    errors_free(&e);
    return EXIT_OK;
}

static int try_mends(splice_facts *out, const float *pcm, size_t n, int rate_hz, const grid *g,
                     app_error *err) {
    float *scratch = malloc(n * sizeof *scratch);
    if (!scratch) return app_no_memory(err);
    struct {
        mend how;
        double *mended;
    } ways[] = {{MEND_REVERSE, &out->mend_reverse},
                {MEND_SWAP_EVEN, &out->mend_swap},
                {MEND_SWAP_ODD, &out->mend_swap},
                {MEND_ORDER, &out->mend_order}};
    int rc = EXIT_OK;
    for (size_t i = 0; rc == EXIT_OK && i < sizeof ways / sizeof ways[0]; i++)
        rc = try_mend(ways[i].mended, pcm, scratch, n, rate_hz, g, out->broken, ways[i].how, err);
    free(scratch);
    return rc;
}

/* ---- repetitions ---------------------------------------------------------------------------- */

/* A part counts as equal to an earlier one when the difference is 30 dB below it. */
static const double SAME = 1e-3;

/* How many blocks of `lag` samples equal the block before them. Compared in parts of 5 ms; parts
 * where nothing sounds neither help nor hurt. Marked in `marks`, which may be NULL. */
static int count_repeats(const float *pcm, size_t n, size_t lag, size_t part, double gate,
                         splice_facts *marks) {
    size_t same = 0, silent = 0, all_same = 0, all = 0, wanted = lag / part;
    int repeats = 0;
    if (wanted < 2) return 0;
    for (size_t at = lag; at + part <= n; at += part) {
        double energy = 0, apart = 0;
        for (size_t i = at; i < at + part; i++) {
            double d = (double)pcm[i] - (double)pcm[i - lag];
            energy += (double)pcm[i] * (double)pcm[i];
            apart += d * d;
        }
        bool sounds = energy > gate * (double)part, equal = apart < SAME * energy;
        all += sounds;
        all_same += sounds && equal;
        if (sounds && !equal) same = silent = 0;
        same += sounds && equal;
        silent += !sounds;
        /* One part may straddle each edge of the block. */
        if (same >= 2 && 2 * same >= wanted && same + silent + 2 >= wanted) {
            if (marks) add_mark(marks, MARK_REPEAT, at + part - lag, lag);
            repeats++;
            same = silent = 0;
        }
    }
    /* Something that repeats nearly always is a tone. */
    return 3 * all_same > 2 * all ? 0 : repeats;
}

static int find_repeats(splice_facts *out, const float *pcm, size_t n, int rate_hz,
                        app_error *err) {
    size_t lags[LAGS_MAX], n_lags = usual_periods(lags, rate_hz), part = (size_t)(rate_hz / 200);
    size_t best_part = 0, best_lag = 0;
    double gate;
    /* Offsets and hum equal themselves for ever; of differences they are next to nothing. */
    float *steps = malloc((n + 1) * sizeof *steps);
    if (!steps) return app_no_memory(err);
    for (size_t i = 0; i < n; i++) steps[i] = i ? pcm[i] - pcm[i - 1] : 0;
    int rc = find_gate(&gate, steps, n, (size_t)(rate_hz / 50), err);
    for (size_t i = 0; rc == EXIT_OK && i < n_lags; i++) {
        /* Vowels repeat themselves over a few pitch periods, and telephone codecs over 20 ms. */
        if (lags[i] * 33 < (size_t)rate_hz) continue;
        int repeats = count_repeats(steps, n, lags[i], part, gate, NULL);
        if ((size_t)repeats * lags[i] <= best_part) continue;
        best_part = (size_t)repeats * lags[i];
        best_lag = lags[i];
    }
    if (best_lag > 0) {
        out->repeats = count_repeats(steps, n, best_lag, part, gate, out);
        out->repeat_period = (int)best_lag;
        out->repeat_s = (double)out->marks[MARK_REPEAT][0].at / rate_hz;
    }
    free(steps);
    return rc;
}

/* ---- gaps and wraps ------------------------------------------------------------------------- */

static double loudness(const float *pcm, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)pcm[i] * (double)pcm[i];
    return sqrt(sum / (double)n);
}

/* The longest usual frame of which it is a whole number, give or take a sample at each edge that
 * happens to have the same value; 0: of none. Pauses of speech have any length. */
static size_t whole_frames(size_t length, const size_t *usual, size_t n_usual, size_t shortest) {
    size_t longest = 0;
    for (size_t i = 0; i < n_usual; i++) {
        size_t rest = (length + 1) % usual[i];
        if (usual[i] >= shortest && rest <= 3 && length + 1 >= usual[i] && usual[i] > longest)
            longest = usual[i];
    }
    return longest;
}

/* Streams are cut into frames from their first sample on: that a pause begins there is chance once
 * in hundreds of times. Longer ones may have been made on purpose, of whole tenths of seconds. */
enum { UNDERRUN_FRAMES = 4 };
static bool on_grid(size_t at, size_t frame) {
    return at % frame <= 1 || at % frame + 1 == frame;
}

/* Runs of one exact value, whole frames long, with sound right at both edges. */
static void find_gaps(splice_facts *out, const float *pcm, size_t n, int rate_hz, double active) {
    size_t usual[LAGS_MAX], n_usual = usual_periods(usual, rate_hz), total = 0;
    size_t shortest = (size_t)(rate_hz / 100), edge = (size_t)(rate_hz / 500);
    for (size_t i = edge; i + edge < n;) {
        size_t end = i + 1;
        while (end < n && pcm[end] == pcm[i]) end++;
        size_t frame = whole_frames(end - i, usual, n_usual, shortest);
        if (frame && end + edge <= n && loudness(pcm + i - edge, edge) > 0.2 * active &&
            loudness(pcm + end, edge) > 0.2 * active && fabs((double)pcm[i]) < 0.5 * active) {
            out->gaps++;
            out->gaps_on_grid += on_grid(i, frame) && end - i <= UNDERRUN_FRAMES * frame + 1;
            add_mark(out, MARK_GAP, i, end - i);
            total += end - i;
        }
        i = end;
    }
    if (out->gaps) out->gap_s = (double)total / out->gaps / rate_hz;
}

static void find_wraps(splice_facts *out, const float *pcm, size_t n) {
    int jumps = 0, wraps = 0;
    for (size_t i = 1; i < n; i++) {
        double step = fabs((double)pcm[i] - (double)pcm[i - 1]);
        jumps += step > 1.0;
        bool wrap = step > 1.4 && fabs(step - 2) < 0.6;
        if (wrap) add_mark(out, MARK_WRAP, i, 0);
        wraps += wrap;
    }
    out->wraps = 3 * jumps > 4 * wraps ? 0 : wraps;
}

/* ---- all of it ------------------------------------------------------------------------------ */

/* The most surprising grid by the yardstick in use. */
static int find_grid_of(grid *g, const errors *e, size_t n, int rate_hz, double *per_s,
                        app_error *err) {
    outlier *list = malloc((n / 4 + 1) * sizeof *list);
    if (!list) return app_no_memory(err);
    size_t count = find_outliers(list, e, n, rate_hz), strong = 0;
    for (size_t i = 0; i < count; i++) strong += list[i].size >= SIZES[2];
    *per_s = e->active ? (double)strong * rate_hz / (double)e->active : 0;
    int rc = find_grid(g, list, count, e->active, rate_hz, err);
    free(list);
    return rc;
}

static int find_seams(splice_facts *out, errors *e, const float *pcm, size_t n, int rate_hz,
                      app_error *err) {
    grid g, other;
    double ignored;
    int rc = find_grid_of(&g, e, n, rate_hz, &ignored, err);
    change_yardstick(e);
    if (rc == EXIT_OK) rc = find_grid_of(&other, e, n, rate_hz, &out->events_per_s, err);
    if (rc != EXIT_OK) return rc;
    other.other = true;
    if (other.surprise > g.surprise)
        g = other;
    else
        change_yardstick(e);
    if (g.period == 0) return rc;
    out->period = (int)g.period;
    out->phase = (int)g.phase;
    out->surprise = g.surprise;
    out->size = (double)g.size;
    count_broken(e, n, &g, &out->boundaries, &out->broken, out);
    if (g.surprise <= 1) return EXIT_OK;
    rc = find_strangeness(out, e, pcm, n, rate_hz, &g, err);
    return rc == EXIT_OK ? try_mends(out, pcm, n, rate_hz, &g, err) : rc;
}

int splice_measure(splice_facts *out, const float *pcm, size_t n, int rate_hz, app_error *err) {
    errors e;
    double gate;
    memset(out, 0, sizeof *out);
    int rc = find_errors(&e, pcm, n, rate_hz, err);
    if (rc != EXIT_OK) return rc;
    out->prediction_gain_db = e.gain_db;
    rc = find_seams(out, &e, pcm, n, rate_hz, err);
    errors_free(&e);
    if (rc == EXIT_OK) rc = find_repeats(out, pcm, n, rate_hz, err);
    if (rc == EXIT_OK) rc = find_gate(&gate, pcm, n, (size_t)(rate_hz / 50), err);
    if (rc != EXIT_OK) return rc;
    /* The gate is 35 dB below loud; speech is some 6 dB below loud on average. */
    find_gaps(out, pcm, n, rate_hz, sqrt(gate * pow(10, (ACTIVE_BELOW_LOUD_DB - 6) / 10)));
    find_wraps(out, pcm, n);
    return EXIT_OK;
}
