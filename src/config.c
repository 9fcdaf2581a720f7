/* config.c - config.json into structs. Every key is read by name; whatever is left over at the end
 * and is not known to be harmless is refused. */
#include "config.h"
#include "json.h"

#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bounds on what a file may ask for: far above every published model, and such that products of a
 * few of them stay far below 2^63. */
enum {
    MAX_TEXT_BYTES = 1 << 20,
    MAX_KEYS = 1000, /* of one object; looking for repeated keys takes its square */
    MAX_DIM = 16384,
    MAX_HIDDEN = 65536,
    MAX_LAYERS = 256,
    MAX_HEADS = 1024,
    MAX_CONTEXT = 1 << 20,
    MAX_CARD = 1 << 20,
    MAX_DELAY = 1000,
    MAX_HOP = 1 << 20,
    REQUIRED = INT_MIN
};

/* ---- reading an object key by key ---------------------------------------------------------- */

/* One object of the file. The first failure sticks in `rc`; every call after it does nothing, so
 * readers below are plain lists. */
typedef struct section {
    const mo_json *json;
    const mo_json_value *object;
    const char *file, *path; /* path: "" or "seanet." */
    uint8_t *used;           /* [json->n] which values have been read */
    moshi_error *err;
    int rc;
} section;

static const mo_json_value *find(const section *s, const char *key) {
    for (const mo_json_value *v = mo_json_first(s->json, s->object); v;
         v = mo_json_after(s->json, s->object, v))
        if (strcmp(v->key, key) == 0) return v;
    return NULL;
}

/* The value of a key, marked as read; NULL if there is none. */
static const mo_json_value *take(section *s, const char *key) {
    if (s->rc < 0) return NULL;
    const mo_json_value *v = find(s, key);
    if (v) s->used[v - s->json->values] = 1;
    return v;
}

static bool absent(const mo_json_value *v) {
    return !v || v->type == MO_JSON_NULL;
}

MO_PRINTF(4, 5)
static void refuse(section *s, const char *key, const mo_json_value *found, const char *fmt, ...) {
    if (s->rc < 0) return;
    char wanted[256], text[96] = "nothing";
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(wanted, sizeof wanted, fmt, ap);
    va_end(ap);
    if (found) mo_json_show(found, text, sizeof text);
    s->rc = mo_fail(s->err, MOSHI_EMODEL, "%s: key \"%s%.100s\": wanted %s, found %s", s->file,
                    s->path, key, wanted, text);
}

static bool is_int(const mo_json_value *v, int min, int max) {
    return v->type == MO_JSON_INT && v->as.integer >= min && v->as.integer <= max;
}

/* `fallback` REQUIRED: the key must be there. Returns a value inside min..max (or the fallback)
 * even after a failure, so that arithmetic that follows is defined. */
static int get_int(section *s, const char *key, int min, int max, int fallback) {
    const mo_json_value *v = take(s, key);
    if (absent(v) && fallback != REQUIRED) return fallback;
    if (s->rc == 0 && v && is_int(v, min, max)) return (int)v->as.integer;
    refuse(s, key, v, "a whole number from %d to %d", min, max);
    return min;
}

/* `fallback` NAN: the key must be there. Whole numbers count as reals. */
static double get_real(section *s, const char *key, double min, double max, double fallback) {
    const mo_json_value *v = take(s, key);
    if (absent(v) && !isnan(fallback)) return fallback;
    double x = NAN;
    if (v && v->type == MO_JSON_REAL) x = v->as.real;
    if (v && v->type == MO_JSON_INT) x = (double)v->as.integer;
    if (s->rc == 0 && x >= min && x <= max) return x;
    refuse(s, key, v, "a number from %g to %g", min, max);
    return min;
}

static void get_text(section *s, const char *key, char *out, size_t cap) {
    const mo_json_value *v = take(s, key);
    if (absent(v)) return;
    if (v->type != MO_JSON_STRING || strlen(v->as.string) >= cap) {
        refuse(s, key, v, "text of at most %zu bytes", cap - 1);
        return;
    }
    memcpy(out, v->as.string, strlen(v->as.string) + 1);
}

/* Array of min_n..max_n whole numbers; returns how many. */
static int get_ints(section *s, const char *key, int min_n, int max_n, int min, int max, int *out) {
    const mo_json_value *v = take(s, key);
    if (s->rc < 0) return 0;
    if (!v || v->type != MO_JSON_ARRAY || v->count < (uint32_t)min_n ||
        v->count > (uint32_t)max_n) {
        if (min_n == max_n) {
            refuse(s, key, v, "an array of %d whole numbers", min_n);
        } else {
            refuse(s, key, v, "an array of %d to %d whole numbers", min_n, max_n);
        }
        return 0;
    }
    int n = 0;
    for (const mo_json_value *e = mo_json_first(s->json, v); e; e = mo_json_after(s->json, v, e)) {
        if (!is_int(e, min, max)) {
            char name[128];
            snprintf(name, sizeof name, "%s[%d]", key, n);
            refuse(s, name, e, "a whole number from %d to %d", min, max);
            return 0;
        }
        out[n++] = (int)e->as.integer;
    }
    return n;
}

/* A switch that this version knows in one position only. */
static void need_bool(section *s, const char *key, bool wanted, bool required) {
    const mo_json_value *v = take(s, key);
    if (s->rc < 0 || (absent(v) && !required)) return;
    if (!v || v->type != MO_JSON_BOOL || v->as.boolean != wanted)
        refuse(s, key, v, "%s (the only form this version implements)", wanted ? "true" : "false");
}

/* Same for words. */
static void need_word(section *s, const char *key, const char *wanted, bool required) {
    const mo_json_value *v = take(s, key);
    if (s->rc < 0 || (absent(v) && !required)) return;
    if (!v || v->type != MO_JSON_STRING || strcmp(v->as.string, wanted) != 0)
        refuse(s, key, v, "\"%s\" (the only form this version implements)", wanted);
}

static void need_int(section *s, const char *key, int wanted, bool required, const char *why) {
    const mo_json_value *v = take(s, key);
    if (s->rc < 0 || (absent(v) && !required)) return;
    if (!v || !is_int(v, wanted, wanted)) refuse(s, key, v, "%d (%s)", wanted, why);
}

/* One of two words: 0 or 1. */
static int get_choice(section *s, const char *key, const char *zero, const char *one) {
    const mo_json_value *v = take(s, key);
    if (s->rc == 0 && v && v->type == MO_JSON_STRING) {
        if (strcmp(v->as.string, zero) == 0) return 0;
        if (strcmp(v->as.string, one) == 0) return 1;
    }
    refuse(s, key, v, "\"%s\" or \"%s\"", zero, one);
    return 0;
}

/* Nothing in it: null, false, [] or {}. */
static bool is_void(const mo_json_value *v) {
    return absent(v) || (v->type == MO_JSON_BOOL && !v->as.boolean) ||
           ((v->type == MO_JSON_ARRAY || v->type == MO_JSON_OBJECT) && v->count == 0);
}

static void need_void(section *s, const char *key, const char *what) {
    const mo_json_value *v = take(s, key);
    if (s->rc == 0 && !is_void(v))
        refuse(s, key, v, "nothing (%s are not implemented in this version)", what);
}

static section open_section(section *parent, const char *key, const char *path) {
    section s = *parent;
    s.path = path;
    const mo_json_value *v = take(parent, key);
    if (v && v->type == MO_JSON_OBJECT && v->count <= MAX_KEYS) {
        s.object = v;
    } else {
        refuse(parent, key, v, "an object of at most %d keys", MAX_KEYS);
    }
    s.rc = parent->rc;
    return s;
}

static bool is_harmless(const char *key) {
    static const char *const names[] = {"model_id",
                                        "tts_config",
                                        "stt_config",
                                        "architectures",
                                        "torch_dtype",
                                        "_name_or_path",
                                        "library_name",
                                        "license",
                                        "tags",
                                        "description",
                                        "comment",
                                        "_comment",
                                        "lora_rank",
                                        "lora_scaling",
                                        "version",
                                        "depformer_context",
                                        "depformer_max_period"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(key, names[i]) == 0) return true;
    size_t n = strlen(key);
    return (n > 5 && strcmp(key + n - 5, "_name") == 0) ||
           (n > 8 && strcmp(key + n - 8, "_version") == 0);
}

/* Refuse what was not read. `harmless` tells keys that say nothing about the arithmetic. */
static void close_section(section *s, bool (*harmless)(const char *key)) {
    for (const mo_json_value *v = mo_json_first(s->json, s->object); v && s->rc == 0;
         v = mo_json_after(s->json, s->object, v)) {
        const mo_json_value *first = find(s, v->key);
        if (first != v && s->used[first - s->json->values]) {
            refuse(s, v->key, v, "this key only once");
        } else if (!s->used[v - s->json->values] && !is_void(v) &&
                   !(harmless && harmless(v->key))) {
            refuse(s, v->key, v,
                   "no such key (this version does not know it, and it might change "
                   "the result)");
        }
    }
}

static void close_child(section *parent, section *child, bool (*harmless)(const char *key)) {
    close_section(child, harmless);
    parent->rc = child->rc;
}

/* Parse `text` and open its outermost object. */
static int open_file(mo_json *json, section *s, const char *text, size_t size, const char *file,
                     moshi_error *err) {
    memset(json, 0, sizeof *json);
    if (size == 0)
        return mo_fail(err, MOSHI_EMODEL, "%s: the file is empty (0 bytes); wanted JSON", file);
    if (size > MAX_TEXT_BYTES)
        return mo_fail(err, MOSHI_EMODEL,
                       "%s: wanted a configuration of at most %d bytes, found %zu", file,
                       MAX_TEXT_BYTES, size);
    int rc = mo_json_parse(json, text, size, file, err);
    if (rc < 0) return rc;
    *s = (section){.json = json, .object = json->values, .file = file, .path = "", .err = err};
    if (json->values[0].type != MO_JSON_OBJECT || json->values[0].count > MAX_KEYS) {
        char found[96];
        mo_json_show(json->values, found, sizeof found);
        rc = mo_fail(err, MOSHI_EMODEL, "%s: wanted a JSON object of at most %d keys, found %s",
                     file, MAX_KEYS, found);
    } else {
        s->used = mo_calloc(json->n, 1);
        if (!s->used) rc = mo_fail(err, MOSHI_ENOMEM, "%s: out of memory", file);
    }
    if (rc < 0) mo_json_free(json);
    return rc;
}

/* ---- language model ------------------------------------------------------------------------ */

/* Width of the gated feed-forward, as the reference derives it from dim_feedforward. */
static int gated_hidden(section *s, const char *key, int dim, double feed_forward) {
    int ff = feed_forward < 4.0 * MAX_HIDDEN ? (int)feed_forward : 4 * MAX_HIDDEN;
    int hidden = ff == 4 * dim ? 21 * dim / 8 : 2 * ff / 3;
    if (hidden < 1 || hidden > MAX_HIDDEN)
        refuse(s, key, find(s, key), "a feed-forward width from 1 to %d (it gives %d)", MAX_HIDDEN,
               hidden);
    return hidden;
}

static void check_heads(section *s, const char *key, int dim, int heads, bool rope) {
    if (s->rc < 0) return;
    if (dim % heads != 0) {
        refuse(s, key, find(s, key), "a divisor of the width %d", dim);
    } else if (rope && dim / heads % 2 != 0) {
        refuse(s, key, find(s, key),
               "a number that makes heads of an even width (for rotary positions), not of %d",
               dim / heads);
    }
}

static void read_temporal(section *s, mo_lm_config *c, double hidden_scale) {
    c->dim = get_int(s, "dim", 1, MAX_DIM, REQUIRED);
    c->layers = get_int(s, "num_layers", 1, MAX_LAYERS, REQUIRED);
    c->heads = get_int(s, "num_heads", 1, MAX_HEADS, REQUIRED);
    c->kv_repeat = get_int(s, "kv_repeat", 1, MAX_HEADS, 1);
    c->context = get_int(s, "context", 1, MAX_CONTEXT, REQUIRED);
    c->max_period = (float)get_real(s, "max_period", 1.0, 1e9, 10000.0);
    c->rope = get_choice(s, "positional_embedding", "rope", "rope_concat") ? MO_ROPE_HALVES
                                                                           : MO_ROPE_PAIRS;
    c->norm_eps = get_choice(s, "norm", "rms_norm_f32", "rms_norm") ? 1e-5f : 1e-8f;
    c->hidden = gated_hidden(s, "hidden_scale", c->dim, hidden_scale * c->dim);
    check_heads(s, "num_heads", c->dim, c->heads, true);
    if (c->heads % c->kv_repeat != 0)
        refuse(s, "kv_repeat", find(s, "kv_repeat"), "a divisor of num_heads = %d", c->heads);
    need_word(s, "gating", "silu", true);
    need_bool(s, "causal", true, false);
    need_void(s, "layer_scale", "layer scales of the language model");
}

static void read_channels(section *s, mo_lm_config *c) {
    c->n_q = get_int(s, "n_q", 1, MO_MAX_CHANNELS - 1, REQUIRED);
    int most = c->n_q < MO_MAX_CODEBOOKS ? c->n_q : MO_MAX_CODEBOOKS;
    c->dep_q = get_int(s, "dep_q", 0, most, REQUIRED);
    c->card = get_int(s, "card", 1, MAX_CARD, REQUIRED);
    c->text_card = get_int(s, "text_card", 1, MAX_CARD, REQUIRED);
    /* A sampled token is fed back: it needs a row of the embedding, which has text_card + 1. */
    c->text_card_out = get_int(s, "text_card_out", 1, c->text_card + 1, c->text_card);
    c->text_pad = get_int(s, "existing_text_padding_id", 0, c->text_card, REQUIRED);
    need_int(s, "existing_text_end_padding_id", 0, false, "the reference's marker");
    get_ints(s, "delays", c->n_q + 1, c->n_q + 1, 0, MAX_DELAY, c->delays);
    for (int i = 0; i <= c->n_q; i++)
        if (c->delays[i] > c->max_delay) c->max_delay = c->delays[i];
    c->extra_heads = get_int(s, "extra_heads_num_heads", 0, 64, 0);
    c->extra_heads_dim = get_int(s, "extra_heads_dim", 1, 4096, 6);
}

static void read_schedule(section *s, mo_lm_config *c) {
    const char *key = "depformer_weights_per_step_schedule";
    c->dep_sets = c->dep_q;
    for (int k = 0; k < c->dep_q; k++) c->dep_schedule[k] = k;
    if (absent(find(s, key))) {
        take(s, key);
        return;
    }
    get_ints(s, key, c->dep_q, c->dep_q, 0, MO_MAX_CODEBOOKS - 1, c->dep_schedule);
    c->dep_sets = 0;
    for (int k = 0; k < c->dep_q; k++)
        if (c->dep_schedule[k] >= c->dep_sets) c->dep_sets = c->dep_schedule[k] + 1;
}

static void read_depformer(section *s, mo_lm_config *c, double hidden_scale) {
    c->dep_dim = get_int(s, "depformer_dim", 1, MAX_DIM, REQUIRED);
    c->dep_layers = get_int(s, "depformer_num_layers", 1, MAX_LAYERS, REQUIRED);
    c->dep_heads = get_int(s, "depformer_num_heads", 1, MAX_HEADS, REQUIRED);
    check_heads(s, "depformer_num_heads", c->dep_dim, c->dep_heads, false);
    int ff = get_int(s, "depformer_dim_feedforward", 1, 4 * MAX_HIDDEN, 0);
    c->dep_hidden = gated_hidden(s, ff ? "depformer_dim_feedforward" : "hidden_scale", c->dep_dim,
                                 ff ? ff : hidden_scale * c->dep_dim);
    c->dep_low_rank = get_int(s, "depformer_low_rank_embeddings", 1, MAX_DIM, 0);
    if (!absent(find(s, "depformer_norm"))) {
        need_word(s, "depformer_norm", "layer_norm", false);
        c->dep_norm = true;
    }
    need_bool(s, "depformer_multi_linear", true, true);
    need_bool(s, "depformer_weights_per_step", true, true);
    need_word(s, "depformer_pos_emb", "none", true);
    need_word(s, "depformer_gating", "silu", false);
    need_bool(s, "depformer_causal", true, false);
    need_void(s, "depformer_layer_scale", "layer scales of the depth transformer");
    /* Left out, it would be inherited from kv_repeat. */
    need_int(s, "depformer_kv_repeat", 1, c->kv_repeat != 1,
             "the depth transformer's keys are never shared");
    read_schedule(s, c);
}

/* Without a depth transformer its keys mean nothing, whatever they say. */
static void ignore_depformer(section *s) {
    for (const mo_json_value *v = mo_json_first(s->json, s->object); v;
         v = mo_json_after(s->json, s->object, v))
        if (strncmp(v->key, "depformer_", 10) == 0) take(s, v->key);
}

static void read_sampling(section *parent, mo_lm_config *c) {
    c->audio_temp = 0.8f;
    c->text_temp = 0.7f;
    c->audio_top_k = 250;
    c->text_top_k = 25;
    if (absent(find(parent, "lm_gen_config"))) {
        take(parent, "lm_gen_config");
        return;
    }
    section s = open_section(parent, "lm_gen_config", "lm_gen_config.");
    const mo_json_value *sampling = take(&s, "use_sampling");
    /* The reference calls it temp_text; some configurations have text_temp. */
    const char *text_temp = absent(find(&s, "temp_text")) ? "text_temp" : "temp_text";
    c->audio_temp = (float)get_real(&s, "temp", 0.0, 100.0, c->audio_temp);
    c->text_temp = (float)get_real(&s, text_temp, 0.0, 100.0, c->text_temp);
    c->audio_top_k = get_int(&s, "top_k", 0, MAX_CARD, c->audio_top_k);
    c->text_top_k = get_int(&s, "top_k_text", 0, MAX_CARD, c->text_top_k);
    if (!absent(sampling)) {
        if (sampling->type != MO_JSON_BOOL) {
            refuse(&s, "use_sampling", sampling, "true or false");
        } else if (!sampling->as.boolean) {
            c->audio_temp = c->text_temp = 0.0f;
        }
    }
    const mo_json_value *cfg = take(&s, "cfg_coef");
    if (!absent(cfg) && !is_int(cfg, 1, 1) && !(cfg->type == MO_JSON_REAL && cfg->as.real == 1.0))
        refuse(&s, "cfg_coef", cfg, "1 (guidance is not implemented in this version)");
    close_child(parent, &s, NULL);
}

/* A fuser that routes no condition anywhere does nothing. */
static void check_fuser(section *s) {
    const mo_json_value *fuser = take(s, "fuser");
    if (is_void(fuser)) return;
    bool routes = fuser->type != MO_JSON_OBJECT;
    for (const mo_json_value *v = mo_json_first(s->json, fuser); v && !routes;
         v = mo_json_after(s->json, fuser, v))
        routes = v->count != 0;
    if (routes)
        refuse(s, "fuser", fuser, "nothing (conditions are not implemented in this version)");
}

static void refuse_unimplemented(section *s) {
    need_void(s, "conditioners", "conditions");
    check_fuser(s);
    need_bool(s, "cross_attention", false, false);
    need_bool(s, "demux_second_stream", false, false);
    need_bool(s, "norm_emb", false, false);
    need_bool(s, "bias_proj", false, false);
    need_bool(s, "bias_ff", false, false);
    need_bool(s, "bias_attn", false, false);
    need_bool(s, "quantize", false, false);
    need_bool(s, "lora", false, false);
    need_void(s, "lora_name", "LoRA files");
}

static void read_names(section *s, mo_lm_config *c) {
    get_text(s, "moshi_name", c->moshi_name, sizeof c->moshi_name);
    get_text(s, "mimi_name", c->mimi_name, sizeof c->mimi_name);
    get_text(s, "tokenizer_name", c->tokenizer_name, sizeof c->tokenizer_name);
    get_text(s, "mimi_config_name", c->mimi_config_name, sizeof c->mimi_config_name);
}

int mo_lm_config_names(mo_lm_config *out, const char *text, size_t size, const char *file,
                       moshi_error *err) {
    mo_json json;
    section s;
    memset(out, 0, sizeof *out);
    int rc = open_file(&json, &s, text, size, file, err);
    if (rc < 0) return rc;
    get_text(&s, "model_type", out->model_type, sizeof out->model_type);
    read_names(&s, out);
    free(s.used);
    mo_json_free(&json);
    return s.rc;
}

int mo_lm_config_parse(mo_lm_config *out, const char *text, size_t size, const char *file,
                       moshi_error *err) {
    mo_json json;
    section s;
    memset(out, 0, sizeof *out);
    int rc = open_file(&json, &s, text, size, file, err);
    if (rc < 0) return rc;
    memcpy(out->model_type, "moshi", 6);
    get_text(&s, "model_type", out->model_type, sizeof out->model_type);
    read_names(&s, out);
    refuse_unimplemented(&s);
    double hidden_scale = get_real(&s, "hidden_scale", 0.01, 64.0, 4.0);
    read_temporal(&s, out, hidden_scale);
    read_channels(&s, out);
    if (out->dep_q > 0) {
        read_depformer(&s, out, hidden_scale);
    } else {
        ignore_depformer(&s);
    }
    read_sampling(&s, out);
    close_section(&s, is_harmless);
    free(s.used);
    mo_json_free(&json);
    return s.rc;
}

/* ---- codec --------------------------------------------------------------------------------- */

static void read_seanet(section *parent, mo_mimi_config *c) {
    section s = open_section(parent, "seanet", "seanet.");
    c->dimension = get_int(&s, "dimension", 1, MAX_DIM, REQUIRED);
    c->filters = get_int(&s, "n_filters", 1, MAX_DIM, REQUIRED);
    c->n_ratios = get_ints(&s, "ratios", 1, MO_MAX_RATIOS, 1, 1024, c->ratios);
    c->residual_layers = get_int(&s, "n_residual_layers", 1, MO_MAX_RESIDUAL_LAYERS, REQUIRED);
    c->compress = get_int(&s, "compress", 1, MAX_DIM, REQUIRED);
    c->dilation_base = get_int(&s, "dilation_base", 1, 16, REQUIRED);
    c->kernel = get_int(&s, "kernel_size", 1, 256, REQUIRED);
    c->residual_kernel = get_int(&s, "residual_kernel_size", 1, 256, REQUIRED);
    c->last_kernel = get_int(&s, "last_kernel_size", 1, 256, REQUIRED);
    need_int(&s, "channels", 1, false, "the codec is mono");
    need_bool(&s, "causal", true, true);
    need_bool(&s, "true_skip", true, true);
    need_word(&s, "activation", "ELU", true);
    need_word(&s, "norm", "none", true);
    need_word(&s, "pad_mode", "constant", true);
    get_int(&s, "disable_norm_outer_blocks", 0, INT_MAX, 0); /* there is no norm to disable */
    need_void(&s, "norm_params", "norms of convolutions");
    long long widest = c->filters, dilation = 1;
    for (int i = 0; i < c->n_ratios; i++) widest *= 2;
    if (widest > 65536)
        refuse(&s, "n_filters", find(&s, "n_filters"), "at most 65536 channels after %d ratios",
               c->n_ratios);
    if (c->filters < c->compress)
        refuse(&s, "compress", find(&s, "compress"), "at most n_filters = %d", c->filters);
    for (int i = 1; i < c->residual_layers && dilation <= 65536; i++) dilation *= c->dilation_base;
    if (dilation > 65536)
        refuse(&s, "n_residual_layers", find(&s, "n_residual_layers"),
               "a dilation of at most 65536");
    close_child(parent, &s, NULL);
}

static void read_quantizer(section *parent, mo_mimi_config *c) {
    section s = open_section(parent, "quantizer", "quantizer.");
    c->codebooks = get_int(&s, "n_q", 2, MO_MAX_CODEBOOKS, REQUIRED);
    c->semantic_codebooks = get_int(&s, "n_q_semantic", 1, c->codebooks - 1, 1);
    c->bins = get_int(&s, "bins", 1, MAX_CARD, REQUIRED);
    c->codebook_dim = get_int(&s, "dimension", 1, MAX_DIM, REQUIRED);
    need_int(&s, "input_dimension", c->dimension, false, "seanet.dimension");
    need_int(&s, "output_dimension", c->dimension, false, "seanet.dimension");
    close_child(parent, &s, NULL);
}

static void read_transformer(section *parent, mo_mimi_config *c) {
    section s = open_section(parent, "transformer", "transformer.");
    int width;
    c->layers = get_int(&s, "num_layers", 1, MAX_LAYERS, REQUIRED);
    c->heads = get_int(&s, "num_heads", 1, MAX_HEADS, REQUIRED);
    c->feed_forward = get_int(&s, "dim_feedforward", 1, MAX_HIDDEN, REQUIRED);
    c->context = get_int(&s, "context", 1, MAX_CONTEXT, REQUIRED);
    c->max_period = (float)get_real(&s, "max_period", 1.0, 1e9, 10000.0);
    check_heads(&s, "num_heads", c->dimension, c->heads, true);
    need_int(&s, "d_model", c->dimension, true, "seanet.dimension");
    need_int(&s, "input_dimension", c->dimension, false, "seanet.dimension");
    if (!absent(find(&s, "output_dimensions")))
        get_ints(&s, "output_dimensions", 1, 1, c->dimension, c->dimension, &width);
    get_real(&s, "layer_scale", 0.0, 1e9,
             NAN); /* where training began; its result is in the file */
    need_bool(&s, "causal", true, true);
    need_bool(&s, "conv_layout", true, false);
    need_word(&s, "gating", "none", true);
    need_word(&s, "norm", "layer_norm", true);
    need_word(&s, "positional_embedding", "rope", true);
    close_child(parent, &s, NULL);
}

/* Sizes that follow from the others. */
static void derive_frames(section *s, mo_mimi_config *c) {
    if (s->rc < 0) return;
    long long hop = 1;
    for (int i = 0; i < c->n_ratios && hop <= MAX_HOP; i++) hop *= c->ratios[i];
    if (hop > MAX_HOP) {
        refuse(s, "seanet.ratios", find(s, "seanet"), "a product of at most %d", MAX_HOP);
        return;
    }
    double steps = c->sample_rate_hz / (double)hop / c->frame_rate_hz;
    double whole = floor(steps + 0.5);
    if (whole < 1.0 || whole > 64.0 || fabs(steps - whole) > 1e-6 * whole) {
        refuse(s, "frame_rate", find(s, "frame_rate"),
               "sample_rate / product of ratios / a whole number from 1 to 64 (%d / %lld / %g)",
               c->sample_rate_hz, hop, steps);
        return;
    }
    c->hop = (int)hop;
    c->stride = (int)whole;
    c->frame_samples = c->hop * c->stride;
    c->frame_rate_hz = (double)c->sample_rate_hz / c->frame_samples;
}

int mo_mimi_config_parse(mo_mimi_config *out, const char *text, size_t size, const char *file,
                         moshi_error *err) {
    mo_json json;
    section s;
    memset(out, 0, sizeof *out);
    int rc = open_file(&json, &s, text, size, file, err);
    if (rc < 0) return rc;
    out->sample_rate_hz = get_int(&s, "sample_rate", 1000, 384000, REQUIRED);
    out->frame_rate_hz = get_real(&s, "frame_rate", 0.01, 10000.0, NAN);
    need_int(&s, "channels", 1, false, "the codec is mono");
    need_bool(&s, "causal", true, false);
    read_seanet(&s, out);
    read_quantizer(&s, out);
    read_transformer(&s, out);
    derive_frames(&s, out);
    close_section(&s, is_harmless);
    free(s.used);
    mo_json_free(&json);
    return s.rc;
}

void mo_mimi_config_official(mo_mimi_config *out) {
    *out = (mo_mimi_config){.sample_rate_hz = 24000,
                            .frame_rate_hz = 12.5,
                            .filters = 64,
                            .dimension = 512,
                            .residual_layers = 1,
                            .compress = 2,
                            .dilation_base = 2,
                            .kernel = 7,
                            .residual_kernel = 3,
                            .last_kernel = 3,
                            .n_ratios = 4,
                            .ratios = {8, 6, 5, 4},
                            .layers = 8,
                            .heads = 8,
                            .feed_forward = 2048,
                            .context = 250,
                            .max_period = 10000.0f,
                            .codebooks = 32,
                            .semantic_codebooks = 1,
                            .bins = 2048,
                            .codebook_dim = 256,
                            .hop = 960,
                            .stride = 2,
                            .frame_samples = 1920};
}

int mo_config_kind_of(mo_config_kind *kind, const char *text, size_t size) {
    mo_json json;
    *kind = MO_CONFIG_LM;
    if (size == 0 || size > MAX_TEXT_BYTES) return 0;
    int rc = mo_json_parse(&json, text, size, "", NULL);
    if (rc < 0) return rc == MOSHI_ENOMEM ? rc : 0;
    section s = {.json = &json, .object = json.values};
    if (json.values[0].type == MO_JSON_OBJECT) {
        if (find(&s, "seanet"))
            *kind = MO_CONFIG_MIMI;
        else if (!find(&s, "dim") && !find(&s, "num_layers") && !find(&s, "n_q"))
            *kind = MO_CONFIG_SILENT;
    }
    mo_json_free(&json);
    return 0;
}
