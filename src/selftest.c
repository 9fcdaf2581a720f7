/* selftest.c - moshi_device_check(): ops with known answers on one device. Every case is laid out
 * twice from the same random numbers, on the device and on the plain C kernels of one CPU thread,
 * and the results are compared. */
#include "cpu/kernels.h"
#include "ops.h"
#include "ops_cases.h"
#include "quant.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_VIEWS = 12, MAX_WEIGHTS = 8, MAX_SLOTS = 8, MAX_RUNS = 40, TABLE_ROWS = 20 };

static const uint32_t POISON = 0x7FC0DEAD; /* a NaN: what nobody wrote stays one */

#define COUNT(list) (sizeof(list) / sizeof(list)[0])

/* ---- one case on one device ----------------------------------------------------------------- */

/* What a view starts from before each run. */
typedef enum fill {
    FILL_POISON,
    FILL_NORMAL, /* fresh numbers every run */
    FILL_GIVEN,  /* what was put into `start`, every run */
    FILL_ONCE    /* what was put into `start`, the first time: state */
} fill;

typedef struct side_view {
    mo_view v;
    fill from;
    bool ints, judged;
    uint32_t *start, *result; /* [slots, rows, cols] */
} side_view;

typedef struct side {
    mo_backend *be;
    int slots;
    uint64_t rng;
    mo_arena arena;
    mo_graph graph;
    side_view views[MAX_VIEWS];
    int n_views;
    mo_weight weights[MAX_WEIGHTS];
    const mo_weight *tables[MAX_WEIGHTS];
    int n_weights;
    bool no_memory;
} side;

static uint64_t next_u64(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

static int below(side *s, int n) {
    return (int)(next_u64(&s->rng) % (uint64_t)n);
}

/* Roughly normal, variance 1; the same everywhere because it needs no libm. */
static float normal(side *s) {
    double sum = 0;
    for (int i = 0; i < 12; i++) sum += (double)(next_u64(&s->rng) >> 11) * 0x1p-53;
    return (float)(sum - 6.0);
}

static size_t view_words(const side *s, const mo_view *v) {
    return (size_t)s->slots * (size_t)v->rows * (size_t)v->cols;
}

static void side_open(side *s, mo_backend *be, int slots, uint64_t seed, moshi_error *err) {
    memset(s, 0, sizeof *s);
    s->be = be;
    s->slots = slots;
    s->rng = seed;
    mo_arena_open(&s->arena, be, slots);
    mo_graph_begin(&s->graph, &s->arena, err);
}

static void side_close(side *s) {
    mo_graph_free(&s->graph);
    for (int i = 0; i < s->n_weights; i++) s->be->ops->weight_free(s->be, &s->weights[i]);
    for (int i = 0; i < s->n_views; i++) {
        free(s->views[i].start);
        free(s->views[i].result);
    }
    mo_arena_close(&s->arena);
}

static side_view *add_view(side *s, int rows, int cols, fill from) {
    static const float zero = 0;
    side_view *sv = &s->views[s->n_views++];
    sv->v = mo_scratch(&s->graph, rows, cols);
    sv->from = from;
    size_t n = (size_t)s->slots * (size_t)rows * (size_t)cols;
    sv->start = mo_calloc(n, sizeof zero);
    sv->result = mo_calloc(n, sizeof zero);
    s->no_memory |= !sv->start || !sv->result;
    return sv;
}

static mo_view random_view(side *s, int rows, int cols) {
    return add_view(s, rows, cols, FILL_NORMAL)->v;
}

static mo_view result_view(side *s, int rows, int cols) {
    side_view *sv = add_view(s, rows, cols, FILL_POISON);
    sv->judged = true;
    return sv->v;
}

/* A view of one row per slot that holds `value`, changed by the run or not. */
static side_view *number_view(side *s, int32_t value, fill from) {
    side_view *sv = add_view(s, 1, 1, from);
    sv->ints = true;
    for (int i = 0; sv->start && i < s->slots; i++) memcpy(&sv->start[i], &value, sizeof value);
    return sv;
}

static void put_float(side_view *sv, size_t at, float x) {
    if (sv->start) memcpy(&sv->start[at], &x, sizeof x);
}

static void put_int(side_view *sv, size_t at, int32_t x) {
    if (sv->start) memcpy(&sv->start[at], &x, sizeof x);
}

/* Nothing quantises to Q5_K: its blocks are those of Q4_K with a fifth bit for every number. */
static void make_q5_k(side *s, const float *values, size_t n, uint8_t *out) {
    enum { NUMBERS = 256, BYTES = 144, HEAD = 16, FIFTH = NUMBERS / 8 };
    uint8_t q4[BYTES];
    for (size_t i = 0; i < n; i += NUMBERS, out += BYTES + FIFTH) {
        mo_quant_of(MO_Q4_K)->quantise(values + i, q4, NUMBERS);
        memcpy(out, q4, HEAD);
        for (int k = 0; k < FIFTH; k++) out[HEAD + k] = (uint8_t)(next_u64(&s->rng) >> 56);
        memcpy(out + HEAD + FIFTH, q4 + HEAD, BYTES - HEAD);
    }
}

/* Upload `values` [rows, cols] as `dtype`; blocks are quantised first. */
static const mo_weight *upload(side *s, int rows, int cols, mo_dtype dtype, mo_layout layout,
                               const float *values) {
    mo_weight *w = &s->weights[s->n_weights];
    size_t n = (size_t)rows * (size_t)cols;
    const mo_quant *q = mo_quant_of(dtype);
    uint64_t bytes = mo_dtype_row_bytes(dtype, n);
    void *data = mo_calloc(bytes, 1);
    if (!data || !values) {
        s->no_memory = true;
    } else {
        if (dtype == MO_Q5_K)
            make_q5_k(s, values, n, data);
        else
            q->quantise(values, data, n);
        mo_matrix m = {.dtype = dtype, .rows = rows, .cols = cols, .data = data};
        int rc = s->be->ops->weight(s->be, &m, layout, w);
        if (rc == 0)
            s->n_weights++;
        else if (!s->graph.failed)
            s->graph.failed = mo_fail(s->graph.err, rc, "a matrix was not taken");
    }
    free(data);
    return w;
}

static const mo_weight *weight(side *s, int rows, int cols, mo_dtype dtype, mo_layout layout) {
    size_t n = (size_t)rows * (size_t)cols;
    float *values = mo_calloc(n, sizeof *values);
    for (size_t i = 0; values && i < n; i++) values[i] = normal(s);
    const mo_weight *w = upload(s, rows, cols, dtype, layout, values);
    free(values);
    return w;
}

static const mo_weight *vector(side *s, int n) {
    return weight(s, 1, n, MO_F32, MO_LAYOUT_ROWS);
}

static void side_fill(side *s, int run) {
    for (int i = 0; i < s->n_views; i++) {
        side_view *sv = &s->views[i];
        size_t n = view_words(s, &sv->v);
        if (sv->from == FILL_ONCE && run > 0) continue;
        for (size_t k = 0; sv->from == FILL_NORMAL && k < n; k++) put_float(sv, k, normal(s));
        for (size_t k = 0; sv->from == FILL_POISON && k < n; k++) sv->start[k] = POISON;
        s->be->ops->write(s->be, sv->v.buf, sv->v.offset * 4, sv->start, n * 4);
    }
}

static int side_run(side *s, int run) {
    uint8_t exec[MAX_SLOTS];
    memset(exec, 1, sizeof exec);
    side_fill(s, run);
    int rc = mo_graph_run(&s->graph, exec, NULL, NULL);
    for (int i = 0; rc == 0 && i < s->n_views; i++) {
        side_view *sv = &s->views[i];
        if (sv->judged)
            s->be->ops->read(s->be, sv->v.buf, sv->v.offset * 4, sv->result,
                             view_words(s, &sv->v) * 4);
    }
    return rc;
}

/* ---- comparing ------------------------------------------------------------------------------ */

typedef struct selftest {
    mo_backend *reference, *device;
    moshi_op_check *now;
    moshi_op_check_fn fn;
    void *user;
    uint64_t seed;
    int wrong; /* ops that failed */
    int rc;
    moshi_error *err;
} selftest;

/* How much a case may differ: `roundings` in a row, each of half a unit in the last place of the
 * largest number of the result. Devices that promise the bits of the reference get nothing. */
typedef struct one_case {
    int slots, runs;
    int roundings;
    void (*build)(side *s, const void *arg);
    const void *arg;
} one_case;

static float as_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static double largest(const uint32_t *words, size_t n) {
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        double x = fabs((double)as_float(words[i]));
        if (isfinite(x) && x > most) most = x;
    }
    return most;
}

static void first_wrong(moshi_op_check *c, const side *s, const side_view *sv, size_t at,
                        uint32_t got, uint32_t want) {
    size_t cols = (size_t)sv->v.cols, rows = (size_t)sv->v.rows;
    int n = snprintf(c->problem, sizeof c->problem,
                     "case %d (%d x %zu x %zu): element [%zu, %zu, %zu] is ", c->cases + 1,
                     s->slots, rows, cols, at / cols / rows, at / cols % rows, at % cols);
    size_t used = n < 0 ? 0 : (size_t)n;
    if (used >= sizeof c->problem) return;
    if (sv->ints)
        snprintf(c->problem + used, sizeof c->problem - used, "%d instead of %d", (int)(int32_t)got,
                 (int)(int32_t)want);
    else
        snprintf(c->problem + used, sizeof c->problem - used, "%.9g instead of %.9g",
                 (double)as_float(got), (double)as_float(want));
}

/* True when every element is near enough; keeps the worst error and the first wrong element. */
static bool compare_view(selftest *t, const side *want, const side *got, int i, double bound) {
    const side_view *a = &want->views[i], *b = &got->views[i];
    size_t n = view_words(want, &a->v);
    double scale = a->ints ? 1 : largest(a->result, n);
    bool ok = true;
    for (size_t k = 0; k < n; k++) {
        if (a->result[k] == b->result[k]) continue;
        double error = INFINITY;
        if (!a->ints && scale > 0)
            error = fabs((double)as_float(b->result[k]) - (double)as_float(a->result[k])) / scale;
        if (isnan(error)) error = INFINITY;
        bool fits = !a->ints && bound > 0 && error <= bound;
        if (!fits && ok && !t->now->problem[0])
            first_wrong(t->now, want, a, k, b->result[k], a->result[k]);
        ok &= fits;
        if (error > t->now->worst) t->now->worst = error;
    }
    return ok;
}

static int run_both(selftest *t, const one_case *c, side *want, side *got) {
    if (want->no_memory || got->no_memory)
        return mo_fail(t->err, MOSHI_ENOMEM, "out of memory for the check of %s", t->now->op);
    int rc = mo_graph_finish(&want->graph);
    if (rc == 0) rc = mo_graph_finish(&got->graph);
    if (rc < 0) return rc;
    double bound = t->device->ops->same_bits ? 0 : (c->roundings + 8) * 0x1p-24;
    bool ok = true;
    for (int run = 0; run < c->runs && rc == 0; run++) {
        rc = side_run(want, run);
        if (rc == 0) rc = side_run(got, run);
        for (int i = 0; rc == 0 && i < want->n_views; i++)
            if (want->views[i].judged) ok &= compare_view(t, want, got, i, bound);
    }
    if (rc < 0) return mo_fail(t->err, rc, "%s: the device did not run it", t->now->op);
    if (bound > t->now->bound) t->now->bound = bound;
    t->now->cases++;
    t->now->failed += !ok;
    return 0;
}

/* The device goes second: should it write where it must not, the answer is already known. */
static void run_case(selftest *t, const one_case *c) {
    side want, got;
    if (t->rc < 0) return;
    t->seed++;
    side_open(&want, t->reference, c->slots, t->seed, t->err);
    side_open(&got, t->device, c->slots, t->seed, t->err);
    c->build(&want, c->arg);
    c->build(&got, c->arg);
    t->rc = run_both(t, c, &want, &got);
    side_close(&want);
    side_close(&got);
}

static void op_begin(selftest *t, const char *op) {
    if (t->rc < 0) return;
    memset(t->now, 0, sizeof *t->now);
    t->now->op = op;
    if (t->fn(t->user, t->now)) t->rc = mo_fail(t->err, MOSHI_ECANCELLED, "cancelled");
}

static void op_end(selftest *t) {
    if (t->rc < 0) return;
    t->wrong += t->now->failed > 0;
    if (t->now->cases > 0 && t->fn(t->user, t->now))
        t->rc = mo_fail(t->err, MOSHI_ECANCELLED, "cancelled");
}

/* ---- the ops -------------------------------------------------------------------------------- */

static void build_linear(side *s, const void *arg) {
    const linear_case *c = arg;
    int in_rows = (c->rows - 1) * c->stride + (c->taps - 1) * c->dilation + 1;
    mo_op_linear op = {.taps = c->taps, .stride = c->stride, .dilation = c->dilation};
    op.in = random_view(s, in_rows, c->cols);
    op.w = weight(s, c->n, c->taps * c->cols, c->dtype, MO_LAYOUT_STRIPS);
    if (c->flags & BIAS) op.bias = vector(s, c->n);
    if (c->flags & SCALE) op.scale = vector(s, c->n);
    if (c->flags & IN_PLACE) {
        side_view *sum = add_view(s, c->rows, c->n, FILL_NORMAL);
        sum->judged = true;
        op.add = op.out = sum->v;
    } else {
        if (c->flags & ADD) op.add = random_view(s, c->rows, c->n);
        op.out = result_view(s, c->rows, c->n);
    }
    mo_linear(&s->graph, &op);
}

static void run_linear(selftest *t, const linear_case *c) {
    run_case(t, &(one_case){c->slots, 1, c->taps * c->cols, build_linear, c});
}

/* A transposed convolution of k = 2 * stride arrives as two taps at stride 1: see layers.h. */
static bool is_transposed(const linear_case *c) {
    return c->taps == 2 && c->stride == 1;
}

static void check_linear(selftest *t) {
    static const struct {
        const char *name;
        mo_dtype dtype;
    } floats[] = {{"linear f32", MO_F32}, {"linear f16", MO_F16}, {"linear bf16", MO_BF16}},
      blocks[] = {{"linear q8_0", MO_Q8_0},
                  {"linear q6_K", MO_Q6_K},
                  {"linear q5_K", MO_Q5_K},
                  {"linear q4_K", MO_Q4_K},
                  {"linear q4_0", MO_Q4_0}};
    static const int block_shapes[][4] = {{1, 1, 256, 48}, {2, 3, 512, 33}, {8, 1, 1024, 80}};
    for (size_t d = 0; d < COUNT(floats); d++) {
        op_begin(t, floats[d].name);
        for (size_t i = 0; i < COUNT(linear_cases); i++)
            if (linear_cases[i].taps == 1 && linear_cases[i].dtype == floats[d].dtype)
                run_linear(t, &linear_cases[i]);
        op_end(t);
    }
    for (size_t d = 0; d < COUNT(blocks); d++) {
        if (!t->reference->ops->supports(t->reference, MO_OP_LINEAR, blocks[d].dtype) ||
            !t->device->ops->supports(t->device, MO_OP_LINEAR, blocks[d].dtype))
            continue;
        op_begin(t, blocks[d].name);
        for (size_t i = 0; i < COUNT(block_shapes); i++) {
            const int *n = block_shapes[i];
            run_linear(t, &(linear_case){n[0], n[1], n[2], n[3], 1, 1, 1, BIAS, blocks[d].dtype});
        }
        op_end(t);
    }
    for (int transposed = 0; transposed < 2; transposed++) {
        op_begin(t, transposed ? "transposed convolution" : "convolution");
        for (size_t i = 0; i < COUNT(linear_cases); i++)
            if (linear_cases[i].taps > 1 && is_transposed(&linear_cases[i]) == (transposed == 1))
                run_linear(t, &linear_cases[i]);
        op_end(t);
    }
}

static void build_upsample(side *s, const void *arg) {
    const upsample_case *c = arg;
    const mo_weight *w = weight(s, c->channels, c->taps * c->stride, MO_F32, MO_LAYOUT_ROWS);
    mo_view in = random_view(s, c->steps + c->taps - 1, c->channels);
    mo_upsample(&s->graph, w, c->taps, c->stride, in,
                result_view(s, c->steps * c->stride, c->channels));
}

static void build_rms(side *s, const void *arg) {
    const shape *c = arg;
    mo_view in = random_view(s, c->rows, c->cols);
    mo_norm(&s->graph, MO_NORM_RMS, 1e-8f, vector(s, c->cols), NULL, in,
            result_view(s, c->rows, c->cols));
}

static void build_layer_norm(side *s, const void *arg) {
    const shape *c = arg;
    mo_view in = random_view(s, c->rows, c->cols);
    const mo_weight *w = vector(s, c->cols), *bias = vector(s, c->cols);
    mo_norm(&s->graph, MO_NORM_LAYER, 1e-5f, w, bias, in, result_view(s, c->rows, c->cols));
}

static void build_act(side *s, const shape *c, mo_act act) {
    mo_view in = random_view(s, c->rows, c->cols);
    mo_act_op(&s->graph, act, in, result_view(s, c->rows, c->cols));
}

static void build_copy(side *s, const void *arg) {
    build_act(s, arg, MO_ACT_COPY);
}
static void build_elu(side *s, const void *arg) {
    build_act(s, arg, MO_ACT_ELU);
}
static void build_gelu(side *s, const void *arg) {
    build_act(s, arg, MO_ACT_GELU);
}

static void build_gate(side *s, const void *arg) {
    const shape *c = arg;
    mo_view in = random_view(s, c->rows, 2 * c->cols);
    mo_act_mul(&s->graph, in, result_view(s, c->rows, c->cols));
}

static void check_shapes(selftest *t, const char *op, void (*build)(side *, const void *),
                         int sum_of_columns) {
    op_begin(t, op);
    for (size_t i = 0; i < COUNT(shapes); i++)
        run_case(t, &(one_case){shapes[i].slots, 1, sum_of_columns ? shapes[i].cols : 8, build,
                                &shapes[i]});
    op_end(t);
}

typedef struct embed_case {
    const shape *s;
    int n;
    mo_layout layout;
    mo_dtype dtype;
} embed_case;

static void build_embed(side *s, const void *arg) {
    const embed_case *c = arg;
    side_view *tokens = add_view(s, c->s->rows, c->n, FILL_GIVEN);
    size_t n = view_words(s, &tokens->v);
    for (size_t i = 0; i < n; i++) put_int(tokens, i, below(s, TABLE_ROWS + 1) - 1);
    for (int i = 0; i < c->n; i++)
        s->tables[i] = weight(s, TABLE_ROWS, c->s->cols, c->dtype, c->layout);
    mo_embed_sum(&s->graph, s->tables, c->n, tokens->v, result_view(s, c->s->rows, c->s->cols),
                 false);
}

static void check_embed(selftest *t) {
    static const mo_dtype dtypes[] = {MO_F32, MO_F16, MO_BF16};
    op_begin(t, "embedding");
    for (size_t i = 0; i < COUNT(shapes); i++) {
        embed_case c = {&shapes[i], 1 + (int)i % 4, i % 2 ? MO_LAYOUT_STRIPS : MO_LAYOUT_ROWS,
                        dtypes[i % 3]};
        run_case(t, &(one_case){c.s->slots, 1, c.n, build_embed, &c});
    }
    op_end(t);
}

/* `attends`: judge what comes out of attention; else what rotation leaves. */
typedef struct attend_arg {
    const attend_case *c;
    mo_dtype dtype;
    int start;
    bool attends;
} attend_arg;

static void build_attend(side *s, const void *arg) {
    const attend_arg *a = arg;
    const attend_case *c = a->c;
    mo_graph *g = &s->graph;
    mo_view qkv = random_view(s, c->rows, (c->heads + 2 * c->kv_heads) * c->head_dim);
    s->views[s->n_views - 1].judged = !a->attends;
    mo_view pos = {0}, table = {0};
    if (!c->fixed) pos = number_view(s, a->start, FILL_ONCE)->v;
    mo_kv kv = mo_kv_ring(g, a->dtype, c->kv_heads, c->capacity, c->head_dim);
    if (c->rope != MO_ROPE_NONE) {
        float freq[64] = {0};
        for (int i = 0; i < c->head_dim / 2 && i < 64; i++) freq[i] = 1.0f / (float)(1 + i * i);
        side_view *sv = add_view(s, c->rows, c->head_dim, FILL_POISON);
        sv->judged = !a->attends;
        table = sv->v;
        mo_rope_table(g, upload(s, 1, c->head_dim / 2, MO_F32, MO_LAYOUT_ROWS, freq), pos, table);
    }
    int at = c->fixed ? a->start % c->capacity : 0;
    mo_rope_kv(g, &(mo_op_rope_kv){c->rope, c->heads, qkv, table, pos, at, kv});
    if (a->attends) {
        mo_view out = result_view(s, c->rows, c->heads * c->head_dim);
        mo_attend(g, &(mo_op_attend){c->heads, c->context, qkv, pos, at, kv, out});
    }
    if (!c->fixed) mo_advance(g, pos, c->rows);
}

static void check_positions(selftest *t, const attend_case *c, mo_dtype dtype, bool attends) {
    enum { RUNS = 6 };
    for (size_t p = 0; p < COUNT(attend_positions); p++) {
        if (c->fixed && attend_positions[p] + c->rows > c->capacity) continue;
        attend_arg a = {c, dtype, attend_positions[p], attends};
        run_case(t, &(one_case){c->slots, RUNS, 4 * c->head_dim, build_attend, &a});
    }
}

/* Rings of fewer bits only where nothing is rotated: elsewhere the last bit of a sine may decide to
 * which of two neighbours a number is rounded. */
static void check_attend(selftest *t) {
    op_begin(t, "rotary embedding");
    for (size_t i = 0; i < COUNT(attend_cases); i++)
        check_positions(t, &attend_cases[i], MO_F32, false);
    op_end(t);
    op_begin(t, "attention (softmax)");
    for (size_t i = 0; i < COUNT(attend_cases); i++)
        for (size_t d = 0; d < COUNT(attend_types); d++)
            if (attend_types[d] == MO_F32 || attend_cases[i].rope == MO_ROPE_NONE)
                check_positions(t, &attend_cases[i], attend_types[d], true);
    op_end(t);
}

/* Entries come in pairs as close as the case says: the first of equals must win. */
static void build_rvq(side *s, const void *arg) {
    const rvq_case *c = arg;
    size_t n = (size_t)c->bins * (size_t)c->dim, dim = (size_t)c->dim;
    float *book = mo_calloc(n, sizeof *book), *half = mo_calloc((size_t)c->bins, sizeof *half);
    for (size_t i = 0; book && half && i < n; i++) {
        float x = normal(s);
        book[i] = i / dim % 2 ? book[i - dim] + c->closeness * x : x;
        half[i / dim] -= 0.5f * book[i] * book[i];
    }
    side_view *x = add_view(s, c->rows, c->dim, FILL_GIVEN);
    x->judged = true;
    for (size_t row = 0; row < (size_t)s->slots * (size_t)c->rows; row++) {
        size_t near = (size_t)below(s, c->bins) * dim;
        for (size_t i = 0; i < dim; i++)
            put_float(x, row * dim + i, (book ? book[near + i] : 0) + 0.3f * normal(s));
    }
    mo_view scores = add_view(s, c->rows, c->bins, FILL_POISON)->v;
    mo_op_linear op = {.in = x->v, .out = scores, .taps = 1, .stride = 1, .dilation = 1};
    op.w = upload(s, c->bins, c->dim, MO_F32, MO_LAYOUT_STRIPS, book);
    op.bias = upload(s, 1, c->bins, MO_F32, MO_LAYOUT_ROWS, half);
    mo_linear(&s->graph, &op);
    mo_view codes = result_view(s, c->rows, 1);
    s->views[s->n_views - 1].ints = true;
    mo_rvq_pick(
        &s->graph,
        &(mo_op_rvq_pick){.codebook = op.w, .scores = scores, .residual = x->v, .codes = codes});
    free(book);
    free(half);
}

static void build_stream(side *s, const void *arg) {
    const stream_case *c = arg;
    side_view *v = add_view(s, c->rows, c->cols, FILL_NORMAL);
    side_view *pos = number_view(s, 0, FILL_ONCE);
    v->judged = pos->judged = true;
    mo_pad_first(&s->graph, v->v, pos->v, c->n);
    mo_shift(&s->graph, v->v, c->n);
    mo_advance(&s->graph, pos->v, 5);
}

/* Counters before and after; about half of the slots have a token too small, too large, or both. */
static void build_sift(side *s, const void *arg) {
    const sift_case *c = arg;
    side_view *tokens = add_view(s, 1, c->cols, FILL_GIVEN);
    side_view *first = number_view(s, 7, FILL_ONCE), *last = number_view(s, 9, FILL_ONCE);
    first->judged = last->judged = true;
    for (int i = 0; i < s->slots * c->cols; i++) put_int(tokens, (size_t)i, below(s, c->n));
    for (int slot = 0; slot < s->slots; slot++) {
        size_t at = (size_t)(slot * c->cols + below(s, c->cols));
        if (below(s, 4) == 0) put_int(tokens, at, -1 - below(s, 2));
        if (below(s, 4) == 0) put_int(tokens, at, c->n + below(s, 2));
    }
    mo_advance(&s->graph, first->v, 1);
    mo_sift(&s->graph, tokens->v, c->n);
    mo_advance(&s->graph, last->v, 1);
}

static void build_sample(side *s, const void *arg) {
    const sample_case *c = arg;
    enum { FORCE = 9 };
    side_view *logits = add_view(s, 1, c->n, c->ties ? FILL_GIVEN : FILL_NORMAL);
    for (int i = 0; c->ties && i < s->slots * c->n; i++)
        put_float(logits, (size_t)i, (float)below(s, 4));
    side_view *params = add_view(s, 1, MO_SAMPLE_COLS, FILL_GIVEN);
    side_view *force = add_view(s, 1, FORCE, FILL_GIVEN);
    for (int slot = 0; slot < s->slots; slot++) {
        size_t at = (size_t)slot * MO_SAMPLE_COLS;
        put_float(params, at + MO_SAMPLE_TEXT_TEMP, c->temp);
        put_float(params, at + MO_SAMPLE_AUDIO_TEMP, c->temp);
        put_int(params, at + MO_SAMPLE_TEXT_TOP_K, c->top_k);
        put_int(params, at + MO_SAMPLE_AUDIO_TOP_K, c->top_k);
        put_int(params, at + MO_SAMPLE_SEED_LO, 1234 + slot);
        for (int i = 0; i < FORCE; i++)
            put_int(force, (size_t)(slot * FORCE + i), slot == 1 ? 0 : (int32_t)MOSHI_FREE);
    }
    side_view *step = number_view(s, 100, FILL_ONCE);
    mo_view token = result_view(s, 1, 1);
    s->views[s->n_views - 1].ints = true;
    mo_sample(&s->graph,
              &(mo_op_sample){c->channel, logits->v, params->v, force->v, step->v, token});
    mo_advance(&s->graph, step->v, 1);
}

static void build_grid(side *s, const void *arg) {
    const grid_case *c = arg;
    int users = c->n_q - c->dep_q, cells = (c->max_delay + 2) * (1 + c->n_q);
    side_view *cache = add_view(s, c->max_delay + 2, 1 + c->n_q, FILL_ONCE);
    for (int i = 0; i < s->slots * cells; i++) put_int(cache, (size_t)i, -2);
    mo_grid grid = {.cache = cache->v,
                    .step = number_view(s, 0, FILL_ONCE)->v,
                    .delays = c->delays,
                    .n_q = c->n_q,
                    .dep_q = c->dep_q,
                    .max_delay = c->max_delay,
                    .text_initial = 500,
                    .audio_initial = 128};
    side_view *user = users ? add_view(s, 1, users, FILL_GIVEN) : NULL;
    for (int i = 0; user && i < s->slots * users; i++) put_int(user, (size_t)i, below(s, 128));
    side_view *tokens = add_view(s, 1, 1 + c->dep_q, FILL_GIVEN);
    for (int i = 0; i < s->slots * (1 + c->dep_q); i++) put_int(tokens, (size_t)i, below(s, 128));
    mo_view in = result_view(s, 1, 1 + c->n_q);
    s->views[s->n_views - 1].ints = true;
    mo_view heard = {0};
    if (user) heard = user->v;
    mo_grid_read(&s->graph, &grid, heard, in);
    mo_view out = result_view(s, 1, 1 + c->dep_q);
    s->views[s->n_views - 1].ints = true;
    mo_grid_write(&s->graph, &grid, tokens->v, out);
}

static void check_tokens(selftest *t) {
    op_begin(t, "quantiser of the codec");
    for (size_t i = 0; i < COUNT(rvq_cases); i++)
        run_case(t, &(one_case){rvq_cases[i].slots, 1, rvq_cases[i].dim, build_rvq, &rvq_cases[i]});
    op_end(t);
    op_begin(t, "streams");
    for (size_t i = 0; i < COUNT(stream_cases); i++)
        run_case(t, &(one_case){stream_cases[i].slots, 3, 0, build_stream, &stream_cases[i]});
    for (size_t i = 0; i < COUNT(sift_cases); i++)
        run_case(t, &(one_case){sift_cases[i].slots, 3, 0, build_sift, &sift_cases[i]});
    op_end(t);
    op_begin(t, "sampling");
    for (size_t i = 0; i < COUNT(sample_cases); i++)
        run_case(t, &(one_case){sample_cases[i].slots, 5, 0, build_sample, &sample_cases[i]});
    op_end(t);
    op_begin(t, "token grid");
    for (size_t i = 0; i < COUNT(grid_cases); i++)
        run_case(t, &(one_case){2, MAX_RUNS, 0, build_grid, &grid_cases[i]});
    op_end(t);
}

/* ---- the check ------------------------------------------------------------------------------ */

static void check_all(selftest *t) {
    check_embed(t);
    check_shapes(t, "RMS norm", build_rms, 1);
    check_shapes(t, "layer norm", build_layer_norm, 1);
    check_linear(t);
    op_begin(t, "upsampling");
    for (size_t i = 0; i < COUNT(upsample_cases); i++)
        run_case(t, &(one_case){upsample_cases[i].slots, 1, upsample_cases[i].taps, build_upsample,
                                &upsample_cases[i]});
    op_end(t);
    check_attend(t);
    check_shapes(t, "copy", build_copy, 0);
    check_shapes(t, "ELU", build_elu, 0);
    check_shapes(t, "GELU", build_gelu, 0);
    check_shapes(t, "gate (SiLU)", build_gate, 0);
    check_tokens(t);
}

int moshi_device_check(const char *device, int threads, const char *cache, moshi_op_check_fn fn,
                       void *user, moshi_error *err) {
    if (err) *err = (moshi_error){0};
    if (!fn || threads < 0)
        return mo_fail(err, MOSHI_EINVAL, "moshi_device_check: wanted a function and threads >= 0");
    moshi_op_check now;
    mo_device d;
    selftest t = {.now = &now, .fn = fn, .user = user, .err = err};
    mo_backend_options plain = {.threads = 1, .level = MO_CPU_LEVEL_C};
    mo_backend_options own = {.threads = threads, .cache = cache};
    t.rc = mo_device_find(&d, device, err);
    if (t.rc == 0) t.rc = mo_backend_cpu.open(&t.reference, &plain, err);
    own.nth = d.nth;
    own.kernels = d.kernels;
    if (t.rc == 0) t.rc = d.ops->open(&t.device, &own, err);
    if (t.rc == 0) check_all(&t);
    if (t.device) t.device->ops->close(t.device);
    if (t.reference) t.reference->ops->close(t.reference);
    return t.rc < 0 ? t.rc : t.wrong;
}
