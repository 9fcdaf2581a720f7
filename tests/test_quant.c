/* test_quant.c - number formats: the bytes of their blocks, what they keep, what they never do. */
#include "check.h"
#include "oracle_quant.h"
#include "quant.h"
#include "tensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_BLOCK_BYTES = 210, K = 4096, ROWS = 1024 };

/* About normal: twelve uniform numbers. */
static float gauss(test_rng *r) {
    float sum = 0;
    for (int i = 0; i < 12; i++) sum += rng_f32(r) / 2;
    return sum;
}

static void test_table(void) {
    static const struct {
        mo_dtype dtype;
        const char *name;
        size_t block, bytes;
    } wanted[] = {{MO_F32, "f32", 1, 4},       {MO_F16, "f16", 1, 2},
                  {MO_BF16, "bf16", 1, 2},     {MO_Q8_0, "q8_0", 32, 34},
                  {MO_Q4_0, "q4_0", 32, 18},   {MO_Q4_K, "q4_k", 256, 144},
                  {MO_Q5_K, "q5_K", 256, 176}, {MO_Q6_K, "Q6_K", 256, 210}};
    const size_t n = sizeof wanted / sizeof *wanted;
    for (size_t i = 0; i < n; i++) {
        const mo_quant *q = mo_quant_find(wanted[i].name);
        mo_dtype d = wanted[i].dtype;
        uint64_t block = wanted[i].block, bytes = wanted[i].bytes;
        CHECK(q && q == mo_quant_of(d) && q == mo_quant_at(i) && q->dtype == d, "%s",
              wanted[i].name);
        CHECK(q->dequantise && !q->quantise == (d == MO_Q5_K), "%s: functions", q->name);
        CHECK(mo_dtype_block(d) == block && mo_dtype_row_bytes(d, 3 * block) == 3 * bytes, "%s",
              q->name);
        CHECK(mo_dtype_bytes(d) == (block == 1 ? bytes : 0), "%s: per element", q->name);
        CHECK(mo_dtype_row_bytes(d, 0) == 0, "%s: nothing", q->name);
        if (block > 1) {
            CHECK(mo_dtype_row_bytes(d, block + 1) == 0, "%s: not whole blocks", q->name);
            CHECK(mo_dtype_row_bytes(d, block / 2) == 0, "%s: half a block", q->name);
            CHECK(!mo_dtype_is_float(d), "%s is not read number by number", q->name);
        }
    }
    CHECK(!mo_quant_at(n) && !mo_quant_find("q3") && !mo_quant_find(""), "no more");
    CHECK(!mo_quant_of(MO_I8) && !mo_quant_of(MO_F64) && !mo_quant_of(MO_DTYPE_COUNT), "others");
    CHECK(mo_dtype_row_bytes(MO_F32, UINT64_MAX / 2) == 0, "more than there are bytes");
    CHECK(mo_dtype_row_bytes(MO_DTYPE_COUNT, 4) == 0 && mo_dtype_block(MO_DTYPE_COUNT) == 0,
          "no such type");
    CHECK(strcmp(mo_dtype_name(MO_Q6_K), "Q6_K") == 0, "name in files");
}

/* ---- bytes ---------------------------------------------------------------------------------- */

static void test_bytes_small(void) {
    float x[32], back[32];
    uint8_t wanted[34] = {0x00, 0x38}, found[34]; /* 0.5 */
    for (int i = 0; i < 32; i++) {
        int q = i == 5 ? -127 : 3 * i - 40;
        x[i] = 0.5f * (float)q;
        wanted[2 + i] = (uint8_t)q;
    }
    mo_quant_of(MO_Q8_0)->quantise(x, found, 32);
    mo_quant_of(MO_Q8_0)->dequantise(found, back, 32);
    CHECK(memcmp(found, wanted, 34) == 0 && memcmp(back, x, sizeof x) == 0, "q8_0");

    /* halves away from zero: 127 sets d to 1 */
    float half[32] = {127, 0.5f, -0.5f, 1.5f, -2.5f, 0.49f, 126.5f};
    static const int8_t rounded[7] = {127, 1, -1, 2, -3, 0, 127};
    mo_quant_of(MO_Q8_0)->quantise(half, found, 32);
    CHECK(memcmp(found + 2, rounded, 7) == 0, "q8_0 rounding");

    /* d is not a half float: the quotient takes it as it is, 1/127 and not its rounded form */
    float third[32] = {1, 0.37f / 127 * 100};
    mo_quant_of(MO_Q8_0)->quantise(third, found, 32);
    CHECK(found[0] == 0x08 && found[1] == 0x20 && found[2] == 127 && found[3] == 37, "q8_0 scale");

    for (int i = 0; i < 32; i++) x[i] = 0.25f * (float)(i % 16 - (i < 16 ? 8 : 7));
    x[31] = 1.75f;
    memset(wanted, 0, sizeof wanted);
    wanted[1] = 0x34; /* 0.25 */
    for (int i = 0; i < 16; i++) wanted[2 + i] = (uint8_t)(i | (i == 15 ? 15 : i + 1) << 4);
    mo_quant_of(MO_Q4_0)->quantise(x, found, 32);
    mo_quant_of(MO_Q4_0)->dequantise(found, back, 32);
    CHECK(memcmp(found, wanted, 18) == 0 && memcmp(back, x, sizeof x) == 0, "q4_0");
    for (int i = 0; i < 32; i++) x[i] = -x[i];
    mo_quant_of(MO_Q4_0)->quantise(x, found, 32);
    CHECK(found[0] == 0 && found[1] == 0xB4 && memcmp(found + 2, wanted + 2, 16) == 0,
          "q4_0: the largest number decides the sign");
}

/* Blocks of 256 with few bytes that are not zero, worked out by hand. */
static void test_bytes_large(void) {
    float x[256];
    uint8_t q4[144] = {0x00, 0x3C, 0x00, 0x38}; /* d 1, m 0.5 */
    q4[4] = 1 | 2 << 6;                         /* scale 0 is 1; high bits of scale 4 */
    q4[8] = 2 | 1 << 6;                         /* minimum 0 is 2; high bits of minimum 4 */
    q4[12] = 0xB | 5 << 4;                      /* low bits of scale 4 (43) and minimum 4 (21) */
    q4[16] = 0x73;
    q4[16 + 64 + 3] = 0x0F;
    mo_quant_of(MO_Q4_K)->dequantise(q4, x, 256);
    CHECK(x[0] == 3 - 1 && x[1] == -1 && x[32] == 0, "q4_K: %g %g %g", x[0], x[1], x[32]);
    CHECK(x[131] == 43 * 15 - 10.5f && x[130] == -10.5f && x[163] == 0, "q4_K: %g", x[131]);

    uint8_t q5[176];
    memcpy(q5, q4, 16);
    memset(q5 + 16, 0, 32);
    memcpy(q5 + 48, q4 + 16, 128);
    q5[16] = 1 << 0;
    q5[16 + 3] = 1 << 4;
    mo_quant_of(MO_Q5_K)->dequantise(q5, x, 256);
    CHECK(x[0] == 19 - 1 && x[1] == -1 && x[3] == -1, "q5_K: %g", x[0]);
    CHECK(x[131] == 43 * 31 - 10.5f && x[128] == -10.5f, "q5_K: %g", x[131]);

    uint8_t q6[210] = {0};
    q6[0] = 0xC5;         /* elements 0 (low half) and 64 */
    q6[128] = 3 | 1 << 4; /* their upper bits */
    q6[64 + 20] = 0x90;   /* element 212 */
    q6[128 + 32 + 20] = 1 << 4;
    q6[192] = 2;
    q6[192 + 4] = 127;
    q6[192 + 13] = 0xFD; /* -3 */
    q6[209] = 0x38;      /* 0.5 */
    mo_quant_of(MO_Q6_K)->dequantise(q6, x, 256);
    CHECK(x[0] == 0.5f * 2 * (53 - 32) && x[1] == -32, "q6_K: %g %g", x[0], x[1]);
    CHECK(x[64] == 0.5f * 127 * (28 - 32) && x[16] == 0, "q6_K: %g", x[64]);
    CHECK(x[212] == 0.5f * -3 * (25 - 32) && x[211] == 0.5f * -3 * -32, "q6_K: %g", x[212]);
}

/* Element i of a block, straight from the description of the format. */
static float element(mo_dtype type, const uint8_t *b, int i) {
    int g = i / 32, nibble = i % 64 / 32 * 4;
    if (type == MO_Q6_K) {
        int half = i / 128, run = i % 128 / 32, l = i % 32;
        int low = b[half * 64 + run % 2 * 32 + l] >> (run / 2 * 4) & 15;
        int high = b[128 + half * 32 + l] >> (2 * run) & 3;
        return mo_f16_to_f32((uint16_t)(b[208] | b[209] << 8)) * (float)(int8_t)b[192 + i / 16] *
               (float)((low | high << 4) - 32);
    }
    const uint8_t *s = b + 4, *q = b + (type == MO_Q5_K ? 48 : 16);
    int scale = g < 4 ? s[g] & 63 : (s[g + 4] & 15) | (s[g - 4] >> 6) << 4;
    int minimum = g < 4 ? s[g + 4] & 63 : s[g + 4] >> 4 | (s[g] >> 6) << 4;
    int whole = q[i / 64 * 32 + i % 32] >> nibble & 15;
    if (type == MO_Q5_K) whole |= (b[16 + i % 32] >> g & 1) << 4;
    return mo_f16_to_f32((uint16_t)(b[0] | b[1] << 8)) * (float)scale * (float)whole -
           mo_f16_to_f32((uint16_t)(b[2] | b[3] << 8)) * (float)minimum;
}

static void test_any_bytes(void) {
    static const mo_dtype types[] = {MO_Q4_K, MO_Q5_K, MO_Q6_K};
    test_rng r = {7};
    for (int t = 0; t < 3; t++) {
        size_t bytes = (size_t)mo_dtype_row_bytes(types[t], 256);
        uint8_t in[2 * MAX_BLOCK_BYTES + 1];
        float x[512];
        int wrong = 0;
        for (int round = 0; round < 50; round++) {
            for (size_t i = 0; i < sizeof in; i++) in[i] = (uint8_t)rng_u64(&r);
            for (size_t b = 0; b < 2; b++) /* finite scales */
                for (size_t i = 0; i < 2; i++) {
                    in[1 + b * bytes + 1 + 2 * i] &= 0xBF;
                    in[1 + (b + 1) * bytes - 1] &= 0xBF;
                }
            mo_quant_of(types[t])->dequantise(in + 1, x, 512); /* at an odd address */
            for (int i = 0; i < 512; i++)
                wrong += x[i] != element(types[t], in + 1 + (size_t)(i / 256) * bytes, i % 256);
        }
        CHECK(wrong == 0, "%s: %d of 25600 numbers differ", mo_dtype_name(types[t]), wrong);
    }
}

/* The parts of every group, put together again, are the numbers themselves; damaged scales show. */
static void test_groups(void) {
    static const mo_dtype types[] = {MO_Q8_0, MO_Q4_0, MO_Q4_K, MO_Q6_K};
    test_rng r = {17};
    for (int t = 0; t < 4; t++) {
        const mo_dtype type = types[t];
        size_t block = mo_dtype_block(type), bytes = (size_t)mo_dtype_row_bytes(type, block);
        uint8_t in[8 * 34 + 2 * MAX_BLOCK_BYTES];
        float x[512];
        int wrong = 0;
        for (size_t i = 0; i < sizeof in; i++) in[i] = (uint8_t)rng_u64(&r);
        size_t d = type == MO_Q6_K ? bytes - 1 : 1;
        for (size_t b = 0; b < 512 / block; b++) in[b * bytes + d] &= 0xBB;
        for (size_t b = 0; b < 512 / block && type == MO_Q4_K; b++) in[b * bytes + 3] &= 0xBB;
        mo_quant_of(type)->dequantise(in, x, 512);
        for (size_t i = 0; i < 512; i++) {
            mo_quant_group g;
            mo_quant_group_at(type, in, i / 32, &g);
            float scale = mo_f16_to_f32(g.d), q = (float)g.q[i % 32], less = 0;
            if (type == MO_Q8_0) q = (float)(int8_t)g.q[i % 32];
            if (type == MO_Q4_0) q -= 8;
            if (type == MO_Q6_K) q -= 32;
            if (type == MO_Q4_K) less = mo_f16_to_f32(g.m) * (float)g.minimum;
            if (type == MO_Q4_K || type == MO_Q6_K)
                scale *= (float)g.scale[type == MO_Q6_K ? i % 32 / 16 : 0];
            wrong += x[i] != scale * q - less;
        }
        CHECK(wrong == 0, "%s: %d of 512 numbers differ", mo_dtype_name(type), wrong);
        CHECK(mo_quant_finite(type, in, 512), "%s: sound blocks", mo_dtype_name(type));
        in[bytes + d] = 0xFC; /* -infinity, or NaN, in the second block */
        CHECK(!mo_quant_finite(type, in, 512), "%s: a damaged scale", mo_dtype_name(type));
        CHECK(mo_quant_finite(type, in, block), "%s: behind what was asked", mo_dtype_name(type));
    }
    uint8_t q5[176 * 2] = {0};
    CHECK(mo_quant_finite(MO_Q5_K, q5, 512), "Q5_K: zeros");
    q5[176 + 3] = 0x7E;
    CHECK(!mo_quant_finite(MO_Q5_K, q5, 512), "Q5_K: a damaged minimum");
}

/* ---- what is kept --------------------------------------------------------------------------- */

/* Relative RMS error of the products of rows of normal numbers with a normal vector, in percent. */
static double product_error(const mo_quant *q, const float *w, const float *x) {
    uint8_t *packed = test_alloc(K * 4, 1);
    double error = 0, signal = 0;
    for (int row = 0; row < ROWS; row++, w += K) {
        double exact = 0;
        for (int i = 0; i < K; i++) exact += (double)w[i] * (double)x[i];
        q->quantise(w, packed, K);
        double e = (double)mo_quant_dot(q, packed, x, K) - exact;
        error += e * e;
        signal += exact * exact;
    }
    free(packed);
    return 100 * sqrt(error / signal);
}

/* The figures of the formats in percent. The products are a sample: a window around them. */
static void test_products(void) {
    static const struct {
        mo_dtype dtype;
        double percent;
    } wanted[] = {{MO_F32, 0},    {MO_F16, 0.020}, {MO_BF16, 0.166}, {MO_Q8_0, 0.52},
                  {MO_Q4_0, 8.6}, {MO_Q4_K, 7.8},  {MO_Q6_K, 1.7}};
    float *w = test_alloc(ROWS * K, sizeof *w), *x = test_alloc(K, sizeof *x);
    test_rng r = {42};
    for (int i = 0; i < K; i++) x[i] = gauss(&r);
    for (int i = 0; i < ROWS * K; i++) w[i] = 0.02f * gauss(&r);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        const mo_quant *q = mo_quant_of(wanted[i].dtype);
        double found = product_error(q, w, x), middle = wanted[i].percent;
        printf("%-5s a product of %d loses %.4f %% (wanted %.3f %% within 15 %%)\n", q->name, K,
               found, middle);
        CHECK(found <= middle * 1.15 + 1e-5 && found >= middle * 0.85, "%s: %.4f %%", q->name,
              found);
    }
    free(w);
    free(x);
}

/* No number is further from what came in than its block's step allows. */
static void test_steps(void) {
    test_rng r = {3};
    float x[256], back[256];
    uint8_t packed[1024];
    double worst8 = 0, worst4 = 0;
    for (int round = 0; round < 200; round++) {
        float largest = 0;
        for (int i = 0; i < 32; i++) {
            x[i] = gauss(&r) * ldexpf(1, round % 20 - 10);
            largest = fmaxf(largest, fabsf(x[i]));
        }
        mo_quant_of(MO_Q8_0)->quantise(x, packed, 32);
        mo_quant_of(MO_Q8_0)->dequantise(packed, back, 32);
        worst8 = fmax(worst8, max_diff(x, back, 32) / ((double)largest / 127));
        mo_quant_of(MO_Q4_0)->quantise(x, packed, 32);
        mo_quant_of(MO_Q4_0)->dequantise(packed, back, 32);
        worst4 = fmax(worst4, max_diff(x, back, 32) / ((double)largest / 8));
    }
    /* half a step, and 127 or 8 times the rounding of the scale itself */
    CHECK(worst8 > 0.3 && worst8 <= 0.5 + 127.0 / 2048, "q8_0: %.3f steps", worst8);
    /* the number opposite to the largest has no value of its own: a whole step */
    CHECK(worst4 > 0.3 && worst4 <= 1 + 8.0 / 2048, "q4_0: %.3f steps", worst4);
}

/* Quantising what was read back changes nothing any more. */
static void test_twice(void) {
    static const mo_dtype types[] = {MO_F16, MO_BF16, MO_Q8_0, MO_Q4_0};
    test_rng r = {11};
    float x[256], back[256], again[256];
    uint8_t first[1024], second[1024];
    for (int t = 0; t < 4; t++) {
        const mo_quant *q = mo_quant_of(types[t]);
        size_t bytes = (size_t)mo_dtype_row_bytes(types[t], 256);
        int differ = 0;
        for (int round = 0; round < 2000; round++) {
            for (int i = 0; i < 256; i++) x[i] = gauss(&r) * ldexpf(1, round % 60 - 40);
            q->quantise(x, first, 256);
            q->dequantise(first, back, 256);
            q->quantise(back, second, 256);
            q->dequantise(second, again, 256);
            differ += memcmp(first, second, bytes) != 0 || memcmp(back, again, sizeof back) != 0;
        }
        CHECK(differ == 0, "%s: %d of 2000 blocks change", q->name, differ);
    }
}

/* ---- extremes ------------------------------------------------------------------------------- */

enum { EXTREMES = 12 };

static void fill_extreme(int kind, float x[256], test_rng *r) {
    static const float subnormal = 1e-41f;
    for (int i = 0; i < 256; i++) {
        float g = gauss(r);
        switch (kind) {
        case 0: /* zeros of both signs */
            x[i] = i % 2 ? -0.0f : 0.0f;
            break;
        case 1: /* one huge number */
            x[i] = i == 100 ? 3e38f : g;
            break;
        case 2:
            x[i] = i == 100 ? -3e38f : g;
            break;
        case 3:
            x[i] = subnormal * g;
            break;
        case 4: /* one sign */
            x[i] = fabsf(g) + 0.01f;
            break;
        case 5:
            x[i] = -fabsf(g) - 0.01f;
            break;
        case 6: /* all the same */
            x[i] = -2.5f;
            break;
        case 7: /* both ends of float */
            x[i] = i % 2 ? 3.4e38f : -3.4e38f;
            break;
        case 8: /* any exponent */
            x[i] = ldexpf(g, (int)(rng_u64(r) % 250) - 125);
            break;
        case 9: /* one number alone */
            x[i] = i == 77 ? 1e-3f : 0;
            break;
        case 10:
            x[i] = i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : -INFINITY;
            break;
        default: /* near the smallest scale a block can hold */
            x[i] = g * 1e-7f;
        }
    }
}

static void test_extremes(void) {
    test_rng r = {5};
    float x[256], back[256];
    uint8_t packed[MAX_BLOCK_BYTES * 8 + 1];
    for (size_t f = 0; mo_quant_at(f); f++) {
        const mo_quant *q = mo_quant_at(f);
        if (mo_dtype_block(q->dtype) == 1 || !q->quantise) continue;
        for (int kind = 0; kind < EXTREMES; kind++) {
            int rounds = kind == 8 ? 500 : 1, bad = 0;
            for (int round = 0; round < rounds; round++) {
                fill_extreme(kind, x, &r);
                q->quantise(x, packed + 1, 256); /* at an odd address */
                q->dequantise(packed + 1, back, 256);
                for (int i = 0; i < 256; i++) bad += !isfinite(back[i]);
            }
            CHECK(bad == 0, "%s, kind %d: %d numbers read back as NaN or infinite", q->name, kind,
                  bad);
            if (kind == 0 || kind == 3)
                for (int i = 0; i < 256; i++)
                    if (!CHECK(back[i] == 0, "%s: zero became %g", q->name, back[i])) break;
            if (kind == 4 || kind == 5)
                for (int i = 0; i < 256; i++) {
                    float v = kind == 4 ? back[i] : -back[i];
                    if (!CHECK(v >= -0.3f && v < 5, "%s: %g became %g", q->name, x[i], back[i]))
                        break;
                }
            if (kind == 6)
                CHECK(max_diff(x, back, 256) < 0.05, "%s: -2.5 became %g", q->name, back[0]);
            if (kind == 9)
                CHECK(fabsf(back[77] - 1e-3f) < 1e-4f && back[0] == 0 && back[78] == 0,
                      "%s: one number alone became %g", q->name, back[77]);
            if (kind == 1 || kind == 2)
                CHECK(fabsf(back[100]) > 1e5f && (back[100] > 0) == (kind == 1),
                      "%s: the largest became %g", q->name, back[100]);
        }
    }
}

/* ---- levels --------------------------------------------------------------------------------- */

enum { BLOCKS = 7 }; /* of 256: not a multiple of what any level takes at once */

/* Numbers of every sort, some of them weights: spread, one-sided, sparse, of one value, extreme. */
static void fill_sorts(float x[BLOCKS * 256], int round, test_rng *r) {
    for (int b = 0; b < BLOCKS; b++, x += 256) {
        int sort = (round + b) % (EXTREMES + 6);
        if (sort < EXTREMES) {
            fill_extreme(sort, x, r);
            continue;
        }
        for (int i = 0; i < 256; i++) {
            float g = gauss(r);
            float sorts[] = {
                0.02f * g,    g * g * g, fabsf(g), -2.5f + 0.01f * g, rng_u64(r) % 8 ? 0 : g,
                roundf(4 * g)};
            x[i] = sorts[sort - EXTREMES];
        }
    }
}

/* Every instruction set gives the same bytes and numbers as the plain code, and a block is the same
 * wherever it stands. */
static void test_levels(void) {
    static float x[BLOCKS * 256], plain_back[BLOCKS * 256], back[BLOCKS * 256];
    static uint8_t plain[sizeof x], found[sizeof x];
    test_rng r = {21};
    const mo_quant_set *set;
    int sets = 0;
    for (size_t level = 0; (set = mo_quant_set_at(level)); level++, sets++)
        for (size_t f = 0; f < set->n_rows; f++) {
            const mo_quant *q = &set->rows[f], *p = mo_quant_at(f);
            int bytes = 0, numbers = 0, places = 0;
            for (int round = 0; round < 60; round++) {
                size_t block = (size_t)mo_dtype_row_bytes(q->dtype, 256), n = BLOCKS;
                fill_sorts(x, round, &r);
                if (q->quantise) {
                    p->quantise(x, plain, n * 256);
                    q->quantise(x, found, n * 256);
                    bytes += memcmp(plain, found, n * block) != 0;
                    for (size_t b = 0; b < n; b++) {
                        q->quantise(x + b * 256, found, 256);
                        places += memcmp(plain + b * block, found, block) != 0;
                    }
                } else {
                    for (size_t i = 0; i < n * block; i++) plain[i] = (uint8_t)rng_u64(&r);
                }
                p->dequantise(plain, plain_back, n * 256);
                q->dequantise(plain, back, n * 256);
                numbers += memcmp(plain_back, back, sizeof back) != 0;
            }
            CHECK(bytes == 0, "%s, %s: %d of 60 rounds give other bytes", set->name, q->name,
                  bytes);
            CHECK(numbers == 0, "%s, %s: %d of 60 rounds read back otherwise", set->name, q->name,
                  numbers);
            CHECK(places == 0, "%s, %s: %d blocks depend on their place", set->name, q->name,
                  places);
        }
    set = mo_quant_set_fast();
    CHECK(set == mo_quant_set_at((size_t)sets - 1), "the fastest set comes last");
    CHECK(mo_quant_row(set, MO_Q4_K)->dtype == MO_Q4_K && !mo_quant_row(set, MO_I8), "rows of it");
    CHECK(!strcmp(mo_quant_set_at(0)->name, "plain"), "the plain set comes first");
    printf("%d instruction sets, the fastest is %s\n", sets, set->name);
}

/* The searches against the same rules in plain words. */
static void test_oracle(void) {
    static const struct {
        mo_dtype dtype;
        void (*oracle)(const float *, float *);
    } cases[] = {{MO_Q4_K, oracle_q4_k}, {MO_Q6_K, oracle_q6_k}};
    float x[256], back[256], wanted[256];
    uint8_t packed[MAX_BLOCK_BYTES];
    test_rng r = {33};
    for (size_t c = 0; c < 2; c++) {
        const mo_quant *q = mo_quant_of(cases[c].dtype);
        int wrong = 0;
        for (int round = 0; round < 600; round++) {
            for (int i = 0; i < 256; i++) {
                float g = gauss(&r), scale = ldexpf(1, round % 16 - 8);
                x[i] = scale * (round % 4 == 0 ? fabsf(g) : round % 4 == 1 ? g - 2 : g);
                if (round % 5 == 0 && i / 32 == 3) x[i] = round % 2 ? 0 : scale;
            }
            q->quantise(x, packed, 256);
            for (int i = 0; i < 256; i++) back[i] = element(cases[c].dtype, packed, i);
            cases[c].oracle(x, wanted);
            for (int i = 0; i < 256; i++) wrong += back[i] != wanted[i];
        }
        CHECK(wrong == 0, "%s: %d numbers of 600 blocks are not the oracle's", q->name, wrong);
    }
}

static void test_dot(void) {
    test_rng r = {9};
    float w[768], x[768], back[768];
    uint8_t packed[768 * 4];
    for (int i = 0; i < 768; i++) {
        w[i] = gauss(&r);
        x[i] = gauss(&r);
    }
    for (size_t f = 0; mo_quant_at(f); f++) {
        const mo_quant *q = mo_quant_at(f);
        if (!q->quantise) continue;
        size_t block = mo_dtype_block(q->dtype), n = 600 / block * block;
        q->quantise(w, packed, n);
        q->dequantise(packed, back, n);
        double sum = 0;
        for (size_t i = 0; i < n; i++) sum += (double)back[i] * (double)x[i];
        CHECK(mo_quant_dot(q, packed, x, n) == (float)sum, "%s: dot of %zu", q->name, n);
        CHECK(mo_quant_dot(q, packed, x, 0) == 0, "%s: dot of nothing", q->name);
    }
}

/* ---- recorded file -------------------------------------------------------------------------- */

static bool open_golden(mo_checkpoint *ck, const char *relative) {
    const char *path = golden_path(relative);
    mo_file file;
    moshi_error err = {0};
    if (!path) {
        SKIP("%s is not there", relative);
        return false;
    }
    return CHECK(mo_file_map(&file, path, relative, &err) == 0 &&
                     mo_checkpoint_open(ck, &file, &err) == 0,
                 "%s", err.text);
}

/* The file was made from the other one by this very rule: the same bytes must come out. */
static void test_recorded(const char *model) {
    char quantised[64], plain[64];
    mo_checkpoint a, b;
    snprintf(quantised, sizeof quantised, "%s/model.candle.q8.gguf", model);
    snprintf(plain, sizeof plain, "%s/model.candle.safetensors", model);
    if (!open_golden(&a, quantised)) return;
    if (!open_golden(&b, plain)) {
        mo_checkpoint_close(&a);
        return;
    }
    int blocks = 0;
    for (size_t i = 0; i < a.n_tensors; i++) {
        const mo_tensor_view *t = &a.tensors[i], *from = mo_checkpoint_find(&b, t->name);
        if (t->dtype != MO_Q8_0 || !CHECK(from && from->count == t->count, "%s", t->name)) continue;
        float *x = test_alloc((size_t)t->count, sizeof *x);
        uint8_t *packed = test_alloc((size_t)t->bytes, 1);
        mo_tensor_read(from, 0, from->count, x);
        mo_quant_of(MO_Q8_0)->quantise(x, packed, (size_t)t->count);
        CHECK(memcmp(packed, t->data, (size_t)t->bytes) == 0, "%s: %s differs", quantised, t->name);
        blocks += (int)(t->count / 32);
        free(packed);
        free(x);
    }
    CHECK(blocks > 30000, "%s: only %d blocks", quantised, blocks);
    mo_checkpoint_close(&a);
    mo_checkpoint_close(&b);
}

int main(void) {
    test_table();
    test_bytes_small();
    test_bytes_large();
    test_any_bytes();
    test_groups();
    test_products();
    test_steps();
    test_twice();
    test_extremes();
    test_levels();
    test_oracle();
    test_dot();
    test_recorded("moshi-tiny");
    test_recorded("stt-tiny");
    return check_done("test_quant");
}
