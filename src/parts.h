/* parts.h - which part of a model a tensor belongs to, whatever spelling its file has. */
#ifndef MO_PARTS_H
#define MO_PARTS_H

#include "util.h"

typedef enum mo_part {
    MO_PART_TEMPORAL,
    MO_PART_DEPTH,
    MO_PART_EMBEDDINGS,
    MO_PART_TEXT_HEAD,
    MO_PART_AUDIO_HEADS,
    MO_PART_CONDITIONS,
    MO_PART_ENCODER,
    MO_PART_DECODER,
    MO_PART_QUANTISER,
    MO_PART_OTHER,
    MO_PART_COUNT
} mo_part;

/* "temporal transformer"; static. */
const char *mo_part_name(mo_part part);
/* What one would hear if it were all zeros; "" when nobody has tried. */
const char *mo_part_if_zero(mo_part part);
/* The part of a tensor of a language model's file, or of a codec's. */
mo_part mo_part_of(const char *tensor, bool codec);

#endif
