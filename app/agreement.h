/* agreement.h - does a sound still say what it was decoded from? It is encoded again and its codes
 * are compared with those that made it.
 *
 * The codec's first codebook follows what is said. Of intact speech a good part of its codes comes
 * back, about as many as from a fresh decoding; of speech that was reversed, shuffled, cut or
 * played at another rate, or whose codebooks were displaced against each other, few do or none. The
 * other codebooks describe details, which change with every decoding; they are measured too, but
 * decide nothing. */
#ifndef APP_AGREEMENT_H
#define APP_AGREEMENT_H

#include "moshi.h"
#include "sound.h"

/* Codes [frames, codebooks] of a codec, and nothing else. */
typedef struct code_rows {
    int32_t *codes;
    size_t frames, codebooks;
} code_rows;

enum {
    AGREEMENT_CODEBOOKS = 64,
    AGREEMENT_FEWEST = 16 /* frames that are not silent; of fewer nothing can be said */
};
/* Of the first codebook's codes at least this part must come back from a fresh decoding. Intact
 * speech: 0.2 to 0.6, displaced codebooks: 0.00 to 0.02 (demo codec). */
#define AGREEMENT_LEAST 0.10
/* And from the sound in question at least this part of what comes back from a fresh decoding. */
#define AGREEMENT_KEPT 0.5

/* Codes, and what comes back of them when nothing happens to their sound. */
typedef struct code_speech {
    code_rows codes;
    sound decoded;
    double returns;                   /* part of the first codebook's codes that comes back */
    double part[AGREEMENT_CODEBOOKS]; /* of each codebook's */
    size_t frames;                    /* that are not silent */
} code_speech;

typedef struct agreement {
    size_t frames;                    /* compared: those not silent before or after */
    double part[AGREEMENT_CODEBOOKS]; /* of them, for each codebook: how many codes came back */
    size_t codebooks;
    double wanted; /* of the first */
    bool judged;   /* there were AGREEMENT_FEWEST frames or more */
    bool holds;    /* judged, and the first codebook reaches `wanted` */
} agreement;

/* Something that may have happened to codes on their way into a sound. */
typedef struct code_fault {
    const char *name; /* "acoustic codebooks one frame late" */
    int delay;        /* frames by which codebooks 1.. come too late */
    int rotate;       /* places by which codebooks 1.. are turned */
    bool rotate_all;  /* codebook 0 with them */
    bool backwards;   /* last one first */
} code_fault;

/* What is known to happen; the numbers undo it. */
enum { CODE_SUSPECTS = 10 };
extern const code_fault CODE_SUSPECT[CODE_SUSPECTS];

/* Encode a sound as a new stream; its rate must be the codec's. The last frame is filled up. */
int code_rows_encode(code_rows *out, moshi_codec *codec, const sound *in, app_error *err);
/* Decode as a new stream. */
int code_rows_decode(sound *out, moshi_codec *codec, const code_rows *in, app_error *err);
/* The codes as they are after `fault`; frames that a delay leaves without codes repeat the
 * outermost ones. */
int code_rows_displace(code_rows *out, const code_rows *in, const code_fault *fault,
                       app_error *err);
void code_rows_free(code_rows *rows);

/* Takes a copy of `codes`. */
int code_speech_make(code_speech *out, moshi_codec *codec, const code_rows *codes, app_error *err);
void code_speech_free(code_speech *speech);

int agreement_measure(agreement *out, moshi_codec *codec, const code_speech *speech,
                      const sound *in, app_error *err);
/* For codes of which nothing returns: which displacement, undone, makes them return. *found is NULL
 * when none does; *part is what the first codebook then reaches. */
int agreement_explain(const code_fault **found, double *part, moshi_codec *codec,
                      const code_rows *codes, app_error *err);

#endif
