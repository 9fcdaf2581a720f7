#version 450
// rope_table.comp - sines and cosines of large angles to the last bit or the one before.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(local_size_x = 64) in;
layout(set = 0, binding = 1) readonly buffer Freq { float data[]; } freq;
layout(set = 0, binding = 2) readonly buffer Pos { int data[]; } pos;
layout(set = 0, binding = 3) buffer Out { float data[]; } dst;
layout(push_constant) uniform Push {
    view pos, dst;
    uint rows, units, pairs;
} p;

// angle - k pi / 2, for k below 2^24: drivers promise nothing outside -pi .. pi. Pi / 2 in three
// floats; products of k are exact as two.
float reduced(float angle, out int quadrant) {
    const float P1 = 1.57079637050628662109375, P2 = -4.37113900018624283e-8,
                P3 = 1.71512451000588187e-15;
    precise float k = floor(angle * 0.636619772367581343 + 0.5);
    vec2 a = two_prod(k, P1), b = two_prod(k, P2);
    vec2 r = two_sum(angle, -a.x);
    r = df_add(r, vec2(-a.y, 0.0));
    r = df_add(r, -b);
    precise float last = r.x + (r.y - k * P3);
    quadrant = int(k - 4.0 * floor(k * 0.25));
    return last;
}

// Minimax polynomials on -pi/4 .. pi/4 (after Moshier's Cephes).
vec2 cos_sin(float x) {
    float z = x * x;
    float s = fma(fma(fma(-1.9515295891e-4, z, 8.3321608736e-3), z, -1.6666654611e-1) * z, x, x);
    float c = fma(fma(2.443315711809948e-5, z, -1.388731625493765e-3), z, 4.166664568298827e-2);
    return vec2(fma(c * z, z, fma(-0.5, z, 1.0)), s);
}

void main() {
    uint u = unit(), i = gl_GlobalInvocationID.x;
    if (u >= p.units || i >= p.pairs) return;
    uint slot = u / p.rows, row = u % p.rows;
    if (!takes_part(slot)) return;
    float position = float(pos.data[at(p.pos, slot, 0)] + int(row));
    precise float angle = position * freq.data[i];
    int quadrant;
    vec2 cs = cos_sin(reduced(angle, quadrant));
    if ((quadrant & 1) != 0) cs = vec2(-cs.y, cs.x);
    if ((quadrant & 2) != 0) cs = -cs;
    uint o = at(p.dst, slot, row) + 2 * i;
    dst.data[o] = cs.x;
    dst.data[o + 1] = cs.y;
}
