/* speed.h - what the machine can do at most: the limits that the kernels are held against. */
#ifndef MO_CPU_SPEED_H
#define MO_CPU_SPEED_H

#include "pool.h"

#include "moshi.h"

/* On all threads of the pool, the best of as many tries as fit into `seconds`; `bytes` (2^26 at
 * least) of memory are read over and over. MOSHI_ENOMEM. */
int mo_speed_measure(mo_pool *pool, size_t bytes, double seconds, moshi_device_speed *out);

#endif
