/* Linear layers and tables on quantised weights: each result against double precision on the
 * numbers the weights stand for, within bounds that follow from the rounding of activations; the
 * same bits on every instruction set, thread count and set of slots. Weights are random bytes, so
 * that every pattern a file may hold occurs. `test_qops --bench` prints speeds instead. */
#include "check.h"
#include "cpu/speed.h"
#include "ops_cases.h"
#include "ops_rig.h"
#include "quant.h"

/* A number format: blocks of quant.h, or whole numbers with scales beside them. */
typedef struct format {
    const char *name;
    mo_dtype dtype;
    int bits, group;
    mo_dtype scales;
} format;

static const format formats[] = {
    {"q8_0", MO_Q8_0, 0, 0, MO_F32},           {"q4_0", MO_Q4_0, 0, 0, MO_F32},
    {"q4_K", MO_Q4_K, 0, 0, MO_F32},           {"q5_K", MO_Q5_K, 0, 0, MO_F32},
    {"q6_K", MO_Q6_K, 0, 0, MO_F32},           {"1 bit in 32", MO_U32, 1, 32, MO_BF16},
    {"2 bits in 64", MO_U32, 2, 64, MO_F32},   {"4 bits in 32", MO_U32, 4, 32, MO_BF16},
    {"4 bits in 128", MO_U32, 4, 128, MO_F32}, {"8 bits in 64", MO_U32, 8, 64, MO_BF16},
    {"8 bits in 32", MO_U32, 8, 32, MO_F32},   {"int8 rows", MO_I8, 0, 0, MO_F32},
};

enum { N_FORMATS = sizeof formats / sizeof *formats };

/* ---- random weights ------------------------------------------------------------------------- */

/* Numbers of one matrix as the device computes with them, and for each |scale * q| + |offset|: what
 * the roundings of its terms are measured by. */
typedef struct numbers {
    float *values, *sizes;
} numbers;

static void put_f16(uint8_t *p, float v) {
    uint16_t h = mo_f32_to_f16(v);
    memcpy(p, &h, sizeof h);
}

static float small(uint64_t *rng) {
    return 0.02f * normal(rng);
}

/* n numbers in blocks: random bytes but for the scales. */
static void random_blocks(mo_dtype dtype, uint8_t *p, size_t n, uint64_t *rng) {
    size_t block = mo_dtype_block(dtype), bytes = (size_t)mo_dtype_row_bytes(dtype, block);
    for (size_t b = 0; b < n / block; b++, p += bytes) {
        for (size_t i = 0; i < bytes; i++) p[i] = (uint8_t)below(rng, 256);
        put_f16(p + (dtype == MO_Q6_K ? bytes - 2 : 0), small(rng));
        if (dtype == MO_Q4_K || dtype == MO_Q5_K) put_f16(p + 2, small(rng));
    }
}

static void read_blocks(mo_dtype dtype, const uint8_t *p, size_t n, numbers *out) {
    mo_quant_of(dtype)->dequantise(p, out->values, n);
    for (size_t i = 0; i < n; i++) {
        out->sizes[i] = fabsf(out->values[i]);
        if (dtype != MO_Q4_K) continue;
        mo_quant_group g;
        mo_quant_group_at(dtype, p, i / 32, &g);
        out->sizes[i] += 2 * fabsf(mo_f16_to_f32(g.m) * (float)g.minimum);
    }
}

/* Q5_K is requantised to Q8_0 when it is packed into strips. */
static void read_requantised(const uint8_t *p, size_t n, numbers *out) {
    uint8_t *q8 = take(n / 32 * 34, 1);
    read_blocks(MO_Q5_K, p, n, out);
    float *exact = take(n, sizeof *exact);
    memcpy(exact, out->values, n * sizeof *exact);
    mo_quant_of(MO_Q8_0)->quantise(exact, q8, n);
    read_blocks(MO_Q8_0, q8, n, out);
    for (size_t b = 0; b < n; b += 32) {
        float top = 0, worst = 0;
        for (size_t i = b; i < b + 32; i++) {
            top = fmaxf(top, fabsf(exact[i]));
            worst = fmaxf(worst, fabsf(exact[i] - out->values[i]));
        }
        /* half a step of 127 and the rounding of the step to f16, which ends at 2^-24 */
        if (worst > top * 0.0046f + 0x1p-25f * 127)
            CHECK(false, "requantising q5_K is off by %g of %g", (double)worst, (double)top);
    }
    free(exact);
    free(q8);
}

static void random_numbers(const format *f, mo_matrix *m, uint8_t *raw, float *scales,
                           uint64_t *rng, numbers *out) {
    size_t rows = (size_t)m->rows, cols = (size_t)m->cols, bits = f->bits ? (size_t)f->bits : 8;
    size_t group = f->group ? (size_t)f->group : cols, n = rows * (cols / group);
    for (size_t i = 0; i < rows * cols * bits / 8; i++) raw[i] = (uint8_t)below(rng, 256);
    for (size_t i = 0; i < 2 * n; i++) {
        scales[i] = f->dtype == MO_I8 ? 1 + 0.3f * normal(rng) : small(rng) * (i < n ? 1 : 8);
        if (f->scales == MO_BF16) scales[i] = round_to(MO_BF16, scales[i]);
    }
    m->scales = scales;
    m->biases = scales + n;
    for (size_t i = 0; i < rows * cols; i++) {
        float scale = m->scales[i / group], bias = m->biases[i / group];
        if (f->dtype == MO_I8) {
            out->values[i] = (float)(int8_t)raw[i] * scale / 127.0f;
            out->sizes[i] = fabsf(out->values[i]);
            continue;
        }
        float q = (float)(raw[i * bits / 8] >> (i * bits % 8) & ((1u << bits) - 1));
        out->values[i] = scale * q + bias;
        out->sizes[i] = fabsf(scale * q) + fabsf(bias);
    }
}

static uint64_t bytes_of(const mo_backend *be, const mo_matrix *m, mo_layout layout) {
    return be->ops->weight_bytes(be, m, layout, NULL);
}

/* `sizes` of the last matrix made: builds of one case make the same one each time. */
static float *last_sizes;

/* The matrix, from an odd address. */
static const mo_weight *rig_quantised(rig *r, const format *f, int rows, int cols,
                                      mo_layout layout) {
    size_t n = (size_t)rows * (size_t)cols;
    mo_matrix m = {.dtype = f->dtype, .rows = rows, .cols = cols};
    numbers num = {take(n, sizeof(float)), take(n, sizeof(float))};
    uint8_t *raw = take(n * 2 + 1, 1);
    float *scales = take(2 * n + 2, sizeof *scales);
    m.bits = f->bits;
    m.group = f->group;
    m.scales_dtype = f->scales;
    m.data = raw + 1;
    if (f->dtype == MO_U32 || f->dtype == MO_I8) {
        random_numbers(f, &m, raw + 1, scales, &r->rng, &num);
    } else {
        random_blocks(f->dtype, raw + 1, n, &r->rng);
        if (f->dtype == MO_Q5_K && layout == MO_LAYOUT_STRIPS)
            read_requantised(raw + 1, n, &num);
        else
            read_blocks(f->dtype, raw + 1, n, &num);
    }
    mo_weight *w = &r->weights[r->n_weights];
    r->values[r->n_weights++] = num.values;
    CHECK(r->be->ops->weight(r->be, &m, layout, w) == 0, "%s not taken", f->name);
    CHECK(w->buf && w->buf->bytes == bytes_of(r->be, &m, layout), "%s: bytes", f->name);
    free(scales);
    free(raw);
    free(last_sizes);
    last_sizes = num.sizes;
    return w;
}

/* ---- linear --------------------------------------------------------------------------------- */

typedef struct q_case {
    const format *f;
    int slots, rows, cols, n, taps, stride, dilation, flags;
    float size; /* of activations */
} q_case;

static void linear_build(rig *r, const void *arg) {
    const q_case *c = arg;
    mo_op_linear *op = &rig_op(r, MO_OP_LINEAR)->u.linear;
    bool pad = !(c->flags & DENSE);
    int in_rows = (c->rows - 1) * c->stride + (c->taps - 1) * c->dilation + 1;
    rig_view *in = rig_random(r, in_rows, c->cols, pad, c->size);
    /* what real activations have: a few numbers far larger than the rest, and silence */
    for (int i = 0; i < in_rows; i++)
        for (int j = 0; j < c->cols; j++)
            if (below(&r->rng, 200) == 0) put_f32(in, 0, i, j, 30 * c->size * normal(&r->rng));
    for (int j = 0; j < c->cols && j < 40; j++) put_f32(in, r->slots - 1, 0, j, 0.0f);
    op->in = in->v;
    op->w = rig_quantised(r, c->f, c->n, c->taps * c->cols, MO_LAYOUT_STRIPS);
    if (c->flags & BIAS) op->bias = rig_weight(r, 1, c->n, MO_F32, MO_LAYOUT_ROWS);
    if (c->flags & SCALE) op->scale = rig_weight(r, 1, c->n, MO_F32, MO_LAYOUT_ROWS);
    if (c->flags & ADD) {
        rig_view *add = rig_random(r, c->rows, c->n, pad, c->size);
        op->add = add->v;
        if (c->flags & IN_PLACE) add->written = true;
    }
    op->out = c->flags & IN_PLACE ? op->add : rig_out(r, c->rows, c->n, pad);
    op->taps = c->taps;
    op->stride = c->stride;
    op->dilation = c->dilation;
}

/* The inputs of one row, as they are and as mo_op_linear says they are quantised; step[i] is d of
 * input i's block. */
typedef struct inputs {
    int k;
    double *x, *rounded, *step;
} inputs;

static void read_inputs(rig *r, const q_case *c, int slot, int row, inputs *in) {
    const mo_view *v = &r->ops[0].u.linear.in;
    for (int i = 0; i < in->k; i++) {
        int from = row * c->stride + i / c->cols * c->dilation;
        in->x[i] = before(r, v, slot, from, i % c->cols);
    }
    for (int b = 0; b < in->k; b += 32) {
        int end = b + 32 < in->k ? b + 32 : in->k;
        float top = 0;
        for (int i = b; i < end; i++) top = fmaxf(top, fabsf((float)in->x[i]));
        bool any = top >= 0x1p-100f;
        float d = any ? top / 127.0f : 0, inverse = any ? 127.0f / top : 0;
        for (int i = b; i < end; i++) {
            float scaled = (float)in->x[i] * inverse;
            in->rounded[i] = (double)d * rint((double)scaled);
            in->step[i] = any ? (double)d : 2 * (double)top; /* all of it is lost */
        }
    }
}

/* Two judgements: with the rounded activations only float32 roundings are left, a few per block;
 * with the activations as they are each may be off by half a step of its block. */
static void judge_row(rig *r, const q_case *c, const inputs *in, int slot, int row,
                      error_gauge *tight, error_gauge *wide) {
    const mo_op_linear *op = &r->ops[0].u.linear;
    for (int n = 0; n < c->n; n++) {
        double exact = 0, rounded = 0, size = 0, half_steps = 0, rest = 0, scale = 1;
        for (int i = 0; i < in->k; i++) {
            double w = weight_at(r, op->w, n, i);
            exact += w * in->x[i];
            rounded += w * in->rounded[i];
            size += (double)last_sizes[n * in->k + i] * fabs(in->rounded[i]);
            half_steps += fabs(w) * in->step[i] * 0.5001;
        }
        if (op->bias) rest += weight_at(r, op->bias, 0, n);
        if (op->scale) scale = weight_at(r, op->scale, 0, n);
        double add = op->add.buf ? before(r, &op->add, slot, row, n) : 0;
        size = (size + fabs(rest)) * fabs(scale) + fabs(add);
        double allowed = (3.0 * (in->k / 32 + 1) + 6) * EPS * size + 1e-37;
        double got = after(r, &op->out, slot, row, n);
        gauge(tight, got, (rounded + rest) * scale + add, allowed);
        gauge(wide, got, (exact + rest) * scale + add, allowed + half_steps * fabs(scale));
    }
}

static void linear_judge(rig *r, const void *arg, const char *what) {
    const q_case *c = arg;
    inputs in = {.k = c->taps * c->cols};
    size_t k = (size_t)in.k;
    error_gauge tight = {0}, wide = {0};
    in.x = take(k, sizeof *in.x);
    in.rounded = take(k, sizeof *in.x);
    in.step = take(k, sizeof *in.x);
    for (int s = 0; s < c->slots; s++)
        for (int row = 0; row < c->rows; row++) {
            read_inputs(r, c, s, row, &in);
            judge_row(r, c, &in, s, row, &tight, &wide);
        }
    gauge_check(&tight, what);
    gauge_check(&wide, what);
    free(in.x);
    free(in.rounded);
    free(in.step);
}

/* Columns a format allows: whole blocks or groups, int8 rows any number. */
static int fitting(const format *f, int cols) {
    int block = f->dtype == MO_I8 ? 1 : f->group ? f->group : (int)mo_dtype_block(f->dtype);
    return (cols + block - 1) / block * block;
}

static void run_linear(q_case c) {
    char what[120];
    c.cols = c.taps * fitting(c.f, c.cols) / c.taps;
    snprintf(what, sizeof what, "%s: linear %d x %d rows, %d -> %d, k%d s%d d%d", c.f->name,
             c.slots, c.rows, c.cols, c.n, c.taps, c.stride, c.dilation);
    run_case(what, c.slots, &c, linear_build, linear_judge);
}

static void test_linear(const format *f) {
    static const int outputs[] = {1, 16, 17, 33, 70, 100, 64, 15, 81};
    /* every number of rows a tile may have, one session or several */
    for (int rows = 1; rows <= 9; rows++) {
        int flags[] = {0, BIAS, SCALE, ADD, BIAS | SCALE | ADD, ADD | IN_PLACE, DENSE};
        int slots = rows % 3 == 0 ? 3 : 1;
        run_linear((q_case){f, slots, rows / slots, 33 * rows, outputs[rows - 1], 1, 1, 1,
                            flags[rows % 7], 1.0f});
    }
    run_linear((q_case){f, 1, 1, 1, 5, 1, 1, 1, 0, 1.0f});
    run_linear((q_case){f, 8, 1, 600, 40, 1, 1, 1, ADD | IN_PLACE | SCALE, 1e-20f});
    run_linear((q_case){f, 1, 1, 512, 40, 1, 1, 1, 0, 1e-33f}); /* below what is quantised */
    run_linear((q_case){f, 2, 5, 256, 20, 3, 2, 2, BIAS, 1e10f});
    run_linear((q_case){f, 1, 60, 300, 130, 1, 1, 1, BIAS, 1.0f});
    /* strips of whole pages, of some formats: one row, some and many */
    for (int rows = 1; rows <= 16; rows *= 4)
        run_linear((q_case){f, 1, rows, 4096, 70, 1, 1, 1, 0, 1.0f});
}

/* ---- inputs that are no numbers -------------------------------------------------------------- */

static void odd_build(rig *r, const void *arg) {
    mo_op_linear *op = &rig_op(r, MO_OP_LINEAR)->u.linear;
    const float odd[] = {NAN, INFINITY, -INFINITY};
    rig_view *in = rig_random(r, 4, 256, true, 1.0f);
    for (int row = 0; row < 3; row++) put_f32(in, 0, row, 40 * row + 7, odd[row]);
    *op = (mo_op_linear){.w = rig_quantised(r, arg, 33, 256, MO_LAYOUT_STRIPS),
                         .in = in->v,
                         .out = rig_out(r, 4, 33, true),
                         .taps = 1,
                         .stride = 1,
                         .dilation = 1};
}

/* Nothing that is not finite goes lost, nothing else is touched by it. */
static void odd_judge(rig *r, const void *arg, const char *what) {
    const mo_op_linear *op = &r->ops[0].u.linear;
    bool spread = true, contained = true;
    (void)arg;
    for (int n = 0; n < 33; n++) {
        for (int row = 0; row < 3; row++) spread &= isnan(after(r, &op->out, 0, row, n)) != 0;
        contained &= isfinite(after(r, &op->out, 0, 3, n)) != 0;
    }
    CHECK(spread, "%s: NaN or infinity gave finite results", what);
    CHECK(contained, "%s: NaN or infinity reached another row", what);
}

/* ---- behind a norm -------------------------------------------------------------------------- */

/* A norm's only row may be quantised where it is computed; whoever else reads it finds it where it
 * belongs. With more slots than one, or read in part, it is quantised apart. */
static void normed_build(rig *r, const void *arg) {
    const format *f = arg;
    const int cols = fitting(f, 600), part = fitting(f, 300);
    mo_op_norm *norm = &rig_op(r, MO_OP_NORM)->u.norm;
    *norm = (mo_op_norm){.kind = MO_NORM_RMS, .eps = 1e-5f};
    norm->in = rig_random(r, 1, cols, true, 3.0f)->v;
    norm->weight = rig_weight(r, 1, cols, MO_F32, MO_LAYOUT_ROWS);
    norm->out = rig_out(r, 1, cols, true);
    const mo_weight *w = rig_quantised(r, f, 100, cols, MO_LAYOUT_STRIPS);
    for (int i = 0; i < 2; i++)
        rig_op(r, MO_OP_LINEAR)->u.linear = (mo_op_linear){.w = w,
                                                           .in = norm->out,
                                                           .out = rig_out(r, 1, 100, true),
                                                           .taps = 1,
                                                           .stride = 1,
                                                           .dilation = 1};
    *rig_op(r, MO_OP_NORM) = r->ops[0];
    r->ops[3].u.norm.out = rig_out(r, 1, cols, true);
    mo_op_linear *last = &rig_op(r, MO_OP_LINEAR)->u.linear;
    *last = r->ops[1].u.linear;
    last->w = rig_quantised(r, f, 20, part, MO_LAYOUT_STRIPS);
    last->in = r->ops[3].u.norm.out;
    last->in.cols = part;
    last->out = rig_out(r, 1, 20, true);
}

static void normed_judge(rig *r, const void *arg, const char *what) {
    const mo_view *a = &r->ops[1].u.linear.out, *b = &r->ops[2].u.linear.out;
    bool same = true;
    (void)arg;
    for (int s = 0; s < r->slots; s++)
        for (int n = 0; n < a->cols; n++) same &= after(r, a, s, 0, n) == after(r, b, s, 0, n);
    CHECK(same, "%s: the second product of a norm's output differs from the first", what);
}

/* ---- tables --------------------------------------------------------------------------------- */

typedef struct table_case {
    const format *f;
    int cols;
} table_case;

static const mo_weight *tables[2];

static void table_build(rig *r, const void *arg) {
    const table_case *c = arg;
    rig_view *tokens = rig_add(r, 3, 2, true);
    for (int i = 0; i < 2; i++) tables[i] = rig_quantised(r, c->f, 20 + i, c->cols, MO_LAYOUT_ROWS);
    for (int s = 0; s < r->slots; s++)
        for (int row = 0; row < 3; row++)
            for (int i = 0; i < 2; i++) put_i32(tokens, s, row, i, below(&r->rng, 21 + i) - 1);
    rig_op(r, MO_OP_EMBED_SUM)->u.embed_sum =
        (mo_op_embed_sum){tables, 2, tokens->v, rig_out(r, 3, c->cols, true), false};
}

static void table_judge(rig *r, const void *arg, const char *what) {
    const table_case *c = arg;
    const mo_op_embed_sum *op = &r->ops[0].u.embed_sum;
    bool ok = true;
    for (int s = 0; s < 2; s++)
        for (int row = 0; row < 3; row++)
            for (int i = 0; i < c->cols; i++) {
                float y = 0;
                for (int t = 0; t < 2; t++) {
                    int token = after_i32(r, &op->tokens, s, row, t);
                    if (token >= 0) y = y + (float)weight_at(r, op->tables[t], token, i);
                }
                ok &= y == (float)after(r, &op->out, s, row, i);
            }
    CHECK(ok, "%s: not the numbers the file says", what);
}

/* ---- what the device says of itself ---------------------------------------------------------- */

/* Bytes per weight of large matrices: what computing on weights as they are is for. Strips of whole
 * pages are kept apart. */
static void test_bytes(void) {
    const double apart = 8.0 * 576 / (4096 * MO_STRIP);
    mo_backend *be;
    if (!CHECK(mo_backend_cpu.open(&be, NULL, NULL) == 0, "no cpu")) return;
    static const double most[N_FORMATS] = {8.5, 4.5, 4.625, 8.5, 6.5625, 5,
                                           5,   5,   4.5,   8.5, 10,     8.01};
    for (size_t i = 0; i < N_FORMATS; i++) {
        const format *f = &formats[i];
        mo_matrix m = {.dtype = f->dtype, .rows = 4096, .cols = 4096, .bits = f->bits};
        m.group = f->group;
        m.scales_dtype = f->scales;
        double bits = (double)bytes_of(be, &m, MO_LAYOUT_STRIPS) * 8 / (4096 * 4096);
        CHECK(bits > 4 && bits <= most[i] + apart, "%s: %g bits per weight", f->name, bits);
        m.rows = 4097;
        CHECK(bytes_of(be, &m, MO_LAYOUT_ROWS) > 0, "%s: no table", f->name);
    }
    mo_matrix odd = {.dtype = MO_U32, .rows = 16, .cols = 64, .bits = 4, .group = 16};
    odd.scales_dtype = MO_BF16;
    CHECK(bytes_of(be, &odd, MO_LAYOUT_STRIPS) == 0, "groups of 16 are not taken");
    CHECK(bytes_of(be, &odd, MO_LAYOUT_ROWS) > 0, "but as a table");
    odd.group = 48;
    CHECK(bytes_of(be, &odd, MO_LAYOUT_ROWS) == 0, "groups that do not fit");
    odd.group = 32, odd.bits = 3;
    CHECK(bytes_of(be, &odd, MO_LAYOUT_STRIPS) == 0, "3 bits");
    be->ops->close(be);
}

/* ---- benchmark ------------------------------------------------------------------------------ */

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* A product of a GB of weights and more, which no cache holds, between two searches for the
 * best way to read as much: what memory delivers changes from second to second. */
static void bench_format(const format *f, mo_cpu_level level, int threads, int rows, int cols,
                         mo_pool *pool) {
    enum { TIMES = 25 };
    mo_matrix m = {.dtype = f->dtype, .rows = 4096, .cols = cols, .bits = f->bits};
    m.group = f->group;
    m.scales_dtype = f->scales;
    rig r;
    rig_open(&r, level, threads, 1, 1);
    m.rows *= (int)(1e9 / (double)bytes_of(r.be, &m, MO_LAYOUT_STRIPS)) + 1;
    const uint64_t bytes = bytes_of(r.be, &m, MO_LAYOUT_STRIPS);
    double times[TIMES];
    moshi_device_speed before = {0}, after = {0};
    mo_op_linear *op = &rig_op(&r, MO_OP_LINEAR)->u.linear;
    m.data = take((size_t)(m.rows * m.cols), 4); /* zeros take as long as anything else */
    m.scales = m.biases = take((size_t)(m.rows * m.cols) / 32, sizeof(float));
    if (r.be->ops->weight(r.be, &m, MO_LAYOUT_STRIPS, &r.weights[0]) < 0) abort();
    free((void *)m.data);
    free((void *)m.scales);
    r.n_weights = 1;
    *op = (mo_op_linear){&r.weights[0], .taps = 1, .stride = 1, .dilation = 1};
    op->in = rig_random(&r, rows, cols, false, 1.0f)->v;
    op->out = rig_out(&r, rows, (int)m.rows, false);
    mo_program *p = r.be->ops->record(r.be, r.ops, r.n_ops, 1);
    for (int i = 0; i < r.n_views; i++)
        r.be->ops->write(r.be, r.views[i].v.buf, 0, r.views[i].before, r.views[i].v.buf->bytes);
    if (mo_speed_measure(pool, (size_t)bytes, 0.5, &before) < 0) abort();
    for (int i = 0; i < TIMES; i++) {
        double start = mo_now_s();
        r.be->ops->run(r.be, p, 0, 1, (const uint8_t[]){1});
        times[i] = mo_now_s() - start;
    }
    if (mo_speed_measure(pool, (size_t)bytes, 0.5, &after) < 0) abort();
    qsort(times, TIMES, sizeof *times, by_size);
    const double read = fmax(before.read_bytes_s, after.read_bytes_s);
    const double best = (double)bytes / times[0], median = (double)bytes / times[TIMES / 2];
    printf("%-14s %5d -> %6d %6.3f bits  median %6.2f, best %6.2f, read at best %6.2f GB/s: %3.0f "
           "and %3.0f %%\n",
           f->name, cols, (int)m.rows, (double)bytes * 8 / (double)(m.rows * m.cols), median * 1e-9,
           best * 1e-9, read * 1e-9, 100 * median / read, 100 * best / read);
    r.be->ops->program_free(r.be, p);
    rig_close(&r);
}

/* [threads [level [rows [format]]]]: inputs of the size of a 7B model's, and of its feed-forward
 * part's second matrix. */
static int bench(int argc, char **argv) {
    static const format plain[] = {{.name = "f32", .dtype = MO_F32},
                                   {.name = "bf16", .dtype = MO_BF16},
                                   {.name = "f16", .dtype = MO_F16}};
    const size_t n_plain = sizeof plain / sizeof *plain;
    int threads = argc > 0 ? atoi(argv[0]) : mo_core_count();
    mo_cpu_level level = argc > 1 ? (mo_cpu_level)atoi(argv[1]) : MO_CPU_LEVEL_AUTO;
    int rows = argc > 2 ? atoi(argv[2]) : 1;
    if (threads < 1 || rows < 1 || rows > 48 || !mo_qkernels_get(level)) {
        fprintf(stderr, "usage: test_qops --bench [THREADS [LEVEL [ROWS [FORMAT]]]]\n");
        return 2;
    }
    if (level == MO_CPU_LEVEL_AUTO) level = mo_cpu_level_best();
    mo_pool *pool = mo_pool_open(threads);
    if (!pool) abort();
    printf("matrices, %s, %d threads, %d rows\n", mo_cpu_level_name(level), threads, rows);
    for (size_t i = 0; i < N_FORMATS + n_plain; i++) {
        const format *f = i < N_FORMATS ? &formats[i] : &plain[i - N_FORMATS];
        for (int cols = 4096; cols <= 11264; cols += 7168)
            if (argc < 4 || strcmp(argv[3], f->name) == 0)
                bench_format(f, level, threads, rows, cols, pool);
    }
    mo_pool_close(pool);
    free(last_sizes);
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) return bench(argc - 2, argv + 2);
    find_levels(true);
    if (n_levels == 1) SKIP("no vector instructions here: only the C kernels were tested");
    test_bytes();
    for (size_t i = 0; i < N_FORMATS; i++) {
        char what[80];
        test_linear(&formats[i]);
        snprintf(what, sizeof what, "%s: odd inputs", formats[i].name);
        run_case(what, 1, &formats[i], odd_build, odd_judge);
        snprintf(what, sizeof what, "%s: behind a norm", formats[i].name);
        run_case(what, 3, &formats[i], normed_build, normed_judge);
        table_case c = {&formats[i], fitting(&formats[i], i % 2 ? 1100 : 200)};
        snprintf(what, sizeof what, "%s: table", formats[i].name);
        run_case(what, 2, &c, table_build, table_judge);
    }
    free(last_sizes);
    return check_done("test_qops");
}
