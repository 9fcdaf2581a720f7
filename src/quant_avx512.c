/* quant_avx512.c - number formats for AVX-512. */
#if defined(__AVX512F__)
#define LANES 16
#include "quant_body.h"

const mo_quant_set *mo_quant_set_avx512(void) {
    static const mo_quant_set set = {"avx512", rows, sizeof rows / sizeof *rows};
    return &set;
}
#else
#include "quant.h"

const mo_quant_set *mo_quant_set_avx512(void) {
    return NULL;
}
#endif
