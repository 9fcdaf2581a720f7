/* measure.c - the public API's part that is there to measure with. */
#include "cost.h"
#include "frame.h"
#include "presets.h"

enum { MAX_PRETENDED = 1 << 24 };
/* Of memory, to measure a device with. */
static const uint64_t LEAST_READ = UINT64_C(1) << 26, USUAL_READ = UINT64_C(1) << 30,
                      MOST_READ = UINT64_C(1) << 34;

const char *moshi_preset_name(int index) {
    const mo_preset *p = index < 0 ? NULL : mo_preset_at((size_t)index);
    if (p) return p->name;
    return index > 0 && mo_preset_at((size_t)index - 1) ? MO_PRESET_CODEC : NULL;
}

int moshi_engine_get_stage(const moshi_engine *e, moshi_stage stage, moshi_stage_info *info) {
    if (!e || !info || (int)stage < 0 || stage >= MOSHI_STAGES) return MOSHI_EINVAL;
    const mo_graph *g = stage == MOSHI_STAGE_ENCODE   ? &e->encode.graph
                        : stage == MOSHI_STAGE_DECODE ? &e->decode.graph
                                                      : &e->step.graph;
    int depth = e->model.lm.depth_op;
    *info = mo_stage_time_info(&e->times[stage]);
    mo_graph_cost(g, stage == MOSHI_STAGE_DEPTH ? depth : 0,
                  stage == MOSHI_STAGE_TEMPORAL ? depth : g->n_ops, info);
    return 0;
}

int moshi_device_measure(moshi_device_speed *out, const char *device, int threads, uint64_t bytes,
                         double seconds, moshi_error *err) {
    if (err) *err = (moshi_error){0};
    if (out) *out = (moshi_device_speed){0};
    if (!out || !(seconds >= 0.05 && seconds <= 60))
        return mo_fail(err, MOSHI_EINVAL, "moshi_device_measure: wanted 0.05 to 60 seconds");
    if (bytes == 0) bytes = USUAL_READ;
    if (bytes < LEAST_READ || bytes > MOST_READ)
        return mo_fail(err, MOSHI_EINVAL, "moshi_device_measure: wanted 2^26 to 2^34 bytes");
    mo_device d;
    mo_backend *be;
    int rc = mo_device_find(&d, device, err);
    if (rc < 0) return rc;
    if (!d.ops->measure)
        return mo_fail(err, MOSHI_EDEVICE, "device '%s' cannot be measured", d.info.name);
    rc = d.ops->open(
        &be, &(mo_backend_options){.threads = threads, .nth = d.nth, .kernels = d.kernels}, err);
    if (rc < 0) return rc;
    rc = be->ops->measure(be, (size_t)bytes, seconds, out);
    be->ops->close(be);
    return rc < 0 ? mo_fail(err, rc, "device '%s': out of memory to measure with", d.info.name) : 0;
}

static int pretend(moshi_engine *e, moshi_session *s, int64_t frames) {
    int rc = mo_graph_pretend(&e->step.graph, s->slot, frames);
    if (rc == 0) rc = mo_graph_pretend(&e->encode.graph, s->slot, frames);
    if (rc == 0) rc = mo_graph_pretend(&e->decode.graph, s->slot, frames);
    if (rc < 0) return rc;
    s->ticks = frames;
    s->frames = frames > e->info.max_delay ? frames - e->info.max_delay : 0;
    e->lm_steps[s->slot] = e->codec_steps[s->slot] = frames;
    return 0;
}

int moshi_session_pretend(moshi_session *s, int64_t frames) {
    if (!s || frames < 0 || frames > MAX_PRETENDED) return MOSHI_EINVAL;
    moshi_engine *e = s->engine;
    pthread_mutex_lock(&e->lock);
    pthread_mutex_lock(&s->lock);
    int rc = s->ticks > 0 ? MOSHI_EINVAL : frames == 0 ? 0 : pretend(e, s, frames);
    pthread_mutex_unlock(&s->lock);
    pthread_mutex_unlock(&e->lock);
    return rc;
}
