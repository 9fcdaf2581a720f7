/* pool.c - worker threads that share one piece of work at a time.
 *
 * Every thread has a range of chunks, one word: next chunk << 32 | end. It takes them from the
 * front, one after the other, so that it reads memory onward; when they are used up it takes from
 * the back of the others' ranges. A chunk is claimed by exchanging the word for a shorter one, and
 * a claimed chunk keeps its phase open, so fn and ctx can be plain fields: they are written only
 * while no chunk is claimed or can be, and read only by holders of one. */
#include "pool.h"

#include "util.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

/* Without work a thread spins this long, about what a wake-up takes, longer while the owner says
 * that more is to come; then it sleeps: others may need the core. */
#define SPIN_S       50e-6
#define SPIN_AWAKE_S 2e-3

/* A thread that waits fetches so much of what it will read into its second-level cache, a few lines
 * whenever it has looked whether it still must wait. One core reads some 30 KB in the 2 us for
 * which another one makes a product's inputs ready. */
enum { FETCH_BYTES = 64 << 10, FETCH_LINES = 8, LINE = 64 };

/* On a cache line of its own. */
typedef struct range {
    _Alignas(64) _Atomic uint64_t word;
    double busy[MO_POOL_ACCOUNTS]; /* of the thread; written while it holds a chunk */
} range;

struct mo_pool {
    int threads;
    mo_pool_fn fn;
    void *ctx;
    int account;
    mo_ahead ahead;                      /* the owner's */
    range *ranges;                       /* [threads] */
    _Alignas(64) _Atomic uint64_t phase; /* counts up when ranges are filled */
    /* The same for all, written before the phase. A worker that is late may see parts of two: it
     * fetches what nobody needs. */
    atomic_uintptr_t ahead_at;
    atomic_size_t ahead_unit_bytes;
    atomic_int ahead_units, ahead_streams;
    _Alignas(64) atomic_int done; /* finished chunks of the phase */
    _Alignas(64) atomic_int sleepers;
    atomic_int owner_sleeps, closing, awake;
    pthread_mutex_t lock;
    pthread_cond_t work, finished;
    int started;
    pthread_t *ids;
    struct worker *workers;
};

struct worker {
    mo_pool *pool;
    int thread;
};

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb"); /* yield does nothing on most cores */
#endif
}

/* Take a chunk of one range; -1 when there is none left. */
static int claim(range *r, bool front) {
    uint64_t word = atomic_load(&r->word);
    for (;;) {
        uint32_t next = (uint32_t)(word >> 32), end = (uint32_t)word;
        if (next >= end) return -1;
        uint64_t rest = front ? word + (UINT64_C(1) << 32) : word - 1;
        if (atomic_compare_exchange_weak(&r->word, &word, rest))
            return (int)(front ? next : end - 1);
    }
}

static int claim_any(mo_pool *pool, int thread) {
    int chunk = claim(&pool->ranges[thread], true);
    for (int i = 1; chunk < 0 && i < pool->threads; i++)
        chunk = claim(&pool->ranges[(thread + i) % pool->threads], false);
    return chunk;
}

/* Chunks count as done only when the thread finds no other and has written down how long it was
 * busy: plain fields want an open phase. */
static void take_chunks(mo_pool *pool, int thread) {
    int chunk = claim_any(pool, thread), taken = 0;
    if (chunk >= 0) {
        double start = mo_now_s();
        for (; chunk >= 0; taken++) {
            pool->fn(pool->ctx, chunk, thread);
            chunk = claim_any(pool, thread);
        }
        pool->ranges[thread].busy[pool->account] += mo_now_s() - start;
        atomic_fetch_add(&pool->done, taken);
    }
    if (thread > 0 && atomic_load(&pool->owner_sleeps)) {
        pthread_mutex_lock(&pool->lock);
        pthread_cond_signal(&pool->finished);
        pthread_mutex_unlock(&pool->lock);
    }
}

/* What a waiting thread still fetches. An address, not a pointer: it may lie past the end of what
 * is read, where fetching does nothing. */
typedef struct fetch {
    uintptr_t at;
    size_t unit_bytes, offset;
    int streams, lines; /* left to fetch */
} fetch;

static void publish_ahead(mo_pool *pool) {
    const mo_ahead *a = &pool->ahead;
    atomic_store_explicit(&pool->ahead_at, (uintptr_t)a->at, memory_order_relaxed);
    atomic_store_explicit(&pool->ahead_unit_bytes, a->unit_bytes, memory_order_relaxed);
    atomic_store_explicit(&pool->ahead_units, a->units, memory_order_relaxed);
    atomic_store_explicit(&pool->ahead_streams, a->streams, memory_order_relaxed);
}

/* From the beginning of the thread's share. */
static fetch fetch_of(const mo_pool *pool, int thread) {
    fetch f = {.at = atomic_load_explicit(&pool->ahead_at, memory_order_relaxed)};
    f.unit_bytes = atomic_load_explicit(&pool->ahead_unit_bytes, memory_order_relaxed);
    f.streams = atomic_load_explicit(&pool->ahead_streams, memory_order_relaxed);
    int64_t units = atomic_load_explicit(&pool->ahead_units, memory_order_relaxed);
    if (f.at && f.streams > 0) f.lines = FETCH_BYTES / LINE;
    f.at += (uintptr_t)(units * thread / pool->threads) * f.unit_bytes;
    return f;
}

/* Some lines of every stream; when their units end, those of the next. False: that was all. */
static bool fetch_some(fetch *f) {
    if (f->lines <= 0) return false;
    for (int i = 0; i < FETCH_LINES; i += f->streams) {
        for (int s = 0; s < f->streams; s++)
            __builtin_prefetch((const void *)(f->at + (size_t)s * f->unit_bytes + f->offset), 0, 2);
        f->offset += LINE;
    }
    f->lines -= FETCH_LINES;
    if (f->offset >= f->unit_bytes) {
        f->at += (size_t)f->streams * f->unit_bytes;
        f->offset = 0;
    }
    return true;
}

/* Spin until a phase after `seen` is there: while the owner says that more is to come, and for a
 * while after it has stopped saying so, which it does between two programs. Gives the core to who
 * wants it. */
static bool spin_for_phase(mo_pool *pool, uint64_t seen, int thread) {
    const double start = mo_now_s();
    fetch next = fetch_of(pool, thread);
    double now, awake = start;
    do {
        for (int i = 0; i < 32; i++) {
            if (atomic_load(&pool->phase) != seen) return true;
            if (!fetch_some(&next)) relax();
        }
        now = mo_now_s();
        if (atomic_load(&pool->awake)) awake = now;
        if (now - start > SPIN_S) sched_yield();
    } while (now - awake < SPIN_S && now - start < SPIN_AWAKE_S && !atomic_load(&pool->closing));
    return false;
}

/* The count of sleepers goes up before the last look at the phase, and the owner reads it after
 * counting the phase up: one of the two sees the other. */
static void sleep_for_phase(mo_pool *pool, uint64_t seen) {
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->sleepers, 1);
    while (atomic_load(&pool->phase) == seen && !atomic_load(&pool->closing))
        pthread_cond_wait(&pool->work, &pool->lock);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->lock);
}

static void *worker_main(void *arg) {
    struct worker *w = arg;
    mo_pool *pool = w->pool;
    uint64_t seen = 0;
    while (!atomic_load(&pool->closing)) {
        if (!spin_for_phase(pool, seen, w->thread)) sleep_for_phase(pool, seen);
        seen = atomic_load(&pool->phase);
        take_chunks(pool, w->thread);
    }
    return NULL;
}

static void wait_until_done(mo_pool *pool, int n) {
    double until = mo_now_s() + SPIN_S;
    fetch next = fetch_of(pool, 0);
    do {
        for (int i = 0; i < 32; i++) {
            if (atomic_load(&pool->done) == n) return;
            if (!fetch_some(&next)) relax();
        }
    } while (mo_now_s() < until);
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->owner_sleeps, 1);
    while (atomic_load(&pool->done) != n) pthread_cond_wait(&pool->finished, &pool->lock);
    atomic_store(&pool->owner_sleeps, 0);
    pthread_mutex_unlock(&pool->lock);
}

void mo_pool_run(mo_pool *pool, mo_pool_fn fn, void *ctx, int n) {
    if (pool->threads == 1 || n <= 1) {
        double start = mo_now_s();
        for (int i = 0; i < n; i++) fn(ctx, i, 0);
        pool->ranges[0].busy[pool->account] += mo_now_s() - start;
        return;
    }
    pool->fn = fn;
    pool->ctx = ctx;
    atomic_store_explicit(&pool->done, 0, memory_order_relaxed);
    for (int t = 0; t < pool->threads; t++) {
        uint64_t first = (uint64_t)n * (uint64_t)t / (uint64_t)pool->threads;
        uint64_t end = (uint64_t)n * ((uint64_t)t + 1) / (uint64_t)pool->threads;
        atomic_store_explicit(&pool->ranges[t].word, first << 32 | end, memory_order_release);
    }
    publish_ahead(pool);
    atomic_fetch_add(&pool->phase, 1);
    if (atomic_load(&pool->sleepers) > 0) {
        pthread_mutex_lock(&pool->lock);
        pthread_cond_broadcast(&pool->work);
        pthread_mutex_unlock(&pool->lock);
    }
    take_chunks(pool, 0);
    wait_until_done(pool, n);
}

void mo_pool_ahead(mo_pool *pool, mo_ahead what) {
    pool->ahead = what;
}

void mo_pool_charge(mo_pool *pool, int account) {
    pool->account = account;
}

double mo_pool_busy(const mo_pool *pool, int account) {
    double sum = 0;
    for (int t = 0; t < pool->threads; t++) sum += pool->ranges[t].busy[account];
    return sum;
}

void mo_pool_awake(mo_pool *pool, bool on) {
    atomic_store(&pool->awake, on);
}

int mo_pool_threads(const mo_pool *pool) {
    return pool->threads;
}

static bool pool_start(mo_pool *pool) {
    for (int i = 1; i < pool->threads; i++) {
        pool->workers[i] = (struct worker){pool, i};
        if (pthread_create(&pool->ids[i], NULL, worker_main, &pool->workers[i])) return false;
        pool->started++;
    }
    return true;
}

mo_pool *mo_pool_open(int threads) {
    mo_pool *pool = mo_aligned_calloc(sizeof *pool);
    if (!pool) return NULL;
    pool->threads = threads;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->finished, NULL);
    pool->ranges = mo_aligned_calloc((size_t)threads * sizeof *pool->ranges);
    pool->ids = mo_calloc((size_t)threads, sizeof *pool->ids);
    pool->workers = mo_calloc((size_t)threads, sizeof *pool->workers);
    if (!pool->ranges || !pool->ids || !pool->workers || !pool_start(pool)) {
        mo_pool_close(pool);
        return NULL;
    }
    return pool;
}

void mo_pool_close(mo_pool *pool) {
    if (!pool) return;
    atomic_store(&pool->closing, 1);
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 1; i <= pool->started; i++) pthread_join(pool->ids[i], NULL);
    pthread_cond_destroy(&pool->finished);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
    mo_aligned_free(pool->ranges);
    free(pool->ids);
    free(pool->workers);
    mo_aligned_free(pool);
}
