/* qkernels_neon_dot.c - products of quantised numbers for 64-bit Arm with the dot product
 * instructions: sums by four of 16 products of signed bytes in one. */
#include "qkernels.h"

#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
#include "qvec_neon.h"

typedef ivec avec;

static inline avec a_zero(void) {
    int32x4_t z = vdupq_n_s32(0);
    return (avec){{z, z, z, z}};
}
static inline avec a_step(avec a, wvec w, xvec x, const q_kind kind) {
    (void)kind;
    UNROLL
    for (int i = 0; i < 4; i++) a.q[i] = vdotq_s32(a.q[i], w.q[i], x);
    return a;
}
static inline ivec a_done(avec a, int32_t sum, const int zero, const q_kind kind) {
    return less_zero(a, sum, zero, kind);
}

#define Q_ROWS        4
#define Q_STRIPS_1    4
#define Q_STRIPS_2    2
#define Q_STRIPS_4    1
#define Q_STRIPS_MORE 1
#include "qkernels_body.h"

static const mo_qkernels kernels = {quantise_all, linear_any};

const mo_qkernels *mo_qkernels_neon_dot(void) {
    return &kernels;
}

#else

const mo_qkernels *mo_qkernels_neon_dot(void) {
    return NULL;
}

#endif
