// linear.glsl - what products with plain and with quantised weights share. A workgroup makes the 16
// outputs of one strip for TILE rows of the batch: thread t works for row t % 16 of the strip, so that
// neighbours read neighbouring words. A sum over columns or blocks is PARTIALS sums, of every
// PARTIALS-th column or block each, added in order; a thread makes EACH of them. How many threads a
// workgroup has (64, 128 or 256) is chosen with the pipeline and changes no bit. Row b of the batch is
// row b % rows of slot b / rows.

layout(local_size_x_id = 0) in;
const uint PARTIALS = 16, SLICES = gl_WorkGroupSize.x / 16, EACH = PARTIALS / SLICES;
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

shared float partial[TILE * PARTIALS * 16];

// The last tile's missing rows repeat the last one, and are not written.
uint batch_row(uint m) { return min(unit() * TILE + m, p.units - 1); }

bool tile_begin() {
    if (unit() * TILE >= p.units) return false;
    bool any = false;
    for (uint m = 0; m < TILE; m++) any = any || takes_part(batch_row(m) / p.rows);
    return any;
}

// Partial i of `acc`, of the TILE that belong to it, is that of slice + i * SLICES.
const uint MOST_EACH = 4;

void tile_end(float acc[MOST_EACH * TILE]) {
    uint t = gl_LocalInvocationID.x;
    for (uint i = 0; i < EACH; i++)
        for (uint m = 0; m < TILE; m++)
            partial[m * PARTIALS * 16 + i * gl_WorkGroupSize.x + t] = acc[i * TILE + m];
    barrier();
    for (uint o = t; o < TILE * 16; o += gl_WorkGroupSize.x) {
        uint m = o / 16, r = o % 16, b = unit() * TILE + m, n = p.first + gl_WorkGroupID.x * 16 + r;
        if (b >= p.units || n >= p.cols || !takes_part(b / p.rows)) continue;
        float sum = 0.0;
        for (uint s = 0; s < PARTIALS; s++) sum += partial[(m * PARTIALS + s) * 16 + r];
        if (p.has_bias != 0u) sum += bias.data[n];
        if (p.has_scale != 0u) sum *= scale.data[n];
        if (p.has_add != 0u) sum += add.data[at(p.add, b / p.rows, b % p.rows) + n];
        dst.data[at(p.dst, b / p.rows, b % p.rows) + n] = sum;
    }
}
