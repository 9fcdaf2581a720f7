/* finding.h - what an examination found wrong, most likely first. */
#ifndef APP_FINDING_H
#define APP_FINDING_H

#include "app.h"

enum { FINDINGS_MAX = 12 };

/* From this confidence on a finding is a fault: the sound fails. */
#define FINDING_FAULT 0.5

/* Everything that can be found; id, and what happened in words. */
#define FINDING_LIST(X)                                                                        \
    X(SILENT, "silent", "there is no sound in it")                                             \
    X(NOT_SPEECH, "not-speech", "sound, but not speech")                                       \
    X(CLIPPED, "clipped", "clipped: too loud for its format")                                  \
    X(DC_OFFSET, "dc-offset", "a constant offset under the sound")                             \
    X(WRAPPED, "wrapped", "peaks wrapped around: integers overflowed")                         \
    X(NOT_NUMBERS, "not-numbers", "samples that are no numbers")                               \
    X(INT16_AS_FLOAT, "int16-as-float", "int16 read as float")                                 \
    X(FLOAT_AS_INT16, "float-as-int16", "float read as int16")                                 \
    X(SWAPPED_BYTES, "swapped-bytes", "swapped bytes: wrong endianness")                       \
    X(ODD_BYTE, "odd-byte", "read from one byte too early or too late")                        \
    X(SIGN_FLIPPED, "sign-flipped", "signed samples read as unsigned, or the other way round") \
    X(ULAW_AS_LINEAR, "ulaw-as-linear", "mu-law read as linear samples")                       \
    X(ALAW_AS_LINEAR, "alaw-as-linear", "A-law read as linear samples")                        \
    X(LINEAR_AS_ULAW, "linear-as-ulaw", "linear samples read as mu-law")                       \
    X(LAWS_EXCHANGED, "laws-exchanged", "A-law decoded as mu-law, or the other way round")     \
    X(PAIRS_EXCHANGED, "pairs-exchanged", "every two samples changed places")                  \
    X(INTERLEAVED, "interleaved", "interleaved stereo read as mono")                           \
    X(CHANNELS_CANCEL, "channels-cancel", "channels of opposite polarity cancel each other")   \
    X(REVERSED, "reversed", "the whole sound runs backwards")                                  \
    X(FRAMES_REVERSED, "frames-reversed", "samples run backwards inside each frame")           \
    X(FRAMES_SHUFFLED, "frames-shuffled", "frames in the wrong order")                         \
    X(FRAMES_SWAPPED, "frames-swapped", "neighbouring frames changed places")                  \
    X(ORDER_REVERSED, "order-reversed", "frames are sound but come in reverse order")          \
    X(FRAMES_DROPPED, "frames-dropped", "pieces are missing")                                  \
    X(FRAMES_REPEATED, "frames-repeated", "pieces are repeated")                               \
    X(GAPS, "gaps", "silence cut into the sound")                                              \
    X(GLITCHES, "glitches", "jumps at the edges of blocks")                                    \
    X(TOO_SLOW, "too-slow", "played too slowly: sample rate taken too low")                    \
    X(TOO_FAST, "too-fast", "played too fast: sample rate taken too high")                     \
    X(SCRAMBLED, "scrambled", "voices or frames are mixed up")                                 \
    X(CUT_OFF, "cut-off", "its beginning or its end is missing")                               \
    X(UNLIKE_REFERENCE, "unlike-reference", "the words of the reference, damaged")             \
    X(OTHER_WORDS, "other-words", "something else than the reference")                         \
    X(CODES_DELAYED, "codes-delayed", "acoustic codebooks come too late or too early")         \
    X(CODES_REORDERED, "codes-reordered", "codebooks in another order")                        \
    X(CODES_DIFFER, "codes-differ", "the same words, but decoded from other codes")            \
    X(CODEBOOKS_MISSING, "codebooks-missing", "decoded with fewer codebooks than there are")   \
    X(UNLIKE_CODES, "unlike-codes", "it does not say what its codes say")

typedef enum finding_kind {
#define FINDING_ENUM(kind, id, name) FINDING_##kind,
    FINDING_LIST(FINDING_ENUM)
#undef FINDING_ENUM
        FINDING_KINDS
} finding_kind;

typedef struct finding {
    finding_kind kind;
    double confidence;   /* 0..1 that this is what happened */
    const char *measure; /* what was measured, with its unit */
    double measured;
    double threshold;   /* where the confidence is FINDING_FAULT */
    char evidence[240]; /* in words, with the number that names the fault: a factor, a frame length
                         */
} finding;

/* Sorted by confidence; the least likely fall off the end. A zeroed struct is empty. */
typedef struct findings {
    finding list[FINDINGS_MAX];
    int n;
} findings;

const char *finding_id(finding_kind kind);
const char *finding_name(finding_kind kind);

/* Confidence that grows from 0 to 1 as `measured` passes `threshold`: 0.5 at the threshold, 0.88
 * one `width` above it. A negative width is for measures that must not be small. */
double finding_confidence(double measured, double threshold, double width);
/* Add a finding and return it, so that the caller can fill in `evidence`; the returned place is
 * valid until the next call. */
finding *findings_add(findings *f, finding_kind kind, double confidence, const char *measure,
                      double measured, double threshold);
/* Take a kind out of the list. */
void findings_remove(findings *f, finding_kind kind);
/* Confidence of a kind, 0 when it is not in the list. */
double findings_confidence(const findings *f, finding_kind kind);

#endif
