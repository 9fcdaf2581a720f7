/* qvec_neon.h - vectors of 16 as four registers of 4, for the NEON files of quantised products:
 * each defines only how bytes are multiplied, before it includes the body. */
#ifndef MO_CPU_QVEC_NEON_H
#define MO_CPU_QVEC_NEON_H

#include "qcommon.h"

#include <arm_neon.h>

typedef struct fvec {
    float32x4_t q[4]; /* rows 0-3, 4-7, 8-11, 12-15 */
} fvec;
typedef struct ivec {
    int32x4_t q[4];
} ivec;

static inline fvec f_set1(float x) {
    float32x4_t q = vdupq_n_f32(x);
    return (fvec){{q, q, q, q}};
}
static inline fvec f_zero(void) {
    return f_set1(0.0f);
}
static inline fvec f_mul(fvec x, fvec y) {
    return (fvec){{vmulq_f32(x.q[0], y.q[0]), vmulq_f32(x.q[1], y.q[1]), vmulq_f32(x.q[2], y.q[2]),
                   vmulq_f32(x.q[3], y.q[3])}};
}
static inline fvec f_fma(fvec x, fvec y, fvec z) {
    return (fvec){{vfmaq_f32(z.q[0], x.q[0], y.q[0]), vfmaq_f32(z.q[1], x.q[1], y.q[1]),
                   vfmaq_f32(z.q[2], x.q[2], y.q[2]), vfmaq_f32(z.q[3], x.q[3], y.q[3])}};
}
static inline void f_store(float *p, fvec x) {
    UNROLL
    for (int i = 0; i < 4; i++) vst1q_f32(p + 4 * i, x.q[i]);
}
static inline float32x4_t load_f32(const uint8_t *p) {
    return vreinterpretq_f32_u8(vld1q_u8(p));
}
static inline fvec f_load(const uint8_t *p) {
    return (fvec){{load_f32(p), load_f32(p + 16), load_f32(p + 32), load_f32(p + 48)}};
}
static inline float32x4_t load_f16(const uint8_t *p) {
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}
static inline fvec f_load_f16(const uint8_t *p) {
    return (fvec){{load_f16(p), load_f16(p + 8), load_f16(p + 16), load_f16(p + 24)}};
}
static inline float32x4_t load_bf16(const uint8_t *p) {
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
}
static inline fvec f_load_bf16(const uint8_t *p) {
    return (fvec){{load_bf16(p), load_bf16(p + 8), load_bf16(p + 16), load_bf16(p + 24)}};
}
static inline fvec f_load_u8(const uint8_t *p) {
    uint8x16_t x = vld1q_u8(p);
    uint16x8_t a = vmovl_u8(vget_low_u8(x)), b = vmovl_u8(vget_high_u8(x));
    return (fvec){
        {vcvtq_f32_u32(vmovl_u16(vget_low_u16(a))), vcvtq_f32_u32(vmovl_u16(vget_high_u16(a))),
         vcvtq_f32_u32(vmovl_u16(vget_low_u16(b))), vcvtq_f32_u32(vmovl_u16(vget_high_u16(b)))}};
}
static inline fvec f_load_i8(const uint8_t *p) {
    int8x16_t x = vreinterpretq_s8_u8(vld1q_u8(p));
    int16x8_t a = vmovl_s8(vget_low_s8(x)), b = vmovl_s8(vget_high_s8(x));
    return (fvec){
        {vcvtq_f32_s32(vmovl_s16(vget_low_s16(a))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(a))),
         vcvtq_f32_s32(vmovl_s16(vget_low_s16(b))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(b)))}};
}
static inline fvec f_from_i(ivec x) {
    return (fvec){{vcvtq_f32_s32(x.q[0]), vcvtq_f32_s32(x.q[1]), vcvtq_f32_s32(x.q[2]),
                   vcvtq_f32_s32(x.q[3])}};
}
typedef struct wvec {
    int8x16_t q[4];
} wvec;
typedef int8x16_t xvec;

/* Bytes 0 .. 255 as -128 .. 127. */
static inline int8x16_t less_128(const uint8_t *p) {
    return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(p), vdupq_n_u8(128)));
}
static inline wvec w_bytes(const uint8_t *p) {
    return (wvec){{less_128(p), less_128(p + 16), less_128(p + 32), less_128(p + 48)}};
}
static inline int8x16_t low_halves(const uint8_t *p) {
    return vreinterpretq_s8_u8(vandq_u8(vld1q_u8(p), vdupq_n_u8(15)));
}
static inline int8x16_t high_halves(const uint8_t *p) {
    return vreinterpretq_s8_u8(vshrq_n_u8(vld1q_u8(p), 4));
}
static inline wvec w_low(const uint8_t *p) {
    return (wvec){{low_halves(p), low_halves(p + 16), low_halves(p + 32), low_halves(p + 48)}};
}
static inline wvec w_high(const uint8_t *p) {
    return (wvec){{high_halves(p), high_halves(p + 16), high_halves(p + 32), high_halves(p + 48)}};
}
static inline int8x16_t upper_bits(const uint8_t *p, const int j) {
    uint8x16_t x = vshlq_u8(vld1q_u8(p), vdupq_n_s8((int8_t)(4 - 2 * j)));
    return vreinterpretq_s8_u8(vandq_u8(x, vdupq_n_u8(0x30)));
}
static inline wvec w_sixes(wvec halves, const uint8_t *p, const int j) {
    UNROLL
    for (int i = 0; i < 4; i++) halves.q[i] = vorrq_s8(halves.q[i], upper_bits(p + 16 * i, j));
    return halves;
}
static inline xvec x_four(const int8_t *q) {
    int32_t x;
    memcpy(&x, q, sizeof x);
    return vreinterpretq_s8_s32(vdupq_n_s32(x));
}
/* Bytes have lost 128 each when they were loaded. */
static inline ivec less_zero(ivec x, int32_t sum, const int zero, const q_kind kind) {
    const int n = kind == Q_BYTES ? 128 - zero : -zero;
    int32x4_t s = vdupq_n_s32(n * sum);
    UNROLL
    for (int i = 0; n && i < 4; i++) x.q[i] = vaddq_s32(x.q[i], s);
    return x;
}

#endif
