/* text.h - the text tokenizer: SentencePiece models, token id -> piece of UTF-8.
 *
 * Only decoding is needed to print what a model says; the reader below takes the pieces out of the
 * model file itself (a protobuf message) and never trusts a length in it. */
#ifndef MO_TEXT_H
#define MO_TEXT_H

#include "util.h"

typedef struct mo_text {
    int n;            /* vocabulary size */
    char *bytes;      /* all pieces, each terminated */
    uint32_t *offset; /* [n] into bytes */
    uint8_t *kind; /* [n] SentencePiece type: 1 normal 2 unknown 3 control 4 user 5 unused 6 byte */
    int longest;   /* bytes of the longest piece as text, terminator included */
} mo_text;

/* Read a SentencePiece model held in memory. */
int mo_text_parse(mo_text *out, const uint8_t *data, size_t size, const char *file,
                  moshi_error *err);
void mo_text_free(mo_text *text);

/* Text of one token as it is appended to a running transcript: U+2581 becomes a space, a byte piece
 * ("<0x41>") becomes that byte, control and unknown pieces become nothing. Writes at most cap
 * bytes, terminator included; returns the length. Ids outside the vocabulary give 0. */
size_t mo_text_piece(const mo_text *text, int id, char *out, size_t cap);

/* Whole sequence, as SentencePiece's own decoder would: leading space dropped, invalid byte
 * sequences replaced by U+FFFD. Returns bytes needed without terminator (like snprintf). */
size_t mo_text_decode(const mo_text *text, const int *ids, size_t n, char *out, size_t cap);

#endif
