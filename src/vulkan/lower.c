/* lower.c - ops to dispatches. Push constants are structs that mirror the block of each shader. */
#include "cpu/pack.h"
#include "vk.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { UNITS_PER_Y = 32768, STRIPS_PER_X = 65528, ALIGNED_STRIPS = 8, ALIGNED_ROWS = 256 };

typedef struct span {
    uint32_t offset, slot, row;
} span;

static span span_of(const mo_view *v) {
    return (span){(uint32_t)v->offset, (uint32_t)v->slot_stride, (uint32_t)v->row_stride};
}

static uint32_t ceil_div(uint32_t n, uint32_t by) {
    return (n + by - 1) / by;
}

/* ---- adding dispatches ---------------------------------------------------------------------- */

/* x workgroups side by side for each of `units`. NULL when out of memory or without that shader. */
static vk_dispatch *add(mo_program *p, const char *shader, uint32_t x, uint32_t units) {
    if (p->n_dispatches == p->cap_dispatches) {
        int cap = p->cap_dispatches ? 2 * p->cap_dispatches : 256;
        vk_dispatch *more = realloc(p->dispatches, (size_t)cap * sizeof *more);
        if (!more) return NULL;
        p->dispatches = more;
        p->cap_dispatches = cap;
    }
    vk_dispatch *d = &p->dispatches[p->n_dispatches];
    memset(d, 0, sizeof *d);
    d->shader = mo_vk_shader_find(shader);
    if (d->shader < 0) return NULL;
    d->groups[0] = x;
    d->groups[1] = units < UNITS_PER_Y ? units : UNITS_PER_Y;
    d->groups[2] = ceil_div(units, UNITS_PER_Y);
    d->bind[0].buf = p->exec;
    p->n_dispatches++;
    return d;
}

static void bind(vk_dispatch *d, int binding, const mo_buf *buf) {
    d->bind[binding].buf = (const vk_buffer *)buf;
}

static void bind_weight(vk_dispatch *d, int binding, const mo_weight *w) {
    if (w) bind(d, binding, w->buf);
}

#define PUSH(d, values)                                                             \
    do {                                                                            \
        _Static_assert(sizeof(values) <= VK_PUSH_BYTES, "room for push constants"); \
        memcpy((d)->push, &(values), sizeof(values));                               \
    } while (0)

/* ---- embeddings ----------------------------------------------------------------------------- */

static uint32_t shader_dtype(mo_dtype dtype) {
    static const mo_dtype order[] = {MO_F32,  MO_F16,  MO_BF16, MO_Q8_0, MO_Q4_0,
                                     MO_Q4_K, MO_Q5_K, MO_Q6_K, MO_U32,  MO_I8};
    uint32_t i = 0;
    while (i < sizeof order / sizeof order[0] && order[i] != dtype) i++;
    return i;
}

/* How many of n rows or strips of `bytes` each one binding may show: a multiple of `aligned`, so
 * that the next part begins where a binding may; 0 when not even that many. */
static uint32_t rows_per_binding(const vk_device *d, uint64_t bytes, uint32_t n, uint32_t aligned) {
    uint64_t most = d->limits.maxStorageBufferRange / bytes;
    if (most >= n) return n;
    return (uint32_t)(most / aligned * aligned);
}

/* One dispatch per table, or several when one is larger than a binding. */
static bool embed(mo_program *p, const mo_op_embed_sum *op) {
    struct {
        span tokens, dst;
        uint32_t rows, units, cols, dtype, strips, add, first_row, n_rows, row_bytes, bits, group,
            wide;
    } v = {span_of(&op->tokens),           span_of(&op->out),
           .rows = (uint32_t)op->out.rows, .units = (uint32_t)(p->slots * op->out.rows),
           .cols = (uint32_t)op->out.cols, .add = op->accumulate};
    for (int i = 0; i < op->n; i++) {
        const mo_weight *t = op->tables[i];
        uint32_t rows = (uint32_t)t->rows;
        bool strips = t->layout == MO_LAYOUT_STRIPS;
        v.row_bytes = (uint32_t)(t->buf->bytes / (strips ? ceil_div(rows, 16) * 16 : rows));
        v.dtype = shader_dtype(t->dtype);
        v.strips = strips;
        v.bits = (uint32_t)t->bits;
        v.group = (uint32_t)t->group;
        v.wide = t->scales_dtype == MO_F32;
        uint32_t part = rows_per_binding(p->device, v.row_bytes, rows, ALIGNED_ROWS);
        if (part == 0) return false;
        for (v.first_row = 0; v.first_row < rows; v.first_row += part) {
            vk_dispatch *d = add(p, "embed", ceil_div(v.cols, 64), v.units);
            if (!d) return false;
            v.n_rows = rows - v.first_row < part ? rows - v.first_row : part;
            bind(d, 1, t->buf);
            d->bind[1].offset = (VkDeviceSize)v.first_row * v.row_bytes;
            d->bind[1].bytes =
                v.first_row + part < rows ? (VkDeviceSize)part * v.row_bytes : VK_WHOLE_SIZE;
            bind(d, 2, op->tokens.buf);
            bind(d, 3, op->out.buf);
            PUSH(d, v);
            v.add = 1;
        }
        v.tokens.offset++;
    }
    return true;
}

/* ---- linear --------------------------------------------------------------------------------- */

typedef struct linear_push {
    span src, add, dst;
    uint32_t rows, units, cols, first, has_bias, has_scale, has_add;
    uint32_t stride, taps, run, tap_step;
    uint32_t blocks, group_blocks, strip_words;
} linear_push;

static bool quantise(mo_program *p, const mo_op_linear *op, const linear_push *l) {
    const struct {
        span src;
        uint32_t rows, units, stride, run, tap_step, cols, blocks;
    } v = {l->src,   l->rows, l->units, l->stride, l->run, l->tap_step, (uint32_t)op->w->cols,
           l->blocks};
    vk_dispatch *d = add(p, "quantise", ceil_div(v.blocks, 64), v.units);
    if (!d) return false;
    bind(d, 1, op->in.buf);
    bind(d, 2, &p->scratch->base);
    PUSH(d, v);
    return true;
}

/* Strips first, first + n of the weights. */
static bool linear_part(mo_program *p, const mo_op_linear *op, const char *shader, linear_push *l,
                        uint32_t first, uint32_t n, uint64_t strip_bytes, uint32_t tile) {
    vk_dispatch *d = add(p, shader, n, ceil_div(l->units, tile));
    if (!d) return false;
    l->first = first * MO_STRIP;
    bind(d, 1, op->w->buf);
    d->bind[1].offset = first * strip_bytes;
    d->bind[1].bytes = n * strip_bytes;
    bind_weight(d, 2, op->bias);
    bind_weight(d, 3, op->scale);
    bind(d, 4, l->blocks ? &p->scratch->base : op->in.buf);
    bind(d, 5, op->add.buf);
    bind(d, 6, op->out.buf);
    PUSH(d, *l);
    return true;
}

static const char *plain_name(mo_dtype dtype) {
    return dtype == MO_F32 ? "f32" : dtype == MO_F16 ? "f16" : "bf16";
}

static mo_qshape shape_of(const mo_weight *w) {
    return mo_qshape_of(w->dtype, w->cols, w->bits, w->group, w->scales_dtype);
}

static bool linear(mo_program *p, const mo_op_linear *op) {
    const mo_qshape shape = shape_of(op->w);
    const bool plain = shape.form == MO_QFORM_NONE;
    linear_push l = {.src = span_of(&op->in),
                     .add = span_of(&op->add),
                     .dst = span_of(&op->out),
                     .rows = (uint32_t)op->out.rows,
                     .units = (uint32_t)(p->slots * op->out.rows),
                     .cols = (uint32_t)op->out.cols,
                     .has_bias = op->bias != NULL,
                     .has_scale = op->scale != NULL,
                     .has_add = op->add.buf != NULL,
                     .stride = (uint32_t)op->stride,
                     .taps = (uint32_t)op->taps,
                     .run = (uint32_t)op->in.cols,
                     .tap_step = (uint32_t)(op->in.row_stride * (size_t)op->dilation)};
    if (l.tap_step == l.run) { /* the taps lie one after the other */
        l.run *= l.taps;
        l.taps = 1;
    }
    uint32_t strips = ceil_div(l.cols, MO_STRIP), tile = l.units == 1 ? 1 : 8;
    uint64_t strip_bytes = op->w->buf->bytes / strips;
    char name[32];
    if (plain) {
        snprintf(name, sizeof name, "linear_%s_%u", plain_name(op->w->dtype), tile);
    } else {
        snprintf(name, sizeof name, "qlinear_%d_%u", (int)shape.form, tile);
        l.blocks = (uint32_t)shape.blocks;
        l.group_blocks = (uint32_t)shape.group_blocks;
        l.strip_words = (uint32_t)(shape.strip_bytes / 4);
        if (!quantise(p, op, &l)) return false;
    }
    uint32_t part = rows_per_binding(p->device, strip_bytes, strips, ALIGNED_STRIPS);
    if (part > STRIPS_PER_X) part = STRIPS_PER_X;
    for (uint32_t first = 0; part > 0 && first < strips; first += part)
        if (!linear_part(p, op, name, &l, first, strips - first < part ? strips - first : part,
                         strip_bytes, tile))
            return false;
    return part > 0;
}

/* ---- rows ----------------------------------------------------------------------------------- */

static bool norm(mo_program *p, const mo_op_norm *op) {
    const struct {
        span src, dst;
        uint32_t rows, units, cols, layer, has_bias;
        float eps;
    } v = {span_of(&op->in),      span_of(&op->out),
           (uint32_t)op->in.rows, (uint32_t)(p->slots * op->in.rows),
           (uint32_t)op->in.cols, op->kind == MO_NORM_LAYER,
           op->bias != NULL,      op->eps};
    vk_dispatch *d = add(p, "norm", 1, v.units);
    if (!d) return false;
    bind(d, 1, op->in.buf);
    bind_weight(d, 2, op->weight);
    bind_weight(d, 3, op->bias);
    bind(d, 4, op->out.buf);
    PUSH(d, v);
    return true;
}

enum { KIND_GATE = 3 /* beyond the values of mo_act */ };

static bool act(mo_program *p, uint32_t kind, const mo_view *in, const mo_view *out) {
    const struct {
        span src, dst;
        uint32_t rows, units, cols, kind;
    } v = {span_of(in),         span_of(out), (uint32_t)out->rows, (uint32_t)(p->slots * out->rows),
           (uint32_t)out->cols, kind};
    vk_dispatch *d = add(p, "act", ceil_div(v.cols, 64), v.units);
    if (!d) return false;
    bind(d, 1, in->buf);
    bind(d, 2, out->buf);
    PUSH(d, v);
    return true;
}

static bool upsample(mo_program *p, const mo_op_upsample *op) {
    const struct {
        span src, dst;
        uint32_t rows, units, cols, taps, stride;
    } v = {span_of(&op->in),       span_of(&op->out),
           (uint32_t)op->out.rows, (uint32_t)(p->slots * op->out.rows),
           (uint32_t)op->out.cols, (uint32_t)op->taps,
           (uint32_t)op->stride};
    vk_dispatch *d = add(p, "upsample", ceil_div(v.cols, 64), v.units);
    if (!d) return false;
    bind_weight(d, 1, op->w);
    bind(d, 2, op->in.buf);
    bind(d, 3, op->out.buf);
    PUSH(d, v);
    return true;
}

/* ---- attention ------------------------------------------------------------------------------ */

static bool rope_table(mo_program *p, const mo_op_rope_table *op) {
    const struct {
        span pos, dst;
        uint32_t rows, units, pairs;
    } v = {span_of(&op->pos), span_of(&op->out), (uint32_t)op->out.rows,
           (uint32_t)(p->slots * op->out.rows), (uint32_t)op->out.cols / 2};
    vk_dispatch *d = add(p, "rope_table", ceil_div(v.pairs, 64), v.units);
    if (!d) return false;
    bind_weight(d, 1, op->freq);
    bind(d, 2, op->pos.buf);
    bind(d, 3, op->out.buf);
    PUSH(d, v);
    return true;
}

static int32_t position_of(const mo_view *pos, int static_pos) {
    return pos->buf ? -1 : static_pos;
}

static bool rope_kv(mo_program *p, const mo_op_rope_kv *op) {
    const mo_kv *kv = &op->kv;
    const struct {
        span qkv, table, pos;
        uint32_t rows, units, kind, heads, kv_heads, head_dim, capacity, row_words, dtype;
        int32_t static_pos;
    } v = {span_of(&op->qkv),
           span_of(&op->table),
           span_of(&op->pos),
           (uint32_t)op->qkv.rows,
           (uint32_t)(p->slots * op->qkv.rows),
           (uint32_t)op->kind,
           (uint32_t)op->heads,
           (uint32_t)kv->kv_heads,
           (uint32_t)kv->head_dim,
           (uint32_t)kv->capacity,
           (uint32_t)(kv->row_bytes / 4),
           shader_dtype(kv->dtype),
           position_of(&op->pos, op->static_pos)};
    vk_dispatch *d = add(p, "rope_kv", v.heads + 2 * v.kv_heads, v.units);
    if (!d) return false;
    bind(d, 1, op->qkv.buf);
    bind(d, 2, op->table.buf);
    bind(d, 3, op->pos.buf);
    bind(d, 4, kv->k);
    bind(d, 5, kv->v);
    PUSH(d, v);
    return true;
}

/* Most positions a query can see. */
static uint32_t reach_of(const mo_op_attend *op) {
    return (uint32_t)(op->context < op->kv.capacity ? op->context : op->kv.capacity);
}

static bool attend(mo_program *p, const mo_op_attend *op) {
    const mo_kv *kv = &op->kv;
    const struct {
        span qkv, pos, dst;
        uint32_t rows, units, heads, kv_heads, head_dim, capacity, row_words, dtype, context, reach;
        int32_t static_pos;
        float scale;
    } v = {span_of(&op->qkv),
           span_of(&op->pos),
           span_of(&op->out),
           (uint32_t)op->out.rows,
           (uint32_t)(p->slots * op->out.rows),
           (uint32_t)op->heads,
           (uint32_t)kv->kv_heads,
           (uint32_t)kv->head_dim,
           (uint32_t)kv->capacity,
           (uint32_t)(kv->row_bytes / 4),
           shader_dtype(kv->dtype),
           (uint32_t)op->context,
           reach_of(op),
           position_of(&op->pos, op->static_pos),
           (float)(1.0 / sqrt((double)kv->head_dim))};
    vk_dispatch *d = add(p, "attend", v.heads, v.units);
    if (!d) return false;
    bind(d, 1, op->qkv.buf);
    bind(d, 2, op->pos.buf);
    bind(d, 3, kv->k);
    bind(d, 4, kv->v);
    bind(d, 5, &p->scratch->base);
    bind(d, 6, op->out.buf);
    PUSH(d, v);
    return true;
}

/* ---- tokens --------------------------------------------------------------------------------- */

/* Length of the longest entry, rounded up; negative when out of memory. Asks the device for the
 * codebook: the host has not kept it. */
static float largest_norm(vk_device *d, const mo_weight *book) {
    size_t dim = (size_t)book->cols, strip = dim * MO_STRIP;
    float *e = mo_calloc(strip, sizeof *e);
    double most = 0;
    if (!e) return -1;
    for (int first = 0; first < book->rows; first += MO_STRIP) {
        mo_vk_buffer_read(d, (const vk_buffer *)book->buf, (size_t)first * dim * sizeof *e, e,
                          strip * sizeof *e);
        for (size_t j = 0; j < MO_STRIP; j++) {
            double sum = 0;
            for (size_t i = 0; i < dim; i++)
                sum += (double)e[i * MO_STRIP + j] * (double)e[i * MO_STRIP + j];
            most = sum > most ? sum : most;
        }
    }
    free(e);
    return (float)(sqrt(most) * 1.000001);
}

static bool rvq_pick(mo_program *p, const mo_op_rvq_pick *op) {
    const struct {
        span scores, residual, codes;
        uint32_t rows, units, bins, dim;
        float radius;
    } v = {span_of(&op->scores),
           span_of(&op->residual),
           span_of(&op->codes),
           (uint32_t)op->codes.rows,
           (uint32_t)(p->slots * op->codes.rows),
           (uint32_t)op->codebook->rows,
           (uint32_t)op->codebook->cols,
           largest_norm(p->device, op->codebook)};
    vk_dispatch *d = add(p, "rvq_pick", 1, v.units);
    if (!d || v.radius < 0) return false;
    bind_weight(d, 1, op->codebook);
    bind(d, 2, op->scores.buf);
    bind(d, 3, op->residual.buf);
    bind(d, 4, op->codes.buf);
    PUSH(d, v);
    return true;
}

static bool sample(mo_program *p, const mo_op_sample *op) {
    const struct {
        span logits, params, force, step, token;
        uint32_t units, n, channel;
        int32_t not_forced;
    } v = {span_of(&op->logits),      span_of(&op->params),  span_of(&op->force),
           span_of(&op->step),        span_of(&op->token),   (uint32_t)p->slots,
           (uint32_t)op->logits.cols, (uint32_t)op->channel, MOSHI_FREE};
    vk_dispatch *d = add(p, "sample", 1, v.units);
    if (!d) return false;
    bind(d, 1, op->logits.buf);
    bind(d, 2, op->params.buf);
    bind(d, 3, op->force.buf);
    bind(d, 4, op->step.buf);
    bind(d, 5, op->token.buf);
    PUSH(d, v);
    return true;
}

/* `delays` counts those already stored in p->numbers. */
static bool grid(mo_program *p, const mo_grid *g, bool writes, const mo_view *given,
                 const mo_view *out, uint32_t *delays) {
    const struct {
        span cache, step, given, dst;
        uint32_t units, writes, columns, n_q, dep_q, delays;
        int32_t max_delay, text_initial, audio_initial, none;
    } v = {span_of(&g->cache),
           span_of(&g->step),
           span_of(given),
           span_of(out),
           (uint32_t)p->slots,
           writes,
           (uint32_t)g->cache.rows,
           (uint32_t)g->n_q,
           (uint32_t)g->dep_q,
           *delays,
           g->max_delay,
           g->text_initial,
           g->audio_initial,
           MOSHI_NO_TOKEN};
    uint32_t n = 1 + (uint32_t)g->n_q;
    vk_dispatch *d = add(p, "grid", 1, v.units);
    if (!d) return false;
    mo_vk_buffer_write(p->device, p->numbers, *delays * 4u, g->delays, n * 4u);
    *delays += n;
    bind(d, 1, g->cache.buf);
    bind(d, 2, g->step.buf);
    bind(d, 3, &p->numbers->base);
    bind(d, 4, given->buf);
    bind(d, 5, out->buf);
    PUSH(d, v);
    return true;
}

/* ---- streams -------------------------------------------------------------------------------- */

enum { PAD_FIRST, SHIFT, ADVANCE };

static bool stream(mo_program *p, uint32_t mode, const mo_view *rows, const mo_view *pos, int n) {
    const mo_view none = {0};
    const struct {
        span rows, pos;
        uint32_t units, mode, n, cols, from;
    } v = {span_of(rows ? rows : &none),
           span_of(pos ? pos : &none),
           (uint32_t)p->slots,
           mode,
           (uint32_t)n,
           rows ? (uint32_t)rows->cols : 1,
           rows ? (uint32_t)(rows->rows - n) : 0};
    vk_dispatch *d = add(p, "stream", ceil_div(v.cols, 64), v.units);
    if (!d) return false;
    if (rows) bind(d, 1, rows->buf);
    if (pos) bind(d, 2, pos->buf);
    PUSH(d, v);
    return true;
}

/* ---- the list ------------------------------------------------------------------------------- */

static bool lower_op(mo_program *p, const mo_op *op, uint32_t *delays) {
    switch (op->kind) {
    case MO_OP_EMBED_SUM:
        return embed(p, &op->u.embed_sum);
    case MO_OP_NORM:
        return norm(p, &op->u.norm);
    case MO_OP_LINEAR:
        return linear(p, &op->u.linear);
    case MO_OP_ROPE_TABLE:
        return rope_table(p, &op->u.rope_table);
    case MO_OP_ROPE_KV:
        return rope_kv(p, &op->u.rope_kv);
    case MO_OP_ATTEND:
        return attend(p, &op->u.attend);
    case MO_OP_ACT:
        return act(p, (uint32_t)op->u.act.act, &op->u.act.in, &op->u.act.out);
    case MO_OP_ACT_MUL:
        return act(p, KIND_GATE, &op->u.act_mul.in, &op->u.act_mul.out);
    case MO_OP_UPSAMPLE:
        return upsample(p, &op->u.upsample);
    case MO_OP_RVQ_PICK:
        return rvq_pick(p, &op->u.rvq_pick);
    case MO_OP_SAMPLE:
        return sample(p, &op->u.sample);
    case MO_OP_GRID_READ: {
        const mo_op_grid_read *g = &op->u.grid_read;
        return grid(p, &g->grid, false, &g->user, &g->out, delays);
    }
    case MO_OP_GRID_WRITE: {
        const mo_op_grid_write *g = &op->u.grid_write;
        return grid(p, &g->grid, true, &g->tokens, &g->out, delays);
    }
    case MO_OP_PAD_FIRST:
        return stream(p, PAD_FIRST, &op->u.pad_first.view, &op->u.pad_first.pos, op->u.pad_first.n);
    case MO_OP_SHIFT:
        return stream(p, SHIFT, &op->u.shift.view, NULL, op->u.shift.n);
    case MO_OP_ADVANCE:
        return stream(p, ADVANCE, NULL, &op->u.advance.pos, op->u.advance.n);
    default:
        return false;
    }
}

/* Bytes of scratch one op needs. */
static uint64_t scratch_of(const mo_op *op, int slots) {
    if (op->kind == MO_OP_ATTEND) {
        const mo_op_attend *a = &op->u.attend;
        return (uint64_t)slots * (uint64_t)(a->out.rows * a->heads) * reach_of(a) * 4;
    }
    if (op->kind != MO_OP_LINEAR) return 0;
    const mo_op_linear *l = &op->u.linear;
    const mo_qshape shape = shape_of(l->w);
    return shape.form == MO_QFORM_NONE
               ? 0
               : (uint64_t)slots * (uint64_t)l->out.rows * shape.blocks * 12 * 4;
}

bool mo_vk_lower(mo_program *p, const mo_op *ops) {
    uint64_t scratch = 0, numbers = 0;
    uint32_t delays = 0;
    for (int i = 0; i < p->n; i++) {
        uint64_t need = scratch_of(&ops[i], p->slots);
        if (need > scratch) scratch = need;
        if (ops[i].kind == MO_OP_GRID_READ) numbers += 1 + (uint64_t)ops[i].u.grid_read.grid.n_q;
        if (ops[i].kind == MO_OP_GRID_WRITE) numbers += 1 + (uint64_t)ops[i].u.grid_write.grid.n_q;
    }
    if (scratch > p->device->limits.maxStorageBufferRange) return false;
    p->scratch = mo_vk_buffer_new(p->device, (size_t)scratch, false);
    p->numbers = mo_vk_buffer_new(p->device, (size_t)numbers * 4, true);
    if (!p->scratch || !p->numbers) return false;
    for (int i = 0; i < p->n; i++) {
        p->starts[i] = p->n_dispatches;
        if (!lower_op(p, &ops[i], &delays)) return false;
    }
    p->starts[p->n] = p->n_dispatches;
    return true;
}
