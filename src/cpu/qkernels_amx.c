/* qkernels_amx.c - products of quantised numbers for many rows with AMX: one instruction multiplies
 * a block of 32 numbers of 16 rows of weights, as they lie in a strip, with up to 16 rows of
 * activations. Its sums are whole numbers, what follows is done as on every level: the same bits.
 * Blocks of Q6_K have a scale for each half, so that products go by halves: from "products" on a
 * block is half of one there. Few rows are left to AVX-512. */
#include "qkernels.h"

/* clang spells this without an underscore up to its version 14 at least */
#if (defined(__AMX_INT8__) || defined(__AMXINT8__)) && defined(__AVX512F__) && \
    defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#include "qcommon.h"
#include "qvec_avx512.h"

#include "qfactors.h"

/* Tiles by number, because their names become text: inputs 0, sums 1 to 4, weights 5 and 6. */
enum { AMX_ROWS = MO_Q_PANEL, LEAST_ROWS = 12 };
enum { STRIPS = 4 }; /* that go together */
/* Bytes that streams are fetched ahead: less than AHEAD, because 16 rows use them up more slowly,
 * and what is fetched early takes the place of parts in the first-level cache. */
enum { PARTS_AHEAD = 2048 };
/* Block b of a panel: [row] of 32 q, then [row] of d, of d * sum(q), of zero point * sum(q). */
enum { PANEL_STEPS = AMX_ROWS * MO_BLOCK, PANEL_BLOCK = PANEL_STEPS + 3 * 4 * AMX_ROWS };

/* What LDTILECFG reads. */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

/* How many parts of a block have sums of their own. */
ALWAYS_INLINE size_t halves_of(const mo_qform form) {
    return form == MO_QFORM_Q6_K ? 2 : 1;
}

static void configure(mo_qform form) {
    _Alignas(64) tile_config c = {.palette = 1};
    const int numbers = MO_BLOCK / (int)halves_of(form);
    for (int i = 0; i <= 6; i++) {
        c.rows[i] = (uint8_t)(i < 5 ? AMX_ROWS : numbers / 4);
        c.row_bytes[i] = (uint16_t)(i ? 64 : numbers);
    }
    __asm__ volatile("" ::: "memory"); /* gcc 12 takes the load to read eight bytes only */
    _tile_loadconfig(&c);
}

/* ---- activations ---------------------------------------------------------------------------- */

/* Rows from `row` on that are a panel; 0: what is left of the batch has records like other levels'.
 */
static int panel_rows(const mo_qlinear_job *q, int row) {
    int n = q->batch - row < AMX_ROWS ? q->batch - row : AMX_ROWS;
    return n < LEAST_ROWS ? 0 : n;
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

/* While tiles are at work the second of the two ports for sixteen floats takes none: floats go at
 * half their speed wherever instructions for tiles are under way beside them. Therefore turns: the
 * products of some blocks of four strips, then what follows them. Beside the products there is time
 * for spreading out half bytes, and for the floats of one strip, those of the turn before. What a
 * tile is loaded from must have left the core for the cache: bytes are spread out a block ahead;
 * and sums are stored a block later, when their tile is needed again: no store waits for a product.
 */
enum { TURN = 4, LATE = STRIPS - 1 };
/* Cache lines of a block that are fetched beside products, of each strip but the late one. */
enum { LINES_BESIDE = 2, LINES = 9 };
enum { ROWS_BESIDE = AMX_ROWS / STRIPS }; /* of the late strip, beside products of each strip */

typedef struct turns {
    const mo_qlinear_job *q;
    const uint8_t *panel, *weights[STRIPS];
    size_t blocks;
    _Alignas(64) uint8_t bytes[2][STRIPS][512];
    _Alignas(64) int32_t sums[TURN][STRIPS][AMX_ROWS * MO_STRIP];
    fvec scale[TURN][STRIPS], offset[TURN][STRIPS];
    fvec acc[STRIPS][AMX_ROWS];
} turns;

/* Where a block lies in its strip; for halves the whole one. */
typedef struct place {
    size_t group, block;
} place;

ALWAYS_INLINE place place_of(const turns *t, size_t b, const mo_qform form) {
    const size_t whole = b / halves_of(form);
    size_t in_group = t->q->shape.group_blocks; /* a constant where it can be */
    if (form == MO_QFORM_Q8 || form == MO_QFORM_Q4) in_group = 1;
    if (form == MO_QFORM_Q4_K || form == MO_QFORM_Q6_K) in_group = 8;
    const size_t block_bytes = mo_q_block_head(form) + mo_q_numbers(form);
    const size_t group = whole / in_group * (mo_q_group_head(form) + in_group * block_bytes);
    return (place){group, group + mo_q_group_head(form) + whole % in_group * block_bytes};
}

/* Some of the cache lines that follow a block by PARTS_AHEAD. */
ALWAYS_INLINE void fetch(const turns *t, size_t b, int s, const int line0, const int line1,
                         const mo_qform form) {
    if (b % halves_of(form)) return;
    const place x = place_of(t, b, form);
    const int bytes = (int)(mo_q_block_head(form) + mo_q_numbers(form));
    size_t ahead = PARTS_AHEAD; /* what lies past the end of a strip belongs to the next four */
    if (x.block + ahead >= t->q->shape.strip_bytes) ahead += (STRIPS - 1) * t->q->shape.strip_bytes;
    const uintptr_t w = (uintptr_t)t->weights[s] + x.block + ahead; /* maybe past the matrix */
    UNROLL
    for (int i = line0; i < line1; i++)
        if (64 * i < bytes) __builtin_prefetch((const void *)(w + 64 * (size_t)i));
}

ALWAYS_INLINE uint8_t *bytes_of(turns *t, size_t b, int s, const mo_qform form) {
    return t->bytes[b / halves_of(form) % 2][s] + b % halves_of(form) * 256;
}

/* The numbers of Q6_K less their zero point; both halves of a block with the first. */
ALWAYS_INLINE void spread(turns *t, size_t b, int s, const mo_qform form) {
    if (q_kind_of(form) == Q_BYTES || b % halves_of(form)) return;
    const uint8_t *w = t->weights[s] + place_of(t, b, form).block + mo_q_block_head(form);
    uint8_t *to = bytes_of(t, b, s, form);
    const wvec half = _mm512_set1_epi8(15), zero = _mm512_set1_epi8(32);
    UNROLL
    for (int i = 0; i < 4; i++) {
        wvec x = w_bytes(w + 64 * i);
        __asm__("" : "+v"(x)); /* or it would be loaded twice, half of the time from two lines */
        wvec low = _mm512_and_si512(x, half);
        wvec high = _mm512_and_si512(_mm512_srli_epi16(x, 4), half);
        if (form == MO_QFORM_Q6_K) {
            low = _mm512_sub_epi8(w_sixes(low, w + 256, i), zero);
            high = _mm512_sub_epi8(w_sixes(high, w + 320, i), zero);
        }
        _mm512_store_si512(to + 64 * i, low);
        _mm512_store_si512(to + 64 * i + 256, high);
    }
}

ALWAYS_INLINE void find_factors(turns *t, size_t b, int s, const mo_qform form) {
    const place x = place_of(t, b, form);
    fvec scale[2] = {f_zero(), f_zero()}, offset = f_zero();
    factors(t->weights[s] + x.group, t->weights[s] + x.block, form, scale, &offset);
    if (form != MO_QFORM_ROWS8) t->scale[b % TURN][s] = scale[b % halves_of(form)];
    if (form == MO_QFORM_Q4_K || mo_q_has_bias(form)) t->offset[b % TURN][s] = offset;
}

/* Some rows of one block of a strip: the roundings of block_add() in qkernels_body.h. */
ALWAYS_INLINE void rows_add(const turns *t, size_t b, int s, fvec *acc, const int row0,
                            const int rows, const mo_qform form) {
    const uint8_t *block = t->panel + b / halves_of(form) * PANEL_BLOCK;
    const float *steps = (const float *)(const void *)(block + PANEL_STEPS);
    const int32_t *zeros = (const int32_t *)(const void *)(steps + 2 * AMX_ROWS);
    const int32_t *sums = t->sums[b % TURN][s];
    const fvec scale = t->scale[b % TURN][s], offset = t->offset[b % TURN][s];
    UNROLL
    for (int i = 0; i < rows; i++) {
        const int r = row0 + i;
        const fvec step = f_set1(steps[r]);
        ivec y = _mm512_load_si512(sums + MO_STRIP * r);
        if (q_zero_of(form) && form != MO_QFORM_Q6_K)
            y = _mm512_sub_epi32(y, _mm512_set1_epi32(zeros[r]));
        fvec a = f_fma(f_from_i(y), form == MO_QFORM_ROWS8 ? step : f_mul(scale, step), acc[r]);
        if (form == MO_QFORM_Q4_K || mo_q_has_bias(form))
            a = f_fma(offset, f_set1(steps[AMX_ROWS + r]), a);
        acc[r] = a;
    }
}

ALWAYS_INLINE void load_acc(const turns *t, int s, fvec *acc) {
    UNROLL
    for (int r = 0; r < AMX_ROWS; r++) acc[r] = t->acc[s][r];
}
ALWAYS_INLINE void store_acc(turns *t, int s, const fvec *acc) {
    UNROLL
    for (int r = 0; r < AMX_ROWS; r++) t->acc[s][r] = acc[r];
}

/* Sums of strip s are in tile s + 1. */
ALWAYS_INLINE void sums_store(turns *t, size_t b, const int s) {
    int32_t *to = t->sums[b % TURN][s];
    switch (s) {
    case 0:
        _tile_stored(1, to, 64);
        break;
    case 1:
        _tile_stored(2, to, 64);
        break;
    case 2:
        _tile_stored(3, to, 64);
        break;
    default:
        _tile_stored(4, to, 64);
        break;
    }
}

#define PRODUCTS(sums, weights)         \
    _tile_loadd(weights, from, 64);     \
    _tile_zero(sums);                   \
    if (form == MO_QFORM_Q6_K)          \
        _tile_dpbssd(sums, 0, weights); \
    else                                \
        _tile_dpbsud(sums, 0, weights)

ALWAYS_INLINE void sums_start(turns *t, size_t b, const int s, const mo_qform form) {
    const uint8_t *from = bytes_of(t, b, s, form);
    if (q_kind_of(form) == Q_BYTES)
        from = t->weights[s] + place_of(t, b, form).block + mo_q_block_head(form);
    switch (s) {
    case 0:
        PRODUCTS(1, 5);
        break;
    case 1:
        PRODUCTS(2, 6);
        break;
    case 2:
        PRODUCTS(3, 5);
        break;
    default:
        PRODUCTS(4, 6);
        break;
    }
}

ALWAYS_INLINE void inputs_load(const turns *t, size_t b, const mo_qform form) {
    const size_t halves = halves_of(form);
    _tile_loadd(0, t->panel + b / halves * PANEL_BLOCK + b % halves * (MO_BLOCK / 2), MO_BLOCK);
}

/* The products of block b of all strips; a block of the late strip is added meanwhile. */
ALWAYS_INLINE void products(turns *t, size_t b, fvec *late, const mo_qform form) {
    const size_t blocks = t->blocks;
    __asm__ volatile("" ::: "memory"); /* compilers do not know that tiles are read from memory */
    if (b < blocks) inputs_load(t, b, form);
    UNROLL
    for (int s = 0; s < STRIPS; s++) {
        if (b > TURN) rows_add(t, b - 1 - TURN, LATE, late, ROWS_BESIDE * s, ROWS_BESIDE, form);
        if (b > 0) {
            sums_store(t, b - 1, s);
            find_factors(t, b - 1, s, form);
        }
        if (b < blocks) sums_start(t, b, s, form);
        if (b + 1 < blocks) spread(t, b + 1, s, form);
        fetch(t, b, s, 0, s == LATE ? LINES : LINES_BESIDE, form);
    }
}

/* Blocks b0 .. b1-1 of a strip. */
ALWAYS_INLINE void blocks_add(turns *t, size_t b0, size_t b1, int s, const mo_qform form) {
    fvec acc[AMX_ROWS];
    load_acc(t, s, acc);
    for (size_t b = b0; b < b1; b++) {
        if (s != LATE) fetch(t, b, s, LINES_BESIDE, LINES, form);
        rows_add(t, b, s, acc, 0, AMX_ROWS, form);
    }
    store_acc(t, s, acc);
}

/* As finish_strip(), for all rows. */
static void finish(const turns *t, int row, int n, int strip, int strips) {
    const mo_linear_job *job = &t->q->job;
    for (int r = 0; r < n; r++) {
        const size_t slot = (size_t)job->active[(row + r) / job->rows];
        const size_t at = (size_t)((row + r) % job->rows);
        float *out = job->out.data + slot * job->out.slot + at * job->out.row;
        const float *add = job->add.data;
        if (add) add += slot * job->add.slot + at * job->add.row;
        for (int s = 0; s < strips; s++) {
            const int first = (strip + s) * MO_STRIP, lanes = job->n - first;
            const __mmask16 m = lanes < MO_STRIP ? (__mmask16)((1u << lanes) - 1) : 0xFFFF;
            fvec y = t->acc[s][r];
            if (t->q->shape.form == MO_QFORM_ROWS8) y = f_mul(y, f_load(t->weights[s]));
            if (job->bias) y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(m, job->bias + first));
            if (job->scale) y = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, job->scale + first), y);
            if (add) y = _mm512_add_ps(_mm512_maskz_loadu_ps(m, add + first), y);
            _mm512_mask_storeu_ps(out + first, m, y);
        }
    }
}

/* Up to four strips for a panel of n rows. Strips past the last one repeat it. */
ALWAYS_INLINE void strips_run(const mo_qlinear_job *q, int row, int n, int strip, int strips,
                              const mo_qform form) {
    const size_t blocks = q->shape.blocks * halves_of(form);
    turns t;
    t.q = q;
    t.blocks = blocks;
    t.panel = panel_at(q, row);
    for (int s = 0; s < STRIPS; s++) {
        int own = strip + (s < strips ? s : strips - 1);
        t.weights[s] = (const uint8_t *)q->job.w + (size_t)own * q->shape.strip_bytes;
        for (int r = 0; r < AMX_ROWS; r++) t.acc[s][r] = f_zero();
        spread(&t, 0, s, form);
    }
    size_t added = 0;
    for (size_t b = 0; b <= blocks;) {
        fvec late[AMX_ROWS];
        load_acc(&t, LATE, late);
        const size_t end = b + TURN <= blocks ? b + TURN : blocks + 1;
        for (; b < end; b++) products(&t, b, late, form);
        store_acc(&t, LATE, late);
        for (int s = 0; s < LATE; s++) blocks_add(&t, added, b - 1, s, form);
        added = b - 1;
    }
    blocks_add(&t, blocks < TURN ? 0 : blocks - TURN, blocks, LATE, form);
    finish(&t, row, n, strip, strips);
}

/* One function per form: a single one would take compilers long. */
#define STRIPS_OF(name, form)                                                                   \
    static NOINLINE void name(const mo_qlinear_job *q, int row, int n, int strip, int strips) { \
        strips_run(q, row, n, strip, strips, form);                                             \
    }
STRIPS_OF(strips_q8, MO_QFORM_Q8)
STRIPS_OF(strips_q4, MO_QFORM_Q4)
STRIPS_OF(strips_q4_k, MO_QFORM_Q4_K)
STRIPS_OF(strips_q6_k, MO_QFORM_Q6_K)
STRIPS_OF(strips_groups4, MO_QFORM_GROUPS4)
STRIPS_OF(strips_groups4_wide, MO_QFORM_GROUPS4_WIDE)
STRIPS_OF(strips_groups8, MO_QFORM_GROUPS8)
STRIPS_OF(strips_groups8_wide, MO_QFORM_GROUPS8_WIDE)
STRIPS_OF(strips_rows8, MO_QFORM_ROWS8)

static void linear_amx(const mo_qlinear_job *q, int row0, int row1, int strip0, int strip1) {
    typedef void (*strips_fn)(const mo_qlinear_job *, int, int, int, int);
    static const strips_fn forms[] = {
        [MO_QFORM_Q8] = strips_q8,           [MO_QFORM_Q4] = strips_q4,
        [MO_QFORM_Q4_K] = strips_q4_k,       [MO_QFORM_Q6_K] = strips_q6_k,
        [MO_QFORM_GROUPS4] = strips_groups4, [MO_QFORM_GROUPS4_WIDE] = strips_groups4_wide,
        [MO_QFORM_GROUPS8] = strips_groups8, [MO_QFORM_GROUPS8_WIDE] = strips_groups8_wide,
        [MO_QFORM_ROWS8] = strips_rows8,
    };
    const strips_fn run = forms[q->shape.form];
    int row = row0;
    for (int n; row < row1 && (n = panel_rows(q, row)) > 0; row += n) {
        configure(q->shape.form);
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
