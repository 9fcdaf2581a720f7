/* The search for codes: whatever numbers the codebook is searched in, on every level, the nearest
 * entry is found and of equal ones the first, and scores err by no more than mo_entry_blur() says.
 * Entries and inputs are made to mislead: near ties, copies, zeros, all sizes, not finite. */
#include "cpu/digits.h"
#include "ops_rig.h"
#include "weights.h"

typedef enum kind {
    PLAIN,
    NEAR,   /* entries in pairs that float32 scores cannot tell apart */
    COPIES, /* of three entries */
    TIES,   /* numbers -1 and 1, inputs 0: all are as near */
    ZEROS,  /* every other entry, and every other input */
    SPIKES, /* one number far above the others */
    SIZES,  /* of all magnitudes */
    TINY,
    HUGE_ONES, /* whose squares no float32 holds */
    NOT_FINITE,
    KINDS
} kind;

static const char *const kind_names[KINDS] = {"plain", "near ties", "copies", "ties",
                                              "zeros", "spikes",    "sizes",  "tiny",
                                              "huge",  "not finite"};

typedef enum numbers { FLOATS, HALVES, DIGIT, NUMBERS } numbers;

typedef struct search_case {
    int slots, rows, bins, dim;
    kind kind;
    numbers numbers;
} search_case;

static float entry_number(const search_case *c, rig *r, const float *book, int j, int i) {
    const float x = normal(&r->rng);
    switch (c->kind) {
    case NEAR:
        return j % 2 ? book[(j - 1) * c->dim + i] * (1 + 1e-7f * x) : x;
    case COPIES:
        return j >= 3 ? book[j % 3 * c->dim + i] : x;
    case TIES:
        return x < 0 ? -1.0f : 1.0f;
    case ZEROS:
        return j % 2 ? x : 0.0f;
    case SPIKES:
        return i == j % c->dim ? 300 * x : x;
    case SIZES:
        return x * powf(10.0f, (float)(j % 9 - 4));
    case TINY:
        return x * 1e-24f;
    case HUGE_ONES:
        return x * 1e24f;
    default:
        return x;
    }
}

static void put_input(const search_case *c, rig *r, rig_view *x, int slot, int row,
                      const float *entry) {
    static const float odd[] = {NAN, INFINITY, -INFINITY};
    const bool zero = c->kind == TIES || (c->kind == ZEROS && row % 2);
    const float size = c->kind == TINY ? 1e-24f : c->kind == HUGE_ONES ? 1e24f : 1.0f;
    for (int i = 0; i < c->dim; i++)
        put_f32(x, slot, row, i, zero ? 0.0f : entry[i] + 0.3f * size * normal(&r->rng));
    if (c->kind == NOT_FINITE && row % 2) put_f32(x, slot, row, row % c->dim, odd[row / 2 % 3]);
}

static float *make_book(const search_case *c, rig *r) {
    float *book = take((size_t)c->bins * (size_t)c->dim, sizeof *book);
    for (int j = 0; j < c->bins; j++)
        for (int i = 0; i < c->dim; i++) {
            float x = entry_number(c, r, book, j, i);
            book[j * c->dim + i] = c->kind == HUGE_ONES ? x : fminf(fmaxf(x, -6e4f), 6e4f);
        }
    return book;
}

/* The copy that is searched; NULL: there is none in these numbers. */
static const mo_weight *make_copy(const search_case *c, rig *r, const float *book) {
    const size_t n = (size_t)c->bins * (size_t)c->dim;
    const bool half = c->numbers == HALVES || c->kind != HUGE_ONES;
    if (c->numbers == FLOATS || (c->numbers == HALVES && c->kind == HUGE_ONES)) return NULL;
    float *copy = take(n, sizeof *copy);
    for (size_t i = 0; i < n; i++) copy[i] = half ? round_to(MO_F16, book[i]) : book[i];
    r->digits = c->numbers == DIGIT;
    const mo_weight *w =
        rig_upload(r, c->bins, c->dim, half ? MO_F16 : MO_F32, MO_LAYOUT_STRIPS, copy);
    r->digits = 0;
    return w;
}

static void build(rig *r, const void *arg) {
    const search_case *c = arg;
    float *book = make_book(c, r), *halves = take((size_t)c->bins, sizeof *halves);
    float *blurs = take((size_t)c->bins, sizeof *blurs), blur = 0;
    rig_view *x = rig_add(r, c->rows, c->dim, true);
    for (int s = 0; s < r->slots; s++)
        for (int row = 0; row < c->rows; row++)
            put_input(c, r, x, s, row, book + below(&r->rng, c->bins) * c->dim);
    x->written = true;
    const mo_weight *copy = make_copy(c, r, book);
    const bool digits = copy && copy->digits;
    for (int j = 0; j < c->bins; j++) {
        double square = 0;
        for (int i = 0; i < c->dim; i++) square += pow((double)book[j * c->dim + i], 2);
        halves[j] = (float)(-square / 2);
        if (copy)
            blurs[j] =
                mo_entry_blur(book + j * c->dim, c->dim, copy->dtype == MO_F16, copy->digits);
        blur = fmaxf(blur, blurs[j]);
    }
    const mo_weight *entries =
        rig_upload(r, c->bins, c->dim, MO_F32, digits ? MO_LAYOUT_ROWS : MO_LAYOUT_STRIPS, book);
    mo_op_linear *op = &rig_op(r, MO_OP_LINEAR)->u.linear;
    op->w = copy ? copy : entries;
    op->bias = rig_upload(r, 1, c->bins, MO_F32, MO_LAYOUT_ROWS, halves);
    op->in = x->v;
    op->out = rig_out(r, c->rows, c->bins, true);
    op->taps = op->stride = op->dilation = 1;
    const mo_weight *each = rig_upload(r, 1, c->bins, MO_F32, MO_LAYOUT_ROWS, blurs);
    rig_op(r, MO_OP_RVQ_PICK)->u.rvq_pick = (mo_op_rvq_pick){
        entries, copy ? each : NULL, blur, op->out, x->v, rig_out(r, c->rows, 1, true)};
}

/* The nearest entry; also says how far scores are from what they should be. */
static int nearest(rig *r, const mo_op_rvq_pick *op, int slot, int row, error_gauge *g) {
    const int dim = op->codebook->cols;
    double least = INFINITY, length = 0;
    int best = 0;
    for (int i = 0; i < dim; i++) length += pow(before(r, &op->residual, slot, row, i), 2);
    length = sqrt(length);
    for (int j = 0; j < op->codebook->rows; j++) {
        double d = 0, score = 0, square = 0;
        for (int i = 0; i < dim; i++) {
            const double x = before(r, &op->residual, slot, row, i);
            const double e = weight_at(r, op->codebook, j, i);
            d += pow(x - e, 2);
            score += x * e;
            square += e * e;
        }
        if (d < least) {
            least = d;
            best = j;
        }
        const double blur = op->blurs ? weight_at(r, op->blurs, 0, j) : 0,
                     size = sqrt(square) + blur;
        if (length < 1e12 && size < 1e12)
            gauge(g, after(r, &op->scores, slot, row, j), score - square / 2,
                  length * blur + (dim + 8) * EPS * size * (length + size) +
                      dim * (0x1p-94 * size + 0x1p-126));
    }
    return best;
}

static void judge(rig *r, const void *arg, const char *what) {
    const search_case *c = arg;
    const mo_op_rvq_pick *op = &r->ops[1].u.rvq_pick;
    bool picked = true, subtracted = true;
    error_gauge g = {0};
    for (int s = 0; s < c->slots; s++)
        for (int row = 0; row < c->rows; row++) {
            const int best = nearest(r, op, s, row, &g);
            picked &= after_i32(r, &op->codes, s, row, 0) == best;
            for (int i = 0; i < c->dim; i++) {
                float want = (float)before(r, &op->residual, s, row, i) -
                             (float)weight_at(r, op->codebook, best, i);
                float got = (float)after(r, &op->residual, s, row, i);
                subtracted &= want == got || (isnan(want) && isnan(got));
            }
        }
    gauge_check(&g, what);
    CHECK(picked, "%s: not the nearest entry", what);
    CHECK(subtracted, "%s: residual", what);
}

static void run_at(mo_cpu_level level, const search_case *c, const char *what) {
    for (int threads = 1; threads <= 2; threads++) {
        rig r;
        rig_open(&r, level, threads, c->slots, 7);
        build(&r, c);
        rig_run(&r, what);
        judge(&r, c, what);
        const bool digits = c->numbers == DIGIT && mo_digits_get(level);
        CHECK(r.ops[0].u.linear.w->digits == digits, "%s: digits", what);
        rig_close(&r);
    }
}

int main(void) {
    static const struct {
        int slots, rows, bins, dim;
    } shapes[] = {
        {1, 1, 200, 64}, {1, 2, 77, 64}, {2, 3, 64, 128}, {6, 7, 150, 64}, {1, 5, 300, 256}};
    find_levels(false);
    if (mo_digits_get(MO_CPU_LEVEL_AMX_BF16)) levels[n_levels++] = MO_CPU_LEVEL_AMX_BF16;
    for (int l = 0; l < n_levels; l++)
        for (int k = 0; k < KINDS * NUMBERS; k++)
            for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
                static const char *const names[NUMBERS] = {"float32", "float16", "a digit"};
                const search_case c = {shapes[i].slots,     shapes[i].rows,
                                       shapes[i].bins,      shapes[i].dim,
                                       (kind)(k / NUMBERS), (numbers)(k % NUMBERS)};
                char what[120];
                snprintf(what, sizeof what, "%s, %s in %s, shape %zu", mo_cpu_level_name(levels[l]),
                         kind_names[c.kind], names[c.numbers], i);
                run_at(levels[l], &c, what);
            }
    return check_done("test_search");
}
