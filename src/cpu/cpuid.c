/* cpuid.c - which instruction sets this machine and its operating system offer. */
#include "cpuid.h"

#include <stdint.h>
#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif
#include <stdio.h>
#include <string.h>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

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

bool mo_cpu_has_avx_vnni(void) {
    const unsigned avx_vnni = 1u << 4;
    unsigned a, b, c, d;
    if (!mo_cpu_has_avx2() || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || a < 1) return false;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & avx_vnni);
}

bool mo_cpu_has_avx512_vnni(void) {
    unsigned a, b, c, d;
    return mo_cpu_has_avx512() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c & bit_AVX512VNNI);
}

/* The system must allow the large registers, once for the whole process. */
bool mo_cpu_has_amx_int8(void) {
#if defined(__linux__) && defined(__x86_64__)
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    const uint64_t tiles = UINT64_C(3) << 17;
    const unsigned amx_tile_int8 = 3u << 24;
    unsigned a, b, c, d;
    if (!mo_cpu_has_avx512_vnni() || (saved_registers() & tiles) != tiles) return false;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & amx_tile_int8) != amx_tile_int8)
        return false;
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
    return false;
#endif
}

bool mo_cpu_has_amx_bf16(void) {
    const unsigned amx_bf16 = 1u << 22, avx512_bf16 = 1u << 5;
    unsigned a, b, c, d;
    if (!mo_cpu_has_amx_int8() || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    if (!(d & amx_bf16) || a < 1) return false;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & avx512_bf16);
}

bool mo_cpu_has_neon(void) {
    return false;
}
bool mo_cpu_has_neon_dot(void) {
    return false;
}
bool mo_cpu_has_neon_i8mm(void) {
    return false;
}

void mo_cpu_brand(char *out, size_t cap) {
    const unsigned first = 0x80000002;
    unsigned r[12];
    char text[sizeof r + 1] = "";
    bool told = (unsigned)__get_cpuid_max(0x80000000, NULL) >= first + 2;
    for (unsigned i = 0; told && i < 3; i++)
        __get_cpuid(first + i, &r[4 * i], &r[4 * i + 1], &r[4 * i + 2], &r[4 * i + 3]);
    if (told) memcpy(text, r, sizeof r);
    text[sizeof r] = 0;
    const char *name = text + strspn(text, " "); /* some makers align to the right */
    snprintf(out, cap, "%s", name[0] ? name : "x86 processor");
}

#else

void mo_cpu_brand(char *out, size_t cap) {
#if defined(__aarch64__)
    snprintf(out, cap, "64-bit Arm processor");
#else
    snprintf(out, cap, "processor");
#endif
}

bool mo_cpu_has_avx2(void) {
    return false;
}
bool mo_cpu_has_avx512(void) {
    return false;
}
bool mo_cpu_has_avx_vnni(void) {
    return false;
}
bool mo_cpu_has_avx512_vnni(void) {
    return false;
}
bool mo_cpu_has_amx_int8(void) {
    return false;
}
bool mo_cpu_has_amx_bf16(void) {
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

/* Extensions that the operating system reports. */
#if defined(__aarch64__) && defined(__linux__)
bool mo_cpu_has_neon_dot(void) {
    const unsigned long asimddp = 1ul << 20;
    return getauxval(AT_HWCAP) & asimddp;
}
bool mo_cpu_has_neon_i8mm(void) {
    const unsigned long i8mm = 1ul << 13;
    return mo_cpu_has_neon_dot() && (getauxval(AT_HWCAP2) & i8mm);
}
#elif defined(__aarch64__) && defined(__APPLE__)
static bool reported(const char *name) {
    int has = 0;
    size_t size = sizeof has;
    return sysctlbyname(name, &has, &size, NULL, 0) == 0 && has;
}
bool mo_cpu_has_neon_dot(void) {
    return reported("hw.optional.arm.FEAT_DotProd");
}
bool mo_cpu_has_neon_i8mm(void) {
    return mo_cpu_has_neon_dot() && reported("hw.optional.arm.FEAT_I8MM");
}
#else
bool mo_cpu_has_neon_dot(void) {
    return false;
}
bool mo_cpu_has_neon_i8mm(void) {
    return false;
}
#endif

#endif
