#version 450
// stream.comp - histories of streams: padding of the first call, moving on, counting. One thread per column, so that a row is read before it is overwritten.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(local_size_x = 64) in;
layout(set = 0, binding = 1) buffer Rows { uint data[]; } rows;
layout(set = 0, binding = 2) buffer Pos { int data[]; } pos;
layout(push_constant) uniform Push {
    view rows, pos;
    uint units, mode, n, cols, from; // rows 0 .. n - 1 become rows from + 0 ..
} p;

const uint PAD_FIRST = 0, SHIFT = 1, ADVANCE = 2;

void main() {
    uint slot = unit(), c = gl_GlobalInvocationID.x;
    if (slot >= p.units || !takes_part(slot) || c >= p.cols) return;
    if (p.mode == ADVANCE) {
        pos.data[at(p.pos, slot, 0)] += int(p.n);
        return;
    }
    if (p.mode == PAD_FIRST && pos.data[at(p.pos, slot, 0)] != 0) return;
    for (uint row = 0; row < p.n; row++) {
        uint source = p.mode == SHIFT ? p.from + row : p.n;
        rows.data[at(p.rows, slot, row) + c] = rows.data[at(p.rows, slot, source) + c];
    }
}
