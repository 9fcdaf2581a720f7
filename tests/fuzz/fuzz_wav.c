/* fuzz_wav.c - any bytes as an audio file: reading, mixing down and resampling must end in samples
 * or in a clear error, never in a crash. */
#include "audiofile.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_BLOCKS = 64, BLOCK = 1920, SEEN = 4096 };

/* libsndfile itself is not instrumented: what it says about a file (format, error) stands in for
 * the coverage of its readers, so that the fuzzer keeps an input of every kind. */
#ifdef __linux__
__attribute__((section("__libfuzzer_extra_counters")))
#endif
static uint8_t seen[SEEN];

static uint32_t hash_of(const void *data, size_t n) {
    const uint8_t *bytes = data;
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < n; i++) hash = (hash ^ bytes[i]) * 16777619u;
    return hash;
}

static void mark(const char *text) {
    seen[hash_of(text, strlen(text)) % SEEN] = 1;
}

/* The libraries below lose some memory when opening a damaged Ogg file fails; our own must not. */
const char *__lsan_default_suppressions(void);

const char *__lsan_default_suppressions(void) {
    return "leak:libsndfile.so\nleak:libvorbis\nleak:libogg.so\nleak:libopus.so\n"
           "leak:libFLAC.so\nleak:libmpg123.so\n";
}

/* The reader wants a name: one file per process, rewritten for every input. */
static char name[4096];
static int fd = -1;

static void remove_file(void) {
    unlink(name);
}

static void fill_file(const uint8_t *data, size_t size) {
    if (fd < 0) {
        const char *dir = getenv("TMPDIR");
        snprintf(name, sizeof name, "%s/fuzz-wav-XXXXXX", dir ? dir : "/tmp");
        fd = mkstemp(name);
        if (fd < 0) abort();
        atexit(remove_file);
    }
    if (ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size) abort();
}

static void check_samples(const float *pcm, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!(pcm[i] > -1000.0f && pcm[i] < 1000.0f)) abort();
}

static void expect_error(const app_error *err) {
    if (!err->text[0] || err->exit_code == EXIT_OK) abort();
    /* The name is the same every time; what follows it tells inputs apart. */
    const char *after = strstr(err->text, name);
    mark(after ? after + strlen(name) : err->text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static float pcm[BLOCK];
    app_error err = {0};
    audio_in *in;
    fill_file(data, size);
    if (audio_in_open(&in, name, &err) != EXIT_OK) {
        expect_error(&err);
        return 0;
    }
    mark(audio_in_facts(in)->format);
    /* Mostly the file's own rate, since building a kernel takes long. */
    uint32_t pick = hash_of(data, size) % 64;
    int rc = EXIT_OK;
    if (pick < 2) rc = audio_in_set_rate(in, pick ? 44101 : 24000, &err);
    size_t got = 1;
    for (int i = 0; rc == EXIT_OK && got > 0 && i < MAX_BLOCKS; i++) {
        rc = audio_in_read(in, pcm, BLOCK, &got, &err);
        if (rc == EXIT_OK) check_samples(pcm, got);
    }
    if (rc != EXIT_OK) expect_error(&err);
    audio_in_close(in);
    return 0;
}
