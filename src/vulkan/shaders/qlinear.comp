#version 450
// qlinear.comp - products with quantised weights; FORM is how the CPU's packing lays them out (qkernels.h).
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#define Q8 1
#define Q4 2
#define Q4K 3
#define Q6K 4
#define GROUPS4 5
#define GROUPS4_WIDE 6
#define GROUPS8 7
#define GROUPS8_WIDE 8
#define ROWS8 9
#include "linear.glsl"

// Words of the parts of a strip.
#if FORM == ROWS8 || FORM == Q4K || FORM == GROUPS4 || FORM == GROUPS8
const uint GROUP_HEAD = 16;
#elif FORM == GROUPS4_WIDE || FORM == GROUPS8_WIDE
const uint GROUP_HEAD = 32;
#else
const uint GROUP_HEAD = 8;
#endif
#if FORM == Q4K || FORM == Q6K
const uint BLOCK_HEAD = 8;
#else
const uint BLOCK_HEAD = 0;
#endif
#if FORM == Q8 || FORM == GROUPS8 || FORM == GROUPS8_WIDE || FORM == ROWS8
const uint NUMBERS = 128;
#elif FORM == Q6K
const uint NUMBERS = 96;
#else
const uint NUMBERS = 64;
#endif

uint half_at(uint word, uint r) { return bitfieldExtract(w.words[word + r / 2], int(r & 1u) * 16, 16); }
uint byte_at(uint word, uint r) { return bitfieldExtract(w.words[word + r / 4], int(r & 3u) * 8, 8); }
float word_at(uint word, uint r) { return uintBitsToFloat(w.words[word + r]); }

// The 32 numbers of row r of a block as signed bytes, in eight words.
void numbers(uint at, uint r, out uint q[8]) {
#if FORM == Q8 || FORM == ROWS8
    for (uint j = 0; j < 8; j++) q[j] = w.words[at + j * 16 + r] ^ 0x80808080u;
#elif FORM == GROUPS8 || FORM == GROUPS8_WIDE
    for (uint j = 0; j < 8; j++) q[j] = w.words[at + j * 16 + r];
#else
    for (uint j = 0; j < 4; j++) {
        uint both = w.words[at + j * 16 + r];
        q[j] = both & 0x0F0F0F0Fu;
        q[j + 4] = (both >> 4) & 0x0F0F0F0Fu;
    }
#endif
#if FORM == Q6K
    for (uint j = 0; j < 8; j++)
        q[j] |= ((w.words[at + 64 + j / 4 * 16 + r] >> (2 * (j % 4))) & 0x03030303u) << 4;
#endif
}

// sum(w q) over words j0 .. j1 - 1 of a block of a record.
int dot(uint q[8], uint x, uint j0, uint j1) {
    int sum = 0;
    for (uint j = j0; j < j1; j++) {
        uint words = floatBitsToUint(src.data[x + j]);
#if FORM == GROUPS8 || FORM == GROUPS8_WIDE
        sum += mixed_dot4(words, q[j]); // these numbers have no sign
#else
        sum += dot4(q[j], words);
#endif
    }
    return sum;
}

float block_add(uint group, uint head, uint r, uint q[8], uint record, uint b, float acc) {
    uint x = record + b * 8, steps = record + p.blocks * 8 + b;
    float d = src.data[steps], d_sum = src.data[steps + p.blocks];
#if FORM == Q6K
    int half_sum = floatBitsToInt(src.data[steps + 3 * p.blocks]);
    int rest = floatBitsToInt(src.data[steps + 2 * p.blocks]) - half_sum;
    float scale = half_to_float(half_at(group, r));
    int s0 = signed_byte(byte_at(head, r), 0), s1 = signed_byte(byte_at(head + 4, r), 0);
    acc = fma(float(dot(q, x, 0, 4) - 32 * half_sum), scale * float(s0) * d, acc);
    return fma(float(dot(q, x, 4, 8) - 32 * rest), scale * float(s1) * d, acc);
#else
    int sum = dot(q, x, 0, 8);
#if FORM == Q8
    return fma(float(sum), half_to_float(half_at(group, r)) * d, acc);
#elif FORM == Q4
    sum -= 8 * floatBitsToInt(src.data[steps + 2 * p.blocks]);
    return fma(float(sum), half_to_float(half_at(group, r)) * d, acc);
#elif FORM == Q4K
    float scale = half_to_float(half_at(group, r)) * float(byte_at(head, r));
    float least = half_to_float(half_at(group + 8, r)) * float(byte_at(head + 4, r));
    return fma(least, -d_sum, fma(float(sum), scale * d, acc));
#elif FORM == ROWS8
    return fma(float(sum), d, acc);
#elif FORM == GROUPS4_WIDE || FORM == GROUPS8_WIDE
    return fma(word_at(group + 16, r), d_sum, fma(float(sum), word_at(group, r) * d, acc));
#else
    float bias = bf16_to_float(half_at(group + 8, r));
    return fma(bias, d_sum, fma(float(sum), bf16_to_float(half_at(group, r)) * d, acc));
#endif
#endif
}

void main() {
    uint r = gl_LocalInvocationID.x % 16, slice = gl_LocalInvocationID.x / 16, q[8];
    if (!tile_begin()) return;
    float acc[MOST_EACH * TILE];
    for (uint i = 0; i < MOST_EACH * TILE; i++) acc[i] = 0.0;
    uint strip = gl_WorkGroupID.x * p.strip_words;
    const uint block_words = BLOCK_HEAD + NUMBERS;
    uint group_words = GROUP_HEAD + p.group_blocks * block_words;
    for (uint first = slice; first < p.blocks; first += PARTIALS)
        for (uint i = 0; i < EACH; i++) {
            uint b = first + i * SLICES;
            if (b >= p.blocks) continue;
            uint group = strip + b / p.group_blocks * group_words;
            uint head = group + GROUP_HEAD + b % p.group_blocks * block_words;
            numbers(head + BLOCK_HEAD, r, q);
            for (uint m = 0; m < TILE; m++)
                acc[i * TILE + m] =
                    block_add(group, head, r, q, batch_row(m) * p.blocks * 12, b, acc[i * TILE + m]);
        }
#if FORM == ROWS8
    for (uint i = 0; i < EACH * TILE; i++) acc[i] *= word_at(strip, r);
#endif
    tile_end(acc);
}
