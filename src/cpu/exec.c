/* exec.c - recorded ops on the CPU: how each splits into units of work, and how to do some units.
 *
 * Arithmetic that is worth a vector lives behind mo_kernels; what is left here is shared by every
 * level and therefore the same bits anyway. */
#include "exec.h"

#include "pack.h"
#include "sample.h"

#include <float.h>
#include <limits.h>
#include <math.h>
#include <string.h>

enum { COL_BLOCK = 1024 }; /* columns per unit of element-wise ops */

/* ---- views ---------------------------------------------------------------------------------- */

static float *f32_at(const mo_view *v, int slot, int row) {
    return (float *)v->buf->data + v->offset + (size_t)slot * v->slot_stride +
           (size_t)row * v->row_stride;
}

static int32_t *i32_at(const mo_view *v, int slot, int row) {
    return (int32_t *)v->buf->data + v->offset + (size_t)slot * v->slot_stride +
           (size_t)row * v->row_stride;
}

static const float *vector_of(const mo_weight *w) {
    return w ? w->buf->data : NULL;
}

static mo_span span_of(const mo_view *v) {
    if (!v->buf) return (mo_span){NULL, 0, 0};
    return (mo_span){(float *)v->buf->data + v->offset, v->slot_stride, v->row_stride};
}

static double view_size(const mo_view *v) {
    return (double)v->rows * v->cols;
}

/* Units that are rows of active slots, cut into blocks of columns. */
typedef struct row_block {
    int slot, row, col, cols;
} row_block;

static int blocks_per_row(int cols) {
    return (cols + COL_BLOCK - 1) / COL_BLOCK;
}

static row_block row_block_of(const mo_exec *ex, const mo_view *v, int unit) {
    int per_row = blocks_per_row(v->cols), row = unit / per_row;
    row_block b = {ex->active[row / v->rows], row % v->rows, unit % per_row * COL_BLOCK, COL_BLOCK};
    if (b.cols > v->cols - b.col) b.cols = v->cols - b.col;
    return b;
}

static int row_block_units(const mo_exec *ex, const mo_view *v) {
    return ex->n_active * v->rows * blocks_per_row(v->cols);
}

/* ---- embed_sum ------------------------------------------------------------------------------ */

static float widen(mo_dtype dtype, const void *data, size_t i) {
    switch (dtype) {
    case MO_F16:
        return mo_f16_to_f32(((const uint16_t *)data)[i]);
    case MO_BF16:
        return mo_bf16_to_f32(((const uint16_t *)data)[i]);
    default:
        return ((const float *)data)[i];
    }
}

static void embed_add(const mo_weight *table, int token, int col, int cols, float *out) {
    float row[COL_BLOCK];
    if (table->layout == MO_LAYOUT_ROWS) {
        mo_table_read(table, token, col, cols, row);
        for (int i = 0; i < cols; i++) out[i] = out[i] + row[i];
        return;
    }
    size_t r = (size_t)token, n = (size_t)table->cols;
    size_t at = r / MO_STRIP * n * MO_STRIP + (size_t)col * MO_STRIP + r % MO_STRIP;
    for (int i = 0; i < cols; i++, at += MO_STRIP)
        out[i] = out[i] + widen(table->dtype, table->buf->data, at);
}

/* -1 adds nothing. Nothing else outside the table comes here, and it would not become a wild read
 * if it did. */
static void embed_sum_run(const mo_plan *plan, const mo_exec *ex, int unit0, int unit1,
                          int thread) {
    const mo_op_embed_sum *op = &plan->op.u.embed_sum;
    (void)thread;
    for (int unit = unit0; unit < unit1; unit++) {
        row_block b = row_block_of(ex, &op->out, unit);
        float *out = f32_at(&op->out, b.slot, b.row) + b.col;
        const int32_t *tokens = i32_at(&op->tokens, b.slot, b.row);
        if (!op->accumulate) memset(out, 0, (size_t)b.cols * sizeof *out);
        for (int i = 0; i < op->n; i++)
            if (tokens[i] >= 0 && tokens[i] < op->tables[i]->rows)
                embed_add(op->tables[i], tokens[i], b.col, b.cols, out);
    }
}

/* ---- norm, element-wise --------------------------------------------------------------------- */

static void norm_run(const mo_plan *plan, const mo_exec *ex, int unit0, int unit1, int thread) {
    const mo_op_norm *op = &plan->op.u.norm;
    (void)thread;
    for (int unit = unit0; unit < unit1; unit++) {
        int slot = ex->active[unit / op->in.rows], row = unit % op->in.rows;
        ex->kernels->norm(op->kind, op->eps, vector_of(op->weight), vector_of(op->bias),
                          f32_at(&op->in, slot, row), f32_at(&op->out, slot, row), op->in.cols);
    }
}

static void act_run(const mo_plan *plan, const mo_exec *ex, int unit0, int unit1, int thread) {
    const mo_op_act *op = &plan->op.u.act;
    (void)thread;
    for (int unit = unit0; unit < unit1; unit++) {
        row_block b = row_block_of(ex, &op->out, unit);
        ex->kernels->act(op->act, f32_at(&op->in, b.slot, b.row) + b.col,
                         f32_at(&op->out, b.slot, b.row) + b.col, (size_t)b.cols);
    }
}

static void act_mul_run(const mo_plan *plan, const mo_exec *ex, int unit0, int unit1, int thread) {
    const mo_op_act_mul *op = &plan->op.u.act_mul;
    (void)thread;
    for (int unit = unit0; unit < unit1; unit++) {
        row_block b = row_block_of(ex, &op->out, unit);
        const float *in = f32_at(&op->in, b.slot, b.row) + b.col;
        ex->kernels->act_mul(in, in + op->out.cols, f32_at(&op->out, b.slot, b.row) + b.col,
                             (size_t)b.cols);
    }
}

/* ---- linear --------------------------------------------------------------------------------- */

/* Strips of a unit, of floats and of others, and how many units that are one strip each go
 * together: kernels take four strips at a time. The smaller the last ones of a thread are, the less
 * threads wait for each other. */
enum { STRIP_BLOCK = 8, QSTRIP_BLOCK = 4, GRAIN = 4, ROW_BLOCK = 48 };

/* Of weights in pieces: rows of a unit; so many blocks of rows, and threads need not share one;
 * so few units, and blocks of strips are smaller, if units split inputs and if not; bytes of
 * weights that leave room for inputs in the core's cache; floats activated at once. */
enum {
    PIECE_ROW_BLOCK = 96,
    MANY_BLOCKS = 16,
    FEW_WINDOWS = 4,
    FEW_UNITS = 8,
    WINDOW_WEIGHTS = 1 << 20,
    ACTIVATED = 2048,
};

/* Units are blocks of rows by blocks of strips. Few rows: one block, the weights pass once. Many
 * rows: neighbours share a block of strips if the weights are large, else a block of rows, so that
 * whichever is dear to read again stays in the core's cache. */
typedef struct linear_grid {
    int rows, strips, row_blocks, strip_blocks, block, grain;
    bool strips_first; /* unit = strip block * row_blocks + row block */
} linear_grid;

static double linear_weight_bytes(const mo_plan *plan) {
    double strips = (plan->linear.n + MO_STRIP - 1) / MO_STRIP;
    if (plan->shape.form != MO_QFORM_NONE) return strips * (double)plan->shape.strip_bytes;
    int size = plan->linear.dtype == MO_F32 ? 4 : 2;
    if (plan->split.pieces) size = 2 * plan->split.pieces;
    if (plan->digits.digits) size = plan->digits.digits;
    return strips * MO_STRIP * (double)plan->linear.k * size;
}

static linear_grid linear_grid_of(const mo_plan *plan, const mo_exec *ex) {
    const mo_linear_job *job = &plan->linear;
    linear_grid g = {.rows = ex->n_active * job->rows,
                     .strips = (job->n + MO_STRIP - 1) / MO_STRIP};
    const double cache_bytes = 512e3;
    g.row_blocks = (g.rows + ROW_BLOCK - 1) / ROW_BLOCK;
    const bool quantised = plan->shape.form != MO_QFORM_NONE;
    const bool fine = g.row_blocks == 1 && (plan->digits.digits || (quantised && g.rows == 1));
    g.grain = fine ? GRAIN : 1;
    g.block = fine ? 1 : quantised ? QSTRIP_BLOCK : STRIP_BLOCK;
    g.strip_blocks = (g.strips + g.block - 1) / g.block;
    g.strips_first = linear_weight_bytes(plan) > cache_bytes;
    return g;
}

static void linear_plan(mo_plan *plan) {
    const mo_op_linear *op = &plan->op.u.linear;
    mo_linear_job *job = &plan->linear;
    job->dtype = op->w->dtype;
    job->w = op->w->buf->data;
    job->bias = vector_of(op->bias);
    job->scale = vector_of(op->scale);
    job->n = op->out.cols;
    job->k = (size_t)op->taps * (size_t)op->in.cols;
    job->rows = op->out.rows;
    job->in = span_of(&op->in);
    job->add = span_of(&op->add);
    job->out = span_of(&op->out);
    job->segments = op->taps;
    job->run = (size_t)op->in.cols;
    job->run_step = op->in.row_stride * (size_t)op->dilation;
    job->in.row *= (size_t)op->stride;
    if (job->run_step == job->run) { /* the taps lie one after the other */
        job->segments = 1;
        job->run = job->k;
    }
    plan->shape =
        mo_qshape_of(op->w->dtype, op->w->cols, op->w->bits, op->w->group, op->w->scales_dtype);
    plan->split = mo_pieces_shape_of(op, job->rows);
    plan->window = plan->split.pieces && linear_weight_bytes(plan) < WINDOW_WEIGHTS;
    if (plan->window && job->rows > PIECE_ROW_BLOCK)
        plan->split = mo_pieces_shape_of(op, PIECE_ROW_BLOCK);
    plan->digits = mo_digits_shape_of(op);
}

static mo_qlinear_job qlinear_job(const mo_plan *plan, const mo_exec *ex) {
    mo_qlinear_job q = {plan->linear, plan->shape, ex->n_active * plan->linear.rows, ex->records};
    q.job.active = ex->active;
    return q;
}

/* Are rows of the inputs split before, not those of windows quantised? */
static bool is_split(const mo_plan *plan) {
    return (plan->split.pieces && !plan->window) || plan->digits.digits;
}

static bool same_view(const mo_view *a, const mo_view *b) {
    return a->buf == b->buf && a->offset == b->offset && a->rows == b->rows && a->cols == b->cols &&
           a->slot_stride == b->slot_stride && a->row_stride == b->row_stride;
}

/* Are rows of both one after the other, and the same numbers? */
static bool same_numbers(const mo_view *a, const mo_view *b) {
    return a->buf == b->buf && a->offset == b->offset && a->slot_stride == b->slot_stride &&
           view_size(a) == view_size(b) && (a->rows == 1 || a->row_stride == (size_t)a->cols) &&
           (b->rows == 1 || b->row_stride == (size_t)b->cols);
}

bool mo_plan_can_gate(const mo_plan *plan, const mo_plan *gate) {
    const mo_op_act *act = &gate->op.u.act;
    const mo_view *in = &plan->op.u.linear.in;
    if (!plan->prepare || plan->op.u.linear.taps != 1) return false;
    if (is_split(plan))
        return gate->op.kind == MO_OP_ACT && act->in.rows == 1 && same_numbers(&act->out, in);
    if (gate->op.kind == MO_OP_NORM) return same_view(&gate->op.u.norm.out, in);
    return gate->op.kind == MO_OP_ACT_MUL && same_view(&gate->op.u.act_mul.out, in);
}

bool mo_plan_gates(const mo_plan *plan, const mo_plan *gate, const mo_exec *ex) {
    if (gate->op.kind == MO_OP_NORM && ex->n_active * gate->op.u.norm.in.rows > 1) return false;
    return plan->gated;
}

static bool is_normed(const mo_exec *ex) {
    return ex->gate && ex->gate->op.kind == MO_OP_NORM;
}

/* Those columns of the gate's outputs that blocks block0 .. block1-1 consist of. */
static void gate_run(const mo_op_act_mul *op, const mo_exec *ex, int block0, int block1) {
    const int first = block0 * MO_BLOCK, cols = op->out.cols;
    const int last = block1 * MO_BLOCK < cols ? block1 * MO_BLOCK : cols;
    for (int i = 0; i < ex->n_active; i++)
        for (int row = 0; row < op->out.rows; row++) {
            const float *in = f32_at(&op->in, ex->active[i], row) + first;
            ex->kernels->act_mul(in, in + cols, f32_at(&op->out, ex->active[i], row) + first,
                                 (size_t)(last - first));
        }
}

/* Unit = block of columns, of all rows; the only row, if it is a norm's output. */
static void quantise_run(const mo_plan *plan, const mo_exec *ex, int unit0, int unit1) {
    mo_qlinear_job q = qlinear_job(plan, ex);
    if (is_normed(ex)) {
        norm_run(ex->gate, ex, unit0, unit1, 0);
        unit1 = (int)plan->shape.blocks;
    } else if (ex->gate) {
        gate_run(&ex->gate->op.u.act_mul, ex, unit0, unit1);
    }
    ex->qkernels->quantise(&q, unit0, unit1);
}

static mo_pieces_job pieces_job(const mo_plan *plan, const mo_exec *ex) {
    mo_pieces_job p = {plan->linear, plan->split, (uint16_t *)(void *)ex->records, 0, 0};
    p.job.active = ex->active;
    return p;
}

static mo_digits_job digits_job(const mo_plan *plan, const mo_exec *ex) {
    mo_digits_job d = {plan->linear, plan->digits, ex->n_active, ex->records};
    d.job.active = ex->active;
    return d;
}

/* What n rows of inputs are before they are split. */
static void act_rows_run(const mo_op_act *op, const mo_exec *ex, int slot, size_t row, size_t n,
                         size_t cols) {
    ex->kernels->act(op->act, f32_at(&op->in, slot, 0) + row * cols,
                     f32_at(&op->out, slot, 0) + row * cols, n * cols);
}

/* Unit = row of the inputs. */
static void split_run(const mo_plan *plan, const mo_exec *ex, int unit0, int unit1) {
    const mo_pieces_job p = pieces_job(plan, ex);
    const mo_digits_job d = digits_job(plan, ex);
    const mo_view *in = &plan->op.u.linear.in;
    const int rows = in->rows;
    for (int unit = unit0; unit < unit1;) {
        int at = unit / rows, row = unit % rows, n = rows - row;
        if (n > unit1 - unit) n = unit1 - unit;
        if (ex->gate)
            act_rows_run(&ex->gate->op.u.act, ex, ex->active[at], (size_t)row, (size_t)n,
                         (size_t)in->cols);
        if (plan->digits.digits)
            ex->digits->split(&d, at, row, row + n);
        else
            ex->pieces->split(&p, f32_at(in, ex->active[at], row), at, row, n);
        unit += n;
    }
}

/* Rows of a block: as many blocks for one of two threads as for the other, if they are few. */
static int piece_rows(int rows) {
    int blocks = (rows + PIECE_ROW_BLOCK - 1) / PIECE_ROW_BLOCK;
    if (blocks < MANY_BLOCKS) blocks += blocks % 2;
    const int each = (rows + blocks - 1) / blocks;
    return (each + MO_PIECE_ROWS - 1) / MO_PIECE_ROWS * MO_PIECE_ROWS;
}

/* Unit = block of rows of one slot by block of strips. The units of a block of rows are side by
 * side if they split its inputs themselves, else those of a block of strips: weights are the longer
 * way. */
typedef struct pieces_grid {
    int rows, per_slot, row_blocks, strip_block, strip_blocks;
} pieces_grid;

static pieces_grid pieces_grid_of(const mo_plan *plan, const mo_exec *ex) {
    const int strips = (plan->linear.n + MO_STRIP - 1) / MO_STRIP;
    const bool in_place = ex->before && plan->act.in.buf == plan->act.out.buf;
    pieces_grid g = {.rows = PIECE_ROW_BLOCK, .strip_block = STRIP_BLOCK};
    if (plan->window && (in_place || plan->linear.rows > PIECE_ROW_BLOCK))
        g.rows = piece_rows(plan->linear.rows);
    g.per_slot = (plan->linear.rows + g.rows - 1) / g.rows;
    g.row_blocks = ex->n_active * g.per_slot;
    if (plan->window && (g.row_blocks >= MANY_BLOCKS || in_place))
        g.strip_block = strips;
    else if (g.row_blocks * ((strips + STRIP_BLOCK - 1) / STRIP_BLOCK) <
             (plan->window ? FEW_WINDOWS : FEW_UNITS))
        g.strip_block /= 2;
    g.strip_blocks = (strips + g.strip_block - 1) / g.strip_block;
    return g;
}

static int least(int a, int b) {
    return a < b ? a : b;
}

/* Split what the rows from p->row to row1 need, after the activation if that was left to this op.
 * Of activated rows only those go to their place that the next call needs, from the block that they
 * begin in, if it `writes`. */
static void window_split(const mo_plan *plan, const mo_exec *ex, const mo_pieces_job *p, int row1,
                         bool writes, float *spare) {
    const mo_op_linear *op = &plan->op.u.linear;
    const mo_op_act *act = &plan->act;
    const int slot = ex->active[p->at], cols = op->in.cols, last = row1 == op->out.rows;
    const int end = (row1 - 1) * op->stride + (op->taps - 1) * op->dilation + 1;
    const int own = last ? end : row1 * op->stride;
    const int old = ex->before ? op->in.rows - act->out.rows : end, kept = op->in.rows - old;
    int row = p->row * op->stride, n = least(old, end) - row;
    if (n > 0) {
        ex->pieces->split(p, f32_at(&op->in, slot, row), p->at, row, n);
        row += n;
    }
    for (; row < end; row += n) {
        n = least(ACTIVATED / cols, (row < own ? own : end) - row);
        const bool mine = row < own && row + n > kept && writes;
        float *out = mine ? f32_at(&op->in, slot, row) : spare;
        ex->kernels->act(act->act, f32_at(&act->in, slot, row - old), out, (size_t)(n * cols));
        ex->pieces->split(p, out, p->at, row, n);
    }
}

static void linear_pieces_run(const mo_plan *plan, const mo_exec *ex, int unit0, int unit1,
                              int thread) {
    mo_pieces_job p = pieces_job(plan, ex);
    const pieces_grid g = pieces_grid_of(plan, ex);
    const int strips = (p.job.n + MO_STRIP - 1) / MO_STRIP;
    float *spare = ex->scratch + (size_t)thread * ex->scratch_floats;
    for (int unit = unit0; unit < unit1; unit++) {
        const int rb = plan->window ? unit / g.strip_blocks : unit % g.row_blocks;
        const int sb = plan->window ? unit % g.strip_blocks : unit / g.row_blocks;
        const int at = rb / g.per_slot, row0 = rb % g.per_slot * g.rows;
        const int row1 = least(row0 + g.rows, p.job.rows);
        const int strip0 = sb * g.strip_block, strip1 = least(strip0 + g.strip_block, strips);
        if (plan->window && (unit == unit0 || sb == 0)) {
            p.at = at;
            p.row = row0;
            p.records = (uint16_t *)(void *)(spare + ACTIVATED);
            window_split(plan, ex, &p, row1, sb == 0, spare);
        }
        ex->pieces->linear(&p, at, row0, row1, strip0, strip1);
    }
}

static bool same_rows(const mo_view *a, const mo_view *b) {
    return a->buf == b->buf && a->offset == b->offset && a->slot_stride == b->slot_stride &&
           a->row_stride == b->row_stride;
}

void mo_plan_join(mo_plan *act, mo_plan *linear, const mo_op_act *op) {
    const mo_op_linear *to = &linear->op.u.linear;
    const size_t cols = (size_t)to->in.cols;
    const int old = to->in.rows - op->out.rows;
    if (!op->passes || !linear->window || old < 0 || cols > ACTIVATED ||
        op->out.cols != to->in.cols)
        return;
    if (op->in.row_stride != cols || to->in.row_stride != cols) return;
    mo_view fresh = to->in;
    fresh.offset += (size_t)old * cols;
    if (!same_rows(&fresh, &op->out) || to->out.buf == op->in.buf) return;
    if ((to->out.rows - 1) * to->stride + (to->taps - 1) * to->dilation + 1 != to->in.rows) return;
    /* In place a block may need no rows of another one. */
    if (op->in.buf == op->out.buf &&
        (to->taps > 1 || to->stride > 1 || !same_rows(&op->in, &op->out)))
        return;
    act->joined = true;
    linear->act = *op;
}

static int linear_units(const mo_plan *plan, const mo_exec *ex) {
    const pieces_grid p = pieces_grid_of(plan, ex);
    const linear_grid g = linear_grid_of(plan, ex);
    return plan->split.pieces ? p.row_blocks * p.strip_blocks : g.row_blocks * g.strip_blocks;
}

static void linear_run(const mo_plan *plan, const mo_exec *ex, int unit0, int unit1, int thread) {
    if (plan->split.pieces) {
        linear_pieces_run(plan, ex, unit0, unit1, thread);
        return;
    }
    mo_qlinear_job q = qlinear_job(plan, ex);
    const mo_digits_job d = digits_job(plan, ex);
    linear_grid g = linear_grid_of(plan, ex);
    for (int unit = unit0, n; unit < unit1; unit += n) {
        n = g.grain == 1 ? 1 : unit1 - unit;
        int rb = g.strips_first ? unit % g.row_blocks : unit / g.strip_blocks;
        int sb = g.strips_first ? unit / g.row_blocks : unit % g.strip_blocks;
        int row0 = rb * ROW_BLOCK, row1 = row0 + ROW_BLOCK < g.rows ? row0 + ROW_BLOCK : g.rows;
        int strip0 = sb * g.block, strip1 = strip0 + n * g.block;
        if (strip1 > g.strips) strip1 = g.strips;
        if (plan->digits.digits)
            ex->digits->linear(&d, row0, row1, strip0, strip1);
        else if (q.shape.form == MO_QFORM_NONE)
            ex->kernels->linear(&q.job, row0, row1, strip0, strip1);
        else
            ex->qkernels->linear(&q, row0, row1, strip0, strip1);
    }
}

/* Bytes of whole numbers are multiplied about four times as fast as floats. */
static double linear_cost(const mo_plan *plan, const mo_exec *ex) {
    static const double per_digits[] = {0, 800.0, 400.0, 230.0};
    linear_grid g = linear_grid_of(plan, ex);
    double per_ns = plan->shape.form == MO_QFORM_NONE ? 60.0 : 240.0;
    if (plan->split.pieces) per_ns = plan->split.pieces == 2 ? 300.0 : 150.0;
    if (plan->digits.digits) per_ns = per_digits[plan->digits.digits];
    double compute = (double)g.strips * MO_STRIP * (double)plan->linear.k * g.rows / per_ns;
    double memory = linear_weight_bytes(plan) / 20.0;
    if (plan->window)
        compute += ex->n_active * view_size(&plan->op.u.linear.in) * (ex->before ? 0.45 : 0.15);
    return compute > memory ? compute : memory;
}

/* ---- attention ------------------------------------------------------------------------------ */

static void rope_table_run(const mo_plan *plan, const mo_exec *ex, int unit0, int unit1,
                           int thread) {
    const mo_op_rope_table *op = &plan->op.u.rope_table;
    const float *freq = vector_of(op->freq);
    (void)thread;
    for (int unit = unit0; unit < unit1; unit++) {
        int slot = ex->active[unit / op->out.rows], row = unit % op->out.rows;
        float position = (float)(*i32_at(&op->pos, slot, 0) + row);
        float *out = f32_at(&op->out, slot, row);
        for (int i = 0; i < op->out.cols / 2; i++) {
            float angle = position * freq[i];
            out[2 * i] = (float)cos((double)angle);
            out[2 * i + 1] = (float)sin((double)angle);
        }
    }
}

static void rotate(mo_rope_kind kind, const float *table, int hd, float *x) {
    int half = hd / 2;
    if (kind == MO_ROPE_NONE) return;
    for (int i = 0; i < half; i++) {
        float *re = kind == MO_ROPE_PAIRS ? x + 2 * i : x + i;
        float *im = kind == MO_ROPE_PAIRS ? x + 2 * i + 1 : x + half + i;
        float c = table[2 * i], s = table[2 * i + 1], a = *re, b = *im;
        *re = a * c - b * s;
        *im = a * s + b * c;
    }
}

static char *kv_at(mo_buf *buf, const mo_kv *kv, int slot, int head, int64_t position) {
    size_t ring = ((size_t)slot * (size_t)kv->kv_heads + (size_t)head) * (size_t)kv->capacity;
    return (char *)buf->data + (ring + (size_t)(position % kv->capacity)) * kv->row_bytes;
}

/* Largest |x|; NaN when there is one. */
static float largest(const float *x, int n) {
    float most = 0.0f;
    for (int i = 0; i < n; i++) {
        float a = fabsf(x[i]);
        if (a > most || a != a) most = a;
    }
    return most;
}

static void kv_store_i8(const float *x, int hd, char *row) {
    float d = largest(x, hd) / 127.0f;
    int8_t *bytes = (int8_t *)row + MO_KV_SCALE_BYTES;
    if (d < FLT_MIN) d = 0.0f;
    memcpy(row, &d, sizeof d);
    if (d > 0.0f && isfinite(d))
        for (int i = 0; i < hd; i++) bytes[i] = (int8_t)lrintf(x[i] / d);
    else
        memset(bytes, d == 0.0f ? 0 : 1, (size_t)hd);
}

static void kv_store(const mo_kv *kv, const float *x, char *row) {
    switch (kv->dtype) {
    case MO_I8:
        kv_store_i8(x, kv->head_dim, row);
        break;
    case MO_BF16:
        for (int i = 0; i < kv->head_dim; i++) ((uint16_t *)row)[i] = mo_f32_to_bf16(x[i]);
        break;
    default:
        memcpy(row, x, kv->row_bytes);
        break;
    }
}

static int64_t position_of(const mo_view *pos, int static_pos, int slot) {
    return pos->buf ? *i32_at(pos, slot, 0) : static_pos;
}

/* Unit = one head of keys and the queries that meet it; all rows, because the later one must win
 * should they wrap around the ring. */
static void rope_kv_run(const mo_plan *plan, const mo_exec *ex, int unit0, int unit1, int thread) {
    const mo_op_rope_kv *op = &plan->op.u.rope_kv;
    const int hd = op->kv.head_dim, group = op->heads / op->kv.kv_heads;
    (void)thread;
    for (int unit = unit0; unit < unit1; unit++) {
        int slot = ex->active[unit / op->kv.kv_heads], head = unit % op->kv.kv_heads;
        int64_t first = position_of(&op->pos, op->static_pos, slot);
        for (int row = 0; row < op->qkv.rows; row++) {
            const float *table = op->table.buf ? f32_at(&op->table, slot, row) : NULL;
            float *q = f32_at(&op->qkv, slot, row);
            float *k = q + (size_t)(op->heads + head) * (size_t)hd;
            float *v = k + (size_t)op->kv.kv_heads * (size_t)hd;
            for (int h = head * group; h < (head + 1) * group; h++)
                rotate(op->kind, table, hd, q + (size_t)h * (size_t)hd);
            rotate(op->kind, table, hd, k);
            kv_store(&op->kv, k, kv_at(op->kv.k, &op->kv, slot, head, first + row));
            kv_store(&op->kv, v, kv_at(op->kv.v, &op->kv, slot, head, first + row));
        }
    }
}

static double rope_cost(const mo_plan *plan, const mo_exec *ex) {
    return ex->n_active * view_size(&plan->op.u.rope_kv.qkv) * 2.0;
}

bool mo_plan_can_rope(const mo_plan *attend, const mo_plan *rope) {
    if (attend->op.kind != MO_OP_ATTEND || rope->op.kind != MO_OP_ROPE_KV) return false;
    const mo_kv *to = &attend->op.u.attend.kv, *from = &rope->op.u.rope_kv.kv;
    return to->k == from->k && to->v == from->v && to->kv_heads == attend->op.u.attend.heads &&
           same_rows(&attend->op.u.attend.qkv, &rope->op.u.rope_kv.qkv);
}

/* Most positions a query can see. */
static int attend_reach(const mo_op_attend *op) {
    return op->context < op->kv.capacity ? op->context : op->kv.capacity;
}

static size_t attend_scores(const mo_op_attend *op) {
    return ((size_t)attend_reach(op) + 15) / 16 * 16;
}

static void attend_jobs(const mo_kernels *kernels, const mo_attend_job *jobs, int n) {
    if (kernels->attend_rows) {
        kernels->attend_rows(jobs, n);
        return;
    }
    for (int i = 0; i < n; i++) kernels->attend(&jobs[i]);
}

/* Unit = head of a slot, all rows of it: they read the same keys. */
static void attend_run(const mo_plan *plan, const mo_exec *ex, int unit0, int unit1, int thread) {
    const mo_op_attend *op = &plan->op.u.attend;
    int hd = op->kv.head_dim;
    float *scores = ex->scratch + (size_t)thread * ex->scratch_floats;
    mo_attend_job job = {.dtype = op->kv.dtype,
                         .row_bytes = op->kv.row_bytes,
                         .head_dim = hd,
                         .capacity = op->kv.capacity,
                         .scale = (float)(1.0 / sqrt((double)hd))};
    for (int unit = unit0; unit < unit1; unit++) {
        int slot = ex->active[unit / op->heads], h = unit % op->heads;
        if (ex->rope) rope_kv_run(ex->rope, ex, unit, unit + 1, thread);
        int kv_head = h / (op->heads / op->kv.kv_heads);
        int64_t first = position_of(&op->pos, op->static_pos, slot);
        int64_t oldest = first + op->out.rows - op->kv.capacity; /* still in the ring */
        job.k = kv_at(op->kv.k, &op->kv, slot, kv_head, 0);
        job.v = kv_at(op->kv.v, &op->kv, slot, kv_head, 0);
        mo_attend_job jobs[MO_ATTEND_ROWS];
        int n = 0;
        for (int row = 0; row < op->out.rows; row++) {
            int64_t p = first + row, from = p - op->context + 1;
            if (from < oldest) from = oldest;
            if (from < 0) from = 0;
            job.q = f32_at(&op->qkv, slot, row) + (size_t)h * (size_t)hd;
            job.out = f32_at(&op->out, slot, row) + (size_t)h * (size_t)hd;
            job.first = from;
            job.n = (int)(p - from + 1);
            if (job.n <= 0) { /* more rows than the ring holds: this one was overwritten */
                memset(job.out, 0, (size_t)hd * sizeof(float));
                continue;
            }
            job.scores = scores + (size_t)n * attend_scores(op);
            jobs[n++] = job;
            if (n < MO_ATTEND_ROWS && row + 1 < op->out.rows) continue;
            attend_jobs(ex->kernels, jobs, n);
            n = 0;
        }
    }
}

static double attend_cost(const mo_plan *plan, const mo_exec *ex) {
    const mo_op_attend *op = &plan->op.u.attend;
    double keys = 0;
    for (int i = 0; i < ex->n_active; i++) {
        int64_t n = position_of(&op->pos, op->static_pos, ex->active[i]) + op->out.rows;
        keys += (double)(n < attend_reach(op) ? n : attend_reach(op)) + 4;
    }
    const double attending = keys * op->out.rows * op->heads * ((double)op->kv.row_bytes * 0.1 + 2);
    return attending + (ex->rope ? rope_cost(ex->rope, ex) : 0);
}

/* ---- codec ---------------------------------------------------------------------------------- */

static void upsample_run(const mo_plan *plan, const mo_exec *ex, int unit0, int unit1, int thread) {
    const mo_op_upsample *op = &plan->op.u.upsample;
    const float *w = vector_of(op->w);
    int kernel = op->taps * op->stride;
    (void)thread;
    for (int unit = unit0; unit < unit1; unit++) {
        int slot = ex->active[unit / op->out.rows], row = unit % op->out.rows;
        int t = row / op->stride, p = row % op->stride;
        float *out = f32_at(&op->out, slot, row);
        for (int c = 0; c < op->out.cols; c++) {
            float acc = 0.0f;
            for (int j = 0; j < op->taps; j++)
                acc = fmaf(w[c * kernel + j * op->stride + p],
                           f32_at(&op->in, slot, op->taps - 1 + t - j)[c], acc);
            out[c] = acc;
        }
    }
}

/* Entries in rows lie in one piece each; numbers of one in strips lie a strip apart. */
static size_t entry_step(const mo_weight *book) {
    return book->layout == MO_LAYOUT_ROWS ? 1 : MO_STRIP;
}

static const float *codebook_entry(const mo_weight *book, int entry) {
    const float *data = book->buf->data;
    const size_t cols = (size_t)book->cols, at = (size_t)entry;
    if (book->layout == MO_LAYOUT_ROWS) return data + at * cols;
    return data + at / MO_STRIP * cols * MO_STRIP + at % MO_STRIP;
}

static void fetch_entry(const mo_weight *book, int entry) {
    const size_t line = 16, step = entry_step(book), each = step == 1 ? line : step;
    const float *e = codebook_entry(book, entry);
    for (size_t i = 0; i < (size_t)book->cols * step; i += each) __builtin_prefetch(e + i, 0, 3);
}

static double entry_distance(const mo_weight *book, int entry, const float *x) {
    const float *e = codebook_entry(book, entry);
    const size_t step = entry_step(book);
    double sum = 0;
    for (int i = 0; i < book->cols; i++) {
        double d = (double)x[i] - (double)e[(size_t)i * step];
        sum += d * d;
    }
    return sum;
}

static double norm2(const float *x, int n, size_t step) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)x[(size_t)i * step] * (double)x[(size_t)i * step];
    return sqrt(sum);
}

static double largest_norm(const mo_weight *book) {
    double radius = 0;
    for (int j = 0; j < book->rows; j++) {
        double r = norm2(codebook_entry(book, j), book->cols, entry_step(book));
        if (radius == radius && !(r <= radius)) radius = r; /* NaN stays */
    }
    return radius;
}

/* Entries that can be the nearest. The best score may be wrong by some bound, and so may the true
 * winner's: both lie within twice the bound. A float32 sum of dim products is off by at most
 * (dim + 1) 2^-24 |x| |e| (Cauchy-Schwarz); the bias |e|^2 / 2 may itself have been summed that
 * way; sums with blurs round three times more. Numbers too small for the floats or the digits of
 * linear ops lose what is `tiny`; where floats may overflow scores say nothing. */
static int rvq_shortlist(const mo_plan *plan, const mo_exec *ex, const float *scores,
                         const float *x, int32_t *places) {
    const mo_op_rvq_pick *op = &plan->op.u.rvq_pick;
    const int bins = op->codebook->rows, dim = op->codebook->cols;
    const double blur = (double)op->blur, radius = plan->codebook_radius + blur;
    const double length = norm2(x, dim, 1), most = 1e18;
    if (!(length + radius < most)) {
        for (int j = 0; j < bins; j++) places[j] = j;
        return bins;
    }
    const double eps = (dim + 8) * 0x1p-24, tiny = dim * (0x1p-94 * radius + 0x1p-126);
    double slack = 2 * (eps * radius * (length + radius) + tiny);
    if (!op->blurs) slack += 2 * length * blur;
    return ex->kernels->shortlist(scores, vector_of(op->blurs), (float)(length * 1.000001),
                                  (float)(slack * 1.000001), bins, places);
}

static int rvq_choose(const mo_plan *plan, const mo_exec *ex, const float *scores, const float *x,
                      void *scratch) {
    int32_t *places = scratch;
    const mo_weight *book = plan->op.u.rvq_pick.codebook;
    const int n = rvq_shortlist(plan, ex, scores, x, places), ahead = 8;
    double nearest = INFINITY;
    int best = n == 1 ? places[0] : 0;
    for (int i = 0; i < n && i < ahead; i++) fetch_entry(book, places[i]);
    for (int i = 0; i < n && n > 1; i++) {
        if (i + ahead < n) fetch_entry(book, places[i + ahead]);
        double d = entry_distance(book, places[i], x);
        if (d < nearest) {
            nearest = d;
            best = places[i];
        }
    }
    return best;
}

static void rvq_pick_run(const mo_plan *plan, const mo_exec *ex, int unit0, int unit1, int thread) {
    const mo_op_rvq_pick *op = &plan->op.u.rvq_pick;
    const size_t step = entry_step(op->codebook);
    float *scratch = ex->scratch + (size_t)thread * ex->scratch_floats;
    for (int unit = unit0; unit < unit1; unit++) {
        int slot = ex->active[unit / op->codes.rows], row = unit % op->codes.rows;
        float *x = f32_at(&op->residual, slot, row);
        int code = rvq_choose(plan, ex, f32_at(&op->scores, slot, row), x, scratch);
        const float *e = codebook_entry(op->codebook, code);
        for (int i = 0; i < op->codebook->cols; i++) x[i] = x[i] - e[(size_t)i * step];
        *i32_at(&op->codes, slot, row) = code;
    }
}

/* ---- tokens --------------------------------------------------------------------------------- */

static float param_f32(const int32_t *params, int which) {
    float x;
    memcpy(&x, &params[which], sizeof x);
    return x;
}

static int sample_one(const mo_op_sample *op, int slot) {
    const int32_t *params = i32_at(&op->params, slot, 0);
    const float *logits = f32_at(&op->logits, slot, 0);
    int32_t forced = i32_at(&op->force, slot, 0)[op->channel];
    if (forced != MOSHI_FREE) return forced;
    bool text = op->channel == 0;
    float temp = param_f32(params, text ? MO_SAMPLE_TEXT_TEMP : MO_SAMPLE_AUDIO_TEMP);
    if (!(temp > 0.0f)) return mo_pick_greedy(logits, op->logits.cols);
    mo_philox_noise noise = {
        .key = {(uint32_t)params[MO_SAMPLE_SEED_LO], (uint32_t)params[MO_SAMPLE_SEED_HI]},
        .channel = (uint32_t)op->channel,
        .step = (uint32_t)*i32_at(&op->step, slot, 0),
        .block = UINT32_MAX};
    int top_k = params[text ? MO_SAMPLE_TEXT_TOP_K : MO_SAMPLE_AUDIO_TOP_K];
    return mo_pick(logits, op->logits.cols, temp, top_k, mo_philox_noise_at, &noise);
}

static void sample_run(const mo_plan *plan, const mo_exec *ex, int unit0, int unit1, int thread) {
    const mo_op_sample *op = &plan->op.u.sample;
    (void)thread;
    for (int unit = unit0; unit < unit1; unit++) {
        int slot = ex->active[unit];
        *i32_at(&op->token, slot, 0) = sample_one(op, slot);
    }
}

static int32_t *grid_cell(const mo_grid *g, int slot, int64_t column, int channel) {
    return i32_at(&g->cache, slot, (int)(column % g->cache.rows)) + channel;
}

static void grid_read_run(const mo_plan *plan, const mo_exec *ex, int unit0, int unit1,
                          int thread) {
    const mo_op_grid_read *op = &plan->op.u.grid_read;
    const mo_grid *g = &op->grid;
    (void)thread;
    for (int unit = unit0; unit < unit1; unit++) {
        int slot = ex->active[unit];
        int64_t o = *i32_at(&g->step, slot, 0);
        for (int c = 1 + g->dep_q; c <= g->n_q; c++)
            *grid_cell(g, slot, o + g->delays[c], c) = i32_at(&op->user, slot, 0)[c - 1 - g->dep_q];
        int32_t *out = i32_at(&op->out, slot, 0);
        for (int c = 0; c <= g->n_q; c++) {
            int initial = c == 0 ? g->text_initial : g->audio_initial;
            out[c] = o <= g->delays[c] ? initial : *grid_cell(g, slot, o, c);
        }
    }
}

static void grid_write_run(const mo_plan *plan, const mo_exec *ex, int unit0, int unit1,
                           int thread) {
    const mo_op_grid_write *op = &plan->op.u.grid_write;
    const mo_grid *g = &op->grid;
    (void)thread;
    for (int unit = unit0; unit < unit1; unit++) {
        int slot = ex->active[unit];
        const int32_t *tokens = i32_at(&op->tokens, slot, 0);
        int32_t *out = i32_at(&op->out, slot, 0), *step = i32_at(&g->step, slot, 0);
        int64_t o = ++*step;
        for (int c = 0; c <= g->dep_q; c++) *grid_cell(g, slot, o, c) = tokens[c];
        for (int c = 0; c <= g->dep_q; c++)
            out[c] = o > g->max_delay ? *grid_cell(g, slot, o - g->max_delay + g->delays[c], c)
                                      : MOSHI_NO_TOKEN;
    }
}

/* ---- streams -------------------------------------------------------------------------------- */

static void pad_first_run(const mo_plan *plan, const mo_exec *ex, int unit0, int unit1,
                          int thread) {
    const mo_op_pad_first *op = &plan->op.u.pad_first;
    (void)thread;
    for (int unit = unit0; unit < unit1; unit++) {
        int slot = ex->active[unit];
        if (*i32_at(&op->pos, slot, 0) != 0) continue;
        for (int row = 0; row < op->n; row++)
            memcpy(f32_at(&op->view, slot, row), f32_at(&op->view, slot, op->n),
                   (size_t)op->view.cols * sizeof(float));
    }
}

/* Row by row from the front: a row is read before it can be overwritten. */
static void shift_run(const mo_plan *plan, const mo_exec *ex, int unit0, int unit1, int thread) {
    const mo_op_shift *op = &plan->op.u.shift;
    (void)thread;
    if (op->n == op->view.rows) return;
    for (int unit = unit0; unit < unit1; unit++)
        for (int row = 0; row < op->n; row++)
            memcpy(f32_at(&op->view, ex->active[unit], row),
                   f32_at(&op->view, ex->active[unit], op->view.rows - op->n + row),
                   (size_t)op->view.cols * sizeof(float));
}

static void advance_run(const mo_plan *plan, const mo_exec *ex, int unit0, int unit1, int thread) {
    const mo_op_advance *op = &plan->op.u.advance;
    (void)thread;
    for (int unit = unit0; unit < unit1; unit++) *i32_at(&op->pos, ex->active[unit], 0) += op->n;
}

/* ---- the table ------------------------------------------------------------------------------ */

typedef void (*run_fn)(const mo_plan *plan, const mo_exec *ex, int unit0, int unit1, int thread);

static const run_fn runs[MO_OP_COUNT] = {
    [MO_OP_EMBED_SUM] = embed_sum_run,
    [MO_OP_NORM] = norm_run,
    [MO_OP_LINEAR] = linear_run,
    [MO_OP_ROPE_TABLE] = rope_table_run,
    [MO_OP_ROPE_KV] = rope_kv_run,
    [MO_OP_ATTEND] = attend_run,
    [MO_OP_ACT] = act_run,
    [MO_OP_ACT_MUL] = act_mul_run,
    [MO_OP_UPSAMPLE] = upsample_run,
    [MO_OP_RVQ_PICK] = rvq_pick_run,
    [MO_OP_SAMPLE] = sample_run,
    [MO_OP_GRID_READ] = grid_read_run,
    [MO_OP_GRID_WRITE] = grid_write_run,
    [MO_OP_PAD_FIRST] = pad_first_run,
    [MO_OP_SHIFT] = shift_run,
    [MO_OP_ADVANCE] = advance_run,
};

bool mo_plan_prepares(const mo_plan *plan) {
    return plan->shape.form != MO_QFORM_NONE || is_split(plan);
}

static int prepare_units(const mo_plan *plan, const mo_exec *ex) {
    if (is_normed(ex)) return 1;
    return is_split(plan) ? ex->n_active * plan->op.u.linear.in.rows : (int)plan->shape.blocks;
}

static double prepare_cost(const mo_plan *plan, const mo_exec *ex) {
    const double cols = plan->op.u.linear.in.cols;
    if (is_split(plan)) return prepare_units(plan, ex) * cols * (ex->gate ? 1.0 : 0.6);
    return ex->n_active * plan->linear.rows * (double)plan->linear.k * (ex->gate ? 0.8 : 0.15);
}

int mo_plan_units(const mo_plan *plan, const mo_exec *ex) {
    const mo_op *op = &plan->op;
    if (plan->prepare) return prepare_units(plan, ex);
    switch (op->kind) {
    case MO_OP_EMBED_SUM:
        return row_block_units(ex, &op->u.embed_sum.out);
    case MO_OP_NORM:
        return ex->n_active * op->u.norm.in.rows;
    case MO_OP_LINEAR:
        return linear_units(plan, ex);
    case MO_OP_ROPE_TABLE:
        return ex->n_active * op->u.rope_table.out.rows;
    case MO_OP_ROPE_KV:
        return ex->n_active * op->u.rope_kv.kv.kv_heads;
    case MO_OP_ATTEND:
        return ex->n_active * op->u.attend.heads;
    case MO_OP_ACT:
        return row_block_units(ex, &op->u.act.out);
    case MO_OP_ACT_MUL:
        return row_block_units(ex, &op->u.act_mul.out);
    case MO_OP_UPSAMPLE:
        return ex->n_active * op->u.upsample.out.rows;
    case MO_OP_RVQ_PICK:
        return ex->n_active * op->u.rvq_pick.codes.rows;
    default:
        return ex->n_active;
    }
}

int mo_plan_grain(const mo_plan *plan, const mo_exec *ex) {
    if (plan->prepare || plan->op.kind != MO_OP_LINEAR || plan->split.pieces) return 1;
    return linear_grid_of(plan, ex).grain;
}

mo_ahead mo_plan_ahead(const mo_plan *plan) {
    const mo_linear_job *job = &plan->linear;
    const int few = 2;
    mo_ahead a = {.units = (job->n + MO_STRIP - 1) / MO_STRIP};
    if (plan->digits.digits && job->rows <= few) {
        a.at = (const uint8_t *)job->w + mo_digits_head(job->n);
        a.unit_bytes = mo_digits_strip_bytes(plan->digits.digits, (int64_t)job->k);
        a.streams = 1;
    } else if (plan->shape.form != MO_QFORM_NONE && job->rows == 1) {
        a.at = job->w;
        a.unit_bytes = plan->shape.strip_bytes;
        a.streams = GRAIN;
    }
    return a;
}

double mo_plan_cost(const mo_plan *plan, const mo_exec *ex) {
    const mo_op *op = &plan->op;
    if (plan->prepare) return prepare_cost(plan, ex);
    switch (op->kind) {
    case MO_OP_EMBED_SUM:
        return ex->n_active * view_size(&op->u.embed_sum.out) * op->u.embed_sum.n * 1.0;
    case MO_OP_NORM:
        return ex->n_active * view_size(&op->u.norm.in) * 0.2;
    case MO_OP_LINEAR:
        return linear_cost(plan, ex);
    case MO_OP_ROPE_TABLE:
        return ex->n_active * view_size(&op->u.rope_table.out) * 10.0;
    case MO_OP_ROPE_KV:
        return rope_cost(plan, ex);
    case MO_OP_ATTEND:
        return attend_cost(plan, ex);
    case MO_OP_ACT:
        return ex->n_active * view_size(&op->u.act.out) * 0.6;
    case MO_OP_ACT_MUL:
        return ex->n_active * view_size(&op->u.act_mul.out) * 0.5;
    case MO_OP_UPSAMPLE:
        return ex->n_active * view_size(&op->u.upsample.out) * op->u.upsample.taps * 3.0;
    case MO_OP_RVQ_PICK:
        return ex->n_active * view_size(&op->u.rvq_pick.scores) * 1.0;
    case MO_OP_SAMPLE:
        return ex->n_active * view_size(&op->u.sample.logits) * 5.0;
    case MO_OP_SHIFT:
        return ex->n_active * (double)op->u.shift.n * op->u.shift.view.cols * 0.1;
    default:
        return ex->n_active * 10.0;
    }
}

static size_t split_bytes(const mo_plan *plan) {
    if (plan->digits.digits) return mo_digits_record_bytes(&plan->digits);
    return (size_t)plan->split.pieces * plan->split.piece * sizeof(uint16_t);
}

size_t mo_plan_scratch(const mo_plan *plan) {
    if (plan->window) return ACTIVATED + split_bytes(plan) / sizeof(float) / 16 * 16 + 16;
    if (plan->op.kind == MO_OP_RVQ_PICK)
        return (size_t)plan->op.u.rvq_pick.codebook->rows / 16 * 16 + 16;
    if (plan->op.kind != MO_OP_ATTEND) return 0;
    return MO_ATTEND_ROWS * attend_scores(&plan->op.u.attend);
}

bool mo_plan_record_bytes(const mo_plan *plan, int slots, size_t *bytes) {
    size_t rows, each = mo_q_record_bytes(plan->shape.blocks);
    if (is_split(plan)) return mo_mul((size_t)slots, split_bytes(plan), bytes);
    if (!mo_mul((size_t)slots, (size_t)plan->linear.rows, &rows)) return false;
    return mo_mul((rows + MO_Q_PANEL - 1) / MO_Q_PANEL * MO_Q_PANEL, each, bytes);
}

/* Rows that lie one after the other are one: a few long calls instead of many short ones. */
static void act_plan(mo_op_act *op) {
    mo_view *in = &op->in, *out = &op->out;
    size_t cols = (size_t)out->cols, all = (size_t)out->rows * cols;
    if (in->row_stride != cols || out->row_stride != cols || all > INT_MAX - COL_BLOCK) return;
    in->rows = out->rows = 1;
    in->cols = out->cols = (int)all;
}

void mo_plan_init(mo_plan *plan, const mo_op *op) {
    memset(plan, 0, sizeof *plan);
    plan->op = *op;
    if (op->kind == MO_OP_ACT) act_plan(&plan->op.u.act);
    if (op->kind == MO_OP_LINEAR) linear_plan(plan);
    if (op->kind == MO_OP_RVQ_PICK) plan->codebook_radius = largest_norm(op->u.rvq_pick.codebook);
}

bool mo_plan_is_product(const mo_plan *plan) {
    return !plan->prepare && (plan->op.kind == MO_OP_LINEAR || plan->op.kind == MO_OP_ATTEND);
}

bool mo_plan_is_alone(const mo_plan *plan, const mo_plan *next) {
    const int many_rows = 256;
    const mo_op_kind kind = plan->op.kind;
    if (kind == MO_OP_LINEAR) return !mo_plan_prepares(plan) && plan->linear.rows >= many_rows;
    return next && next->alone && (kind == MO_OP_ACT || kind == MO_OP_SHIFT);
}

void mo_plan_run(const mo_plan *plan, const mo_exec *ex, int unit0, int unit1, int thread) {
    if (plan->prepare && is_split(plan))
        split_run(plan, ex, unit0, unit1);
    else if (plan->prepare)
        quantise_run(plan, ex, unit0, unit1);
    else
        runs[plan->op.kind](plan, ex, unit0, unit1, thread);
}
