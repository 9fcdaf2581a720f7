#include "tensors.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Noreturn void test_die(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fputs("test cannot go on: ", stderr);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(2);
}

void *test_alloc(size_t n, size_t size) {
    void *p = calloc(n ? n : 1, size ? size : 1);
    if (!p) test_die("out of memory (%zu x %zu bytes)", n, size);
    return p;
}

static int32_t int_at(const mo_tensor_view *v, uint64_t i) {
    const uint8_t *p = v->data;
    int32_t i32;
    int64_t i64;
    switch (v->dtype) {
    case MO_U8:
    case MO_BOOL:
        return p[i];
    case MO_I32:
        memcpy(&i32, p + 4 * i, 4);
        return i32;
    case MO_I64:
        memcpy(&i64, p + 8 * i, 8);
        return (int32_t)i64;
    default:
        test_die("tensor %s has unexpected type %s", v->name, mo_dtype_name(v->dtype));
    }
}

static tensor *append(tensors *set, const char *name) {
    if (set->n == set->cap) {
        set->cap = set->cap ? 2 * set->cap : 64;
        set->t = realloc(set->t, set->cap * sizeof *set->t);
        if (!set->t) test_die("out of memory");
    }
    tensor *t = &set->t[set->n++];
    memset(t, 0, sizeof *t);
    t->name = test_alloc(strlen(name) + 1, 1);
    strcpy(t->name, name);
    return t;
}

static void load_view(tensors *set, const mo_tensor_view *v) {
    tensor *t = append(set, v->name);
    t->dtype = v->dtype;
    t->ndim = v->ndim;
    memcpy(t->shape, v->shape, sizeof t->shape);
    t->count = (size_t)v->count;
    if (mo_dtype_is_float(v->dtype)) {
        t->f = test_alloc(t->count, sizeof *t->f);
        mo_tensor_read(v, 0, v->count, t->f);
    } else {
        t->i = test_alloc(t->count, sizeof *t->i);
        for (size_t i = 0; i < t->count; i++) t->i[i] = int_at(v, i);
    }
}

bool tensors_load(tensors *out, const char *path) {
    moshi_error err = {0};
    mo_file file;
    mo_checkpoint ck;
    memset(out, 0, sizeof *out);
    if (mo_file_map(&file, path, path, &err) < 0 || mo_checkpoint_open(&ck, &file, &err) < 0) {
        fprintf(stderr, "%s: %s\n", path, err.text);
        return false;
    }
    for (size_t i = 0; i < ck.n_tensors; i++) load_view(out, &ck.tensors[i]);
    mo_checkpoint_close(&ck);
    return true;
}

void tensors_free(tensors *set) {
    for (size_t i = 0; i < set->n; i++) {
        free(set->t[i].name);
        free(set->t[i].f);
        free(set->t[i].i);
    }
    free(set->t);
    memset(set, 0, sizeof *set);
}

tensor *tensors_find(const tensors *set, const char *name) {
    for (size_t i = 0; i < set->n; i++)
        if (!strcmp(set->t[i].name, name)) return &set->t[i];
    return NULL;
}

static const tensor *must_find(const tensors *set, size_t count, const char *fmt, va_list ap) {
    char name[256];
    vsnprintf(name, sizeof name, fmt, ap);
    const tensor *t = tensors_find(set, name);
    if (!t) test_die("no tensor %s", name);
    if (count && t->count != count)
        test_die("tensor %s has %zu elements, expected %zu", name, t->count, count);
    return t;
}

const float *tensors_f32(const tensors *set, size_t count, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    const tensor *t = must_find(set, count, fmt, ap);
    va_end(ap);
    if (!t->f) test_die("tensor %s is not a float tensor", t->name);
    return t->f;
}

const int32_t *tensors_i32(const tensors *set, size_t count, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    const tensor *t = must_find(set, count, fmt, ap);
    va_end(ap);
    if (!t->i) test_die("tensor %s is not an integer tensor", t->name);
    return t->i;
}

tensor *tensors_add(tensors *set, const char *name, int ndim, const int64_t *shape) {
    tensor *t = append(set, name);
    t->dtype = MO_F32;
    t->ndim = ndim;
    t->count = 1;
    for (int d = 0; d < ndim; d++) {
        t->shape[d] = shape[d];
        t->count *= (size_t)shape[d];
    }
    t->f = test_alloc(t->count, sizeof *t->f);
    return t;
}

static bool readable(const char *path) {
    FILE *f = fopen(path, "rb");
    if (f) fclose(f);
    return f != NULL;
}

const char *golden_path(const char *relative) {
    static char paths[4][1024];
    static int turn;
    const char *given = getenv("MOSHI_GOLDEN");
    const char *roots[] = {given && *given ? given : "../shared/golden", "tests/golden"};
    char *path = paths[turn++ % 4];
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof paths[0], "%s/%s", roots[i], relative);
        if (readable(path)) return path;
    }
    return NULL;
}

double max_diff(const float *a, const float *b, size_t n) {
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        if (!(d <= worst)) worst = isnan(d) ? INFINITY : d;
    }
    return worst;
}

double max_diff_d(const float *a, const double *b, size_t n) {
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - b[i]);
        if (!(d <= worst)) worst = isnan(d) ? INFINITY : d;
    }
    return worst;
}

size_t first_diff(const int32_t *a, const int32_t *b, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (a[i] != b[i]) return i;
    return n;
}

uint64_t rng_u64(test_rng *r) {
    uint64_t z = r->state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

int rng_below(test_rng *r, int n) {
    return (int)(rng_u64(r) >> 33) % n;
}

float rng_f32(test_rng *r) {
    return (float)(rng_u64(r) >> 40) * 0x1p-23f - 1.0f;
}
