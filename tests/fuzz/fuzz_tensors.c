/* fuzz_tensors.c - any bytes as one of the program's token files. */
#include "tensors.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The reader wants a name: one file per process, rewritten for every input. */
static char name[4096];
static int fd = -1;

static void remove_file(void) {
    unlink(name);
}

static void fill_file(const uint8_t *data, size_t size) {
    if (fd < 0) {
        const char *dir = getenv("TMPDIR");
        snprintf(name, sizeof name, "%s/fuzz-tensors-XXXXXX", dir ? dir : "/tmp");
        fd = mkstemp(name);
        if (fd < 0) abort();
        atexit(remove_file);
    }
    if (ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const arrays[] = {"codes", "user_codes", "text_token", "audio_tokens"};
    app_error err = {0};
    tensors_in *in;
    fill_file(data, size);
    if (tensors_in_open(&in, name, &err) != EXIT_OK) {
        if (!err.text[0]) abort();
        return 0;
    }
    for (int i = 0; i < 4; i++)
        for (int ndim = 1; ndim <= 2; ndim++) {
            int64_t shape[] = {i == 1 ? 8 : -1, -1};
            int32_t *values;
            if (tensors_in_read_i32(in, arrays[i], ndim, shape, &values, &err) != EXIT_OK) continue;
            /* Every element must be there to be read. */
            int64_t n = ndim == 1 ? shape[0] : shape[0] * shape[1], sum = 0;
            if ((uint64_t)n * 4 > size) abort();
            for (int64_t k = 0; k < n; k++) sum += values[k];
            if (sum == INT64_MIN) abort();
            free(values);
        }
    tensors_in_close(in);
    return 0;
}
