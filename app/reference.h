/* reference.h - a recording beside what it should be: does it say the same, and if it is damaged,
 * what has to be undone to make them alike?
 *
 * The recording is laid on the reference first (delay, level, polarity), then they are compared:
 * SI-SDR sample by sample, STOI and ESTOI by what can be understood, mel-cepstral distance by
 * colour. Everything that can be undone is undone on trial. */
#ifndef APP_REFERENCE_H
#define APP_REFERENCE_H

#include "finding.h"
#include "likeness.h"
#include "splice.h"

enum {
    REFERENCE_TRIALS = 4, /* those whose spectra come nearest */
    REFERENCE_PIECES = 256
};
/* Of longer sounds this much is compared. */
#define REFERENCE_LONGEST_S 60.0
/* From this ESTOI on two sounds say the same; below REFERENCE_TRACE nothing in common is proved. */
#define REFERENCE_SAME  0.6
#define REFERENCE_TRACE 0.33

/* Something that was undone. */
typedef struct reference_trial {
    finding_kind kind; /* what would have happened */
    char what[80];     /* what was undone, in words */
    double speed;      /* of too-slow and too-fast: how many times as fast it was played; else 1 */
    alignment laid;
    likeness alike;
} reference_trial;

/* A piece of the recording, and where in the reference it comes from. */
typedef struct reference_piece {
    double at_s, from_s;
    double match; /* correlation there, -1..1 */
} reference_piece;

typedef enum reference_verdict {
    REFERENCE_SAYS_THE_SAME,
    REFERENCE_DAMAGED, /* the same words, damaged */
    REFERENCE_DIFFERENT,
    REFERENCE_OPEN /* too little speech in common to tell */
} reference_verdict;

typedef struct reference_facts {
    bool measured; /* false: there was no reference, and nothing below counts */
    reference_verdict verdict;
    double seconds; /* of the reference that were used */
    int rate_hz;    /* they were compared at: the lower one of both, 24000 at most */
    alignment laid; /* the recording as it is */
    likeness alike; /* likewise */
    int n_trials;   /* 0 when it says the same as it is */
    reference_trial trials[REFERENCE_TRIALS]; /* best first */
    /* 80 ms pieces of the recording that sound; none when it says the same as it is or undone. */
    int n_pieces;
    reference_piece pieces[REFERENCE_PIECES];
    double found;    /* share of them that occurs in the reference */
    double in_order; /* of those, how many continue the one before */
    double ahead;    /* of the others, how many come from farther on */
} reference_facts;

/* `raw` are n samples as they came from a file (numbers that are not finite included), `seams` what
 * splice_measure() said about them. */
int reference_measure(reference_facts *out, const float *raw, size_t n, int rate_hz,
                      const sound *reference, const splice_facts *seams, app_error *err);

/* "the same", "the same words, damaged", "something else", "too little to compare" */
const char *reference_verdict_name(reference_verdict verdict);

#endif
