#include "cost.h"

#include "cpu/pack.h"

#include <stdlib.h>

/* ---- cost ----------------------------------------------------------------------------------- */

static void add_embed_sum(const mo_op_embed_sum *op, moshi_stage_info *info) {
    for (int i = 0; i < op->n; i++)
        info->weight_bytes +=
            op->tables[i]->buf->bytes / (uint64_t)op->tables[i]->rows * (uint64_t)op->out.rows;
}

static uint64_t bytes_read(const mo_weight *w) {
    const mo_qshape s = mo_qshape_of(w->dtype, w->cols, w->bits, w->group, w->scales_dtype);
    const uint64_t strips = ((uint64_t)w->rows + MO_STRIP - 1) / MO_STRIP;
    return w->buf->bytes - (w->layout == MO_LAYOUT_STRIPS ? strips * s.apart : 0);
}

static void add_linear(const mo_op_linear *op, moshi_stage_info *info) {
    info->weight_bytes += bytes_read(op->w);
    info->operations += 2.0 * op->out.rows * op->w->rows * op->w->cols;
}

/* Attention over positions that a conversation adds to; that over the codebooks of one frame reads
 * what it has just written. */
static void add_attend(const mo_op_attend *op, moshi_stage_info *info) {
    if (!op->pos.buf) return;
    info->position_bytes += 2 * (uint64_t)op->kv.kv_heads * op->kv.row_bytes;
    info->frame_positions = op->qkv.rows;
    info->max_positions = op->context < op->kv.capacity ? op->context : op->kv.capacity;
}

void mo_graph_cost(const mo_graph *g, int first, int last, moshi_stage_info *info) {
    for (int i = first; i < last; i++) {
        const mo_op *op = &g->ops[i];
        if (op->kind == MO_OP_EMBED_SUM) add_embed_sum(&op->u.embed_sum, info);
        if (op->kind == MO_OP_LINEAR) add_linear(&op->u.linear, info);
        if (op->kind == MO_OP_ATTEND) add_attend(&op->u.attend, info);
    }
}

/* ---- pretending ----------------------------------------------------------------------------- */

static void set_i32(const mo_graph *g, const mo_view *v, int slot, int32_t value) {
    mo_backend *be = g->arena->be;
    be->ops->write(be, v->buf, (v->offset + (size_t)slot * v->slot_stride) * 4, &value,
                   sizeof value);
}

/* No token was forgotten: each column of the grid holds the first entry of every codebook. */
static void fill_grid(const mo_graph *g, const mo_grid *grid, int slot, int64_t frames) {
    mo_backend *be = g->arena->be;
    const mo_view *c = &grid->cache;
    for (int row = 0; row < c->rows; row++)
        be->ops->zero(be, c->buf,
                      (c->offset + (size_t)slot * c->slot_stride + (size_t)row * c->row_stride) * 4,
                      (size_t)c->cols * 4);
    set_i32(g, &grid->step, slot, (int32_t)frames);
}

/* Rows of a ring, small numbers without a pattern, in the format of mo_kv. */
static void fill_rows(uint8_t *rows, size_t n, const mo_kv *kv) {
    uint32_t state = 1;
    for (size_t i = 0; i < n; i++, rows += kv->row_bytes) {
        size_t at = 0;
        if (kv->dtype == MO_I8) {
            const float scale = 0.01f;
            memcpy(rows, &scale, sizeof scale);
            at = sizeof scale;
        }
        for (int k = 0; k < kv->head_dim; k++) {
            state = state * 1664525u + 1013904223u;
            float x = (float)(int32_t)state * 0x1p-31f;
            uint16_t half = mo_f32_to_bf16(x);
            int8_t byte = (int8_t)(x * 127);
            if (kv->dtype == MO_F32)
                memcpy(rows + at + 4 * (size_t)k, &x, 4);
            else if (kv->dtype == MO_BF16)
                memcpy(rows + at + 2 * (size_t)k, &half, 2);
            else
                memcpy(rows + at + (size_t)k, &byte, 1);
        }
    }
}

/* The rows that are valid after `positions`, the same for every head. */
static int fill_ring(const mo_graph *g, const mo_kv *kv, int slot, int64_t positions) {
    mo_backend *be = g->arena->be;
    size_t capacity = (size_t)kv->capacity, heads = (size_t)kv->kv_heads;
    size_t n = positions < (int64_t)capacity ? (size_t)positions : capacity;
    uint8_t *rows = mo_calloc(n + 1, kv->row_bytes);
    if (!rows) return MOSHI_ENOMEM;
    fill_rows(rows, n, kv);
    for (size_t h = 0; h < heads; h++) {
        size_t at = ((size_t)slot * heads + h) * capacity * kv->row_bytes;
        be->ops->write(be, kv->k, at, rows, n * kv->row_bytes);
        be->ops->write(be, kv->v, at, rows, n * kv->row_bytes);
    }
    free(rows);
    return 0;
}

int mo_graph_pretend(const mo_graph *g, int slot, int64_t frames) {
    int rc = 0;
    for (int i = 0; i < g->n_ops && rc == 0; i++) {
        const mo_op *op = &g->ops[i];
        if (op->kind == MO_OP_ADVANCE)
            set_i32(g, &op->u.advance.pos, slot, (int32_t)(frames * op->u.advance.n));
        if (op->kind == MO_OP_GRID_READ) fill_grid(g, &op->u.grid_read.grid, slot, frames);
        if (op->kind == MO_OP_ATTEND && op->u.attend.pos.buf)
            rc = fill_ring(g, &op->u.attend.kv, slot, frames * op->u.attend.qkv.rows);
    }
    return rc;
}
