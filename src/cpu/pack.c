#include "pack.h"

#include "digits.h"
#include "pieces.h"
#include "quant_blocks.h"

#include <limits.h>
#include <string.h>

enum {
    PACK_COLS = 64,
    PACK_STRIPS = 16,
    LOOK_STRIPS = 4,
    CHUNK_ROWS = MO_STRIP * PACK_STRIPS,
    SPAN = 8 /* blocks: 256 columns */
};

static bool is_plain(mo_dtype dtype) {
    return dtype == MO_F32 || dtype == MO_F16 || dtype == MO_BF16;
}

static size_t plain_size(mo_dtype dtype) {
    return dtype == MO_F32 ? 4 : 2;
}

/* ---- sizes --------------------------------------------------------------------------------- */

static mo_qform form_of(mo_dtype dtype, int64_t cols, int bits, int64_t group, mo_dtype scales) {
    bool wide = scales == MO_F32, half = bits == 1 || bits == 2 || bits == 4;
    switch (dtype) {
    case MO_Q8_0:
    case MO_Q5_K:
        return MO_QFORM_Q8;
    case MO_Q4_0:
        return MO_QFORM_Q4;
    case MO_Q4_K:
        return MO_QFORM_Q4_K;
    case MO_Q6_K:
        return MO_QFORM_Q6_K;
    case MO_I8:
        return MO_QFORM_ROWS8;
    case MO_U32:
        if (group < MO_BLOCK || group % MO_BLOCK != 0 || cols % group != 0) return MO_QFORM_NONE;
        if (half) return wide ? MO_QFORM_GROUPS4_WIDE : MO_QFORM_GROUPS4;
        return wide ? MO_QFORM_GROUPS8_WIDE : MO_QFORM_GROUPS8;
    default:
        return MO_QFORM_NONE;
    }
}

/* Kernels read four strips side by side. Where those lie whole pages apart memory answers 4 to 5 %
 * slower (q8_0 with 4096 columns, 17 pages): then they are moved apart by some lines of the cache,
 * nine of which were as good as seventeen and better than one. Nobody reads the bytes between. */
enum { PAGE = 4096, APART = 576 };

mo_qshape mo_qshape_of(mo_dtype dtype, int64_t cols, int bits, int64_t group, mo_dtype scales) {
    mo_qshape s = {.form = form_of(dtype, cols, bits, group, scales)};
    if (s.form == MO_QFORM_NONE) return s;
    s.blocks = (size_t)(cols + MO_BLOCK - 1) / MO_BLOCK;
    s.group_blocks = 1;
    if (s.form == MO_QFORM_Q4_K || s.form == MO_QFORM_Q6_K) s.group_blocks = SPAN;
    if (s.form == MO_QFORM_ROWS8) s.group_blocks = s.blocks;
    if (mo_q_has_bias(s.form)) s.group_blocks = (size_t)(group / MO_BLOCK);
    s.strip_bytes = s.blocks / s.group_blocks * mo_q_group_head(s.form) +
                    s.blocks * (mo_q_block_head(s.form) + mo_q_numbers(s.form));
    s.apart = s.strip_bytes % PAGE ? 0 : APART;
    s.strip_bytes += s.apart;
    return s;
}

static size_t scale_size(const mo_matrix *m) {
    return m->scales_dtype == MO_F32 ? 4 : 2;
}

/* Bytes of one row of a table; 0 for types and sizes there are none of. */
static size_t row_bytes(const mo_matrix *m) {
    size_t cols = (size_t)m->cols;
    if (is_plain(m->dtype)) return cols * plain_size(m->dtype);
    if (m->dtype == MO_I8) return cols + sizeof(float);
    if (m->dtype == MO_U32) {
        bool fits = m->bits >= 1 && m->bits <= 8 && 32 % m->bits == 0 && m->group >= 1 &&
                    m->cols % m->group == 0 && m->cols * m->bits % 32 == 0 &&
                    (m->scales_dtype == MO_F32 || m->scales_dtype == MO_BF16);
        return fits ? cols * (size_t)m->bits / 8 + cols / (size_t)m->group * 2 * scale_size(m) : 0;
    }
    return mo_quant_of(m->dtype) ? (size_t)mo_dtype_row_bytes(m->dtype, cols) : 0;
}

size_t mo_pack_bytes(const mo_matrix *m, mo_layout layout) {
    const int64_t max_rows = (int64_t)MO_STRIP * PACK_STRIPS * MO_POOL_MAX_CHUNKS;
    if (m->rows < 1 || m->cols < 1 || m->rows > max_rows || m->cols > INT_MAX / MO_STRIP) return 0;
    size_t bytes = row_bytes(m), n = (size_t)m->rows;
    if (bytes == 0) return 0;
    if (layout == MO_LAYOUT_STRIPS) {
        n = (n + MO_STRIP - 1) / MO_STRIP;
        mo_qshape q = mo_qshape_of(m->dtype, m->cols, m->bits, m->group, m->scales_dtype);
        if (q.form == MO_QFORM_NONE && !is_plain(m->dtype)) return 0;
        bytes = q.form == MO_QFORM_NONE ? bytes * MO_STRIP : q.strip_bytes;
        if (m->pieces) bytes = mo_pieces_strip_bytes(m);
        if (m->digits) {
            bytes = mo_digits_strip_bytes(m->digits, m->cols);
            return mo_mul(bytes, n, &bytes) ? bytes + mo_digits_head(m->rows) : 0;
        }
    }
    return mo_mul(bytes, n, &bytes) ? bytes : 0;
}

/* ---- floats -------------------------------------------------------------------------------- */

typedef struct pack_job {
    const mo_matrix *src;
    mo_qshape shape;
    uint8_t *dst;
} pack_job;

/* Columns col0 .. col1-1 of one strip; rows past the end stay zero. memcpy because the source may
 * be unaligned; `size` is a constant where this is expanded. */
static inline void pack_columns(const pack_job *job, int64_t strip, int64_t col0, int64_t col1,
                                const size_t size) {
    int64_t cols = job->src->cols;
    uint8_t *dst = job->dst + (size_t)(strip * cols) * MO_STRIP * size;
    for (int64_t r = 0; r < MO_STRIP && strip * MO_STRIP + r < job->src->rows; r++) {
        const uint8_t *row = (const uint8_t *)job->src->data;
        row += (size_t)((strip * MO_STRIP + r) * cols) * size;
        for (int64_t c = col0; c < col1; c++)
            memcpy(dst + (size_t)(c * MO_STRIP + r) * size, row + (size_t)c * size, size);
    }
}

static void pack_floats(const pack_job *job, int64_t strip) {
    int64_t cols = job->src->cols;
    for (int64_t c = 0; c < cols; c += PACK_COLS) {
        int64_t end = c + PACK_COLS < cols ? c + PACK_COLS : cols;
        if (job->src->dtype == MO_F32)
            pack_columns(job, strip, c, end, 4);
        else
            pack_columns(job, strip, c, end, 2);
    }
}

/* ---- quantised numbers ---------------------------------------------------------------------- */

/* Blocks first .. first + n - 1 of a row of ggml blocks, of which Q5_K is requantised to Q8_0. */
static void fetch_blocks(const mo_matrix *m, int64_t row, size_t first, size_t n,
                         mo_quant_group *out) {
    const uint8_t *p = (const uint8_t *)m->data + (size_t)row * row_bytes(m);
    if (m->dtype != MO_Q5_K) {
        for (size_t i = 0; i < n; i++) mo_quant_group_at(m->dtype, p, first + i, &out[i]);
        return;
    }
    float x[SPAN * MO_BLOCK];
    uint8_t q8[SPAN * 34];
    size_t count = n * MO_BLOCK;
    mo_quant_of(MO_Q5_K)->dequantise(p + mo_dtype_row_bytes(MO_Q5_K, first * MO_BLOCK), x, count);
    mo_quant_of(MO_Q8_0)->quantise(x, q8, count);
    for (size_t i = 0; i < n; i++) mo_quant_group_at(MO_Q8_0, q8, i, &out[i]);
}

/* The same of words or bytes, whose scales are stored with the group. */
static void fetch_numbers(const mo_matrix *m, int64_t row, size_t first, size_t n,
                          mo_quant_group *out) {
    const uint8_t *p = m->data;
    if (m->dtype == MO_I8) {
        p += (size_t)row * (size_t)m->cols;
        for (size_t i = 0; i < n; i++) {
            size_t at = (first + i) * MO_BLOCK, left = (size_t)m->cols - at;
            memset(out[i].q, 0, MO_BLOCK);
            memcpy(out[i].q, p + at, left < MO_BLOCK ? left : MO_BLOCK);
        }
        return;
    }
    size_t bits = (size_t)m->bits;
    p += (size_t)row * ((size_t)m->cols * bits / 8) + first * MO_BLOCK * bits / 8;
    for (size_t i = 0; i < n; i++, p += MO_BLOCK * bits / 8)
        for (size_t k = 0; k < MO_BLOCK; k++)
            out[i].q[k] = (uint8_t)(p[k * bits / 8] >> (k * bits % 8) & ((1u << bits) - 1));
}

static void put_f16(uint8_t *p, int r, uint16_t bits) {
    memcpy(p + 2 * r, &bits, sizeof bits);
}

static void put_scale(uint8_t *p, int r, float v, bool wide) {
    if (wide)
        memcpy(p + 4 * r, &v, sizeof v);
    else
        put_f16(p, r, mo_f32_to_bf16(v));
}

/* Row r's share of the head of a group that begins with block b. */
static void put_group_head(const pack_job *job, uint8_t *p, int64_t row, size_t b,
                           const mo_quant_group *g) {
    const mo_matrix *m = job->src;
    const mo_qform form = job->shape.form;
    int r = (int)(row % MO_STRIP);
    if (form == MO_QFORM_ROWS8) {
        put_scale(p, r, m->scales[row] / 127.0f, true);
    } else if (mo_q_has_bias(form)) {
        bool wide = m->scales_dtype == MO_F32;
        size_t at = (size_t)row * (size_t)(m->cols / m->group) + b / job->shape.group_blocks;
        put_scale(p, r, m->scales[at], wide);
        put_scale(p + mo_q_group_head(form) / 2, r, m->biases[at], wide);
    } else {
        put_f16(p, r, g->d);
        if (form == MO_QFORM_Q4_K) put_f16(p + 32, r, g->m);
    }
}

static void put_block_head(mo_qform form, uint8_t *p, int r, const mo_quant_group *g) {
    if (form != MO_QFORM_Q4_K && form != MO_QFORM_Q6_K) return;
    p[r] = (uint8_t)g->scale[0];
    p[16 + r] = form == MO_QFORM_Q4_K ? g->minimum : (uint8_t)g->scale[1];
}

/* Row r's numbers of one block. */
static void put_numbers(mo_qform form, uint8_t *p, int r, const uint8_t q[MO_BLOCK]) {
    size_t bytes = mo_q_numbers(form);
    uint8_t flat[MO_BLOCK];
    p += 4 * r;
    if (bytes == 512) {
        const uint8_t flip = mo_q_has_bias(form) ? 0 : 0x80;
        for (int k = 0; k < MO_BLOCK; k++) flat[k] = q[k] ^ flip;
        for (int j = 0; j < 8; j++) memcpy(p + 64 * j, flat + 4 * j, 4);
        return;
    }
    for (int k = 0; k < 16; k++) flat[k] = (uint8_t)((q[k] & 15) | q[k + 16] << 4);
    for (int j = 0; j < 4; j++) memcpy(p + 64 * j, flat + 4 * j, 4);
    if (bytes == 256) return;
    memset(flat, 0, 8);
    for (int k = 0; k < MO_BLOCK; k++)
        flat[k / 16 * 4 + k % 4] |= (uint8_t)(q[k] >> 4 << (2 * (k / 4 % 4)));
    memcpy(p + 256, flat, 4);
    memcpy(p + 320, flat + 4, 4);
}

/* Four numbers or eight halves at a time. */
static uint32_t load_word(const void *p) {
    uint32_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

static void put_word(uint8_t *p, uint32_t word) {
    memcpy(p, &word, sizeof word);
}

/* Row r's share of a block: what the functions above do, for the formats that large models come in.
 */
static void put_q8_0(const block_q8_0 *b, uint8_t *block, int r) {
    memcpy(block + 2 * r, b->d, 2);
    for (int j = 0; j < 8; j++)
        put_word(block + 32 + 64 * j + 4 * r, load_word(b->q + 4 * j) ^ 0x80808080u);
}

/* Halves of bytes lie as they do in a strip. */
static void put_q4_0(const block_q4_0 *b, uint8_t *block, int r) {
    memcpy(block + 2 * r, b->d, 2);
    for (int j = 0; j < 4; j++) put_word(block + 32 + 64 * j + 4 * r, load_word(b->q + 4 * j));
}

/* Groups of 32 lie in pairs, the first in the low and the second in the high halves of 32 bytes. */
static void put_q4_k(const block_q4_k *b, uint8_t *group, int r) {
    const uint32_t low = 0x0F0F0F0Fu;
    uint8_t scale[GROUPS], minimum[GROUPS], *block = group + mo_q_group_head(MO_QFORM_Q4_K);
    unpack_scales(b->scales, scale, minimum);
    memcpy(group + 2 * r, b->d, 2);
    memcpy(group + 32 + 2 * r, b->m, 2);
    for (int g = 0; g < GROUPS; g++) {
        const uint8_t *q = b->q + g / 2 * GROUP;
        block[r] = scale[g];
        block[16 + r] = minimum[g];
        block += mo_q_block_head(MO_QFORM_Q4_K);
        for (int j = 0; j < 4; j++) {
            uint32_t x = load_word(q + 4 * j), y = load_word(q + 16 + 4 * j);
            put_word(block + 64 * j + 4 * r,
                     g % 2 ? (x >> 4 & low) | (y & ~low) : (x & low) | (y & low) << 4);
        }
        block += mo_q_numbers(MO_QFORM_Q4_K);
    }
}

/* Is there a short way for blocks of this type? */
static bool has_short_way(mo_dtype dtype) {
    return dtype == MO_Q8_0 || dtype == MO_Q4_0 || dtype == MO_Q4_K;
}

/* Groups first .. first + n - 1 of a row, whose share of the strip begins at `group`. */
static void pack_short(const pack_job *job, int64_t row, size_t first, size_t n, uint8_t *group,
                       size_t group_bytes) {
    const uint8_t *from = (const uint8_t *)job->src->data + (size_t)row * row_bytes(job->src);
    int r = (int)(row % MO_STRIP);
    for (size_t i = first; i < first + n; i++, group += group_bytes)
        if (job->src->dtype == MO_Q8_0)
            put_q8_0((const block_q8_0 *)from + i, group, r);
        else if (job->src->dtype == MO_Q4_0)
            put_q4_0((const block_q4_0 *)from + i, group, r);
        else
            put_q4_k((const block_q4_k *)from + i, group, r);
}

/* About a kilobyte of every row after the other: memory is read ahead that far. Rows past the end
 * stay zero. */
static void pack_strip_short(const pack_job *job, int64_t strip, size_t group_bytes) {
    const mo_qshape *s = &job->shape;
    const size_t groups = s->blocks / s->group_blocks, step = 4 * SPAN / s->group_blocks;
    uint8_t *dst = job->dst + (size_t)strip * s->strip_bytes;
    for (size_t first = 0; first < groups; first += step) {
        size_t n = groups - first < step ? groups - first : step;
        for (int r = 0; r < MO_STRIP && strip * MO_STRIP + r < job->src->rows; r++)
            pack_short(job, strip * MO_STRIP + r, first, n, dst + first * group_bytes, group_bytes);
    }
}

/* Rows past the end stay zero. */
static void pack_numbers(const pack_job *job, int64_t strip) {
    const mo_matrix *m = job->src;
    const mo_qshape *s = &job->shape;
    const size_t group_head = mo_q_group_head(s->form), block_head = mo_q_block_head(s->form);
    const size_t block_bytes = block_head + mo_q_numbers(s->form);
    const size_t group_bytes = group_head + s->group_blocks * block_bytes;
    uint8_t *dst = job->dst + (size_t)strip * s->strip_bytes;
    mo_quant_group groups[SPAN];
    if (has_short_way(m->dtype)) {
        pack_strip_short(job, strip, group_bytes);
        return;
    }
    for (size_t first = 0; first < s->blocks; first += SPAN) {
        size_t n = s->blocks - first < SPAN ? s->blocks - first : SPAN;
        for (int r = 0; r < MO_STRIP && strip * MO_STRIP + r < m->rows; r++) {
            int64_t row = strip * MO_STRIP + r;
            if (m->dtype == MO_I8 || m->dtype == MO_U32)
                fetch_numbers(m, row, first, n, groups);
            else
                fetch_blocks(m, row, first, n, groups);
            for (size_t i = 0; i < n; i++) {
                size_t b = first + i, in_group = b % s->group_blocks;
                uint8_t *group = dst + b / s->group_blocks * group_bytes;
                uint8_t *block = group + group_head + in_group * block_bytes;
                if (in_group == 0) put_group_head(job, group, row, b, &groups[i]);
                put_block_head(s->form, block, r, &groups[i]);
                put_numbers(s->form, block + block_head, r, groups[i].q);
            }
        }
    }
}

/* ---- tables -------------------------------------------------------------------------------- */

static void look_at(const mo_matrix *m, int64_t first, int64_t n) {
    if (first + n > m->rows) n = m->rows - first;
    if (m->look && n > 0) m->look(m->look_user, first, n);
}

/* Rows as they are. */
static void copy_chunk(void *ctx, int chunk, int thread) {
    const pack_job *job = ctx;
    const mo_matrix *m = job->src;
    int64_t first = (int64_t)chunk * CHUNK_ROWS, n = m->rows - first;
    size_t bytes = row_bytes(m);
    (void)thread;
    if (n > CHUNK_ROWS) n = CHUNK_ROWS;
    look_at(m, first, n);
    memcpy(job->dst + (size_t)first * bytes, (const uint8_t *)m->data + (size_t)first * bytes,
           bytes * (size_t)n);
}

/* Rows whose scales lie beside them in host memory get them at their end: [numbers | scales |
 * biases]. */
static void pack_table(const mo_matrix *m, uint8_t *dst) {
    size_t bytes = row_bytes(m);
    look_at(m, 0, m->rows);
    bool words = m->dtype == MO_U32;
    size_t numbers = words ? (size_t)m->cols * (size_t)m->bits / 8 : (size_t)m->cols;
    int64_t groups = words ? m->cols / m->group : 1;
    for (int64_t row = 0; row < m->rows; row++, dst += bytes) {
        memcpy(dst, (const uint8_t *)m->data + (size_t)row * numbers, numbers);
        for (int g = 0; g < groups; g++) {
            bool wide = !words || m->scales_dtype == MO_F32;
            put_scale(dst + numbers, g, m->scales[row * groups + g], wide);
            if (words)
                put_scale(dst + numbers + (size_t)groups * scale_size(m), g,
                          m->biases[row * groups + g], wide);
        }
    }
}

static float scale_at(const uint8_t *p, size_t i, bool wide) {
    float f;
    uint16_t h;
    if (wide) {
        memcpy(&f, p + 4 * i, sizeof f);
        return f;
    }
    memcpy(&h, p + 2 * i, sizeof h);
    return mo_bf16_to_f32(h);
}

void mo_table_read(const mo_weight *t, int row, int col, int n, float *out) {
    size_t bytes = t->buf->bytes / (size_t)t->rows, cols = (size_t)t->cols;
    const uint8_t *p = (const uint8_t *)t->buf->data + (size_t)row * bytes;
    if (t->dtype == MO_I8) {
        float scale = scale_at(p + cols, 0, true);
        for (int i = 0; i < n; i++) out[i] = (float)(int8_t)p[col + i] * scale / 127.0f;
    } else if (t->dtype == MO_U32) {
        size_t bits = (size_t)t->bits, group = (size_t)t->group;
        bool wide = t->scales_dtype == MO_F32;
        const uint8_t *scales = p + cols * bits / 8,
                      *biases = scales + cols / group * (wide ? 4 : 2);
        for (size_t i = 0; i < (size_t)n; i++) {
            size_t c = (size_t)col + i;
            unsigned q = p[c * bits / 8] >> (c * bits % 8) & ((1u << bits) - 1);
            out[i] =
                scale_at(scales, c / group, wide) * (float)q + scale_at(biases, c / group, wide);
        }
    } else {
        p += mo_dtype_row_bytes(t->dtype, (uint64_t)col);
        mo_quant_of(t->dtype)->dequantise(p, out, (size_t)n);
    }
}

/* ---- the whole matrix ----------------------------------------------------------------------- */

static void pack_chunk(void *ctx, int chunk, int thread) {
    const pack_job *job = ctx;
    int64_t strips = (job->src->rows + MO_STRIP - 1) / MO_STRIP;
    (void)thread;
    for (int64_t s = (int64_t)chunk * PACK_STRIPS; s < strips; s++) {
        if (s == ((int64_t)chunk + 1) * PACK_STRIPS) return;
        /* as many rows as are still in a cache when they are packed */
        if (s % LOOK_STRIPS == 0) look_at(job->src, s * MO_STRIP, LOOK_STRIPS * MO_STRIP);
        if (job->src->digits)
            mo_digits_pack(job->src, s, job->dst);
        else if (job->src->pieces)
            mo_pieces_pack(job->src, s, job->dst);
        else if (job->shape.form == MO_QFORM_NONE)
            pack_floats(job, s);
        else
            pack_numbers(job, s);
    }
}

void mo_pack(mo_pool *pool, const mo_matrix *m, mo_layout layout, void *dst) {
    bool strips = layout == MO_LAYOUT_STRIPS, beside = m->dtype == MO_I8 || m->dtype == MO_U32;
    pack_job job = {m, mo_qshape_of(m->dtype, m->cols, m->bits, m->group, m->scales_dtype), dst};
    if (!strips && beside)
        pack_table(m, dst);
    else
        mo_pool_run(pool, strips ? pack_chunk : copy_chunk, &job,
                    (int)((m->rows + CHUNK_ROWS - 1) / CHUNK_ROWS));
}
