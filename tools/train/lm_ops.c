/* lm_ops.c - the parts of a transformer layer between its matrix products, forward and backward, on
 * bfloat16 activations.
 *
 *   gcc -O3 -march=native -ffast-math -shared -fPIC lm_ops.c -o lm_ops.so -lm */
#include "bfloat16.h"

#include <math.h>
#include <string.h>

enum { STEPS = 8, HEAD = 32, MAX_FRAMES = 1024 }; /* depth transformer: codebooks, head width */

/* y [M, h] = silu(x[:h]) * x[h:], x [M, 2h] */
void gate_forward(const bf16 *restrict x, bf16 *restrict y, long M, int h) {
    for (long m = 0; m < M; m++) {
        const bf16 *u = x + m * 2 * h, *v = u + h;
        for (int i = 0; i < h; i++) {
            float a = to_float(u[i]);
            y[m * h + i] = to_bf16(a / (1 + fast_exp(-a)) * to_float(v[i]));
        }
    }
}

void gate_backward(const bf16 *restrict x, const bf16 *restrict g, bf16 *restrict g_x, long M,
                   int h) {
    for (long m = 0; m < M; m++) {
        const bf16 *u = x + m * 2 * h, *v = u + h;
        bf16 *g_u = g_x + m * 2 * h, *g_v = g_u + h;
        for (int i = 0; i < h; i++) {
            float a = to_float(u[i]), s = 1 / (1 + fast_exp(-a)), e = to_float(g[m * h + i]);
            g_u[i] = to_bf16(e * to_float(v[i]) * s * (1 + a * (1 - s)));
            g_v[i] = to_bf16(e * a * s);
        }
    }
}

/* y [M, d] = x * alpha / rms(x); inverse [M] is kept for the way back. */
void rms_forward(const float *restrict x, const float *restrict alpha, bf16 *restrict y,
                 float *restrict inverse, long M, int d) {
    for (long m = 0; m < M; m++) {
        const float *row = x + m * d;
        float sum = 0;
        for (int i = 0; i < d; i++) sum += row[i] * row[i];
        inverse[m] = 1 / sqrtf(sum / (float)d + 1e-8f);
        for (int i = 0; i < d; i++) y[m * d + i] = to_bf16(row[i] * alpha[i] * inverse[m]);
    }
}

void rms_backward(const float *restrict x, const float *restrict alpha, const bf16 *restrict g,
                  const float *restrict inverse, float *restrict g_x, float *restrict g_alpha,
                  long M, int d) {
    memset(g_alpha, 0, sizeof(float) * (size_t)d);
    for (long m = 0; m < M; m++) {
        const float *row = x + m * d;
        const bf16 *g_row = g + m * d;
        float q = inverse[m], sum = 0;
        for (int i = 0; i < d; i++) sum += to_float(g_row[i]) * alpha[i] * row[i];
        sum *= q * q * q / (float)d;
        for (int i = 0; i < d; i++) {
            float e = to_float(g_row[i]);
            g_x[m * d + i] = e * alpha[i] * q - row[i] * sum;
            g_alpha[i] += e * row[i] * q;
        }
    }
}

/* One head of one frame of qkv [N, STEPS, 3, H, HEAD], widened. */
typedef struct depth_head {
    float q[STEPS][HEAD], k[STEPS][HEAD], v[STEPS][HEAD];
} depth_head;

static void read_head(depth_head *out, const bf16 *qkv, long n, int h, int H) {
    for (int t = 0; t < STEPS; t++) {
        const bf16 *at = qkv + ((n * STEPS + t) * 3 * H + h) * HEAD;
        for (int e = 0; e < HEAD; e++) {
            out->q[t][e] = to_float(at[e]);
            out->k[t][e] = to_float(at[H * HEAD + e]);
            out->v[t][e] = to_float(at[2 * H * HEAD + e]);
        }
    }
}

/* Causal attention over the steps of a frame: out [N, STEPS, H, HEAD], p [N, H, STEPS, STEPS]. */
void depth_attend_forward(const bf16 *restrict qkv, bf16 *restrict out, float *restrict p, long N,
                          int H) {
    const float scale = 1 / sqrtf(HEAD);
    for (long n = 0; n < N; n++)
        for (int h = 0; h < H; h++) {
            depth_head x;
            read_head(&x, qkv, n, h, H);
            float *weights = p + (n * H + h) * STEPS * STEPS;
            memset(weights, 0, sizeof(float) * STEPS * STEPS);
            for (int i = 0; i < STEPS; i++) {
                float *w = weights + i * STEPS, largest = -1e30f, sum = 0, y[HEAD] = {0};
                for (int j = 0; j <= i; j++) {
                    for (int e = 0; e < HEAD; e++) w[j] += x.q[i][e] * x.k[j][e] * scale;
                    if (w[j] > largest) largest = w[j];
                }
                for (int j = 0; j <= i; j++) sum += w[j] = expf(w[j] - largest);
                for (int j = 0; j <= i; j++) {
                    w[j] /= sum;
                    for (int e = 0; e < HEAD; e++) y[e] += w[j] * x.v[j][e];
                }
                bf16 *o = out + ((n * STEPS + i) * H + h) * HEAD;
                for (int e = 0; e < HEAD; e++) o[e] = to_bf16(y[e]);
            }
        }
}

void depth_attend_backward(const bf16 *restrict qkv, const float *restrict p,
                           const bf16 *restrict g, bf16 *restrict g_qkv, long N, int H) {
    const float scale = 1 / sqrtf(HEAD);
    for (long n = 0; n < N; n++)
        for (int h = 0; h < H; h++) {
            depth_head x, d;
            read_head(&x, qkv, n, h, H);
            memset(&d, 0, sizeof d);
            const float *weights = p + (n * H + h) * STEPS * STEPS;
            for (int i = 0; i < STEPS; i++) {
                const bf16 *g_row = g + ((n * STEPS + i) * H + h) * HEAD;
                const float *w = weights + i * STEPS;
                float g_y[HEAD], g_w[STEPS] = {0}, sum = 0;
                for (int e = 0; e < HEAD; e++) g_y[e] = to_float(g_row[e]);
                for (int j = 0; j <= i; j++) {
                    for (int e = 0; e < HEAD; e++) g_w[j] += g_y[e] * x.v[j][e];
                    sum += g_w[j] * w[j];
                }
                for (int j = 0; j <= i; j++) {
                    float g_score = w[j] * (g_w[j] - sum) * scale;
                    for (int e = 0; e < HEAD; e++) {
                        d.v[j][e] += w[j] * g_y[e];
                        d.q[i][e] += g_score * x.k[j][e];
                        d.k[j][e] += g_score * x.q[i][e];
                    }
                }
            }
            for (int t = 0; t < STEPS; t++) {
                bf16 *at = g_qkv + ((n * STEPS + t) * 3 * H + h) * HEAD;
                for (int e = 0; e < HEAD; e++) {
                    at[e] = to_bf16(d.q[t][e]);
                    at[H * HEAD + e] = to_bf16(d.k[t][e]);
                    at[2 * H * HEAD + e] = to_bf16(d.v[t][e]);
                }
            }
        }
}

/* Turn pairs (2i, 2i+1) by the angle of the frame; sign -1 turns back. */
static void rotate(const bf16 *in, bf16 *out, const float *cosine, const float *sine, int D,
                   float sign) {
    for (int i = 0; i < D / 2; i++) {
        float a = to_float(in[2 * i]), b = to_float(in[2 * i + 1]), s = sign * sine[i];
        out[2 * i] = to_bf16(a * cosine[i] - b * s);
        out[2 * i + 1] = to_bf16(a * s + b * cosine[i]);
    }
}

/* x [B, T, 3, H, D] -> y [3, B, H, T, D], q and k turned. cosine, sine: [T, D/2]. */
void rope_forward(const bf16 *restrict x, bf16 *restrict y, const float *cosine, const float *sine,
                  int B, int T, int H, int D) {
    for (int b = 0; b < B; b++)
        for (int t = 0; t < T; t++)
            for (int w = 0; w < 3; w++)
                for (int h = 0; h < H; h++) {
                    const bf16 *in = x + ((((long)b * T + t) * 3 + w) * H + h) * D;
                    bf16 *out = y + ((((long)w * B + b) * H + h) * T + t) * D;
                    if (w == 2)
                        memcpy(out, in, sizeof(bf16) * (size_t)D);
                    else
                        rotate(in, out, cosine + t * (D / 2), sine + t * (D / 2), D, 1);
                }
}

void rope_backward(const bf16 *restrict g_q, const bf16 *restrict g_k, const bf16 *restrict g_v,
                   bf16 *restrict g_x, const float *cosine, const float *sine, int B, int T, int H,
                   int D) {
    const bf16 *gradient[] = {g_q, g_k, g_v};
    for (int b = 0; b < B; b++)
        for (int t = 0; t < T; t++)
            for (int w = 0; w < 3; w++)
                for (int h = 0; h < H; h++) {
                    bf16 *out = g_x + ((((long)b * T + t) * 3 + w) * H + h) * D;
                    const bf16 *in = gradient[w] + (((long)b * H + h) * T + t) * D;
                    if (w == 2)
                        memcpy(out, in, sizeof(bf16) * (size_t)D);
                    else
                        rotate(in, out, cosine + t * (D / 2), sine + t * (D / 2), D, -1);
                }
}

/* Rows of scores [R, T, T] to softmax over the `context` latest positions, the own one included. */
void softmax_forward(const bf16 *restrict scores, bf16 *restrict p, long R, int T, int context,
                     float scale) {
    for (long r = 0; r < R; r++)
        for (int i = 0; i < T; i++) {
            const bf16 *in = scores + (r * T + i) * T;
            bf16 *out = p + (r * T + i) * T;
            int first = i - context + 1 > 0 ? i - context + 1 : 0;
            float w[MAX_FRAMES], largest = -1e30f, sum = 0;
            for (int j = first; j <= i; j++) {
                w[j] = to_float(in[j]) * scale;
                largest = w[j] > largest ? w[j] : largest;
            }
            for (int j = first; j <= i; j++) sum += w[j] = fast_exp(w[j] - largest);
            memset(out, 0, sizeof(bf16) * (size_t)T);
            for (int j = first; j <= i; j++) out[j] = to_bf16(w[j] / sum);
        }
}

void softmax_backward(const bf16 *restrict p, const bf16 *restrict g, bf16 *restrict g_scores,
                      long R, int T, float scale) {
    for (long r = 0; r < R; r++)
        for (int i = 0; i < T; i++) {
            const bf16 *w = p + (r * T + i) * T, *e = g + (r * T + i) * T;
            bf16 *out = g_scores + (r * T + i) * T;
            float sum = 0;
            for (int j = 0; j <= i; j++) sum += to_float(w[j]) * to_float(e[j]);
            for (int j = 0; j <= i; j++)
                out[j] = to_bf16(to_float(w[j]) * (to_float(e[j]) - sum) * scale);
            memset(out + i + 1, 0, sizeof(bf16) * (size_t)(T - i - 1));
        }
}
