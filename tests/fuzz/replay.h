/* replay.h - every input of a fuzz corpus through its target: what once broke a reader never does
 * so again. Include it before the target's source. */
#ifndef MO_TESTS_REPLAY_H
#define MO_TESTS_REPLAY_H

#include "check.h"

#include <dirent.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The input being replayed, for the message when a target aborts. */
static char current_input[1024];

static void on_abort(int sig) {
    static const char text[] = "aborted on ";
    ssize_t done = write(STDERR_FILENO, text, sizeof text - 1);
    done = write(STDERR_FILENO, current_input, strlen(current_input));
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

/* main() of a replay: at least as many inputs must be there. */
static int replay(const char *target, int at_least) {
    char dir[256];
    snprintf(dir, sizeof dir, "tests/fuzz/corpus/%s", target);
    DIR *d = opendir(dir);
    signal(SIGABRT, on_abort);
    if (!CHECK(d != NULL, "%s can be read", dir)) return check_done(target);
    int n = 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        size_t size = 0;
        if (e->d_name[0] == '.') continue;
        snprintf(current_input, sizeof current_input, "%s/%s", dir, e->d_name);
        uint8_t *bytes = read_input(current_input, &size);
        if (!CHECK(bytes != NULL, "%s can be read", current_input)) continue;
        CHECK(LLVMFuzzerTestOneInput(bytes, size) == 0, "%s", current_input);
        free(bytes);
        n++;
    }
    closedir(d);
    CHECK(n >= at_least, "%s: %d inputs, wanted at least %d", dir, n, at_least);
    char title[64];
    snprintf(title, sizeof title, "test_fuzz_%s", target);
    return check_done(title);
}

#endif
