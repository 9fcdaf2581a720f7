#version 450
// embed.comp - add one table's row per token: backend.h, mo_op_embed_sum.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(local_size_x = 64) in;
layout(set = 0, binding = 1) readonly buffer Table { uint words[]; } table;
layout(set = 0, binding = 2) readonly buffer Tokens { int data[]; } tokens;
layout(set = 0, binding = 3) buffer Out { float data[]; } dst;
layout(push_constant) uniform Push {
    view tokens, dst;
    uint rows, units, cols, dtype, strips, add;
    uint first_row, n_rows; // of the table, as bound
    uint row_bytes, bits, group, wide;
} p;

uint byte_at(uint b) { return bitfieldExtract(table.words[b >> 2], int(b & 3u) * 8, 8); }
uint half_at(uint b) { return byte_at(b) | byte_at(b + 1) << 8; }
uint word_at(uint b) { return half_at(b) | half_at(b + 2) << 16; }
float scale_at(uint b, uint i) {
    return p.wide != 0u ? uintBitsToFloat(word_at(b + 4 * i)) : bf16_to_float(half_at(b + 2 * i));
}

float plain_number(uint i) { // element i of a table of floats
    if (p.dtype == F32) return uintBitsToFloat(table.words[i]);
    uint h = bitfieldExtract(table.words[i >> 1], int(i & 1u) * 16, 16);
    return p.dtype == F16 ? half_to_float(h) : bf16_to_float(h);
}

// Scale and minimum of group g of a block of Q4_K or Q5_K: six bits each, in twelve bytes.
uvec2 k_scales(uint at, uint g) {
    if (g < 4) return uvec2(byte_at(at + g) & 63u, byte_at(at + g + 4) & 63u);
    uint low = byte_at(at + g + 4), s = byte_at(at + g - 4), m = byte_at(at + g);
    return uvec2((low & 15u) | (s >> 6) << 4, (low >> 4) | (m >> 6) << 4);
}

float k_number(uint row, uint c, bool fifth) {
    uint block = row + c / 256 * (fifth ? 176u : 144u), k = c % 256, g = k / 32, l = k % 32;
    uint at = block + (fifth ? 48u : 16u) + g / 2 * 32 + l;
    uint q = (byte_at(at) >> (4 * (g & 1u))) & 15u;
    if (fifth) q |= ((byte_at(block + 16 + l) >> g) & 1u) << 4;
    uvec2 s = k_scales(block + 4, g);
    precise float high = half_to_float(half_at(block)) * float(s.x) * float(q);
    precise float low = half_to_float(half_at(block + 2)) * float(s.y);
    return high - low;
}

float q6_number(uint row, uint c) {
    uint block = row + c / 256 * 210, k = c % 256, part = k / 128, l = k % 32, quarter = k % 128 / 32;
    uint low = byte_at(block + part * 64 + (quarter & 1u) * 32 + l) >> (quarter / 2 * 4) & 15u;
    uint high = byte_at(block + 128 + part * 32 + l) >> (2 * quarter) & 3u;
    int scale = signed_byte(byte_at(block + 192 + part * 8 + quarter * 2 + l / 16), 0);
    return half_to_float(half_at(block + 208)) * float(scale) * float(int(low | high << 4) - 32);
}

float number(uint row, uint c) {
    if (p.strips != 0u) return plain_number(row / 16 * p.cols * 16 + c * 16 + row % 16);
    if (p.dtype <= BF16) return plain_number(row * p.cols + c);
    uint at = row * p.row_bytes, block = at + c / 32 * (p.dtype == Q8_0 ? 34u : 18u), k = c % 32;
    if (p.dtype == Q8_0)
        return half_to_float(half_at(block)) * float(signed_byte(byte_at(block + 2 + k), 0));
    if (p.dtype == Q4_0) {
        int q = int(byte_at(block + 2 + k % 16) >> (k / 16 * 4) & 15u) - 8;
        return half_to_float(half_at(block)) * float(q);
    }
    if (p.dtype == Q4_K || p.dtype == Q5_K) return k_number(at, c, p.dtype == Q5_K);
    if (p.dtype == Q6_K) return q6_number(at, c);
    if (p.dtype == I8) {
        precise float x = float(signed_byte(byte_at(at + c), 0)) * uintBitsToFloat(word_at(at + p.cols));
        return div_nearest(x, 127.0);
    }
    uint q = bitfieldExtract(byte_at(at + c * p.bits / 8), int(c * p.bits % 8), int(p.bits));
    uint scales = at + p.cols * p.bits / 8, biases = scales + p.cols / p.group * (p.wide != 0u ? 4u : 2u);
    precise float x = scale_at(scales, c / p.group) * float(q);
    precise float y = x + scale_at(biases, c / p.group);
    return y;
}

void main() {
    uint c = gl_GlobalInvocationID.x, u = unit();
    if (u >= p.units || c >= p.cols) return;
    uint slot = u / p.rows, row = u % p.rows;
    if (!takes_part(slot)) return;
    uint o = at(p.dst, slot, row) + c;
    float sum = p.add != 0u ? dst.data[o] : 0.0;
    int token = tokens.data[at(p.tokens, slot, row)] - int(p.first_row);
    if (token >= 0 && token < int(p.n_rows)) sum += number(uint(token), c);
    dst.data[o] = sum;
}
