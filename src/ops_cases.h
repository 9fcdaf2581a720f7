/* ops_cases.h - the shapes that the op tests and moshi_device_check() run, and the official ones
 * the benchmark times. */
#ifndef MO_OPS_CASES_H
#define MO_OPS_CASES_H

#include "backend.h"

enum {
    BIAS = 1,
    SCALE = 2,
    ADD = 4,
    IN_PLACE = 8 /* out is add */,
    DENSE = 16 /* no row padding */
};

typedef struct linear_case {
    int slots, rows, cols, n, taps, stride, dilation, flags;
    mo_dtype dtype;
} linear_case;

static const linear_case linear_cases[] = {
    {1, 1, 1, 1, 1, 1, 1, 0, MO_F32},
    {1, 1, 1, 17, 1, 1, 1, BIAS, MO_BF16},
    {2, 1, 16, 16, 1, 1, 1, SCALE, MO_F32},
    {3, 1, 33, 130, 1, 1, 1, BIAS | SCALE | ADD, MO_F16},
    {8, 1, 100, 77, 1, 1, 1, ADD | IN_PLACE | SCALE, MO_BF16},
    {1, 2, 64, 192, 1, 1, 1, ADD | IN_PLACE, MO_F32},
    {1, 3, 31, 49, 1, 1, 1, BIAS, MO_BF16},
    {2, 4, 40, 65, 1, 1, 1, BIAS | ADD, MO_F16},
    {1, 5, 24, 33, 1, 1, 1, 0, MO_F32},
    {1, 6, 24, 64, 1, 1, 1, 0, MO_F32},
    {3, 7, 17, 96, 1, 1, 1, BIAS, MO_BF16},
    {1, 8, 19, 15, 1, 1, 1, SCALE, MO_F16},
    {2, 9, 48, 80, 1, 1, 1, 0, MO_F32},
    /* convolutions: first and last of a codec, strided, dilated, padded and dense rows */
    {1, 50, 1, 8, 7, 1, 1, BIAS | DENSE, MO_F32},
    {2, 40, 1, 20, 7, 1, 1, BIAS, MO_F32},
    {1, 60, 8, 1, 3, 1, 1, BIAS | DENSE, MO_F32},
    {3, 37, 12, 1, 3, 1, 1, BIAS, MO_F32},
    {1, 16, 8, 16, 8, 4, 1, BIAS | DENSE, MO_F32},
    {2, 11, 16, 32, 10, 5, 1, BIAS | DENSE, MO_BF16},
    {1, 13, 16, 40, 3, 1, 2, BIAS | DENSE | ADD, MO_F32},
    {2, 10, 5, 33, 4, 2, 3, BIAS | ADD | IN_PLACE, MO_F16},
    {1, 2, 32, 64, 16, 8, 1, BIAS | DENSE, MO_F32},
    {1, 103, 8, 16, 2, 1, 1, BIAS | DENSE, MO_F32},
    {8, 2, 64, 128, 1, 1, 1, SCALE | ADD | IN_PLACE, MO_F32},
    /* large enough to be shared between threads */
    {1, 1, 256, 1000, 1, 1, 1, BIAS, MO_BF16},
    {4, 1, 300, 700, 1, 1, 1, 0, MO_F32},
    {1, 400, 16, 32, 3, 1, 1, BIAS | DENSE | ADD, MO_F32},
    {2, 130, 64, 96, 3, 1, 1, BIAS | DENSE, MO_F32},
};

/* rows, columns, slots of row-wise and element-wise ops */
typedef struct shape {
    int slots, rows, cols;
} shape;

static const shape shapes[] = {
    {1, 1, 1},  {1, 1, 15}, {2, 3, 16},  {1, 2, 17},   {8, 1, 64},   {3, 2, 100},
    {1, 9, 48}, {2, 1, 33}, {1, 1, 512}, {4, 2, 1030}, {1, 1, 4096}, {1, 40, 1100},
};

typedef struct attend_case {
    int slots, rows, heads, kv_heads, head_dim, capacity, context;
    mo_rope_kind rope;
    bool fixed; /* static position instead of a view */
} attend_case;

static const attend_case attend_cases[] = {
    {1, 1, 1, 1, 8, 4, 4, MO_ROPE_PAIRS, false},
    {2, 1, 2, 2, 16, 7, 7, MO_ROPE_PAIRS, false},
    {1, 2, 4, 4, 64, 10, 10, MO_ROPE_PAIRS, false},
    {3, 2, 4, 2, 24, 13, 12, MO_ROPE_HALVES, false},
    {8, 1, 2, 1, 32, 40, 40, MO_ROPE_PAIRS, false},
    {2, 5, 3, 3, 20, 25, 20, MO_ROPE_NONE, false},
    {2, 1, 4, 4, 16, 8, 8, MO_ROPE_NONE, true},
    {1, 1, 8, 8, 128, 70, 70, MO_ROPE_PAIRS, false},
    {2, 2, 8, 8, 64, 252, 250, MO_ROPE_PAIRS, false},
    {1, 4, 2, 2, 80, 6, 4, MO_ROPE_HALVES, false},
    {1, 3, 2, 1, 10, 9, 9, MO_ROPE_HALVES, false},
    {3, 2, 2, 2, 7, 5, 5, MO_ROPE_NONE, false},
    {2, 1, 6, 2, 50, 33, 30, MO_ROPE_PAIRS, false},
    {2, 7, 2, 2, 64, 46, 40, MO_ROPE_PAIRS, false},
    {1, 7, 2, 1, 64, 8, 5, MO_ROPE_PAIRS, false},
};

/* numbers of the key/value ring */
static const mo_dtype attend_types[] = {MO_F32, MO_BF16, MO_I8};

/* positions each attend case runs at: empty ring, filling, wrapped, far out */
static const int attend_positions[] = {0, 1, 5, 33, 260, 70000};

typedef struct upsample_case {
    int slots, steps, channels, taps, stride;
} upsample_case;

static const upsample_case upsample_cases[] = {
    {1, 1, 16, 2, 2}, {3, 2, 33, 2, 2}, {2, 3, 7, 3, 5}, {1, 5, 512, 2, 2}, {8, 1, 20, 1, 4}};

typedef struct rvq_case {
    int slots, rows, bins, dim;
    float closeness; /* size of the difference between neighbouring entries */
} rvq_case;

static const rvq_case rvq_cases[] = {{1, 1, 1, 4, 1.0f},     {2, 1, 40, 16, 1.0f},
                                     {1, 3, 100, 32, 1e-7f}, {3, 2, 63, 20, 0.0f},
                                     {1, 2, 256, 64, 1e-6f}, {8, 1, 33, 8, 0.0f}};

/* pad_first, shift, advance: the last n rows are kept */
typedef struct stream_case {
    int slots, rows, cols, n;
} stream_case;

static const stream_case stream_cases[] = {
    {1, 3, 4, 1}, {2, 6, 1, 4}, {3, 7, 33, 2}, {2, 9, 16, 8}};

/* sift: between two counters */
typedef struct sift_case {
    int slots, cols, n;
} sift_case;

static const sift_case sift_cases[] = {{1, 1, 1}, {4, 3, 5}, {8, 8, 2048}, {8, 2, 2}};

typedef struct grid_case {
    int n_q, dep_q, max_delay;
    int delays[12];
} grid_case;

static const grid_case grid_cases[] = {{4, 2, 1, {0, 0, 1, 0, 1}},
                                       {6, 3, 2, {0, 0, 2, 2, 0, 2, 2}},
                                       {3, 0, 0, {0, 0, 0, 0}},
                                       {5, 5, 2, {0, 0, 2, 2, 1, 2}},
                                       {8, 4, 5, {1, 0, 3, 5, 2, 0, 4, 5, 1}}};

typedef struct sample_case {
    int slots, n, channel, top_k;
    float temp;
    bool ties;
} sample_case;

static const sample_case sample_cases[] = {
    {1, 1, 0, 0, 0.7f, false},    {2, 50, 0, 5, 0.7f, false},  {3, 128, 3, 250, 0.8f, false},
    {8, 500, 0, 25, 0.7f, false}, {4, 300, 8, 0, 1.0f, false}, {4, 100, 2, 10, 0.8f, true},
    {3, 77, 1, 1, 0.5f, true},    {3, 200, 0, 3, 0.0f, true},  {2, 64, 4, 9, -1.0f, false},
    {8, 90, 5, 40, 3.0f, true},
};

/* Official sizes the benchmark times: convolutions of the codec, matrices of the language models.
 */
typedef struct bench_case {
    const char *name;
    linear_case shape;
} bench_case;

static const bench_case bench_cases[] = {
    {"enc 0: 1->64 k7, 1920 rows", {1, 1920, 1, 64, 7, 1, 1, BIAS | DENSE, MO_F32}},
    {"res 64->32 k3, 1920 rows", {1, 1920, 64, 32, 3, 1, 1, BIAS | DENSE, MO_F32}},
    {"res 32->64 k1, 1920 rows", {1, 1920, 32, 64, 1, 1, 1, BIAS | ADD | DENSE, MO_F32}},
    {"enc 3: 64->128 k8 s4, 480 rows", {1, 480, 64, 128, 8, 4, 1, BIAS | DENSE, MO_F32}},
    {"enc 6: 128->256 k10 s5, 96 rows", {1, 96, 128, 256, 10, 5, 1, BIAS | DENSE, MO_F32}},
    {"enc 9: 256->512 k12 s6, 16 rows", {1, 16, 256, 512, 12, 6, 1, BIAS | DENSE, MO_F32}},
    {"enc 12: 512->1024 k16 s8, 2 rows", {1, 2, 512, 1024, 16, 8, 1, BIAS | DENSE, MO_F32}},
    {"dec 2: tr 1024->512 k16 s8, 2 rows", {1, 2, 1024, 4096, 2, 1, 1, BIAS | DENSE, MO_F32}},
    {"dec 5: tr 512->256 k12 s6, 16 rows", {1, 16, 512, 1536, 2, 1, 1, BIAS | DENSE, MO_F32}},
    {"dec 8: tr 256->128 k10 s5, 96 rows", {1, 96, 256, 640, 2, 1, 1, BIAS | DENSE, MO_F32}},
    {"dec 11: tr 128->64 k8 s4, 480 rows", {1, 480, 128, 256, 2, 1, 1, BIAS | DENSE, MO_F32}},
    {"dec 14: 64->1 k3, 1920 rows", {1, 1920, 64, 1, 3, 1, 1, BIAS | DENSE, MO_F32}},
    {"codec transformer 512->2048, 2 rows", {1, 2, 512, 2048, 1, 1, 1, DENSE, MO_F32}},
    {"lm 4096->12288 bf16, 1 row", {1, 1, 4096, 12288, 1, 1, 1, DENSE, MO_BF16}},
    {"lm 11264->4096 bf16, 1 row", {1, 1, 11264, 4096, 1, 1, 1, ADD | DENSE, MO_BF16}},
    {"lm 4096->12288 bf16, 8 slots", {8, 1, 4096, 12288, 1, 1, 1, DENSE, MO_BF16}},
    {"lm 4096->32000 f32, 1 row", {1, 1, 4096, 32000, 1, 1, 1, DENSE, MO_F32}},
    {"depth 1024->3072 bf16, 1 row", {1, 1, 1024, 3072, 1, 1, 1, DENSE, MO_BF16}},
};

#endif
