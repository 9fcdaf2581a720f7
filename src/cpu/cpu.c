/* cpu.c - the CPU backend: memory, packed weights, recorded programs. */
#include "cpuid.h"
#include "exec.h"
#include "memory.h"
#include "pack.h"
#include "quant.h"
#include "settle.h"
#include "speed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PRODUCTS, REST }; /* accounts of the pool */
enum { MAX_THREADS = 256, CHUNKS_PER_THREAD = 64 };

typedef struct cpu {
    mo_backend base;
    mo_cpu_level level;
    const mo_kernels *kernels;
    const mo_qkernels *qkernels;
    const mo_pieces_kernels *pieces; /* NULL: this level does not split */
    const mo_digits_kernels *digits; /* likewise */
    mo_pool *pool;
    mo_memory *weights, *states;
} cpu;

/* An op is one plan, or two when its activations must be quantised or split before it. */
struct mo_program {
    cpu *be;
    mo_plan *plans;
    int *starts;     /* [n + 1] first plan of every op */
    mo_ahead *ahead; /* for every plan the weights of the next product after it */
    int n, slots;
    int *active;    /* [slots] */
    float *scratch; /* [threads, scratch_floats] */
    size_t scratch_floats;
    uint8_t *records; /* quantised or split activations of the op at hand */
};

static cpu *cpu_of(mo_backend *be) {
    return (cpu *)be;
}

/* ---- opening -------------------------------------------------------------------------------- */

static void cpu_close(mo_backend *be) {
    if (!be) return;
    mo_pool_close(cpu_of(be)->pool);
    mo_memory_close(cpu_of(be)->weights);
    mo_memory_close(cpu_of(be)->states);
    free(be);
}

static int cpu_list(moshi_device_info *info, int most, moshi_error *why) {
    (void)why;
    if (most < 1) return 0;
    info->kind = "cpu";
    snprintf(info->name, sizeof info->name, "cpu");
    mo_cpu_brand(info->description, sizeof info->description);
    snprintf(info->driver, sizeof info->driver, "%s kernels",
             mo_cpu_level_name(mo_cpu_level_best()));
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    if (pages > 0 && size > 0) info->memory_bytes = (uint64_t)pages * (uint64_t)size;
    return 1;
}

static int level_named(const char *name) {
    int l = MO_CPU_LEVEL_COUNT - 1;
    while (l > 0 && (!mo_kernels_get((mo_cpu_level)l) ||
                     strcmp(name, mo_cpu_level_name((mo_cpu_level)l)) != 0))
        l--;
    return l;
}

static bool cpu_has_kernels(const char *name, moshi_error *why) {
    char known[128] = "";
    if (level_named(name)) return true;
    for (int l = MO_CPU_LEVEL_C; l < MO_CPU_LEVEL_COUNT; l++) {
        size_t at = strlen(known);
        if (mo_kernels_get((mo_cpu_level)l))
            snprintf(known + at, sizeof known - at, "%s%s", at ? ", " : "",
                     mo_cpu_level_name((mo_cpu_level)l));
    }
    mo_fail(why, MOSHI_EDEVICE, "the kernels of this processor are %s", known);
    return false;
}

static int cpu_open(mo_backend **out, const mo_backend_options *options, moshi_error *err) {
    int threads = options ? options->threads : 0, level = options ? options->level : 0;
    const char *named = options ? options->kernels : NULL;
    *out = NULL;
    if (named && named[0]) {
        if (!cpu_has_kernels(named, err)) return MOSHI_EDEVICE;
        level = level_named(named);
    }
    if (threads < 0 || threads > MAX_THREADS)
        return mo_fail(err, MOSHI_EINVAL, "cpu: threads must be 1 to %d, not %d", MAX_THREADS,
                       threads);
    if (threads == 0) threads = mo_core_count();
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    const mo_kernels *kernels = mo_kernels_get((mo_cpu_level)level);
    if (!kernels)
        return mo_fail(err, MOSHI_EDEVICE, "cpu: this build or machine has no %s (level %d)",
                       mo_cpu_level_name((mo_cpu_level)level), level);
    cpu *be = mo_calloc(1, sizeof *be);
    if (!be) return mo_fail(err, MOSHI_ENOMEM, "cpu: out of memory");
    be->base.ops = &mo_backend_cpu;
    be->level = level ? (mo_cpu_level)level : mo_cpu_level_best();
    be->kernels = kernels;
    be->qkernels = mo_qkernels_get(be->level);
    be->pieces = mo_pieces_get(be->level);
    be->digits = mo_digits_get(be->level);
    be->weights = mo_memory_open(true);
    be->states = mo_memory_open(false);
    if (!be->weights || !be->states) {
        cpu_close(&be->base);
        return mo_fail(err, MOSHI_ENOMEM, "cpu: out of memory");
    }
    be->pool = mo_pool_open(threads);
    if (!be->pool) {
        cpu_close(&be->base);
        return mo_fail(err, MOSHI_ENOMEM, "cpu: cannot start %d threads", threads);
    }
    *out = &be->base;
    return 0;
}

static int cpu_threads(const mo_backend *be) {
    return mo_pool_threads(((const cpu *)be)->pool);
}
static const char *cpu_kernels(const mo_backend *be) {
    return mo_cpu_level_name(((const cpu *)be)->level);
}

/* ---- memory --------------------------------------------------------------------------------- */

static mo_buf *cpu_alloc(mo_backend *be, size_t bytes) {
    return mo_memory_get(cpu_of(be)->states, bytes);
}

static void cpu_free(mo_backend *be, mo_buf *buf) {
    mo_memory_put(cpu_of(be)->states, buf);
}

static void cpu_write(mo_backend *be, mo_buf *buf, size_t offset, const void *src, size_t bytes) {
    (void)be;
    if (bytes) memcpy((char *)buf->data + offset, src, bytes);
}

static void cpu_read(mo_backend *be, const mo_buf *buf, size_t offset, void *dst, size_t bytes) {
    (void)be;
    if (bytes) memcpy(dst, (const char *)buf->data + offset, bytes);
}

static void cpu_zero(mo_backend *be, mo_buf *buf, size_t offset, size_t bytes) {
    (void)be;
    if (bytes) memset((char *)buf->data + offset, 0, bytes);
}

/* ---- weights -------------------------------------------------------------------------------- */

/* Digits before pieces, and only what there are kernels for. */
static mo_matrix as_split(const cpu *be, const mo_matrix *src, mo_layout layout) {
    mo_matrix m = *src;
    if (!be->digits || !mo_digits_wanted(src, layout)) m.digits = 0;
    if (!be->pieces || !mo_pieces_wanted(src, layout) || m.digits) m.pieces = 0;
    return m;
}

static mo_weight weight_of(mo_buf *buf, const mo_matrix *m, mo_layout layout) {
    mo_weight w = mo_weight_of(buf, m, layout);
    w.pieces = m->pieces;
    w.digits = m->digits;
    return w;
}

static uint64_t cpu_weight_bytes(const mo_backend *be, const mo_matrix *src, mo_layout layout,
                                 mo_weight *out) {
    const mo_matrix m = as_split((const cpu *)be, src, layout);
    if (out) *out = weight_of(NULL, &m, layout);
    return mo_pack_bytes(&m, layout);
}

static int cpu_weight(mo_backend *be, const mo_matrix *src, mo_layout layout, mo_weight *out) {
    memset(out, 0, sizeof *out);
    const mo_matrix m = as_split(cpu_of(be), src, layout);
    size_t bytes = mo_pack_bytes(&m, layout);
    if (bytes == 0) return MOSHI_EINVAL;
    mo_buf *buf = mo_memory_get(cpu_of(be)->weights, bytes);
    if (!buf) return MOSHI_ENOMEM;
    *out = weight_of(buf, &m, layout);
    mo_pack(cpu_of(be)->pool, &m, layout, buf->data);
    return 0;
}

static void cpu_weight_free(mo_backend *be, mo_weight *w) {
    mo_memory_put(cpu_of(be)->weights, w->buf);
    w->buf = NULL;
}

/* Linear layers and embeddings read every format; the other weights are short and always float32.
 */
static bool cpu_supports(mo_backend *be, mo_op_kind kind, mo_dtype dtype) {
    (void)be;
    if ((int)kind < 0 || kind >= MO_OP_COUNT) return false;
    if (kind == MO_OP_LINEAR || kind == MO_OP_EMBED_SUM)
        return dtype == MO_U32 || dtype == MO_I8 || mo_quant_of(dtype);
    if (kind == MO_OP_ROPE_KV || kind == MO_OP_ATTEND) /* the type of the key/value ring */
        return dtype == MO_F32 || dtype == MO_BF16 || dtype == MO_I8;
    return dtype == MO_F32;
}

/* ---- programs ------------------------------------------------------------------------------- */

static void cpu_program_free(mo_backend *be, mo_program *p) {
    (void)be;
    if (!p) return;
    free(p->plans);
    free(p->starts);
    free(p->ahead);
    free(p->active);
    mo_aligned_free(p->scratch);
    mo_aligned_free(p->records);
    free(p);
}

static void look_ahead(mo_program *p, int n) {
    mo_ahead next = {0};
    for (int i = n - 1; i >= 0; i--) {
        p->ahead[i] = next;
        if (p->plans[i].op.kind == MO_OP_LINEAR) next = mo_plan_ahead(&p->plans[i]);
    }
}

/* The list of ops as plans; false when out of memory. */
static bool lower(mo_program *p, const mo_op *ops) {
    size_t record_bytes = 0, floats, threads = (size_t)cpu_threads(&p->be->base);
    p->plans = mo_calloc(2 * (size_t)p->n, sizeof *p->plans);
    p->starts = mo_calloc((size_t)p->n + 1, sizeof *p->starts);
    p->ahead = mo_calloc(2 * (size_t)p->n, sizeof *p->ahead);
    if (!p->plans || !p->starts || !p->ahead) return false;
    int n = 0;
    for (int i = 0; i < p->n; i++) {
        p->starts[i] = n;
        mo_plan *plan = &p->plans[n++];
        mo_plan_init(plan, &ops[i]);
        size_t need = mo_plan_scratch(plan);
        if (need > p->scratch_floats) p->scratch_floats = need;
        if (i > 0 && ops[i - 1].kind == MO_OP_ACT && ops[i].kind == MO_OP_LINEAR)
            mo_plan_join(plan - 1, plan, &ops[i - 1].u.act);
        plan->roped = i > 0 && mo_plan_can_rope(plan, plan - 1);
        if (!mo_plan_prepares(plan)) continue;
        p->plans[n] = *plan;
        plan->prepare = true;
        plan->gated = i > 0 && mo_plan_can_gate(plan, plan - 1);
        n++;
        if (!mo_plan_record_bytes(plan, p->slots, &need)) return false;
        if (need > record_bytes) record_bytes = need;
    }
    p->starts[p->n] = n;
    for (int i = n - 1; i >= 0; i--)
        p->plans[i].alone = mo_plan_is_alone(&p->plans[i], i + 1 < n ? &p->plans[i + 1] : NULL);
    look_ahead(p, n);
    if (!mo_mul(p->scratch_floats, threads * sizeof(float), &floats)) return false;
    p->scratch = mo_aligned_calloc(floats);
    p->records = mo_aligned_calloc(record_bytes);
    return p->scratch && p->records;
}

static mo_program *cpu_record(mo_backend *be, const mo_op *ops, int n, int slots) {
    mo_program *p = mo_calloc(1, sizeof *p);
    if (!p) return NULL;
    p->be = cpu_of(be);
    p->n = n;
    p->slots = slots;
    p->active = mo_calloc((size_t)slots, sizeof *p->active);
    if (p->active && lower(p, ops)) return p;
    cpu_program_free(be, p);
    return NULL;
}

/* One plan cut into chunks of units, as many for every thread. */
typedef struct phase {
    const mo_plan *plan;
    const mo_exec *ex;
    int units, chunks, threads, grain;
} phase;

/* The last chunks of a thread's share, from its end: so many units are left before the last, the
 * last two and so on. The smaller they are, the less one thread waits for the other. */
enum { SMALL_CHUNKS = 4, SMALL_UNITS = 6 };
static const int small_left[SMALL_CHUNKS + 1] = {0, 1, 2, 4, SMALL_UNITS};

/* First unit of a chunk. Shares that are a unit shorter than others may begin with an empty one. */
static int first_unit(const phase *ph, int chunk) {
    if (ph->grain == 1 || chunk == ph->chunks)
        return (int)((int64_t)ph->units * chunk / ph->chunks);
    const int each = ph->chunks / ph->threads, share = chunk / each, left = each - chunk % each;
    int first = (int)((int64_t)ph->units * share / ph->threads);
    int end = (int)((int64_t)ph->units * (share + 1) / ph->threads);
    int at =
        left > SMALL_CHUNKS ? SMALL_UNITS + ph->grain * (left - SMALL_CHUNKS) : small_left[left];
    return end - at > first ? end - at : first;
}

static void phase_chunk(void *ctx, int chunk, int thread) {
    const phase *ph = ctx;
    const int unit0 = first_unit(ph, chunk), unit1 = first_unit(ph, chunk + 1);
    if (unit0 < unit1) mo_plan_run(ph->plan, ph->ex, unit0, unit1, thread);
}

/* Sharing costs a microsecond or so: not below 4 us of work, and no chunk under 1 but the small
 * ones. Many chunks let all threads finish at the same time, whatever else their cores do. */
static void cut(phase *ph) {
    const double cost_ns = mo_plan_cost(ph->plan, ph->ex);
    ph->units = mo_plan_units(ph->plan, ph->ex);
    ph->grain = mo_plan_grain(ph->plan, ph->ex);
    ph->chunks = 1;
    if (ph->threads == 1 || cost_ns < 4000.0) {
        ph->grain = 1;
    } else if (ph->grain > 1) {
        int share = (ph->units + ph->threads - 1) / ph->threads - SMALL_UNITS;
        int large = share > 0 ? (share + ph->grain - 1) / ph->grain : 0;
        ph->chunks = ph->threads * (SMALL_CHUNKS + large);
    } else {
        int most = ph->threads * CHUNKS_PER_THREAD;
        if (most > ph->units) most = ph->units;
        ph->chunks = cost_ns / 1000.0 < most ? (int)(cost_ns / 1000.0) : most;
    }
}

/* Some plans one after the other, slot by slot: what a slot works in stays in a core's cache. */
typedef struct stretch {
    const mo_plan *first, *end;
    const mo_exec *ex;
} stretch;

static void stretch_slot(void *ctx, int chunk, int thread) {
    const stretch *s = ctx;
    mo_exec ex = *s->ex;
    ex.active += chunk;
    ex.n_active = 1;
    for (const mo_plan *plan = s->first; plan < s->end; plan++) {
        const bool left = plan->joined && plan + 1 < s->end; /* a trace may stop in between */
        if (!left) mo_plan_run(plan, &ex, 0, mo_plan_units(plan, &ex), thread);
        ex.before = left;
    }
}

/* The plans from `first` on that are best done slot by slot; returns how many. None, when slots are
 * too few for all threads to have as much to do. */
static int run_stretch(mo_pool *pool, const mo_plan *first, const mo_plan *end, const mo_exec *ex) {
    const int slots = ex->n_active, threads = mo_pool_threads(pool), many = 8;
    stretch s = {first, first, ex};
    if (slots < 2 || (slots % threads != 0 && slots < many * threads)) return 0;
    while (s.end < end && s.end->alone) s.end++;
    if (s.end == first) return 0;
    mo_pool_charge(pool, PRODUCTS);
    mo_pool_run(pool, stretch_slot, &s, slots);
    return (int)(s.end - first);
}

/* Who is left of those that take part; returns how many. */
static int sift(const mo_op_sift *op, int *active, int n) {
    int left = 0;
    for (int i = 0; i < n; i++) {
        const int32_t *token = (const int32_t *)op->tokens.buf->data + op->tokens.offset +
                               op->tokens.slot_stride * (size_t)active[i];
        bool all = true;
        for (int c = 0; c < op->tokens.cols; c++) all &= token[c] >= 0 && token[c] < op->n;
        if (all) active[left++] = active[i];
    }
    return left;
}

static mo_exec exec_of(const cpu *be, const mo_program *p) {
    return (mo_exec){.kernels = be->kernels,
                     .qkernels = be->qkernels,
                     .pieces = be->pieces,
                     .digits = be->digits,
                     .active = p->active,
                     .records = p->records,
                     .scratch = p->scratch,
                     .scratch_floats = p->scratch_floats};
}

static void run_plan(mo_pool *pool, const mo_plan *plan, const mo_exec *ex) {
    phase ph = {.plan = plan, .ex = ex, .threads = mo_pool_threads(pool)};
    cut(&ph);
    mo_pool_charge(pool, mo_plan_is_product(plan) ? PRODUCTS : REST);
    mo_pool_run(pool, phase_chunk, &ph, ph.chunks);
}

static int cpu_run(mo_backend *be, mo_program *p, int first, int last, const uint8_t *exec) {
    if (first < 0 || first > last || last > p->n) return MOSHI_EDEVICE;
    mo_pool *pool = cpu_of(be)->pool;
    mo_exec ex = exec_of(cpu_of(be), p);
    for (int slot = 0; slot < p->slots; slot++)
        if (exec[slot]) p->active[ex.n_active++] = slot;
    if (ex.n_active == 0) return 0;
    mo_pool_awake(pool, true);
    for (int i = p->starts[first]; ex.n_active > 0 && i < p->starts[last]; i++) {
        const mo_plan *plan = &p->plans[i];
        if (be->crumb) be->crumb->detail = mo_op_name(plan->op.kind);
        if (plan->op.kind == MO_OP_SIFT) {
            ex.n_active = sift(&plan->op.u.sift, p->active, ex.n_active);
            continue;
        }
        const int n = run_stretch(pool, plan, p->plans + p->starts[last], &ex);
        if (n > 0) {
            i += n - 1;
            continue;
        }
        if (i + 1 < p->starts[last] && mo_plan_gates(plan + 1, plan, &ex)) {
            ex.gate = plan;
            continue;
        }
        if (i + 1 < p->starts[last] && p->plans[i + 1].roped) {
            ex.rope = plan;
            continue;
        }
        if (i + 1 < p->starts[last] && plan->joined) {
            ex.before = true;
            continue;
        }
        if (ex.n_active == 1) mo_pool_ahead(pool, p->ahead[i]);
        run_plan(pool, plan, &ex);
        ex.gate = ex.rope = NULL;
        ex.before = false;
    }
    mo_pool_ahead(pool, (mo_ahead){0});
    mo_pool_awake(pool, false);
    return 0;
}

static mo_busy cpu_busy(const mo_backend *be) {
    const mo_pool *pool = ((const cpu *)be)->pool;
    double products = mo_pool_busy(pool, PRODUCTS);
    return (mo_busy){products + mo_pool_busy(pool, REST), products};
}

/* ---- how many threads ----------------------------------------------------------------------- */

enum { FEW_CORES = 2, TRIAL_ROUNDS = 3, LEAST_BYTES = 16 << 20, TRIAL_BYTES = 256 << 20 };
static const double TRIAL_S = 0.02;

/* Products to try numbers of threads with. */
typedef struct trial {
    cpu *be;
    mo_program *program;
    int first, last; /* plans */
} trial;

static void run_products(const trial *t, mo_pool *pool) {
    mo_program *p = t->program;
    mo_exec ex = exec_of(t->be, p);
    for (int slot = 0; slot < p->slots; slot++) p->active[ex.n_active++] = slot;
    mo_pool_awake(pool, true);
    for (int i = t->first; i < t->last; i++)
        if (p->plans[i].op.kind == MO_OP_LINEAR) run_plan(pool, &p->plans[i], &ex);
    mo_pool_awake(pool, false);
}

/* The fastest of some rounds, whatever else the machine does meanwhile. */
static double trial_s(void *ctx, int threads) {
    const trial *t = ctx;
    mo_pool *own = threads == mo_pool_threads(t->be->pool) ? NULL : mo_pool_open(threads);
    mo_pool *pool = own ? own : t->be->pool;
    double best = 0, begin = mo_now_s(), start = begin;
    if (mo_pool_threads(pool) != threads) return 0;
    for (int i = 0; i < TRIAL_ROUNDS || start - begin < TRIAL_S; i++) {
        run_products(t, pool);
        const double now = mo_now_s();
        if (best == 0 || now - start < best) best = now - start;
        start = now;
    }
    mo_pool_close(own);
    return best;
}

/* As many plans as read more than most caches hold; none of a model that is smaller than those: it
 * does not wait for memory, and opens in less time than trying takes. */
static int trial_end(const mo_program *p, int first, int last) {
    size_t bytes = 0;
    int end = first;
    for (; end < last && bytes < TRIAL_BYTES; end++)
        if (p->plans[end].op.kind == MO_OP_LINEAR && !p->plans[end].prepare)
            bytes += p->plans[end].op.u.linear.w->buf->bytes;
    return bytes < LEAST_BYTES ? first : end;
}

static void cpu_settle(mo_backend *be, mo_program *p, int first, int last) {
    const int most = cpu_threads(be);
    trial t = {cpu_of(be), p, p->starts[first], 0};
    t.last = trial_end(p, t.first, p->starts[last]);
    if (most <= FEW_CORES || t.first == t.last) return;
    const int threads = mo_settle(most, trial_s, &t);
    mo_pool *pool = threads < most ? mo_pool_open(threads) : NULL;
    if (!pool) return;
    mo_pool_close(cpu_of(be)->pool);
    cpu_of(be)->pool = pool;
}

static int cpu_measure(mo_backend *be, size_t bytes, double seconds, moshi_device_speed *out) {
    return mo_speed_measure(cpu_of(be)->pool, bytes, seconds, out);
}

/* ---- the table ------------------------------------------------------------------------------ */

const mo_backend_ops mo_backend_cpu = {.name = "cpu",
                                       .same_bits = true,
                                       .host_memory = true,
                                       .caches = true,
                                       .list = cpu_list,
                                       .open = cpu_open,
                                       .close = cpu_close,
                                       .has_kernels = cpu_has_kernels,
                                       .alloc = cpu_alloc,
                                       .free = cpu_free,
                                       .write = cpu_write,
                                       .read = cpu_read,
                                       .zero = cpu_zero,
                                       .weight_bytes = cpu_weight_bytes,
                                       .weight = cpu_weight,
                                       .weight_free = cpu_weight_free,
                                       .supports = cpu_supports,
                                       .record = cpu_record,
                                       .program_free = cpu_program_free,
                                       .run = cpu_run,
                                       .settle = cpu_settle,
                                       .threads = cpu_threads,
                                       .kernels = cpu_kernels,
                                       .busy = cpu_busy,
                                       .measure = cpu_measure};
