/* exec.h - recorded ops on the CPU: how each splits into units of work, and how to do some units.
 */
#ifndef MO_CPU_EXEC_H
#define MO_CPU_EXEC_H

#include "digits.h"
#include "pieces.h"
#include "pool.h"
#include "qkernels.h"

/* What every op of one run shares. */
typedef struct mo_exec {
    const mo_kernels *kernels;
    const mo_qkernels *qkernels;
    const mo_pieces_kernels *pieces;
    const mo_digits_kernels *digits;
    const int *active; /* slots that take part */
    int n_active;
    float *scratch; /* scratch_floats per thread */
    size_t scratch_floats;
    uint8_t *records;           /* quantised or split activations of the op at hand */
    const struct mo_plan *gate; /* NORM, ACT or ACT_MUL that a plan with `prepare` does, too */
    const struct mo_plan *rope; /* the ROPE_KV that an ATTEND does, too; NULL: none */
    bool before;                /* an activation was left to the op at hand, see mo_plan_join */
} mo_exec;

/* One recorded op, or the quantising or splitting of its activations. */
typedef struct mo_plan {
    mo_op op;
    bool prepare;
    bool gated;             /* prepare: the plan before it makes its inputs */
    mo_linear_job linear;   /* LINEAR: everything but `active` */
    mo_qshape shape;        /* LINEAR: form NONE for weights that are floats */
    mo_pieces_shape split;  /* LINEAR: pieces 0 for weights that are not split */
    bool roped;             /* ATTEND: the plan before it is the ROPE_KV of the same heads */
    bool window;            /* inputs are split block by block of rows, each for itself */
    bool joined;            /* ACT: may be left to the next op */
    bool alone;             /* a thread can do it, and what comes next, for one slot */
    mo_op_act act;          /* LINEAR: that activation */
    mo_digits_shape digits; /* LINEAR: digits 0 for weights that are not in digits */
    double codebook_radius; /* RVQ_PICK: largest norm of an entry */
} mo_plan;

void mo_plan_init(mo_plan *plan, const mo_op *op);
/* Floats of scratch one thread needs. */
size_t mo_plan_scratch(const mo_plan *plan);
/* See whether an activation may be left to the linear op that follows it: what is activated is then
 * still in the core's cache when it is split, and of what only passes most is never written. */
void mo_plan_join(mo_plan *act, mo_plan *linear, const mo_op_act *op);
/* Must a plan with `prepare` run before this one? */
bool mo_plan_prepares(const mo_plan *plan);
/* Can a plan with `prepare` do what `gate` does, block by block or row by row? Then they go from
 * one to the other in the first-level cache, and threads wait for each other once less. */
bool mo_plan_can_gate(const mo_plan *plan, const mo_plan *gate);
/* Shall it, if it can, with the slots that take part? A norm wants whole rows, of which there are
 * enough for all threads unless there is just one. */
bool mo_plan_gates(const mo_plan *plan, const mo_plan *gate, const mo_exec *ex);
/* Can an ATTEND do what `rope` does, head by head? Then threads wait for each other once less, and
 * a head's queries stay in the core's cache. */
bool mo_plan_can_rope(const mo_plan *attend, const mo_plan *rope);
/* Bytes of quantised or split activations of all slots; false: more than there can be. */
bool mo_plan_record_bytes(const mo_plan *plan, int slots, size_t *bytes);
/* Units are independent of each other; any split of 0 .. units-1 gives the same bits. */
int mo_plan_units(const mo_plan *plan, const mo_exec *ex);
/* How many units are best done in one go, while there are many left. */
int mo_plan_grain(const mo_plan *plan, const mo_exec *ex);
/* Rough nanoseconds the whole op takes on one core. */
double mo_plan_cost(const mo_plan *plan, const mo_exec *ex);
/* The weights of a product of one row, or of few in digits: what it waits for. */
mo_ahead mo_plan_ahead(const mo_plan *plan);
/* Does it multiply matrices or attend, and not just make ready for it? */
bool mo_plan_is_product(const mo_plan *plan);
/* Has every slot so many rows of it that what a slot works in fills a core's cache, and do threads
 * share nothing for it? Or is it of few cycles, and the plan after it such a one? */
bool mo_plan_is_alone(const mo_plan *plan, const mo_plan *next);
void mo_plan_run(const mo_plan *plan, const mo_exec *ex, int unit0, int unit1, int thread);

#endif
