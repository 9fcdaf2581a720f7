/* test_fuzz_config.c - replay of the corpus of fuzz_config.c. */
#include "fuzz/replay.h"

#include "fuzz/fuzz_config.c"

int main(void) {
    return replay("config", 100);
}
