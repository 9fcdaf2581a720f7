/* audiofile.c - reading through libsndfile, and a small wav writer. */
#include "audiofile.h"

#include "resample.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <sndfile.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_FRAMES = 4096, WAV_BLOCK = 1 << 16, WAV_HEADER = 44 };

/* Files with integers stored as floats reach 32768; speech recorded far too hot stays below 64. */
static const float LOUDEST = 64.0f;
/* No codec packs more than this many samples into a byte of file (FLAC silence is the densest, at
 * 65535 samples in some 14 bytes); headers that claim more are lying. */
static const int64_t FRAMES_PER_BYTE = 8192;

struct audio_in {
    char *path;
    SNDFILE *file;
    audio_facts facts;
    resampler *resampler;
    float *block;       /* [READ_FRAMES, channels] as read; mixed down in place */
    size_t ready, used; /* mono samples in block, and how many of them went on */
    int64_t frames_read;
    bool ended;
};

/* Open for reading, refusing what cannot be audio before libsndfile sees it. */
static int open_regular(const char *path, int *fd, int64_t *bytes, app_error *err) {
    struct stat st;
    *fd = -1;
    if (stat(path, &st) != 0)
        return app_fail(err, EXIT_USAGE, "%s: cannot open: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return app_fail(err, EXIT_USAGE, "%s: is a directory; wanted an audio file", path);
    if (!S_ISREG(st.st_mode))
        return app_fail(err, EXIT_USAGE,
                        "%s: is not a regular file; wanted an audio file that can be read from any "
                        "position",
                        path);
    if (st.st_size == 0)
        return app_fail(err, EXIT_USAGE, "%s: is empty; wanted an audio file", path);
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0) return app_fail(err, EXIT_USAGE, "%s: cannot open: %s", path, strerror(errno));
    *bytes = (int64_t)st.st_size;
    /* libsndfile's reader of this one format prints to standard output when a file is damaged. */
    unsigned char magic[2];
    if (pread(*fd, magic, 2, 0) == 2 && magic[0] == 0xf0 && magic[1] == 0x7e) {
        close(*fd);
        return app_fail(err, EXIT_USAGE,
                        "%s: is a MIDI sample dump; wanted wav, FLAC, Ogg or alike", path);
    }
    return EXIT_OK;
}

static void describe_format(audio_facts *facts, int format) {
    SF_FORMAT_INFO major = {.format = format & SF_FORMAT_TYPEMASK};
    SF_FORMAT_INFO sub = {.format = format & SF_FORMAT_SUBMASK};
    if (sf_command(NULL, SFC_GET_FORMAT_INFO, &major, sizeof major) != 0) major.name = "audio";
    if (sf_command(NULL, SFC_GET_FORMAT_INFO, &sub, sizeof sub) != 0) sub.name = "unknown encoding";
    snprintf(facts->format, sizeof facts->format, "%s, %s", major.name ? major.name : "audio",
             sub.name ? sub.name : "unknown encoding");
}

static int check_header(const char *path, const SF_INFO *info, int64_t bytes, app_error *err) {
    if (info->samplerate < RESAMPLE_MIN_HZ || info->samplerate > RESAMPLE_MAX_HZ)
        return app_fail(err, EXIT_USAGE, "%s: sample rate: wanted %d..%d Hz, found %d", path,
                        RESAMPLE_MIN_HZ, RESAMPLE_MAX_HZ, info->samplerate);
    if (info->channels < 1 || info->channels > AUDIO_MAX_CHANNELS)
        return app_fail(err, EXIT_USAGE, "%s: channels: wanted 1..%d, found %d", path,
                        AUDIO_MAX_CHANNELS, info->channels);
    /* SF_COUNT_MAX is libsndfile's way of saying that the length is not known. */
    if (info->frames < 0 ||
        (info->frames != SF_COUNT_MAX && info->frames / FRAMES_PER_BYTE > bytes))
        return app_fail(err, EXIT_USAGE,
                        "%s: damaged: its header claims %" PRId64 " samples in %" PRId64 " bytes",
                        path, (int64_t)info->frames, bytes);
    return EXIT_OK;
}

static int open_sound(audio_in *in, int fd, int64_t bytes, app_error *err) {
    SF_INFO info = {0};
    /* libsndfile owns the descriptor from here on, also when it fails. */
    in->file = sf_open_fd(fd, SFM_READ, &info, SF_TRUE);
    if (!in->file)
        return app_fail(err, EXIT_USAGE, "%s: not an audio file this program can read: %s",
                        in->path, sf_strerror(NULL));
    int rc = check_header(in->path, &info, bytes, err);
    if (rc != EXIT_OK) return rc;
    in->facts.rate_hz = info.samplerate;
    in->facts.channels = info.channels;
    in->facts.frames = info.frames == SF_COUNT_MAX ? 0 : (int64_t)info.frames;
    in->facts.seconds = (double)in->facts.frames / info.samplerate;
    describe_format(&in->facts, info.format);
    in->block = malloc(sizeof *in->block * READ_FRAMES * (size_t)info.channels);
    return in->block ? EXIT_OK : app_no_memory(err);
}

int audio_in_open(audio_in **out, const char *path, app_error *err) {
    int fd;
    int64_t bytes = 0;
    *out = NULL;
    int rc = open_regular(path, &fd, &bytes, err);
    if (rc != EXIT_OK) return rc;
    audio_in *in = calloc(1, sizeof *in);
    if (in) in->path = strdup(path);
    if (!in || !in->path) {
        close(fd);
        audio_in_close(in);
        return app_no_memory(err);
    }
    rc = open_sound(in, fd, bytes, err);
    if (rc == EXIT_OK) rc = audio_in_set_rate(in, in->facts.rate_hz, err);
    if (rc != EXIT_OK) {
        audio_in_close(in);
        return rc;
    }
    *out = in;
    return EXIT_OK;
}

const audio_facts *audio_in_facts(const audio_in *in) {
    return &in->facts;
}

int audio_in_set_rate(audio_in *in, int rate_hz, app_error *err) {
    if (rate_hz < RESAMPLE_MIN_HZ || rate_hz > RESAMPLE_MAX_HZ)
        return app_fail(err, EXIT_MODEL, "the model's sample rate: wanted %d..%d Hz, found %d",
                        RESAMPLE_MIN_HZ, RESAMPLE_MAX_HZ, rate_hz);
    resampler_close(in->resampler);
    in->resampler = resampler_open(in->facts.rate_hz, rate_hz);
    return in->resampler ? EXIT_OK : app_no_memory(err);
}

/* Average the channels of block in place and refuse samples that are not audio. */
static int mix_down(audio_in *in, size_t frames, app_error *err) {
    size_t channels = (size_t)in->facts.channels;
    for (size_t i = 0; i < frames; i++) {
        const float *x = in->block + i * channels;
        double sum = 0;
        for (size_t c = 0; c < channels; c++) {
            if (!(fabsf(x[c]) <= LOUDEST))
                return app_fail(err, EXIT_USAGE,
                                "%s: sample %" PRId64 " of channel %zu: wanted a value within "
                                "-1..1, found %g",
                                in->path, in->frames_read + (int64_t)i, c + 1, (double)x[c]);
            sum += (double)x[c];
        }
        in->block[i] = channels == 1 ? x[0] : (float)(sum / (double)channels);
    }
    return EXIT_OK;
}

static int read_block(audio_in *in, app_error *err) {
    sf_count_t got = sf_readf_float(in->file, in->block, READ_FRAMES);
    if (got < 0 || got > READ_FRAMES) got = 0;
    if (got == 0) {
        if (sf_error(in->file) != SF_ERR_NO_ERROR)
            return app_fail(err, EXIT_USAGE, "%s: damaged after %" PRId64 " samples: %s", in->path,
                            in->frames_read, sf_strerror(in->file));
        in->ended = true;
        resampler_end(in->resampler);
        return EXIT_OK;
    }
    int rc = mix_down(in, (size_t)got, err);
    in->frames_read += got;
    in->ready = (size_t)got;
    in->used = 0;
    return rc;
}

int audio_in_read(audio_in *in, float *pcm, size_t n, size_t *got, app_error *err) {
    *got = 0;
    while (*got < n) {
        size_t more = resampler_pull(in->resampler, pcm + *got, n - *got);
        *got += more;
        if (more > 0) continue;
        if (in->ended) break;
        if (in->used == in->ready) {
            int rc = read_block(in, err);
            if (rc != EXIT_OK) return rc;
        }
        if (!in->ended)
            in->used += resampler_push(in->resampler, in->block + in->used, in->ready - in->used);
    }
    return EXIT_OK;
}

void audio_in_close(audio_in *in) {
    if (!in) return;
    if (in->file) sf_close(in->file);
    resampler_close(in->resampler);
    free(in->block);
    free(in->path);
    free(in);
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

static size_t bytes_per_sample(const wav_out *wav) {
    return wav->is_float ? 4 : 2;
}

/* A length of all ones is what players take for "until the end", for outputs without seeking. */
static void make_header(const wav_out *wav, uint32_t data_bytes, uint8_t *header) {
    uint32_t width = (uint32_t)bytes_per_sample(wav), rate = (uint32_t)wav->rate_hz;
    memcpy(header, "RIFF", 4);
    put_u32(header + 4, data_bytes == UINT32_MAX ? UINT32_MAX : data_bytes + WAV_HEADER - 8);
    memcpy(header + 8, "WAVEfmt ", 8);
    put_u32(header + 16, 16);
    put_u16(header + 20, wav->is_float ? 3 : 1);
    put_u16(header + 22, 1);
    put_u32(header + 24, rate);
    put_u32(header + 28, rate * width);
    put_u16(header + 32, width);
    put_u16(header + 34, 8 * width);
    memcpy(header + 36, "data", 4);
    put_u32(header + 40, data_bytes);
}

int wav_out_open(wav_out *wav, const char *path, const char *not_this, bool is_float,
                 app_error *err) {
    memset(wav, 0, sizeof *wav);
    wav->is_float = is_float;
    int rc = outfile_open(&wav->file, path, not_this, err);
    if (rc != EXIT_OK) return rc;
    wav->block = malloc(WAV_BLOCK);
    if (wav->block) return EXIT_OK;
    wav_out_close(wav);
    return app_no_memory(err);
}

int wav_out_start(wav_out *wav, int rate_hz, app_error *err) {
    uint8_t header[WAV_HEADER];
    wav->rate_hz = rate_hz;
    make_header(wav, UINT32_MAX, header);
    return outfile_write(&wav->file, header, sizeof header, err);
}

static int flush_block(wav_out *wav, app_error *err) {
    int rc = outfile_write(&wav->file, wav->block, wav->pending, err);
    wav->pending = 0;
    return rc;
}

static void put_sample(wav_out *wav, float x) {
    uint8_t *at = wav->block + wav->pending;
    wav->pending += bytes_per_sample(wav);
    wav->samples++;
    if (wav->is_float) {
        uint32_t bits;
        memcpy(&bits, &x, sizeof bits);
        put_u32(at, bits);
        return;
    }
    float scaled = x * 32768.0f;
    bool low = scaled<-32768.0f, high = scaled> 32767.0f;
    wav->clipped += low || high;
    int value = low ? -32768 : high ? 32767 : (int)lrintf(scaled);
    put_u16(at, (unsigned)value & 0xffff);
}

int wav_out_write(wav_out *wav, const float *pcm, size_t n, app_error *err) {
    /* A wav file counts its bytes in 32 bits. */
    uint64_t limit = (UINT32_MAX - WAV_HEADER) / bytes_per_sample(wav) - 1;
    if (wav->samples + n > limit)
        return app_fail(err, EXIT_USAGE, "%s: wav files end at 4 GiB, and the output is longer",
                        wav->file.path);
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(pcm[i]))
            return app_fail(err, EXIT_INTERNAL, "sample %" PRIu64 " of the output is not a number",
                            wav->samples);
        put_sample(wav, pcm[i]);
        if (wav->pending == WAV_BLOCK) {
            int rc = flush_block(wav, err);
            if (rc != EXIT_OK) return rc;
        }
    }
    return EXIT_OK;
}

int wav_out_commit(wav_out *wav, app_error *err) {
    uint8_t header[WAV_HEADER];
    int rc = flush_block(wav, err);
    if (rc == EXIT_OK && outfile_can_seek(&wav->file)) {
        make_header(wav, (uint32_t)(wav->samples * bytes_per_sample(wav)), header);
        rc = outfile_write_at(&wav->file, 0, header, sizeof header, err);
    }
    if (rc == EXIT_OK) rc = outfile_commit(&wav->file, err);
    wav_out_close(wav);
    return rc;
}

void wav_out_close(wav_out *wav) {
    outfile_close(&wav->file);
    free(wav->block);
    wav->block = NULL;
}
