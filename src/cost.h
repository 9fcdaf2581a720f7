/* cost.h - what a recorded program costs, and how to put it in the middle of a conversation that
 * never took place. */
#ifndef MO_COST_H
#define MO_COST_H

#include "ops.h"

/* Add what ops first .. last - 1 cost to `info`. */
void mo_graph_cost(const mo_graph *g, int first, int last, moshi_stage_info *info);
/* Positions, the token grid and the key/value rings of one slot as after `frames` steps, the rings
 * full of noise. MOSHI_ENOMEM. */
int mo_graph_pretend(const mo_graph *g, int slot, int64_t frames);

#endif
