/* pack_model FROM.safetensors TO.safetensors mlx4|mlx8|int8 - a checkpoint as MLX or bitsandbytes
 * would have packed it, for tests/cost.sh: such files exist of the published models only.
 *
 * MLX: every matrix in groups of 32 (4 bits) or 64 (8 bits) numbers of a row, w = q * scale + bias,
 * both bf16; the end of the range that is farther from zero is met exactly, and so is zero. int8: a
 * scale per row, w = q * scb / 127; embeddings stay as they are, since only linear layers are
 * packed. */
#include "../tensors.h"
#include "util.h"
#include "writer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NAME = 256 };

typedef struct packing {
    const char *name;
    int bits, group; /* group 0: int8 rows */
} packing;

typedef struct output {
    mo_out_tensor *t;
    void **data;
    size_t n;
} output;

static void *add(output *o, mo_dtype dtype, size_t size, int64_t rows, int64_t cols,
                 const char *stem, int length, const char *suffix) {
    char *name = test_alloc(MAX_NAME, 1);
    snprintf(name, MAX_NAME, "%.*s%s", length, stem, suffix);
    size_t bytes = (size_t)rows * (size_t)(cols ? cols : 1) * size;
    o->t[o->n] = (mo_out_tensor){
        .name = name, .dtype = dtype, .ndim = cols ? 2 : 1, .shape = {rows, cols}, .bytes = bytes};
    return o->data[o->n++] = test_alloc(bytes ? bytes : 1, 1);
}

static void keep(output *o, const tensor *t) {
    uint16_t *to = add(o, MO_BF16, 2, 1, (int64_t)t->count, t->name, (int)strlen(t->name), "");
    for (size_t i = 0; i < t->count; i++) to[i] = mo_f32_to_bf16(t->f[i]);
    o->t[o->n - 1].ndim = t->ndim;
    memcpy(o->t[o->n - 1].shape, t->shape, sizeof t->shape);
}

/* A number per row of `n`; scale and bias are rounded first, so that q fits what a reader sees. */
static void pack_group(const float *x, int n, int bits, uint32_t *words, uint16_t *scale16,
                       uint16_t *bias16) {
    float low = x[0], high = x[0];
    for (int i = 1; i < n; i++) {
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
    }
    const float steps = (float)((1 << bits) - 1);
    float scale = fmaxf((high - low) / steps, 1e-7f);
    bool low_is_edge = fabsf(low) > fabsf(high);
    if (!low_is_edge) scale = -scale;
    float edge = low_is_edge ? low : high, zero = nearbyintf(edge / scale);
    if (zero != 0) scale = edge / zero;
    *scale16 = mo_f32_to_bf16(scale);
    *bias16 = mo_f32_to_bf16(zero != 0 ? edge : 0);
    scale = mo_bf16_to_f32(*scale16);
    for (int i = 0; i < n; i++) {
        float q = nearbyintf((x[i] - mo_bf16_to_f32(*bias16)) / scale);
        uint32_t level = (uint32_t)fminf(fmaxf(q, 0), steps);
        words[i * bits / 32] |= level << (i * bits % 32);
    }
}

static void pack_groups(output *o, const tensor *t, const packing *p) {
    size_t n = strlen(t->name), tail = strlen(".weight");
    int stem = n > tail && strcmp(t->name + n - tail, ".weight") == 0 ? (int)(n - tail) : (int)n;
    int64_t rows = t->shape[0], cols = t->shape[1], words = cols * p->bits / 32;
    int64_t groups = cols / p->group;
    uint32_t *q = add(o, MO_U32, 4, rows, words, t->name, (int)n, "");
    uint16_t *scales = add(o, MO_BF16, 2, rows, groups, t->name, stem, ".scales");
    uint16_t *biases = add(o, MO_BF16, 2, rows, groups, t->name, stem, ".biases");
    memset(q, 0, (size_t)(rows * words) * 4);
    for (int64_t g = 0; g < rows * groups; g++)
        pack_group(t->f + g * p->group, p->group, p->bits, q + g * p->group * p->bits / 32,
                   &scales[g], &biases[g]);
}

static void pack_rows(output *o, const tensor *t) {
    int64_t rows = t->shape[0], cols = t->shape[1];
    int length = (int)strlen(t->name);
    int8_t *q = add(o, MO_I8, 1, rows, cols, t->name, length, "");
    float *scb = add(o, MO_F32, 4, rows, 0, t->name, length, "_scb");
    for (int64_t r = 0; r < rows; r++) {
        const float *x = t->f + r * cols;
        scb[r] = 0;
        for (int64_t c = 0; c < cols; c++) scb[r] = fmaxf(scb[r], fabsf(x[c]));
        for (int64_t c = 0; c < cols; c++)
            q[r * cols + c] = (int8_t)(scb[r] > 0 ? nearbyintf(x[c] * 127 / scb[r]) : 0);
    }
}

int main(int argc, char **argv) {
    static const packing packings[] = {{"mlx4", 4, 32}, {"mlx8", 8, 64}, {"int8", 8, 0}};
    const packing *p = NULL;
    for (int i = 0; i < 3 && argc == 4; i++)
        if (strcmp(argv[3], packings[i].name) == 0) p = &packings[i];
    if (!p) {
        fprintf(stderr, "usage: pack_model FROM.safetensors TO.safetensors mlx4|mlx8|int8\n");
        return 2;
    }
    tensors from;
    if (!tensors_load(&from, argv[1])) return 3;
    output o = {.t = test_alloc(from.n * 3, sizeof *o.t),
                .data = test_alloc(from.n * 3, sizeof *o.data)};
    for (size_t i = 0; i < from.n; i++) {
        const tensor *t = &from.t[i];
        bool matrix = t->ndim == 2, embedding = strstr(t->name, "emb") != NULL;
        if (matrix && p->group && t->shape[1] % p->group == 0)
            pack_groups(&o, t, p);
        else if (matrix && !p->group && !embedding)
            pack_rows(&o, t);
        else
            keep(&o, t);
    }
    moshi_error err;
    mo_writer w;
    if (mo_writer_open(&w, argv[2], MO_FORMAT_SAFETENSORS, o.t, o.n, NULL, 0, &err) != 0)
        test_die("%s", err.text);
    for (size_t i = 0; i < o.n; i++) {
        int error = mo_writer_put(&w, o.t[i].at, o.data[i], o.t[i].bytes);
        if (error) test_die("%s: %s", argv[2], strerror(error));
        free(o.data[i]);
        free((char *)o.t[i].name);
    }
    if (mo_writer_flush(&w) != 0 || mo_writer_finish(&w) != 0) test_die("%s", err.text);
    free(o.data);
    free(o.t);
    tensors_free(&from);
    return 0;
}
