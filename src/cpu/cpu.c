/* cpu.c - the CPU backend: memory, packed weights, recorded programs. */
#include "cpuid.h"
#include "exec.h"
#include "pool.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_THREADS = 256, CHUNKS_PER_THREAD = 8 };

typedef struct cpu {
    mo_backend base;
    const mo_kernels *kernels;
    mo_pool *pool;
} cpu;

struct mo_program {
    cpu *be;
    mo_plan *plans;
    int n, slots;
    int *active;    /* [slots] */
    float *scratch; /* [threads, scratch_floats] */
    size_t scratch_floats;
};

static cpu *cpu_of(mo_backend *be) {
    return (cpu *)be;
}

/* ---- opening -------------------------------------------------------------------------------- */

static const char *level_name(int level) {
    static const char *const names[MO_CPU_LEVEL_COUNT] = {"auto", "c", "neon", "avx2", "avx512"};
    return level >= 0 && level < MO_CPU_LEVEL_COUNT ? names[level] : "?";
}

static void cpu_close(mo_backend *be) {
    if (!be) return;
    mo_pool_close(cpu_of(be)->pool);
    free(be);
}

static int cpu_describe(int nth, moshi_device_info *info) {
    if (nth > 0) return 0;
    info->kind = "cpu";
    snprintf(info->name, sizeof info->name, "cpu");
    mo_cpu_brand(info->description, sizeof info->description);
    snprintf(info->driver, sizeof info->driver, "%s kernels",
             mo_kernels_get(MO_CPU_LEVEL_AUTO)->name);
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    if (pages > 0 && size > 0) info->memory_bytes = (uint64_t)pages * (uint64_t)size;
    return 1;
}

static int cpu_open(mo_backend **out, const mo_backend_options *options, moshi_error *err) {
    int threads = options ? options->threads : 0, level = options ? options->level : 0;
    *out = NULL;
    if (threads < 0 || threads > MAX_THREADS)
        return mo_fail(err, MOSHI_EINVAL, "cpu: threads must be 1 to %d, not %d", MAX_THREADS,
                       threads);
    if (threads == 0) threads = mo_core_count();
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    const mo_kernels *kernels = mo_kernels_get((mo_cpu_level)level);
    if (!kernels)
        return mo_fail(err, MOSHI_EDEVICE, "cpu: this build or machine has no %s (level %d)",
                       level_name(level), level);
    cpu *be = mo_calloc(1, sizeof *be);
    if (!be) return mo_fail(err, MOSHI_ENOMEM, "cpu: out of memory");
    be->base.ops = &mo_backend_cpu;
    be->kernels = kernels;
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
    return ((const cpu *)be)->kernels->name;
}

/* ---- memory --------------------------------------------------------------------------------- */

static mo_buf *cpu_alloc(mo_backend *be, size_t bytes) {
    (void)be;
    mo_buf *buf = mo_calloc(1, sizeof *buf);
    if (!buf) return NULL;
    buf->data = mo_aligned_calloc(bytes);
    buf->bytes = bytes;
    if (buf->data) return buf;
    free(buf);
    return NULL;
}

static void cpu_free(mo_backend *be, mo_buf *buf) {
    (void)be;
    if (!buf) return;
    mo_aligned_free(buf->data);
    free(buf);
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

enum { PACK_COLS = 64, PACK_STRIPS = 16 };

typedef struct pack_job {
    const mo_matrix *src;
    size_t size; /* bytes per element */
    char *dst;
} pack_job;

/* Columns col0 .. col1-1 of one strip; rows past the end stay zero. memcpy because the source may
 * be unaligned; `size` is a constant where this is expanded. */
static inline void pack_block(const pack_job *job, int64_t strip, int64_t col0, int64_t col1,
                              const size_t size) {
    int64_t cols = job->src->cols;
    char *dst = job->dst + (size_t)(strip * cols) * MO_STRIP * size;
    for (int64_t r = 0; r < MO_STRIP && strip * MO_STRIP + r < job->src->rows; r++) {
        const char *row = (const char *)job->src->data;
        row += (size_t)((strip * MO_STRIP + r) * cols) * size;
        for (int64_t c = col0; c < col1; c++)
            memcpy(dst + (size_t)(c * MO_STRIP + r) * size, row + (size_t)c * size, size);
    }
}

static void pack_strips(void *ctx, int chunk, int thread) {
    const pack_job *job = ctx;
    int64_t cols = job->src->cols, strips = (job->src->rows + MO_STRIP - 1) / MO_STRIP;
    (void)thread;
    for (int64_t s = (int64_t)chunk * PACK_STRIPS; s < strips; s++) {
        if (s == ((int64_t)chunk + 1) * PACK_STRIPS) return;
        for (int64_t c = 0; c < cols; c += PACK_COLS) {
            int64_t end = c + PACK_COLS < cols ? c + PACK_COLS : cols;
            if (job->size == 4)
                pack_block(job, s, c, end, 4);
            else
                pack_block(job, s, c, end, 2);
        }
    }
}

static uint64_t cpu_weight_bytes(const mo_matrix *src, mo_layout layout) {
    bool wide = src->dtype == MO_F32, narrow = src->dtype == MO_F16 || src->dtype == MO_BF16;
    const int64_t max_rows = (int64_t)MO_STRIP * PACK_STRIPS * MO_POOL_MAX_CHUNKS;
    if ((!wide && !narrow) || src->rows < 1 || src->cols < 1 || src->rows > max_rows ||
        src->cols > INT_MAX / MO_STRIP)
        return 0;
    size_t bytes, rows = (size_t)src->rows;
    if (layout == MO_LAYOUT_STRIPS) rows = (rows + MO_STRIP - 1) / MO_STRIP * MO_STRIP;
    if (!mo_mul(rows, (size_t)src->cols, &bytes) || !mo_mul(bytes, wide ? 4 : 2, &bytes)) return 0;
    return bytes;
}

static int cpu_weight(mo_backend *be, const mo_matrix *src, mo_layout layout, mo_weight *out) {
    memset(out, 0, sizeof *out);
    size_t bytes = (size_t)cpu_weight_bytes(src, layout);
    if (bytes == 0) return MOSHI_EINVAL;
    mo_buf *buf = cpu_alloc(be, bytes);
    if (!buf) return MOSHI_ENOMEM;
    *out = (mo_weight){buf, src->dtype, layout, (int)src->rows, (int)src->cols};
    if (layout == MO_LAYOUT_ROWS) {
        memcpy(buf->data, src->data, bytes);
        return 0;
    }
    pack_job job = {src, src->dtype == MO_F32 ? 4 : 2, buf->data};
    const int64_t per_chunk = (int64_t)MO_STRIP * PACK_STRIPS;
    mo_pool_run(cpu_of(be)->pool, pack_strips, &job,
                (int)((src->rows + per_chunk - 1) / per_chunk));
    return 0;
}

static void cpu_weight_free(mo_backend *be, mo_weight *w) {
    cpu_free(be, w->buf);
    w->buf = NULL;
}

/* Linear layers and embeddings read any float; the other weights are short and always float32. */
static bool cpu_supports(mo_backend *be, mo_op_kind kind, mo_dtype dtype) {
    (void)be;
    if ((int)kind < 0 || kind >= MO_OP_COUNT) return false;
    if (kind == MO_OP_LINEAR || kind == MO_OP_EMBED_SUM)
        return dtype == MO_F32 || dtype == MO_F16 || dtype == MO_BF16;
    if (kind == MO_OP_ROPE_KV || kind == MO_OP_ATTEND) /* the type of the key/value ring */
        return dtype == MO_F32 || dtype == MO_BF16 || dtype == MO_I8;
    return dtype == MO_F32;
}

/* ---- programs ------------------------------------------------------------------------------- */

static void cpu_program_free(mo_backend *be, mo_program *p) {
    (void)be;
    if (!p) return;
    free(p->plans);
    free(p->active);
    mo_aligned_free(p->scratch);
    free(p);
}

static mo_program *cpu_record(mo_backend *be, const mo_op *ops, int n, int slots) {
    size_t floats, threads = (size_t)cpu_threads(be);
    mo_program *p = mo_calloc(1, sizeof *p);
    if (!p) return NULL;
    p->be = cpu_of(be);
    p->n = n;
    p->slots = slots;
    p->plans = mo_calloc((size_t)n, sizeof *p->plans);
    p->active = mo_calloc((size_t)slots, sizeof *p->active);
    if (!p->plans || !p->active) goto fail;
    for (int i = 0; i < n; i++) {
        mo_plan_init(&p->plans[i], &ops[i]);
        size_t need = mo_plan_scratch(&p->plans[i]);
        if (need > p->scratch_floats) p->scratch_floats = need;
    }
    if (!mo_mul(p->scratch_floats, threads * sizeof(float), &floats)) goto fail;
    p->scratch = mo_aligned_calloc(floats);
    if (!p->scratch) goto fail;
    return p;
fail:
    cpu_program_free(be, p);
    return NULL;
}

/* One op cut into chunks of units. */
typedef struct phase {
    const mo_plan *plan;
    const mo_exec *ex;
    int units, chunks;
} phase;

static void phase_chunk(void *ctx, int chunk, int thread) {
    const phase *ph = ctx;
    int64_t u0 = (int64_t)ph->units * chunk / ph->chunks;
    int64_t u1 = (int64_t)ph->units * (chunk + 1) / ph->chunks;
    mo_plan_run(ph->plan, ph->ex, (int)u0, (int)u1, thread);
}

/* Sharing costs a microsecond or so: not below 4 us of work, and no chunk under 2. Several chunks
 * per thread even out cores that are busy elsewhere. */
static int chunk_count(double cost_ns, int units, int threads) {
    if (threads == 1 || cost_ns < 4000.0) return 1;
    int most = threads * CHUNKS_PER_THREAD;
    if (most > units) most = units;
    double chunks = cost_ns / 2000.0;
    return chunks < most ? (int)chunks : most;
}

static int cpu_run(mo_backend *be, mo_program *p, int first, int last, const uint8_t *exec) {
    if (first < 0 || first > last || last > p->n) return MOSHI_EDEVICE;
    mo_pool *pool = cpu_of(be)->pool;
    mo_exec ex = {.kernels = cpu_of(be)->kernels,
                  .active = p->active,
                  .scratch = p->scratch,
                  .scratch_floats = p->scratch_floats};
    for (int slot = 0; slot < p->slots; slot++)
        if (exec[slot]) p->active[ex.n_active++] = slot;
    if (ex.n_active == 0) return 0;
    for (int i = first; i < last; i++) {
        phase ph = {.plan = &p->plans[i], .ex = &ex};
        if (be->crumb) be->crumb->detail = mo_op_name(ph.plan->op.kind);
        ph.units = mo_plan_units(ph.plan, &ex);
        ph.chunks = chunk_count(mo_plan_cost(ph.plan, &ex), ph.units, mo_pool_threads(pool));
        if (ph.chunks <= 1)
            mo_plan_run(ph.plan, &ex, 0, ph.units, 0);
        else
            mo_pool_run(pool, phase_chunk, &ph, ph.chunks);
    }
    return 0;
}

/* ---- the table ------------------------------------------------------------------------------ */

const mo_backend_ops mo_backend_cpu = {.name = "cpu",
                                       .same_bits = true,
                                       .describe = cpu_describe,
                                       .open = cpu_open,
                                       .close = cpu_close,
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
                                       .threads = cpu_threads,
                                       .kernels = cpu_kernels};
