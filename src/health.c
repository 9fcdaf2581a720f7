#include "health.h"

#include "cpu/pool.h"
#include "packed.h"
#include "quant.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    UNIT = 1 << 20, /* numbers of one piece of work; whole blocks of every format */
    CHUNK = 1024,
    LANES = 16,
    BATCH = 512, /* pieces between two calls of progress */
    MAX_THREADS = 256,
    LEAST_ALIKE = 4
};

static const double OTHER_GAIN = 100;
static const double LEAST_RMS = 1e-8, MOST_RMS = 1e4, MOST_VECTOR_RMS = 1e6;
static const double MOST_ZEROS = 0.9;

/* ---- summing up ----------------------------------------------------------------------------- */

typedef struct sums {
    uint64_t count, nan, inf, zeros;
    float min, max;
    double squares;
} sums;

static const sums nothing = {.min = INFINITY, .max = -INFINITY};

static void join(sums *a, const sums *b) {
    a->count += b->count;
    a->nan += b->nan;
    a->inf += b->inf;
    a->zeros += b->zeros;
    if (b->min < a->min) a->min = b->min;
    if (b->max > a->max) a->max = b->max;
    a->squares += b->squares;
}

static void add_one(sums *s, float x) {
    s->count++;
    if (isnan(x)) {
        s->nan++;
    } else if (isinf(x)) {
        s->inf++;
    } else {
        s->zeros += x == 0;
        if (x < s->min) s->min = x;
        if (x > s->max) s->max = x;
        s->squares += (double)x * (double)x;
    }
}

/* Several sums side by side, so that a compiler can use vectors. */
static void add_lanes(sums *s, const float *x, size_t n) {
    float lo[LANES], hi[LANES], squares[LANES] = {0};
    uint32_t zeros[LANES] = {0};
    for (size_t k = 0; k < LANES; k++) lo[k] = hi[k] = x[0];
    for (size_t i = 0; i < n; i += LANES)
        for (size_t k = 0; k < LANES; k++) {
            float v = x[i + k];
            lo[k] = v < lo[k] ? v : lo[k];
            hi[k] = v > hi[k] ? v : hi[k];
            squares[k] += v * v;
            zeros[k] += v == 0;
        }
    for (size_t k = 0; k < LANES; k++) {
        if (lo[k] < s->min) s->min = lo[k];
        if (hi[k] > s->max) s->max = hi[k];
        s->squares += (double)squares[k];
        s->zeros += zeros[k];
    }
    s->count += n;
}

static bool all_finite(const float *x, size_t n) {
    uint32_t special = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        special |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    return !special;
}

static void add(sums *s, const float *x, size_t n) {
    size_t whole = n / LANES * LANES;
    if (whole && all_finite(x, whole))
        add_lanes(s, x, whole);
    else
        whole = 0;
    for (size_t i = whole; i < n; i++) add_one(s, x[i]);
}

/* ---- reading -------------------------------------------------------------------------------- */

/* A piece of one tensor: numbers first .. first + n - 1, or rows of a packed matrix. */
typedef struct unit {
    uint32_t tensor;
    bool by_rows;
    uint64_t first, n;
    sums result;
} unit;

typedef struct work {
    mo_measured *tensors;
    size_t n_tensors;
    unit *units;
    size_t n_units, at; /* at: first of the present batch */
    float *rows;        /* [threads, longest] */
    size_t longest;
    const mo_quant_set *set;
    const mo_quant *quants[MO_DTYPE_COUNT];
} work;

static bool is_float_data(mo_dtype dtype) {
    return mo_quant_of(dtype) != NULL;
}

static bool is_packed_matrix(const mo_measured *m) {
    return m->rows > 0 && (m->t->dtype == MO_U32 || m->t->dtype == MO_I8);
}

static void read_numbers(const work *w, unit *u) {
    const mo_tensor_view *t = w->tensors[u->tensor].t;
    const mo_quant *q = w->quants[t->dtype];
    float x[CHUNK];
    const uint8_t *p = (const uint8_t *)t->data + mo_dtype_row_bytes(t->dtype, u->first);
    for (uint64_t i = 0; i < u->n; i += CHUNK) {
        size_t n = u->n - i < CHUNK ? (size_t)(u->n - i) : CHUNK;
        q->dequantise(p, x, n);
        add(&u->result, x, n);
        p += mo_dtype_row_bytes(t->dtype, n);
    }
}

static void read_matrix(const work *w, unit *u, int thread) {
    const mo_measured *m = &w->tensors[u->tensor];
    float *row = w->rows + (size_t)thread * w->longest;
    mo_packed p;
    moshi_error ignored; /* the loader has told what is wrong with it */
    if (mo_packed_open(&p, m->ck, m->t, m->rows, m->cols, &ignored) < 0) return;
    mo_packed_use(&p, w->set);
    for (uint64_t r = 0; r < u->n; r++) {
        mo_packed_read(&p, (int64_t)(u->first + r), 1, row);
        add(&u->result, row, (size_t)m->cols);
    }
}

static void do_unit(void *ctx, int chunk, int thread) {
    const work *w = ctx;
    unit *u = &w->units[w->at + (size_t)chunk];
    u->result = nothing;
    if (u->by_rows)
        read_matrix(w, u, thread);
    else
        read_numbers(w, u);
}

/* How many pieces a tensor is read in; 0 when it is not read. */
static uint64_t units_of(const mo_measured *m, uint64_t *step) {
    uint64_t all = m->t->count;
    *step = UNIT;
    if (is_packed_matrix(m)) {
        all = (uint64_t)m->rows;
        *step = m->cols < UNIT ? UNIT / (uint64_t)m->cols : 1;
    } else if (!is_float_data(m->t->dtype)) {
        return 0;
    }
    return (all + *step - 1) / *step;
}

static void cut_tensor(work *w, size_t i) {
    mo_measured *m = &w->tensors[i];
    uint64_t step, n = units_of(m, &step);
    uint64_t all = is_packed_matrix(m) ? (uint64_t)m->rows : m->t->count;
    m->numbers = n > 0;
    m->hole = mo_file_is_hole(&m->ck->file, m->t->data, (size_t)m->t->bytes);
    if (m->hole) { /* as if it had been read */
        m->count = is_packed_matrix(m) ? (uint64_t)(m->rows * m->cols) : m->t->count;
        m->zeros = m->count;
        return;
    }
    for (uint64_t k = 0; k < n; k++) {
        uint64_t first = k * step, left = all - first;
        w->units[w->n_units++] = (unit){.tensor = (uint32_t)i,
                                        .by_rows = is_packed_matrix(m),
                                        .first = first,
                                        .n = left < step ? left : step};
    }
}

static int alloc_work(work *w, int threads, moshi_error *err) {
    uint64_t units = 0, step;
    for (size_t i = 0; i < w->n_tensors; i++) {
        const mo_measured *m = &w->tensors[i];
        units += units_of(m, &step);
        if (is_packed_matrix(m) && (size_t)m->cols > w->longest) w->longest = (size_t)m->cols;
    }
    w->set = mo_quant_set_fast();
    for (int d = 0; d < MO_DTYPE_COUNT; d++) w->quants[d] = mo_quant_row(w->set, (mo_dtype)d);
    w->units = mo_calloc((size_t)units + 1, sizeof *w->units);
    w->rows = mo_calloc((size_t)threads * w->longest + 1, sizeof *w->rows);
    return w->units && w->rows ? 0 : mo_fail(err, MOSHI_ENOMEM, "out of memory");
}

static int run_work(work *w, mo_pool *pool, const mo_health_progress *progress, moshi_error *err) {
    uint64_t done = 0, total = 0;
    for (size_t i = 0; i < w->n_tensors; i++) total += w->tensors[i].t->bytes;
    for (w->at = 0; w->at < w->n_units; w->at += BATCH) {
        size_t n = w->n_units - w->at < BATCH ? w->n_units - w->at : BATCH;
        mo_pool_run(pool, do_unit, w, (int)n);
        size_t last = w->units[w->at + n - 1].tensor;
        for (done = 0; last > 0; last--) done += w->tensors[last - 1].t->bytes;
        if (progress && progress->fn && progress->fn(progress->user, done, total))
            return mo_fail(err, MOSHI_ECANCELLED, "cancelled while reading weights");
    }
    return 0;
}

/* ---- kinds ---------------------------------------------------------------------------------- */

bool mo_health_is_matrix(const mo_measured *m) {
    int wide = 0;
    for (int i = 0; i < m->t->ndim; i++) wide += m->t->shape[i] > 1;
    return wide >= 2;
}

static bool ends(const char *name, const char *end) {
    size_t n = strlen(name), k = strlen(end);
    return n >= k && !strcmp(name + n - k, end);
}

/* Scales behind packed numbers. */
static bool is_scale(const mo_measured *m) {
    const char *name = m->t->name;
    return ends(name, ".scales") || ends(name, ".biases") || ends(name, "_scb");
}

/* These, and sums and counts behind a codebook: not weights themselves. */
static bool is_auxiliary(const mo_measured *m) {
    return is_scale(m) || strstr(m->t->name, "_codebook.");
}

/* FNV-1a over file and name, in which every number counts as the same. */
static uint64_t kind_of(const mo_measured *m) {
    uint64_t h = UINT64_C(0xcbf29ce484222325) ^ (uint64_t)(uintptr_t)m->ck;
    for (const char *p = m->t->name; *p; p++) {
        bool digit = *p >= '0' && *p <= '9';
        if (digit && p != m->t->name && p[-1] >= '0' && p[-1] <= '9') continue;
        h = (h ^ (digit ? '#' : (uint8_t)*p)) * UINT64_C(0x100000001b3);
    }
    return h;
}

static int by_kind(const void *a, const void *b) {
    const mo_measured *x = *(mo_measured *const *)a, *y = *(mo_measured *const *)b;
    if (x->kind != y->kind) return x->kind < y->kind ? -1 : 1;
    return (x->gain > y->gain) - (x->gain < y->gain);
}

/* The middle gain of every kind. */
static int find_typical(mo_measured *tensors, size_t n, moshi_error *err) {
    mo_measured **sorted = mo_calloc(n + 1, sizeof(mo_measured *));
    size_t used = 0;
    if (!sorted) return mo_fail(err, MOSHI_ENOMEM, "out of memory");
    for (size_t i = 0; i < n; i++) {
        mo_measured *m = &tensors[i];
        if (!m->numbers || !mo_health_is_matrix(m) || is_auxiliary(m) || m->count == 0) continue;
        int64_t rows = m->rows ? m->rows : m->t->shape[0];
        m->kind = kind_of(m);
        m->gain = m->rms * sqrt((double)m->count / (double)rows);
        sorted[used++] = m;
    }
    qsort(sorted, used, sizeof *sorted, by_kind);
    for (size_t i = 0, j; i < used; i = j) {
        for (j = i; j < used && sorted[j]->kind == sorted[i]->kind;) j++;
        for (size_t k = i; k < j; k++) {
            sorted[k]->alike = j - i;
            sorted[k]->typical_gain = sorted[i + (j - i) / 2]->gain;
        }
    }
    free(sorted);
    return 0;
}

/* ---- entry ---------------------------------------------------------------------------------- */

static void conclude(work *w) {
    for (size_t i = 0, u = 0; i < w->n_tensors; i++) {
        mo_measured *m = &w->tensors[i];
        if (m->hole) continue;
        sums s = nothing;
        for (; u < w->n_units && w->units[u].tensor == i; u++) join(&s, &w->units[u].result);
        uint64_t finite = s.count - s.nan - s.inf;
        m->count = s.count;
        m->nan = s.nan;
        m->inf = s.inf;
        m->zeros = s.zeros;
        m->min = finite ? s.min : 0;
        m->max = finite ? s.max : 0;
        m->rms = finite ? sqrt(s.squares / (double)finite) : 0;
    }
}

int mo_health_measure(mo_measured *tensors, size_t n, int threads,
                      const mo_health_progress *progress, moshi_error *err) {
    work w = {.tensors = tensors, .n_tensors = n};
    if (threads == 0) threads = mo_core_count();
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    mo_pool *pool = mo_pool_open(threads);
    int rc = pool ? alloc_work(&w, threads, err) : mo_fail(err, MOSHI_ENOMEM, "out of memory");
    for (size_t i = 0; rc == 0 && i < n; i++) cut_tensor(&w, i);
    if (rc == 0) rc = run_work(&w, pool, progress, err);
    if (rc == 0) conclude(&w);
    if (rc == 0) rc = find_typical(tensors, n, err);
    mo_pool_close(pool);
    free(w.units);
    free(w.rows);
    return rc;
}

/* ---- judging -------------------------------------------------------------------------------- */

static mo_verdict judge_damage(const mo_measured *m, char *why, size_t cap) {
    unsigned long long nan = m->nan, inf = m->inf, n = m->count;
    if (m->nan)
        snprintf(why, cap, "contains NaN (%llu of its %llu numbers)", nan, n);
    else if (m->inf)
        snprintf(why, cap, "contains infinite numbers (%llu of its %llu)", inf, n);
    else if (m->zeros == m->count && mo_health_is_matrix(m) && !is_scale(m))
        snprintf(why, cap, "is all zeros%s",
                 m->hole ? ": the file has a hole there, it was never written (an unfinished "
                           "download or copy?)"
                         : "");
    else
        return MO_SOUND;
    return MO_DAMAGED;
}

static mo_verdict judge_matrix(const mo_measured *m, char *why, size_t cap) {
    double zeros = (double)m->zeros / (double)m->count;
    double ratio = m->typical_gain > 0 ? m->gain / m->typical_gain : 1;
    if (m->min == m->max)
        snprintf(why, cap, "holds nothing but the number %g", (double)m->min);
    else if (zeros > MOST_ZEROS)
        snprintf(why, cap, "consists of zeros to %.1f %%", 100 * zeros);
    else if (m->rms < LEAST_RMS || m->rms > MOST_RMS)
        snprintf(why, cap, "has numbers of a size that no weights have (RMS %.3g)", m->rms);
    else if (m->alike >= LEAST_ALIKE && ratio > OTHER_GAIN)
        snprintf(why, cap, "is %.0f times as large as the others of its kind (RMS %.3g)", ratio,
                 m->rms);
    else if (m->alike >= LEAST_ALIKE && ratio < 1 / OTHER_GAIN)
        snprintf(why, cap, "is %.0f times as small as the others of its kind (RMS %.3g)", 1 / ratio,
                 m->rms);
    else
        return MO_SOUND;
    return MO_ODD;
}

static mo_verdict judge_vector(const mo_measured *m, char *why, size_t cap) {
    const char *name = m->t->name;
    bool norm = strstr(name, "norm") && !ends(name, "bias");
    if (m->rms > MOST_VECTOR_RMS)
        snprintf(why, cap, "has numbers of a size that no weights have (RMS %.3g)", m->rms);
    else if (norm && m->zeros == m->count)
        snprintf(why, cap, "is all zeros: nothing passes this layer");
    else
        return MO_SOUND;
    return MO_ODD;
}

mo_verdict mo_health_judge(const mo_measured *m, char *why, size_t cap) {
    why[0] = 0;
    if (!m->numbers || m->count == 0) return MO_SOUND;
    mo_verdict v = judge_damage(m, why, cap);
    if (v != MO_SOUND || is_auxiliary(m)) return v;
    return mo_health_is_matrix(m) ? judge_matrix(m, why, cap) : judge_vector(m, why, cap);
}
