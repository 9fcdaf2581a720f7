#version 450
// sift.comp - who has a token that is none takes no part in what comes after: backend.h, mo_op_sift.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(local_size_x = 1) in;
layout(set = 0, binding = 1) writeonly buffer Flags { uint flags[]; }; // what takes_part() reads
layout(set = 0, binding = 2) readonly buffer Tokens { int data[]; } tokens;
layout(push_constant) uniform Push {
    view tokens;
    uint units, cols;
    int n;
} p;

void main() {
    uint slot = unit();
    if (slot >= p.units || !takes_part(slot)) return;
    bool all = true;
    for (uint c = 0; c < p.cols; c++) {
        int token = tokens.data[at(p.tokens, slot, 0) + c];
        all = all && token >= 0 && token < p.n;
    }
    if (!all) flags[slot * 64] = 0u;
}
