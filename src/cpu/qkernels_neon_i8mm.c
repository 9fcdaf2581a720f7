/* qkernels_neon_i8mm.c - products of quantised numbers for several rows, for 64-bit Arm with the
 * matrix instructions: one multiplies 8 numbers of two rows of weights with 8 of two rows of
 * activations, 32 products where a dot product instruction has 16, and takes weights without signs,
 * as they lie. A row that is alone in its eight is left to the dot products.
 *
 * Weights lie as on every level, or a matrix could not serve one row and many: a register of a
 * strip is 4 numbers of four rows, and two registers zipped are 8 numbers of two. That is one zip
 * for 16 bytes of weights, half bytes before they are spread: with eight rows of activations one
 * for every four of these instructions, or for every eight. Activations are this level's own and
 * lie as they are used. Sums are whole numbers, what follows is done as on every level: the same
 * bits. */
#include "qkernels.h"

#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD) && defined(__ARM_FEATURE_MATMUL_INT8)
#include "qvec_neon.h"

#include "qfactors.h"

/* Rows of the batch by pairs, of a strip by twos, of which so many at most are multiplied at once;
 * strips of a tile. */
enum { ROWS = 8, PAIRS = ROWS / 2, TWOS = MO_STRIP / 2, MOST = TWOS / 2, STRIPS = 2 };

/* Four sums: of rows 0 and 1 of a pair for one row of weights, then for the next. */
typedef float32x4_t square;

/* One block of the activations of a pair. */
typedef struct pair_block {
    int8_t q[4][2][8]; /* 8 numbers of either row in turn */
    float d[2], d_sum[2];
    int32_t first[2][2]; /* what sums begin with: - zero point * sum(q); of both halves of Q6_K's */
} pair_block;

_Static_assert(sizeof(pair_block) == 2 * (MO_BLOCK + 16), "a pair takes the room of two records");

/* ---- activations ---------------------------------------------------------------------------- */

/* Where pairs end; the record of the row that may follow is like other levels'. */
static int paired_rows(const mo_qlinear_job *q) {
    return q->batch % ROWS == 1 ? q->batch - 1 : q->batch;
}

static pair_block *pair_at(const mo_qlinear_job *q, int row) {
    return (pair_block *)(void *)(q->records + (size_t)row * mo_q_record_bytes(q->shape.blocks));
}

/* The second row of the last pair may be missing: zeros. */
static void quantise_pair(const mo_qlinear_job *q, int row, int block0, int block1) {
    const int zero = q_zero_of(q->shape.form), rows = row + 1 < q->batch ? 2 : 1;
    for (int r = 0; r < rows; r++) {
        const float *in = inputs_of(q, row + r);
        for (size_t b = (size_t)block0; b < (size_t)block1; b++) {
            pair_block *out = pair_at(q, row) + b;
            int8_t numbers[MO_BLOCK];
            int32_t sum, half;
            if (rows == 1) memset(out, 0, sizeof *out);
            quantise_one(&q->job, in, b,
                         (q_block){numbers, &out->d[r], &out->d_sum[r], &sum, &half});
            for (int k = 0; k < 4; k++) memcpy(out->q[k][r], numbers + 8 * k, 8);
            if (q->shape.form != MO_QFORM_Q6_K) half = sum;
            out->first[0][r] = -zero * half;
            out->first[1][r] = -zero * (sum - half);
        }
    }
}

static void quantise_i8mm(const mo_qlinear_job *q, int block0, int block1) {
    const int end = paired_rows(q);
    for (int row = 0; row < end; row += 2) quantise_pair(q, row, block0, block1);
    quantise_records(q, end, q->batch, block0, block1);
}

/* ---- products ------------------------------------------------------------------------------- */

/* 8 numbers of each of some rows. */
typedef struct wtwos {
    uint8x16_t two[MOST];
} wtwos;

/* Four bytes at `a` of each row of n twos and four at `b`, side by side. */
ALWAYS_INLINE wtwos zipped(const uint8_t *a, const uint8_t *b, const int n) {
    wtwos w;
    UNROLL
    for (int i = 0; i < n; i += 2) {
        uint32x4_t x = vreinterpretq_u32_u8(vld1q_u8(a + 8 * i));
        uint32x4_t y = vreinterpretq_u32_u8(vld1q_u8(b + 8 * i));
        w.two[i] = vreinterpretq_u8_u32(vzip1q_u32(x, y));
        w.two[i + 1] = vreinterpretq_u8_u32(vzip2q_u32(x, y));
    }
    return w;
}

/* The upper two bits of numbers 8 k .. 8 k + 7, above half bytes. */
ALWAYS_INLINE wtwos sixes(wtwos w, const uint8_t *upper, const int k, const int n) {
    const int8_t a = (int8_t)(4 - k % 2 * 4), b = (int8_t)(a - 2);
    const int8x16_t shift = {a, a, a, a, b, b, b, b, a, a, a, a, b, b, b, b};
    const wtwos bits = zipped(upper + k / 2 * 64, upper + k / 2 * 64, n);
    UNROLL
    for (int i = 0; i < n; i++) {
        uint8x16_t x = vandq_u8(vshlq_u8(bits.two[i], shift), vdupq_n_u8(0x30));
        w.two[i] = vorrq_u8(w.two[i], x);
    }
    return w;
}

/* Numbers 8 k .. 8 k + 7 of a block, for n twos from `numbers` on. */
ALWAYS_INLINE wtwos eights(const uint8_t *numbers, const int k, const int n, const q_kind kind) {
    if (kind == Q_BYTES) return zipped(numbers + 128 * k, numbers + 128 * k + 64, n);
    wtwos w = zipped(numbers + 128 * (k % 2), numbers + 128 * (k % 2) + 64, n);
    UNROLL
    for (int i = 0; i < n; i++)
        w.two[i] = k < 2 ? vandq_u8(w.two[i], vdupq_n_u8(15)) : vshrq_n_u8(w.two[i], 4);
    return kind == Q_SIXES ? sixes(w, numbers + 256, k, n) : w;
}

/* Two floats or whole numbers, twice. */
ALWAYS_INLINE uint64x2_t twice(const void *p) {
    uint64_t x;
    memcpy(&x, p, sizeof x);
    return vdupq_n_u64(x);
}
/* Rows 2 i and 2 i + 1 of a strip's factors, each twice. */
ALWAYS_INLINE square spread(const fvec *x, const int i) {
    return i % 2 ? vzip2q_f32(x->q[i / 2], x->q[i / 2]) : vzip1q_f32(x->q[i / 2], x->q[i / 2]);
}

/* Sums of products of n twos with P pairs: of one block, or `part` of Q6_K's. */
ALWAYS_INLINE void dots(const pair_block *const *x, const uint8_t *numbers, const int part,
                        const int n, const int P, const mo_qform form, int32x4_t (*sums)[PAIRS]) {
    const q_kind kind = q_kind_of(form);
    const int steps = kind == Q_SIXES ? 2 : 4;
    UNROLL
    for (int p = 0; p < P; p++) {
        int32x4_t first = vdupq_n_s32(0);
        if (q_zero_of(form)) first = vreinterpretq_s32_u64(twice(x[p]->first[part]));
        UNROLL
        for (int i = 0; i < n; i++) sums[i][p] = first;
    }
    UNROLL
    for (int j = 0; j < steps; j++) {
        /* both half bytes of a register one after the other */
        const int k = kind == Q_SIXES ? steps * part + j : kind == Q_HALVES ? j % 2 * 2 + j / 2 : j;
        const wtwos w = eights(numbers, k, n, kind);
        UNROLL
        for (int p = 0; p < P; p++) {
            const int8x16_t q = vld1q_s8(x[p]->q[k][0]);
            UNROLL
            for (int i = 0; i < n; i++) sums[i][p] = vusmmlaq_s32(sums[i][p], w.two[i], q);
        }
    }
}

/* One block of a strip for P pairs: the roundings of block_add() in qkernels_body.h. As many twos
 * at once as there are registers for, and nothing is kept for the next ones: to load it again costs
 * less than to put something else aside. */
ALWAYS_INLINE void block_add(const pair_block *const *x, const uint8_t *group, const uint8_t *w,
                             square (*acc)[PAIRS], const int P, const mo_qform form) {
    const uint8_t *numbers = w + mo_q_block_head(form);
    const int n = P <= 2 ? MOST : TWOS / 4;
    const int parts = form == MO_QFORM_Q6_K ? 2 : 1;
    fvec scale[2], offset = f_zero();
    factors(group, w, form, scale, &offset);
    UNROLL
    for (int i = 0; i < TWOS; i += n) {
        UNROLL
        for (int part = 0; part < parts; part++) {
            int32x4_t sums[MOST][PAIRS];
            __asm__ volatile("" ::: "memory");
            dots(x, numbers + 8 * i, part, n, P, form, sums);
            UNROLL
            for (int p = 0; p < P; p++) {
                const square d = vreinterpretq_f32_u64(twice(x[p]->d));
                UNROLL
                for (int j = 0; j < n; j++) {
                    square f = d;
                    if (form != MO_QFORM_ROWS8) f = vmulq_f32(spread(&scale[part], i + j), d);
                    acc[i + j][p] = vfmaq_f32(acc[i + j][p], vcvtq_f32_s32(sums[j][p]), f);
                }
            }
        }
        if (form != MO_QFORM_Q4_K && !mo_q_has_bias(form)) continue;
        UNROLL
        for (int p = 0; p < P; p++) {
            const square d_sum = vreinterpretq_f32_u64(twice(x[p]->d_sum));
            UNROLL
            for (int j = 0; j < n; j++)
                acc[i + j][p] = vfmaq_f32(acc[i + j][p], spread(&offset, i + j), d_sum);
        }
    }
}

/* The sums of a tile, by row. */
typedef float row_sums[STRIPS][MO_STRIP];

static void finish(const mo_qlinear_job *q, int row, int n, int strip, int strips, row_sums *sums) {
    const mo_linear_job *job = &q->job;
    for (int r = 0; r < n; r++) {
        const size_t slot = (size_t)job->active[(row + r) / job->rows];
        const size_t at = (size_t)((row + r) % job->rows);
        float *out = job->out.data + slot * job->out.slot + at * job->out.row;
        const float *add = job->add.data;
        if (add) add += slot * job->add.slot + at * job->add.row;
        for (int s = 0; s < strips; s++) finish_strip(job, sums[r][s], strip + s, add, out);
    }
}

/* The sums of a strip from squares to rows. */
ALWAYS_INLINE void unzip(square (*acc)[PAIRS], const uint8_t *first, int s, const int P,
                         const mo_qform form, row_sums *sums) {
    UNROLL
    for (int p = 0; p < P; p++) {
        fvec even, odd;
        UNROLL
        for (int i = 0; i < 4; i++) {
            even.q[i] = vuzp1q_f32(acc[2 * i][p], acc[2 * i + 1][p]);
            odd.q[i] = vuzp2q_f32(acc[2 * i][p], acc[2 * i + 1][p]);
        }
        if (form == MO_QFORM_ROWS8) {
            even = f_mul(even, f_load(first));
            odd = f_mul(odd, f_load(first));
        }
        f_store(sums[2 * p][s], even);
        f_store(sums[2 * p + 1][s], odd);
    }
}

/* P pairs from `row` on, of which n rows count, by S strips over all blocks. P, S and form are
 * constants wherever this is expanded. Strips past the last one repeat it. */
ALWAYS_INLINE void tile(const mo_qlinear_job *q, int row, int n, int strip, int strips, const int P,
                        const int S, const mo_qform form) {
    square acc[STRIPS][TWOS][PAIRS];
    const uint8_t *w[STRIPS], *first[STRIPS];
    const pair_block *x[PAIRS];
    UNROLL
    for (int p = 0; p < P; p++) x[p] = pair_at(q, row + 2 * p);
    UNROLL
    for (int s = 0; s < S; s++) {
        int own = strip + (s < strips ? s : strips - 1);
        first[s] = w[s] = (const uint8_t *)q->job.w + (size_t)own * q->shape.strip_bytes;
        UNROLL
        for (int i = 0; i < TWOS; i++) {
            UNROLL
            for (int p = 0; p < P; p++) acc[s][i][p] = vdupq_n_f32(0.0f);
        }
    }
    const size_t blocks = q->shape.blocks, onward = (S - 1) * q->shape.strip_bytes;
    const size_t block_bytes = mo_q_block_head(form) + mo_q_numbers(form);
    for (size_t b = 0; b < blocks;) {
        const uint8_t *groups[STRIPS];
        UNROLL
        for (int s = 0; s < S; s++) {
            groups[s] = w[s];
            w[s] += mo_q_group_head(form);
        }
        for (size_t end = b + q->shape.group_blocks; b < end; b++) {
            const bool turned = b + AHEAD / block_bytes >= blocks;
            UNROLL
            for (int s = 0; s < S; s++) {
                fetch_ahead(w[s], turned, onward, block_bytes);
                block_add(x, groups[s], w[s], acc[s], P, form);
                w[s] += block_bytes;
            }
            UNROLL
            for (int p = 0; p < P; p++) x[p]++;
        }
    }
    _Alignas(64) row_sums sums[ROWS];
    UNROLL
    for (int s = 0; s < S; s++) unzip(acc[s], first[s], s, P, form, sums);
    finish(q, row, n, strip, strips, sums);
}

ALWAYS_INLINE void tile_strips(const mo_qlinear_job *q, int row, int n, int strip0, int strip1,
                               const int P, const int S, const mo_qform form) {
    for (int strip = strip0; strip < strip1; strip += S)
        tile(q, row, n, strip, strip1 - strip < S ? strip1 - strip : S, P, S, form);
}

/* One function per form: a single one would take compilers long. */
#define TILES(name, form)                                                                        \
    static NOINLINE void name(const mo_qlinear_job *q, int row, int n, int strip0, int strip1) { \
        if (n <= 2)                                                                              \
            tile_strips(q, row, n, strip0, strip1, 1, 2, form);                                  \
        else if (n <= 4)                                                                         \
            tile_strips(q, row, n, strip0, strip1, 2, 1, form);                                  \
        else if (n <= 6)                                                                         \
            tile_strips(q, row, n, strip0, strip1, 3, 1, form);                                  \
        else                                                                                     \
            tile_strips(q, row, n, strip0, strip1, 4, 1, form);                                  \
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

static void linear_i8mm(const mo_qlinear_job *q, int row0, int row1, int strip0, int strip1) {
    typedef void (*tiles_fn)(const mo_qlinear_job *, int, int, int, int);
    static const tiles_fn tiles[] = {
        [MO_QFORM_Q8] = tiles_q8,           [MO_QFORM_Q4] = tiles_q4,
        [MO_QFORM_Q4_K] = tiles_q4_k,       [MO_QFORM_Q6_K] = tiles_q6_k,
        [MO_QFORM_GROUPS4] = tiles_groups4, [MO_QFORM_GROUPS4_WIDE] = tiles_groups4_wide,
        [MO_QFORM_GROUPS8] = tiles_groups8, [MO_QFORM_GROUPS8_WIDE] = tiles_groups8_wide,
        [MO_QFORM_ROWS8] = tiles_rows8,
    };
    const int paired = paired_rows(q), end = row1 < paired ? row1 : paired;
    for (int row = row0; row < end; row += ROWS)
        tiles[q->shape.form](q, row, end - row < ROWS ? end - row : ROWS, strip0, strip1);
    if (end < row1) mo_qkernels_neon_dot()->linear(q, paired, row1, strip0, strip1);
}

static const mo_qkernels kernels = {quantise_i8mm, linear_i8mm};

const mo_qkernels *mo_qkernels_neon_i8mm(void) {
    return mo_qkernels_neon_dot() ? &kernels : NULL;
}

#else

const mo_qkernels *mo_qkernels_neon_i8mm(void) {
    return NULL;
}

#endif
