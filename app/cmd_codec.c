/* cmd_codec.c - `moshi codec encode|decode|roundtrip`: the Mimi codec alone. */
#include "audiofile.h"
#include "audioout.h"
#include "model.h"
#include "progress.h"
#include "tensors.h"
#include "verb.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Frames of a file that are computed together, at most: the result does not depend on it. */
enum { FRAMES_AT_ONCE = 64 };

/* Of the published codec; blocks of files are only less even with another one. */
static const double FRAMES_PER_S = 12.5;

typedef struct codec_run {
    const arguments *args;
    moshi_codec *codec;
    moshi_codec_info info;
    size_t block;   /* frames at once */
    float *pcm;     /* [block * frame_samples] */
    int32_t *codes; /* [block, codebooks] */
    progress bar;
    double load_s;
    int64_t frames;
} codec_run;

static int check_arguments(const arguments *args, const char *name, const char *out,
                           app_error *err) {
    if (args->n_positional < 1)
        return app_fail(err, EXIT_USAGE, "codec %s: which file? moshi codec %s IN -o %s", name,
                        name, out);
    if (!option_given(args, "output"))
        return app_fail(err, EXIT_USAGE, "codec %s: -o is missing: moshi codec %s IN -o %s", name,
                        name, out);
    return model_check_output(args, option_text(args, "output"), NULL, err);
}

/* A file of so many frames in blocks of the same size, or nearly: the last one is computed whole,
 * however little of it is the file's. 0: nobody knows how many. */
static int block_of(double frames) {
    const double most = FRAMES_AT_ONCE;
    return frames > 0 && frames < 1e15 ? (int)ceil(frames / ceil(frames / most)) : FRAMES_AT_ONCE;
}

/* `codebooks` 0: all the model has; `asked` is where that number comes from. `frames`: of the file,
 * 0 where that is not known. */
static int codec_run_open(codec_run *run, const arguments *args, int64_t codebooks,
                          const char *asked, double frames, app_error *err) {
    double started = app_now_s();
    const int block = block_of(frames);
    moshi_codec_options options = {.codebooks = (int)codebooks,
                                   .frames_per_call = 1,
                                   .flags = option_given(args, "whole") ? MOSHI_EXACT_MASK : 0,
                                   .calls_at_once = block};
    run->args = args;
    int rc = model_open_codec(&run->codec, args, options, asked, err);
    if (rc != EXIT_OK) return rc;
    moshi_codec_get_info(run->codec, &run->info);
    run->block = (size_t)block;
    run->pcm = calloc(run->block * (size_t)run->info.frame_samples, sizeof *run->pcm);
    run->codes = calloc(run->block * (size_t)run->info.codebooks, sizeof *run->codes);
    run->load_s = app_now_s() - started;
    progress_start(&run->bar, option_given(args, "quiet"));
    return run->pcm && run->codes ? EXIT_OK : app_no_memory(err);
}

/* With as many codebooks as -n says, for a recording. */
static int codec_run_open_n(codec_run *run, const arguments *args, const audio_in *in,
                            app_error *err) {
    return codec_run_open(run, args, option_of(args, "codebooks")->integer, "-n",
                          audio_in_facts(in)->seconds * FRAMES_PER_S, err);
}

static void codec_run_close(codec_run *run) {
    progress_clear(&run->bar);
    moshi_codec_close(run->codec);
    free(run->pcm);
    free(run->codes);
}

static void draw_progress(codec_run *run, double expected_frames) {
    char note[64];
    double seconds = (double)run->frames / run->info.frame_rate_hz;
    snprintf(note, sizeof note, "%.1f s done, %.3f of real time", seconds,
             (app_now_s() - run->bar.started_s) / seconds);
    progress_draw(&run->bar, (double)run->frames / (expected_frames + 1), note);
}

static void print_summary(codec_run *run) {
    double seconds = (double)run->frames / run->info.frame_rate_hz;
    double spent = app_now_s() - run->bar.started_s;
    const char *output = option_text(run->args, "output");
    progress_clear(&run->bar);
    if (option_given(run->args, "quiet")) return;
    fprintf(stderr,
            "moshi: %" PRId64
            " frame%s, %d codebook%s, %.2f s of audio in %.2f s (real-time factor "
            "%.4f), written to %s\n",
            run->frames, run->frames == 1 ? "" : "s", run->info.codebooks,
            run->info.codebooks == 1 ? "" : "s", seconds, spent, spent / seconds,
            is_standard_output(output) ? "standard output" : output);
}

/* Read up to a block of frames, the last one filled up with silence; *frames 0 at the end. */
static int read_frames(codec_run *run, audio_in *in, size_t *frames, app_error *err) {
    size_t frame = (size_t)run->info.frame_samples, got, want = run->block * frame;
    int rc = audio_in_read(in, run->pcm, want, &got, err);
    if (rc != EXIT_OK) return rc;
    *frames = (got + frame - 1) / frame;
    memset(run->pcm + got, 0, (want - got) * sizeof *run->pcm);
    return app_check_interrupted(err);
}

static int encode_block(codec_run *run, audio_in *in, size_t *frames, app_error *err) {
    int rc = read_frames(run, in, frames, err);
    if (rc != EXIT_OK || *frames == 0) return rc;
    int done = moshi_codec_encode(run->codec, run->pcm, *frames, run->codes);
    if (done < 0) return app_fail_library(err, done, moshi_codec_problem(run->codec));
    run->frames += (int64_t)*frames;
    draw_progress(run, audio_in_facts(in)->seconds * run->info.frame_rate_hz);
    return EXIT_OK;
}

static int decode_block(codec_run *run, size_t frames, audio_out *out, app_error *err) {
    int done = moshi_codec_decode(run->codec, run->codes, frames, run->pcm);
    if (done < 0) return app_fail_library(err, done, moshi_codec_problem(run->codec));
    return audio_out_write(out, run->pcm, frames * (size_t)run->info.frame_samples, err);
}

static int open_input(codec_run *run, audio_in *in, app_error *err) {
    audio_in_warn(in);
    if (!option_given(run->args, "quiet")) audio_in_note(in, run->info.sample_rate_hz);
    return audio_in_set_rate(in, run->info.sample_rate_hz, err);
}

/* ---- encode --------------------------------------------------------------------------------- */

/* Rows [frames, codebooks] -> array codes [codebooks, frames]. */
static int save_codes(const codec_run *run, const app_buffer *rows, tensors_out *out,
                      app_error *err) {
    int64_t n = run->info.codebooks, frames = run->frames, shape[] = {n, frames};
    const int32_t *from = (const int32_t *)(const void *)rows->data;
    int32_t *turned = malloc(rows->n);
    int index = tensors_out_add(out, "codes", TENSOR_I32, 2, shape);
    int rc = turned && index >= 0 ? tensors_out_start(out, err) : app_no_memory(err);
    if (rc == EXIT_OK) {
        for (int64_t f = 0; f < frames; f++)
            for (int64_t k = 0; k < n; k++) turned[k * frames + f] = from[f * n + k];
        rc = tensors_out_put(out, index, 0, turned, rows->n, err);
    }
    free(turned);
    return rc;
}

static int encode_all(codec_run *run, audio_in *in, tensors_out *out, app_error *err) {
    app_buffer rows = {0};
    size_t frames = 1;
    int rc = open_input(run, in, err);
    while (rc == EXIT_OK && frames > 0) {
        rc = encode_block(run, in, &frames, err);
        if (rc == EXIT_OK)
            rc = app_buffer_add(&rows, run->codes,
                                frames * (size_t)run->info.codebooks * sizeof *run->codes, err);
    }
    if (rc == EXIT_OK && run->frames == 0)
        rc = app_fail(err, EXIT_USAGE, "%s: has no samples", run->args->positional[0]);
    if (rc == EXIT_OK) audio_in_warn(in);
    if (rc == EXIT_OK) rc = save_codes(run, &rows, out, err);
    app_buffer_free(&rows);
    return rc;
}

static int run_encode(const arguments *args, app_error *err) {
    codec_run run = {0};
    audio_in *in = NULL;
    tensors_out *out = NULL;
    int rc = check_arguments(args, "encode", "codes.safetensors", err);
    if (rc == EXIT_OK) rc = audio_in_open(&in, args->positional[0], err);
    if (rc == EXIT_OK)
        rc = tensors_out_open(&out, option_text(args, "output"), args->positional[0],
                              OUTFILE_IN_ORDER, err);
    if (rc == EXIT_OK) rc = codec_run_open_n(&run, args, in, err);
    if (rc == EXIT_OK) rc = encode_all(&run, in, out, err);
    if (rc == EXIT_OK) rc = tensors_out_commit(out, err);
    if (rc == EXIT_OK) print_summary(&run);
    tensors_out_close(out);
    audio_in_close(in);
    codec_run_close(&run);
    return rc;
}

/* ---- decode --------------------------------------------------------------------------------- */

static int check_codes(const codec_run *run, const char *path, const int32_t *codes, int64_t n,
                       int64_t frames, app_error *err) {
    for (int64_t k = 0; k < n; k++)
        for (int64_t f = 0; f < frames; f++)
            if (codes[k * frames + f] < 0 || codes[k * frames + f] >= run->info.bins)
                return app_fail(err, EXIT_USAGE,
                                "%s: codes[%" PRId64 "][%" PRId64 "]: wanted 0..%d, found %" PRId32,
                                path, k, f, run->info.bins - 1, codes[k * frames + f]);
    return EXIT_OK;
}

static int decode_all(codec_run *run, const int32_t *codes, int64_t frames, audio_out *out,
                      app_error *err) {
    int64_t n = run->info.codebooks;
    int rc = audio_out_start(out, run->info.sample_rate_hz, err);
    while (rc == EXIT_OK && run->frames < frames) {
        int64_t left = frames - run->frames;
        size_t block = left < (int64_t)run->block ? (size_t)left : run->block;
        for (size_t f = 0; f < block; f++)
            for (int64_t k = 0; k < n; k++)
                run->codes[(int64_t)f * n + k] = codes[k * frames + run->frames + (int64_t)f];
        rc = decode_block(run, block, out, err);
        run->frames += (int64_t)block;
        draw_progress(run, (double)frames);
        if (rc == EXIT_OK) rc = app_check_interrupted(err);
    }
    return rc;
}

static int run_decode(const arguments *args, app_error *err) {
    codec_run run = {0};
    tensors_in *in = NULL;
    audio_out *out = NULL;
    int32_t *codes = NULL;
    int64_t shape[] = {-1, -1};
    int rc = check_arguments(args, "decode", "OUT.wav", err);
    if (rc == EXIT_OK) rc = tensors_in_open(&in, args->positional[0], err);
    if (rc == EXIT_OK) rc = tensors_in_read_i32(in, "codes", 2, shape, &codes, err);
    if (rc == EXIT_OK && (shape[0] < 1 || shape[0] > 4096 || shape[1] < 1))
        rc = app_fail(err, EXIT_USAGE,
                      "%s: array 'codes': wanted [codebooks, frames], both at least 1, found "
                      "[%" PRId64 ", %" PRId64 "]",
                      args->positional[0], shape[0], shape[1]);
    if (rc == EXIT_OK)
        rc = audio_out_open(&out, option_text(args, "output"), args->positional[0],
                            option_given(args, "float"), err);
    if (rc == EXIT_OK)
        rc = codec_run_open(&run, args, shape[0], args->positional[0], (double)shape[1], err);
    if (rc == EXIT_OK) rc = check_codes(&run, args->positional[0], codes, shape[0], shape[1], err);
    if (rc == EXIT_OK) rc = decode_all(&run, codes, shape[1], out, err);
    if (rc == EXIT_OK) rc = audio_out_commit(out, err);
    if (rc == EXIT_OK) print_summary(&run);
    audio_out_close(out);
    tensors_in_close(in);
    codec_run_close(&run);
    free(codes);
    return rc;
}

/* ---- roundtrip ------------------------------------------------------------------------------ */

static int roundtrip_all(codec_run *run, audio_in *in, audio_out *out, app_error *err) {
    int rc = open_input(run, in, err);
    if (rc == EXIT_OK) rc = audio_out_start(out, run->info.sample_rate_hz, err);
    for (size_t frames = 1; rc == EXIT_OK && frames > 0;) {
        rc = encode_block(run, in, &frames, err);
        if (rc == EXIT_OK && frames > 0) rc = decode_block(run, frames, out, err);
    }
    if (rc == EXIT_OK) audio_in_warn(in);
    if (rc == EXIT_OK && run->frames == 0)
        rc = app_fail(err, EXIT_USAGE, "%s: has no samples", run->args->positional[0]);
    return rc;
}

static int run_roundtrip(const arguments *args, app_error *err) {
    codec_run run = {0};
    audio_in *in = NULL;
    audio_out *out = NULL;
    int rc = check_arguments(args, "roundtrip", "OUT.wav", err);
    if (rc == EXIT_OK) rc = audio_in_open(&in, args->positional[0], err);
    if (rc == EXIT_OK)
        rc = audio_out_open(&out, option_text(args, "output"), args->positional[0],
                            option_given(args, "float"), err);
    if (rc == EXIT_OK) rc = codec_run_open_n(&run, args, in, err);
    if (rc == EXIT_OK) rc = roundtrip_all(&run, in, out, err);
    if (rc == EXIT_OK) rc = audio_out_commit(out, err);
    if (rc == EXIT_OK) print_summary(&run);
    audio_out_close(out);
    audio_in_close(in);
    codec_run_close(&run);
    return rc;
}

/* ---- tables --------------------------------------------------------------------------------- */

#define OUTPUT_OPTION(what) \
    { .name = "output", .letter = 'o', .kind = OPTION_TEXT, .value = what, .help = "the result" }
#define CODEBOOKS_OPTION                                                                    \
    {                                                                                       \
        .name = "codebooks", .letter = 'n', .kind = OPTION_INTEGER, .value = "N", .min = 1, \
        .max = 64, .help = "use the first N codebooks (default: all the model has)"         \
    }
#define WHOLE_OPTION                                                                            \
    {                                                                                           \
        .name = "whole", .kind = OPTION_FLAG,                                                   \
        .help =                                                                                 \
            "the non-streaming form: transformers see their whole context (default: as a live " \
            "stream, frame by frame, like the reference)"                                       \
    }
#define FLOAT_OPTION                                                     \
    {                                                                    \
        .name = "float", .kind = OPTION_FLAG,                            \
        .help = "write 32-bit float samples (wav only; default: 16 bit)" \
    }
#define QUIET_OPTION \
    { .name = "quiet", .kind = OPTION_FLAG, .help = "no progress, notes or summary" }

static const option_spec ENCODE_SPECS[] = {OUTPUT_OPTION("FILE"), CODEBOOKS_OPTION, WHOLE_OPTION,
                                           MODEL_OPTION,          THREADS_OPTION,   DEVICE_OPTION,
                                           EXACT_OPTION,          QUIET_OPTION};
static const option_spec DECODE_SPECS[] = {
    OUTPUT_OPTION("OUT.wav"), WHOLE_OPTION,  FLOAT_OPTION, MODEL_OPTION,
    THREADS_OPTION,           DEVICE_OPTION, EXACT_OPTION, QUIET_OPTION};
static const option_spec ROUNDTRIP_SPECS[] = {
    OUTPUT_OPTION("OUT.wav"), CODEBOOKS_OPTION, WHOLE_OPTION, FLOAT_OPTION, MODEL_OPTION,
    THREADS_OPTION,           DEVICE_OPTION,    EXACT_OPTION, QUIET_OPTION};

#define MODELS_TEXT                                                                                \
    "MODEL may also be a directory that holds a codec alone (its config.json is Mimi's own), or\n" \
    "the published Mimi file."

const verb verb_codec_encode = {
    .name = "codec encode",
    .usage = "IN -o codes.safetensors [options]",
    .summary = "audio to codes",
    .text = "Writes the array codes [codebooks, frames] (I32). IN is any audio file; a last frame\n"
            "that is not full is filled up with silence.\n" MODELS_TEXT,
    .example = "  moshi codec encode speech.wav -o codes.safetensors -n 8",
    VERB_OPTIONS(ENCODE_SPECS),
    .max_positional = 1,
    .run = run_encode,
};

const verb verb_codec_decode = {
    .name = "codec decode",
    .usage = "codes.safetensors -o OUT.wav [options]",
    .summary = "codes to audio",
    .text = "Reads the array codes [codebooks, frames] (I32); the number of codebooks comes from\n"
            "the file.\n" MODELS_TEXT,
    .example = "  moshi codec decode codes.safetensors -o speech.wav",
    VERB_OPTIONS(DECODE_SPECS),
    .max_positional = 1,
    .run = run_decode,
};

const verb verb_codec_roundtrip = {
    .name = "codec roundtrip",
    .usage = "IN -o OUT.wav [options]",
    .summary = "audio to codes and back: how the codec sounds",
    .text = "IN is any audio file.\n" MODELS_TEXT,
    .example = "  moshi codec roundtrip speech.wav -o coded.wav -n 8",
    VERB_OPTIONS(ROUNDTRIP_SPECS),
    .max_positional = 1,
    .run = run_roundtrip,
};
