/* test_fuzz_tensors.c - replay of the corpus of fuzz_tensors.c. */
#include "fuzz/replay.h"

#include "fuzz/fuzz_tensors.c"

int main(void) {
    return replay("tensors", 5);
}
