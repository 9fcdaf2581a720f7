/* damage.c - spoiling recordings. Frames are 80 ms, those of the codec, and begin at sample 0. */
#include "damage.h"

#include "resample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What every maker gets and fills. */
#define DAMAGE_ARGUMENTS                                                                \
    float **out, size_t *n_out, const float *pcm, size_t n, int rate_hz, uint64_t seed, \
        app_error *err

static size_t frame_of(int rate_hz) {
    return (size_t)(rate_hz * 2 / 25);
}

static int room(float **out, size_t n, app_error *err) {
    *out = calloc(n + 1, sizeof **out);
    return *out ? EXIT_OK : app_no_memory(err);
}

/* A number below `below`; splitmix64 (Steele, Lea, Flood 2014). */
static size_t draw(uint64_t *state, size_t below) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (size_t)((z ^ (z >> 31)) % below);
}

static int16_t sample16(float x) {
    float scaled = rintf(x * 32768.0f);
    return (int16_t)(scaled > 32767 ? 32767 : scaled < -32768 ? -32768 : scaled);
}

/* ---- order of samples and frames ------------------------------------------------------------ */

static int make_reversed(DAMAGE_ARGUMENTS) {
    (void)rate_hz, (void)seed;
    int rc = room(out, n, err);
    if (rc != EXIT_OK) return rc;
    for (size_t i = 0; i < n; i++) (*out)[i] = pcm[n - 1 - i];
    *n_out = n;
    return EXIT_OK;
}

static int reverse_frames(DAMAGE_ARGUMENTS, size_t frame) {
    (void)rate_hz, (void)seed;
    int rc = room(out, n, err);
    if (rc != EXIT_OK) return rc;
    for (size_t at = 0; at < n; at += frame) {
        size_t here = n - at < frame ? n - at : frame;
        for (size_t i = 0; i < here; i++) (*out)[at + i] = pcm[at + here - 1 - i];
    }
    *n_out = n;
    return EXIT_OK;
}

static int make_frames_reversed(DAMAGE_ARGUMENTS) {
    return reverse_frames(out, n_out, pcm, n, rate_hz, seed, err, frame_of(rate_hz));
}

static int make_short_frames_reversed(DAMAGE_ARGUMENTS) {
    return reverse_frames(out, n_out, pcm, n, rate_hz, seed, err, frame_of(rate_hz) / 4);
}

typedef enum arrangement { SHUFFLED, SWAPPED, BACKWARDS } arrangement;

static int arrange_frames(DAMAGE_ARGUMENTS, arrangement how) {
    size_t frame = frame_of(rate_hz), frames = n / frame;
    int rc = room(out, n, err);
    size_t *order = malloc((frames + 1) * sizeof *order);
    if (rc != EXIT_OK || !order) {
        free(order);
        return rc != EXIT_OK ? rc : app_no_memory(err);
    }
    for (size_t f = 0; f < frames; f++) order[f] = how == BACKWARDS ? frames - 1 - f : f;
    for (size_t f = 0; how == SWAPPED && f + 1 < frames; f += 2) {
        order[f] = f + 1;
        order[f + 1] = f;
    }
    for (size_t f = frames; how == SHUFFLED && f > 1; f--) {
        size_t other = draw(&seed, f), kept = order[other];
        order[other] = order[f - 1];
        order[f - 1] = kept;
    }
    for (size_t f = 0; f < frames; f++)
        memcpy(*out + f * frame, pcm + order[f] * frame, frame * sizeof *pcm);
    memcpy(*out + frames * frame, pcm + frames * frame, (n - frames * frame) * sizeof *pcm);
    free(order);
    *n_out = n;
    return EXIT_OK;
}

static int make_frames_shuffled(DAMAGE_ARGUMENTS) {
    return arrange_frames(out, n_out, pcm, n, rate_hz, seed, err, SHUFFLED);
}

static int make_frames_swapped(DAMAGE_ARGUMENTS) {
    return arrange_frames(out, n_out, pcm, n, rate_hz, seed, err, SWAPPED);
}

static int make_order_reversed(DAMAGE_ARGUMENTS) {
    return arrange_frames(out, n_out, pcm, n, rate_hz, seed, err, BACKWARDS);
}

/* ---- missing and repeated ------------------------------------------------------------------- */

typedef enum loss { DROPPED, REPEATED, DOUBLED, MUTED } loss;

/* One frame in six is dropped, replaced by the one before, played twice, or silenced. */
static int lose_frames(DAMAGE_ARGUMENTS, loss how) {
    size_t frame = frame_of(rate_hz), frames = n / frame, at = 0;
    int rc = room(out, 2 * n, err);
    if (rc != EXIT_OK) return rc;
    for (size_t f = 0; f < frames; f++) {
        bool lost = f > 0 && draw(&seed, 6) == 0;
        const float *source = pcm + f * frame;
        if (lost && how == DROPPED) continue;
        if (lost && how == REPEATED) source -= frame;
        if (!(lost && how == MUTED)) memcpy(*out + at, source, frame * sizeof *pcm);
        at += frame;
        if (lost && how == DOUBLED) {
            memcpy(*out + at, source, frame * sizeof *pcm);
            at += frame;
        }
    }
    *n_out = at;
    return EXIT_OK;
}

static int make_frames_dropped(DAMAGE_ARGUMENTS) {
    return lose_frames(out, n_out, pcm, n, rate_hz, seed, err, DROPPED);
}

static int make_frames_repeated(DAMAGE_ARGUMENTS) {
    return lose_frames(out, n_out, pcm, n, rate_hz, seed, err, REPEATED);
}

static int make_frames_doubled(DAMAGE_ARGUMENTS) {
    return lose_frames(out, n_out, pcm, n, rate_hz, seed, err, DOUBLED);
}

static int make_gaps(DAMAGE_ARGUMENTS) {
    return lose_frames(out, n_out, pcm, n, rate_hz, seed, err, MUTED);
}

/* ---- rate ----------------------------------------------------------------------------------- */

/* As if played `speed` times as fast. */
static int change_speed(DAMAGE_ARGUMENTS, double speed) {
    (void)seed;
    size_t most = (size_t)((double)n / speed) + 2, used = 0;
    /* The rates' ratio is what counts; this one keeps both within what the resampler takes. */
    resampler *r = resampler_open((int)lrint(24000 * speed), 24000);
    (void)rate_hz;
    int rc = r ? room(out, most, err) : app_no_memory(err);
    *n_out = 0;
    while (rc == EXIT_OK && *n_out < most) {
        size_t got = resampler_pull(r, *out + *n_out, most - *n_out);
        *n_out += got;
        if (got > 0) continue;
        if (used == n) break;
        used += resampler_push(r, pcm + used, n - used);
        if (used == n) resampler_end(r);
    }
    resampler_close(r);
    return rc;
}

static int make_half_speed(DAMAGE_ARGUMENTS) {
    return change_speed(out, n_out, pcm, n, rate_hz, seed, err, 0.5);
}

static int make_two_thirds_speed(DAMAGE_ARGUMENTS) {
    return change_speed(out, n_out, pcm, n, rate_hz, seed, err, 2.0 / 3);
}

static int make_three_halves_speed(DAMAGE_ARGUMENTS) {
    return change_speed(out, n_out, pcm, n, rate_hz, seed, err, 1.5);
}

static int make_double_speed(DAMAGE_ARGUMENTS) {
    return change_speed(out, n_out, pcm, n, rate_hz, seed, err, 2);
}

/* ---- formats -------------------------------------------------------------------------------- */

/* Both channels of a stereo recording, one after the other, taken as mono. The second is the first,
 * 10 ms later and at half the level, as in a room, or the same. */
static int interleave(DAMAGE_ARGUMENTS, bool twins) {
    (void)seed;
    size_t later = (size_t)(rate_hz / 100);
    int rc = room(out, 2 * n, err);
    if (rc != EXIT_OK) return rc;
    for (size_t i = 0; i < n; i++) {
        (*out)[2 * i] = pcm[i];
        (*out)[2 * i + 1] = twins ? pcm[i] : i < later ? 0 : pcm[i - later] / 2;
    }
    *n_out = 2 * n;
    return EXIT_OK;
}

static int make_interleaved(DAMAGE_ARGUMENTS) {
    return interleave(out, n_out, pcm, n, rate_hz, seed, err, true);
}

static int make_interleaved_stereo(DAMAGE_ARGUMENTS) {
    return interleave(out, n_out, pcm, n, rate_hz, seed, err, false);
}

/* The sample that a program sees which mistakes the format. */
static int mistake(DAMAGE_ARGUMENTS, float (*see)(float x, float next)) {
    (void)seed, (void)rate_hz;
    int rc = room(out, n, err);
    if (rc != EXIT_OK) return rc;
    for (size_t i = 0; i < n; i++) (*out)[i] = see(pcm[i], pcm[i + 1 < n ? i + 1 : i]);
    *n_out = n;
    return EXIT_OK;
}

static float see_swapped(float x, float next) {
    (void)next;
    uint16_t bits = (uint16_t)sample16(x);
    return (float)(int16_t)(uint16_t)(bits << 8 | bits >> 8) / 32768.0f;
}

static float see_odd_byte(float x, float next) {
    uint16_t low = (uint16_t)sample16(x) >> 8, high = (uint16_t)sample16(next) & 0xff;
    return (float)(int16_t)(uint16_t)(high << 8 | low) / 32768.0f;
}

static float see_sign_flipped(float x, float next) {
    (void)next;
    return (float)(int16_t)((uint16_t)sample16(x) ^ 0x8000) / 32768.0f;
}

static float see_ulaw_code(float x, float next) {
    (void)next;
    int value = sample16(x), magnitude = value < 0 ? -value : value, exponent = 7;
    magnitude = (magnitude > 32635 ? 32635 : magnitude) + 132;
    while (exponent > 0 && !(magnitude >> (exponent + 7))) exponent--;
    int code =
        ~((value < 0 ? 0x80 : 0) | exponent << 4 | (magnitude >> (exponent + 3) & 15)) & 0xff;
    return (float)(code - 128) / 128.0f;
}

static float see_unscaled(float x, float next) {
    (void)next;
    float value = (float)sample16(x);
    return value > 1 ? 1 : value < -1 ? -1 : value;
}

static float see_wrapped(float x, float next) {
    (void)next;
    float value = x;
    while (value >= 1) value -= 2;
    while (value < -1) value += 2;
    return value;
}

static int make_swapped_bytes(DAMAGE_ARGUMENTS) {
    return mistake(out, n_out, pcm, n, rate_hz, seed, err, see_swapped);
}

static int make_odd_byte(DAMAGE_ARGUMENTS) {
    return mistake(out, n_out, pcm, n, rate_hz, seed, err, see_odd_byte);
}

static int make_sign_flipped(DAMAGE_ARGUMENTS) {
    return mistake(out, n_out, pcm, n, rate_hz, seed, err, see_sign_flipped);
}

static int make_ulaw_as_linear(DAMAGE_ARGUMENTS) {
    return mistake(out, n_out, pcm, n, rate_hz, seed, err, see_ulaw_code);
}

static int make_int16_as_float(DAMAGE_ARGUMENTS) {
    return mistake(out, n_out, pcm, n, rate_hz, seed, err, see_unscaled);
}

/* Two samples taken as the bits of one float, numbers that are none included. */
static int make_int16_bits_as_float(DAMAGE_ARGUMENTS) {
    (void)seed, (void)rate_hz;
    int rc = room(out, n / 2, err);
    if (rc != EXIT_OK) return rc;
    for (size_t i = 0; i < n / 2; i++) {
        uint32_t bits =
            (uint32_t)(uint16_t)sample16(pcm[2 * i + 1]) << 16 | (uint16_t)sample16(pcm[2 * i]);
        memcpy(*out + i, &bits, sizeof bits);
    }
    *n_out = n / 2;
    return EXIT_OK;
}

static int make_float_as_int16(DAMAGE_ARGUMENTS) {
    (void)seed, (void)rate_hz;
    int rc = room(out, 2 * n, err);
    if (rc != EXIT_OK) return rc;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, pcm + i, sizeof bits);
        (*out)[2 * i] = (float)(int16_t)(uint16_t)bits / 32768.0f;
        (*out)[2 * i + 1] = (float)(int16_t)(uint16_t)(bits >> 16) / 32768.0f;
    }
    *n_out = 2 * n;
    return EXIT_OK;
}

/* ---- level ---------------------------------------------------------------------------------- */

/* Make the peak `times` full scale. */
static int overdrive(DAMAGE_ARGUMENTS, float times, bool wrap) {
    float peak = 1e-6f;
    (void)rate_hz, (void)seed;
    int rc = room(out, n, err);
    if (rc != EXIT_OK) return rc;
    for (size_t i = 0; i < n; i++)
        if (fabsf(pcm[i]) > peak) peak = fabsf(pcm[i]);
    for (size_t i = 0; i < n; i++) {
        float x = pcm[i] * times / peak;
        (*out)[i] = wrap ? see_wrapped(x, 0) : x > 1 ? 1 : x < -1 ? -1 : x;
    }
    *n_out = n;
    return EXIT_OK;
}

static int make_clipped(DAMAGE_ARGUMENTS) {
    return overdrive(out, n_out, pcm, n, rate_hz, seed, err, 4, false);
}

static int make_wrapped(DAMAGE_ARGUMENTS) {
    return overdrive(out, n_out, pcm, n, rate_hz, seed, err, 1.7f, true);
}

static int make_silent(DAMAGE_ARGUMENTS) {
    (void)pcm, (void)rate_hz, (void)seed;
    *n_out = n;
    return room(out, n, err);
}

/* White noise with the level of the recording. */
static int make_noise(DAMAGE_ARGUMENTS) {
    (void)rate_hz;
    double square = 0;
    int rc = room(out, n, err);
    if (rc != EXIT_OK) return rc;
    for (size_t i = 0; i < n; i++) square += (double)pcm[i] * (double)pcm[i] / (double)n;
    double step = sqrt(12 * square) / 65536;
    for (size_t i = 0; i < n; i++)
        (*out)[i] = (float)(((double)draw(&seed, 65536) - 32767.5) * step);
    *n_out = n;
    return EXIT_OK;
}

/* Four shuffled copies at once: the sound of a crowd. */
static int make_crowd(DAMAGE_ARGUMENTS) {
    int rc = room(out, n, err);
    for (uint64_t voice = 0; rc == EXIT_OK && voice < 4; voice++) {
        float *one = NULL;
        rc = arrange_frames(&one, n_out, pcm, n, rate_hz, seed * 4 + voice, err, SHUFFLED);
        for (size_t i = 0; rc == EXIT_OK && i < n; i++) (*out)[i] += one[i] / 2;
        free(one);
    }
    *n_out = n;
    return rc;
}

const damage DAMAGES[] = {
    {"reversed", FINDING_REVERSED, make_reversed},
    {"frames-reversed", FINDING_FRAMES_REVERSED, make_frames_reversed},
    {"short-frames-reversed", FINDING_FRAMES_REVERSED, make_short_frames_reversed},
    {"frames-shuffled", FINDING_FRAMES_SHUFFLED, make_frames_shuffled},
    {"frames-swapped", FINDING_FRAMES_SWAPPED, make_frames_swapped},
    {"order-reversed", FINDING_ORDER_REVERSED, make_order_reversed},
    {"crowd", FINDING_FRAMES_SHUFFLED, make_crowd},
    {"frames-dropped", FINDING_FRAMES_DROPPED, make_frames_dropped},
    {"frames-repeated", FINDING_FRAMES_REPEATED, make_frames_repeated},
    {"frames-doubled", FINDING_FRAMES_REPEATED, make_frames_doubled},
    {"gaps", FINDING_GAPS, make_gaps},
    {"half-speed", FINDING_TOO_SLOW, make_half_speed},
    {"two-thirds-speed", FINDING_TOO_SLOW, make_two_thirds_speed},
    {"three-halves-speed", FINDING_TOO_FAST, make_three_halves_speed},
    {"double-speed", FINDING_TOO_FAST, make_double_speed},
    {"interleaved", FINDING_INTERLEAVED, make_interleaved},
    {"interleaved-stereo", FINDING_INTERLEAVED, make_interleaved_stereo},
    {"swapped-bytes", FINDING_SWAPPED_BYTES, make_swapped_bytes},
    {"odd-byte", FINDING_ODD_BYTE, make_odd_byte},
    {"sign-flipped", FINDING_SIGN_FLIPPED, make_sign_flipped},
    {"ulaw-as-linear", FINDING_ULAW_AS_LINEAR, make_ulaw_as_linear},
    {"int16-as-float", FINDING_INT16_AS_FLOAT, make_int16_as_float},
    {"int16-bits-as-float", FINDING_INT16_AS_FLOAT, make_int16_bits_as_float},
    {"float-as-int16", FINDING_FLOAT_AS_INT16, make_float_as_int16},
    {"clipped", FINDING_CLIPPED, make_clipped},
    {"wrapped", FINDING_WRAPPED, make_wrapped},
    {"silent", FINDING_SILENT, make_silent},
    {"noise", FINDING_NOT_SPEECH, make_noise},
};
const int N_DAMAGES = sizeof DAMAGES / sizeof DAMAGES[0];

const damage *damage_find(const char *name) {
    for (int i = 0; i < N_DAMAGES; i++)
        if (!strcmp(DAMAGES[i].name, name)) return &DAMAGES[i];
    return NULL;
}

int damage_make(const damage *d, float **out, size_t *n_out, const float *pcm, size_t n,
                int rate_hz, uint64_t seed, app_error *err) {
    *out = NULL;
    *n_out = 0;
    int rc = d->make(out, n_out, pcm, n, rate_hz, seed, err);
    if (rc == EXIT_OK) return rc;
    free(*out);
    *out = NULL;
    return rc;
}
