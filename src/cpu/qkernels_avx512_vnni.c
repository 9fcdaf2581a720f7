/* qkernels_avx512_vnni.c - products of quantised numbers for AVX-512 with VNNI: 64 products of
 * bytes and their sums by four in one instruction, unsigned weights times signed activations. */
#include "qkernels.h"

#if defined(__AVX512VNNI__) && defined(__AVX512F__) && defined(__AVX512BW__) && \
    defined(__AVX512VL__) && defined(__AVX512DQ__)
#include "qcommon.h"

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

typedef __m512i wvec, xvec, avec;

static inline wvec w_bytes(const uint8_t *p) {
    return _mm512_loadu_si512(p);
}
static inline wvec w_low(const uint8_t *p) {
    return _mm512_and_si512(w_bytes(p), _mm512_set1_epi8(15));
}
static inline wvec w_high(const uint8_t *p) {
    return _mm512_and_si512(_mm512_srli_epi16(w_bytes(p), 4), _mm512_set1_epi8(15));
}
static inline wvec w_sixes(wvec halves, const uint8_t *p, const int j) {
    __m512i x = w_bytes(p);
    x = j < 2 ? _mm512_slli_epi16(x, (unsigned)(4 - 2 * j))
              : _mm512_srli_epi16(x, (unsigned)(2 * j - 4));
    return _mm512_or_si512(halves, _mm512_and_si512(x, _mm512_set1_epi8(0x30)));
}
static inline xvec x_four(const int8_t *q) {
    int32_t x;
    memcpy(&x, q, sizeof x);
    return _mm512_set1_epi32(x);
}
static inline avec a_zero(void) {
    return _mm512_setzero_si512();
}
static inline avec a_step(avec acc, wvec w, xvec x, const q_kind kind) {
    (void)kind;
    return _mm512_dpbusd_epi32(acc, w, x);
}
static inline ivec a_done(avec acc, int32_t sum, const int zero, const q_kind kind) {
    (void)kind;
    return zero ? _mm512_sub_epi32(acc, _mm512_set1_epi32(zero * sum)) : acc;
}

#define Q_ROWS        8
#define Q_STRIPS_1    4
#define Q_STRIPS_2    4
#define Q_STRIPS_4    4
#define Q_STRIPS_MORE 2
#include "qkernels_body.h"

static const mo_qkernels kernels = {quantise_rows, linear_any};

const mo_qkernels *mo_qkernels_avx512_vnni(void) {
    return &kernels;
}

#else

const mo_qkernels *mo_qkernels_avx512_vnni(void) {
    return NULL;
}

#endif
