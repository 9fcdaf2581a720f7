#include "speed.h"

#include "cpuid.h"
#include "inline.h"
#include "kernels.h"
#include "util.h"

#include <string.h>
#include <sys/mman.h>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#define HAVE_X86 1
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

enum { HUGE_PAGE = 2 << 20, LINE = 64, MAX_STREAMS = 16, THREADS_MAX = 256 };

/* Results that the compiler must not guess, one line per thread. */
typedef struct sink {
    _Alignas(LINE) uint64_t value;
} sink;

typedef struct job {
    mo_pool *pool;
    uint8_t *data; /* of all threads */
    size_t bytes;  /* of one thread: streams * whole lines */
    int streams;
    size_t ahead; /* bytes that a stream is asked for early; 0: the processor guesses */
    long repeats; /* of the arithmetic */
    sink sinks[THREADS_MAX];
} job;

/* ---- memory --------------------------------------------------------------------------------- */

/* A quarter of a line, which every machine has a register for. */
typedef uint64_t quarter __attribute__((vector_size(LINE / 4)));

/* Lines of one stream. Odd, or streams a power of two apart would fall into the same sets of a
 * cache and the same banks of the memory. */
static size_t lines_of(const job *j) {
    return (j->bytes / (size_t)j->streams / LINE - 64) | 1;
}

/* Each thread's part is written by a thread: the system places pages where they are first written
 * to, and takes those nobody has written to for one and the same. */
static void fill_chunk(void *ctx, int chunk, int thread) {
    const job *j = ctx;
    (void)thread;
    memset(j->data + (size_t)chunk * j->bytes, 1, j->bytes);
}

/* Several stretches side by side: each is one more that the memory can be asked for ahead. */
static void read_chunk(void *ctx, int chunk, int thread) {
    job *j = ctx;
    const uint8_t *from = j->data + (size_t)chunk * j->bytes;
    const size_t part = lines_of(j), ahead = j->ahead, streams = (size_t)j->streams;
    quarter a = {0}, b = {0}, c = {0}, d = {0};
    (void)thread;
    for (size_t i = 0; i < part; i++)
        for (size_t s = 0; s < streams; s++) {
            const uint8_t *line = from + (s * part + i) * LINE;
            const quarter *q = (const quarter *)(const void *)line;
            if (ahead) __builtin_prefetch(line + ahead);
            a ^= q[0];
            b ^= q[1];
            c ^= q[2];
            d ^= q[3];
        }
    a ^= b ^ c ^ d;
    j->sinks[chunk].value = a[0] ^ a[1];
}

static double best_read(mo_pool *pool, job *j, double seconds) {
    static const int streams[] = {1, 4, 8, MAX_STREAMS, 2};
    static const size_t ahead[] = {4096, 0};
    int threads = mo_pool_threads(pool), n = (int)(sizeof streams / sizeof *streams);
    double until = mo_now_s() + seconds, best = 0, started, took;
    for (int i = 0; i < n || mo_now_s() < until; i++) {
        j->streams = streams[i % n];
        j->ahead = ahead[i % 2];
        started = mo_now_s();
        mo_pool_run(pool, read_chunk, j, threads);
        took = mo_now_s() - started;
        size_t lines = lines_of(j) * (size_t)j->streams;
        double rate = (double)(lines * LINE) * threads / took;
        if (rate > best) best = rate;
    }
    return best;
}

/* ---- arithmetic ----------------------------------------------------------------------------- */

/* Twelve sums that do not wait for each other, `repeats` steps of each. Returns operations done. */
#define CHAINS 12

#ifdef HAVE_X86
__attribute__((target("avx512f"))) static double fma_avx512(job *j, int chunk) {
    __m512 sums[CHAINS], x = _mm512_set1_ps(0.5f), y = _mm512_set1_ps(1.0f);
    UNROLL
    for (int k = 0; k < CHAINS; k++) sums[k] = _mm512_set1_ps((float)k);
    for (long i = 0; i < j->repeats; i++) {
        UNROLL
        for (int k = 0; k < CHAINS; k++) sums[k] = _mm512_fmadd_ps(sums[k], x, y);
    }
    UNROLL
    for (int k = 1; k < CHAINS; k++) sums[0] = _mm512_add_ps(sums[0], sums[k]);
    j->sinks[chunk].value = (uint64_t)_mm512_reduce_add_ps(sums[0]);
    return 2.0 * 16 * CHAINS * (double)j->repeats;
}

__attribute__((target("avx2,fma"))) static double fma_avx2(job *j, int chunk) {
    __m256 sums[CHAINS], x = _mm256_set1_ps(0.5f), y = _mm256_set1_ps(1.0f);
    UNROLL
    for (int k = 0; k < CHAINS; k++) sums[k] = _mm256_set1_ps((float)k);
    for (long i = 0; i < j->repeats; i++) {
        UNROLL
        for (int k = 0; k < CHAINS; k++) sums[k] = _mm256_fmadd_ps(sums[k], x, y);
    }
    UNROLL
    for (int k = 1; k < CHAINS; k++) sums[0] = _mm256_add_ps(sums[0], sums[k]);
    j->sinks[chunk].value = (uint64_t)_mm256_cvtss_f32(sums[0]);
    return 2.0 * 8 * CHAINS * (double)j->repeats;
}

__attribute__((target("avx512f,avx512vnni"))) static double dot_avx512(job *j, int chunk) {
    __m512i sums[CHAINS], x = _mm512_set1_epi8(3), y = _mm512_set1_epi8(5);
    UNROLL
    for (int k = 0; k < CHAINS; k++) sums[k] = _mm512_set1_epi32(k);
    for (long i = 0; i < j->repeats; i++) {
        UNROLL
        for (int k = 0; k < CHAINS; k++) sums[k] = _mm512_dpbusd_epi32(sums[k], x, y);
    }
    UNROLL
    for (int k = 1; k < CHAINS; k++) sums[0] = _mm512_add_epi32(sums[0], sums[k]);
    j->sinks[chunk].value = (uint64_t)_mm512_reduce_add_epi32(sums[0]);
    return 2.0 * 64 * CHAINS * (double)j->repeats;
}

#ifdef __x86_64__
/* Six tiles of sums; bytes of tiles are never read, all are zero. */
__attribute__((target("amx-tile,amx-int8,avx512f"))) static double dot_amx(job *j, int chunk) {
    static const struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } shape = {.palette = 1,
               .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
               .rows = {16, 16, 16, 16, 16, 16, 16, 16}};
    (void)chunk;
    _tile_loadconfig(&shape);
    _tile_zero(6);
    _tile_zero(7);
    for (long i = 0; i < j->repeats; i++) {
        _tile_dpbsud(0, 6, 7);
        _tile_dpbsud(1, 6, 7);
        _tile_dpbsud(2, 6, 7);
        _tile_dpbsud(3, 6, 7);
        _tile_dpbsud(4, 6, 7);
        _tile_dpbsud(5, 6, 7);
    }
    _tile_release();
    return 2.0 * 16 * 16 * 64 * 6 * (double)j->repeats;
}
#endif
#elif defined(__aarch64__)
static double fma_neon(job *j, int chunk) {
    float32x4_t sums[CHAINS], x = vdupq_n_f32(0.5f), y = vdupq_n_f32(1.0f);
    UNROLL
    for (int k = 0; k < CHAINS; k++) sums[k] = vdupq_n_f32((float)k);
    for (long i = 0; i < j->repeats; i++) {
        UNROLL
        for (int k = 0; k < CHAINS; k++) sums[k] = vfmaq_f32(y, sums[k], x);
    }
    UNROLL
    for (int k = 1; k < CHAINS; k++) sums[0] = vaddq_f32(sums[0], sums[k]);
    j->sinks[chunk].value = (uint64_t)vaddvq_f32(sums[0]);
    return 2.0 * 4 * CHAINS * (double)j->repeats;
}
#endif

typedef double (*loop_fn)(job *j, int chunk);

typedef struct loop {
    loop_fn fn;
    job *job;
    double operations[THREADS_MAX];
} loop;

static void loop_chunk(void *ctx, int chunk, int thread) {
    loop *l = ctx;
    (void)thread;
    l->operations[chunk] = l->fn(l->job, chunk);
}

static loop_fn float_loop(mo_cpu_level level) {
#ifdef HAVE_X86
    if (level >= MO_CPU_LEVEL_AVX512) return fma_avx512;
    if (level >= MO_CPU_LEVEL_AVX2) return fma_avx2;
#elif defined(__aarch64__)
    if (level >= MO_CPU_LEVEL_NEON) return fma_neon;
#endif
    (void)level;
    return NULL;
}

static loop_fn byte_loop(mo_cpu_level level) {
#ifdef __x86_64__
    if (level >= MO_CPU_LEVEL_AMX) return dot_amx;
#endif
#ifdef HAVE_X86
    if (level >= MO_CPU_LEVEL_AVX512_VNNI) return dot_avx512;
#endif
    (void)level;
    return NULL;
}

static double best_loop(mo_pool *pool, job *j, loop_fn fn, double seconds) {
    double until = mo_now_s() + seconds, best = 0;
    int threads = mo_pool_threads(pool);
    loop l = {.fn = fn, .job = j};
    j->repeats = 20000;
    while (fn && (best == 0 || mo_now_s() < until)) {
        double started = mo_now_s(), all = 0;
        mo_pool_run(pool, loop_chunk, &l, threads);
        double took = mo_now_s() - started;
        for (int t = 0; t < threads; t++) all += l.operations[t];
        if (all / took > best) best = all / took;
    }
    return best;
}

int mo_speed_measure(mo_pool *pool, size_t bytes, double seconds, moshi_device_speed *out) {
    const mo_cpu_level level = mo_cpu_level_best();
    const size_t lines = bytes / (size_t)mo_pool_threads(pool) / (MAX_STREAMS * LINE);
    job *j = mo_aligned_calloc(sizeof *j);
    uint8_t *data = mo_aligned_calloc_to(bytes, HUGE_PAGE);
#ifdef MADV_HUGEPAGE /* as weights lie */
    if (data) madvise(data, bytes, MADV_HUGEPAGE);
#endif
    if (j && data) {
        j->pool = pool;
        j->data = data;
        j->bytes = lines * MAX_STREAMS * LINE;
        mo_pool_run(pool, fill_chunk, j, mo_pool_threads(pool));
        out->read_bytes_s = best_read(pool, j, 0.8 * seconds);
        out->flops = best_loop(pool, j, float_loop(level), 0.1 * seconds);
        out->int8_ops = best_loop(pool, j, byte_loop(level), 0.1 * seconds);
    }
    bool ok = j && data;
    mo_aligned_free(data);
    mo_aligned_free(j);
    return ok ? 0 : MOSHI_ENOMEM;
}
