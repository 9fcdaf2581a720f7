#version 450
// sample.comp - one token of one slot: backend.h, mo_op_sample.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(local_size_x = 256) in;
layout(set = 0, binding = 1) readonly buffer Logits { float data[]; } logits;
layout(set = 0, binding = 2) readonly buffer Params { uint data[]; } params;
layout(set = 0, binding = 3) readonly buffer Force { int data[]; } force;
layout(set = 0, binding = 4) readonly buffer Step { uint data[]; } steps;
layout(set = 0, binding = 5) buffer Token { int data[]; } token;
layout(push_constant) uniform Push {
    view logits, params, force, steps, token;
    uint units, n, channel;
    int free; // what stands for "not forced"
} p;

shared uint counts[2048];
shared uint best_key[256], best_at[256];
shared uint prefix, known, larger;

// Unsigned numbers in the order of the floats; both zeros are one, NaN is below everything.
uint order_key(float x) {
    if (is_nan(x)) return 0u;
    uint bits = x == 0.0 ? 0u : floatBitsToUint(x);
    return (bits & 0x80000000u) != 0u ? ~bits : bits | 0x80000000u;
}

// The largest key of all threads, the lowest index of equals.
uvec2 winner(uint key, uint index) {
    uint t = gl_LocalInvocationID.x;
    barrier();
    best_key[t] = key;
    best_at[t] = index;
    for (uint n = 128; n > 0; n /= 2) {
        barrier();
        if (t >= n) continue;
        bool more = best_key[t + n] > best_key[t];
        bool equal = best_key[t + n] == best_key[t] && best_at[t + n] < best_at[t];
        if (!more && !equal) continue;
        best_key[t] = best_key[t + n];
        best_at[t] = best_at[t + n];
    }
    barrier();
    return uvec2(best_key[0], best_at[0]);
}

uint greedy(uint a) {
    uint key = 0, index = 0;
    for (uint i = gl_LocalInvocationID.x; i < p.n; i += 256) {
        uint k = order_key(logits.data[a + i]);
        if (k > 0x007FFFFFu && k > key) { // above minus infinity
            key = k;
            index = i;
        }
    }
    return winner(key, index).y;
}

// The k-th largest key: three passes settle 11, 11 and 10 bits of it by counting. Leaves in
// `larger` how many are above it.
uint kth_largest(uint a, uint k) {
    uint t = gl_LocalInvocationID.x;
    if (t == 0) prefix = known = larger = 0;
    for (uint pass = 0; pass < 3; pass++) {
        uint shift = pass == 0 ? 21u : pass == 1 ? 10u : 0u, mask = pass == 2 ? 1023u : 2047u;
        for (uint i = t; i < 2048; i += 256) counts[i] = 0;
        barrier();
        for (uint i = t; i < p.n; i += 256) {
            uint key = order_key(logits.data[a + i]);
            if ((key & known) == prefix) atomicAdd(counts[(key >> shift) & mask], 1u);
        }
        barrier();
        if (t == 0) {
            uint digit = mask;
            while (digit > 0 && larger + counts[digit] < k) larger += counts[digit--];
            prefix |= digit << shift;
            known |= mask << shift;
        }
        barrier();
    }
    return prefix;
}

uvec4 philox(uvec4 c, uvec2 k) {
    for (uint i = 0; i < 10; i++) {
        uint high0, low0, high1, low1;
        umulExtended(0xD2511F53u, c.x, high0, low0);
        umulExtended(0xCD9E8D57u, c.z, high1, low1);
        c = uvec4(high1 ^ c.y ^ k.x, low1, high0 ^ c.w ^ k.y, low0);
        k += uvec2(0x9E3779B9u, 0xBB67AE85u);
    }
    return c;
}

// A whole number below 2^32 times 2^-e.
vec2 two_floats(uint x, int e) {
    float scale = ldexp(1.0, -e);
    return quick_two_sum(float(x >> 12) * 4096.0 * scale, float(x & 4095u) * scale);
}

// -log((r + 1/2) / 2^32), nearest float. With n = 2 r + 1 = 2^e (1 + f), -1/4 <= f < 1/2, it is
// (33 - e) ln 2 - log(1 + f), and log(1 + f) = 2 atanh(f / (2 + f)).
float noise(uint r) {
    const vec2 LN2 = vec2(0.693147182464599609375, -1.904654299957767e-09);
    const vec2 THIRD = vec2(0.3333333432674407958984375, -9.934107481068821e-09);
    int e = r == 0u ? 0 : findMSB(r) + 1;
    vec2 f = vec2(0.0);
    if (r != 0u) {
        uint above = r - (1u << (e - 1)), n = 2u * above + 1u; // n / 2^e = f
        if (above >= 1u << max(e - 2, 0)) {                    // f >= 1/2
            n = 2u * ((e == 32 ? 0u : 1u << e) - r) - 1u;
            e++;
            f = -two_floats(n, e);
        } else {
            f = two_floats(n, e);
        }
    }
    vec2 s = df_div(f, df_add(f, vec2(2.0, 0.0))), z = df_mul(s, s);
    precise float tail = z.x * (0.2 + z.x * (0.14285714 + z.x * (0.11111111 + z.x * (0.090909091 + z.x * 0.076923077))));
    vec2 sum = df_mul(df_mul(s, z), df_add(THIRD, vec2(tail, 0.0)));
    sum = df_add(s, sum);
    vec2 result = df_add(df_mul(LN2, vec2(float(33 - e), 0.0)), -2.0 * sum);
    return result.x;
}

// The CPU's e^x to the last bit.
float exp_once(float x) {
    if (x < EXP_MIN) return 0.0;
    x = EXP_MAX < x ? EXP_MAX : x;
    float t = fma_once(x, EXP_LOG2E, EXP_ROUND);
    precise float n = t - EXP_ROUND;
    float r = fma_once(n, -EXP_LN2_LO, fma_once(n, -EXP_LN2_HI, x));
    float q = fma_once(EXP_Q4, r, EXP_Q3);
    q = fma_once(q, r, EXP_Q2);
    q = fma_once(q, r, EXP_Q1);
    q = fma_once(q, r, EXP_Q0);
    precise float squared = r * r;
    float scale = uintBitsToFloat((floatBitsToUint(t) << 23) + 0x3F800000u);
    return fma_once(scale, fma_once(squared, q, r), scale);
}

// Every thread looks at neighbours, so that equals at the border are kept in order.
uint draw(uint a, uint slot, float temp, int top_k, uint first_max) {
    uint t = gl_LocalInvocationID.x, each = (p.n + 255) / 256;
    uint begin = min(t * each, p.n), end = min(begin + each, p.n), border = 0, left = p.n;
    if (top_k > 0 && uint(top_k) < p.n) {
        border = kth_largest(a, uint(top_k));
        left = uint(top_k) - larger;
        uint equals = 0;
        for (uint i = begin; i < end; i++)
            if (order_key(logits.data[a + i]) == border) equals++;
        barrier();
        best_key[t] = equals;
        barrier();
        for (uint i = 0; i < t; i++) left -= min(left, best_key[i]);
    }
    float top = logits.data[a + first_max];
    uint at_params = at(p.params, slot, 0), at_step = at(p.steps, slot, 0), high = 0, best = first_max;
    uvec2 key = uvec2(params.data[at_params + 4], params.data[at_params + 5]);
    uvec4 lanes = uvec4(0);
    for (uint i = begin; i < end; i++) {
        if (i == begin || i % 4 == 0)
            lanes = philox(uvec4(i / 4, p.channel, steps.data[at_step], 0), key);
        uint k = order_key(logits.data[a + i]);
        if (k < border || (k == border && left == 0u) || k == 0u) continue;
        if (k == border) left--;
        precise float away = logits.data[a + i] - top;
        float ratio = div_nearest(exp_once(div_nearest(away, temp)), noise(lanes[i % 4]));
        uint bits = floatBitsToUint(ratio); // >= 0: ordered like their bits
        if (bits > high && bits <= 0x7F800000u) {
            high = bits;
            best = i;
        }
    }
    uvec2 won = winner(high, high == 0u ? first_max : best);
    return won.x == 0u ? first_max : won.y;
}

void main() {
    uint slot = unit();
    if (slot >= p.units || !takes_part(slot)) return;
    uint a = at(p.logits, slot, 0), o = at(p.token, slot, 0), at_params = at(p.params, slot, 0);
    int forced = force.data[at(p.force, slot, 0) + p.channel];
    if (forced != p.free) {
        if (gl_LocalInvocationID.x == 0) token.data[o] = forced;
        return;
    }
    uint which = p.channel == 0u ? 0u : 2u, chosen = greedy(a);
    float temp = uintBitsToFloat(params.data[at_params + which]);
    if (temp > 0.0) chosen = draw(a, slot, temp, int(params.data[at_params + which + 1]), chosen);
    if (gl_LocalInvocationID.x == 0) token.data[o] = int(chosen);
}
