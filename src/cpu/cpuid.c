/* cpuid.c - which instruction sets this machine and its operating system offer. */
#include "cpuid.h"

#include <stdint.h>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>

/* Register sets the operating system saves on a task switch (XCR0); 0 without XSAVE. */
static uint64_t saved_registers(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return 0;
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

bool mo_cpu_has_avx2(void) {
    const uint64_t xmm_ymm = 0x06;
    unsigned a, b, c, d;
    if ((saved_registers() & xmm_ymm) != xmm_ymm) return false;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return false;
    if (!(c & bit_AVX) || !(c & bit_FMA) || !(c & bit_F16C)) return false;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_AVX2);
}

bool mo_cpu_has_avx512(void) {
    const uint64_t opmask_zmm = 0xE0;
    const unsigned wanted = bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ;
    unsigned a, b, c, d;
    if (!mo_cpu_has_avx2() || (saved_registers() & opmask_zmm) != opmask_zmm) return false;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & wanted) == wanted;
}

bool mo_cpu_has_neon(void) {
    return false;
}

#else

bool mo_cpu_has_avx2(void) {
    return false;
}
bool mo_cpu_has_avx512(void) {
    return false;
}

/* Part of the base architecture of 64-bit Arm. */
bool mo_cpu_has_neon(void) {
#if defined(__aarch64__)
    return true;
#else
    return false;
#endif
}

#endif
