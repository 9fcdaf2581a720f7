/* util.h - errors in words, checked sizes, a clock, and memory that can be made to fail. */
#ifndef MO_UTIL_H
#define MO_UTIL_H

#include "moshi.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

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
/* The same, aligned to `align`, a power of two of at least 8. */
void *mo_aligned_calloc_to(size_t bytes, size_t align);
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

/* Exact widening of 16-bit floats, and rounding to nearest even. Without branches, so that loops of
 * them become vectors. */
static inline float mo_bits_to_f32(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint32_t mo_f32_to_bits(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static inline float mo_bf16_to_f32(uint16_t h) {
    return mo_bits_to_f32((uint32_t)h << 16);
}

static inline uint16_t mo_f32_to_bf16(float f) {
    uint32_t u = mo_f32_to_bits(f);
    uint32_t rounded = (u + 0x7FFFu + ((u >> 16) & 1u)) >> 16;
    /* A NaN whose payload sits in the low half would become infinite: keep it quiet instead. */
    uint32_t quiet = u >> 16 | 0x0040u;
    return (uint16_t)((u & 0x7FFFFFFFu) > 0x7F800000u ? quiet : rounded);
}

static inline float mo_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = (h >> 10) & 0x1Fu,
             mantissa = h & 0x3FFu;
    uint32_t tiny = mo_f32_to_bits((float)(int32_t)mantissa * 0x1p-24f); /* zero, subnormals */
    uint32_t normal = (exponent + 112) << 23 | mantissa << 13;
    /* Masks, because compilers make branches of choices here. */
    uint32_t is_tiny = 0u - (exponent == 0), is_special = 0u - (exponent == 0x1F);
    normal += is_special & 112u << 23; /* the exponent of infinity and NaN is all ones */
    uint32_t magnitude = (tiny & is_tiny) | (normal & ~is_tiny);
    return mo_bits_to_f32(sign | magnitude);
}

static inline uint16_t mo_f32_to_f16(float f) {
    uint32_t u = mo_f32_to_bits(f), sign = (u >> 16) & 0x8000u, magnitude = u & 0x7FFFFFFFu;
    uint32_t normal = (magnitude - 0x38000000u + 0xFFFu + ((magnitude >> 13) & 1u)) >> 13;
    /* Below 2^-14: adding 1/2 leaves multiples of 2^-24, rounded to even, in the low bits. */
    uint32_t tiny = mo_f32_to_bits(mo_bits_to_f32(magnitude) + 0.5f) - 0x3F000000u;
    uint32_t half = magnitude < 0x38800000u ? tiny : normal;
    half = magnitude >= 0x477FF000u ? 0x7C00u : half; /* rounds to >= 65520 */
    half = magnitude > 0x7F800000u ? 0x7E00u : half;  /* NaN */
    return (uint16_t)(sign | half);
}

#endif
