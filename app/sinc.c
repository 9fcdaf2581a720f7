/* sinc.c - the table of a windowed sinc and the named settings for one. */
#include "sinc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double KAISER_BETA = 12.3;
enum {
    FINE_STEPS = 2048,      /* rows per sample of the lower rate when interpolating: -130 dB */
    TABLE_MAX = 512 * 1024, /* numbers; beyond that not every fraction gets a row */
    WINDOW_STEPS = 16384,   /* the window is interpolated between these: -140 dB */
    EXTRA_ROWS = 3
};

/* A Kaiser window of 120 dB needs (120 - 8) / (2.285 * 0.1 * pi) = 156 samples for a transition
 * from 0.9 to 1.0 of Nyquist. */
const sinc_settings SINC_FILE = {.name = "file",
                                 .description = "flat to 0.9 of Nyquist, -120 dB above it",
                                 .length = 160,
                                 .cutoff = 0.95,
                                 .interpolation = SINC_LINEAR,
                                 .window = WINDOW_KAISER};

const sinc_settings SINC_NAMED[SINC_NAMED_COUNT] = {
    {"config_1_ultra_high_quality", "Ultra high quality: sinc_len=512, f_cutoff=0.99, Linear", 512,
     0.99, SINC_LINEAR, 512, WINDOW_BLACKMAN},
    {"config_2_cubic_interpolation", "Cubic interpolation: sinc_len=512, f_cutoff=0.99, Cubic", 512,
     0.99, SINC_CUBIC, 512, WINDOW_BLACKMAN},
    {"config_3_lower_cutoff", "Lower cutoff: sinc_len=512, f_cutoff=0.95, Linear", 512, 0.95,
     SINC_LINEAR, 512, WINDOW_BLACKMAN},
    {"config_4_shorter_sinc", "Shorter sinc: sinc_len=256, f_cutoff=0.95, Cubic, BlackmanHarris2",
     256, 0.95, SINC_CUBIC, 256, WINDOW_BLACKMAN_HARRIS2},
    {"config_5_no_resampling", "No resampling: the model's own rate", 0, 0.0, SINC_NONE, 0,
     WINDOW_NONE},
};

const sinc_settings *sinc_find(const char *name) {
    if (!strcmp(name, "default")) return &SINC_NAMED[0];
    if (!strcmp(name, "none")) return &SINC_NAMED[SINC_NAMED_COUNT - 1];
    for (int i = 0; i < SINC_NAMED_COUNT; i++) {
        bool number = name[0] == '1' + i && !name[1];
        if (number || !strcmp(name, SINC_NAMED[i].name)) return &SINC_NAMED[i];
    }
    return NULL;
}

const char *sinc_interpolation_name(sinc_interpolation interpolation) {
    static const char *const names[] = {"None", "Nearest", "Linear", "Quadratic", "Cubic"};
    return names[interpolation];
}

const char *sinc_window_name(sinc_window window) {
    static const char *const names[] = {
        "None",      "Hann",           "Hann2",           "Blackman",
        "Blackman2", "BlackmanHarris", "BlackmanHarris2", "Kaiser"};
    return names[window];
}

/* ---- the kernel ----------------------------------------------------------------------------- */

/* Modified Bessel function of order zero; converges quickly for the arguments used here. */
static double bessel_i0(double x) {
    double sum = 1, term = 1;
    for (int k = 1; term > 1e-17 * sum; k++) {
        term *= (x / (2 * k)) * (x / (2 * k));
        sum += term;
    }
    return sum;
}

/* A window `edge` of the way from its centre (0) to its edge (1). */
static double window_at(sinc_window window, double edge) {
    double c1 = cos(M_PI * edge), c2 = cos(2 * M_PI * edge), c3 = cos(3 * M_PI * edge), w = 1;
    switch (window) {
    case WINDOW_NONE:
        return 1;
    case WINDOW_KAISER:
        return bessel_i0(KAISER_BETA * sqrt(1 - edge * edge)) / bessel_i0(KAISER_BETA);
    case WINDOW_HANN:
    case WINDOW_HANN2:
        w = 0.5 + 0.5 * c1;
        return window == WINDOW_HANN ? w : w * w;
    case WINDOW_BLACKMAN:
    case WINDOW_BLACKMAN2:
        w = 0.42 + 0.5 * c1 + 0.08 * c2;
        return window == WINDOW_BLACKMAN ? w : w * w;
    case WINDOW_BLACKMAN_HARRIS:
    case WINDOW_BLACKMAN_HARRIS2:
        w = 0.35875 + 0.48829 * c1 + 0.14128 * c2 + 0.01168 * c3;
        return window == WINDOW_BLACKMAN_HARRIS ? w : w * w;
    }
    return w;
}

/* Half a window, from its centre to just beyond its edge; computing it anew for every number of a
 * large table would take seconds. */
static double *make_window(sinc_window kind) {
    double *window = calloc(WINDOW_STEPS + 2, sizeof *window);
    for (int i = 0; window && i < WINDOW_STEPS; i++)
        window[i] = window_at(kind, (double)i / WINDOW_STEPS);
    return window;
}

/* Kernel at `t` samples of the lower rate from its centre. */
static double kernel(const double *window, const sinc_settings *settings, double t) {
    double at = fabs(t) / (0.5 * settings->length) * WINDOW_STEPS;
    if (at >= WINDOW_STEPS) return 0;
    double x = M_PI * settings->cutoff * t;
    double sinc = fabs(x) < 1e-9 ? 1 : sin(x) / x;
    int i = (int)at;
    return sinc * (window[i] + (at - i) * (window[i + 1] - window[i]));
}

/* ---- the table ------------------------------------------------------------------------------ */

static size_t choose_rows(const sinc_settings *settings, double scale, size_t fractions,
                          size_t taps) {
    double per_sample = settings->oversampling;
    if (settings->oversampling == 0 && fractions * taps <= TABLE_MAX) return fractions;
    if (settings->oversampling == 0) per_sample = FINE_STEPS;
    return (size_t)ceil(per_sample / scale);
}

bool sinc_table_make(sinc_table *table, const sinc_settings *settings, double scale,
                     size_t fractions) {
    memset(table, 0, sizeof *table);
    table->settings = *settings;
    table->half = (size_t)ceil(0.5 * settings->length * scale);
    size_t taps = 2 * table->half;
    table->rows = choose_rows(settings, scale, fractions, taps);
    double *window = make_window(settings->window);
    double *w = table->weights = malloc(sinc_table_count(table) * sizeof *w);
    for (ptrdiff_t row = -1; window && w && row < (ptrdiff_t)table->rows + 2; row++, w += taps) {
        double sum = 0;
        for (size_t i = 0; i < taps; i++) {
            double behind = (double)row / (double)table->rows + (double)table->half - 1 - (double)i;
            w[i] = kernel(window, settings, behind / scale);
            sum += w[i];
        }
        for (size_t i = 0; i < taps; i++) w[i] /= sum; /* a constant stays the same constant */
    }
    bool made = window && table->weights;
    free(window);
    return made;
}

const double *sinc_row(const sinc_table *table, ptrdiff_t row) {
    return table->weights + (size_t)(row + 1) * 2 * table->half;
}

size_t sinc_table_count(const sinc_table *table) {
    return (table->rows + EXTRA_ROWS) * 2 * table->half;
}

void sinc_table_free(sinc_table *table) {
    free(table->weights);
    memset(table, 0, sizeof *table);
}
