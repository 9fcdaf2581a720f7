/* pool.h - worker threads that share one piece of work at a time.
 *
 * The owner publishes a phase of n chunks and takes chunks itself. Each thread goes through a range
 * of neighbours and then helps others with theirs: a worker that is late, asleep or without a core
 * holds nobody up, but for the chunk it is at. Waiting is spinning for a short while, then
 * sleeping.
 */
#ifndef MO_CPU_POOL_H
#define MO_CPU_POOL_H

#include <stdbool.h>
#include <stddef.h>

typedef struct mo_pool mo_pool;

/* What threads will read soon: units one after the other, of which each thread goes through an
 * equal share, `streams` of them side by side. `at` NULL: nothing. */
typedef struct mo_ahead {
    const void *at;
    size_t unit_bytes;
    int units, streams;
} mo_ahead;

/* Do chunk number `chunk`; `thread` is 0 .. threads-1 and tells scratch memory apart. */
typedef void (*mo_pool_fn)(void *ctx, int chunk, int thread);

enum { MO_POOL_MAX_CHUNKS = 1 << 20, MO_POOL_ACCOUNTS = 2 };

/* NULL when threads cannot be started or memory is short. threads >= 1, the caller included. */
mo_pool *mo_pool_open(int threads);
void mo_pool_close(mo_pool *pool);
int mo_pool_threads(const mo_pool *pool);
/* Run fn for chunks 0 .. n-1 (n <= MO_POOL_MAX_CHUNKS) and wait for all of them. Everything written
 * before is seen by fn, everything fn wrote is seen after. Only one thread may call this. */
void mo_pool_run(mo_pool *pool, mo_pool_fn fn, void *ctx, int n);
/* What threads may fetch into their caches while they wait for each other in the following runs and
 * in what the owner does alone between them. */
void mo_pool_ahead(mo_pool *pool, mo_ahead what);
/* What following runs are charged to, 0 .. MO_POOL_ACCOUNTS-1; and the seconds that all threads
 * together have spent in fn on it so far: what is missing to threads times the time that has passed
 * is waiting. */
void mo_pool_charge(mo_pool *pool, int account);
double mo_pool_busy(const mo_pool *pool, int account);
/* While `on`, workers without work spin longer before they sleep: more phases follow soon. */
void mo_pool_awake(mo_pool *pool, bool on);

#endif
