/* level.c - levels, pauses, clipping, modulation, and the four-feature score of old. */
#include "level.h"

#include "spectrum.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double ACTIVE_BELOW_LOUD_DB = 30;

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double decibel(double mean_square) {
    return 10 * log10(mean_square + 1e-20);
}

/* ---- activity ------------------------------------------------------------------------------- */

/* Mains hum and offsets are neither sound nor pause of speech: Butterworth, second order. */
static void high_pass(float *out, const float *pcm, size_t n, int rate_hz) {
    double w = tan(M_PI * 90 / rate_hz), scale = 1 / (1 + sqrt(2) * w + w * w);
    double a1 = 2 * (w * w - 1) * scale, a2 = (1 - sqrt(2) * w + w * w) * scale;
    double first = n ? (double)pcm[0] : 0, x1 = 0, x2 = 0, y1 = 0, y2 = 0;
    for (size_t i = 0; i < n; i++) {
        double x = (double)pcm[i] - first;
        double y = (x - 2 * x1 + x2) * scale - a1 * y1 - a2 * y2;
        x2 = x1, x1 = x, y2 = y1, y1 = y;
        out[i] = (float)y;
    }
}

/* Which 20 ms frames sound. */
typedef struct activity {
    size_t frame, frames;
    float *power; /* [frames] mean square */
    bool *on;     /* [frames] */
} activity;

static void activity_free(activity *a) {
    free(a->power);
    free(a->on);
}

static void find_pauses(level_facts *out, const activity *a) {
    size_t last = SIZE_MAX;
    for (size_t f = 0; f < a->frames; f++) {
        if (!a->on[f]) continue;
        double pause = last == SIZE_MAX ? 0 : (double)(f - last - 1) * 0.02;
        if (pause >= 0.2) out->pauses++;
        if (pause > out->longest_pause_s) out->longest_pause_s = pause;
        last = f;
    }
}

static int find_activity(activity *a, level_facts *out, const float *pcm, size_t n, int rate_hz,
                         app_error *err) {
    a->frame = (size_t)(rate_hz / 50);
    a->frames = n / a->frame;
    a->power = malloc((a->frames + 1) * sizeof *a->power);
    a->on = calloc(a->frames + 1, sizeof *a->on);
    float *sorted = malloc((a->frames + n + 1) * sizeof *sorted);
    if (!a->power || !a->on || !sorted) {
        free(sorted);
        return app_no_memory(err);
    }
    float *x = sorted + a->frames;
    high_pass(x, pcm, n, rate_hz);
    for (size_t f = 0; f < a->frames; f++) {
        double sum = 0;
        for (size_t i = f * a->frame; i < (f + 1) * a->frame; i++)
            sum += (double)x[i] * (double)x[i];
        a->power[f] = (float)(sum / (double)a->frame);
    }
    memcpy(sorted, a->power, a->frames * sizeof *sorted);
    qsort(sorted, a->frames, sizeof *sorted, ascending);
    size_t active = 0;
    double threshold = 0, sum = 0;
    if (a->frames > 0) {
        double loud = (double)sorted[(a->frames - 1) * 95 / 100];
        threshold = loud * pow(10, -ACTIVE_BELOW_LOUD_DB / 10);
        out->noise_db = decibel((double)sorted[a->frames / 10]);
    }
    for (size_t f = 0; f < a->frames; f++) {
        a->on[f] = (double)a->power[f] > threshold && (double)a->power[f] > 1e-12;
        active += a->on[f];
        if (a->on[f]) sum += (double)a->power[f];
    }
    out->active_s = (double)active * 0.02;
    out->active_share = a->frames ? (double)active / (double)a->frames : 0;
    out->active_db = decibel(active ? sum / (double)active : 0);
    find_pauses(out, a);
    free(sorted);
    return EXIT_OK;
}

/* ---- clipping ------------------------------------------------------------------------------- */

/* Samples of active frames that sit in runs at the positive or negative extreme, and those near it.
 * A lossy codec or a resampler bends the runs, so that only the second measure remains. */
static void measure_rails(level_facts *out, const float *pcm, const activity *a) {
    double high = 0, low = 0;
    size_t flat = 0, near = 0, run = 0, active = 0;
    for (size_t i = 0; i < a->frames * a->frame; i++) {
        if ((double)pcm[i] > high) high = (double)pcm[i];
        if ((double)pcm[i] < low) low = (double)pcm[i];
    }
    double slack = 1e-4 * (high - low);
    for (size_t f = 0; f < a->frames; f++) {
        if (!a->on[f]) continue;
        active += a->frame;
        for (size_t i = f * a->frame; i < (f + 1) * a->frame; i++) {
            double x = (double)pcm[i];
            bool rail = x >= high - slack || x <= low + slack;
            run = rail ? run + 1 : 0;
            /* The first two of a run count once its third comes. */
            flat += run == 3 ? 3 : run > 3 ? 1 : 0;
            near += x > 0.85 * high || x < 0.85 * low;
        }
    }
    if (active == 0) return;
    out->flat_share = (double)flat / (double)active;
    out->rail_share = (double)near / (double)active;
}

/* ---- modulation ----------------------------------------------------------------------------- */

/* Spectrum of the envelope in 20 ms steps, square root of the power so that loud syllables do not
 * drown the others. */
static int measure_modulation(level_facts *out, const activity *a, app_error *err) {
    if (a->frames < 5) return EXIT_OK;
    size_t size = spectrum_fast_size(a->frames < 512 ? 512 : a->frames);
    float *envelope = malloc(a->frames * sizeof *envelope);
    float *power = malloc((size / 2 + 1) * sizeof *power);
    int rc = envelope && power ? EXIT_OK : app_no_memory(err);
    double mean = 0, spread = 0, level = 0;
    size_t active = 0;
    for (size_t f = 0; rc == EXIT_OK && f < a->frames; f++) {
        envelope[f] = sqrtf(a->power[f] > 0 ? a->power[f] : 0);
        mean += (double)envelope[f] / (double)a->frames;
        active += a->on[f];
        if (a->on[f]) level += decibel((double)a->power[f]);
    }
    for (size_t f = 0; rc == EXIT_OK && f < a->frames; f++) {
        double apart = decibel((double)a->power[f]) - level / (double)(active ? active : 1);
        if (a->on[f]) spread += apart * apart;
        envelope[f] -= (float)mean;
    }
    out->fluctuation_db = active ? sqrt(spread / (double)active) : 0;
    if (rc == EXIT_OK) rc = spectrum_power(power, envelope, a->frames, size, err);
    double inside = 0, all = 0, best = 0;
    for (size_t k = 1; rc == EXIT_OK && k <= size / 2; k++) {
        double hz = 50.0 * (double)k / (double)size;
        if (hz < 0.5) continue;
        all += (double)power[k];
        if (hz >= 2 && hz <= 10) inside += (double)power[k];
        long band = lrint(3 * log2(hz / MODULATION_LOWEST_HZ));
        if (band < MODULATION_BANDS) out->modulation_bands[band] += (double)power[k];
        /* A peak over octaves: speech has 1/f below it. */
        if (hz >= 1 && hz <= 20 && (double)power[k] * hz > best) {
            best = (double)power[k] * hz;
            out->modulation_peak_hz = hz;
        }
    }
    out->modulation = all > 0 ? inside / all : 0;
    for (int b = 0; b < MODULATION_BANDS && all > 0; b++) out->modulation_bands[b] /= all;
    free(envelope);
    free(power);
    return rc;
}

/* ---- spectrum ------------------------------------------------------------------------------- */

enum { WELCH = 1024 };

static int measure_spectrum(level_facts *out, const float *pcm, size_t n, int rate_hz,
                            app_error *err) {
    double power[WELCH / 2 + 1], all = 0, below = 0, low = 0, high = 0;
    int rc = spectrum_welch(power, pcm, n, WELCH, err);
    if (rc != EXIT_OK) return rc;
    for (int k = 1; k <= WELCH / 2; k++) {
        double hz = (double)k * rate_hz / WELCH;
        all += power[k];
        *(hz < 1000 ? &low : &high) += power[k];
    }
    for (int k = 1; k <= WELCH / 2; k++) {
        below += power[k];
        out->band_hz = (double)k * rate_hz / WELCH;
        if (below >= 0.99 * all) break;
    }
    out->tilt_db = decibel(high) - decibel(low);
    return EXIT_OK;
}

/* ---- the score of old ----------------------------------------------------------------------- */

static bool within(double x, double low, double high) {
    return x >= low && x <= high;
}

/* Peak-normalised; 20 ms frames, the last one filled up with zeros. Silence: share of frames whose
 * RMS is below 0.01, wanted 0.05..0.20. Band: share of the Welch spectrum within 300..3400 Hz,
 * wanted 0.40..0.70. ZCR: changes of sign per sample, wanted 0.05..0.15. Dynamics: standard
 * deviation of the Hilbert envelope, wanted above 0.1. */
static int measure_legacy(struct legacy_score *out, const float *pcm, size_t n, int rate_hz,
                          double peak, app_error *err) {
    size_t frame = (size_t)(rate_hz / 50), frames = (n + frame - 1) / frame, quiet = 0, signs = 0;
    memset(out, 0, sizeof *out);
    if (!(peak > 0) || n < frame) return EXIT_OK;
    float *x = calloc(frames * frame, sizeof *x), *envelope = calloc(frames * frame, sizeof *x);
    int rc = x && envelope ? EXIT_OK : app_no_memory(err);
    for (size_t i = 0; rc == EXIT_OK && i < n; i++) x[i] = (float)((double)pcm[i] / peak);
    for (size_t f = 0; rc == EXIT_OK && f < frames; f++) {
        double sum = 0;
        for (size_t i = 0; i < frame; i++)
            sum += (double)x[f * frame + i] * (double)x[f * frame + i];
        quiet += sqrt(sum / (double)frame) < 0.01;
    }
    double power[WELCH / 2 + 1], all = 0, band = 0, mean = 0, square = 0;
    if (rc == EXIT_OK) rc = spectrum_welch(power, x, frames * frame, WELCH, err);
    for (int k = 0; rc == EXIT_OK && k <= WELCH / 2; k++) {
        all += power[k];
        if (within((double)k * rate_hz / WELCH, 300, 3400)) band += power[k];
    }
    for (size_t i = 1; rc == EXIT_OK && i < frames * frame; i++)
        signs += (x[i] >= 0) != (x[i - 1] >= 0);
    if (rc == EXIT_OK) rc = spectrum_envelope(envelope, x, frames * frame, err);
    for (size_t i = 0; rc == EXIT_OK && i < frames * frame; i++) {
        mean += (double)envelope[i] / (double)(frames * frame);
        square += (double)envelope[i] * (double)envelope[i] / (double)(frames * frame);
    }
    if (rc == EXIT_OK) {
        out->silence = (double)quiet / (double)frames;
        out->band = all > 0 ? band / all : 0;
        out->zcr = (double)signs / (double)(frames * frame);
        out->dynamics = sqrt(square > mean * mean ? square - mean * mean : 0);
        out->points = 25 * (within(out->silence, 0.05, 0.20) + within(out->band, 0.40, 0.70) +
                            within(out->zcr, 0.05, 0.15) + (out->dynamics > 0.1));
    }
    free(x);
    free(envelope);
    return rc;
}

/* ---- all of it ------------------------------------------------------------------------------ */

static int by_size(const void *a, const void *b) {
    double x = fabs(*(const double *)a), y = fabs(*(const double *)b);
    return (x > y) - (x < y);
}

/* An offset may come and go: of the means of seconds, the one that a quarter of them exceed,
 * relative to what moves within them. */
static int measure_offset(level_facts *out, const float *pcm, size_t n, int rate_hz,
                          app_error *err) {
    size_t part = (size_t)rate_hz, parts = n / part;
    double rest = 0, *means = malloc((parts + 1) * sizeof *means);
    if (!means) return app_no_memory(err);
    for (size_t p = 0; p < parts; p++) {
        double sum = 0, square = 0;
        for (size_t i = p * part; i < (p + 1) * part; i++) {
            sum += (double)pcm[i];
            square += (double)pcm[i] * (double)pcm[i];
        }
        means[p] = sum / (double)part;
        rest += square / (double)part - means[p] * means[p];
    }
    qsort(means, parts, sizeof *means, by_size);
    double offset = parts > 1 ? means[(parts - 1) * 3 / 4] : 0;
    if (rest > 0) offset /= sqrt(rest / (double)parts);
    if (fabs(offset) > fabs(out->dc)) out->dc = offset;
    free(means);
    return EXIT_OK;
}

int level_measure(level_facts *out, const float *pcm, size_t n, int rate_hz, app_error *err) {
    activity a = {0};
    double sum = 0, square = 0;
    memset(out, 0, sizeof *out);
    size_t beyond = 0;
    for (size_t i = 0; i < n; i++) {
        double x = (double)pcm[i];
        sum += x, square += x * x;
        beyond += fabs(x) > 1.0;
        if (fabs(x) > out->peak) out->peak = fabs(x);
    }
    if (n == 0) return EXIT_OK;
    double mean = sum / (double)n, rest = square / (double)n - mean * mean;
    out->rms_db = decibel(square / (double)n);
    out->dc = rest > 0 ? mean / sqrt(rest) : 0;
    out->beyond = (double)beyond / (double)n;
    int rc = measure_offset(out, pcm, n, rate_hz, err);
    if (rc == EXIT_OK) rc = find_activity(&a, out, pcm, n, rate_hz, err);
    if (rc == EXIT_OK) measure_rails(out, pcm, &a);
    if (rc == EXIT_OK) rc = measure_modulation(out, &a, err);
    if (rc == EXIT_OK) rc = measure_spectrum(out, pcm, n, rate_hz, err);
    if (rc == EXIT_OK) rc = measure_legacy(&out->legacy, pcm, n, rate_hz, out->peak, err);
    activity_free(&a);
    return rc;
}
