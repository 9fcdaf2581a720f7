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

/* Tiles by number, because their names become text: sums, inputs, weights. */
enum { AMX_ROWS = 16, LEAST_ROWS = 12, SUMS = 0, INPUTS = 1, WEIGHTS = 2 };

/* What LDTILECFG reads. */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

/* Tiles for n rows of the batch and one block. */
static void configure(int n) {
    _Alignas(64) tile_config c = {.palette = 1};
    c.rows[SUMS] = c.rows[INPUTS] = (uint8_t)n;
    c.row_bytes[SUMS] = c.row_bytes[WEIGHTS] = 64;
    c.row_bytes[INPUTS] = MO_BLOCK;
    c.rows[WEIGHTS] = MO_BLOCK / 4;
    __asm__ volatile("" ::: "memory"); /* gcc 12 takes the load to read eight bytes only */
    _tile_loadconfig(&c);
}

/* Rows of one tile; those past its end repeat the last one: computed, never stored. */
typedef struct amx_rows {
    const uint8_t *records;
    size_t record_bytes;
    const float *steps[AMX_ROWS];
    const float *add[AMX_ROWS];
    float *out[AMX_ROWS];
    int n;
} amx_rows;

static void locate(const mo_qlinear_job *q, int first, int n, amx_rows *t) {
    const mo_linear_job *job = &q->job;
    t->record_bytes = mo_q_record_bytes(q->shape.blocks);
    t->records = q->records + (size_t)first * t->record_bytes;
    t->n = n;
    for (int r = 0; r < AMX_ROWS; r++) {
        int i = r < n ? r : n - 1, m = first + i;
        size_t slot = (size_t)job->active[m / job->rows], row = (size_t)(m % job->rows);
        t->steps[r] = mo_q_steps(q->records + (size_t)m * t->record_bytes, q->shape.blocks);
        t->out[r] = job->out.data + slot * job->out.slot + row * job->out.row;
        t->add[r] = job->add.data;
        if (t->add[r]) t->add[r] += slot * job->add.slot + row * job->add.row;
    }
}

/* Sums of products of one block, [row of the batch][row of the strip]. */
ALWAYS_INLINE void dots(const amx_rows *t, size_t b, const uint8_t *numbers, int32_t *sums,
                        const mo_qform form) {
    _Alignas(64) uint8_t bytes[512];
    const uint8_t *w = numbers;
    if (q_kind_of(form) == Q_HALVES) {
        UNROLL
        for (int j = 0; j < 4; j++) {
            _mm512_store_si512(bytes + 64 * j, w_low(numbers + 64 * j));
            _mm512_store_si512(bytes + 64 * j + 256, w_high(numbers + 64 * j));
        }
        w = bytes;
    }
    __asm__ volatile("" ::: "memory"); /* compilers do not know that tiles are read from memory */
    _tile_zero(0);
    _tile_loadd(1, t->records + b * MO_BLOCK, t->record_bytes);
    _tile_loadd(2, w, 64);
    _tile_dpbsud(0, 1, 2);
    _tile_stored(0, sums, 64);
}

/* One block of a strip for all rows: the roundings of block_add() in qkernels_body.h. */
ALWAYS_INLINE void block_add(const amx_rows *t, size_t blocks, size_t b, const uint8_t *group,
                             const uint8_t *block, const int32_t *sums, fvec *acc,
                             const mo_qform form) {
    fvec scale[2], offset = f_zero();
    factors(group, block, form, scale, &offset);
    UNROLL
    for (int r = 0; r < AMX_ROWS; r++) {
        const float *d = t->steps[r] + b;
        int32_t sum;
        memcpy(&sum, d + 2 * blocks, sizeof sum);
        const fvec step = f_set1(*d);
        ivec x = _mm512_load_si512(sums + MO_STRIP * r);
        if (q_zero_of(form)) x = _mm512_sub_epi32(x, _mm512_set1_epi32(q_zero_of(form) * sum));
        fvec a = f_fma(f_from_i(x), form == MO_QFORM_ROWS8 ? step : f_mul(scale[0], step), acc[r]);
        if (form == MO_QFORM_Q4_K || mo_q_has_bias(form)) a = f_fma(offset, f_set1(d[blocks]), a);
        acc[r] = a;
    }
}

ALWAYS_INLINE void strip_run(const mo_qlinear_job *q, const amx_rows *t, int strip,
                             const mo_qform form) {
    const size_t blocks = q->shape.blocks, group_blocks = q->shape.group_blocks;
    const size_t block_bytes = mo_q_block_head(form) + mo_q_numbers(form);
    const uint8_t *first = (const uint8_t *)q->job.w + (size_t)strip * q->shape.strip_bytes;
    const uint8_t *w = first, *group = w;
    _Alignas(64) int32_t sums[2][AMX_ROWS * MO_STRIP] = {{0}};
    fvec acc[AMX_ROWS];
    UNROLL
    for (int r = 0; r < AMX_ROWS; r++) acc[r] = f_zero();
    /* Sums of the next block are under way while those of this one are read: tiles go through
     * memory both ways. */
    const uint8_t *next = first + mo_q_group_head(form);
    dots(t, 0, next + mo_q_block_head(form), sums[0], form);
    for (size_t b = 0; b < blocks;) {
        group = w;
        w += mo_q_group_head(form);
        for (size_t end = b + group_blocks; b < end; b++, w += block_bytes) {
            fetch_ahead(w, false, 0, block_bytes);
            next = w + block_bytes + (b + 1 == end ? mo_q_group_head(form) : 0);
            if (b + 1 < blocks)
                dots(t, b + 1, next + mo_q_block_head(form), sums[(b + 1) % 2], form);
            block_add(t, blocks, b, group, w, sums[b % 2], acc, form);
        }
    }
    _Alignas(64) float out[AMX_ROWS][MO_STRIP];
    UNROLL
    for (int r = 0; r < AMX_ROWS; r++)
        f_store(out[r], form == MO_QFORM_ROWS8 ? f_mul(acc[r], f_load(first)) : acc[r]);
    for (int r = 0; r < t->n; r++) finish_strip(&q->job, out[r], strip, t->add[r], t->out[r]);
}

/* One function per form: a single one would take compilers long. */
#define STRIPS(name, form)                                                         \
    static NOINLINE void name(const mo_qlinear_job *q, const amx_rows *t, int s) { \
        strip_run(q, t, s, form);                                                  \
    }
STRIPS(strip_q8, MO_QFORM_Q8)
STRIPS(strip_q4, MO_QFORM_Q4)
STRIPS(strip_q4_k, MO_QFORM_Q4_K)
STRIPS(strip_groups4, MO_QFORM_GROUPS4)
STRIPS(strip_groups4_wide, MO_QFORM_GROUPS4_WIDE)
STRIPS(strip_groups8, MO_QFORM_GROUPS8)
STRIPS(strip_groups8_wide, MO_QFORM_GROUPS8_WIDE)
STRIPS(strip_rows8, MO_QFORM_ROWS8)

static void linear_amx(const mo_qlinear_job *q, int row0, int row1, int strip0, int strip1) {
    typedef void (*strip_fn)(const mo_qlinear_job *, const amx_rows *, int);
    static const strip_fn strips[] = {
        [MO_QFORM_Q8] = strip_q8,           [MO_QFORM_Q4] = strip_q4,
        [MO_QFORM_Q4_K] = strip_q4_k,       [MO_QFORM_Q6_K] = NULL,
        [MO_QFORM_GROUPS4] = strip_groups4, [MO_QFORM_GROUPS4_WIDE] = strip_groups4_wide,
        [MO_QFORM_GROUPS8] = strip_groups8, [MO_QFORM_GROUPS8_WIDE] = strip_groups8_wide,
        [MO_QFORM_ROWS8] = strip_rows8,
    };
    const strip_fn run = strips[q->shape.form];
    int row = row0;
    for (int n; run && row1 - row >= LEAST_ROWS; row += n) {
        amx_rows t;
        n = row1 - row < AMX_ROWS ? row1 - row : AMX_ROWS;
        locate(q, row, n, &t);
        configure(n);
        for (int strip = strip0; strip < strip1; strip++) run(q, &t, strip);
        _tile_release(); /* or every task switch would save the tiles */
    }
    if (row < row1) mo_qkernels_avx512_vnni()->linear(q, row, row1, strip0, strip1);
}

static const mo_qkernels kernels = {quantise_rows, linear_amx};

const mo_qkernels *mo_qkernels_amx(void) {
    return mo_qkernels_avx512_vnni() ? &kernels : NULL;
}

#else

const mo_qkernels *mo_qkernels_amx(void) {
    return NULL;
}

#endif
