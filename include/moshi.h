/* moshi.h - full-duplex speech models (the Moshi family and the Mimi codec) in C.
 *
 * An engine holds the weights of one model and a fixed number of slots. A session is one
 * conversation in one slot and owns all of its state. The caller pushes 24 kHz mono samples,
 * calls moshi_step() once per 80 ms frame, and pulls events (audio, tokens, text):
 *
 *     moshi_engine *engine;
 *     moshi_session *session;
 *     moshi_error err;
 *     moshi_engine_options eo = {0};
 *     eo.model = "path/to/model";
 *     if (moshi_engine_open(&engine, &eo, &err) < 0) die(err.text);
 *     if (moshi_session_open(&session, engine, NULL, &err) < 0) die(err.text);
 *     while (have_input) {
 *         moshi_push_pcm(session, samples, n);
 *         while (moshi_step(engine) > 0) {
 *             moshi_event ev;
 *             while (moshi_pull(session, &ev) > 0) use(&ev);
 *         }
 *     }
 *
 * Rules that hold for every function:
 *   - Returns >= 0 on success (often a count), a negative MOSHI_E* code on failure. Functions that
 *     take a moshi_error fill its text with what failed, what was wanted and what was found.
 *   - In option structs zero means "the default"; zero the whole struct first, `reserved` included.
 *   - The library never prints, exits, reads the environment or opens a socket or audio device,
 *     and keeps no global state: any number of engines may live side by side.
 *   - All memory is taken by the *_open functions. Push, step and pull never allocate.
 *   - Threads: for one session, push and pull may be called from one thread while another calls
 *     moshi_step(). Opening, closing and resetting sessions, setting a trace and stepping one
 *     engine take the engine's lock, so they may also come from different threads. Close a session
 *     only when no other thread still uses it. Closing NULL does nothing.
 */
#ifndef MOSHI_H
#define MOSHI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define MOSHI_API
#elif defined(__GNUC__)
#define MOSHI_API __attribute__((visibility("default")))
#else
#define MOSHI_API
#endif

#define MOSHI_VERSION_MAJOR 0
#define MOSHI_VERSION_MINOR 1
#define MOSHI_VERSION_PATCH 0

/* Every error the library returns: name, value, meaning. */
#define MOSHI_ERROR_LIST(X)                                             \
    X(MOSHI_EINVAL, -1, "invalid argument")                             \
    X(MOSHI_EMODEL, -2, "model file missing, damaged or not supported") \
    X(MOSHI_EDEVICE, -3, "device or backend not available")             \
    X(MOSHI_ENOMEM, -4, "out of memory")                                \
    X(MOSHI_EIO, -5, "input or output failed")                          \
    X(MOSHI_EBUSY, -6, "all sessions of the engine are in use")         \
    X(MOSHI_EEND, -7, "the session's input has already ended")          \
    X(MOSHI_ECANCELLED, -8, "cancelled by the caller")                  \
    X(MOSHI_EINTERNAL, -9, "internal error")

enum {
#define MOSHI_ERROR_ENUM(name, value, text) name = value,
    MOSHI_ERROR_LIST(MOSHI_ERROR_ENUM)
#undef MOSHI_ERROR_ENUM
};

/* What went wrong, in words. `code` is one of MOSHI_E*; `text` is always terminated. */
typedef struct moshi_error {
    int code;
    char text[1020];
} moshi_error;

/* Version as "major.minor.patch"; static. */
MOSHI_API const char *moshi_version(void);
/* Meaning of an error code; static, never NULL. */
MOSHI_API const char *moshi_strerror(int code);

/* ---- devices ------------------------------------------------------------------------------ */

enum { MOSHI_DEVICE_NAME = 64 };

/* Facts of one device that this build can compute on. Texts are "" where nothing is known. */
typedef struct moshi_device_info {
    const char *kind;             /* the backend: "cpu"; static */
    char name[MOSHI_DEVICE_NAME]; /* what moshi_engine_options.device takes: "cpu" */
    char description[128];        /* what its maker calls it */
    char driver[128];             /* what drives it, with a version; the CPU: its kernels */
    uint64_t memory_bytes;        /* 0: unknown */
    int on_request; /* 1: a processor that plays a graphics card: correct, slow, and never to be
                       chosen unless somebody names it */
    uintptr_t reserved[7];
} moshi_device_info;

/* The first `most` devices, the best first; returns how many of them there are. Asks drivers, which
 * takes a tenth of a second and may suffer from what is wrong with them. */
MOSHI_API int moshi_device_list(moshi_device_info *out, int most);
/* Device number `index` of that list. 1 and *info filled, or 0 past the last. */
MOSHI_API int moshi_device_get(int index, moshi_device_info *info);
/* The device that moshi_engine_options.device = name would take: "cpu" (or NULL), "vulkan" for the
 * best graphics card, "vulkan:1" for one by number, "vulkan:radeon" for the first with that in its
 * description. Behind any of these "/plain" leaves out what only some cards can do, and
 * "/subgroup",
 * "/dot", "/half" or several joined by "+" take that and nothing else: "vulkan:0/subgroup+dot";
 * "cpu/avx2" and the like take other kernels of the CPU than its best. 0 and *info filled, or
 * MOSHI_EDEVICE. Asks no drivers when that is the CPU. */
MOSHI_API int moshi_device_find(const char *name, moshi_device_info *info, moshi_error *err);

/* What the driver of a device (NULL: "cpu") says of it, for reports: lines "name: text" of UTF-8,
 * cut at cap - 1 bytes; "" for the CPU. Limits, heaps of memory and extensions that matter here; no
 * serial numbers. 4096 bytes are enough. 0, MOSHI_EINVAL or MOSHI_EDEVICE. */
MOSHI_API int moshi_device_details(const char *device, char *out, size_t cap, moshi_error *err);

/* What a device made of one op. Errors are relative to the largest number of the result. */
typedef struct moshi_op_check {
    const char *op;    /* "linear bf16", "ELU"; static */
    int cases;         /* 0: about to run */
    int failed;        /* of them */
    double worst;      /* largest error; infinite for a NaN or a wrong whole number */
    double bound;      /* what was allowed where most was; 0: the same bits */
    char problem[256]; /* "", or the first element that is wrong */
} moshi_op_check;

/* Non-zero cancels. */
typedef int (*moshi_op_check_fn)(void *user, const moshi_op_check *check);

/* Run cases of every op on a device (NULL: "cpu") and compare them with the plain C kernels. `fn`
 * is called before each op, with cases == 0, and after it. Returns how many ops gave something
 * wrong. Takes about a second and a few megabytes. `threads`: 0, the device's default; `cache`: as
 * in moshi_engine_options. */
MOSHI_API int moshi_device_check(const char *device, int threads, const char *cache,
                                 moshi_op_check_fn fn, void *user, moshi_error *err);

/* ---- engine ------------------------------------------------------------------------------- */

typedef struct moshi_engine moshi_engine;
typedef struct moshi_session moshi_session;
typedef struct moshi_codec moshi_codec;

/* Where the library is in its work, for whoever must tell when it does not come back: a handler of
 * SIGSEGV, a watchdog. Written with plain stores by the thread that opens or steps, so read it
 * there (in a signal handler) or as a guess. Texts are static or live as long as the stage does. */
typedef struct moshi_breadcrumb {
    const char *volatile stage; /* "files", "device", "weights", "programs", "ready"; "encode",
                                   "step" (a graphics card, which gets a frame in one piece: all of
                                   it), "decode"; NULL before the first */
    const char
        *volatile detail; /* weights: a tensor; frames: the op, where a device tells; or NULL */
    volatile uint64_t done, total; /* weights: tensors looked up so far and all; frames: done, 0 */
} moshi_breadcrumb;

/* One file of a model that is already in memory. Names are those config.json uses, for example
 * "config.json", "model.safetensors". The bytes must stay valid until the engine is closed. */
typedef struct moshi_blob {
    const char *name;
    const void *data;
    size_t size;
} moshi_blob;

/* Finds files that config.json names as "hf://ORG/NAME/FILE" and that do not lie beside it: those
 * that a download put somewhere else. */
typedef struct moshi_finder {
    /* Path of the file, valid until the next call, or NULL when it is not known. */
    const char *(*find)(void *user, const char *name);
    void *user;
} moshi_finder;

enum {
    MOSHI_EXACT = 1,      /* quantised matrices are widened to float32 when loaded (2 to 8 times
                             the memory) and activations never rounded, and a large Mimi decoder
                             keeps its float32 weights: the oracle the default, which computes on
                             quantised matrices as they are, rounds those weights to float16 and
                             may split the numbers of a large codec into bytes or bfloat16 pieces,
                             answers to */
    MOSHI_EXACT_MASK = 2, /* Mimi transformers see their whole context; the default reproduces the
                             reference's ring, which loses the oldest keys of a frame */
    MOSHI_NO_CODEC = 4,   /* load the language model only; sessions take and give tokens */
    MOSHI_DRY_RUN = 8     /* take no memory for weights and state and read no numbers: what opens
                             can only be asked for its facts, which are those it would have
                             otherwise. moshi_session_open(), moshi_codec_encode() and
                             moshi_codec_decode() fail with MOSHI_EDEVICE */
};

/* Numbers of the temporal transformer's key/value cache, per head and frame of head_dim numbers.
 * The cache is most of a session's memory: `context` frames of every layer. */
typedef enum moshi_kv {
    MOSHI_KV_DEFAULT, /* MOSHI_KV_F32 */
    MOSHI_KV_F32,     /* 4 head_dim bytes */
    MOSHI_KV_BF16,    /* 2 head_dim bytes, rounded to nearest even */
    MOSHI_KV_Q8_0     /* head_dim + 4 bytes: signed bytes and their common scale, largest / 127 */
} moshi_kv;

/* A low-rank adapter to add to the weights while they are loaded. */
typedef struct moshi_lora {
    const char *path; /* safetensors file of lora_A / lora_B pairs */
    float scale;      /* 0: 2.0, the reference's default */
} moshi_lora;

typedef struct moshi_engine_options {
    const char
        *model; /* directory, checkpoint file with config.json beside it; or NULL with blobs */
    const moshi_blob *blobs; /* the model's files in memory, instead of `model` */
    size_t n_blobs;
    const char *device;      /* a name of moshi_device_get(); NULL: "cpu" */
    int sessions;            /* slots, 1..1024; default 1 */
    int threads;             /* 1..256; default: one per physical core, or as few as are as fast */
    int flags;               /* MOSHI_EXACT | MOSHI_EXACT_MASK | MOSHI_NO_CODEC | MOSHI_DRY_RUN */
    const moshi_lora *loras; /* adapters, added in order */
    size_t n_loras;
    moshi_finder finder; /* for files named hf://...; zero: only beside config.json */
    /* Called now and then while weights load, with done <= total in bytes. Non-zero cancels. */
    int (*progress)(void *user, uint64_t done, uint64_t total);
    void *progress_user;
    moshi_breadcrumb *breadcrumb; /* NULL, or kept up to date until the engine is closed */
    moshi_kv kv;                  /* MOSHI_EXACT takes no other than float32 */
    const char *preset;      /* NULL, or a name of moshi_preset_name() instead of model and blobs */
    const char *preset_type; /* its numbers, as moshi_convert_options.type; default bf16.
 With a preset only */
    /* NULL, or a directory that is there, in which a graphics card's driver keeps the programs it
     * has compiled for the next start. Files that are damaged or another driver's are replaced. */
    const char *cache;
    /* On a processor: so many threads more that are the encoder's, which then hears the next frame
     * of a session while the model is at this one, if its samples have been pushed already. Pays
     * where the model does not become faster with more threads, and for files: who speaks live has
     * not said the next frame yet. Default 0, the model's threads in turn; changes no bit.
     * `threads` of 0 leaves the model the other cores. */
    int codec_threads;
    uintptr_t reserved[2];
} moshi_engine_options;

/* Load a model and take all memory for `sessions` conversations. */
MOSHI_API int moshi_engine_open(moshi_engine **out, const moshi_engine_options *options,
                                moshi_error *err);
/* Close an engine and every session still open on it. */
MOSHI_API void moshi_engine_close(moshi_engine *engine);

/* Facts of an open engine. Pointers are borrowed until moshi_engine_close(). */
typedef struct moshi_engine_info {
    const char *model_type; /* config.json's model_type, or "moshi" */
    const char *device;     /* "cpu", "vulkan:0" */
    const char *kernels;    /* instruction-set level in use: "amx_bf16", "amx", "avx512_vnni",
                               "avx512", "avx2_vnni", "avx2", "neon_i8mm", "neon_dot", "neon", "c";
                               "vulkan" with what is used of the card beyond the plain:
                               "vulkan+subgroup+dot" */
    const char *kv;         /* key/value cache: "f32", "bf16", "q8_0"; NULL if not open */
    int threads; /* in use. Where options.threads is 0 and there are three cores or more, opening
                    tries the model's products with all sessions on fewer threads, too, which takes
                    up to half a second, and goes on with the fewest that are as fast: memory is
                    full before large machines run out of cores */
    int sessions;
    int sample_rate_hz;   /* 24000; 0 without a codec */
    int frame_samples;    /* 1920; 0 without a codec */
    double frame_rate_hz; /* 12.5 */
    int n_q;              /* audio channels the model reads */
    int dep_q;            /* audio channels it speaks: 1..dep_q are its own voice */
    int user_codebooks;   /* n_q - dep_q: channels that come from the user */
    int text_card;        /* text vocabulary */
    int card;             /* entries per audio codebook */
    const int *delays;    /* [1 + n_q] frames; channel 0 is text */
    int max_delay;
    int context;                 /* frames the temporal transformer can look back */
    float text_temp, audio_temp; /* sampling defaults of this checkpoint */
    int text_top_k, audio_top_k;
    uint64_t parameters;   /* number of weights, codec included */
    uint64_t weight_bytes; /* memory held by weights */
    uint64_t state_bytes;  /* memory held by slots and scratch */
    /* Of state_bytes: what holds nothing from frame to frame. The rest, divided by `sessions`, is
     * the state of one session. Both grow with `sessions`. */
    uint64_t scratch_bytes;
    int codec_threads; /* of the encoder alone; 0: it takes its turn on `threads` */
    int cores; /* physical ones that the system lets this process use; 0 if a card computes */
    uintptr_t reserved[7];
} moshi_engine_info;

/* Why the engine's device failed, in words, once a call gave MOSHI_EDEVICE: "" where nothing is
 * known. For the thread that steps; borrowed until moshi_engine_close(). What sessions had to say
 * before can still be pulled; their next frames need another engine. */
MOSHI_API const char *moshi_engine_problem(const moshi_engine *engine);
MOSHI_API int moshi_engine_get_info(const moshi_engine *engine, moshi_engine_info *info);

/* ---- sessions ----------------------------------------------------------------------------- */

enum {
    MOSHI_GREEDY = 1, /* take the most likely token everywhere; the seed has no effect */
    MOSHI_FIRST_FRAME_SERVER = 2, /* step the first frame once and reset the codec after it, as the
                                     reference server does; default: step its codes twice, as the
                                     reference file tool does, so that no input is lost */
    MOSHI_NO_AUDIO = 4            /* do not decode audio; no MOSHI_EVENT_AUDIO comes */
};

typedef struct moshi_session_options {
    uint64_t seed;   /* default 299792458 */
    float text_temp; /* 0: the checkpoint's; < 0: greedy for this stream */
    float audio_temp;
    int text_top_k; /* 0: the checkpoint's; < 0: the whole vocabulary */
    int audio_top_k;
    int flags; /* MOSHI_GREEDY | MOSHI_FIRST_FRAME_SERVER | MOSHI_NO_AUDIO */
    uintptr_t reserved[8];
} moshi_session_options;

/* Take a free slot. MOSHI_EBUSY if there is none. `options` may be NULL. */
MOSHI_API int moshi_session_open(moshi_session **out, moshi_engine *engine,
                                 const moshi_session_options *options, moshi_error *err);
/* Back to the state right after opening: same options, same seed, nothing queued. */
MOSHI_API int moshi_session_reset(moshi_session *session);
/* Give the slot back. */
MOSHI_API void moshi_session_close(moshi_session *session);

/* Give `n` samples of the user's speech: mono float at the engine's rate, nominal range -1..1. Any
 * n; results do not depend on how the stream is cut. Returns how many samples were taken (fewer
 * when the input queue of MOSHI_INPUT_FRAMES frames is full: step, then push the rest),
 * MOSHI_EINVAL for NaN or infinite samples (none taken), without a codec and with a model that
 * listens to nobody, MOSHI_EEND after moshi_push_end(). */
MOSHI_API int moshi_push_pcm(moshi_session *session, const float *pcm, size_t n);

/* Give whole frames as tokens instead of samples, for replay and teacher forcing. `codes` is
 * [frames, user_codebooks]. `force`, if not NULL, is [frames, 1 + dep_q] (text, then audio): the
 * tokens to use instead of sampled ones; MOSHI_FREE leaves one free. Each frame is stepped once. A
 * session takes samples or tokens, not both. Returns how many frames were taken. */
MOSHI_API int moshi_push_codes(moshi_session *session, const int32_t *codes, const int32_t *force,
                               size_t frames);
/* No more input: a started frame is filled up with silence; after the last frame comes
 * MOSHI_EVENT_END. */
MOSHI_API int moshi_push_end(moshi_session *session);

/* Advance every session that has a frame of input and room for its output by one frame (80 ms).
 * Returns how many sessions advanced; 0 when none was ready. */
MOSHI_API int moshi_step(moshi_engine *engine);

enum {
    MOSHI_INPUT_FRAMES = 64,  /* capacity of a session's input queue */
    MOSHI_OUTPUT_FRAMES = 16, /* frames of events that may wait to be pulled */
    MOSHI_FREE = INT32_MIN,   /* moshi_push_codes: do not force this token */
    MOSHI_NO_TOKEN = -100     /* no output yet at this step */
};

typedef enum moshi_event_type {
    MOSHI_EVENT_TOKENS = 1, /* tokens[1 + dep_q] of one frame, delay-aligned */
    MOSHI_EVENT_TEXT,       /* a piece of the inner monologue */
    MOSHI_EVENT_WORD,       /* a finished word with its times */
    MOSHI_EVENT_AUDIO,      /* frame_samples samples of speech */
    MOSHI_EVENT_END         /* everything has been delivered */
} moshi_event_type;

/* One event. Pointers are borrowed until the next call on this session. */
typedef struct moshi_event {
    moshi_event_type type;
    int64_t frame;          /* output frame this belongs to, from 0 */
    double start_s, stop_s; /* of the frame; for a word: of the word; seconds of output audio */
    const float *pcm;       /* AUDIO: [n] samples */
    const int32_t *tokens;  /* TOKENS: [n] = text token, then dep_q audio tokens */
    const int32_t *codes;   /* TOKENS: [user_codebooks] codes of the input stepped in this tick */
    size_t n;               /* number of samples or tokens; bytes of text */
    const char *text;       /* TEXT, WORD: UTF-8, terminated; TEXT may begin with a space */
    int32_t token;          /* TEXT: the text token */
} moshi_event;

/* Next event in order. 1 and *event filled, or 0 when nothing waits. */
MOSHI_API int moshi_pull(moshi_session *session, moshi_event *event);

/* ---- trace taps --------------------------------------------------------------------------- */

typedef enum moshi_dtype { MOSHI_F32 = 0, MOSHI_I32 = 1 } moshi_dtype;

/* One intermediate of one session at one step. `data` is borrowed for the call. Tap names:
 * lm.in_tokens, lm.embed, lm.layer.NN.LAYER, lm.out_norm, lm.text_logits, lm.extra_head.N,
 * lm.text_token, depth.KK.{in,layer.NN.LAYER,hidden,logits,token}, lm.out_tokens,
 * mimi.enc.{model.N.CONV,model.N,seanet,transformer.NN.LAYER,transformer,latent,codes},
 * mimi.dec.{quantized,upsampled,transformer.NN.LAYER,transformer,model.N.CONV,model.N,audio}. LAYER
 * is one of norm1 in_proj rope attend attn norm2 linear1 act out, CONV one of elu elu1 conv1 elu2.
 * The codec's convolutions deliver [channels, time].
 * A step that runs twice in one tick (the first frame) is reported twice. */
typedef struct moshi_tap {
    const char *name;
    const void *data;
    moshi_dtype dtype;
    int ndim;
    int64_t shape[4];
    int slot;     /* which session: moshi_session_slot() */
    int64_t step; /* steps of that session's model before this one */
} moshi_tap;

typedef void (*moshi_tap_fn)(void *user, const moshi_tap *tap);

/* Deliver every tap whose name matches one of the space-separated globs (* and ?) to `fn` during
 * moshi_step(); fn NULL turns tracing off. Slows stepping down. `globs` is copied. */
MOSHI_API int moshi_engine_trace(moshi_engine *engine, const char *globs, moshi_tap_fn fn,
                                 void *user);
/* The slot a session sits in, 0 .. sessions-1. */
MOSHI_API int moshi_session_slot(const moshi_session *session);

/* ---- the Mimi codec alone ----------------------------------------------------------------- */

typedef struct moshi_codec_options {
    const char *model; /* model directory, Mimi-only directory, or the published Mimi file */
    const moshi_blob *blobs;
    size_t n_blobs;
    const char *device;
    int codebooks;       /* default: all the file has */
    int frames_per_call; /* frames the transformers take at once, default 1. With the reference's
                            ring this is part of the arithmetic; with MOSHI_EXACT_MASK only speed */
    int threads;
    int flags;                    /* MOSHI_EXACT | MOSHI_EXACT_MASK | MOSHI_DRY_RUN */
    moshi_breadcrumb *breadcrumb; /* as in moshi_engine_options */
    moshi_finder finder;          /* likewise */
    const char *preset;           /* NULL, or any preset's name instead of model and blobs */
    const char *preset_type;      /* f32 (default), f16, bf16; with a preset only */
    const char *cache;            /* as in moshi_engine_options */
    int calls_at_once;            /* calls computed together, default 1; only speed: bits are the
                                     same. With frames_per_call at most 256 frames. Each is traced
                                     by itself, in order, where the device is a processor */
    uintptr_t reserved[3];
} moshi_codec_options;

typedef struct moshi_codec_info {
    int sample_rate_hz, frame_samples;
    double frame_rate_hz;
    int codebooks; /* in use */
    int max_codebooks;
    int bins; /* entries per codebook: codes are 0 .. bins-1 */
    uint64_t parameters, weight_bytes, state_bytes, scratch_bytes;
    const char *kernels; /* as in moshi_engine_info; NULL if not open */
    int threads;
    uintptr_t reserved[6];
} moshi_codec_info;

MOSHI_API int moshi_codec_open(moshi_codec **out, const moshi_codec_options *options,
                               moshi_error *err);
/* As moshi_engine_problem(). */
MOSHI_API const char *moshi_codec_problem(const moshi_codec *codec);
MOSHI_API int moshi_codec_get_info(const moshi_codec *codec, moshi_codec_info *info);
/* Encode `frames` * frame_samples samples into codes [frames, codebooks], continuing the stream.
 * `frames` must be a multiple of frames_per_call * calls_at_once unless it ends the stream (the
 * rest is fed silence). Returns frames. */
MOSHI_API int moshi_codec_encode(moshi_codec *codec, const float *pcm, size_t frames,
                                 int32_t *codes);
/* Decode codes [frames, codebooks] into frames * frame_samples samples, continuing the stream.
 * Returns frames; MOSHI_EINVAL if a code is out of range. */
MOSHI_API int moshi_codec_decode(moshi_codec *codec, const int32_t *codes, size_t frames,
                                 float *pcm);
/* Deliver the codec's taps (mimi.*), as moshi_engine_trace() does. */
MOSHI_API int moshi_codec_trace(moshi_codec *codec, const char *globs, moshi_tap_fn fn, void *user);
/* Start new streams in both directions. */
MOSHI_API int moshi_codec_reset(moshi_codec *codec);
MOSHI_API void moshi_codec_close(moshi_codec *codec);

/* ---- measuring ---------------------------------------------------------------------------- */

/* A preset has the sizes of a published model and random numbers instead of its weights: what a
 * frame costs is the same, and nothing has to be downloaded. Opening one takes the memory of the
 * model and not much more. It says nothing that makes sense, and has no text tokenizer. */

/* Name of preset `index`; static; NULL past the last. "mimi" is the codec alone. */
MOSHI_API const char *moshi_preset_name(int index);

/* The stages of a frame. */
typedef enum moshi_stage {
    MOSHI_STAGE_ENCODE,   /* Mimi's encoder */
    MOSHI_STAGE_TEMPORAL, /* temporal transformer and text token */
    MOSHI_STAGE_DEPTH,    /* depth transformer */
    MOSHI_STAGE_DECODE,   /* Mimi's decoder */
    MOSHI_STAGES
} moshi_stage;

/* What one run of a stage costs, and what it has cost. All zero for a stage the model lacks. */
typedef struct moshi_stage_info {
    uint64_t runs;         /* so far; one for all sessions that step together */
    double seconds;        /* of them together; those of an engine on a graphics card as its own
                              clock counts them, or 0 if it has none */
    uint64_t weight_bytes; /* a run reads: weights that are used twice count twice */
    /* Keys and values that a run reads for each session and each position it can look back on;
     * positions that a frame adds; how many are kept at most. */
    uint64_t position_bytes;
    int frame_positions, max_positions;
    double operations; /* multiplications and additions for each session, attention left out */
    /* Seconds of all threads together that they computed in, and those of products of matrices and
     * attention among them; what is missing to seconds times threads they waited. 0: unknown. */
    double busy_seconds, product_seconds;
    uintptr_t reserved[2];
} moshi_stage_info;

/* Not while another thread steps. MOSHI_EINVAL for a stage there is none of. Works on a dry run. */
MOSHI_API int moshi_engine_get_stage(const moshi_engine *engine, moshi_stage stage,
                                     moshi_stage_info *info);
MOSHI_API int moshi_codec_get_stage(const moshi_codec *codec, moshi_stage stage,
                                    moshi_stage_info *info);

/* Pretend that a session that has not stepped yet has stepped `frames` (0 .. 2^24) frames: steps
 * cost from here on what they cost that far into a conversation. What it remembers of them is
 * noise. MOSHI_EINVAL after the first step. */
MOSHI_API int moshi_session_pretend(moshi_session *session, int64_t frames);

/* What a device can do at most, whatever it is asked to compute and with which kernels; 0: unknown.
 */
typedef struct moshi_device_speed {
    double read_bytes_s; /* reading so much over and over */
    double flops;        /* float32 operations a second, a fused multiply-add counted as two */
    double int8_ops;     /* likewise of products of bytes summed up in 32 bits */
    uintptr_t reserved[4];
} moshi_device_speed;

/* Measure it for about `seconds` (0.05 .. 60), besides what it takes to get the memory; the best
 * moment counts. `bytes`: how much memory is taken for that time and read over and over, 64 MB
 * (2^26) to 16 GB (2^34); 0: 1 GB. What a large cache keeps of it comes faster than memory
 * delivers: for the limit of something that reads so much a frame, say so much. `threads`: 0, the
 * device's default. MOSHI_EDEVICE for a device that cannot be measured, MOSHI_ENOMEM, MOSHI_EINVAL;
 * *out is zeros then. */
MOSHI_API int moshi_device_measure(moshi_device_speed *out, const char *device, int threads,
                                   uint64_t bytes, double seconds, moshi_error *err);

/* ---- looking into model files ------------------------------------------------------------- */

typedef struct moshi_tensor_info {
    const char *file; /* file name as the model names it */
    const char *name;
    const char *dtype; /* "F32", "F16", "BF16", ... */
    int ndim;
    int64_t shape[5];
    uint64_t bytes;
    const char *problem; /* NULL, or what is wrong with it in words */
} moshi_tensor_info;

/* A part of a model: "temporal transformer", "Mimi's encoder", ... The last one, "not needed",
 * holds what the model does not use of its files, such as further codebooks. */
typedef struct moshi_part_info {
    const char *name;
    size_t tensors;
    uint64_t parameters; /* numbers its tensors stand for */
    uint64_t bytes;      /* in the files */
} moshi_part_info;

/* Something that is wrong with a model. */
typedef struct moshi_finding {
    int fatal;        /* 1: an engine refuses the model; 0: it would run, and hardly sound right */
    const char *kind; /* "unsupported", "incomplete", "mismatch", "damaged", "missing", "unfit",
                         "surplus", "odd" */
    const char *file; /* NULL when it is about no single one */
    const char *tensor; /* likewise */
    const char *text;   /* in words */
} moshi_finding;

typedef struct moshi_model_info {
    const char *kind;         /* "moshi", "mimi" */
    const char *summary;      /* one line a person can read */
    int runs;                 /* 1 if this version can run it */
    const char *reason;       /* why not, when runs == 0; NULL otherwise */
    moshi_engine_info engine; /* sizes and sampling defaults; zero for a codec. Of a model whose
                                 configuration this version refuses: what the shapes tell */
    moshi_codec_info codec;   /* zero if the model has none */
    int dim, layers, heads;   /* temporal transformer */
    int depformer_dim, depformer_layers, depformer_heads;
    const moshi_tensor_info *tensors;
    size_t n_tensors;
    const char *preset;    /* built-in configuration in use, NULL when the model has one */
    const char *container; /* of the main weights: "safetensors", "GGUF" */
    const char *names;     /* whose tensor names: "PyTorch", "candle", "MLX"; "Mimi" of a codec */
    const char *numbers;   /* most of their bytes: "BF16", "Q8_0", "I8", "4-bit" (MLX), ... */
    /* The files it consists of, NULL what is not there. */
    const char *config_file, *lm_file, *codec_file, *text_file;
    const moshi_part_info *parts; /* those that are not empty */
    size_t n_parts;
    const moshi_finding *findings; /* the gravest first */
    size_t n_findings;
    uintptr_t reserved[8];
} moshi_model_info;

enum {
    MOSHI_INSPECT_QUICK =
        1 /* read the tables of tensors, not the numbers: no "damaged", no "odd" */
};

typedef struct moshi_inspect_options {
    const char *model; /* these as in moshi_engine_options */
    const moshi_blob *blobs;
    size_t n_blobs;
    moshi_finder finder;
    int threads; /* for reading the numbers; default: one per physical core */
    int flags;   /* MOSHI_INSPECT_QUICK */
    int (*progress)(void *user, uint64_t done, uint64_t total);
    void *progress_user;
    uintptr_t reserved[8];
} moshi_inspect_options;

/* Read a model's files without running them and judge them: what it is, whether it would run, and
 * everything that is wrong with it. Fails only when nothing could be read at all. Free with
 * moshi_model_info_free(). */
MOSHI_API int moshi_inspect(moshi_model_info **out, const moshi_inspect_options *options,
                            moshi_error *err);
MOSHI_API void moshi_model_info_free(moshi_model_info *info);

/* May `path` be written without harming the model `model` (as moshi_engine_options.model)? 0, or
 * MOSHI_EINVAL when it is one of the files the model consists of, whichever of them are in use and
 * through whatever links; the message names both. Opens no weights, so it comes before loading. A
 * path or a model that is not there does no harm: 0. */
MOSHI_API int moshi_check_output(const char *path, const char *model, moshi_error *err);

/* ---- conversion --------------------------------------------------------------------------- */

/* What became of one tensor. */
typedef struct moshi_converted {
    const char *name;
    const char *from, *to; /* number formats: "BF16", "Q4_K" */
    uint64_t count, bytes_in, bytes_out;
    double error; /* relative RMS error of the numbers read back; -1 unless verify was asked for */
} moshi_converted;

typedef struct moshi_convert_options {
    const char
        *type; /* f32, f16, bf16, q8_0, q6_K, q4_K, q4_0: of the temporal transformer's matrices.
                  The depth transformer and the output heads get one step finer (q6_K for the
                  four-bit types, q8_0 for q6_K), vectors f32, the codec stays as it is.
                  Matrices whose rows are no whole blocks get the next finer type that fits */
    const char *keep; /* NULL, or "GLOB=TYPE,GLOB=TYPE...": matrices by name, the first match wins;
                         a rule that names none is refused */
    int threads;      /* default: one per physical core */
    int verify;       /* read the result back and measure every tensor's error */
    moshi_finder finder;
    /* Called on this thread with done <= total in bytes of input, which verifying reads once more;
     * non-zero cancels, and nothing is left behind. */
    int (*progress)(void *user, uint64_t done, uint64_t total);
    void (*report)(void *user, const moshi_converted *tensor);
    void *user;
    const moshi_lora *loras; /* adapters, merged into the weights in order */
    size_t n_loras;
    uintptr_t reserved[6];
} moshi_convert_options;

/* Read a model (as moshi_engine_options.model) and write `out`. A .gguf file holds the whole model,
 * with configuration, tokenizer and codec: it needs nothing beside it. A .safetensors file holds
 * the language model's weights alone. Damaged weights are refused. `out` appears only when it is
 * whole. Memory: half a megabyte per thread. */
MOSHI_API int moshi_convert(const char *in, const char *out, const moshi_convert_options *options,
                            moshi_error *err);

#ifdef __cplusplus
}
#endif
#endif
