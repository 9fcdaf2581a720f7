/* qkernels_amx.c - products of quantised numbers for many rows with AMX: one instruction multiplies
 * a block of 32 numbers of 16 rows of weights, as they lie in a strip, with up to 16 rows of
 * activations. Its sums are whole numbers, what follows is done as on every level: the same bits.
 * Few rows, and halves of blocks (Q6_K), are left to AVX-512. */
#include "qkernels.h"

/* clang spells this without an underscore up to its version 14 at least */
#if (defined(__AMX_INT8__) || defined(__AMXINT8__)) && defined(__AVX512F__) && \
    defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#include "qcommon.h"
#include "qvec_avx512.h"

#include "qfactors.h"

/* Tiles by number, because their names become text: inputs 0, sums 1 and 2, weights 3 and 4. */
enum { AMX_ROWS = MO_Q_PANEL, LEAST_ROWS = 12 };
/* How many strips go together, of which a part is so many of so many blocks. */
enum { STRIPS = 4, PART_STRIPS = 2, PART_BLOCKS = 2 };
/* Bytes that streams are fetched ahead: less than AHEAD, because 16 rows use them up more slowly,
 * and what is fetched early takes the place of parts in the first-level cache. */
enum { PARTS_AHEAD = 1536 };
/* Block b of a panel: [row] of 32 q, then [row] of d, of d * sum(q), of zero point * sum(q). */
enum { PANEL_STEPS = AMX_ROWS * MO_BLOCK, PANEL_BLOCK = PANEL_STEPS + 3 * 4 * AMX_ROWS };

/* What LDTILECFG reads. */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

static void configure(void) {
    _Alignas(64) tile_config c = {.palette = 1};
    for (int i = 0; i <= 4; i++) {
        c.rows[i] = i < 3 ? AMX_ROWS : MO_BLOCK / 4;
        c.row_bytes[i] = i ? 64 : MO_BLOCK;
    }
    __asm__ volatile("" ::: "memory"); /* gcc 12 takes the load to read eight bytes only */
    _tile_loadconfig(&c);
}

/* ---- activations ---------------------------------------------------------------------------- */

/* Rows from `row` on that are a panel; 0: what is left of the batch has records like other levels'.
 */
static int panel_rows(const mo_qlinear_job *q, int row) {
    int n = q->batch - row < AMX_ROWS ? q->batch - row : AMX_ROWS;
    return q->shape.form == MO_QFORM_Q6_K || n < LEAST_ROWS ? 0 : n;
}

static uint8_t *panel_at(const mo_qlinear_job *q, int row) {
    return q->records + (size_t)row * mo_q_record_bytes(q->shape.blocks);
}

/* A panel's blocks are for all its rows, those past its n rows are zeros. */
static void quantise_panel(const mo_qlinear_job *q, int row, int n, int block0, int block1) {
    const float *in[AMX_ROWS];
    for (int r = 0; r < n; r++) in[r] = inputs_of(q, row + r);
    for (size_t b = (size_t)block0; b < (size_t)block1; b++) {
        uint8_t *block = panel_at(q, row) + b * PANEL_BLOCK;
        float *steps = (float *)(void *)(block + PANEL_STEPS);
        int32_t *zeros = (int32_t *)(void *)(steps + 2 * AMX_ROWS), half;
        if (n < AMX_ROWS) memset(block, 0, PANEL_BLOCK);
        for (int r = 0; r < n; r++) {
            int8_t *numbers = (int8_t *)block + r * MO_BLOCK;
            quantise_one(&q->job, in[r], b,
                         (q_block){numbers, steps + r, steps + AMX_ROWS + r, zeros + r, &half});
            zeros[r] *= q_zero_of(q->shape.form);
        }
    }
}

static void quantise_amx(const mo_qlinear_job *q, int block0, int block1) {
    int row = 0;
    for (int n; (n = panel_rows(q, row)) > 0; row += n) quantise_panel(q, row, n, block0, block1);
    quantise_records(q, row, q->batch, block0, block1);
}

/* ---- products ------------------------------------------------------------------------------- */

/* Two blocks of two strips. What a tile is loaded from, and what is read of one that was stored,
 * must have left the core for the cache: the half bytes of one part are spread out while the
 * products of the part before are under way and sums of the one before that are scaled. Larger
 * parts, and more strips that share inputs, leave the first-level cache too little room for what is
 * fetched. */
typedef struct part {
    int n;     /* blocks; 0: past the end */
    int strip; /* the first */
    const uint8_t *inputs;
    size_t group[PART_BLOCKS], block[PART_BLOCKS]; /* where they lie in a strip */
} part;

typedef struct parts {
    const mo_qlinear_job *q;
    const uint8_t *panel, *weights[STRIPS];
    _Alignas(64) uint8_t bytes[2][PART_STRIPS][PART_BLOCKS][512];
    _Alignas(64) int32_t sums[2][PART_STRIPS][PART_BLOCKS][AMX_ROWS * MO_STRIP];
    fvec acc[STRIPS][AMX_ROWS];
} parts;

/* Part i: those of all strips, then the next blocks. */
ALWAYS_INLINE part part_at(const parts *p, size_t i, const mo_qform form) {
    const size_t turns = STRIPS / PART_STRIPS, first = i / turns * PART_BLOCKS;
    const size_t blocks = p->q->shape.blocks;
    size_t in_group = p->q->shape.group_blocks; /* a constant where it can be */
    if (form == MO_QFORM_Q8 || form == MO_QFORM_Q4) in_group = 1;
    if (form == MO_QFORM_Q4_K) in_group = 8;
    const size_t block_bytes = mo_q_block_head(form) + mo_q_numbers(form);
    const size_t group_bytes = mo_q_group_head(form) + in_group * block_bytes;
    part x = {0, (int)(i % turns) * PART_STRIPS, p->panel + first * PANEL_BLOCK, {0}, {0}};
    if (first >= blocks) return x;
    x.n = (int)(blocks - first < PART_BLOCKS ? blocks - first : PART_BLOCKS);
    for (size_t j = 0; j < PART_BLOCKS; j++) {
        size_t b = first + j;
        x.group[j] = b / in_group * group_bytes;
        x.block[j] = x.group[j] + mo_q_group_head(form) + b % in_group * block_bytes;
    }
    return x;
}

ALWAYS_INLINE void spread(parts *p, const part *x, int parity, int s, int j, const mo_qform form) {
    const size_t bytes = mo_q_block_head(form) + mo_q_numbers(form);
    const uint8_t *w = p->weights[x->strip + s] + x->block[j];
    uint8_t *to = p->bytes[parity][s][j];
    size_t ahead = PARTS_AHEAD; /* what lies past the end of a strip belongs to the next four */
    if (x->block[j] + ahead >= p->q->shape.strip_bytes)
        ahead += (STRIPS - 1) * p->q->shape.strip_bytes;
    UNROLL
    for (size_t i = 0; i < bytes; i += 64)
        __builtin_prefetch((const void *)((uintptr_t)w + ahead + i)); /* maybe past the matrix */
    if (q_kind_of(form) != Q_HALVES) return;
    w += mo_q_block_head(form);
    UNROLL
    for (int i = 0; i < 4; i++) {
        _mm512_store_si512(to + 64 * i, w_low(w + 64 * i));
        _mm512_store_si512(to + 64 * i + 256, w_high(w + 64 * i));
    }
}

/* Sums of products of one block, [row of the batch][row of the strip], for both strips. */
ALWAYS_INLINE void dots(parts *p, const part *x, int parity, int j, const mo_qform form) {
    const uint8_t *w[PART_STRIPS];
    UNROLL
    for (int s = 0; s < PART_STRIPS; s++)
        w[s] = q_kind_of(form) == Q_HALVES
                   ? p->bytes[parity][s][j]
                   : p->weights[x->strip + s] + x->block[j] + mo_q_block_head(form);
    __asm__ volatile("" ::: "memory"); /* compilers do not know that tiles are read from memory */
    _tile_loadd(0, x->inputs + (size_t)j * PANEL_BLOCK, MO_BLOCK);
    _tile_loadd(3, w[0], 64);
    _tile_loadd(4, w[1], 64);
    _tile_zero(1);
    _tile_zero(2);
    _tile_dpbsud(1, 0, 3);
    _tile_dpbsud(2, 0, 4);
    _tile_stored(1, p->sums[parity][0][j], 64);
    _tile_stored(2, p->sums[parity][1][j], 64);
}

/* One block of a strip for all rows: the roundings of block_add() in qkernels_body.h. */
ALWAYS_INLINE void block_add(const parts *p, const part *x, int parity, int s, int j, fvec *acc,
                             const mo_qform form) {
    const uint8_t *w = p->weights[x->strip + s];
    const float *steps =
        (const float *)(const void *)(x->inputs + (size_t)j * PANEL_BLOCK + PANEL_STEPS);
    const int32_t *zeros = (const int32_t *)(const void *)(steps + 2 * AMX_ROWS);
    const int32_t *sums = p->sums[parity][s][j];
    fvec scale[2], offset = f_zero();
    factors(w + x->group[j], w + x->block[j], form, scale, &offset);
    UNROLL
    for (int r = 0; r < AMX_ROWS; r++) {
        const fvec step = f_set1(steps[r]);
        ivec y = _mm512_load_si512(sums + MO_STRIP * r);
        if (q_zero_of(form)) y = _mm512_sub_epi32(y, _mm512_set1_epi32(zeros[r]));
        fvec a = f_fma(f_from_i(y), form == MO_QFORM_ROWS8 ? step : f_mul(scale[0], step), acc[r]);
        if (form == MO_QFORM_Q4_K || mo_q_has_bias(form))
            a = f_fma(offset, f_set1(steps[AMX_ROWS + r]), a);
        acc[r] = a;
    }
}

/* Three parts at their three stages, side by side. A part has as many blocks as strips: a turn for
 * one strip starts the products of one block of both. */
ALWAYS_INLINE void advance(parts *p, const part *raw, const part *ready, const part *done,
                           int parity, const mo_qform form) {
    for (int s = 0; s < PART_STRIPS; s++) {
        fvec acc[AMX_ROWS];
        UNROLL
        for (int r = 0; r < AMX_ROWS; r++) acc[r] = p->acc[done->strip + s][r];
        if (s < ready->n) dots(p, ready, !parity, s, form);
        for (int j = 0; j < PART_BLOCKS; j++) {
            if (j < raw->n) spread(p, raw, parity, s, j, form);
            if (j < done->n) block_add(p, done, parity, s, j, acc, form);
        }
        UNROLL
        for (int r = 0; r < AMX_ROWS; r++) p->acc[done->strip + s][r] = acc[r];
    }
}

static void finish(const parts *p, int row, int n, int strip, int strips) {
    const mo_linear_job *job = &p->q->job;
    for (int r = 0; r < n; r++) {
        const size_t slot = (size_t)job->active[(row + r) / job->rows];
        const size_t at = (size_t)((row + r) % job->rows);
        float *out = job->out.data + slot * job->out.slot + at * job->out.row;
        const float *add = job->add.data;
        if (add) add += slot * job->add.slot + at * job->add.row;
        for (int s = 0; s < strips; s++) {
            float sums[MO_STRIP];
            fvec acc = p->acc[s][r];
            if (p->q->shape.form == MO_QFORM_ROWS8) acc = f_mul(acc, f_load(p->weights[s]));
            f_store(sums, acc);
            finish_strip(job, sums, strip + s, add, out);
        }
    }
}

/* Up to four strips for a panel of n rows. Strips past the last one repeat it. */
ALWAYS_INLINE void strips_run(const mo_qlinear_job *q, int row, int n, int strip, int strips,
                              const mo_qform form) {
    parts p;
    part raw, ready = {0}, done = {0};
    p.q = q;
    p.panel = panel_at(q, row);
    for (int s = 0; s < STRIPS; s++) {
        int own = strip + (s < strips ? s : strips - 1);
        p.weights[s] = (const uint8_t *)q->job.w + (size_t)own * q->shape.strip_bytes;
        for (int r = 0; r < AMX_ROWS; r++) p.acc[s][r] = f_zero();
    }
    for (size_t i = 0; i < 2 || ready.n || done.n; i++) {
        raw = part_at(&p, i, form);
        advance(&p, &raw, &ready, &done, (int)(i % 2), form);
        done = ready;
        ready = raw;
    }
    finish(&p, row, n, strip, strips);
}

/* One function per form: a single one would take compilers long. */
#define STRIPS_OF(name, form)                                                                   \
    static NOINLINE void name(const mo_qlinear_job *q, int row, int n, int strip, int strips) { \
        strips_run(q, row, n, strip, strips, form);                                             \
    }
STRIPS_OF(strips_q8, MO_QFORM_Q8)
STRIPS_OF(strips_q4, MO_QFORM_Q4)
STRIPS_OF(strips_q4_k, MO_QFORM_Q4_K)
STRIPS_OF(strips_groups4, MO_QFORM_GROUPS4)
STRIPS_OF(strips_groups4_wide, MO_QFORM_GROUPS4_WIDE)
STRIPS_OF(strips_groups8, MO_QFORM_GROUPS8)
STRIPS_OF(strips_groups8_wide, MO_QFORM_GROUPS8_WIDE)
STRIPS_OF(strips_rows8, MO_QFORM_ROWS8)

static void linear_amx(const mo_qlinear_job *q, int row0, int row1, int strip0, int strip1) {
    typedef void (*strips_fn)(const mo_qlinear_job *, int, int, int, int);
    static const strips_fn forms[] = {
        [MO_QFORM_Q8] = strips_q8,           [MO_QFORM_Q4] = strips_q4,
        [MO_QFORM_Q4_K] = strips_q4_k,       [MO_QFORM_Q6_K] = NULL,
        [MO_QFORM_GROUPS4] = strips_groups4, [MO_QFORM_GROUPS4_WIDE] = strips_groups4_wide,
        [MO_QFORM_GROUPS8] = strips_groups8, [MO_QFORM_GROUPS8_WIDE] = strips_groups8_wide,
        [MO_QFORM_ROWS8] = strips_rows8,
    };
    const strips_fn run = forms[q->shape.form];
    int row = row0;
    for (int n; row < row1 && (n = panel_rows(q, row)) > 0; row += n) {
        configure();
        for (int strip = strip0; strip < strip1; strip += STRIPS)
            run(q, row, n, strip, strip1 - strip < STRIPS ? strip1 - strip : STRIPS);
        _tile_release(); /* or every task switch would save the tiles */
    }
    if (row < row1) mo_qkernels_avx512_vnni()->linear(q, row, row1, strip0, strip1);
}

static const mo_qkernels kernels = {quantise_amx, linear_amx};

const mo_qkernels *mo_qkernels_amx(void) {
    return mo_qkernels_avx512_vnni() ? &kernels : NULL;
}

#else

const mo_qkernels *mo_qkernels_amx(void) {
    return NULL;
}

#endif
