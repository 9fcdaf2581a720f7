/* kernels_neon.c - the inner loops for 64-bit Arm: four registers are a vector of 16. */
#include "kernels.h"

#if defined(__aarch64__) && defined(__ARM_NEON)
#include <arm_neon.h>
#include <string.h>

typedef struct vec {
    float32x4_t q[4]; /* lanes 0-3, 4-7, 8-11, 12-15 */
} vec;

/* f applied to each of the four registers. */
#define EACH1(f, x) ((vec){{f((x).q[0]), f((x).q[1]), f((x).q[2]), f((x).q[3])}})
#define EACH2(f, x, y)                                                           \
    ((vec){{f((x).q[0], (y).q[0]), f((x).q[1], (y).q[1]), f((x).q[2], (y).q[2]), \
            f((x).q[3], (y).q[3])}})
#define EACH3(f, x, y, z)                                                     \
    ((vec){{f((x).q[0], (y).q[0], (z).q[0]), f((x).q[1], (y).q[1], (z).q[1]), \
            f((x).q[2], (y).q[2], (z).q[2]), f((x).q[3], (y).q[3], (z).q[3])}})

static inline vec v_set1(float x) {
    float32x4_t q = vdupq_n_f32(x);
    return (vec){{q, q, q, q}};
}
static inline vec v_zero(void) {
    return v_set1(0.0f);
}
static inline vec v_load(const float *p) {
    return (vec){{vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}};
}
static inline void v_store(float *p, vec x) {
    vst1q_f32(p, x.q[0]);
    vst1q_f32(p + 4, x.q[1]);
    vst1q_f32(p + 8, x.q[2]);
    vst1q_f32(p + 12, x.q[3]);
}
static inline vec v_load_n(const float *p, size_t n) {
    if (n == 16) return v_load(p);
    float lanes[16] = {0};
    memcpy(lanes, p, n * sizeof *p);
    return v_load(lanes);
}
static inline void v_store_n(float *p, vec x, size_t n) {
    if (n == 16) {
        v_store(p, x);
        return;
    }
    float lanes[16];
    v_store(lanes, x);
    memcpy(p, lanes, n * sizeof *p);
}
static inline float32x4_t widen_bf16(uint16x4_t x) {
    return vreinterpretq_f32_u32(vshll_n_u16(x, 16));
}
static inline vec v_load_bf16(const uint16_t *p) {
    uint16x8_t a = vld1q_u16(p), b = vld1q_u16(p + 8);
    return (vec){{widen_bf16(vget_low_u16(a)), widen_bf16(vget_high_u16(a)),
                  widen_bf16(vget_low_u16(b)), widen_bf16(vget_high_u16(b))}};
}
static inline float32x4_t widen_f16(uint16x4_t x) {
    return vcvt_f32_f16(vreinterpret_f16_u16(x));
}
static inline vec v_load_f16(const uint16_t *p) {
    uint16x8_t a = vld1q_u16(p), b = vld1q_u16(p + 8);
    return (vec){{widen_f16(vget_low_u16(a)), widen_f16(vget_high_u16(a)),
                  widen_f16(vget_low_u16(b)), widen_f16(vget_high_u16(b))}};
}
static inline float32x4_t widen_i16(int16x4_t x) {
    return vcvtq_f32_s32(vmovl_s16(x));
}
static inline vec v_load_i8(const int8_t *p) {
    int8x16_t x = vld1q_s8(p);
    int16x8_t a = vmovl_s8(vget_low_s8(x)), b = vmovl_s8(vget_high_s8(x));
    return (vec){{widen_i16(vget_low_s16(a)), widen_i16(vget_high_s16(a)),
                  widen_i16(vget_low_s16(b)), widen_i16(vget_high_s16(b))}};
}
static inline vec v_add(vec x, vec y) {
    return EACH2(vaddq_f32, x, y);
}
static inline vec v_sub(vec x, vec y) {
    return EACH2(vsubq_f32, x, y);
}
static inline vec v_mul(vec x, vec y) {
    return EACH2(vmulq_f32, x, y);
}
static inline vec v_div(vec x, vec y) {
    return EACH2(vdivq_f32, x, y);
}
static inline vec v_max(vec x, vec y) {
    return EACH2(vmaxq_f32, x, y);
}
static inline vec v_min(vec x, vec y) {
    return EACH2(vminq_f32, x, y);
}
static inline vec v_fma(vec x, vec y, vec z) {
    return EACH3(vfmaq_f32, z, x, y);
}
static inline vec v_abs(vec x) {
    return EACH1(vabsq_f32, x);
}
static inline float32x4_t pow2(float32x4_t t) {
    uint32x4_t bits = vshlq_n_u32(vreinterpretq_u32_f32(t), 23);
    return vreinterpretq_f32_u32(vaddq_u32(bits, vdupq_n_u32(0x3F800000)));
}
static inline vec v_pow2(vec t) {
    return EACH1(pow2, t);
}
static inline float32x4_t keep_ge(float32x4_t x, float32x4_t bound, float32x4_t v) {
    uint32x4_t below = vcltq_f32(x, bound);
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(v), below));
}
static inline vec v_keep_ge(vec x, vec bound, vec v) {
    return EACH3(keep_ge, x, bound, v);
}
static inline float32x4_t pick_gt0(float32x4_t x, float32x4_t a, float32x4_t b) {
    return vbslq_f32(vcgtzq_f32(x), a, b);
}
static inline vec v_pick_gt0(vec x, vec a, vec b) {
    return EACH3(pick_gt0, x, a, b);
}
static inline float v_fold(vec x) {
    float32x4_t a = vaddq_f32(vaddq_f32(x.q[0], x.q[2]), vaddq_f32(x.q[1], x.q[3]));
    float32x2_t b = vadd_f32(vget_low_f32(a), vget_high_f32(a));
    return vget_lane_f32(b, 0) + vget_lane_f32(b, 1);
}
static inline float v_fold_max(vec x) {
    return vmaxvq_f32(vmaxq_f32(vmaxq_f32(x.q[0], x.q[1]), vmaxq_f32(x.q[2], x.q[3])));
}

#define TILE_STRIPS_1       4
#define TILE_STRIPS_1_SHORT 4
#define TILE_STRIPS_2       2
#define TILE_STRIPS_4       1
#define TILE_STRIPS_6       1
#define VALUE_STRIPS        4
#include "kernels_body.h"

static const mo_kernels kernels = {"neon",      linear_any, norm_any, act_any,
                                   act_mul_any, attend_any, NULL,     shortlist_any};

const mo_kernels *mo_kernels_neon(void) {
    return &kernels;
}

#else

const mo_kernels *mo_kernels_neon(void) {
    return NULL;
}

#endif
