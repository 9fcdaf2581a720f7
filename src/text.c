/* text.c - pieces out of a SentencePiece model, and token ids back into UTF-8. */
#include "text.h"

#include <stdlib.h>
#include <string.h>

enum { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE };

static const char SPACE_MARK[] = "\xE2\x96\x81";     /* U+2581, stands for a space */
static const char REPLACEMENT[] = "\xEF\xBF\xBD";    /* U+FFFD, stands for what is not UTF-8 */
static const char UNKNOWN_TEXT[] = " \xE2\x81\x87 "; /* what SentencePiece prints for <unk> */

/* ---- output -------------------------------------------------------------------------------- */

/* Where text goes: counts everything, writes what fits. Once something did not fit nothing more is
 * written, so that the text that is there is a prefix and ends between two characters. */
typedef struct sink {
    char *out;
    size_t room; /* without terminator */
    size_t written, needed;
} sink;

static void add(sink *s, const void *bytes, size_t n) {
    if (s->written == s->needed && n <= s->room - s->written) {
        memcpy(s->out + s->written, bytes, n);
        s->written += n;
    }
    s->needed += n;
}

/* Copy with every byte that is not part of valid UTF-8 (or is zero) replaced by U+FFFD. */
static void add_clean(sink *s, const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n;) {
        size_t k = mo_utf8_length(p + i, n - i);
        if (k == 0 || p[i] == 0) {
            add(s, REPLACEMENT, 3);
            i++;
        } else {
            add(s, p + i, k);
            i += k;
        }
    }
}

/* ---- protobuf ------------------------------------------------------------------------------ */

/* A message, or what is left of it. */
typedef struct message {
    const uint8_t *p, *end;
} message;

typedef struct field {
    uint64_t number;
    unsigned wire;
    uint64_t value;  /* varint */
    message content; /* length-delimited */
} field;

static bool read_varint(message *m, uint64_t *out) {
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64 && m->p < m->end; shift += 7) {
        uint8_t b = *m->p++;
        if (shift == 63 && b > 1) return false;
        v |= (uint64_t)(b & 0x7F) << shift;
        if (b < 0x80) {
            *out = v;
            return true;
        }
    }
    return false;
}

static bool skip(message *m, uint64_t n) {
    if (n > (uint64_t)(m->end - m->p)) return false;
    m->p += n;
    return true;
}

/* Next field of a message that is not at its end; false when it is malformed. */
static bool read_field(message *m, field *f) {
    uint64_t tag;
    memset(f, 0, sizeof *f);
    if (!read_varint(m, &tag)) return false;
    f->number = tag >> 3;
    f->wire = (unsigned)(tag & 7);
    if (f->number == 0 || f->number >= 1u << 29) return false;
    switch (f->wire) {
    case 0:
        return read_varint(m, &f->value);
    case 1:
        return skip(m, 8);
    case 2:
        if (!read_varint(m, &f->value)) return false;
        f->content.p = m->p;
        if (!skip(m, f->value)) return false;
        f->content.end = m->p;
        return true;
    case 5:
        return skip(m, 4);
    default:
        return false; /* groups: SentencePiece has none */
    }
}

/* ---- pieces -------------------------------------------------------------------------------- */

typedef struct piece {
    const uint8_t *bytes;
    size_t size;
    uint64_t kind;
} piece;

static bool read_piece(message m, piece *out) {
    field f;
    *out = (piece){NULL, 0, NORMAL};
    while (m.p < m.end) {
        if (!read_field(&m, &f)) return false;
        if (f.number == 1 && f.wire == 2) {
            out->bytes = f.content.p;
            out->size = (size_t)f.value;
        }
        if (f.number == 3 && f.wire == 0) out->kind = f.value;
    }
    return true;
}

static int hex(uint8_t c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Value of "<0x41>", or -1. */
static int byte_value(const uint8_t *p, size_t n) {
    if (n != 6 || memcmp(p, "<0x", 3) != 0 || p[5] != '>') return -1;
    int high = hex(p[3]), low = hex(p[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

static int check_piece(const piece *p, int id, const char *file, moshi_error *err) {
    if (p->kind < NORMAL || p->kind > BYTE)
        return mo_fail(err, MOSHI_EMODEL, "%s: piece %d: type: wanted 1 to 6, found %llu", file, id,
                       (unsigned long long)p->kind);
    if (p->size == 0)
        return mo_fail(err, MOSHI_EMODEL, "%s: piece %d: wanted its text, found nothing", file, id);
    if (p->kind == BYTE && byte_value(p->bytes, p->size) < 0)
        return mo_fail(err, MOSHI_EMODEL,
                       "%s: piece %d: wanted the form <0x41> for a byte, found \"%.*s\"", file, id,
                       p->size > 32 ? 32 : (int)p->size, (const char *)p->bytes);
    return 0;
}

/* One pass over the pieces: counts into n and bytes->needed, and fills out->offset and out->kind if
 * they are there (at most `max` pieces: the file may change between the passes). */
static int read_pieces(mo_text *out, message m, int max, int *n, sink *bytes, const char *file,
                       moshi_error *err) {
    const uint8_t *start = m.p;
    field f;
    piece p;
    for (*n = 0; m.p < m.end;) {
        size_t at = (size_t)(m.p - start);
        if (!read_field(&m, &f))
            return mo_fail(err, MOSHI_EMODEL,
                           "%s: wanted a SentencePiece model, found a broken field at byte %zu of "
                           "%zu; damaged, truncated or another kind of file",
                           file, at, (size_t)(m.end - start));
        if (f.number != 1 || f.wire != 2) continue;
        if (!read_piece(f.content, &p))
            return mo_fail(err, MOSHI_EMODEL, "%s: piece %d: broken field at byte %zu", file, *n,
                           at);
        int rc = check_piece(&p, *n, file, err);
        if (rc < 0) return rc;
        if (*n == max)
            return mo_fail(err, MOSHI_EMODEL, "%s: pieces: wanted at most %d, found more", file,
                           max);
        if (out->offset) {
            out->offset[*n] = (uint32_t)bytes->needed;
            out->kind[*n] = (uint8_t)p.kind;
        }
        size_t before = bytes->needed;
        add_clean(bytes, p.bytes, p.size);
        add(bytes, "", 1);
        if (bytes->needed - before > (size_t)out->longest)
            out->longest = (int)(bytes->needed - before);
        (*n)++;
    }
    return 0;
}

int mo_text_parse(mo_text *out, const uint8_t *data, size_t size, const char *file,
                  moshi_error *err) {
    enum { MAX_PIECES = 1 << 24, MAX_BYTES = 256 << 20 };
    memset(out, 0, sizeof *out);
    if (size == 0)
        return mo_fail(err, MOSHI_EMODEL,
                       "%s: the file is empty (0 bytes); wanted a SentencePiece model", file);
    if (size > MAX_BYTES)
        return mo_fail(err, MOSHI_EMODEL,
                       "%s: wanted a SentencePiece model of at most %d bytes, found %zu", file,
                       MAX_BYTES, size);
    message m = {data, data + size};
    sink count = {0};
    int n;
    int rc = read_pieces(out, m, MAX_PIECES, &n, &count, file, err);
    if (rc < 0) return rc;
    if (n == 0)
        return mo_fail(err, MOSHI_EMODEL, "%s: wanted a SentencePiece model, found no pieces in it",
                       file);
    mo_text text = {.n = n,
                    .bytes = mo_calloc(count.needed, 1),
                    .offset = mo_calloc((size_t)n, sizeof *text.offset),
                    .kind = mo_calloc((size_t)n, 1)};
    *out = text;
    if (!text.bytes || !text.offset || !text.kind) {
        mo_text_free(out);
        return mo_fail(err, MOSHI_ENOMEM, "%s: out of memory", file);
    }
    sink fill = {.out = text.bytes, .room = count.needed};
    int again;
    rc = read_pieces(out, m, n, &again, &fill, file, err);
    if (rc == 0 && (again != n || fill.needed != count.needed))
        rc = mo_fail(err, MOSHI_EIO, "%s: changed while it was being read", file);
    if (rc < 0) mo_text_free(out);
    return rc;
}

void mo_text_free(mo_text *text) {
    free(text->bytes);
    free(text->offset);
    free(text->kind);
    memset(text, 0, sizeof *text);
}

/* ---- decoding ------------------------------------------------------------------------------ */

/* Piece with the marks turned into spaces; the first one is left out if `drop`. */
static void add_piece(sink *s, const char *p, bool drop) {
    size_t mark = sizeof SPACE_MARK - 1;
    if (drop && strncmp(p, SPACE_MARK, mark) == 0) p += mark;
    while (*p) {
        if (strncmp(p, SPACE_MARK, mark) == 0) {
            add(s, " ", 1);
            p += mark;
        } else {
            size_t n = mo_utf8_length(p, strnlen(p, 4));
            add(s, p, n);
            p += n;
        }
    }
}

size_t mo_text_piece(const mo_text *text, int id, char *out, size_t cap) {
    if (cap == 0) return 0;
    sink s = {.out = out, .room = cap - 1};
    if (id >= 0 && id < text->n) {
        const char *p = text->bytes + text->offset[id];
        if (text->kind[id] == BYTE) {
            uint8_t byte = (uint8_t)byte_value((const uint8_t *)p, 6);
            add(&s, &byte, 1);
        } else if (text->kind[id] != CONTROL && text->kind[id] != UNKNOWN) {
            add_piece(&s, p, false);
        }
    }
    out[s.written] = 0;
    return s.written;
}

/* A run of byte pieces from ids[i] on, at most one character of it; returns how many were used. */
static size_t add_bytes(sink *s, const mo_text *text, const int *ids, size_t i, size_t n) {
    uint8_t bytes[4];
    size_t k = 0;
    for (; k < sizeof bytes && i + k < n; k++) {
        int id = ids[i + k];
        if (id < 0 || id >= text->n || text->kind[id] != BYTE) break;
        bytes[k] = (uint8_t)byte_value((const uint8_t *)text->bytes + text->offset[id], 6);
    }
    size_t used = mo_utf8_length(bytes, k);
    if (used) {
        add(s, bytes, used);
        return used;
    }
    add(s, REPLACEMENT, 3);
    return 1;
}

size_t mo_text_decode(const mo_text *text, const int *ids, size_t n, char *out, size_t cap) {
    sink s = {.out = out, .room = cap ? cap - 1 : 0};
    for (size_t i = 0; i < n;) {
        int id = ids[i];
        int kind = id >= 0 && id < text->n ? text->kind[id] : CONTROL;
        if (kind == BYTE) {
            i += add_bytes(&s, text, ids, i, n);
            continue;
        }
        if (kind == UNKNOWN) {
            add(&s, UNKNOWN_TEXT, sizeof UNKNOWN_TEXT - 1);
        } else if (kind != CONTROL) {
            add_piece(&s, text->bytes + text->offset[id], s.needed == 0);
        }
        i++;
    }
    if (cap) out[s.written] = 0;
    return s.needed;
}
