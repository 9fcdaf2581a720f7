#include "pieces.h"

#include "cpuid.h"

#include <string.h>

const mo_pieces_kernels *mo_pieces_get(mo_cpu_level level) {
    if (level == MO_CPU_LEVEL_AUTO) level = mo_cpu_level_best();
    return level == MO_CPU_LEVEL_AMX_BF16 && mo_kernels_get(level) ? mo_pieces_amx() : NULL;
}

bool mo_pieces_wanted(const mo_matrix *m, mo_layout layout) {
    return m->pieces >= 2 && m->pieces <= MO_PIECES && m->dtype == MO_F32 &&
           layout == MO_LAYOUT_STRIPS && m->cols % MO_PIECE_BLOCK == 0;
}

size_t mo_pieces_strip_bytes(const mo_matrix *m) {
    return (size_t)m->cols * MO_STRIP * sizeof(uint16_t) * (size_t)m->pieces;
}

void mo_pieces_pack(const mo_matrix *m, int64_t strip, uint8_t *dst) {
    const size_t pieces = (size_t)m->pieces, numbers = MO_PIECE_BLOCK * MO_STRIP;
    uint16_t *out = (uint16_t *)(void *)(dst + (size_t)strip * mo_pieces_strip_bytes(m));
    for (size_t n = 0; n < MO_STRIP && strip * MO_STRIP + (int64_t)n < m->rows; n++) {
        const uint8_t *row = m->data;
        row += ((size_t)strip * MO_STRIP + n) * (size_t)m->cols * sizeof(float);
        for (size_t k = 0; k < (size_t)m->cols; k++) {
            size_t block = k / MO_PIECE_BLOCK, i = k % MO_PIECE_BLOCK;
            uint16_t *at = out + block * pieces * numbers + i / 2 * 2 * MO_STRIP + 2 * n + i % 2;
            float x;
            memcpy(&x, row + k * sizeof x, sizeof x);
            for (size_t p = 0; p < pieces; p++) {
                at[p * numbers] = mo_f32_to_bf16(x);
                x -= mo_bf16_to_f32(at[p * numbers]);
            }
        }
    }
}

mo_pieces_shape mo_pieces_shape_of(const mo_op_linear *op, int rows) {
    mo_pieces_shape s = {.pieces = op->w->pieces};
    if (s.pieces == 0) return s;
    const size_t tiles = ((size_t)rows + MO_PIECE_ROWS - 1) / MO_PIECE_ROWS;
    const size_t taps = (size_t)(op->taps - 1) * (size_t)op->dilation;
    s.cols = (size_t)op->in.cols;
    s.in_rows = op->in.rows;
    s.piece = ((tiles * MO_PIECE_ROWS - 1) * (size_t)op->stride + taps + 1) * s.cols;
    s.row_step = (size_t)op->stride * s.cols;
    s.run_step = (size_t)op->dilation * s.cols;
    s.in_stride = op->in.row_stride;
    return s;
}
