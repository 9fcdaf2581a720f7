/* report_model.c - a model's facts on paper. */
#include "report_model.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { CENSUS_MAX = 32, FINDINGS_SHOWN = 12 };

/* How many tensors and bytes of each dtype. */
typedef struct census {
    const char *dtype[CENSUS_MAX];
    uint64_t tensors[CENSUS_MAX], bytes[CENSUS_MAX];
    int n;
} census;

static void take_census(census *c, const moshi_model_info *info) {
    memset(c, 0, sizeof *c);
    for (size_t i = 0; i < info->n_tensors; i++) {
        const moshi_tensor_info *t = &info->tensors[i];
        int k = 0;
        while (k < c->n && strcmp(c->dtype[k], t->dtype) != 0) k++;
        if (k == CENSUS_MAX) continue;
        if (k == c->n) c->dtype[c->n++] = t->dtype;
        c->tensors[k]++;
        c->bytes[k] += t->bytes;
    }
}

/* ---- which published model ------------------------------------------------------------------ */

void report_recognise(model_report *r) {
    const moshi_model_info *info = r->info;
    char shape[48], form[48];
    if (info->dim == 0) return;
    snprintf(shape, sizeof shape, "%dx%d,%d,%d,%d", info->dim, info->layers, info->engine.n_q,
             info->engine.dep_q, info->engine.text_card);
    snprintf(form, sizeof form, "%.20s/%.20s", info->names, info->numbers);
    r->n_like = repos_like(shape, form, r->like, LIKE_MAX);
    /* Two voices have the same sizes: the user may have said which it is. */
    for (int i = 0; i < r->n_like; i++) {
        size_t n = strlen(r->like[i].name);
        if (strncmp(r->name, r->like[i].name, n) != 0 || (r->name[n] && r->name[n] != '@'))
            continue;
        r->like[0] = r->like[i];
        r->n_like = 1;
    }
}

/* "kyutai/a or kyutai/b" */
static void like_text(const model_report *r, char *out, size_t cap) {
    size_t n = 0;
    out[0] = 0;
    for (int i = 0; i < r->n_like && n < cap; i++)
        n += (size_t)snprintf(out + n, cap - n, "%s%s", i ? " or " : "", r->like[i].name);
}

void report_reason(const model_report *r, char *out, size_t cap) {
    const moshi_model_info *info = r->info;
    char like[400];
    bool incomplete = info->n_findings && !strcmp(info->findings[0].kind, "incomplete");
    snprintf(out, cap, "%s", info->reason);
    if (!incomplete || !r->n_like || !info->lm_file || (info->codec_file && info->text_file))
        return;
    like_text(r, like, sizeof like);
    const char *file = r->like[0].file;
    size_t n = strlen(out);
    snprintf(out + n, cap - n, "; this looks like %s%s%s, which comes with %s%s%s: moshi pull %s",
             strcmp(file, "-") ? file : "", strcmp(file, "-") ? " of " : "", like,
             info->codec_file ? "" : "its codec",
             info->codec_file || info->text_file ? "" : " and ",
             info->text_file ? "" : "its tokenizer", r->like[0].name);
}

/* ---- for people ----------------------------------------------------------------------------- */

static void print_tensor(const moshi_tensor_info *t) {
    char shape[160];
    size_t at = (size_t)snprintf(shape, sizeof shape, "[");
    for (int i = 0; i < t->ndim && at < sizeof shape; i++)
        at += (size_t)snprintf(shape + at, sizeof shape - at, "%s%" PRId64, i ? ", " : "",
                               t->shape[i]);
    printf("  %-4s %-20s] %s: %s%s%s\n", t->dtype, shape, t->file, t->name,
           t->problem ? "  PROBLEM: " : "", t->problem ? t->problem : "");
}

static void print_origin(const model_report *r) {
    const moshi_model_info *info = r->info;
    char like[400];
    like_text(r, like, sizeof like);
    if (r->n_like) printf("published as    %s\n", like);
    if (info->preset)
        printf("configuration   no config.json with sizes: built-in preset %s (recognised by %d "
               "layers of %d, %d and %d channels, %d text tokens)\n",
               info->preset, info->layers, info->dim, info->engine.n_q, info->engine.dep_q,
               info->engine.text_card);
    printf("format          %s, %s names, %s\n", info->container, info->names, info->numbers);
}

static void print_files(const moshi_model_info *info) {
    const char *files[] = {info->config_file, info->lm_file, info->codec_file, info->text_file};
    const char *title = "files";
    for (int i = 0; i < 4; i++) {
        bool again = false; /* one file may be all of it */
        for (int k = 0; k < i; k++) again |= files[i] && files[k] && !strcmp(files[i], files[k]);
        if (!files[i] || again) continue;
        printf("%-15s %s\n", title, files[i]);
        title = "";
    }
}

static void print_language_model(const moshi_model_info *info) {
    const moshi_engine_info *e = &info->engine;
    printf("type            %s\n", e->model_type);
    printf("temporal        %d layers of %d", info->layers, info->dim);
    if (info->heads) printf(", %d heads, context %d frames", info->heads, e->context);
    printf("\n");
    if (e->dep_q > 0) {
        printf("depth           %d layers of %d", info->depformer_layers, info->depformer_dim);
        if (info->depformer_heads) printf(", %d heads", info->depformer_heads);
        printf("\n");
    }
    printf("channels        reads %d, speaks %d, hears %d of the user\n", e->n_q, e->dep_q,
           e->user_codebooks);
    printf("vocabulary      %d text, %d per audio channel\n", e->text_card, e->card);
    if (!e->delays) return;
    printf("delays          text %d, audio", e->delays[0]);
    for (int i = 1; i <= e->n_q; i++) printf(" %d", e->delays[i]);
    printf("\nsampling        text %g top %d, audio %g top %d\n", (double)e->text_temp,
           e->text_top_k, (double)e->audio_temp, e->audio_top_k);
}

static void print_codec(const moshi_codec_info *c) {
    printf("codec           %d Hz, %g frames of %d samples per second, %d codebooks of %d\n",
           c->sample_rate_hz, c->frame_rate_hz, c->frame_samples, c->max_codebooks, c->bins);
}

static void print_parts(const moshi_model_info *info) {
    char size[32];
    for (size_t i = 0; i < info->n_parts; i++) {
        const moshi_part_info *p = &info->parts[i];
        printf("%-15s %-21s %10.2f M parameters, %4zu tensor%s %s\n", i ? "" : "parts", p->name,
               (double)p->parameters / 1e6, p->tensors, p->tensors == 1 ? ", " : "s,",
               app_size_text(size, p->bytes));
    }
}

static void print_findings(const model_report *r) {
    const moshi_model_info *info = r->info;
    if (info->n_findings == 0) {
        printf("health          %s\n",
               r->quick ? "the tensors are those it should have; their numbers were not read"
                        : "no NaN, no zeros, nothing odd");
        return;
    }
    printf("health          %zu finding%s\n", info->n_findings, info->n_findings == 1 ? "" : "s");
    for (size_t i = 0; i < info->n_findings && i < FINDINGS_SHOWN; i++)
        printf("  %-11s   %s\n", info->findings[i].kind, info->findings[i].text);
    if (info->n_findings > FINDINGS_SHOWN)
        printf("  and %zu more (--json has all of them)\n", info->n_findings - FINDINGS_SHOWN);
}

/* Which verbs run it: reply needs a model that hears the user and speaks. */
static const char *verbs_of(const moshi_model_info *info) {
    if (info->dim == 0) return "yes, with codec";
    bool talks = info->engine.user_codebooks > 0 && info->engine.dep_q > 0;
    return talks ? "yes" : "yes, with trace only (reply needs a model that hears and speaks)";
}

void report_print(const model_report *r) {
    const moshi_model_info *info = r->info;
    char size[32], reason[2048];
    census c;
    take_census(&c, info);
    printf("%s: %s\n", r->name, info->summary);
    print_origin(r);
    print_files(info);
    if (info->dim > 0) print_language_model(info);
    if (info->codec.frame_samples > 0) print_codec(&info->codec);
    for (int i = 0; i < c.n; i++)
        printf("%-15s %" PRIu64 " %s, %s\n", i ? "" : "tensors", c.tensors[i], c.dtype[i],
               app_size_text(size, c.bytes[i]));
    print_parts(info);
    plan_print(&r->plan);
    print_findings(r);
    for (size_t i = 0; r->tensors && i < info->n_tensors; i++) print_tensor(&info->tensors[i]);
    if (info->runs) {
        printf("runs            %s\n", verbs_of(info));
        return;
    }
    report_reason(r, reason, sizeof reason);
    printf("runs            no: %s\n", reason);
}

/* ---- for machines --------------------------------------------------------------------------- */

static json_t *text_or_null(const char *text) {
    return text ? json_text(text) : json_null();
}

static json_t *tensor_json(const moshi_tensor_info *t) {
    json_t *shape = json_array();
    for (int i = 0; i < t->ndim; i++) json_array_append_new(shape, json_integer(t->shape[i]));
    return json_pack("{s:o, s:o, s:s, s:o, s:I, s:o}", "file", json_text(t->file), "name",
                     json_text(t->name), "dtype", t->dtype, "shape", shape, "bytes",
                     (json_int_t)t->bytes, "problem", text_or_null(t->problem));
}

static json_t *language_model_json(const moshi_model_info *info) {
    const moshi_engine_info *e = &info->engine;
    json_t *delays = json_array();
    for (int i = 0; e->delays && i <= e->n_q; i++)
        json_array_append_new(delays, json_integer(e->delays[i]));
    return json_pack(
        "{s:o, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:o, s:f, s:i, s:f, "
        "s:i}",
        "type", json_text(e->model_type), "dim", info->dim, "layers", info->layers, "heads",
        info->heads, "context_frames", e->context, "depformer_dim", info->depformer_dim,
        "depformer_layers", info->depformer_layers, "depformer_heads", info->depformer_heads, "n_q",
        e->n_q, "dep_q", e->dep_q, "user_codebooks", e->user_codebooks, "text_card", e->text_card,
        "card", e->card, "delays", delays, "text_temp", (double)e->text_temp, "text_top_k",
        e->text_top_k, "audio_temp", (double)e->audio_temp, "audio_top_k", e->audio_top_k);
}

static json_t *codec_json(const moshi_codec_info *c) {
    return json_pack("{s:i, s:i, s:f, s:i, s:i}", "sample_rate", c->sample_rate_hz, "frame_samples",
                     c->frame_samples, "frame_rate_hz", c->frame_rate_hz, "codebooks",
                     c->max_codebooks, "bins", c->bins);
}

static json_t *census_json(const moshi_model_info *info) {
    census c;
    json_t *all = json_object();
    take_census(&c, info);
    for (int i = 0; i < c.n; i++)
        json_object_set_new(all, c.dtype[i],
                            json_pack("{s:I, s:I}", "tensors", (json_int_t)c.tensors[i], "bytes",
                                      (json_int_t)c.bytes[i]));
    return all;
}

static json_t *parts_json(const moshi_model_info *info) {
    json_t *all = json_array();
    for (size_t i = 0; i < info->n_parts; i++) {
        const moshi_part_info *p = &info->parts[i];
        json_array_append_new(all,
                              json_pack("{s:s, s:I, s:I, s:I}", "name", p->name, "parameters",
                                        (json_int_t)p->parameters, "tensors",
                                        (json_int_t)p->tensors, "bytes", (json_int_t)p->bytes));
    }
    return all;
}

static json_t *findings_json(const moshi_model_info *info) {
    json_t *all = json_array();
    for (size_t i = 0; i < info->n_findings; i++) {
        const moshi_finding *f = &info->findings[i];
        json_array_append_new(all, json_pack("{s:s, s:b, s:o, s:o, s:o}", "kind", f->kind, "fatal",
                                             f->fatal, "file", text_or_null(f->file), "tensor",
                                             text_or_null(f->tensor), "text", json_text(f->text)));
    }
    return all;
}

static json_t *files_json(const moshi_model_info *info) {
    return json_pack("{s:o, s:o, s:o, s:o}", "config", text_or_null(info->config_file), "lm",
                     text_or_null(info->lm_file), "codec", text_or_null(info->codec_file),
                     "tokenizer", text_or_null(info->text_file));
}

static json_t *like_json(const model_report *r) {
    json_t *all = json_array();
    for (int i = 0; i < r->n_like; i++) json_array_append_new(all, json_string(r->like[i].name));
    return all;
}

int report_print_json(const model_report *r, app_error *err) {
    const moshi_model_info *info = r->info;
    char reason[2048];
    json_t *tensors = json_array();
    for (size_t i = 0; i < info->n_tensors; i++)
        if (r->tensors || info->tensors[i].problem)
            json_array_append_new(tensors, tensor_json(&info->tensors[i]));
    json_t *root = json_pack(
        "{s:o, s:s, s:o, s:b, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:I, s:b, s:o, s:o}", "model",
        json_text(r->name), "kind", info->kind, "summary", json_text(info->summary), "runs",
        info->runs, "container", info->container, "names", info->names, "numbers", info->numbers,
        "preset", text_or_null(info->preset), "published_as", like_json(r), "files",
        files_json(info), "dtypes", census_json(info), "parts", parts_json(info), "parameters",
        (json_int_t)info->engine.parameters, "numbers_read", !r->quick, "findings",
        findings_json(info), r->tensors ? "tensors" : "problems", tensors);
    if (root && info->reason) {
        report_reason(r, reason, sizeof reason);
        json_object_set_new(root, "reason", json_text(reason));
    }
    if (root && r->plan.n > 0) json_object_set_new(root, "memory", plan_json(&r->plan));
    if (root && info->dim > 0) json_object_set_new(root, "lm", language_model_json(info));
    if (root && info->codec.frame_samples > 0)
        json_object_set_new(root, "codec", codec_json(&info->codec));
    return json_print(root, err);
}

int report_print_unreadable(const char *name, const char *reason, app_error *err) {
    return json_print(json_pack("{s:o, s:b, s:o, s:o}", "model", json_text(name), "runs", 0,
                                "reason", json_text(reason), "findings", json_array()),
                      err);
}
