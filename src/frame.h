/* frame.h - the engine and its main path: gather ready slots, run the programs, scatter results. */
#ifndef MO_FRAME_H
#define MO_FRAME_H

#include "aside.h"
#include "model.h"
#include "session.h"

/* How long a stage has taken so far. */
typedef struct mo_stage_time {
    uint64_t runs;
    double seconds;
    mo_busy busy; /* by then, or in this time */
} mo_stage_time;

/* When a run begins. */
static inline mo_stage_time mo_stage_time_now(const mo_backend *be) {
    mo_stage_time now = {.seconds = mo_now_s()};
    if (be->ops->busy) now.busy = be->ops->busy(be);
    return now;
}

/* The run that began at `start` is over. */
static inline void mo_stage_time_add(mo_stage_time *t, const mo_backend *be,
                                     const mo_stage_time *start) {
    mo_stage_time now = mo_stage_time_now(be);
    t->runs++;
    t->seconds += now.seconds - start->seconds;
    t->busy.all += now.busy.all - start->busy.all;
    t->busy.products += now.busy.products - start->busy.products;
}

/* What of it moshi_stage_info tells. */
static inline moshi_stage_info mo_stage_time_info(const mo_stage_time *t) {
    return (moshi_stage_info){.runs = t->runs,
                              .seconds = t->seconds,
                              .busy_seconds = t->busy.all,
                              .product_seconds = t->busy.products};
}

/* One recorded program with the memory and per-slot state it works on. */
typedef struct mo_stage {
    mo_arena arena;
    mo_graph graph;
} mo_stage;

/* What the host writes for a frame of each slot. */
typedef struct mo_inputs {
    mo_view sound, user, force; /* user's codes; any of the first two may be absent */
} mo_inputs;

/* Inputs that can be written while the device works, and the program that takes them to where the
 * others look for them: `sound` with its ops before codes_op, the rest with those from there on. */
typedef struct mo_input_set {
    mo_stage stage;
    mo_inputs in;
    int codes_op;
} mo_input_set;

struct moshi_engine {
    pthread_mutex_t lock; /* step, open, close, reset, trace */
    mo_backend *be;
    char device[MOSHI_DEVICE_NAME];
    int slots, flags;
    bool has_codec, has_decoder;
    mo_text text;
    mo_model model;
    mo_stage encode, step, decode;
    mo_inputs inputs;     /* where the programs look for them */
    mo_input_set sets[2]; /* frame n takes sets[n % 2]; the device has none: `inputs` themselves */
    mo_view audio_out;
    /* With threads of the encoder's own (NULL without): it hears the next frame while the model is
     * at this one, and its codes wait in `heard` until that frame's turn. */
    mo_backend *codec_be;
    mo_aside *aside;
    mo_view heard;            /* i32 [1, user_codebooks] */
    moshi_session **sessions; /* [slots] NULL = free */
    moshi_engine_info info;
    mo_trace trace;
    size_t tap_bytes;
    uint64_t frames; /* ticks done */
    mo_stage_time times[MOSHI_STAGES];
    /* per-frame work space, taken at open */
    uint8_t *exec, *exec_pcm, *exec_twice, *exec_audio, *exec_ahead; /* [slots] */
    int64_t *lm_steps, *codec_steps;                                 /* [slots], for taps */
    float *pcm;                                                      /* [frame_samples] */
    int32_t *tokens;                                                 /* [1 + dep_q] */
    int32_t *codes;                                                  /* [user_codebooks] */
};

/* One tick for every ready session. The caller holds the engine's lock. */
int mo_frame_step(moshi_engine *e);
/* Fresh state for one slot. The caller holds the engine's lock. */
void mo_frame_reset_slot(moshi_engine *e, int slot);
/* Write the sampling parameters of a session to its slot. */
void mo_frame_write_params(moshi_engine *e, const moshi_session *s);

void mo_stage_free(mo_stage *st);

#endif
