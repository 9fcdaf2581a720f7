/* qvec_avx512.h - what products of quantised numbers with AVX-512 share: 16 floats, 16 whole
 * numbers, 64 bytes. Compare qkernels_body.h. */
#ifndef MO_CPU_QVEC_AVX512_H
#define MO_CPU_QVEC_AVX512_H

#include <immintrin.h>

typedef __m512 fvec;
typedef __m512i ivec;

static inline fvec f_zero(void) {
    return _mm512_setzero_ps();
}
static inline fvec f_set1(float x) {
    return _mm512_set1_ps(x);
}
static inline fvec f_mul(fvec a, fvec b) {
    return _mm512_mul_ps(a, b);
}
static inline fvec f_fma(fvec a, fvec b, fvec c) {
    return _mm512_fmadd_ps(a, b, c);
}
static inline void f_store(float *p, fvec x) {
    _mm512_storeu_ps(p, x);
}
static inline fvec f_load(const uint8_t *p) {
    return _mm512_loadu_ps(p);
}
static inline fvec f_load_f16(const uint8_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
static inline fvec f_load_bf16(const uint8_t *p) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
static inline fvec f_load_u8(const uint8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
static inline fvec f_load_i8(const uint8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
static inline fvec f_from_i(ivec x) {
    return _mm512_cvtepi32_ps(x);
}

typedef __m512i wvec;

static inline wvec w_bytes(const uint8_t *p) {
    return _mm512_loadu_si512(p);
}
static inline wvec w_low(const uint8_t *p) {
    return _mm512_and_si512(w_bytes(p), _mm512_set1_epi8(15));
}
static inline wvec w_high(const uint8_t *p) {
    return _mm512_and_si512(_mm512_srli_epi16(w_bytes(p), 4), _mm512_set1_epi8(15));
}

/* Two bits of each of other 64 bytes on top of half bytes. */
static inline wvec w_sixes(wvec halves, const uint8_t *p, const int j) {
    __m512i x = w_bytes(p);
    x = j < 2 ? _mm512_slli_epi16(x, (unsigned)(4 - 2 * j))
              : _mm512_srli_epi16(x, (unsigned)(2 * j - 4));
    return _mm512_or_si512(halves, _mm512_and_si512(x, _mm512_set1_epi8(0x30)));
}

#endif
