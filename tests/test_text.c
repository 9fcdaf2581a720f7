/* test_text.c - tokenizers: recorded SentencePiece decodings, hand-made models, broken ones. */
#include "alloc_fail.h"
#include "check.h"
#include "json.h"
#include "tensors.h"
#include "text.h"

#include <stdlib.h>
#include <string.h>

/* ---- models made by hand ------------------------------------------------------------------- */

typedef struct maker {
    uint8_t bytes[4096];
    size_t n;
} maker;

static void put(maker *m, const void *bytes, size_t n) {
    memcpy(m->bytes + m->n, bytes, n);
    m->n += n;
}

/* A piece of less than 100 bytes. kind 0: the field is left out. */
static void put_piece_n(maker *m, const char *text, size_t n, int kind) {
    uint8_t head[4] = {0x0A, (uint8_t)(2 + n + 5 + (kind ? 2 : 0)), 0x0A, (uint8_t)n};
    uint8_t tail[7] = {0x15, 0, 0, 0x80, 0x3F, 0x18, (uint8_t)kind};
    put(m, head, 4);
    put(m, text, n);
    put(m, tail, kind ? 7 : 5);
}

static void put_piece(maker *m, const char *text, int kind) {
    put_piece_n(m, text, strlen(text), kind);
}

static int parse(const maker *m, mo_text *text, moshi_error *err) {
    return mo_text_parse(text, m->bytes, m->n, "t.model", err);
}

static void check_piece(const mo_text *t, int id, const char *wanted) {
    char out[64];
    size_t n = mo_text_piece(t, id, out, sizeof out);
    CHECK(n == strlen(wanted) && strcmp(out, wanted) == 0, "piece %d: \"%s\", wanted \"%s\"", id,
          out, wanted);
}

static void check_decode(const mo_text *t, const int *ids, size_t n, const char *wanted) {
    char out[256];
    size_t need = mo_text_decode(t, ids, n, out, sizeof out);
    CHECK(need == strlen(wanted) && strcmp(out, wanted) == 0, "decoded \"%s\", wanted \"%s\"", out,
          wanted);
}

static void make_all_kinds(maker *m) {
    m->n = 0;
    put_piece(m, "<unk>", 2);
    put_piece(m, "<s>", 3);
    put_piece(m, "\xe2\x96\x81the", 1);
    put_piece(m, "\xe2\x96\x81", 0);
    put(m, "\x12\x03\x08\x01\x10", 5); /* another field of the model between the pieces */
    put_piece(m, "cat\xe2\x96\x81s", 1);
    put_piece(m, "<user>", 4);
    put_piece(m, "unused", 5);
    put_piece(m, "<0xC3>", 6);
    put_piece(m, "<0xa9>", 6);
    put_piece(m, "<0x41>", 6);
    put_piece(m, "\xc3\xa9", 1);
}

static void test_kinds(void) {
    maker m;
    mo_text t;
    moshi_error err = {0};
    make_all_kinds(&m);
    if (!CHECK(parse(&m, &t, &err) == 0, "%s", err.text)) return;
    CHECK(t.n == 11 && t.kind[0] == 2 && t.kind[3] == 1 && t.kind[7] == 6, "%d pieces", t.n);
    CHECK(t.longest == 8, "longest piece with terminator: %d", t.longest);
    check_piece(&t, 0, "");
    check_piece(&t, 1, "");
    check_piece(&t, 2, " the");
    check_piece(&t, 3, " ");
    check_piece(&t, 4, "cat s");
    check_piece(&t, 5, "<user>");
    check_piece(&t, 6, "unused");
    check_piece(&t, 7, "\xc3");
    check_piece(&t, 9, "A");
    check_piece(&t, -1, "");
    check_piece(&t, 11, "");

    check_decode(&t, (int[]){2, 3, 4}, 3, "the cat s");
    check_decode(&t, (int[]){3, 3, 4}, 3, "cat s");
    check_decode(&t, (int[]){1, 2, 1, 2}, 4, "the the");
    check_decode(&t, (int[]){4, 2}, 2, "cat s the");
    check_decode(&t, (int[]){7, 8}, 2, "\xc3\xa9");
    check_decode(&t, (int[]){7, 9}, 2,
                 "\xef\xbf\xbd"
                 "A");
    check_decode(&t, (int[]){8, 7}, 2, "\xef\xbf\xbd\xef\xbf\xbd");
    check_decode(&t, (int[]){7, 1, 8}, 3, "\xef\xbf\xbd\xef\xbf\xbd");
    check_decode(&t, (int[]){9, 2}, 2, "A the");
    check_decode(&t, (int[]){4, 0, 4}, 3, "cat s \xe2\x81\x87 cat s");
    check_decode(&t, (int[]){-5, 100000, 4}, 3, "cat s");
    check_decode(&t, NULL, 0, "");
    mo_text_free(&t);
    CHECK(t.bytes == NULL && t.n == 0, "freed");
    mo_text_free(&t);
}

/* A buffer that is too small gets a prefix that ends between two characters. */
static void test_small_buffers(void) {
    maker m;
    mo_text t;
    moshi_error err = {0};
    make_all_kinds(&m);
    if (!CHECK(parse(&m, &t, &err) == 0, "%s", err.text)) return;
    char out[8];
    memset(out, 'x', sizeof out);
    CHECK(mo_text_piece(&t, 2, out, 3) == 2 && strcmp(out, " t") == 0 && out[3] == 'x',
          "piece in 3: %s", out);
    CHECK(mo_text_piece(&t, 10, out, 2) == 0 && out[0] == 0, "half a character is not written");
    CHECK(mo_text_piece(&t, 2, out, 0) == 0, "no room at all");
    memset(out, 'x', sizeof out);
    CHECK(mo_text_decode(&t, (int[]){9, 10, 9}, 3, out, 3) == 4 && strcmp(out, "A") == 0 &&
              out[2] == 'x',
          "decoded in 3: %s", out);
    CHECK(mo_text_decode(&t, (int[]){9, 10, 9}, 3, NULL, 0) == 4, "only counting");
    mo_text_free(&t);
}

/* What is not UTF-8 in the file does not come out of it. */
static void test_dirty_pieces(void) {
    maker m = {.n = 0};
    mo_text t;
    moshi_error err = {0};
    put_piece(&m,
              "a\xff"
              "b",
              1);
    put_piece(&m, "\xed\xa0\x80", 1);
    put_piece_n(&m, "x\0y", 3, 1);
    put_piece(&m, "\xe2\x96", 1);
    if (!CHECK(parse(&m, &t, &err) == 0, "%s", err.text)) return;
    check_piece(&t, 0,
                "a\xef\xbf\xbd"
                "b");
    check_piece(&t, 1, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    check_piece(&t, 2, "x\xef\xbf\xbdy");
    check_decode(&t, (int[]){3, 3}, 2, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    mo_text_free(&t);
}

static void test_broken(void) {
    static const struct {
        const char *bytes;
        size_t n;
        const char *wanted;
    } cases[] = {
        {"", 0, "empty (0 bytes)"},
        {"\x12\x02\x08\x01", 4, "no pieces"},
        {"\x0a", 1, "broken field at byte 0 of 1"},
        {"\x0a\x05"
         "abc",
         5, "broken field"},
        {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
         "a",
         12, "broken field"},
        {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 13, "broken field"},
        {"\x0b\x0c", 2, "broken field"},
        {"\x00\x00", 2, "broken field"},
        {"\x09"
         "1234567",
         8, "broken field"},
        {"\x0a\x03\x0a\x09"
         "a",
         5, "piece 0: broken field"},
        {"\x0a\x00", 2, "piece 0: wanted its text, found nothing"},
        {"\x0a\x05\x0a\x01"
         "a\x18\x07",
         7, "piece 0: type: wanted 1 to 6, found 7"},
        {"\x0a\x05\x0a\x01"
         "a\x18\x00",
         7, "type: wanted 1 to 6, found 0"},
        {"\x0a\x05\x0a\x01"
         "a\x18\x06",
         7, "wanted the form <0x41> for a byte, found \"a\""},
        {"{\"model\": {\"vocab\"", 18, "wanted a SentencePiece model"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mo_text t;
        moshi_error err = {0};
        int rc = mo_text_parse(&t, (const uint8_t *)cases[i].bytes, cases[i].n, "t.model", &err);
        CHECK(rc == MOSHI_EMODEL && strncmp(err.text, "t.model: ", 9) == 0 &&
                  strstr(err.text, cases[i].wanted),
              "case %zu: wanted \"%s\" in: %d %s", i, cases[i].wanted, rc, err.text);
        CHECK(t.bytes == NULL, "nothing is left");
    }
    maker m;
    make_all_kinds(&m);
    for (size_t n = 1; n < m.n; n++) { /* cut anywhere: refused or the pieces before the cut */
        uint8_t *cut = malloc(n);
        memcpy(cut, m.bytes, n);
        mo_text t;
        moshi_error err = {0};
        int rc = mo_text_parse(&t, cut, n, "t.model", &err);
        CHECK((rc == 0 && t.n < 11) || rc == MOSHI_EMODEL, "%zu of %zu bytes: %d %s", n, m.n, rc,
              err.text);
        mo_text_free(&t);
        free(cut);
    }
}

static void test_memory(void) {
    if (!alloc_fail_works()) {
        SKIP("allocations cannot be made to fail here");
        return;
    }
    maker m;
    make_all_kinds(&m);
    for (long n = 1; n <= 4; n++) {
        mo_text t;
        moshi_error err = {0};
        alloc_fail_at(n, false);
        int rc = parse(&m, &t, &err);
        alloc_fail_at(0, false);
        CHECK(rc == (n <= 3 ? MOSHI_ENOMEM : 0), "allocation %ld fails: %d %s", n, rc, err.text);
        mo_text_free(&t);
    }
}

/* ---- recorded ------------------------------------------------------------------------------ */

static const mo_json_value *member(const mo_json *j, const mo_json_value *o, const char *key) {
    const mo_json_value *v = mo_json_first(j, o);
    while (v && strcmp(v->key, key) != 0) v = mo_json_after(j, o, v);
    return v;
}

static void check_cases(const mo_text *t, const mo_json *j, const char *name) {
    const mo_json_value *cases = member(j, j->values, "cases"),
                        *pieces = member(j, j->values, "pieces");
    CHECK(member(j, j->values, "vocab_size")->as.integer == t->n, "%s: %d pieces", name, t->n);
    int id = 0;
    for (const mo_json_value *p = mo_json_first(j, pieces); p;
         p = mo_json_after(j, pieces, p), id++)
        CHECK(strcmp(t->bytes + t->offset[id], p->as.string) == 0, "%s: piece %d", name, id);
    for (const mo_json_value *c = mo_json_first(j, cases); c; c = mo_json_after(j, cases, c)) {
        const mo_json_value *list = member(j, c, "ids"), *wanted = member(j, c, "decoded");
        int ids[512];
        size_t n = 0;
        for (const mo_json_value *v = mo_json_first(j, list); v && n < 512;
             v = mo_json_after(j, list, v))
            ids[n++] = (int)v->as.integer;
        char out[4096];
        size_t need = mo_text_decode(t, ids, n, out, sizeof out);
        CHECK(need == strlen(wanted->as.string) && strcmp(out, wanted->as.string) == 0,
              "%s: decoded \"%s\", wanted \"%s\"", name, out, wanted->as.string);
    }
}

static void test_recorded(const char *model, const char *golden) {
    mo_file m, g;
    moshi_error err = {0};
    mo_text t;
    mo_json j;
    if (!model || !golden) {
        SKIP("no reference data: tokenizers");
        return;
    }
    if (!CHECK(mo_file_map(&m, model, model, &err) == 0 &&
                   mo_file_map(&g, golden, golden, &err) == 0,
               "%s", err.text))
        return;
    if (CHECK(mo_text_parse(&t, m.data, m.size, model, &err) == 0, "%s", err.text)) {
        if (CHECK(mo_json_parse(&j, (const char *)g.data, g.size, golden, &err) == 0, "%s",
                  err.text)) {
            check_cases(&t, &j, model);
            mo_json_free(&j);
        }
        mo_text_free(&t);
    }
    mo_file_close(&m);
    mo_file_close(&g);
}

int main(void) {
    test_kinds();
    test_small_buffers();
    test_dirty_pieces();
    test_broken();
    test_memory();
    test_recorded("tests/golden/tokenizers/bpe400.model",
                  "tests/golden/tokenizers/bpe400.golden.json");
    test_recorded(golden_path("tokenizers/unigram500.model"),
                  golden_path("tokenizers/unigram500.golden.json"));
    return check_done("test_text");
}
