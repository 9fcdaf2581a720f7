#version 450
// rope_kv.comp - rotate one head of one row; keys and values go to the ring.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(local_size_x = 64) in;
layout(set = 0, binding = 1) coherent buffer Qkv { float data[]; } qkv;
layout(set = 0, binding = 2) readonly buffer Table { float data[]; } table;
layout(set = 0, binding = 3) readonly buffer Pos { int data[]; } pos;
layout(set = 0, binding = 4) buffer K { uint words[]; } keys;
layout(set = 0, binding = 5) buffer V { uint words[]; } values;
layout(push_constant) uniform Push {
    view qkv, table, pos;
    uint rows, units, kind, heads, kv_heads, head_dim, capacity, row_words, dtype;
    int static_pos; // below 0: at `pos`
    uint queries;   // the first workgroups rotate a query head each, or there are none of those
    uint first_head, n_heads, first_word; // of keys and values, as bound
} p;

shared uint top_bits;

void rotate(uint x, uint t) {
    uint half_dim = p.head_dim / 2;
    for (uint i = gl_LocalInvocationID.x; i < half_dim; i += 64) {
        uint re = p.kind == 1u ? x + 2 * i : x + i, im = p.kind == 1u ? re + 1 : re + half_dim;
        float c = table.data[t + 2 * i], s = table.data[t + 2 * i + 1];
        float a = qkv.data[re], b = qkv.data[im];
        precise float y = a * c - b * s, z = a * s + b * c;
        qkv.data[re] = y;
        qkv.data[im] = z;
    }
}

// Word i of the ring's row for the numbers at x; 0 stands behind the last of them.
float number(uint x, uint i) { return i < p.head_dim ? qkv.data[x + i] : 0.0; }
uint stored(uint x, uint i, float d) {
    if (p.dtype == F32) return floatBitsToUint(qkv.data[x + i]);
    if (p.dtype == BF16) {
        uint low = float_to_bf16(number(x, 2 * i)), high = 2 * i + 1 < p.head_dim ? float_to_bf16(number(x, 2 * i + 1)) : 0u;
        return low | high << 16;
    }
    if (i == 0) return floatBitsToUint(d);
    uint word = 0, bits = floatBitsToUint(d);
    for (uint k = 0; k < 4; k++) {
        uint c = 4 * (i - 1) + k;
        if (c >= p.head_dim || bits == 0u) continue;
        int q = is_finite(d) ? int(roundEven(div_nearest(qkv.data[x + c], d))) : 1;
        word |= (uint(q) & 255u) << (8 * k);
    }
    return word;
}

float step_of(uint x) {
    uint top = 0;
    for (uint i = gl_LocalInvocationID.x; i < p.head_dim; i += 64)
        top = max(top, floatBitsToUint(qkv.data[x + i]) & 0x7FFFFFFFu);
    atomicMax(top_bits, top);
    barrier();
    float d = div_nearest(uintBitsToFloat(top_bits), 127.0);
    return floatBitsToUint(d) < 0x00800000u ? 0.0 : d;
}

void main() {
    uint u = unit(), h = gl_WorkGroupID.x;
    bool is_q = h < p.queries, is_v = h >= p.queries + p.n_heads;
    uint head = h - p.queries - (is_v ? p.n_heads : 0u); // of those bound
    uint column = is_q ? h : p.heads + p.first_head + head + (is_v ? p.kv_heads : 0u);
    if (u >= p.units) return;
    uint slot = u / p.rows, row = u % p.rows;
    if (!takes_part(slot)) return;
    uint x = at(p.qkv, slot, row) + column * p.head_dim;
    if (p.kind != 0u && !is_v) rotate(x, at(p.table, slot, row));
    if (is_q) return;
    if (gl_LocalInvocationID.x == 0) top_bits = 0;
    memoryBarrierBuffer();
    memoryBarrierShared(); /* the translation to Metal goes by these alone */
    barrier();
    float d = p.dtype == I8 ? step_of(x) : 0.0;
    int position = (p.static_pos < 0 ? pos.data[at(p.pos, slot, 0)] : p.static_pos) + int(row);
    uint o = p.first_word + ((slot * p.kv_heads + head) * p.capacity + uint(position) % p.capacity) *
             p.row_words;
    for (uint i = gl_LocalInvocationID.x; i < p.row_words; i += 64) {
        uint word = stored(x, i, d);
        if (is_v)
            values.words[o + i] = word;
        else
            keys.words[o + i] = word;
    }
}
