/* tensors.h - named arrays in memory: recorded reference data and generated weights.
 *
 * Test code, so wrong names and missing memory end the program with a message instead of an error
 * code: the tests stay readable. */
#ifndef MO_TESTS_TENSORS_H
#define MO_TESTS_TENSORS_H

#include "checkpoint.h"

typedef struct tensor {
    char *name;
    mo_dtype dtype; /* as it is, or will be, in a file */
    int ndim;
    int64_t shape[MO_MAX_DIMS];
    size_t count;
    float *f;   /* float tensors, widened exactly */
    int32_t *i; /* integer tensors */
} tensor;

typedef struct tensors {
    tensor *t;
    size_t n, cap;
} tensors;

/* Read a whole safetensors file. False, with a message, when it cannot be read. */
bool tensors_load(tensors *out, const char *path);
void tensors_free(tensors *set);

/* NULL when there is none of that name. */
tensor *tensors_find(const tensors *set, const char *name);
/* Data of a tensor that must be there with `count` elements (0: any number). */
const float *tensors_f32(const tensors *set, size_t count, const char *fmt, ...) MO_PRINTF(3, 4);
const int32_t *tensors_i32(const tensors *set, size_t count, const char *fmt, ...) MO_PRINTF(3, 4);
/* A new zeroed float tensor; valid until the next one is added. */
tensor *tensors_add(tensors *set, const char *name, int ndim, const int64_t *shape);

/* Path of a file of the recorded reference data, or NULL when there is none: below $MOSHI_GOLDEN
 * (../shared/golden), where all of it may be, else below tests/golden, where some of it is. The
 * string lives until the fourth call from now. */
const char *golden_path(const char *relative);

/* malloc or end the program. */
void *test_alloc(size_t n, size_t size);
/* Ends the program with a message. */
_Noreturn void test_die(const char *fmt, ...) MO_PRINTF(1, 2);

/* Largest absolute difference; a NaN anywhere gives infinity. */
double max_diff(const float *a, const float *b, size_t n);
double max_diff_d(const float *a, const double *b, size_t n);
/* First index where the arrays differ, or n. */
size_t first_diff(const int32_t *a, const int32_t *b, size_t n);

/* Small deterministic random numbers for tests. */
typedef struct test_rng {
    uint64_t state;
} test_rng;
uint64_t rng_u64(test_rng *r);
/* 0 .. n-1 */
int rng_below(test_rng *r, int n);
/* -1 .. 1 */
float rng_f32(test_rng *r);

#endif
