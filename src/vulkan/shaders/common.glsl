// common.glsl - what every shader shares: who takes part, views, number formats, and arithmetic
// that needs more than what drivers promise.
//
// Nothing here needs 8- or 16-bit storage, fp16, fp64 or subgroups, but where DOT, HALF or SUBGROUP
// ask for a variant for devices that have more: bytes and halves are taken out
// of 32-bit words, and where a float is too short two of them carry one number.

// One flag per slot, 256 bytes apart, so that a binding may begin with any of them.
layout(set = 0, binding = 0) readonly buffer Exec { uint exec[]; };
bool takes_part(uint slot) { return exec[slot * 64] != 0u; }

struct view { uint offset, slot, row; }; // counted in 4-byte elements

uint at(view v, uint slot, uint row) { return v.offset + slot * v.slot + row * v.row; }

// Workgroups come as x by units, and units may be more than one dimension can count.
uint unit() { return gl_WorkGroupID.z * gl_NumWorkGroups.y + gl_WorkGroupID.y; }

const uint F32 = 0, F16 = 1, BF16 = 2, Q8_0 = 3, Q4_0 = 4, Q4_K = 5, Q5_K = 6, Q6_K = 7, U32 = 8,
           I8 = 9;

bool is_nan(float x) { return (floatBitsToUint(x) & 0x7FFFFFFFu) > 0x7F800000u; }
bool is_finite(float x) { return (floatBitsToUint(x) & 0x7F800000u) != 0x7F800000u; }

// Not unpackHalf2x16: a driver may flush the small ones, which scales of blocks often are.
#ifdef HALF
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#endif
float half_to_float(uint h) {
    uint sign = (h & 0x8000u) << 16, magnitude = h & 0x7FFFu;
    if (magnitude < 0x400u) {
        float tiny = float(magnitude) * 5.9604644775390625e-8;
        return sign != 0u ? -tiny : tiny;
    }
#ifdef HALF
    return float(unpackFloat2x16(h).x);
#else
    uint bits = (magnitude << 13) + 0x38000000u;
    if (magnitude >= 0x7C00u) bits += 0x38000000u;
    return uintBitsToFloat(sign | bits);
#endif
}
float bf16_to_float(uint h) { return uintBitsToFloat(h << 16); }

uint float_to_bf16(float x) {
    uint bits = floatBitsToUint(x);
    if (is_nan(x)) return (bits >> 16) | 0x40u;
    return (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
}

int signed_byte(uint word, uint i) { return bitfieldExtract(int(word), int(i) * 8, 8); }

// Sum of four products of signed bytes; and of signed ones in a, others in b.
#ifdef DOT
// glslang has no name for it before its version 13.
#extension GL_EXT_spirv_intrinsics : require
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6018, 6019], id = 4450)
int signed_dot(uint a, uint b, spirv_literal uint packed);
int dot4(uint a, uint b) { return signed_dot(a, b, 0); }
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6018, 6019], id = 4452)
int mixed_dot(uint a, uint b, spirv_literal uint packed);
int mixed_dot4(uint a, uint b) { return mixed_dot(a, b, 0); }
#else
int dot4(uint a, uint b) {
    return signed_byte(a, 0) * signed_byte(b, 0) + signed_byte(a, 1) * signed_byte(b, 1) +
           signed_byte(a, 2) * signed_byte(b, 2) + signed_byte(a, 3) * signed_byte(b, 3);
}
int mixed_dot4(uint a, uint b) {
    int sum = 0;
    for (uint i = 0; i < 4; i++) sum += signed_byte(a, i) * int(bitfieldExtract(b, int(i) * 8, 8));
    return sum;
}
#endif

// ---- two floats (Dekker 1971, Knuth): x is the sum rounded, y what is left ----------------------

vec2 two_sum(float a, float b) {
    precise float s = a + b, bb = s - a, e = (a - (s - bb)) + (b - bb);
    return vec2(s, e);
}
vec2 quick_two_sum(float a, float b) { // |a| >= |b|
    precise float s = a + b, e = b - (s - a);
    return vec2(s, e);
}
vec2 split(float a) {
    precise float t = 4097.0 * a, hi = t - (t - a), lo = a - hi;
    return vec2(hi, lo);
}
vec2 two_prod(float a, float b) {
    vec2 x = split(a), y = split(b);
    precise float p = a * b, e = ((x.x * y.x - p) + x.x * y.y + x.y * y.x) + x.y * y.y;
    return vec2(p, e);
}
vec2 df_add(vec2 a, vec2 b) {
    vec2 s = two_sum(a.x, b.x);
    precise float e = s.y + (a.y + b.y);
    return quick_two_sum(s.x, e);
}
vec2 df_mul(vec2 a, vec2 b) {
    vec2 p = two_prod(a.x, b.x);
    precise float e = p.y + (a.x * b.y + a.y * b.x);
    return quick_two_sum(p.x, e);
}
vec2 df_div(vec2 a, vec2 b) {
    precise float q = a.x / b.x;
    vec2 p = df_mul(vec2(q, 0.0), b);
    vec2 r = df_add(a, -p);
    precise float more = r.x / b.x;
    return quick_two_sum(q, more);
}

// fma() may round twice; this rounds once (but for doubly rounded ties).
float fma_once(float a, float b, float c) {
    vec2 p = two_prod(a, b), s = two_sum(p.x, c);
    precise float r = s.x + (s.y + p.y);
    return r;
}

// Division may be off by two and a half units in the last place; this is the nearest float. Scaled
// by powers of two so that nothing in between overflows; results are those of ordinary size.
float div_nearest(float a, float b) {
    if (!is_finite(a) || !is_finite(b) || a == 0.0 || b == 0.0) return a / b;
    int ea, eb;
    float m = frexp(a, ea), n = frexp(b, eb);
    precise float q = m / n;
    vec2 p = two_prod(q, n);
    precise float rest = (m - p.x) - p.y, nearest = q + rest / n;
    return ldexp(nearest, ea - eb);
}

// ---- functions: the polynomials of the CPU's kernels -------------------------------------------

const float EXP_MAX = 88.0, EXP_MIN = -87.0, EXP_LOG2E = 1.4426950216293335,
            EXP_ROUND = 12582912.0, EXP_LN2_HI = 0.693145751953125,
            EXP_LN2_LO = 1.428606765330187e-06, EXP_Q0 = 0.5, EXP_Q1 = 0.16666516661643982,
            EXP_Q2 = 0.04166620224714279, EXP_Q3 = 0.008369073271751404,
            EXP_Q4 = 0.0013950809370726347;

// e^x = scale * (1 + m)
float exp_parts(float x, out float scale) {
    precise float t = x * EXP_LOG2E + EXP_ROUND, n = t - EXP_ROUND;
    precise float r = x - n * EXP_LN2_HI;
    r = r - n * EXP_LN2_LO;
    float q = fma(EXP_Q4, r, EXP_Q3);
    q = fma(q, r, EXP_Q2);
    q = fma(q, r, EXP_Q1);
    q = fma(q, r, EXP_Q0);
    scale = uintBitsToFloat((floatBitsToUint(t) << 23) + 0x3F800000u);
    return fma(r * r, q, r);
}
float exp_of(float x) {
    if (x < EXP_MIN) return 0.0;
    float scale, m = exp_parts(EXP_MAX < x ? EXP_MAX : x, scale);
    return fma(scale, m, scale);
}
