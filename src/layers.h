/* layers.h - what the language model and the codec share: the transformer layer, and convolutions
 * that remember their past. */
#ifndef MO_LAYERS_H
#define MO_LAYERS_H

#include "ops.h"
#include "weights.h"

/* ---- transformer layer --------------------------------------------------------------------
 *     x += scale1 * out_proj(attend(in_proj(norm1(x))))
 *     x += scale2 * linear2(f(linear1(norm2(x))))
 * with f = silu(first half) * second half when gated, exact GELU otherwise. */

typedef struct mo_layer_shape {
    int dim, heads, kv_heads, head_dim;
    int hidden; /* inputs of linear2 */
    bool gated;
    mo_norm_kind norm;
    float norm_eps;
    mo_rope_kind rope;
    int context; /* keys a query may see, itself included */
} mo_layer_shape;

typedef struct mo_layer {
    const mo_weight *norm1, *norm1_bias, *in_proj, *out_proj, *scale1;
    const mo_weight *norm2, *norm2_bias, *linear1, *linear2, *scale2;
} mo_layer;

/* Activations every layer of a stack reuses. */
typedef struct mo_layer_scratch {
    mo_view normed, qkv, attended, wide, gate;
} mo_layer_scratch;

/* Where a layer is in time: per-slot positions (with the rope table made from them), or a position
 * fixed at record time (depth transformer, no rope). */
typedef struct mo_layer_time {
    mo_view pos, table;
    int static_pos;
    /* 0, or the rows are `calls` calls of a stream one after the other, the first row of each at
     * its own position: what a call writes to the ring only it and later ones see. `pos` is
     * starts[0]. */
    int calls;
    const mo_view *starts;
} mo_layer_time;

/* out = scale * (w in) + add; `scale` may be NULL and `add` empty. */
void mo_project(mo_graph *g, const mo_weight *w, const mo_weight *scale, mo_view in, mo_view add,
                mo_view out);
mo_layer_scratch mo_layer_scratch_new(mo_graph *g, const mo_layer_shape *shape, int rows);
/* Rows of in_proj: q, k and v of all heads. */
int mo_layer_qkv_rows(const mo_layer_shape *shape);
/* Attention alone; afterwards `s->attended` holds the heads' outputs and x the sum. Taps, after
 * `name`: .norm1 .in_proj .rope (the queries) .attend .attn. */
void mo_layer_attention(mo_graph *g, const mo_layer_shape *shape, const mo_layer *w,
                        const mo_layer_scratch *s, const mo_layer_time *time, mo_kv kv, mo_view x,
                        const char *name);
/* Taps: .norm2 .linear1 .act .out. */
void mo_layer_feed_forward(mo_graph *g, const mo_layer_shape *shape, const mo_layer *w,
                           const mo_layer_scratch *s, mo_view x, const char *name);

/* in_proj / out_proj under any of the spellings checkpoints use: "in_proj_weight" (sets stacked
 * along rows), "in_proj.weight" (the same), "in_projs.S.weight" (one tensor per set). `what` is
 * "in_proj" or "out_proj"; `prefix` ends in "self_attn.". */
const mo_weight *mo_load_projection(mo_loader *ld, const char *prefix, const char *what, int set,
                                    int sets, int64_t rows, int64_t cols);
/* Inverse frequencies of rotary embedding, [1, head_dim / 2]. */
const mo_weight *mo_load_rope_freq(mo_loader *ld, int head_dim, float max_period);

/* ---- streaming convolution ----------------------------------------------------------------
 * A causal convolution reads a window that begins `left` rows before its new input. Those rows are
 * kept in front of the buffer the producer writes to; after the convolution has read it, the
 * buffer's tail is moved to its front. Zero after a reset. */

typedef struct mo_stream {
    mo_view all;   /* [left + rows, cols] */
    mo_view fresh; /* the last `rows` rows: where the producer writes */
    int left;
} mo_stream;

mo_stream mo_stream_new(mo_graph *g, int left, int rows, int cols);
/* Keep the tail for the next call; record after the last reader. */
void mo_stream_shift(mo_graph *g, const mo_stream *s);

typedef struct mo_conv {
    const mo_weight *w, *bias;
    int taps, stride, dilation;
} mo_conv;

/* History rows a convolution needs. */
int mo_conv_left(const mo_conv *c);
/* out = conv(in) (+ add); `in` begins with the history. */
void mo_conv_part(mo_graph *g, const mo_conv *c, mo_view in, mo_view add, mo_view out);
/* The same of a whole stream, then shift. */
void mo_conv_run(mo_graph *g, const mo_conv *c, const mo_stream *in, mo_view add, mo_view out);
/* The transposed convolution loaded with mo_load_convt: out [in rows * stride, channels] is written
 * as [in rows, stride * channels], which is the same memory because out's rows are dense. */
void mo_convt_run(mo_graph *g, const mo_conv *c, const mo_stream *in, mo_view out);

#endif
