/* picture.h - pixels, and PNG files of them.
 *
 * libpng encodes. A build without it draws, but cannot encode: picture_encode() and shades_encode()
 * then fail and say so. */
#ifndef APP_PICTURE_H
#define APP_PICTURE_H

#include "app.h"

/* Can this build encode? */
bool picture_can_encode(void);

/* ---- colours -------------------------------------------------------------------------------- */

typedef struct picture {
    size_t width, height;
    unsigned char *rgb; /* [height, width, 3], the top row first */
} picture;

typedef enum picture_align { ALIGN_LEFT, ALIGN_MIDDLE, ALIGN_RIGHT } picture_align;

/* Colours are 0xRRGGBB. */
int picture_make(picture *out, size_t width, size_t height, unsigned colour, app_error *err);
void picture_free(picture *p);
/* A rectangle in pixels; edges between pixels are blended, and so is everything with an opacity
 * below 1. What lies outside of the picture is left out. */
void picture_fill(picture *p, double x, double y, double width, double height, unsigned colour,
                  double opacity);
/* One line of text on the baseline y, in letters of 5 by 7 dots of `dot` pixels each. Characters
 * without a letter in the font come out as '?'. */
void picture_text(picture *p, double x, double y, picture_align align, int dot, const char *text,
                  unsigned colour);
/* Add the picture as a PNG file to `out`. */
int picture_encode(app_buffer *out, const picture *p, app_error *err);

/* ---- one quantity --------------------------------------------------------------------------- */

typedef struct shades {
    size_t width, height;
    unsigned char *level; /* [height, width], 0 least, 255 most, the top row first */
} shades;

int shades_make(shades *out, size_t width, size_t height, app_error *err);
void shades_free(shades *s);
/* The colour that stands for a level: from black over violet and orange to a light yellow, ever
 * brighter, so that it can be read without colours too. */
unsigned shades_colour(unsigned char level);
/* Add it as a PNG file with a palette to `out`. */
int shades_encode(app_buffer *out, const shades *s, app_error *err);
/* Draw it into a rectangle of a picture, neighbouring levels blended. */
void shades_draw(picture *p, double x, double y, double width, double height, const shades *s);

#endif
