/* inline.h - what compilers are told about functions of kernels: always in line, never, loops
 * unrolled to their end; how far to fetch ahead. */
#ifndef MO_CPU_INLINE_H
#define MO_CPU_INLINE_H

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define NOINLINE      __attribute__((noinline))
/* Bytes that streams of weights are fetched ahead of their use: some 100 ns of what memory
 * delivers, more than what the processor has under way by itself. */
enum { AHEAD = 4096 };

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#endif
