/* convert.c - one model file into another: other number formats, other container. Tensor by tensor,
 * so that memory does not grow with the model; rows of a tensor are shared among threads. */
#include "cpu/pool.h"
#include "files.h"
#include "packed.h"
#include "quant.h"
#include "weights.h"
#include "writer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_FLOATS = 1 << 18, MAX_THREADS = 256 };

/* One tensor of the result. */
typedef struct item {
    const mo_checkpoint *ck;
    const mo_tensor_view *t;
    char *name;
    mo_dtype to;
    int64_t rows, cols; /* as converted: vectors are one row */
} item;

typedef struct conversion {
    const moshi_convert_options *options;
    mo_model_files files;
    mo_file_format format;
    item *items;
    size_t n_items;
    mo_out_tensor *out;
    mo_pool *pool;
    float *floats;   /* [threads, chunk] */
    size_t chunk;    /* floats per thread */
    uint8_t *result; /* bytes of the tensor in work */
    size_t result_bytes;
    uint64_t done, total;
    moshi_error *err;
} conversion;

/* ---- planning ------------------------------------------------------------------------------- */

/* Formats from coarse to fine, and what the sensitive parts get instead. */
static mo_dtype finer(mo_dtype t) {
    switch (t) {
    case MO_Q4_0:
    case MO_Q4_K:
        return MO_Q6_K;
    case MO_Q6_K:
        return MO_Q8_0;
    default:
        return t;
    }
}

/* The nearest finer format whose blocks fill rows of `cols`. */
static mo_dtype fitting(mo_dtype t, int64_t cols) {
    if (cols % (int64_t)mo_dtype_block(t) == 0) return t;
    return mo_dtype_block(t) > 32 && cols % 32 == 0 ? MO_Q8_0 : MO_BF16;
}

/* The depth transformer speaks the audio and is a tenth of the bytes; heads decide every token. */
static bool sensitive(const char *name) {
    return mo_glob("depformer* linears.* text_linear.* extra_heads.*", name);
}

static bool is_matrix(const mo_tensor_view *t) {
    return t->ndim == 2 && t->shape[0] > 1 && t->shape[1] > 1;
}

/* Type that `keep` asks for; 0 no match, 1 found, < 0 error. */
static int kept_type(const conversion *c, const char *name, mo_dtype *out) {
    const char *p = c->options->keep;
    while (p && *p) {
        size_t n = strcspn(p, ",");
        char *rule = mo_format("%.*s", (int)n, p);
        if (!rule) return mo_fail(c->err, MOSHI_ENOMEM, "out of memory");
        char *equals = strrchr(rule, '=');
        const mo_quant *q = equals ? mo_quant_find(equals + 1) : NULL;
        bool sound = q && q->quantise && equals > rule;
        if (!sound) {
            int rc = mo_fail(c->err, MOSHI_EINVAL,
                             "keep: '%s': wanted GLOB=TYPE with a type that can be written", rule);
            free(rule);
            return rc;
        }
        *equals = 0;
        bool hit = mo_glob(rule, name);
        free(rule);
        if (hit) {
            *out = q->dtype;
            return 1;
        }
        p += n + (p[n] == ',');
    }
    return 0;
}

/* Decide the type of one item of the language model. */
static int plan_type(const conversion *c, item *it, mo_dtype type) {
    mo_dtype kept = type;
    int rc = kept_type(c, it->name, &kept);
    if (rc < 0) return rc;
    if (!is_matrix(it->t)) {
        it->to = MO_F32;
        return 0;
    }
    it->to = rc ? kept : sensitive(it->name) ? finer(type) : type;
    it->to = fitting(it->to, it->cols);
    return 0;
}

/* Scales and biases go with the matrix they belong to. */
static bool is_companion(const mo_checkpoint *ck, const char *name) {
    size_t n = strlen(name);
    if (n > 4 && !strcmp(name + n - 4, "_scb")) return true;
    for (int i = 0; i < 2; i++) {
        const char *suffix = i ? ".biases" : ".scales";
        size_t m = strlen(suffix);
        if (n <= m || strcmp(name + n - m, suffix) != 0) continue;
        char *base = mo_format("%.*s.weight", (int)(n - m), name);
        const mo_tensor_view *t = base ? mo_checkpoint_find(ck, base) : NULL;
        free(base);
        if (t && t->dtype == MO_U32) return true;
    }
    return false;
}

static int check_source(const conversion *c, const mo_checkpoint *ck, const mo_tensor_view *t) {
    if (t->dtype == MO_U32)
        return mo_fail(c->err, MOSHI_EMODEL,
                       "%s: tensor '%s': weights quantised for MLX cannot be converted; start from "
                       "the bf16 version of the model",
                       ck->file.name, t->name);
    if (!mo_quant_of(t->dtype) && t->dtype != MO_I8)
        return mo_fail(c->err, MOSHI_EMODEL, "%s: tensor '%s': wanted weights, found %s",
                       ck->file.name, t->name, mo_dtype_name(t->dtype));
    /* Damage must not hide in another format. */
    const char *problem = mo_tensor_problem(t);
    if (problem)
        return mo_fail(c->err, MOSHI_EMODEL, "%s: tensor '%s' %s: wanted trained weights",
                       ck->file.name, t->name, problem);
    for (const char *p = t->name; *p; p++)
        if ((uint8_t)*p < 0x20 || *p == '"' || *p == '\\')
            return mo_fail(c->err, MOSHI_EMODEL,
                           "%s: a tensor's name holds quotes or control "
                           "characters: wanted a plain name",
                           ck->file.name);
    return 0;
}

/* Add the tensors of one checkpoint, under `prefix`. type < 0: as they are. */
static int plan_checkpoint(conversion *c, const mo_checkpoint *ck, const char *prefix, int type) {
    for (size_t i = 0; i < ck->n_tensors; i++) {
        const mo_tensor_view *t = &ck->tensors[i];
        if (is_companion(ck, t->name)) continue;
        int rc = check_source(c, ck, t);
        if (rc < 0) return rc;
        item *it = &c->items[c->n_items];
        *it = (item){.ck = ck, .t = t, .name = mo_format("%s%s", prefix, t->name), .to = t->dtype};
        if (!it->name) return mo_fail(c->err, MOSHI_ENOMEM, "out of memory");
        c->n_items++;
        bool rows = is_matrix(t) || t->dtype == MO_I8;
        it->rows = rows ? t->shape[0] : 1;
        it->cols = rows ? t->shape[1] : (int64_t)t->count;
        rc = type < 0 ? 0 : plan_type(c, it, (mo_dtype)type);
        if (rc < 0) return rc;
        if (!mo_format_holds(c->format, it->to))
            return mo_fail(c->err, MOSHI_EINVAL,
                           "%s cannot be stored in a safetensors file: write a .gguf",
                           mo_dtype_name(it->to));
        c->total += t->bytes;
    }
    return 0;
}

static int plan_out(conversion *c) {
    c->out = mo_calloc(c->n_items + 1, sizeof *c->out);
    if (!c->out) return mo_fail(c->err, MOSHI_ENOMEM, "out of memory");
    for (size_t i = 0; i < c->n_items; i++) {
        const item *it = &c->items[i];
        mo_out_tensor *o = &c->out[i];
        *o = (mo_out_tensor){.name = it->name, .dtype = it->to, .ndim = it->t->ndim};
        memcpy(o->shape, it->t->shape, sizeof o->shape);
        o->bytes = (uint64_t)it->rows * mo_dtype_row_bytes(it->to, (uint64_t)it->cols);
        if (o->bytes > c->result_bytes) c->result_bytes = (size_t)o->bytes;
        if ((size_t)it->cols > c->chunk) c->chunk = (size_t)it->cols;
    }
    if (c->chunk < CHUNK_FLOATS) c->chunk = CHUNK_FLOATS;
    return 0;
}

static int plan(conversion *c, const mo_quant *type) {
    const mo_model_files *f = &c->files;
    c->items = mo_calloc(f->lm_file.n_tensors + f->mimi_file.n_tensors + 1, sizeof *c->items);
    if (!c->items) return mo_fail(c->err, MOSHI_ENOMEM, "out of memory");
    int rc = 0;
    bool whole = f->has_lm && c->format == MO_FORMAT_GGUF;
    if (f->has_lm) rc = plan_checkpoint(c, &f->lm_file, "", (int)type->dtype);
    if (rc == 0 && whole && f->has_mimi) rc = plan_checkpoint(c, &f->mimi_file, MO_MIMI_PREFIX, -1);
    if (rc == 0 && !f->has_lm) rc = plan_checkpoint(c, &f->mimi_file, "", (int)type->dtype);
    return rc < 0 ? rc : plan_out(c);
}

/* ---- one tensor ----------------------------------------------------------------------------- */

typedef struct job {
    conversion *c;
    const item *it;
    mo_packed packed; /* source, when it is a matrix */
    bool plain;       /* source is one row of floats or blocks */
    int64_t rows_per_chunk;
    /* verification: the result as it was read back, and the error sums of every chunk */
    const mo_tensor_view *result;
    double *squares, *errors;
} job;

static void read_rows(const job *j, int64_t first, int64_t n, float *out) {
    if (j->plain)
        mo_quant_of(j->it->t->dtype)->dequantise(j->it->t->data, out, (size_t)j->it->cols);
    else
        mo_packed_read(&j->packed, first, n, out);
}

static int64_t chunk_rows(const job *j, int chunk, int64_t *first) {
    *first = chunk * j->rows_per_chunk;
    int64_t left = j->it->rows - *first;
    return left < j->rows_per_chunk ? left : j->rows_per_chunk;
}

static void convert_chunk(void *ctx, int chunk, int thread) {
    const job *j = ctx;
    conversion *c = j->c;
    int64_t first, n = chunk_rows(j, chunk, &first);
    float *x = c->floats + (size_t)thread * c->chunk;
    size_t row = (size_t)mo_dtype_row_bytes(j->it->to, (uint64_t)j->it->cols);
    read_rows(j, first, n, x);
    mo_quant_of(j->it->to)->quantise(x, c->result + (size_t)first * row, (size_t)(n * j->it->cols));
}

static int job_begin(job *j, conversion *c, const item *it, int *chunks) {
    *j = (job){.c = c, .it = it, .plain = it->rows == 1};
    if (!j->plain) {
        int rc = mo_packed_open(&j->packed, it->ck, it->t, it->rows, it->cols, c->err);
        if (rc < 0) return rc;
    }
    j->rows_per_chunk = (int64_t)c->chunk / it->cols;
    *chunks = (int)((it->rows + j->rows_per_chunk - 1) / j->rows_per_chunk);
    return 0;
}

static int convert_item(conversion *c, const item *it, const mo_out_tensor *o, mo_writer *w) {
    if (it->to == it->t->dtype) return mo_writer_data(w, it->t->data, (size_t)o->bytes, true);
    job j;
    int chunks, rc = job_begin(&j, c, it, &chunks);
    if (rc < 0) return rc;
    mo_pool_run(c->pool, convert_chunk, &j, chunks);
    return mo_writer_data(w, c->result, (size_t)o->bytes, true);
}

static int advance(conversion *c, const item *it) {
    c->done += it->t->bytes;
    if (c->options->progress && c->options->progress(c->options->user, c->done, c->total))
        return mo_fail(c->err, MOSHI_ECANCELLED, "conversion was cancelled");
    return 0;
}

/* ---- reading back --------------------------------------------------------------------------- */

static void verify_chunk(void *ctx, int chunk, int thread) {
    const job *j = ctx;
    conversion *c = j->c;
    int64_t first, n = chunk_rows(j, chunk, &first), cols = j->it->cols;
    float *x = c->floats + (size_t)thread * 2 * c->chunk, *y = x + c->chunk;
    size_t row = (size_t)mo_dtype_row_bytes(j->it->to, (uint64_t)cols);
    read_rows(j, first, n, x);
    mo_quant_of(j->it->to)->dequantise((const uint8_t *)j->result->data + (size_t)first * row, y,
                                       (size_t)(n * cols));
    double square = 0, error = 0;
    for (int64_t i = 0; i < n * cols; i++) {
        double d = (double)x[i] - (double)y[i];
        square += (double)x[i] * (double)x[i];
        error += d * d;
    }
    j->squares[chunk] = square;
    j->errors[chunk] = error;
}

/* Relative RMS error of one tensor as it lies in the file; < 0 when it cannot be told. */
static int verify_item(conversion *c, const item *it, const mo_checkpoint *written, double *out) {
    job j;
    int chunks, rc = job_begin(&j, c, it, &chunks);
    if (rc < 0) return rc;
    j.result = mo_checkpoint_find(written, it->name);
    if (!j.result || j.result->dtype != it->to || j.result->count != it->t->count)
        return mo_fail(c->err, MOSHI_EIO, "%s: tensor '%s' is not what was written",
                       written->file.name, it->name);
    j.squares = mo_calloc((size_t)chunks * 2, sizeof *j.squares);
    if (!j.squares) return mo_fail(c->err, MOSHI_ENOMEM, "out of memory");
    j.errors = j.squares + chunks;
    mo_pool_run(c->pool, verify_chunk, &j, chunks);
    double square = 0, error = 0;
    for (int i = 0; i < chunks; i++) {
        square += j.squares[i];
        error += j.errors[i];
    }
    free(j.squares);
    *out = square > 0 ? sqrt(error / square) : sqrt(error);
    return 0;
}

static int report(conversion *c, const char *path) {
    mo_checkpoint written = {0};
    mo_file file;
    int rc = 0;
    if (!c->options->report) return 0;
    if (c->options->verify) {
        rc = mo_file_map(&file, path, path, c->err);
        if (rc == 0) rc = mo_checkpoint_open(&written, &file, c->err);
    }
    for (size_t i = 0; rc == 0 && i < c->n_items; i++) {
        const item *it = &c->items[i];
        moshi_converted r = {.name = it->name,
                             .from = mo_dtype_name(it->t->dtype),
                             .to = mo_dtype_name(it->to),
                             .count = it->t->count,
                             .bytes_in = it->t->bytes,
                             .bytes_out = c->out[i].bytes,
                             .error = -1};
        if (c->options->verify) rc = verify_item(c, it, &written, &r.error);
        if (rc == 0) c->options->report(c->options->user, &r);
    }
    mo_checkpoint_close(&written);
    return rc;
}

/* ---- the whole ------------------------------------------------------------------------------ */

static size_t carried_values(const conversion *c, mo_out_value out[5]) {
    const mo_model_files *f = &c->files;
    size_t n = 0;
    if (c->format != MO_FORMAT_GGUF) return 0;
    out[n++] = (mo_out_value){.key = "general.architecture", .data = "moshi", .size = 5};
    out[n++] = (mo_out_value){.key = MO_KEY_CONFIG, .data = f->config.data, .size = f->config.size};
    if (f->mimi_config.data)
        out[n++] = (mo_out_value){
            .key = MO_KEY_MIMI_CONFIG, .data = f->mimi_config.data, .size = f->mimi_config.size};
    if (f->has_text)
        out[n++] = (mo_out_value){.key = MO_KEY_TOKENIZER,
                                  .bytes = true,
                                  .data = f->tokenizer.data,
                                  .size = f->tokenizer.size};
    return n;
}

static int write_all(conversion *c, const char *path) {
    mo_out_value values[5];
    mo_writer w;
    size_t n_values = carried_values(c, values);
    int rc = mo_writer_open(&w, path, c->format, c->out, c->n_items, values, n_values, c->err);
    if (rc < 0) return rc;
    for (size_t i = 0; rc == 0 && i < c->n_items; i++) {
        rc = convert_item(c, &c->items[i], &c->out[i], &w);
        if (rc == 0) rc = advance(c, &c->items[i]);
    }
    if (rc == 0) return mo_writer_finish(&w);
    mo_writer_abort(&w);
    return rc;
}

/* A GGUF file holds a whole model; safetensors files hold the language model of one. */
static int open_source(conversion *c, const char *in, const moshi_finder *finder) {
    bool whole = c->format == MO_FORMAT_GGUF;
    int want = MO_WANT_LM | (whole ? MO_WANT_MIMI | MO_WANT_TEXT : 0);
    const mo_model_place place = {.path = in, .finder = *finder};
    return mo_model_files_open(&c->files, &place, want, c->err);
}

static int choose_format(conversion *c, const char *out) {
    const char *dot = strrchr(out, '.');
    if (dot && !strcmp(dot, ".gguf")) {
        c->format = MO_FORMAT_GGUF;
    } else if (dot && !strcmp(dot, ".safetensors")) {
        c->format = MO_FORMAT_SAFETENSORS;
    } else {
        return mo_fail(c->err, MOSHI_EINVAL, "%s: wanted a name that ends in .gguf or .safetensors",
                       out);
    }
    return 0;
}

static int alloc_work(conversion *c) {
    int threads = c->options->threads ? c->options->threads : mo_core_count();
    if (threads < 1 || threads > MAX_THREADS)
        return mo_fail(c->err, MOSHI_EINVAL, "threads: wanted 1..%d, found %d", MAX_THREADS,
                       threads);
    c->pool = mo_pool_open(threads);
    size_t halves = c->options->verify ? 2 : 1;
    c->floats = mo_calloc((size_t)threads * halves * c->chunk, sizeof *c->floats);
    c->result = mo_calloc(c->result_bytes + 1, 1);
    if (!c->pool || !c->floats || !c->result)
        return mo_fail(c->err, MOSHI_ENOMEM, "out of memory for the largest tensor");
    return 0;
}

int moshi_convert(const char *in, const char *out, const moshi_convert_options *options,
                  moshi_error *err) {
    conversion c = {.options = options, .err = err};
    if (err) *err = (moshi_error){0};
    if (!in || !out || !options || !options->type)
        return mo_fail(err, MOSHI_EINVAL, "moshi_convert: wanted in, out and a type");
    const mo_quant *type = mo_quant_find(options->type);
    if (!type || !type->quantise)
        return mo_fail(err, MOSHI_EINVAL,
                       "type: wanted f32, f16, bf16, q8_0, q6_K, q4_K or q4_0, found '%s'",
                       options->type);
    int rc = choose_format(&c, out);
    if (rc == 0) rc = moshi_check_output(out, in, err);
    if (rc == 0) rc = open_source(&c, in, &options->finder);
    if (rc == 0) rc = plan(&c, type);
    if (rc == 0) rc = alloc_work(&c);
    if (rc == 0) rc = write_all(&c, out);
    if (rc == 0) rc = report(&c, out);
    for (size_t i = 0; i < c.n_items; i++) free(c.items[i].name);
    free(c.items);
    free(c.out);
    free(c.floats);
    free(c.result);
    mo_pool_close(c.pool);
    mo_model_files_close(&c.files);
    return rc;
}
