/* The CPU backend around its ops: the worker pool, the choice of a token, memory, packed weights,
 * and what it refuses. */
#include "check.h"
#include "cpu/cpuid.h"
#include "cpu/pool.h"
#include "cpu/qkernels.h"
#include "cpu/sample.h"
#include "sanitizer.h"
#include "tensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- pool ----------------------------------------------------------------------------------- */

enum { POOL_CELLS = 1000 };

/* Plain memory on purpose: the pool alone has to order the accesses. */
typedef struct pool_job {
    int counts[POOL_CELLS];
    int threads, phase;
    bool ok[POOL_CELLS];
} pool_job;

static void count_chunk(void *ctx, int chunk, int thread) {
    pool_job *job = ctx;
    job->counts[chunk]++;
    job->ok[chunk] = thread >= 0 && thread < job->threads && job->counts[chunk] == job->phase;
}

/* Every chunk of every phase runs exactly once and its writes are seen by the next phase. */
static void check_phases(mo_pool *pool, int phases, int n, bool pause) {
    pool_job *job = test_alloc(1, sizeof *job);
    memset(job, 0, sizeof *job);
    job->threads = mo_pool_threads(pool);
    bool ok = true;
    for (int phase = 1; phase <= phases && ok; phase++) {
        job->phase = phase;
        mo_pool_run(pool, count_chunk, job, n);
        for (int i = 0; i < n; i++) ok &= job->ok[i] && job->counts[i] == phase;
        if (pause)
            nanosleep(&(struct timespec){0, 1000000}, NULL); /* let the workers fall asleep */
    }
    for (int i = n; i < POOL_CELLS; i++) ok &= job->counts[i] == 0;
    CHECK(ok, "%d chunks on %d threads: not each exactly once", n, mo_pool_threads(pool));
    free(job);
}

/* What threads fetch meanwhile changes nothing, not even when it is no memory at all. */
static void check_ahead(mo_pool *pool) {
    char *some = test_alloc(1, 10000);
    const mo_ahead wanted[] = {
        {some, 1000, 10, 4},
        {some, 100, 100, 1},
        {some, 10000, 1, 8},
        {some, 3000, 3, 3},
        {(void *)64, (size_t)1 << 40, 1 << 20, 4},
        {NULL, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        mo_pool_ahead(pool, wanted[i]);
        check_phases(pool, SANITIZED ? 50 : 500, 7, false);
        check_phases(pool, 2, 7, true);
    }
    free(some);
}

static void test_pool(void) {
    static const int thread_counts[] = {1, 2, 3, 8};
    for (size_t t = 0; t < sizeof thread_counts / sizeof thread_counts[0]; t++) {
        mo_pool *pool = mo_pool_open(thread_counts[t]);
        if (!CHECK(pool != NULL, "no pool of %d", thread_counts[t])) continue;
        CHECK(mo_pool_threads(pool) == thread_counts[t], "pool threads");
        check_phases(pool, 10, 0, false);
        check_phases(pool, SANITIZED ? 200 : 2000, 1, false);
        check_phases(pool, SANITIZED ? 200 : 2000, 2, false);
        check_phases(pool, SANITIZED ? 100 : 1000, 7, false);
        check_phases(pool, 20, POOL_CELLS, false);
        check_phases(pool, 30, 16, true);
        check_ahead(pool);
        mo_pool_close(pool);
    }
    for (int i = 0; i < 20; i++) {
        mo_pool *pool = mo_pool_open(4);
        if (CHECK(pool != NULL, "no pool") && i % 2) check_phases(pool, 1, 5, false);
        mo_pool_close(pool); /* at once, whatever the workers are doing */
    }
    mo_pool_close(NULL);
}

/* ---- choosing a token ----------------------------------------------------------------------- */

/* Known answers of Philox4x32-10 as its authors publish them. */
static void test_philox(void) {
    static const struct {
        uint32_t counter[4], key[2], want[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8}},
        {{0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF},
         {0xFFFFFFFF, 0xFFFFFFFF},
         {0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD}},
        {{0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344},
         {0xA4093822, 0x299F31D0},
         {0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1}},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        uint32_t got[4];
        mo_philox(known[i].counter, known[i].key, got);
        CHECK(memcmp(got, known[i].want, sizeof got) == 0, "philox %zu: %08x ...", i, got[0]);
    }
}

/* Recorded noise belongs to ranks among the top k; the picker asks by token. */
typedef struct rank_noise {
    const int32_t *indices;
    const float *noise;
    int k;
    bool missing;
} rank_noise;

static float noise_by_rank(void *ctx, int token, float most) {
    (void)most;
    rank_noise *r = ctx;
    for (int i = 0; i < r->k; i++)
        if (r->indices[i] == token) return r->noise[i];
    r->missing = true; /* asked for a token outside the top k */
    return 1.0f;
}

static void test_golden_draws(void) {
    static const struct {
        float temp;
        int top_k;
    } cases[] = {{0.8f, 250}, {0.6f, 250}, {0.7f, 25}, {0.7f, 25},
                 {0.8f, 250}, {1.0f, 0},   {0.3f, 1}};
    tensors g;
    if (!CHECK(tensors_load(&g, "tests/golden/sampling/golden.safetensors"), "no recording"))
        return;
    for (int c = 0; c < (int)(sizeof cases / sizeof cases[0]); c++) {
        char name[64];
        snprintf(name, sizeof name, "case%d.logits", c);
        int n = (int)tensors_find(&g, name)->count;
        snprintf(name, sizeof name, "case%d.topk_indices", c);
        int k = (int)tensors_find(&g, name)->count;
        const float *logits = tensors_f32(&g, 0, "case%d.logits", c);
        const float *noise = tensors_f32(&g, (size_t)k * 16, "case%d.noise", c);
        const int32_t *want = tensors_i32(&g, 16, "case%d.tokens", c);
        rank_noise r = {tensors_i32(&g, 0, "case%d.topk_indices", c), noise, k, false};
        for (int draw = 0; draw < 16; draw++) {
            r.noise = noise + draw * k;
            int token = mo_pick(logits, n, cases[c].temp, cases[c].top_k, noise_by_rank, &r);
            CHECK(token == want[draw], "case %d draw %d: %d instead of %d", c, draw, token,
                  want[draw]);
        }
        CHECK(!r.missing, "case %d: noise asked for outside the top k", c);
    }
    tensors_free(&g);
}

static int draw(const float *logits, int n, float temp, int top_k, uint32_t step) {
    mo_philox_noise noise = {.key = {1, 2}, .channel = 3, .step = step, .block = UINT32_MAX};
    return mo_pick(logits, n, temp, top_k, mo_philox_noise_at, &noise);
}

/* Which tokens take part: noise is asked for exactly once for each of the top k, in order. */
typedef struct asked_tokens {
    int tokens[64], n;
} asked_tokens;

static float note_token(void *ctx, int token, float most) {
    (void)most;
    asked_tokens *asked = ctx;
    if (asked->n < 64) asked->tokens[asked->n] = token;
    asked->n++;
    return 1.0f;
}

/* Many tokens, nearly all of them alike: more candidates than are listed, and few. */
static void test_top_k_of_many(void) {
    enum { MANY = 20000, K = 40 };
    static float logits[MANY];
    for (int alike = 0; alike < 2; alike++) {
        asked_tokens asked = {.n = 0};
        bool ok = true;
        for (int i = 0; i < MANY; i++) logits[i] = alike ? 1.0f : -8.0f + (float)(i % 977) * 1e-3f;
        for (int i = 0; i < 10; i++) logits[MANY - 1 - 1000 * i] = alike ? 1.0001f : 5.0f;
        for (int i = 0; !alike && i < 100; i++) logits[17 * i] = 4.9f; /* 30 of them are kept */
        mo_pick(logits, MANY, 0.9f, K, note_token, &asked);
        for (int i = 0; i < K; i++) {
            int first = alike ? i : 17 * i; /* of equal ones the first 30, then the largest 10 */
            int want = i < K - 10 ? first : MANY - 1 - 1000 * (K - 1 - i);
            ok &= asked.tokens[i] == want;
        }
        CHECK(ok && asked.n == K, "top %d of %d tokens, %s", K, MANY,
              alike ? "alike" : "far apart");
    }
}

static void test_top_k(void) {
    test_rng rng = {11};
    bool ok = true;
    for (int round = 0; round < 3000; round++) {
        float logits[64];
        asked_tokens asked = {.n = 0};
        int n = 1 + rng_below(&rng, 64), levels = 1 + rng_below(&rng, 12), at = 0;
        int top_k = rng_below(&rng, n + 3);
        float step = round % 2 ? 1.0f : 1e-6f; /* settled in the first or the last bits */
        for (int i = 0; i < n; i++) {
            logits[i] = step * (float)(rng_below(&rng, levels) - 4);
            if (logits[i] == 0.0f && i % 2) logits[i] = -0.0f; /* the same number */
        }
        mo_pick(logits, n, 0.9f, top_k, note_token, &asked);
        for (int i = 0; i < n; i++) {
            int rank = 0;
            for (int j = 0; j < n; j++)
                rank += logits[j] > logits[i] || (logits[j] == logits[i] && j < i);
            if (top_k > 0 && rank >= top_k) continue;
            ok &= at < asked.n && asked.tokens[at] == i;
            at++;
        }
        ok &= at == asked.n;
    }
    CHECK(ok, "not the top k");
}

/* What mo_pick() is said to do, word by word, without leaving anything out. */
static int plain_pick(const float *logits, int n, float temp, int top_k, mo_philox_noise *noise) {
    int best = mo_pick_greedy(logits, n);
    float max = logits[best], high = 0;
    for (int i = 0; i < n; i++) {
        int rank = 0;
        for (int j = 0; j < n; j++)
            rank += logits[j] > logits[i] || (logits[j] == logits[i] && j < i);
        if (top_k > 0 && top_k < n && rank >= top_k) continue;
        float ratio = mo_exp((logits[i] - max) / temp) / mo_philox_noise_at(noise, i, INFINITY);
        if (!(ratio > high)) continue;
        high = ratio;
        best = i;
    }
    return best;
}

static void test_plain_pick(void) {
    enum { MOST = 3000 };
    static const float temps[] = {0.8f, 0.05f, 5.0f, 1e-30f}, odd[] = {NAN, -INFINITY, 0.0f, 1e30f};
    static float logits[MOST];
    test_rng rng = {12};
    int wrong = 0;
    for (int round = 0; round < 400; round++) {
        int n = 1 + rng_below(&rng, round % 20 ? 200 : MOST), top_k = rng_below(&rng, n / 8 + 2);
        float scale = round % 3 ? 4.0f : 0.01f, temp = temps[round % 4];
        for (int i = 0; i < n; i++) {
            logits[i] = scale * rng_f32(&rng);
            if (round % 5 == 0 && rng_below(&rng, 3) == 0) logits[i] = odd[rng_below(&rng, 4)];
        }
        mo_philox_noise a = {.key = {1, 2}, .step = (uint32_t)round, .block = UINT32_MAX}, b = a;
        wrong += mo_pick(logits, n, temp, top_k, mo_philox_noise_at, &a) !=
                 plain_pick(logits, n, temp, top_k, &b);
    }
    CHECK(wrong == 0, "%d draws are not what they should be", wrong);
}

/* Frequencies over many draws against the softmax: chi-square with n - 1 degrees of freedom. The
 * draws are fixed by the key, so the limit (one in 1e4 keys would exceed it) cannot flicker. */
static void test_frequencies(void) {
    enum { N = 8, DRAWS = 40000 };
    static const float logits[N] = {0.0f, 1.0f, -1.0f, 2.0f, 0.5f, -3.0f, 1.5f, 0.2f};
    static const struct {
        float temp;
        int top_k;
        double limit;
    } cases[] = {{1.0f, 0, 29.9}, {0.7f, 0, 29.9}, {2.0f, 3, 18.4}};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        int counts[N] = {0};
        for (uint32_t i = 0; i < DRAWS; i++)
            counts[draw(logits, N, cases[c].temp, cases[c].top_k, i)]++;
        double total = 0, p[N], chi = 0;
        for (int i = 0; i < N; i++) {
            int rank = 0;
            for (int j = 0; j < N; j++) rank += logits[j] > logits[i];
            bool kept = cases[c].top_k == 0 || rank < cases[c].top_k;
            total += p[i] = kept ? exp((double)logits[i] / (double)cases[c].temp) : 0;
        }
        for (int i = 0; i < N; i++) {
            double expected = p[i] / total * DRAWS;
            CHECK(expected > 0 || counts[i] == 0, "token %d outside the top k", i);
            if (expected > 0) chi += pow(counts[i] - expected, 2) / expected;
        }
        CHECK(chi < cases[c].limit, "case %zu: chi-square %.1f", c, chi);
    }
}

/* Whatever the logits, a valid index. */
static void test_odd_logits(void) {
    enum { N = 70 };
    static const float fills[] = {NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 3e38f, -3e38f, 1e-45f};
    bool ok = true;
    for (size_t f = 0; f < sizeof fills / sizeof fills[0]; f++)
        for (size_t h = 0; h < sizeof fills / sizeof fills[0]; h++)
            for (int top_k = -1; top_k <= N + 1; top_k += 3) {
                float logits[N];
                for (int i = 0; i < N; i++) logits[i] = i % 3 ? fills[f] : fills[h];
                int token = draw(logits, N, 0.8f, top_k, 5);
                int greedy = mo_pick_greedy(logits, N);
                ok &= token >= 0 && token < N && greedy >= 0 && greedy < N;
            }
    CHECK(ok, "token out of range");
    float ties[5] = {1.0f, 3.0f, 3.0f, NAN, 2.0f};
    CHECK(mo_pick_greedy(ties, 5) == 1, "greedy takes the first maximum");
    CHECK(draw(ties, 5, 1.0f, 1, 9) == 1, "top 1 is the first maximum");
    float one = -5.0f;
    CHECK(draw(&one, 1, 1.0f, 0, 0) == 0 && draw(&one, 1, 1.0f, 7, 0) == 0, "one logit");
    mo_philox_noise noise = {.block = UINT32_MAX};
    bool positive = true;
    for (int i = 0; i < 100000; i++) positive &= mo_philox_noise_at(&noise, i, INFINITY) > 0;
    CHECK(positive, "noise must be positive");
}

/* ---- backend -------------------------------------------------------------------------------- */

static mo_backend *open_cpu(int threads, int level) {
    mo_backend *be;
    moshi_error err;
    mo_backend_options options = {.threads = threads, .level = level};
    if (mo_backend_cpu.open(&be, &options, &err) < 0) test_die("cpu: %s", err.text);
    return be;
}

static void check_refused(int threads, int level, int code, const char *word) {
    mo_backend *be = (mo_backend *)1;
    moshi_error err = {0};
    mo_backend_options options = {.threads = threads, .level = level};
    int rc = mo_backend_cpu.open(&be, &options, &err);
    CHECK(rc == code && be == NULL, "%d threads, level %d: returned %d", threads, level, rc);
    CHECK(err.code == code && strstr(err.text, word), "says: %s", err.text);
}

static void test_open(void) {
    mo_device d;
    moshi_error why = {0};
    CHECK(mo_device_find(&d, NULL, &why) == 0 && d.ops == &mo_backend_cpu, "the default device");
    CHECK(mo_device_find(&d, "cpu", &why) == 0 && d.ops == &mo_backend_cpu, "cpu by name");
    CHECK(mo_device_find(&d, "toaster", &why) == MOSHI_EDEVICE && strstr(why.text, "'toaster'") &&
              strstr(why.text, "cpu"),
          "an unknown device: %s", why.text);
    CHECK(mo_device_find(&d, "", NULL) == MOSHI_EDEVICE, "no name");
    moshi_device_info info;
    int at = 0; /* behind graphics cards, in front of what is there on request only */
    while (moshi_device_get(at, &info) == 1 && strcmp(info.name, "cpu") != 0)
        CHECK(!info.on_request, "%s comes before the CPU",
              moshi_device_get(at++, &info) ? info.name : "");
    CHECK(!strcmp(info.kind, "cpu") && info.description[0] && strstr(info.driver, "kernels") &&
              info.memory_bytes > 1 << 20 && !info.on_request,
          "facts of the cpu");
    while (moshi_device_get(++at, &info) == 1)
        CHECK(info.on_request, "%s comes behind the CPU", info.name);
    CHECK(moshi_device_get(-1, &info) == MOSHI_EINVAL && moshi_device_get(0, NULL) == MOSHI_EINVAL,
          "no such devices");
    CHECK(moshi_device_find("cpu", &info, &why) == 0 && !strcmp(info.name, "cpu"), "found: %s",
          info.name);
    CHECK(moshi_device_find("toaster", &info, &why) == MOSHI_EDEVICE && !info.name[0] &&
              moshi_device_find("cpu", NULL, &why) == MOSHI_EINVAL,
          "not found");
    check_refused(-1, 0, MOSHI_EINVAL, "threads");
    check_refused(257, 0, MOSHI_EINVAL, "257");
    check_refused(1, 99, MOSHI_EDEVICE, "level");
    check_refused(1, -1, MOSHI_EDEVICE, "level");
    for (int level = MO_CPU_LEVEL_C; level < MO_CPU_LEVEL_COUNT; level++) {
        const mo_kernels *k = mo_kernels_get((mo_cpu_level)level);
        CHECK(!k == !mo_qkernels_get((mo_cpu_level)level), "level %d is half there", level);
        if (!k) {
            check_refused(1, level, MOSHI_EDEVICE, "no ");
            continue;
        }
        mo_backend *be = open_cpu(2, level);
        const char *name = mo_cpu_level_name((mo_cpu_level)level);
        CHECK(strcmp(mo_backend_cpu.kernels(be), name) == 0, "level %d is %s", level, name);
        CHECK(mo_backend_cpu.threads(be) == 2, "threads");
        mo_backend_cpu.close(be);
    }
    CHECK(!mo_cpu_has_avx512() || mo_cpu_has_avx2(), "AVX-512 without AVX2");
    CHECK(!mo_cpu_has_avx512_vnni() || mo_cpu_has_avx512(), "VNNI without AVX-512");
    CHECK(!mo_cpu_has_amx_int8() || mo_cpu_has_avx512_vnni(), "AMX without VNNI");
    CHECK(!mo_cpu_has_amx_bf16() || mo_cpu_has_amx_int8(), "bfloat16 tiles without those of bytes");
    CHECK(!mo_cpu_has_avx_vnni() || mo_cpu_has_avx2(), "VNNI without AVX2");
    CHECK(!mo_cpu_has_neon_i8mm() || mo_cpu_has_neon_dot(), "matrices without dot products");
    CHECK(!mo_cpu_has_neon_dot() || mo_cpu_has_neon(), "dot products without NEON");
    CHECK(!(mo_cpu_has_avx2() && mo_cpu_has_neon()), "two architectures at once");
    mo_backend *be;
    CHECK(mo_backend_cpu.open(&be, NULL, NULL) == 0, "open with defaults");
    CHECK(mo_backend_cpu.threads(be) == mo_core_count(), "one thread per core");
    mo_backend_cpu.close(be);
    mo_backend_cpu.close(NULL);
}

static void test_memory(void) {
    mo_backend *be = open_cpu(1, 0);
    const mo_backend_ops *ops = be->ops;
    mo_buf *buf = ops->alloc(be, 1001);
    if (CHECK(buf && buf->data && buf->bytes == 1001, "alloc")) {
        CHECK((uintptr_t)buf->data % 64 == 0, "not aligned");
        char text[8] = {0};
        bool zero = true;
        for (int i = 0; i < 1001; i++) zero &= ((char *)buf->data)[i] == 0;
        CHECK(zero, "not zeroed");
        ops->write(be, buf, 994, "abcdefg", 7);
        ops->zero(be, buf, 996, 2);
        ops->read(be, buf, 994, text, 7);
        CHECK(memcmp(text, "ab\0\0efg", 7) == 0, "write, zero, read");
        ops->write(be, buf, 1001, NULL, 0);
    }
    ops->free(be, buf);
    ops->free(be, NULL);
    buf = ops->alloc(be, 0);
    CHECK(buf != NULL, "nothing is something");
    ops->free(be, buf);
    CHECK(ops->alloc(be, SIZE_MAX - 8) == NULL, "more than there is");
    ops->close(be);
}

/* What a device says it would make of a matrix is what it makes, at every level: those that do not
 * split products hold floats. */
static void test_told(void) {
    static const float numbers[32 * 128];
    for (int level = MO_CPU_LEVEL_C; level < MO_CPU_LEVEL_COUNT; level++) {
        if (!mo_kernels_get((mo_cpu_level)level)) continue;
        mo_backend *be = open_cpu(1, level);
        for (int pieces = 0; pieces <= 3; pieces += pieces ? 1 : 2)
            for (int digits = 0; digits <= 3; digits++) {
                mo_matrix m = {.dtype = MO_F32, .rows = 32, .cols = 128, .data = numbers};
                mo_weight told, w;
                m.pieces = pieces;
                m.digits = digits;
                uint64_t bytes = be->ops->weight_bytes(be, &m, MO_LAYOUT_STRIPS, &told);
                if (!CHECK(be->ops->weight(be, &m, MO_LAYOUT_STRIPS, &w) == 0, "weight")) break;
                CHECK(bytes == w.buf->bytes && told.pieces == w.pieces && told.digits == w.digits &&
                          told.rows == 32 && told.cols == 128 && told.dtype == w.dtype &&
                          told.layout == w.layout && !told.buf,
                      "%s, %d pieces, %d digits: %llu bytes told, %zu held",
                      mo_cpu_level_name((mo_cpu_level)level), pieces, digits,
                      (unsigned long long)bytes, w.buf->bytes);
                if (level != MO_CPU_LEVEL_AMX_BF16)
                    CHECK(bytes == sizeof numbers && !told.pieces && !told.digits, "floats");
                be->ops->weight_free(be, &w);
            }
        be->ops->close(be);
    }
}

/* Both layouts from an unaligned source, against the definition. */
static void check_pack(mo_backend *be, mo_dtype dtype, int rows, int cols) {
    const mo_backend_ops *ops = be->ops;
    size_t size = dtype == MO_F32 ? 4 : 2, n = (size_t)rows * (size_t)cols;
    unsigned char *raw = test_alloc(n * size + 3, 1), *src = raw + 3;
    test_rng rng = {n};
    for (size_t i = 0; i < n * size; i++) src[i] = (unsigned char)(1 + rng_below(&rng, 255));
    mo_matrix m = {.dtype = dtype, .rows = rows, .cols = cols, .data = src};
    mo_weight w;
    if (CHECK(ops->weight(be, &m, MO_LAYOUT_ROWS, &w) == 0, "rows")) {
        CHECK(memcmp(w.buf->data, src, n * size) == 0, "%d x %d rows", rows, cols);
        CHECK(w.rows == rows && w.cols == cols && w.dtype == dtype, "what a weight says of itself");
        CHECK(w.buf->bytes == ops->weight_bytes(be, &m, MO_LAYOUT_ROWS, NULL), "bytes of rows");
        ops->weight_free(be, &w);
        ops->weight_free(be, &w);
    }
    if (CHECK(ops->weight(be, &m, MO_LAYOUT_STRIPS, &w) == 0, "strips")) {
        static const unsigned char none[4];
        bool ok = true;
        for (int r = 0; r < (rows + 15) / 16 * 16; r++)
            for (int c = 0; c < cols; c++) {
                size_t at = ((size_t)(r / 16) * (size_t)cols + (size_t)c) * 16 + (size_t)(r % 16);
                const unsigned char *got = (unsigned char *)w.buf->data + at * size;
                const unsigned char *want = src + ((size_t)r * (size_t)cols + (size_t)c) * size;
                ok &= memcmp(got, r < rows ? want : none, size) == 0;
            }
        CHECK(ok, "%d x %d strips", rows, cols);
        CHECK(w.buf->bytes == ops->weight_bytes(be, &m, MO_LAYOUT_STRIPS, NULL), "bytes of strips");
        ops->weight_free(be, &w);
    }
    free(raw);
}

static void test_weights(void) {
    static const mo_dtype dtypes[] = {MO_F32, MO_F16, MO_BF16};
    for (int threads = 1; threads <= 3; threads += 2) {
        mo_backend *be = open_cpu(threads, 0);
        for (int d = 0; d < 3; d++) {
            check_pack(be, dtypes[d], 1, 1);
            check_pack(be, dtypes[d], 15, 63);
            check_pack(be, dtypes[d], 33, 64);
            check_pack(be, dtypes[d], 1000, 130);
        }
        char data[64] = {0};
        mo_weight w;
        static const struct {
            mo_dtype dtype;
            int64_t rows, cols;
        } bad[] = {{MO_F32, 0, 4},   {MO_F32, 4, 0},         {MO_F32, -1, 4},
                   {MO_F64, 2, 2},   {MO_F32, INT64_MAX, 1}, {MO_F32, 1, INT64_MAX},
                   {MO_I32, 16, 16}, {MO_Q8_0, 16, 33},      {MO_Q4_K, 16, 32},
                   {MO_U32, 16, 32}, {MO_I8, 16, INT64_MAX}};
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
            mo_matrix m = {.dtype = bad[i].dtype, .rows = bad[i].rows, .cols = bad[i].cols};
            m.data = data;
            CHECK(be->ops->weight(be, &m, MO_LAYOUT_STRIPS, &w) == MOSHI_EINVAL && !w.buf &&
                      be->ops->weight_bytes(be, &m, MO_LAYOUT_STRIPS, NULL) == 0,
                  "bad matrix %zu taken", i);
        }
        be->ops->close(be);
    }
}

static void test_supports(void) {
    mo_backend *be = open_cpu(1, 0);
    static const bool weights[MO_DTYPE_COUNT] = {
        [MO_F32] = true,  [MO_F16] = true,  [MO_BF16] = true, [MO_I8] = true,   [MO_U32] = true,
        [MO_Q8_0] = true, [MO_Q4_0] = true, [MO_Q4_K] = true, [MO_Q5_K] = true, [MO_Q6_K] = true};
    for (int kind = 0; kind < MO_OP_COUNT; kind++)
        for (int d = 0; d < MO_DTYPE_COUNT; d++) {
            bool any = kind == MO_OP_LINEAR || kind == MO_OP_EMBED_SUM;
            bool ring = kind == MO_OP_ROPE_KV || kind == MO_OP_ATTEND;
            CHECK(be->ops->supports(be, (mo_op_kind)kind, (mo_dtype)d) ==
                      (any ? weights[d] : d == MO_F32 || (ring && (d == MO_BF16 || d == MO_I8))),
                  "op %d with %s", kind, mo_dtype_name((mo_dtype)d));
        }
    CHECK(!be->ops->supports(be, MO_OP_COUNT, MO_F32), "an op that is none");
    be->ops->close(be);
}

/* Any part of a program can be run, and nothing outside it. */
static void test_run_range(void) {
    mo_backend *be = open_cpu(2, 0);
    const mo_backend_ops *ops = be->ops;
    mo_buf *buf = ops->alloc(be, 2 * 4);
    mo_op list[4];
    for (int i = 0; i < 4; i++) {
        list[i].kind = MO_OP_ADVANCE;
        list[i].u.advance = (mo_op_advance){{buf, 0, 1, 1, 1, 1}, 1 << 4 * i};
    }
    mo_program *p = ops->record(be, list, 4, 2);
    const uint8_t first[2] = {1, 0}, both[2] = {1, 255}, none[2] = {0};
    const int32_t *pos = buf->data;
    memset(list, 0xAA, sizeof list); /* the program has its own copy */
    CHECK(ops->run(be, p, 1, 3, first) == 0 && pos[0] == 0x0110 && pos[1] == 0, "ops 1 and 2");
    CHECK(ops->run(be, p, 0, 4, both) == 0 && pos[0] == 0x1221 && pos[1] == 0x1111, "all");
    CHECK(ops->run(be, p, 2, 2, both) == 0 && ops->run(be, p, 0, 4, none) == 0, "nothing to do");
    CHECK(pos[0] == 0x1221 && pos[1] == 0x1111, "nothing done");
    CHECK(ops->run(be, p, -1, 2, both) == MOSHI_EDEVICE, "before the first op");
    CHECK(ops->run(be, p, 0, 5, both) == MOSHI_EDEVICE, "past the last op");
    CHECK(ops->run(be, p, 3, 2, both) == MOSHI_EDEVICE, "backwards");
    ops->program_free(be, p);
    ops->program_free(be, NULL);
    p = ops->record(be, NULL, 0, 1);
    CHECK(p && ops->run(be, p, 0, 0, both) == 0, "an empty program");
    ops->program_free(be, p);
    ops->free(be, buf);
    ops->close(be);
}

int main(void) {
    test_pool();
    test_philox();
    test_golden_draws();
    test_top_k();
    test_top_k_of_many();
    test_plain_pick();
    test_frequencies();
    test_odd_logits();
    test_open();
    test_memory();
    test_weights();
    test_told();
    test_supports();
    test_run_range();
    return check_done("test_cpu");
}
