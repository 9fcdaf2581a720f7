/* recode.h - a recording through a codec: what comes back when it is encoded, decoded and encoded
 * again; and, where the codes are known that it should have been decoded from, what has to happen
 * to them to give this sound.
 *
 * A decoder is exact: of all that may have happened to the codes, the one thing that did gives the
 * recording sample by sample, and everything else gives another sound. */
#ifndef APP_RECODE_H
#define APP_RECODE_H

#include "agreement.h"
#include "finding.h"
#include "likeness.h"

enum { RECODE_TRIALS = 20 };
/* Of longer recordings and codes this much is looked at. */
#define RECODE_LONGEST_S 15.0
/* From this SI-SDR on a sound is the sound of codes, unless others come nearer; from RECODE_VERY_DB
 * on nothing else is tried. */
#define RECODE_EXACT_DB 10.0
#define RECODE_VERY_DB  30.0

/* Something that may have happened to the codes. */
typedef struct recode_trial {
    char what[80];     /* "as they are", "acoustic codebooks one frame late", "2 codebooks" */
    finding_kind kind; /* FINDING_KINDS: nothing happened */
    int codebooks;     /* decoded with so many */
    alignment laid;    /* the recording on the sound of the codes after that */
    likeness alike;
} recode_trial;

typedef struct recode_facts {
    bool measured; /* false: there was no codec, and nothing below counts */
    int codebooks;
    size_t frames; /* of the recording that sound */
    /* Part of each codebook's codes that comes back from the recording's own: encoded, decoded,
     * encoded. It describes and decides nothing: displaced codes come back as often as others. */
    double returns[AGREEMENT_CODEBOOKS];
    likeness roundtrip; /* the recording, encoded and decoded, beside itself */
    /* With codes. */
    bool from_codes;
    size_t given_frames;                  /* of the codes that sound */
    double possible[AGREEMENT_CODEBOOKS]; /* as `returns`, of the given codes */
    agreement codes;                      /* the given ones and those of the recording */
    bool as_long; /* the recording is at the codec's rate and lasts as long as the codes */
    int n_trials;
    recode_trial trials[RECODE_TRIALS]; /* best first */
    /* The codes themselves are displaced: what it is and what the first codebook reaches without
     * it. NULL: they are not. */
    const code_fault *displaced;
    double without;
} recode_facts;

/* Opens the codec with so many codebooks, 0: all of them. */
typedef struct codec_opener {
    int (*open)(moshi_codec **out, int codebooks, const void *user, app_error *err);
    const void *user;
} codec_opener;

/* `codes` may be NULL. */
int recode_measure(recode_facts *out, const codec_opener *opener, const sound *heard,
                   const code_rows *codes, app_error *err);

/* Is the sound of this trial anything like the recording? Otherwise it is the nearest of strangers.
 */
bool recode_explains(const recode_trial *t);

/* The trial in which nothing happened to the codes. */
const recode_trial *recode_as_is(const recode_facts *facts);

/* Codes of a file: `codes` [codebooks, frames], as codec encode writes them, or what the model said
 * in the file of reply --tokens. */
int recode_load(code_rows *out, const char *path, app_error *err);

#endif
