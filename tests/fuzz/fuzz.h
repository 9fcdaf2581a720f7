/* fuzz.h - what the fuzz targets share. */
#ifndef MO_TESTS_FUZZ_H
#define MO_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A promise that does not hold ends the process, which is what a fuzzer notices. */
__attribute__((unused)) static void need_true(int ok) {
    if (!ok) abort();
}

#endif
