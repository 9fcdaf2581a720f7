#version 450
// norm.comp - one workgroup normalises one row.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(local_size_x = 128) in;
layout(set = 0, binding = 1) readonly buffer In { float data[]; } src;
layout(set = 0, binding = 2) readonly buffer Weight { float data[]; } weight;
layout(set = 0, binding = 3) readonly buffer Bias { float data[]; } bias;
layout(set = 0, binding = 4) buffer Out { float data[]; } dst;
layout(push_constant) uniform Push {
    view src, dst;
    uint rows, units, cols, layer, has_bias;
    float eps;
} p;

#define THREADS 128
#include "sums.glsl"

void main() {
    uint u = unit(), t = gl_LocalInvocationID.x;
    if (u >= p.units) return;
    uint slot = u / p.rows, row = u % p.rows;
    if (!takes_part(slot)) return;
    uint a = at(p.src, slot, row), o = at(p.dst, slot, row);
    float mean = 0.0, sum = 0.0;
    if (p.layer != 0u) {
        for (uint c = t; c < p.cols; c += 128) sum += src.data[a + c];
        mean = total(sum) / float(p.cols);
    }
    sum = 0.0;
    for (uint c = t; c < p.cols; c += 128) {
        float d = src.data[a + c] - mean;
        sum = fma(d, d, sum);
    }
    float inv = div_nearest(1.0, sqrt(total(sum) / float(p.cols) + p.eps));
    for (uint c = t; c < p.cols; c += 128) {
        float y = (src.data[a + c] - mean) * inv * weight.data[c];
        dst.data[o + c] = p.has_bias != 0u ? y + bias.data[c] : y;
    }
}
