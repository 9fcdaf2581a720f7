/* quant_plain.c - number formats for what every processor of the architecture has: SSE2, NEON or
 * nothing. */
#define LEVEL "plain"
#define LANES 4
#include "quant_body.h"

const mo_quant_set *mo_quant_set_plain(void) {
    return &this_set;
}
