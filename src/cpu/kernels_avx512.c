/* kernels_avx512.c - the inner loops for AVX-512 F, BW, VL, DQ: one register is a vector of 16. */
#include "kernels.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#include <immintrin.h>

typedef __m512 vec;

static inline __mmask16 first_lanes(size_t n) {
    return (__mmask16)((1u << n) - 1u);
}

static inline vec v_zero(void) {
    return _mm512_setzero_ps();
}
static inline vec v_set1(float x) {
    return _mm512_set1_ps(x);
}
static inline vec v_load(const float *p) {
    return _mm512_loadu_ps(p);
}
static inline void v_store(float *p, vec x) {
    _mm512_storeu_ps(p, x);
}
static inline vec v_load_n(const float *p, size_t n) {
    return _mm512_maskz_loadu_ps(first_lanes(n), p);
}
static inline void v_store_n(float *p, vec x, size_t n) {
    _mm512_mask_storeu_ps(p, first_lanes(n), x);
}
static inline vec v_load_bf16(const uint16_t *p) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
static inline vec v_load_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
static inline vec v_load_i8(const int8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
static inline vec v_add(vec a, vec b) {
    return _mm512_add_ps(a, b);
}
static inline vec v_sub(vec a, vec b) {
    return _mm512_sub_ps(a, b);
}
static inline vec v_mul(vec a, vec b) {
    return _mm512_mul_ps(a, b);
}
static inline vec v_div(vec a, vec b) {
    return _mm512_div_ps(a, b);
}
static inline vec v_max(vec a, vec b) {
    return _mm512_max_ps(a, b);
}
static inline vec v_min(vec a, vec b) {
    return _mm512_min_ps(a, b);
}
static inline vec v_fma(vec a, vec b, vec c) {
    return _mm512_fmadd_ps(a, b, c);
}
static inline vec v_abs(vec x) {
    return _mm512_abs_ps(x);
}
static inline vec v_pow2(vec t) {
    __m512i bits = _mm512_slli_epi32(_mm512_castps_si512(t), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(bits, _mm512_set1_epi32(0x3F800000)));
}
static inline vec v_keep_ge(vec x, vec bound, vec v) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, bound, _CMP_NLT_UQ), v);
}
static inline vec v_pick_gt0(vec x, vec a, vec b) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ), b, a);
}
static inline float v_fold(vec x) {
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
static inline float v_fold_max(vec x) {
    return _mm512_reduce_max_ps(x);
}

#define TILE_STRIPS_1       8
#define TILE_STRIPS_1_SHORT 2
#define TILE_STRIPS_2       8
#define TILE_STRIPS_4       4
#define TILE_STRIPS_6       4
#define VALUE_STRIPS        8
#define TILE_STRIPS_8       3
#include "kernels_body.h"

/* ---- attention of several queries ----------------------------------------------------------- */

/* What one query of heads of 64 floats adds up does not fill the core's units, and its keys and
 * values come from the second-level cache: Q queries take each of them along. */
enum { HEAD = 64, PARTS = HEAD / 16 };

/* As v_fold, of four. */
static inline __m128 fold_4(const vec x[4]) {
    vec ab = _mm512_add_ps(_mm512_shuffle_f32x4(x[0], x[1], 0x44),
                           _mm512_shuffle_f32x4(x[0], x[1], 0xEE));
    vec cd = _mm512_add_ps(_mm512_shuffle_f32x4(x[2], x[3], 0x44),
                           _mm512_shuffle_f32x4(x[2], x[3], 0xEE));
    vec all = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xDD));
    all = _mm512_add_ps(all, _mm512_permute_ps(all, 0xEE));
    all = _mm512_add_ps(all, _mm512_movehdup_ps(all));
    const __m512i firsts = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 8, 4, 0);
    return _mm512_castps512_ps128(_mm512_permutexvar_ps(firsts, all));
}

static const float *ring_row(const mo_attend_job *job, const void *ring, int64_t position) {
    return (const float *)ring + (size_t)(position % job->capacity) * HEAD;
}

/* Scores of the keys at positions from .. to - 1, which all Q queries see, 4 / Q keys at a time. */
ALWAYS_INLINE void shared_scores(const mo_attend_job *jobs, int64_t from, int64_t to, const int Q) {
    const int keys = 4 / Q;
    const __m128 scale = _mm_set1_ps(jobs->scale);
    vec q[MO_ATTEND_ROWS][PARTS];
    UNROLL
    for (int j = 0; j < Q * PARTS; j++)
        q[j / PARTS][j % PARTS] = v_load(jobs[j / PARTS].q + j % PARTS * 16);
    const kv_ahead ahead = kv_ahead_of(jobs, MO_F32);
    for (; from < to; from += keys) {
        vec sums[4];
        kv_fetch(jobs, ahead, jobs->k, jobs->v, (int)(from - jobs->first), keys, MO_F32);
        UNROLL
        for (int i = 0; i < keys; i++) {
            /* past the end: some key once more, whose score is not stored */
            const float *k = ring_row(jobs, jobs->k, from + i < to ? from + i : from);
            UNROLL
            for (int j = 0; j < Q; j++) {
                vec sum = v_zero();
                UNROLL
                for (int c = 0; c < PARTS; c++) sum = v_fma(q[j][c], v_load(k + 16 * c), sum);
                sums[i * Q + j] = sum;
            }
        }
        float scores[4];
        _mm_storeu_ps(scores, _mm_mul_ps(fold_4(sums), scale));
        UNROLL
        for (int i = 0; i < keys * Q; i++)
            if (from + i / Q < to) jobs[i % Q].scores[from + i / Q - jobs[i % Q].first] = scores[i];
    }
}

/* acc + weights of Q queries from `jobs` on times the values at positions from .. to - 1 */
ALWAYS_INLINE void add_values(const mo_attend_job *jobs, int64_t from, int64_t to,
                              vec acc[MO_ATTEND_ROWS][PARTS], const int Q) {
    const kv_ahead ahead = kv_ahead_of(jobs, MO_F32);
    for (; from < to; from++) {
        const float *v = ring_row(jobs, jobs->v, from);
        if (Q > 1)
            kv_fetch(jobs, ahead, jobs->v, kv_next(jobs), (int)(from - jobs->first), 1, MO_F32);
        UNROLL
        for (int j = 0; j < Q; j++) {
            const vec e = v_set1(jobs[j].scores[from - jobs[j].first]);
            UNROLL
            for (int c = 0; c < PARTS; c++) acc[j][c] = v_fma(e, v_load(v + 16 * c), acc[j][c]);
        }
    }
}

/* Positions that only some of the queries see are taken one query at a time. */
ALWAYS_INLINE void attend_shared(const mo_attend_job *jobs, const int Q) {
    const int64_t from = jobs[Q - 1].first, to = jobs[0].first + jobs[0].n;
    vec acc[MO_ATTEND_ROWS][PARTS];
    float totals[MO_ATTEND_ROWS];
    shared_scores(jobs, from, to, Q);
    UNROLL
    for (int j = 0; j < Q; j++) {
        const mo_attend_job *job = &jobs[j];
        for (int64_t p = job->first; p < from; p++)
            kv_dots(job, (const char *)ring_row(job, job->k, p), job->scores + (p - job->first), 1,
                    MO_F32);
        for (int64_t p = to; p < job->first + job->n; p++)
            kv_dots(job, (const char *)ring_row(job, job->k, p), job->scores + (p - job->first), 1,
                    MO_F32);
        totals[j] = softmax_terms(job->scores, job->n);
        UNROLL
        for (int c = 0; c < PARTS; c++) acc[j][c] = v_zero();
        add_values(job, job->first, from, &acc[j], 1);
    }
    add_values(jobs, from, to, acc, Q);
    UNROLL
    for (int j = 0; j < Q; j++) {
        add_values(&jobs[j], to, jobs[j].first + jobs[j].n, &acc[j], 1);
        UNROLL
        for (int c = 0; c < PARTS; c++)
            v_store(jobs[j].out + 16 * c, v_div(acc[j][c], v_set1(totals[j])));
    }
}

static NOINLINE void attend_2(const mo_attend_job *jobs) {
    attend_shared(jobs, 2);
}
static NOINLINE void attend_4(const mo_attend_job *jobs) {
    attend_shared(jobs, 4);
}

/* Do n queries share keys, of the only kind that there are kernels for? */
static bool share_keys(const mo_attend_job *jobs, int n) {
    return jobs->dtype == MO_F32 && jobs->head_dim == HEAD &&
           jobs->row_bytes == HEAD * sizeof(float) && jobs[n - 1].first < jobs[0].first + jobs[0].n;
}

static void attend_rows(const mo_attend_job *jobs, int n) {
    if (n == 4 && share_keys(jobs, 4)) {
        attend_4(jobs);
        return;
    }
    for (; n >= 2 && share_keys(jobs, 2); n -= 2, jobs += 2) attend_2(jobs);
    for (; n > 0; n--, jobs++) attend_any(jobs);
}

static const mo_kernels kernels = {"avx512",    linear_any, norm_any,    act_any,
                                   act_mul_any, attend_any, attend_rows, shortlist_any};

const mo_kernels *mo_kernels_avx512(void) {
    return &kernels;
}

#else

const mo_kernels *mo_kernels_avx512(void) {
    return NULL;
}

#endif
