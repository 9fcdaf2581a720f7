/* cpuid.h - which instruction sets this machine and its operating system offer. */
#ifndef MO_CPU_CPUID_H
#define MO_CPU_CPUID_H

#include <stdbool.h>
#include <stddef.h>

bool mo_cpu_has_avx2(void);        /* AVX2, FMA and F16C */
bool mo_cpu_has_avx512(void);      /* F, BW, VL, DQ and the above */
bool mo_cpu_has_avx_vnni(void);    /* AVX2 and VNNI for it */
bool mo_cpu_has_avx512_vnni(void); /* AVX-512 as above and VNNI for it */
bool mo_cpu_has_amx_int8(void);    /* asks the system for leave, too */
bool mo_cpu_has_amx_bf16(void);    /* and the above, and bfloat16 for AVX-512 */
bool mo_cpu_has_neon(void);
bool mo_cpu_has_neon_dot(void);  /* NEON and its dot products of bytes */
bool mo_cpu_has_neon_i8mm(void); /* and the above, and its products of matrices of bytes */
/* What the maker calls the processor, or the architecture where it does not say. */
void mo_cpu_brand(char *out, size_t cap);

#endif
