/* files.c - from a directory, a checkpoint or blobs to the files of a model. */
#include "files.h"

#include "gguf.h"
#include "presets.h"
#include "roles.h"
#include "weights.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char CONFIG[] = "config.json";
/* What the reference looks for when a configuration names no file. */
static const char DEFAULT_WEIGHTS[] = "model.safetensors";
static const char DEFAULT_MIMI[] = "tokenizer-e351c8d8-checkpoint125.safetensors";
static const char DEFAULT_TOKENIZER[] = "tokenizer_spm_32k_3.model";

/* One call of mo_model_files_open(). */
typedef struct opening {
    mo_source source;
    const char *checkpoint; /* file named by the caller, relative to the source; or NULL */
    int want;
    bool configured; /* there is a config.json */
    bool lm_opened;  /* out->lm_file was needed early, to tell what this is */
    bool have_roles;
    mo_roles roles; /* what lies there, once somebody had to look */
    mo_model_files *out;
    moshi_error *err;
} opening;

/* ---- which file ---------------------------------------------------------------------------- */

static int look_around(opening *o) {
    if (o->have_roles) return 0;
    int rc = mo_roles_find(&o->roles, &o->source, o->err);
    o->have_roles = rc == 0;
    return rc;
}

/* A file that somebody needs, by its role in the model. */
typedef struct wanted {
    mo_role role;
    const char *given; /* the name in config.json, "" when it has none */
    const char *key;   /* of config.json; NULL when it would not be named there */
    const char *usual; /* the name to try first when it has none */
} wanted;

static bool is_shard(const char *name) {
    return mo_glob("*-of-0*.*", name);
}

/* The file could not be opened, as o->err tells. When it is not there, say what is. */
static int hint(opening *o, const wanted *w, const char *name, int rc) {
    const moshi_error absent = *o->err;
    if (rc == MOSHI_ENOMEM || mo_source_has(&o->source, name, o->err) != 0) {
        *o->err = absent;
        return rc;
    }
    int looked = look_around(o);
    if (looked == MOSHI_ENOMEM) return looked;
    const char *found = looked == 0 ? o->roles.names[w->role] : NULL;
    const char *other = looked == 0 && !found && w->role == MO_ROLE_LM ? o->roles.other : "";
    if (found && is_shard(found))
        return mo_fail(o->err, rc,
                       "%s; '%s' there is one of several parts of it: they have to be joined first",
                       absent.text, found);
    if (found) return mo_fail(o->err, rc, "%s; '%s' there looks like it", absent.text, found);
    return mo_fail(o->err, rc, "%s%s%s", absent.text, *other ? "; " : "", other);
}

/* Open it under the name that config.json gives, else under its usual name, else whatever file
 * there turns out to play the role. Without config.json no name counts. */
static int open_role(opening *o, const wanted *w, mo_file *out) {
    const char *name = w->given, *role = mo_role_name(w->role);
    char why[160] = "told by its content";
    if (name[0]) {
        snprintf(why, sizeof why, "%s in config.json", w->key);
        int rc = mo_source_open(&o->source, name, role, why, out, o->err);
        return rc < 0 ? hint(o, w, name, rc) : rc;
    }
    int usual = o->configured ? mo_source_has(&o->source, w->usual, o->err) : 0;
    if (usual < 0) return usual;
    int rc = usual ? 0 : look_around(o);
    if (rc < 0) return rc;
    if (!usual && o->roles.names[w->role])
        return mo_source_open(&o->source, o->roles.names[w->role], role, why, out, o->err);
    if (!usual && (!o->configured || o->roles.n[w->role] > 1))
        return mo_fail(o->err, MOSHI_EMODEL, "%s", o->roles.why[w->role].text);
    snprintf(why, sizeof why, "the usual name%s%s", w->key ? ", as config.json has no " : "",
             w->key ? w->key : "");
    rc = mo_source_open(&o->source, w->usual, role, why, out, o->err);
    return rc < 0 ? hint(o, w, w->usual, rc) : rc;
}

static int open_checkpoint(opening *o, const wanted *w, mo_checkpoint *out) {
    mo_file file;
    int rc = open_role(o, w, &file);
    return rc < 0 ? rc : mo_checkpoint_open(out, &file, o->err);
}

/* The checkpoint that the caller named. */
static int open_named(opening *o, const char *role, mo_checkpoint *out) {
    mo_file file;
    int rc = mo_source_open(&o->source, o->checkpoint, role, "given by the caller", &file, o->err);
    return rc < 0 ? rc : mo_checkpoint_open(out, &file, o->err);
}

/* In a tolerant opening the other parts go on without this one. */
static int settle(opening *o, int part, int rc) {
    if (rc >= 0 || rc == MOSHI_ENOMEM || !(o->want & MO_TOLERANT)) return rc;
    int i = part == MO_WANT_LM ? 0 : part == MO_WANT_MIMI ? 1 : 2;
    o->out->why[i] = *o->err;
    return 0;
}

/* ---- opening the parts --------------------------------------------------------------------- */

/* Sizes that nobody gave are the published ones; a codec of others would fail later and say less
 * about what to do. */
static int check_official(const opening *o, const char *config_name) {
    static const char *const names[] = {"encoder.model.0.conv.conv.weight",
                                        "decoder.model.0.conv.conv.weight"};
    const mo_mimi_config *c = &o->out->mimi;
    const int64_t want[] = {c->filters, (int64_t)c->filters << c->n_ratios};
    if (config_name[0]) return 0;
    for (int i = 0; i < 2; i++) {
        const mo_tensor_view *t = mo_checkpoint_find(&o->out->mimi_file, names[i]);
        if (t && t->ndim == 3 && t->shape[0] != want[i])
            return mo_fail(o->err, MOSHI_EMODEL,
                           "%s: '%s' has %lld channels, the published codec %lld: a codec of other "
                           "sizes needs its configuration (mimi_config_name in config.json)",
                           o->out->mimi_file.file.name, names[i], (long long)t->shape[0],
                           (long long)want[i]);
    }
    return 0;
}

/* The codec's sizes; the official ones when no configuration is named. */
static int read_mimi_config(opening *o, const char *name) {
    mo_model_files *out = o->out;
    if (!name[0]) {
        mo_mimi_config_official(&out->mimi);
        return 0;
    }
    mo_file *file = &out->mimi_config;
    int rc = mo_source_open(&o->source, name, "the codec's configuration",
                            "mimi_config_name in config.json", file, o->err);
    if (rc < 0) return rc;
    return mo_mimi_config_parse(&out->mimi, (const char *)file->data, file->size, file->name,
                                o->err);
}

static int open_text(opening *o) {
    const wanted w = {MO_ROLE_TEXT, o->out->lm.tokenizer_name, "tokenizer_name", DEFAULT_TOKENIZER};
    mo_file *file = &o->out->tokenizer;
    int rc = open_role(o, &w, file);
    if (rc == 0) rc = mo_text_parse(&o->out->text, file->data, file->size, file->name, o->err);
    if (rc < 0 && rc != MOSHI_ENOMEM && file->data) {
        moshi_error other;
        if (mo_foreign_refuse(file, "a SentencePiece model", &other) < 0) *o->err = other;
    }
    o->out->has_text = rc == 0;
    return rc;
}

/* The codec of a model whose config.json (read into out->lm) is a language model's. */
static int open_models_mimi(opening *o) {
    const wanted w = {MO_ROLE_MIMI, o->out->lm.mimi_name, "mimi_name", DEFAULT_MIMI};
    const char *config = o->out->lm.mimi_config_name;
    int rc = read_mimi_config(o, config);
    if (rc == 0) rc = open_checkpoint(o, &w, &o->out->mimi_file);
    if (rc == 0) rc = check_official(o, config);
    o->out->has_mimi = rc == 0;
    return rc;
}

static bool same_file_name(const char *a, const char *b) {
    const char *x = strrchr(a, '/'), *y = strrchr(b, '/');
    return strcmp(x ? x + 1 : a, y ? y + 1 : b) == 0;
}

/* A checkpoint was named by the caller, who wants a codec only, and lies beside the config.json of
 * a language model: it may be the codec's file or the language model's. */
static int open_named_mimi(opening *o) {
    mo_model_files *out = o->out;
    int rc = open_named(o, "the codec's weights", &out->mimi_file);
    if (rc < 0) return rc;
    if (!mo_role_is_mimi(&out->mimi_file)) {
        mo_checkpoint_close(&out->mimi_file);
        return open_models_mimi(o);
    }
    out->mimi_named = true;
    bool named = out->lm.mimi_name[0] && same_file_name(out->lm.mimi_name, o->checkpoint);
    const char *config = named ? out->lm.mimi_config_name : "";
    rc = read_mimi_config(o, config);
    if (rc == 0) rc = check_official(o, config);
    out->has_mimi = rc == 0;
    return rc;
}

/* ---- whole models -------------------------------------------------------------------------- */

/* There is no language model: config.json is Mimi's own (`config`), or there is none beside a Mimi
 * file (`config` NULL). */
static int open_codec_only(opening *o, const mo_file *config) {
    mo_model_files *out = o->out;
    const wanted w = {MO_ROLE_MIMI, "", NULL, DEFAULT_WEIGHTS};
    out->codec_only = true;
    if (!(o->want & MO_TOLERANT) && (o->want & (MO_WANT_LM | MO_WANT_TEXT)))
        return config ? mo_fail(o->err, MOSHI_EMODEL,
                                "%s: this is the configuration of a Mimi codec alone; wanted a "
                                "language model's",
                                config->name)
                      : mo_fail(o->err, MOSHI_EMODEL,
                                "%s: holds a Mimi codec alone; wanted a language model",
                                o->checkpoint ? o->checkpoint : mo_source_place(&o->source));
    int rc = config ? mo_mimi_config_parse(&out->mimi, (const char *)config->data, config->size,
                                           config->name, o->err)
                    : read_mimi_config(o, "");
    if (rc == 0)
        rc = o->checkpoint ? open_named(o, mo_role_name(MO_ROLE_MIMI), &out->mimi_file)
                           : open_checkpoint(o, &w, &out->mimi_file);
    if (rc == 0 && !config) rc = check_official(o, "");
    out->has_mimi = rc == 0;
    return rc;
}

/* The language model's sizes and names: from its configuration, or from the preset its weights
 * fit. */
static int read_lm_config(opening *o, bool silent) {
    mo_model_files *out = o->out;
    const mo_file *config = &out->config;
    if (!silent)
        return mo_lm_config_parse(&out->lm, (const char *)config->data, config->size, config->name,
                                  o->err);
    const mo_lm_config named = out->lm;
    int rc = mo_preset_find(&out->preset, &out->lm_file, named.model_type, o->err);
    if (rc < 0) return rc;
    const char *text = out->preset->config;
    rc = mo_lm_config_parse(&out->lm, text, strlen(text), out->preset->name, o->err);
    memcpy(out->lm.moshi_name, named.moshi_name, sizeof named.moshi_name);
    memcpy(out->lm.mimi_name, named.mimi_name, sizeof named.mimi_name);
    memcpy(out->lm.tokenizer_name, named.tokenizer_name, sizeof named.tokenizer_name);
    memcpy(out->lm.mimi_config_name, named.mimi_config_name, sizeof named.mimi_config_name);
    mo_file_close(&out->config); /* what is in use from here on is the preset */
    return rc < 0 ? rc
                  : mo_file_borrow(&out->config, text, strlen(text), out->preset->name, o->err);
}

/* `silent`: no configuration gives sizes. The names of files are in out->lm already. */
static int open_lm(opening *o, bool silent) {
    mo_model_files *out = o->out;
    const wanted w = {MO_ROLE_LM, out->lm.moshi_name, "moshi_name", DEFAULT_WEIGHTS};
    moshi_error refused = {0};
    int rc = silent ? 0 : read_lm_config(o, false);
    if (rc < 0) {
        /* Of two things wrong this one is told; but an inspection shows the weights all the same.
         */
        if (rc == MOSHI_ENOMEM || !(o->want & MO_TOLERANT)) return rc;
        refused = *o->err;
        rc = 0;
    }
    if (!o->lm_opened)
        rc = o->checkpoint ? open_named(o, mo_role_name(MO_ROLE_LM), &out->lm_file)
                           : open_checkpoint(o, &w, &out->lm_file);
    if (rc == 0 && silent) rc = read_lm_config(o, true);
    if (refused.code && rc != MOSHI_ENOMEM) rc = mo_fail(o->err, refused.code, "%s", refused.text);
    out->has_lm = rc == 0;
    return rc;
}

/* The parts asked for of a model whose config.json is a language model's, or that has none. */
static int open_parts(opening *o, bool silent) {
    mo_model_files *out = o->out;
    int want = o->want & ~MO_TOLERANT, rc = 0;
    out->file_named = o->checkpoint != NULL;
    if (o->checkpoint && (want == MO_WANT_MIMI || o->want & MO_TOLERANT)) {
        rc = settle(o, MO_WANT_MIMI, open_named_mimi(o));
        if (rc < 0 || out->mimi_named) return rc;
        want &= ~MO_WANT_MIMI;
    }
    if (want & MO_WANT_LM) rc = settle(o, MO_WANT_LM, open_lm(o, silent));
    if (rc == 0 && want & MO_WANT_MIMI) rc = settle(o, MO_WANT_MIMI, open_models_mimi(o));
    if (rc == 0 && want & MO_WANT_TEXT) rc = settle(o, MO_WANT_TEXT, open_text(o));
    return rc;
}

/* ---- one file that is a whole model ---------------------------------------------------------- */

/* A value of the metadata as a file. Absent: *out stays empty. */
static int borrow_value(const mo_checkpoint *ck, const char *key, mo_file *out, moshi_error *err) {
    const mo_gguf_value *v = mo_gguf_find(ck, key);
    bool bytes =
        v && (v->type == MO_GGUF_STRING || (v->type == MO_GGUF_ARRAY && v->element == MO_GGUF_U8));
    if (!v) return 0;
    if (!bytes)
        return mo_fail(err, MOSHI_EMODEL, "%s: metadata '%s': wanted a string or bytes",
                       ck->file.name, key);
    char *name = mo_format("%s: %s", ck->file.name, key);
    if (!name) return mo_fail(err, MOSHI_ENOMEM, "%s: out of memory", ck->file.name);
    int rc = mo_file_borrow(out, v->data, (size_t)v->count, name, err);
    free(name);
    return rc;
}

static int read_carried_mimi(opening *o) {
    mo_model_files *out = o->out;
    const mo_file *m = &out->mimi_config;
    if (out->mimi_file.n_tensors == 0)
        return mo_fail(o->err, MOSHI_EMODEL, "%s: wanted the codec's tensors ('%s...'), found none",
                       out->lm_file.file.name, MO_MIMI_PREFIX);
    mo_mimi_config_official(&out->mimi);
    int rc = m->data
                 ? mo_mimi_config_parse(&out->mimi, (const char *)m->data, m->size, m->name, o->err)
                 : check_official(o, "");
    out->has_mimi = rc == 0;
    return rc;
}

static int read_carried_text(opening *o) {
    mo_model_files *out = o->out;
    const mo_file *t = &out->tokenizer;
    if (!t->data)
        return mo_fail(o->err, MOSHI_EMODEL, "%s: wanted the text tokenizer in '%s', found none",
                       out->lm_file.file.name, MO_KEY_TOKENIZER);
    int rc = mo_text_parse(&out->text, t->data, t->size, t->name, o->err);
    out->has_text = rc == 0;
    return rc;
}

/* Parts of a checkpoint that carries its configuration, in out->lm_file. */
static int open_carried(opening *o) {
    mo_model_files *out = o->out;
    mo_checkpoint *ck = &out->lm_file;
    int rc = borrow_value(ck, MO_KEY_CONFIG, &out->config, o->err);
    if (rc == 0) rc = borrow_value(ck, MO_KEY_MIMI_CONFIG, &out->mimi_config, o->err);
    if (rc == 0) rc = borrow_value(ck, MO_KEY_TOKENIZER, &out->tokenizer, o->err);
    if (rc == 0) rc = mo_checkpoint_split(ck, MO_MIMI_PREFIX, &out->mimi_file, o->err);
    if (rc == 0 && o->want & MO_WANT_LM) {
        rc = read_lm_config(o, false);
        out->has_lm = rc == 0;
        rc = settle(o, MO_WANT_LM, rc);
    }
    if (rc == 0 && o->want & MO_WANT_MIMI) rc = settle(o, MO_WANT_MIMI, read_carried_mimi(o));
    if (rc == 0 && o->want & MO_WANT_TEXT) rc = settle(o, MO_WANT_TEXT, read_carried_text(o));
    return rc;
}

static bool carries_config(const mo_checkpoint *ck) {
    return mo_gguf_find(ck, MO_KEY_CONFIG) != NULL;
}

/* 1 when the file named by the caller is such a file (then *rc tells how it went), else 0. */
static int try_carried(opening *o, const char *path, int *rc) {
    mo_file file;
    mo_checkpoint *ck = &o->out->lm_file;
    if (mo_file_map(&file, path, path, NULL) < 0) return 0;
    bool gguf = file.size >= 4 && memcmp(file.data, "GGUF", 4) == 0;
    if (!gguf) {
        mo_file_close(&file);
        return 0;
    }
    *rc = mo_checkpoint_open(ck, &file, o->err);
    if (*rc < 0) return 1;
    if (!carries_config(ck)) {
        mo_checkpoint_close(ck);
        return 0;
    }
    *rc = open_carried(o);
    return 1;
}

/* ---- without config.json --------------------------------------------------------------------- */

/* The checkpoint named by the caller decides what this is. */
static int open_named_alone(opening *o) {
    mo_checkpoint *ck = &o->out->lm_file;
    int rc = open_named(o, "a model's weights", ck);
    if (rc < 0) return rc;
    o->lm_opened = true;
    if (mo_role_is_lm(ck)) return open_parts(o, true);
    bool mimi = mo_role_is_mimi(ck);
    if (!mimi) {
        char guess[MO_FOREIGN_BYTES];
        mo_foreign_checkpoint(ck, guess);
        return mo_fail(o->err, MOSHI_EMODEL,
                       "%s: wanted the weights of a language model or of a Mimi codec, found "
                       "tensors of neither (the first is '%.100s')%s%s",
                       ck->file.name, ck->n_tensors ? ck->tensors[0].name : "", *guess ? "; " : "",
                       guess);
    }
    mo_checkpoint_close(ck);
    return open_codec_only(o, NULL);
}

/* What lies in the directory decides. */
static int open_found(opening *o) {
    int rc = look_around(o);
    if (rc < 0) return rc;
    int *n = o->roles.n;
    bool only_codec = (o->want & ~MO_TOLERANT) == MO_WANT_MIMI && n[MO_ROLE_MIMI];
    if (only_codec || (n[MO_ROLE_LM] == 0 && n[MO_ROLE_MIMI])) return open_codec_only(o, NULL);
    const wanted w = {.role = MO_ROLE_LM, .given = ""};
    rc = open_checkpoint(o, &w, &o->out->lm_file);
    if (rc < 0) return rc;
    o->lm_opened = true;
    return carries_config(&o->out->lm_file) ? open_carried(o) : open_parts(o, true);
}

static bool is_object(const mo_file *file) {
    size_t i = 0;
    while (i < file->size && strchr(" \t\r\n", file->data[i]) && file->data[i]) i++;
    return i < file->size && file->data[i] == '{';
}

static int open_from(opening *o) {
    mo_file *config = &o->out->config;
    mo_config_kind kind;
    int found = mo_source_has(&o->source, CONFIG, o->err);
    if (found < 0) return found;
    if (!found) return o->checkpoint ? open_named_alone(o) : open_found(o);
    o->configured = true;
    int rc = mo_source_open(&o->source, CONFIG, "the model's configuration", "it lies there",
                            config, o->err);
    if (rc < 0) return rc;
    const char *text = (const char *)config->data;
    if (!is_object(config) && mo_foreign_refuse(config, "a JSON object", o->err) < 0)
        return MOSHI_EMODEL;
    rc = mo_config_kind_of(&kind, text, config->size);
    if (rc < 0) return mo_fail(o->err, rc, "%s: out of memory", config->name);
    if (kind == MO_CONFIG_MIMI) return open_codec_only(o, config);
    rc = mo_lm_config_names(&o->out->lm, text, config->size, config->name, o->err);
    return rc < 0 ? rc : open_parts(o, kind == MO_CONFIG_SILENT);
}

/* ---- entry ----------------------------------------------------------------------------------- */

/* Split "dir/file" and open; `path` is known to be there. */
static int open_path(opening *o, const char *path, bool is_dir) {
    o->source.dir = path;
    if (is_dir) return open_from(o);
    int carried;
    if (try_carried(o, path, &carried)) return carried;
    char *dir = mo_format("%s", path);
    if (!dir) return mo_fail(o->err, MOSHI_ENOMEM, "%s: out of memory", path);
    char *slash = strrchr(dir, '/');
    if (slash) slash[1] = 0;
    o->source.dir = slash ? dir : "";
    o->checkpoint = slash ? path + (slash + 1 - dir) : path;
    int rc = open_from(o);
    free(dir);
    return rc;
}

static int check_blobs(const moshi_blob *blobs, size_t n, moshi_error *err) {
    for (size_t i = 0; i < n; i++)
        if (!blobs[i].name || (!blobs[i].data && blobs[i].size))
            return mo_fail(err, MOSHI_EINVAL, "blob %zu: wanted a name and data, found NULL", i);
    return 0;
}

/* In a tolerant opening: is there anything? The first part that is not says why not. */
static int check_something(opening *o) {
    const mo_model_files *out = o->out;
    if (!(o->want & MO_TOLERANT) || out->lm_file.tensors || out->has_mimi) return 0;
    const moshi_error *why = &out->why[out->codec_only ? 1 : 0];
    return mo_fail(o->err, why->code, "%s", why->text);
}

int mo_model_files_open(mo_model_files *out, const mo_model_place *place, int want,
                        moshi_error *err) {
    moshi_error unseen = {0};
    opening o = {.want = want, .out = out, .err = err ? err : &unseen};
    const char *path = place->path;
    memset(out, 0, sizeof *out);
    if ((path != NULL) == (place->blobs != NULL && place->n_blobs > 0))
        return mo_fail(err, MOSHI_EINVAL, "wanted either the path of a model or blobs, found %s",
                       path ? "both" : "neither");
    int rc;
    o.source.finder = place->finder;
    if (path) {
        struct stat st;
        if (stat(path, &st) != 0)
            return mo_fail(err, MOSHI_EMODEL,
                           "%s: wanted a model directory or a checkpoint file, found: %s", path,
                           strerror(errno));
        rc = open_path(&o, path, S_ISDIR(st.st_mode));
    } else {
        o.source.dir = "";
        o.source.blobs = place->blobs;
        o.source.n_blobs = place->n_blobs;
        rc = check_blobs(place->blobs, place->n_blobs, err);
        if (rc == 0) rc = open_from(&o);
    }
    if (rc == 0) rc = check_something(&o);
    mo_roles_free(&o.roles);
    if (rc < 0) mo_model_files_close(out);
    return rc;
}

/* ---- what a model consists of ---------------------------------------------------------------- */

/* The names that config.json gives, as far as it can be read: a damaged model has files too. */
static int read_names(const mo_source *s, mo_lm_config *out, moshi_error *err) {
    mo_file file;
    moshi_error unseen = {0};
    memset(out, 0, sizeof *out);
    int rc = mo_source_open(s, CONFIG, "", "", &file, &unseen);
    if (rc == 0) {
        rc = mo_lm_config_names(out, (const char *)file.data, file.size, file.name, &unseen);
        mo_file_close(&file);
    }
    return rc == MOSHI_ENOMEM ? mo_fail(err, rc, "%s: out of memory", CONFIG) : 0;
}

/* Where moshi_check_output() may not write. */
typedef struct output {
    const char *path; /* as the caller calls it */
    struct stat st;
} output;

/* Refuse when `name` is the file of `to`. */
static int refuse_same(const mo_source *s, const char *name, const output *to, moshi_error *err) {
    struct stat its;
    char *full;
    int found = mo_source_find(s, name, &full, err);
    if (found <= 0) return found;
    int rc = 0;
    if (stat(full, &its) == 0 && its.st_dev == to->st.st_dev && its.st_ino == to->st.st_ino)
        rc = mo_fail(err, MOSHI_EINVAL,
                     "%s: cannot be the output: it is %s, a file of the model; wanted another name",
                     to->path, full);
    free(full);
    return rc;
}

/* Files that no configuration names and that are told by their content. */
static int check_roles(const mo_source *s, const output *to, moshi_error *err) {
    mo_roles roles;
    moshi_error unseen = {0};
    int rc = mo_roles_find(&roles, s, &unseen);
    if (rc < 0) return rc == MOSHI_ENOMEM ? mo_fail(err, rc, "%s", unseen.text) : 0;
    for (int r = MO_ROLE_LM; rc == 0 && r < MO_ROLE_COUNT; r++)
        if (roles.names[r]) rc = refuse_same(s, roles.names[r], to, err);
    mo_roles_free(&roles);
    return rc;
}

/* `checkpoint` NULL: the model is the directory. */
static int check_names(const mo_source *s, const char *checkpoint, const output *to,
                       moshi_error *err) {
    mo_lm_config c;
    int rc = read_names(s, &c, err);
    if (rc < 0) return rc;
    bool all = c.moshi_name[0] && c.mimi_name[0] && c.tokenizer_name[0];
    const char *names[] = {checkpoint ? checkpoint : CONFIG,
                           CONFIG,
                           c.moshi_name[0] ? c.moshi_name : DEFAULT_WEIGHTS,
                           c.mimi_name[0] ? c.mimi_name : DEFAULT_MIMI,
                           c.mimi_config_name[0] ? c.mimi_config_name : CONFIG,
                           c.tokenizer_name[0] ? c.tokenizer_name : DEFAULT_TOKENIZER};
    for (size_t i = 0; rc == 0 && i < sizeof names / sizeof *names; i++)
        rc = refuse_same(s, names[i], to, err);
    return rc == 0 && !all ? check_roles(s, to, err) : rc;
}

int moshi_check_output(const char *path, const char *model, moshi_error *err) {
    struct stat model_st;
    output to = {.path = path};
    if (err) *err = (moshi_error){0};
    if (!path || !model)
        return mo_fail(err, MOSHI_EINVAL, "moshi_check_output: wanted a path and a model");
    if (stat(path, &to.st) != 0 || stat(model, &model_st) != 0) return 0;
    mo_source s = {.dir = model};
    if (S_ISDIR(model_st.st_mode)) return check_names(&s, NULL, &to, err);
    char *dir = mo_format("%s", model);
    if (!dir) return mo_fail(err, MOSHI_ENOMEM, "%s: out of memory", model);
    char *slash = strrchr(dir, '/');
    if (slash) slash[1] = 0;
    s.dir = slash ? dir : "";
    int rc = check_names(&s, slash ? model + (slash + 1 - dir) : model, &to, err);
    free(dir);
    return rc;
}

void mo_model_files_close(mo_model_files *files) {
    mo_checkpoint_close(&files->lm_file);
    mo_checkpoint_close(&files->mimi_file);
    mo_text_free(&files->text);
    mo_file_close(&files->config);
    mo_file_close(&files->mimi_config);
    mo_file_close(&files->tokenizer);
    memset(files, 0, sizeof *files);
}
