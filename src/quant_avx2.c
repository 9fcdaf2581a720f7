/* quant_avx2.c - number formats for AVX2. */
#if defined(__AVX2__)
#define LEVEL "avx2"
#define LANES 8
#include "quant_body.h"

const mo_quant_set *mo_quant_set_avx2(void) {
    return &this_set;
}
#else
#include "quant.h"

const mo_quant_set *mo_quant_set_avx2(void) {
    return NULL;
}
#endif
