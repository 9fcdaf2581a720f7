/* mimi.h - the Mimi codec: 24 kHz samples <-> tokens at 12.5 frames a second.
 *
 * Encoder: SEANet convolutions (hop 960) -> transformer at 25 Hz -> downsampling to 12.5 Hz ->
 * split residual vector quantiser. Decoder: the same backwards. All sizes come from the
 * configuration; the figures here are the published codec's. */
#ifndef MO_MIMI_H
#define MO_MIMI_H

#include "layers.h"

/* Convolutions of one sampling rate: residual blocks and the change of rate. */
typedef struct mo_mimi_level {
    struct {
        mo_conv wide, narrow; /* k = residual_kernel, k = 1 */
        int index;            /* module number, for names */
    } res[MO_MAX_RESIDUAL_LAYERS];
    mo_conv resample; /* strided (encoder) or transposed (decoder) */
    int index;
    int stride;
    int channels; /* of the residual blocks */
} mo_mimi_level;

/* Everything one direction needs. */
typedef struct mo_mimi_half {
    mo_conv first, last;
    int last_index;
    mo_mimi_level levels[MO_MAX_RATIOS];
    mo_layer *layers; /* [cfg.layers] */
    const mo_weight *rope_freq;
    const mo_weight *rate;    /* downsample (strips) or upsample (rows) weight */
    const mo_weight *proj[2]; /* input or output projection: semantic, acoustic */
} mo_mimi_half;

typedef struct mo_mimi {
    mo_mimi_config cfg;
    int codebooks; /* loaded: the first so many */
    bool has_encoder, has_decoder;
    mo_mimi_half enc, dec;
    const mo_weight *entries[MO_MAX_CODEBOOKS];
    mo_codebook search[MO_MAX_CODEBOOKS]; /* the same entries, and what finding one takes */
} mo_mimi;

/* Load `codebooks` codebooks and the directions asked for. */
int mo_mimi_load(mo_mimi *m, const mo_mimi_config *cfg, int codebooks, bool encoder, bool decoder,
                 mo_loader *ld);
void mo_mimi_free(mo_mimi *m);

enum { MO_MIMI_MAX_FRAMES = 256 /* of a run */ };

/* How the recorded program runs. */
typedef struct mo_mimi_run {
    int frames;      /* per run of the program: of all its calls */
    int calls;       /* 0 or 1, or how many calls of a stream a run does: same bits, but faster */
    int codebooks;   /* to produce or read */
    bool exact_mask; /* else the reference's ring, see MODEL.md */
} mo_mimi_run;

/* Record encoding: the caller writes samples to *audio [frames * frame_samples, 1] and finds codes
 * in `codes` (i32 [frames, codebooks]). */
void mo_mimi_record_encoder(mo_graph *g, const mo_mimi *m, const mo_mimi_run *run, mo_view *audio,
                            mo_view codes);
/* Record decoding of `codes` into *audio. */
void mo_mimi_record_decoder(mo_graph *g, const mo_mimi *m, const mo_mimi_run *run, mo_view codes,
                            mo_view *audio);

#endif
