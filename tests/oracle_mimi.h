/* oracle_mimi.h - the Mimi codec written down a second time: whole signals, double precision, plain
 * loops, nothing streamed. What the engine computes 80 ms at a time must come out the same. */
#ifndef MO_TESTS_ORACLE_MIMI_H
#define MO_TESTS_ORACLE_MIMI_H

#include "config.h"
#include "tensors.h"

/* [channels, n], row-major. */
typedef struct signal {
    int channels, n;
    double *x;
} signal;

/* How many frames the stream was cut into per call, which decides what the reference's ring has
 * lost; 0: the exact mask. */
typedef struct oracle_codes {
    signal seanet, transformer, latent;
    int32_t *codes; /* [codebooks, frames] */
    double *margin; /* [codebooks, frames]: second smallest distance minus the smallest */
} oracle_codes;

typedef struct oracle_audio {
    signal quantized, upsampled, transformer, audio;
} oracle_audio;

/* pcm: frames * c->frame_samples samples. */
void oracle_mimi_encode(const mo_mimi_config *c, const tensors *w, const float *pcm, int frames,
                        int frames_per_call, oracle_codes *out);
/* codes: [codebooks, frames], codebooks <= c->codebooks. */
void oracle_mimi_decode(const mo_mimi_config *c, const tensors *w, const int32_t *codes,
                        int codebooks, int frames, int frames_per_call, oracle_audio *out);
/* Decoding in the middle of a stream whose past is not known: the transformer's first position is
 * `pos`. Right as soon as what lies before cannot be seen any more. */
void oracle_mimi_decode_at(const mo_mimi_config *c, const tensors *w, const int32_t *codes,
                           int codebooks, int frames, int frames_per_call, int pos,
                           oracle_audio *out);
void oracle_codes_free(oracle_codes *o);
void oracle_audio_free(oracle_audio *o);

#endif
