/* made.h - models of a published size without a download: the files that a preset describes, made
 * up in memory. What a frame costs does not depend on what the numbers are. */
#ifndef MO_MADE_H
#define MO_MADE_H

#include "files.h"

/* The preset `name` as if its files had been opened, its matrices converted to `type` (NULL: bf16)
 * as moshi_convert() would, the codec as published. The tensors share a few stretches of random
 * numbers, so that it takes about as much memory as the largest of them; dry: none. MOSHI_EINVAL
 * for names of no preset and no type. The codec alone is a preset, too. */
int mo_made_files_open(mo_model_files *out, const char *name, const char *type, int want, bool dry,
                       moshi_error *err);

#endif
