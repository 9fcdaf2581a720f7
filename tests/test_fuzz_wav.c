/* test_fuzz_wav.c - replay of the corpus of fuzz_wav.c. */
#include "fuzz/replay.h"

#include "fuzz/fuzz_wav.c"

int main(void) {
    return replay("wav", 90);
}
