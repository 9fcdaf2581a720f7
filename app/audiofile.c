/* audiofile.c - reading through libsndfile, and what may be said about a file. */
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

enum { READ_FRAMES = 4096, MAX_CHUNKS = 1000 };

/* Files with integers stored as floats reach 32768; speech recorded far too hot stays below 64. */
static const float LOUDEST = 64.0f;
/* No codec packs more than this many samples into a byte of file (FLAC silence is the densest, at
 * 65535 samples in some 14 bytes); headers that claim more are lying. */
static const int64_t FRAMES_PER_BYTE = 8192;

/* Lengths in headers of lossy formats are right to a few of their frames. */
static const double SLACK_S = 0.2;

struct audio_in {
    char *path;
    SNDFILE *file;
    const char *memory; /* the whole file, when it lies in memory */
    size_t memory_bytes, memory_at;
    audio_facts facts;
    resampler *resampler;
    float *block;       /* [READ_FRAMES, channels] as read; mixed down in place */
    size_t ready, used; /* mono samples in block, and how many of them went on */
    int64_t frames_read;
    bool ended, warned;
};

/* Open for reading, refusing what cannot be audio before libsndfile sees it. */
static int open_regular(const char *path, int *fd, int64_t *bytes, app_error *err) {
    struct stat st;
    *fd = -1;
    if (!path[0]) return app_fail(err, EXIT_USAGE, "the name of the audio file is empty");
    if (stat(path, &st) != 0 && !strcmp(path, "-"))
        return app_fail(err, EXIT_USAGE,
                        "-: standard input is not read; wanted an audio file that can be read from "
                        "any position");
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

static int fail_rate(const char *path, int found, app_error *err) {
    return app_fail(err, EXIT_USAGE, "%s: sample rate: wanted %d..%d Hz, found %d", path,
                    RESAMPLE_MIN_HZ, RESAMPLE_MAX_HZ, found);
}

static int check_header(const char *path, const SF_INFO *info, int64_t bytes, app_error *err) {
    if (info->samplerate < RESAMPLE_MIN_HZ || info->samplerate > RESAMPLE_MAX_HZ)
        return fail_rate(path, info->samplerate, err);
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

static uint64_t number(const unsigned char *at, int bytes, bool big_endian) {
    uint64_t n = 0;
    for (int i = 0; i < bytes; i++) n = n << 8 | at[big_endian ? i : bytes - 1 - i];
    return n;
}

/* What a wav or AIFF file says of itself in ways that libsndfile keeps to itself. */
typedef struct chunk_facts {
    bool zero_rate;
    uint64_t held, missing; /* bytes of samples: there, and promised beyond the end of the file */
} chunk_facts;

/* Look at one chunk, whose first bytes are in `head`; true when it was the last of interest. */
static bool read_chunk(const unsigned char head[24], bool aiff, uint64_t n, uint64_t wide_size,
                       uint64_t left, chunk_facts *facts) {
    if (!memcmp(head, "fmt ", 4)) facts->zero_rate = number(head + 12, 4, false) == 0;
    if (memcmp(head, aiff ? "SSND" : "data", 4) != 0) return false;
    /* Writers that cannot go back leave a length of this size: it promises nothing. */
    if (n >= 0x7ffff000) n = wide_size;
    facts->held = left;
    facts->missing = n > left ? n - left : 0;
    return true;
}

/* Walk over the chunks of a wav (also big-endian, or with 64-bit sizes) or AIFF file. */
static void read_chunks(int fd, uint64_t size, chunk_facts *facts) {
    unsigned char head[24] = {0};
    if (pread(fd, head, 12, 0) != 12) return;
    bool wide = !memcmp(head, "RF64", 4), big = !memcmp(head, "RIFX", 4);
    bool aiff = !memcmp(head, "FORM", 4);
    if (!wide && !big && !aiff && memcmp(head, "RIFF", 4) != 0) return;
    uint64_t at = 12, wide_size = 0;
    for (int i = 0; i < MAX_CHUNKS && at + 8 <= size; i++) {
        memset(head, 0xff, sizeof head);
        if (pread(fd, head, sizeof head, (off_t)at) < 8) return;
        uint64_t n = number(head + 4, 4, big || aiff);
        if (wide && !memcmp(head, "ds64", 4)) wide_size = number(head + 16, 8, false);
        if (read_chunk(head, aiff, n, wide_size, size - at - 8, facts)) return;
        at += 8 + n + (n & 1);
    }
}

/* What libsndfile found in a file of that many bytes; `in->file` is open, or NULL. */
static int take_sound(audio_in *in, const SF_INFO *info, int64_t bytes, const chunk_facts *chunks,
                      app_error *err) {
    if (!in->file && chunks->zero_rate) return fail_rate(in->path, 0, err);
    if (!in->file)
        return app_fail(err, EXIT_USAGE, "%s: not an audio file this program can read: %s",
                        in->path, sf_strerror(NULL));
    int rc = check_header(in->path, info, bytes, err);
    if (rc != EXIT_OK) return rc;
    in->facts.rate_hz = info->samplerate;
    in->facts.channels = info->channels;
    in->facts.frames = info->frames == SF_COUNT_MAX ? 0 : (int64_t)info->frames;
    in->facts.seconds = (double)in->facts.frames / info->samplerate;
    if (chunks->missing && chunks->held)
        in->facts.promised_s =
            in->facts.seconds * ((double)chunks->missing / (double)chunks->held + 1);
    describe_format(&in->facts, info->format);
    in->block = malloc(sizeof *in->block * READ_FRAMES * (size_t)info->channels);
    return in->block ? audio_in_set_rate(in, in->facts.rate_hz, err) : app_no_memory(err);
}

static audio_in *make_input(const char *name) {
    audio_in *in = calloc(1, sizeof *in);
    if (in) in->path = strdup(name);
    if (in && in->path) return in;
    free(in);
    return NULL;
}

int audio_in_open(audio_in **out, const char *path, app_error *err) {
    int fd;
    int64_t bytes = 0;
    *out = NULL;
    int rc = open_regular(path, &fd, &bytes, err);
    if (rc != EXIT_OK) return rc;
    audio_in *in = make_input(path);
    if (!in) {
        close(fd);
        return app_no_memory(err);
    }
    SF_INFO info = {0};
    chunk_facts chunks = {0};
    read_chunks(fd, (uint64_t)bytes, &chunks);
    /* libsndfile owns the descriptor from here on, also when it fails. */
    in->file = sf_open_fd(fd, SFM_READ, &info, SF_TRUE);
    rc = take_sound(in, &info, bytes, &chunks, err);
    if (rc == EXIT_OK) *out = in;
    if (rc != EXIT_OK) audio_in_close(in);
    return rc;
}

/* ---- from memory ---------------------------------------------------------------------------- */

static sf_count_t memory_length(void *user) {
    return (sf_count_t)((audio_in *)user)->memory_bytes;
}

static sf_count_t memory_seek(sf_count_t offset, int whence, void *user) {
    audio_in *in = user;
    sf_count_t size = (sf_count_t)in->memory_bytes;
    sf_count_t from = whence == SEEK_CUR   ? (sf_count_t)in->memory_at
                      : whence == SEEK_END ? size
                                           : 0;
    if (from + offset < 0 || from + offset > size) return -1;
    in->memory_at = (size_t)(from + offset);
    return from + offset;
}

static sf_count_t memory_read(void *to, sf_count_t count, void *user) {
    audio_in *in = user;
    size_t left = in->memory_bytes - in->memory_at, n = (size_t)count < left ? (size_t)count : left;
    memcpy(to, in->memory + in->memory_at, n);
    in->memory_at += n;
    return (sf_count_t)n;
}

static sf_count_t memory_tell(void *user) {
    return (sf_count_t)((audio_in *)user)->memory_at;
}

int audio_in_open_memory(audio_in **out, const char *name, const void *data, size_t n,
                         app_error *err) {
    SF_VIRTUAL_IO io = {.get_filelen = memory_length,
                        .seek = memory_seek,
                        .read = memory_read,
                        .tell = memory_tell};
    SF_INFO info = {0};
    audio_in *in = make_input(name);
    *out = NULL;
    if (!in) return app_no_memory(err);
    in->memory = data;
    in->memory_bytes = n;
    in->file = sf_open_virtual(&io, SFM_READ, &info, in);
    int rc = take_sound(in, &info, (int64_t)n, &(chunk_facts){0}, err);
    if (rc == EXIT_OK) *out = in;
    if (rc != EXIT_OK) audio_in_close(in);
    return rc;
}

const audio_facts *audio_in_facts(const audio_in *in) {
    return &in->facts;
}

void audio_in_warn(audio_in *in) {
    const audio_facts *facts = &in->facts;
    if (in->warned || facts->promised_s == 0) return;
    in->warned = true;
    fprintf(stderr,
            "moshi: warning: %s: is cut off: its header promises %.2f s, found %.2f s; going on "
            "with these\n",
            in->path, facts->promised_s, facts->seconds);
}

void audio_in_note(const audio_in *in, int rate_hz) {
    if (in->facts.channels > 1)
        fprintf(stderr, "moshi: %s: %d channels are mixed down to one\n", in->path,
                in->facts.channels);
    if (in->facts.rate_hz != rate_hz)
        fprintf(stderr, "moshi: %s: resampled from %d to %d Hz\n", in->path, in->facts.rate_hz,
                rate_hz);
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
        double found_s = (double)in->frames_read / in->facts.rate_hz;
        if (found_s < in->facts.seconds - SLACK_S) {
            in->facts.promised_s = in->facts.seconds;
            in->facts.seconds = found_s;
        }
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

int audio_in_read_raw(audio_in *in, float *pcm, size_t n, size_t *got, app_error *err) {
    sf_count_t read = sf_readf_float(in->file, pcm, (sf_count_t)n);
    *got = read > 0 ? (size_t)read : 0;
    in->frames_read += (int64_t)*got;
    if (*got == 0 && sf_error(in->file) != SF_ERR_NO_ERROR)
        return app_fail(err, EXIT_USAGE, "%s: damaged after %" PRId64 " samples: %s", in->path,
                        in->frames_read, sf_strerror(in->file));
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
