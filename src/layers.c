#include "layers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- transformer layer -------------------------------------------------------------------- */

int mo_layer_qkv_rows(const mo_layer_shape *shape) {
    return (shape->heads + 2 * shape->kv_heads) * shape->head_dim;
}

mo_layer_scratch mo_layer_scratch_new(mo_graph *g, const mo_layer_shape *shape, int rows) {
    mo_layer_scratch s = {0};
    s.normed = mo_scratch(g, rows, shape->dim);
    s.qkv = mo_scratch(g, rows, mo_layer_qkv_rows(shape));
    s.attended = mo_scratch(g, rows, shape->heads * shape->head_dim);
    s.gate = mo_scratch(g, rows, shape->hidden);
    s.wide = shape->gated ? mo_scratch(g, rows, 2 * shape->hidden) : s.gate;
    return s;
}

void mo_project(mo_graph *g, const mo_weight *w, const mo_weight *scale, mo_view in, mo_view add,
                mo_view out) {
    mo_linear(g, &(mo_op_linear){.w = w,
                                 .scale = scale,
                                 .in = in,
                                 .add = add,
                                 .out = out,
                                 .taps = 1,
                                 .stride = 1,
                                 .dilation = 1});
}

/* Call c's queries, keys and values turned to its positions, its keys and values stored. */
static void record_rope(mo_graph *g, const mo_layer_shape *shape, mo_view qkv,
                        const mo_layer_time *time, mo_view pos, mo_kv kv, int c) {
    mo_view table = time->table;
    if (table.buf) table = mo_rows(table, c * qkv.rows, qkv.rows);
    mo_rope_kv(g, &(mo_op_rope_kv){.kind = shape->rope,
                                   .heads = shape->heads,
                                   .qkv = qkv,
                                   .table = table,
                                   .pos = pos,
                                   .static_pos = time->static_pos,
                                   .kv = kv});
}

/* Rotary embedding and attention, one call after the other: a later call's keys may take the place
 * of those that an earlier one attends to. A trace gets the embedding before the (last) attention,
 * so that an attention that is wrong is not taken for it. */
static void record_calls(mo_graph *g, const mo_layer_shape *shape, const mo_layer_scratch *s,
                         const mo_layer_time *time, mo_kv kv, const char *name) {
    const int calls = time->calls ? time->calls : 1, rows = s->qkv.rows / calls;
    for (int c = 0; c < calls; c++) {
        const mo_view pos = time->calls ? time->starts[c] : time->pos;
        const mo_view qkv = mo_rows(s->qkv, c * rows, rows);
        record_rope(g, shape, qkv, time, pos, kv, c);
        if (c + 1 == calls)
            mo_tap(g, mo_cols(s->qkv, 0, shape->heads * shape->head_dim), s->qkv.rows == 1,
                   "%s.rope", name);
        mo_attend(g, &(mo_op_attend){.heads = shape->heads,
                                     .context = shape->context,
                                     .qkv = qkv,
                                     .pos = pos,
                                     .static_pos = time->static_pos,
                                     .kv = kv,
                                     .out = mo_rows(s->attended, c * rows, rows)});
    }
}

void mo_layer_attention(mo_graph *g, const mo_layer_shape *shape, const mo_layer *w,
                        const mo_layer_scratch *s, const mo_layer_time *time, mo_kv kv, mo_view x,
                        const char *name) {
    bool flat = x.rows == 1;
    mo_norm(g, shape->norm, shape->norm_eps, w->norm1, w->norm1_bias, x, s->normed);
    mo_tap(g, s->normed, flat, "%s.norm1", name);
    mo_project(g, w->in_proj, NULL, s->normed, (mo_view){0}, s->qkv);
    mo_tap(g, s->qkv, flat, "%s.in_proj", name);
    record_calls(g, shape, s, time, kv, name);
    mo_tap(g, s->attended, flat, "%s.attend", name);
    mo_project(g, w->out_proj, w->scale1, s->attended, x, x);
    mo_tap(g, x, flat, "%s.attn", name);
}

void mo_layer_feed_forward(mo_graph *g, const mo_layer_shape *shape, const mo_layer *w,
                           const mo_layer_scratch *s, mo_view x, const char *name) {
    bool flat = x.rows == 1;
    mo_norm(g, shape->norm, shape->norm_eps, w->norm2, w->norm2_bias, x, s->normed);
    mo_tap(g, s->normed, flat, "%s.norm2", name);
    mo_project(g, w->linear1, NULL, s->normed, (mo_view){0}, s->wide);
    mo_tap(g, s->wide, flat, "%s.linear1", name);
    if (shape->gated)
        mo_act_mul(g, s->wide, s->gate);
    else
        mo_act_op(g, MO_ACT_GELU, s->wide, s->gate);
    mo_tap(g, s->gate, flat, "%s.act", name);
    mo_project(g, w->linear2, w->scale2, s->gate, x, x);
    mo_tap(g, x, flat, "%s.out", name);
}

const mo_weight *mo_load_projection(mo_loader *ld, const char *prefix, const char *what, int set,
                                    int sets, int64_t rows, int64_t cols) {
    if (mo_load_has(ld, "%s%ss.%d.weight", prefix, what, set))
        return mo_load_matrix(ld, MO_LAYOUT_STRIPS, rows, cols, "%s%ss.%d.weight", prefix, what,
                              set);
    if (!mo_load_has(ld, "%s%s.weight", prefix, what) && !strcmp(what, "in_proj"))
        return mo_load_part(ld, set, sets, rows, cols, "%sin_proj_weight", prefix);
    return mo_load_part(ld, set, sets, rows, cols, "%s%s.weight", prefix, what);
}

const mo_weight *mo_load_rope_freq(mo_loader *ld, int head_dim, float max_period) {
    int n = head_dim / 2;
    float *freq = mo_calloc((size_t)n, sizeof *freq);
    if (!freq) {
        if (!ld->failed) ld->failed = mo_fail(ld->err, MOSHI_ENOMEM, "out of memory");
        return NULL;
    }
    /* In float32, as the reference rounds: at position 100,000 one unit in the last place of a
     * frequency is worth 0.006 radians. */
    float slope = (float)(-log((double)max_period) * 2.0 / head_dim);
    for (int i = 0; i < n; i++) freq[i] = (float)exp((double)((float)i * slope));
    const mo_weight *w = mo_load_const(ld, MO_LAYOUT_ROWS, 1, n, freq);
    free(freq);
    return w;
}

/* ---- streaming convolution ---------------------------------------------------------------- */

mo_stream mo_stream_new(mo_graph *g, int left, int rows, int cols) {
    mo_stream s = {.left = left};
    s.all = left ? mo_state_view(g, left + rows, cols, 0) : mo_scratch(g, rows, cols);
    s.fresh = mo_rows(s.all, left, rows);
    return s;
}

void mo_stream_shift(mo_graph *g, const mo_stream *s) {
    mo_shift(g, s->all, s->left);
}

int mo_conv_left(const mo_conv *c) {
    return (c->taps - 1) * c->dilation + 1 - c->stride;
}

void mo_conv_part(mo_graph *g, const mo_conv *c, mo_view in, mo_view add, mo_view out) {
    mo_linear(g, &(mo_op_linear){.w = c->w,
                                 .bias = c->bias,
                                 .in = in,
                                 .add = add,
                                 .out = out,
                                 .taps = c->taps,
                                 .stride = c->stride,
                                 .dilation = c->dilation});
}

void mo_conv_run(mo_graph *g, const mo_conv *c, const mo_stream *in, mo_view add, mo_view out) {
    mo_conv_part(g, c, in->all, add, out);
    mo_stream_shift(g, in);
}

void mo_convt_run(mo_graph *g, const mo_conv *c, const mo_stream *in, mo_view out) {
    if (g->failed) return;
    int stride = out.rows / in->fresh.rows;
    out.rows = in->fresh.rows;
    out.cols *= stride;
    out.row_stride *= (size_t)stride;
    mo_linear(g, &(mo_op_linear){.w = c->w,
                                 .bias = c->bias,
                                 .in = in->all,
                                 .out = out,
                                 .taps = c->taps,
                                 .stride = 1,
                                 .dilation = 1});
    mo_stream_shift(g, in);
}
