/* tracefile.c - recordings to and from safetensors. */
#include "tracefile.h"

#include "json.h"
#include "tensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRACE_VERSION = 1 };
static const char ABOUT[] = "compare.about", WRITER[] = "moshi compare";

/* The facts are the first array, so that a look at the beginning of the file is enough. */
bool tracefile_is(const char *path) {
    char head[8 + sizeof ABOUT + 2];
    FILE *f = fopen(path, "rb");
    bool is = f && fread(head, 1, sizeof head, f) == sizeof head && !memcmp(head + 8, "{\"", 2) &&
              !memcmp(head + 10, ABOUT, sizeof ABOUT - 1);
    if (f) fclose(f);
    /* One that was never written, or not to the end of its first array, goes by its name. */
    size_t n = strlen(path);
    return is || (f && n > 6 && !strcmp(path + n - 6, ".trace"));
}

/* ---- writing -------------------------------------------------------------------------------- */

/* Padded, so that the numbers after it are aligned. */
static char *make_about(const trace_facts *facts, const recording *r) {
    json_t *o =
        json_pack("{s:s, s:i, s:o, s:o, s:o, s:o, s:s, s:o, s:s, s:f, s:f, s:i, s:o}", "written_by",
                  WRITER, "version", TRACE_VERSION, "side", json_text(facts->side), "device",
                  json_text(facts->device), "build", json_text(facts->build), "model",
                  json_text(facts->model), "model_sha256", facts->model_sha256, "input",
                  json_text(facts->input), "input_sha256", facts->input_sha256, "model_error",
                  facts->error.model, "codec_error", facts->error.codec, "rate_hz", r->rate_hz,
                  "words", json_text(r->words.n ? r->words.data : ""));
    char *text = o ? json_dumps(o, JSON_INDENT(1)) : NULL;
    json_decref(o);
    size_t n = text ? strlen(text) : 0, padded = (n + 7) / 8 * 8;
    char *grown = text ? realloc(text, padded + 1) : NULL;
    if (!grown) {
        free(text);
        return NULL;
    }
    memset(grown + n, ' ', padded - n);
    grown[padded] = 0;
    return grown;
}

typedef struct array {
    const char *name;
    tensor_dtype dtype;
    int64_t shape[2];
    const void *data;
} array;

/* Everything but the intermediates, the facts first. */
enum { OWN = 7 };

static void own_arrays(array out[OWN], const char *about, const recording *r, const plan *common) {
    const plan *own = &r->chosen;
    int64_t voice = common->channels - 1;
    int64_t spoken = voice > 0 ? (int64_t)(r->spoken.n / sizeof(int32_t)) / voice : 0;
    const array all[OWN] = {
        {ABOUT, TENSOR_U8, {(int64_t)strlen(about), 1}, about},
        {"compare.plan.codes", TENSOR_I32, {common->steps, common->user}, common->codes},
        {"compare.plan.force", TENSOR_I32, {common->steps, common->channels}, common->force},
        {"compare.chosen.codes", TENSOR_I32, {own->steps, own->user}, own->codes},
        {"compare.chosen.force", TENSOR_I32, {own->steps, own->channels}, own->force},
        {"compare.spoken", TENSOR_I32, {spoken, voice}, r->spoken.data},
        {"compare.audio", TENSOR_F32, {(int64_t)(r->audio.n / sizeof(float)), 1}, r->audio.data},
    };
    memcpy(out, all, sizeof all);
}

static int put_all(tensors_out *out, const array *own, const recording *r, app_error *err) {
    int rc = EXIT_OK, index = 0;
    for (; rc == EXIT_OK && index < OWN; index++) {
        const array *a = &own[index];
        size_t bytes = (size_t)(a->shape[0] * a->shape[1]) * (a->dtype == TENSOR_U8 ? 1 : 4);
        if (bytes) rc = tensors_out_put(out, index, 0, a->data, bytes, err);
    }
    for (size_t i = 0; rc == EXIT_OK && i < r->n; i++, index++) {
        const track *t = &r->tracks[i];
        if (t->data.n) rc = tensors_out_put(out, index, 0, t->data.data, t->data.n, err);
        if (rc == EXIT_OK) rc = app_check_interrupted(err);
    }
    return rc;
}

int tracefile_write(const char *path, const char *not_this, const trace_facts *facts,
                    const recording *r, const plan *common, app_error *err) {
    tensors_out *out = NULL;
    array own[OWN];
    bool fits = true;
    char *about = make_about(facts, r);
    if (!about) return app_no_memory(err);
    own_arrays(own, about, r, common);
    int rc = tensors_out_open(&out, path, not_this, OUTFILE_IN_ORDER, err);
    for (int i = 0; rc == EXIT_OK && i < OWN; i++)
        fits &= tensors_out_add(out, own[i].name, own[i].dtype, 2, own[i].shape) >= 0;
    for (size_t i = 0; rc == EXIT_OK && i < r->n; i++) {
        const track *t = &r->tracks[i];
        int64_t shape[2] = {(int64_t)t->rows, (int64_t)t->width};
        tensor_dtype dtype = t->dtype == MOSHI_I32 ? TENSOR_I32 : TENSOR_F32;
        fits &= tensors_out_add(out, t->name, dtype, 2, shape) >= 0;
    }
    if (rc == EXIT_OK && !fits) rc = app_no_memory(err);
    if (rc == EXIT_OK) rc = tensors_out_start(out, err);
    if (rc == EXIT_OK) rc = put_all(out, own, r, err);
    if (rc == EXIT_OK) rc = tensors_out_commit(out, err);
    tensors_out_close(out);
    free(about);
    return rc;
}

/* ---- reading -------------------------------------------------------------------------------- */

static int read_text(char *out, size_t cap, const json_t *o, const char *key, const char *path,
                     app_error *err) {
    const char *text = json_string_value(json_object_get(o, key));
    if (!text) return app_fail(err, EXIT_USAGE, "%s: compare.about: no '%s'", path, key);
    snprintf(out, cap, "%s", text);
    return EXIT_OK;
}

static int parse_about(trace_facts *f, recording *r, const json_t *o, const char *path,
                       app_error *err) {
    const struct {
        const char *key;
        char *to;
        size_t cap;
    } fields[] = {{"side", f->side, sizeof f->side},
                  {"device", f->device, sizeof f->device},
                  {"build", f->build, sizeof f->build},
                  {"model", f->model, sizeof f->model},
                  {"model_sha256", f->model_sha256, sizeof f->model_sha256},
                  {"input", f->input, sizeof f->input},
                  {"input_sha256", f->input_sha256, sizeof f->input_sha256}};
    long long version = (long long)json_integer_value(json_object_get(o, "version"));
    if (version != TRACE_VERSION)
        return app_fail(err, EXIT_USAGE, "%s: wanted a trace of version %d, found %lld", path,
                        TRACE_VERSION, version);
    int rc = EXIT_OK;
    for (size_t i = 0; rc == EXIT_OK && i < sizeof fields / sizeof fields[0]; i++)
        rc = read_text(fields[i].to, fields[i].cap, o, fields[i].key, path, err);
    f->error.model = json_number_value(json_object_get(o, "model_error"));
    f->error.codec = json_number_value(json_object_get(o, "codec_error"));
    json_int_t rate = json_integer_value(json_object_get(o, "rate_hz"));
    if (rc == EXIT_OK &&
        (!(f->error.model > 0 && f->error.codec > 0) || rate < 1 || rate > 1000000))
        rc = app_fail(err, EXIT_USAGE,
                      "%s: compare.about: model_error, codec_error or rate_hz is no such thing",
                      path);
    r->rate_hz = (int)rate;
    const char *words = json_string_value(json_object_get(o, "words"));
    if (rc == EXIT_OK && words && words[0])
        rc = app_buffer_add(&r->words, words, strlen(words), err);
    return rc;
}

static int read_about(trace_facts *f, recording *r, const tensors_in *in, app_error *err) {
    const char *path = tensors_in_path(in);
    const tensor_entry *entry = tensors_in_find(in, ABOUT);
    if (!entry || strcmp(entry->dtype, "U8") != 0 || entry->bytes > 1 << 16)
        return app_fail(err, EXIT_USAGE, "%s: wanted an array '%s' of bytes", path, ABOUT);
    app_buffer text = {0};
    int rc = tensors_in_read(in, entry, &text, err);
    json_t *o = rc == EXIT_OK ? json_loadb(text.data, text.n, 0, NULL) : NULL;
    if (rc == EXIT_OK && !o) rc = app_fail(err, EXIT_USAGE, "%s: %s: not JSON", path, ABOUT);
    if (rc == EXIT_OK) rc = parse_about(f, r, o, path, err);
    json_decref(o);
    app_buffer_free(&text);
    return rc;
}

/* "compare.NAME.codes" and "compare.NAME.force" */
static int read_plan(plan *p, const tensors_in *in, const char *codes, const char *force,
                     app_error *err) {
    int64_t heard[2] = {-1, -1}, chosen[2] = {-1, -1};
    int rc = tensors_in_read_i32(in, force, 2, chosen, &p->force, err);
    heard[0] = chosen[0];
    if (rc == EXIT_OK) rc = tensors_in_read_i32(in, codes, 2, heard, &p->codes, err);
    if (rc != EXIT_OK) return rc;
    if (chosen[0] < 2 || chosen[1] < 1 || chosen[1] > 4096 || heard[1] > 4096)
        return app_fail(err, EXIT_USAGE,
                        "%s: array '%s': wanted at least two steps of at least one channel",
                        tensors_in_path(in), force);
    p->steps = chosen[0];
    p->channels = (int)chosen[1];
    p->user = (int)heard[1];
    return EXIT_OK;
}

/* An array of its own that need not be there. */
static int read_own(app_buffer *out, const tensors_in *in, const char *name, const char *dtype,
                    app_error *err) {
    const tensor_entry *entry = tensors_in_find(in, name);
    if (!entry || strcmp(entry->dtype, dtype) != 0) return EXIT_OK;
    return tensors_in_read(in, entry, out, err);
}

static int read_track(recording *r, const tensors_in *in, const tensor_entry *entry,
                      app_error *err) {
    bool integers = !strcmp(entry->dtype, "I32");
    if (entry->ndim != 2 || (!integers && strcmp(entry->dtype, "F32") != 0))
        return app_fail(err, EXIT_USAGE, "%s: array '%s': wanted F32 or I32 [rows, width]",
                        tensors_in_path(in), entry->name);
    if (entry->bytes == 0) return EXIT_OK;
    track *more = realloc(r->tracks, (r->n + 1) * sizeof *more);
    if (more) r->tracks = more;
    char *name = strdup(entry->name);
    if (!more || !name) {
        free(name);
        return app_no_memory(err);
    }
    track *t = &r->tracks[r->n++];
    *t = (track){.name = name,
                 .dtype = integers ? MOSHI_I32 : MOSHI_F32,
                 .rows = (size_t)entry->shape[0],
                 .width = (size_t)entry->shape[1]};
    return tensors_in_read(in, entry, &t->data, err);
}

int tracefile_read(trace_facts *facts, recording *r, plan *common, const char *path,
                   app_error *err) {
    tensors_in *in;
    memset(facts, 0, sizeof *facts);
    int rc = tensors_in_open(&in, path, err);
    if (rc != EXIT_OK) return rc;
    rc = read_about(facts, r, in, err);
    if (rc == EXIT_OK) rc = read_plan(common, in, "compare.plan.codes", "compare.plan.force", err);
    if (rc == EXIT_OK)
        rc = read_plan(&r->chosen, in, "compare.chosen.codes", "compare.chosen.force", err);
    if (rc == EXIT_OK && !plan_fits(common, &r->chosen))
        rc = app_fail(err, EXIT_USAGE, "%s: its plan and what it chose have other channels", path);
    if (rc == EXIT_OK) rc = read_own(&r->spoken, in, "compare.spoken", "I32", err);
    if (rc == EXIT_OK) rc = read_own(&r->audio, in, "compare.audio", "F32", err);
    for (size_t i = 0; rc == EXIT_OK && i < tensors_in_count(in); i++) {
        const tensor_entry *entry = tensors_in_at(in, i);
        if (strncmp(entry->name, "compare.", 8) != 0) rc = read_track(r, in, entry, err);
        if (rc == EXIT_OK) rc = app_check_interrupted(err);
    }
    tensors_in_close(in);
    return rc;
}
