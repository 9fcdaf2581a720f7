/* likeness.c - laying one sound on the other, and comparing. */
#include "likeness.h"

#include "spectrum.h"
#include "stoi.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COMMON_HZ = 24000, CEPSTRA = 12 };

static const double ACTIVE_BELOW_LOUD_DB = 30;

/* ---- laying one on the other ---------------------------------------------------------------- */

/* Index of the largest magnitude of x[from .. to). */
static size_t largest(const float *x, size_t from, size_t to) {
    size_t best = from;
    for (size_t i = from; i < to; i++)
        if (fabsf(x[i]) > fabsf(x[best])) best = i;
    return best;
}

/* Where a parabola through three points has its top, -0.5..0.5. */
static double top_of(double before, double at, double after) {
    double bend = before - 2 * at + after;
    double part = bend == 0 ? 0 : 0.5 * (before - after) / bend;
    return part > 0.5 ? 0.5 : part < -0.5 ? -0.5 : part;
}

/* Take the mean of every band off, and pack the bands one after another: [MEL_BANDS, frames]. */
static float *unfold(const mel_picture *p, double *norm) {
    float *x = malloc((p->frames + 1) * MEL_BANDS * sizeof *x);
    *norm = 0;
    for (size_t b = 0; x && b < MEL_BANDS; b++) {
        double mean = 0;
        for (size_t f = 0; f < p->frames; f++)
            mean += (double)p->log_energy[f * MEL_BANDS + b] / (double)p->frames;
        for (size_t f = 0; f < p->frames; f++) {
            double y = (double)p->log_energy[f * MEL_BANDS + b] - mean;
            x[b * p->frames + f] = (float)y;
            *norm += y * y;
        }
    }
    return x;
}

int likeness_of_pictures(double *lag_s, double *match, const mel_picture *heard,
                         const mel_picture *reference, app_error *err) {
    double norm_a, norm_b;
    size_t n_a = heard->frames, n_b = reference->frames;
    *lag_s = *match = 0;
    if (n_a == 0 || n_b == 0) return EXIT_OK;
    float *a = unfold(heard, &norm_a), *b = unfold(reference, &norm_b);
    float *one = malloc((n_a + n_b) * sizeof *one), *all = calloc(n_a + n_b, sizeof *all);
    int rc = a && b && one && all ? EXIT_OK : app_no_memory(err);
    for (size_t k = 0; rc == EXIT_OK && k < MEL_BANDS; k++) {
        rc = spectrum_correlate(one, a + k * n_a, n_a, b + k * n_b, n_b, err);
        for (size_t i = 0; rc == EXIT_OK && i < n_a + n_b - 1; i++) all[i] += one[i];
    }
    if (rc == EXIT_OK) {
        size_t best = 0;
        for (size_t i = 0; i < n_a + n_b - 1; i++)
            if (all[i] > all[best]) best = i;
        double part = best > 0 && best + 2 < n_a + n_b
                          ? top_of((double)all[best - 1], (double)all[best], (double)all[best + 1])
                          : 0;
        *lag_s = ((double)best - (double)(n_b - 1) + part) / MEL_HZ;
        *match = (double)all[best] / sqrt(norm_a * norm_b + 1e-30);
    }
    free(a);
    free(b);
    free(one);
    free(all);
    return rc;
}

/* Two sounds at one rate, cut to what they have in common. */
typedef struct pair {
    float *reference, *heard; /* [n] */
    size_t n;
    int rate_hz;
} pair;

static void pair_free(pair *p) {
    free(p->reference);
    free(p->heard);
    memset(p, 0, sizeof *p);
}

enum { REACH = 16 };

/* Values between samples, |part| <= 0.5 after each: a sinc under a Hann window. */
static void shift_part(float *out, const float *in, size_t n_in, size_t from, size_t n,
                       double part) {
    double weight[2 * REACH];
    for (int k = 0; k < 2 * REACH; k++) {
        double t = k - (REACH - 1) - part, angle = M_PI * t;
        weight[k] = (t == 0 ? 1 : sin(angle) / angle) * pow(cos(angle / (2 * REACH + 1)), 2);
    }
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        for (size_t k = 0; k < 2 * REACH; k++) {
            size_t at = from + i + k;
            if (at >= REACH - 1 && at - (REACH - 1) < n_in)
                sum += (double)in[at - (REACH - 1)] * weight[k];
        }
        out[i] = (float)sum;
    }
}

/* `lag` samples, a fraction among them, by which `heard` comes later. */
static int cut_pair(pair *out, const sound *heard, const sound *reference, double lag,
                    app_error *err) {
    ptrdiff_t whole = (ptrdiff_t)floor(lag + 0.5);
    double part = lag - (double)whole;
    size_t skip_heard = whole > 0 ? (size_t)whole : 0;
    size_t skip_reference = whole < 0 ? (size_t)-whole : 0;
    size_t a = heard->n > skip_heard ? heard->n - skip_heard : 0;
    size_t b = reference->n > skip_reference ? reference->n - skip_reference : 0;
    *out = (pair){.n = a < b ? a : b, .rate_hz = reference->rate_hz};
    out->reference = malloc((out->n + 1) * sizeof *out->reference);
    out->heard = malloc((out->n + 1) * sizeof *out->heard);
    if (!out->reference || !out->heard) {
        pair_free(out);
        return app_no_memory(err);
    }
    memcpy(out->reference, reference->pcm + skip_reference, out->n * sizeof *out->reference);
    if (fabs(part) < 0.01)
        memcpy(out->heard, heard->pcm + skip_heard, out->n * sizeof *out->heard);
    else
        shift_part(out->heard, heard->pcm, heard->n, skip_heard, out->n, part);
    return EXIT_OK;
}

/* ---- comparing ------------------------------------------------------------------------------ */

static double clamp_db(double ratio) {
    double db = 10 * log10(ratio + 1e-30);
    return db > 100 ? 100 : db < -100 ? -100 : db;
}

/* Both without their means, as the definition wants it. */
static void measure_si_sdr(alignment *laid, likeness *alike, const pair *p) {
    double mean_r = 0, mean_h = 0, rr = 0, hh = 0, rh = 0;
    for (size_t i = 0; i < p->n; i++) {
        mean_r += (double)p->reference[i] / (double)p->n;
        mean_h += (double)p->heard[i] / (double)p->n;
    }
    for (size_t i = 0; i < p->n; i++) {
        double r = (double)p->reference[i] - mean_r, h = (double)p->heard[i] - mean_h;
        rr += r * r, hh += h * h, rh += r * h;
    }
    double scale = rr > 0 ? rh / rr : 0, target = scale * scale * rr;
    laid->inverted = scale < 0;
    laid->gain_db = clamp_db(hh / (rr + 1e-30));
    alike->si_sdr_db = clamp_db(target / (fmax(hh - target, 0) + 1e-30));
}

static int measure_stoi(likeness *alike, const pair *p, app_error *err) {
    stoi_result result = {0};
    int rc = stoi_measure(&result, p->reference, p->heard, p->n, err);
    alike->stoi = result.stoi;
    alike->estoi = result.estoi;
    alike->understood = result.segments > 0;
    return rc;
}

/* Cepstra 1 .. CEPSTRA of one frame of a picture. */
static void cepstra_of(double *out, const float *log_energy) {
    for (int d = 1; d <= CEPSTRA; d++) {
        double sum = 0;
        for (int b = 0; b < MEL_BANDS; b++)
            sum += (double)log_energy[b] * cos(M_PI * d * (b + 0.5) / MEL_BANDS);
        out[d - 1] = sum / MEL_BANDS;
    }
}

static double loud_db(const mel_picture *p) {
    double loud = -HUGE_VAL;
    for (size_t f = 0; f < p->frames; f++) loud = fmax(loud, (double)p->level_db[f]);
    return loud;
}

static int measure_cepstra(likeness *alike, const pair *p, app_error *err) {
    mel_picture r = {0}, h = {0};
    double a[CEPSTRA], b[CEPSTRA], sum = 0;
    size_t frames = 0;
    int rc = mel_picture_make(&r, p->reference, p->n, p->rate_hz, err);
    if (rc == EXIT_OK) rc = mel_picture_make(&h, p->heard, p->n, p->rate_hz, err);
    double gate = loud_db(&r) - ACTIVE_BELOW_LOUD_DB;
    for (size_t f = 0; rc == EXIT_OK && f < r.frames; f++) {
        double square = 0;
        if ((double)r.level_db[f] < gate) continue;
        cepstra_of(a, r.log_energy + f * MEL_BANDS);
        cepstra_of(b, h.log_energy + f * MEL_BANDS);
        for (int d = 0; d < CEPSTRA; d++) square += (a[d] - b[d]) * (a[d] - b[d]);
        sum += 10 / log(10) * sqrt(2 * square);
        frames++;
    }
    alike->mel_cepstral_db = frames ? sum / (double)frames : 0;
    mel_picture_free(&r);
    mel_picture_free(&h);
    return rc;
}

/* Share of the reference's energy-bearing 10 ms within the part in common. */
static double covered_by(const pair *p, const sound *reference) {
    size_t hop = (size_t)reference->rate_hz / 100 + 1;
    double all = 0, within = 0;
    for (size_t i = 0; i < reference->n; i++) all += pow((double)reference->pcm[i], 2);
    double gate = 1e-2 * all / (double)(reference->n + 1) * (double)hop;
    size_t sounding = 0, common = 0;
    for (size_t at = 0; at + hop <= reference->n; at += hop) {
        double sum = 0;
        for (size_t i = at; i < at + hop; i++) sum += pow((double)reference->pcm[i], 2);
        sounding += sum > gate;
    }
    for (size_t at = 0; at + hop <= p->n; at += hop) {
        double sum = 0;
        for (size_t i = at; i < at + hop; i++) sum += pow((double)p->reference[i], 2);
        common += sum > gate;
    }
    within = sounding ? (double)common / (double)sounding : 1;
    return within < 1 ? within : 1;
}

static double lag_at(const float *correlation, size_t n, size_t index, size_t n_reference) {
    double part = 0, s = correlation[index] < 0 ? -1 : 1;
    if (index > 0 && index + 1 < n)
        part = top_of(s * (double)correlation[index - 1], s * (double)correlation[index],
                      s * (double)correlation[index + 1]);
    return (double)index - (double)(n_reference - 1) + part;
}

double likeness_merit(const likeness *l) {
    double db = l->si_sdr_db < -20 ? -20 : l->si_sdr_db > 40 ? 40 : l->si_sdr_db;
    return l->estoi + db / 200;
}

/* Both sounds, and all there is to say about where one lies on the other. */
typedef struct overlay {
    const sound *heard, *reference;
    sound stoi_heard, stoi_reference; /* the same at STOI_HZ */
    float *correlation;               /* [n] */
    size_t n;
    double coarse_s; /* the lag that their pictures ask for */
    /* What is best so far. */
    double lag;
    alignment laid;
    likeness alike;
} overlay;

static void overlay_free(overlay *o) {
    free(o->correlation);
    sound_free(&o->stoi_heard);
    sound_free(&o->stoi_reference);
}

static int overlay_make(overlay *o, app_error *err) {
    mel_picture a = {0}, b = {0};
    double match;
    const sound *h = o->heard, *r = o->reference;
    o->n = h->n + r->n - 1;
    o->correlation = malloc(o->n * sizeof *o->correlation);
    int rc = o->correlation ? EXIT_OK : app_no_memory(err);
    if (rc == EXIT_OK) rc = spectrum_correlate(o->correlation, h->pcm, h->n, r->pcm, r->n, err);
    if (rc == EXIT_OK) rc = mel_picture_make(&a, h->pcm, h->n, h->rate_hz, err);
    if (rc == EXIT_OK) rc = mel_picture_make(&b, r->pcm, r->n, r->rate_hz, err);
    if (rc == EXIT_OK) rc = likeness_of_pictures(&o->coarse_s, &match, &a, &b, err);
    if (rc == EXIT_OK) rc = sound_resample(&o->stoi_heard, h, &SINC_FILE, STOI_HZ, NULL, err);
    if (rc == EXIT_OK) rc = sound_resample(&o->stoi_reference, r, &SINC_FILE, STOI_HZ, NULL, err);
    mel_picture_free(&a);
    mel_picture_free(&b);
    return rc;
}

/* Compare at a lag, and keep it when it is better. */
static int try_lag(overlay *o, double lag, app_error *err) {
    alignment laid = {.delay_s = lag / o->reference->rate_hz};
    likeness alike = {.si_sdr_db = -100};
    pair p, slow;
    int rc = cut_pair(&p, o->heard, o->reference, lag, err);
    if (rc != EXIT_OK) return rc;
    laid.common_s = (double)p.n / p.rate_hz;
    laid.covered = covered_by(&p, o->reference);
    if (p.n > 0) measure_si_sdr(&laid, &alike, &p);
    pair_free(&p);
    rc = cut_pair(&slow, &o->stoi_heard, &o->stoi_reference, laid.delay_s * STOI_HZ, err);
    if (rc != EXIT_OK) return rc;
    rc = measure_stoi(&alike, &slow, err);
    pair_free(&slow);
    if (rc != EXIT_OK || likeness_merit(&alike) <= likeness_merit(&o->alike)) return rc;
    o->lag = lag;
    o->laid = laid;
    o->alike = alike;
    return EXIT_OK;
}

/* The highest correlation of samples in from .. to. */
static double lag_within(const overlay *o, double from, double to) {
    size_t first = from > 0 ? (size_t)from : 0, end = to < (double)o->n ? (size_t)to : o->n;
    if (first >= end) first = 0, end = o->n;
    return lag_at(o->correlation, o->n, largest(o->correlation, first, end), o->reference->n);
}

/* Sounds that went through a codec have samples of their own, so the samples may point to the wrong
 * place: the pictures are asked as well, and the better place wins. */
static int try_lags(overlay *o, app_error *err) {
    double rate = o->reference->rate_hz, coarse = o->coarse_s * rate, reach = 0.02 * rate;
    double middle = coarse + (double)(o->reference->n - 1), lag = lag_within(o, 0, (double)o->n);
    int rc = try_lag(o, lag, err);
    if (fabs(lag - coarse) < reach && o->alike.si_sdr_db > 3) return rc;
    if (rc == EXIT_OK) rc = try_lag(o, coarse, err);
    if (rc == EXIT_OK) rc = try_lag(o, lag_within(o, middle - reach, middle + reach), err);
    return rc;
}

int likeness_compare(alignment *laid, likeness *alike, const sound *heard, const sound *reference,
                     app_error *err) {
    overlay o = {.heard = heard, .reference = reference, .alike = {.si_sdr_db = -100, .estoi = -1}};
    pair p = {0};
    *laid = (alignment){0};
    *alike = (likeness){.si_sdr_db = -100};
    if (heard->n == 0 || reference->n == 0) return EXIT_OK;
    int rc = overlay_make(&o, err);
    if (rc == EXIT_OK) rc = try_lags(&o, err);
    if (rc == EXIT_OK) rc = cut_pair(&p, heard, reference, o.lag, err);
    if (rc == EXIT_OK && p.n > 0) rc = measure_cepstra(&o.alike, &p, err);
    *laid = o.laid;
    *alike = o.alike;
    pair_free(&p);
    overlay_free(&o);
    return rc;
}
