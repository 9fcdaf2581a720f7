#include "oracle_lm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void oracle_grid(const mo_lm_config *c, int steps, const int32_t *user, const int32_t *text,
                 const int32_t *audio, int32_t *in, int32_t *out) {
    int users = c->n_q - c->dep_q;
    for (int s = 0; s < steps; s++) {
        for (int ch = 0; ch <= c->n_q; ch++) {
            int32_t *cell = &in[s * (1 + c->n_q) + ch];
            int from = s - c->delays[ch]; /* the user's call, or one after the sampling step */
            if (from <= 0)
                *cell = ch == 0 ? c->text_card : c->card;
            else if (ch == 0)
                *cell = text[s - 1];
            else if (ch <= c->dep_q)
                *cell = audio[(s - 1) * c->dep_q + ch - 1];
            else
                *cell = user[from * users + ch - 1 - c->dep_q];
        }
        for (int ch = 0; ch <= c->dep_q; ch++) {
            int32_t *cell = &out[s * (1 + c->dep_q) + ch];
            int at = s - c->max_delay + c->delays[ch]; /* the step that sampled it */
            if (s < c->max_delay)
                *cell = MOSHI_NO_TOKEN;
            else
                *cell = ch == 0 ? text[at] : audio[at * c->dep_q + ch - 1];
        }
    }
}

/* y[rows] = w[rows, cols] . x[cols] */
static void matvec(double *y, const double *x, const float *w, int rows, int cols) {
    for (int r = 0; r < rows; r++) {
        double sum = 0;
        for (int k = 0; k < cols; k++)
            sum += (double)w[(size_t)r * (size_t)cols + (size_t)k] * x[k];
        y[r] = sum;
    }
}

static void rms_norm(double *y, const double *x, int dim, const float *alpha, double eps) {
    double sum = 0;
    for (int i = 0; i < dim; i++) sum += x[i] * x[i];
    double scale = 1 / sqrt(sum / dim + eps);
    for (int i = 0; i < dim; i++) y[i] = x[i] * alpha[i] * scale;
}

static void layer_norm(double *y, const double *x, int dim, const float *weight,
                       const float *bias) {
    double mean = 0, var = 0;
    for (int i = 0; i < dim; i++) mean += x[i] / dim;
    for (int i = 0; i < dim; i++) var += (x[i] - mean) * (x[i] - mean) / dim;
    for (int i = 0; i < dim; i++) y[i] = (x[i] - mean) / sqrt(var + 1e-5) * weight[i] + bias[i];
}

/* Frequencies and angles are float32 in the original, and at position 100000 that rounding is
 * visible: so it is part of the arithmetic. */
static void rope(double *v, int head_dim, int64_t position, float max_period, mo_rope_kind kind) {
    int half = head_dim / 2;
    if (kind == MO_ROPE_NONE) return;
    for (int i = 0; i < half; i++) {
        float slope = (float)(-log(max_period) * 2 / head_dim);
        float freq = (float)exp((float)i * slope);
        float angle = (float)position * freq;
        int a = kind == MO_ROPE_PAIRS ? 2 * i : i, b = kind == MO_ROPE_PAIRS ? 2 * i + 1 : i + half;
        double c = cos(angle), s = sin(angle), re = v[a], im = v[b];
        v[a] = re * c - im * s;
        v[b] = re * s + im * c;
    }
}

typedef struct heads {
    int heads, kv_heads, head_dim;
} heads;

static int qkv_width(heads h) {
    return (h.heads + 2 * h.kv_heads) * h.head_dim;
}

/* Attention of the last of `n` rows of qkv over the last `context` of them. */
static void attend_last(double *out, const double *qkv, int n, heads s, int context) {
    int width = qkv_width(s), hd = s.head_dim, first = n > context ? n - context : 0;
    double *score = test_alloc((size_t)n, sizeof *score);
    for (int h = 0; h < s.heads; h++) {
        const double *q = qkv + (size_t)(n - 1) * (size_t)width + h * hd;
        int group = h / (s.heads / s.kv_heads);
        int k_at = (s.heads + group) * hd, v_at = (s.heads + s.kv_heads + group) * hd;
        double top = -INFINITY, sum = 0, *o = out + h * hd;
        for (int p = first; p < n; p++) {
            const double *k = qkv + (size_t)p * (size_t)width + k_at;
            score[p] = 0;
            for (int i = 0; i < hd; i++) score[p] += q[i] * k[i];
            score[p] /= sqrt(hd);
            if (score[p] > top) top = score[p];
        }
        for (int p = first; p < n; p++) sum += score[p] = exp(score[p] - top);
        for (int i = 0; i < hd; i++) o[i] = 0;
        for (int p = first; p < n; p++)
            for (int i = 0; i < hd; i++)
                o[i] += score[p] / sum * qkv[(size_t)p * (size_t)width + (size_t)(v_at + i)];
    }
    free(score);
}

/* x += linear_out(silu(a) * b), [a; b] = linear_in(rms(x)) */
static void gated(double *x, int dim, int hidden, const float *alpha, double eps, const float *w_in,
                  const float *w_out) {
    double *h = test_alloc((size_t)dim, sizeof *h);
    double *wide = test_alloc((size_t)(2 * hidden), sizeof *wide);
    rms_norm(h, x, dim, alpha, eps);
    matvec(wide, h, w_in, 2 * hidden, dim);
    for (int i = 0; i < hidden; i++) wide[i] *= wide[hidden + i] / (1 + exp(-wide[i]));
    matvec(h, wide, w_out, dim, hidden);
    for (int i = 0; i < dim; i++) x[i] += h[i];
    free(h);
    free(wide);
}

/* ---- temporal ----------------------------------------------------------------------------- */

static void add_row(double *x, const float *table, int row, int dim) {
    if (row < 0) return; /* -1: the zero vector */
    for (int i = 0; i < dim; i++) x[i] += table[(size_t)row * (size_t)dim + (size_t)i];
}

static void embed(const mo_lm_config *c, const tensors *w, const int32_t *in, double *x) {
    size_t dim = (size_t)c->dim;
    for (int ch = 1; ch <= c->n_q; ch++)
        add_row(x, tensors_f32(w, (size_t)(c->card + 1) * dim, "emb.%d.weight", ch - 1), in[ch],
                c->dim);
    add_row(x, tensors_f32(w, (size_t)(c->text_card + 1) * dim, "text_emb.weight"), in[0], c->dim);
}

static void temporal_layer(const mo_lm_config *c, const tensors *w, int layer, int n, int64_t pos,
                           double *x) {
    heads s = {c->heads, c->heads / c->kv_repeat, c->dim / c->heads};
    int width = qkv_width(s), d = c->dim;
    size_t dim = (size_t)d, ff = (size_t)c->hidden;
    const char *at = "transformer.layers";
    const float *in_proj =
        tensors_f32(w, (size_t)width * dim, "%s.%d.self_attn.in_proj_weight", at, layer);
    const float *out_proj = tensors_f32(w, dim * dim, "%s.%d.self_attn.out_proj.weight", at, layer);
    const float *norm1 = tensors_f32(w, dim, "%s.%d.norm1.alpha", at, layer);
    const float *norm2 = tensors_f32(w, dim, "%s.%d.norm2.alpha", at, layer);
    const float *w_in = tensors_f32(w, 2 * ff * dim, "%s.%d.gating.linear_in.weight", at, layer);
    const float *w_out = tensors_f32(w, ff * dim, "%s.%d.gating.linear_out.weight", at, layer);
    double *qkv = test_alloc((size_t)n * (size_t)width, sizeof *qkv);
    double *h = test_alloc(dim, sizeof *h), *att = test_alloc(dim, sizeof *att);
    for (int t = 0; t < n; t++) {
        double *row = qkv + (size_t)t * (size_t)width;
        rms_norm(h, x + (size_t)t * dim, d, norm1, c->norm_eps);
        matvec(row, h, in_proj, width, d);
        for (int i = 0; i < s.heads + s.kv_heads; i++)
            rope(row + i * s.head_dim, s.head_dim, pos + t, c->max_period, c->rope);
    }
    for (int t = 0; t < n; t++) {
        double *row = x + (size_t)t * dim;
        attend_last(att, qkv, t + 1, s, c->context);
        matvec(h, att, out_proj, d, d);
        for (int i = 0; i < d; i++) row[i] += h[i];
        gated(row, d, c->hidden, norm2, c->norm_eps, w_in, w_out);
    }
    free(qkv);
    free(h);
    free(att);
}

void oracle_lm_temporal(const mo_lm_config *c, const tensors *w, const int32_t *in, int n,
                        int64_t pos, oracle_temporal *out) {
    size_t dim = (size_t)c->dim, rows = (size_t)n, layers = (size_t)c->layers;
    double *x = test_alloc(rows * dim, sizeof *x);
    out->hidden = test_alloc(rows * layers * dim, sizeof(double));
    out->normed = test_alloc(rows * dim, sizeof(double));
    out->logits = test_alloc(rows * (size_t)c->text_card_out, sizeof(double));
    for (int t = 0; t < n; t++) embed(c, w, in + t * (1 + c->n_q), x + (size_t)t * dim);
    for (size_t l = 0; l < layers; l++) {
        temporal_layer(c, w, (int)l, n, pos, x);
        for (size_t t = 0; t < rows; t++)
            memcpy(out->hidden + (t * layers + l) * dim, x + t * dim, dim * sizeof *x);
    }
    const float *alpha = tensors_f32(w, dim, "out_norm.alpha");
    const float *head = tensors_f32(w, (size_t)c->text_card_out * dim, "text_linear.weight");
    for (size_t t = 0; t < rows; t++) {
        double *normed = out->normed + t * dim;
        rms_norm(normed, x + t * dim, c->dim, alpha, c->norm_eps);
        matvec(out->logits + t * (size_t)c->text_card_out, normed, head, c->text_card_out, c->dim);
    }
    free(x);
}

void oracle_temporal_free(oracle_temporal *o) {
    free(o->hidden);
    free(o->normed);
    free(o->logits);
    memset(o, 0, sizeof *o);
}

/* ---- depth -------------------------------------------------------------------------------- */

/* Input of codebook k: projected temporal output plus the embedding of the token before. */
static void depth_input(const mo_lm_config *c, const tensors *w, const double *normed, int k,
                        int token, double *x) {
    size_t e = (size_t)c->dep_dim, width = (size_t)(c->dep_low_rank ? c->dep_low_rank : c->dep_dim);
    size_t rows = (size_t)(k ? c->card : c->text_card) + 1;
    char at[64] = "depformer_text_emb";
    if (k > 0) snprintf(at, sizeof at, "depformer_emb.%d", k - 1);
    matvec(x, normed,
           tensors_f32(w, e * (size_t)c->dim, "depformer_in.%d.weight", c->dep_schedule[k]),
           c->dep_dim, c->dim);
    double *row = test_alloc(width, sizeof *row), *full = test_alloc(e, sizeof *full);
    add_row(row, tensors_f32(w, rows * width, "%s.weight", at), token, (int)width);
    if (c->dep_low_rank)
        matvec(full, row, tensors_f32(w, e * width, "%s.low_rank.weight", at), c->dep_dim,
               (int)width);
    for (size_t i = 0; i < e; i++) x[i] += c->dep_low_rank ? full[i] : row[i];
    free(row);
    free(full);
}

/* One layer for rows 0..k at once, so that nothing has to be remembered between codebooks. */
static void depth_layer(const mo_lm_config *c, const tensors *w, int layer, int n, double *x) {
    heads s = {c->dep_heads, c->dep_heads, c->dep_dim / c->dep_heads};
    int d = c->dep_dim, width = qkv_width(s);
    size_t e = (size_t)d, sets = (size_t)c->dep_sets, ff = (size_t)c->dep_hidden;
    const char *at = "depformer.layers";
    const float *in_proj =
        tensors_f32(w, sets * 3 * e * e, "%s.%d.self_attn.in_proj_weight", at, layer);
    const float *out_proj =
        tensors_f32(w, sets * e * e, "%s.%d.self_attn.out_proj.weight", at, layer);
    const float *norm1 = tensors_f32(w, e, "%s.%d.norm1.alpha", at, layer);
    const float *norm2 = tensors_f32(w, e, "%s.%d.norm2.alpha", at, layer);
    double *qkv = test_alloc((size_t)(n * width), sizeof *qkv);
    double *h = test_alloc(e, sizeof *h), *att = test_alloc(e, sizeof *att);
    for (int k = 0; k < n; k++) {
        rms_norm(h, x + k * d, d, norm1, c->norm_eps);
        matvec(qkv + k * width, h, in_proj + (size_t)c->dep_schedule[k] * 3 * e * e, width, d);
    }
    for (int k = 0; k < n; k++) {
        int set = c->dep_schedule[k];
        attend_last(att, qkv, k + 1, s, n);
        matvec(h, att, out_proj + (size_t)set * e * e, d, d);
        for (int i = 0; i < d; i++) x[k * d + i] += h[i];
        gated(x + k * d, d, c->dep_hidden, norm2, c->norm_eps,
              tensors_f32(w, 2 * ff * e, "%s.%d.gating.%d.linear_in.weight", at, layer, set),
              tensors_f32(w, ff * e, "%s.%d.gating.%d.linear_out.weight", at, layer, set));
    }
    free(qkv);
    free(h);
    free(att);
}

static void depth_head(const mo_lm_config *c, const tensors *w, int k, const double *hidden,
                       double *logits) {
    size_t e = (size_t)c->dep_dim;
    double *h = test_alloc(e, sizeof *h);
    memcpy(h, hidden, e * sizeof *h);
    if (c->dep_norm)
        layer_norm(h, hidden, c->dep_dim, tensors_f32(w, e, "depformer_norms.%d.weight", k),
                   tensors_f32(w, e, "depformer_norms.%d.bias", k));
    matvec(logits, h, tensors_f32(w, (size_t)c->card * e, "linears.%d.weight", k), c->card,
           c->dep_dim);
    free(h);
}

/* Codebooks 0 .. n-1; hidden and logits of all of them. */
static void depth_prefix(const mo_lm_config *c, const tensors *w, const double *normed, int text,
                         const int32_t *audio, int n, double *hidden, double *logits) {
    memset(hidden, 0, (size_t)(n * c->dep_dim) * sizeof *hidden);
    for (int k = 0; k < n; k++)
        depth_input(c, w, normed, k, k == 0 ? text : audio[k - 1], hidden + k * c->dep_dim);
    for (int l = 0; l < c->dep_layers; l++) depth_layer(c, w, l, n, hidden);
    for (int k = 0; k < n; k++)
        depth_head(c, w, k, hidden + k * c->dep_dim, logits + (size_t)k * (size_t)c->card);
}

void oracle_lm_depth(const mo_lm_config *c, const tensors *w, const double *normed, int text,
                     const int32_t *audio, double *hidden, double *logits) {
    depth_prefix(c, w, normed, text, audio, c->dep_q, hidden, logits);
}

void oracle_lm_depth_greedy(const mo_lm_config *c, const tensors *w, const double *normed, int text,
                            int32_t *audio) {
    double *hidden = test_alloc((size_t)(c->dep_q * c->dep_dim), sizeof *hidden);
    double *logits = test_alloc((size_t)c->dep_q * (size_t)c->card, sizeof *logits);
    double margin;
    for (int k = 0; k < c->dep_q; k++) {
        depth_prefix(c, w, normed, text, audio, k + 1, hidden, logits);
        audio[k] = oracle_argmax(logits + (size_t)k * (size_t)c->card, c->card, &margin);
    }
    free(hidden);
    free(logits);
}

int oracle_argmax(const double *logits, int n, double *margin) {
    int best = 0;
    double second = -INFINITY;
    for (int i = 1; i < n; i++) {
        if (logits[i] > logits[best]) {
            second = logits[best];
            best = i;
        } else if (logits[i] > second) {
            second = logits[i];
        }
    }
    *margin = logits[best] - second;
    return best;
}
