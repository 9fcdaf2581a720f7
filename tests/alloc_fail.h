/* alloc_fail.h - making malloc fail on purpose, and counting what it is asked for.
 *
 * The test programs define malloc and its relatives themselves and pass on to the C library's (or
 * the sanitizer's). Where that is not possible alloc_fail_works() says no and tests skip. */
#ifndef MO_TESTS_ALLOC_FAIL_H
#define MO_TESTS_ALLOC_FAIL_H

#include <stdbool.h>

bool alloc_fail_works(void);
/* Let the n-th allocation from now on (1: the next one) fail, and all after it when `sticky`.
 * 0: none. */
void alloc_fail_at(long n, bool sticky);
/* Allocations since the last alloc_fail_at(), on any thread, failed ones included. */
long alloc_count(void);

#endif
