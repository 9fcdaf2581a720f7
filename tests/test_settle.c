/* How many threads are worth having: what is chosen for machines whose memory is full at some
 * number of threads, and that a backend which has chosen computes the same bits as before. */
#include "check.h"
#include "cpu/settle.h"
#include "ops.h"
#include "quant.h"
#include "tensors.h"

#include <stdlib.h>
#include <string.h>

/* ---- the choice ----------------------------------------------------------------------------- */

/* A machine: work of one second for a single thread, which becomes no faster with more threads
 * than `full`; and so much slower for every thread, because all wait for each other. */
typedef struct machine {
    int full, fails, tried, least_tried;
    double waiting;
} machine;

static double attempt(void *ctx, int threads) {
    machine *m = ctx;
    m->tried++;
    if (threads < m->least_tried) m->least_tried = threads;
    if (threads == m->fails) return 0;
    return 1.0 / (threads < m->full ? threads : m->full) + m->waiting * threads;
}

static void check_choice(int most, machine m, int least, int greatest, int most_tried) {
    m.least_tried = most;
    int n = mo_settle(most, attempt, &m);
    CHECK(n >= least && n <= greatest, "%d threads, full at %d: %d chosen, wanted %d to %d", most,
          m.full, n, least, greatest);
    CHECK(m.tried <= most_tried, "%d threads, full at %d: %d tries", most, m.full, m.tried);
    CHECK(m.least_tried >= 1, "%d threads tried", m.least_tried);
}

static void test_choice(void) {
    /* arithmetic is the limit: all of them, found out with one more try */
    for (int most = 2; most <= 256; most *= 2)
        check_choice(most, (machine){.full = 256}, most, most, 2);
    check_choice(1, (machine){.full = 4}, 1, 1, 1);
    /* memory is: not one too few, and not many too many */
    check_choice(64, (machine){.full = 16}, 16, 20, 7);
    check_choice(16, (machine){.full = 9}, 9, 9, 4);
    check_choice(8, (machine){.full = 2}, 2, 2, 6);
    check_choice(4, (machine){.full = 3}, 3, 3, 3);
    check_choice(8, (machine){.full = 1}, 1, 1, 6);
    check_choice(6, (machine){.full = 6}, 6, 6, 2);
    /* more are slower: the best is looked for, not the first that is as good as all */
    check_choice(64, (machine){.full = 12, .waiting = 0.002}, 11, 15, 9);
    check_choice(32, (machine){.full = 256, .waiting = 0.02}, 6, 9, 9);
    /* threads that cannot be had are not chosen */
    check_choice(16, (machine){.full = 2, .fails = 9}, 12, 12, 3);
    check_choice(16, (machine){.full = 2, .fails = 16}, 16, 16, 1);
}

/* ---- a backend ------------------------------------------------------------------------------ */

/* The first matrix alone is larger than the models for which nothing is tried. */
enum { ROWS = 5120, COLS = 1024, SLOTS = 3, THREADS = 6 };

static mo_weight upload(mo_backend *be, mo_dtype dtype, const float *numbers) {
    const size_t bytes = (size_t)mo_dtype_row_bytes(dtype, (size_t)ROWS * COLS);
    uint8_t *blocks = test_alloc(bytes, 1);
    mo_matrix m = {.dtype = dtype, .rows = ROWS, .cols = COLS, .data = blocks};
    if (dtype == MO_F32)
        memcpy(blocks, numbers, bytes);
    else
        mo_quant_of(dtype)->quantise(numbers, blocks, (size_t)ROWS * COLS);
    mo_weight w;
    CHECK(be->ops->weight(be, &m, MO_LAYOUT_STRIPS, &w) == 0, "no room for weights");
    free(blocks);
    return w;
}

static mo_op product(const mo_weight *w, mo_view in, mo_view out) {
    mo_op op = {.kind = MO_OP_LINEAR};
    op.u.linear =
        (mo_op_linear){.w = w, .in = in, .out = out, .taps = 1, .stride = 1, .dilation = 1};
    return op;
}

static void check_backend(int threads, bool one_more) {
    static const mo_dtype types[] = {MO_F32, MO_Q8_0, MO_Q4_K};
    mo_backend *be;
    moshi_error err;
    if (!CHECK(mo_backend_cpu.open(&be, &(mo_backend_options){.threads = threads}, &err) == 0, "%s",
               err.text))
        return;
    float *numbers = test_alloc((size_t)ROWS * COLS, sizeof *numbers);
    for (size_t i = 0; i < (size_t)ROWS * COLS; i++)
        numbers[i] = (float)((i * 2654435761u >> 8) % 2001) / 1000.0f - 1.0f;
    mo_buf *in = be->ops->alloc(be, SLOTS * COLS * sizeof(float));
    mo_buf *out = be->ops->alloc(be, 3 * SLOTS * ROWS * sizeof(float));
    mo_weight weights[3];
    mo_op ops[4];
    for (int i = 0; i < 3; i++) {
        weights[i] = upload(be, types[i], numbers);
        ops[i] = product(&weights[i], (mo_view){in, 0, COLS, COLS, 1, COLS},
                         (mo_view){out, (size_t)i * SLOTS * ROWS, ROWS, ROWS, 1, ROWS});
    }
    memcpy(in->data, numbers, in->bytes);
    /* an op that adds to a position: choosing runs products and nothing else */
    mo_buf *pos = be->ops->alloc(be, SLOTS * 4);
    ops[3] = (mo_op){.kind = MO_OP_ADVANCE, .u.advance = {{pos, 0, 1, 1, 1, 1}, 1}};
    mo_program *p = be->ops->record(be, ops, 3 + one_more, SLOTS);
    const uint8_t all[SLOTS] = {1, 1, 1};
    float *before = test_alloc(out->bytes, 1);
    CHECK(be->ops->run(be, p, 0, 3, all) == 0, "run");
    memcpy(before, out->data, out->bytes);
    memset(out->data, 0, out->bytes);
    be->ops->settle(be, p, 1, 2);
    CHECK(be->ops->threads(be) == threads, "a small model has lost threads");
    be->ops->settle(be, p, 0, 3 + one_more);
    CHECK(((int32_t *)pos->data)[0] == 0, "an op that is no product was run");
    const int now = be->ops->threads(be);
    CHECK(now >= 1 && now <= threads && (threads > 2 || now == threads), "%d threads of %d", now,
          threads);
    memset(out->data, 0, out->bytes);
    CHECK(be->ops->run(be, p, 0, 3, all) == 0 && !memcmp(before, out->data, out->bytes),
          "%d threads and %d give different bits", threads, now);
    be->ops->program_free(be, p);
    for (int i = 0; i < 3; i++) be->ops->weight_free(be, &weights[i]);
    be->ops->free(be, in);
    be->ops->free(be, out);
    be->ops->free(be, pos);
    be->ops->close(be);
    free(numbers);
    free(before);
}

int main(void) {
    test_choice();
    check_backend(THREADS, true);
    check_backend(3, false);
    check_backend(2, true);
    check_backend(1, false);
    return check_done("test_settle");
}
