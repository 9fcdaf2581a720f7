#version 450
// attend_merge.comp - one head of one query out of what the workgroups of attend.comp made.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "attend.glsl"

layout(local_size_x = 64) in;
layout(set = 0, binding = 1) readonly buffer Pos { int data[]; } pos;
layout(set = 0, binding = 2) readonly buffer Made { float data[]; } made; // as in attend.comp
layout(set = 0, binding = 3) buffer Out { float data[]; } dst;
layout(push_constant) uniform Push {
    view pos, dst;
    uint rows, units, heads, head_dim, capacity, context, parts;
    int static_pos; // below 0: at `pos`
} p;

void main() {
    uint u = unit(), h = gl_WorkGroupID.x;
    if (u >= p.units) return;
    uint slot = u / p.rows, row = u % p.rows;
    if (!takes_part(slot)) return;
    int start = p.static_pos < 0 ? pos.data[at(p.pos, slot, 0)] : p.static_pos;
    int here = start + int(row), oldest = start + int(p.rows) - int(p.capacity);
    int from = max(max(here - int(p.context) + 1, oldest), 0);
    uint n = uint(max(here - from + 1, 0)), parts = (n + PART - 1) / PART, step = 2 + p.head_dim;
    uint m = (u * p.heads + h) * p.parts * step, o = at(p.dst, slot, row) + h * p.head_dim;
    float top = -3.402823466e38, sum = 0.0;
    for (uint i = 0; i < parts; i++) top = max(top, made.data[m + i * step]);
    for (uint i = 0; i < parts; i++)
        sum = fma(exp_of(made.data[m + i * step] - top), made.data[m + i * step + 1], sum);
    for (uint c = gl_LocalInvocationID.x; c < p.head_dim; c += 64) {
        float acc = 0.0;
        for (uint i = 0; i < parts; i++)
            acc = fma(exp_of(made.data[m + i * step] - top), made.data[m + i * step + 2 + c], acc);
        dst.data[o + c] = n > 0u ? div_nearest(acc, sum) : 0.0;
    }
}
