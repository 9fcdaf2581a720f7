/* settle.h - how many threads are worth having: once they read as fast as memory delivers, more of
 * them only wait for each other. */
#ifndef MO_CPU_SETTLE_H
#define MO_CPU_SETTLE_H

/* Do the work with so many threads; returns the seconds it took, or 0 if it cannot be done. */
typedef double (*mo_try_fn)(void *ctx, int threads);

/* The fewest of at most `most` threads that take hardly longer than any other number tried. What
 * fewer could only make slower is not tried. `most` if that cannot be. */
int mo_settle(int most, mo_try_fn attempt, void *ctx);

#endif
