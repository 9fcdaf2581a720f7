/* foreign.h - files that people really hand over instead of weights, told by how they begin. */
#ifndef MO_FOREIGN_H
#define MO_FOREIGN_H

#include "util.h"

enum { MO_FOREIGN_BYTES = 160 };

/* "a PNG image", with what to do about it where that is clear; "" for what may be weights. `size`
 * of the file may be anything. */
void mo_foreign(const uint8_t *data, size_t size, char out[MO_FOREIGN_BYTES]);

#endif
