#version 450
// attend.comp - one head of one query over PART positions: backend.h, mo_op_attend. Where more can be
// seen, `parts` workgroups take PART of them each and attend_merge.comp puts together what they made:
// a maximum, a sum and head_dim weighted values (Dao et al. 2023, Flash-Decoding). Parts begin with
// the oldest position that is seen, on every device alike.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(local_size_x = 64) in;
layout(set = 0, binding = 1) readonly buffer Qkv { float data[]; } qkv;
layout(set = 0, binding = 2) readonly buffer Pos { int data[]; } pos;
layout(set = 0, binding = 3) readonly buffer K { uint words[]; } keys;
layout(set = 0, binding = 4) readonly buffer V { uint words[]; } values;
layout(set = 0, binding = 5) buffer Made { float data[]; } made; // [units, heads, parts, 2 + head_dim]
layout(set = 0, binding = 6) buffer Out { float data[]; } dst;
layout(push_constant) uniform Push {
    view qkv, pos, dst;
    uint rows, units, heads, kv_heads, head_dim, capacity, row_words, dtype, context, parts;
    int static_pos; // below 0: at `pos`
    float scale;
    uint first_head, first_word; // what the bindings of keys and values begin with
} p;

#define THREADS 64
#include "sums.glsl"
#include "attend.glsl"

shared float scores[PART];

float score(uint q, uint k) {
    float sum = 0.0;
    if (p.dtype == F32) {
        for (uint c = 0; c < p.head_dim; c++) sum = fma(qkv.data[q + c], uintBitsToFloat(keys.words[k + c]), sum);
        return sum * p.scale;
    }
    if (p.dtype == BF16) {
        for (uint c = 0; c < p.head_dim; c += 2) {
            uint both = keys.words[k + c / 2];
            sum = fma(qkv.data[q + c], bf16_to_float(both & 0xFFFFu), sum);
            if (c + 1 < p.head_dim) sum = fma(qkv.data[q + c + 1], bf16_to_float(both >> 16), sum);
        }
        return sum * p.scale;
    }
    for (uint c = 0; c < p.head_dim; c++)
        sum = fma(qkv.data[q + c], float(signed_byte(keys.words[k + 1 + c / 4], c % 4)), sum);
    return sum * uintBitsToFloat(keys.words[k]) * p.scale;
}

float value(uint v, uint c) {
    if (p.dtype == F32) return uintBitsToFloat(values.words[v + c]);
    if (p.dtype == BF16)
        return bf16_to_float(bitfieldExtract(values.words[v + c / 2], int(c & 1u) * 16, 16));
    return float(signed_byte(values.words[v + 1 + c / 4], c % 4));
}

// Where the row of a position begins in the ring.
uint row_at(uint ring, uint position) {
    return p.first_word + (ring + position % p.capacity) * p.row_words;
}

void main() {
    uint u = unit(), t = gl_LocalInvocationID.x;
    uint part = gl_WorkGroupID.x % p.parts, bound_head = gl_WorkGroupID.x / p.parts;
    uint h = p.first_head + bound_head;
    if (u >= p.units) return;
    uint slot = u / p.rows, row = u % p.rows;
    if (!takes_part(slot)) return;
    uint q = at(p.qkv, slot, row) + h * p.head_dim;
    int start = p.static_pos < 0 ? pos.data[at(p.pos, slot, 0)] : p.static_pos;
    int here = start + int(row), oldest = start + int(p.rows) - int(p.capacity);
    int from = max(max(here - int(p.context) + 1, oldest), 0) + int(part * PART);
    int n_seen = min(here - from + 1, int(PART));
    if (n_seen <= 0 && part > 0u) return; // attend_merge.comp does not look at it
    uint n = uint(max(n_seen, 0));
    uint ring = (slot * p.kv_heads + bound_head / (p.heads / p.kv_heads)) * p.capacity;
    float top = -3.402823466e38, sum = 0.0;
    for (uint i = t; i < n; i += 64) {
        float x = score(q, row_at(ring, uint(from) + i));
        scores[i] = x;
        top = max(top, x);
    }
    top = largest(top);
    for (uint i = t; i < n; i += 64) {
        float e = exp_of(scores[i] - top);
        sum += e;
        if (p.dtype == I8)
            e *= uintBitsToFloat(values.words[row_at(ring, uint(from) + i)]);
        scores[i] = e;
    }
    sum = total(sum); // and the scores are seen by everybody
    uint o = at(p.dst, slot, row) + h * p.head_dim;
    uint m = ((u * p.heads + h) * p.parts + part) * (2 + p.head_dim);
    if (p.parts > 1u && t == 0) {
        made.data[m] = top;
        made.data[m + 1] = sum;
    }
    for (uint c = t; c < p.head_dim; c += 64) {
        float acc = 0.0;
        for (uint i = 0; i < n; i++)
            acc = fma(scores[i], value(row_at(ring, uint(from) + i), c), acc);
        if (p.parts > 1u)
            made.data[m + 2 + c] = acc;
        else
            dst.data[o + c] = n > 0u ? div_nearest(acc, sum) : 0.0;
    }
}
