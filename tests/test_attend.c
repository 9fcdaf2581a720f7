/* Rotary embedding, the key/value ring and attention on the CPU: against plain double-precision
 * statements of the ops, the same bits on every instruction set, thread count and set of slots. */
#include "ops.h"
#include "ops_cases.h"
#include "ops_rig.h"

/* Ops: rope_table, rope_kv, attend. Views: 0 pos, 1 table, 2 qkv, 3 k ring, 4 v ring, 5 out. */
typedef struct attend_run {
    attend_case c;
    mo_dtype dtype;
    int position;
} attend_run;

/* A ring full of old rows, counted in words: types narrower than float have no view of their own.
 */
static rig_view *ring_random(rig *r, const attend_run *run, float size) {
    int hd = run->c.head_dim, words_per_row = (int)mo_kv_row_bytes(run->dtype, hd) / 4;
    rig_view *ring = rig_add(r, run->c.kv_heads * run->c.capacity, words_per_row, false);
    ring->written = true;
    for (int s = 0; s < r->slots; s++)
        for (int row = 0; row < ring->v.rows; row++) {
            char *to = (char *)&ring->before[at(&ring->v, s, row, 0)];
            float d = size / 60;
            if (run->dtype == MO_I8) memcpy(to, &d, 4);
            for (int i = 0; i < hd; i++) {
                int byte = below(&r->rng, 255) - 127;
                float x = d * ((float)byte + 0.3f);
                uint16_t half = mo_f32_to_bf16(x);
                if (run->dtype == MO_F32) memcpy(to + 4 * i, &x, 4);
                if (run->dtype == MO_BF16) memcpy(to + 2 * i, &half, 2);
                if (run->dtype == MO_I8) to[4 + i] = (char)byte;
            }
        }
    return ring;
}

/* One row of a ring as the run left it. */
static const char *ring_row(rig *r, const attend_run *run, int view, int slot, int head,
                            int position) {
    const rig_view *ring = &r->views[view];
    int row = head * run->c.capacity + position % run->c.capacity;
    return (const char *)&ring->after[at(&ring->v, slot, row, 0)];
}

static double row_scale(const char *row) {
    float d;
    memcpy(&d, row, 4);
    return (double)d;
}

/* Element i of a row. */
static double row_value(const attend_run *run, const char *row, int i) {
    uint16_t half;
    float x;
    if (run->dtype == MO_I8) return row_scale(row) * (signed char)row[4 + i];
    memcpy(&half, row + 2 * i, 2);
    if (run->dtype == MO_BF16) return (double)mo_bf16_to_f32(half);
    memcpy(&x, row + 4 * i, 4);
    return (double)x;
}

static void attend_build(rig *r, const void *arg) {
    const attend_run *run = arg;
    const attend_case *c = &run->c;
    int hd = c->head_dim, even = hd / 2 * 2;
    rig_view *pos = rig_add(r, 1, 1, true);
    for (int s = 0; s < r->slots; s++) put_i32(pos, s, 0, 0, run->position + 3 * s);
    mo_view table = rig_out(r, c->rows, even, true);
    rig_view *qkv = rig_random(r, c->rows, (c->heads + 2 * c->kv_heads) * hd, true, 1.5f);
    rig_view *k = ring_random(r, run, 1.5f), *v = ring_random(r, run, 1.0f);
    qkv->written = true;
    float *freq = take((size_t)hd / 2, 4);
    for (int i = 0; i < hd / 2; i++) freq[i] = (float)pow(10000.0, -2.0 * i / hd);
    mo_kv kv = {k->v.buf,
                v->v.buf,
                run->dtype,
                c->kv_heads,
                c->capacity,
                hd,
                mo_kv_row_bytes(run->dtype, hd)};
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

/* What a row must hold for the numbers x: the same, or rounded as mo_kv says. */
static bool row_holds(const attend_run *run, const char *row, const float *x) {
    int hd = run->c.head_dim;
    float most = 0;
    bool ok = true;
    for (int i = 0; i < hd; i++) most = fmaxf(most, fabsf(x[i]));
    if (run->dtype == MO_I8) ok = row_scale(row) == (double)(most / 127.0f);
    for (int i = 0; i < hd; i++) {
        double value = row_value(run, row, i);
        if (run->dtype == MO_I8)
            ok &= fabs(value - (double)x[i]) <= row_scale(row) * (0.5 + 127 * EPS * 2);
        else
            ok &= value == (double)round_to(run->dtype, x[i]);
    }
    return ok;
}

static void rope_judge(rig *r, const attend_run *run, const char *what) {
    const attend_case *c = &run->c;
    const mo_op_rope_table *rt = &r->ops[0].u.rope_table;
    const mo_op_rope_kv *op = &r->ops[1].u.rope_kv;
    int hd = c->head_dim, k_at = c->heads * hd, v_at = k_at + c->kv_heads * hd;
    float x[128];
    error_gauge g = {0};
    bool table_ok = true, v_kept = true, k_ok = true, v_ok = true;
    for (int s = 0; s < r->slots; s++)
        for (int row = 0; row < c->rows; row++) {
            int position = slot_position(run, s) + row;
            for (int i = 0; i < rt->out.cols; i++) {
                float angle =
                    (float)(run->position + 3 * s + row) * (float)weight_at(r, rt->freq, 0, i / 2);
                float want = (float)(i % 2 ? sin((double)angle) : cos((double)angle));
                table_ok &= want == (float)after(r, &rt->out, s, row, i);
            }
            for (int i = 0; i < v_at; i++)
                gauge(&g, after(r, &op->qkv, s, row, i),
                      rotated(r, run, s, row, i / hd * hd, i % hd), 4e-6);
            for (int i = v_at; i < op->qkv.cols; i++)
                v_kept &= after(r, &op->qkv, s, row, i) == before(r, &op->qkv, s, row, i);
            for (int h = 0; h < c->kv_heads; h++) {
                for (int i = 0; i < hd; i++)
                    x[i] = (float)after(r, &op->qkv, s, row, k_at + h * hd + i);
                k_ok &= row_holds(run, ring_row(r, run, 3, s, h, position), x);
                for (int i = 0; i < hd; i++)
                    x[i] = (float)after(r, &op->qkv, s, row, v_at + h * hd + i);
                v_ok &= row_holds(run, ring_row(r, run, 4, s, h, position), x);
            }
        }
    CHECK(table_ok, "%s: rope table", what);
    CHECK(v_kept, "%s: v was changed in place", what);
    CHECK(k_ok, "%s: k ring", what);
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
        const char *k = ring_row(r, run, 3, slot, kv, q);
        double dot = 0;
        for (int i = 0; i < hd; i++)
            dot += after(r, &op->qkv, slot, row, head * hd + i) * row_value(run, k, i);
        e[q - from] = dot / sqrt(hd);
        max = fmax(max, e[q - from]);
    }
    for (int q = from; q <= p; q++) total += e[q - from] = exp(e[q - from] - max);
    for (int i = 0; i < hd; i++) {
        double y = 0, size = 0;
        for (int q = from; q <= p; q++) {
            double v = row_value(run, ring_row(r, run, 4, slot, kv, q), i);
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

static void test_attend(mo_dtype dtype, const char *name) {
    for (size_t i = 0; i < sizeof attend_cases / sizeof attend_cases[0]; i++)
        for (size_t p = 0; p < sizeof attend_positions / sizeof attend_positions[0]; p++) {
            attend_run run = {attend_cases[i], dtype, attend_positions[p]};
            if (run.c.fixed && run.position >= run.c.capacity) continue;
            char what[80];
            snprintf(what, sizeof what, "attend %s %zu at %d", name, i, run.position);
            run_case(what, run.c.slots, &run, attend_build, attend_judge);
        }
}

/* Rows nothing random contains: what must show does, and nothing becomes a wild byte. */
static void test_rows(void) {
    static const struct {
        const char *what;
        float x[4];
        float scale;
        signed char bytes[4];
    } cases[] = {{"ties go to even", {127, 0.5f, -1.5f, 2.5f}, 1, {127, 0, -2, 2}},
                 {"zeros", {0, -0.0f, 0, 0}, 0, {0, 0, 0, 0}},
                 {"as good as nothing", {1e-40f, -1e-38f, 0, 1e-44f}, 0, {0, 0, 0, 0}},
                 {"the smallest scale", {127 * 0x1p-126f, 0x1p-126f, 0, 0}, 0x1p-126f, {127, 1}},
                 {"the largest",
                  {-127 * 0x1p120f, 127 * 0x1p120f, 63 * 0x1p120f, 0},
                  0x1p120f,
                  {-127, 127, 63, 0}},
                 {"infinite", {1, INFINITY, -3, 0}, INFINITY, {1, 1, 1, 1}},
                 {"not a number", {NAN, 2, 3, 900}, NAN, {1, 1, 1, 1}},
                 {"not a number at the end", {1, 2, INFINITY, NAN}, NAN, {1, 1, 1, 1}}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rig r;
        rig_open(&r, MO_CPU_LEVEL_AUTO, 1, 1, 1);
        attend_case c = {1, 1, 1, 1, 4, 1, 1, MO_ROPE_NONE, true};
        attend_run run = {c, MO_I8, 0};
        attend_build(&r, &run);
        for (int j = 0; j < 4; j++) put_f32(&r.views[2], 0, 0, 8 + j, cases[i].x[j]);
        rig_run(&r, cases[i].what);
        const char *row = ring_row(&r, &run, 4, 0, 0, 0);
        float d = (float)row_scale(row), out = (float)after(&r, &r.ops[2].u.attend.out, 0, 0, 0);
        CHECK(isnan(cases[i].scale) ? isnan(d) : d == cases[i].scale, "%s: scale %g", cases[i].what,
              d);
        CHECK(memcmp(row + 4, cases[i].bytes, 4) == 0, "%s: bytes %d %d %d %d", cases[i].what,
              row[4], row[5], row[6], row[7]);
        CHECK(isfinite(out) == isfinite(cases[i].scale), "%s: %g came out", cases[i].what, out);
        rig_close(&r);
    }
}

static const char *const names[] = {"f32", "bf16", "i8"};

/* One layer of a 7B model, its cache full: 32 heads of 128, 3000 frames. */
static int bench(int threads) {
    for (int i = 0; i < 3; i++) {
        attend_run run = {
            {1, 1, 32, 32, 128, 3000, 3000, MO_ROPE_PAIRS, false}, attend_types[i], 3000};
        rig r;
        rig_open(&r, MO_CPU_LEVEL_AUTO, threads, 1, 1);
        attend_build(&r, &run);
        mo_program *p = r.be->ops->record(r.be, r.ops, r.n_ops, 1);
        double write_s = best_time(&r, p, 1), read_s = best_time(&r, p, 2);
        double bytes = 2.0 * 32 * 3000 * (double)mo_kv_row_bytes(attend_types[i], 128);
        printf("attention 32 x 128 over 3000, cache %-5s %9.1f us %8.2f GB/s of cache, writing it "
               "%6.1f us\n",
               names[i], read_s * 1e6, bytes / read_s * 1e-9, write_s * 1e6);
        r.be->ops->program_free(r.be, p);
        rig_close(&r);
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "--bench"))
        return bench(argc > 2 ? atoi(argv[2]) : mo_core_count());
    find_levels(false);
    if (n_levels == 1) SKIP("no vector instructions here: only the C kernels were tested");
    for (size_t i = 0; i < sizeof attend_types / sizeof attend_types[0]; i++)
        test_attend(attend_types[i], names[i]);
    test_rows();
    return check_done("test_attend");
}
