/* Rotary embedding, the key/value ring and attention on the CPU: against plain double-precision
 * statements of the ops, the same bits on every instruction set, thread count and set of slots. */
#include "ops_cases.h"
#include "ops_rig.h"

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

int main(void) {
    find_levels();
    if (n_levels == 1) SKIP("no vector instructions here: only the C kernels were tested");
    test_attend();
    return check_done("test_attend");
}
