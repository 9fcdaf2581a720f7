/* Products of floats that are split into bfloat16 pieces or into digits: on the levels that do it,
 * each result against double precision within the bound that mo_op_linear states, the same bits for
 * any number of threads, set of slots and cut of the rows; on the others, the bits of the plain C
 * product. `test_pieces --bench` prints speeds instead. */
#include "cpu/digits.h"
#include "cpu/pieces.h"
#include "ops_cases.h"
#include "ops_rig.h"

typedef struct piece_case {
    linear_case shape; /* cols: multiples of 32 */
    float size;        /* of the inputs */
} piece_case;

static const piece_case cases[] = {
    {{1, 1, 32, 1, 1, 1, 1, DENSE, MO_F32}, 1},
    {{1, 16, 32, 16, 1, 1, 1, BIAS, MO_F32}, 1},
    {{2, 17, 64, 33, 1, 1, 1, BIAS | SCALE | ADD, MO_F32}, 1},
    {{3, 5, 96, 80, 1, 1, 1, ADD | IN_PLACE, MO_F32}, 1e-9f},
    {{1, 33, 32, 48, 3, 1, 1, BIAS | DENSE, MO_F32}, 1},
    {{2, 31, 32, 47, 3, 1, 2, BIAS, MO_F32}, 1e6f},
    {{1, 40, 32, 130, 8, 4, 1, BIAS | DENSE, MO_F32}, 1},
    {{2, 48, 64, 64, 10, 5, 1, BIAS | DENSE | ADD, MO_F32}, 1},
    {{1, 200, 64, 1, 3, 1, 1, BIAS | DENSE, MO_F32}, 1},
    {{1, 250, 32, 300, 2, 1, 1, BIAS | DENSE | SCALE, MO_F32}, 1},
    {{2, 100, 128, 20, 12, 6, 1, DENSE, MO_F32}, 1},
    {{1, 1, 64, 16, 1, 1, 1, DENSE, MO_F32}, 1},
    {{1, 2, 512, 176, 1, 1, 1, BIAS | SCALE | ADD | IN_PLACE, MO_F32}, 1e5f},
    {{3, 2, 64, 40, 1, 1, 1, BIAS, MO_F32}, 1},
    {{8, 5, 128, 33, 1, 1, 1, DENSE, MO_F32}, 1},
    {{2, 1, 64, 49, 4, 2, 1, BIAS, MO_F32}, 1e-9f},
    {{2, 2, 64, 48, 16, 8, 1, BIAS | ADD, MO_F32}, 1},
    {{1, 6, 64, 17, 3, 1, 2, DENSE, MO_F32}, 1},
};

static int pieces, digits; /* of the cases being run, one of them 0 */

/* The op, and once more in two parts, with gaps between the inputs' rows in the second. */
static void build(rig *r, const void *arg) {
    const piece_case *p = arg;
    const linear_case *c = &p->shape;
    mo_op_linear *op = &rig_op(r, MO_OP_LINEAR)->u.linear;
    int in_rows = (c->rows - 1) * c->stride + (c->taps - 1) * c->dilation + 1;
    bool pad = !(c->flags & DENSE);
    op->in = rig_random(r, in_rows, c->cols, pad, p->size)->v;
    r->pieces = pieces;
    r->digits = c->cols % MO_DIGIT_BLOCK == 0 ? digits : 0;
    op->w = rig_weight(r, c->n, c->taps * c->cols, MO_F32, MO_LAYOUT_STRIPS);
    r->pieces = r->digits = 0;
    if (c->flags & BIAS) op->bias = rig_weight(r, 1, c->n, MO_F32, MO_LAYOUT_ROWS);
    if (c->flags & SCALE) op->scale = rig_weight(r, 1, c->n, MO_F32, MO_LAYOUT_ROWS);
    if (c->flags & ADD) op->add = rig_random(r, c->rows, c->n, pad, p->size)->v;
    op->taps = c->taps;
    op->stride = c->stride;
    op->dilation = c->dilation;
    op->out = rig_out(r, c->rows, c->n, pad);
    int cut = 1 + c->rows / 3;
    mo_view again = rig_out(r, c->rows, c->n, true);
    for (int part = 0; part < 2 && cut < c->rows; part++) {
        mo_op_linear *some = &rig_op(r, MO_OP_LINEAR)->u.linear;
        int first = part ? cut : 0, n = part ? c->rows - cut : cut;
        *some = r->ops[0].u.linear;
        some->in.rows = (n - 1) * c->stride + (c->taps - 1) * c->dilation + 1;
        some->in.offset += (size_t)(first * c->stride) * some->in.row_stride;
        if (some->add.buf) some->add.offset += (size_t)first * some->add.row_stride;
        some->out = again;
        some->out.offset += (size_t)first * again.row_stride;
        some->out.rows = some->add.rows = n;
    }
    if (cut >= c->rows) {
        mo_op_linear *same = &rig_op(r, MO_OP_LINEAR)->u.linear;
        *same = r->ops[0].u.linear;
        same->out = again;
    }
    /* in place, last */
    if (c->flags & IN_PLACE) {
        rig_of(r, &op->add)->written = true;
        mo_op_linear *onto = &rig_op(r, MO_OP_LINEAR)->u.linear;
        *onto = r->ops[0].u.linear;
        onto->out = onto->add;
    }
}

/* Bound of the sum, in 2^-24 of the sum of magnitudes; the three operations after it round, too. */
static double bound_of(const rig *r, int k) {
    const mo_op_linear *op = &r->ops[0].u.linear;
    if (op->w->digits) return op->taps + 8;
    if (op->w->pieces == 0) return k + 3;
    return (op->w->pieces == 3 ? 18 + 6.1 * k / 32 : 530 + 3.1 * k / 32) + 3;
}

/* What digits add to it: in units of the largest weight of a row times the largest input. */
static double digits_bound(rig *r, int n, int s, int row) {
    const mo_op_linear *op = &r->ops[0].u.linear;
    const int cols = op->in.cols, k_all = op->taps * cols;
    double w = 0, x = 0;
    if (op->w->digits == 0) return 0;
    for (int k = 0; k < k_all; k++) {
        w = fmax(w, fabs(weight_at(r, op->w, n, k)));
        x = fmax(x,
                 fabs(before(r, &op->in, s, row * op->stride + k / cols * op->dilation, k % cols)));
    }
    static const double share[] = {0, 67300, 270, 1.1};
    double bound = share[op->w->digits] * k_all * w * x;
    return op->scale ? bound * fabs(weight_at(r, op->scale, 0, n)) : bound;
}

static void judge(rig *r, const void *arg, const char *what) {
    const linear_case *c = &((const piece_case *)arg)->shape;
    const mo_op_linear *op = &r->ops[0].u.linear;
    const int k_all = c->taps * c->cols;
    error_gauge g = {0};
    bool same = true, onto = true;
    for (int s = 0; s < c->slots; s++)
        for (int row = 0; row < c->rows; row++)
            for (int n = 0; n < c->n; n++) {
                double y = 0, size = 0;
                for (int k = 0; k < k_all; k++) {
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
                double got = after(r, &op->out, s, row, n);
                gauge(&g, got, y,
                      EPS * (bound_of(r, k_all) * size + digits_bound(r, n, s, row)) + 1e-37);
                int cut = 1 + c->rows / 3, part = cut < c->rows && row >= cut ? 2 : 1;
                const mo_view *again = &r->ops[part].u.linear.out;
                same &= got == after(r, again, s, row - (part == 2 ? cut : 0), n);
                if (c->flags & IN_PLACE) onto &= got == after(r, &op->add, s, row, n);
            }
    gauge_check(&g, what);
    CHECK(same, "%s: rows depend on what comes with them", what);
    CHECK(onto, "%s: not the same in place", what);
}

static void run_split(const piece_case *c, const char *what) {
    rig one, many;
    rig_open(&one, MO_CPU_LEVEL_AMX_BF16, 1, c->shape.slots, 77);
    build(&one, c);
    const mo_weight *w = one.ops[0].u.linear.w;
    CHECK(w->pieces == pieces && w->digits == digits, "%s: not split", what);
    rig_run(&one, what);
    judge(&one, c, what);
    rig_open(&many, MO_CPU_LEVEL_AMX_BF16, 3, c->shape.slots, 77);
    build(&many, c);
    rig_run(&many, what);
    CHECK(same_results(&one, &many), "%s: threads change the result", what);
    rig_close(&many);
    rig_close(&one);
}

/* What is not finite must not come out as a number. */
static void test_not_finite(void) {
    static const float odd[] = {NAN, INFINITY, -INFINITY};
    static const piece_case c = {{1, 3, 64, 16, 1, 1, 1, DENSE, MO_F32}, 1};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        rig r;
        rig_open(&r, MO_CPU_LEVEL_AMX_BF16, 1, 1, 5);
        build(&r, &c);
        put_f32(rig_of(&r, &r.ops[0].u.linear.in), 0, 1, 9, odd[i]);
        rig_run(&r, "not finite");
        bool ok = true;
        for (int n = 0; n < 16; n++)
            for (int row = 0; row < 3; row++)
                ok &= (row == 1) == !isfinite(after(&r, &r.ops[0].u.linear.out, 0, row, n));
        CHECK(ok, "%g in one row", (double)odd[i]);
        rig_close(&r);
    }
}

/* ---- activations that only pass ------------------------------------------------------------- */

/* A convolution over a stream: `old` rows kept from the frame before, then activated ones. */
typedef struct passing {
    int rows, n, cols, taps, stride, slots;
    bool in_place; /* the activation has no other input than its output */
} passing;

static const passing passings[] = {
    {300, 32, 64, 3, 1, 3, false}, {96, 48, 64, 1, 1, 2, true},   {120, 64, 64, 8, 4, 1, false},
    {100, 16, 32, 1, 1, 4, false}, {500, 16, 96, 2, 1, 2, false},
};

typedef struct stream {
    mo_buf *x, *window, *out;
    int in_rows, old;
} stream;

static mo_view all_of(mo_buf *buf, int rows, int cols) {
    return (mo_view){buf, 0, (size_t)rows * (size_t)cols, (size_t)cols, rows, cols};
}

static void fill(mo_buf *buf, uint64_t seed) {
    float *x = buf->data;
    for (size_t i = 0; i < buf->bytes / sizeof *x; i++) x[i] = normal(&seed);
}

/* Activation and convolution, told that the activations only pass, or not; at once or in two parts,
 * as a trace runs them. */
static stream run_stream(mo_backend *be, const passing *p, const mo_weight *w, bool passes,
                         bool parts) {
    const size_t slots = (size_t)p->slots, cols = (size_t)p->cols;
    stream s = {.in_rows = (p->rows - 1) * p->stride + p->taps};
    s.old = p->taps - p->stride;
    const int fresh = s.in_rows - s.old;
    s.x = be->ops->alloc(be, slots * (size_t)fresh * cols * sizeof(float));
    s.window = be->ops->alloc(be, slots * (size_t)s.in_rows * cols * sizeof(float));
    s.out = be->ops->alloc(be, slots * (size_t)(p->rows * p->n) * sizeof(float));
    fill(s.x, 5);
    fill(s.window, 6);
    mo_op ops[2] = {{.kind = MO_OP_ACT}, {.kind = MO_OP_LINEAR}};
    mo_view window = all_of(s.window, s.in_rows, p->cols), out = window;
    out.offset = (size_t)s.old * cols;
    out.rows = fresh;
    ops[0].u.act =
        (mo_op_act){MO_ACT_ELU, p->in_place ? out : all_of(s.x, fresh, p->cols), out, passes};
    ops[1].u.linear = (mo_op_linear){.w = w,
                                     .in = window,
                                     .out = all_of(s.out, p->rows, p->n),
                                     .taps = p->taps,
                                     .stride = p->stride,
                                     .dilation = 1};
    mo_program *program = be->ops->record(be, ops, 2, p->slots);
    const uint8_t all[] = {1, 1, 1, 1};
    if (parts) CHECK(be->ops->run(be, program, 0, 1, all) == 0, "the activation alone");
    CHECK(be->ops->run(be, program, parts, 2, all) == 0, "run");
    be->ops->program_free(be, program);
    return s;
}

static void free_stream(mo_backend *be, const stream *s) {
    be->ops->free(be, s->x);
    be->ops->free(be, s->window);
    be->ops->free(be, s->out);
}

/* Whatever else is written: the products, and the rows that the next frame begins with. */
static void check_stream(mo_backend *be, const passing *p, const mo_weight *w, bool parts) {
    stream a = run_stream(be, p, w, true, parts), b = run_stream(be, p, w, false, false);
    const size_t kept = (size_t)(a.old * p->cols) * sizeof(float);
    const size_t slot = (size_t)(a.in_rows * p->cols) * sizeof(float);
    const char *how = parts ? "part by part" : "at once";
    bool same = true;
    for (int i = 0; i < p->slots; i++) {
        const size_t end = (size_t)(i + 1) * slot - kept;
        same &= !memcmp((char *)a.window->data + end, (char *)b.window->data + end, kept);
    }
    CHECK(!memcmp(a.out->data, b.out->data, a.out->bytes), "%d rows %s: other products", p->rows,
          how);
    CHECK(same, "%d rows %s: the next frame begins with others", p->rows, how);
    free_stream(be, &a);
    free_stream(be, &b);
}

static void check_passing(const passing *p, int threads) {
    mo_backend *be;
    CHECK(mo_backend_cpu.open(&be, &(mo_backend_options){.threads = threads}, NULL) == 0, "open");
    const size_t k = (size_t)(p->taps * p->cols);
    float *numbers = take((size_t)p->n * k, sizeof *numbers);
    uint64_t rng = 4;
    for (size_t i = 0; i < (size_t)p->n * k; i++) numbers[i] = normal(&rng);
    mo_matrix m = {.dtype = MO_F32, .rows = p->n, .cols = (int64_t)k, .data = numbers, .pieces = 3};
    mo_weight w;
    CHECK(be->ops->weight(be, &m, MO_LAYOUT_STRIPS, &w) == 0, "weight");
    check_stream(be, p, &w, false);
    check_stream(be, p, &w, true);
    be->ops->weight_free(be, &w);
    be->ops->close(be);
    free(numbers);
}

static int bench(void) {
    for (size_t i = 0; i < sizeof bench_cases / sizeof bench_cases[0]; i++) {
        const linear_case *c = &bench_cases[i].shape;
        if (c->dtype != MO_F32 || c->rows < 16 || c->cols % 32) continue;
        printf("%-38s", bench_cases[i].name);
        const piece_case p = {*c, 1};
        for (pieces = 0; pieces <= 3; pieces += pieces ? 1 : 2) {
            rig r;
            rig_open(&r, MO_CPU_LEVEL_AUTO, 1, c->slots, 1);
            build(&r, &p);
            mo_program *program = r.be->ops->record(r.be, r.ops, r.n_ops, c->slots);
            printf(" %d: %7.1f us", pieces, 1e6 * best_time(&r, program, 0));
            r.be->ops->program_free(r.be, program);
            rig_close(&r);
        }
        printf("\n");
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) return bench();
    find_levels(false);
    bool splits = mo_pieces_get(MO_CPU_LEVEL_AMX_BF16) != NULL;
    if (!splits) SKIP("no level here splits floats");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (pieces = 2; pieces <= MO_PIECES; pieces++) {
            const linear_case *c = &cases[i].shape;
            char what[80];
            snprintf(what, sizeof what, "case %zu (%d slots, %d rows, %d x %d), %d pieces", i,
                     c->slots, c->rows, c->n, c->taps * c->cols, pieces);
            if (pieces == 2) run_case(what, c->slots, &cases[i], build, judge);
            if (splits) run_split(&cases[i], what);
        }
    pieces = 0;
    for (size_t i = 0; splits && i < sizeof cases / sizeof cases[0]; i++)
        for (digits = 1; digits <= MO_DIGITS; digits++) {
            const linear_case *c = &cases[i].shape;
            char what[80];
            snprintf(what, sizeof what, "case %zu (%d slots, %d rows, %d x %d), %d digits", i,
                     c->slots, c->rows, c->n, c->taps * c->cols, digits);
            if (c->cols % MO_DIGIT_BLOCK == 0) run_split(&cases[i], what);
        }
    for (digits = 0; splits && digits <= MO_DIGITS; digits++) {
        pieces = digits ? 0 : 2;
        test_not_finite();
    }
    for (size_t i = 0; i < sizeof passings / sizeof *passings; i++)
        for (int threads = 1; threads <= 3; threads++) check_passing(&passings[i], threads);
    return check_done("test_pieces");
}
