/* recode.h - a recording through a codec: what comes back when it is encoded, decoded and encoded
 * again, and, where the codes it should have been decoded from are known, what has to happen to
 * them to give this sound. */
#ifndef APP_RECODE_H
#define APP_RECODE_H

#include "agreement.h"
#include "reference.h"

enum { RECODE_TRIALS = 24 };

/* Something that may have happened to the codes. */
typedef struct recode_trial {
    char what[80];     /* "acoustic codebooks one frame late", "as they are" */
    finding_kind kind; /* FINDING_KINDS: nothing */
    int delay, rotate; /* as in code_fault */
    bool rotate_all;
    int codebooks;  /* decoded with so many */
    likeness alike; /* the sound of the codes after that, and the recording */
    double delay_s; /* between them */
} recode_trial;

typedef struct recode_facts {
    bool measured; /* false: there was no codec, and nothing below counts */
    int codebooks;
    size_t frames; /* of the recording that sound */
    /* Part of each codebook's codes that comes back from the recording's own sound: encoded,
     * decoded, encoded. Only described: displaced codes come back as often as others. */
    double returns[AGREEMENT_CODEBOOKS];
    likeness roundtrip; /* the recording, encoded and decoded, beside itself */
    /* With codes: */
    bool from_codes;
    int given_codebooks;
    size_t given_frames;
    /* Part of each given codebook's codes that comes back from the recording, laid on their sound
     * frame by frame; and from their own decoding. */
    double agreement[AGREEMENT_CODEBOOKS], possible[AGREEMENT_CODEBOOKS];
    int n_trials;
    recode_trial trials[RECODE_TRIALS]; /* best first */
} recode_facts;

#endif
