/* lower.c - ops to dispatches. Push constants are structs that mirror the block of each shader. */
#include "cpu/pack.h"
#include "vk.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { UNITS_PER_Y = 32768, STRIPS_PER_X = 65528 };

/* Where a binding may begin on every device, and what ranges are worth. */
enum { ALIGNED_BYTES = 256, ALIGNED_WORDS = ALIGNED_BYTES / 4 };

static VkDeviceSize most_bound(const mo_program *p) {
    return p->device->limits.maxStorageBufferRange;
}

/* Element of `v` that the slots being lowered begin with, and the first one that its binding shows:
 * the buffer's first one, unless the buffer is larger than a binding. */
static size_t first_of(const mo_program *p, const mo_view *v) {
    return v->offset + (size_t)p->first_slot * v->slot_stride;
}

static size_t bound_from(const mo_program *p, const mo_view *v) {
    if (!v->buf || v->buf->bytes <= most_bound(p)) return 0;
    return first_of(p, v) / ALIGNED_WORDS * ALIGNED_WORDS;
}

static span span_of(const mo_program *p, const mo_view *v) {
    return (span){(uint32_t)(first_of(p, v) - bound_from(p, v)), (uint32_t)v->slot_stride,
                  (uint32_t)v->row_stride};
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
    d->shader = mo_vk_variant_of(p->device, shader);
    if (d->shader < 0) return NULL;
    d->base = -1;
    d->width = VK_USUAL_WIDTH;
    d->groups[0] = x;
    d->groups[1] = units < UNITS_PER_Y ? units : UNITS_PER_Y;
    d->groups[2] = ceil_div(units, UNITS_PER_Y);
    d->bind[0].buf = p->exec;
    d->bind[0].offset = (VkDeviceSize)p->first_slot * VK_EXEC_BYTES;
    p->n_dispatches++;
    return d;
}

static void bind(vk_dispatch *d, int binding, const mo_buf *buf) {
    d->bind[binding].buf = (const vk_buffer *)buf;
}

/* Where the whole buffer is too large to show, what the slots being lowered have in it. */
static void bind_view(mo_program *p, vk_dispatch *d, int binding, const mo_view *v) {
    bind(d, binding, v->buf);
    if (!v->buf || v->buf->bytes <= most_bound(p)) return;
    VkDeviceSize from = (VkDeviceSize)bound_from(p, v) * 4, rest = v->buf->bytes - from;
    VkDeviceSize last = first_of(p, v) + (size_t)(p->n_slots - 1) * v->slot_stride +
                        (size_t)(v->rows - 1) * v->row_stride + (size_t)v->cols;
    d->bind[binding].offset = from;
    d->bind[binding].bytes = rest < most_bound(p) ? rest : most_bound(p) / 4 * 4;
    p->too_large |= last * 4 - from > d->bind[binding].bytes;
}

static void bind_weight(mo_program *p, vk_dispatch *d, int binding, const mo_weight *w) {
    if (!w) return;
    bind(d, binding, w->buf);
    p->too_large |= w->buf->bytes > most_bound(p);
}

/* The scratch comes when it is known how much the largest op needs. */
static void bind_scratch(mo_program *p, vk_dispatch *d, int binding, uint64_t bytes) {
    d->bind[binding].scratch = true;
    if (bytes > p->scratch_bytes) p->scratch_bytes = bytes;
    p->too_large |= bytes > most_bound(p);
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

/* How many of n rows or strips of `bytes` each one binding may show: all, or as many as end where
 * the next binding may begin; 0 when not even that many. */
static uint32_t rows_per_binding(const mo_program *p, uint64_t bytes, uint32_t n) {
    uint64_t most = most_bound(p) / bytes, step = 1;
    while (step * bytes % ALIGNED_BYTES) step *= 2;
    return most >= n ? n : (uint32_t)(most / step * step);
}

/* One dispatch per table, or several when one is larger than a binding. */
static bool embed(mo_program *p, const mo_op_embed_sum *op) {
    struct {
        span tokens, dst;
        uint32_t rows, units, cols, dtype, strips, add, first_row, n_rows, row_bytes, bits, group,
            wide;
    } v = {span_of(p, &op->tokens),        span_of(p, &op->out),
           .rows = (uint32_t)op->out.rows, .units = (uint32_t)(p->n_slots * op->out.rows),
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
        uint32_t part = rows_per_binding(p, v.row_bytes, rows);
        if (part == 0) return false;
        for (v.first_row = 0; v.first_row < rows; v.first_row += part) {
            vk_dispatch *d = add(p, "embed", ceil_div(v.cols, 64), v.units);
            if (!d) return false;
            v.n_rows = rows - v.first_row < part ? rows - v.first_row : part;
            bind(d, 1, t->buf);
            d->bind[1].offset = (VkDeviceSize)v.first_row * v.row_bytes;
            d->bind[1].bytes =
                v.first_row + part < rows ? (VkDeviceSize)part * v.row_bytes : VK_WHOLE_SIZE;
            bind_view(p, d, 2, &op->tokens);
            bind_view(p, d, 3, &op->out);
            PUSH(d, v);
            v.add = 1;
        }
        v.tokens.offset++;
    }
    return true;
}

/* ---- linear --------------------------------------------------------------------------------- */

/* Quantised rows: 8 words of numbers and 4 of sums for each block. */
static uint64_t record_bytes(const linear_push *l) {
    return (uint64_t)l->units * l->blocks * 12 * 4;
}

static bool quantise(mo_program *p, const mo_op_linear *op, const linear_push *l) {
    const struct {
        span src;
        uint32_t rows, units, stride, run, tap_step, cols, blocks;
    } v = {l->src,   l->rows, l->units, l->stride, l->run, l->tap_step, (uint32_t)op->w->cols,
           l->blocks};
    vk_dispatch *d = add(p, "quantise", ceil_div(v.blocks, 64), v.units);
    if (!d) return false;
    bind_view(p, d, 1, &op->in);
    bind_scratch(p, d, 2, record_bytes(l));
    PUSH(d, v);
    return true;
}

/* Strips first, first + n of the weights. */
static bool linear_part(mo_program *p, const mo_op_linear *op, const char *shader, linear_push *l,
                        uint32_t first, uint32_t n, uint64_t strip_bytes, uint32_t tile) {
    vk_dispatch *d = add(p, shader, n, ceil_div(l->units, tile));
    if (!d) return false;
    d->base = mo_vk_shader_find(shader); /* mo_vk_tune() says which variant */
    l->first = first * MO_STRIP;
    bind(d, 1, op->w->buf);
    d->bind[1].offset = first * strip_bytes;
    d->bind[1].bytes = n * strip_bytes;
    bind_weight(p, d, 2, op->bias);
    bind_weight(p, d, 3, op->scale);
    if (l->blocks)
        bind_scratch(p, d, 4, record_bytes(l));
    else
        bind_view(p, d, 4, &op->in);
    bind_view(p, d, 5, &op->add);
    bind_view(p, d, 6, &op->out);
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
    linear_push l = {.src = span_of(p, &op->in),
                     .add = span_of(p, &op->add),
                     .dst = span_of(p, &op->out),
                     .rows = (uint32_t)op->out.rows,
                     .units = (uint32_t)(p->n_slots * op->out.rows),
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
    uint32_t part = rows_per_binding(p, strip_bytes, strips);
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
    } v = {span_of(p, &op->in),   span_of(p, &op->out),
           (uint32_t)op->in.rows, (uint32_t)(p->n_slots * op->in.rows),
           (uint32_t)op->in.cols, op->kind == MO_NORM_LAYER,
           op->bias != NULL,      op->eps};
    vk_dispatch *d = add(p, "norm", 1, v.units);
    if (!d) return false;
    bind_view(p, d, 1, &op->in);
    bind_weight(p, d, 2, op->weight);
    bind_weight(p, d, 3, op->bias);
    bind_view(p, d, 4, &op->out);
    PUSH(d, v);
    return true;
}

enum { KIND_GATE = 3 /* beyond the values of mo_act */ };

static bool act(mo_program *p, uint32_t kind, const mo_view *in, const mo_view *out) {
    const struct {
        span src, dst;
        uint32_t rows, units, cols, kind;
    } v = {span_of(p, in),      span_of(p, out),
           (uint32_t)out->rows, (uint32_t)(p->n_slots * out->rows),
           (uint32_t)out->cols, kind};
    vk_dispatch *d = add(p, "act", ceil_div(v.cols, 64), v.units);
    if (!d) return false;
    bind_view(p, d, 1, in);
    bind_view(p, d, 2, out);
    PUSH(d, v);
    return true;
}

static bool upsample(mo_program *p, const mo_op_upsample *op) {
    const struct {
        span src, dst;
        uint32_t rows, units, cols, taps, stride;
    } v = {span_of(p, &op->in),    span_of(p, &op->out),
           (uint32_t)op->out.rows, (uint32_t)(p->n_slots * op->out.rows),
           (uint32_t)op->out.cols, (uint32_t)op->taps,
           (uint32_t)op->stride};
    vk_dispatch *d = add(p, "upsample", ceil_div(v.cols, 64), v.units);
    if (!d) return false;
    bind_weight(p, d, 1, op->w);
    bind_view(p, d, 2, &op->in);
    bind_view(p, d, 3, &op->out);
    PUSH(d, v);
    return true;
}

/* ---- attention ------------------------------------------------------------------------------ */

static bool rope_table(mo_program *p, const mo_op_rope_table *op) {
    const struct {
        span pos, dst;
        uint32_t rows, units, pairs;
    } v = {span_of(p, &op->pos), span_of(p, &op->out), (uint32_t)op->out.rows,
           (uint32_t)(p->n_slots * op->out.rows), (uint32_t)op->out.cols / 2};
    vk_dispatch *d = add(p, "rope_table", ceil_div(v.pairs, 64), v.units);
    if (!d) return false;
    bind_weight(p, d, 1, op->freq);
    bind_view(p, d, 2, &op->pos);
    bind_view(p, d, 3, &op->out);
    PUSH(d, v);
    return true;
}

static int32_t position_of(const mo_view *pos, int static_pos) {
    return pos->buf ? -1 : static_pos;
}

/* Heads first .. first + n - 1 of a cache, as bound. */
typedef struct ring_part {
    uint32_t first, n, first_word;
    VkDeviceSize offset, bytes; /* 0, 0: all of it */
} ring_part;

/* As many heads from `first` on as a binding can show: all of them where there are several slots,
 * which then must be fewer. */
static ring_part ring_part_at(mo_program *p, const mo_kv *kv, uint32_t first) {
    ring_part part = {first, (uint32_t)kv->kv_heads - first, 0, 0, 0};
    uint64_t head = (uint64_t)kv->capacity * kv->row_bytes;
    if (kv->k->bytes <= most_bound(p)) return part;
    uint64_t from = ((uint64_t)p->first_slot * (uint64_t)kv->kv_heads + first) * head;
    uint64_t heads = (most_bound(p) - ALIGNED_BYTES) / head;
    uint64_t want = (uint64_t)p->n_slots * part.n;
    p->too_large |= heads == 0 || (p->n_slots > 1 && heads < want);
    if (heads == 0) heads = 1;
    if (p->n_slots == 1 && heads < part.n) part.n = (uint32_t)heads;
    part.offset = from / ALIGNED_BYTES * ALIGNED_BYTES;
    part.first_word = (uint32_t)((from - part.offset) / 4);
    part.bytes = (uint64_t)p->n_slots * part.n * head + part.first_word * 4;
    return part;
}

static void bind_ring(vk_dispatch *d, int binding, const mo_kv *kv, const ring_part *part) {
    const mo_buf *both[2] = {kv->k, kv->v};
    for (int i = 0; i < 2; i++) {
        bind(d, binding + i, both[i]);
        d->bind[binding + i].offset = part->offset;
        d->bind[binding + i].bytes = part->bytes;
    }
}

static bool rope_kv_part(mo_program *p, const mo_op_rope_kv *op, const ring_part *part) {
    const mo_kv *kv = &op->kv;
    const struct {
        span qkv, table, pos;
        uint32_t rows, units, kind, heads, kv_heads, head_dim, capacity, row_words, dtype;
        int32_t static_pos;
        uint32_t queries, first_head, n_heads, first_word;
    } v = {span_of(p, &op->qkv),
           span_of(p, &op->table),
           span_of(p, &op->pos),
           (uint32_t)op->qkv.rows,
           (uint32_t)(p->n_slots * op->qkv.rows),
           (uint32_t)op->kind,
           (uint32_t)op->heads,
           (uint32_t)kv->kv_heads,
           (uint32_t)kv->head_dim,
           (uint32_t)kv->capacity,
           (uint32_t)(kv->row_bytes / 4),
           shader_dtype(kv->dtype),
           position_of(&op->pos, op->static_pos),
           part->first == 0 ? (uint32_t)op->heads : 0,
           part->first,
           part->n,
           part->first_word};
    vk_dispatch *d = add(p, "rope_kv", v.queries + 2 * v.n_heads, v.units);
    if (!d) return false;
    bind_view(p, d, 1, &op->qkv);
    bind_view(p, d, 2, &op->table);
    bind_view(p, d, 3, &op->pos);
    bind_ring(d, 4, kv, part);
    PUSH(d, v);
    return true;
}

static bool rope_kv(mo_program *p, const mo_op_rope_kv *op) {
    uint32_t heads = (uint32_t)op->kv.kv_heads;
    for (ring_part part = {0}; part.first < heads; part.first += part.n) {
        part = ring_part_at(p, &op->kv, part.first);
        if (!rope_kv_part(p, op, &part)) return false;
    }
    return true;
}

/* Most positions a query can see. */
static uint32_t reach_of(const mo_op_attend *op) {
    return (uint32_t)(op->context < op->kv.capacity ? op->context : op->kv.capacity);
}

enum { ATTEND_PART = 128 /* positions that a workgroup takes: attend.glsl */ };

/* What `parts` workgroups make of every head of every query, for attend_merge.comp. */
static uint64_t made_bytes(const mo_program *p, const mo_op_attend *op, uint32_t parts) {
    uint64_t heads = (uint64_t)p->n_slots * (uint64_t)op->out.rows * (uint64_t)op->heads;
    return parts > 1 ? heads * parts * (2 + (uint64_t)op->kv.head_dim) * 4 : 0;
}

static bool attend_part(mo_program *p, const mo_op_attend *op, const ring_part *part,
                        uint32_t parts) {
    const mo_kv *kv = &op->kv;
    const uint32_t shared_by = (uint32_t)(op->heads / kv->kv_heads);
    const struct {
        span qkv, pos, dst;
        uint32_t rows, units, heads, kv_heads, head_dim, capacity, row_words, dtype, context, parts;
        int32_t static_pos;
        float scale;
        uint32_t first_head, first_word;
    } v = {span_of(p, &op->qkv),
           span_of(p, &op->pos),
           span_of(p, &op->out),
           (uint32_t)op->out.rows,
           (uint32_t)(p->n_slots * op->out.rows),
           (uint32_t)op->heads,
           (uint32_t)kv->kv_heads,
           (uint32_t)kv->head_dim,
           (uint32_t)kv->capacity,
           (uint32_t)(kv->row_bytes / 4),
           shader_dtype(kv->dtype),
           (uint32_t)op->context,
           parts,
           position_of(&op->pos, op->static_pos),
           (float)(1.0 / sqrt((double)kv->head_dim)),
           part->first * shared_by,
           part->first_word};
    vk_dispatch *d = add(p, "attend", part->n * shared_by * parts, v.units);
    if (!d) return false;
    bind_view(p, d, 1, &op->qkv);
    bind_view(p, d, 2, &op->pos);
    bind_ring(d, 3, kv, part);
    if (parts > 1) bind_scratch(p, d, 5, made_bytes(p, op, parts));
    bind_view(p, d, 6, &op->out);
    PUSH(d, v);
    return true;
}

static bool attend_merge(mo_program *p, const mo_op_attend *op, uint32_t parts) {
    const struct {
        span pos, dst;
        uint32_t rows, units, heads, head_dim, capacity, context, parts;
        int32_t static_pos;
    } v = {span_of(p, &op->pos),
           span_of(p, &op->out),
           (uint32_t)op->out.rows,
           (uint32_t)(p->n_slots * op->out.rows),
           (uint32_t)op->heads,
           (uint32_t)op->kv.head_dim,
           (uint32_t)op->kv.capacity,
           (uint32_t)op->context,
           parts,
           position_of(&op->pos, op->static_pos)};
    vk_dispatch *d = add(p, "attend_merge", v.heads, v.units);
    if (!d) return false;
    bind_view(p, d, 1, &op->pos);
    bind_scratch(p, d, 2, made_bytes(p, op, parts));
    bind_view(p, d, 3, &op->out);
    PUSH(d, v);
    return true;
}

static bool attend(mo_program *p, const mo_op_attend *op) {
    const uint32_t heads = (uint32_t)op->kv.kv_heads, parts = ceil_div(reach_of(op), ATTEND_PART);
    for (ring_part part = {0}; part.first < heads; part.first += part.n) {
        part = ring_part_at(p, &op->kv, part.first);
        if (!attend_part(p, op, &part, parts)) return false;
    }
    return parts == 1 || attend_merge(p, op, parts);
}

/* ---- tokens --------------------------------------------------------------------------------- */

/* Length of the longest entry, rounded up; negative when out of memory. Asks the device for the
 * codebook: the host has not kept it. */
static float largest_norm(vk_device *d, const mo_weight *book) {
    size_t dim = (size_t)book->cols, n = (size_t)((book->rows + MO_STRIP - 1) / MO_STRIP) * dim;
    float *e = mo_calloc(n, MO_STRIP * sizeof *e);
    double most = 0;
    if (!e) return -1;
    mo_vk_buffer_read(d, (const vk_buffer *)book->buf, 0, e, n * MO_STRIP * sizeof *e);
    for (size_t strip = 0; strip < n; strip += dim)
        for (size_t j = 0; j < MO_STRIP; j++) {
            double sum = 0;
            for (size_t i = strip; i < strip + dim; i++)
                sum += (double)e[i * MO_STRIP + j] * (double)e[i * MO_STRIP + j];
            most = sum > most ? sum : most;
        }
    free(e);
    return (float)(sqrt(most) * 1.000001);
}

static bool rvq_pick(mo_program *p, const mo_op_rvq_pick *op) {
    if (op->codebook->layout != MO_LAYOUT_STRIPS) return false;
    if (p->norm_of != op->codebook) p->norm = largest_norm(p->device, op->codebook);
    p->norm_of = op->codebook;
    const struct {
        span scores, residual, codes;
        uint32_t rows, units, bins, dim;
        float radius, blur;
    } v = {span_of(p, &op->scores),
           span_of(p, &op->residual),
           span_of(p, &op->codes),
           (uint32_t)op->codes.rows,
           (uint32_t)(p->n_slots * op->codes.rows),
           (uint32_t)op->codebook->rows,
           (uint32_t)op->codebook->cols,
           p->norm,
           op->blur};
    vk_dispatch *d = add(p, "rvq_pick", 1, v.units);
    if (!d || v.radius < 0) return false;
    bind_weight(p, d, 1, op->codebook);
    bind_view(p, d, 2, &op->scores);
    bind_view(p, d, 3, &op->residual);
    bind_view(p, d, 4, &op->codes);
    PUSH(d, v);
    return true;
}

static bool sample(mo_program *p, const mo_op_sample *op) {
    const struct {
        span logits, params, force, step, token;
        uint32_t units, n, channel;
        int32_t not_forced;
    } v = {span_of(p, &op->logits),   span_of(p, &op->params), span_of(p, &op->force),
           span_of(p, &op->step),     span_of(p, &op->token),  (uint32_t)p->n_slots,
           (uint32_t)op->logits.cols, (uint32_t)op->channel,   MOSHI_FREE};
    vk_dispatch *d = add(p, "sample", 1, v.units);
    if (!d) return false;
    bind_view(p, d, 1, &op->logits);
    bind_view(p, d, 2, &op->params);
    bind_view(p, d, 3, &op->force);
    bind_view(p, d, 4, &op->step);
    bind_view(p, d, 5, &op->token);
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
    } v = {span_of(p, &g->cache),
           span_of(p, &g->step),
           span_of(p, given),
           span_of(p, out),
           (uint32_t)p->n_slots,
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
    bind_view(p, d, 1, &g->cache);
    bind_view(p, d, 2, &g->step);
    bind(d, 3, &p->numbers->base);
    bind_view(p, d, 4, given);
    bind_view(p, d, 5, out);
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
    } v = {span_of(p, rows ? rows : &none),
           span_of(p, pos ? pos : &none),
           (uint32_t)p->n_slots,
           mode,
           (uint32_t)n,
           rows ? (uint32_t)rows->cols : 1,
           rows ? (uint32_t)(rows->rows - n) : 0};
    vk_dispatch *d = add(p, "stream", ceil_div(v.cols, 64), v.units);
    if (!d) return false;
    if (rows) bind_view(p, d, 1, rows);
    if (pos) bind_view(p, d, 2, pos);
    PUSH(d, v);
    return true;
}

/* Takes flags back that the host has set. */
static bool sift(mo_program *p, const mo_op_sift *op) {
    const struct {
        span tokens;
        uint32_t units, cols;
        int32_t n;
    } v = {span_of(p, &op->tokens), (uint32_t)p->n_slots, (uint32_t)op->tokens.cols, op->n};
    vk_dispatch *d = add(p, "sift", 1, v.units);
    if (!d) return false;
    d->bind[1] = d->bind[0];
    bind_view(p, d, 2, &op->tokens);
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
    case MO_OP_SIFT:
        return sift(p, &op->u.sift);
    default:
        return false;
    }
}

/* For all slots at once or, where its buffers are too large for that, for half as many at a time,
 * and half as many again. `delays` as in grid(): every group of slots uses the same ones. */
static bool lower_grouped(mo_program *p, const mo_op *op, uint32_t *delays) {
    const int first = p->n_dispatches;
    uint32_t known = *delays;
    bool ok = true;
    for (int most = p->slots; most > 0; most /= 2) {
        p->n_dispatches = first;
        p->too_large = false;
        for (int slot = 0; ok && !p->too_large && slot < p->slots; slot += most) {
            p->first_slot = slot;
            p->n_slots = p->slots - slot < most ? p->slots - slot : most;
            *delays = known;
            ok = lower_op(p, op, delays);
        }
        if (!ok || !p->too_large) break;
    }
    return ok && !p->too_large;
}

bool mo_vk_lower(mo_program *p, const mo_op *ops) {
    uint64_t numbers = 0;
    uint32_t delays = 0;
    for (int i = 0; i < p->n; i++) {
        if (ops[i].kind == MO_OP_GRID_READ) numbers += 1 + (uint64_t)ops[i].u.grid_read.grid.n_q;
        if (ops[i].kind == MO_OP_GRID_WRITE) numbers += 1 + (uint64_t)ops[i].u.grid_write.grid.n_q;
    }
    p->numbers = mo_vk_buffer_new(p->device, (size_t)numbers * 4, VK_SEEN);
    if (!p->numbers) return false;
    for (int i = 0; i < p->n; i++) {
        p->starts[i] = p->n_dispatches;
        if (!lower_grouped(p, &ops[i], &delays)) return false;
    }
    p->starts[p->n] = p->n_dispatches;
    p->scratch = mo_vk_buffer_new(p->device, (size_t)p->scratch_bytes, VK_UNSEEN);
    return p->scratch != NULL;
}
