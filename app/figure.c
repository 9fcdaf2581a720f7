/* figure.c - two ways of drawing the same. */
#include "figure.h"

#include <string.h>

static const struct {
    const char *class; /* the page says what colour that is, by day and by night */
    unsigned colour;
} INK[INKS] = {[INK_TEXT] = {"text", 0x3b3f46},
               [INK_GRID] = {"grid", 0xd4d8de},
               [INK_MAIN] = {"main", 0x2b6cb0},
               [INK_CALM] = {"calm", 0xa9bdd4},
               [INK_FAULT] = {"fault", 0xd1242f}};

int figure_open(figure *f, double width, double height, app_error *err) {
    *f = (figure){.width = width, .height = height, .svg = {.err = err}};
    return picture_make(&f->pixels, (size_t)(width * FIGURE_PIXELS),
                        (size_t)(height * FIGURE_PIXELS), 0xffffff, err);
}

void figure_close(figure *f) {
    picture_free(&f->pixels);
    markup_free(&f->svg);
}

void figure_fill(figure *f, ink colour, double opacity, double x, double y, double width,
                 double height) {
    picture_fill(&f->pixels, x * FIGURE_PIXELS, y * FIGURE_PIXELS, width * FIGURE_PIXELS,
                 height * FIGURE_PIXELS, INK[colour].colour, opacity);
    markup_print(&f->svg, "<rect class=\"%s\" x=\"%.6g\" y=\"%.6g\" width=\"%.6g\" height=\"%.6g\"",
                 INK[colour].class, x, y, width, height);
    if (opacity < 1) markup_print(&f->svg, " opacity=\"%.3g\"", opacity);
    markup_print(&f->svg, "/>\n");
}

void figure_columns(figure *f, ink colour, double x, double step, size_t n, const float *top,
                    const float *bottom) {
    markup_print(&f->svg, "<path class=\"%s\" d=\"", INK[colour].class);
    for (size_t i = 0; i < n; i++) {
        double left = x + step * (double)i, high = (double)top[i], low = (double)bottom[i];
        picture_fill(&f->pixels, left * FIGURE_PIXELS, high * FIGURE_PIXELS, step * FIGURE_PIXELS,
                     (low - high) * FIGURE_PIXELS, INK[colour].colour, 1);
        markup_print(&f->svg, "M%.5g %.5gh%.4gV%.5gh%.4gz", left, high, step, low, -step);
    }
    markup_print(&f->svg, "\"/>\n");
}

void figure_text(figure *f, ink colour, picture_align align, double x, double y, const char *text) {
    static const char *const ANCHORS[] = {"start", "middle", "end"};
    picture_text(&f->pixels, x * FIGURE_PIXELS, y * FIGURE_PIXELS, align, FIGURE_PIXELS, text,
                 INK[colour].colour);
    markup_print(&f->svg, "<text class=\"%s\" x=\"%.6g\" y=\"%.6g\" text-anchor=\"%s\">",
                 INK[colour].class, x, y, ANCHORS[align]);
    markup_text(&f->svg, text);
    markup_print(&f->svg, "</text>\n");
}

void figure_shades(figure *f, double x, double y, double width, double height, const shades *s) {
    app_buffer png = {0};
    shades_draw(&f->pixels, x * FIGURE_PIXELS, y * FIGURE_PIXELS, width * FIGURE_PIXELS,
                height * FIGURE_PIXELS, s);
    if (f->svg.rc == EXIT_OK) f->svg.rc = shades_encode(&png, s, f->svg.err);
    markup_print(&f->svg,
                 "<image x=\"%.6g\" y=\"%.6g\" width=\"%.6g\" height=\"%.6g\" "
                 "preserveAspectRatio=\"none\" href=\"data:image/png;base64,",
                 x, y, width, height);
    markup_base64(&f->svg, png.data, png.n);
    markup_print(&f->svg, "\"/>\n");
    app_buffer_free(&png);
}

int figure_svg(markup *page, const figure *f) {
    markup_print(page, "<svg viewBox=\"0 0 %g %g\" role=\"img\" aria-label=\"", f->width,
                 f->height);
    markup_text(page, f->alt);
    markup_print(page, "\">\n");
    markup_append(page, &f->svg);
    markup_print(page, "</svg>\n");
    return page->rc;
}

int figure_png(app_buffer *out, const figure *f, app_error *err) {
    return f->svg.rc == EXIT_OK ? picture_encode(out, &f->pixels, err) : f->svg.rc;
}
