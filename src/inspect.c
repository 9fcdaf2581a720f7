/* inspect.c - what is this model, would it run, and which of its tensors look damaged. */
#include "model.h"

#include <stdlib.h>
#include <string.h>

/* What moshi_model_info points into. The info comes first: the caller holds its address. */
typedef struct inspection {
    moshi_model_info info;
    mo_model_files files;
    char *summary, *reason;
    moshi_tensor_info *tensors;
} inspection;

/* ---- a device that keeps nothing: loading onto it is only checking ------------------------- */

typedef struct check_backend {
    mo_backend base;
    mo_buf nothing;
} check_backend;

/* What the default device would hold, so that a dry run also counts its memory. */
static uint64_t check_weight_bytes(const mo_matrix *src, mo_layout layout) {
    return mo_backend_cpu.weight_bytes(src, layout);
}

static int check_weight(mo_backend *be, const mo_matrix *src, mo_layout layout, mo_weight *out) {
    *out = (mo_weight){.buf = &((check_backend *)be)->nothing,
                       .dtype = src->dtype,
                       .layout = layout,
                       .rows = (int)src->rows,
                       .cols = (int)src->cols};
    return 0;
}

static void check_weight_free(mo_backend *be, mo_weight *w) {
    (void)be;
    (void)w;
}

static void check_read(mo_backend *be, const mo_buf *buf, size_t offset, void *dst, size_t bytes) {
    (void)be;
    (void)buf;
    (void)offset;
    memset(dst, 0, bytes);
}

static void check_write(mo_backend *be, mo_buf *buf, size_t offset, const void *src, size_t bytes) {
    (void)be;
    (void)buf;
    (void)offset;
    (void)src;
    (void)bytes;
}

static const mo_backend_ops check_ops = {.name = "check",
                                         .weight_bytes = check_weight_bytes,
                                         .weight = check_weight,
                                         .weight_free = check_weight_free,
                                         .read = check_read,
                                         .write = check_write};

/* Load everything as an engine would; the error is the one the engine would give. */
static int dry_run(const mo_model_files *f, uint64_t *parameters, moshi_error *err) {
    check_backend be = {.base = {.ops = &check_ops}};
    mo_model m;
    int rc = f->has_lm ? mo_model_load(&m, f, &be.base, NULL, NULL, err)
                       : mo_model_load_codec(&m, f, &be.base, f->mimi.codebooks, err);
    *parameters = m.weights.parameters;
    mo_model_free(&m);
    return rc;
}

/* ---- describing --------------------------------------------------------------------------- */

static void list_tensors(inspection *in, const mo_checkpoint *ck, size_t *n) {
    for (size_t i = 0; i < ck->n_tensors; i++) {
        const mo_tensor_view *t = &ck->tensors[i];
        moshi_tensor_info *out = &in->tensors[(*n)++];
        *out = (moshi_tensor_info){.file = ck->file.name,
                                   .name = t->name,
                                   .dtype = mo_dtype_name(t->dtype),
                                   .ndim = t->ndim,
                                   .bytes = t->bytes,
                                   .problem = mo_tensor_problem(t)};
        memcpy(out->shape, t->shape, sizeof out->shape);
    }
}

static void describe(inspection *in) {
    moshi_model_info *i = &in->info;
    const mo_model_files *f = &in->files;
    if (f->has_lm) {
        mo_model_describe(f, &i->engine);
        i->dim = f->lm.dim;
        i->layers = f->lm.layers;
        i->heads = f->lm.heads;
        i->depformer_dim = f->lm.dep_dim;
        i->depformer_layers = f->lm.dep_layers;
        i->depformer_heads = f->lm.dep_heads;
    }
    if (f->has_mimi) mo_codec_describe(&f->mimi, f->mimi.codebooks, &i->codec);
}

static char *summarise(const inspection *in, uint64_t parameters) {
    const moshi_model_info *i = &in->info;
    double millions = (double)parameters / 1e6;
    if (!in->files.has_lm)
        return mo_format("Mimi codec, %d codebooks of %d, %.1f M parameters", i->codec.codebooks,
                         i->codec.bins, millions);
    return mo_format("%s language model, %d layers of %d, reads %d and speaks %d audio channels, "
                     "%.1f M parameters%s",
                     i->engine.model_type, i->layers, i->dim, i->engine.n_q, i->engine.dep_q,
                     millions, in->files.has_mimi ? " with its codec" : "");
}

/* Fill everything that follows from the files. `incomplete` is why only a part could be opened, ""
 * when nothing is amiss. */
static int examine(inspection *in, const char *incomplete, moshi_error *err) {
    const mo_model_files *f = &in->files;
    moshi_model_info *i = &in->info;
    moshi_error why = {0};
    uint64_t parameters = 0;
    size_t n = 0;
    int rc = dry_run(f, &parameters, &why);
    if (rc == MOSHI_ENOMEM) return mo_fail(err, rc, "%s", why.text);
    const char *reason = incomplete[0] ? incomplete : rc < 0 ? why.text : NULL;
    if (f->mimi_named && rc == 0) reason = NULL; /* a sound codec file was all that was asked for */
    in->tensors = mo_calloc(f->lm_file.n_tensors + f->mimi_file.n_tensors + 1, sizeof *in->tensors);
    if (reason) in->reason = mo_format("%s", reason);
    describe(in);
    in->summary = summarise(in, parameters);
    if (!in->tensors || !in->summary || (reason && !in->reason))
        return mo_fail(err, MOSHI_ENOMEM, "out of memory");
    if (f->has_lm) list_tensors(in, &f->lm_file, &n);
    if (f->has_mimi) list_tensors(in, &f->mimi_file, &n);
    i->kind = f->has_lm ? "moshi" : "mimi";
    i->summary = in->summary;
    i->reason = in->reason;
    i->runs = in->reason == NULL;
    i->tensors = in->tensors;
    i->n_tensors = n;
    i->engine.parameters = i->codec.parameters = parameters;
    return 0;
}

/* Was a model's Mimi file named where the language model's was expected? */
static bool names_codec(const mo_model_files *f) {
    return f->has_lm && f->file_named &&
           mo_checkpoint_find(&f->lm_file, "encoder.model.0.conv.conv.weight");
}

int moshi_inspect(moshi_model_info **out, const char *path, const moshi_blob *blobs, size_t n_blobs,
                  moshi_error *err) {
    /* The whole model, else what there is of it, best part first. */
    static const int wants[] = {MO_WANT_LM | MO_WANT_MIMI | MO_WANT_TEXT, MO_WANT_LM, MO_WANT_MIMI};
    if (err) *err = (moshi_error){0};
    if (!out || !path == !n_blobs)
        return mo_fail(err, MOSHI_EINVAL, "moshi_inspect: give out, and a path or blobs");
    *out = NULL;
    inspection *in = mo_calloc(1, sizeof *in);
    if (!in) return mo_fail(err, MOSHI_ENOMEM, "out of memory");
    moshi_error first = {0}, last = {0};
    int rc = MOSHI_EMODEL;
    size_t i = 0;
    for (; i < sizeof wants / sizeof *wants; i++) {
        const mo_model_place place = {path, blobs, n_blobs, {0}};
        rc = mo_model_files_open(&in->files, &place, wants[i], i ? &last : &first);
        if (rc == 0 && names_codec(&in->files)) {
            mo_model_files_close(&in->files);
            rc = MOSHI_EMODEL;
        }
        if (rc != MOSHI_EMODEL && rc != MOSHI_EIO) break;
    }
    if (rc < 0) {
        free(in);
        return mo_fail(err, rc, "%s", rc == MOSHI_ENOMEM ? "out of memory" : first.text);
    }
    bool whole = i == 0 || in->files.codec_only;
    rc = examine(in, whole ? "" : first.text, err);
    if (rc < 0) {
        moshi_model_info_free(&in->info);
        return rc;
    }
    *out = &in->info;
    return 0;
}

void moshi_model_info_free(moshi_model_info *info) {
    if (!info) return;
    inspection *in = (inspection *)info;
    mo_model_files_close(&in->files);
    free(in->summary);
    free(in->reason);
    free(in->tensors);
    free(in);
}
