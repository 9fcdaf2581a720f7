#version 450
// act.comp - out = f(in), and the gate silu(in) * in. What is only copied need not be a float, and a
// device may lose the small ones: words are read and written.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(local_size_x = 64) in;
layout(set = 0, binding = 1) readonly buffer In { uint data[]; } src;
layout(set = 0, binding = 2) buffer Out { uint data[]; } dst;
layout(push_constant) uniform Push {
    view src, dst;
    uint rows, units, cols, kind;
} p;

// e^x - 1 in parts, so that nothing is lost near 0.
float elu(float x) {
    if (x > 0.0 || is_nan(x)) return x;
    float scale, m = exp_parts(max(x, EXP_MIN), scale);
    return fma(scale, m, scale - 1.0);
}

// x times the normal distribution function, from its upper tail: kernels.h.
float gelu(float x) {
    float a = abs(x), t = div_nearest(1.0, fma(0.35, a, 1.0));
    float q = 0.03208459;
    q = fma(q, t, -0.12606688);
    q = fma(q, t, 0.09900553);
    q = fma(q, t, 0.12243178);
    q = fma(q, t, 0.07927255);
    q = fma(q, t, 0.15580076);
    q = fma(q, t, 0.13747169);
    float tail = exp_of(a * a * -0.5) * (t * q);
    return x > 0.0 ? fma(-x, tail, x) : x * tail;
}

void main() {
    uint c = gl_GlobalInvocationID.x, u = unit();
    if (u >= p.units || c >= p.cols || !takes_part(u / p.rows)) return;
    uint a = at(p.src, u / p.rows, u % p.rows) + c, o = at(p.dst, u / p.rows, u % p.rows) + c;
    uint word = src.data[a];
    float x = uintBitsToFloat(word);
    if (p.kind == 1u) word = floatBitsToUint(elu(x));
    if (p.kind == 2u) word = floatBitsToUint(gelu(x));
    if (p.kind == 3u) {
        float by = uintBitsToFloat(src.data[a + p.cols]);
        word = floatBitsToUint(div_nearest(x, 1.0 + exp_of(-x)) * by);
    }
    dst.data[o] = word;
}
