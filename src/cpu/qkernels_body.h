/* qkernels_body.h - products of quantised numbers, written once. Included by qkernels_*.c after
 * qcommon.h and definitions of
 *   fvec, ivec: 16 floats, 16 32-bit whole numbers, one for each row of a strip
 *   f_zero f_set1 f_mul f_fma (a * b + c) f_store f_from_i
 *   f_load f_load_f16 f_load_bf16 f_load_u8 f_load_i8 (16 numbers, widened exactly)
 *   wvec: four whole numbers of each of 16 rows
 *   w_bytes (64 bytes as they lie) w_low w_high (their half bytes) w_sixes (two bits each of other
 *   64 bytes on top of half bytes)
 *   xvec, x_four: four q for each of 16 rows
 *   avec: 16 sums of products under way; a_zero, a_step (+ the products of a wvec and an xvec),
 *   a_done (less zero * sum(q), which a row's record holds), each told which numbers they are
 * and the shapes of register tiles, strips per number of rows: Q_STRIPS_1 Q_STRIPS_2 Q_STRIPS_4,
 * and where Q_ROWS is more than 4 Q_STRIPS_MORE. Compare qkernels.c. */

#include "qfactors.h"

enum { Q_STRIPS = 4 };

/* The rows of one tile; those past its end repeat the last one: computed, never stored. */
typedef struct q_rows {
    const uint8_t *record[Q_ROWS];
    const float *add[Q_ROWS];
    float *out[Q_ROWS];
} q_rows;

static void locate(const mo_qlinear_job *q, int first, int n, q_rows *t) {
    const mo_linear_job *job = &q->job;
    const size_t bytes = mo_q_record_bytes(q->shape.blocks);
    for (int r = 0; r < Q_ROWS; r++) {
        if (r >= n) {
            t->record[r] = t->record[n - 1];
            continue;
        }
        int m = first + r;
        size_t slot = (size_t)job->active[m / job->rows], row = (size_t)(m % job->rows);
        t->record[r] = q->records + (size_t)m * bytes;
        t->out[r] = job->out.data + slot * job->out.slot + row * job->out.row;
        t->add[r] = job->add.data;
        if (t->add[r]) t->add[r] += slot * job->add.slot + row * job->add.row;
    }
}

/* The numbers of one block as 64 bytes at a time; wvec j belongs to q 4 j .. 4 j + 3. */
ALWAYS_INLINE void unpack(const uint8_t *numbers, const int j, const q_kind kind, wvec w[2]) {
    if (kind == Q_BYTES) {
        w[0] = w_bytes(numbers + 128 * j);
        w[1] = w_bytes(numbers + 128 * j + 64);
    } else if (kind == Q_HALVES) {
        w[0] = w_low(numbers + 64 * j);
        w[1] = w_high(numbers + 64 * j);
    } else {
        w[0] = w_sixes(w_low(numbers + 64 * j), numbers + 256, j);
        w[1] = w_sixes(w_high(numbers + 64 * j), numbers + 320, j);
    }
}

/* Which four q the two wvecs of step j meet. */
ALWAYS_INLINE int fours(const int j, const int i, const q_kind kind) {
    return kind == Q_BYTES ? 8 * j + 4 * i : 4 * j + 16 * i;
}

/* Where in its record block b of a row lies. */
typedef struct q_place {
    size_t blocks, b;
} q_place;

ALWAYS_INLINE const int8_t *numbers_of(const uint8_t *record, q_place at) {
    return (const int8_t *)record + at.b * MO_BLOCK;
}
ALWAYS_INLINE const float *steps_of(const uint8_t *record, q_place at) {
    return (const float *)(const void *)(record + at.blocks * MO_BLOCK) + at.b;
}
ALWAYS_INLINE const int32_t *sums_of(const uint8_t *record, q_place at) {
    return (const int32_t *)(const void *)(record + at.blocks * (MO_BLOCK + 8)) + at.b;
}

/* Sums of products of one block: of all of it, or of either half of Q6_K's. */
ALWAYS_INLINE void dots(const q_rows *t, q_place at, const uint8_t *const *numbers, const int R,
                        const int S, const mo_qform form, ivec (*sums)[Q_STRIPS][2]) {
    const q_kind kind = q_kind_of(form);
    avec acc[Q_ROWS][Q_STRIPS][2];
    UNROLL
    for (int r = 0; r < R; r++) {
        UNROLL
        for (int s = 0; s < S; s++) acc[r][s][0] = acc[r][s][1] = a_zero();
    }
    UNROLL
    for (int j = 0; j < 4; j++) {
        wvec w[Q_STRIPS][2];
        UNROLL
        for (int s = 0; s < S; s++) unpack(numbers[s], j, kind, w[s]);
        UNROLL
        for (int i = 0; i < 2; i++) {
            UNROLL
            for (int r = 0; r < R; r++) {
                const int half = kind == Q_SIXES ? i : 0;
                xvec x = x_four(numbers_of(t->record[r], at) + fours(j, i, kind));
                UNROLL
                for (int s = 0; s < S; s++)
                    acc[r][s][half] = a_step(acc[r][s][half], w[s][i], x, kind);
            }
        }
    }
    UNROLL
    for (int r = 0; r < R; r++) {
        const int32_t *sum = sums_of(t->record[r], at);
        int32_t whole = sum[0], first = kind == Q_SIXES ? sum[at.blocks] : whole;
        UNROLL
        for (int s = 0; s < S; s++) {
            sums[r][s][0] = a_done(acc[r][s][0], first, q_zero_of(form), kind);
            if (kind == Q_SIXES)
                sums[r][s][1] = a_done(acc[r][s][1], whole - first, q_zero_of(form), kind);
        }
    }
}

/* One block of S strips for R rows. */
ALWAYS_INLINE void block_add(const q_rows *t, q_place at, const uint8_t *const *groups,
                             const uint8_t *const *w, fvec (*acc)[Q_STRIPS], const int R,
                             const int S, const mo_qform form) {
    const uint8_t *numbers[Q_STRIPS];
    ivec sums[Q_ROWS][Q_STRIPS][2];
    UNROLL
    for (int s = 0; s < S; s++) numbers[s] = w[s] + mo_q_block_head(form);
    dots(t, at, numbers, R, S, form, sums);
    UNROLL
    for (int s = 0; s < S; s++) {
        fvec scale[2], offset = f_zero();
        factors(groups[s], w[s], form, scale, &offset);
        UNROLL
        for (int r = 0; r < R; r++) {
            const float *d = steps_of(t->record[r], at);
            const fvec step = f_set1(*d);
            fvec a = acc[r][s], f = form == MO_QFORM_ROWS8 ? step : f_mul(scale[0], step);
            a = f_fma(f_from_i(sums[r][s][0]), f, a);
            if (form == MO_QFORM_Q6_K) a = f_fma(f_from_i(sums[r][s][1]), f_mul(scale[1], step), a);
            if (form == MO_QFORM_Q4_K || mo_q_has_bias(form))
                a = f_fma(offset, f_set1(d[at.blocks]), a);
            acc[r][s] = a;
        }
    }
}

/* R rows by S strips of outputs kept in registers over all blocks: S streams of memory at once. R,
 * S and form are constants wherever this is expanded. Strips past the last one repeat it. */
ALWAYS_INLINE void tile(const mo_qlinear_job *q, const q_rows *t, int valid, int strip, int strips,
                        const int R, const int S, const mo_qform form) {
    fvec acc[Q_ROWS][Q_STRIPS];
    const uint8_t *w[Q_STRIPS], *first[Q_STRIPS];
    UNROLL
    for (int s = 0; s < S; s++) {
        int own = strip + (s < strips ? s : strips - 1);
        first[s] = w[s] = (const uint8_t *)q->job.w + (size_t)own * q->shape.strip_bytes;
        UNROLL
        for (int r = 0; r < R; r++) acc[r][s] = f_zero();
    }
    const size_t group_blocks = q->shape.group_blocks, onward = (S - 1) * q->shape.strip_bytes;
    const size_t block_bytes = mo_q_block_head(form) + mo_q_numbers(form);
    q_place at = {q->shape.blocks, 0};
    while (at.b < at.blocks) {
        const uint8_t *groups[Q_STRIPS];
        UNROLL
        for (int s = 0; s < S; s++) {
            groups[s] = w[s];
            w[s] += mo_q_group_head(form);
        }
        for (size_t end = at.b + group_blocks; at.b < end; at.b++) {
            const bool turned = at.b + AHEAD / block_bytes >= at.blocks;
            UNROLL
            for (int s = 0; s < S; s++) fetch_ahead(w[s], turned, onward, block_bytes);
            block_add(t, at, groups, w, acc, R, S, form);
            UNROLL
            for (int s = 0; s < S; s++) w[s] += block_bytes;
        }
    }
    /* Through memory, so that what follows is one small loop for every shape of tile. */
    _Alignas(64) float sums[Q_ROWS][Q_STRIPS][MO_STRIP];
    UNROLL
    for (int r = 0; r < R; r++) {
        UNROLL
        for (int s = 0; s < S; s++) {
            fvec y = acc[r][s];
            if (form == MO_QFORM_ROWS8) y = f_mul(y, f_load(first[s]));
            f_store(sums[r][s], y);
        }
    }
    for (int r = 0; r < valid; r++)
        for (int s = 0; s < strips; s++)
            finish_strip(&q->job, sums[r][s], strip + s, t->add[r], t->out[r]);
}

ALWAYS_INLINE void tile_strips(const mo_qlinear_job *q, const q_rows *t, int valid, int strip0,
                               int strip1, const int R, const int S, const mo_qform form) {
    int strip = strip0;
    for (; strip1 - strip >= S || (R > 1 && strip < strip1); strip += S) {
        int left = strip1 - strip;
        tile(q, t, valid, strip, left < S ? left : S, R, S, form);
    }
    if (R > 1) return;
    for (; strip1 - strip >= 2; strip += 2) tile(q, t, valid, strip, 2, R, 2, form);
    if (strip < strip1) tile(q, t, valid, strip, 1, R, 1, form);
}

/* One function per form: a single one would take compilers long. */
#define TILES(name, form)                                                                      \
    static NOINLINE void name(const mo_qlinear_job *q, const q_rows *t, int valid, int strip0, \
                              int strip1) {                                                    \
        if (valid == 1)                                                                        \
            tile_strips(q, t, valid, strip0, strip1, 1, Q_STRIPS_1, form);                     \
        else if (valid == 2)                                                                   \
            tile_strips(q, t, valid, strip0, strip1, 2, Q_STRIPS_2, form);                     \
        else if (Q_ROWS == 4 || valid <= 4)                                                    \
            tile_strips(q, t, valid, strip0, strip1, 4, Q_STRIPS_4, form);                     \
        else                                                                                   \
            tile_strips(q, t, valid, strip0, strip1, Q_ROWS, Q_STRIPS_MORE, form);             \
    }
TILES(tiles_q8, MO_QFORM_Q8)
TILES(tiles_q4, MO_QFORM_Q4)
TILES(tiles_q4_k, MO_QFORM_Q4_K)
TILES(tiles_q6_k, MO_QFORM_Q6_K)
TILES(tiles_groups4, MO_QFORM_GROUPS4)
TILES(tiles_groups4_wide, MO_QFORM_GROUPS4_WIDE)
TILES(tiles_groups8, MO_QFORM_GROUPS8)
TILES(tiles_groups8_wide, MO_QFORM_GROUPS8_WIDE)
TILES(tiles_rows8, MO_QFORM_ROWS8)

static void linear_any(const mo_qlinear_job *q, int row0, int row1, int strip0, int strip1) {
    typedef void (*tiles_fn)(const mo_qlinear_job *, const q_rows *, int, int, int);
    static const tiles_fn tiles[] = {
        [MO_QFORM_Q8] = tiles_q8,           [MO_QFORM_Q4] = tiles_q4,
        [MO_QFORM_Q4_K] = tiles_q4_k,       [MO_QFORM_Q6_K] = tiles_q6_k,
        [MO_QFORM_GROUPS4] = tiles_groups4, [MO_QFORM_GROUPS4_WIDE] = tiles_groups4_wide,
        [MO_QFORM_GROUPS8] = tiles_groups8, [MO_QFORM_GROUPS8_WIDE] = tiles_groups8_wide,
        [MO_QFORM_ROWS8] = tiles_rows8,
    };
    for (int row = row0; row < row1; row += Q_ROWS) {
        q_rows t;
        int n = row1 - row < Q_ROWS ? row1 - row : Q_ROWS;
        locate(q, row, n, &t);
        tiles[q->shape.form](q, &t, n, strip0, strip1);
    }
}
