/* bfloat16.h - conversions and an exponential that the compiler turns into vectors. */
#ifndef TRAIN_BFLOAT16_H
#define TRAIN_BFLOAT16_H

#include <stdint.h>

typedef uint16_t bf16;

static inline float to_float(bf16 x) {
    union {
        uint32_t bits;
        float value;
    } u = {(uint32_t)x << 16};
    return u.value;
}

/* To nearest, ties to even. */
static inline bf16 to_bf16(float x) {
    union {
        float value;
        uint32_t bits;
    } u = {x};
    return (bf16)((u.bits + 0x7fff + ((u.bits >> 16) & 1)) >> 16);
}

/* e^x within 2e-6, relative: 2^k * e^f with |f| <= ln(2)/2. */
static inline float fast_exp(float x) {
    x = x < -80.0f ? -80.0f : (x > 80.0f ? 80.0f : x);
    float scaled = x * 1.44269504f, k = __builtin_floorf(scaled + 0.5f);
    float f = (scaled - k) * 0.69314718f;
    float series = f * 0.0083333333f + 0.041666667f;
    series = f * series + 0.16666667f;
    series = f * series + 0.5f;
    series = f * series + 1.0f;
    series = f * series + 1.0f;
    union {
        uint32_t bits;
        float value;
    } power = {(uint32_t)((int)k + 127) << 23};
    return series * power.value;
}

#endif
