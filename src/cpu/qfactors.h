/* qfactors.h - what stands beside the numbers of a block of weights, and how they are fetched
 * ahead. Included after qcommon.h and the definitions of fvec that qkernels_body.h lists. */
#ifndef MO_CPU_QFACTORS_H
#define MO_CPU_QFACTORS_H

/* What the sums of one strip's block are multiplied with, and what is added per d * sum(q): the
 * minus of Q4_K's minimum belongs to it, so that rows need no sign of their own. */
ALWAYS_INLINE void factors(const uint8_t *group, const uint8_t *block, const mo_qform form,
                           fvec scale[2], fvec *offset) {
    switch (form) {
    case MO_QFORM_Q8:
    case MO_QFORM_Q4:
        scale[0] = f_load_f16(group);
        break;
    case MO_QFORM_Q4_K:
        scale[0] = f_mul(f_load_f16(group), f_load_u8(block));
        *offset = f_mul(f_mul(f_load_f16(group + 32), f_set1(-1.0f)), f_load_u8(block + 16));
        break;
    case MO_QFORM_Q6_K:
        scale[0] = f_mul(f_load_f16(group), f_load_i8(block));
        scale[1] = f_mul(f_load_f16(group), f_load_i8(block + 16));
        break;
    case MO_QFORM_GROUPS4:
    case MO_QFORM_GROUPS8:
        scale[0] = f_load_bf16(group);
        *offset = f_load_bf16(group + 32);
        break;
    case MO_QFORM_GROUPS4_WIDE:
    case MO_QFORM_GROUPS8_WIDE:
        scale[0] = f_load(group);
        *offset = f_load(group + 64);
        break;
    default:
        break;
    }
}

/* Fetch what a stream needs in AHEAD bytes' time. `turned`: that lies beyond the strip, and
 * the stream goes on `onward` bytes later. Addresses, not pointers: they may lie past the end
 * of the matrix, where fetching does nothing. */
ALWAYS_INLINE void fetch_ahead(const uint8_t *w, bool turned, size_t onward, const size_t bytes) {
    uintptr_t at = (uintptr_t)w + AHEAD + (turned ? onward : 0);
    UNROLL
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch((const void *)(at + i));
}

#endif
