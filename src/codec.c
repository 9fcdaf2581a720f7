/* codec.c - the Mimi codec alone: one stream in each direction, whole calls at a time. */
#include "cost.h"
#include "dry.h"
#include "frame.h"
#include "made.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FRAMES_PER_CALL = MO_MIMI_MAX_FRAMES, MAX_THREADS = 256 };

struct moshi_codec {
    pthread_mutex_t lock;
    mo_backend *be;
    mo_model model;
    mo_mimi_run run;
    mo_stage encode, decode;
    mo_view audio_in, codes_out, codes_in, audio_out;
    moshi_codec_info info;
    mo_trace trace;
    int64_t encode_calls, decode_calls;
    mo_stage_time times[MOSHI_STAGES];
    float *pcm;     /* one call's samples, when the stream ends inside it */
    int32_t *codes; /* one call's codes */
};

static int options_check(const moshi_codec_options *o, moshi_error *err) {
    const int known = MOSHI_EXACT | MOSHI_EXACT_MASK | MOSHI_DRY_RUN;
    if ((o->model != NULL) + (o->n_blobs != 0) + (o->preset != NULL) != 1)
        return mo_fail(err, MOSHI_EINVAL,
                       "codec options: give a model path, blobs or a preset, one of them");
    if (o->preset_type && !o->preset)
        return mo_fail(err, MOSHI_EINVAL,
                       "codec options: preset_type: wanted a preset with it, found '%s' alone",
                       o->preset_type);
    if (o->codebooks < 0 || o->codebooks > MO_MAX_CODEBOOKS)
        return mo_fail(err, MOSHI_EINVAL, "codec options: codebooks: wanted 1..%d, found %d",
                       MO_MAX_CODEBOOKS, o->codebooks);
    if (o->frames_per_call < 0 || o->frames_per_call > MAX_FRAMES_PER_CALL)
        return mo_fail(err, MOSHI_EINVAL, "codec options: frames_per_call: wanted 1..%d, found %d",
                       MAX_FRAMES_PER_CALL, o->frames_per_call);
    const int most = MAX_FRAMES_PER_CALL / (o->frames_per_call ? o->frames_per_call : 1);
    if (o->calls_at_once < 0 || o->calls_at_once > most)
        return mo_fail(err, MOSHI_EINVAL, "codec options: calls_at_once: wanted 1..%d, found %d",
                       most, o->calls_at_once);
    if (o->threads < 0 || o->threads > MAX_THREADS)
        return mo_fail(err, MOSHI_EINVAL, "codec options: threads: wanted 0..%d, found %d",
                       MAX_THREADS, o->threads);
    if (o->flags & ~known)
        return mo_fail(err, MOSHI_EINVAL, "codec options: unknown flags 0x%x",
                       (unsigned)(o->flags & ~known));
    return 0;
}

static int load(moshi_codec *c, const mo_model_files *f, const moshi_codec_options *o,
                moshi_error *err) {
    int n = o->codebooks ? o->codebooks : f->mimi.codebooks;
    const int calls = o->calls_at_once ? o->calls_at_once : 1;
    c->run = (mo_mimi_run){.frames = (o->frames_per_call ? o->frames_per_call : 1) * calls,
                           .calls = calls,
                           .codebooks = n,
                           .exact_mask = (o->flags & MOSHI_EXACT_MASK) != 0};
    mo_codec_describe(&f->mimi, n, &c->info);
    bool exact = (o->flags & MOSHI_EXACT) != 0;
    return mo_model_load_codec(&c->model, f, c->be, n, exact, err);
}

static int record(moshi_codec *c, moshi_error *err) {
    mo_graph *enc = &c->encode.graph, *dec = &c->decode.graph;
    mo_arena_open(&c->encode.arena, c->be, 1);
    mo_graph_begin(enc, &c->encode.arena, err);
    c->codes_out = mo_scratch(enc, c->run.frames, c->run.codebooks);
    mo_mimi_record_encoder(enc, &c->model.mimi, &c->run, &c->audio_in, c->codes_out);
    int rc = mo_graph_finish(enc);
    if (rc < 0) return rc;
    mo_arena_open(&c->decode.arena, c->be, 1);
    mo_graph_begin(dec, &c->decode.arena, err);
    c->codes_in = mo_scratch(dec, c->run.frames, c->run.codebooks);
    mo_mimi_record_decoder(dec, &c->model.mimi, &c->run, c->codes_in, &c->audio_out);
    rc = mo_graph_finish(dec);
    if (rc < 0) return rc;

    size_t taps = mo_graph_tap_bytes(enc);
    if (mo_graph_tap_bytes(dec) > taps) taps = mo_graph_tap_bytes(dec);
    size_t frames = (size_t)c->run.frames;
    c->pcm = mo_calloc(frames * (size_t)c->info.frame_samples, sizeof *c->pcm);
    c->codes = mo_calloc(frames * (size_t)c->run.codebooks, sizeof *c->codes);
    c->trace.scratch = mo_calloc(taps + 4, 1);
    c->trace.scratch_bytes = taps;
    if (!c->pcm || !c->codes || !c->trace.scratch)
        return mo_fail(err, MOSHI_ENOMEM, "out of memory for the codec");
    c->info.kernels = c->be->ops->kernels(c->be);
    c->info.threads = c->be->ops->threads(c->be);
    c->info.parameters = c->model.weights.parameters;
    c->info.weight_bytes = c->model.weights.bytes;
    c->info.state_bytes = c->encode.arena.bytes + c->decode.arena.bytes;
    c->info.scratch_bytes =
        c->info.state_bytes - c->encode.arena.kept_bytes - c->decode.arena.kept_bytes;
    return 0;
}

static int codec_new(moshi_codec **out, moshi_error *err) {
    moshi_codec *c = mo_calloc(1, sizeof *c);
    if (!c || pthread_mutex_init(&c->lock, NULL) != 0) {
        free(c);
        return mo_fail(err, MOSHI_ENOMEM, "out of memory for a codec");
    }
    *out = c;
    return 0;
}

/* As in moshi.c: does it fit? */
static int check_room(const moshi_codec *c, mo_model_files *f, const moshi_codec_options *o,
                      moshi_error *err) {
    moshi_codec *plan;
    if (!c->be->ops->room) return 0;
    int rc = codec_new(&plan, err);
    if (rc < 0) return rc;
    rc = mo_dry_over(&plan->be, c->be, err);
    if (rc == 0) rc = load(plan, f, o, err);
    if (rc == 0) rc = record(plan, err);
    if (rc == 0) rc = mo_room_check(c->be, plan->info.weight_bytes, plan->info.state_bytes, 1, err);
    moshi_codec_close(plan);
    return rc;
}

static int codec_open(moshi_codec *c, const moshi_codec_options *o, moshi_error *err) {
    mo_device device;
    int rc = mo_device_find(&device, o->device, err);
    if (rc < 0) return rc;
    mo_model_files files;
    mo_crumb_drop(o->breadcrumb, "files", 0, 0);
    const mo_model_place place = {o->model, o->blobs, o->n_blobs, o->finder};
    rc = o->preset ? mo_made_files_open(&files, o->preset, o->preset_type, MO_WANT_MIMI,
                                        (o->flags & MOSHI_DRY_RUN) != 0, err)
                   : mo_model_files_open(&files, &place, MO_WANT_MIMI, err);
    if (rc < 0) return rc;
    mo_crumb_drop(o->breadcrumb, "device", 0, 0);
    const mo_backend_options bo = {
        .threads = o->threads, .nth = device.nth, .cache = o->cache, .kernels = device.kernels};
    rc = o->flags & MOSHI_DRY_RUN ? mo_dry_open(&c->be, device.ops, &bo, err)
                                  : device.ops->open(&c->be, &bo, err);
    if (rc == 0) c->be->crumb = o->breadcrumb;
    if (rc == 0) rc = check_room(c, &files, o, err);
    if (rc == 0) rc = load(c, &files, o, err);
    if (rc == 0) mo_crumb_drop(o->breadcrumb, "programs", 0, 0);
    if (rc == 0) rc = record(c, err);
    if (rc == 0) mo_crumb_drop(o->breadcrumb, "ready", 0, 0);
    mo_model_files_close(&files);
    return rc;
}

int moshi_codec_open(moshi_codec **out, const moshi_codec_options *options, moshi_error *err) {
    if (err) *err = (moshi_error){0};
    if (!out || !options)
        return mo_fail(err, MOSHI_EINVAL, "moshi_codec_open: out and options must not be NULL");
    *out = NULL;
    int rc = options_check(options, err);
    if (rc < 0) return rc;
    moshi_codec *c;
    rc = codec_new(&c, err);
    if (rc < 0) return rc;
    rc = codec_open(c, options, err);
    if (rc < 0) {
        moshi_codec_close(c);
        return rc;
    }
    *out = c;
    return 0;
}

void moshi_codec_close(moshi_codec *c) {
    if (!c) return;
    if (c->be) {
        mo_stage_free(&c->encode);
        mo_stage_free(&c->decode);
        mo_model_free(&c->model);
        c->be->ops->close(c->be);
    }
    free(c->pcm);
    free(c->codes);
    free(c->trace.globs);
    free(c->trace.scratch);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

const char *moshi_codec_problem(const moshi_codec *codec) {
    return codec && codec->be ? codec->be->problem : "";
}

int moshi_codec_get_info(const moshi_codec *codec, moshi_codec_info *info) {
    if (!codec || !info) return MOSHI_EINVAL;
    *info = codec->info;
    return 0;
}

int moshi_codec_get_stage(const moshi_codec *c, moshi_stage stage, moshi_stage_info *info) {
    if (!c || !info || (stage != MOSHI_STAGE_ENCODE && stage != MOSHI_STAGE_DECODE))
        return MOSHI_EINVAL;
    const mo_graph *g = stage == MOSHI_STAGE_ENCODE ? &c->encode.graph : &c->decode.graph;
    *info = mo_stage_time_info(&c->times[stage]);
    mo_graph_cost(g, 0, g->n_ops, info);
    return 0;
}

int moshi_codec_trace(moshi_codec *c, const char *globs, moshi_tap_fn fn, void *user) {
    if (!c || (fn && !globs)) return MOSHI_EINVAL;
    pthread_mutex_lock(&c->lock);
    int rc = mo_trace_set(&c->trace, globs, fn, user);
    pthread_mutex_unlock(&c->lock);
    return rc;
}

int moshi_codec_reset(moshi_codec *c) {
    if (!c) return MOSHI_EINVAL;
    pthread_mutex_lock(&c->lock);
    mo_arena_reset_slot(&c->encode.arena, 0);
    mo_arena_reset_slot(&c->decode.arena, 0);
    c->encode_calls = c->decode_calls = 0;
    pthread_mutex_unlock(&c->lock);
    return 0;
}

static int encode_call(moshi_codec *c, const float *pcm, size_t frames, int32_t *codes) {
    static const uint8_t exec[1] = {1};
    const mo_backend_ops *ops = c->be->ops;
    size_t frame = (size_t)c->info.frame_samples, all = (size_t)c->run.frames * frame;
    if (frames * frame < all) { /* the stream ends inside this call */
        memset(c->pcm, 0, all * sizeof *c->pcm);
        memcpy(c->pcm, pcm, frames * frame * sizeof *pcm);
        pcm = c->pcm;
    }
    ops->write(c->be, c->audio_in.buf, c->audio_in.offset * 4, pcm, all * 4);
    mo_crumb_drop(c->be->crumb, "encode", (uint64_t)c->encode_calls * (uint64_t)c->run.frames, 0);
    mo_stage_time start = mo_stage_time_now(c->be);
    int rc = mo_graph_run(&c->encode.graph, exec, &c->trace, &c->encode_calls);
    mo_stage_time_add(&c->times[MOSHI_STAGE_ENCODE], c->be, &start);
    if (rc < 0) return rc;
    c->encode_calls++;
    ops->read(c->be, c->codes_out.buf, c->codes_out.offset * 4, codes,
              frames * (size_t)c->run.codebooks * 4);
    return 0;
}

int moshi_codec_encode(moshi_codec *c, const float *pcm, size_t frames, int32_t *codes) {
    if (!c || (frames && (!pcm || !codes)) || frames > INT32_MAX) return MOSHI_EINVAL;
    size_t frame = (size_t)c->info.frame_samples, step = (size_t)c->run.frames;
    for (size_t i = 0; i < frames * frame; i++)
        if (!isfinite(pcm[i])) return MOSHI_EINVAL;
    int rc = 0;
    pthread_mutex_lock(&c->lock);
    for (size_t f = 0; rc == 0 && f < frames; f += step) {
        size_t n = frames - f < step ? frames - f : step;
        rc = encode_call(c, pcm + f * frame, n, codes + f * (size_t)c->run.codebooks);
    }
    pthread_mutex_unlock(&c->lock);
    return rc < 0 ? rc : (int)frames;
}

static int decode_call(moshi_codec *c, const int32_t *codes, size_t frames, float *pcm) {
    static const uint8_t exec[1] = {1};
    const mo_backend_ops *ops = c->be->ops;
    size_t n = (size_t)c->run.codebooks, all = (size_t)c->run.frames * n;
    memset(c->codes, 0, all * sizeof *c->codes);
    memcpy(c->codes, codes, frames * n * sizeof *codes);
    ops->write(c->be, c->codes_in.buf, c->codes_in.offset * 4, c->codes, all * 4);
    mo_crumb_drop(c->be->crumb, "decode", (uint64_t)c->decode_calls * (uint64_t)c->run.frames, 0);
    mo_stage_time start = mo_stage_time_now(c->be);
    int rc = mo_graph_run(&c->decode.graph, exec, &c->trace, &c->decode_calls);
    mo_stage_time_add(&c->times[MOSHI_STAGE_DECODE], c->be, &start);
    if (rc < 0) return rc;
    c->decode_calls++;
    ops->read(c->be, c->audio_out.buf, c->audio_out.offset * 4, pcm,
              frames * (size_t)c->info.frame_samples * 4);
    return 0;
}

int moshi_codec_decode(moshi_codec *c, const int32_t *codes, size_t frames, float *pcm) {
    if (!c || (frames && (!pcm || !codes)) || frames > INT32_MAX) return MOSHI_EINVAL;
    size_t n = (size_t)c->run.codebooks, step = (size_t)c->run.frames;
    for (size_t i = 0; i < frames * n; i++)
        if (codes[i] < 0 || codes[i] >= c->info.bins) return MOSHI_EINVAL;
    int rc = 0;
    pthread_mutex_lock(&c->lock);
    for (size_t f = 0; rc == 0 && f < frames; f += step) {
        size_t m = frames - f < step ? frames - f : step;
        rc = decode_call(c, codes + f * n, m, pcm + f * (size_t)c->info.frame_samples);
    }
    pthread_mutex_unlock(&c->lock);
    return rc < 0 ? rc : (int)frames;
}
