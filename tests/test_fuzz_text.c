/* test_fuzz_text.c - replay of the corpus of fuzz_text.c. */
#include "fuzz/replay.h"

#include "fuzz/fuzz_text.c"

int main(void) {
    return replay("text", 40);
}
