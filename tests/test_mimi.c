/* The codec through the public header against recorded outputs of the original implementation:
 * streaming with the original's ring, one and five frames per call, the exact mask, 8 and 32
 * codebooks, and the published size with generated weights. */
#include "check.h"
#include "drive.h"
#include "json.h"
#include "sanitizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char taps[] = "mimi.enc.seanet mimi.*.transformer mimi.enc.latent mimi.dec.quantized "
                           "mimi.dec.upsampled";

static int32_t *transposed(const int32_t *codes, size_t rows, size_t cols) {
    int32_t *out = test_alloc(rows * cols, sizeof *out);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++) out[c * rows + r] = codes[r * cols + c];
    return out;
}

/* Of the small set that lies in the repository not everything can be asked. */
static bool recorded(const tensors *g, const char *name) {
    if (tensors_find(g, name)) return true;
    if (!tensors_find(g, "subset")) CHECK(false, "no recorded %s", name);
    return false;
}

static void check_tap(const tap_log *log, const char *tap, const tensors *g, const char *mode,
                      const char *what) {
    char name[128];
    snprintf(name, sizeof name, "%s.%s", mode, what);
    const tensor *want = tensors_find(g, name);
    if (!recorded(g, name)) return;
    float *got = tap_channels(log, want->count, tap);
    double d = max_diff(got, want->f, want->count);
    CHECK(d < 2e-5, "%s differs by %g", name, d);
    free(got);
}

/* What one recorded run looked like. */
typedef struct mode {
    const char *name, *dir;
    size_t frames, frame_samples;
    int per_call, flags;
    bool latents;
    int at_once; /* calls */
} mode;

static moshi_codec *open_mode(const mode *m, int codebooks) {
    return open_codec_with(&(moshi_codec_options){.model = m->dir,
                                                  .codebooks = codebooks,
                                                  .frames_per_call = m->per_call,
                                                  .flags = m->flags,
                                                  .calls_at_once = m->at_once});
}

static void check_encode(const mode *m, const tensors *g, const float *pcm, int codebooks) {
    size_t n = m->frames * (size_t)codebooks, at = 0;
    tap_log log = {.slot = -1};
    moshi_codec *codec = open_mode(m, codebooks);
    moshi_codec_trace(codec, taps, tap_log_fn, &log);
    int32_t *codes = test_alloc(n, sizeof *codes);
    test_rng rng = {m->frames};
    while (at < m->frames) { /* in pieces of whole calls */
        size_t some = (size_t)(m->per_call * m->at_once * (1 + rng_below(&rng, 4)));
        if (some > m->frames - at) some = m->frames - at;
        int r = moshi_codec_encode(codec, pcm + at * m->frame_samples, some,
                                   codes + at * (size_t)codebooks);
        if (!CHECK(r == (int)some, "%s: encode returned %d", m->name, r)) break;
        at += some;
    }
    /* recorded as [codebooks, frames]; fewer codebooks are the first ones of more */
    const char *golden = strstr(m->name, "odd") ? "%s.codes" : "%s.enc.codes";
    char name[64];
    snprintf(name, sizeof name, golden, m->name);
    int32_t *got = transposed(codes, m->frames, (size_t)codebooks);
    size_t bad = first_diff(got, tensors_i32(g, 32 * m->frames, "%s", name), n);
    CHECK(bad == n, "%s: code %zu of frame %zu differs (%d codebooks)", m->name, bad / m->frames,
          bad % m->frames, codebooks);
    if (m->latents) {
        check_tap(&log, "mimi.enc.seanet", g, m->name, "enc.seanet");
        check_tap(&log, "mimi.enc.transformer", g, m->name, "enc.transformer");
        check_tap(&log, "mimi.enc.latent", g, m->name, "enc.latent");
    }
    moshi_codec_close(codec);
    tap_log_free(&log);
    free(got);
    free(codes);
}

/* codes: [32, frames] as recorded. */
static void check_decode(const mode *m, const tensors *g, const int32_t *codes, int codebooks,
                         const char *golden) {
    size_t samples = m->frames * m->frame_samples;
    tap_log log = {.slot = -1};
    moshi_codec *codec = open_mode(m, codebooks);
    moshi_codec_trace(codec, taps, tap_log_fn, &log);
    int32_t *frames = transposed(codes, (size_t)codebooks, m->frames);
    float *pcm = test_alloc(samples, sizeof *pcm);
    int r = moshi_codec_decode(codec, frames, m->frames, pcm);
    CHECK(r == (int)m->frames, "%s: decode returned %d", golden, r);
    char name[64];
    snprintf(name, sizeof name, strstr(golden, "odd") ? "%s.dec_audio" : "%s.audio", golden);
    if (recorded(g, name)) {
        double d = max_diff(pcm, tensors_f32(g, samples, "%s", name), samples);
        CHECK(d < 1e-5, "%s: audio differs by %g", golden, d);
    }
    if (m->latents && !strstr(golden, "_of_")) {
        check_tap(&log, "mimi.dec.quantized", g, golden, "quantized");
        check_tap(&log, "mimi.dec.upsampled", g, golden, "upsampled");
        check_tap(&log, "mimi.dec.transformer", g, golden, "transformer");
    }
    moshi_codec_close(codec);
    tap_log_free(&log);
    free(frames);
    free(pcm);
}

static void check_mode(const mode *m, const tensors *g) {
    size_t n = 32 * m->frames;
    char name[64];
    const float *pcm = tensors_f32(g, m->frames * m->frame_samples, "input.audio");
    check_encode(m, g, pcm, 32);
    check_encode(m, g, pcm, 8);
    const int32_t *codes = tensors_i32(g, n, "%s.enc.codes", m->name);
    for (int k = 8; k <= 32; k += 24) {
        snprintf(name, sizeof name, "%s.dec%d", m->name, k);
        if (!strcmp(m->name, "stream1_bigring") && k == 8) continue; /* not recorded */
        check_decode(m, g, codes, k, name);
    }
}

/* Calls at once are the same calls: as recorded, and bit for bit those one after the other. */
static void check_calls_at_once(const mode *one, const tensors *g, int calls) {
    mode many = *one;
    const float *pcm = tensors_f32(g, one->frames * one->frame_samples, "input.audio");
    const size_t samples = one->frames * one->frame_samples, n = 8 * one->frames;
    float *heard[2];
    int32_t *codes[2];
    many.at_once = calls;
    check_mode(&many, g);
    for (int i = 0; i < 2; i++) {
        moshi_codec *codec = open_mode(i ? &many : one, 8);
        heard[i] = test_alloc(samples, sizeof **heard);
        codes[i] = test_alloc(n, sizeof **codes);
        moshi_codec_encode(codec, pcm, one->frames, codes[i]);
        moshi_codec_decode(codec, codes[i], one->frames, heard[i]);
        moshi_codec_close(codec);
    }
    CHECK(memcmp(codes[0], codes[1], n * sizeof **codes) == 0, "%s: %d calls at once: codes",
          one->name, calls);
    CHECK(memcmp(heard[0], heard[1], samples * sizeof **heard) == 0, "%s: %d calls at once: audio",
          one->name, calls);
    for (int i = 0; i < 2; i++) {
        free(heard[i]);
        free(codes[i]);
    }
}

static void check_tiny(const tensors *g, const char *dir, int exact) {
    mode all[] = {{"offline", dir, 75, 1920, 75, MOSHI_EXACT_MASK, true, 1},
                  {"stream1", dir, 75, 1920, 1, 0, true, 1},
                  {"stream5", dir, 75, 1920, 5, 0, true, 1},
                  {"stream1_bigring", dir, 75, 1920, 1, MOSHI_EXACT_MASK, false, 1}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        all[i].flags |= exact;
        check_mode(&all[i], g);
    }
    check_calls_at_once(&all[1], g, 3);
    check_calls_at_once(&all[2], g, 5);
    check_decode(&all[1], g, tensors_i32(g, 32 * 75, "offline.enc.codes"), 8,
                 "stream1.dec8_of_offline_codes");
    /* a length that is no whole number of frames: silence behind it */
    mode odd = {"odd", dir, 21, 1920, 3, MOSHI_EXACT_MASK | exact, false, 1};
    float *pcm = test_alloc(21 * 1920, sizeof *pcm);
    memcpy(pcm, tensors_f32(g, 39177, "odd.audio"), 39177 * sizeof *pcm);
    check_encode(&odd, g, pcm, 32);
    check_decode(&odd, g, tensors_i32(g, 32 * 21, "odd.codes"), 32, "odd");
    free(pcm);
}

static void test_tiny(void) {
    const char *path = golden_path("mimi-tiny/golden.safetensors");
    tensors g = {0};
    if (!CHECK(path && tensors_load(&g, path), "mimi-tiny not read")) return;
    if (tensors_find(&g, "subset")) SKIP("latents of mimi-tiny are not here");
    char dir[1024];
    snprintf(dir, sizeof dir, "%.*s", (int)(strrchr(path, '/') - path), path);
    check_tiny(&g, dir, 0);
    check_tiny(&g, dir, MOSHI_EXACT);
    tensors_free(&g);
}

/* ---- the published size ------------------------------------------------------------------- */

static uint64_t name_hash(const char *name) {
    uint64_t h = 0xcbf29ce484222325u;
    for (; *name; name++) h = (h ^ (uint8_t)*name) * 0x100000001b3u;
    return h;
}

/* The recorded run's weights are a pure function of tensor name and index. */
static void generate(float *out, size_t n, const char *name, uint64_t seed, float a, float b) {
    uint64_t h = name_hash(name) ^ seed;
    for (size_t i = 0; i < n; i++) {
        uint64_t z = h + (i + 1) * 0x9E3779B97F4A7C15u;
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
        z = (z ^ z >> 27) * 0x94D049BB133111EBu;
        z ^= z >> 31;
        float v = ((float)(z >> 40) * 0x1p-23f - 1.0f) * a;
        out[i] = b != 0 ? v + b : v;
    }
}

static const mo_json_value *member(const mo_json *j, const mo_json_value *v, const char *key) {
    const mo_json_value *c = mo_json_first(j, v);
    while (c && strcmp(c->key, key) != 0) c = mo_json_after(j, v, c);
    if (!c) test_die("table has no %s", key);
    return c;
}

static float number(const mo_json_value *v) {
    return v->type == MO_JSON_INT ? (float)v->as.integer : (float)v->as.real;
}

static void append(char **text, size_t *n, size_t *cap, const char *more) {
    size_t m = strlen(more);
    if (*n + m + 1 > *cap) {
        *cap = 2 * (*n + m + 1);
        *text = realloc(*text, *cap);
        if (!*text) test_die("out of memory");
    }
    memcpy(*text + *n, more, m + 1);
    *n += m;
}

/* Header of the file; returns it with the number of data bytes. */
static char *full_header(const mo_json *j, const mo_json_value *table, size_t *data_bytes) {
    char *text = NULL, line[512];
    size_t n = 0, cap = 0, at = 0;
    append(&text, &n, &cap, "{");
    for (const mo_json_value *t = mo_json_first(j, table); t; t = mo_json_after(j, table, t)) {
        const mo_json_value *shape = member(j, t, "shape");
        size_t count = 1,
               used = (size_t)snprintf(line, sizeof line, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[",
                                       at ? "," : "", t->key);
        for (const mo_json_value *d = mo_json_first(j, shape); d; d = mo_json_after(j, shape, d)) {
            used += (size_t)snprintf(line + used, sizeof line - used, "%s%d",
                                     d == mo_json_first(j, shape) ? "" : ",", (int)d->as.integer);
            count *= (size_t)d->as.integer;
        }
        snprintf(line + used, sizeof line - used, "],\"data_offsets\":[%zu,%zu]}", at,
                 at + 4 * count);
        at += 4 * count;
        append(&text, &n, &cap, line);
    }
    append(&text, &n, &cap, "}");
    while (n % 8) append(&text, &n, &cap, " "); /* aligned data can be generated in place */
    *data_bytes = at;
    return text;
}

static uint8_t *full_file(const char *table_path, size_t *size, const tensors *g) {
    char *text = test_alloc(1 << 18, 1);
    FILE *f = fopen(table_path, "rb");
    size_t n = f ? fread(text, 1, 1 << 18, f) : 0;
    if (f) fclose(f);
    mo_json j;
    moshi_error err;
    if (mo_json_parse(&j, text, n, "table.json", &err) < 0) test_die("%s", err.text);
    const mo_json_value *table = member(&j, &j.values[0], "tensors");
    uint64_t seed = (uint64_t)member(&j, &j.values[0], "seed")->as.integer;
    size_t bytes;
    char *header = full_header(&j, table, &bytes);
    uint64_t length = strlen(header);
    uint8_t *file = malloc(8 + length + bytes);
    if (!file) test_die("out of memory");
    memcpy(file, &length, 8);
    memcpy(file + 8, header, length);
    float *out = (float *)(void *)(file + 8 + length);
    for (const mo_json_value *t = mo_json_first(&j, table); t; t = mo_json_after(&j, table, t)) {
        const mo_json_value *shape = member(&j, t, "shape");
        size_t count = 1;
        for (const mo_json_value *d = mo_json_first(&j, shape); d; d = mo_json_after(&j, shape, d))
            count *= (size_t)d->as.integer;
        generate(out, count, t->key, seed, number(member(&j, t, "a")), number(member(&j, t, "b")));
        char name[256];
        snprintf(name, sizeof name, "gen_check.%s", t->key);
        const tensor *check = tensors_find(g, name);
        if (check) CHECK(max_diff(out, check->f, 16) == 0, "%s is generated wrongly", t->key);
        out += count;
    }
    *size = 8 + length + bytes;
    mo_json_free(&j);
    free(header);
    free(text);
    return file;
}

/* Of `got` against `want`, in dB. */
static double snr(const float *got, const float *want, size_t n) {
    double signal = 0, noise = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)got[i] - (double)want[i];
        signal += (double)want[i] * (double)want[i];
        noise += d * d;
    }
    return 10 * log10(signal / noise);
}

/* The decoder keeps the weights of its slow layers in 16 bits unless it must be exact. */
static void check_full_default(const tensors *g, const moshi_blob *blobs, const int32_t *codes,
                               size_t frames) {
    moshi_codec *codec = open_codec(NULL, blobs, 2, 32, 1, 0);
    float *pcm = test_alloc(frames * 1920, sizeof *pcm);
    int32_t *again = test_alloc(frames * 32, sizeof *again);
    moshi_codec_encode(codec, tensors_f32(g, 48000, "input.audio"), frames, again);
    CHECK(memcmp(again, codes, frames * 32 * sizeof *codes) == 0, "full size: codes by default");
    moshi_codec_decode(codec, codes, frames, pcm);
    double db = snr(pcm, tensors_f32(g, 48000, "dec32.audio"), frames * 1920);
    printf("full size: audio of the default within %.1f dB\n", db);
    CHECK(db > 68, "full size: audio of the default only within %.1f dB", db);
    moshi_codec_close(codec);
    free(again);
    free(pcm);
}

/* Frames at once change the speed only, also where numbers are split into pieces. */
static void check_full_at_once(const tensors *g, const moshi_blob *blobs, size_t frames) {
    enum { WAYS = 3 }; /* one after the other, five in a call, five calls */
    int32_t *codes[WAYS];
    float *pcm[WAYS];
    for (int i = 0; i < WAYS; i++) {
        moshi_codec *codec =
            open_codec_with(&(moshi_codec_options){.blobs = blobs,
                                                   .n_blobs = 2,
                                                   .codebooks = 8,
                                                   .frames_per_call = i == 1 ? 5 : 1,
                                                   .calls_at_once = i == 2 ? 5 : 1,
                                                   .flags = MOSHI_EXACT_MASK});
        codes[i] = test_alloc(frames * 8, sizeof **codes);
        pcm[i] = test_alloc(frames * 1920, sizeof **pcm);
        moshi_codec_encode(codec, tensors_f32(g, 48000, "input.audio"), frames, codes[i]);
        moshi_codec_decode(codec, codes[i], frames, pcm[i]);
        moshi_codec_close(codec);
    }
    for (int i = 1; i < WAYS; i++) {
        CHECK(memcmp(codes[0], codes[i], frames * 8 * sizeof **codes) == 0,
              "full size: codes at once, %d", i);
        CHECK(memcmp(pcm[0], pcm[i], frames * 1920 * sizeof **pcm) == 0,
              "full size: audio at once, %d", i);
    }
    for (int i = 0; i < WAYS; i++) {
        free(codes[i]);
        free(pcm[i]);
    }
}

static void check_full(const tensors *g, const moshi_blob *blobs, size_t frames) {
    moshi_codec *codec = open_codec(NULL, blobs, 2, 32, 1, MOSHI_EXACT);
    int32_t *codes = test_alloc(frames * 32, sizeof *codes);
    float *pcm = test_alloc(frames * 1920, sizeof *pcm);
    tap_log log = {.slot = -1};
    moshi_codec_trace(codec, "mimi.enc.latent", tap_log_fn, &log);
    int r = moshi_codec_encode(codec, tensors_f32(g, 48000, "input.audio"), frames, codes);
    CHECK(r == (int)frames, "full size: encode returned %d", r);
    const int32_t *want = tensors_i32(g, 32 * 25, "stream1.codes");
    int wrong = 0;
    for (size_t t = 0; t < frames; t++)
        for (size_t k = 0; k < 32; k++) wrong += codes[t * 32 + k] != want[k * 25 + t];
    CHECK(wrong == 0, "full size: %d codes differ", wrong);
    float *latent = tap_channels(&log, frames * 512, "mimi.enc.latent");
    const float *want_latent = tensors_f32(g, 25 * 512, "enc.latent");
    double worst = 0;
    for (size_t c = 0; c < 512; c++) {
        double d = max_diff(latent + c * frames, want_latent + c * 25, frames);
        if (d > worst) worst = d;
    }
    CHECK(worst < 1e-4, "full size: latents differ by %g", worst);
    moshi_codec_decode(codec, codes, frames, pcm);
    double d = max_diff(pcm, tensors_f32(g, 48000, "dec32.audio"), frames * 1920);
    CHECK(d < 1e-5, "full size: audio differs by %g", d);
    moshi_codec_close(codec);
    codec = open_codec(NULL, blobs, 2, 8, 1, MOSHI_EXACT);
    int32_t *eight = test_alloc(frames * 8, sizeof *eight);
    for (size_t i = 0; i < frames * 8; i++) eight[i] = codes[i / 8 * 32 + i % 8];
    moshi_codec_decode(codec, eight, frames, pcm);
    d = max_diff(pcm, tensors_f32(g, 48000, "dec8.audio"), frames * 1920);
    CHECK(d < 1e-5, "full size: audio of 8 codebooks differs by %g", d);
    moshi_codec_close(codec);
    check_full_default(g, blobs, codes, frames);
    check_full_at_once(g, blobs, frames);
    tap_log_free(&log);
    free(latent);
    free(eight);
    free(codes);
    free(pcm);
}

static void test_full(void) {
    const char *path = golden_path("mimi-full/golden.safetensors");
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (!path) {
        SKIP("mimi-full reference data is not here");
        return;
    }
    const char *device = getenv("TEST_DEVICE");
    if (device && strncmp(device, "cpu", 3) != 0 && !getenv("TEST_FULL")) {
        SKIP("the published codec size on another device: TEST_FULL=1 asks for it alone");
        return;
    }
    if (SANITIZED || (double)pages * (double)page < 3e9) {
        SKIP("the published codec size needs 3 GB of memory and no sanitizer");
        return;
    }
    tensors g = {0};
    if (!CHECK(tensors_load(&g, path), "mimi-full not read")) return;
    size_t size, config_size;
    uint8_t *file = full_file(golden_path("mimi-full/table.json"), &size, &g);
    char config[4096];
    FILE *f = fopen(golden_path("mimi-full/config.json"), "rb");
    config_size = f ? fread(config, 1, sizeof config, f) : 0;
    if (f) fclose(f);
    moshi_blob blobs[] = {{"config.json", config, config_size}, {"model.safetensors", file, size}};
    /* a driver that plays a card takes ten seconds a frame */
    check_full(&g, blobs, getenv("TEST_DEVICE") ? 5 : 25);
    free(file);
    tensors_free(&g);
}

int main(void) {
    if (!getenv("TEST_FULL")) test_tiny();
    test_full();
    return check_done("test_mimi");
}
