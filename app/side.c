/* side.c - sides of a comparison. */
#include "side.h"

#include "build.h"
#include "device.h"
#include "trial.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEADLINE_S = 60 };

/* ---- traces --------------------------------------------------------------------------------- */

static int check_model(const side *s, const side_setup *setup, app_error *err) {
    const trace_facts *f = &s->facts;
    if (!strcmp(f->model_sha256, setup->model_sha256)) return EXIT_OK;
    return app_fail(err, EXIT_USAGE,
                    "%s: was recorded with another model: wanted %s (sha256 %.12s), found %s "
                    "(sha256 %.12s); -m names the model of both sides",
                    s->v.text, setup->model.name, setup->model_sha256, f->model, f->model_sha256);
}

static int check_input(const side *s, const side_setup *setup, app_error *err) {
    const trace_facts *f = &s->facts;
    if (!strcmp(f->input_sha256, setup->input.sha256)) return EXIT_OK;
    return app_fail(err, EXIT_USAGE,
                    "%s: was recorded with another input: wanted %s (sha256 %.12s), found %s "
                    "(sha256 %.12s); it takes the same --input, --hear and --tail",
                    s->v.text, setup->input.source, setup->input.sha256, f->input, f->input_sha256);
}

/* All sides must follow one plan: the first trace's becomes everybody's. */
static int take_plan(side_setup *setup, plan *own, const char *text, app_error *err) {
    plan *common = &setup->common;
    if (!common->steps) {
        *common = *own;
        *own = (plan){0};
        return EXIT_OK;
    }
    size_t rows = (size_t)common->steps;
    bool same =
        plan_fits(common, own) && common->steps == own->steps &&
        !memcmp(common->force, own->force,
                rows * (size_t)common->channels * sizeof *common->force) &&
        !memcmp(common->codes, own->codes, rows * (size_t)common->user * sizeof *common->codes);
    plan_free(own);
    if (same) return EXIT_OK;
    return app_fail(err, EXIT_USAGE,
                    "%s: the two traces followed different tokens; record one again beside the "
                    "other: moshi compare SIDE TRACE --record FILE",
                    text);
}

int side_parse(side *s, side_setup *setup, const char *text, app_error *err) {
    plan own = {0};
    if (!tracefile_is(text)) return variant_parse(&s->v, text, err);
    s->v = (variant){.text = text, .delay = -1};
    s->traced = true;
    s->delay = -1;
    int rc = tracefile_read(&s->facts, &s->r, &own, text, err);
    s->v.error = s->facts.error;
    if (rc == EXIT_OK) rc = check_model(s, setup, err);
    if (rc == EXIT_OK) rc = take_plan(setup, &own, text, err);
    plan_free(&own);
    return rc;
}

/* ---- engines -------------------------------------------------------------------------------- */

/* A device that ends the process or never answers must not do so here. One that computes wrong is
 * what this is for. */
static int try_device(const side *s, side_setup *setup, app_error *err) {
    const char *verdict = "";
    char reason[1024];
    probe_result r;
    trial t = {.device = s->v.device,
               .model = &setup->model,
               .threads = s->v.threads,
               .flags = s->v.exact ? MOSHI_EXACT : 0};
    if (!s->v.device || device_is_cpu(s->v.device)) return EXIT_OK;
    device_tell_crashes_of(s->v.device);
    int rc = trial_do(&t, DEADLINE_S, &r, &verdict, reason, sizeof reason, err);
    bool gone = !strcmp(verdict, "crashed") || !strcmp(verdict, "hung");
    if (rc == EXIT_OK && gone)
        rc =
            app_fail(err, EXIT_DEVICE, "%s: device '%s' does not work: %s; moshi doctor tells more",
                     s->v.text, s->v.device, reason);
    json_decref(r.facts);
    return rc;
}

/* At the rate of the first engine, cut to what is to be heard. */
static int load_input(side_setup *setup, const moshi_engine_info *info, app_error *err) {
    stimulus *in = &setup->input;
    if (in->sound.n) return EXIT_OK;
    return stimulus_load(in, setup->input_path, info->sample_rate_hz, (size_t)info->frame_samples,
                         setup->hear_s, setup->tail_s, err);
}

static void note_facts(side *s, const side_setup *setup, const moshi_engine_info *info) {
    trace_facts *f = &s->facts;
    snprintf(f->side, sizeof f->side, "%s", s->v.text);
    snprintf(f->device, sizeof f->device, "%s (%s)", info->device, info->kernels);
    snprintf(f->build, sizeof f->build, "%s", build_id());
    snprintf(f->model, sizeof f->model, "%s", setup->model.name);
    memcpy(f->model_sha256, setup->model_sha256, sizeof f->model_sha256);
    snprintf(f->input, sizeof f->input, "%s", setup->input.source);
    memcpy(f->input_sha256, setup->input.sha256, sizeof f->input_sha256);
    f->error = s->v.error;
    /* Channel 0 is text, 1 the first codebook. */
    s->delay = info->dep_q > 1 ? info->delays[2] : -1;
}

/* The first to run makes the plan. */
static int keep_plan(side_setup *setup, const recording *r, app_error *err) {
    const plan *chosen = &r->chosen;
    plan *p = &setup->common;
    if (p->steps) return EXIT_OK;
    size_t codes = (size_t)(chosen->steps * chosen->user);
    size_t force = (size_t)(chosen->steps * chosen->channels);
    *p = *chosen;
    p->codes = malloc((codes + 1) * sizeof *p->codes);
    p->force = malloc((force + 1) * sizeof *p->force);
    if (!p->codes || !p->force) return app_no_memory(err);
    memcpy(p->codes, chosen->codes, codes * sizeof *p->codes);
    memcpy(p->force, chosen->force, force * sizeof *p->force);
    return EXIT_OK;
}

int side_run(side *s, side_setup *setup, app_error *err) {
    moshi_engine *engine = NULL;
    moshi_engine_info info;
    progress bar;
    if (s->traced) return check_input(s, setup, err);
    int rc = try_device(s, setup, err);
    if (rc == EXIT_OK) rc = variant_open(&s->v, &setup->model, &engine, err);
    if (rc != EXIT_OK) return rc;
    moshi_engine_get_info(engine, &info);
    if (info.sample_rate_hz == 0)
        rc = app_fail(err, EXIT_MODEL, "%s: has no codec: nothing could be heard", s->v.text);
    if (rc == EXIT_OK) rc = load_input(setup, &info, err);
    const sound *in = &setup->input.sound;
    if (rc == EXIT_OK && info.sample_rate_hz != in->rate_hz)
        rc = app_fail(err, EXIT_USAGE, "%s: wanted a model at %d Hz, found %d", s->v.text,
                      in->rate_hz, info.sample_rate_hz);
    progress_start(&bar, setup->quiet);
    if (rc == EXIT_OK)
        rc = recording_make(&s->r, engine, in, setup->frames,
                            setup->common.steps ? &setup->common : NULL, &bar, err);
    progress_clear(&bar);
    if (rc == EXIT_OK) note_facts(s, setup, &info);
    if (rc == EXIT_OK) rc = keep_plan(setup, &s->r, err);
    moshi_engine_close(engine);
    return rc;
}

void side_free(side *s) {
    variant_close(&s->v);
    recording_free(&s->r);
}

void side_setup_free(side_setup *setup) {
    model_choice_free(&setup->model);
    stimulus_free(&setup->input);
    plan_free(&setup->common);
}
