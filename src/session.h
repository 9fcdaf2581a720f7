/* session.h - one conversation: samples or tokens queue up, frames of events queue up behind. */
#ifndef MO_SESSION_H
#define MO_SESSION_H

#include "text.h"

#include <pthread.h>

enum { MO_WORD_BYTES = 256, MO_PENDING_BYTES = 4 };

/* What one step produced, waiting to be pulled. */
typedef struct mo_record {
    int64_t frame;
    int32_t *tokens; /* [1 + dep_q] */
    int32_t *codes;  /* [user_codebooks] */
    float *pcm;      /* [frame_samples] */
    bool has_audio;
    char *piece; /* text of this frame's token, "" for none */
    char *word;  /* word that ended before this frame, "" for none */
    double word_start_s, word_stop_s;
} mo_record;

/* Pieces of text -> words with times. */
typedef struct mo_words {
    char pending[MO_PENDING_BYTES]; /* byte tokens of an unfinished UTF-8 character */
    int n_pending;
    char *word; /* the open word */
    size_t cap;
    int64_t first_frame, last_frame; /* of its pieces */
} mo_words;

typedef enum mo_input_kind { MO_INPUT_NONE, MO_INPUT_PCM, MO_INPUT_CODES } mo_input_kind;

struct moshi_session {
    moshi_engine *engine;
    int slot;
    moshi_session_options options; /* defaults filled in */
    /* Guards everything below; push and pull run on one thread while step runs on another. */
    pthread_mutex_t lock;
    mo_input_kind input;
    bool ended;      /* moshi_push_end was called */
    bool end_pulled; /* MOSHI_EVENT_END was delivered */
    bool stepping;   /* a frame was taken from the input and its result is not delivered yet */
    bool heard;      /* the encoder has been at the next frame in `pcm` already */
    float *pcm;      /* ring [MOSHI_INPUT_FRAMES * frame_samples] */
    size_t pcm_at, pcm_n;
    int32_t *codes; /* ring [MOSHI_INPUT_FRAMES, user_codebooks + 1 + dep_q] */
    size_t codes_at, codes_n;
    uint64_t laid_for; /* the engine's frame that the next input lies ready for, UINT64_MAX: none */
    mo_record records[MOSHI_OUTPUT_FRAMES];
    size_t record_at, record_n;
    int event_at;   /* which part of records[record_at] pull gives next */
    int64_t ticks;  /* frames stepped */
    int64_t frames; /* frames put out */
    mo_words words;
    size_t piece_cap;
    char *piece_now; /* copy of the event's text, valid until the next call */
    char *word_now;
    float *pcm_now;
    int32_t *tokens_now, *codes_now;
};

/* Is there a frame of input? The caller holds the lock. */
bool mo_session_has_input(const moshi_session *s);
/* The same, and room for its output. Takes the lock. */
bool mo_session_ready(moshi_session *s);
/* Put what a step produced into the queue. tokens [1 + dep_q], codes [user_codebooks], pcm NULL
 * when no audio was made. The caller holds the lock. */
void mo_session_deliver(moshi_session *s, const int32_t *tokens, const int32_t *codes,
                        const float *pcm);
/* Empty queues, as after opening. The caller holds the lock. */
void mo_session_clear(moshi_session *s);
void mo_session_free(moshi_session *s);

#endif
