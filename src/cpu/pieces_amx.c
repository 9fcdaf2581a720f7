/* pieces_amx.c - products of bfloat16 pieces of floats with AMX: one instruction multiplies 32
 * inputs of 16 rows of the batch with those of 16 outputs and adds the sums to 16 times 16 floats.
 * No window of a convolution is copied: rows of a tile may lie any distance apart, and overlap. */
#include "pieces.h"

/* clang spells this without an underscore up to its version 14 at least */
#if (defined(__AMX_BF16__) || defined(__AMXBF16__)) && defined(__AVX512F__) && \
    defined(__AVX512BF16__) && defined(__AVX512BW__)
#include "inline.h"

#include <immintrin.h>

enum { ROWS = MO_PIECE_ROWS, TILE_BYTES = 1024 };

/* What LDTILECFG reads. */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

static void configure(void) {
    _Alignas(64) tile_config c = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        c.rows[i] = ROWS;
        c.row_bytes[i] = 64;
    }
    __asm__ volatile("" ::: "memory"); /* gcc 12 takes the load to read eight bytes only */
    _tile_loadconfig(&c);
}

/* ---- splitting ------------------------------------------------------------------------------ */

/* The first piece of row `row` of op->in of the slot active[at]. */
static uint16_t *record_of(const mo_pieces_job *q, int at, size_t row) {
    const mo_pieces_shape *s = &q->shape;
    uint16_t *slot = q->records + (size_t)(at - q->at) * (size_t)s->pieces * s->piece;
    return slot + row * s->cols - (size_t)q->row * s->row_step;
}

static void split_rows(const mo_pieces_job *q, const float *in, int at, int row, int n) {
    const mo_pieces_shape *s = &q->shape;
    uint16_t *out = record_of(q, at, (size_t)row);
    for (int r = 0; r < n; r++, in += s->in_stride, out += s->cols)
        for (size_t c = 0; c < s->cols; c += 16) {
            __m512 x = _mm512_loadu_ps(in + c);
            for (int p = 0; p < s->pieces; p++) {
                __m256i piece = (__m256i)_mm512_cvtneps_pbh(x);
                uint16_t *to = out + (size_t)p * s->piece + c;
                _mm256_storeu_si256((__m256i *)(void *)to, piece);
                __m512i wide = _mm512_slli_epi32(_mm512_cvtepu16_epi32(piece), 16);
                x = _mm512_sub_ps(x, _mm512_castsi512_ps(wide));
            }
        }
}

/* ---- tiles ---------------------------------------------------------------------------------- */

/* R times 16 rows by S strips. Tiles are named by literals, because those become text: two times 16
 * rows have sums in 0 to 3, inputs in 4 and 5, weights of up to two strips in 6 and 7; 16 rows have
 * sums in 0 to 2, inputs in 4, weights of up to three strips in 5 to 7. */

ALWAYS_INLINE void load_inputs(const uint8_t *a, size_t row_step, const int R) {
    _tile_loadd(4, a, row_step);
    if (R == 2) _tile_loadd(5, a + ROWS * row_step, row_step);
}

ALWAYS_INLINE void load_weights(const uint8_t *b, size_t strip, const int R, const int S) {
    if (R == 2) {
        _tile_loadd(6, b, 64);
        if (S > 1) _tile_loadd(7, b + strip, 64);
        return;
    }
    _tile_loadd(5, b, 64);
    if (S > 1) _tile_loadd(6, b + strip, 64);
    if (S > 2) _tile_loadd(7, b + 2 * strip, 64);
}

ALWAYS_INLINE void multiply(const int R, const int S) {
    if (R == 2) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 5, 6);
        if (S > 1) _tile_dpbf16ps(2, 4, 7);
        if (S > 1) _tile_dpbf16ps(3, 5, 7);
        return;
    }
    _tile_dpbf16ps(0, 4, 5);
    if (S > 1) _tile_dpbf16ps(1, 4, 6);
    if (S > 2) _tile_dpbf16ps(2, 4, 7);
}

/* One block of 32 inputs: products of pieces in an order that changes one of both at a time. */
ALWAYS_INLINE void block_add(const uint8_t *a, size_t row_step, size_t piece, const uint8_t *b,
                             size_t strip, const int R, const int S, const int pieces) {
    load_inputs(a, row_step, R);
    if (pieces == 3) {
        load_weights(b + 2 * TILE_BYTES, strip, R, S);
        multiply(R, S); /* x0 w2 */
    }
    load_weights(b + TILE_BYTES, strip, R, S);
    multiply(R, S); /* x0 w1 */
    if (pieces == 3) {
        load_inputs(a + piece, row_step, R);
        multiply(R, S); /* x1 w1 */
        load_inputs(a, row_step, R);
    }
    load_weights(b, strip, R, S);
    multiply(R, S); /* x0 w0 */
    load_inputs(a + piece, row_step, R);
    multiply(R, S); /* x1 w0 */
    if (pieces == 3) {
        load_inputs(a + 2 * piece, row_step, R);
        multiply(R, S); /* x2 w0 */
    }
}

/* Bias, scale and addend for `rows` rows of one strip of sums. */
static NOINLINE void finish(const mo_linear_job *job, const float *sums, size_t slot, int row,
                            int rows, int strip) {
    const int first = strip * MO_STRIP, left = job->n - first;
    const __mmask16 lanes = left >= MO_STRIP ? 0xFFFF : (__mmask16)((1u << left) - 1);
    const __m512 bias =
        job->bias ? _mm512_maskz_loadu_ps(lanes, job->bias + first) : _mm512_setzero_ps();
    for (int r = 0; r < rows && r < ROWS; r++) {
        const size_t at = (size_t)(row + r);
        __m512 y = _mm512_load_ps(sums + r * MO_STRIP);
        if (job->bias) y = _mm512_add_ps(y, bias);
        if (job->scale) y = _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, job->scale + first), y);
        if (job->add.data) {
            const float *add = job->add.data + slot * job->add.slot + at * job->add.row + first;
            y = _mm512_add_ps(_mm512_maskz_loadu_ps(lanes, add), y);
        }
        float *out = job->out.data + slot * job->out.slot + at * job->out.row + first;
        _mm512_mask_storeu_ps(out, lanes, y);
    }
}

ALWAYS_INLINE void tile(const mo_pieces_job *q, int at, int row, int rows, int strip, const int R,
                        const int S, const int pieces) {
    enum { NUMBERS = ROWS * MO_STRIP };
    const mo_pieces_shape *s = &q->shape;
    const mo_linear_job *job = &q->job;
    const uint8_t *a = (const uint8_t *)record_of(q, at, (size_t)row * s->row_step / s->cols);
    const size_t strip_bytes = job->k * MO_STRIP * sizeof(uint16_t) * (size_t)pieces;
    const uint8_t *b = (const uint8_t *)job->w + (size_t)strip * strip_bytes;
    const size_t row_step = 2 * s->row_step, piece = 2 * s->piece;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _Alignas(64) float sums[4][NUMBERS];
    for (int segment = 0; segment < job->segments; segment++, a += 2 * s->run_step)
        for (size_t i = 0; i < job->run; i += MO_PIECE_BLOCK, b += pieces * TILE_BYTES) {
            block_add(a + 2 * i, row_step, piece, b, strip_bytes, R, S, pieces);
            if (i & MO_PIECE_BLOCK) _tile_stored(4, sums[0], 64); /* see stay_awake */
        }
    _tile_stored(0, sums[0], 64);
    _tile_stored(1, sums[1], 64);
    _tile_stored(2, sums[2], 64);
    _tile_stored(3, sums[3], 64);
    const size_t slot = (size_t)job->active[at];
    for (int i = 0; i < S; i++)
        for (int r = 0; r < R; r++)
            finish(job, sums[R * i + r], slot, row + ROWS * r, rows - ROWS * r, strip + i);
}

/* Strips strip0 .. strip1-1 of one tile of rows; one function per shape: a single one would take
 * compilers long. */
#define STRIPS(name, R, S, pieces)                                                               \
    static NOINLINE void name(const mo_pieces_job *q, int at, int row, int rows, int strip0,     \
                              int strip1) {                                                      \
        int strip = strip0;                                                                      \
        for (; strip + (S) <= strip1; strip += (S)) tile(q, at, row, rows, strip, R, S, pieces); \
        if ((S) > 2 && strip + 2 == strip1)                                                      \
            tile(q, at, row, rows, strip, R, 2, pieces);                                         \
        else if (strip < strip1)                                                                 \
            tile(q, at, row, rows, strip, R, 1, pieces);                                         \
    }
STRIPS(strips_32_2, 2, 2, 2)
STRIPS(strips_32_3, 2, 2, 3)
STRIPS(strips_16_2, 1, 3, 2)
STRIPS(strips_16_3, 1, 3, 3)

static void linear_amx(const mo_pieces_job *q, int at, int row0, int row1, int strip0, int strip1) {
    const bool two = q->shape.pieces == 2;
    configure();
    for (int row = row0; row < row1;) {
        int rows = row1 - row;
        if (rows > ROWS) {
            if (rows > 2 * ROWS) rows = 2 * ROWS;
            (two ? strips_32_2 : strips_32_3)(q, at, row, rows, strip0, strip1);
        } else {
            (two ? strips_16_2 : strips_16_3)(q, at, row, rows, strip0, strip1);
        }
        row += rows;
    }
    _tile_release(); /* or every task switch would save the tiles */
}

static const mo_pieces_kernels kernels = {split_rows, linear_amx};

const mo_pieces_kernels *mo_pieces_amx(void) {
    return &kernels;
}

#else

const mo_pieces_kernels *mo_pieces_amx(void) {
    return NULL;
}

#endif
