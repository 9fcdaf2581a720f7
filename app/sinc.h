/* sinc.h - the kernel of the resampler: a windowed sinc, tabulated, with every setting that decides
 * how it sounds. The resampler takes all it knows from such a table, and a table can be asked what
 * it was made with, so that a setting that does not arrive is noticed. */
#ifndef APP_SINC_H
#define APP_SINC_H

#include <stdbool.h>
#include <stddef.h>

/* What to take between the rows of the table: 1, 2, 3 or 4 rows, weighted by a polynomial. */
typedef enum sinc_interpolation {
    SINC_NONE, /* no resampling at all */
    SINC_NEAREST,
    SINC_LINEAR,
    SINC_QUADRATIC,
    SINC_CUBIC
} sinc_interpolation;

typedef enum sinc_window {
    WINDOW_NONE,
    WINDOW_HANN,
    WINDOW_HANN2, /* "2": the square of the window */
    WINDOW_BLACKMAN,
    WINDOW_BLACKMAN2,
    WINDOW_BLACKMAN_HARRIS,
    WINDOW_BLACKMAN_HARRIS2,
    WINDOW_KAISER /* 120 dB */
} sinc_window;

typedef struct sinc_settings {
    const char *name;        /* one word; static */
    const char *description; /* static */
    int length;              /* samples of the lower rate under the window; 0: no resampling */
    double cutoff; /* where the gain is a half, in Nyquist frequencies of the lower rate */
    sinc_interpolation interpolation;
    int oversampling; /* rows per sample of the lower rate; 0: one for every fraction that occurs,
                         or, when that is too many, enough to interpolate to -130 dB */
    sinc_window window;
} sinc_settings;

enum { SINC_LENGTH_MAX = 4096, SINC_OVERSAMPLING_MAX = 4096 };

/* What files are read with: flat up to 0.9 of the lower Nyquist frequency, nothing above it. */
extern const sinc_settings SINC_FILE;
/* The five named configurations, in order. The last one is "no resampling". */
extern const sinc_settings SINC_NAMED[];
enum { SINC_NAMED_COUNT = 5 };

/* A named configuration by its name, its number ("1") or "none"; "default" is the first. */
const sinc_settings *sinc_find(const char *name);

/* In words, as records spell them: "Linear", "BlackmanHarris2"; static. */
const char *sinc_interpolation_name(sinc_interpolation interpolation);
const char *sinc_window_name(sinc_window window);

/* Rows of weights, one per fraction of an input sample: row r holds the kernel for an output that
 * lies r / rows of a sample behind an input sample. One row before the first and two after the last
 * are there for the interpolation. */
typedef struct sinc_table {
    sinc_settings settings; /* what the rows were computed from */
    size_t half;            /* input samples on either side of an output */
    size_t rows;
    double *weights; /* [rows + 3, 2 * half], beginning with row -1 */
} sinc_table;

/* `scale`: input samples per sample of the lower rate, at least 1. `fractions`: how many fractions
 * of an input sample occur. False when out of memory. */
bool sinc_table_make(sinc_table *table, const sinc_settings *settings, double scale,
                     size_t fractions);
/* A row, -1 .. rows + 1: [2 * half] weights, oldest sample first. */
const double *sinc_row(const sinc_table *table, ptrdiff_t row);
/* Numbers in `weights`. */
size_t sinc_table_count(const sinc_table *table);
void sinc_table_free(sinc_table *table);

#endif
