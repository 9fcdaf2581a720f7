/* check_run.c - from the settings of a run to its record. */
#include "check_run.h"

#include "build.h"
#include "crash.h"
#include "device.h"
#include "resample_quality.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Counts up when the meaning of a record changes. */
enum { RECORD_VERSION = 1, FEW_WORDS = 10 /* too few for a speed */ };
/* Words per second of sound. People who hurry say 5 to 6, damaged text weights a word a frame. */
static const double FASTEST_WORDS_HZ = 8;

typedef struct work {
    check_run *run;
    check_setup *setup;
    check_group *group;
    sound in;    /* what the model hears */
    sound heard; /* what the loudspeaker plays */
    resample_report in_report, out_report;
    resample_quality quality;
    bool measured; /* quality */
    judgement verdict;
    const code_fault *fault;
    double fault_part, judge_s;
    char pcm_sha256[SHA_HEX], heard_sha256[SHA_HEX], answer_sha256[SHA_HEX];
    uint64_t clipped, no_numbers;
} work;

const char *check_verdict_name(check_verdict verdict) {
    static const char *const names[] = {"pass", "fail", "invalid"};
    return names[verdict];
}

check_verdict check_verdict_of(const json_t *record) {
    const char *name = json_string_value(json_object_get(record, "verdict"));
    for (int v = CHECK_PASS; name && v <= CHECK_INVALID; v++)
        if (!strcmp(name, check_verdict_name(v))) return v;
    return CHECK_INVALID;
}

/* ---- a group -------------------------------------------------------------------------------- */

int check_group_set_type(check_group *g, const char *type, app_error *err) {
    if (!strcmp(type, "stored")) {
        g->v = (variant){.text = type, .delay = -1};
    } else {
        int rc = variant_parse(&g->v, type, err);
        if (rc != EXIT_OK) return rc;
        if (!g->v.type)
            return app_fail(
                err, EXIT_USAGE,
                "--type: wanted stored, f32, f16, bf16, q8_0, q6_K, q4_K or q4_0, found "
                "'%s'",
                type);
    }
    g->type = g->v.text;
    g->v.device = g->device.name;
    return EXIT_OK;
}

static int open_codec(check_group *g, check_setup *setup, app_error *err) {
    moshi_error why = {0};
    moshi_codec_options options = {.model = setup->model.path,
                                   .blobs = setup->model.blobs,
                                   .n_blobs = setup->model.n_blobs,
                                   .device = g->device.name,
                                   .cache = device_cache(g->device.name),
                                   .codebooks = g->info.dep_q,
                                   .finder = {hub_look_up, &setup->model.lookup},
                                   .breadcrumb = crash_breadcrumb(),
                                   .threads = g->v.threads};
    int rc = moshi_codec_open(&g->codec, &options, &why);
    return rc < 0 ? model_fail(&setup->model, err, rc, why.text) : EXIT_OK;
}

static int check_model(const check_group *g, const check_setup *setup, app_error *err) {
    const moshi_engine_info *i = &g->info;
    if (i->dep_q < 1 || i->user_codebooks < 1 || i->frame_samples < 1)
        return app_fail(err, EXIT_MODEL,
                        "%s: cannot be checked: wanted a model that hears and speaks, found one "
                        "that reads %d audio channels of a user and speaks %d",
                        setup->model.name, i->user_codebooks, i->dep_q);
    if (i->sample_rate_hz != CHECK_RATE_HZ || i->frame_samples != CHECK_FRAME)
        return app_fail(err, EXIT_MODEL,
                        "%s: cannot be checked: wanted %d samples a second in frames of %d, found "
                        "%d in frames of %d",
                        setup->model.name, CHECK_RATE_HZ, CHECK_FRAME, i->sample_rate_hz,
                        i->frame_samples);
    return EXIT_OK;
}

/* Load the model and judge the controls; both happen once for all runs of the group. */
static int group_open(check_group *g, check_setup *setup, app_error *err) {
    if (g->codec) return EXIT_OK;
    double started = app_now_s();
    int rc = variant_open(&g->v, &setup->model, &g->engine, err);
    if (rc != EXIT_OK) return rc;
    moshi_engine_get_info(g->engine, &g->info);
    rc = check_model(g, setup, err);
    if (rc == EXIT_OK) rc = open_codec(g, setup, err);
    g->load_s = app_now_s() - started;
    sound recorded = setup->input.sound;
    recorded.n = setup->input.recorded;
    if (rc == EXIT_OK) rc = controls_judge(&g->controls, g->codec, &recorded, setup->quiet, err);
    return rc;
}

void check_group_close(check_group *g) {
    answer_free(&g->said);
    code_speech_free(&g->speech);
    moshi_engine_close(g->engine);
    moshi_codec_close(g->codec);
    variant_close(&g->v);
    memset(g, 0, sizeof *g);
}

/* ---- what decides a result ------------------------------------------------------------------ */

/* In the words of the records of old. */
static json_t *settings_json(const sinc_settings *s) {
    return json_pack("{s:s, s:s, s:i, s:f, s:s, s:i, s:s}", "name", s->name, "description",
                     s->description, "resampler_sinc_len", s->length, "resampler_f_cutoff",
                     s->cutoff, "resampler_interpolation",
                     sinc_interpolation_name(s->interpolation), "resampler_oversampling",
                     s->oversampling, "resampler_window", sinc_window_name(s->window));
}

static json_t *make_inputs(const check_run *run, const check_setup *setup, const check_group *g) {
    /* Without resampling the loudspeaker runs at the model's rate. */
    int device_hz = run->resampler->length ? setup->device_hz : CHECK_RATE_HZ;
    return json_pack(
        "{s:i, s:s, s:s, s:s, s:s, s:s, s:o, s:i, s:b, s:I, s:s, s:s}", "record_version",
        RECORD_VERSION, "build", build_id(), "program", setup->program_sha256, "device",
        g->device.name, "driver", g->device.driver, "weight_type", g->type, "resampler",
        settings_json(run->resampler), "device_hz", device_hz, "both_ways", setup->both_ways,
        "seed", (json_int_t)run->seed, "input", setup->input.sha256, "model", setup->files.sha256);
}

int check_run_find(check_run *run, const check_setup *setup, const check_group *g, char *why,
                   size_t n, app_error *err) {
    char words[EXPERIMENT_ID];
    run->inputs = make_inputs(run, setup, g);
    if (!run->inputs) return app_no_memory(err);
    snprintf(words, sizeof words, "%s-%s-%s-%llu", g->device.name, g->type, run->resampler->name,
             (unsigned long long)run->seed);
    int rc = experiment_name(&run->where, words, run->inputs, err);
    if (rc != EXIT_OK) return rc;
    run->record = experiment_find(&run->where, why, n);
    run->skipped = run->record != NULL;
    if (run->record) run->verdict = check_verdict_of(run->record);
    return EXIT_OK;
}

void check_run_free(check_run *run) {
    json_decref(run->inputs);
    json_decref(run->record);
    memset(run, 0, sizeof *run);
}

/* ---- the work ------------------------------------------------------------------------------- */

/* What the model gets to hear: the input, or the input as a microphone of another rate gives it,
 * brought back to the model's rate by the resampler under test. */
static int hear_input(work *w, app_error *err) {
    const sound *input = &w->setup->input.sound;
    if (!w->setup->both_ways) return sound_copy(&w->in, input, err);
    sound microphone = {0};
    const sinc_settings *under_test = w->run->resampler;
    int rc = under_test->length
                 ? sound_resample(&microphone, input, &SINC_FILE, w->setup->device_hz, NULL, err)
                 : sound_copy(&microphone, input, err);
    if (rc == EXIT_OK)
        rc = sound_resample(&w->in, &microphone, under_test, CHECK_RATE_HZ, &w->in_report, err);
    sound_free(&microphone);
    return rc;
}

static int answer_input(work *w, app_error *err) {
    char heard[SHA_HEX];
    check_group *g = w->group;
    progress bar;
    progress_start(&bar, w->setup->quiet);
    int rc = hear_input(w, err);
    if (rc != EXIT_OK) return rc;
    sound_sha256(&w->in, heard);
    bool reused = g->said_in[0] && g->said_seed == w->run->seed && !strcmp(g->said_to, heard);
    if (!reused) {
        answer_free(&g->said);
        code_speech_free(&g->speech);
        g->said_in[0] = 0;
        rc = answer_make(&g->said, g->engine, w->run->seed, &w->in, &bar, err);
    }
    code_rows codes = {g->said.codes, g->said.frames, g->said.codebooks};
    if (rc == EXIT_OK && !reused) rc = code_speech_make(&g->speech, g->codec, &codes, err);
    if (rc == EXIT_OK && !reused) {
        g->said_seed = w->run->seed;
        memcpy(g->said_to, heard, sizeof heard);
        snprintf(g->said_in, sizeof g->said_in, "%s", w->run->where.id);
    }
    if (rc == EXIT_OK)
        rc = sound_resample(&w->heard, &w->group->said.sound, w->run->resampler,
                            w->setup->device_hz, &w->out_report, err);
    if (rc == EXIT_OK && w->out_report.taps)
        w->measured = resample_measure(&w->quality, &w->out_report.active, w->out_report.in_hz,
                                       w->out_report.out_hz);
    return rc;
}

/* What the loudspeaker plays, at the rate at which the codec can hear it, against the codes the
 * model chose. */
static int judge_answer(work *w, app_error *err) {
    sound back = {0};
    const check_group *g = w->group;
    const code_speech *speech = &g->speech;
    double started = app_now_s();
    int rc = sound_resample(&back, &w->heard, &SINC_FILE, CHECK_RATE_HZ, NULL, err);
    if (rc == EXIT_OK) rc = judge_sound(&w->verdict, g->codec, speech, &back, err);
    if (rc == EXIT_OK && w->verdict.codes.judged && speech->returns < AGREEMENT_LEAST)
        rc = agreement_explain(&w->fault, &w->fault_part, g->codec, &speech->codes, err);
    w->judge_s = app_now_s() - started;
    sound_free(&back);
    return rc;
}

/* No file holds samples that are no numbers; they become silence, and are counted. */
static uint64_t silence_wild(sound *s) {
    uint64_t n = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (isfinite(s->pcm[i])) continue;
        s->pcm[i] = 0;
        n++;
    }
    return n;
}

static int save(work *w, app_error *err) {
    char path[PATH_MAX];
    const experiment *e = &w->run->where;
    uint64_t answer_clipped;
    sound copy = {0}; /* what was said may be heard again */
    w->no_numbers = silence_wild(&w->heard);
    int rc = sound_copy(&copy, &w->group->said.sound, err);
    if (rc == EXIT_OK) silence_wild(&copy);
    if (rc == EXIT_OK) rc = experiment_file(e, EXPERIMENT_ANSWER, path, err);
    if (rc == EXIT_OK) rc = sound_save(&copy, path, &answer_clipped, err);
    sound_free(&copy);
    if (rc == EXIT_OK) rc = experiment_file(e, EXPERIMENT_HEARD, path, err);
    if (rc == EXIT_OK) rc = sound_save(&w->heard, path, &w->clipped, err);
    if (rc == EXIT_OK) rc = experiment_hash(e, EXPERIMENT_ANSWER, w->answer_sha256, err);
    if (rc == EXIT_OK) rc = experiment_hash(e, EXPERIMENT_HEARD, w->heard_sha256, err);
    sound_sha256(&w->heard, w->pcm_sha256);
    return rc;
}

/* ---- the record ----------------------------------------------------------------------------- */

static json_t *report_json(const resample_report *r) {
    return json_pack("{s:o, s:f, s:f, s:I, s:I, s:s}", "active", settings_json(&r->active), "in_hz",
                     r->in_hz, "out_hz", r->out_hz, "taps", (json_int_t)r->taps, "rows",
                     (json_int_t)r->rows, "kernel_sha256", r->kernel_sha256);
}

static json_t *resampler_json(const work *w) {
    json_t *o = report_json(&w->out_report);
    if (w->measured)
        json_object_set_new(o, "measured",
                            json_pack("{s:f, s:f, s:f, s:f}", "passband_edge_part_of_nyquist",
                                      w->quality.edge, "ripple_db", w->quality.ripple_db, "snr_db",
                                      w->quality.snr_db, "rejection_db", w->quality.reject_db));
    if (w->setup->both_ways) json_object_set_new(o, "input", report_json(&w->in_report));
    return o;
}

static json_t *timing_json(const work *w) {
    const answer *a = &w->group->said;
    json_t *o = json_object();
    double steps = a->steps ? (double)a->steps : 1, audio_s = steps * CHECK_FRAME / CHECK_RATE_HZ;
    json_object_set_new(o, "load_s", json_real(w->group->load_s));
    json_object_set_new(o, "controls_s", json_real(w->group->controls.seconds));
    for (int s = 0; s < ANSWER_STAGES; s++) {
        char name[32];
        snprintf(name, sizeof name, "%s_ms", answer_stage_name(s));
        json_object_set_new(o, name, json_real(1e3 * a->stage_s[s] / steps));
    }
    json_object_set_new(o, "frame_ms", json_real(1e3 * a->seconds / steps));
    json_object_set_new(o, "slowest_frame_ms", json_real(1e3 * a->slowest_step_s));
    json_object_set_new(o, "resample_ms", json_real(1e3 * w->out_report.seconds / steps));
    json_object_set_new(o, "frames", json_integer((json_int_t)a->steps));
    json_object_set_new(o, "answer_s", json_real(a->seconds));
    json_object_set_new(o, "judge_s", json_real(w->judge_s));
    json_object_set_new(o, "real_time_factor", json_real(a->seconds / audio_s));
    return o;
}

static json_t *device_json(const check_group *g) {
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:i}", "name", g->device.name, "kind",
                     g->device.kind, "description", g->device.description, "driver",
                     g->device.driver, "kernels", g->info.kernels, "threads", g->info.threads);
}

static json_t *model_json(const work *w) {
    const check_setup *s = w->setup;
    const moshi_engine_info *i = &w->group->info;
    json_t *delays = json_array();
    for (int k = 0; k <= i->n_q; k++) json_array_append_new(delays, json_integer(i->delays[k]));
    return json_pack("{s:o, s:s, s:s, s:s, s:o, s:I, s:o}", "name", json_text(s->model.name),
                     "type", i->model_type, "sha256", s->files.sha256, "config_sha256",
                     model_files_config(&s->files), "files", model_files_json(&s->files),
                     "weight_bytes", (json_int_t)i->weight_bytes, "delays", delays);
}

/* The verdict and the reason for it. */
static check_verdict decide(const work *w, char *reason, size_t n) {
    const control_results *c = &w->group->controls;
    if (!c->valid) {
        snprintf(reason, n,
                 "the instruments cannot tell speech from broken speech here: %s; nothing can be "
                 "said of the answer",
                 c->wrong);
        return CHECK_INVALID;
    }
    if (w->verdict.passes && w->group->said.words == 0) {
        snprintf(reason, n, "the model said no word");
        return CHECK_FAIL;
    }
    double spoken_s = (double)w->verdict.codes.frames * CHECK_FRAME / CHECK_RATE_HZ;
    size_t words = w->group->said.words;
    if (w->verdict.passes && words >= FEW_WORDS && (double)words > FASTEST_WORDS_HZ * spoken_s) {
        snprintf(
            reason, n,
            "the inner text does not belong to the sound: %zu words with %.1f s of sound, more "
            "than anybody can say (damaged text weights?)",
            words, spoken_s);
        return CHECK_FAIL;
    }
    if (w->fault)
        snprintf(reason, n, "%s; best explanation: %s (undone, %.0f %% of the codes come back)",
                 w->verdict.reason, w->fault->name, 100 * w->fault_part);
    else
        snprintf(reason, n, "%s", w->verdict.reason);
    return w->verdict.passes ? CHECK_PASS : CHECK_FAIL;
}

/* What the records of old had, under the same names. Then the words came from a recogniser. */
static void add_old_fields(const work *w, json_t *o) {
    char now[40], path[PATH_MAX + 32];
    time_t seconds = time(NULL);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", &utc);
    snprintf(path, sizeof path, "%s/%s", w->run->where.path, EXPERIMENT_HEARD);
    json_object_set_new(o, "timestamp", json_string(now));
    json_object_set_new(o, "config", settings_json(w->run->resampler));
    json_object_set_new(o, "transcription", json_text(w->group->said.text));
    json_object_set_new(o, "word_count", json_integer((json_int_t)w->group->said.words));
    json_object_set_new(o, "intelligible", json_boolean(w->run->verdict == CHECK_PASS));
    json_object_set_new(o, "audio_path", json_text(path));
}

static json_t *make_record(work *w) {
    char reason[1024];
    const check_setup *s = w->setup;
    w->run->verdict = decide(w, reason, sizeof reason);
    json_t *o = json_object();
    add_old_fields(w, o);
    json_object_set_new(o, "written_by", json_string(EXPERIMENT_WRITER));
    json_object_set_new(o, "run_id", json_string(w->run->where.id));
    json_object_set_new(o, "verdict", json_string(check_verdict_name(w->run->verdict)));
    json_object_set_new(o, "reason", json_text(reason));
    json_object_set_new(o, "text", json_text(w->group->said.text));
    json_object_set_new(o, "text_source", json_string("the model's own inner monologue"));
    json_object_set_new(o, "answer_computed_in", json_string(w->group->said_in));
    json_object_set_new(o, "seed", json_integer((json_int_t)w->run->seed));
    json_object_set_new(o, "device", device_json(w->group));
    json_object_set_new(o, "weight_type", json_string(w->group->type));
    json_object_set_new(o, "build", json_string(build_id()));
    json_object_set_new(o, "program_sha256", json_string(s->program_sha256));
    json_object_set_new(o, "model", model_json(w));
    json_object_set_new(o, "input",
                        json_pack("{s:o, s:s, s:f, s:f}", "source", json_text(s->input.source),
                                  "sha256", s->input.sha256, "recorded_s",
                                  (double)s->input.recorded / CHECK_RATE_HZ, "seconds",
                                  (double)s->input.sound.n / CHECK_RATE_HZ));
    json_object_set_new(o, "resampler", resampler_json(w));
    json_object_set_new(o, "output_pcm_sha256", json_string(w->pcm_sha256));
    json_object_set_new(o, "files",
                        json_pack("{s:s, s:s}", EXPERIMENT_HEARD, w->heard_sha256,
                                  EXPERIMENT_ANSWER, w->answer_sha256));
    json_object_set_new(o, "clipped_samples", json_integer((json_int_t)w->clipped));
    json_object_set_new(o, "samples_no_numbers", json_integer((json_int_t)w->no_numbers));
    json_object_set_new(o, "timing", timing_json(w));
    json_object_set_new(o, "scores", judgement_json(&w->verdict));
    json_object_set_new(json_object_get(o, "scores"), "fresh_decoding_agreement",
                        json_real(w->group->speech.returns));
    json_object_set_new(o, "controls_valid", json_boolean(w->group->controls.valid));
    json_object_set_new(o, "controls", controls_json(&w->group->controls));
    json_object_set(o, "inputs", w->run->inputs);
    json_object_set_new(o, "no_effect", check_no_effect(o, s->earlier));
    return o;
}

int check_run_make(check_run *run, check_setup *setup, check_group *g, app_error *err) {
    work w = {.run = run, .setup = setup, .group = g};
    int rc = group_open(g, setup, err);
    if (rc == EXIT_OK) rc = experiment_begin(&run->where, err);
    if (rc == EXIT_OK) rc = answer_input(&w, err);
    if (rc == EXIT_OK) rc = judge_answer(&w, err);
    if (rc == EXIT_OK) rc = save(&w, err);
    json_t *record = rc == EXIT_OK ? make_record(&w) : NULL;
    if (rc == EXIT_OK && !record) rc = app_no_memory(err);
    if (rc == EXIT_OK) rc = app_check_interrupted(err);
    if (rc == EXIT_OK) rc = experiment_commit(&run->where, record, err);
    char response[] = EXPERIMENT_RESPONSE;
    uint64_t clipped;
    if (rc == EXIT_OK) rc = sound_save(&w.heard, response, &clipped, err);
    if (rc == EXIT_OK)
        run->record = record;
    else
        json_decref(record);
    experiment_abandon(&run->where);
    sound_free(&w.in);
    sound_free(&w.heard);
    return rc;
}

/* ---- settings without effect ---------------------------------------------------------------- */

static json_t *setting_text(const json_t *inputs, const char *key) {
    json_t *value = json_object_get(inputs, key), *name = json_object_get(value, "name");
    return json_deep_copy(name ? name : value);
}

/* The one setting in which two runs differ; NULL when they differ in none or in several. What
 * program it was does not count: the same sound from another build is as it should be. */
static const char *only_difference(const json_t *a, const json_t *b) {
    static const char *const keys[] = {"device",    "weight_type", "resampler", "device_hz",
                                       "both_ways", "seed",        "input",     "model"};
    const char *found = NULL;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (json_equal(json_object_get(a, keys[i]), json_object_get(b, keys[i]))) continue;
        if (found) return NULL;
        found = keys[i];
    }
    return found;
}

static bool listed(const json_t *list, const char *setting) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *one = json_object_get(json_array_get(list, i), "setting");
        if (!strcmp(json_string_value(one), setting)) return true;
    }
    return false;
}

json_t *check_no_effect(const json_t *record, const json_t *others) {
    json_t *list = json_array(), *inputs = json_object_get(record, "inputs");
    const char *hash = json_string_value(json_object_get(record, "output_pcm_sha256"));
    for (size_t i = 0; list && hash && i < json_array_size(others); i++) {
        const json_t *other = json_array_get(others, i);
        const json_t *other_inputs = json_object_get(other, "inputs");
        const char *same = json_string_value(json_object_get(other, "output_pcm_sha256"));
        const char *key = only_difference(inputs, other_inputs);
        if (!key || !same || strcmp(same, hash) != 0 || listed(list, key)) continue;
        json_array_append_new(list, json_pack("{s:s, s:o, s:o, s:O}", "setting", key, "value",
                                              setting_text(inputs, key), "other_value",
                                              setting_text(other_inputs, key), "other_run",
                                              json_object_get(other, "run_id")));
    }
    return list;
}
