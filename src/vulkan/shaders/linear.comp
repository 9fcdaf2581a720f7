#version 450
// linear.comp - products with plain weights; WEIGHT is their type, TILE rows of the batch share a pass.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "linear.glsl"

// Number i of the strips as bound.
float weight(uint i) {
#if WEIGHT == 0
    return uintBitsToFloat(w.words[i]);
#else
    uint h = bitfieldExtract(w.words[i >> 1], int(i & 1u) * 16, 16);
#if WEIGHT == 1
    return half_to_float(h);
#else
    return bf16_to_float(h);
#endif
#endif
}

void main() {
    uint r = gl_LocalInvocationID.x % 16, slice = gl_LocalInvocationID.x / 16, x[TILE];
    if (!tile_begin()) return;
    for (uint m = 0; m < TILE; m++) {
        uint b = batch_row(m);
        x[m] = at(p.src, b / p.rows, b % p.rows * p.stride);
    }
    float acc[MOST_EACH * TILE];
    for (uint i = 0; i < MOST_EACH * TILE; i++) acc[i] = 0.0;
    uint first = gl_WorkGroupID.x * p.taps * p.run * 16 + r;
    for (uint tap = 0; tap < p.taps; tap++) {
        for (uint c = slice; c < p.run; c += PARTIALS)
            for (uint i = 0; i < EACH; i++) {
                uint k = c + i * SLICES;
                if (k >= p.run) continue;
                float f = weight(first + k * 16);
                for (uint m = 0; m < TILE; m++)
                    acc[i * TILE + m] = fma(f, src.data[x[m] + k], acc[i * TILE + m]);
            }
        first += p.run * 16;
        for (uint m = 0; m < TILE; m++) x[m] += p.tap_step;
    }
    tile_end(acc);
}
