#include "parts.h"

typedef struct part_row {
    const char *name;
    const char *tensors; /* globs, tried in the order of the rows */
    const char *if_zero;
} part_row;

static const part_row rows[MO_PART_COUNT] = {
    [MO_PART_TEMPORAL] = {"temporal transformer", "transformer.* out_norm.*", ""},
    [MO_PART_DEPTH] = {"depth transformer",
                       "depformer.layers.* depformer_in.* depformer_norms.* "
                       "depformer.*.transformer.* depformer.*.linear_in.*",
                       ""},
    [MO_PART_EMBEDDINGS] = {"embeddings",
                            "text_emb.* emb.* audio_embs.* depformer_emb.* depformer_text_emb.* "
                            "depformer.*.emb.*",
                            ""},
    [MO_PART_TEXT_HEAD] = {"text head", "text_linear.* extra_heads.*", ""},
    [MO_PART_AUDIO_HEADS] = {"audio heads", "linears.* depformer.*.linear_out.*", ""},
    [MO_PART_CONDITIONS] = {"conditions", "condition_provider.*", ""},
    [MO_PART_ENCODER] = {"Mimi's encoder", "encoder.* encoder_transformer.* downsample.*",
                         "the model would hear one and the same sound whatever is said, and be "
                         "silent or make a noise like a helicopter"},
    [MO_PART_DECODER] = {"Mimi's decoder", "decoder.* decoder_transformer.* upsample.*",
                         "every answer would be silent"},
    [MO_PART_QUANTISER] = {"Mimi's quantiser", "quantizer.*",
                           "every sound would become the same code"},
    [MO_PART_OTHER] = {"other", "*", ""},
};

const char *mo_part_name(mo_part part) {
    return rows[part].name;
}

const char *mo_part_if_zero(mo_part part) {
    return rows[part].if_zero;
}

mo_part mo_part_of(const char *tensor, bool codec) {
    int part = codec ? MO_PART_ENCODER : MO_PART_TEMPORAL;
    int last = codec ? MO_PART_QUANTISER : MO_PART_CONDITIONS;
    while (part <= last && !mo_glob(rows[part].tensors, tensor)) part++;
    return part <= last ? (mo_part)part : MO_PART_OTHER;
}
