#include "frame.h"

#include <string.h>

void mo_stage_free(mo_stage *st) {
    if (st->graph.arena) mo_graph_free(&st->graph);
    if (st->arena.be) mo_arena_close(&st->arena);
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

static void reset_codec(moshi_engine *e, int slot) {
    if (e->has_codec) mo_arena_reset_slot(&e->encode.arena, slot);
    if (e->has_decoder) mo_arena_reset_slot(&e->decode.arena, slot);
    e->codec_steps[slot] = 0;
}

void mo_frame_reset_slot(moshi_engine *e, int slot) {
    reset_codec(e, slot);
    mo_arena_reset_slot(&e->step.arena, slot);
    e->lm_steps[slot] = 0;
}

/* ---- gather ------------------------------------------------------------------------------- */

/* Move one frame of samples from the session's ring to the encoder's input, the last one of a
 * stream filled up with silence. */
static void gather_pcm(moshi_engine *e, moshi_session *s) {
    size_t frame = (size_t)e->info.frame_samples, cap = frame * MOSHI_INPUT_FRAMES;
    size_t n = s->pcm_n < frame ? s->pcm_n : frame;
    for (size_t i = 0; i < n; i++) e->pcm[i] = s->pcm[(s->pcm_at + i) % cap];
    memset(e->pcm + n, 0, (frame - n) * sizeof *e->pcm);
    s->pcm_at = (s->pcm_at + n) % cap;
    s->pcm_n -= n;
    slot_write(e, &e->audio_in, s->slot, e->pcm, frame);
}

static void gather_codes(moshi_engine *e, moshi_session *s) {
    size_t user = (size_t)e->info.user_codebooks, forced = 1 + (size_t)e->info.dep_q;
    const int32_t *row = s->codes + s->codes_at * (user + forced);
    if (user) slot_write(e, &e->model.lm.user_codes, s->slot, row, user);
    slot_write(e, &e->model.lm.force, s->slot, row + user, forced);
    s->codes_at = (s->codes_at + 1) % MOSHI_INPUT_FRAMES;
    s->codes_n--;
}

/* Fill the exec masks and the programs' inputs; returns how many sessions take part. */
static int gather(moshi_engine *e) {
    int ready = 0;
    for (int i = 0; i < e->slots; i++) {
        moshi_session *s = e->sessions[i];
        e->exec[i] = e->exec_pcm[i] = e->exec_twice[i] = e->exec_audio[i] = 0;
        if (!s || !mo_session_ready(s)) continue;
        pthread_mutex_lock(&s->lock);
        e->exec[i] = 1;
        s->stepping = true;
        ready++;
        if (s->input == MO_INPUT_PCM) {
            bool server = s->options.flags & MOSHI_FIRST_FRAME_SERVER;
            gather_pcm(e, s);
            e->exec_pcm[i] = 1;
            e->exec_twice[i] = s->ticks == 0 && !server;
        } else {
            gather_codes(e, s);
        }
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

/* Ops first .. last - 1 of a program, timed as `stage`. */
static int run_part(moshi_engine *e, const mo_stage *st, moshi_stage stage, int first, int last,
                    const uint8_t *exec, const int64_t *steps) {
    mo_stage_time start = mo_stage_time_now(e->be);
    int rc = mo_graph_run_part(&st->graph, first, last, exec, &e->trace, steps);
    mo_stage_time_add(&e->times[stage], e->be, &start);
    return rc;
}

static int run_stage(moshi_engine *e, const mo_stage *st, moshi_stage stage, const char *name,
                     const uint8_t *exec, const int64_t *steps) {
    if (!any(exec, e->slots)) return 0;
    mo_crumb_drop(e->be->crumb, name, e->frames, 0);
    return run_part(e, st, stage, 0, st->graph.n_ops, exec, steps);
}

static void count(const uint8_t *mask, int64_t *steps, int n) {
    for (int i = 0; i < n; i++) steps[i] += mask[i];
}

static int run_encode(moshi_engine *e) {
    int rc = run_stage(e, &e->encode, MOSHI_STAGE_ENCODE, "encode", e->exec_pcm, e->codec_steps);
    count(e->exec_pcm, e->codec_steps, e->slots);
    /* The reference server starts its codec again after the first frame and accepts the loss. */
    for (int i = 0; i < e->slots; i++) {
        const moshi_session *s = e->sessions[i];
        if (e->exec_pcm[i] && s->ticks == 0 && (s->options.flags & MOSHI_FIRST_FRAME_SERVER))
            reset_codec(e, i);
    }
    return rc;
}

static int run_lm(moshi_engine *e, const uint8_t *exec) {
    const mo_graph *g = &e->step.graph;
    int depth = e->model.lm.depth_op, rc = 0;
    if (!any(exec, e->slots)) return 0;
    mo_crumb_drop(e->be->crumb, "step", e->frames, 0);
    rc = run_part(e, &e->step, MOSHI_STAGE_TEMPORAL, 0, depth, exec, e->lm_steps);
    if (rc == 0 && depth < g->n_ops)
        rc = run_part(e, &e->step, MOSHI_STAGE_DEPTH, depth, g->n_ops, exec, e->lm_steps);
    count(exec, e->lm_steps, e->slots);
    return rc;
}

/* Decode where the grid gave a frame of audio tokens that are codes (forced ones may not be). */
static int run_decode(moshi_engine *e) {
    for (int i = 0; i < e->slots; i++) {
        if (!e->exec[i] || !e->has_decoder) continue;
        if (e->sessions[i]->options.flags & MOSHI_NO_AUDIO) continue;
        slot_read(e, &e->model.lm.out_tokens, i, e->tokens, 1 + (size_t)e->info.dep_q);
        bool codes = e->tokens[0] != MOSHI_NO_TOKEN;
        for (int k = 1; k <= e->info.dep_q; k++)
            codes = codes && e->tokens[k] >= 0 && e->tokens[k] < e->model.mimi.cfg.bins;
        e->exec_audio[i] = codes;
    }
    return run_stage(e, &e->decode, MOSHI_STAGE_DECODE, "decode", e->exec_audio, e->lm_steps);
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
    int rc = run_encode(e);
    /* With the file convention the first frame's codes are stepped twice: at step 0 every channel
     * sees its initial token, so a single step would never show them to the model. */
    if (rc == 0) rc = run_lm(e, e->exec_twice);
    if (rc == 0) rc = run_lm(e, e->exec);
    if (rc == 0) rc = run_decode(e);
    scatter(e, rc < 0);
    mo_crumb_drop(e->be->crumb, "ready", ++e->frames, 0);
    return rc < 0 ? rc : ready;
}
