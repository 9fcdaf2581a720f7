/* plots.h - the pictures that go with an examination: what a recording looks like, with the faults
 * that were found marked where they are. */
#ifndef APP_PLOTS_H
#define APP_PLOTS_H

#include "analyze.h"
#include "figure.h"

/* What is drawn: the samples that were examined, and what was found in them. */
typedef struct plot_source {
    const float *pcm; /* [n]; values that are no finite numbers count as 0 */
    size_t n;
    int rate_hz;
    const analysis *found;
} plot_source;

typedef struct plot {
    const char *name;    /* "waveform": file names are made of it */
    const char *caption; /* what to look for in it */
    figure drawn;
} plot;

enum { PLOTS_MAX = 7 };

typedef struct plot_set {
    plot list[PLOTS_MAX];
    int n;
} plot_set;

/* All pictures that there is something to show in: waveform, spectrogram (where pictures can be
 * encoded) and modulation always; closeup where there are marks; pieces beside a reference that
 * says something else; agreement and hypotheses with a codec. Free the set in any case. */
int plots_draw(plot_set *out, const plot_source *from, app_error *err);
void plots_free(plot_set *set);

/* Power over time (columns) and frequency (rows, from *top_hz at the top down to 0), on a scale of
 * decibels that ends SPECTROGRAM_DB below its largest value. */
#define SPECTROGRAM_DB 75
int plot_spectrogram_shades(shades *out, double *top_hz, const float *pcm, size_t n, int rate_hz,
                            app_error *err);

#endif
