/* quant_avx2.c - number formats for AVX2. */
#if defined(__AVX2__)
#define LANES 8
#include "quant_body.h"

const mo_quant_set *mo_quant_set_avx2(void) {
    static const mo_quant_set set = {"avx2", rows, sizeof rows / sizeof *rows};
    return &set;
}
#else
#include "quant.h"

const mo_quant_set *mo_quant_set_avx2(void) {
    return NULL;
}
#endif
