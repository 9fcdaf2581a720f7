/* qkernels_avx512_vnni.c - products of quantised numbers for AVX-512 with VNNI: 64 products of
 * bytes and their sums by four in one instruction, unsigned weights times signed activations. */
#include "qkernels.h"

#if defined(__AVX512VNNI__) && defined(__AVX512F__) && defined(__AVX512BW__) && \
    defined(__AVX512VL__) && defined(__AVX512DQ__)
#include "qcommon.h"
#include "qvec_avx512.h"

typedef __m512i xvec, avec;

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

static const mo_qkernels kernels = {quantise_all, linear_any};

const mo_qkernels *mo_qkernels_avx512_vnni(void) {
    return &kernels;
}

#else

const mo_qkernels *mo_qkernels_avx512_vnni(void) {
    return NULL;
}

#endif
