#version 450
// quantise.comp - activations to whole numbers, a block of 32 per thread: backend.h, mo_op_linear.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(local_size_x = 64) in;
layout(set = 0, binding = 1) readonly buffer In { float data[]; } src;
layout(set = 0, binding = 2) buffer Records { uint words[]; } records;
layout(push_constant) uniform Push {
    view src;
    uint rows, units, stride, run, tap_step, cols, blocks;
} p;

// Column k of the row that begins at `a`; 0 past the end.
float input_at(uint a, uint k) {
    return k < p.cols ? src.data[a + k / p.run * p.tap_step + k % p.run] : 0.0;
}

void main() {
    uint u = unit(), b = gl_GlobalInvocationID.x;
    if (u >= p.units || b >= p.blocks || !takes_part(u / p.rows)) return;
    uint a = at(p.src, u / p.rows, u % p.rows * p.stride), top_bits = 0;
    for (uint k = 0; k < 32; k++)
        top_bits = max(top_bits, floatBitsToUint(input_at(a, b * 32 + k)) & 0x7FFFFFFFu);
    bool finite = top_bits < 0x7F800000u, any = finite && top_bits >= 0x0D800000u; // 2^-100
    float top = any ? uintBitsToFloat(top_bits) : 1.0, inverse = div_nearest(127.0, top);
    uint record = u * p.blocks * 12, q = record + b * 8, steps = record + p.blocks * 8 + b;
    int sum = 0, half_sum = 0;
    for (uint j = 0; j < 8; j++) {
        uint word = 0;
        for (uint i = 0; any && i < 4; i++) {
            precise float t = input_at(a, b * 32 + j * 4 + i) * inverse;
            precise float nearest = t + 12582912.0;
            int number = int(floatBitsToUint(nearest) - 0x4B400000u);
            sum += number;
            word |= (uint(number) & 255u) << (8 * i);
        }
        records.words[q + j] = word;
        if (j == 3) half_sum = sum;
    }
    float d = any ? div_nearest(top, 127.0) : finite ? 0.0 : uintBitsToFloat(0x7FC00000u);
    records.words[steps] = floatBitsToUint(d);
    records.words[steps + p.blocks] = floatBitsToUint(d * float(sum));
    records.words[steps + 2 * p.blocks] = uint(sum);
    records.words[steps + 3 * p.blocks] = uint(half_sum);
}
