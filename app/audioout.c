/* audioout.c - a wav writer, and libsndfile writing into an outfile. */
#include "audioout.h"

#include <inttypes.h>
#include <math.h>
#include <sndfile.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    BLOCK_BYTES = 1 << 16,
    WAV_HEADER = 44,
    MP3 = 0x230082 /* SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III, unknown to libsndfile < 1.1 */
};

typedef struct audio_kind {
    const char *ending;
    int format; /* of libsndfile; 0: wav */
} audio_kind;

static const audio_kind KINDS[] = {
    {"wav", 0},
    {"flac", SF_FORMAT_FLAC | SF_FORMAT_PCM_16},
    {"ogg", SF_FORMAT_OGG | SF_FORMAT_VORBIS},
    {"opus", SF_FORMAT_OGG | SF_FORMAT_OPUS},
    {"mp3", MP3},
};
enum { N_KINDS = sizeof KINDS / sizeof KINDS[0] };
static const char ENDINGS[] = ".wav, .flac, .ogg, .opus or .mp3";

struct audio_out {
    outfile file;
    const audio_kind *kind;
    int rate_hz;
    bool is_float;
    uint64_t samples, clipped;
    size_t pending; /* bytes in block */
    uint8_t *block; /* [BLOCK_BYTES], little endian as in the file */
    /* libsndfile's view of the file */
    SNDFILE *sound;
    sf_count_t at, length;
    app_error failed; /* of a callback, which has no way to return one */
};

/* ---- which kind ----------------------------------------------------------------------------- */

/* What follows the last dot of the file's own name, or "". */
static const char *ending_of(const char *path) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    const char *dot = strrchr(name, '.');
    return dot && dot > name ? dot + 1 : "";
}

static int choose_kind(audio_out *out, const char *path, app_error *err) {
    const char *ending = ending_of(path);
    out->kind = *ending ? NULL : &KINDS[0];
    for (int i = 0; !out->kind && i < N_KINDS; i++)
        if (!strcasecmp(ending, KINDS[i].ending)) out->kind = &KINDS[i];
    if (!out->kind)
        return app_fail(err, EXIT_USAGE, "%s: wanted a name that ends in %s, found .%s", path,
                        ENDINGS, ending);
    if (out->is_float && out->kind->format)
        return app_fail(err, EXIT_USAGE, "--float: wanted an output that ends in .wav, found %s",
                        path);
    return EXIT_OK;
}

int audio_out_open(audio_out **made, const char *path, const char *not_this, bool is_float,
                   app_error *err) {
    *made = NULL;
    audio_out *out = calloc(1, sizeof *out);
    if (!out) return app_no_memory(err);
    out->is_float = is_float;
    int rc = choose_kind(out, path, err);
    if (rc == EXIT_OK)
        rc = outfile_open(&out->file, path, not_this,
                          out->kind->format ? OUTFILE_ANYWHERE : OUTFILE_IN_ORDER, err);
    if (rc == EXIT_OK) out->block = malloc(BLOCK_BYTES);
    if (rc == EXIT_OK && !out->block) rc = app_no_memory(err);
    if (rc != EXIT_OK) {
        audio_out_close(out);
        return rc;
    }
    *made = out;
    return EXIT_OK;
}

/* ---- wav ------------------------------------------------------------------------------------ */

static void put_u16(uint8_t *at, unsigned v) {
    at[0] = (uint8_t)v;
    at[1] = (uint8_t)(v >> 8);
}

static void put_u32(uint8_t *at, uint32_t v) {
    put_u16(at, v & 0xffff);
    put_u16(at + 2, v >> 16);
}

static size_t bytes_per_sample(const audio_out *out) {
    return out->is_float ? 4 : 2;
}

/* A length of all ones is what players take for "until the end", for outputs without seeking. */
static void make_header(const audio_out *out, uint32_t data_bytes, uint8_t *header) {
    uint32_t width = (uint32_t)bytes_per_sample(out), rate = (uint32_t)out->rate_hz;
    memcpy(header, "RIFF", 4);
    put_u32(header + 4, data_bytes == UINT32_MAX ? UINT32_MAX : data_bytes + WAV_HEADER - 8);
    memcpy(header + 8, "WAVEfmt ", 8);
    put_u32(header + 16, 16);
    put_u16(header + 20, out->is_float ? 3 : 1);
    put_u16(header + 22, 1);
    put_u32(header + 24, rate);
    put_u32(header + 28, rate * width);
    put_u16(header + 32, width);
    put_u16(header + 34, 8 * width);
    memcpy(header + 36, "data", 4);
    put_u32(header + 40, data_bytes);
}

static int finish_wav(audio_out *out, app_error *err) {
    uint8_t header[WAV_HEADER];
    if (!outfile_can_seek(&out->file)) return EXIT_OK;
    make_header(out, (uint32_t)(out->samples * bytes_per_sample(out)), header);
    return outfile_write_at(&out->file, 0, header, sizeof header, err);
}

/* ---- libsndfile ----------------------------------------------------------------------------- */

static sf_count_t sound_length(void *user) {
    return ((audio_out *)user)->length;
}

static sf_count_t sound_seek(sf_count_t offset, int whence, void *user) {
    audio_out *out = user;
    sf_count_t from = whence == SEEK_CUR ? out->at : whence == SEEK_END ? out->length : 0;
    if (from + offset < 0) return -1;
    return out->at = from + offset;
}

static sf_count_t sound_tell(void *user) {
    return ((audio_out *)user)->at;
}

/* Nothing is ever read back from a file that is being written. */
static sf_count_t sound_read(void *data, sf_count_t n, void *user) {
    (void)data;
    (void)n;
    (void)user;
    return 0;
}

static sf_count_t sound_write(const void *data, sf_count_t n, void *user) {
    audio_out *out = user;
    if (out->failed.exit_code || n <= 0) return 0;
    if (outfile_write_at(&out->file, (uint64_t)out->at, data, (size_t)n, &out->failed) != EXIT_OK)
        return 0;
    out->at += n;
    if (out->at > out->length) out->length = out->at;
    return n;
}

static int start_sound(audio_out *out, app_error *err) {
    SF_VIRTUAL_IO io = {sound_length, sound_seek, sound_read, sound_write, sound_tell};
    SF_INFO info = {.samplerate = out->rate_hz, .channels = 1, .format = out->kind->format};
    if (sf_format_check(&info)) out->sound = sf_open_virtual(&io, SFM_WRITE, &info, out);
    if (out->sound) return EXIT_OK;
    if (out->failed.exit_code) return *err = out->failed, err->exit_code;
    return app_fail(err, EXIT_USAGE,
                    "%s: libsndfile cannot write .%s at %d Hz (%s); .wav is always possible",
                    out->file.path, out->kind->ending, out->rate_hz, sf_strerror(NULL));
}

/* Writes what the encoder still holds. */
static int finish_sound(audio_out *out, app_error *err) {
    int code = sf_close(out->sound);
    out->sound = NULL;
    if (out->failed.exit_code) return *err = out->failed, err->exit_code;
    if (code == SF_ERR_NO_ERROR) return EXIT_OK;
    return app_fail(err, EXIT_USAGE, "%s: cannot write: %s", out->file.path, sf_error_number(code));
}

/* ---- samples -------------------------------------------------------------------------------- */

int audio_out_start(audio_out *out, int rate_hz, app_error *err) {
    uint8_t header[WAV_HEADER];
    out->rate_hz = rate_hz;
    if (out->kind->format) return start_sound(out, err);
    make_header(out, UINT32_MAX, header);
    return outfile_write(&out->file, header, sizeof header, err);
}

static int flush_block(audio_out *out, app_error *err) {
    size_t n = out->pending;
    out->pending = 0;
    if (!out->sound) return outfile_write(&out->file, out->block, n, err);
    sf_count_t samples = (sf_count_t)(n / sizeof(short));
    sf_count_t done = sf_write_short(out->sound, (const short *)(const void *)out->block, samples);
    if (out->failed.exit_code) return *err = out->failed, err->exit_code;
    if (done == samples) return EXIT_OK;
    return app_fail(err, EXIT_USAGE, "%s: cannot write: %s", out->file.path,
                    sf_strerror(out->sound));
}

static void put_sample(audio_out *out, float x) {
    uint8_t *at = out->block + out->pending;
    out->pending += bytes_per_sample(out);
    out->samples++;
    if (out->is_float) {
        uint32_t bits;
        memcpy(&bits, &x, sizeof bits);
        put_u32(at, bits);
        return;
    }
    float scaled = x * 32768.0f;
    bool low = scaled<-32768.0f, high = scaled> 32767.0f;
    out->clipped += low || high;
    int value = low ? -32768 : high ? 32767 : (int)lrintf(scaled);
    put_u16(at, (unsigned)value & 0xffff);
}

int audio_out_write(audio_out *out, const float *pcm, size_t n, app_error *err) {
    /* A wav file counts its bytes in 32 bits. */
    uint64_t limit = (UINT32_MAX - WAV_HEADER) / bytes_per_sample(out) - 1;
    if (!out->sound && out->samples + n > limit)
        return app_fail(err, EXIT_USAGE, "%s: wav files end at 4 GiB, and the output is longer",
                        out->file.path);
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(pcm[i]))
            return app_fail(err, EXIT_INTERNAL, "sample %" PRIu64 " of the output is not a number",
                            out->samples);
        put_sample(out, pcm[i]);
        if (out->pending == BLOCK_BYTES) {
            int rc = flush_block(out, err);
            if (rc != EXIT_OK) return rc;
        }
    }
    /* Who reads a pipe may be listening. */
    return outfile_can_seek(&out->file) ? EXIT_OK : flush_block(out, err);
}

int audio_out_commit(audio_out *out, app_error *err) {
    int rc = flush_block(out, err);
    if (rc == EXIT_OK) rc = out->sound ? finish_sound(out, err) : finish_wav(out, err);
    return rc == EXIT_OK ? outfile_commit(&out->file, err) : rc;
}

uint64_t audio_out_clipped(const audio_out *out) {
    return out->clipped;
}

void audio_out_close(audio_out *out) {
    if (!out) return;
    if (out->sound) sf_close(out->sound);
    outfile_close(&out->file);
    free(out->block);
    free(out);
}
