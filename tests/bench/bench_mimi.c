/* bench_mimi.c - speed of the codec in its official size: real-time factors of encode and decode,
 * frame by frame and, as `moshi codec` does, many frames at once. The weights are
 * random; the time does not depend on their values. */
#include "make_model.h"
#include "moshi.h"
#include "util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FRAMES = 128, ROUNDS = 3, WHOLE = 64 }; /* ten seconds of audio; the best round counts */

static double best(double a, double b) {
    return a < b ? a : b;
}

static int measure(const made_model *m, int codebooks, int threads, int at_once) {
    /* A codec-only directory: Mimi's own configuration under the usual name. */
    moshi_blob files[] = {m->blobs[MADE_MIMI_CONFIG], m->blobs[MADE_MIMI]};
    files[0].name = "config.json";
    files[1].name = "model.safetensors";
    moshi_codec_options options = {.blobs = files,
                                   .n_blobs = 2,
                                   .codebooks = codebooks,
                                   .calls_at_once = at_once,
                                   .threads = threads};
    moshi_codec *codec;
    moshi_error err;
    if (moshi_codec_open(&codec, &options, &err) < 0) {
        fprintf(stderr, "bench_mimi: %s\n", err.text);
        return 1;
    }
    moshi_codec_info info;
    moshi_codec_get_info(codec, &info);
    size_t frame = (size_t)info.frame_samples;
    float *pcm = malloc(FRAMES * frame * sizeof *pcm);
    int32_t *codes = malloc((size_t)FRAMES * (size_t)codebooks * sizeof *codes);
    if (!pcm || !codes) abort();
    double encode_s = 1e9, decode_s = 1e9;
    for (int round = 0; round < ROUNDS; round++) {
        test_signal(pcm, FRAMES * frame, 7);
        moshi_codec_reset(codec);
        double begin = mo_now_s();
        size_t n = (size_t)at_once;
        for (size_t f = 0; f < FRAMES; f += n)
            moshi_codec_encode(codec, pcm + f * frame, n, codes + f * (size_t)codebooks);
        double middle = mo_now_s();
        for (size_t f = 0; f < FRAMES; f += n)
            moshi_codec_decode(codec, codes + f * (size_t)codebooks, n, pcm + f * frame);
        encode_s = best(encode_s, middle - begin);
        decode_s = best(decode_s, mo_now_s() - middle);
    }
    double audio_s = FRAMES / info.frame_rate_hz;
    printf(
        "mimi, %.1f M parameters, %2d codebooks, %2d threads, %2d at once: encode %6.2f ms a frame "
        "(real-time factor %.3f), decode %6.2f ms (%.3f)\n",
        (double)info.parameters * 1e-6, codebooks, threads, at_once, 1e3 * encode_s / FRAMES,
        encode_s / audio_s, 1e3 * decode_s / FRAMES, decode_s / audio_s);
    free(pcm);
    free(codes);
    moshi_codec_close(codec);
    return 0;
}

int main(void) {
    model_spec spec;
    made_model m;
    spec_tiny(&spec);
    mo_mimi_config_official(&spec.mimi);
    spec.mimi_dtype = MO_F32;
    model_make(&m, &spec);
    int cores = mo_core_count();
    int status = measure(&m, 8, 1, 1) | measure(&m, 32, 1, 1) | measure(&m, 8, 1, WHOLE);
    if (cores > 1) status |= measure(&m, 8, cores, 1) | measure(&m, 8, cores, WHOLE);
    model_free(&m);
    return status;
}
