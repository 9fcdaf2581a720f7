/* qkernels_avx2.c - products of quantised numbers for AVX2: bytes are multiplied unsigned by signed
 * and added by two in 16 bits with saturation, so who is unsigned and how many are added is chosen
 * such that nothing can overflow. */
#include "qkernels.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "qvec_avx2.h"

/* As -128 .. 127: see signed_dot. */
static inline wvec w_bytes(const uint8_t *p) {
    const __m256i flip = _mm256_set1_epi8(-128);
    return (wvec){_mm256_xor_si256(load32(p), flip), _mm256_xor_si256(load32(p + 32), flip)};
}
static inline __m256i pairs(__m256i sums16) {
    return _mm256_madd_epi16(sums16, _mm256_set1_epi16(1));
}
/* |w| * (x with the sign of w): 2 * 128 * 127 fits in 16 bits, unlike 2 * 255 * 127. */
static inline __m256i signed_dot(__m256i w, __m256i x) {
    return pairs(_mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w)));
}
static inline __m256i step(__m256i acc, __m256i w, __m256i x, const q_kind kind) {
    if (kind == Q_BYTES) return _mm256_add_epi32(acc, signed_dot(w, x));
    /* in 16 bits to the end: 16 products of at most 15 * 127 */
    if (kind == Q_HALVES) return _mm256_add_epi16(acc, _mm256_maddubs_epi16(w, x));
    return _mm256_add_epi32(acc, pairs(_mm256_maddubs_epi16(w, x))); /* 2 of 63 * 127 */
}
static inline avec a_step(avec acc, wvec w, xvec x, const q_kind kind) {
    return (avec){step(acc.a, w.a, x, kind), step(acc.b, w.b, x, kind)};
}
static inline ivec a_done(avec acc, int32_t sum, const int zero, const q_kind kind) {
    if (kind == Q_BYTES) return zero == 128 ? acc : i_add1(acc, (128 - zero) * sum);
    if (kind == Q_HALVES) acc = (avec){pairs(acc.a), pairs(acc.b)};
    return zero ? i_add1(acc, -zero * sum) : acc;
}

#define Q_ROWS        4
#define Q_STRIPS_1    4
#define Q_STRIPS_2    2
#define Q_STRIPS_4    1
#define Q_STRIPS_MORE 1
#include "qkernels_body.h"

static const mo_qkernels kernels = {quantise_all, linear_any};

const mo_qkernels *mo_qkernels_avx2(void) {
    return &kernels;
}

#else

const mo_qkernels *mo_qkernels_avx2(void) {
    return NULL;
}

#endif
