/* kernels_avx512.c - the inner loops for AVX-512 F, BW, VL, DQ: one register is a vector of 16. */
#include "kernels.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#include <immintrin.h>

typedef __m512 vec;

static inline __mmask16 first_lanes(size_t n) {
    return (__mmask16)((1u << n) - 1u);
}

static inline vec v_zero(void) {
    return _mm512_setzero_ps();
}
static inline vec v_set1(float x) {
    return _mm512_set1_ps(x);
}
static inline vec v_load(const float *p) {
    return _mm512_loadu_ps(p);
}
static inline void v_store(float *p, vec x) {
    _mm512_storeu_ps(p, x);
}
static inline vec v_load_n(const float *p, size_t n) {
    return _mm512_maskz_loadu_ps(first_lanes(n), p);
}
static inline void v_store_n(float *p, vec x, size_t n) {
    _mm512_mask_storeu_ps(p, first_lanes(n), x);
}
static inline vec v_load_bf16(const uint16_t *p) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
static inline vec v_load_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
static inline vec v_load_i8(const int8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
static inline vec v_add(vec a, vec b) {
    return _mm512_add_ps(a, b);
}
static inline vec v_sub(vec a, vec b) {
    return _mm512_sub_ps(a, b);
}
static inline vec v_mul(vec a, vec b) {
    return _mm512_mul_ps(a, b);
}
static inline vec v_div(vec a, vec b) {
    return _mm512_div_ps(a, b);
}
static inline vec v_max(vec a, vec b) {
    return _mm512_max_ps(a, b);
}
static inline vec v_min(vec a, vec b) {
    return _mm512_min_ps(a, b);
}
static inline vec v_fma(vec a, vec b, vec c) {
    return _mm512_fmadd_ps(a, b, c);
}
static inline vec v_abs(vec x) {
    return _mm512_abs_ps(x);
}
static inline vec v_pow2(vec t) {
    __m512i bits = _mm512_slli_epi32(_mm512_castps_si512(t), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(bits, _mm512_set1_epi32(0x3F800000)));
}
static inline vec v_keep_ge(vec x, vec bound, vec v) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, bound, _CMP_NLT_UQ), v);
}
static inline vec v_pick_gt0(vec x, vec a, vec b) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ), b, a);
}
static inline float v_fold(vec x) {
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
static inline float v_fold_max(vec x) {
    return _mm512_reduce_max_ps(x);
}

#define TILE_STRIPS_1 8
#define TILE_STRIPS_2 8
#define TILE_STRIPS_4 4
#define TILE_STRIPS_6 4
#define VALUE_STRIPS  8
#define TILE_STRIPS_8 3
#include "kernels_body.h"

static const mo_kernels kernels = {"avx512", linear_any,  norm_any,
                                   act_any,  act_mul_any, attend_any};

const mo_kernels *mo_kernels_avx512(void) {
    return &kernels;
}

#else

const mo_kernels *mo_kernels_avx512(void) {
    return NULL;
}

#endif
