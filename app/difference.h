/* difference.h - where and by how much two recordings of the same computation differ. */
#ifndef APP_DIFFERENCE_H
#define APP_DIFFERENCE_H

#include "gain.h"
#include "recording.h"

/* Relative error per matrix product that number formats explain, in the language model and in the
 * codec. */
typedef struct explained {
    double model, codec;
} explained;

/* The first operation whose result differs beyond what the number formats explain. */
typedef struct divergence {
    bool found;
    char tap[64];
    char words[160]; /* "attention of layer 3 of the temporal transformer" */
    int64_t step;    /* of the stage the tap belongs to, from 0 */
    size_t element;  /* the worst one of that row */
    double wanted, got;
    bool one_element;      /* the row as a whole would pass */
    double error, allowed; /* relative error of the row or element; 0 allowed: integers */
} divergence;

typedef struct difference {
    divergence first;
    double codes_equal;  /* share of the encoder's codes, 0..1 */
    double hidden_error; /* largest relative error of a row of the temporal transformer's output */
    double cosine;       /* smallest cosine between rows of text logits */
    double kl_text, kl_audio;     /* mean Kullback-Leibler divergence of the logits, in nats */
    double top1_text, top1_audio; /* share of steps with the same most likely token */
    double pcm_snr_db;            /* decoded audio of the forced run; INFINITY when equal */
    double tokens_equal;          /* free runs: share of equal tokens */
    int64_t parted;               /* free runs: first step with another token, -1: never */
} difference;

/* `b` against `a`; `e` is what their number formats explain, relative to a result or, where `g`
 * tells how large they are, to the terms it was summed of. */
void difference_of(difference *d, const recording *a, const recording *b, explained e,
                   const gains *g);

#endif
