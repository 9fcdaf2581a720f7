/* kernels_avx2.c - the inner loops for AVX2 with FMA and F16C: two registers are a vector of 16. */
#include "kernels.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <immintrin.h>

typedef struct vec {
    __m256 a, b; /* lanes 0-7, 8-15 */
} vec;

/* For masked loads and stores of the first n lanes: start reading at 8 - n (low), 16 - n (high). */
static const int32_t lane_masks[32] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
                                       -1, -1, -1, -1, -1, 0,  0,  0,  0,  0,  0,
                                       0,  0,  0,  0,  0,  0,  0,  0,  0,  0};

static inline __m256i mask_low(size_t n) {
    return _mm256_loadu_si256((const __m256i *)(lane_masks + 16 - n));
}
static inline __m256i mask_high(size_t n) {
    return _mm256_loadu_si256((const __m256i *)(lane_masks + 24 - n));
}

static inline vec v_zero(void) {
    return (vec){_mm256_setzero_ps(), _mm256_setzero_ps()};
}
static inline vec v_set1(float x) {
    return (vec){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
static inline vec v_load(const float *p) {
    return (vec){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
static inline void v_store(float *p, vec x) {
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}
static inline vec v_load_n(const float *p, size_t n) {
    if (n <= 8) return (vec){_mm256_maskload_ps(p, mask_low(n)), _mm256_setzero_ps()};
    return (vec){_mm256_loadu_ps(p), _mm256_maskload_ps(p + 8, mask_high(n))};
}
static inline void v_store_n(float *p, vec x, size_t n) {
    if (n <= 8) {
        _mm256_maskstore_ps(p, mask_low(n), x.a);
    } else {
        _mm256_storeu_ps(p, x.a);
        _mm256_maskstore_ps(p + 8, mask_high(n), x.b);
    }
}
static inline __m256 widen_bf16(const uint16_t *p) {
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
static inline vec v_load_bf16(const uint16_t *p) {
    return (vec){widen_bf16(p), widen_bf16(p + 8)};
}
static inline vec v_load_f16(const uint16_t *p) {
    return (vec){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                 _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8)))};
}
static inline __m256 widen_i8(const int8_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
static inline vec v_load_i8(const int8_t *p) {
    return (vec){widen_i8(p), widen_i8(p + 8)};
}
static inline vec v_add(vec x, vec y) {
    return (vec){_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)};
}
static inline vec v_sub(vec x, vec y) {
    return (vec){_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)};
}
static inline vec v_mul(vec x, vec y) {
    return (vec){_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
}
static inline vec v_div(vec x, vec y) {
    return (vec){_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)};
}
static inline vec v_max(vec x, vec y) {
    return (vec){_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)};
}
static inline vec v_min(vec x, vec y) {
    return (vec){_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)};
}
static inline vec v_fma(vec x, vec y, vec z) {
    return (vec){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
static inline vec v_abs(vec x) {
    __m256 sign = _mm256_set1_ps(-0.0f);
    return (vec){_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}
static inline __m256 pow2(__m256 t) {
    __m256i bits = _mm256_slli_epi32(_mm256_castps_si256(t), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(bits, _mm256_set1_epi32(0x3F800000)));
}
static inline vec v_pow2(vec t) {
    return (vec){pow2(t.a), pow2(t.b)};
}
static inline vec v_keep_ge(vec x, vec bound, vec v) {
    return (vec){_mm256_and_ps(_mm256_cmp_ps(x.a, bound.a, _CMP_NLT_UQ), v.a),
                 _mm256_and_ps(_mm256_cmp_ps(x.b, bound.b, _CMP_NLT_UQ), v.b)};
}
static inline vec v_pick_gt0(vec x, vec a, vec b) {
    __m256 zero = _mm256_setzero_ps();
    return (vec){_mm256_blendv_ps(b.a, a.a, _mm256_cmp_ps(x.a, zero, _CMP_GT_OQ)),
                 _mm256_blendv_ps(b.b, a.b, _mm256_cmp_ps(x.b, zero, _CMP_GT_OQ))};
}
static inline float v_fold(vec x) {
    __m256 a = _mm256_add_ps(x.a, x.b);
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
static inline float v_fold_max(vec x) {
    __m256 a = _mm256_max_ps(x.a, x.b);
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}

#define TILE_STRIPS_1       4
#define TILE_STRIPS_1_SHORT 2
#define TILE_STRIPS_2       2
#define TILE_STRIPS_4       1
#define TILE_STRIPS_6       1
#define VALUE_STRIPS        4
#include "kernels_body.h"

static const mo_kernels kernels = {"avx2",      linear_any, norm_any, act_any,
                                   act_mul_any, attend_any, NULL,     shortlist_any};

const mo_kernels *mo_kernels_avx2(void) {
    return &kernels;
}

#else

const mo_kernels *mo_kernels_avx2(void) {
    return NULL;
}

#endif
