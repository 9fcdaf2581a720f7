/* test_fuzz_gguf.c - replay of the corpus of fuzz_gguf.c. */
#include "fuzz/replay.h"

#include "fuzz/fuzz_gguf.c"

int main(void) {
    return replay("gguf", 100);
}
