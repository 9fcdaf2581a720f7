/* Every op of the CPU backend but attention (test_attend.c): each result against a plain
 * double-precision statement of the op, the same bits on every instruction set, thread count and
 * set of slots, and not one byte written outside the output. `test_ops --bench` prints speeds
 * instead. */
#include "cpu/pool.h"
#include "ops_cases.h"
#include "ops_rig.h"

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

static mo_dtype rvq_search; /* numbers of the codebook that is searched */

/* Round to float16; returns how far that is. */
static float halve(float *x, int n) {
    double square = 0;
    for (int i = 0; i < n; i++) {
        float rounded = round_to(MO_F16, x[i]);
        square += pow((double)x[i] - (double)rounded, 2);
        x[i] = rounded;
    }
    return (float)(sqrt(square) * 1.000001);
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
    const mo_weight *entries = rig_upload(r, c->bins, c->dim, MO_F32, MO_LAYOUT_STRIPS, book);
    float blur = 0;
    op->w = entries;
    if (rvq_search == MO_F16) {
        for (int j = 0; j < c->bins; j++) blur = fmaxf(blur, halve(copy + j * c->dim, c->dim));
        op->w = rig_upload(r, c->bins, c->dim, MO_F16, MO_LAYOUT_STRIPS, copy);
    }
    op->bias = rig_upload(r, 1, c->bins, MO_F32, MO_LAYOUT_ROWS, half);
    op->in = x->v;
    op->out = scores;
    op->taps = op->stride = op->dilation = 1;
    rig_op(r, MO_OP_RVQ_PICK)->u.rvq_pick =
        (mo_op_rvq_pick){entries, NULL, blur, scores, x->v, rig_out(r, c->rows, 1, true)};
    if (rvq_search != MO_F16) free(copy);
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
    static const mo_dtype searches[] = {MO_F32, MO_F16};
    for (size_t k = 0; k < 2 * sizeof rvq_cases / sizeof rvq_cases[0]; k++) {
        const rvq_case *c = &rvq_cases[k / 2];
        char what[80];
        rvq_search = searches[k % 2];
        snprintf(what, sizeof what, "rvq_pick %zu in %s", k / 2, mo_dtype_name(rvq_search));
        run_case(what, c->slots, c, rvq_build, rvq_judge);
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

/* Slot s: token s % cols is wrong in every way there is, or none is. */
static void sift_build(rig *r, const void *arg) {
    const sift_case *c = arg;
    rig_view *tokens = rig_add(r, 1, c->cols, true);
    rig_view *first = rig_add(r, 1, 1, true), *last = rig_add(r, 1, 1, true);
    const int32_t wrong[4] = {0, -1, c->n, MOSHI_NO_TOKEN};
    first->written = last->written = true;
    for (int s = 0; s < r->slots; s++) {
        for (int i = 0; i < c->cols; i++) put_i32(tokens, s, 0, i, i % c->n);
        put_i32(tokens, s, 0, s % c->cols, wrong[s % 4]);
        put_i32(first, s, 0, 0, 10 * s);
        put_i32(last, s, 0, 0, 10 * s);
    }
    rig_op(r, MO_OP_ADVANCE)->u.advance = (mo_op_advance){first->v, 1};
    rig_op(r, MO_OP_SIFT)->u.sift = (mo_op_sift){tokens->v, c->n};
    rig_op(r, MO_OP_ADVANCE)->u.advance = (mo_op_advance){last->v, 1};
}

static void sift_judge(rig *r, const void *arg, const char *what) {
    const mo_view *first = &r->views[1].v, *last = &r->views[2].v;
    bool ok = true;
    (void)arg;
    for (int s = 0; s < r->slots; s++)
        ok &= after_i32(r, first, s, 0, 0) == 10 * s + 1 &&
              after_i32(r, last, s, 0, 0) == 10 * s + (s % 4 == 0);
    CHECK(ok, "%s: who takes part", what);
}

static void test_sift(void) {
    for (size_t i = 0; i < sizeof sift_cases / sizeof sift_cases[0]; i++) {
        char what[80];
        snprintf(what, sizeof what, "sift %zu", i);
        run_case(what, sift_cases[i].slots, &sift_cases[i], sift_build, sift_judge);
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
    double s = best_time(&r, p, 0), weights = (double)b->shape.n * b->shape.cols * b->shape.taps;
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
    find_levels(false);
    if (n_levels == 1) SKIP("no vector instructions here: only the C kernels were tested");
    test_functions();
    test_linear();
    test_norm();
    test_act();
    test_act_mul();
    test_embed();
    test_upsample();
    test_rvq();
    test_streams();
    test_sift();
    test_grid();
    test_sample();
    return check_done("test_ops");
}
