/* memory.h - memory of the CPU backend. What is read in every frame lies in pages of 2 MB, small
 * things one after the other in the order in which they were asked for: the processor looks up
 * fewer addresses, and what it fetches ahead of the end of one matrix is the beginning of the next.
 */
#ifndef MO_CPU_MEMORY_H
#define MO_CPU_MEMORY_H

#include "backend.h"

typedef struct mo_memory mo_memory;

/* `large_alone`: what is too large to share pages has large ones, too. Not for caches of keys and
 * values, of which a conversation fills a little at a time in all places: every page would be taken
 * with the first frame, 4.1 GB by 16 conversations that need 1.0 for a while. NULL: out of memory.
 */
mo_memory *mo_memory_open(bool large_alone);
void mo_memory_close(mo_memory *m);

/* Zeroed, 64-byte aligned; NULL when out of memory. From any thread. */
mo_buf *mo_memory_get(mo_memory *m, size_t bytes);
void mo_memory_put(mo_memory *m, mo_buf *buf);

#endif
