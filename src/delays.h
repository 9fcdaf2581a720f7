/* delays.h - the token grid.
 *
 * Rows are channels (0 text, 1..dep_q the model's voice, the rest the user's), columns are steps.
 * Channel c runs delays[c] columns behind the text, so that a frame's acoustic codebooks are chosen
 * after its semantic one is known. At step o:
 *
 *   read    the user's code of channel c goes to column o + delays[c];
 *           the model sees column o, or the channel's initial token while o <= delays[c]
 *   write   the sampled tokens go to column o + 1, whatever their channel's delay
 *   output  from step max_delay on: channel c of column o + 1 - max_delay + delays[c]
 *
 * The ring keeps max_delay + 2 columns. Getting a delay wrong by one frame decodes the first
 * codebook of one frame with the others of its neighbour: speech-like sound without words. */
#ifndef MO_DELAYS_H
#define MO_DELAYS_H

#include "ops.h"

/* A grid as per-slot state. `cfg` must live as long as the program. */
mo_grid mo_grid_new(mo_graph *g, const mo_lm_config *cfg);

#endif
