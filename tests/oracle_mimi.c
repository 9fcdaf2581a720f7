#include "oracle_mimi.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static signal signal_new(int channels, int n) {
    return (signal){channels, n, test_alloc((size_t)channels * (size_t)n, sizeof(double))};
}

static double *row(signal s, int channel) {
    return s.x + (size_t)channel * (size_t)s.n;
}

static signal replace(signal *old, signal with) {
    free(old->x);
    *old = with;
    return with;
}

/* y[o][t] += sum over taps j of w[j] * x[t * stride + j * dilation - left]; what lies before the
 * signal is 0, or x[0] when `replicate`. */
static void conv_row(double *y, int n_out, const double *x, int n_in, const float *w, int taps,
                     int stride, int dilation, bool replicate) {
    int left = (taps - 1) * dilation + 1 - stride;
    for (int j = 0; j < taps; j++) {
        for (int t = 0; t < n_out; t++) {
            int i = t * stride + j * dilation - left;
            if (i >= 0 && i < n_in) y[t] += w[j] * x[i];
            if (i < 0 && replicate) y[t] += w[j] * x[0];
        }
    }
}

typedef struct conv_shape {
    int out, taps, stride, dilation;
} conv_shape;

/* Causal convolution, weight [out, in, taps], bias [out] unless NULL. */
static signal conv(signal in, conv_shape s, const float *w, const float *bias, bool replicate) {
    signal y = signal_new(s.out, in.n / s.stride);
    for (int o = 0; o < s.out; o++) {
        for (int t = 0; t < y.n; t++) row(y, o)[t] = bias ? bias[o] : 0;
        for (int i = 0; i < in.channels; i++)
            conv_row(row(y, o), y.n, row(in, i), in.n,
                     w + ((size_t)o * (size_t)in.channels + (size_t)i) * (size_t)s.taps, s.taps,
                     s.stride, s.dilation, replicate);
    }
    return y;
}

/* y[t * stride + j] += w[j] * x[t], the last taps - stride samples dropped. */
static void conv_transposed_row(double *y, int n_out, const double *x, int n_in, const float *w,
                                int taps, int stride) {
    for (int t = 0; t < n_in; t++)
        for (int j = 0; j < taps && t * stride + j < n_out; j++) y[t * stride + j] += w[j] * x[t];
}

/* Causal transposed convolution, weight [in, out, taps]. */
static signal conv_transposed(signal in, int out, int taps, int stride, const float *w,
                              const float *bias) {
    signal y = signal_new(out, in.n * stride);
    for (int o = 0; o < out; o++) {
        for (int t = 0; t < y.n; t++) row(y, o)[t] = bias[o];
        for (int i = 0; i < in.channels; i++)
            conv_transposed_row(row(y, o), y.n, row(in, i), in.n,
                                w + ((size_t)i * (size_t)out + (size_t)o) * (size_t)taps, taps,
                                stride);
    }
    return y;
}

static signal elu(signal in) {
    signal y = signal_new(in.channels, in.n);
    for (size_t i = 0; i < (size_t)in.channels * (size_t)in.n; i++)
        y.x[i] = in.x[i] > 0 ? in.x[i] : expm1(in.x[i]);
    return y;
}

static signal named_conv(const tensors *w, const char *name, signal in, conv_shape s) {
    size_t count = (size_t)s.out * (size_t)in.channels * (size_t)s.taps;
    return conv(in, s, tensors_f32(w, count, "%s.conv.conv.weight", name),
                tensors_f32(w, (size_t)s.out, "%s.conv.conv.bias", name), false);
}

/* x + conv1(elu(conv3(elu(x)))) */
static void resblock(const mo_mimi_config *c, const tensors *w, const char *name, int j,
                     signal *x) {
    char part[128];
    int dilation = 1;
    for (int i = 0; i < j; i++) dilation *= c->dilation_base;
    snprintf(part, sizeof part, "%s.block.1", name);
    signal h = elu(*x);
    replace(&h,
            named_conv(w, part, h,
                       (conv_shape){x->channels / c->compress, c->residual_kernel, 1, dilation}));
    replace(&h, elu(h));
    snprintf(part, sizeof part, "%s.block.3", name);
    replace(&h, named_conv(w, part, h, (conv_shape){x->channels, 1, 1, 1}));
    for (size_t i = 0; i < (size_t)x->channels * (size_t)x->n; i++) x->x[i] += h.x[i];
    free(h.x);
}

static signal seanet_encode(const mo_mimi_config *c, const tensors *w, const float *pcm, int n) {
    char name[64];
    int index = 0, width = c->filters;
    signal x = signal_new(1, n);
    for (int i = 0; i < n; i++) x.x[i] = pcm[i];
    snprintf(name, sizeof name, "encoder.model.%d", index++);
    replace(&x, named_conv(w, name, x, (conv_shape){width, c->kernel, 1, 1}));
    for (int r = c->n_ratios - 1; r >= 0; r--) {
        for (int j = 0; j < c->residual_layers; j++) {
            snprintf(name, sizeof name, "encoder.model.%d", index++);
            resblock(c, w, name, j, &x);
        }
        index++; /* the ELU */
        replace(&x, elu(x));
        width *= 2;
        snprintf(name, sizeof name, "encoder.model.%d", index++);
        replace(&x, named_conv(w, name, x, (conv_shape){width, 2 * c->ratios[r], c->ratios[r], 1}));
    }
    replace(&x, elu(x));
    snprintf(name, sizeof name, "encoder.model.%d", index + 1);
    replace(&x, named_conv(w, name, x, (conv_shape){c->dimension, c->last_kernel, 1, 1}));
    return x;
}

static signal seanet_decode(const mo_mimi_config *c, const tensors *w, signal latent) {
    char name[64];
    int index = 1, width = c->filters << c->n_ratios;
    signal x = named_conv(w, "decoder.model.0", latent, (conv_shape){width, c->kernel, 1, 1});
    for (int r = 0; r < c->n_ratios; r++) {
        replace(&x, elu(x));
        index++; /* the ELU */
        int taps = 2 * c->ratios[r];
        width /= 2;
        size_t count = (size_t)x.channels * (size_t)width * (size_t)taps;
        replace(&x,
                conv_transposed(
                    x, width, taps, c->ratios[r],
                    tensors_f32(w, count, "decoder.model.%d.convtr.convtr.weight", index),
                    tensors_f32(w, (size_t)width, "decoder.model.%d.convtr.convtr.bias", index)));
        index++;
        for (int j = 0; j < c->residual_layers; j++) {
            snprintf(name, sizeof name, "decoder.model.%d", index++);
            resblock(c, w, name, j, &x);
        }
    }
    replace(&x, elu(x));
    snprintf(name, sizeof name, "decoder.model.%d", index + 1);
    replace(&x, named_conv(w, name, x, (conv_shape){1, c->last_kernel, 1, 1}));
    return x;
}

static signal signal_copy(signal from) {
    signal to = signal_new(from.channels, from.n);
    memcpy(to.x, from.x, (size_t)from.channels * (size_t)from.n * sizeof *to.x);
    return to;
}

/* ---- transformer: rows are time steps, [n, dim] ------------------------------------------- */

/* y[n, rows] = x[n, cols] . w[rows, cols] */
static void matmul(double *y, const double *x, int n, const float *w, int rows, int cols) {
    for (int t = 0; t < n; t++) {
        for (int r = 0; r < rows; r++) {
            double sum = 0;
            for (int k = 0; k < cols; k++)
                sum += (double)w[(size_t)r * (size_t)cols + (size_t)k] * x[t * cols + k];
            y[t * rows + r] = sum;
        }
    }
}

static void layer_norm(double *y, const double *x, int dim, const float *weight,
                       const float *bias) {
    double mean = 0, var = 0;
    for (int i = 0; i < dim; i++) mean += x[i] / dim;
    for (int i = 0; i < dim; i++) var += (x[i] - mean) * (x[i] - mean) / dim;
    for (int i = 0; i < dim; i++) y[i] = (x[i] - mean) / sqrt(var + 1e-5) * weight[i] + bias[i];
}

/* Rotate pairs (2i, 2i+1). Frequencies and angles are float32 in the original, and at position
 * 100000 that rounding is visible: so here too. */
static void rope_pairs(double *v, int head_dim, int position, float max_period) {
    for (int i = 0; i < head_dim / 2; i++) {
        float slope = (float)(-log(max_period) * 2 / head_dim);
        float freq = (float)exp((float)i * slope);
        float angle = (float)position * freq;
        double c = cos(angle), s = sin(angle), re = v[2 * i], im = v[2 * i + 1];
        v[2 * i] = re * c - im * s;
        v[2 * i + 1] = re * s + im * c;
    }
}

/* First position a query at `p` still finds in the ring of `context` entries, when calls of `steps`
 * positions write all their keys before they attend; steps 0: nothing is lost. A ring never holds
 * less than one call. */
static int first_visible(int p, int context, int steps) {
    int first = p - context + 1;
    if (steps > 0) {
        int last_written = p / steps * steps + steps - 1;
        int kept = last_written - (context > steps ? context : steps) + 1;
        if (kept > first) first = kept;
    }
    return first > 0 ? first : 0;
}

static void attend(double *out, const double *qkv, int n, int dim, int heads, int context,
                   int steps) {
    int hd = dim / heads;
    double *score = test_alloc((size_t)n, sizeof *score);
    for (int t = 0; t < n; t++) {
        int first = first_visible(t, context, steps);
        for (int h = 0; h < heads; h++) {
            const double *q = qkv + t * 3 * dim + h * hd;
            double top = -INFINITY, sum = 0;
            for (int p = first; p <= t; p++) {
                const double *k = qkv + p * 3 * dim + dim + h * hd;
                score[p] = 0;
                for (int i = 0; i < hd; i++) score[p] += q[i] * k[i];
                score[p] /= sqrt(hd);
                if (score[p] > top) top = score[p];
            }
            for (int p = first; p <= t; p++) sum += score[p] = exp(score[p] - top);
            double *o = out + t * dim + h * hd;
            for (int i = 0; i < hd; i++) o[i] = 0;
            for (int p = first; p <= t; p++)
                for (int i = 0; i < hd; i++)
                    o[i] += score[p] / sum * qkv[p * 3 * dim + 2 * dim + h * hd + i];
        }
    }
    free(score);
}

/* x += scale * branch, element by element. */
static void add_scaled(double *x, const double *branch, const float *scale, int n, int dim) {
    for (int t = 0; t < n; t++)
        for (int i = 0; i < dim; i++) x[t * dim + i] += scale[i] * branch[t * dim + i];
}

static void transformer_layer(const mo_mimi_config *c, const tensors *w, const char *name,
                              double *x, int n, int steps, int pos) {
    int d = c->dimension, ff = c->feed_forward, hd = d / c->heads;
    size_t dim = (size_t)d;
    double *h = test_alloc((size_t)n * dim, sizeof *h);
    double *att = test_alloc((size_t)n * dim, sizeof *att);
    double *wide = test_alloc((size_t)n * (size_t)(ff > 3 * d ? ff : 3 * d), sizeof *wide);
    for (int t = 0; t < n; t++)
        layer_norm(h + t * d, x + t * d, d, tensors_f32(w, dim, "%s.norm1.weight", name),
                   tensors_f32(w, dim, "%s.norm1.bias", name));
    matmul(wide, h, n, tensors_f32(w, 3 * dim * dim, "%s.self_attn.in_proj_weight", name), 3 * d,
           d);
    for (int t = 0; t < n; t++)
        for (int i = 0; i < 2 * c->heads; i++) /* q heads, then k heads */
            rope_pairs(wide + t * 3 * d + i * hd, hd, pos + t, c->max_period);
    attend(att, wide, n, d, c->heads, c->context, steps);
    matmul(h, att, n, tensors_f32(w, dim * dim, "%s.self_attn.out_proj.weight", name), d, d);
    add_scaled(x, h, tensors_f32(w, dim, "%s.layer_scale_1.scale", name), n, d);
    for (int t = 0; t < n; t++)
        layer_norm(h + t * d, x + t * d, d, tensors_f32(w, dim, "%s.norm2.weight", name),
                   tensors_f32(w, dim, "%s.norm2.bias", name));
    matmul(wide, h, n, tensors_f32(w, dim * (size_t)ff, "%s.linear1.weight", name), ff, d);
    for (int i = 0; i < n * ff; i++) wide[i] = wide[i] * 0.5 * (1 + erf(wide[i] / sqrt(2)));
    matmul(h, wide, n, tensors_f32(w, dim * (size_t)ff, "%s.linear2.weight", name), d, ff);
    add_scaled(x, h, tensors_f32(w, dim, "%s.layer_scale_2.scale", name), n, d);
    free(h);
    free(att);
    free(wide);
}

static signal transpose(const double *x, int rows, int cols) {
    signal y = signal_new(cols, rows);
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < cols; c++) row(y, c)[r] = x[r * cols + c];
    return y;
}

static signal transformer(const mo_mimi_config *c, const tensors *w, const char *which, signal in,
                          int steps, int pos) {
    char name[128];
    signal x = transpose(in.x, in.channels, in.n); /* now [time, dim] in x.x */
    for (int l = 0; l < c->layers; l++) {
        snprintf(name, sizeof name, "%s.transformer.layers.%d", which, l);
        transformer_layer(c, w, name, x.x, in.n, steps, pos);
    }
    signal y = transpose(x.x, in.n, in.channels);
    free(x.x);
    return y;
}

/* ---- quantizer ---------------------------------------------------------------------------- */

/* Entries of codebook k of all codebooks, [bins, codebook_dim]. */
static double *codebook(const mo_mimi_config *c, const tensors *w, int k) {
    bool first = k < c->semantic_codebooks;
    const char *half = first ? "rvq_first" : "rvq_rest";
    int layer = first ? k : k - c->semantic_codebooks, dim = c->codebook_dim;
    const float *sum =
        tensors_f32(w, (size_t)c->bins * (size_t)dim,
                    "quantizer.%s.vq.layers.%d._codebook.embedding_sum", half, layer);
    const float *usage = tensors_f32(
        w, (size_t)c->bins, "quantizer.%s.vq.layers.%d._codebook.cluster_usage", half, layer);
    double *e = test_alloc((size_t)c->bins * (size_t)dim, sizeof *e);
    for (int j = 0; j < c->bins; j++)
        for (int i = 0; i < dim; i++)
            e[j * dim + i] = (double)sum[j * dim + i] / fmax(usage[j], 1e-5);
    return e;
}

/* Nearest entry to x; *margin is how much further away the second nearest is. */
static int nearest(const double *x, const double *e, int bins, int dim, double *margin) {
    double best = INFINITY, second = INFINITY;
    int pick = 0;
    for (int j = 0; j < bins; j++) {
        double d = 0;
        for (int i = 0; i < dim; i++) d += (x[i] - e[j * dim + i]) * (x[i] - e[j * dim + i]);
        d = sqrt(d);
        if (d < best) {
            second = best;
            best = d;
            pick = j;
        } else if (d < second) {
            second = d;
        }
    }
    *margin = second - best;
    return pick;
}

static void quantize_half(const mo_mimi_config *c, const tensors *w, signal latent, int first,
                          int last, oracle_codes *out) {
    const char *half = first == 0 ? "rvq_first" : "rvq_rest";
    int dim = c->codebook_dim, n = latent.n;
    const float *proj =
        tensors_f32(w, (size_t)dim * (size_t)c->dimension, "quantizer.%s.input_proj.weight", half);
    signal z = conv(latent, (conv_shape){dim, 1, 1, 1}, proj, NULL, false);
    double *r = test_alloc((size_t)n * (size_t)dim, sizeof *r);
    for (int t = 0; t < n; t++)
        for (int i = 0; i < dim; i++) r[t * dim + i] = row(z, i)[t];
    for (int k = first; k < last; k++) {
        double *e = codebook(c, w, k);
        for (int t = 0; t < n; t++) {
            int code = nearest(r + t * dim, e, c->bins, dim, &out->margin[k * n + t]);
            out->codes[k * n + t] = code;
            for (int i = 0; i < dim; i++) r[t * dim + i] -= e[code * dim + i];
        }
        free(e);
    }
    free(r);
    free(z.x);
}

/* To one latent per frame; the only convolution whose past begins as copies of its first input. */
static signal downsample(const mo_mimi_config *c, const tensors *w, signal x) {
    size_t dim = (size_t)c->dimension;
    conv_shape down = {c->dimension, 2 * c->stride, c->stride, 1};
    if (c->stride == 1) return signal_copy(x);
    return conv(x, down,
                tensors_f32(w, dim * dim * (size_t)down.taps, "downsample.conv.conv.conv.weight"),
                NULL, true);
}

static signal upsample(const mo_mimi_config *c, const tensors *w, signal x) {
    int taps = 2 * c->stride;
    if (c->stride == 1) return signal_copy(x);
    const float *weight =
        tensors_f32(w, (size_t)(c->dimension * taps), "upsample.convtr.convtr.convtr.weight");
    signal y = signal_new(c->dimension, x.n * c->stride);
    for (int i = 0; i < c->dimension; i++)
        conv_transposed_row(row(y, i), y.n, row(x, i), x.n, weight + i * taps, taps, c->stride);
    return y;
}

void oracle_mimi_encode(const mo_mimi_config *c, const tensors *w, const float *pcm, int frames,
                        int frames_per_call, oracle_codes *out) {
    int steps = frames_per_call * c->stride;
    out->seanet = seanet_encode(c, w, pcm, frames * c->frame_samples);
    out->transformer = transformer(c, w, "encoder_transformer", out->seanet, steps, 0);
    out->latent = downsample(c, w, out->transformer);
    size_t n = (size_t)c->codebooks * (size_t)frames;
    out->codes = test_alloc(n, sizeof *out->codes);
    out->margin = test_alloc(n, sizeof *out->margin);
    quantize_half(c, w, out->latent, 0, c->semantic_codebooks, out);
    quantize_half(c, w, out->latent, c->semantic_codebooks, c->codebooks, out);
}

static void dequantize_half(const mo_mimi_config *c, const tensors *w, const int32_t *codes,
                            int first, int last, signal y) {
    const char *half = first == 0 ? "rvq_first" : "rvq_rest";
    int dim = c->codebook_dim;
    if (first >= last) return;
    signal z = signal_new(dim, y.n);
    for (int k = first; k < last; k++) {
        double *e = codebook(c, w, k);
        for (int t = 0; t < y.n; t++)
            for (int i = 0; i < dim; i++) row(z, i)[t] += e[codes[k * y.n + t] * dim + i];
        free(e);
    }
    const float *proj =
        tensors_f32(w, (size_t)dim * (size_t)c->dimension, "quantizer.%s.output_proj.weight", half);
    signal p = conv(z, (conv_shape){c->dimension, 1, 1, 1}, proj, NULL, false);
    for (size_t i = 0; i < (size_t)y.channels * (size_t)y.n; i++) y.x[i] += p.x[i];
    free(p.x);
    free(z.x);
}

void oracle_mimi_decode_at(const mo_mimi_config *c, const tensors *w, const int32_t *codes,
                           int codebooks, int frames, int frames_per_call, int pos,
                           oracle_audio *out) {
    int semantic = c->semantic_codebooks;
    out->quantized = signal_new(c->dimension, frames);
    dequantize_half(c, w, codes, 0, codebooks < semantic ? codebooks : semantic, out->quantized);
    dequantize_half(c, w, codes, semantic, codebooks, out->quantized);
    out->upsampled = upsample(c, w, out->quantized);
    out->transformer =
        transformer(c, w, "decoder_transformer", out->upsampled, frames_per_call * c->stride, pos);
    out->audio = seanet_decode(c, w, out->transformer);
}

void oracle_mimi_decode(const mo_mimi_config *c, const tensors *w, const int32_t *codes,
                        int codebooks, int frames, int frames_per_call, oracle_audio *out) {
    oracle_mimi_decode_at(c, w, codes, codebooks, frames, frames_per_call, 0, out);
}

void oracle_codes_free(oracle_codes *o) {
    free(o->seanet.x);
    free(o->transformer.x);
    free(o->latent.x);
    free(o->codes);
    free(o->margin);
    memset(o, 0, sizeof *o);
}

void oracle_audio_free(oracle_audio *o) {
    free(o->quantized.x);
    free(o->upsampled.x);
    free(o->transformer.x);
    free(o->audio.x);
    memset(o, 0, sizeof *o);
}
