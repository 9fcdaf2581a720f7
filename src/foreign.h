/* foreign.h - files that people really hand over instead of a model's, told by how they
 * begin and by the names of their tensors. */
#ifndef MO_FOREIGN_H
#define MO_FOREIGN_H

#include "checkpoint.h"

enum { MO_FOREIGN_BYTES = 200 };

/* "a PNG image", with what to do about it where that is clear; "" for what may be weights. True
 * when it holds a model in another program's format, or stands for one. */
bool mo_foreign(const uint8_t *data, size_t size, char out[MO_FOREIGN_BYTES]);
/* "this looks like ..." from the names in a checkpoint; "" when nothing is recognised. */
void mo_foreign_checkpoint(const mo_checkpoint *ck, char out[MO_FOREIGN_BYTES]);
/* Refuse a file that cannot be `wanted` ("a SentencePiece model"), because it is plainly something
 * else; 0 when it may be. */
int mo_foreign_refuse(const mo_file *file, const char *wanted, moshi_error *err);

#endif
