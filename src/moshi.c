/* moshi.c - where the public API enters: engines. Sessions are in session.c, the 80 ms main path in
 * frame.c, the codec alone in codec.c. */
#include "dry.h"
#include "frame.h"
#include "made.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_SESSIONS = 1024, MAX_THREADS = 256 };

#define TEXT_OF(number)  TEXT_OF_(number)
#define TEXT_OF_(number) #number

const char *moshi_version(void) {
    return TEXT_OF(MOSHI_VERSION_MAJOR) "." TEXT_OF(MOSHI_VERSION_MINOR) "." TEXT_OF(
        MOSHI_VERSION_PATCH);
}

const char *moshi_strerror(int code) {
    switch (code) {
#define ERROR_TEXT(name, value, text) \
    case name:                        \
        return text;
        MOSHI_ERROR_LIST(ERROR_TEXT)
#undef ERROR_TEXT
    }
    return code >= 0 ? "no error" : "unknown error";
}

/* ---- opening ------------------------------------------------------------------------------ */

/* By moshi_kv. */
static const struct {
    const char *name;
    mo_dtype dtype;
} kv_types[] = {{"f32", MO_F32}, {"f32", MO_F32}, {"bf16", MO_BF16}, {"q8_0", MO_I8}};

static int options_check(const moshi_engine_options *o, moshi_error *err) {
    const int known = MOSHI_EXACT | MOSHI_EXACT_MASK | MOSHI_NO_CODEC | MOSHI_DRY_RUN;
    if (o->preset && (o->model || o->n_blobs))
        return mo_fail(err, MOSHI_EINVAL, "engine options: give a preset or a model, not both");
    if (!o->model && !o->n_blobs && !o->preset)
        return mo_fail(err, MOSHI_EINVAL, "engine options: model, blobs and preset are missing");
    if (o->preset_type && !o->preset)
        return mo_fail(err, MOSHI_EINVAL,
                       "engine options: preset_type: wanted a preset with it, found '%s' alone",
                       o->preset_type);
    if (o->model && o->n_blobs)
        return mo_fail(err, MOSHI_EINVAL, "engine options: give a model path or blobs, not both");
    if (o->sessions < 0 || o->sessions > MAX_SESSIONS)
        return mo_fail(err, MOSHI_EINVAL, "engine options: sessions: wanted 1..%d, found %d",
                       MAX_SESSIONS, o->sessions);
    if (o->threads < 0 || o->threads > MAX_THREADS)
        return mo_fail(err, MOSHI_EINVAL, "engine options: threads: wanted 0..%d, found %d",
                       MAX_THREADS, o->threads);
    if (o->codec_threads < 0 || o->codec_threads > MAX_THREADS)
        return mo_fail(err, MOSHI_EINVAL, "engine options: codec_threads: wanted 0..%d, found %d",
                       MAX_THREADS, o->codec_threads);
    if (o->flags & ~known)
        return mo_fail(err, MOSHI_EINVAL, "engine options: unknown flags 0x%x",
                       (unsigned)(o->flags & ~known));
    if ((unsigned)o->kv >= sizeof kv_types / sizeof *kv_types)
        return mo_fail(err, MOSHI_EINVAL, "engine options: kv: wanted a moshi_kv, found %d",
                       (int)o->kv);
    if ((o->flags & MOSHI_EXACT) && kv_types[o->kv].dtype != MO_F32)
        return mo_fail(err, MOSHI_EINVAL,
                       "engine options: kv: wanted f32 with MOSHI_EXACT, found %s",
                       kv_types[o->kv].name);
    return 0;
}

static void stage_begin(moshi_engine *e, mo_stage *st, mo_backend *be, moshi_error *err) {
    mo_arena_open(&st->arena, be, e->slots);
    mo_graph_begin(&st->graph, &st->arena, err);
}

static int stage_finish(moshi_engine *e, mo_stage *st) {
    int rc = mo_graph_finish(&st->graph);
    size_t most = mo_graph_tap_bytes(&st->graph);
    if (most > e->tap_bytes) e->tap_bytes = most;
    e->info.state_bytes += st->arena.bytes;
    e->info.scratch_bytes += st->arena.bytes - st->arena.kept_bytes;
    return rc;
}

/* An input of a set, and the op that takes it to `to`, in one piece as the host writes it. */
static mo_view record_input(mo_graph *g, mo_view to, int32_t fill) {
    if (!to.buf) return to;
    to.cols *= to.rows;
    to.rows = 1;
    mo_view from = mo_input_view(g, 1, to.cols, fill);
    mo_act_op(g, MO_ACT_COPY, from, to);
    return from;
}

/* Two sets of inputs for a device that works while the host does something else: the next frame is
 * laid ready in one while the device is at the frame in the other. */
static int record_sets(moshi_engine *e, moshi_error *err) {
    int rc = 0;
    for (int i = 0; i < 2 && rc == 0 && e->be->ops->alloc_input; i++) {
        mo_input_set *set = &e->sets[i];
        mo_graph *g = &set->stage.graph;
        stage_begin(e, &set->stage, e->be, err);
        set->in.sound = record_input(g, e->inputs.sound, 0);
        set->codes_op = g->n_ops;
        set->in.user = record_input(g, e->inputs.user, 0);
        set->in.force = record_input(g, e->inputs.force, MOSHI_FREE);
        rc = stage_finish(e, &set->stage);
    }
    return rc;
}

static int record_encoder(moshi_engine *e, mo_mimi_run run, moshi_error *err) {
    const mo_lm_config *c = &e->model.lm.cfg;
    mo_graph *g = &e->encode.graph;
    mo_view codes = e->model.lm.user_codes;
    run.codebooks = c->n_q - c->dep_q;
    stage_begin(e, &e->encode, e->codec_be ? e->codec_be : e->be, err);
    if (e->codec_be) codes = e->heard = mo_state_view(g, 1, run.codebooks, 0);
    mo_mimi_record_encoder(g, &e->model.mimi, &run, &e->inputs.sound, codes);
    return stage_finish(e, &e->encode);
}

/* Record the three programs. The encoder writes its codes where the model reads the user's (unless
 * it works ahead), the decoder reads its codes where the grid puts its output, those of who has any
 * there: nothing passes through the host. */
static int record_programs(moshi_engine *e, mo_dtype kv_type, moshi_error *err) {
    const mo_lm_config *c = &e->model.lm.cfg;
    mo_mimi_run run = {.frames = 1, .exact_mask = (e->flags & MOSHI_EXACT_MASK) != 0};
    stage_begin(e, &e->step, e->be, err);
    mo_lm_record(&e->step.graph, &e->model.lm, kv_type);
    int rc = stage_finish(e, &e->step);
    if (rc == 0 && e->has_codec && c->n_q > c->dep_q) rc = record_encoder(e, run, err);
    if (rc == 0 && e->has_decoder) {
        stage_begin(e, &e->decode, e->be, err);
        run.codebooks = c->dep_q;
        mo_view codes = mo_cols(e->model.lm.out_tokens, 1, c->dep_q);
        mo_sift(&e->decode.graph, codes, e->model.mimi.cfg.bins);
        mo_mimi_record_decoder(&e->decode.graph, &e->model.mimi, &run, codes, &e->audio_out);
        rc = stage_finish(e, &e->decode);
    }
    e->inputs.user = e->model.lm.user_codes;
    e->inputs.force = e->model.lm.force;
    return rc == 0 ? record_sets(e, err) : rc;
}

static int alloc_workspace(moshi_engine *e, moshi_error *err) {
    size_t n = (size_t)e->slots;
    e->sessions = mo_calloc(n, sizeof *e->sessions);
    e->exec = mo_calloc(n, 1);
    e->exec_pcm = mo_calloc(n, 1);
    e->exec_twice = mo_calloc(n, 1);
    e->exec_audio = mo_calloc(n, 1);
    e->exec_ahead = mo_calloc(n, 1);
    e->lm_steps = mo_calloc(n, sizeof *e->lm_steps);
    e->codec_steps = mo_calloc(n, sizeof *e->codec_steps);
    e->pcm = mo_calloc((size_t)e->info.frame_samples + 1, sizeof *e->pcm);
    e->tokens = mo_calloc(1 + (size_t)e->model.lm.cfg.dep_q, sizeof *e->tokens);
    e->codes = mo_calloc(1 + (size_t)e->model.lm.cfg.n_q, sizeof *e->codes);
    e->trace.scratch = mo_calloc(e->tap_bytes + 4, 1);
    e->trace.scratch_bytes = e->tap_bytes;
    if (!e->sessions || !e->exec || !e->exec_pcm || !e->exec_twice || !e->exec_audio ||
        !e->exec_ahead || !e->lm_steps || !e->codec_steps || !e->pcm || !e->tokens || !e->codes ||
        !e->trace.scratch)
        return mo_fail(err, MOSHI_ENOMEM, "out of memory for %d sessions", e->slots);
    return 0;
}

static int engine_new(moshi_engine **out, const moshi_engine_options *o, moshi_error *err) {
    moshi_engine *e = mo_calloc(1, sizeof *e);
    if (!e || pthread_mutex_init(&e->lock, NULL) != 0) {
        free(e);
        return mo_fail(err, MOSHI_ENOMEM, "out of memory for an engine");
    }
    e->slots = o->sessions ? o->sessions : 1;
    e->flags = o->flags;
    *out = e;
    return 0;
}

/* Before any session: what the products write to is reset with each. */
static void settle(moshi_engine *e, const moshi_engine_options *o) {
    if (o->threads == 0 && e->be->ops->settle)
        e->be->ops->settle(e->be, e->step.graph.program, 0, e->model.lm.depth_op);
    e->info.threads = e->be->ops->threads(e->be);
}

static int open_with_files(moshi_engine *e, mo_model_files *f, const moshi_engine_options *o,
                           moshi_error *err) {
    mo_progress progress = {o->progress, o->progress_user};
    e->has_codec = f->has_mimi;
    e->has_decoder = e->has_codec && f->lm.dep_q > 0;
    mo_loras loras;
    int rc = mo_loras_open(&loras, o->loras, o->n_loras, err);
    bool exact = (o->flags & MOSHI_EXACT) != 0;
    if (rc == 0) rc = mo_model_load(&e->model, f, e->be, &loras, exact, &progress, err);
    mo_loras_close(&loras);
    if (rc < 0) return rc;
    mo_model_describe(f, &e->info);
    e->info.model_type = mo_format("%s", e->info.model_type);
    if (!e->info.model_type) return mo_fail(err, MOSHI_ENOMEM, "out of memory");
    e->info.delays = e->model.lm.cfg.delays;
    e->info.device = e->device;
    e->info.kernels = e->be->ops->kernels(e->be);
    e->info.kv = kv_types[o->kv].name;
    e->info.cores = e->be->ops->settle ? mo_core_count() : 0;
    e->info.codec_threads = e->codec_be ? e->codec_be->ops->threads(e->codec_be) : 0;
    e->info.sessions = e->slots;
    e->info.parameters = e->model.weights.parameters;
    e->info.weight_bytes = e->model.weights.bytes;
    mo_crumb_drop(e->be->crumb, "programs", 0, 0);
    rc = record_programs(e, kv_types[o->kv].dtype, err);
    if (rc == 0) rc = alloc_workspace(e, err);
    if (rc == 0) settle(e, o);
    if (rc == 0) mo_crumb_drop(e->be->crumb, "ready", 0, 0);
    return rc;
}

/* A device with memory of its own: does all of it fit? Asked before the first weight is uploaded.
 */
static int check_room(const moshi_engine *e, mo_model_files *f, const moshi_engine_options *o,
                      moshi_error *err) {
    moshi_engine_options silent = *o;
    moshi_engine *plan;
    if (!e->be->ops->room) return 0;
    silent.progress = NULL;
    int rc = engine_new(&plan, o, err);
    if (rc < 0) return rc;
    rc = mo_dry_over(&plan->be, e->be, err);
    if (rc == 0) rc = open_with_files(plan, f, &silent, err);
    if (rc == 0)
        rc = mo_room_check(e->be, plan->info.weight_bytes, plan->info.state_bytes, e->slots, err);
    moshi_engine_close(plan);
    return rc;
}

/* Threads for a backend: where the encoder gets some of its own, the model keeps the other cores.
 */
static int threads_for(const moshi_engine_options *o, bool aside) {
    const int left = mo_core_count() - o->codec_threads;
    if (!aside || o->threads > 0) return o->threads;
    return left > 1 ? left : 1;
}

/* Threads of the encoder's own: a second backend, whose programs work on the same memory. */
static int open_aside(moshi_engine *e, const moshi_engine_options *o, mo_backend_options bo,
                      moshi_error *err) {
    bo.threads = o->codec_threads;
    int rc = e->be->ops->open(&e->codec_be, &bo, err);
    if (rc < 0) return rc;
    e->aside = mo_aside_open();
    return e->aside ? 0 : mo_fail(err, MOSHI_ENOMEM, "cannot start a thread for the encoder");
}

static int engine_open(moshi_engine *e, const moshi_engine_options *o, moshi_error *err) {
    mo_device device;
    int rc = mo_device_find(&device, o->device, err);
    if (rc < 0) return rc;
    memcpy(e->device, device.info.name, sizeof e->device);
    mo_crumb_drop(o->breadcrumb, "files", 0, 0);
    int want = MO_WANT_LM;
    if (!(o->flags & MOSHI_NO_CODEC)) want |= MO_WANT_MIMI | MO_WANT_TEXT;
    mo_model_files files;
    const mo_model_place place = {o->model, o->blobs, o->n_blobs, o->finder};
    rc = o->preset ? mo_made_files_open(&files, o->preset, o->preset_type, want,
                                        (o->flags & MOSHI_DRY_RUN) != 0, err)
                   : mo_model_files_open(&files, &place, want, err);
    if (rc < 0) return rc;
    const bool aside = o->codec_threads > 0 && device.ops->host_memory && files.has_mimi &&
                       files.lm.n_q > files.lm.dep_q && !(o->flags & MOSHI_DRY_RUN);
    const mo_backend_options bo = {.threads = threads_for(o, aside),
                                   .nth = device.nth,
                                   .cache = o->cache,
                                   .kernels = device.kernels};
    mo_crumb_drop(o->breadcrumb, "device", 0, 0);
    rc = o->flags & MOSHI_DRY_RUN ? mo_dry_open(&e->be, device.ops, &bo, err)
                                  : device.ops->open(&e->be, &bo, err);
    if (rc == 0) e->be->crumb = o->breadcrumb;
    if (rc == 0 && aside) rc = open_aside(e, o, bo, err);
    if (rc == 0) rc = check_room(e, &files, o, err);
    if (rc == 0) rc = open_with_files(e, &files, o, err);
    if (rc == 0 && files.has_text) {
        e->text = files.text; /* moved: the only part of the files that outlives opening */
        memset(&files.text, 0, sizeof files.text);
    }
    mo_model_files_close(&files);
    return rc;
}

int moshi_engine_open(moshi_engine **out, const moshi_engine_options *options, moshi_error *err) {
    if (err) *err = (moshi_error){0};
    if (!out || !options)
        return mo_fail(err, MOSHI_EINVAL, "moshi_engine_open: out and options must not be NULL");
    *out = NULL;
    int rc = options_check(options, err);
    if (rc < 0) return rc;
    moshi_engine *e;
    rc = engine_new(&e, options, err);
    if (rc < 0) return rc;
    rc = engine_open(e, options, err);
    if (rc < 0) {
        moshi_engine_close(e);
        return rc;
    }
    *out = e;
    return 0;
}

/* ---- closing, facts, stepping ------------------------------------------------------------- */

void moshi_engine_close(moshi_engine *e) {
    if (!e) return;
    for (int i = 0; e->sessions && i < e->slots; i++)
        if (e->sessions[i]) mo_session_free(e->sessions[i]);
    mo_aside_close(e->aside);
    if (e->be) {
        mo_stage_free(&e->encode);
        mo_stage_free(&e->step);
        mo_stage_free(&e->decode);
        for (int i = 0; i < 2; i++) mo_stage_free(&e->sets[i].stage);
        mo_model_free(&e->model);
        if (e->codec_be) e->codec_be->ops->close(e->codec_be);
        e->be->ops->close(e->be);
    }
    free((char *)e->info.model_type);
    mo_text_free(&e->text);
    free(e->sessions);
    free(e->exec);
    free(e->exec_pcm);
    free(e->exec_twice);
    free(e->exec_audio);
    free(e->exec_ahead);
    free(e->lm_steps);
    free(e->codec_steps);
    free(e->pcm);
    free(e->tokens);
    free(e->codes);
    free(e->trace.globs);
    free(e->trace.scratch);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

int moshi_engine_get_info(const moshi_engine *engine, moshi_engine_info *info) {
    if (!engine || !info) return MOSHI_EINVAL;
    *info = engine->info;
    return 0;
}

const char *moshi_engine_problem(const moshi_engine *engine) {
    return engine && engine->be ? engine->be->problem : "";
}

int moshi_step(moshi_engine *engine) {
    if (!engine) return MOSHI_EINVAL;
    pthread_mutex_lock(&engine->lock);
    int rc = mo_frame_step(engine);
    pthread_mutex_unlock(&engine->lock);
    return rc;
}

int moshi_engine_trace(moshi_engine *engine, const char *globs, moshi_tap_fn fn, void *user) {
    if (!engine || (fn && !globs)) return MOSHI_EINVAL;
    pthread_mutex_lock(&engine->lock);
    int rc = mo_trace_set(&engine->trace, globs, fn, user);
    pthread_mutex_unlock(&engine->lock);
    return rc;
}
