/* aside.h - a thread beside the one that steps: does one piece of work while that goes on. */
#ifndef MO_ASIDE_H
#define MO_ASIDE_H

typedef struct mo_aside mo_aside;

typedef int (*mo_aside_fn)(void *ctx);

/* NULL when a thread cannot be started or memory is short. */
mo_aside *mo_aside_open(void);
/* No work may be under way. */
void mo_aside_close(mo_aside *a);
/* Begin fn(ctx). All that was written before is seen by it. */
void mo_aside_begin(mo_aside *a, mo_aside_fn fn, void *ctx);
/* Wait for what was begun and return what it returned; all that it wrote is seen after. */
int mo_aside_end(mo_aside *a);

#endif
