/* picture.c - drawing into pixels, and libpng. */
#include "picture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- colours -------------------------------------------------------------------------------- */

int picture_make(picture *out, size_t width, size_t height, unsigned colour, app_error *err) {
    *out = (picture){.width = width, .height = height, .rgb = malloc(width * height * 3 + 1)};
    if (!out->rgb) return app_no_memory(err);
    for (size_t i = 0; i < width * height; i++)
        for (int c = 0; c < 3; c++)
            out->rgb[3 * i + (size_t)c] = (unsigned char)(colour >> (16 - 8 * c));
    return EXIT_OK;
}

void picture_free(picture *p) {
    free(p->rgb);
    *p = (picture){0};
}

static void blend(picture *p, size_t x, size_t y, unsigned colour, double share) {
    unsigned char *at = p->rgb + 3 * (y * p->width + x);
    for (int c = 0; c < 3; c++) {
        double to = (double)((colour >> (16 - 8 * c)) & 255);
        at[c] = (unsigned char)lrint(at[c] + share * (to - at[c]));
    }
}

/* How much of pixel i lies between from and to. */
static double covered(size_t i, double from, double to) {
    double low = fmax(from, (double)i), high = fmin(to, (double)i + 1);
    return high > low ? high - low : 0;
}

static double within(double x, double high) {
    return x > 0 ? fmin(x, high) : 0;
}

void picture_fill(picture *p, double x, double y, double width, double height, unsigned colour,
                  double opacity) {
    double left = within(x, (double)p->width), right = within(x + width, (double)p->width);
    double top = within(y, (double)p->height), bottom = within(y + height, (double)p->height);
    for (size_t row = (size_t)top; (double)row < bottom; row++)
        for (size_t at = (size_t)left; (double)at < right; at++)
            blend(p, at, row, colour,
                  opacity * covered(at, left, right) * covered(row, top, bottom));
}

/* ---- text ----------------------------------------------------------------------------------- */

enum { FONT_ROWS = 9, FONT_ABOVE = 7, FONT_COLUMNS = 5, FONT_ADVANCE = 6 };

/* A letter is nine rows of five dots, two of them below the baseline; each row is a digit to the
 * base 32 (0-9, a-v), its highest bit on the left. */
static const struct {
    char letter;
    char rows[FONT_ROWS + 1];
} FONT[] = {
    {'0', "ehjlphe00"},  {'1', "4c4444e00"}, {'2', "eh168gv00"}, {'3', "eh161he00"},
    {'4', "26aiv2200"},  {'5', "vgu11he00"}, {'6', "68guhhe00"}, {'7', "v12244400"},
    {'8', "ehhehhe00"},  {'9', "ehhf12c00"}, {'a', "00e1fhf00"}, {'b', "gguhhhu00"},
    {'c', "00ehghe00"},  {'d', "11fhhhf00"}, {'e', "00ehvge00"}, {'f', "68u888800"},
    {'g', "00fhhhf1e"},  {'h', "gguhhhh00"}, {'i', "40c444e00"}, {'j', "2062222ic"},
    {'k', "ggikoki00"},  {'l', "c44444e00"}, {'m', "00qllll00"}, {'n', "00uhhhh00"},
    {'o', "00ehhhe00"},  {'p', "00uhhhugg"}, {'q', "00fhhhf11"}, {'r', "00moggg00"},
    {'s', "00fge1u00"},  {'t', "88u888600"}, {'u', "00hhhhf00"}, {'v', "00hhha400"},
    {'w', "00hllla00"},  {'x', "00ha4ah00"}, {'y', "00hhhhf1e"}, {'z', "00v248v00"},
    {'A', "ehhvhhh00"},  {'B', "uhhuhhu00"}, {'C', "ehggghe00"}, {'D', "uhhhhhu00"},
    {'E', "vgguggv00"},  {'F', "vgguggg00"}, {'G', "ehgnhhe00"}, {'H', "hhhvhhh00"},
    {'I', "e44444e00"},  {'J', "11111he00"}, {'K', "hikokih00"}, {'L', "ggggggv00"},
    {'M', "hrllhhh00"},  {'N', "hppljjh00"}, {'O', "ehhhhhe00"}, {'P', "uhhuggg00"},
    {'Q', "ehhhlid00"},  {'R', "uhhukih00"}, {'S', "ehge1he00"}, {'T', "v44444400"},
    {'U', "hhhhhhe00"},  {'V', "hhhhha400"}, {'W', "hhhllrh00"}, {'X', "hha4ahh00"},
    {'Y', "hha444400"},  {'Z', "v1248gv00"}, {'.', "00000cc00"}, {',', "00000c480"},
    {':', "0cc0cc000"},  {';', "0cc0c4800"}, {'-', "000v00000"}, {'+', "044v44000"},
    {'%', "pp248jj00"},  {'/', "11248gg00"}, {'(', "248884200"}, {')', "842224800"},
    {'\'', "440000000"}, {'?', "eh1640400"},
};

static const char *rows_of(char letter) {
    for (size_t i = 0; i < sizeof FONT / sizeof FONT[0]; i++)
        if (FONT[i].letter == letter) return FONT[i].rows;
    return letter == ' ' ? "000000000" : rows_of('?');
}

void picture_text(picture *p, double x, double y, picture_align align, int dot, const char *text,
                  unsigned colour) {
    double width = dot * ((double)strlen(text) * FONT_ADVANCE - 1);
    /* Letters begin on a pixel, or they would be blurred. */
    double left = floor(x - (align == ALIGN_MIDDLE ? width / 2 : align == ALIGN_RIGHT ? width : 0));
    double top = floor(y) - FONT_ABOVE * dot;
    for (; *text; text++, left += FONT_ADVANCE * dot) {
        const char *rows = rows_of(*text);
        for (int r = 0; r < FONT_ROWS; r++) {
            int dots = rows[r] <= '9' ? rows[r] - '0' : rows[r] - 'a' + 10;
            for (int c = 0; c < FONT_COLUMNS; c++)
                if (dots & (1 << (FONT_COLUMNS - 1 - c)))
                    picture_fill(p, left + c * dot, top + r * dot, dot, dot, colour, 1);
        }
    }
}

/* ---- one quantity --------------------------------------------------------------------------- */

int shades_make(shades *out, size_t width, size_t height, app_error *err) {
    *out = (shades){.width = width, .height = height, .level = calloc(width * height + 1, 1)};
    return out->level ? EXIT_OK : app_no_memory(err);
}

void shades_free(shades *s) {
    free(s->level);
    *s = (shades){0};
}

unsigned shades_colour(unsigned char level) {
    static const unsigned char STOPS[][3] = {{8, 6, 24},     {54, 18, 92},   {118, 30, 110},
                                             {186, 54, 86},  {238, 104, 44}, {252, 176, 46},
                                             {252, 248, 190}};
    enum { STEPS = sizeof STOPS / sizeof STOPS[0] - 1 };
    double at = level * (double)STEPS / 255;
    int below = level == 255 ? STEPS - 1 : (int)at;
    unsigned colour = 0;
    for (int c = 0; c < 3; c++) {
        double low = STOPS[below][c], high = STOPS[below + 1][c];
        colour = colour << 8 | (unsigned)lrint(low + (at - below) * (high - low));
    }
    return colour;
}

/* The level at a place between pixels, whose middles lie at halves. */
static double level_at(const shades *s, double x, double y) {
    x = within(x - 0.5, (double)(s->width - 1)), y = within(y - 0.5, (double)(s->height - 1));
    size_t left = (size_t)x, top = (size_t)y;
    size_t right = left + 1 < s->width ? left + 1 : left;
    size_t below = top + 1 < s->height ? top + 1 : top;
    double across = x - (double)left, down = y - (double)top;
    double first =
        s->level[top * s->width + left] * (1 - across) + s->level[top * s->width + right] * across;
    double second = s->level[below * s->width + left] * (1 - across) +
                    s->level[below * s->width + right] * across;
    return first * (1 - down) + second * down;
}

void shades_draw(picture *p, double x, double y, double width, double height, const shades *s) {
    size_t left = (size_t)lrint(fmax(x, 0)), right = (size_t)lrint(fmax(x + width, 0));
    size_t top = (size_t)lrint(fmax(y, 0)), bottom = (size_t)lrint(fmax(y + height, 0));
    if (s->width == 0 || s->height == 0) return;
    for (size_t row = top; row < bottom && row < p->height; row++)
        for (size_t at = left; at < right && at < p->width; at++) {
            double level = level_at(s, ((double)at + 0.5 - x) * (double)s->width / width,
                                    ((double)row + 0.5 - y) * (double)s->height / height);
            blend(p, at, row, shades_colour((unsigned char)lrint(level)), 1);
        }
}

/* ---- PNG ------------------------------------------------------------------------------------ */

#ifndef APP_HAVE_PNG

static int no_png(app_error *err) {
    return app_fail(err, EXIT_USAGE,
                    "this moshi was built without libpng, so it cannot write PNG pictures (Debian: "
                    "libpng-dev, then build again)");
}

bool picture_can_encode(void) {
    return false;
}

int picture_encode(app_buffer *out, const picture *p, app_error *err) {
    (void)out, (void)p;
    return no_png(err);
}

int shades_encode(app_buffer *out, const shades *s, app_error *err) {
    (void)out, (void)s;
    return no_png(err);
}

#else

#include <png.h>

bool picture_can_encode(void) {
    return true;
}

static int encode(app_buffer *out, png_image *image, const void *pixels, const void *palette,
                  app_error *err) {
    png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(*image);
    void *file = malloc(size);
    int rc = file ? EXIT_OK : app_no_memory(err);
    if (rc == EXIT_OK && !png_image_write_to_memory(image, file, &size, 0, pixels, 0, palette))
        rc = strstr(image->message, "memory")
                 ? app_no_memory(err)
                 : app_fail(err, EXIT_INTERNAL, "libpng: %s", image->message);
    if (rc == EXIT_OK) rc = app_buffer_add(out, file, size, err);
    free(file);
    png_image_free(image);
    return rc;
}

int picture_encode(app_buffer *out, const picture *p, app_error *err) {
    png_image image = {.version = PNG_IMAGE_VERSION,
                       .width = (png_uint_32)p->width,
                       .height = (png_uint_32)p->height,
                       .format = PNG_FORMAT_RGB};
    return encode(out, &image, p->rgb, NULL, err);
}

int shades_encode(app_buffer *out, const shades *s, app_error *err) {
    unsigned char palette[256 * 3];
    for (size_t i = 0; i < 256; i++) {
        unsigned colour = shades_colour((unsigned char)i);
        for (int c = 0; c < 3; c++)
            palette[3 * i + (size_t)c] = (unsigned char)(colour >> (16 - 8 * c));
    }
    png_image image = {.version = PNG_IMAGE_VERSION,
                       .width = (png_uint_32)s->width,
                       .height = (png_uint_32)s->height,
                       .format = PNG_FORMAT_RGB_COLORMAP,
                       .colormap_entries = 256};
    return encode(out, &image, s->level, palette, err);
}

#endif
