#include "ops.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- arena -------------------------------------------------------------------------------- */

int mo_arena_open(mo_arena *a, mo_backend *be, int slots) {
    memset(a, 0, sizeof *a);
    a->be = be;
    a->slots = slots;
    return 0;
}

void mo_arena_close(mo_arena *a) {
    for (int i = 0; i < a->n_bufs; i++) a->be->ops->free(a->be, a->bufs[i]);
    free(a->bufs);
    free(a->states);
    memset(a, 0, sizeof *a);
}

/* Grow *items so that one more fits; false when out of memory. */
static bool grow(void **items, int *cap, int n, size_t size) {
    if (n < *cap) return true;
    int bigger = *cap ? *cap * 2 : 64;
    void *p = realloc(*items, (size_t)bigger * size);
    if (!p) return false;
    *items = p;
    *cap = bigger;
    return true;
}

typedef mo_buf *alloc_fn(mo_backend *be, size_t bytes);

static mo_buf *arena_take(mo_arena *a, alloc_fn *alloc, size_t bytes) {
    if (!grow((void **)&a->bufs, &a->cap_bufs, a->n_bufs, sizeof *a->bufs)) return NULL;
    mo_buf *buf = alloc(a->be, bytes);
    if (!buf) return NULL;
    a->bufs[a->n_bufs++] = buf;
    a->bytes += bytes;
    return buf;
}

static mo_buf *arena_alloc(mo_arena *a, size_t bytes) {
    return arena_take(a, a->be->ops->alloc, bytes);
}

/* Write `fill` into every element of one slot's share of a state. */
static void state_fill(mo_arena *a, const mo_state *st, int slot) {
    const mo_backend_ops *ops = a->be->ops;
    size_t at = st->slot_bytes * (size_t)slot;
    if (st->fill == 0) {
        ops->zero(a->be, st->buf, at, st->slot_bytes);
        return;
    }
    int32_t chunk[64];
    for (size_t i = 0; i < 64; i++) chunk[i] = st->fill;
    for (size_t done = 0; done < st->slot_bytes; done += sizeof chunk) {
        size_t n = st->slot_bytes - done < sizeof chunk ? st->slot_bytes - done : sizeof chunk;
        ops->write(a->be, st->buf, at + done, chunk, n);
    }
}

void mo_arena_reset_slot(mo_arena *a, int slot) {
    for (int i = 0; i < a->n_states; i++) state_fill(a, &a->states[i], slot);
}

/* ---- graph -------------------------------------------------------------------------------- */

void mo_graph_begin(mo_graph *g, mo_arena *arena, moshi_error *err) {
    memset(g, 0, sizeof *g);
    g->arena = arena;
    g->err = err;
}

static void graph_nomem(mo_graph *g) {
    if (!g->failed)
        g->failed = mo_fail(g->err, MOSHI_ENOMEM, "out of memory while laying out the model%s%s",
                            g->arena->be->problem[0] ? ": " : "", g->arena->be->problem);
}

/* Shapes disagree: a bug in model code or a shape nobody checked before; never a crash. */
static bool graph_want(mo_graph *g, bool ok, const char *what) {
    if (!ok && !g->failed)
        g->failed = mo_fail(g->err, MOSHI_EINTERNAL, "op %d of the model: shapes do not fit (%s)",
                            g->n_ops, what);
    return ok && !g->failed;
}

static void graph_add(mo_graph *g, const mo_op *op) {
    if (g->failed) return;
    if (!grow((void **)&g->ops, &g->cap_ops, g->n_ops, sizeof *g->ops)) {
        graph_nomem(g);
        return;
    }
    g->ops[g->n_ops++] = *op;
}

int mo_graph_finish(mo_graph *g) {
    if (g->failed) return g->failed;
    mo_backend *be = g->arena->be;
    g->program = be->ops->record(be, g->ops, g->n_ops, g->arena->slots);
    if (!g->program) graph_nomem(g);
    return g->failed;
}

void mo_graph_free(mo_graph *g) {
    if (g->program) g->arena->be->ops->program_free(g->arena->be, g->program);
    free(g->ops);
    free(g->taps);
    memset(g, 0, sizeof *g);
}

static mo_view view_make(mo_buf *buf, int rows, int cols) {
    return (mo_view){.buf = buf,
                     .slot_stride = (size_t)rows * (size_t)cols,
                     .row_stride = (size_t)cols,
                     .rows = rows,
                     .cols = cols};
}

static mo_view view_new(mo_graph *g, alloc_fn *alloc, int rows, int cols) {
    size_t bytes;
    if (g->failed) return (mo_view){0};
    if (!graph_want(g, rows > 0 && cols > 0, "scratch")) return (mo_view){0};
    if (!mo_mul((size_t)g->arena->slots * 4, (size_t)rows, &bytes) ||
        !mo_mul(bytes, (size_t)cols, &bytes)) {
        graph_nomem(g);
        return (mo_view){0};
    }
    mo_buf *buf = arena_take(g->arena, alloc, bytes);
    if (!buf) graph_nomem(g);
    return view_make(buf, rows, cols);
}

mo_view mo_scratch(mo_graph *g, int rows, int cols) {
    return view_new(g, g->arena->be->ops->alloc, rows, cols);
}

/* The view as one that is kept. */
static mo_view keep(mo_graph *g, mo_view v, int32_t fill) {
    mo_arena *a = g->arena;
    if (g->failed) return v;
    if (!grow((void **)&a->states, &a->cap_states, a->n_states, sizeof *a->states)) {
        graph_nomem(g);
        return v;
    }
    a->states[a->n_states++] = (mo_state){v.buf, v.slot_stride * 4, fill};
    a->kept_bytes += v.buf->bytes;
    for (int slot = 0; slot < a->slots; slot++) state_fill(a, &a->states[a->n_states - 1], slot);
    return v;
}

mo_view mo_state_view(mo_graph *g, int rows, int cols, int32_t fill) {
    return keep(g, mo_scratch(g, rows, cols), fill);
}

mo_view mo_input_view(mo_graph *g, int rows, int cols, int32_t fill) {
    return keep(g, view_new(g, g->arena->be->ops->alloc_input, rows, cols), fill);
}

size_t mo_kv_row_bytes(mo_dtype dtype, int head_dim) {
    size_t n = (size_t)head_dim;
    switch (dtype) {
    case MO_F32:
        return n * 4;
    case MO_BF16:
        return (n * 2 + 3) / 4 * 4;
    case MO_I8:
        return 4 + (n + 3) / 4 * 4;
    default:
        return 0;
    }
}

mo_kv mo_kv_ring(mo_graph *g, mo_dtype dtype, int kv_heads, int capacity, int head_dim) {
    mo_kv kv = {.dtype = dtype,
                .kv_heads = kv_heads,
                .capacity = capacity,
                .head_dim = head_dim,
                .row_bytes = mo_kv_row_bytes(dtype, head_dim)};
    size_t bytes;
    if (g->failed || !graph_want(g, kv_heads > 0 && capacity > 0 && head_dim > 0, "kv ring"))
        return kv;
    if (!mo_mul((size_t)g->arena->slots * (size_t)kv_heads, (size_t)capacity, &bytes) ||
        !mo_mul(bytes, kv.row_bytes, &bytes) || !(kv.k = arena_alloc(g->arena, bytes)) ||
        !(kv.v = arena_alloc(g->arena, bytes)))
        graph_nomem(g);
    else
        g->arena->kept_bytes += 2 * bytes;
    return kv;
}

mo_view mo_rows(mo_view v, int first, int n) {
    v.offset += (size_t)first * v.row_stride;
    v.rows = n;
    return v;
}

mo_view mo_cols(mo_view v, int first, int n) {
    v.offset += (size_t)first;
    v.cols = n;
    return v;
}

/* ---- replay ------------------------------------------------------------------------------- */

static size_t tap_bytes(const mo_tap_point *t) {
    return (size_t)t->view.rows * (size_t)t->view.cols * 4;
}

size_t mo_graph_tap_bytes(const mo_graph *g) {
    size_t most = 0;
    for (int i = 0; i < g->n_taps; i++)
        if (tap_bytes(&g->taps[i]) > most) most = tap_bytes(&g->taps[i]);
    return most;
}

/* Gather the tap's view of one slot into the trace's scratch and hand it to the caller. */
static void tap_deliver(const mo_graph *g, const mo_tap_point *t, const mo_trace *trace, int slot,
                        int64_t step) {
    mo_backend *be = g->arena->be;
    const mo_view *v = &t->view;
    size_t base = v->offset + (size_t)slot * v->slot_stride;
    uint32_t *out = trace->scratch;
    for (int r = 0; r < v->rows; r++) {
        size_t at = (base + (size_t)r * v->row_stride) * 4;
        if (!t->channels_first) {
            be->ops->read(be, v->buf, at, out + (size_t)r * (size_t)v->cols, (size_t)v->cols * 4);
            continue;
        }
        for (int c = 0; c < v->cols; c++)
            be->ops->read(be, v->buf, at + (size_t)c * 4,
                          out + (size_t)c * (size_t)v->rows + (size_t)r, 4);
    }
    moshi_tap tap = {.name = t->name,
                     .data = trace->scratch,
                     .dtype = t->dtype,
                     .ndim = t->ndim,
                     .slot = slot,
                     .step = step};
    if (t->ndim == 1) {
        tap.shape[0] = v->cols;
    } else {
        tap.shape[0] = t->channels_first ? v->cols : v->rows;
        tap.shape[1] = t->channels_first ? v->rows : v->cols;
    }
    trace->fn(trace->user, &tap);
}

int mo_trace_set(mo_trace *t, const char *globs, moshi_tap_fn fn, void *user) {
    char *copy = fn ? mo_format("%s", globs) : NULL;
    if (fn && !copy) return MOSHI_ENOMEM;
    free(t->globs);
    t->globs = copy;
    t->fn = fn;
    t->user = user;
    return 0;
}

int mo_graph_run_part(const mo_graph *g, int first, int last, const uint8_t *exec,
                      const mo_trace *trace, const int64_t *step) {
    mo_backend *be = g->arena->be;
    if (!trace || !trace->fn) return be->ops->run(be, g->program, first, last, exec);
    int done = first;
    for (int i = 0; i < g->n_taps; i++) {
        const mo_tap_point *t = &g->taps[i];
        /* what is there before the first op belongs to the part before */
        if ((t->after <= first && first > 0) || t->after > last) continue;
        if (!mo_glob(trace->globs, t->name) || tap_bytes(t) > trace->scratch_bytes) continue;
        if (t->after > done) {
            int rc = be->ops->run(be, g->program, done, t->after, exec);
            if (rc < 0) return rc;
            done = t->after;
        }
        for (int s = 0; s < g->arena->slots; s++)
            if (exec[s]) tap_deliver(g, t, trace, s, step[s]);
    }
    return done < last ? be->ops->run(be, g->program, done, last, exec) : 0;
}

int mo_graph_run(const mo_graph *g, const uint8_t *exec, const mo_trace *trace,
                 const int64_t *step) {
    return mo_graph_run_part(g, 0, g->n_ops, exec, trace, step);
}

/* ---- ops ---------------------------------------------------------------------------------- */

static bool weight_fits(const mo_graph *g, mo_op_kind kind, const mo_weight *w) {
    return w && w->buf && g->arena->be->ops->supports(g->arena->be, kind, w->dtype);
}

static bool vector_fits(const mo_weight *w, int cols) {
    return !w ||
           (w->dtype == MO_F32 && w->layout == MO_LAYOUT_ROWS && w->rows == 1 && w->cols == cols);
}

void mo_embed_sum(mo_graph *g, const mo_weight *const *tables, int n, mo_view tokens, mo_view out,
                  bool accumulate) {
    if (g->failed) return;
    bool ok = n > 0 && tokens.cols >= n && tokens.rows == out.rows;
    for (int i = 0; ok && i < n; i++)
        ok = weight_fits(g, MO_OP_EMBED_SUM, tables[i]) && tables[i]->cols == out.cols &&
             (tables[i]->layout == MO_LAYOUT_ROWS || mo_dtype_is_float(tables[i]->dtype));
    if (!graph_want(g, ok, "embed_sum")) return;
    mo_op op = {.kind = MO_OP_EMBED_SUM};
    op.u.embed_sum = (mo_op_embed_sum){tables, n, tokens, out, accumulate};
    graph_add(g, &op);
}

void mo_norm(mo_graph *g, mo_norm_kind kind, float eps, const mo_weight *weight,
             const mo_weight *bias, mo_view in, mo_view out) {
    if (g->failed) return;
    bool ok = weight && vector_fits(weight, in.cols) && vector_fits(bias, in.cols) &&
              in.rows == out.rows && in.cols == out.cols && (kind == MO_NORM_RMS || bias);
    if (!graph_want(g, ok, "norm")) return;
    mo_op op = {.kind = MO_OP_NORM};
    op.u.norm = (mo_op_norm){kind, eps, weight, bias, in, out};
    graph_add(g, &op);
}

void mo_linear(mo_graph *g, const mo_op_linear *l) {
    if (g->failed) return;
    int64_t need =
        (int64_t)(l->out.rows - 1) * l->stride + (int64_t)(l->taps - 1) * l->dilation + 1;
    bool ok = weight_fits(g, MO_OP_LINEAR, l->w) && l->w->layout == MO_LAYOUT_STRIPS &&
              l->taps > 0 && l->stride > 0 && l->dilation > 0 &&
              (int64_t)l->w->cols == (int64_t)l->taps * l->in.cols && l->w->rows == l->out.cols &&
              l->in.rows >= need && vector_fits(l->bias, l->out.cols) &&
              vector_fits(l->scale, l->out.cols) &&
              (!l->add.buf || (l->add.rows == l->out.rows && l->add.cols == l->out.cols));
    if (!graph_want(g, ok, "linear")) return;
    mo_op op = {.kind = MO_OP_LINEAR};
    op.u.linear = *l;
    graph_add(g, &op);
}

void mo_rope_table(mo_graph *g, const mo_weight *freq, mo_view pos, mo_view out) {
    if (g->failed) return;
    if (!graph_want(g, freq && vector_fits(freq, out.cols / 2) && out.cols % 2 == 0, "rope_table"))
        return;
    mo_op op = {.kind = MO_OP_ROPE_TABLE};
    op.u.rope_table = (mo_op_rope_table){freq, pos, out};
    graph_add(g, &op);
}

static bool kv_fits(const mo_graph *g, mo_op_kind kind, const mo_kv *kv, int heads,
                    const mo_view *qkv) {
    return g->arena->be->ops->supports(g->arena->be, kind, kv->dtype) && kv->k && kv->v &&
           heads > 0 && kv->kv_heads > 0 && heads % kv->kv_heads == 0 &&
           qkv->cols == (heads + 2 * kv->kv_heads) * kv->head_dim && qkv->rows <= kv->capacity;
}

void mo_rope_kv(mo_graph *g, const mo_op_rope_kv *r) {
    if (g->failed) return;
    bool table = r->kind == MO_ROPE_NONE ||
                 (r->table.buf && r->table.cols == r->kv.head_dim && r->table.rows == r->qkv.rows);
    if (!graph_want(g, table && kv_fits(g, MO_OP_ROPE_KV, &r->kv, r->heads, &r->qkv), "rope_kv"))
        return;
    mo_op op = {.kind = MO_OP_ROPE_KV};
    op.u.rope_kv = *r;
    graph_add(g, &op);
}

void mo_attend(mo_graph *g, const mo_op_attend *a) {
    if (g->failed) return;
    bool ok = kv_fits(g, MO_OP_ATTEND, &a->kv, a->heads, &a->qkv) && a->out.rows == a->qkv.rows &&
              a->out.cols == a->heads * a->kv.head_dim && a->context > 0;
    if (!graph_want(g, ok, "attend")) return;
    mo_op op = {.kind = MO_OP_ATTEND};
    op.u.attend = *a;
    graph_add(g, &op);
}

static void act_add(mo_graph *g, mo_act act, mo_view in, mo_view out, bool passes) {
    if (g->failed) return;
    if (!graph_want(g, in.rows == out.rows && in.cols == out.cols, "act")) return;
    mo_op op = {.kind = MO_OP_ACT};
    op.u.act = (mo_op_act){act, in, out, passes};
    graph_add(g, &op);
}

void mo_act_op(mo_graph *g, mo_act act, mo_view in, mo_view out) {
    act_add(g, act, in, out, false);
}

void mo_act_pass(mo_graph *g, mo_act act, mo_view in, mo_view out) {
    act_add(g, act, in, out, true);
}

void mo_act_mul(mo_graph *g, mo_view in, mo_view out) {
    if (g->failed) return;
    if (!graph_want(g, in.rows == out.rows && in.cols == 2 * out.cols, "act_mul")) return;
    mo_op op = {.kind = MO_OP_ACT_MUL};
    op.u.act_mul = (mo_op_act_mul){in, out};
    graph_add(g, &op);
}

void mo_upsample(mo_graph *g, const mo_weight *w, int taps, int stride, mo_view in, mo_view out) {
    if (g->failed) return;
    bool ok = w && w->dtype == MO_F32 && w->layout == MO_LAYOUT_ROWS && w->rows == in.cols &&
              w->cols == taps * stride && out.cols == in.cols &&
              out.rows == (in.rows - taps + 1) * stride;
    if (!graph_want(g, ok, "upsample")) return;
    mo_op op = {.kind = MO_OP_UPSAMPLE};
    op.u.upsample = (mo_op_upsample){w, taps, stride, in, out};
    graph_add(g, &op);
}

void mo_rvq_pick(mo_graph *g, const mo_op_rvq_pick *o) {
    if (g->failed) return;
    bool ok = weight_fits(g, MO_OP_RVQ_PICK, o->codebook) && o->scores.cols == o->codebook->rows &&
              o->residual.cols == o->codebook->cols && o->codes.cols == 1 &&
              o->scores.rows == o->residual.rows && o->codes.rows == o->residual.rows &&
              vector_fits(o->blurs, o->codebook->rows);
    if (!graph_want(g, ok, "rvq_pick")) return;
    mo_op op = {.kind = MO_OP_RVQ_PICK};
    op.u.rvq_pick = *o;
    graph_add(g, &op);
}

void mo_sample(mo_graph *g, const mo_op_sample *s) {
    if (g->failed) return;
    bool ok = s->params.cols == MO_SAMPLE_COLS && s->token.cols == 1 && s->step.cols == 1 &&
              s->channel < s->force.cols;
    if (!graph_want(g, ok, "sample")) return;
    mo_op op = {.kind = MO_OP_SAMPLE};
    op.u.sample = *s;
    graph_add(g, &op);
}

void mo_grid_read(mo_graph *g, const mo_grid *grid, mo_view user, mo_view out) {
    if (g->failed) return;
    bool ok = out.cols == 1 + grid->n_q && (grid->n_q == grid->dep_q || user.buf);
    if (!graph_want(g, ok, "grid_read")) return;
    mo_op op = {.kind = MO_OP_GRID_READ};
    op.u.grid_read = (mo_op_grid_read){*grid, user, out};
    graph_add(g, &op);
}

void mo_grid_write(mo_graph *g, const mo_grid *grid, mo_view tokens, mo_view out) {
    if (g->failed) return;
    bool ok = out.cols == 1 + grid->dep_q && tokens.cols == 1 + grid->dep_q;
    if (!graph_want(g, ok, "grid_write")) return;
    mo_op op = {.kind = MO_OP_GRID_WRITE};
    op.u.grid_write = (mo_op_grid_write){*grid, tokens, out};
    graph_add(g, &op);
}

void mo_pad_first(mo_graph *g, mo_view view, mo_view pos, int n) {
    if (g->failed || n == 0) return;
    if (!graph_want(g, n < view.rows, "pad_first")) return;
    mo_op op = {.kind = MO_OP_PAD_FIRST};
    op.u.pad_first = (mo_op_pad_first){view, pos, n};
    graph_add(g, &op);
}

void mo_shift(mo_graph *g, mo_view view, int n) {
    if (g->failed || n == 0) return;
    if (!graph_want(g, n < view.rows, "shift")) return;
    mo_op op = {.kind = MO_OP_SHIFT};
    op.u.shift = (mo_op_shift){view, n};
    graph_add(g, &op);
}

void mo_advance(mo_graph *g, mo_view pos, int n) {
    if (g->failed) return;
    mo_op op = {.kind = MO_OP_ADVANCE};
    op.u.advance = (mo_op_advance){pos, n};
    graph_add(g, &op);
}

void mo_sift(mo_graph *g, mo_view tokens, int n) {
    if (g->failed) return;
    if (!graph_want(g, tokens.rows == 1, "sift")) return;
    mo_op op = {.kind = MO_OP_SIFT};
    op.u.sift = (mo_op_sift){tokens, n};
    graph_add(g, &op);
}

/* ---- taps --------------------------------------------------------------------------------- */

static void tap_add(mo_graph *g, mo_view v, moshi_dtype dtype, int ndim, bool channels_first,
                    const char *fmt, va_list ap) {
    if (g->failed) return;
    if (!grow((void **)&g->taps, &g->cap_taps, g->n_taps, sizeof *g->taps)) {
        graph_nomem(g);
        return;
    }
    mo_tap_point *t = &g->taps[g->n_taps++];
    *t = (mo_tap_point){.after = g->n_ops,
                        .view = v,
                        .dtype = dtype,
                        .ndim = ndim,
                        .channels_first = channels_first};
    vsnprintf(t->name, sizeof t->name, fmt, ap);
}

void mo_tap(mo_graph *g, mo_view v, bool flat, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    tap_add(g, v, MOSHI_F32, flat && v.rows == 1 ? 1 : 2, false, fmt, ap);
    va_end(ap);
}

void mo_tap_i32(mo_graph *g, mo_view v, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    tap_add(g, v, MOSHI_I32, v.rows == 1 ? 1 : 2, false, fmt, ap);
    va_end(ap);
}

void mo_tap_channels(mo_graph *g, mo_view v, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    tap_add(g, v, MOSHI_F32, 2, true, fmt, ap);
    va_end(ap);
}
