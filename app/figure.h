/* figure.h - a picture with axes, drawn twice at once: as SVG, which follows the colours and the
 * size of the page around it, and as pixels for a PNG file. */
#ifndef APP_FIGURE_H
#define APP_FIGURE_H

#include "markup.h"
#include "picture.h"

/* Colours by what they stand for. */
typedef enum ink { INK_TEXT, INK_GRID, INK_MAIN, INK_CALM, INK_FAULT, INKS } ink;

enum { FIGURE_PIXELS = 2 /* per unit */ };

/* Lengths are in units; y grows downwards. */
typedef struct figure {
    double width, height;
    char alt[400]; /* what there is to see, in words */
    markup svg;    /* what is inside of the <svg> element; keeps the first failure */
    picture pixels;
} figure;

int figure_open(figure *f, double width, double height, app_error *err);
void figure_close(figure *f);

void figure_fill(figure *f, ink colour, double opacity, double x, double y, double width,
                 double height);
/* n columns of width `step`, beginning at x; each from top[i] down to bottom[i]. */
void figure_columns(figure *f, ink colour, double x, double step, size_t n, const float *top,
                    const float *bottom);
/* `y` is the baseline. */
void figure_text(figure *f, ink colour, picture_align align, double x, double y, const char *text);
/* Needs picture_can_encode(). */
void figure_shades(figure *f, double x, double y, double width, double height, const shades *s);

/* The whole <svg> element. Returns the first failure of anything that was drawn. */
int figure_svg(markup *page, const figure *f);
int figure_png(app_buffer *out, const figure *f, app_error *err);

#endif
