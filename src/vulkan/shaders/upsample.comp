#version 450
// upsample.comp - depthwise transposed convolution: backend.h, mo_op_upsample.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(local_size_x = 64) in;
layout(set = 0, binding = 1) readonly buffer W { float data[]; } w;
layout(set = 0, binding = 2) readonly buffer In { float data[]; } src;
layout(set = 0, binding = 3) buffer Out { float data[]; } dst;
layout(push_constant) uniform Push {
    view src, dst;
    uint rows, units, cols, taps, stride;
} p;

void main() {
    uint c = gl_GlobalInvocationID.x, u = unit();
    if (u >= p.units || c >= p.cols || !takes_part(u / p.rows)) return;
    uint slot = u / p.rows, row = u % p.rows, t = row / p.stride, phase = row % p.stride;
    float acc = 0.0;
    for (uint j = 0; j < p.taps; j++)
        acc = fma(w.data[(c * p.taps + j) * p.stride + phase],
                  src.data[at(p.src, slot, p.taps - 1 + t - j) + c], acc);
    dst.data[at(p.dst, slot, row) + c] = acc;
}
