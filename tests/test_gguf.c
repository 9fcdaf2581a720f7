/* test_gguf.c - GGUF files: recorded ones tensor by tensor, and every kind of bad one. */
#include "alloc_fail.h"
#include "check.h"
#include "gguf.h"
#include "quant.h"
#include "tensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- building files ------------------------------------------------------------------------- */

typedef struct bytes {
    uint8_t at[4096];
    size_t n;
} bytes;

static void put(bytes *b, uint64_t v, int size) {
    if (b->n + 8 > sizeof b->at) test_die("the file under construction is too large");
    for (int i = 0; i < size; i++) b->at[b->n++] = (uint8_t)(v >> (8 * i));
}

static void put_text(bytes *b, const char *text, size_t n) {
    put(b, n, 8);
    for (size_t i = 0; i < n; i++) put(b, (uint8_t)text[i], 1);
}

static void put_header(bytes *b, uint32_t version, uint64_t n_tensors, uint64_t n_values) {
    for (int i = 0; i < 4; i++) put(b, (uint8_t) "GGUF"[i], 1);
    put(b, version, 4);
    put(b, n_tensors, 8);
    put(b, n_values, 8);
}

static void put_key(bytes *b, const char *key, mo_gguf_type type) {
    put_text(b, key, strlen(key));
    put(b, type, 4);
}

static void put_number(bytes *b, const char *key, mo_gguf_type type, uint64_t bits, int size) {
    put_key(b, key, type);
    put(b, bits, size);
}

/* Sizes innermost first, as in the file; 0 ends them. */
static void put_tensor(bytes *b, const char *name, uint32_t type, uint64_t offset, uint64_t d0,
                       uint64_t d1, uint64_t d2) {
    uint64_t sizes[] = {d0, d1, d2};
    int ndim = d0 ? d1 ? d2 ? 3 : 2 : 1 : 0;
    put_text(b, name, strlen(name));
    put(b, (uint64_t)ndim, 4);
    for (int i = 0; i < ndim; i++) put(b, sizes[i], 8);
    put(b, type, 4);
    put(b, offset, 8);
}

/* Zeros up to a multiple of `alignment` and then n bytes of 1, 2, 3... */
static size_t put_data(bytes *b, size_t alignment, size_t n) {
    while (b->n % alignment) put(b, 0, 1);
    size_t at = b->n;
    for (size_t i = 0; i < n; i++) put(b, i + 1, 1);
    return at;
}

/* From a block of its own, so that a sanitizer sees reading past the end. The caller frees it after
 * closing the checkpoint. */
static int open_copy(mo_checkpoint *ck, const bytes *b, size_t n, uint8_t **copy,
                     moshi_error *err) {
    mo_file file;
    *copy = test_alloc(n, 1);
    memcpy(*copy, b->at, n);
    int rc = mo_file_borrow(&file, *copy, n, "w.gguf", err);
    return rc < 0 ? rc : mo_checkpoint_open(ck, &file, err);
}

/* ---- good files ------------------------------------------------------------------------------ */

enum { ALL_VALUES = 16 };

static void put_values(bytes *b) {
    float f = 0.25f;
    uint32_t bits;
    memcpy(&bits, &f, 4);
    put_number(b, "u8", MO_GGUF_U8, 200, 1);
    put_number(b, "i8", MO_GGUF_I8, 0xFE, 1);
    put_number(b, "u16", MO_GGUF_U16, 60000, 2);
    put_number(b, "i16", MO_GGUF_I16, 0xFFFE, 2);
    put_number(b, "u32", MO_GGUF_U32, 4000000000, 4);
    put_number(b, "i32", MO_GGUF_I32, 0xFFFFFFFE, 4);
    put_number(b, "f32", MO_GGUF_F32, bits, 4);
    put_number(b, "bool", MO_GGUF_BOOL, 1, 1);
    put_number(b, "u64", MO_GGUF_U64, UINT64_MAX, 8);
    put_number(b, "i64", MO_GGUF_I64, (uint64_t)-2, 8);
    put_number(b, "f64", MO_GGUF_F64, 0, 8);
    put_key(b, "string", MO_GGUF_STRING);
    put_text(b, "a\0b", 3);
    put_key(b, "empty", MO_GGUF_STRING);
    put_text(b, "", 0);
    put_key(b, "words", MO_GGUF_ARRAY);
    put(b, MO_GGUF_STRING, 4);
    put(b, 3, 8);
    put_text(b, "one", 3);
    put_text(b, "", 0);
    put_text(b, "three", 5);
    put_key(b, "nested", MO_GGUF_ARRAY); /* [[5, 6], []] */
    put(b, MO_GGUF_ARRAY, 4);
    put(b, 2, 8);
    put(b, MO_GGUF_U16, 4);
    put(b, 2, 8);
    put(b, 5, 2);
    put(b, 6, 2);
    put(b, MO_GGUF_STRING, 4);
    put(b, 0, 8);
    put_number(b, "general.alignment", MO_GGUF_U32, 64, 4);
}

static void check_values(const mo_checkpoint *ck) {
    static const struct {
        const char *key;
        int64_t value;
    } integers[] = {{"u8", 200},         {"i8", -2},  {"u16", 60000}, {"i16", -2},
                    {"u32", 4000000000}, {"i32", -2}, {"i64", -2},    {"general.alignment", 64}};
    static const char *const others[] = {"f32", "bool", "f64", "u64", "string", "words", "missing"};
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) {
        int64_t v = 0;
        CHECK(mo_gguf_integer(mo_gguf_find(ck, integers[i].key), &v) && v == integers[i].value,
              "%s is %lld", integers[i].key, (long long)v);
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        int64_t v = 77;
        CHECK(!mo_gguf_integer(mo_gguf_find(ck, others[i]), &v) && v == 77, "%s", others[i]);
    }
    const mo_gguf_value *v = mo_gguf_find(ck, "string");
    CHECK(v && v->type == MO_GGUF_STRING && v->count == 3 && memcmp(v->data, "a\0b", 3) == 0,
          "string");
    CHECK((v = mo_gguf_find(ck, "empty")) && v->count == 0, "empty string");
    CHECK((v = mo_gguf_find(ck, "f32")) && v->count == 1 && v->data[3] == 0x3E, "f32");
    CHECK((v = mo_gguf_find(ck, "nested")) && v->element == MO_GGUF_ARRAY && v->count == 2,
          "nested");
    v = mo_gguf_find(ck, "words");
    if (CHECK(v && v->type == MO_GGUF_ARRAY && v->element == MO_GGUF_STRING && v->count == 3,
              "words")) {
        static const char *const words[] = {"one", "", "three"};
        const uint8_t *at = v->data;
        for (int i = 0; i < 3; i++) {
            size_t n = 99;
            const char *word = mo_gguf_next_string(&at, &n);
            CHECK(n == strlen(words[i]) && memcmp(word, words[i], n) == 0, "word %d", i);
        }
    }
}

static void test_good(void) {
    for (uint32_t version = 2; version <= 3; version++) {
        bytes b = {0};
        put_header(&b, version, 4, ALL_VALUES);
        put_values(&b);
        put_tensor(&b, "z", 8, 64, 64, 3, 0); /* Q8_0 [3, 64] */
        put_tensor(&b, "a", 0, 0, 2, 3, 1);   /* F32 [1, 3, 2] */
        put_tensor(&b, "scalar", 30, 320, 0, 0, 0);
        put_tensor(&b, "m", 26, 384, 2, 0, 0);
        size_t at = put_data(&b, 64, 384 + 8);
        mo_checkpoint ck;
        moshi_error err = {0};
        uint8_t *copy;
        if (!CHECK(open_copy(&ck, &b, b.n, &copy, &err) == 0, "%s", err.text)) {
            free(copy);
            continue;
        }
        CHECK(ck.n_tensors == 4 && ck.n_values == ALL_VALUES, "all there");
        CHECK(strcmp(ck.tensors[0].name, "a") == 0 && strcmp(ck.tensors[3].name, "z") == 0,
              "sorted");
        const mo_tensor_view *z = mo_checkpoint_find(&ck, "z"), *a = mo_checkpoint_find(&ck, "a");
        CHECK(z->dtype == MO_Q8_0 && z->ndim == 2 && z->shape[0] == 3 && z->shape[1] == 64, "z");
        CHECK(z->count == 192 && z->bytes == 204 && z->data == copy + at + 64, "z");
        CHECK(a->dtype == MO_F32 && a->ndim == 3 && a->shape[0] == 1 && a->shape[1] == 3 &&
                  a->shape[2] == 2 && a->bytes == 24 && a->data == copy + at,
              "a");
        const mo_tensor_view *s = mo_checkpoint_find(&ck, "scalar");
        CHECK(s->dtype == MO_BF16 && s->ndim == 0 && s->count == 1 && s->bytes == 2, "scalar");
        CHECK(mo_checkpoint_find(&ck, "m")->dtype == MO_I32, "m");
        check_values(&ck);
        mo_checkpoint_close(&ck);
        free(copy);
    }
    bytes b = {0}; /* nothing in it, no padding, no data */
    put_header(&b, 3, 0, 0);
    mo_checkpoint ck;
    moshi_error err = {0};
    uint8_t *copy;
    CHECK(open_copy(&ck, &b, b.n, &copy, &err) == 0 && ck.n_tensors == 0, "%s", err.text);
    CHECK(mo_gguf_find(&ck, "any") == NULL, "no values");
    mo_checkpoint_close(&ck);
    free(copy);
}

static void test_types(void) {
    static const struct {
        uint32_t id;
        mo_dtype dtype;
    } types[] = {{0, MO_F32},   {1, MO_F16},   {2, MO_Q4_0}, {8, MO_Q8_0}, {12, MO_Q4_K},
                 {13, MO_Q5_K}, {14, MO_Q6_K}, {24, MO_I8},  {25, MO_I16}, {26, MO_I32},
                 {27, MO_I64},  {28, MO_F64},  {30, MO_BF16}};
    uint32_t seen = 0;
    for (uint32_t id = 0; id < 64; id++) {
        size_t k = 0;
        while (k < sizeof types / sizeof *types && types[k].id != id) k++;
        bool known = k < sizeof types / sizeof *types;
        bytes b = {0};
        put_header(&b, 3, 1, 0);
        put_tensor(&b, "t", id, 0, 256, 0, 0);
        put_data(&b, 32, 256 * 8);
        mo_checkpoint ck;
        moshi_error err = {0};
        uint8_t *copy;
        int rc = open_copy(&ck, &b, b.n, &copy, &err);
        if (CHECK(rc == (known ? 0 : MOSHI_EMODEL), "type %u: %d %s", id, rc, err.text) && known) {
            CHECK(ck.tensors[0].dtype == types[k].dtype &&
                      ck.tensors[0].bytes == mo_dtype_row_bytes(types[k].dtype, 256),
                  "type %u", id);
            seen++;
        }
        if (!known) {
            char wanted[32];
            snprintf(wanted, sizeof wanted, "(ggml type %u)", id);
            CHECK(strstr(err.text, wanted) && strstr(err.text, "tensor \"t\""), "%s", err.text);
            CHECK(id != 10 || strstr(err.text, "found Q2_K"), "%s", err.text);
            CHECK(id != 63 || strstr(err.text, "found unknown"), "%s", err.text);
        }
        if (rc == 0) mo_checkpoint_close(&ck);
        free(copy);
    }
    CHECK(seen == sizeof types / sizeof *types, "%u types", seen);
}

/* ---- bad files ------------------------------------------------------------------------------- */

/* One tensor as it should not be, then 64 bytes of data. */
static void one_tensor(bytes *b, const char *name, uint32_t type, uint64_t offset, uint64_t d0,
                       uint64_t d1, uint64_t d2) {
    put_header(b, 3, 1, 0);
    put_tensor(b, name, type, offset, d0, d1, d2);
    put_data(b, 32, 64);
}

static void two_tensors(bytes *b, const char *first, const char *second, uint64_t offset) {
    put_header(b, 3, 2, 0);
    put_tensor(b, first, 0, 0, 12, 0, 0);
    put_tensor(b, second, 0, offset, 2, 0, 0);
    put_data(b, 32, 96);
}

/* An array in an array in ... `depth` times, the innermost empty. */
static void deep(bytes *b, int depth) {
    put_header(b, 3, 0, 1);
    put_key(b, "deep", MO_GGUF_ARRAY);
    for (int i = 1; i < depth; i++) {
        put(b, MO_GGUF_ARRAY, 4);
        put(b, 1, 8);
    }
    put(b, MO_GGUF_U8, 4);
    put(b, 0, 8);
}

static void alignment(bytes *b, mo_gguf_type type, uint64_t bits, int size) {
    put_header(b, 3, 1, 1);
    put_number(b, "general.alignment", type, bits, size);
    put_tensor(b, "t", 0, 32, 2, 0, 0);
    put_data(b, 32, 64);
}

/* Writes file number i and returns words its message must contain; NULL after the last. */
static const char *bad_file(int i, bytes *b) {
    switch (i) {
    case 0:
        put_header(b, 1, 0, 0);
        return "version 1";
    case 1:
        put_header(b, 0x03000000, 0, 0);
        return "big-endian";
    case 2:
        put_header(b, 4, 0, 0);
        return "version 4; wanted version 2 or 3";
    case 3:
        put_header(b, 0, 0, 0);
        return "version 0";
    case 4:
        put_header(b, 3, UINT64_MAX, 0);
        return "tensors in a file of 24 bytes, found 18446744073709551615";
    case 5:
        put_header(b, 3, 0, UINT64_MAX / 2);
        return "values in a file of 24 bytes, found 9223372036854775807";
    case 6:
        one_tensor(b, "t", 0, 0, 1ull << 32, 1ull << 32, 0);
        return "a product below 2^60";
    case 7:
        one_tensor(b, "t", 0, 0, UINT64_MAX, 0, 0);
        return "a product below 2^60";
    case 8:
        one_tensor(b, "t", 8, 0, 33, 0, 0);
        return "rows of a multiple of 32 for Q8_0, found 33";
    case 9:
        one_tensor(b, "t", 12, 0, 128, 2, 0);
        return "rows of a multiple of 256 for Q4_K, found 128";
    case 10:
        one_tensor(b, "t", 2, 0, 0, 0, 0);
        return "rows of a multiple of 32 for Q4_0, found 1";
    case 11:
        one_tensor(b, "t", 0, 4, 2, 0, 0);
        return "tensor \"t\": wanted an offset that is a multiple of 32, found 4";
    case 12:
        one_tensor(b, "t", 0, 64, 2, 0, 0);
        return "truncated: its header promises 136 bytes, it has 128";
    case 13:
        one_tensor(b, "t", 0, UINT64_MAX - 31, 2, 0, 0);
        return "an offset inside the file, found 18446744073709551584";
    case 14:
        one_tensor(b, "t", 0, INT64_MAX / 2 - 31, 2, 0, 0);
        return "truncated";
    case 15:
        one_tensor(b, "", 0, 0, 2, 0, 0);
        return "name of a tensor at byte 32: wanted UTF-8 text without zero characters, found "
               "nothing";
    case 16:
        one_tensor(b, "a\xff", 0, 0, 2, 0, 0);
        return "wanted UTF-8 text";
    case 17:
        two_tensors(b, "t", "t", 64);
        return "tensor \"t\" is there twice";
    case 18:
        two_tensors(b, "s", "t", 32);
        return "tensors \"s\" and \"t\" share bytes";
    case 19:
        two_tensors(b, "s", "t", 0);
        return "share bytes";
    case 20:
        deep(b, 5);
        return "key \"deep\": wanted arrays at most 4 deep";
    case 21:
        deep(b, 300);
        return "wanted arrays at most 4 deep";
    case 22:
        alignment(b, MO_GGUF_U32, 48, 4);
        return "general.alignment: wanted a power of two up to 2^30, found 48";
    case 23:
        alignment(b, MO_GGUF_U32, 0, 4);
        return "found 0";
    case 24:
        alignment(b, MO_GGUF_I64, (uint64_t)-32, 8);
        return "found -32";
    case 25:
        alignment(b, MO_GGUF_F32, 0x42000000, 4);
        return "general.alignment: wanted a whole number";
    case 26:
        alignment(b, MO_GGUF_U64, 1ull << 31, 8);
        return "found 2147483648";
    case 27:
        alignment(b, MO_GGUF_U32, 1 << 30, 4);
        return "a multiple of 1073741824, found 32";
    case 28:
        put_header(b, 3, 0, 1);
        put_number(b, "k", MO_GGUF_TYPE_COUNT, 0, 8);
        return "key \"k\": wanted a type of 0 to 12, found 13";
    case 29:
        put_header(b, 3, 0, 2);
        put_number(b, "k", MO_GGUF_U8, 0, 1);
        put_number(b, "k", MO_GGUF_U64, 0, 8);
        return "key \"k\" is there twice";
    case 30: /* a string longer than the file */
        put_header(b, 3, 0, 1);
        put_key(b, "k", MO_GGUF_STRING);
        put(b, UINT64_MAX, 8);
        return "string: wanted 18446744073709551615 more bytes at byte 45, found 0";
    case 31: /* numbers whose bytes overflow */
        put_header(b, 3, 0, 1);
        put_key(b, "k", MO_GGUF_ARRAY);
        put(b, MO_GGUF_U64, 4);
        put(b, 1ull << 61, 8);
        return "array: wanted";
    case 32:
        put_header(b, 3, 0, 1);
        put_key(b, "k", MO_GGUF_ARRAY);
        put(b, MO_GGUF_STRING, 4);
        put(b, UINT64_MAX, 8);
        return "string: wanted 8 more bytes";
    case 33: /* a key longer than the file */
        put_header(b, 3, 0, 1);
        put(b, 1ull << 40, 8);
        put(b, 0, 8);
        return "key: wanted 1099511627776 more bytes at byte 32, found 8";
    case 34: /* six dimensions */
        put_header(b, 3, 1, 0);
        put_text(b, "t", 1);
        put(b, 6, 4);
        for (int d = 0; d < 8; d++) put(b, 1, 8);
        return "tensor \"t\": wanted at most 5 dimensions, found 6";
    case 35: /* a zero in a name */
        put_header(b, 3, 1, 0);
        put_text(b, "a\0b", 3);
        for (int d = 0; d < 4; d++) put(b, 0, 8);
        return "wanted UTF-8 text without zero characters, found other bytes";
    case 36: /* one element too many in a file of the right size for one less */
        one_tensor(b, "t", 0, 0, 17, 0, 0);
        return "truncated: its header promises 132 bytes, it has 128 (97.0 %)";
    default:
        return NULL;
    }
}

static void test_bad(void) {
    int i = 0;
    for (;; i++) {
        bytes b = {0};
        const char *wanted = bad_file(i, &b);
        if (!wanted) break;
        mo_checkpoint ck;
        moshi_error err = {0};
        uint8_t *copy;
        int rc = open_copy(&ck, &b, b.n, &copy, &err);
        CHECK(rc == MOSHI_EMODEL && err.code == rc && strncmp(err.text, "w.gguf: ", 8) == 0,
              "file %d: %d %s", i, rc, err.text);
        CHECK(strstr(err.text, wanted) != NULL, "file %d: wanted \"%s\" in: %s", i, wanted,
              err.text);
        CHECK(!ck.tensors && !ck.values && !ck.names && !ck.n_tensors && !ck.n_values,
              "nothing is left");
        free(copy);
    }
    CHECK(i == 37, "%d files", i);
    bytes b = {0};
    mo_checkpoint ck;
    moshi_error err = {0};
    uint8_t *copy;
    deep(&b, 4);
    CHECK(open_copy(&ck, &b, b.n, &copy, &err) == 0, "four deep: %s", err.text);
    mo_checkpoint_close(&ck);
    free(copy);
}

/* Every cut of a good file is refused, and none touches memory outside of it. */
static void test_truncation(void) {
    bytes b = {0};
    put_header(&b, 3, 2, ALL_VALUES);
    put_values(&b);
    put_tensor(&b, "first", 8, 0, 32, 2, 0);
    put_tensor(&b, "second", 0, 128, 4, 0, 0);
    put_data(&b, 64, 128 + 16);
    for (size_t n = 4; n < b.n; n++) {
        mo_checkpoint ck;
        moshi_error err = {0};
        uint8_t *copy;
        CHECK(open_copy(&ck, &b, n, &copy, &err) == MOSHI_EMODEL && strstr(err.text, "w.gguf") &&
                  strstr(err.text, "truncated"),
              "%zu of %zu bytes: %s", n, b.n, err.text);
        free(copy);
    }
}

static void test_memory(void) {
    if (!alloc_fail_works()) {
        SKIP("allocations cannot be made to fail here");
        return;
    }
    bytes b = {0};
    put_header(&b, 3, 1, ALL_VALUES);
    put_values(&b);
    put_tensor(&b, "t", 0, 0, 4, 0, 0);
    put_data(&b, 64, 16);
    int rc = MOSHI_ENOMEM;
    long n = 1;
    for (; rc != 0 && n < 100; n++) {
        mo_checkpoint ck;
        mo_file file;
        moshi_error err = {0};
        alloc_fail_at(n, n % 2);
        rc = mo_file_borrow(&file, b.at, b.n, "w.gguf", &err);
        if (rc == 0) rc = mo_checkpoint_open(&ck, &file, &err);
        alloc_fail_at(0, false);
        CHECK(rc == MOSHI_ENOMEM || rc == 0, "allocation %ld fails: %d %s", n, rc, err.text);
        if (rc == 0) {
            CHECK(mo_checkpoint_find(&ck, "t") && mo_gguf_find(&ck, "words"), "complete");
            mo_checkpoint_close(&ck);
        } else {
            CHECK(strstr(err.text, "w.gguf") != NULL, "names the file: %s", err.text);
        }
    }
    CHECK(rc == 0 && n > 5, "opens once nothing fails, after %ld", n);
}

/* ---- recorded files -------------------------------------------------------------------------- */

static bool open_golden(mo_checkpoint *ck, const char *relative) {
    const char *path = golden_path(relative);
    mo_file file;
    moshi_error err = {0};
    if (!path) {
        SKIP("%s is not there", relative);
        return false;
    }
    return CHECK(mo_file_map(&file, path, relative, &err) == 0 &&
                     mo_checkpoint_open(ck, &file, &err) == 0,
                 "%s", err.text);
}

/* Largest distance from `exact`, in steps of the block each number is in. */
static double worst_steps(const mo_tensor_view *t, const float *exact) {
    float *x = test_alloc((size_t)t->count, sizeof *x);
    double worst = 0;
    mo_quant_of(MO_Q8_0)->dequantise(t->data, x, (size_t)t->count);
    for (uint64_t i = 0; i < t->count; i++) {
        uint16_t scale;
        memcpy(&scale, (const uint8_t *)t->data + i / 32 * 34, sizeof scale);
        double d = fabs((double)x[i] - (double)exact[i]), step = (double)mo_f16_to_f32(scale);
        if (!(d <= worst * step)) worst = step > 0 ? d / step : INFINITY;
    }
    free(x);
    return worst;
}

/* The same model without quantisation: same names, same shapes, near numbers. */
static void test_recorded(const char *model) {
    char quantised[64], plain[64];
    mo_checkpoint a, b;
    snprintf(quantised, sizeof quantised, "%s/model.candle.q8.gguf", model);
    snprintf(plain, sizeof plain, "%s/model.candle.safetensors", model);
    if (!open_golden(&a, quantised)) return;
    if (!open_golden(&b, plain)) {
        mo_checkpoint_close(&a);
        return;
    }
    int blocks = 0, floats = 0;
    CHECK(a.n_tensors == b.n_tensors && a.n_tensors > 50, "%zu tensors", a.n_tensors);
    CHECK(a.n_values == 0, "%zu values", a.n_values);
    for (size_t i = 0; i < a.n_tensors && i < b.n_tensors; i++) {
        const mo_tensor_view *t = &a.tensors[i], *from = &b.tensors[i];
        if (!CHECK(strcmp(t->name, from->name) == 0 && t->ndim == from->ndim &&
                       memcmp(t->shape, from->shape, sizeof t->shape) == 0 &&
                       t->count == from->count,
                   "%s and %s", t->name, from->name))
            continue;
        float *exact = test_alloc((size_t)t->count, sizeof *exact);
        mo_tensor_read(from, 0, from->count, exact);
        if (t->dtype == MO_F32) {
            CHECK(memcmp(exact, t->data, (size_t)t->bytes) == 0, "%s", t->name);
            floats++;
        } else if (CHECK(t->dtype == MO_Q8_0, "%s is %s", t->name, mo_dtype_name(t->dtype))) {
            /* half a step, and 127 times the rounding of the scale */
            double steps = worst_steps(t, exact);
            CHECK(steps > 0.4 && steps <= 0.5 + 127.0 / 2048, "%s: %.3f steps", t->name, steps);
            blocks++;
        }
        free(exact);
    }
    CHECK(blocks > 20 && floats > 5, "%s: %d quantised, %d plain", quantised, blocks, floats);
    mo_checkpoint_close(&a);
    mo_checkpoint_close(&b);
}

int main(void) {
    test_good();
    test_types();
    test_bad();
    test_truncation();
    test_memory();
    test_recorded("moshi-tiny");
    test_recorded("stt-tiny");
    return check_done("test_gguf");
}
