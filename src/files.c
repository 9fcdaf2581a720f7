/* files.c - from a directory, a checkpoint or blobs to the files of a model. */
#include "files.h"

#include "gguf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char CONFIG[] = "config.json";
/* What the reference looks for when a configuration names no file. */
static const char DEFAULT_WEIGHTS[] = "model.safetensors";
static const char DEFAULT_MIMI[] = "tokenizer-e351c8d8-checkpoint125.safetensors";
static const char DEFAULT_TOKENIZER[] = "tokenizer_spm_32k_3.model";

/* Where files come from: a directory ("" is the current one) or blobs. */
typedef struct source {
    const char *dir;
    const moshi_blob *blobs;
    size_t n_blobs;
} source;

/* ---- finding one file ---------------------------------------------------------------------- */

static const char *plain_name(const char *name) {
    while (name[0] == '.' && name[1] == '/') name += 2;
    return name;
}

static const moshi_blob *find_blob(const source *s, const char *name) {
    for (size_t i = 0; i < s->n_blobs; i++)
        if (strcmp(plain_name(s->blobs[i].name), plain_name(name)) == 0) return &s->blobs[i];
    return NULL;
}

/* Path of a file, also its name in messages. NULL when out of memory. */
static char *full_path(const source *s, const char *name) {
    size_t n = strlen(s->dir);
    if (s->blobs || n == 0 || name[0] == '/') return mo_format("%s", name);
    return mo_format("%s%s%s", s->dir, s->dir[n - 1] == '/' ? "" : "/", plain_name(name));
}

/* 1 found, 0 not there, < 0 out of memory. */
static int has_file(const source *s, const char *name, moshi_error *err) {
    if (s->blobs) return find_blob(s, name) != NULL;
    struct stat st;
    char *path = full_path(s, name);
    if (!path) return mo_fail(err, MOSHI_ENOMEM, "%s: out of memory", name);
    int found = stat(path, &st) == 0;
    free(path);
    return found;
}

/* Open `name`. `role` (what it is for) and `why` (it has that name) explain a missing file. */
static int open_file(const source *s, const char *name, const char *role, const char *why,
                     mo_file *out, moshi_error *err) {
    memset(out, 0, sizeof *out);
    char *path = full_path(s, name);
    if (!path) return mo_fail(err, MOSHI_ENOMEM, "%s: out of memory", name);
    int rc = has_file(s, name, err);
    if (rc == 0) {
        const char *where = s->blobs ? " among the blobs" : "";
        rc = mo_fail(err, MOSHI_EMODEL, "%s: no such file%s; wanted as %s (%s)", path, where, role,
                     why);
    } else if (rc > 0 && s->blobs) {
        const moshi_blob *blob = find_blob(s, name);
        rc = mo_file_borrow(out, blob->data, blob->size, path, err);
    } else if (rc > 0) {
        rc = mo_file_map(out, path, path, err);
    }
    free(path);
    return rc;
}

/* ---- opening the parts --------------------------------------------------------------------- */

static int open_checkpoint(const source *s, const char *name, const char *role, const char *why,
                           mo_checkpoint *out, moshi_error *err) {
    mo_file file;
    int rc = open_file(s, name, role, why, &file, err);
    return rc < 0 ? rc : mo_checkpoint_open(out, &file, err);
}

/* The codec's sizes; the official ones when no configuration is named. */
static int read_mimi_config(const source *s, const char *name, mo_model_files *out,
                            moshi_error *err) {
    if (!name[0]) {
        mo_mimi_config_official(&out->mimi);
        return 0;
    }
    mo_file *file = &out->mimi_config;
    int rc = open_file(s, name, "the codec's configuration", "mimi_config_name in config.json",
                       file, err);
    if (rc < 0) return rc;
    return mo_mimi_config_parse(&out->mimi, (const char *)file->data, file->size, file->name, err);
}

static int open_text(const source *s, const char *name, mo_model_files *out, moshi_error *err) {
    mo_file *file = &out->tokenizer;
    int rc = open_file(s, name[0] ? name : DEFAULT_TOKENIZER, "the text tokenizer",
                       name[0] ? "tokenizer_name in config.json"
                               : "the usual name, as config.json has no tokenizer_name",
                       file, err);
    if (rc == 0) rc = mo_text_parse(&out->text, file->data, file->size, file->name, err);
    out->has_text = rc == 0;
    return rc;
}

/* The codec of a model whose config.json (read into out->lm) is a language model's. */
static int open_models_mimi(const source *s, mo_model_files *out, moshi_error *err) {
    const char *name = out->lm.mimi_name;
    int rc = read_mimi_config(s, out->lm.mimi_config_name, out, err);
    if (rc == 0)
        rc = open_checkpoint(s, name[0] ? name : DEFAULT_MIMI, "the Mimi codec's weights",
                             name[0] ? "mimi_name in config.json"
                                     : "the usual name, as config.json has no mimi_name",
                             &out->mimi_file, err);
    out->has_mimi = rc == 0;
    return rc;
}

static bool holds_mimi(const mo_checkpoint *ck) {
    return mo_checkpoint_find(ck, "encoder.model.0.conv.conv.weight") != NULL ||
           mo_checkpoint_find(ck, "decoder.model.0.conv.conv.weight") != NULL;
}

static bool same_file_name(const char *a, const char *b) {
    const char *x = strrchr(a, '/'), *y = strrchr(b, '/');
    return strcmp(x ? x + 1 : a, y ? y + 1 : b) == 0;
}

/* `checkpoint` was named by the caller, who wants a codec only, and lies beside the config.json of
 * a language model: it may be the codec's file or the language model's. */
static int open_named_mimi(const source *s, const char *checkpoint, mo_model_files *out,
                           moshi_error *err) {
    int rc = open_checkpoint(s, checkpoint, "the codec's weights", "given by the caller",
                             &out->mimi_file, err);
    if (rc < 0) return rc;
    if (!holds_mimi(&out->mimi_file)) {
        mo_checkpoint_close(&out->mimi_file);
        return open_models_mimi(s, out, err);
    }
    out->mimi_named = true;
    bool named = out->lm.mimi_name[0] && same_file_name(out->lm.mimi_name, checkpoint);
    rc = read_mimi_config(s, named ? out->lm.mimi_config_name : "", out, err);
    out->has_mimi = rc == 0;
    return rc;
}

/* ---- whole models -------------------------------------------------------------------------- */

/* config.json is Mimi's own (`config`), or there is none beside a Mimi file (`config` NULL). */
static int open_codec_only(const source *s, const char *checkpoint, const mo_file *config, int want,
                           mo_model_files *out, moshi_error *err) {
    if (want & (MO_WANT_LM | MO_WANT_TEXT))
        return mo_fail(err, MOSHI_EMODEL,
                       "%s: this is the configuration of a Mimi codec alone; wanted a language "
                       "model's",
                       config->name);
    int rc = 0;
    if (config) {
        rc = mo_mimi_config_parse(&out->mimi, (const char *)config->data, config->size,
                                  config->name, err);
    } else {
        mo_mimi_config_official(&out->mimi);
    }
    if (rc == 0)
        rc = open_checkpoint(
            s, checkpoint ? checkpoint : DEFAULT_WEIGHTS, "the Mimi codec's weights",
            checkpoint ? "given by the caller" : "the usual name", &out->mimi_file, err);
    out->has_mimi = out->codec_only = rc == 0;
    return rc;
}

/* config.json is a language model's. `checkpoint`, if not NULL, wins over moshi_name. */
static int open_language_model(const source *s, const char *checkpoint, const mo_file *config,
                               int want, mo_model_files *out, moshi_error *err) {
    const char *text = (const char *)config->data;
    int rc = want & MO_WANT_LM
                 ? mo_lm_config_parse(&out->lm, text, config->size, config->name, err)
                 : mo_lm_config_names(&out->lm, text, config->size, config->name, err);
    if (rc < 0) return rc;
    if (want & MO_WANT_LM) {
        const char *name = out->lm.moshi_name;
        rc = open_checkpoint(s,
                             checkpoint ? checkpoint
                             : name[0]  ? name
                                        : DEFAULT_WEIGHTS,
                             "the language model's weights",
                             checkpoint ? "given by the caller"
                             : name[0]  ? "moshi_name in config.json"
                                        : "the usual name, as config.json has no moshi_name",
                             &out->lm_file, err);
        out->has_lm = rc == 0;
    }
    out->file_named = checkpoint != NULL;
    if (rc == 0 && want & MO_WANT_MIMI)
        rc = checkpoint && want == MO_WANT_MIMI ? open_named_mimi(s, checkpoint, out, err)
                                                : open_models_mimi(s, out, err);
    if (rc == 0 && want & MO_WANT_TEXT) rc = open_text(s, out->lm.tokenizer_name, out, err);
    return rc;
}

static int open_from(const source *s, const char *checkpoint, int want, mo_model_files *out,
                     moshi_error *err) {
    mo_file *config = &out->config;
    if (checkpoint && want == MO_WANT_MIMI) {
        int found = has_file(s, CONFIG, err);
        if (found < 0) return found;
        if (!found) return open_codec_only(s, checkpoint, NULL, want, out, err);
    }
    int rc = open_file(s, CONFIG, "the model's configuration",
                       checkpoint ? "beside the checkpoint" : "a model's directory holds one",
                       config, err);
    if (rc < 0) return rc;
    int is_mimi = mo_config_is_mimi((const char *)config->data, config->size);
    if (is_mimi < 0) return mo_fail(err, is_mimi, "%s: out of memory", config->name);
    if (is_mimi) return open_codec_only(s, checkpoint, config, want, out, err);
    return open_language_model(s, checkpoint, config, want, out, err);
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

/* Parts of a checkpoint that carries its configuration, in out->lm_file. */
static int open_carried(int want, mo_model_files *out, moshi_error *err) {
    mo_checkpoint *ck = &out->lm_file;
    int rc = borrow_value(ck, MO_KEY_CONFIG, &out->config, err);
    if (rc == 0) rc = borrow_value(ck, MO_KEY_MIMI_CONFIG, &out->mimi_config, err);
    if (rc == 0) rc = borrow_value(ck, MO_KEY_TOKENIZER, &out->tokenizer, err);
    if (rc == 0) rc = mo_checkpoint_split(ck, MO_MIMI_PREFIX, &out->mimi_file, err);
    if (rc < 0) return rc;
    const mo_file *c = &out->config, *m = &out->mimi_config, *t = &out->tokenizer;
    if (want & MO_WANT_LM) {
        rc = mo_lm_config_parse(&out->lm, (const char *)c->data, c->size, c->name, err);
        out->has_lm = rc == 0;
    }
    if (rc == 0 && want & MO_WANT_MIMI) {
        if (out->mimi_file.n_tensors == 0)
            return mo_fail(err, MOSHI_EMODEL,
                           "%s: wanted the codec's tensors ('%s...'), found none", ck->file.name,
                           MO_MIMI_PREFIX);
        mo_mimi_config_official(&out->mimi);
        if (m->data)
            rc = mo_mimi_config_parse(&out->mimi, (const char *)m->data, m->size, m->name, err);
        out->has_mimi = rc == 0;
    }
    if (rc == 0 && want & MO_WANT_TEXT) {
        if (!t->data)
            return mo_fail(err, MOSHI_EMODEL, "%s: wanted the text tokenizer in '%s', found none",
                           ck->file.name, MO_KEY_TOKENIZER);
        rc = mo_text_parse(&out->text, t->data, t->size, t->name, err);
        out->has_text = rc == 0;
    }
    return rc;
}

/* 1 when `path` is such a file (then *out holds it, opened or failed in *rc), else 0. */
static int try_carried(const char *path, int want, mo_model_files *out, int *rc, moshi_error *err) {
    mo_file file;
    moshi_error ignored;
    if (mo_file_map(&file, path, path, &ignored) < 0) return 0;
    bool gguf = file.size >= 4 && memcmp(file.data, "GGUF", 4) == 0;
    if (!gguf) {
        mo_file_close(&file);
        return 0;
    }
    *rc = mo_checkpoint_open(&out->lm_file, &file, err);
    if (*rc < 0) return 1;
    if (!mo_gguf_find(&out->lm_file, MO_KEY_CONFIG)) {
        mo_checkpoint_close(&out->lm_file);
        return 0;
    }
    *rc = open_carried(want, out, err);
    return 1;
}

/* Split "dir/file" and open; `path` is known to be there. */
static int open_path(const char *path, bool is_dir, int want, mo_model_files *out,
                     moshi_error *err) {
    source s = {.dir = path};
    if (is_dir) return open_from(&s, NULL, want, out, err);
    int carried;
    if (try_carried(path, want, out, &carried, err)) return carried;
    char *dir = mo_format("%s", path);
    if (!dir) return mo_fail(err, MOSHI_ENOMEM, "%s: out of memory", path);
    char *slash = strrchr(dir, '/');
    if (slash) slash[1] = 0;
    s.dir = slash ? dir : "";
    int rc = open_from(&s, slash ? path + (slash + 1 - dir) : path, want, out, err);
    free(dir);
    return rc;
}

static int check_blobs(const moshi_blob *blobs, size_t n, moshi_error *err) {
    for (size_t i = 0; i < n; i++)
        if (!blobs[i].name || (!blobs[i].data && blobs[i].size))
            return mo_fail(err, MOSHI_EINVAL, "blob %zu: wanted a name and data, found NULL", i);
    return 0;
}

int mo_model_files_open(mo_model_files *out, const char *path, const moshi_blob *blobs,
                        size_t n_blobs, int want, moshi_error *err) {
    memset(out, 0, sizeof *out);
    if ((path != NULL) == (blobs != NULL && n_blobs > 0))
        return mo_fail(err, MOSHI_EINVAL, "wanted either the path of a model or blobs, found %s",
                       path ? "both" : "neither");
    int rc;
    if (path) {
        struct stat st;
        if (stat(path, &st) != 0)
            return mo_fail(err, MOSHI_EMODEL,
                           "%s: wanted a model directory or a checkpoint file, found: %s", path,
                           strerror(errno));
        rc = open_path(path, S_ISDIR(st.st_mode), want, out, err);
    } else {
        source s = {.dir = "", .blobs = blobs, .n_blobs = n_blobs};
        rc = check_blobs(blobs, n_blobs, err);
        if (rc == 0) rc = open_from(&s, NULL, want, out, err);
    }
    if (rc < 0) mo_model_files_close(out);
    return rc;
}

/* ---- what a model consists of ---------------------------------------------------------------- */

/* The names that config.json gives, as far as it can be read: a damaged model has files too. */
static int read_names(const source *s, mo_lm_config *out) {
    mo_file file;
    memset(out, 0, sizeof *out);
    char *path = full_path(s, CONFIG);
    if (!path) return MOSHI_ENOMEM;
    int rc = mo_file_map(&file, path, path, NULL);
    free(path);
    if (rc < 0) return rc == MOSHI_ENOMEM ? rc : 0;
    rc = mo_lm_config_names(out, (const char *)file.data, file.size, file.name, NULL);
    mo_file_close(&file);
    return rc == MOSHI_ENOMEM ? rc : 0;
}

/* Refuse when `name` is the file of `st`, which the caller calls `path`. */
static int refuse_same(const source *s, const char *name, const struct stat *st, const char *path,
                       moshi_error *err) {
    struct stat its;
    char *full = full_path(s, name);
    if (!full) return mo_fail(err, MOSHI_ENOMEM, "%s: out of memory", name);
    int rc = 0;
    if (stat(full, &its) == 0 && its.st_dev == st->st_dev && its.st_ino == st->st_ino)
        rc = mo_fail(err, MOSHI_EINVAL,
                     "%s: cannot be the output: it is %s, a file of the model; wanted another name",
                     path, full);
    free(full);
    return rc;
}

/* `checkpoint` NULL: the model is the directory. */
static int check_names(const source *s, const char *checkpoint, const struct stat *st,
                       const char *path, moshi_error *err) {
    mo_lm_config c;
    int rc = read_names(s, &c);
    if (rc < 0) return mo_fail(err, rc, "%s: out of memory", CONFIG);
    const char *names[] = {checkpoint ? checkpoint : CONFIG,
                           CONFIG,
                           c.moshi_name[0] ? c.moshi_name : DEFAULT_WEIGHTS,
                           c.mimi_name[0] ? c.mimi_name : DEFAULT_MIMI,
                           c.mimi_config_name[0] ? c.mimi_config_name : CONFIG,
                           c.tokenizer_name[0] ? c.tokenizer_name : DEFAULT_TOKENIZER};
    for (size_t i = 0; rc == 0 && i < sizeof names / sizeof *names; i++)
        rc = refuse_same(s, names[i], st, path, err);
    return rc;
}

int moshi_check_output(const char *path, const char *model, moshi_error *err) {
    struct stat st, model_st;
    if (err) *err = (moshi_error){0};
    if (!path || !model)
        return mo_fail(err, MOSHI_EINVAL, "moshi_check_output: wanted a path and a model");
    if (stat(path, &st) != 0 || stat(model, &model_st) != 0) return 0;
    source s = {.dir = model};
    if (S_ISDIR(model_st.st_mode)) return check_names(&s, NULL, &st, path, err);
    char *dir = mo_format("%s", model);
    if (!dir) return mo_fail(err, MOSHI_ENOMEM, "%s: out of memory", model);
    char *slash = strrchr(dir, '/');
    if (slash) slash[1] = 0;
    s.dir = slash ? dir : "";
    int rc = check_names(&s, slash ? model + (slash + 1 - dir) : model, &st, path, err);
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
