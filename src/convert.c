/* convert.c - one model file into another: other number formats, other container.
 *
 * The tensors are cut into chunks of rows, whole batches of which go through the worker threads:
 * read, judged, adapted, quantised, written at their place. Memory does not grow with the model. */
#include "cpu/pool.h"
#include "recipe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHUNK_FLOATS = 1 << 16, /* what stays in the cache of a core from one step to the next */
    BATCH_CHUNKS = 64,      /* per thread: tens of milliseconds between looks at the user */
    AHEAD_BYTES = 64 << 20, /* asked from the disk before they are needed */
    MAX_THREADS = 256
};

/* Some rows of one tensor, and what came of them. */
typedef struct chunk {
    const mo_recipe_item *it;
    const mo_out_tensor *out;
    int64_t first, n;
    uint32_t bits;       /* all magnitudes of the source or-ed: 0 when all are zero */
    const char *problem; /* of the numbers, or NULL */
    int rc, error;       /* of adding an adapter; errno of writing */
    double square, loss; /* when verifying: sums of the numbers' and the errors' squares */
} chunk;

typedef struct conversion {
    const moshi_convert_options *options;
    mo_model_files files;
    mo_loras loras;
    mo_recipe recipe;
    mo_writer writer;
    mo_pool *pool;
    const mo_quant_set *set;
    chunk *batch; /* [threads * BATCH_CHUNKS] */
    int threads;
    size_t floats;        /* per thread and copy: CHUNK_FLOATS, or one row */
    float *numbers;       /* [threads, copies, floats] */
    mo_checkpoint back;   /* the result as it was read back, when verifying */
    double *losses;       /* [recipe.n] relative RMS errors; -1 when nobody asked */
    uint64_t before;      /* bytes of the tensors that are done ... */
    uint64_t done, total; /* ... and of all that was done so far */
    moshi_error *err;
} conversion;

/* ---- one chunk, on any thread --------------------------------------------------------------- */

static void judge(const conversion *c, chunk *k, const float *x, size_t n) {
    bool special;
    c->set->scan(x, n, &k->bits, &special);
    if (!special) return;
    k->problem = "contains infinite numbers";
    for (size_t i = 0; i < n; i++)
        if (isnan(x[i])) k->problem = "contains NaN";
}

static int add_adapter(conversion *c, const chunk *k, float *x) {
    const mo_use *u = k->it->use;
    return mo_loras_apply(&c->loras,
                          &(mo_lora_target){.name = u->name,
                                            .set = (int)(k->first / u->part_rows),
                                            .rows = u->rows,
                                            .cols = u->cols,
                                            .first = k->first,
                                            .n = k->n,
                                            .part_rows = u->part_rows},
                          x, NULL);
}

/* The source's numbers, adapter included; false when nothing can be done with them. */
static bool read_chunk(conversion *c, chunk *k, float *x) {
    mo_packed_read(&k->it->from, k->first, k->n, x);
    judge(c, k, x, (size_t)(k->n * k->it->from.cols));
    if (k->problem) return false;
    if (k->it->has_adapter) k->rc = add_adapter(c, k, x);
    return k->rc == 0;
}

static void convert_chunk(void *ctx, int at, int thread) {
    conversion *c = ctx;
    chunk *k = &c->batch[at];
    const mo_recipe_item *it = k->it;
    size_t row = (size_t)mo_dtype_row_bytes(it->to, (uint64_t)it->from.cols);
    size_t skip = (size_t)k->first * row, n = (size_t)(k->n * it->from.cols);
    float *x = c->numbers + (size_t)thread * 2 * c->floats, *packed = x + c->floats;
    const void *bytes = packed;
    if (!read_chunk(c, k, x)) return;
    if (it->to == it->t->dtype && !it->has_adapter)
        bytes = (const uint8_t *)it->t->data + skip;
    else
        mo_quant_row(c->set, it->to)->quantise(x, packed, n);
    k->error = mo_writer_put(&c->writer, k->out->at + skip, bytes, (size_t)k->n * row);
}

static void verify_chunk(void *ctx, int at, int thread) {
    conversion *c = ctx;
    chunk *k = &c->batch[at];
    const mo_recipe_item *it = k->it;
    const mo_tensor_view *back = mo_checkpoint_find(&c->back, it->name);
    size_t row = (size_t)mo_dtype_row_bytes(it->to, (uint64_t)it->from.cols);
    size_t n = (size_t)(k->n * it->from.cols);
    float *x = c->numbers + (size_t)thread * 2 * c->floats, *y = x + c->floats;
    if (!read_chunk(c, k, x)) return;
    mo_quant_row(c->set, it->to)
        ->dequantise((const uint8_t *)back->data + (size_t)k->first * row, y, n);
    for (size_t i = 0; i < n; i++) {
        double d = (double)x[i] - (double)y[i];
        k->square += (double)x[i] * (double)x[i];
        k->loss += d * d;
    }
}

/* ---- all chunks ----------------------------------------------------------------------------- */

/* One time through all tensors. */
typedef struct pass {
    size_t item;          /* where the next batch begins ... */
    int64_t row;          /* ... and the row in it */
    size_t ahead;         /* first item that the disk was not asked for, ... */
    uint64_t ahead_bytes; /* ... and the bytes of those before */
    uint32_t bits;        /* sums over the chunks of the item in work */
    double square, loss;
} pass;

/* Fill the batch; chunks never reach over the end of a weight set, because adapters belong to one.
 */
static int next_batch(conversion *c, pass *p) {
    int n = 0;
    while (n < c->threads * BATCH_CHUNKS && p->item < c->recipe.n) {
        const mo_recipe_item *it = &c->recipe.items[p->item];
        int64_t rows = it->from.rows, part = it->use ? it->use->part_rows : rows;
        if (p->row < rows) {
            int64_t most = (int64_t)c->floats / it->from.cols, left = part - p->row % part;
            chunk *k = &c->batch[n++];
            *k = (chunk){.it = it, .out = &c->recipe.out[p->item], .first = p->row};
            k->n = most < left ? most : left;
            p->row += k->n;
        }
        if (p->row == rows) {
            p->item++;
            p->row = 0;
        }
    }
    return n;
}

/* What happened to a chunk; asked in the order of the file, so that threads change no message. */
static int check_chunk(const conversion *c, const chunk *k) {
    const mo_recipe_item *it = k->it;
    if (k->problem)
        return mo_fail(c->err, MOSHI_EMODEL, "%s: tensor '%s' %s: wanted trained weights",
                       it->ck->file.name, it->t->name, k->problem);
    if (k->rc < 0)
        return mo_fail(c->err, k->rc, "%s: cannot add its adapter: %s", it->name,
                       moshi_strerror(k->rc));
    return k->error ? mo_writer_failed(&c->writer, k->error) : 0;
}

/* Have the disk read what is needed soon, or forget what was needed: only so do files larger than
 * memory not push out everything else. */
static void advise(const mo_recipe_item *it, bool need) {
    const mo_tensor_view *views[] = {it->t, it->from.scales, it->from.biases};
    for (int i = 0; i < 3; i++)
        if (views[i]) mo_file_advise(&it->ck->file, views[i]->data, views[i]->bytes, need);
}

static void read_ahead(const conversion *c, pass *p) {
    while (p->ahead < c->recipe.n && p->ahead_bytes < c->before + AHEAD_BYTES) {
        const mo_recipe_item *it = &c->recipe.items[p->ahead++];
        advise(it, true);
        p->ahead_bytes += it->bytes_in;
    }
}

/* Add up what a chunk says about its item; after its last one, judge and forget the item. */
static int settle(conversion *c, pass *p, const chunk *k) {
    const mo_recipe_item *it = k->it;
    int rc = check_chunk(c, k);
    if (rc < 0) return rc;
    p->bits |= k->bits;
    p->square += k->square;
    p->loss += k->loss;
    int64_t rows = k->first + k->n;
    c->done = c->before + (uint64_t)((double)it->bytes_in * (double)rows / (double)it->from.rows);
    if (rows < it->from.rows) return 0;
    if (p->bits == 0 && it->must_not_be_0)
        return mo_fail(c->err, MOSHI_EMODEL, "%s: tensor '%s' is all zeros: wanted trained weights",
                       it->ck->file.name, it->t->name);
    c->losses[it - c->recipe.items] = p->square > 0 ? sqrt(p->loss / p->square) : sqrt(p->loss);
    c->before = c->done;
    p->bits = 0;
    p->square = p->loss = 0;
    advise(it, false);
    return 0;
}

static int run_pass(conversion *c, mo_pool_fn fn) {
    const moshi_convert_options *o = c->options;
    pass p = {.ahead_bytes = c->before};
    int n;
    while ((n = next_batch(c, &p)) > 0) {
        read_ahead(c, &p);
        mo_pool_run(c->pool, fn, c, n);
        for (int i = 0; i < n; i++) {
            int rc = settle(c, &p, &c->batch[i]);
            if (rc < 0) return rc;
        }
        if (o->progress && o->progress(o->user, c->done, c->total))
            return mo_fail(c->err, MOSHI_ECANCELLED, "conversion was cancelled");
    }
    return 0;
}

/* ---- reading back --------------------------------------------------------------------------- */

/* Is the file what was meant to be written, before it gets its name? */
static int verify(conversion *c, const char *path) {
    mo_file file;
    int rc = mo_file_map(&file, c->writer.temporary, path, c->err);
    if (rc == 0) rc = mo_checkpoint_open(&c->back, &file, c->err);
    for (size_t i = 0; rc == 0 && i < c->recipe.n; i++) {
        const mo_out_tensor *o = &c->recipe.out[i];
        const mo_tensor_view *t = mo_checkpoint_find(&c->back, o->name);
        if (!t || t->dtype != o->dtype || t->bytes != o->bytes)
            rc = mo_fail(c->err, MOSHI_EIO, "%s: tensor '%s' is not what was written", path,
                         o->name);
    }
    if (rc == 0) rc = run_pass(c, verify_chunk);
    for (size_t i = 0; rc == 0 && i < c->recipe.n; i++)
        if (!isfinite(c->losses[i]))
            rc = mo_fail(c->err, MOSHI_EIO, "%s: tensor '%s' reads back as other numbers", path,
                         c->recipe.out[i].name);
    return rc;
}

static void report(const conversion *c) {
    for (size_t i = 0; c->options->report && i < c->recipe.n; i++) {
        const mo_recipe_item *it = &c->recipe.items[i];
        moshi_converted r = {.name = it->name,
                             .from = mo_dtype_name(it->t->dtype),
                             .to = mo_dtype_name(it->to),
                             .count = (uint64_t)it->from.rows * (uint64_t)it->from.cols,
                             .bytes_in = it->bytes_in,
                             .bytes_out = c->recipe.out[i].bytes,
                             .error = c->options->verify ? c->losses[i] : -1};
        c->options->report(c->options->user, &r);
    }
}

/* ---- the whole ------------------------------------------------------------------------------ */

static size_t carried_values(const conversion *c, mo_file_format format, mo_out_value out[4]) {
    const mo_model_files *f = &c->files;
    size_t n = 0;
    if (format != MO_FORMAT_GGUF) return 0;
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

static int write_file(conversion *c, const char *path, mo_file_format format) {
    mo_out_value values[4];
    size_t n_values = carried_values(c, format, values);
    int rc = mo_writer_open(&c->writer, path, format, c->recipe.out, c->recipe.n, values, n_values,
                            c->err);
    if (rc < 0) return rc;
    rc = run_pass(c, convert_chunk);
    if (rc == 0) rc = mo_writer_flush(&c->writer);
    if (rc == 0 && c->options->verify) rc = verify(c, path);
    if (rc == 0) return mo_writer_finish(&c->writer);
    mo_writer_abort(&c->writer);
    return rc;
}

static int choose_format(const char *out, mo_file_format *format, moshi_error *err) {
    const char *dot = strrchr(out, '.');
    if (dot && !strcmp(dot, ".gguf"))
        *format = MO_FORMAT_GGUF;
    else if (dot && !strcmp(dot, ".safetensors"))
        *format = MO_FORMAT_SAFETENSORS;
    else
        return mo_fail(err, MOSHI_EINVAL, "%s: wanted a name that ends in .gguf or .safetensors",
                       out);
    return 0;
}

/* A GGUF file holds a whole model; safetensors files hold the language model of one. */
static int open_source(conversion *c, const char *in, const mo_recipe_wish *wish) {
    const moshi_convert_options *o = c->options;
    bool whole = wish->format == MO_FORMAT_GGUF;
    int want = MO_WANT_LM | (whole ? MO_WANT_MIMI | MO_WANT_TEXT : 0);
    const mo_model_place place = {.path = in, .finder = o->finder};
    int rc = mo_model_files_open(&c->files, &place, want, c->err);
    if (rc == 0) rc = mo_loras_open(&c->loras, o->loras, o->n_loras, c->err);
    if (rc == 0 && o->n_loras > 0 && !c->files.has_lm)
        rc = mo_fail(c->err, MOSHI_EINVAL,
                     "%s: wanted a language model for the adapters, found a codec", in);
    return rc < 0 ? rc : mo_recipe_make(&c->recipe, &c->files, wish, c->err);
}

static int alloc_work(conversion *c) {
    c->threads = c->options->threads ? c->options->threads : mo_core_count();
    if (c->threads < 1 || c->threads > MAX_THREADS)
        return mo_fail(c->err, MOSHI_EINVAL, "threads: wanted 1..%d, found %d", MAX_THREADS,
                       c->threads);
    size_t threads = (size_t)c->threads, bytes;
    c->floats = CHUNK_FLOATS;
    c->set = mo_quant_set_fast();
    for (size_t i = 0; i < c->recipe.n; i++) {
        mo_packed *from = &c->recipe.items[i].from;
        mo_packed_use(from, c->set);
        if ((size_t)from->cols > c->floats) c->floats = (size_t)from->cols;
    }
    c->total = c->recipe.bytes_in * (c->options->verify ? 2 : 1);
    c->pool = mo_pool_open(c->threads);
    c->batch = mo_calloc(threads * BATCH_CHUNKS, sizeof *c->batch);
    c->losses = mo_calloc(c->recipe.n + 1, sizeof *c->losses);
    if (mo_mul(c->floats, threads * 2 * sizeof *c->numbers, &bytes))
        c->numbers = mo_aligned_calloc(bytes);
    if (!c->pool || !c->batch || !c->losses || !c->numbers)
        return mo_fail(c->err, MOSHI_ENOMEM, "out of memory for %d threads", c->threads);
    return 0;
}

static void free_all(conversion *c) {
    mo_checkpoint_close(&c->back);
    mo_pool_close(c->pool);
    mo_aligned_free(c->numbers);
    free(c->losses);
    free(c->batch);
    mo_recipe_free(&c->recipe);
    mo_loras_close(&c->loras);
    mo_model_files_close(&c->files);
}

int moshi_convert(const char *in, const char *out, const moshi_convert_options *options,
                  moshi_error *err) {
    conversion c = {.options = options, .err = err, .writer = {.fd = -1}};
    if (err) *err = (moshi_error){0};
    if (!in || !out || !options || !options->type)
        return mo_fail(err, MOSHI_EINVAL, "moshi_convert: wanted in, out and a type");
    mo_recipe_wish wish = {.type = mo_quant_find(options->type),
                           .keep = options->keep,
                           .loras = options->n_loras ? &c.loras : NULL};
    if (!wish.type || !wish.type->quantise)
        return mo_fail(err, MOSHI_EINVAL,
                       "type: wanted f32, f16, bf16, q8_0, q6_K, q4_K or q4_0, found '%s'",
                       options->type);
    int rc = choose_format(out, &wish.format, err);
    if (rc == 0) rc = moshi_check_output(out, in, err);
    if (rc == 0) rc = open_source(&c, in, &wish);
    if (rc == 0) rc = alloc_work(&c);
    if (rc == 0) rc = write_file(&c, out, wish.format);
    if (rc == 0) report(&c);
    free_all(&c);
    return rc;
}
