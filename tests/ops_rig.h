/* ops_rig.h - small programs on one backend with poisoned buffers, run on every instruction set,
 * thread count and set of slots. Included by the tests of ops: everything here is theirs alone,
 * because CHECK counts per program. */
#ifndef MO_TESTS_OPS_RIG_H
#define MO_TESTS_OPS_RIG_H

#include "check.h"
#include "cpu/qkernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double EPS = 0x1p-24;         /* half a unit in the last place of 1.0f */
static const uint32_t POISON = 0x7FC0DEAD; /* a NaN */

/* ---- random numbers ------------------------------------------------------------------------- */

static inline uint64_t next_u64(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

static inline int below(uint64_t *state, int n) {
    return (int)(next_u64(state) % (uint64_t)n);
}

/* Roughly normal, variance 1. */
static inline float normal(uint64_t *state) {
    double sum = 0;
    for (int i = 0; i < 12; i++) sum += (double)(next_u64(state) >> 11) * 0x1p-53;
    return (float)(sum - 6.0);
}

static inline void *take(size_t n, size_t size) {
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
    int pieces, digits; /* of float32 strips uploaded from now on */
    rig_view views[MAX_VIEWS];
    int n_views;
    mo_weight weights[MAX_WEIGHTS];
    float *values[MAX_WEIGHTS]; /* the weights as float */
    int n_weights;
    mo_op ops[MAX_OPS];
    int n_ops;
} rig;

static inline void rig_open(rig *r, mo_cpu_level level, int threads, int slots, uint64_t seed) {
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

static inline void rig_close(rig *r) {
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

static inline size_t words(const rig_view *rv) {
    return rv->v.buf->bytes / 4;
}

static inline size_t at(const mo_view *v, int slot, int row, int col) {
    return v->offset + (size_t)slot * v->slot_stride + (size_t)row * v->row_stride + (size_t)col;
}

/* A view in its own poisoned buffer; `pad` puts gaps between rows, slots and in front. */
static inline rig_view *rig_add(rig *r, int rows, int cols, bool pad) {
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

static inline mo_view rig_out(rig *r, int rows, int cols, bool pad) {
    rig_view *rv = rig_add(r, rows, cols, pad);
    rv->written = rv->full = true;
    return rv->v;
}

static inline void put_f32(rig_view *rv, int slot, int row, int col, float x) {
    memcpy(&rv->before[at(&rv->v, slot, row, col)], &x, 4);
}

static inline void put_i32(rig_view *rv, int slot, int row, int col, int32_t x) {
    memcpy(&rv->before[at(&rv->v, slot, row, col)], &x, 4);
}

static inline rig_view *rig_random(rig *r, int rows, int cols, bool pad, float size) {
    rig_view *rv = rig_add(r, rows, cols, pad);
    for (int s = 0; s < r->slots; s++)
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < cols; j++) put_f32(rv, s, i, j, size * normal(&r->rng));
    return rv;
}

static inline rig_view *rig_of(rig *r, const mo_view *v) {
    for (int i = 0; i < r->n_views; i++)
        if (r->views[i].v.buf == v->buf) return &r->views[i];
    abort();
}

static inline double before(rig *r, const mo_view *v, int slot, int row, int col) {
    float x;
    memcpy(&x, &rig_of(r, v)->before[at(v, slot, row, col)], 4);
    return (double)x;
}

static inline double after(rig *r, const mo_view *v, int slot, int row, int col) {
    float x;
    memcpy(&x, &rig_of(r, v)->after[at(v, slot, row, col)], 4);
    return (double)x;
}

static inline int32_t after_i32(rig *r, const mo_view *v, int slot, int row, int col) {
    int32_t x;
    memcpy(&x, &rig_of(r, v)->after[at(v, slot, row, col)], 4);
    return x;
}

static inline float round_to(mo_dtype dtype, float x) {
    if (dtype == MO_BF16) return mo_bf16_to_f32(mo_f32_to_bf16(x));
    if (dtype == MO_F16) return mo_f16_to_f32(mo_f32_to_f16(x));
    return x;
}

/* Upload values (already exact in dtype) from an odd address. */
static inline const mo_weight *rig_upload(rig *r, int rows, int cols, mo_dtype dtype,
                                          mo_layout layout, float *values) {
    size_t n = (size_t)rows * (size_t)cols, size = dtype == MO_F32 ? 4 : 2;
    char *raw = take(n * size + 1, 1);
    for (size_t i = 0; i < n; i++) {
        uint16_t half = dtype == MO_BF16 ? mo_f32_to_bf16(values[i]) : mo_f32_to_f16(values[i]);
        memcpy(raw + 1 + i * size, dtype == MO_F32 ? (void *)&values[i] : (void *)&half, size);
    }
    mo_matrix m = {.dtype = dtype,
                   .rows = rows,
                   .cols = cols,
                   .data = raw + 1,
                   .pieces = r->pieces,
                   .digits = r->digits};
    mo_weight *w = &r->weights[r->n_weights];
    r->values[r->n_weights++] = values;
    if (r->be->ops->weight(r->be, &m, layout, w) < 0) abort();
    free(raw);
    return w;
}

static inline const mo_weight *rig_weight(rig *r, int rows, int cols, mo_dtype dtype,
                                          mo_layout layout) {
    size_t n = (size_t)rows * (size_t)cols;
    float *values = take(n, 4);
    for (size_t i = 0; i < n; i++) values[i] = round_to(dtype, normal(&r->rng));
    return rig_upload(r, rows, cols, dtype, layout, values);
}

static inline double weight_at(rig *r, const mo_weight *w, int row, int col) {
    return (double)r->values[w - r->weights][(size_t)row * (size_t)w->cols + (size_t)col];
}

static inline mo_op *rig_op(rig *r, mo_op_kind kind) {
    mo_op *op = &r->ops[r->n_ops++];
    op->kind = kind;
    return op;
}

/* Run all ops from the initial contents with these slots; every buffer into out[view]. */
static inline void rig_run_mask(rig *r, mo_program *p, const uint8_t *exec, uint32_t **out) {
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
static inline void rig_run_alone(rig *r, mo_program *p, uint32_t **out) {
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
static inline bool masks_agree(rig *r, mo_program *p, uint32_t **out) {
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
static inline bool writes_fit(const rig *r) {
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

static inline void rig_run(rig *r, const char *what) {
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

/* The same bits, but for NaN: which of them comes out of a sum of two depends on their order in an
 * instruction, which compilers choose. */
static inline bool same_results(const rig *a, const rig *b) {
    for (int i = 0; i < a->n_views; i++) {
        const uint32_t *x = a->views[i].after, *y = b->views[i].after;
        for (size_t w = 0; w < a->views[i].v.buf->bytes / sizeof *x; w++)
            if (x[w] != y[w] && !(isnan(mo_bits_to_f32(x[w])) && isnan(mo_bits_to_f32(y[w]))))
                return false;
    }
    return true;
}

/* ---- running a case on every level ---------------------------------------------------------- */

static mo_cpu_level levels[MO_CPU_LEVEL_COUNT];
static int n_levels;

/* Every level with inner loops of its own: for floats, or for quantised numbers. */
static inline void find_levels(bool quantised) {
    for (mo_cpu_level l = MO_CPU_LEVEL_C; l < MO_CPU_LEVEL_COUNT; l++) {
        bool known = !mo_kernels_get(l);
        for (int i = 0; i < n_levels; i++)
            known |= quantised ? mo_qkernels_get(levels[i]) == mo_qkernels_get(l)
                               : mo_kernels_get(levels[i]) == mo_kernels_get(l);
        if (!known) levels[n_levels++] = l;
    }
}

/* build() must lay out the same rig from the same random numbers; judge() compares its `after` with
 * plain arithmetic. */
typedef void (*build_fn)(rig *r, const void *arg);
typedef void (*judge_fn)(rig *r, const void *arg, const char *what);

static inline void run_case(const char *what, int slots, const void *arg, build_fn build,
                            judge_fn judge) {
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

static inline void gauge(error_gauge *g, double got, double want, double allowed) {
    double ratio = fabs(got - want) / allowed;
    if (!(ratio <= g->worst)) *g = (error_gauge){isnan(ratio) ? INFINITY : ratio, got, want};
}

static inline void gauge_check(const error_gauge *g, const char *what) {
    CHECK(g->worst <= 1.0, "%s: %.9g instead of %.9g, %.2f times the allowed error", what, g->got,
          g->want, g->worst);
}

/* Best of several timings of one op on the initial contents, about a second in all. */
static inline double best_time(rig *r, mo_program *p, int op) {
    uint8_t exec[MAX_SLOTS];
    memset(exec, 1, sizeof exec);
    for (int i = 0; i < r->n_views; i++)
        r->be->ops->write(r->be, r->views[i].v.buf, 0, r->views[i].before,
                          r->views[i].v.buf->bytes);
    double best = 1e9, until = mo_now_s() + 1.0;
    do {
        double t = mo_now_s();
        r->be->ops->run(r->be, p, op, op + 1, exec);
        t = mo_now_s() - t;
        if (t < best) best = t;
    } while (mo_now_s() < until);
    return best;
}

#endif
