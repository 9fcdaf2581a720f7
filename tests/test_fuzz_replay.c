/* test_fuzz_replay.c - every input of the fuzz corpora through its target: what once broke a reader
 * never does so again. */
#include "check.h"

#include <dirent.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

int fuzz_safetensors(const uint8_t *data, size_t size);
int fuzz_config(const uint8_t *data, size_t size);
int fuzz_text(const uint8_t *data, size_t size);
int fuzz_wav(const uint8_t *data, size_t size);

#define LLVMFuzzerTestOneInput fuzz_safetensors
#include "fuzz/fuzz_safetensors.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_config
#include "fuzz/fuzz_config.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_text
#include "fuzz/fuzz_text.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_wav
#include "fuzz/fuzz_wav.c"
#undef LLVMFuzzerTestOneInput

/* The input being replayed, for the message when a target aborts. */
static char current[1024];

static void on_abort(int sig) {
    static const char text[] = "aborted on ";
    ssize_t done = write(STDERR_FILENO, text, sizeof text - 1);
    done = write(STDERR_FILENO, current, strlen(current));
    done = write(STDERR_FILENO, "\n", 1);
    (void)done;
    signal(sig, SIG_DFL);
    raise(sig);
}

/* Exactly as many bytes as the file has, in a block of their own. */
static uint8_t *read_input(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    uint8_t *bytes = malloc(*size ? *size : 1);
    if (bytes && fread(bytes, 1, *size, f) != *size) {
        free(bytes);
        bytes = NULL;
    }
    fclose(f);
    return bytes;
}

static void replay(const char *target, int (*run)(const uint8_t *, size_t), int at_least) {
    char dir[256];
    snprintf(dir, sizeof dir, "tests/fuzz/corpus/%s", target);
    DIR *d = opendir(dir);
    if (!CHECK(d != NULL, "%s can be read", dir)) return;
    int n = 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        size_t size = 0;
        if (e->d_name[0] == '.') continue;
        snprintf(current, sizeof current, "%s/%s", dir, e->d_name);
        uint8_t *bytes = read_input(current, &size);
        if (!CHECK(bytes != NULL, "%s can be read", current)) continue;
        CHECK(run(bytes, size) == 0, "%s", current);
        free(bytes);
        n++;
    }
    closedir(d);
    CHECK(n >= at_least, "%s: %d inputs, wanted at least %d", dir, n, at_least);
}

int main(void) {
    signal(SIGABRT, on_abort);
    replay("safetensors", fuzz_safetensors, 28);
    replay("config", fuzz_config, 20);
    replay("text", fuzz_text, 16);
    replay("wav", fuzz_wav, 8);
    return check_done("test_fuzz_replay");
}
