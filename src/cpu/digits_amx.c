/* digits_amx.c - products of digits with AMX: one instruction multiplies 64 inputs of 16 rows of
 * the batch with those of 16 outputs and adds the sums to 16 times 16 whole numbers. No window of a
 * convolution is copied: rows of a tile may lie any distance apart, and overlap; where slots have
 * few rows each, those of a tile are the same one of several slots. One or two rows
 * are left to AVX-512, which can read more streams of weights at a time; sums of whole numbers are
 * the same. */
#include "digits.h"

/* clang spells this without an underscore up to its version 14 at least */
#if (defined(__AMX_INT8__) || defined(__AMXINT8__)) && defined(__AVX512F__) && \
    defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512VNNI__)
#include "inline.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

enum {
    ROWS = MO_DIGIT_ROWS,
    TILE_BYTES = 1024,
    WEIGHTS = 4,
    LEVELS = 4,
    MOST_ROWS = 48,
    SHORT_RUN = 256, /* inputs between one store of sums and the next */
    FAR = 1 << 14
};

/* What LDTILECFG reads. */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

/* Sums are in tiles 0 to 3, weights in 4 and 5, inputs in 6 and 7. */
static void configure(int rows) {
    _Alignas(64) tile_config c = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        c.rows[i] = (uint8_t)(i == WEIGHTS || i == WEIGHTS + 1 ? ROWS : rows);
        c.row_bytes[i] = 64;
    }
    __asm__ volatile("" ::: "memory"); /* gcc 12 takes the load to read eight bytes only */
    _tile_loadconfig(&c);
}

static mo_digits_row *facts_of(const mo_digits_job *q) {
    const mo_digits_shape *s = &q->shape;
    return (mo_digits_row *)(void *)(q->records +
                                     (size_t)(s->digits + 1) * mo_digits_plane(s, q->slots));
}

static const uint8_t *strip_at(const mo_digits_job *q, int strip) {
    const uint8_t *w = (const uint8_t *)q->job.w + mo_digits_head(q->job.n);
    return w + (size_t)strip * mo_digits_strip_bytes(q->shape.digits, (int64_t)q->job.k);
}

/* Have what is wanted FAR bytes later brought into the second-level cache. */
ALWAYS_INLINE void fetch(const uint8_t *w) {
    _mm_prefetch((const char *)w + FAR, _MM_HINT_T1);
}

/* ---- splitting ------------------------------------------------------------------------------ */

static float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Largest magnitude of a row, as the bits of a float: those of NaN are above all numbers. */
static uint32_t top_of(const float *x, size_t n) {
    __m512i top = _mm512_setzero_si512();
    for (size_t c = 0; c < n; c += 16)
        top = _mm512_max_epu32(top, _mm512_castps_si512(_mm512_abs_ps(_mm512_loadu_ps(x + c))));
    return _mm512_reduce_max_epu32(top);
}

static void split_row(const float *x, uint8_t *out, size_t plane, size_t n, float to_whole,
                      int32_t sums[LEVELS], const int digits) {
    const __m128i ones = _mm_set1_epi8(1);
    __m128i sum[LEVELS] = {_mm_setzero_si128(), _mm_setzero_si128(), _mm_setzero_si128(),
                           _mm_setzero_si128()};
    const __m512i middle = _mm512_set1_epi32(digits == 4 ? 0x808080 : 0x8080);
    const __m512 factor = _mm512_set1_ps(to_whole);
    for (size_t c = 0; c < n; c += 16) {
        __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + c), factor));
        q = _mm512_xor_si512(_mm512_add_epi32(q, middle), middle);
        for (int p = digits - 1; p >= 0; p--, q = _mm512_srli_epi32(q, 8)) {
            const __m128i bytes = _mm512_cvtepi32_epi8(q);
            _mm_storeu_si128((__m128i *)(void *)(out + (size_t)p * plane + c), bytes);
            sum[p] = _mm_dpbusd_epi32(sum[p], ones, bytes);
        }
    }
    for (int p = 0; p < LEVELS; p++) {
        const __m128i pairs = _mm_hadd_epi32(sum[p], sum[p]);
        sums[p] = _mm_cvtsi128_si32(_mm_hadd_epi32(pairs, pairs));
    }
}

/* With 2^e <= the largest magnitude < 2^(e+1) a number is divided by 2^(e + 3 - 8 digits): whole
 * numbers stay below 2^(8 digits - 2), and float32 numbers are kept to their last bit down to a
 * hundredth of the largest with four digits. */
static void split_rows(const mo_digits_job *q, int at, int row0, int row1) {
    const mo_digits_shape *s = &q->shape;
    const float *in = q->job.in.data + (size_t)q->job.active[at] * q->job.in.slot;
    const size_t plane = mo_digits_plane(s, q->slots);
    const int digits = s->digits + 1;
    const uint32_t least = 32, bias = 127, most = 254;
    for (int row = row0; row < row1; row++) {
        const float *x = in + (size_t)row * s->in_stride;
        const size_t index = (size_t)at * (size_t)s->in_rows + (size_t)row;
        const uint32_t e = top_of(x, s->cols) >> 23;
        mo_digits_row *facts = facts_of(q) + index;
        float to_whole = 0.0f;
        facts->step = e > most ? NAN : 0.0f;
        if (e >= least && e <= most) {
            to_whole = from_bits((2 * bias + 8 * (uint32_t)digits - 3 - e) << 23);
            facts->step = from_bits((e - 5) << 23);
        }
        int32_t sums[LEVELS];
        split_row(x, q->records + index * s->pitch, plane, s->cols, to_whole, sums, digits);
        for (int place = 0; place < LEVELS; place++) {
            facts->zero[place] = 0;
            for (int w = 0; w <= place && w < s->digits; w++)
                facts->zero[place] -= 128 * sums[place - w];
        }
    }
}

/* ---- tiles ---------------------------------------------------------------------------------- */

/* Four lines of weights, between one product and the next: see few_add. */
ALWAYS_INLINE void fetch_four(const uint8_t *w, bool wanted) {
    for (int i = 0; wanted && i < 4; i++) fetch(w + i * 64);
    __asm__ volatile("" ::: "memory");
}

/* One block of 64 inputs of the rows at `a` with weights of one digit, as below. */
ALWAYS_INLINE void block_add_1(const uint8_t *a, size_t row_step, size_t plane, const uint8_t *w,
                               bool first) {
    _tile_loadd(4, w, 64);
    fetch_four(w, first);
    _tile_loadd(7, a, row_step);
    fetch_four(w + 256, first);
    _tile_dpbssd(0, 7, 4); /* x0 w0 */
    fetch_four(w + 512, first);
    _tile_loadd(6, a + plane, row_step);
    fetch_four(w + 768, first);
    _tile_dpbssd(1, 6, 4); /* x1 w0 */
}

/* One block of 64 inputs of the rows at `a`: the sums of places 0, 1, ... are in tiles 0, 1, ...
 * Weights are fetched ahead by the first of several tiles. */
ALWAYS_INLINE void block_add(const uint8_t *a, size_t row_step, size_t plane, const uint8_t *w,
                             bool first, const int digits) {
    const size_t step = (size_t)digits * 64;
    if (digits == 1) {
        block_add_1(a, row_step, plane, w, first);
        return;
    }
    _tile_loadd(4, w, step);
    if (digits == 3) {
        _tile_loadd(7, a + 3 * plane, row_step);
        _tile_dpbssd(3, 7, 4); /* x3 w0 */
        fetch_four(w + 2048, first);
        fetch_four(w + 2304, first);
    }
    _tile_loadd(6, a + 2 * plane, row_step);
    _tile_dpbssd(2, 6, 4); /* x2 w0 */
    fetch_four(w, first);
    _tile_loadd(5, w + 64, step);
    fetch_four(w + 256, first);
    if (digits == 3) _tile_dpbssd(3, 6, 5); /* x2 w1 */
    fetch_four(w + 512, first);
    _tile_loadd(7, a + plane, row_step);
    _tile_dpbssd(1, 7, 4); /* x1 w0 */
    fetch_four(w + 768, first);
    _tile_dpbssd(2, 7, 5); /* x1 w1 */
    fetch_four(w + 1024, first);
    _tile_loadd(6, a, row_step);
    _tile_dpbssd(0, 6, 4); /* x0 w0 */
    fetch_four(w + 1280, first);
    _tile_dpbssd(1, 6, 5); /* x0 w1 */
    fetch_four(w + 1536, first);
    fetch_four(w + 1792, first);
    if (digits < 3) return;
    _tile_loadd(4, w + 128, step);
    _tile_dpbssd(3, 7, 4); /* x1 w2 */
    fetch_four(w + 2560, first);
    _tile_dpbssd(2, 6, 4); /* x0 w2 */
    fetch_four(w + 2816, first);
}

/* Rows of one tile. */
typedef struct tile_rows {
    const uint8_t *a; /* first digits of the first input of the first row */
    const mo_digits_row *facts;
    size_t row_step, facts_step, plane;
    int n;               /* rows */
    int slot, row, step; /* the first row, of which of those that take part; to the next row */
} tile_rows;

ALWAYS_INLINE void store_sums(int32_t sums[LEVELS][ROWS * MO_STRIP], const int digits) {
    _tile_stored(0, sums[0], 64);
    _tile_stored(1, sums[1], 64);
    if (digits >= 2) _tile_stored(2, sums[2], 64);
    if (digits == 3) _tile_stored(3, sums[3], 64);
    __asm__ volatile("" ::: "memory"); /* compilers do not know what tiles wrote */
}

/* acc + step of the row * (places together), for one tap. */
ALWAYS_INLINE __m512 fold(const __m512i sums[LEVELS], const mo_digits_row *facts, __m512 acc,
                          const int digits) {
    const __m512 next = _mm512_set1_ps(0x1p-8f);
    __m512 sum = _mm512_cvtepi32_ps(sums[digits]);
    UNROLL
    for (int i = digits - 1; i >= 0; i--)
        sum = _mm512_fmadd_ps(sum, next, _mm512_cvtepi32_ps(sums[i]));
    return _mm512_fmadd_ps(sum, _mm512_set1_ps(facts->step), acc);
}

static NOINLINE void finish(const mo_linear_job *job, const tile_rows *t, const __m512 acc[ROWS],
                            int strip) {
    const int first = strip * MO_STRIP, left = job->n - first;
    const __mmask16 lanes = left >= MO_STRIP ? 0xFFFF : (__mmask16)((1u << left) - 1);
    const __m512 unit = _mm512_loadu_ps((const float *)job->w + first);
    int at = t->slot, in_slot = t->row;
    for (int r = 0; r < t->n; r++, in_slot += t->step) {
        for (; in_slot >= job->rows; in_slot -= job->rows) at++;
        const size_t slot = (size_t)job->active[at], row = (size_t)in_slot;
        __m512 y = _mm512_mul_ps(acc[r], unit);
        if (job->bias) y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(lanes, job->bias + first));
        if (job->scale) y = _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, job->scale + first), y);
        if (job->add.data) {
            const float *add = job->add.data + slot * job->add.slot + row * job->add.row + first;
            y = _mm512_add_ps(_mm512_maskz_loadu_ps(lanes, add), y);
        }
        float *out = job->out.data + slot * job->out.slot + row * job->out.row + first;
        _mm512_mask_storeu_ps(out, lanes, y);
    }
}

/* A store of a tile 1600 cycles or more after the one before takes 1300 cycles longer (measured,
 * not documented): one now and then that nobody needs is less. */
ALWAYS_INLINE void stay_awake(uint8_t spare[TILE_BYTES]) {
    _tile_stored(6, spare, 64);
}

/* One strip for the rows of a tile, the first of several or not. */
ALWAYS_INLINE void strip_run(const mo_digits_job *q, const tile_rows *t, int strip, bool first,
                             const int digits) {
    const mo_digits_shape *s = &q->shape;
    const uint8_t *w = strip_at(q, strip);
    _Alignas(64) int32_t sums[LEVELS][ROWS * MO_STRIP];
    _Alignas(64) uint8_t spare[TILE_BYTES];
    __m512 acc[ROWS];
    for (int r = 0; r < ROWS; r++) acc[r] = _mm512_setzero_ps();
    for (int tap = 0; tap < s->taps; tap++) {
        const size_t row = (size_t)tap * (size_t)s->apart;
        const uint8_t *a = t->a + row * s->pitch;
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        for (size_t c = 0; c < s->cols; c += MO_DIGIT_BLOCK, w += digits * TILE_BYTES) {
            block_add(a + c, t->row_step, t->plane, w, first, digits);
            if (s->cols > SHORT_RUN && c & MO_DIGIT_BLOCK) stay_awake(spare);
        }
        store_sums(sums, digits);
        const mo_digits_row *facts = t->facts + row;
        for (int r = 0; r < t->n; r++, facts += t->facts_step) {
            __m512i places[LEVELS];
            UNROLL
            for (int i = 0; i <= digits; i++) places[i] = _mm512_load_si512(sums[i] + r * MO_STRIP);
            acc[r] = fold(places, facts, acc[r], digits);
        }
    }
    finish(&q->job, t, acc, strip);
}

static NOINLINE void strip_1(const mo_digits_job *q, const tile_rows *t, int strip, bool first) {
    strip_run(q, t, strip, first, 1);
}
static NOINLINE void strip_2(const mo_digits_job *q, const tile_rows *t, int strip, bool first) {
    strip_run(q, t, strip, first, 2);
}
static NOINLINE void strip_3(const mo_digits_job *q, const tile_rows *t, int strip, bool first) {
    strip_run(q, t, strip, first, 3);
}

/* The tile of n rows from `row` of slot `at` on, `step` rows of the batch apart. */
static tile_rows tile_of(const mo_digits_job *q, int at, int row, int step, int n) {
    const mo_digits_shape *s = &q->shape;
    const size_t index = (size_t)(at * s->in_rows + row * s->stride);
    const size_t apart = (size_t)(step == 1 ? s->stride : s->in_rows);
    return (tile_rows){.a = q->records + index * s->pitch,
                       .facts = facts_of(q) + index,
                       .row_step = apart * s->pitch,
                       .facts_step = apart,
                       .plane = mo_digits_plane(s, q->slots),
                       .n = n < ROWS ? n : ROWS,
                       .slot = at,
                       .row = row,
                       .step = step};
}

/* Do rows of several slots lie as far apart as those of one? */
static bool is_joined(const mo_digits_job *q) {
    return q->shape.stride == 1 && q->shape.in_rows == q->job.rows;
}

/* Rows of the batch from `row` on that one tile can hold. */
static tile_rows locate(const mo_digits_job *q, int row, int row1) {
    const int rows = q->job.rows, in_slot = row % rows;
    tile_rows t = tile_of(q, row / rows, in_slot, 1, row1 - row);
    if (!is_joined(q) && t.n > rows - in_slot) t.n = rows - in_slot;
    return t;
}

/* Tiles for some rows of the batch: there are no more than those. */
static int locate_all(const mo_digits_job *q, int row0, int row1, tile_rows tiles[MOST_ROWS]) {
    const int rows = q->job.rows, last = (row1 - 1) / rows;
    int n = 0;
    if (is_joined(q) || last - row0 / rows < rows) {
        for (int row = row0; row < row1; row += tiles[n++].n) tiles[n] = locate(q, row, row1);
        return n;
    }
    for (int row = 0; row < rows; row++) {
        int at = (row0 + rows - 1 - row) / rows, end = (row1 + rows - 1 - row) / rows;
        for (; at < end; at += tiles[n++].n) tiles[n] = tile_of(q, at, row, rows, end - at);
    }
    return n;
}

/* ---- one or two rows ------------------------------------------------------------------------ */

/* Four inputs of R rows times those of one strip. Weights get 128 added to every digit, because one
 * factor has to be without a sign; sums begin with what takes that off again. Loads and fetches are
 * spread evenly over the arithmetic: several at once would make memory wait in between. */
ALWAYS_INLINE void few_add(const tile_rows *t, const uint8_t *a, const uint8_t *w,
                           __m512i sums[2][LEVELS], const int R, const int digits) {
    const __m512i flip = _mm512_set1_epi8((char)0x80);
    __m512i x[2][LEVELS];
    UNROLL
    for (int r = 0; r < R; r++) {
        UNROLL
        for (int i = 0; i <= digits; i++) {
            int32_t four;
            memcpy(&four, a + (size_t)r * t->row_step + (size_t)i * t->plane, sizeof four);
            x[r][i] = _mm512_set1_epi32(four);
        }
    }
    UNROLL
    for (int p = 0; p < digits; p++) {
        const __m512i numbers = _mm512_xor_si512(_mm512_loadu_si512(w + p * 64), flip);
        fetch(w + p * 64);
        UNROLL
        for (int r = 0; r < R; r++) {
            UNROLL
            for (int i = 0; i + p <= digits; i++)
                sums[r][i + p] = _mm512_dpbusd_epi32(sums[r][i + p], numbers, x[r][i]);
        }
        __asm__ volatile("" ::: "memory"); /* compilers would move loads to the front */
    }
}

ALWAYS_INLINE void few_strip(const mo_digits_job *q, const tile_rows *t, int strip, const int R,
                             const int digits) {
    const mo_digits_shape *s = &q->shape;
    const uint8_t *w = strip_at(q, strip);
    __m512 acc[ROWS];
    for (int r = 0; r < R; r++) acc[r] = _mm512_setzero_ps();
    for (int tap = 0; tap < s->taps; tap++) {
        const size_t row = (size_t)tap * (size_t)s->apart;
        const mo_digits_row *facts = t->facts + row;
        const uint8_t *a = t->a + row * s->pitch;
        __m512i sums[2][LEVELS];
        UNROLL
        for (int r = 0; r < R; r++) {
            UNROLL
            for (int i = 0; i < LEVELS; i++)
                sums[r][i] = _mm512_set1_epi32(facts[r * s->stride].zero[i]);
        }
        for (size_t c = 0; c < s->cols; c += 4, w += digits * 64)
            few_add(t, a + c, w, sums, R, digits);
        UNROLL
        for (int r = 0; r < R; r++) acc[r] = fold(sums[r], facts + r * s->stride, acc[r], digits);
    }
    finish(&q->job, t, acc, strip);
}

/* One function per shape: a single one would take compilers long. */
#define FEW(name, R, digits)                                                          \
    static NOINLINE void name(const mo_digits_job *q, const tile_rows *t, int strip0, \
                              int strip1) {                                           \
        for (int i = strip0; i < strip1; i++) few_strip(q, t, i, R, digits);          \
    }
FEW(few_1_1, 1, 1)
FEW(few_1_2, 1, 2)
FEW(few_1_3, 1, 3)
FEW(few_2_1, 2, 1)
FEW(few_2_2, 2, 2)
FEW(few_2_3, 2, 3)

static void few_rows(const mo_digits_job *q, int row0, int row1, int strip0, int strip1) {
    typedef void run(const mo_digits_job *, const tile_rows *, int, int);
    static run *const runs[][MO_DIGITS] = {{few_1_1, few_1_2, few_1_3},
                                           {few_2_1, few_2_2, few_2_3}};
    for (int row = row0; row < row1;) {
        const tile_rows t = locate(q, row, row1);
        runs[t.n - 1][q->shape.digits - 1](q, &t, strip0, strip1);
        row += t.n;
    }
}

/* Strips for the rows of some tiles. */
static void tiled_rows(const mo_digits_job *q, int row0, int row1, int strip0, int strip1) {
    typedef void run(const mo_digits_job *, const tile_rows *, int, bool);
    static run *const runs[MO_DIGITS] = {strip_1, strip_2, strip_3};
    tile_rows tiles[MOST_ROWS];
    const int n = locate_all(q, row0, row1, tiles);
    int configured = 0;
    for (int strip = strip0; strip < strip1; strip++)
        for (int i = 0; i < n; i++) {
            if (tiles[i].n != configured) configure(configured = tiles[i].n);
            runs[q->shape.digits - 1](q, &tiles[i], strip, row0 + i == 0);
        }
    _tile_release(); /* or every task switch would save the tiles */
}

static void linear_amx(const mo_digits_job *q, int row0, int row1, int strip0, int strip1) {
    if (row1 - row0 <= 2) {
        few_rows(q, row0, row1, strip0, strip1);
        return;
    }
    for (int row = row0; row < row1; row += MOST_ROWS)
        tiled_rows(q, row, row1 - row < MOST_ROWS ? row1 : row + MOST_ROWS, strip0, strip1);
}

static const mo_digits_kernels kernels = {split_rows, linear_amx};

const mo_digits_kernels *mo_digits_amx(void) {
    return &kernels;
}

#else

const mo_digits_kernels *mo_digits_amx(void) {
    return NULL;
}

#endif
