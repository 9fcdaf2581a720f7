/* plots.c - waveform, spectrogram, modulation: axes, marks, captions. */
#include "plots.h"

#include "spectrum.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* All figures are as wide; the area inside the axes lies between margins. */
static const double WIDTH = 720, LEFT = 50, TOP = 34, BOTTOM = 36;
/* Figures are this many columns across. */
enum { COLUMNS = 658, ROWS = 180 };

typedef struct frame {
    double x, y, w, h;
} frame;

static int begin(figure *f, frame *inside, double height, app_error *err) {
    *inside = (frame){LEFT, TOP, COLUMNS, height};
    return figure_open(f, WIDTH, TOP + height + BOTTOM, err);
}

/* ---- axes ----------------------------------------------------------------------------------- */

/* 1, 2 or 5 times a power of ten, not below x. */
static double round_up(double x) {
    double ten = pow(10, floor(log10(x)));
    return x <= ten * 1.000001 ? ten : x <= 2 * ten ? 2 * ten : x <= 5 * ten ? 5 * ten : 10 * ten;
}

static void tick_text(char out[32], double value) {
    snprintf(out, 32, "%.6g", fabs(value) < 1e-12 ? 0 : value);
}

static void axis_names(figure *f, frame in, const char *across, const char *up) {
    figure_text(f, INK_TEXT, ALIGN_RIGHT, in.x + in.w, in.y + in.h + 31, across);
    figure_text(f, INK_TEXT, ALIGN_LEFT, 4, 13, up);
}

/* Round numbers between `from` and `to` below the frame. */
static void x_axis(figure *f, frame in, double from, double to) {
    double step = to > from ? round_up((to - from) / 10) : 1;
    for (double i = ceil(from / step - 1e-6); i * step <= to + 1e-6 * step; i++) {
        double x = in.x + in.w * (to > from ? (i * step - from) / (to - from) : 0);
        char text[32];
        tick_text(text, i * step);
        figure_fill(f, INK_TEXT, 1, x - 0.5, in.y + in.h, 1, 4);
        figure_text(f, INK_TEXT, ALIGN_MIDDLE, x, in.y + in.h + 16, text);
    }
}

/* Lines and numbers from `from` at the bottom to `to` at the top. */
static void y_axis(figure *f, frame in, double from, double to, int steps) {
    for (int i = 0; i <= steps; i++) {
        double value = from + (to - from) * i / steps;
        double y = in.y + in.h - in.h * i / steps;
        char text[32];
        tick_text(text, value);
        figure_fill(f, INK_GRID, 1, in.x, y - 0.5, in.w, 1);
        figure_text(f, INK_TEXT, ALIGN_RIGHT, in.x - 6, y + 4, text);
    }
}

/* ---- faults --------------------------------------------------------------------------------- */

static bool is_fault(const analysis *a, finding_kind kind) {
    return findings_confidence(&a->found, kind) >= FINDING_FAULT;
}

/* Are the marks of this kind what the verdict rests on? */
static bool marks_count(const analysis *a, splice_mark_kind kind) {
    switch (kind) {
    case MARK_REPEAT:
        return is_fault(a, FINDING_FRAMES_REPEATED);
    case MARK_GAP:
        return is_fault(a, FINDING_GAPS);
    case MARK_WRAP:
        return is_fault(a, FINDING_WRAPPED);
    default:
        return is_fault(a, FINDING_FRAMES_REVERSED) || is_fault(a, FINDING_FRAMES_SHUFFLED) ||
               is_fault(a, FINDING_FRAMES_SWAPPED) || is_fault(a, FINDING_ORDER_REVERSED) ||
               is_fault(a, FINDING_FRAMES_DROPPED) || is_fault(a, FINDING_GLITCHES);
    }
}

static int marks_shown(const analysis *a) {
    int n = 0;
    for (int kind = 0; kind < MARK_KINDS; kind++)
        if (marks_count(a, (splice_mark_kind)kind)) n += a->splice.n_marks[kind];
    return n;
}

/* The samples that a picture shows. */
typedef struct stretch {
    size_t first, n;
} stretch;

/* Marks in the strip y..y+h of the frame: a line for a point, an area for a piece. */
static void draw_marks(figure *f, frame in, const plot_source *from, stretch of, double y, double h,
                       double strength) {
    const splice_facts *s = &from->found->splice;
    for (int kind = 0; kind < MARK_KINDS; kind++) {
        if (!marks_count(from->found, (splice_mark_kind)kind)) continue;
        for (int i = 0; i < s->n_marks[kind]; i++) {
            const splice_mark *m = &s->marks[kind][i];
            if (m->at < of.first || m->at >= of.first + of.n) continue;
            double x = in.w * (double)(m->at - of.first) / (double)of.n;
            double wide = fmin(in.w * (double)m->length / (double)of.n, in.w - x);
            if (m->length)
                figure_fill(f, INK_FAULT, strength / 2, in.x + x, y, fmax(wide, 1), h);
            else
                figure_fill(f, INK_FAULT, strength, in.x + x - 0.5, y, 1, h);
        }
    }
}

/* What was found, above the frame. */
static void draw_fault_name(figure *f, frame in, const analysis *a) {
    if (a->found.n == 0 || a->found.list[0].confidence < FINDING_FAULT) return;
    figure_text(f, INK_FAULT, ALIGN_RIGHT, in.x + in.w, 13, finding_name(a->found.list[0].kind));
}

/* ", 12 places marked" */
static void add_marks_to_alt(figure *f, const analysis *a) {
    size_t n = strlen(f->alt);
    int marks = marks_shown(a);
    if (marks > 0) snprintf(f->alt + n, sizeof f->alt - n, ", %d places marked", marks);
}

/* ---- waveform ------------------------------------------------------------------------------- */

static float sane(float x) {
    return fabsf(x) <= 1e6f ? x : 0;
}

/* Largest and smallest sample of each column, in units of `full`, as heights in the frame. */
static void find_columns(float *top, float *bottom, const float *pcm, stretch of, frame in,
                         double full) {
    double middle = in.y + in.h / 2, scale = in.h / 2 / full;
    for (size_t c = 0; c < COLUMNS; c++) {
        size_t first = of.first + c * of.n / COLUMNS, end = of.first + (c + 1) * of.n / COLUMNS;
        float high = sane(pcm[first]), low = high;
        for (size_t i = first; i < end; i++) {
            high = fmaxf(high, sane(pcm[i]));
            low = fminf(low, sane(pcm[i]));
        }
        /* Silence is a line as well. */
        double up = middle - (double)high * scale, down = middle - (double)low * scale;
        if (down - up < 1) up = (up + down) / 2 - 0.5, down = up + 1;
        top[c] = (float)up, bottom[c] = (float)down;
    }
}

static int draw_waveform(figure *f, const plot_source *from, stretch of, app_error *err) {
    const level_facts *l = &from->found->level;
    float top[COLUMNS], bottom[COLUMNS];
    frame in;
    double start = (double)of.first / from->rate_hz, end = start + (double)of.n / from->rate_hz;
    double full = l->peak > 1e-4 ? round_up(l->peak) : 1;
    int rc = begin(f, &in, 150, err);
    if (rc != EXIT_OK) return rc;
    y_axis(f, in, -full, full, 4);
    x_axis(f, in, start, end);
    axis_names(f, in, "time, s", "amplitude, full scale 1");
    draw_fault_name(f, in, from->found);
    if (of.n > 0) {
        find_columns(top, bottom, from->pcm, of, in, full);
        figure_columns(f, INK_MAIN, in.x, 1, COLUMNS, top, bottom);
        draw_marks(f, in, from, of, in.y, in.h, 0.55);
    }
    if (is_fault(from->found, FINDING_CLIPPED))
        for (int side = -1; side <= 1; side += 2)
            figure_fill(f, INK_FAULT, 1, in.x, in.y + in.h / 2 * (1 + side * l->peak / full) - 0.75,
                        in.w, 1.5);
    return f->svg.rc;
}

static int plot_waveform(figure *f, const plot_source *from, app_error *err) {
    int rc = draw_waveform(f, from, (stretch){0, from->n}, err);
    snprintf(f->alt, sizeof f->alt, "Waveform: %.2f seconds, largest magnitude %.4g of full scale",
             (double)from->n / from->rate_hz, from->found->level.peak);
    add_marks_to_alt(f, from->found);
    return rc;
}

/* Half a second that has most marks. */
static stretch busiest(const plot_source *from) {
    const splice_facts *s = &from->found->splice;
    size_t length = (size_t)from->rate_hz / 2, first = 0;
    int most = 0;
    for (int kind = 0; kind < MARK_KINDS; kind++) {
        if (!marks_count(from->found, (splice_mark_kind)kind)) continue;
        for (int i = 0; i < s->n_marks[kind]; i++) {
            int n = 1;
            size_t at = s->marks[kind][i].at;
            while (i + n < s->n_marks[kind] && s->marks[kind][i + n].at < at + length * 9 / 10) n++;
            if (n > most) most = n, first = at > length / 20 ? at - length / 20 : 0;
        }
    }
    if (length > from->n) length = from->n;
    if (first + length > from->n) first = from->n - length;
    return (stretch){first, length};
}

static int plot_closeup(figure *f, const plot_source *from, app_error *err) {
    stretch of = busiest(from);
    int rc = draw_waveform(f, from, of, err);
    snprintf(f->alt, sizeof f->alt,
             "Waveform of the half second from %.2f seconds on, where most "
             "of the marked places are",
             (double)of.first / from->rate_hz);
    return rc;
}

/* ---- spectrogram ---------------------------------------------------------------------------- */

/* Mean power spectrum of each column: power[COLUMNS, size / 2 + 1]. Columns shorter than a window
 * share samples. */
static int column_spectra(double *power, const float *pcm, size_t n, size_t size, app_error *err) {
    for (size_t c = 0; c < COLUMNS; c++) {
        size_t first = c * n / COLUMNS, end = (c + 1) * n / COLUMNS, length = end - first;
        if (length < size) {
            size_t middle = (first + end) / 2;
            length = size < n ? size : n;
            first = middle > length / 2 ? middle - length / 2 : 0;
            if (first + length > n) first = n - length;
        }
        int rc = spectrum_welch(power + c * (size / 2 + 1), pcm + first, length, size, err);
        if (rc == EXIT_OK) rc = app_check_interrupted(err);
        if (rc != EXIT_OK) return rc;
    }
    return EXIT_OK;
}

/* Power between two places on the axis of bins: of the strongest bin there, or, between two bins,
 * of their mixture. */
static double power_between(const double *power, size_t bins, double from, double to) {
    double most = 0;
    bool any = false;
    for (size_t k = (size_t)ceil(from); (double)k < to && k < bins; k++, any = true)
        most = fmax(most, power[k]);
    if (any) return most;
    size_t below = (size_t)from;
    if (below + 1 >= bins) return power[bins - 1];
    double share = (from + to) / 2 - (double)below;
    return power[below] * (1 - share) + power[below + 1] * share;
}

int plot_spectrogram_shades(shades *out, double *top_hz, const float *pcm, size_t n, int rate_hz,
                            app_error *err) {
    size_t size = spectrum_fast_size((size_t)fmax(0.032 * rate_hz, 32)), bins = size / 2 + 1;
    *top_hz = fmin(rate_hz / 2.0, 12000);
    int rc = shades_make(out, COLUMNS, ROWS, err);
    double *power = calloc(COLUMNS * bins, sizeof *power);
    float *x = calloc(n + 1, sizeof *x);
    if (rc == EXIT_OK && (!power || !x)) rc = app_no_memory(err);
    for (size_t i = 0; rc == EXIT_OK && i < n; i++) x[i] = sane(pcm[i]);
    if (rc == EXIT_OK && n > 0) rc = column_spectra(power, x, n, size, err);
    double most = 1e-18, bins_per_row = *top_hz * (double)size / rate_hz / ROWS;
    for (size_t i = 0; rc == EXIT_OK && i < COLUMNS * bins; i++) most = fmax(most, power[i]);
    for (size_t row = 0; rc == EXIT_OK && row < ROWS; row++)
        for (size_t c = 0; c < COLUMNS; c++) {
            double from = (double)(ROWS - 1 - row) * bins_per_row;
            double here = power_between(power + c * bins, bins, from, from + bins_per_row);
            double share = 1 + 10 * log10(here / most + 1e-20) / SPECTROGRAM_DB;
            out->level[row * COLUMNS + c] = (unsigned char)lrint(255 * fmin(fmax(share, 0), 1));
        }
    free(power);
    free(x);
    if (rc != EXIT_OK) shades_free(out);
    return rc;
}

static int plot_spectrogram(figure *f, const plot_source *from, app_error *err) {
    shades s = {0};
    frame in;
    double top_hz, seconds = (double)from->n / from->rate_hz;
    int rc = begin(f, &in, 2.0 * ROWS / 2, err);
    if (rc == EXIT_OK)
        rc = plot_spectrogram_shades(&s, &top_hz, from->pcm, from->n, from->rate_hz, err);
    if (rc != EXIT_OK) return rc;
    snprintf(f->alt, sizeof f->alt,
             "Spectrogram: %.2f seconds, frequencies up to %.4g kHz, 99 percent of the power lies "
             "below %.4g kHz",
             seconds, top_hz / 1000, from->found->level.band_hz / 1000);
    add_marks_to_alt(f, from->found);
    y_axis(f, in, 0, top_hz / 1000, 4);
    x_axis(f, in, 0, seconds);
    figure_shades(f, in.x, in.y, in.w, in.h, &s);
    shades_free(&s);
    axis_names(f, in, "time, s", "frequency, kHz");
    draw_fault_name(f, in, from->found);
    /* Beside the picture: on its colours no mark is seen. */
    draw_marks(f, in, from, (stretch){0, from->n}, in.y - 8, 6, 1);
    return f->svg.rc;
}

/* ---- modulation ----------------------------------------------------------------------------- */

static int plot_modulation(figure *f, const plot_source *from, app_error *err) {
    const level_facts *l = &from->found->level;
    double most = 0.05;
    frame in;
    int rc = begin(f, &in, 120, err);
    if (rc != EXIT_OK) return rc;
    snprintf(f->alt, sizeof f->alt,
             "Modulation: %.0f percent of the level's movement lies between 2 and 10 Hz, where "
             "syllables are; the peak is at %.2g Hz",
             100 * l->modulation, l->modulation_peak_hz);
    for (int b = 0; b < MODULATION_BANDS; b++) most = fmax(most, l->modulation_bands[b]);
    most = round_up(most);
    y_axis(f, in, 0, 100 * most, 4);
    double step = in.w / MODULATION_BANDS;
    for (int b = 0; b < MODULATION_BANDS; b++) {
        double hz = MODULATION_LOWEST_HZ * exp2(b / 3.0), x = in.x + step * b;
        double h = in.h * l->modulation_bands[b] / most;
        figure_fill(f, hz > 1.9 && hz < 10.5 ? INK_MAIN : INK_CALM, 1, x + 3, in.y + in.h - h,
                    step - 6, h);
        if (b % 3 != 0) continue;
        char text[32];
        tick_text(text, hz);
        figure_fill(f, INK_TEXT, 1, x + step / 2 - 0.5, in.y + in.h, 1, 4);
        figure_text(f, INK_TEXT, ALIGN_MIDDLE, x + step / 2, in.y + in.h + 16, text);
    }
    axis_names(f, in, "movements per second, Hz", "share of the level's movement, %");
    char text[80];
    snprintf(text, sizeof text, "2 to 10 Hz, syllables of speech: %.0f %%", 100 * l->modulation);
    figure_text(f, INK_TEXT, ALIGN_RIGHT, in.x + in.w, 13, text);
    return f->svg.rc;
}

/* ---- beside a reference --------------------------------------------------------------------- */

/* Where each piece of the recording comes from: intact speech lies on one rising line. */
static int plot_pieces(figure *f, const plot_source *from, app_error *err) {
    const reference_facts *r = &from->found->reference;
    const double piece_s = 0.08, start = r->pieces[0].at_s;
    double across = r->pieces[r->n_pieces - 1].at_s + piece_s - start;
    double low = r->pieces[0].from_s, high = low;
    frame in;
    int rc = begin(f, &in, 160, err);
    if (rc != EXIT_OK) return rc;
    snprintf(
        f->alt, sizeof f->alt,
        "Where %d pieces of the recording come from: %.0f percent occur in the reference, %.0f "
        "percent of those follow each other there",
        r->n_pieces, 100 * r->found, 100 * r->in_order);
    for (int i = 0; i < r->n_pieces; i++) {
        low = fmin(low, r->pieces[i].from_s);
        high = fmax(high, r->pieces[i].from_s + piece_s);
    }
    double step = round_up((high - low) / 4);
    low = floor(low / step) * step;
    int steps = (int)ceil((high - low) / step);
    y_axis(f, in, low, low + steps * step, steps);
    x_axis(f, in, start, start + across);
    axis_names(f, in, "time in the recording, s", "place in the reference, s");
    for (int i = 0; i < r->n_pieces; i++) {
        const reference_piece *p = &r->pieces[i];
        double x = in.x + in.w * (p->at_s - start) / across;
        double y = in.y + in.h * (1 - (p->from_s - low) / (steps * step));
        figure_fill(f, INK_MAIN, fmin(fmax(p->match, 0.15), 1), x, y - 5, 5, 5);
    }
    return f->svg.rc;
}

/* ---- with a codec --------------------------------------------------------------------------- */

static double highest(const double *x, int n) {
    double most = 0;
    for (int i = 0; i < n; i++) most = fmax(most, x[i]);
    return most;
}

static int plot_agreement(figure *f, const plot_source *from, app_error *err) {
    const recode_facts *c = &from->found->codec;
    const double *shown = c->from_codes ? c->codes.part : c->returns;
    int n = c->codebooks;
    double most = fmax(highest(shown, n), c->from_codes ? highest(c->possible, n) : 0);
    frame in;
    int rc = begin(f, &in, 120, err);
    if (rc != EXIT_OK) return rc;
    snprintf(f->alt, sizeof f->alt,
             "Agreement: of the codes of the first of %d codebooks %.0f percent come back", n,
             n > 0 ? 100 * shown[0] : 0);
    most = round_up(fmax(most, 0.05));
    y_axis(f, in, 0, 100 * most, 4);
    double step = in.w / (n > 0 ? n : 1), gap = fmin(step / 6, 6);
    for (int k = 0; k < n; k++) {
        double x = in.x + step * k + gap, w = step - 2 * gap;
        double h = in.h * shown[k] / most;
        if (c->from_codes) {
            double possible = in.h * c->possible[k] / most;
            figure_fill(f, INK_CALM, 1, x, in.y + in.h - possible, w, possible);
            x += w / 4, w /= 2;
        }
        bool lost = c->from_codes && k == 0 && c->codes.judged && !c->codes.holds;
        figure_fill(f, lost ? INK_FAULT : INK_MAIN, 1, x, in.y + in.h - h, w, h);
        char text[32];
        tick_text(text, k + 1);
        if (n <= 32 || k % 8 == 0)
            figure_text(f, INK_TEXT, ALIGN_MIDDLE, in.x + step * (k + 0.5), in.y + in.h + 16, text);
    }
    axis_names(f, in, "codebook", "codes that come back, %");
    if (c->from_codes)
        figure_text(f, INK_TEXT, ALIGN_RIGHT, in.x + in.w, 13,
                    "narrow: from the recording; wide: possible");
    return f->svg.rc;
}

enum { TRIALS_SHOWN = 12 };
/* Where bars begin and end. */
static const double LEAST_DB = -20, MOST_DB = 40;

/* What may have happened to the codes, and how near the sound of that comes to the recording. */
static int plot_hypotheses(figure *f, const plot_source *from, app_error *err) {
    const recode_facts *c = &from->found->codec;
    int n = c->n_trials < TRIALS_SHOWN ? c->n_trials : TRIALS_SHOWN;
    const double row = 18, names = 400;
    int rc = figure_open(f, WIDTH, TOP + row * n, err);
    if (rc != EXIT_OK) return rc;
    figure_text(f, INK_TEXT, ALIGN_LEFT, 4, 13, "what may have happened to the codes");
    figure_text(f, INK_TEXT, ALIGN_RIGHT, LEFT + COLUMNS, 13, "likeness of the sound (SI-SDR), dB");
    bool explained = n > 0 && recode_explains(&c->trials[0]);
    snprintf(f->alt, sizeof f->alt, "Hypotheses: %s%s",
             explained ? "the recording is most like its codes " : "none gives the recording",
             explained ? c->trials[0].what : "");
    for (int i = 0; i < n; i++) {
        const recode_trial *t = &c->trials[i];
        double y = TOP + row * i, like = (t->alike.si_sdr_db - LEAST_DB) / (MOST_DB - LEAST_DB);
        char text[32];
        snprintf(text, sizeof text, "%.1f", t->alike.si_sdr_db);
        figure_text(f, INK_TEXT, ALIGN_LEFT, 4, y + 10, t->what);
        figure_fill(f, i == 0 && explained ? INK_MAIN : INK_CALM, 1, names, y,
                    fmax((LEFT + COLUMNS - 50 - names) * fmin(like, 1), 1), row - 5);
        figure_text(f, INK_TEXT, ALIGN_RIGHT, LEFT + COLUMNS, y + 10, text);
    }
    return f->svg.rc;
}

/* ---- all of them ---------------------------------------------------------------------------- */

int plots_draw(plot_set *out, const plot_source *from, app_error *err) {
    const analysis *a = from->found;
    const struct {
        const char *name, *caption;
        int (*draw)(figure *f, const plot_source *from, app_error *err);
        bool wanted;
    } plots[PLOTS_MAX] = {
        {"waveform",
         "Every column spans the largest and the smallest sample of its time. Red: where samples "
         "do not follow from those before, or pieces are repeated or missing.",
         plot_waveform, true},
        {"closeup", "The half second with most marks.", plot_closeup, marks_shown(a) > 0},
        {"spectrogram",
         "Speech shows bands that bend and breathe; vertical edges at equal distances are seams. "
         "From dark to bright: 75 dB.",
         plot_spectrogram, picture_can_encode()},
        {"modulation",
         "How fast the level moves. Syllables of speech put most of it between 2 and 10 Hz.",
         plot_modulation, true},
        {"pieces",
         "Where each piece of 80 ms comes from. Intact speech lies on one rising line; a falling "
         "line runs backwards, scattered points were shuffled.",
         plot_pieces, a->reference.measured && a->reference.n_pieces > 0},
        {"agreement",
         "How many of the codec's codes come back when the sound is encoded again. The first "
         "codebook follows what is said; the others describe details and change every time.",
         plot_agreement, a->codec.measured},
        {"hypotheses",
         "The codes were changed in each of these ways and decoded; what comes nearest to the "
         "recording is what probably happened.",
         plot_hypotheses, a->codec.measured && a->codec.n_trials > 0}};
    int rc = EXIT_OK;
    out->n = 0;
    for (int i = 0; i < PLOTS_MAX && rc == EXIT_OK; i++) {
        if (!plots[i].wanted) continue;
        plot *p = &out->list[out->n++];
        *p = (plot){.name = plots[i].name, .caption = plots[i].caption};
        rc = plots[i].draw(&p->drawn, from, err);
    }
    return rc;
}

void plots_free(plot_set *set) {
    for (int i = 0; i < set->n; i++) figure_close(&set->list[i].drawn);
    set->n = 0;
}
