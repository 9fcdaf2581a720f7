#include "digits.h"

#include "cpuid.h"

#include <math.h>
#include <string.h>

const mo_digits_kernels *mo_digits_get(mo_cpu_level level) {
    if (level == MO_CPU_LEVEL_AUTO) level = mo_cpu_level_best();
    return level == MO_CPU_LEVEL_AMX_BF16 && mo_kernels_get(level) ? mo_digits_amx() : NULL;
}

bool mo_digits_wanted(const mo_matrix *m, mo_layout layout) {
    return m->digits >= 1 && m->digits <= MO_DIGITS && layout == MO_LAYOUT_STRIPS &&
           (m->dtype == MO_F32 || m->dtype == MO_F16) && m->cols % MO_DIGIT_BLOCK == 0;
}

size_t mo_digits_head(int64_t rows) {
    return (size_t)((rows + MO_STRIP - 1) / MO_STRIP) * MO_STRIP * sizeof(float);
}

size_t mo_digits_strip_bytes(int digits, int64_t cols) {
    return (size_t)digits * (size_t)cols * MO_STRIP;
}

static double number_at(const mo_matrix *m, size_t i) {
    const uint8_t *p = m->data;
    if (m->dtype == MO_F16) {
        uint16_t half;
        memcpy(&half, p + i * sizeof half, sizeof half);
        return (double)mo_f16_to_f32(half);
    }
    float x;
    memcpy(&x, p + i * sizeof x, sizeof x);
    return (double)x;
}

/* The largest number of so many digits, and what is added so that all but the first become bytes
 * from 0 to 255. */
static int32_t largest(int digits) {
    return digits == 3 ? 0x7F7F7F : digits == 2 ? 0x7F7F : 0x7F;
}

static int32_t middle(int digits) {
    return digits == 3 ? 0x8080 : digits == 2 ? 0x80 : 0;
}

/* The nearest whole number, of two the even one: what is left when the sum is rounded to 52 bits.
 */
static int32_t round_whole(double x) {
    const double sum = x + 0x1.8p52;
    int64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    return (int32_t)bits;
}

/* The digits of one row, four numbers at a time, each to its place in the strip that begins at
 * `out`.
 */
static void pack_row(const mo_matrix *m, size_t row, double whole, uint8_t *out) {
    const size_t cols = (size_t)m->cols, digits = (size_t)m->digits;
    out += row % MO_STRIP * 4;
    for (size_t k = 0; k < cols; k += 4) {
        uint8_t four[MO_DIGITS][4];
        for (size_t j = 0; j < 4; j++) {
            int32_t q = round_whole(number_at(m, row * cols + k + j) * whole) + middle(m->digits);
            for (size_t p = digits - 1; p > 0; p--, q >>= 8)
                four[p][j] = (uint8_t)(((uint32_t)q & 255) ^ 0x80);
            four[0][j] = (uint8_t)q;
        }
        for (size_t p = 0; p < digits; p++, out += 4 * MO_STRIP) memcpy(out, four[p], 4);
    }
}

void mo_digits_pack(const mo_matrix *m, int64_t strip, uint8_t *dst) {
    const size_t cols = (size_t)m->cols;
    uint8_t *out = dst + mo_digits_head(m->rows);
    out += (size_t)strip * mo_digits_strip_bytes(m->digits, m->cols);
    for (size_t n = 0; n < MO_STRIP && strip * MO_STRIP + (int64_t)n < m->rows; n++) {
        const size_t row = (size_t)strip * MO_STRIP + n;
        double top = 0;
        bool finite = true;
        for (size_t k = 0; k < cols; k++) {
            const double x = fabs(number_at(m, row * cols + k));
            finite &= isfinite(x);
            if (x > top) top = x;
        }
        if (finite && top < 0x1p-90) continue; /* a row of zeros */
        const double step = top / largest(m->digits);
        const float first = !finite ? NAN : (float)(step * (double)(1 << (8 * (m->digits - 1))));
        memcpy(dst + row * sizeof first, &first, sizeof first);
        if (finite) pack_row(m, row, 1 / step, out);
    }
}

mo_digits_shape mo_digits_shape_of(const mo_op_linear *op) {
    return (mo_digits_shape){.digits = op->w->digits,
                             .in_rows = op->in.rows,
                             .stride = op->stride,
                             .taps = op->taps,
                             .apart = op->dilation,
                             .cols = (size_t)op->in.cols,
                             .pitch = (size_t)op->in.cols + 64,
                             .in_stride = op->in.row_stride};
}

size_t mo_digits_plane(const mo_digits_shape *s, int slots) {
    return (size_t)(slots * s->in_rows + MO_DIGIT_ROWS * s->stride) * s->pitch;
}

size_t mo_digits_record_bytes(const mo_digits_shape *s) {
    const size_t rows = (size_t)s->in_rows * sizeof(mo_digits_row);
    return (size_t)(s->digits + 1) * mo_digits_plane(s, 1) + (rows + 63) / 64 * 64;
}
