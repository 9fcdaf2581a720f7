/* inject.c - break a recording, a configuration or a file of weights in one way that is known to
 * happen, for tests/catalogue.sh. What app/damage.c can do is asked for by its name; here is the
 * rest.
 *
 *     inject sound WHAT FROM TO.wav [OTHER.wav]
 *     inject codec WHAT FROM TO.wav MODEL [OTHER.wav]   through the codec, wrongly
 *     inject config FROM.json TO.json KEY JSON          "" for JSON takes the key away
 *     inject weights WHAT FROM TO PART [OTHER]          tensors whose name contains PART */
#include "damage.h"
#include "make_model.h"
#include "sound.h"
#include "tensors.h"

#include <jansson.h>
#include <math.h>
#include <sndfile.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FRAME = 1920, PACKET = 480, RATE_HZ = 24000, CODEBOOKS = 64 };

static void must(int rc, const app_error *err) {
    if (rc != EXIT_OK) test_die("%s", err->text);
}

static void load(sound *s, const char *path) {
    app_error err = {0};
    must(sound_load(s, path, RATE_HZ, &err), &err);
}

/* 16 bits, as most files are; numbers that no such file can hold as floats. */
static void save(const char *path, const float *pcm, size_t n, int rate_hz, int channels) {
    SF_INFO info = {.samplerate = rate_hz, .channels = channels};
    bool wild = false;
    for (size_t i = 0; i < n; i++) wild |= !(fabsf(pcm[i]) < 1.0001f);
    info.format = SF_FORMAT_WAV | (wild ? SF_FORMAT_FLOAT : SF_FORMAT_PCM_16);
    SNDFILE *f = sf_open(path, SFM_WRITE, &info);
    if (!f) test_die("%s: %s", path, sf_strerror(NULL));
    sf_command(f, SFC_SET_CLIPPING, NULL, SF_TRUE);
    if (sf_write_float(f, pcm, (sf_count_t)n) != (sf_count_t)n) test_die("%s: not written", path);
    sf_close(f);
}

/* ---- sound: every maker changes `s` in place, and may change its length -----------------------
 */

static void turn_around(float *x, size_t n) {
    for (size_t i = 0; i < n / 2; i++) {
        float swap = x[i];
        x[i] = x[n - 1 - i];
        x[n - 1 - i] = swap;
    }
}

/* Half a second of sound, then nothing for three: a new stream for every block. */
static void stream_per_block(sound *s) {
    size_t block = RATE_HZ / 2, pause = 3 * RATE_HZ, blocks = s->n / block;
    float *out = test_alloc(blocks * (block + pause), sizeof *out);
    for (size_t b = 0; b < blocks; b++)
        memcpy(out + b * (block + pause), s->pcm + b * block, block * sizeof *out);
    free(s->pcm);
    s->pcm = out;
    s->n = blocks * (block + pause);
}

/* A packet of 20 ms where a frame of 80 ms should be: the rest of the frame is zero. */
static void pad_packets(sound *s) {
    size_t packets = s->n / PACKET;
    float *out = test_alloc(packets * FRAME, sizeof *out);
    for (size_t p = 0; p < packets; p++)
        memcpy(out + p * FRAME, s->pcm + p * PACKET, PACKET * sizeof *out);
    free(s->pcm);
    s->pcm = out;
    s->n = packets * FRAME;
}

/* The reader takes one packet of every frame and drops the rest. */
static void one_packet_of_four(sound *s) {
    size_t frames = s->n / FRAME;
    for (size_t f = 0; f < frames; f++)
        memmove(s->pcm + f * PACKET, s->pcm + f * FRAME, PACKET * sizeof *s->pcm);
    s->n = frames * PACKET;
}

/* To 8 kHz and back, every packet of 20 ms for itself, silence taken for what lies outside. */
static void resample_packets(sound *s) {
    for (size_t at = 0; at + PACKET <= s->n; at += PACKET) {
        app_error err = {0};
        sound packet = {s->pcm + at, PACKET, RATE_HZ}, low = {0}, back = {0};
        must(sound_resample(&low, &packet, &SINC_FILE, RATE_HZ / 3, NULL, &err), &err);
        must(sound_resample(&back, &low, &SINC_FILE, RATE_HZ, NULL, &err), &err);
        memcpy(s->pcm + at, back.pcm, PACKET * sizeof *s->pcm);
        sound_free(&low);
        sound_free(&back);
    }
}

/* As the right one, but for two mistakes that were made: the exponent is two too large (it runs
 * over into the sign's neighbours and wraps), and bits 13 and 14 of loud samples are ignored. */
static uint8_t wrong_ulaw(int16_t x) {
    int sign = x < 0, value = (sign ? -(int)x : x) & 0x1fff;
    int biased = value + 132, exponent = 7;
    while (exponent > 0 && !(biased & (128 << exponent))) exponent--;
    int mantissa = biased >> (exponent + 3) & 15;
    return (uint8_t) ~((sign ? 0x80 : 0) | ((exponent + 2) & 7) << 4 | mantissa);
}

static float right_ulaw(uint8_t code) {
    int u = ~code & 0xff, exponent = u >> 4 & 7;
    int value = (((u & 15) << 3) + 132) << exponent;
    return (float)((u & 0x80 ? 132 - value : value - 132) / 32768.0);
}

static void through_wrong_ulaw(sound *s) {
    app_error err = {0};
    sound low = {0};
    must(sound_resample(&low, s, &SINC_FILE, 8000, NULL, &err), &err);
    for (size_t i = 0; i < low.n; i++)
        low.pcm[i] =
            right_ulaw(wrong_ulaw((int16_t)lrintf(fmaxf(-1, fminf(low.pcm[i], 0.9999f)) * 32767)));
    sound_free(s);
    *s = low;
}

/* The rate the samples have, and the one they are taken for. */
static void take_for(sound *s, int rate_hz, int taken_for_hz) {
    app_error err = {0};
    sound other = {0};
    must(sound_resample(&other, s, &SINC_FILE, rate_hz, NULL, &err), &err);
    other.rate_hz = taken_for_hz;
    sound_free(s);
    *s = other;
}

/* 80 ms of a tone again and again, each beginning at the same phase. */
static void tone_frames(sound *s) {
    for (size_t i = 0; i < s->n; i++)
        s->pcm[i] = 0.3f * sinf(6.2831853f * 440 * (float)(i % FRAME) / RATE_HZ);
}

/* What the test mode of old heard: noise, 60 dB below the loudest. */
static void faint_noise(sound *s) {
    test_rng rng = {7};
    for (size_t i = 0; i < s->n; i++) s->pcm[i] = 0.001f * rng_f32(&rng);
}

static void add_offset(sound *s) {
    float peak = 0;
    for (size_t i = 0; i < s->n; i++) peak = fmaxf(peak, fabsf(s->pcm[i]));
    for (size_t i = 0; i < s->n; i++) s->pcm[i] = 0.4f * s->pcm[i] / peak + 0.4f;
}

/* Blocks of `n` samples backwards. */
static void turn_blocks(sound *s, size_t n) {
    for (size_t at = 0; at + n <= s->n; at += n) turn_around(s->pcm + at, n);
}

static void save_opposite_channels(const sound *s, const char *path) {
    float *both = test_alloc(2 * s->n, sizeof *both);
    for (size_t i = 0; i < s->n; i++) {
        both[2 * i] = s->pcm[i];
        both[2 * i + 1] = -s->pcm[i];
    }
    save(path, both, 2 * s->n, s->rate_hz, 2);
    free(both);
}

static bool damage_sound(sound *s, const char *what) {
    app_error err = {0};
    const damage *d = damage_find(what);
    if (!d) return false;
    float *out;
    size_t n;
    must(damage_make(d, &out, &n, s->pcm, s->n, s->rate_hz, 1, &err), &err);
    free(s->pcm);
    s->pcm = out;
    s->n = n;
    return true;
}

static const struct {
    const char *name;
    void (*make)(sound *s);
} SOUNDS[] = {
    {"stream-per-block", stream_per_block},
    {"padded-packets", pad_packets},
    {"one-packet-of-four", one_packet_of_four},
    {"resampled-packets", resample_packets},
    {"wrong-ulaw", through_wrong_ulaw},
    {"tone-frames", tone_frames},
    {"faint-noise", faint_noise},
    {"offset", add_offset},
};

static void inject_sound(const char *what, const char *from, const char *to) {
    sound s = {0};
    int rate, taken;
    load(&s, from);
    if (!strcmp(what, "opposite-channels")) {
        save_opposite_channels(&s, to);
        sound_free(&s);
        return;
    }
    bool done = !strcmp(what, "nothing");
    for (size_t i = 0; i < sizeof SOUNDS / sizeof SOUNDS[0]; i++)
        if (!strcmp(what, SOUNDS[i].name)) {
            SOUNDS[i].make(&s);
            done = true;
        }
    if (!done && sscanf(what, "%d-as-%d", &rate, &taken) == 2) {
        take_for(&s, rate, taken);
        done = true;
    }
    if (!done && sscanf(what, "blocks-reversed-%d", &rate) == 1 && rate > 0) {
        turn_blocks(&s, (size_t)rate);
        done = true;
    }
    if (!done && !damage_sound(&s, what)) test_die("no such damage: %s", what);
    save(to, s.pcm, s.n, s.rate_hz, 1);
    sound_free(&s);
}

/* ---- codec: encoded or decoded wrongly --------------------------------------------------------
 */

typedef struct coded {
    moshi_codec *codec;
    size_t codebooks, frames;
    int32_t *codes; /* [frames, codebooks] */
} coded;

static void open_codec_of(coded *c, const char *model) {
    moshi_error err = {0};
    moshi_codec_info info;
    moshi_codec_options options = {.model = model};
    if (moshi_codec_open(&c->codec, &options, &err) < 0) test_die("%s", err.text);
    moshi_codec_get_info(c->codec, &info);
    c->codebooks = (size_t)info.codebooks;
    if (info.frame_samples != FRAME || c->codebooks > CODEBOOKS) test_die("not this codec");
}

/* `forget`: every frame by a codec that has heard nothing before it. `other`: its frames go through
 * the same codec in between, and their codes are dropped. */
static void encode(coded *c, const sound *s, bool forget, const sound *other) {
    int32_t dropped[CODEBOOKS];
    c->frames = s->n / FRAME;
    c->codes = test_alloc(c->frames * c->codebooks, sizeof *c->codes);
    for (size_t f = 0; f < c->frames; f++) {
        if (forget) moshi_codec_reset(c->codec);
        moshi_codec_encode(c->codec, s->pcm + f * FRAME, 1, c->codes + f * c->codebooks);
        if (other && (f + 1) * FRAME <= other->n)
            moshi_codec_encode(c->codec, other->pcm + f * FRAME, 1, dropped);
    }
    moshi_codec_reset(c->codec);
}

static void decode(const coded *c, sound *s, bool forget) {
    s->n = c->frames * FRAME;
    for (size_t f = 0; f < c->frames; f++) {
        if (forget) moshi_codec_reset(c->codec);
        moshi_codec_decode(c->codec, c->codes + f * c->codebooks, 1, s->pcm + f * FRAME);
    }
}

/* Code `k` of frame `f` as it was before anything was changed. */
static int32_t code_before(const coded *c, const int32_t *before, ptrdiff_t f, size_t k) {
    ptrdiff_t last = (ptrdiff_t)c->frames - 1, at = f < 0 ? 0 : f > last ? last : f;
    return before[(size_t)at * c->codebooks + k];
}

static void change_codes(coded *c, const char *what) {
    size_t n = c->frames * c->codebooks;
    int32_t *before = test_alloc(n, sizeof *before);
    int late = 0;
    memcpy(before, c->codes, n * sizeof *before);
    sscanf(what, "acoustic-late-%d", &late);
    for (size_t f = 0; f < c->frames; f++)
        for (size_t k = 0; k < c->codebooks; k++) {
            int32_t *code = &c->codes[f * c->codebooks + k];
            if (!strcmp(what, "zero-codes")) *code = 0;
            if (!strcmp(what, "transposed")) *code = before[k * c->frames + f];
            if (!strcmp(what, "backwards")) *code = before[(f + 1) * c->codebooks - 1 - k];
            if (!strcmp(what, "acoustic-zero") && k > 0) *code = 0;
            if (!strcmp(what, "rotated"))
                *code = code_before(c, before, (ptrdiff_t)f, (k + 1) % c->codebooks);
            if (late && k > 0) *code = code_before(c, before, (ptrdiff_t)f - late, k);
        }
    free(before);
}

static void inject_codec(const char *what, const char *from, const char *to, const char *model,
                         const char *other_path) {
    coded c = {0};
    sound s = {0}, other = {0};
    load(&s, from);
    if (other_path) load(&other, other_path);
    open_codec_of(&c, model);
    encode(&c, &s, !strcmp(what, "forgetful-encoder"), other_path ? &other : NULL);
    change_codes(&c, what);
    decode(&c, &s, !strcmp(what, "forgetful-decoder"));
    save(to, s.pcm, s.n, RATE_HZ, 1);
    free(c.codes);
    moshi_codec_close(c.codec);
    sound_free(&s);
    sound_free(&other);
}

/* ---- configuration ----------------------------------------------------------------------------
 */

static void inject_config(const char *from, const char *to, const char *key, const char *text) {
    json_error_t problem;
    json_t *root = json_load_file(from, 0, &problem);
    if (!root) test_die("%s: %s", from, problem.text);
    char outer[64] = "";
    const char *dot = strchr(key, '.');
    if (dot) snprintf(outer, sizeof outer, "%.*s", (int)(dot - key), key);
    json_t *at = dot ? json_object_get(root, outer) : root;
    const char *name = dot ? dot + 1 : key;
    json_t *value = *text ? json_loads(text, JSON_DECODE_ANY, &problem) : NULL;
    if (*text && !value) test_die("%s: %s", text, problem.text);
    if (*text ? json_object_set_new(at, name, value) : json_object_del(at, name))
        test_die("%s: %s cannot be changed", from, key);
    if (json_dump_file(root, to, JSON_INDENT(1)) != 0) test_die("%s: not written", to);
    json_decref(root);
}

/* ---- weights ----------------------------------------------------------------------------------
 */

static void spoil(tensor *t, const char *what) {
    test_rng rng = {11};
    double square = 0;
    for (size_t i = 0; i < t->count; i++) square += (double)t->f[i] * (double)t->f[i];
    float rms = (float)sqrt(square / (double)t->count);
    size_t half = t->count / 2;
    if (!strcmp(what, "nan")) t->f[half] = NAN;
    if (!strcmp(what, "inf")) t->f[half] = INFINITY;
    if (!strcmp(what, "huge")) t->f[half] = 1e30f;
    for (size_t i = 0; i < t->count; i++) {
        if (!strcmp(what, "zero")) t->f[i] = 0;
        if (!strcmp(what, "noise")) t->f[i] = 1.7f * rms * rng_f32(&rng);
        if (!strcmp(what, "scaled")) t->f[i] *= 64;
        if (!strcmp(what, "half-zero") && i >= half) t->f[i] = 0;
        if (!strcmp(what, "sign") && i % 32 < 16) t->f[i] = -t->f[i];
    }
}

/* The numbers of a matrix as if its rows were its columns; the shape stays. */
static void transpose(tensor *t) {
    if (t->ndim != 2) return;
    size_t rows = (size_t)t->shape[0], cols = (size_t)t->shape[1];
    float *x = test_alloc(t->count, sizeof *x);
    for (size_t i = 0; i < t->count; i++) x[i] = t->f[i % rows * cols + i / rows];
    free(t->f);
    t->f = x;
}

static void swap_data(tensor *a, tensor *b) {
    if (!a || !b || a->count != b->count) test_die("no two tensors of one size to swap");
    float *swap = a->f;
    a->f = b->f;
    b->f = swap;
}

static void drop(tensors *set, size_t i) {
    tensor gone = set->t[i];
    memmove(set->t + i, set->t + i + 1, (set->n - i - 1) * sizeof gone);
    set->n--;
    free(gone.name);
    free(gone.f);
    free(gone.i);
}

static void inject_weights(const char *what, const char *from, const char *to, const char *part,
                           const char *other) {
    tensors set;
    size_t touched = 0, size;
    if (!tensors_load(&set, from)) exit(1);
    for (size_t i = set.n; i-- > 0;) {
        tensor *t = &set.t[i];
        if (!strstr(t->name, part)) continue;
        touched++;
        if (!strcmp(what, "drop")) {
            drop(&set, i);
            continue;
        }
        if (!strcmp(what, "transposed")) transpose(t);
        if (t->f) spoil(t, what);
    }
    if (!strcmp(what, "swapped")) swap_data(tensors_find(&set, part), tensors_find(&set, other));
    if (touched == 0) test_die("%s: no tensor is called like %s", from, part);
    uint8_t *bytes = safetensors_build(&set, &size);
    FILE *f = fopen(to, "wb");
    if (!f || fwrite(bytes, 1, size, f) != size || fclose(f) != 0) test_die("%s: not written", to);
    free(bytes);
    tensors_free(&set);
}

int main(int argc, char **argv) {
    const char *verb = argc > 4 ? argv[1] : "";
    const char *extra = argc > 6 ? argv[6] : NULL;
    if (!strcmp(verb, "sound"))
        inject_sound(argv[2], argv[3], argv[4]);
    else if (!strcmp(verb, "codec") && argc > 5)
        inject_codec(argv[2], argv[3], argv[4], argv[5], extra);
    else if (!strcmp(verb, "config") && argc > 5)
        inject_config(argv[2], argv[3], argv[4], argv[5]);
    else if (!strcmp(verb, "weights") && argc > 5)
        inject_weights(argv[2], argv[3], argv[4], argv[5], extra);
    else
        test_die("usage: inject sound|codec|config|weights ... (see the head of tests/inject.c)");
    return 0;
}
