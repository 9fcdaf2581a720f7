#include "alloc_fail.h"

#include "sanitizer.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

static atomic_long count, fail_from, fail_to;

void alloc_fail_at(long n, bool sticky) {
    atomic_store(&fail_from, 0);
    atomic_store(&count, 0);
    atomic_store(&fail_to, sticky ? INTPTR_MAX : n);
    atomic_store(&fail_from, n);
}

long alloc_count(void) {
    return atomic_load(&count);
}

/* The thread sanitizer is not up yet when the first allocations come: left alone. */
#if defined(__GLIBC__) && !defined(WITH_TSAN)

/* Neither is the address sanitizer: nothing here may be instrumented. */
#if defined(__clang__)
#define RAW __attribute__((no_sanitize("address", "undefined")))
#else
#define RAW __attribute__((no_sanitize_address, no_sanitize_undefined))
#endif

/* Is this one to fail? */
RAW static bool fails(void) {
    long n = atomic_fetch_add(&count, 1) + 1, from = atomic_load(&fail_from);
    return from > 0 && n >= from && n <= atomic_load(&fail_to);
}

/* Sanitizers replace the allocator and leave their own under these names for programs like this. */
#if defined(WITH_ASAN)
#define REAL(name) __interceptor_##name
#else
#define REAL(name) __libc_##name
#endif

void *REAL(malloc)(size_t n);
void *REAL(calloc)(size_t n, size_t size);
void *REAL(realloc)(void *p, size_t n);
#if defined(WITH_ASAN)
int __interceptor_posix_memalign(void **out, size_t alignment, size_t n);
#else
void *__libc_memalign(size_t alignment, size_t n);
#endif

RAW static void *real_aligned(size_t alignment, size_t n) {
#if defined(WITH_ASAN)
    void *p;
    return __interceptor_posix_memalign(&p, alignment, n) == 0 ? p : NULL;
#else
    return __libc_memalign(alignment, n);
#endif
}

RAW void *malloc(size_t n) {
    if (!fails()) return REAL(malloc)(n);
    errno = ENOMEM;
    return NULL;
}

RAW void *calloc(size_t n, size_t size) {
    if (!fails()) return REAL(calloc)(n, size);
    errno = ENOMEM;
    return NULL;
}

RAW void *realloc(void *p, size_t n) {
    if (!fails()) return REAL(realloc)(p, n);
    errno = ENOMEM;
    return NULL;
}

RAW void *aligned_alloc(size_t alignment, size_t n) {
    if (!fails()) return real_aligned(alignment, n);
    errno = ENOMEM;
    return NULL;
}

RAW int posix_memalign(void **out, size_t alignment, size_t n) {
    void *p = fails() ? NULL : real_aligned(alignment, n);
    if (!p) return ENOMEM;
    *out = p;
    return 0;
}

#endif

bool alloc_fail_works(void) {
    /* through a volatile pointer: a compiler may drop a malloc whose result is not used */
    void *(*volatile allocate)(size_t) = malloc;
    alloc_fail_at(1, false);
    void *p = allocate(32);
    bool works = p == NULL && alloc_count() >= 1;
    alloc_fail_at(0, false);
    free(p);
    return works;
}
