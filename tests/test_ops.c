/* Every op of the CPU backend: each result against a plain double-precision statement of the op,
 * the same bits on every instruction set, thread count and set of slots, and not one byte written
 * outside the output. `test_ops --bench` prints speeds instead. */
#include "check.h"
#include "cpu/kernels.h"
#include "cpu/pool.h"
#include "ops_cases.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double EPS = 0x1p-24;         /* half a unit in the last place of 1.0f */
static const uint32_t POISON = 0x7FC0DEAD; /* a NaN */

/* ---- random numbers ------------------------------------------------------------------------- */

static uint64_t next_u64(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

static int below(uint64_t *state, int n) {
    return (int)(next_u64(state) % (uint64_t)n);
}

/* Roughly normal, variance 1. */
static float normal(uint64_t *state) {
    double sum = 0;
    for (int i = 0; i < 12; i++) sum += (double)(next_u64(state) >> 11) * 0x1p-53;
    return (float)(sum - 6.0);
}

static void *take(size_t n, size_t size) {
    void *p = calloc(n ? n : 1, size);
    if (!p) abort();
    return p;
}

/* ---- rig: one small program on one backend -------------------------------------------------- */

enum { MAX_VIEWS = 16, MAX_WEIGHTS = 40, MAX_OPS = 8, MAX_SLOTS = 8 };

typedef struct rig_view {
    mo_view v;
    uint32_t *before, *after; /* whole buffer: what the run starts from, what it left */
    bool written, full;       /* may be written; must be written everywhere */
} rig_view;

typedef struct rig {
    mo_backend *be;
    uint64_t rng;
    int slots;
    rig_view views[MAX_VIEWS];
    int n_views;
    mo_weight weights[MAX_WEIGHTS];
    float *values[MAX_WEIGHTS]; /* the weights as float */
    int n_weights;
    mo_op ops[MAX_OPS];
    int n_ops;
} rig;

static void rig_open(rig *r, mo_cpu_level level, int threads, int slots, uint64_t seed) {
    moshi_error err;
    memset(r, 0, sizeof *r);
    r->rng = seed;
    r->slots = slots;
    mo_backend_options options = {.threads = threads, .level = (int)level};
    if (mo_backend_cpu.open(&r->be, &options, &err) < 0) {
        fprintf(stderr, "open: %s\n", err.text);
        exit(1);
    }
}

static void rig_close(rig *r) {
    for (int i = 0; i < r->n_weights; i++) {
        r->be->ops->weight_free(r->be, &r->weights[i]);
        free(r->values[i]);
    }
    for (int i = 0; i < r->n_views; i++) {
        r->be->ops->free(r->be, r->views[i].v.buf);
        free(r->views[i].before);
        free(r->views[i].after);
    }
    r->be->ops->close(r->be);
}

static size_t words(const rig_view *rv) {
    return rv->v.buf->bytes / 4;
}

static size_t at(const mo_view *v, int slot, int row, int col) {
    return v->offset + (size_t)slot * v->slot_stride + (size_t)row * v->row_stride + (size_t)col;
}

/* A view in its own poisoned buffer; `pad` puts gaps between rows, slots and in front. */
static rig_view *rig_add(rig *r, int rows, int cols, bool pad) {
    rig_view *rv = &r->views[r->n_views++];
    mo_view *v = &rv->v;
    *v = (mo_view){.rows = rows, .cols = cols};
    v->row_stride = (size_t)cols + (pad ? (size_t)below(&r->rng, 9) : 0);
    v->slot_stride = (size_t)rows * v->row_stride + (pad ? (size_t)below(&r->rng, 7) : 0);
    v->offset = pad ? (size_t)below(&r->rng, 5) : 0;
    size_t n = v->offset + (size_t)r->slots * v->slot_stride;
    v->buf = r->be->ops->alloc(r->be, n * 4);
    rv->before = take(n, 4);
    rv->after = take(n, 4);
    for (size_t i = 0; i < n; i++) rv->before[i] = POISON;
    return rv;
}

static mo_view rig_out(rig *r, int rows, int cols, bool pad) {
    rig_view *rv = rig_add(r, rows, cols, pad);
    rv->written = rv->full = true;
    return rv->v;
}

static void put_f32(rig_view *rv, int slot, int row, int col, float x) {
    memcpy(&rv->before[at(&rv->v, slot, row, col)], &x, 4);
}

static void put_i32(rig_view *rv, int slot, int row, int col, int32_t x) {
    memcpy(&rv->before[at(&rv->v, slot, row, col)], &x, 4);
}

static rig_view *rig_random(rig *r, int rows, int cols, bool pad, float size) {
    rig_view *rv = rig_add(r, rows, cols, pad);
    for (int s = 0; s < r->slots; s++)
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < cols; j++) put_f32(rv, s, i, j, size * normal(&r->rng));
    return rv;
}

static rig_view *rig_of(rig *r, const mo_view *v) {
    for (int i = 0; i < r->n_views; i++)
        if (r->views[i].v.buf == v->buf) return &r->views[i];
    abort();
}

static double before(rig *r, const mo_view *v, int slot, int row, int col) {
    float x;
    memcpy(&x, &rig_of(r, v)->before[at(v, slot, row, col)], 4);
    return (double)x;
}

static double after(rig *r, const mo_view *v, int slot, int row, int col) {
    float x;
    memcpy(&x, &rig_of(r, v)->after[at(v, slot, row, col)], 4);
    return (double)x;
}

static int32_t after_i32(rig *r, const mo_view *v, int slot, int row, int col) {
    int32_t x;
    memcpy(&x, &rig_of(r, v)->after[at(v, slot, row, col)], 4);
    return x;
}

static float round_to(mo_dtype dtype, float x) {
    if (dtype == MO_BF16) return mo_bf16_to_f32(mo_f32_to_bf16(x));
    if (dtype == MO_F16) return mo_f16_to_f32(mo_f32_to_f16(x));
    return x;
}

/* Upload values (already exact in dtype) from an odd address. */
static const mo_weight *rig_upload(rig *r, int rows, int cols, mo_dtype dtype, mo_layout layout,
                                   float *values) {
    size_t n = (size_t)rows * (size_t)cols, size = dtype == MO_F32 ? 4 : 2;
    char *raw = take(n * size + 1, 1);
    for (size_t i = 0; i < n; i++) {
        uint16_t half = dtype == MO_BF16 ? mo_f32_to_bf16(values[i]) : mo_f32_to_f16(values[i]);
        memcpy(raw + 1 + i * size, dtype == MO_F32 ? (void *)&values[i] : (void *)&half, size);
    }
    mo_matrix m = {dtype, rows, cols, raw + 1};
    mo_weight *w = &r->weights[r->n_weights];
    r->values[r->n_weights++] = values;
    if (r->be->ops->weight(r->be, &m, layout, w) < 0) abort();
    free(raw);
    return w;
}

static const mo_weight *rig_weight(rig *r, int rows, int cols, mo_dtype dtype, mo_layout layout) {
    size_t n = (size_t)rows * (size_t)cols;
    float *values = take(n, 4);
    for (size_t i = 0; i < n; i++) values[i] = round_to(dtype, normal(&r->rng));
    return rig_upload(r, rows, cols, dtype, layout, values);
}

static double weight_at(rig *r, const mo_weight *w, int row, int col) {
    return (double)r->values[w - r->weights][(size_t)row * (size_t)w->cols + (size_t)col];
}

static mo_op *rig_op(rig *r, mo_op_kind kind) {
    mo_op *op = &r->ops[r->n_ops++];
    op->kind = kind;
    return op;
}

/* Run all ops from the initial contents with these slots; every buffer into out[view]. */
static void rig_run_mask(rig *r, mo_program *p, const uint8_t *exec, uint32_t **out) {
    const mo_backend_ops *ops = r->be->ops;
    for (int i = 0; i < r->n_views; i++) {
        rig_view *rv = &r->views[i];
        ops->write(r->be, rv->v.buf, 0, rv->before, rv->v.buf->bytes);
    }
    CHECK(ops->run(r->be, p, 0, r->n_ops, exec) == 0, "run failed");
    for (int i = 0; i < r->n_views; i++) {
        rig_view *rv = &r->views[i];
        ops->read(r->be, rv->v.buf, 0, out[i], rv->v.buf->bytes);
    }
}

/* Each slot alone, put together into `after`. */
static void rig_run_alone(rig *r, mo_program *p, uint32_t **out) {
    for (int i = 0; i < r->n_views; i++)
        memcpy(r->views[i].after, r->views[i].before, r->views[i].v.buf->bytes);
    for (int slot = 0; slot < r->slots; slot++) {
        uint8_t exec[MAX_SLOTS] = {0};
        exec[slot] = 1;
        rig_run_mask(r, p, exec, out);
        for (int i = 0; i < r->n_views; i++) {
            rig_view *rv = &r->views[i];
            size_t first = at(&rv->v, slot, 0, 0);
            memcpy(rv->after + first, out[i] + first, rv->v.slot_stride * 4);
        }
    }
}

/* With any set of slots: those that take part give what they give alone, the others nothing. */
static bool masks_agree(rig *r, mo_program *p, uint32_t **out) {
    bool ok = true;
    for (int round = 0; round < 4; round++) {
        uint8_t exec[MAX_SLOTS];
        for (int s = 0; s < r->slots; s++) exec[s] = round == 0 || next_u64(&r->rng) % 2;
        rig_run_mask(r, p, exec, out);
        for (int i = 0; i < r->n_views; i++) {
            rig_view *rv = &r->views[i];
            ok &= memcmp(out[i], rv->before, rv->v.offset * 4) == 0;
            for (int s = 0; s < r->slots; s++) {
                size_t first = at(&rv->v, s, 0, 0);
                const uint32_t *want = (exec[s] ? rv->after : rv->before) + first;
                ok &= memcmp(out[i] + first, want, rv->v.slot_stride * 4) == 0;
            }
        }
    }
    return ok;
}

/* Outside what may be written nothing changed; inside, no poison is left. */
static bool writes_fit(const rig *r) {
    for (int i = 0; i < r->n_views; i++) {
        const rig_view *rv = &r->views[i];
        uint8_t *inside = take(words(rv), 1);
        for (int s = 0; s < r->slots; s++)
            for (int row = 0; rv->written && row < rv->v.rows; row++)
                memset(inside + at(&rv->v, s, row, 0), 1, (size_t)rv->v.cols);
        bool ok = true;
        for (size_t w = 0; w < words(rv); w++) {
            if (!inside[w]) ok &= rv->after[w] == rv->before[w];
            if (inside[w] && rv->full) ok &= rv->after[w] != POISON;
        }
        free(inside);
        if (!ok) return false;
    }
    return true;
}

static void rig_run(rig *r, const char *what) {
    uint32_t *out[MAX_VIEWS];
    for (int i = 0; i < r->n_views; i++) out[i] = take(words(&r->views[i]), 4);
    mo_program *p = r->be->ops->record(r->be, r->ops, r->n_ops, r->slots);
    const char *level = r->be->ops->kernels(r->be);
    if (CHECK(p != NULL, "record failed")) {
        rig_run_alone(r, p, out);
        CHECK(masks_agree(r, p, out), "%s on %s: slots influence each other", what, level);
        CHECK(writes_fit(r), "%s on %s: wrote outside its output, or not all of it", what, level);
    }
    r->be->ops->program_free(r->be, p);
    for (int i = 0; i < r->n_views; i++) free(out[i]);
}

static bool same_results(const rig *a, const rig *b) {
    for (int i = 0; i < a->n_views; i++)
        if (memcmp(a->views[i].after, b->views[i].after, a->views[i].v.buf->bytes) != 0)
            return false;
    return true;
}

/* ---- running a case on every level ---------------------------------------------------------- */

static mo_cpu_level levels[MO_CPU_LEVEL_COUNT];
static int n_levels;

static void find_levels(void) {
    for (mo_cpu_level l = MO_CPU_LEVEL_C; l < MO_CPU_LEVEL_COUNT; l++)
        if (mo_kernels_get(l)) levels[n_levels++] = l;
}

/* build() must lay out the same rig from the same random numbers; judge() compares its `after` with
 * plain arithmetic. */
typedef void (*build_fn)(rig *r, const void *arg);
typedef void (*judge_fn)(rig *r, const void *arg, const char *what);

static void run_case(const char *what, int slots, const void *arg, build_fn build, judge_fn judge) {
    static uint64_t seed;
    rig reference, other;
    seed++;
    rig_open(&reference, MO_CPU_LEVEL_C, 1, slots, seed);
    build(&reference, arg);
    rig_run(&reference, what);
    judge(&reference, arg, what);
    for (int l = 0; l < n_levels; l++) {
        for (int threads = 1; threads <= 3; threads += 2) {
            rig_open(&other, levels[l], threads, slots, seed);
            build(&other, arg);
            rig_run(&other, what);
            CHECK(same_results(&reference, &other), "%s: %s with %d threads differs from C", what,
                  other.be->ops->kernels(other.be), threads);
            rig_close(&other);
        }
    }
    rig_close(&reference);
}

/* Largest |got - want| / allowed over a view must stay below 1. */
typedef struct error_gauge {
    double worst, got, want;
} error_gauge;

static void gauge(error_gauge *g, double got, double want, double allowed) {
    double ratio = fabs(got - want) / allowed;
    if (!(ratio <= g->worst)) *g = (error_gauge){isnan(ratio) ? INFINITY : ratio, got, want};
}

static void gauge_check(const error_gauge *g, const char *what) {
    CHECK(g->worst <= 1.0, "%s: %.9g instead of %.9g, %.2f times the allowed error", what, g->got,
          g->want, g->worst);
}

/* ---- linear --------------------------------------------------------------------------------- */

static void linear_build(rig *r, const void *arg) {
    const linear_case *c = arg;
    mo_op_linear *op = &rig_op(r, MO_OP_LINEAR)->u.linear;
    bool pad = !(c->flags & DENSE);
    int in_rows = (c->rows - 1) * c->stride + (c->taps - 1) * c->dilation + 1;
    op->in = rig_random(r, in_rows, c->cols, pad, 1.0f)->v;
    op->w = rig_weight(r, c->n, c->taps * c->cols, c->dtype, MO_LAYOUT_STRIPS);
    if (c->flags & BIAS) op->bias = rig_weight(r, 1, c->n, MO_F32, MO_LAYOUT_ROWS);
    if (c->flags & SCALE) op->scale = rig_weight(r, 1, c->n, MO_F32, MO_LAYOUT_ROWS);
    if (c->flags & ADD) {
        rig_view *add = rig_random(r, c->rows, c->n, pad, 1.0f);
        op->add = add->v;
        if (c->flags & IN_PLACE) add->written = true;
    }
    op->out = c->flags & IN_PLACE ? op->add : rig_out(r, c->rows, c->n, pad);
    op->taps = c->taps;
    op->stride = c->stride;
    op->dilation = c->dilation;
}

/* Bound: one rounding per term of the sum, applied to the sum of magnitudes. */
static void linear_judge(rig *r, const void *arg, const char *what) {
    const linear_case *c = arg;
    const mo_op_linear *op = &r->ops[0].u.linear;
    error_gauge g = {0};
    for (int s = 0; s < c->slots; s++)
        for (int row = 0; row < c->rows; row++)
            for (int n = 0; n < c->n; n++) {
                double y = 0, size = 0;
                for (int k = 0; k < c->taps * c->cols; k++) {
                    int from = row * c->stride + k / c->cols * c->dilation;
                    double t = weight_at(r, op->w, n, k) * before(r, &op->in, s, from, k % c->cols);
                    y += t;
                    size += fabs(t);
                }
                if (op->bias) y += weight_at(r, op->bias, 0, n);
                if (op->bias) size += fabs(weight_at(r, op->bias, 0, n));
                if (op->scale) y *= weight_at(r, op->scale, 0, n);
                if (op->scale) size *= fabs(weight_at(r, op->scale, 0, n));
                if (op->add.buf) y += before(r, &op->add, s, row, n);
                if (op->add.buf) size += fabs(before(r, &op->add, s, row, n));
                double roundings = c->taps * c->cols + 3;
                gauge(&g, after(r, &op->out, s, row, n), y, roundings * EPS * size + 1e-37);
            }
    gauge_check(&g, what);
}

static void test_linear(void) {
    for (size_t i = 0; i < sizeof linear_cases / sizeof linear_cases[0]; i++) {
        const linear_case *c = &linear_cases[i];
        char what[80];
        snprintf(what, sizeof what, "linear %zu (%d slots, %d rows, %d x %d)", i, c->slots, c->rows,
                 c->n, c->taps * c->cols);
        run_case(what, c->slots, c, linear_build, linear_judge);
    }
}

/* ---- norm ----------------------------------------------------------------------------------- */

typedef struct norm_case {
    shape s;
    mo_norm_kind kind;
    float eps;
} norm_case;

static void norm_build(rig *r, const void *arg) {
    const norm_case *c = arg;
    mo_op_norm *op = &rig_op(r, MO_OP_NORM)->u.norm;
    *op = (mo_op_norm){.kind = c->kind, .eps = c->eps};
    op->in = rig_random(r, c->s.rows, c->s.cols, true, 3.0f)->v;
    op->weight = rig_weight(r, 1, c->s.cols, MO_F32, MO_LAYOUT_ROWS);
    if (c->kind == MO_NORM_LAYER) op->bias = rig_weight(r, 1, c->s.cols, MO_F32, MO_LAYOUT_ROWS);
    op->out = rig_out(r, c->s.rows, c->s.cols, true);
}

static void norm_judge(rig *r, const void *arg, const char *what) {
    const norm_case *c = arg;
    const mo_op_norm *op = &r->ops[0].u.norm;
    int n = c->s.cols;
    bool layer = c->kind == MO_NORM_LAYER;
    error_gauge g = {0};
    for (int s = 0; s < c->s.slots; s++)
        for (int row = 0; row < c->s.rows; row++) {
            double mean = 0, var = 0;
            for (int i = 0; layer && i < n; i++) mean += before(r, &op->in, s, row, i) / n;
            for (int i = 0; i < n; i++) var += pow(before(r, &op->in, s, row, i) - mean, 2) / n;
            double inv = 1 / sqrt(var + c->eps);
            for (int i = 0; i < n; i++) {
                double w = weight_at(r, op->weight, 0, i);
                double b = layer ? weight_at(r, op->bias, 0, i) : 0;
                double x = before(r, &op->in, s, row, i), y = (x - mean) * inv * w + b;
                /* roundings of a sum of n/16 + 4 steps and of the last few operations; the mean of
                 * a single column leaves nothing but its own rounding */
                double size = (fabs(x) + fabs(mean)) * inv * fabs(w) + fabs(b);
                gauge(&g, after(r, &op->out, s, row, i), y, (n / 16 + 12) * EPS * size);
            }
        }
    gauge_check(&g, what);
}

static void test_norm(void) {
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (int kind = 0; kind < 2; kind++) {
            norm_case c = {shapes[i], kind ? MO_NORM_LAYER : MO_NORM_RMS, kind ? 1e-5f : 1e-8f};
            char what[80];
            snprintf(what, sizeof what, "%s norm %zu", kind ? "layer" : "rms", i);
            run_case(what, c.s.slots, &c, norm_build, norm_judge);
        }
}

/* ---- element-wise --------------------------------------------------------------------------- */

typedef struct act_case {
    shape s;
    mo_act act;
    bool in_place;
} act_case;

/* Ordinary values, and now and then one from the far ends. */
static void spread_values(rig *r, rig_view *rv) {
    static const float special[] = {0.0f,   -0.0f,   1e-30f, -1e-30f, 87.5f,  -86.9f, -87.1f,
                                    100.0f, -100.0f, -1e4f,  1e4f,    -1e-7f, 1e-7f,  5.5f,
                                    -5.5f,  -13.0f,  -0.34f, -0.35f,  -16.0f, 3e38f,  -3e38f};
    for (int s = 0; s < r->slots; s++)
        for (int i = 0; i < rv->v.rows; i++)
            for (int j = 0; j < rv->v.cols; j++) {
                int pick = below(&r->rng, 40);
                float x = pick < 21 ? special[pick] : 4.0f * normal(&r->rng);
                put_f32(rv, s, i, j, x);
            }
}

static void act_build(rig *r, const void *arg) {
    const act_case *c = arg;
    mo_op_act *op = &rig_op(r, MO_OP_ACT)->u.act;
    rig_view *in = rig_add(r, c->s.rows, c->s.cols, true);
    spread_values(r, in);
    op->act = c->act;
    op->in = in->v;
    in->written = c->in_place;
    op->out = c->in_place ? in->v : rig_out(r, c->s.rows, c->s.cols, true);
}

static void act_judge(rig *r, const void *arg, const char *what) {
    const act_case *c = arg;
    const mo_op_act *op = &r->ops[0].u.act;
    error_gauge g = {0};
    for (int s = 0; s < c->s.slots; s++)
        for (int row = 0; row < c->s.rows; row++)
            for (int i = 0; i < c->s.cols; i++) {
                double x = before(r, &op->in, s, row, i), y = x, allowed = 1e-300;
                if (c->act == MO_ACT_ELU) {
                    y = x > 0 ? x : expm1(x);
                    allowed = fmin(1e-7, 3e-7 * fabs(y) + 1e-38);
                } else if (c->act == MO_ACT_GELU) {
                    y = x * 0.5 * erfc(-x / sqrt(2.0));
                    allowed = 1.5e-7 + 0x1p-23 * fabs(y);
                }
                gauge(&g, after(r, &op->out, s, row, i), y, allowed);
            }
    gauge_check(&g, what);
}

static void test_act(void) {
    static const char *const names[] = {"copy", "elu", "gelu"};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (int act = 0; act < 3; act++) {
            act_case c = {shapes[i], (mo_act)act, i % 2 == 1};
            char what[80];
            snprintf(what, sizeof what, "%s %zu", names[act], i);
            run_case(what, c.s.slots, &c, act_build, act_judge);
        }
}

static void act_mul_build(rig *r, const void *arg) {
    const shape *c = arg;
    mo_op_act_mul *op = &rig_op(r, MO_OP_ACT_MUL)->u.act_mul;
    rig_view *in = rig_add(r, c->rows, 2 * c->cols, true);
    spread_values(r, in);
    for (int s = 0; s < c->slots; s++)
        for (int row = 0; row < c->rows; row++)
            for (int i = 0; i < c->cols; i++) put_f32(in, s, row, c->cols + i, normal(&r->rng));
    op->in = in->v;
    op->out = rig_out(r, c->rows, c->cols, true);
}

static void act_mul_judge(rig *r, const void *arg, const char *what) {
    const shape *c = arg;
    const mo_op_act_mul *op = &r->ops[0].u.act_mul;
    error_gauge g = {0};
    for (int s = 0; s < c->slots; s++)
        for (int row = 0; row < c->rows; row++)
            for (int i = 0; i < c->cols; i++) {
                double a = before(r, &op->in, s, row, i);
                double b = before(r, &op->in, s, row, c->cols + i), y = a / (1 + exp(-a)) * b;
                /* e^88 stands in for what overflows: a / e^88 is 1e-36 at most for |a| <= 100 */
                if (fabs(a) < 1e30)
                    gauge(&g, after(r, &op->out, s, row, i), y, 5e-7 * fabs(y) + 1e-33 * fabs(b));
            }
    gauge_check(&g, what);
}

static void test_act_mul(void) {
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        char what[80];
        snprintf(what, sizeof what, "act_mul %zu", i);
        run_case(what, shapes[i].slots, &shapes[i], act_mul_build, act_mul_judge);
    }
}

/* The polynomials over their whole range, not only where random values fall. */
static void test_functions(void) {
    double exp_error = 0, elu_error = 0, gelu_error = 0;
    const mo_kernels *k = mo_kernels_get(MO_CPU_LEVEL_AUTO);
    for (int i = -870000; i <= 880000; i++) {
        float x = (float)i * 1e-4f, elu, gelu;
        if (x < -87.0f || x > 88.0f) continue;
        double e = exp((double)x);
        exp_error = fmax(exp_error, fabs((double)mo_exp(x) - e) / e);
        k->act(MO_ACT_ELU, &x, &elu, 1);
        elu_error = fmax(elu_error, fabs((double)elu - (x > 0 ? (double)x : expm1((double)x))));
        k->act(MO_ACT_GELU, &x, &gelu, 1);
        double want = x * 0.5 * erfc(-(double)x / sqrt(2.0));
        if (fabs(want) < 2) gelu_error = fmax(gelu_error, fabs((double)gelu - want));
    }
    CHECK(exp_error <= 2e-7, "exp is off by %g", exp_error);
    CHECK(elu_error <= 1e-7, "elu is off by %g", elu_error);
    CHECK(gelu_error <= 2e-7, "gelu is off by %g", gelu_error);
    CHECK(mo_exp(-100.0f) == 0.0f && mo_exp(0.0f) == 1.0f, "exp at its ends");
    CHECK(isnan(mo_exp(NAN)), "exp hides NaN");
    for (int l = 0; l < n_levels; l++) {
        float x[2] = {NAN, 1.0f}, y[2];
        const mo_kernels *kernels = mo_kernels_get(levels[l]);
        kernels->act(MO_ACT_ELU, x, y, 2);
        CHECK(isnan(y[0]) && y[1] == 1.0f, "elu hides NaN on %s", kernels->name);
        kernels->act(MO_ACT_GELU, x, y, 2);
        CHECK(isnan(y[0]), "gelu hides NaN on %s", kernels->name);
        kernels->act_mul(x, x + 1, y, 1);
        CHECK(isnan(y[0]), "silu hides NaN on %s", kernels->name);
    }
}

/* ---- embeddings ----------------------------------------------------------------------------- */

typedef struct embed_case {
    shape s;
    int n;
    mo_layout layout;
    mo_dtype dtype;
    bool accumulate;
} embed_case;

static const mo_weight *embed_tables[MAX_WEIGHTS];

static void embed_build(rig *r, const void *arg) {
    const embed_case *c = arg;
    mo_op_embed_sum *op = &rig_op(r, MO_OP_EMBED_SUM)->u.embed_sum;
    rig_view *tokens = rig_add(r, c->s.rows, c->n + 1, true);
    for (int i = 0; i < c->n; i++)
        embed_tables[i] = rig_weight(r, 20 + i, c->s.cols, c->dtype, c->layout);
    for (int s = 0; s < c->s.slots; s++)
        for (int row = 0; row < c->s.rows; row++)
            for (int i = 0; i < c->n; i++) put_i32(tokens, s, row, i, below(&r->rng, 21 + i) - 1);
    *op = (mo_op_embed_sum){embed_tables, c->n, tokens->v, {0}, c->accumulate};
    if (c->accumulate) {
        rig_view *out = rig_random(r, c->s.rows, c->s.cols, true, 1.0f);
        out->written = true;
        op->out = out->v;
    } else {
        op->out = rig_out(r, c->s.rows, c->s.cols, true);
    }
}

static void embed_judge(rig *r, const void *arg, const char *what) {
    const embed_case *c = arg;
    const mo_op_embed_sum *op = &r->ops[0].u.embed_sum;
    bool ok = true;
    for (int s = 0; s < c->s.slots; s++)
        for (int row = 0; row < c->s.rows; row++)
            for (int i = 0; i < c->s.cols; i++) {
                float y = c->accumulate ? (float)before(r, &op->out, s, row, i) : 0.0f;
                for (int t = 0; t < c->n; t++) {
                    int token = after_i32(r, &op->tokens, s, row, t);
                    if (token >= 0) y = y + (float)weight_at(r, op->tables[t], token, i);
                }
                ok &= y == (float)after(r, &op->out, s, row, i);
            }
    CHECK(ok, "%s: not the sum of the rows in order", what);
}

static void test_embed(void) {
    static const mo_dtype dtypes[] = {MO_F32, MO_F16, MO_BF16};
    for (int i = 0; i < 12; i++) {
        embed_case c = {shapes[i % 10], 1 + i, i % 2 ? MO_LAYOUT_STRIPS : MO_LAYOUT_ROWS,
                        dtypes[i % 3], i % 4 == 1};
        char what[80];
        snprintf(what, sizeof what, "embed_sum %d", i);
        run_case(what, c.s.slots, &c, embed_build, embed_judge);
    }
}

/* ---- attention ------------------------------------------------------------------------------ */

/* Ops: rope_table, rope_kv, attend. Views: 0 pos, 1 table, 2 qkv, 3 k ring, 4 v ring, 5 out. */
typedef struct attend_run {
    attend_case c;
    int position;
} attend_run;

static void attend_build(rig *r, const void *arg) {
    const attend_run *run = arg;
    const attend_case *c = &run->c;
    int hd = c->head_dim;
    rig_view *pos = rig_add(r, 1, 1, true);
    for (int s = 0; s < r->slots; s++) put_i32(pos, s, 0, 0, run->position + 3 * s);
    mo_view table = rig_out(r, c->rows, hd, true);
    rig_view *qkv = rig_random(r, c->rows, (c->heads + 2 * c->kv_heads) * hd, true, 1.5f);
    rig_view *k = rig_random(r, c->kv_heads * c->capacity, hd, false, 1.5f);
    rig_view *v = rig_random(r, c->kv_heads * c->capacity, hd, false, 1.0f);
    qkv->written = k->written = v->written = true;
    float *freq = take((size_t)hd / 2, 4);
    for (int i = 0; i < hd / 2; i++) freq[i] = (float)pow(10000.0, -2.0 * i / hd);
    mo_kv kv = {k->v.buf, v->v.buf, c->kv_heads, c->capacity, hd};
    mo_view none = {0};
    mo_op *op = rig_op(r, MO_OP_ROPE_TABLE);
    op->u.rope_table.freq = rig_upload(r, 1, hd / 2, MO_F32, MO_LAYOUT_ROWS, freq);
    op->u.rope_table.pos = pos->v;
    op->u.rope_table.out = table;
    rig_op(r, MO_OP_ROPE_KV)->u.rope_kv = (mo_op_rope_kv){c->rope,
                                                          c->heads,
                                                          qkv->v,
                                                          c->rope == MO_ROPE_NONE ? none : table,
                                                          c->fixed ? none : pos->v,
                                                          run->position,
                                                          kv};
    rig_op(r, MO_OP_ATTEND)->u.attend = (mo_op_attend){c->heads,
                                                       c->context,
                                                       qkv->v,
                                                       c->fixed ? none : pos->v,
                                                       run->position,
                                                       kv,
                                                       rig_out(r, c->rows, c->heads * hd, true)};
}

static int slot_position(const attend_run *run, int slot) {
    return run->position + (run->c.fixed ? 0 : 3 * slot);
}

/* Element i of head vector `first` of qkv, rotated in double with the table's own values. */
static double rotated(rig *r, const attend_run *run, int slot, int row, int first, int i) {
    const mo_view *table = &r->ops[0].u.rope_table.out, *qkv = &r->ops[1].u.rope_kv.qkv;
    int hd = run->c.head_dim, half = hd / 2, pair, re, im;
    if (run->c.rope == MO_ROPE_NONE) return before(r, qkv, slot, row, first + i);
    bool pairs = run->c.rope == MO_ROPE_PAIRS, imaginary = pairs ? i % 2 == 1 : i >= half;
    pair = pairs ? i / 2 : i % half;
    re = first + (pairs ? 2 * pair : pair);
    im = first + (pairs ? 2 * pair + 1 : pair + half);
    double c = after(r, table, slot, row, 2 * pair), s = after(r, table, slot, row, 2 * pair + 1);
    double a = before(r, qkv, slot, row, re), b = before(r, qkv, slot, row, im);
    return imaginary ? a * s + b * c : a * c - b * s;
}

static void rope_judge(rig *r, const attend_run *run, const char *what) {
    const attend_case *c = &run->c;
    const mo_op_rope_table *rt = &r->ops[0].u.rope_table;
    const mo_op_rope_kv *op = &r->ops[1].u.rope_kv;
    error_gauge g = {0};
    bool table_ok = true, v_ok = true;
    for (int s = 0; s < r->slots; s++)
        for (int row = 0; row < c->rows; row++) {
            int hd = c->head_dim;
            int table_position = run->position + 3 * s + row;
            for (int i = 0; i < hd; i++) {
                float angle = (float)table_position * (float)weight_at(r, rt->freq, 0, i / 2);
                float want = (float)(i % 2 ? sin((double)angle) : cos((double)angle));
                table_ok &= want == (float)after(r, &rt->out, s, row, i);
            }
            for (int i = 0; i < c->heads * hd; i++)
                gauge(&g, after(r, &op->qkv, s, row, i),
                      rotated(r, run, s, row, i / hd * hd, i % hd), 4e-6);
            if (c->rows > c->capacity) continue;
            int entry = (slot_position(run, s) + row) % c->capacity;
            for (int i = 0; i < c->kv_heads * hd; i++) {
                int first = c->heads * hd + i / hd * hd, ring = i / hd * c->capacity + entry;
                gauge(&g, after(r, &r->views[3].v, s, ring, i % hd),
                      rotated(r, run, s, row, first, i % hd), 4e-6);
                v_ok &= after(r, &r->views[4].v, s, ring, i % hd) ==
                        before(r, &op->qkv, s, row, (c->heads + c->kv_heads) * hd + i);
            }
        }
    CHECK(table_ok, "%s: rope table", what);
    CHECK(v_ok, "%s: v ring", what);
    gauge_check(&g, what);
}

/* One query in double from the rings as the run left them. */
static void attend_query(rig *r, const attend_run *run, int slot, int row, int head,
                         error_gauge *g) {
    const attend_case *c = &run->c;
    const mo_op_attend *op = &r->ops[2].u.attend;
    int hd = c->head_dim, p = slot_position(run, slot) + row, kv = head / (c->heads / c->kv_heads);
    int last = slot_position(run, slot) + c->rows - 1, from = p - c->context + 1;
    if (from < last - c->capacity + 1) from = last - c->capacity + 1;
    if (from < 0) from = 0;
    double *e = take((size_t)(p - from + 1), sizeof *e), max = -INFINITY, total = 0;
    for (int q = from; q <= p; q++) {
        double dot = 0;
        for (int i = 0; i < hd; i++)
            dot += after(r, &op->qkv, slot, row, head * hd + i) *
                   after(r, &r->views[3].v, slot, kv * c->capacity + q % c->capacity, i);
        e[q - from] = dot / sqrt(hd);
        max = fmax(max, e[q - from]);
    }
    for (int q = from; q <= p; q++) total += e[q - from] = exp(e[q - from] - max);
    for (int i = 0; i < hd; i++) {
        double y = 0, size = 0;
        for (int q = from; q <= p; q++) {
            double v = after(r, &r->views[4].v, slot, kv * c->capacity + q % c->capacity, i);
            y += e[q - from] / total * v;
            size += e[q - from] / total * fabs(v);
        }
        /* scores reach 15 or so: their rounding and that of the sums, as a share of the weights */
        gauge(g, after(r, &op->out, slot, row, head * hd + i), y, 1e-5 * size + 1e-7);
    }
    free(e);
}

static void attend_judge(rig *r, const void *arg, const char *what) {
    const attend_run *run = arg;
    error_gauge g = {0};
    rope_judge(r, run, what);
    for (int s = 0; s < r->slots; s++)
        for (int row = 0; row < run->c.rows; row++)
            for (int h = 0; h < run->c.heads; h++) attend_query(r, run, s, row, h, &g);
    gauge_check(&g, what);
}

static void test_attend(void) {
    for (size_t i = 0; i < sizeof attend_cases / sizeof attend_cases[0]; i++)
        for (size_t p = 0; p < sizeof attend_positions / sizeof attend_positions[0]; p++) {
            attend_run run = {attend_cases[i], attend_positions[p]};
            if (run.c.fixed && run.position >= run.c.capacity) continue;
            char what[80];
            snprintf(what, sizeof what, "attend %zu at %d", i, run.position);
            run_case(what, run.c.slots, &run, attend_build, attend_judge);
        }
}

/* ---- codec ops ------------------------------------------------------------------------------ */

static void upsample_build(rig *r, const void *arg) {
    const upsample_case *c = arg;
    mo_op_upsample *op = &rig_op(r, MO_OP_UPSAMPLE)->u.upsample;
    op->w = rig_weight(r, c->channels, c->taps * c->stride, MO_F32, MO_LAYOUT_ROWS);
    op->taps = c->taps;
    op->stride = c->stride;
    op->in = rig_random(r, c->steps + c->taps - 1, c->channels, true, 1.0f)->v;
    op->out = rig_out(r, c->steps * c->stride, c->channels, true);
}

static void upsample_judge(rig *r, const void *arg, const char *what) {
    const upsample_case *c = arg;
    const mo_op_upsample *op = &r->ops[0].u.upsample;
    error_gauge g = {0};
    for (int s = 0; s < c->slots; s++)
        for (int row = 0; row < c->steps * c->stride; row++)
            for (int ch = 0; ch < c->channels; ch++) {
                double y = 0, size = 0;
                for (int j = 0; j < c->taps; j++) {
                    double t = weight_at(r, op->w, ch, j * c->stride + row % c->stride) *
                               before(r, &op->in, s, c->taps - 1 + row / c->stride - j, ch);
                    y += t;
                    size += fabs(t);
                }
                gauge(&g, after(r, &op->out, s, row, ch), y, (c->taps + 1) * EPS * size + 1e-37);
            }
    gauge_check(&g, what);
}

static void test_upsample(void) {
    for (size_t i = 0; i < sizeof upsample_cases / sizeof upsample_cases[0]; i++) {
        char what[80];
        snprintf(what, sizeof what, "upsample %zu", i);
        run_case(what, upsample_cases[i].slots, &upsample_cases[i], upsample_build, upsample_judge);
    }
}

/* Entries come in near-equal pairs and exact duplicates, so that float32 scores cannot tell them
 * apart and the first index must win a tie. */
static void rvq_build(rig *r, const void *arg) {
    const rvq_case *c = arg;
    size_t n = (size_t)c->bins * (size_t)c->dim;
    float *book = take(n, 4), *half = take((size_t)c->bins, 4), *copy = take(n, 4);
    for (int j = 0; j < c->bins; j++)
        for (int i = 0; i < c->dim; i++) {
            float x = normal(&r->rng);
            if (j % 2) x = book[(j - 1) * c->dim + i] + c->closeness * x;
            book[j * c->dim + i] = x;
            half[j] -= 0.5f * x * x;
        }
    memcpy(copy, book, n * 4);
    rig_view *x = rig_add(r, c->rows, c->dim, true);
    for (int s = 0; s < r->slots; s++)
        for (int row = 0; row < c->rows; row++) {
            int near = below(&r->rng, c->bins);
            for (int i = 0; i < c->dim; i++)
                put_f32(x, s, row, i, book[near * c->dim + i] + 0.3f * normal(&r->rng));
        }
    x->written = true;
    mo_view scores = rig_out(r, c->rows, c->bins, true);
    mo_op_linear *op = &rig_op(r, MO_OP_LINEAR)->u.linear;
    op->w = rig_upload(r, c->bins, c->dim, MO_F32, MO_LAYOUT_STRIPS, book);
    op->bias = rig_upload(r, 1, c->bins, MO_F32, MO_LAYOUT_ROWS, half);
    op->in = x->v;
    op->out = scores;
    op->taps = op->stride = op->dilation = 1;
    rig_op(r, MO_OP_RVQ_PICK)->u.rvq_pick =
        (mo_op_rvq_pick){op->w, scores, x->v, rig_out(r, c->rows, 1, true)};
    free(copy);
}

static void rvq_judge(rig *r, const void *arg, const char *what) {
    const rvq_case *c = arg;
    const mo_op_rvq_pick *op = &r->ops[1].u.rvq_pick;
    bool picked = true, subtracted = true;
    for (int s = 0; s < c->slots; s++)
        for (int row = 0; row < c->rows; row++) {
            int best = 0;
            double least = INFINITY;
            for (int j = 0; j < c->bins; j++) {
                double d = 0;
                for (int i = 0; i < c->dim; i++)
                    d += pow(before(r, &op->residual, s, row, i) - weight_at(r, op->codebook, j, i),
                             2);
                if (d < least) {
                    least = d;
                    best = j;
                }
            }
            picked &= after_i32(r, &op->codes, s, row, 0) == best;
            for (int i = 0; i < c->dim; i++) {
                float want = (float)before(r, &op->residual, s, row, i) -
                             (float)weight_at(r, op->codebook, best, i);
                subtracted &= want == (float)after(r, &op->residual, s, row, i);
            }
        }
    CHECK(picked, "%s: not the nearest entry", what);
    CHECK(subtracted, "%s: residual", what);
}

static void test_rvq(void) {
    for (size_t i = 0; i < sizeof rvq_cases / sizeof rvq_cases[0]; i++) {
        char what[80];
        snprintf(what, sizeof what, "rvq_pick %zu", i);
        run_case(what, rvq_cases[i].slots, &rvq_cases[i], rvq_build, rvq_judge);
    }
}

/* ---- streams -------------------------------------------------------------------------------- */

/* pad_first (for slots at position 0), shift, advance on one view. */
static void stream_build(rig *r, const void *arg) {
    const stream_case *c = arg;
    rig_view *v = rig_random(r, c->rows, c->cols, true, 1.0f), *pos = rig_add(r, 1, 1, true);
    for (int s = 0; s < r->slots; s++) put_i32(pos, s, 0, 0, s % 2 ? 7 * s : 0);
    v->written = pos->written = true;
    rig_op(r, MO_OP_PAD_FIRST)->u.pad_first = (mo_op_pad_first){v->v, pos->v, c->n};
    rig_op(r, MO_OP_SHIFT)->u.shift = (mo_op_shift){v->v, c->n};
    rig_op(r, MO_OP_ADVANCE)->u.advance = (mo_op_advance){pos->v, 5};
}

static void stream_judge(rig *r, const void *arg, const char *what) {
    const stream_case *c = arg;
    const mo_view *v = &r->views[0].v, *pos = &r->views[1].v;
    bool ok = true;
    for (int s = 0; s < c->slots; s++) {
        int start = s % 2 ? 7 * s : 0;
        for (int row = 0; row < c->rows; row++)
            for (int i = 0; i < c->cols; i++) {
                int from = row < c->n ? c->rows - c->n + row : row;
                if (start == 0 && from < c->n) from = c->n;
                ok &= after(r, v, s, row, i) == before(r, v, s, from, i);
            }
        ok &= after_i32(r, pos, s, 0, 0) == start + 5;
    }
    CHECK(ok, "%s: history", what);
}

static void test_streams(void) {
    for (size_t i = 0; i < sizeof stream_cases / sizeof stream_cases[0]; i++) {
        char what[80];
        snprintf(what, sizeof what, "pad_first, shift, advance %zu", i);
        run_case(what, stream_cases[i].slots, &stream_cases[i], stream_build, stream_judge);
    }
}

/* ---- token grid ----------------------------------------------------------------------------- */

/* The reference's rules on a grid without end: rows are steps, -2 = nothing there yet. */
enum { GRID_STEPS = 40, TEXT_INITIAL = 500, AUDIO_INITIAL = 128 };

typedef struct grid_model {
    int32_t cells[GRID_STEPS + 16][12];
} grid_model;

static void grid_one(const grid_case *c, mo_backend *be, uint64_t *rng) {
    const mo_backend_ops *ops = be->ops;
    int users = c->n_q - c->dep_q, channels = 1 + c->n_q, outs = 1 + c->dep_q;
    mo_buf *cache = ops->alloc(be, (size_t)(c->max_delay + 2) * (size_t)channels * 4);
    mo_buf *small = ops->alloc(be, 64 * 4);
    for (int i = 0; i < (c->max_delay + 2) * channels; i++) ((int32_t *)cache->data)[i] = -2;
    mo_grid g = {{cache, 0, 0, (size_t)channels, c->max_delay + 2, channels},
                 {small, 0, 0, 1, 1, 1},
                 c->delays,
                 c->n_q,
                 c->dep_q,
                 c->max_delay,
                 TEXT_INITIAL,
                 AUDIO_INITIAL};
    mo_view user = {users ? small : NULL, 1, 0, 16, 1, users};
    mo_view in = {small, 17, 0, 16, 1, channels}, tokens = {small, 33, 0, 16, 1, outs};
    mo_view out = {small, 49, 0, 15, 1, outs};
    mo_op list[2] = {{.kind = MO_OP_GRID_READ}, {.kind = MO_OP_GRID_WRITE}};
    list[0].u.grid_read = (mo_op_grid_read){g, user, in};
    list[1].u.grid_write = (mo_op_grid_write){g, tokens, out};
    mo_program *p = ops->record(be, list, 2, 1);
    grid_model *m = take(1, sizeof *m);
    int32_t *data = small->data;
    const uint8_t exec[1] = {1};
    bool in_ok = true, out_ok = true;
    for (int o = 0; o < GRID_STEPS; o++) {
        for (int i = 0; i < users; i++)
            data[1 + i] = m->cells[o + c->delays[outs + i]][outs + i] = below(rng, 128);
        for (int i = 0; i < outs; i++) data[33 + i] = below(rng, 128);
        ops->run(be, p, 0, 1, exec);
        for (int ch = 0; ch < channels; ch++) {
            int initial = ch == 0 ? TEXT_INITIAL : AUDIO_INITIAL;
            in_ok &= data[17 + ch] == (o <= c->delays[ch] ? initial : m->cells[o][ch]);
        }
        ops->run(be, p, 1, 2, exec);
        for (int i = 0; i < outs; i++) m->cells[o + 1][i] = data[33 + i];
        for (int i = 0; i < outs; i++) {
            int want = o + 1 > c->max_delay ? m->cells[o + 1 - c->max_delay + c->delays[i]][i]
                                            : MOSHI_NO_TOKEN;
            out_ok &= data[49 + i] == want;
        }
    }
    CHECK(in_ok, "grid %d/%d: model input", c->n_q, c->dep_q);
    CHECK(out_ok, "grid %d/%d: output", c->n_q, c->dep_q);
    CHECK(data[0] == GRID_STEPS, "grid %d/%d: step", c->n_q, c->dep_q);
    free(m);
    ops->program_free(be, p);
    ops->free(be, cache);
    ops->free(be, small);
}

static void test_grid(void) {
    mo_backend *be;
    uint64_t rng = 7;
    mo_backend_options options = {.threads = 1, .level = MO_CPU_LEVEL_C};
    if (!CHECK(mo_backend_cpu.open(&be, &options, NULL) == 0, "open")) return;
    for (size_t i = 0; i < sizeof grid_cases / sizeof grid_cases[0]; i++)
        grid_one(&grid_cases[i], be, &rng);
    mo_backend_cpu.close(be);
}

/* ---- sampling ------------------------------------------------------------------------------- */

enum { FORCED_SLOT = 1, FORCED_TOKEN = 3 };

/* Views: 0 logits, 1 params, 2 force, 3 step, 4 token. */
static void sample_build(rig *r, const void *arg) {
    const sample_case *c = arg;
    rig_view *logits = rig_random(r, 1, c->n, true, 2.0f);
    rig_view *params = rig_add(r, 1, MO_SAMPLE_COLS, true), *force = rig_add(r, 1, 9, true);
    rig_view *step = rig_add(r, 1, 1, true);
    bool text = c->channel == 0;
    for (int s = 0; s < r->slots; s++) {
        for (int i = 0; c->ties && i < c->n; i++)
            put_f32(logits, s, 0, i, (float)below(&r->rng, 4));
        put_f32(params, s, 0, MO_SAMPLE_TEXT_TEMP, text ? c->temp : 9.0f);
        put_f32(params, s, 0, MO_SAMPLE_AUDIO_TEMP, text ? 9.0f : c->temp);
        put_i32(params, s, 0, MO_SAMPLE_TEXT_TOP_K, text ? c->top_k : 1);
        put_i32(params, s, 0, MO_SAMPLE_AUDIO_TOP_K, text ? 1 : c->top_k);
        put_i32(params, s, 0, MO_SAMPLE_SEED_LO, 1234 + s);
        put_i32(params, s, 0, MO_SAMPLE_SEED_HI, -5);
        for (int i = 0; i < 9; i++) put_i32(force, s, 0, i, FORCED_TOKEN + 1);
        bool forced = s == FORCED_SLOT;
        put_i32(force, s, 0, c->channel, forced ? FORCED_TOKEN : (int32_t)MOSHI_FREE);
        put_i32(step, s, 0, 0, 100 * s);
    }
    rig_op(r, MO_OP_SAMPLE)->u.sample =
        (mo_op_sample){c->channel, logits->v, params->v, force->v, step->v, rig_out(r, 1, 1, true)};
}

/* u_j of the contract, written out again. */
static double uniform(const sample_case *c, int slot, int token) {
    uint32_t x[4] = {(uint32_t)token / 4, (uint32_t)c->channel, (uint32_t)(100 * slot), 0};
    uint32_t k0 = (uint32_t)(1234 + slot), k1 = (uint32_t)-5;
    for (int round = 0; round < 10; round++) {
        uint64_t a = UINT64_C(0xD2511F53) * x[0], b = UINT64_C(0xCD9E8D57) * x[2];
        uint32_t y[4] = {(uint32_t)(b >> 32) ^ x[1] ^ k0, (uint32_t)b,
                         (uint32_t)(a >> 32) ^ x[3] ^ k1, (uint32_t)a};
        memcpy(x, y, sizeof x);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return (x[token % 4] + 0.5) / 4294967296.0;
}

/* How many tokens come before this one in the order of the top k. */
static int rank_of(rig *r, const mo_view *logits, int slot, int n, int token) {
    int rank = 0;
    double x = before(r, logits, slot, 0, token);
    for (int i = 0; i < n; i++) {
        double y = before(r, logits, slot, 0, i);
        rank += y > x || (y == x && i < token);
    }
    return rank;
}

static double score_of(rig *r, const sample_case *c, int slot, int token) {
    const mo_view *logits = &r->ops[0].u.sample.logits;
    if (c->top_k > 0 && rank_of(r, logits, slot, c->n, token) >= c->top_k) return -1;
    double x = before(r, logits, slot, 0, token);
    return exp(x / c->temp) / -log(uniform(c, slot, token));
}

static void sample_judge(rig *r, const void *arg, const char *what) {
    const sample_case *c = arg;
    const mo_op_sample *op = &r->ops[0].u.sample;
    for (int s = 0; s < c->slots; s++) {
        int token = after_i32(r, &op->token, s, 0, 0), best = 0;
        if (s == FORCED_SLOT) {
            CHECK(token == FORCED_TOKEN, "%s: forced token ignored", what);
            continue;
        }
        if (!CHECK(token >= 0 && token < c->n, "%s: token %d", what, token)) continue;
        if (c->temp <= 0) {
            CHECK(rank_of(r, &op->logits, s, c->n, token) == 0, "%s: not the first maximum", what);
            continue;
        }
        double high = -1, got = score_of(r, c, s, token);
        for (int i = 0; i < c->n; i++) {
            double score = score_of(r, c, s, i);
            if (score > high) {
                high = score;
                best = i;
            }
        }
        CHECK(got >= high * (1 - 1e-5), "%s: token %d instead of %d", what, token, best);
    }
}

static void test_sample(void) {
    for (size_t i = 0; i < sizeof sample_cases / sizeof sample_cases[0]; i++) {
        char what[80];
        snprintf(what, sizeof what, "sample %zu", i);
        run_case(what, sample_cases[i].slots, &sample_cases[i], sample_build, sample_judge);
    }
}

/* ---- benchmark ------------------------------------------------------------------------------ */

/* Best of several timings of op 0 of the program, about a second in all. */
static double best_time(rig *r, mo_program *p) {
    uint8_t exec[MAX_SLOTS];
    memset(exec, 1, sizeof exec);
    double best = 1e9, until = mo_now_s() + 1.0;
    do {
        double t = mo_now_s();
        r->be->ops->run(r->be, p, 0, 1, exec);
        t = mo_now_s() - t;
        if (t < best) best = t;
    } while (mo_now_s() < until);
    return best;
}

/* What memory delivers to a plain loop: 256 MB summed by the same number of threads. */
enum { READ_CHUNKS = 64, READ_WORDS = 1 << 19 }; /* per chunk */

typedef struct read_job {
    const uint64_t *data;
    uint64_t sums[READ_CHUNKS];
} read_job;

static void read_chunk(void *ctx, int chunk, int thread) {
    read_job *job = ctx;
    const uint64_t *p = job->data + (size_t)chunk * READ_WORDS;
    uint64_t a[8] = {0};
    (void)thread;
    for (size_t i = 0; i < READ_WORDS; i += 8)
        for (size_t j = 0; j < 8; j++) a[j] ^= p[i + j];
    for (int j = 0; j < 8; j++) job->sums[chunk] += a[j];
}

static double read_bandwidth(int threads) {
    size_t bytes = (size_t)READ_CHUNKS * READ_WORDS * 8;
    uint64_t *data = take(bytes, 1);
    memset(data, 1, bytes); /* real pages, not the shared zero page */
    mo_pool *pool = mo_pool_open(threads);
    if (!pool) abort();
    read_job job = {.data = data};
    double best = 1e9;
    for (int i = 0; i < 8; i++) {
        double t = mo_now_s();
        mo_pool_run(pool, read_chunk, &job, READ_CHUNKS);
        t = mo_now_s() - t;
        if (t < best) best = t;
    }
    mo_pool_close(pool);
    free(data);
    return (double)bytes / best;
}

static void bench_linear(mo_cpu_level level, int threads, const bench_case *b) {
    rig r;
    rig_open(&r, level, threads, b->shape.slots, 1);
    linear_build(&r, &b->shape);
    mo_program *p = r.be->ops->record(r.be, r.ops, r.n_ops, b->shape.slots);
    for (int i = 0; i < r.n_views; i++)
        r.be->ops->write(r.be, r.views[i].v.buf, 0, r.views[i].before, r.views[i].v.buf->bytes);
    double s = best_time(&r, p), weights = (double)b->shape.n * b->shape.cols * b->shape.taps;
    double flops = 2 * weights * b->shape.slots * b->shape.rows;
    double bytes = weights * (b->shape.dtype == MO_F32 ? 4 : 2);
    printf("%-38s %9.1f us %8.1f GFLOP/s %8.2f GB/s of weights\n", b->name, s * 1e6,
           flops / s * 1e-9, bytes / s * 1e-9);
    r.be->ops->program_free(r.be, p);
    rig_close(&r);
}

/* [threads [level [case]]] */
static int bench(int argc, char **argv) {
    int threads = argc > 0 ? atoi(argv[0]) : mo_core_count(), only = argc > 2 ? atoi(argv[2]) : -1;
    mo_cpu_level level = argc > 1 ? (mo_cpu_level)atoi(argv[1]) : MO_CPU_LEVEL_AUTO;
    if (threads < 1 || !mo_kernels_get(level)) {
        fprintf(stderr, "usage: test_ops --bench [THREADS [LEVEL [CASE]]]\n");
        return 2;
    }
    printf("%s, %d threads, plain read %.1f GB/s\n", mo_kernels_get(level)->name, threads,
           read_bandwidth(threads) * 1e-9);
    for (int i = 0; i < (int)(sizeof bench_cases / sizeof bench_cases[0]); i++)
        if (only < 0 || only == i) bench_linear(level, threads, &bench_cases[i]);
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) return bench(argc - 2, argv + 2);
    find_levels();
    if (n_levels == 1) SKIP("no vector instructions here: only the C kernels were tested");
    test_functions();
    test_linear();
    test_norm();
    test_act();
    test_act_mul();
    test_embed();
    test_attend();
    test_upsample();
    test_rvq();
    test_streams();
    test_grid();
    test_sample();
    return check_done("test_ops");
}
