/* util.h - errors in words, checked sizes, a clock, and memory that can be made to fail. */
#ifndef MO_UTIL_H
#define MO_UTIL_H

#include "moshi.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define MO_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define MO_PRINTF(fmt, args)
#endif

/* Fill *err (may be NULL) with a formatted message and return `code`. */
int mo_fail(moshi_error *err, int code, const char *fmt, ...) MO_PRINTF(3, 4);

/* Checked arithmetic on sizes from files: false on overflow, *out untouched. */
bool mo_mul(size_t a, size_t b, size_t *out);
bool mo_add(size_t a, size_t b, size_t *out);

/* calloc(n, size): zeroed, overflow-checked, NULL on failure. Free with free(). */
void *mo_calloc(size_t n, size_t size);
/* `bytes` of zeroed memory aligned to 64. NULL on failure. Free with mo_aligned_free(). */
void *mo_aligned_calloc(size_t bytes);
void mo_aligned_free(void *p);
/* printf into a fresh string; NULL when out of memory. */
char *mo_format(const char *fmt, ...) MO_PRINTF(1, 2);

/* Shell-style match with * and ?; `globs` may hold several patterns separated by spaces. */
bool mo_glob(const char *globs, const char *name);

/* Bytes of the valid UTF-8 sequence that begins at p, at most `left`; 0 when there is none. */
size_t mo_utf8_length(const void *p, size_t left);

/* Monotonic seconds. */
double mo_now_s(void);
/* Cores the process may use: physical ones where that can be told. At least 1. */
int mo_core_count(void);

/* Exact widening of 16-bit floats, and rounding to nearest even. */
float mo_f16_to_f32(uint16_t h);
float mo_bf16_to_f32(uint16_t h);
uint16_t mo_f32_to_bf16(float f);
uint16_t mo_f32_to_f16(float f);

#endif
