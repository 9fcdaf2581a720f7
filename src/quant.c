/* quant.c - finding number formats, and the choice of an instruction set. */
#include "quant.h"

#include "cpu/cpuid.h"

#include <string.h>
#include <strings.h>

const mo_quant *mo_quant_at(size_t i) {
    const mo_quant_set *plain = mo_quant_set_plain();
    return i < plain->n_rows ? &plain->rows[i] : NULL;
}

const mo_quant *mo_quant_row(const mo_quant_set *set, mo_dtype dtype) {
    for (size_t i = 0; i < set->n_rows; i++)
        if (set->rows[i].dtype == dtype) return &set->rows[i];
    return NULL;
}

const mo_quant *mo_quant_of(mo_dtype dtype) {
    return mo_quant_row(mo_quant_set_plain(), dtype);
}

const mo_quant *mo_quant_find(const char *name) {
    for (size_t i = 0; mo_quant_at(i); i++)
        if (strcasecmp(mo_quant_at(i)->name, name) == 0) return mo_quant_at(i);
    return NULL;
}

const mo_quant_set *mo_quant_set_at(size_t i) {
    const mo_quant_set *sets[] = {mo_quant_set_plain(),
                                  mo_cpu_has_avx2() ? mo_quant_set_avx2() : NULL,
                                  mo_cpu_has_avx512() ? mo_quant_set_avx512() : NULL};
    for (size_t k = 0; k < sizeof sets / sizeof *sets; k++)
        if (sets[k] && i-- == 0) return sets[k];
    return NULL;
}

const mo_quant_set *mo_quant_set_fast(void) {
    size_t n = 1;
    while (mo_quant_set_at(n)) n++;
    return mo_quant_set_at(n - 1);
}

float mo_quant_dot(const mo_quant *q, const void *row, const float *x, size_t n) {
    enum { SOME = 256 }; /* whole blocks of every format */
    float v[SOME];
    double sum = 0;
    for (size_t i = 0; i < n; i += SOME) {
        size_t some = n - i < SOME ? n - i : SOME;
        q->dequantise((const uint8_t *)row + mo_dtype_row_bytes(q->dtype, i), v, some);
        for (size_t k = 0; k < some; k++) sum += (double)v[k] * (double)x[i + k];
    }
    return (float)sum;
}
