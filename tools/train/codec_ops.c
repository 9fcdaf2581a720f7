/* codec_ops.c - what a causal convolution needs beside its matrix product, and Adam.
 *
 * A convolution of K taps is one product a[t][k][o] = x[t] . w[k][o] followed by adding shifted
 * taps: y[t][o] = bias[o] + skip[t][o] + sum over k of a[t - (K-1-k)][k][o]. Doing that, the ELU
 * and the conversion to bfloat16 in one pass is what makes training on a CPU bearable.
 *
 *   gcc -O3 -march=native -ffast-math -shared -fPIC codec_ops.c -o codec_ops.so -lm */
#include "bfloat16.h"

#include <math.h>
#include <string.h>

static inline float elu(float x) {
    return x > 0 ? x : fast_exp(x) - 1;
}

/* One sequence. raw and activated (each may be NULL) get y and elu(y). */
static inline __attribute__((always_inline)) void forward(const bf16 *a, const float *bias,
                                                          const bf16 *skip, bf16 *raw,
                                                          bf16 *activated, int T, int K, int O) {
    for (int t = 0; t < T; t++) {
        int first = K - 1 - t > 0 ? K - 1 - t : 0; /* taps before the start are zero */
        for (int o = 0; o < O; o++) {
            long at = (long)t * O + o;
            float y = bias[o] + (skip ? to_float(skip[at]) : 0);
            for (int k = first; k < K; k++)
                y += to_float(a[((long)(t - (K - 1 - k)) * K + k) * O + o]);
            if (raw) raw[at] = to_bf16(y);
            if (activated) activated[at] = to_bf16(elu(y));
        }
    }
}

/* Gradients of raw and of activated (each may be NULL) to those of a and bias. The gradient of skip
 * is that of tap K-1 when K is 1. elu'(x) = min(1, elu(x) + 1). */
static inline __attribute__((always_inline)) void backward(const bf16 *g_raw,
                                                           const bf16 *g_activated,
                                                           const bf16 *activated, bf16 *g_a,
                                                           float *g_bias, int T, int K, int O) {
    for (int t = 0; t < T; t++) {
        int first = K - 1 - t > 0 ? K - 1 - t : 0;
        for (int o = 0; o < O; o++) {
            long at = (long)t * O + o;
            float g = g_raw ? to_float(g_raw[at]) : 0;
            if (g_activated) {
                float slope = to_float(activated[at]) + 1;
                g += to_float(g_activated[at]) * (slope < 1 ? slope : 1);
            }
            g_bias[o] += g;
            for (int k = first; k < K; k++)
                g_a[((long)(t - (K - 1 - k)) * K + k) * O + o] = to_bf16(g);
        }
    }
    for (int shift = 1; shift < K; shift++) /* taps that fall behind the end */
        for (int t = T > shift ? T - shift : 0; t < T; t++)
            memset(g_a + ((long)t * K + (K - 1 - shift)) * O, 0, sizeof(bf16) * (size_t)O);
}

/* The compiler unrolls taps and channels it knows. */
#define FOR_SIZES(CALL)         \
    if (K == 1 && O == 16)      \
        CALL(1, 16);            \
    else if (K == 3 && O == 8)  \
        CALL(3, 8);             \
    else if (K == 1 && O == 32) \
        CALL(1, 32);            \
    else if (K == 3 && O == 16) \
        CALL(3, 16);            \
    else if (K == 2 && O == 64) \
        CALL(2, 64);            \
    else if (K == 2 && O == 32) \
        CALL(2, 32);            \
    else if (K == 1 && O == 64) \
        CALL(1, 64);            \
    else if (K == 3 && O == 32) \
        CALL(3, 32);            \
    else                        \
        CALL(K, O)

/* a [B, T, K, O]; skip, raw, activated [B, T, O] */
void shift_add_forward(const bf16 *a, const float *bias, const bf16 *skip, bf16 *raw,
                       bf16 *activated, int B, int T, int K, int O) {
    for (int b = 0; b < B; b++) {
        long at = (long)b * T * O;
#define CALL(k, o)                                                      \
    forward(a + at * K, bias, skip ? skip + at : 0, raw ? raw + at : 0, \
            activated ? activated + at : 0, T, k, o)
        FOR_SIZES(CALL);
#undef CALL
    }
}

void shift_add_backward(const bf16 *g_raw, const bf16 *g_activated, const bf16 *activated,
                        bf16 *g_a, float *g_bias, int B, int T, int K, int O) {
    memset(g_bias, 0, sizeof(float) * (size_t)O);
    for (int b = 0; b < B; b++) {
        long at = (long)b * T * O;
#define CALL(k, o)                                                       \
    backward(g_raw ? g_raw + at : 0, g_activated ? g_activated + at : 0, \
             activated ? activated + at : 0, g_a + at * K, g_bias, T, k, o)
        FOR_SIZES(CALL);
#undef CALL
    }
}

/* One step over n numbers. scale: of the gradient, for clipping; correct1, correct2: 1 / (1 -
 * beta^t); decay: per number. */
void adamw(float *p, const float *g, float *m, float *v, long n, float rate, float beta1,
           float beta2, float correct1, float correct2, float epsilon, const float *decay,
           float scale) {
    for (long i = 0; i < n; i++) {
        float x = g[i] * scale;
        m[i] = beta1 * m[i] + (1 - beta1) * x;
        v[i] = beta2 * v[i] + (1 - beta2) * x * x;
        p[i] = p[i] * (1 - rate * decay[i]) -
               rate * (m[i] * correct1) / (sqrtf(v[i] * correct2) + epsilon);
    }
}
