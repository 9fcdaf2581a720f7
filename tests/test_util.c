/* test_util.c - messages, checked sizes, globs, 16-bit floats, the JSON reader. */
#include "alloc_fail.h"
#include "check.h"
#include "json.h"
#include "util.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void test_messages(void) {
    moshi_error err;
    memset(&err, 'x', sizeof err);
    CHECK(mo_fail(&err, MOSHI_EIO, "file %s at %d", "a.b", 7) == MOSHI_EIO, "returns the code");
    CHECK(err.code == MOSHI_EIO && strcmp(err.text, "file a.b at 7") == 0, "text: %s", err.text);
    CHECK(mo_fail(NULL, MOSHI_ENOMEM, "x") == MOSHI_ENOMEM, "no error struct");

    mo_fail(&err, MOSHI_EMODEL, "%s", "a\033[2Jb\nc\td\x7f\xff\xc2\x9b\xc3\xa9");
    CHECK(strcmp(err.text, "a?[2Jb c d?\?\?\?\xc3\xa9") == 0, "controls and bad UTF-8: %s",
          err.text);

    char text[3000];
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = 0;
    mo_fail(&err, MOSHI_EMODEL, "%s", text);
    CHECK(strlen(err.text) == sizeof err.text - 1, "cut at the end: %zu", strlen(err.text));
    memcpy(text + sizeof err.text - 2, "\xc3\xa9", 2); /* the cut falls inside this character */
    mo_fail(&err, MOSHI_EMODEL, "%s", text);
    CHECK(err.text[sizeof err.text - 2] == '?', "half a character is not left at the cut");
}

static void test_sizes(void) {
    size_t n = 5;
    CHECK(mo_mul(6, 7, &n) && n == 42, "6 * 7");
    CHECK(mo_mul(SIZE_MAX, 0, &n) && n == 0, "times zero");
    CHECK(mo_mul(SIZE_MAX, 1, &n) && n == SIZE_MAX, "largest");
    n = 5;
    CHECK(!mo_mul(SIZE_MAX / 2 + 1, 2, &n) && n == 5, "overflow leaves the result alone");
    CHECK(mo_add(SIZE_MAX - 1, 1, &n) && n == SIZE_MAX, "largest sum");
    CHECK(!mo_add(SIZE_MAX, 1, &n) && n == SIZE_MAX, "sum overflows");
    CHECK(mo_calloc(SIZE_MAX / 2, 3) == NULL, "calloc overflows");
    void *none = mo_calloc(0, 8);
    CHECK(none != NULL, "nothing is not failure");
    free(none);
    CHECK(mo_aligned_calloc(SIZE_MAX - 8) == NULL, "aligned size overflows");
    for (size_t bytes = 0; bytes < 300; bytes += 37) {
        unsigned char *p = mo_aligned_calloc(bytes);
        if (!CHECK(p && (uintptr_t)p % 64 == 0, "aligned to 64 for %zu bytes", bytes)) continue;
        size_t set = 0;
        for (size_t i = 0; i < bytes; i++) set += p[i] != 0;
        CHECK(set == 0, "zeroed");
        memset(p, 1, bytes);
        mo_aligned_free(p);
    }
    mo_aligned_free(NULL);
    char *text = mo_format("%d-%s", 12, "ab");
    CHECK(text && strcmp(text, "12-ab") == 0, "mo_format: %s", text ? text : "NULL");
    free(text);
}

static void test_globs(void) {
    static const struct {
        const char *globs, *name;
        bool match;
    } cases[] = {
        {"*", "", true},
        {"*", "anything", true},
        {"", "x", false},
        {"   ", "x", false},
        {"lm.layer.*.out", "lm.layer.07.out", true},
        {"lm.layer.*.out", "lm.layer.07.attn", false},
        {"lm.layer.??.out", "lm.layer.07.out", true},
        {"lm.layer.??.out", "lm.layer.7.out", false},
        {"a b  mimi.*", "mimi.enc.codes", true},
        {"a b  mimi.*", "b", true},
        {"a b  mimi.*", "ab", false},
        {"*a*b*c", "xxaxxbxxc", true},
        {"*a*b*c", "xxaxxbxxcd", false},
        {"abc", "abcd", false},
        {"abcd", "abc", false},
        {"a**", "a", true},
        {"?", "", false},
        {"*a*a*a*a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
         false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK(mo_glob(cases[i].globs, cases[i].name) == cases[i].match, "glob \"%s\" on \"%s\"",
              cases[i].globs, cases[i].name);
}

static uint32_t bits_of(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

/* Every 16-bit pattern goes out and comes back; rounding is checked against neighbours. */
static void test_half_floats(void) {
    int bad16 = 0, badb = 0;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float f = mo_f16_to_f32((uint16_t)h), b = mo_bf16_to_f32((uint16_t)h);
        if (isnan(f)) {
            bad16 += (h & 0x7C00) != 0x7C00 || !isnan(mo_f16_to_f32(mo_f32_to_f16(f)));
        } else {
            bad16 += mo_f32_to_f16(f) != h;
        }
        if (isnan(b)) {
            badb += !isnan(mo_bf16_to_f32(mo_f32_to_bf16(b)));
        } else {
            badb += mo_f32_to_bf16(b) != h;
        }
    }
    CHECK(bad16 == 0, "%d f16 patterns do not come back", bad16);
    CHECK(badb == 0, "%d bf16 patterns do not come back", badb);
    CHECK(mo_f16_to_f32(0x3C00) == 1.0f && mo_f16_to_f32(0xC000) == -2.0f, "f16 1 and -2");
    CHECK(mo_f16_to_f32(0x7BFF) == 65504.0f && mo_f16_to_f32(0x0001) == 0x1p-24f, "f16 extremes");
    CHECK(mo_f32_to_f16(65519.99f) == 0x7BFF && mo_f32_to_f16(65520.0f) == 0x7C00, "f16 overflow");
    CHECK(mo_f32_to_f16(-1e9f) == 0xFC00 && mo_f32_to_f16(0x1p-25f) == 0, "f16 inf, tie to zero");
    CHECK(mo_f32_to_f16(0x1.8p-25f) == 1 && mo_f32_to_f16(-0.0f) == 0x8000, "f16 subnormal, -0");
    CHECK(mo_bf16_to_f32(0x3F80) == 1.0f, "bf16 1");
    CHECK(mo_f32_to_bf16(0x1.01p0f) == 0x3F80, "bf16 tie goes to even, down");
    CHECK(mo_f32_to_bf16(0x1.03p0f) == 0x3F82, "bf16 tie goes to even, up");
    CHECK(mo_f32_to_bf16(3.4e38f) == 0x7F80, "bf16 rounds to infinity");

    int badr = 0;
    uint64_t seed = 1;
    for (int i = 0; i < 200000; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        float f = (float)((double)(int64_t)seed * 0x1p-63 * exp2((double)(i % 40) - 24));
        uint16_t h = mo_f32_to_f16(f);
        double here = fabs((double)mo_f16_to_f32(h) - f);
        double below = h & 0x7FFF ? fabs((double)mo_f16_to_f32((uint16_t)(h - 1)) - f) : 1e30;
        double above =
            (h & 0x7FFF) < 0x7BFF ? fabs((double)mo_f16_to_f32((uint16_t)(h + 1)) - f) : 1e30;
        badr += here > below || here > above || (here == below && (h & 1)) ||
                (here == above && (h & 1));
        uint16_t b = mo_f32_to_bf16(f);
        badr += fabs(mo_bf16_to_f32(b) - (double)f) > fabs((double)f) * 0x1p-8;
        badr += bits_of(mo_bf16_to_f32(b)) % 65536 != 0;
    }
    CHECK(badr == 0, "%d of 200000 values are not rounded to the nearest", badr);
}

static void test_utf8(void) {
    static const struct {
        const char *bytes;
        size_t n, length;
    } cases[] = {
        {"a", 1, 1},
        {"", 0, 0},
        {"\xc3\xa9", 2, 2},
        {"\xc3\xa9", 1, 0},
        {"\xe2\x96\x81", 3, 3},
        {"\xf0\x9f\x98\x80", 4, 4},
        {"\x80", 1, 0},
        {"\xc0\x80", 2, 0},
        {"\xe0\x80\x80", 3, 0},
        {"\xed\xa0\x80", 3, 0},
        {"\xf4\x90\x80\x80", 4, 0},
        {"\xf0\x80\x80\x80", 4, 0},
        {"\xff", 1, 0},
        {"\xe2\x28\xa1", 3, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK(mo_utf8_length(cases[i].bytes, cases[i].n) == cases[i].length, "UTF-8 case %zu", i);
}

/* ---- JSON ---------------------------------------------------------------------------------- */

static void test_json_values(void) {
    static const char text[] =
        " {\"a\": [1, -2, 3.5, true, false, null, {}, []],\r\n\t\"b\\u00e9\\ud83d\\ude00\": "
        "\"x\\\"\\\\\\/\\b\\f\\n\\r\\t\xc3\xa9\", \"c\":{\"d\":9223372036854775807, "
        "\"e\":-9223372036854775807,\"f\":9223372036854775808}} ";
    mo_json j;
    moshi_error err = {0};
    if (!CHECK(mo_json_parse(&j, text, strlen(text), "t", &err) == 0, "%s", err.text)) return;
    const mo_json_value *root = j.values;
    CHECK(root->type == MO_JSON_OBJECT && root->count == 3 && j.n == 15, "root: %u", j.n);
    const mo_json_value *a = mo_json_first(&j, root);
    CHECK(strcmp(a->key, "a") == 0 && a->type == MO_JSON_ARRAY && a->count == 8, "a");
    const mo_json_value *v = mo_json_first(&j, a);
    CHECK(v->type == MO_JSON_INT && v->as.integer == 1, "1");
    v = mo_json_after(&j, a, v);
    CHECK(v->type == MO_JSON_INT && v->as.integer == -2, "-2");
    v = mo_json_after(&j, a, v);
    CHECK(v->type == MO_JSON_REAL && v->as.real == 3.5, "3.5");
    v = mo_json_after(&j, a, v);
    CHECK(v->type == MO_JSON_BOOL && v->as.boolean, "true");
    for (int i = 0; i < 4; i++) v = mo_json_after(&j, a, v);
    CHECK(v->type == MO_JSON_ARRAY && v->count == 0 && !mo_json_first(&j, v), "[]");
    CHECK(mo_json_after(&j, a, v) == NULL, "end of a");
    const mo_json_value *b = mo_json_after(&j, root, a);
    CHECK(strcmp(b->key, "b\xc3\xa9\xf0\x9f\x98\x80") == 0, "escapes in a key: %s", b->key);
    CHECK(strcmp(b->as.string, "x\"\\/\b\f\n\r\t\xc3\xa9") == 0, "escapes: %s", b->as.string);
    const mo_json_value *d = mo_json_first(&j, mo_json_after(&j, root, b));
    CHECK(d->type == MO_JSON_INT && d->as.integer == INT64_MAX, "largest integer");
    const mo_json_value *f = d + 2;
    CHECK(f->type == MO_JSON_REAL && f->as.real == 0x1p63, "too large for an integer");
    mo_json_free(&j);
}

static void test_json_numbers(void) {
    static const struct {
        const char *text;
        double value;
    } cases[] = {{"0.8", 0.8},
                 {"4.125", 4.125},
                 {"12.5", 12.5},
                 {"1e-8", 1e-8},
                 {"0.01", 0.01},
                 {"100000.0", 1e5},
                 {"1.5E+3", 1500},
                 {"-2.5e-3", -2.5e-3},
                 {"900719925474099.1", 900719925474099.1},
                 {"123456789012345678901234567890.0", 123456789012345678901234567890.0},
                 {"0.30000000000000004", 0.30000000000000004},
                 {"2.2250738585072014e-308", 2.2250738585072014e-308},
                 {"1e-400", 0.0},
                 {"0e999999", 0.0},
                 {"0.1e-999999999999", 0.0},
                 {"-0.0", 0.0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mo_json j;
        moshi_error err = {0};
        if (!CHECK(mo_json_parse(&j, cases[i].text, strlen(cases[i].text), "t", &err) == 0,
                   "%s: %s", cases[i].text, err.text))
            continue;
        double wanted = cases[i].value, got = j.values[0].as.real;
        CHECK(j.values[0].type == MO_JSON_REAL && fabs(got - wanted) <= 1e-14 * fabs(wanted),
              "%s: %.17g", cases[i].text, got);
        if (strlen(cases[i].text) < 19 && fabs(wanted) > 1e-20)
            CHECK(got == wanted, "%s is exact: %.17g", cases[i].text, got);
        mo_json_free(&j);
    }
}

static void test_json_errors(void) {
    static const struct {
        const char *text, *wanted;
    } cases[] = {
        {"", "line 1, column 1: wanted a value, found the end"},
        {"   ", "wanted a value, found the end"},
        {"[1,\n 2,]", "line 2, column 4: wanted a value, found ']'"},
        {"[1 2]", "wanted ',' or ']', found '2'"},
        {"{\"a\":1 \"b\":2}", "wanted ',' or '}', found '\"'"},
        {"{\"a\" 1}", "wanted ':' after a key, found '1'"},
        {"{a:1}", "wanted a key in double quotes, found 'a'"},
        {"{\"a\":1,}", "wanted a key in double quotes, found '}'"},
        {"\"abc", "wanted the rest of a string, found the end"},
        {"\"a\nb\"", "wanted a string without control characters, found byte 0x0a"},
        {"\"\\x\"", "escapes"},
        {"\"\\u12G4\"", "hexadecimal digits"},
        {"\"\\u0000\"", "wanted a string without a zero character"},
        {"\"\\ud800x\"", "surrogate"},
        {"\"\\udc00\"", "surrogate"},
        {"\"\xff\"", "wanted valid UTF-8, found byte 0xff"},
        {"01", "wanted nothing after the end of the value, found '1'"},
        {"-", "wanted a digit"},
        {"1.", "wanted a digit"},
        {"1e", "wanted a digit"},
        {"+1", "wanted a value, found '+'"},
        {".5", "wanted a value"},
        {"NaN", "wanted a value, found 'N'"},
        {"nul", "wanted a value, found 'n'"},
        {"1e999", "wanted a number that fits a double, found '1'"},
        {"[]]", "wanted nothing after the end of the value, found ']'"},
        {"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]", "32 levels"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mo_json j;
        moshi_error err = {0};
        int rc = mo_json_parse(&j, cases[i].text, strlen(cases[i].text), "some.json", &err);
        CHECK(rc == MOSHI_EMODEL && strstr(err.text, "some.json: not valid JSON") == err.text &&
                  strstr(err.text, cases[i].wanted),
              "%s: %d %s", cases[i].text, rc, err.text);
    }
    mo_json j;
    CHECK(mo_json_parse(&j, "[1", 2, "t", NULL) == MOSHI_EMODEL, "no error struct");
    CHECK(mo_json_parse(&j, "[1]x", 3, "t", NULL) == 0, "the text need not be terminated");
    mo_json_free(&j);
}

static void test_json_memory(void) {
    static const char text[] = "{\"key\":[\"a string\",1,2,3],\"k\":{}}";
    if (!alloc_fail_works()) {
        SKIP("allocations cannot be made to fail here");
        return;
    }
    for (long n = 1; n <= 3; n++) {
        mo_json j;
        moshi_error err = {0};
        alloc_fail_at(n, false);
        int rc = mo_json_parse(&j, text, strlen(text), "t", &err);
        alloc_fail_at(0, false);
        CHECK(rc == (n <= 2 ? MOSHI_ENOMEM : 0), "allocation %ld fails: %d %s", n, rc, err.text);
        if (rc == 0) mo_json_free(&j);
    }
}

int main(void) {
    test_messages();
    test_sizes();
    test_globs();
    test_half_floats();
    test_utf8();
    test_json_values();
    test_json_numbers();
    test_json_errors();
    test_json_memory();
    CHECK(mo_core_count() >= 1 && mo_core_count() <= 4096, "cores: %d", mo_core_count());
    double t = mo_now_s();
    CHECK(mo_now_s() >= t, "the clock goes forward");
    return check_done("test_util");
}
