/* qkernels_neon.c - products of quantised numbers for any 64-bit Arm processor. */
#include "qkernels.h"

#if defined(__aarch64__) && defined(__ARM_NEON)
#include "qvec_neon.h"

/* Two sums per row, side by side: of q 0 and 1, of q 2 and 3. */
typedef struct avec {
    int32x4_t q[8];
} avec;

static inline avec a_zero(void) {
    int32x4_t z = vdupq_n_s32(0);
    return (avec){{z, z, z, z, z, z, z, z}};
}
static inline avec a_step(avec a, wvec w, xvec x, const q_kind kind) {
    (void)kind;
    UNROLL
    for (int i = 0; i < 4; i++) {
        a.q[2 * i] = vpadalq_s16(a.q[2 * i], vmull_s8(vget_low_s8(w.q[i]), vget_low_s8(x)));
        a.q[2 * i + 1] = vpadalq_s16(a.q[2 * i + 1], vmull_high_s8(w.q[i], x));
    }
    return a;
}
static inline ivec a_done(avec a, int32_t sum, const int zero, const q_kind kind) {
    ivec x = {{vpaddq_s32(a.q[0], a.q[1]), vpaddq_s32(a.q[2], a.q[3]), vpaddq_s32(a.q[4], a.q[5]),
               vpaddq_s32(a.q[6], a.q[7])}};
    return less_zero(x, sum, zero, kind);
}

#define Q_ROWS        4
#define Q_STRIPS_1    2
#define Q_STRIPS_2    1
#define Q_STRIPS_4    1
#define Q_STRIPS_MORE 1
#include "qkernels_body.h"

static const mo_qkernels kernels = {quantise_all, linear_any};

const mo_qkernels *mo_qkernels_neon(void) {
    return &kernels;
}

#else

const mo_qkernels *mo_qkernels_neon(void) {
    return NULL;
}

#endif
