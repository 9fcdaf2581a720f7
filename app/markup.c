/* markup.c - text that becomes HTML. */
#include "markup.h"

#include <stdarg.h>
#include <string.h>

static void add(markup *m, const void *data, size_t n) {
    if (m->rc == EXIT_OK) m->rc = app_buffer_add(&m->out, data, n, m->err);
}

void markup_add(markup *m, const char *text) {
    add(m, text, strlen(text));
}

void markup_print(markup *m, const char *fmt, ...) {
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof text)
        add(m, text, (size_t)n);
    else if (m->rc == EXIT_OK)
        m->rc = app_fail(m->err, EXIT_INTERNAL, "a piece of markup is too long");
}

/* ---- text ----------------------------------------------------------------------------------- */

/* Length of the character that begins at `s`, 0 when it is not UTF-8 (RFC 3629) or is none that
 * XML allows. */
static size_t character(const unsigned char *s) {
    static const unsigned LOWEST[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = s[0] < 0x80 ? 1 : s[0] >> 5 == 6 ? 2 : s[0] >> 4 == 14 ? 3 : s[0] >> 3 == 30 ? 4 : 0;
    if (n == 0) return 0;
    unsigned code = n == 1 ? s[0] : s[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0;
        code = code << 6 | (s[i] & 0x3fu);
    }
    bool control = code < 0x20 || (code >= 0x7f && code < 0xa0);
    bool surrogate = code >= 0xd800 && code < 0xe000;
    bool none = (code & 0xfffe) == 0xfffe || code > 0x10ffff;
    return code < LOWEST[n] || control || surrogate || none ? 0 : n;
}

static const char *entity(unsigned char c) {
    return c == '&'    ? "&amp;"
           : c == '<'  ? "&lt;"
           : c == '>'  ? "&gt;"
           : c == '"'  ? "&quot;"
           : c == '\'' ? "&#39;"
                       : NULL;
}

void markup_text(markup *m, const char *text) {
    const unsigned char *s = (const unsigned char *)text;
    while (*s) {
        size_t n = character(s);
        const char *as = n == 0 ? "?" : entity(*s);
        add(m, as ? as : (const char *)s, as ? strlen(as) : n);
        s += n ? n : 1;
    }
}

/* ---- binary data ---------------------------------------------------------------------------- */

void markup_base64(markup *m, const void *data, size_t n) {
    static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *s = data;
    for (size_t i = 0; i < n; i += 3) {
        unsigned bits = (unsigned)s[i] << 16;
        if (i + 1 < n) bits |= (unsigned)s[i + 1] << 8;
        if (i + 2 < n) bits |= s[i + 2];
        char four[4] = {DIGITS[bits >> 18], DIGITS[bits >> 12 & 63],
                        i + 1 < n ? DIGITS[bits >> 6 & 63] : '=',
                        i + 2 < n ? DIGITS[bits & 63] : '='};
        add(m, four, sizeof four);
    }
}

void markup_append(markup *m, const markup *other) {
    if (m->rc == EXIT_OK) m->rc = other->rc;
    add(m, other->out.data, other->out.n);
}

void markup_free(markup *m) {
    app_buffer_free(&m->out);
}
