/* evidence.h - is what a model says by itself speech? Two engines may agree in every number and
 * both be wrong: the code, the configuration or the files they share. Their sound tells. */
#ifndef APP_EVIDENCE_H
#define APP_EVIDENCE_H

#include "analyze.h"
#include "judge.h"
#include "likeness.h"
#include "model.h"
#include "recording.h"

typedef enum evidence_kind {
    EVIDENCE_NONE, /* too little sound to tell */
    EVIDENCE_SPEECH,
    EVIDENCE_BROKEN
} evidence_kind;

/* What is to be said of one answer. */
typedef struct evidence {
    evidence_kind kind;
    judgement codes;   /* its sound against the codes it was decoded from */
    analysis alone;    /* its sound by itself */
    size_t no_numbers; /* samples of it that are NaN or infinite; then nothing else is known */
    size_t frames;     /* of it that are not silent */
    double returns;    /* part of its codes that comes back from a fresh decoding */
    const code_fault *fault; /* NULL, or a displacement of its codes that explains it */
    double fault_part;       /* what comes back when that is undone */
    char words[400];         /* what decided */
} evidence;

/* The instrument: a codec. */
typedef struct witness {
    moshi_codec *codec;
    bool examined;
    control_results controls; /* of a recording inside the program, once examined */
    likeness roundtrip;       /* of that recording to what the codec makes of it */
    bool codec_broken;        /* speech does not survive it */
} witness;

/* The codec of `model` on the CPU. Zero the witness first, witness_close() it in any case. */
int witness_open(witness *w, model_choice *model, int codebooks, app_error *err);
/* Can it be trusted? */
int witness_examine(witness *w, bool quiet, app_error *err);
/* Judge the free run of `r`. */
int witness_hear(evidence *out, const witness *w, const recording *r, app_error *err);
void witness_close(witness *w);

/* NULL when out of memory. */
json_t *evidence_json(const evidence *e);
/* Null before witness_examine(). */
json_t *witness_json(const witness *w);

#endif
