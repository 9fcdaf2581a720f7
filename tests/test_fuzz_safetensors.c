/* test_fuzz_safetensors.c - replay of the corpus of fuzz_safetensors.c. */
#include "fuzz/replay.h"

#include "fuzz/fuzz_safetensors.c"

int main(void) {
    return replay("safetensors", 100);
}
