#version 450
// rvq_pick.comp - the nearest entry of a codebook, exactly: near ties are measured again in two floats.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(local_size_x = 64) in;
layout(set = 0, binding = 1) readonly buffer Book { float data[]; } book; // strips
layout(set = 0, binding = 2) readonly buffer Scores { float data[]; } scores;
layout(set = 0, binding = 3) coherent buffer Residual { float data[]; } residual;
layout(set = 0, binding = 4) buffer Codes { int data[]; } codes;
layout(push_constant) uniform Push {
    view scores, residual, codes;
    uint rows, units, bins, dim;
    float radius; // length of the longest entry, or a little more
    float blur;   // how far entries lie from those the scores were taken with
} p;

shared float partial[64];
shared vec2 nearest[64];
shared uint which[64];

uint entry(uint j) { return j / 16 * p.dim * 16 + j % 16; }

vec2 distance2(uint x, uint j) {
    vec2 sum = vec2(0.0);
    uint e = entry(j);
    for (uint i = 0; i < p.dim; i++) {
        vec2 d = two_sum(residual.data[x + i], -book.data[e + i * 16]);
        sum = df_add(sum, df_mul(d, d));
    }
    return sum;
}

bool less(vec2 a, vec2 b) { return a.x < b.x || (a.x == b.x && a.y < b.y); }

// How far the best score may be from the true one's: a sum of dim products is off by at most
// (dim + 2) 2^-24 |x| |e|, and the bias |e|^2 / 2 may have been summed that way; entries that are off
// by `blur` add up to |x| blur. Twice, as both may.
float slack(float length) {
    float rounding = float(p.dim + 4) * 5.9604645e-8 * (p.radius + p.blur) * (length + p.radius);
    return 2.02 * (rounding + length * p.blur);
}

void main() {
    uint u = unit(), t = gl_LocalInvocationID.x;
    if (u >= p.units) return;
    uint slot = u / p.rows, row = u % p.rows;
    if (!takes_part(slot)) return;
    uint s = at(p.scores, slot, row), x = at(p.residual, slot, row);
    float high = -3.402823466e38, squares = 0.0;
    for (uint j = t; j < p.bins; j += 64) high = max(high, scores.data[s + j]);
    for (uint i = 0; i < p.dim; i++) squares = fma(residual.data[x + i], residual.data[x + i], squares);
    partial[t] = high;
    barrier();
    for (uint i = 0; i < 64; i++) high = max(high, partial[i]);
    float least = high - slack(1.001 * sqrt(squares));
    vec2 best = vec2(3.402823466e38, 0.0);
    uint chosen = 0xFFFFFFFFu;
    for (uint j = t; j < p.bins; j += 64) {
        if (!(scores.data[s + j] >= least)) continue;
        vec2 d = distance2(x, j);
        if (!less(d, best)) continue;
        best = d;
        chosen = j;
    }
    nearest[t] = best;
    which[t] = chosen;
    barrier();
    best = nearest[0];
    chosen = which[0];
    for (uint i = 1; i < 64; i++) {
        bool equal = nearest[i] == best && which[i] < chosen;
        if (!equal && !less(nearest[i], best)) continue;
        best = nearest[i];
        chosen = which[i];
    }
    if (chosen == 0xFFFFFFFFu) chosen = 0; // nothing but NaN
    uint e = entry(chosen);
    for (uint i = t; i < p.dim; i += 64) residual.data[x + i] -= book.data[e + i * 16];
    if (t == 0) codes.data[at(p.codes, slot, row)] = int(chosen);
}
