/* json.c - a strict JSON reader in two passes: the first checks and counts, the second fills. */
#include "json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One pass. In the counting pass `values` and `strings` are NULL and only the counters move; the
 * filling pass sees the same text, so it finds exactly as much as was counted. */
typedef struct reader {
    const char *text, *end, *p;
    mo_json_value *values;
    uint32_t n, max_values;
    char *strings;
    size_t n_strings, max_strings; /* the file may change between the passes */
    const char *problem;           /* what was wanted at p */
} reader;

static bool fail_at(reader *r, const char *at, const char *problem) {
    r->p = at;
    r->problem = problem;
    return false;
}

static void skip_space(reader *r) {
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\n' || *r->p == '\r'))
        r->p++;
}

static bool is_digit(const reader *r) {
    return r->p < r->end && *r->p >= '0' && *r->p <= '9';
}

/* ---- strings ------------------------------------------------------------------------------- */

static void put(reader *r, unsigned byte) {
    if (r->strings && r->n_strings < r->max_strings) r->strings[r->n_strings] = (char)byte;
    r->n_strings++;
}

static void put_utf8(reader *r, uint32_t c) {
    if (c < 0x80) {
        put(r, c);
    } else if (c < 0x800) {
        put(r, 0xC0 | c >> 6);
        put(r, 0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
        put(r, 0xE0 | c >> 12);
        put(r, 0x80 | (c >> 6 & 0x3F));
        put(r, 0x80 | (c & 0x3F));
    } else {
        put(r, 0xF0 | c >> 18);
        put(r, 0x80 | (c >> 12 & 0x3F));
        put(r, 0x80 | (c >> 6 & 0x3F));
        put(r, 0x80 | (c & 0x3F));
    }
}

static bool hex4(reader *r, uint32_t *out) {
    uint32_t v = 0;
    if (r->end - r->p < 4) return fail_at(r, r->end, "four hexadecimal digits");
    for (int i = 0; i < 4; i++, r->p++) {
        char c = *r->p;
        if (c >= '0' && c <= '9') {
            v = v * 16 + (uint32_t)(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            v = v * 16 + (uint32_t)(c - 'a' + 10);
        } else if (c >= 'A' && c <= 'F') {
            v = v * 16 + (uint32_t)(c - 'A' + 10);
        } else {
            return fail_at(r, r->p, "four hexadecimal digits");
        }
    }
    *out = v;
    return true;
}

/* After "\u". Characters above U+FFFF are written as two escapes. */
static bool read_unicode_escape(reader *r) {
    const char *start = r->p - 2;
    uint32_t c, low;
    if (!hex4(r, &c)) return false;
    if (c == 0) return fail_at(r, start, "a string without a zero character");
    if (c >= 0xDC00 && c <= 0xDFFF) return fail_at(r, start, "a valid surrogate pair");
    if (c >= 0xD800 && c <= 0xDBFF) {
        if (r->end - r->p < 2 || r->p[0] != '\\' || r->p[1] != 'u')
            return fail_at(r, start, "a valid surrogate pair");
        r->p += 2;
        if (!hex4(r, &low)) return false;
        if (low < 0xDC00 || low > 0xDFFF) return fail_at(r, start, "a valid surrogate pair");
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
    }
    put_utf8(r, c);
    return true;
}

static bool read_escape(reader *r) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (r->p == r->end) return fail_at(r, r->end, "the rest of a string");
    char c = *r->p++;
    if (c == 'u') return read_unicode_escape(r);
    const char *found = c ? strchr(from, c) : NULL;
    if (!found)
        return fail_at(r, r->p - 2, "one of the escapes \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\u");
    put(r, (unsigned char)to[found - from]);
    return true;
}

/* At the opening quote. */
static bool read_string(reader *r, const char **out) {
    *out = r->strings ? r->strings + r->n_strings : NULL;
    for (r->p++; r->p < r->end;) {
        unsigned char c = (unsigned char)*r->p;
        if (c == '"') {
            r->p++;
            put(r, 0);
            return true;
        }
        if (c < 0x20) return fail_at(r, r->p, "a string without control characters");
        if (c == '\\') {
            r->p++;
            if (!read_escape(r)) return false;
            continue;
        }
        size_t n = mo_utf8_length(r->p, (size_t)(r->end - r->p));
        if (n == 0) return fail_at(r, r->p, "valid UTF-8");
        for (; n > 0; n--) put(r, (unsigned char)*r->p++);
    }
    return fail_at(r, r->end, "the rest of a string");
}

/* ---- numbers ------------------------------------------------------------------------------- */

/* digits * 10^exponent, independent of the locale. One rounding, hence exact, for up to 2^53 and 22
 * decimals, which covers every number a person writes; beyond that a few units of the last place.
 */
static double scale(uint64_t digits, long exponent) {
    double v = (double)digits, power = 1.0;
    if (digits == 0) return 0.0;
    if (exponent >= -22 && exponent <= 22) {
        for (long i = 0; i < labs(exponent); i++) power *= 10.0;
        return exponent < 0 ? v / power : v * power;
    }
    for (; exponent > 0 && isfinite(v); exponent--) v *= 10.0;
    for (; exponent < 0 && v > 0; exponent++) v /= 10.0;
    return v;
}

typedef struct number {
    uint64_t digits; /* leading significant digits, at most 19 */
    long exponent;   /* of the digits left out or behind the point */
    bool integer, overflow;
} number;

static void add_digit(number *x, int digit, bool fraction) {
    if (x->digits <= (UINT64_MAX - 9) / 10) {
        x->digits = x->digits * 10 + (uint64_t)digit;
        x->exponent -= fraction;
    } else {
        x->overflow = true;
        x->exponent += !fraction;
    }
}

static bool read_exponent(reader *r, number *x) {
    bool negative = false;
    long e = 0;
    r->p++;
    if (r->p < r->end && (*r->p == '+' || *r->p == '-')) negative = *r->p++ == '-';
    if (!is_digit(r)) return fail_at(r, r->p, "a digit");
    for (; is_digit(r); r->p++)
        if (e < 100000) e = e * 10 + (*r->p - '0');
    x->exponent += negative ? -e : e;
    return true;
}

static bool read_number(reader *r, mo_json_value *v) {
    const char *start = r->p;
    number x = {.integer = true};
    bool negative = *r->p == '-';
    r->p += negative;
    if (!is_digit(r)) return fail_at(r, r->p, "a digit");
    if (*r->p == '0') {
        r->p++;
    } else {
        for (; is_digit(r); r->p++) add_digit(&x, *r->p - '0', false);
    }
    if (r->p < r->end && *r->p == '.') {
        x.integer = false;
        r->p++;
        if (!is_digit(r)) return fail_at(r, r->p, "a digit");
        for (; is_digit(r); r->p++) add_digit(&x, *r->p - '0', true);
    }
    if (r->p < r->end && (*r->p == 'e' || *r->p == 'E')) {
        x.integer = false;
        if (!read_exponent(r, &x)) return false;
    }
    if (x.integer && !x.overflow && x.digits <= INT64_MAX) {
        v->type = MO_JSON_INT;
        v->as.integer = negative ? -(int64_t)x.digits : (int64_t)x.digits;
        return true;
    }
    double d = scale(x.digits, x.exponent);
    if (!isfinite(d)) return fail_at(r, start, "a number that fits a double");
    v->type = MO_JSON_REAL;
    v->as.real = negative ? -d : d;
    return true;
}

/* ---- values -------------------------------------------------------------------------------- */

static bool read_word(reader *r, const char *word) {
    size_t n = strlen(word);
    if ((size_t)(r->end - r->p) < n || memcmp(r->p, word, n) != 0)
        return fail_at(r, r->p, "a value");
    r->p += n;
    return true;
}

static bool read_scalar(reader *r, mo_json_value *v) {
    char c = *r->p;
    if (c == '"') {
        v->type = MO_JSON_STRING;
        return read_string(r, &v->as.string);
    }
    if (c == '-' || (c >= '0' && c <= '9')) return read_number(r, v);
    if (c == 't' || c == 'f') {
        v->type = MO_JSON_BOOL;
        v->as.boolean = c == 't';
        return read_word(r, c == 't' ? "true" : "false");
    }
    v->type = MO_JSON_NULL;
    return read_word(r, "null");
}

/* An array or object that is still open. */
typedef struct level {
    uint32_t index, count;
    char close; /* ] or } */
} level;

/* A member's key and colon, then stand at its value. */
static bool read_key(reader *r, const char **key) {
    skip_space(r);
    if (r->p == r->end || *r->p != '"') return fail_at(r, r->p, "a key in double quotes");
    if (!read_string(r, key)) return false;
    skip_space(r);
    if (r->p == r->end || *r->p != ':') return fail_at(r, r->p, "':' after a key");
    r->p++;
    return true;
}

/* Read one value or the beginning of an array or object. */
static bool read_value(reader *r, level *open, int *depth) {
    mo_json_value v = {.type = MO_JSON_NULL};
    level *parent = *depth ? &open[*depth - 1] : NULL;
    if (parent) {
        parent->count++;
        if (parent->close == '}' && !read_key(r, &v.key)) return false;
    }
    skip_space(r);
    if (r->p == r->end) return fail_at(r, r->end, "a value");
    if (r->n == r->max_values) return fail_at(r, r->p, "fewer values in all");
    uint32_t index = r->n++;
    v.next = r->n;
    if (*r->p == '[' || *r->p == '{') {
        if (*depth == MO_JSON_MAX_DEPTH) return fail_at(r, r->p, "nesting of at most 32 levels");
        v.type = *r->p == '[' ? MO_JSON_ARRAY : MO_JSON_OBJECT;
        open[(*depth)++] = (level){index, 0, *r->p == '[' ? ']' : '}'};
        r->p++;
    } else if (!read_scalar(r, &v)) {
        return false;
    }
    if (r->values) r->values[index] = v;
    return true;
}

static bool read_all(reader *r) {
    level open[MO_JSON_MAX_DEPTH];
    int depth = 0;
    bool first = true; /* nothing yet in the innermost open array or object */
    do {
        if (depth) {
            level *top = &open[depth - 1];
            skip_space(r);
            if (r->p < r->end && *r->p == top->close) {
                r->p++;
                if (r->values) {
                    r->values[top->index].next = r->n;
                    r->values[top->index].count = top->count;
                }
                depth--;
                first = false;
                continue;
            }
            if (!first) {
                if (r->p == r->end || *r->p != ',')
                    return fail_at(r, r->p, top->close == ']' ? "',' or ']'" : "',' or '}'");
                r->p++;
            }
        }
        int before = depth;
        if (!read_value(r, open, &depth)) return false;
        first = depth > before;
    } while (depth);
    skip_space(r);
    return r->p == r->end ? true : fail_at(r, r->p, "nothing after the end of the value");
}

/* ---- interface ----------------------------------------------------------------------------- */

static int syntax_error(const reader *r, const char *what, moshi_error *err) {
    size_t line = 1, column = 1;
    for (const char *p = r->text; p < r->p; p++) {
        column++;
        if (*p == '\n') {
            line++;
            column = 1;
        }
    }
    char found[24];
    if (r->p == r->end) {
        snprintf(found, sizeof found, "the end");
    } else if (*r->p > 0x20 && *r->p < 0x7F) {
        snprintf(found, sizeof found, "'%c'", *r->p);
    } else {
        snprintf(found, sizeof found, "byte 0x%02x", (unsigned char)*r->p);
    }
    return mo_fail(err, MOSHI_EMODEL,
                   "%s: not valid JSON at line %zu, column %zu: wanted %s, found %s", what, line,
                   column, r->problem, found);
}

int mo_json_parse(mo_json *out, const char *text, size_t size, const char *what, moshi_error *err) {
    memset(out, 0, sizeof *out);
    reader count = {.text = text, .end = text + size, .p = text, .max_values = MO_JSON_MAX_VALUES};
    if (!read_all(&count)) return syntax_error(&count, what, err);
    out->values = mo_calloc(count.n, sizeof *out->values);
    out->strings = mo_calloc(count.n_strings, 1);
    if (!out->values || !out->strings) {
        mo_json_free(out);
        return mo_fail(err, MOSHI_ENOMEM, "%s: out of memory", what);
    }
    reader fill = {.text = text,
                   .end = text + size,
                   .p = text,
                   .values = out->values,
                   .max_values = count.n,
                   .strings = out->strings,
                   .max_strings = count.n_strings};
    if (!read_all(&fill) || fill.n != count.n || fill.n_strings != count.n_strings) {
        mo_json_free(out);
        return mo_fail(err, MOSHI_EIO, "%s: changed while it was being read", what);
    }
    out->n = fill.n;
    return 0;
}

void mo_json_free(mo_json *json) {
    free(json->values);
    free(json->strings);
    memset(json, 0, sizeof *json);
}

const mo_json_value *mo_json_first(const mo_json *json, const mo_json_value *parent) {
    (void)json;
    return parent->count ? parent + 1 : NULL;
}

const mo_json_value *mo_json_after(const mo_json *json, const mo_json_value *parent,
                                   const mo_json_value *child) {
    return child->next < parent->next ? json->values + child->next : NULL;
}

void mo_json_show(const mo_json_value *value, char *out, size_t cap) {
    switch (value->type) {
    case MO_JSON_NULL:
        snprintf(out, cap, "null");
        break;
    case MO_JSON_BOOL:
        snprintf(out, cap, "%s", value->as.boolean ? "true" : "false");
        break;
    case MO_JSON_INT:
        snprintf(out, cap, "%lld", (long long)value->as.integer);
        break;
    case MO_JSON_REAL:
        snprintf(out, cap, "%.9g", value->as.real);
        break;
    case MO_JSON_STRING:
        snprintf(out, cap, "\"%.60s\"", value->as.string);
        break;
    case MO_JSON_ARRAY:
        snprintf(out, cap, "an array of %u", value->count);
        break;
    case MO_JSON_OBJECT:
        snprintf(out, cap, "an object of %u", value->count);
        break;
    }
}
