/* markup.h - HTML and SVG, written piece by piece. */
#ifndef APP_MARKUP_H
#define APP_MARKUP_H

#include "app.h"

/* Text that grows. The first failure is kept in `rc` and *err; whatever is added after that is
 * dropped, so that only the end has to be checked. {.err = err} is empty. */
typedef struct markup {
    app_buffer out;
    int rc;
    app_error *err;
} markup;

/* Markup as it is. */
void markup_add(markup *m, const char *text);
/* Markup of less than 2,000 bytes with values in it: these values in it must be numbers or words of
 * the program. */
void markup_print(markup *m, const char *fmt, ...) APP_PRINTF(2, 3);
/* Text that others wrote, for the inside of elements and of quoted attributes. It cannot become
 * markup; bytes that are not UTF-8, and control characters, come out as '?'. */
void markup_text(markup *m, const char *text);
void markup_base64(markup *m, const void *data, size_t n);
void markup_append(markup *m, const markup *other);
void markup_free(markup *m);

#endif
