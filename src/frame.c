#include "frame.h"

#include <string.h>

void mo_stage_free(mo_stage *st) {
    if (st->graph.arena) mo_graph_free(&st->graph);
    if (st->arena.be) mo_arena_close(&st->arena);
}

/* Does the device work while the host does something else? */
static bool has_sets(const moshi_engine *e) {
    return e->sets[0].stage.graph.program != NULL;
}

/* Byte offset of column 0 of a slot's first row. */
static size_t slot_offset(const mo_view *v, int slot) {
    return (v->offset + v->slot_stride * (size_t)slot) * 4;
}

static void slot_write(moshi_engine *e, const mo_view *v, int slot, const void *src, size_t n) {
    e->be->ops->write(e->be, v->buf, slot_offset(v, slot), src, n * 4);
}

static void slot_read(moshi_engine *e, const mo_view *v, int slot, void *dst, size_t n) {
    e->be->ops->read(e->be, v->buf, slot_offset(v, slot), dst, n * 4);
}

void mo_frame_write_params(moshi_engine *e, const moshi_session *s) {
    uint32_t row[MO_SAMPLE_COLS];
    const moshi_session_options *o = &s->options;
    memcpy(&row[MO_SAMPLE_TEXT_TEMP], &o->text_temp, 4);
    memcpy(&row[MO_SAMPLE_AUDIO_TEMP], &o->audio_temp, 4);
    memcpy(&row[MO_SAMPLE_TEXT_TOP_K], &o->text_top_k, 4);
    memcpy(&row[MO_SAMPLE_AUDIO_TOP_K], &o->audio_top_k, 4);
    row[MO_SAMPLE_SEED_LO] = (uint32_t)o->seed;
    row[MO_SAMPLE_SEED_HI] = (uint32_t)(o->seed >> 32);
    slot_write(e, &e->model.lm.params, s->slot, row, MO_SAMPLE_COLS);
}

static void reset_encoder(moshi_engine *e, int slot) {
    if (e->has_codec) mo_arena_reset_slot(&e->encode.arena, slot);
    e->codec_steps[slot] = 0;
}

void mo_frame_reset_slot(moshi_engine *e, int slot) {
    reset_encoder(e, slot);
    if (e->has_decoder) mo_arena_reset_slot(&e->decode.arena, slot);
    mo_arena_reset_slot(&e->step.arena, slot);
    for (int i = 0; i < 2 && has_sets(e); i++) mo_arena_reset_slot(&e->sets[i].stage.arena, slot);
    e->lm_steps[slot] = 0;
}

/* ---- gather ------------------------------------------------------------------------------- */

/* Write the session's next frame of samples, the last one of a stream filled up with silence. */
static void lay_pcm(moshi_engine *e, const moshi_session *s, const mo_inputs *in) {
    size_t frame = (size_t)e->info.frame_samples, cap = frame * MOSHI_INPUT_FRAMES;
    size_t n = s->pcm_n < frame ? s->pcm_n : frame;
    for (size_t i = 0; i < n; i++) e->pcm[i] = s->pcm[(s->pcm_at + i) % cap];
    memset(e->pcm + n, 0, (frame - n) * sizeof *e->pcm);
    slot_write(e, &in->sound, s->slot, e->pcm, frame);
}

static size_t codes_row(const moshi_engine *e) {
    return (size_t)e->info.user_codebooks + 1 + (size_t)e->info.dep_q;
}

static void lay_codes(moshi_engine *e, const moshi_session *s, const mo_inputs *in) {
    size_t user = (size_t)e->info.user_codebooks, row = codes_row(e);
    const int32_t *codes = s->codes + s->codes_at * row;
    if (user) slot_write(e, &in->user, s->slot, codes, user);
    slot_write(e, &in->force, s->slot, codes + user, row - user);
}

/* Write a session's next input to where the device will look for that of frame `frame`; it stays in
 * the queue. The caller holds the session's lock. */
static void lay(moshi_engine *e, moshi_session *s, uint64_t frame) {
    const mo_inputs *in = has_sets(e) ? &e->sets[frame % 2].in : &e->inputs;
    if (s->laid_for == frame) return;
    if (s->input == MO_INPUT_PCM)
        lay_pcm(e, s, in);
    else
        lay_codes(e, s, in);
    s->laid_for = frame;
}

/* While the device is at a frame: what sessions have queued for the next one lies ready then. What
 * is reset or closed before, or takes no part in that frame, is laid anew. */
static void lay_next(void *user) {
    moshi_engine *e = user;
    for (int i = 0; i < e->slots; i++) {
        moshi_session *s = e->sessions[i];
        if (!s) continue;
        pthread_mutex_lock(&s->lock);
        if (mo_session_has_input(s)) lay(e, s, e->frames + 1);
        pthread_mutex_unlock(&s->lock);
    }
}

/* Take what was laid out of the queue. */
static void take(const moshi_engine *e, moshi_session *s) {
    size_t frame = (size_t)e->info.frame_samples;
    if (s->input == MO_INPUT_PCM) {
        size_t n = s->pcm_n < frame ? s->pcm_n : frame;
        s->pcm_at = (s->pcm_at + n) % (frame * MOSHI_INPUT_FRAMES);
        s->pcm_n -= n;
    } else {
        s->codes_at = (s->codes_at + 1) % MOSHI_INPUT_FRAMES;
        s->codes_n--;
    }
}

/* Fill the exec masks and the programs' inputs; returns how many sessions take part. exec_audio is
 * who wants sound: whether there is some is known when the tokens are. */
static int gather(moshi_engine *e) {
    int ready = 0;
    for (int i = 0; i < e->slots; i++) {
        moshi_session *s = e->sessions[i];
        e->exec[i] = e->exec_pcm[i] = e->exec_twice[i] = e->exec_audio[i] = e->exec_ahead[i] = 0;
        if (!s || !mo_session_ready(s)) continue;
        pthread_mutex_lock(&s->lock);
        e->exec[i] = 1;
        e->exec_audio[i] = e->has_decoder && !(s->options.flags & MOSHI_NO_AUDIO);
        const bool pcm = s->input == MO_INPUT_PCM;
        e->exec_ahead[i] = pcm;            /* until begin_ahead() knows who has more */
        e->exec_pcm[i] = pcm && !s->heard; /* the encoder may have been at it ahead */
        e->exec_twice[i] = pcm && s->ticks == 0 && !(s->options.flags & MOSHI_FIRST_FRAME_SERVER);
        s->stepping = true;
        ready++;
        if (!s->heard) lay(e, s, e->frames);
        s->heard = false;
        take(e, s);
        pthread_mutex_unlock(&s->lock);
    }
    return ready;
}

/* ---- run ---------------------------------------------------------------------------------- */

static bool any(const uint8_t *mask, int n) {
    uint8_t found = 0;
    for (int i = 0; i < n; i++) found |= mask[i];
    return found;
}

/* A part of a frame: ops of one stage. */
typedef struct frame_part {
    moshi_stage stage;
    const char *name; /* for the breadcrumb */
    const mo_graph *graph;
    int first, last;
    const uint8_t *exec;
    int64_t *steps;
    bool counts; /* a step of `steps` ends here */
} frame_part;

enum { MOST_PARTS = 6 /* the model may run twice */ };

typedef struct frame_plan {
    int n;
    frame_part parts[MOST_PARTS];
} frame_plan;

static void plan_part(frame_plan *plan, int slots, frame_part part) {
    if (part.first < part.last && any(part.exec, slots)) plan->parts[plan->n++] = part;
}

static void plan_model(moshi_engine *e, frame_plan *plan, const uint8_t *exec) {
    const mo_graph *g = &e->step.graph;
    const int depth = e->model.lm.depth_op;
    plan_part(plan, e->slots,
              (frame_part){MOSHI_STAGE_TEMPORAL, "step", g, 0, depth, exec, e->lm_steps,
                           depth == g->n_ops});
    plan_part(plan, e->slots,
              (frame_part){MOSHI_STAGE_DEPTH, "step", g, depth, g->n_ops, exec, e->lm_steps, true});
}

/* All that this frame needs, in order. */
static void plan_frame(moshi_engine *e, frame_plan *plan) {
    const mo_graph *encode = &e->encode.graph, *decode = &e->decode.graph;
    plan->n = 0;
    plan_part(plan, e->slots,
              (frame_part){MOSHI_STAGE_ENCODE, "encode", encode, 0, encode->n_ops, e->exec_pcm,
                           e->codec_steps, true});
    /* With the file convention the first frame's codes are stepped twice: at step 0 every channel
     * sees its initial token, so a single step would never show them to the model. */
    plan_model(e, plan, e->exec_twice);
    plan_model(e, plan, e->exec);
    plan_part(plan, e->slots,
              (frame_part){MOSHI_STAGE_DECODE, "decode", decode, 0, decode->n_ops, e->exec_audio,
                           e->lm_steps, false});
}

static void part_done(moshi_engine *e, const frame_part *part) {
    for (int i = 0; part->counts && i < e->slots; i++) part->steps[i] += part->exec[i];
}

/* Sound is made where the grid gave a frame of audio tokens that are codes (forced ones may not
 * be): what mo_sift() has told the device, for the host. */
static void sift_audio(moshi_engine *e) {
    for (int i = 0; i < e->slots; i++) {
        if (!e->exec_audio[i]) continue;
        slot_read(e, &e->model.lm.out_tokens, i, e->tokens, 1 + (size_t)e->info.dep_q);
        for (int k = 1; k <= e->info.dep_q; k++)
            e->exec_audio[i] &= e->tokens[k] >= 0 && e->tokens[k] < e->model.mimi.cfg.bins;
    }
}

/* What takes this frame's set of inputs to the programs; without one, nothing. */
static mo_run take_inputs(const moshi_engine *e) {
    const mo_input_set *set = &e->sets[e->frames % 2];
    const mo_graph *g = &set->stage.graph;
    bool sound = any(e->exec_pcm, e->slots), codes = false;
    for (int i = 0; i < e->slots; i++) codes |= e->exec[i] && !e->exec_pcm[i];
    return (mo_run){g->program, sound ? 0 : set->codes_op, codes ? g->n_ops : set->codes_op,
                    e->exec, 0};
}

/* Part by part from `first` on, and a part as far as the next tap where there is a trace. */
static int run_in_turn(moshi_engine *e, const frame_plan *plan, int first, int last) {
    int rc = 0;
    for (int i = first; rc == 0 && i < last; i++) {
        const frame_part *p = &plan->parts[i];
        if (p->stage == MOSHI_STAGE_DECODE) sift_audio(e);
        if (!any(p->exec, e->slots)) continue;
        mo_crumb_drop(e->be->crumb, p->name, e->frames, 0);
        mo_backend *be = p->graph->arena->be;
        mo_stage_time start = mo_stage_time_now(be);
        rc = mo_graph_run_part(p->graph, p->first, p->last, p->exec, &e->trace, p->steps);
        mo_stage_time_add(&e->times[p->stage], be, &start);
        part_done(e, p);
    }
    return rc;
}

static int run_all_in_turn(moshi_engine *e, const frame_plan *plan) {
    const mo_run in = take_inputs(e);
    int rc = has_sets(e) ? e->be->ops->run(e->be, in.program, in.first, in.last, in.exec) : 0;
    return rc < 0 ? rc : run_in_turn(e, plan, 0, plan->n);
}

/* All of it as one piece of work for the device, which knows how long each part took. */
static int run_at_once(moshi_engine *e, const frame_plan *plan) {
    mo_run all[1 + MOST_PARTS] = {take_inputs(e)}, *parts = all + 1;
    for (int i = 0; i < plan->n; i++) {
        const frame_part *p = &plan->parts[i];
        parts[i] = (mo_run){p->graph->program, p->first, p->last, p->exec, 0};
    }
    mo_crumb_drop(e->be->crumb, "step", e->frames, 0);
    int rc = e->be->ops->run_parts(e->be, all, 1 + plan->n, lay_next, e);
    sift_audio(e);
    for (int i = 0; i < plan->n; i++) {
        mo_stage_time *t = &e->times[plan->parts[i].stage];
        t->runs += any(parts[i].exec, e->slots);
        t->seconds += parts[i].seconds;
        part_done(e, &plan->parts[i]);
    }
    return rc;
}

/* What the encoder's own threads do while the model runs. */
static int hear_ahead(void *engine) {
    moshi_engine *e = engine;
    const mo_graph *g = &e->encode.graph;
    mo_stage_time start = mo_stage_time_now(e->codec_be);
    int rc = mo_graph_run(g, e->exec_ahead, NULL, e->codec_steps);
    mo_stage_time_add(&e->times[MOSHI_STAGE_ENCODE], e->codec_be, &start);
    for (int i = 0; i < e->slots; i++) e->codec_steps[i] += e->exec_ahead[i];
    return rc;
}

/* Who has a whole frame more: not what follows the reference server's first frame, after which the
 * encoder starts again, and nothing that a trace is to see. */
static bool begin_ahead(moshi_engine *e) {
    for (int i = 0; i < e->slots; i++) {
        moshi_session *s = e->sessions[i];
        if (!e->exec_ahead[i]) continue;
        const bool server = s->ticks == 0 && (s->options.flags & MOSHI_FIRST_FRAME_SERVER);
        pthread_mutex_lock(&s->lock);
        s->heard = s->pcm_n >= (size_t)e->info.frame_samples && !server && !e->trace.fn;
        e->exec_ahead[i] = s->heard;
        if (s->heard) lay_pcm(e, s, &e->inputs);
        pthread_mutex_unlock(&s->lock);
    }
    if (!any(e->exec_ahead, e->slots)) return false;
    mo_aside_begin(e->aside, hear_ahead, e);
    return true;
}

/* The encoder, where it is behind, then the rest beside what it can hear ahead. */
static int run_beside(moshi_engine *e, const frame_plan *plan) {
    const int encode = plan->parts[0].stage == MOSHI_STAGE_ENCODE;
    int rc = run_in_turn(e, plan, 0, encode);
    if (rc < 0) return rc;
    for (int i = 0; i < e->slots; i++) {
        if (!e->exec_ahead[i]) continue;
        slot_read(e, &e->heard, i, e->codes, (size_t)e->info.user_codebooks);
        slot_write(e, &e->model.lm.user_codes, i, e->codes, (size_t)e->info.user_codebooks);
    }
    const bool ahead = begin_ahead(e);
    rc = run_in_turn(e, plan, encode, plan->n);
    const int heard = ahead ? mo_aside_end(e->aside) : 0;
    return rc < 0 ? rc : heard;
}

static int run(moshi_engine *e) {
    frame_plan plan;
    plan_frame(e, &plan);
    int rc = has_sets(e) && !e->trace.fn ? run_at_once(e, &plan)
             : e->aside                  ? run_beside(e, &plan)
                                         : run_all_in_turn(e, &plan);
    /* The reference server starts its codec again after encoding the first frame and accepts the
     * loss. The decoder has nothing to lose by then: its first frame comes after that. */
    for (int i = 0; i < e->slots; i++) {
        const moshi_session *s = e->sessions[i];
        if (e->exec_pcm[i] && s->ticks == 0 && (s->options.flags & MOSHI_FIRST_FRAME_SERVER))
            reset_encoder(e, i);
    }
    return rc;
}

/* ---- scatter ------------------------------------------------------------------------------ */

static void scatter(moshi_engine *e, bool failed) {
    size_t user = (size_t)e->info.user_codebooks, out = 1 + (size_t)e->info.dep_q;
    for (int i = 0; i < e->slots; i++) {
        moshi_session *s = e->sessions[i];
        if (!e->exec[i]) continue;
        slot_read(e, &e->model.lm.out_tokens, i, e->tokens, out);
        if (failed) e->tokens[0] = MOSHI_NO_TOKEN;
        if (user) slot_read(e, &e->model.lm.user_codes, i, e->codes, user);
        if (e->exec_audio[i]) slot_read(e, &e->audio_out, i, e->pcm, (size_t)e->info.frame_samples);
        pthread_mutex_lock(&s->lock);
        s->ticks++;
        s->stepping = false;
        if (e->tokens[0] != MOSHI_NO_TOKEN)
            mo_session_deliver(s, e->tokens, e->codes, e->exec_audio[i] ? e->pcm : NULL);
        pthread_mutex_unlock(&s->lock);
    }
}

int mo_frame_step(moshi_engine *e) {
    int ready = gather(e);
    if (ready == 0) return 0;
    int rc = run(e);
    scatter(e, rc < 0);
    mo_crumb_drop(e->be->crumb, "ready", ++e->frames, 0);
    return rc < 0 ? rc : ready;
}
