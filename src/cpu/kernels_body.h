/* kernels_body.h - every inner loop, written once over a vector `vec` of 16 floats.
 *
 * Included by kernels_{avx2,avx512,neon}.c after they define vec and the v_* functions:
 *   v_zero v_set1 v_load v_store v_load_n v_store_n (first n lanes; the rest loads as 0)
 *   v_load_bf16 v_load_f16 v_load_i8 (exact widening)
 *   v_add v_sub v_mul v_div v_max v_min (NaN in the second argument stays; in the first it may)
 *   v_fma (a * b + c) v_fold (8+8, 4+4, 2+2, 1+1) v_fold_max
 *   v_pow2 (2^n from x + MO_EXP_ROUND) v_abs v_keep_ge (x >= bound ? v : 0)
 *   v_pick_gt0 (x > 0 ? a : b)
 * and the shapes of the register tiles, strips of 16 outputs per row count:
 *   TILE_STRIPS_1, TILE_STRIPS_1_SHORT (numbers of 16 bits), TILE_STRIPS_2, TILE_STRIPS_4,
 *   TILE_STRIPS_6, and TILE_STRIPS_8 where there are registers for it, and VALUE_STRIPS, a multiple
 * of 4: 16 columns of values each that are summed up at once. Compare kernels.c, which says the
 * same in plain C. */

#include "inline.h"

#include <math.h>
#include <string.h>

/* ---- functions ------------------------------------------------------------------------------ */

ALWAYS_INLINE vec exp_parts(vec x, vec *scale) {
    vec t = v_fma(x, v_set1(MO_EXP_LOG2E), v_set1(MO_EXP_ROUND));
    vec n = v_sub(t, v_set1(MO_EXP_ROUND));
    vec r = v_fma(n, v_set1(-MO_EXP_LN2_HI), x);
    r = v_fma(n, v_set1(-MO_EXP_LN2_LO), r);
    vec q = v_set1(MO_EXP_Q4);
    q = v_fma(q, r, v_set1(MO_EXP_Q3));
    q = v_fma(q, r, v_set1(MO_EXP_Q2));
    q = v_fma(q, r, v_set1(MO_EXP_Q1));
    q = v_fma(q, r, v_set1(MO_EXP_Q0));
    *scale = v_pow2(t);
    return v_fma(v_mul(r, r), q, r);
}

ALWAYS_INLINE vec v_exp(vec x) {
    vec scale, m = exp_parts(v_min(v_set1(MO_EXP_MAX), x), &scale);
    return v_keep_ge(x, v_set1(MO_EXP_MIN), v_fma(scale, m, scale));
}

ALWAYS_INLINE vec v_elu(vec x) {
    vec scale, m = exp_parts(v_max(v_set1(MO_EXP_MIN), v_min(v_zero(), x)), &scale);
    return v_pick_gt0(x, x, v_fma(scale, m, v_sub(scale, v_set1(1.0f))));
}

ALWAYS_INLINE vec v_gelu(vec x) {
    vec a = v_abs(x);
    vec t = v_div(v_set1(1.0f), v_fma(v_set1(MO_TAIL_C), a, v_set1(1.0f)));
    vec p = v_set1(MO_TAIL_P6);
    p = v_fma(p, t, v_set1(MO_TAIL_P5));
    p = v_fma(p, t, v_set1(MO_TAIL_P4));
    p = v_fma(p, t, v_set1(MO_TAIL_P3));
    p = v_fma(p, t, v_set1(MO_TAIL_P2));
    p = v_fma(p, t, v_set1(MO_TAIL_P1));
    p = v_fma(p, t, v_set1(MO_TAIL_P0));
    vec tail = v_mul(v_exp(v_mul(v_mul(a, a), v_set1(-0.5f))), v_mul(t, p));
    return v_pick_gt0(x, v_fma(v_sub(v_zero(), x), tail, x), v_mul(x, tail));
}

ALWAYS_INLINE vec v_silu(vec x) {
    return v_div(x, v_add(v_set1(1.0f), v_exp(v_sub(v_zero(), x))));
}

static void act_any(mo_act act, const float *in, float *out, size_t n) {
    size_t i = 0;
    if (act == MO_ACT_ELU) {
        for (; i + 16 <= n; i += 16) v_store(out + i, v_elu(v_load(in + i)));
        if (i < n) v_store_n(out + i, v_elu(v_load_n(in + i, n - i)), n - i);
    } else if (act == MO_ACT_GELU) {
        for (; i + 16 <= n; i += 16) v_store(out + i, v_gelu(v_load(in + i)));
        if (i < n) v_store_n(out + i, v_gelu(v_load_n(in + i, n - i)), n - i);
    } else {
        for (; i + 16 <= n; i += 16) v_store(out + i, v_load(in + i));
        if (i < n) v_store_n(out + i, v_load_n(in + i, n - i), n - i);
    }
}

static void act_mul_any(const float *gate, const float *up, float *out, size_t n) {
    size_t i = 0;
    for (; i + 16 <= n; i += 16) v_store(out + i, v_mul(v_silu(v_load(gate + i)), v_load(up + i)));
    if (i < n) {
        size_t rest = n - i;
        v_store_n(out + i, v_mul(v_silu(v_load_n(gate + i, rest)), v_load_n(up + i, rest)), rest);
    }
}

/* ---- norm ----------------------------------------------------------------------------------- */

static void norm_rms(float eps, const float *weight, const float *in, float *out, size_t n) {
    vec partial = v_zero();
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        vec x = v_load(in + i);
        partial = v_fma(x, x, partial);
    }
    if (i < n) {
        vec x = v_load_n(in + i, n - i);
        partial = v_fma(x, x, partial);
    }
    vec inv = v_set1(1.0f / sqrtf(v_fold(partial) / (float)n + eps));
    for (i = 0; i + 16 <= n; i += 16)
        v_store(out + i, v_mul(v_mul(v_load(in + i), inv), v_load(weight + i)));
    if (i < n) {
        size_t rest = n - i;
        vec y = v_mul(v_mul(v_load_n(in + i, rest), inv), v_load_n(weight + i, rest));
        v_store_n(out + i, y, rest);
    }
}

static float mean_of(const float *in, size_t n) {
    vec partial = v_zero();
    size_t i = 0;
    for (; i + 16 <= n; i += 16) partial = v_add(partial, v_load(in + i));
    if (i < n) partial = v_add(partial, v_load_n(in + i, n - i));
    return v_fold(partial) / (float)n;
}

static void norm_layer(float eps, const float *weight, const float *bias, const float *in,
                       float *out, size_t n) {
    vec mean = v_set1(mean_of(in, n));
    vec partial = v_zero();
    size_t i = 0, whole = n / 16 * 16, rest = n - whole;
    for (; i < whole; i += 16) {
        vec d = v_sub(v_load(in + i), mean);
        partial = v_fma(d, d, partial);
    }
    if (rest) { /* lanes past the end hold mean - mean = 0 */
        float last[16];
        v_store(last, mean);
        v_store_n(last, v_load_n(in + i, rest), rest);
        vec d = v_sub(v_load(last), mean);
        partial = v_fma(d, d, partial);
    }
    vec inv = v_set1(1.0f / sqrtf(v_fold(partial) / (float)n + eps));
    for (i = 0; i < n; i += 16) {
        size_t lanes = n - i < 16 ? n - i : 16;
        vec b = bias ? v_load_n(bias + i, lanes) : v_zero();
        vec y = v_mul(v_sub(v_load_n(in + i, lanes), mean), inv);
        v_store_n(out + i, v_fma(y, v_load_n(weight + i, lanes), b), lanes);
    }
}

static void norm_any(mo_norm_kind kind, float eps, const float *weight, const float *bias,
                     const float *in, float *out, int cols) {
    if (kind == MO_NORM_RMS)
        norm_rms(eps, weight, in, out, (size_t)cols);
    else
        norm_layer(eps, weight, bias, in, out, (size_t)cols);
}

/* ---- linear --------------------------------------------------------------------------------- */

enum { TILE_STRIPS = 8, MANY_TILE_ROWS = 6 };

/* Does a tile of so many rows get its weights from memory, not from a cache? */
ALWAYS_INLINE bool from_memory(const int R) {
    return R <= 2 || R == 8;
}

/* How far in advance those are asked for. */
ALWAYS_INLINE size_t prefetch_cols(const int R, const mo_dtype dtype) {
    return R == 1 && dtype != MO_F32 ? AHEAD / (2 * MO_STRIP) : 16;
}

#ifdef TILE_STRIPS_8
enum { TILE_ROWS = 8 };
#else
enum { TILE_ROWS = MANY_TILE_ROWS };
#endif

/* Where the rows of one tile lie. */
typedef struct tile_rows {
    const float *in[TILE_ROWS], *add[TILE_ROWS];
    float *out[TILE_ROWS];
} tile_rows;

/* Rows past `n` repeat the last one: computed, never stored. */
static void tile_locate(const mo_linear_job *job, int first, int n, tile_rows *t) {
    int slot = first / job->rows, row = first % job->rows;
    for (int r = 0; r < TILE_ROWS; r++) {
        if (r >= n) {
            t->in[r] = t->in[n - 1];
            continue;
        }
        size_t s = (size_t)job->active[slot], i = (size_t)row;
        t->in[r] = job->in.data + s * job->in.slot + i * job->in.row;
        t->out[r] = job->out.data + s * job->out.slot + i * job->out.row;
        t->add[r] = job->add.data ? job->add.data + s * job->add.slot + i * job->add.row : NULL;
        if (++row == job->rows) {
            row = 0;
            slot++;
        }
    }
}

ALWAYS_INLINE vec load_weights(const void *w, size_t i, mo_dtype dtype) {
    if (dtype == MO_BF16) return v_load_bf16((const uint16_t *)w + i);
    if (dtype == MO_F16) return v_load_f16((const uint16_t *)w + i);
    return v_load((const float *)w + i);
}

/* Bias, scale and addend for one row of `strips` strips of sums. */
static NOINLINE void finish_row(const mo_linear_job *job, const float *sums, int strip, int strips,
                                const float *add, float *out) {
    for (int s = 0; s < strips; s++) {
        int first = (strip + s) * MO_STRIP;
        size_t lanes = job->n - first < MO_STRIP ? (size_t)(job->n - first) : MO_STRIP;
        vec y = v_load(sums + s * MO_STRIP);
        if (job->bias) y = v_add(y, v_load_n(job->bias + first, lanes));
        if (job->scale) y = v_mul(v_load_n(job->scale + first, lanes), y);
        if (add) y = v_add(v_load_n(add + first, lanes), y);
        v_store_n(out + first, y, lanes);
    }
}

/* The same when every strip has its 16 outputs, straight from registers. */
ALWAYS_INLINE void finish_full(const mo_linear_job *job, const vec acc[TILE_STRIPS], int strip,
                               const int S, const float *add, float *out) {
    const size_t first = (size_t)strip * MO_STRIP;
    UNROLL
    for (int s = 0; s < S; s++) {
        const size_t at = first + (size_t)s * MO_STRIP;
        vec y = acc[s];
        if (job->bias) y = v_add(y, v_load(job->bias + at));
        if (job->scale) y = v_mul(v_load(job->scale + at), y);
        if (add) y = v_add(v_load(add + at), y);
        v_store(out + at, y);
    }
}

/* `cols` columns of a tile from position w of the first strip on. With few rows memory is the
 * limit: then weights are asked for in advance, `skip` further when those belong to the next S
 * strips. */
ALWAYS_INLINE void tile_columns(const void *weights, size_t w, size_t next, size_t cols,
                                const float *in[TILE_ROWS], vec acc[TILE_ROWS][TILE_STRIPS],
                                const int R, const int S, const mo_dtype dtype, size_t skip) {
    const size_t size = dtype == MO_F32 ? 4 : 2;
    const size_t ahead = (prefetch_cols(R, dtype) * MO_STRIP + skip) * size;
    for (size_t i = 0; i < cols; i++, w += MO_STRIP) {
        vec column[TILE_STRIPS];
        UNROLL
        for (int s = 0; s < S; s++) {
            size_t at = w + (size_t)s * next;
            column[s] = load_weights(weights, at, dtype);
            if (from_memory(R)) __builtin_prefetch((const char *)weights + at * size + ahead);
        }
        UNROLL
        for (int r = 0; r < R; r++) {
            vec x = v_set1(in[r][i]);
            UNROLL
            for (int s = 0; s < S; s++) acc[r][s] = v_fma(column[s], x, acc[r][s]);
        }
    }
    if (!from_memory(R)) return;
    UNROLL
    for (int r = 0; r < R; r++) in[r] += cols;
}

/* R rows by S strips of outputs kept in registers over the whole of k. R, S and dtype are constants
 * wherever this is expanded, so that the arrays become registers. */
ALWAYS_INLINE void tile(const mo_linear_job *job, const tile_rows *t, int valid, int strip,
                        const int R, const int S, const mo_dtype dtype) {
    vec acc[TILE_ROWS][TILE_STRIPS];
    UNROLL
    for (int r = 0; r < R; r++) {
        UNROLL
        for (int s = 0; s < S; s++) acc[r][s] = v_zero();
    }
    const size_t next = job->k * MO_STRIP; /* from strip to strip */
    size_t w = (size_t)strip * next;
    /* Columns before the one whose prefetch belongs to the next S strips. */
    const size_t far = prefetch_cols(R, dtype);
    size_t near = job->k > far ? job->k - far : 0;
    const float *in[TILE_ROWS];
    UNROLL
    for (int r = 0; r < R; r++) in[r] = t->in[r];
    for (int segment = 0; segment < job->segments; segment++) {
        size_t run = job->run;
        if (from_memory(R)) {
            size_t head = near < run ? near : run;
            tile_columns(job->w, w, next, head, in, acc, R, S, dtype, 0);
            near -= head;
            w += head * MO_STRIP;
            run -= head;
        }
        tile_columns(job->w, w, next, run, in, acc, R, S, dtype, (size_t)(S - 1) * next);
        w += run * MO_STRIP;
        if (segment + 1 == job->segments) break; /* what follows may not be an address */
        UNROLL
        for (int r = 0; r < R; r++) in[r] += job->run_step - (from_memory(R) ? job->run : 0);
    }
    if ((strip + S) * MO_STRIP <= job->n) {
        UNROLL
        for (int r = 0; r < R; r++)
            if (r < valid) finish_full(job, acc[r], strip, S, t->add[r], t->out[r]);
        return;
    }
    /* Through memory, so that what follows is one small loop for every shape of tile. */
    _Alignas(64) float sums[TILE_ROWS * TILE_STRIPS * MO_STRIP];
    UNROLL
    for (int r = 0; r < R; r++) {
        UNROLL
        for (int s = 0; s < S; s++) v_store(sums + (r * S + s) * MO_STRIP, acc[r][s]);
    }
    for (int r = 0; r < valid; r++)
        finish_row(job, sums + r * S * MO_STRIP, strip, S, t->add[r], t->out[r]);
}

/* Fill strips strip0 .. strip1-1 with tiles of S strips, then of fewer. */
ALWAYS_INLINE void tile_strips(const mo_linear_job *job, const tile_rows *t, int valid, int strip0,
                               int strip1, const int R, const int S, const mo_dtype dtype) {
    int strip = strip0;
    for (; strip + S <= strip1; strip += S) tile(job, t, valid, strip, R, S, dtype);
    if (S > 4 && strip + 4 <= strip1) {
        tile(job, t, valid, strip, R, 4, dtype);
        strip += 4;
    }
    if (S > 2 && strip + 2 <= strip1) {
        tile(job, t, valid, strip, R, 2, dtype);
        strip += 2;
    }
    if (S > 1 && strip < strip1) tile(job, t, valid, strip, R, 1, dtype);
}

/* One function per number of rows: a single one would take compilers minutes. Numbers of 16 bits
 * are told apart because one row of them is all reading: two streams, fetched far ahead, are read
 * as fast as memory goes, eight that lie a multiple of 4 KB apart are not (SPEED.md). */
ALWAYS_INLINE void tile_dtype(const mo_linear_job *job, const tile_rows *t, int valid, int strip0,
                              int strip1, const int R, const int S, const int short_S) {
    switch (job->dtype) {
    case MO_F16:
        tile_strips(job, t, valid, strip0, strip1, R, short_S, MO_F16);
        break;
    case MO_BF16:
        tile_strips(job, t, valid, strip0, strip1, R, short_S, MO_BF16);
        break;
    default:
        tile_strips(job, t, valid, strip0, strip1, R, S, MO_F32);
        break;
    }
}

static NOINLINE void tile_1(const mo_linear_job *job, const tile_rows *t, int s0, int s1) {
    tile_dtype(job, t, 1, s0, s1, 1, TILE_STRIPS_1, TILE_STRIPS_1_SHORT);
}
static NOINLINE void tile_2(const mo_linear_job *job, const tile_rows *t, int s0, int s1) {
    tile_dtype(job, t, 2, s0, s1, 2, TILE_STRIPS_2, TILE_STRIPS_2);
}
static NOINLINE void tile_4(const mo_linear_job *job, const tile_rows *t, int n, int s0, int s1) {
    tile_dtype(job, t, n, s0, s1, 4, TILE_STRIPS_4, TILE_STRIPS_4);
}
static NOINLINE void tile_6(const mo_linear_job *job, const tile_rows *t, int n, int s0, int s1) {
    tile_dtype(job, t, n, s0, s1, 6, TILE_STRIPS_6, TILE_STRIPS_6);
}
#ifdef TILE_STRIPS_8
static NOINLINE void tile_8(const mo_linear_job *job, const tile_rows *t, int n, int s0, int s1) {
    tile_dtype(job, t, n, s0, s1, 8, TILE_STRIPS_8, TILE_STRIPS_8);
}
#endif

static void linear_any(const mo_linear_job *job, int row0, int row1, int strip0, int strip1) {
    tile_rows t;
    /* Up to two large tiles, so that weights are read twice at most; then six rows are faster. */
    const int most = row1 - row0 <= 2 * TILE_ROWS ? TILE_ROWS : MANY_TILE_ROWS;
    for (int row = row0, n; row < row1; row += n) {
        int left = row1 - row, tiles = (left + most - 1) / most;
        n = (left + tiles - 1) / tiles; /* 8 rows: 4 + 4, not 6 + 2 */
        tile_locate(job, row, n, &t);
#ifdef TILE_STRIPS_8
        if (n > 6)
            tile_8(job, &t, n, strip0, strip1);
        else
#endif
            if (n > 4)
            tile_6(job, &t, n, strip0, strip1);
        else if (n > 2)
            tile_4(job, &t, n, strip0, strip1);
        else if (n == 2)
            tile_2(job, &t, strip0, strip1);
        else
            tile_1(job, &t, strip0, strip1);
    }
}

/* ---- attention ------------------------------------------------------------------------------ */

enum { KEYS = 4 }; /* scores under way at once */

/* 16 numbers of a row from column c on, the first n of them, without the factor of an I8 row. */
ALWAYS_INLINE vec kv_load(const char *row, size_t c, const mo_dtype dtype) {
    if (dtype == MO_I8) return v_load_i8((const int8_t *)row + MO_KV_SCALE_BYTES + c);
    if (dtype == MO_BF16) return v_load_bf16((const uint16_t *)row + c);
    return v_load((const float *)row + c);
}

ALWAYS_INLINE vec kv_load_n(const char *row, size_t c, size_t n, const mo_dtype dtype) {
    if (dtype == MO_F32) return v_load_n((const float *)row + c, n);
    char lanes[MO_KV_SCALE_BYTES + 16 * sizeof(uint16_t)] = {0};
    if (dtype == MO_I8)
        memcpy(lanes + MO_KV_SCALE_BYTES, row + MO_KV_SCALE_BYTES + c, n);
    else
        memcpy(lanes, row + c * sizeof(uint16_t), n * sizeof(uint16_t));
    return kv_load(lanes, 0, dtype);
}

ALWAYS_INLINE float kv_factor(const char *row) {
    float d;
    memcpy(&d, row, sizeof d);
    return d;
}

enum { KV_PAGE = 4096, PAGES_AHEAD = 3 };

/* How far ahead of what is at hand rows of a ring are fetched. */
typedef struct kv_ahead {
    size_t entry; /* of the first position */
    int rows;
} kv_ahead;

ALWAYS_INLINE kv_ahead kv_ahead_of(const mo_attend_job *job, const mo_dtype dtype) {
    const int rows = (dtype == MO_I8 ? AHEAD : PAGES_AHEAD * KV_PAGE) / (int)job->row_bytes;
    return (kv_ahead){(size_t)(job->first % job->capacity), rows < job->n ? rows : job->n};
}

/* Fetch what is wanted when `count` rows of `ring` from the i-th position on are at hand: rows
 * further on, and after the last of them the first of the ring `next`. The first line of a page is
 * enough: the processor then goes on by itself, and has more lines under way than it would for as
 * many requests; only bytes are used up too slowly for that. Nothing past the last position is
 * fetched: those pages may not be there yet, and finding that out takes long. */
ALWAYS_INLINE void kv_fetch(const mo_attend_job *job, kv_ahead ahead, const void *ring,
                            const void *next, int i, int count, const mo_dtype dtype) {
    for (int at = i + ahead.rows; at < i + ahead.rows + count; at++) {
        const bool over = at >= job->n;
        size_t entry = ahead.entry + (size_t)(over ? at - job->n : at);
        if (entry >= (size_t)job->capacity) entry -= (size_t)job->capacity;
        const char *row = (const char *)(over ? next : ring) + entry * job->row_bytes;
        const bool new_page = (uintptr_t)row % KV_PAGE < job->row_bytes;
        if (dtype == MO_I8) {
            for (size_t c = 0; c < job->row_bytes; c += 64) __builtin_prefetch(row + c);
        } else if (new_page || entry == ahead.entry) {
            __builtin_prefetch(row, 0, 2);
        }
    }
}

/* The ring after that of the keys is the next head's. */
ALWAYS_INLINE const void *kv_next(const mo_attend_job *job) {
    return (const char *)job->k + (size_t)job->capacity * job->row_bytes;
}

/* Scores of N keys that lie one after the other: their sums are independent of each other, so that
 * one need not wait for the next. */
ALWAYS_INLINE void kv_dots(const mo_attend_job *job, const char *k, float *scores, const int N,
                           const mo_dtype dtype) {
    const size_t n = (size_t)job->head_dim, bytes = job->row_bytes;
    vec partial[KEYS];
    UNROLL
    for (int j = 0; j < N; j++) partial[j] = v_zero();
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        vec q = v_load(job->q + i);
        UNROLL
        for (int j = 0; j < N; j++)
            partial[j] = v_fma(q, kv_load(k + (size_t)j * bytes, i, dtype), partial[j]);
    }
    for (int j = 0; i < n && j < N; j++)
        partial[j] = v_fma(v_load_n(job->q + i, n - i),
                           kv_load_n(k + (size_t)j * bytes, i, n - i, dtype), partial[j]);
    UNROLL
    for (int j = 0; j < N; j++) {
        float sum = v_fold(partial[j]);
        scores[j] = (dtype == MO_I8 ? sum * kv_factor(k + (size_t)j * bytes) : sum) * job->scale;
    }
}

/* Ring entries of the job, in order of position, are at most two contiguous stretches. */
typedef struct stretch {
    size_t entry;
    int first, n; /* scores first .. first + n - 1 */
} stretch;

static void find_stretches(const mo_attend_job *job, stretch out[2]) {
    int entry = (int)(job->first % job->capacity);
    int n = job->capacity - entry < job->n ? job->capacity - entry : job->n;
    out[0] = (stretch){(size_t)entry, 0, n};
    out[1] = (stretch){0, n, job->n - n};
}

/* e^(score - max) in place; returns the sum. */
static float softmax_terms(float *scores, int n) {
    vec high = v_set1(-INFINITY);
    int i = 0, rest = n % 16;
    for (; i + 16 <= n; i += 16) high = v_max(high, v_load(scores + i));
    float max = v_fold_max(high);
    for (int j = i; j < n; j++)
        if (scores[j] > max) max = scores[j];
    vec shift = v_set1(max), partial = v_zero();
    for (i = 0; i + 16 <= n; i += 16) {
        vec e = v_exp(v_sub(v_load(scores + i), shift));
        v_store(scores + i, e);
        partial = v_add(partial, e);
    }
    if (rest) {
        vec e = v_exp(v_sub(v_load_n(scores + i, (size_t)rest), shift));
        v_store_n(scores + i, e, (size_t)rest);
        partial = v_add(partial, v_load_n(scores + i, (size_t)rest));
    }
    return v_fold(partial);
}

/* 16 * S columns of the weighted sum of values, positions in ascending order. */
ALWAYS_INLINE void weigh_values(const mo_attend_job *job, const stretch parts[2], size_t col,
                                size_t lanes, float total, const int S, const mo_dtype dtype) {
    const kv_ahead ahead = kv_ahead_of(job, dtype);
    vec acc[VALUE_STRIPS];
    UNROLL
    for (int s = 0; s < S; s++) acc[s] = v_zero();
    for (int part = 0; part < 2; part++) {
        const char *v = (const char *)job->v + parts[part].entry * job->row_bytes;
        const float *e = job->scores + parts[part].first;
        for (int i = 0; i < parts[part].n; i++, v += job->row_bytes) {
            if (col == 0)
                kv_fetch(job, ahead, job->v, kv_next(job), parts[part].first + i, 1, dtype);
            vec x = v_set1(dtype == MO_I8 ? e[i] * kv_factor(v) : e[i]);
            UNROLL
            for (int s = 0; s < S; s++) {
                size_t c = col + 16 * (size_t)s;
                vec y = lanes == 16 ? kv_load(v, c, dtype) : kv_load_n(v, c, lanes, dtype);
                acc[s] = v_fma(x, y, acc[s]);
            }
        }
    }
    UNROLL
    for (int s = 0; s < S; s++)
        v_store_n(job->out + col + 16 * s, v_div(acc[s], v_set1(total)), lanes);
}

ALWAYS_INLINE void attend_dtype(const mo_attend_job *job, const mo_dtype dtype) {
    size_t hd = (size_t)job->head_dim;
    const kv_ahead ahead = kv_ahead_of(job, dtype);
    stretch parts[2];
    find_stretches(job, parts);
    for (int part = 0; part < 2; part++) {
        const char *k = (const char *)job->k + parts[part].entry * job->row_bytes;
        float *scores = job->scores + parts[part].first;
        int i = 0, n = parts[part].n;
        for (; i + KEYS <= n; i += KEYS, k += KEYS * job->row_bytes) {
            kv_fetch(job, ahead, job->k, job->v, parts[part].first + i, KEYS, dtype);
            kv_dots(job, k, scores + i, KEYS, dtype);
        }
        kv_fetch(job, ahead, job->k, job->v, parts[part].first + i, n - i, dtype);
        for (; i < n; i++, k += job->row_bytes) kv_dots(job, k, scores + i, 1, dtype);
    }
    float total = softmax_terms(job->scores, job->n);
    size_t col = 0;
    for (; col + 16 * VALUE_STRIPS <= hd; col += 16 * VALUE_STRIPS)
        weigh_values(job, parts, col, 16, total, VALUE_STRIPS, dtype);
    for (; col + 64 <= hd; col += 64) weigh_values(job, parts, col, 16, total, 4, dtype);
    for (; col + 16 <= hd; col += 16) weigh_values(job, parts, col, 16, total, 1, dtype);
    if (col < hd) weigh_values(job, parts, col, hd - col, total, 1, dtype);
}

static void attend_any(const mo_attend_job *job) {
    switch (job->dtype) {
    case MO_I8:
        attend_dtype(job, MO_I8);
        break;
    case MO_BF16:
        attend_dtype(job, MO_BF16);
        break;
    default:
        attend_dtype(job, MO_F32);
        break;
    }
}

/* ---- shortlist ------------------------------------------------------------------------------ */

/* score + reach * blur of up to 16. */
ALWAYS_INLINE vec reach_of(const float *scores, const float *blur, vec reach, int i, int lanes) {
    vec b = blur ? v_load_n(blur + i, (size_t)lanes) : v_zero();
    return v_fma(reach, b, v_load_n(scores + i, (size_t)lanes));
}

static int shortlist_any(const float *scores, const float *blur, float reach, float slack, int n,
                         int32_t *places) {
    const vec up = v_set1(reach), down = v_set1(-reach), none = v_set1(-INFINITY);
    vec high = none;
    float most = -INFINITY, some[16];
    int i = 0, count = 0, whole = n / 16 * 16;
    for (; i < whole; i += 16) high = v_max(reach_of(scores, blur, down, i, 16), high);
    if (i < n) {
        v_store(some, none);
        v_store_n(some, reach_of(scores, blur, down, i, n - i), (size_t)(n - i));
        high = v_max(v_load(some), high);
    }
    most = v_fold_max(high) - slack;
    for (i = 0; i < n; i += 16) {
        const int lanes = n - i < 16 ? n - i : 16;
        vec x = reach_of(scores, blur, up, i, lanes);
        if (lanes == 16 && !(v_fold_max(v_max(x, none)) >= most)) continue;
        v_store(some, x);
        for (int j = 0; j < lanes; j++)
            if (some[j] >= most) places[count++] = i + j;
    }
    return count;
}
