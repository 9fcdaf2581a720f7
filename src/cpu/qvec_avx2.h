/* qvec_avx2.h - vectors of 16 as two registers of 8, for the AVX2 files of quantised products: each
 * defines only how bytes are multiplied before it includes the body. */
#ifndef MO_CPU_QVEC_AVX2_H
#define MO_CPU_QVEC_AVX2_H

#include "qcommon.h"

#include <immintrin.h>

typedef struct fvec {
    __m256 a, b; /* rows 0-7, 8-15 */
} fvec;
typedef struct ivec {
    __m256i a, b;
} ivec;

static inline fvec f_zero(void) {
    return (fvec){_mm256_setzero_ps(), _mm256_setzero_ps()};
}
static inline fvec f_set1(float x) {
    return (fvec){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
static inline fvec f_mul(fvec x, fvec y) {
    return (fvec){_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
}
static inline fvec f_fma(fvec x, fvec y, fvec z) {
    return (fvec){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
static inline void f_store(float *p, fvec x) {
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}
static inline fvec f_load(const uint8_t *p) {
    const float *f = (const float *)(const void *)p;
    return (fvec){_mm256_loadu_ps(f), _mm256_loadu_ps(f + 8)};
}
static inline __m128i load16(const uint8_t *p) {
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}
static inline fvec f_load_f16(const uint8_t *p) {
    return (fvec){_mm256_cvtph_ps(load16(p)), _mm256_cvtph_ps(load16(p + 16))};
}
static inline __m256 widen_bf16(const uint8_t *p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load16(p)), 16));
}
static inline fvec f_load_bf16(const uint8_t *p) {
    return (fvec){widen_bf16(p), widen_bf16(p + 16)};
}
static inline fvec f_load_u8(const uint8_t *p) {
    __m128i x = load16(p), upper = _mm_unpackhi_epi64(x, x);
    return (fvec){_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(x)),
                  _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(upper))};
}
static inline fvec f_load_i8(const uint8_t *p) {
    __m128i x = load16(p), upper = _mm_unpackhi_epi64(x, x);
    return (fvec){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x)),
                  _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(upper))};
}
static inline fvec f_from_i(ivec x) {
    return (fvec){_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)};
}
static inline __m256i load32(const uint8_t *p) {
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

typedef ivec wvec, avec;
typedef __m256i xvec;

static inline __m256i low_halves(__m256i x) {
    return _mm256_and_si256(x, _mm256_set1_epi8(15));
}
static inline wvec w_low(const uint8_t *p) {
    return (wvec){low_halves(load32(p)), low_halves(load32(p + 32))};
}
static inline wvec w_high(const uint8_t *p) {
    return (wvec){low_halves(_mm256_srli_epi16(load32(p), 4)),
                  low_halves(_mm256_srli_epi16(load32(p + 32), 4))};
}
static inline __m256i upper_bits(const uint8_t *p, const int j) {
    __m256i x = load32(p);
    x = j < 2 ? _mm256_slli_epi16(x, 4 - 2 * j) : _mm256_srli_epi16(x, 2 * j - 4);
    return _mm256_and_si256(x, _mm256_set1_epi8(0x30));
}
static inline wvec w_sixes(wvec halves, const uint8_t *p, const int j) {
    return (wvec){_mm256_or_si256(halves.a, upper_bits(p, j)),
                  _mm256_or_si256(halves.b, upper_bits(p + 32, j))};
}
static inline xvec x_four(const int8_t *q) {
    int32_t x;
    memcpy(&x, q, sizeof x);
    return _mm256_set1_epi32(x);
}
static inline avec a_zero(void) {
    return (avec){_mm256_setzero_si256(), _mm256_setzero_si256()};
}
static inline ivec i_add1(ivec x, int32_t n) {
    const __m256i y = _mm256_set1_epi32(n);
    return (ivec){_mm256_add_epi32(x.a, y), _mm256_add_epi32(x.b, y)};
}

#endif
