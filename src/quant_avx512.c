/* quant_avx512.c - number formats for AVX-512. */
#if defined(__AVX512F__)
#define LEVEL "avx512"
#define LANES 16
#include "quant_body.h"

const mo_quant_set *mo_quant_set_avx512(void) {
    return &this_set;
}
#else
#include "quant.h"

const mo_quant_set *mo_quant_set_avx512(void) {
    return NULL;
}
#endif
