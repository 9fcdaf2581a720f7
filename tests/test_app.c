/* test_app.c - parts of the program that are easier to reach from C: text for terminals, names of
 * one file, what headers of audio files promise. */
#include "check.h"

#include "audiofile.h"
#include "outfile.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/moshi-app-XXXXXX";

/* ---- text ----------------------------------------------------------------------------------- */

static void test_clean_text(void) {
    static const struct {
        const char *text, *wanted;
    } cases[] = {
        {"plain", "plain"},
        {"", ""},
        {"\x1b[31mred\x07", "?[31mred?"},
        {"a\tb\r\nc\x7f", "a?b??c?"},
        {"\xc2\x9b"
         "31m",
         "?31m"}, /* U+009B begins a command too */
        {"\xc2\xa0 \xc3\xa9 \xe2\x82\xac", "\xc2\xa0 \xc3\xa9 \xe2\x82\xac"}, /* letters stay */
        {"cut \xc2", "cut \xc2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char got[64] = {0};
        FILE *f = tmpfile();
        if (!CHECK(f != NULL, "temporary file")) return;
        app_print_clean(f, cases[i].text);
        rewind(f);
        got[fread(got, 1, sizeof got - 1, f)] = 0;
        fclose(f);
        CHECK(!strcmp(got, cases[i].wanted), "'%s', wanted '%s'", got, cases[i].wanted);
    }
}

/* ---- files ---------------------------------------------------------------------------------- */

static void write_file(const char *name, const void *data, size_t n) {
    FILE *f = fopen(name, "wb");
    if (CHECK(f && fwrite(data, 1, n, f) == n, "%s can be written", name)) fclose(f);
}

static void test_same_file(void) {
    static const struct {
        const char *a, *b;
        bool same;
    } cases[] = {
        {"here", "here", true},
        {"here", "./sub/../here", true},
        {"here", "symbolic", true},
        {"here", "hard", true},
        {"here", "other", false},
        {"here", "new", false},
        {"new", "new", true},
        {"new", "./sub/../new", true},
        {"new", "sub-link/../new", true},
        {"sub/new", "sub-link/new", true},
        {"new", "newer", false},
        {"new", "sub/new", false},
        {"nowhere/new", "nowhere/new", false}, /* cannot be made at all */
        {"/dev/null", "/dev/null", false},
    };
    write_file("here", "x", 1);
    write_file("other", "x", 1);
    CHECK(mkdir("sub", 0700) == 0 && symlink("sub", "sub-link") == 0, "directory");
    CHECK(symlink("here", "symbolic") == 0 && link("here", "hard") == 0, "links");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK(same_file(cases[i].a, cases[i].b) == cases[i].same, "%s, %s", cases[i].a, cases[i].b);
}

/* ---- audio ---------------------------------------------------------------------------------- */

static size_t put(uint8_t *at, uint64_t value, int bytes, bool big) {
    for (int i = 0; i < bytes; i++) at[i] = (uint8_t)(value >> 8 * (big ? bytes - 1 - i : i));
    return (size_t)bytes;
}

static size_t put_text(uint8_t *at, const char *text) {
    memcpy(at, text, strlen(text));
    return strlen(text);
}

enum { RATE = 8000, THERE = 8000 /* bytes: half a second */ };

/* A mono 16-bit file of `THERE` bytes of silence whose header promises `promised`. */
static size_t make_wav(uint8_t *file, const char *magic, uint64_t promised) {
    bool big = !strcmp(magic, "RIFX"), wide = !strcmp(magic, "RF64");
    uint8_t *p = file;
    p += put_text(p, magic);
    p += put(p, 0xffffffff, 4, big);
    p += put_text(p, "WAVE");
    if (wide) {
        p += put_text(p, "ds64");
        p += put(p, 28, 4, false);
        p += put(p, promised + 72, 8, false);
        p += put(p, promised, 8, false);
        p += put(p, promised / 2, 8, false);
        p += put(p, 0, 4, false);
    }
    p += put_text(p, "fmt ");
    p += put(p, 16, 4, big);
    p += put(p, 1, 2, big);
    p += put(p, 1, 2, big);
    p += put(p, RATE, 4, big);
    p += put(p, 2 * RATE, 4, big);
    p += put(p, 2, 2, big);
    p += put(p, 16, 2, big);
    p += put_text(p, "data");
    p += put(p, wide ? 0xffffffff : promised, 4, big);
    memset(p, 0, THERE);
    return (size_t)(p - file) + THERE;
}

static size_t make_aiff(uint8_t *file, uint64_t promised) {
    static const uint8_t rate[10] = {0x40, 0x0b, 0xfa}; /* 8000 as an 80-bit number */
    uint8_t *p = file;
    p += put_text(p, "FORM");
    p += put(p, promised + 46, 4, true);
    p += put_text(p, "AIFFCOMM");
    p += put(p, 18, 4, true);
    p += put(p, 1, 2, true);
    p += put(p, promised / 2, 4, true);
    p += put(p, 16, 2, true);
    memcpy(p, rate, sizeof rate);
    p += sizeof rate;
    p += put_text(p, "SSND");
    p += put(p, promised + 8, 4, true);
    memset(p, 0, 8 + THERE);
    return (size_t)(p - file) + 8 + THERE;
}

static void test_promises(void) {
    static const struct {
        const char *magic;
        uint64_t promised;
        double wanted_s; /* 0: nothing is missing */
    } cases[] = {
        {"RIFF", THERE, 0},       {"RIFF", 4 * THERE, 2.0}, {"RIFF", THERE + 160, 0.51},
        {"RIFF", 0x7ffff000, 0}, /* "until the end", in the ways of different writers */
        {"RIFF", 0xffffffff, 0},  {"RIFX", THERE, 0},       {"RIFX", 4 * THERE, 2.0},
        {"RF64", THERE, 0},       {"RF64", 4 * THERE, 2.0}, {"FORM", THERE, 0},
        {"FORM", 4 * THERE, 2.0},
    };
    uint8_t file[THERE + 256];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool aiff = !strcmp(cases[i].magic, "FORM");
        size_t n = aiff ? make_aiff(file, cases[i].promised)
                        : make_wav(file, cases[i].magic, cases[i].promised);
        write_file("promise", file, n);
        app_error err = {0};
        audio_in *in;
        if (!CHECK(audio_in_open(&in, "promise", &err) == EXIT_OK, "%s: %s", cases[i].magic,
                   err.text))
            continue;
        const audio_facts *facts = audio_in_facts(in);
        CHECK(fabs(facts->seconds - 0.5) < 1e-3, "%s: %g s", cases[i].magic, facts->seconds);
        CHECK(fabs(facts->promised_s - cases[i].wanted_s) < 2e-3, "%s %llu: promised %g s",
              cases[i].magic, (unsigned long long)cases[i].promised, facts->promised_s);
        audio_in_close(in);
    }
}

int main(void) {
    char command[64];
    if (!CHECK(mkdtemp(dir) && chdir(dir) == 0, "temporary directory"))
        return check_done("test_app");
    test_clean_text();
    test_same_file();
    test_promises();
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    CHECK(chdir("/") == 0 && system(command) == 0, "clean up");
    return check_done("test_app");
}
