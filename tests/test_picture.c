/* test_picture.c - do pixels and letters land where they should, and are the PNG files sound? */
#include "check.h"
#include "picture.h"

#include <stdlib.h>
#include <string.h>

static unsigned pixel(const picture *p, size_t x, size_t y) {
    const unsigned char *at = p->rgb + 3 * (y * p->width + x);
    return (unsigned)at[0] << 16 | (unsigned)at[1] << 8 | at[2];
}

static void test_fill(void) {
    picture p;
    app_error err = {0};
    if (!CHECK(picture_make(&p, 20, 10, 0xffffff, &err) == EXIT_OK, "%s", err.text)) return;
    picture_fill(&p, 2, 3, 4, 2, 0x102030, 1);
    CHECK(pixel(&p, 2, 3) == 0x102030 && pixel(&p, 5, 4) == 0x102030, "inside");
    CHECK(pixel(&p, 1, 3) == 0xffffff && pixel(&p, 6, 3) == 0xffffff &&
              pixel(&p, 2, 2) == 0xffffff && pixel(&p, 2, 5) == 0xffffff,
          "outside");
    picture_fill(&p, 10.5, 0, 1, 1, 0x000000, 1);
    CHECK(pixel(&p, 10, 0) == 0x808080 && pixel(&p, 11, 0) == 0x808080, "halves: %06x %06x",
          pixel(&p, 10, 0), pixel(&p, 11, 0));
    picture_fill(&p, 12, 8, 1, 1, 0x000000, 0.2);
    CHECK(pixel(&p, 12, 8) == 0xcccccc, "opacity: %06x", pixel(&p, 12, 8));
    /* What does not fit must not be written anywhere else. */
    picture_fill(&p, -1e9, -5, 1e9, 100, 0xff0000, 1);
    picture_fill(&p, 19, 9, 1e9, 1e9, 0x00ff00, 1);
    picture_fill(&p, 5, 5, -3, 2, 0x0000ff, 1);
    CHECK(pixel(&p, 0, 0) == 0xffffff && pixel(&p, 19, 9) == 0x00ff00 &&
              pixel(&p, 18, 9) == 0xffffff && pixel(&p, 3, 5) == 0xffffff,
          "edges");
    picture_free(&p);
}

/* Dots set by a text: how many, and between which columns and rows. */
static size_t dots(const char *text, picture_align align, size_t box[4]) {
    picture p;
    app_error err = {0};
    size_t n = 0;
    box[0] = box[2] = 1000, box[1] = box[3] = 0;
    if (!CHECK(picture_make(&p, 100, 40, 0xffffff, &err) == EXIT_OK, "%s", err.text)) return 0;
    picture_text(&p, 50, 20, align, 1, text, 0);
    for (size_t y = 0; y < p.height; y++)
        for (size_t x = 0; x < p.width; x++) {
            if (pixel(&p, x, y) != 0) continue;
            n++;
            box[0] = x < box[0] ? x : box[0], box[1] = x > box[1] ? x : box[1];
            box[2] = y < box[2] ? y : box[2], box[3] = y > box[3] ? y : box[3];
        }
    picture_free(&p);
    return n;
}

static bool same(const char *a, const char *b) {
    picture p = {0}, q = {0};
    app_error err = {0};
    bool made = picture_make(&p, 10, 20, 0xffffff, &err) == EXIT_OK &&
                picture_make(&q, 10, 20, 0xffffff, &err) == EXIT_OK;
    if (made) {
        picture_text(&p, 1, 15, ALIGN_LEFT, 1, a, 0);
        picture_text(&q, 1, 15, ALIGN_LEFT, 1, b, 0);
        made = !memcmp(p.rgb, q.rgb, 10 * 20 * 3);
    }
    picture_free(&p);
    picture_free(&q);
    return made;
}

static void test_text(void) {
    size_t box[4];
    CHECK(dots("H", ALIGN_LEFT, box) == 17, "H has %zu dots", dots("H", ALIGN_LEFT, box));
    CHECK(box[0] == 50 && box[1] == 54 && box[2] == 13 && box[3] == 19,
          "H: columns %zu-%zu, rows %zu-%zu", box[0], box[1], box[2], box[3]);
    dots("HH", ALIGN_RIGHT, box);
    CHECK(box[0] == 39 && box[1] == 49, "right: columns %zu-%zu", box[0], box[1]);
    dots("HH", ALIGN_MIDDLE, box);
    CHECK(box[0] == 44 && box[1] == 54, "middle: columns %zu-%zu", box[0], box[1]);
    dots("g", ALIGN_LEFT, box);
    CHECK(box[3] == 21, "g goes down to row %zu", box[3]);
    CHECK(dots("\x01", ALIGN_LEFT, box) == dots("?", ALIGN_LEFT, box), "no letter for it");
    CHECK(dots(" ", ALIGN_LEFT, box) == 0, "a space");
    /* None is missing. */
    const char *all = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,:;-+%/()";
    for (size_t i = 0; all[i]; i++) {
        char one[2] = {all[i]};
        CHECK(dots(one, ALIGN_LEFT, box) > 1, "'%c' has no dots", all[i]);
        CHECK(!same(one, "\x01"), "'%c' is not in the font", all[i]);
    }
}

static void test_colours(void) {
    unsigned last = 0;
    for (unsigned level = 0; level < 256; level++) {
        unsigned c = shades_colour((unsigned char)level);
        unsigned bright = 2126 * (c >> 16) + 7152 * (c >> 8 & 255) + 722 * (c & 255);
        CHECK(bright > last, "level %u is not brighter than the one before", level);
        last = bright;
    }
}

#ifdef APP_HAVE_PNG

#include <png.h>

static unsigned big_endian(const unsigned char *p) {
    return (unsigned)p[0] << 24 | (unsigned)p[1] << 16 | (unsigned)p[2] << 8 | p[3];
}

/* The check sum as the PNG specification defines it, bit by bit. */
static unsigned crc(const unsigned char *p, size_t n) {
    unsigned c = 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        c ^= p[i];
        for (int k = 0; k < 8; k++) c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
    }
    return ~c;
}

/* Signature, chunks with their sums, end; size as wanted. */
static void check_file(const app_buffer *file, size_t width, size_t height) {
    const unsigned char *p = (const unsigned char *)file->data;
    size_t at = 8;
    bool ended = false;
    if (!CHECK(file->n > 33 && !memcmp(p, "\x89PNG\r\n\x1a\n", 8), "signature")) return;
    CHECK(!memcmp(p + 12, "IHDR", 4) && big_endian(p + 16) == width && big_endian(p + 20) == height,
          "size %u x %u", big_endian(p + 16), big_endian(p + 20));
    while (at + 12 <= file->n && !ended) {
        size_t n = big_endian(p + at);
        if (!CHECK(n <= file->n - at - 12, "a chunk of %zu bytes", n)) return;
        CHECK(crc(p + at + 4, n + 4) == big_endian(p + at + 8 + n), "sum of %.4s",
              (const char *)p + at + 4);
        ended = !memcmp(p + at + 4, "IEND", 4);
        at += n + 12;
    }
    CHECK(ended && at == file->n, "%zu bytes after the end", file->n - at);
}

static void check_pixels(const app_buffer *file, const picture *wanted) {
    png_image image = {.version = PNG_IMAGE_VERSION};
    bool begun = png_image_begin_read_from_memory(&image, file->data, file->n);
    if (!CHECK(begun, "%s", image.message)) return;
    image.format = PNG_FORMAT_RGB;
    unsigned char *got = calloc(PNG_IMAGE_SIZE(image), 1);
    CHECK(got && png_image_finish_read(&image, NULL, got, 0, NULL), "%s", image.message);
    CHECK(got && !memcmp(got, wanted->rgb, wanted->width * wanted->height * 3), "other pixels");
    free(got);
}

static void test_files(void) {
    picture p = {0};
    shades s = {0};
    app_error err = {0};
    app_buffer colours = {0}, levels = {0};
    int rc = picture_make(&p, 61, 33, 0xffffff, &err);
    if (rc == EXIT_OK) rc = shades_make(&s, 61, 33, &err);
    if (rc == EXIT_OK) {
        for (size_t i = 0; i < s.width * s.height; i++) s.level[i] = (unsigned char)(i * 7 + i / 9);
        shades_draw(&p, 0, 0, 61, 33, &s);
        rc = picture_encode(&colours, &p, &err);
    }
    if (rc == EXIT_OK) rc = shades_encode(&levels, &s, &err);
    if (CHECK(rc == EXIT_OK, "%s", err.text)) {
        check_file(&colours, 61, 33);
        check_pixels(&colours, &p);
        check_file(&levels, 61, 33);
        check_pixels(&levels, &p);
    }
    app_buffer_free(&colours);
    app_buffer_free(&levels);
    picture_free(&p);
    shades_free(&s);
}

#else

static void test_files(void) {
    picture p = {0};
    app_error err = {0};
    app_buffer out = {0};
    CHECK(picture_encode(&out, &p, &err) == EXIT_USAGE && strstr(err.text, "libpng-dev"), "%s",
          err.text);
    SKIP("built without libpng: PNG files");
}

#endif

int main(void) {
    test_fill();
    test_text();
    test_colours();
    test_files();
    return check_done("test_picture");
}
