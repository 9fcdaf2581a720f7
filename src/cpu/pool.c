/* pool.c - worker threads that share one piece of work at a time.
 *
 * All claims go through one 64-bit word, the ticket: phase << 42 | chunks << 21 | next chunk.
 * Adding 1 claims a chunk of exactly the phase whose number came back, and a claim of an existing
 * chunk keeps its phase open, so fn and ctx can be plain fields: they are written only while no
 * chunk is claimed, and read only by holders of one. */
#include "pool.h"

#include "util.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

enum { FIELD_BITS = 21 };
#define FIELD_MASK ((UINT64_C(1) << FIELD_BITS) - 1)
/* About as long as a wake-up takes: longer spinning burns a core others may need. */
#define SPIN_S 50e-6

struct mo_pool {
    int threads;
    mo_pool_fn fn;
    void *ctx;
    uint64_t phase;
    _Alignas(64) _Atomic uint64_t ticket;
    _Alignas(64) atomic_int done; /* finished chunks of the phase */
    _Alignas(64) atomic_int sleepers;
    atomic_int owner_sleeps, closing;
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

static int chunks_of(uint64_t ticket) {
    return (int)(ticket >> FIELD_BITS & FIELD_MASK);
}
static int next_of(uint64_t ticket) {
    return (int)(ticket & FIELD_MASK);
}
static bool has_work(uint64_t ticket) {
    return next_of(ticket) < chunks_of(ticket);
}

/* Take chunks until none is left. Looks before it adds: `next` must not run away from `chunks`. */
static void take_chunks(mo_pool *pool, int thread) {
    while (has_work(atomic_load(&pool->ticket))) {
        uint64_t mine = atomic_fetch_add(&pool->ticket, 1);
        if (!has_work(mine)) return;
        pool->fn(pool->ctx, next_of(mine), thread);
        if (atomic_fetch_add(&pool->done, 1) + 1 != chunks_of(mine)) continue;
        if (atomic_load(&pool->owner_sleeps)) {
            pthread_mutex_lock(&pool->lock);
            pthread_cond_signal(&pool->finished);
            pthread_mutex_unlock(&pool->lock);
        }
    }
}

/* Spin until there is work, at most SPIN_S. */
static bool spin_for_work(mo_pool *pool) {
    double until = mo_now_s() + SPIN_S;
    do {
        for (int i = 0; i < 32; i++) {
            if (has_work(atomic_load(&pool->ticket))) return true;
            relax();
        }
    } while (mo_now_s() < until && !atomic_load(&pool->closing));
    return false;
}

/* The count of sleepers goes up before the last look at the ticket, and the owner reads it after
 * writing the ticket: one of the two sees the other. */
static void sleep_for_work(mo_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->sleepers, 1);
    while (!has_work(atomic_load(&pool->ticket)) && !atomic_load(&pool->closing))
        pthread_cond_wait(&pool->work, &pool->lock);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->lock);
}

static void *worker_main(void *arg) {
    struct worker *w = arg;
    mo_pool *pool = w->pool;
    while (!atomic_load(&pool->closing)) {
        if (!spin_for_work(pool)) sleep_for_work(pool);
        take_chunks(pool, w->thread);
    }
    return NULL;
}

static void wait_until_done(mo_pool *pool, int n) {
    double until = mo_now_s() + SPIN_S;
    do {
        for (int i = 0; i < 32; i++) {
            if (atomic_load(&pool->done) == n) return;
            relax();
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
        for (int i = 0; i < n; i++) fn(ctx, i, 0);
        return;
    }
    pool->fn = fn;
    pool->ctx = ctx;
    pool->phase++;
    atomic_store(&pool->done, 0);
    atomic_store(&pool->ticket, pool->phase << 2 * FIELD_BITS | (uint64_t)n << FIELD_BITS);
    if (atomic_load(&pool->sleepers) > 0) {
        pthread_mutex_lock(&pool->lock);
        pthread_cond_broadcast(&pool->work);
        pthread_mutex_unlock(&pool->lock);
    }
    take_chunks(pool, 0);
    wait_until_done(pool, n);
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
    pool->ids = mo_calloc((size_t)threads, sizeof *pool->ids);
    pool->workers = mo_calloc((size_t)threads, sizeof *pool->workers);
    if (!pool->ids || !pool->workers || !pool_start(pool)) {
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
    free(pool->ids);
    free(pool->workers);
    mo_aligned_free(pool);
}
