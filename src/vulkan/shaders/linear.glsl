// linear.glsl - what products with plain and with quantised weights share. A workgroup makes the 16
// outputs of one strip for TILE rows of the batch: thread t works for row t % 16 of the strip and
// takes every SLICES-th column or block, so that neighbours read neighbouring words. Row b of the
// batch is row b % rows of slot b / rows.

const uint SLICES = 8;
layout(local_size_x = 128) in;
layout(set = 0, binding = 1) readonly buffer W { uint words[]; } w;
layout(set = 0, binding = 2) readonly buffer Bias { float data[]; } bias;
layout(set = 0, binding = 3) readonly buffer Scale { float data[]; } scale;
layout(set = 0, binding = 4) readonly buffer In { float data[]; } src; // quantised: records
layout(set = 0, binding = 5) readonly buffer Add { float data[]; } add;
layout(set = 0, binding = 6) buffer Out { float data[]; } dst;
layout(push_constant) uniform Push {
    view src, add, dst;
    uint rows, units, cols;
    uint first; // output of the first strip as bound
    uint has_bias, has_scale, has_add;
    uint stride, taps, run, tap_step;        // plain weights
    uint blocks, group_blocks, strip_words; // quantised ones
} p;

shared float partial[TILE * 128];

// The last tile's missing rows repeat the last one, and are not written.
uint batch_row(uint m) { return min(unit() * TILE + m, p.units - 1); }

bool tile_begin() {
    if (unit() * TILE >= p.units) return false;
    bool any = false;
    for (uint m = 0; m < TILE; m++) any = any || takes_part(batch_row(m) / p.rows);
    return any;
}

void tile_end(float acc[TILE]) {
    uint t = gl_LocalInvocationID.x;
    for (uint m = 0; m < TILE; m++) partial[m * 128 + t] = acc[m];
    barrier();
    uint m = t / 16, r = t % 16, b = unit() * TILE + m;
    uint n = p.first + gl_WorkGroupID.x * 16 + r;
    if (m >= TILE || b >= p.units || n >= p.cols || !takes_part(b / p.rows)) return;
    float sum = 0.0;
    for (uint s = 0; s < SLICES; s++) sum += partial[m * 128 + s * 16 + r];
    if (p.has_bias != 0u) sum += bias.data[n];
    if (p.has_scale != 0u) sum *= scale.data[n];
    if (p.has_add != 0u) sum += add.data[at(p.add, b / p.rows, b % p.rows) + n];
    dst.data[at(p.dst, b / p.rows, b % p.rows) + n] = sum;
}
