/* evidence.c - the instruments of `moshi check` on answers that were recorded. */
#include "evidence.h"

#include "stimulus.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* The first question of the two inside the program. */
static const double KNOWN_S = 5;
/* What a codec leaves of speech, as ESTOI: 0.79 with the one of the demo model, 0.06 and 0.10 after
 * damage to one of its tensors that leaves noise. */
static const double LEAST_ESTOI = 0.3;

/* ---- the instruments ------------------------------------------------------------------------ */

int witness_open(witness *w, model_choice *model, int codebooks, app_error *err) {
    moshi_error why = {0};
    moshi_codec_options options = {.model = model->path,
                                   .blobs = model->path ? NULL : model->blobs,
                                   .n_blobs = model->path ? 0 : model->n_blobs,
                                   .finder = {hub_look_up, &model->lookup},
                                   .codebooks = codebooks};
    int rc = moshi_codec_open(&w->codec, &options, &why);
    return rc < 0 ? model_fail(model, err, rc, why.text) : EXIT_OK;
}

static int measure_roundtrip(witness *w, const sound *known, app_error *err) {
    code_rows codes = {0};
    sound back = {0};
    alignment laid;
    int rc = code_rows_encode(&codes, w->codec, known, err);
    if (rc == EXIT_OK) rc = code_rows_decode(&back, w->codec, &codes, err);
    if (rc == EXIT_OK) rc = likeness_compare(&laid, &w->roundtrip, &back, known, err);
    if (rc == EXIT_OK && w->roundtrip.understood && w->roundtrip.estoi < LEAST_ESTOI) {
        control_results *c = &w->controls;
        size_t n = strlen(c->wrong);
        w->codec_broken = true;
        snprintf(c->wrong + n, sizeof c->wrong - n, "%sESTOI %.2f, wanted %.2f", n ? ", " : "",
                 w->roundtrip.estoi, LEAST_ESTOI);
    }
    code_rows_free(&codes);
    sound_free(&back);
    return rc;
}

int witness_examine(witness *w, bool quiet, app_error *err) {
    moshi_codec_info info;
    stimulus known = {0};
    moshi_codec_get_info(w->codec, &info);
    int rc = stimulus_load(&known, NULL, info.sample_rate_hz, (size_t)info.frame_samples, KNOWN_S,
                           0, err);
    if (rc == EXIT_OK) rc = controls_judge(&w->controls, w->codec, &known.sound, quiet, err);
    if (rc == EXIT_OK) rc = measure_roundtrip(w, &known.sound, err);
    stimulus_free(&known);
    for (int k = 0; k < CONTROLS; k++)
        w->codec_broken |=
            w->controls.applies[k] && control_is_whole(k) && !w->controls.list[k].passes;
    /* Nothing but silence came out of it. */
    w->codec_broken |= !w->controls.applies[CONTROL_CLEAN];
    w->examined = true;
    return rc;
}

void witness_close(witness *w) {
    moshi_codec_close(w->codec);
    memset(w, 0, sizeof *w);
}

/* ---- one answer ----------------------------------------------------------------------------- */

/* What comes back of its codes decides. Its sound by itself is noted, and no more: what a codec
 * does to every sound must not count against one. */
static void decide(evidence *e, const recording *r) {
    bool silent = e->alone.verdict == VERDICT_SILENT || r->words.n == 0;
    if (e->no_numbers) {
        e->kind = EVIDENCE_BROKEN;
        snprintf(e->words, sizeof e->words, "%zu of its samples are no finite numbers",
                 e->no_numbers);
    } else if (e->frames < AGREEMENT_FEWEST) {
        e->kind = EVIDENCE_NONE;
        snprintf(e->words, sizeof e->words,
                 silent ? "it stays silent"
                        : "too little of it is not silent: %zu frames of 80 ms, wanted %d",
                 e->frames, AGREEMENT_FEWEST);
    } else if (e->fault) {
        e->kind = EVIDENCE_BROKEN;
        snprintf(e->words, sizeof e->words,
                 "%.0f %% of its codes come back when it is decoded and encoded again, wanted "
                 "%.0f %%; %s: undone, %.0f %% come back",
                 100 * e->returns, 100 * AGREEMENT_LEAST, e->fault->name, 100 * e->fault_part);
    } else if (!e->codes.passes) {
        e->kind = EVIDENCE_BROKEN;
        snprintf(e->words, sizeof e->words, "%s", e->codes.reason);
    } else {
        e->kind = EVIDENCE_SPEECH;
        snprintf(e->words, sizeof e->words, "it is speech: %s", e->codes.reason);
    }
}

/* The views into `r` are only read, whatever their types say. */
static int measure(evidence *e, const witness *w, const recording *r, app_error *err) {
    moshi_codec_info info;
    code_speech speech = {0};
    moshi_codec_get_info(w->codec, &info);
    size_t codebooks = (size_t)info.codebooks;
    code_rows codes = {(int32_t *)(void *)r->spoken.data, r->spoken.n / sizeof(int32_t) / codebooks,
                       codebooks};
    sound said = {(float *)(void *)r->audio.data, r->audio.n / sizeof(float), r->rate_hz};
    if (codes.frames == 0 || said.n == 0) return EXIT_OK;
    for (size_t i = 0; i < said.n; i++) e->no_numbers += !isfinite(said.pcm[i]);
    if (e->no_numbers) return EXIT_OK; /* nothing to be encoded */
    int rc = analyze_pcm(&e->alone, said.pcm, said.n, said.rate_hz, err);
    if (rc == EXIT_OK) rc = code_speech_make(&speech, w->codec, &codes, err);
    if (rc == EXIT_OK) rc = judge_sound(&e->codes, w->codec, &speech, &said, err);
    e->returns = speech.returns;
    e->frames = e->codes.codes.frames;
    if (rc == EXIT_OK && e->codes.codes.judged && speech.returns < AGREEMENT_LEAST)
        rc = agreement_explain(&e->fault, &e->fault_part, w->codec, &codes, err);
    code_speech_free(&speech);
    return rc;
}

int witness_hear(evidence *out, const witness *w, const recording *r, app_error *err) {
    memset(out, 0, sizeof *out);
    out->alone.verdict = VERDICT_SILENT;
    int rc = measure(out, w, r, err);
    if (rc == EXIT_OK) decide(out, r);
    return rc;
}

/* ---- for machines --------------------------------------------------------------------------- */

json_t *evidence_json(const evidence *e) {
    static const char *const kinds[] = {"none", "speech", "broken"};
    json_t *score = analysis_has_score(&e->alone) ? json_real(e->alone.score) : json_null();
    json_t *o =
        json_pack("{s:s, s:o, s:I, s:f, s:s, s:o, s:o}", "sound", kinds[e->kind], "reason",
                  json_text(e->words), "frames", (json_int_t)e->frames, "fresh_decoding_agreement",
                  e->returns, "analysis", analysis_verdict_name(e->alone.verdict), "analysis_score",
                  score, "codes", judgement_json(&e->codes));
    if (o && e->fault)
        json_object_set_new(o, "explanation",
                            json_pack("{s:s, s:f}", "fault", e->fault->name,
                                      "agreement_when_undone", e->fault_part));
    return o;
}

json_t *witness_json(const witness *w) {
    if (!w->examined) return json_null();
    return json_pack("{s:b, s:f, s:b, s:o, s:o}", "codec_broken", w->codec_broken,
                     "roundtrip_estoi", w->roundtrip.estoi, "controls_valid", w->controls.valid,
                     "reason", json_text(w->controls.wrong), "controls",
                     controls_json(&w->controls));
}
