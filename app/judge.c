/* judge.c - both instruments on one sound, and on the controls. */
#include "judge.h"

#include "model.h"
#include "progress.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- the sound alone ------------------------------------------------------------------------ */

static void judge_alone(judgement *j, const sound *s) {
    size_t loud = 0, there = 0;
    for (size_t i = 0; i < s->n; i++) {
        loud += fabsf(s->pcm[i]) >= 0.999f;
        there += fabsf(s->pcm[i]) > 1e-3f;
    }
    bool silent = there == 0, clipped = there > 0 && (double)loud > 0.005 * (double)there;
    j->sound_score = silent || clipped ? 0 : 100;
    snprintf(j->sound, sizeof j->sound, "%s", silent ? "silent" : clipped ? "garbled" : "clean");
    if (clipped) snprintf(j->reason, sizeof j->reason, "clipped: too loud for its format");
    if (silent) snprintf(j->reason, sizeof j->reason, "there is no sound in it");
}

/* ---- both ----------------------------------------------------------------------------------- */

/* The score of an agreement: 50 where it is just enough. */
static double agreement_score(const agreement *a) {
    return a->judged ? fmin(100, 50 * a->part[0] / a->wanted) : 100;
}

static void judge_codes(judgement *j) {
    const agreement *a = &j->codes;
    if (a->judged && !a->holds)
        snprintf(j->reason, sizeof j->reason,
                 "it does not say what it was decoded from: %.0f %% of its codes come back, wanted "
                 "%.0f %%",
                 100 * a->part[0], 100 * a->wanted);
    else if (!j->reason[0] && a->judged)
        snprintf(j->reason, sizeof j->reason, "%.0f %% of its codes come back", 100 * a->part[0]);
    else if (!j->reason[0])
        snprintf(j->reason, sizeof j->reason,
                 "only %zu frames of it are not silent: too few to compare its codes", a->frames);
}

int judge_sound(judgement *out, moshi_codec *codec, const code_speech *speech, const sound *s,
                app_error *err) {
    memset(out, 0, sizeof *out);
    judge_alone(out, s);
    int rc = agreement_measure(&out->codes, codec, speech, s, err);
    if (rc != EXIT_OK) return rc;
    judge_codes(out);
    out->score = fmin(out->sound_score, agreement_score(&out->codes));
    out->passes = out->score >= 50;
    return EXIT_OK;
}

json_t *judgement_json(const judgement *j) {
    json_t *parts = json_array();
    for (size_t k = 0; k < j->codes.codebooks; k++)
        json_array_append_new(parts, json_real(j->codes.part[k]));
    return json_pack("{s:b, s:f, s:s, s:f, s:o, s:I, s:o}", "passes", j->passes, "score", j->score,
                     "sound", j->sound, "sound_score", j->sound_score, "code_agreement", parts,
                     "speech_frames", (json_int_t)j->codes.frames, "reason", json_text(j->reason));
}

/* ---- controls ------------------------------------------------------------------------------- */

static void add_wrong(control_results *r, control_kind kind) {
    size_t n = strlen(r->wrong);
    snprintf(r->wrong + n, sizeof r->wrong - n, "%s%s %s", n ? ", " : "", control_name(kind),
             control_is_whole(kind) ? "fails" : "passes");
}

static int judge_control(control_results *r, control_kind kind, moshi_codec *codec,
                         const sound *clean, size_t frame, const code_speech *speech,
                         app_error *err) {
    sound made = {0};
    int rc = control_make(&made, kind, clean, frame, &speech->codes, codec, err);
    if (rc == EXIT_OK) rc = judge_sound(&r->list[kind], codec, speech, &made, err);
    sound_free(&made);
    return rc;
}

/* What must pass and what must not, with the progress of it on the terminal. */
static int judge_all(control_results *out, moshi_codec *codec, const sound *clean,
                     const code_speech *speech, bool quiet, app_error *err) {
    moshi_codec_info info;
    progress bar;
    int rc = EXIT_OK;
    moshi_codec_get_info(codec, &info);
    progress_start(&bar, quiet);
    for (int k = 0; rc == EXIT_OK && k < CONTROLS; k++) {
        progress_draw(&bar, (double)k / CONTROLS, "controls: speech that is broken on purpose");
        out->applies[k] = control_applies(k, speech->codes.codebooks);
        if (!out->applies[k]) continue;
        rc = judge_control(out, k, codec, clean, (size_t)info.frame_samples, speech, err);
        if (rc == EXIT_OK && out->list[k].passes != control_is_whole(k)) add_wrong(out, k);
    }
    progress_clear(&bar);
    return rc;
}

int controls_judge(control_results *out, moshi_codec *codec, const sound *in, bool quiet,
                   app_error *err) {
    moshi_codec_info info;
    sound clean = {0};
    code_rows codes = {0};
    code_speech speech = {0};
    memset(out, 0, sizeof *out);
    moshi_codec_get_info(codec, &info);
    double started = app_now_s();
    int rc = control_input(&clean, in, (size_t)info.frame_samples, err);
    if (rc == EXIT_OK) rc = code_rows_encode(&codes, codec, &clean, err);
    if (rc == EXIT_OK) rc = code_speech_make(&speech, codec, &codes, err);
    if (rc == EXIT_OK && speech.frames < AGREEMENT_FEWEST)
        snprintf(out->wrong, sizeof out->wrong,
                 "too little speech in the input (%zu frames that are not silent, wanted %d)",
                 speech.frames, AGREEMENT_FEWEST);
    else if (rc == EXIT_OK)
        rc = judge_all(out, codec, &clean, &speech, quiet, err);
    out->valid = rc == EXIT_OK && !out->wrong[0];
    out->seconds = app_now_s() - started;
    code_rows_free(&codes);
    code_speech_free(&speech);
    sound_free(&clean);
    return rc;
}

json_t *controls_json(const control_results *r) {
    json_t *list = json_array();
    for (int k = 0; list && k < CONTROLS; k++) {
        if (!r->applies[k]) continue;
        json_t *one = judgement_json(&r->list[k]);
        if (!one) break;
        json_object_set_new(one, "name", json_string(control_name(k)));
        json_object_set_new(one, "what", json_string(control_description(k)));
        json_object_set_new(one, "must_pass", json_boolean(control_is_whole(k)));
        json_object_set_new(one, "as_it_must",
                            json_boolean(r->list[k].passes == control_is_whole(k)));
        json_array_append_new(list, one);
    }
    return list;
}
