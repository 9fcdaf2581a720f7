/* qkernels_avx2_vnni.c - products of quantised numbers for AVX2 with its own VNNI, on processors
 * that have no AVX-512. */
#include "qkernels.h"

#if defined(__AVXVNNI__) && defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "qvec_avx2.h"

static inline wvec w_bytes(const uint8_t *p) {
    return (wvec){load32(p), load32(p + 32)};
}
static inline avec a_step(avec acc, wvec w, xvec x, const q_kind kind) {
    (void)kind;
    return (avec){_mm256_dpbusd_avx_epi32(acc.a, w.a, x), _mm256_dpbusd_avx_epi32(acc.b, w.b, x)};
}
static inline ivec a_done(avec acc, int32_t sum, const int zero, const q_kind kind) {
    (void)kind;
    return zero ? i_add1(acc, -zero * sum) : acc;
}

#define Q_ROWS        4
#define Q_STRIPS_1    4
#define Q_STRIPS_2    2
#define Q_STRIPS_4    1
#define Q_STRIPS_MORE 1
#include "qkernels_body.h"

static const mo_qkernels kernels = {quantise_all, linear_any};

const mo_qkernels *mo_qkernels_avx2_vnni(void) {
    return &kernels;
}

#else

const mo_qkernels *mo_qkernels_avx2_vnni(void) {
    return NULL;
}

#endif
