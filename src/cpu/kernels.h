/* kernels.h - the inner loops of the CPU backend, one table of them per instruction set.
 *
 * Every table gives the same bits (weights that may be split have one of their own: pieces.h):
 * kernels.c is the plain C reference, kernels_body.h is written once over a vector of 16 floats and
 * compiled for AVX2, AVX-512 and NEON. What makes that possible is that each operation below says
 * which roundings happen and in which order. */
#ifndef MO_CPU_KERNELS_H
#define MO_CPU_KERNELS_H

#include "backend.h"

/* mo_backend_options.level */
typedef enum mo_cpu_level {
    MO_CPU_LEVEL_AUTO, /* the best the machine has */
    MO_CPU_LEVEL_C,
    MO_CPU_LEVEL_NEON,
    MO_CPU_LEVEL_NEON_DOT,  /* differs on quantised weights only, as do the ..._VNNI */
    MO_CPU_LEVEL_NEON_I8MM, /* the above, and other instructions for several rows */
    MO_CPU_LEVEL_AVX2,
    MO_CPU_LEVEL_AVX2_VNNI,
    MO_CPU_LEVEL_AVX512,
    MO_CPU_LEVEL_AVX512_VNNI,
    MO_CPU_LEVEL_AMX,      /* AVX-512 with VNNI, and AMX where there are many rows */
    MO_CPU_LEVEL_AMX_BF16, /* and for floats that may be split: pieces.h */
    MO_CPU_LEVEL_COUNT
} mo_cpu_level;

/* A view as plain pointers: element (slot, row, col) at data[slot * slot + row * row + col]. */
typedef struct mo_span {
    float *data; /* NULL: absent */
    size_t slot, row;
} mo_span;

/* One linear op (backend.h). Row m of the batch is row m % rows of slot active[m / rows]. */
typedef struct mo_linear_job {
    mo_dtype dtype;
    const void *w;             /* strips */
    const float *bias, *scale; /* [n] or NULL */
    int n;                     /* outputs */
    size_t k;                  /* inputs per output: taps * cols */
    int segments;              /* the inputs of one row lie in so many runs ... */
    size_t run;                /* ... of this many floats ... */
    size_t run_step;           /* ... that start this far apart */
    mo_span in, add, out;      /* in.row already holds the convolution's stride */
    const int *active;
    int rows; /* per slot */
} mo_linear_job;

enum { MO_KV_SCALE_BYTES = 4 }; /* in front of the bytes of an I8 row, see mo_kv */
enum { MO_ATTEND_ROWS = 4 };    /* queries at once */

/* One query of one head: positions first .. first + n - 1 of a ring of `capacity` rows. */
typedef struct mo_attend_job {
    mo_dtype dtype; /* of k and v: see mo_kv */
    size_t row_bytes;
    const float *q;    /* [hd] */
    const void *k, *v; /* [capacity] rows */
    float *out;        /* [hd] */
    float *scores;     /* room for n rounded up to 16 */
    int head_dim, capacity;
    int64_t first;
    int n; /* 1 .. capacity */
    float scale;
} mo_attend_job;

typedef struct mo_kernels {
    const char *name;
    /* acc by fma over k ascending from 0; t = acc + bias; t = scale * t; out = add + t: each step
     * rounds, absent parts are left out. Rows row0 .. row1-1 of the batch, strips likewise. */
    void (*linear)(const mo_linear_job *job, int row0, int row1, int strip0, int strip1);
    /* sums: 16 partials by fma (squares) or add, the row padded with zeros to a multiple of 16.
     * inv = 1 / sqrt(sum / cols + eps). RMS: (x * inv) * weight. Layer: fma((x - mean) * inv,
     * weight, bias). */
    void (*norm)(mo_norm_kind kind, float eps, const float *weight, const float *bias,
                 const float *in, float *out, int cols);
    /* in may be out */
    void (*act)(mo_act act, const float *in, float *out, size_t n);
    void (*act_mul)(const float *gate, const float *up, float *out, size_t n);
    /* score = fold of 16 partials (fma over hd) * scale; e = exp(score - max); sum: 16 partials,
     * element p - first into partial (p - first) % 16; out = (fma of e * v over p ascending from 0)
     * / sum. I8 rows: score = (fold * d of the k row) * scale, and e * d of the v row takes the
     * place of e in the last sum. */
    void (*attend)(const mo_attend_job *job);
    /* NULL, or the same for up to MO_ATTEND_ROWS queries that differ in q, out, scores, first and
     * n only, and neither first nor first + n falls from one to the next. */
    void (*attend_rows)(const mo_attend_job *jobs, int n);
    /* The places, in order, of the scores that may be the highest when each is only known to lie
     * within reach * blur of what it says (blur NULL: 0) and `slack` is allowed for besides: those
     * with fma(reach, blur, score) >= (largest fma(-reach, blur, score)) - slack. No score is NaN.
     * Returns how many. */
    int (*shortlist)(const float *scores, const float *blur, float reach, float slack, int n,
                     int32_t *places);
} mo_kernels;

/* Constants of the polynomials, the same at every level.
 *
 * e^x: n = x / ln 2 rounded to nearest even by adding and subtracting EXP_ROUND, r = x - n ln 2 in
 * two steps, e^r - 1 = r + r^2 q(r) (|error| 3e-9 on |r| <= 0.3475), e^x = 2^n + 2^n (e^r - 1).
 * x is clamped to EXP_MAX; below EXP_MIN the result is 0.
 *
 * Upper tail of the normal distribution: Q(a) = e^(-a^2/2) t p(t), t = 1 / (1 + TAIL_C a), for
 * a >= 0; |a| |error| <= 5e-9 over the whole half line. */
#define MO_EXP_MAX    88.0f
#define MO_EXP_MIN    -87.0f
#define MO_EXP_LOG2E  0x1.715476p+0f
#define MO_EXP_ROUND  0x1.8p+23f
#define MO_EXP_LN2_HI 0x1.62e400p-1f
#define MO_EXP_LN2_LO 0x1.7f7d1cp-20f
#define MO_EXP_Q0     0x1.000000p-1f
#define MO_EXP_Q1     0x1.55548cp-3f
#define MO_EXP_Q2     0x1.55545cp-5f
#define MO_EXP_Q3     0x1.123ce0p-7f
#define MO_EXP_Q4     0x1.6db64cp-10f
#define MO_TAIL_C     0.35f
#define MO_TAIL_P0    0.13747169f
#define MO_TAIL_P1    0.15580076f
#define MO_TAIL_P2    0.07927255f
#define MO_TAIL_P3    0.12243178f
#define MO_TAIL_P4    0.09900553f
#define MO_TAIL_P5    -0.12606688f
#define MO_TAIL_P6    0.03208459f

/* e^x of the reference: the scalar the sampler uses. */
float mo_exp(float x);

/* "avx512_vnni"; "?" for numbers that are no level. */
const char *mo_cpu_level_name(mo_cpu_level level);
/* The best one this build and this machine have. The processor is asked every time, in a virtual
 * machine a call of the host that takes tens of microseconds: once per device, not per matrix. */
mo_cpu_level mo_cpu_level_best(void);

/* The table of a level; NULL if this build or this machine lacks it. */
const mo_kernels *mo_kernels_get(mo_cpu_level level);

/* Levels as built: NULL where the file was compiled without its instruction set. */
const mo_kernels *mo_kernels_avx2(void);
const mo_kernels *mo_kernels_avx512(void);
const mo_kernels *mo_kernels_neon(void);

#endif
