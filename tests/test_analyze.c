/* test_analyze.c - does the examination pass sound recordings, and does it fail and name every
 * damage done on purpose? */
#include "analyze.h"
#include "check.h"
#include "damage.h"
#include "soundfile.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifdef APP_HAVE_KISSFFT

static const char *const RECORDINGS[] = {"samples/00_what_is_three_plus_seven_user.wav",
                                         "samples/03_tell_me_the_days_of_the_week_user.wav",
                                         "samples/05_tell_me_nine_times_nine_user.wav",
                                         "samples/11_make_me_laugh_user.wav",
                                         "samples/barge_user.wav"};

static int load(soundfile *r, const char *path, double seconds) {
    app_error err = {0};
    return CHECK(soundfile_read(r, path, seconds, &err) == EXIT_OK, "%s", err.text);
}

static void examine(analysis *a, const float *pcm, size_t n, int rate_hz) {
    app_error err = {0};
    CHECK(analyze_pcm(a, pcm, n, rate_hz, &err) == EXIT_OK, "%s", err.text);
}

static const char *called(const analysis *a) {
    return a->found.n ? finding_id(a->found.list[0].kind) : "nothing";
}

static void test_clean(void) {
    for (size_t i = 0; i < sizeof RECORDINGS / sizeof RECORDINGS[0]; i++) {
        soundfile r;
        analysis a;
        if (!load(&r, RECORDINGS[i], 60)) continue;
        examine(&a, r.pcm, r.n, r.facts.rate_hz);
        CHECK(a.verdict == VERDICT_CLEAN && a.score > 50, "%s: %s, score %.0f, %s", RECORDINGS[i],
              analysis_verdict_name(a.verdict), a.score, called(&a));
        soundfile_free(&r);
    }
}

/* Several questions with pauses between them. */
static void test_damages(void) {
    soundfile r, longer;
    analysis a;
    if (!load(&r, "samples/conversation_user.flac", 9)) return;
    if (!load(&longer, "samples/conversation_user.flac", 60)) return;
    examine(&a, r.pcm, r.n, r.facts.rate_hz);
    CHECK(a.verdict == VERDICT_CLEAN, "undamaged: %s, %s", analysis_verdict_name(a.verdict),
          called(&a));
    for (int d = 0; d < N_DAMAGES; d++) {
        float *pcm;
        size_t n;
        app_error err = {0};
        finding_kind kind = DAMAGES[d].kind;
        /* A speed takes more than two seconds of speech: some people talk fast. */
        const soundfile *in = kind == FINDING_TOO_FAST || kind == FINDING_TOO_SLOW ? &longer : &r;
        if (!CHECK(damage_make(&DAMAGES[d], &pcm, &n, in->pcm, in->n, in->facts.rate_hz, 7, &err) ==
                       EXIT_OK,
                   "%s: %s", DAMAGES[d].name, err.text))
            continue;
        examine(&a, pcm, n, r.facts.rate_hz);
        CHECK(!analysis_passes(&a) && a.score <= 50, "%s passes", DAMAGES[d].name);
        /* A crowd out of one voice with pauses may be called noise as well. */
        CHECK((a.found.n > 0 && a.found.list[0].kind == DAMAGES[d].kind) ||
                  !strcmp(DAMAGES[d].name, "crowd"),
              "%s is called %s: %s", DAMAGES[d].name, called(&a),
              a.found.n ? a.found.list[0].evidence : "");
        free(pcm);
    }
    soundfile_free(&longer);
    soundfile_free(&r);
}

/* What it says about time must turn around with the sound, exactly but for the framing. */
static void test_direction(void) {
    soundfile r;
    analysis forwards, backwards;
    if (!load(&r, RECORDINGS[1], 60)) return;
    examine(&forwards, r.pcm, r.n, r.facts.rate_hz);
    for (size_t i = 0, k = r.n - 1; i < k; i++, k--) {
        float x = r.pcm[i];
        r.pcm[i] = r.pcm[k];
        r.pcm[k] = x;
    }
    examine(&backwards, r.pcm, r.n, r.facts.rate_hz);
    CHECK(forwards.voice.direction > 4, "forwards: %g", forwards.voice.direction);
    CHECK(fabs(forwards.voice.direction + backwards.voice.direction) < 2,
          "%g forwards, %g backwards", forwards.voice.direction, backwards.voice.direction);
    soundfile_free(&r);
}

/* The score of old is the same for speech and reversed speech, and near a person's arithmetic. */
static void test_legacy(void) {
    analysis a;
    enum { N = 24000 };
    float *x = calloc(N, sizeof *x);
    /* A tone whose level swings: no silence, all of it in the band, steady ZCR. */
    for (int i = 0; i < N; i++)
        x[i] = (float)(0.5 * sin(2 * M_PI * 1200 * i / 24000.0) *
                       (1 + 0.9 * sin(2 * M_PI * 4 * i / 24000.0)));
    examine(&a, x, N, 24000);
    CHECK(a.level.legacy.silence == 0, "silence %g", a.level.legacy.silence);
    CHECK(fabs(a.level.legacy.zcr - 0.1) < 0.001, "zcr %g", a.level.legacy.zcr);
    CHECK(a.level.legacy.band > 0.999, "band %g", a.level.legacy.band);
    /* 0.9 / sqrt(2), divided by the peak of 1.9. */
    CHECK(fabs(a.level.legacy.dynamics - 0.335) < 0.005, "dynamics %g", a.level.legacy.dynamics);
    CHECK(a.level.legacy.points == 50, "points %d", a.level.legacy.points);
    free(x);
}

/* Poor recordings are sound: what a cheap microphone adds is neither noise without speech, nor a
 * repetition, nor another channel. */
static void test_poor_recordings(void) {
    soundfile r;
    analysis a;
    if (!load(&r, RECORDINGS[1], 60)) return;
    size_t n = r.n, rate = (size_t)r.facts.rate_hz;
    float *x = malloc(2 * n * sizeof *x);
    if (!CHECK(x != NULL, "no memory")) return;
    for (size_t i = 0; i < n; i++)
        x[i] = 0.5f * r.pcm[i] + 0.04f * sinf(6.2831853f * 50 * (float)i / (float)rate);
    examine(&a, x, n, (int)rate);
    CHECK(a.verdict == VERDICT_CLEAN, "hum: %s", called(&a));
    /* Pauses of one value that is not zero. */
    for (size_t i = 0; i < n; i++) x[i] = (fabsf(r.pcm[i]) > 0.01f ? 0.5f * r.pcm[i] : 0) + 0.05f;
    examine(&a, x, n, (int)rate);
    CHECK(findings_confidence(&a.found, FINDING_FRAMES_REPEATED) < FINDING_FAULT,
          "an offset in pauses: %s", called(&a));
    /* Twice the rate by straight lines. */
    for (size_t i = 0; i + 1 < n; i++) {
        x[2 * i] = r.pcm[i];
        x[2 * i + 1] = (r.pcm[i] + r.pcm[i + 1]) / 2;
    }
    examine(&a, x, 2 * n - 2, 2 * (int)rate);
    CHECK(findings_confidence(&a.found, FINDING_INTERLEAVED) < FINDING_FAULT, "straight lines: %s",
          called(&a));
    free(x);
    soundfile_free(&r);
}

/* An offset that comes in the middle of a recording is one, and a faint voice between long pauses
 * is no silence. */
static void test_later_and_fainter(void) {
    soundfile r;
    analysis a;
    if (!load(&r, RECORDINGS[1], 60)) return;
    size_t n = r.n, pause = 10 * (size_t)r.facts.rate_hz;
    float *x = calloc(n + pause, sizeof *x), peak = 0;
    if (!CHECK(x != NULL, "no memory")) return;
    for (size_t i = 0; i < n; i++) {
        x[i] = 0.5f * r.pcm[i] + (i > n / 2 ? 0.4f : 0);
        if (fabsf(r.pcm[i]) > peak) peak = fabsf(r.pcm[i]);
    }
    examine(&a, x, n, r.facts.rate_hz);
    CHECK(a.found.list[0].kind == FINDING_DC_OFFSET && !analysis_passes(&a),
          "an offset from the middle on: %s", called(&a));
    for (size_t i = 0; i < n + pause; i++) x[i] = i < n ? r.pcm[i] * 0.003f / peak : 0;
    examine(&a, x, n + pause, r.facts.rate_hz);
    CHECK(a.verdict == VERDICT_CLEAN, "50 dB below full scale: %s", called(&a));
    free(x);
    soundfile_free(&r);
}

/* Readings of companded codes, and of words whose halves changed places. */
static void test_exchanged(void) {
    soundfile r;
    analysis a;
    if (!load(&r, RECORDINGS[0], 60)) return;
    size_t n = r.n - r.n % 2;
    float *x = malloc(n * sizeof *x);
    if (!CHECK(x != NULL, "no memory")) return;
    for (size_t i = 0; i < n; i++) {
        /* G.711: a logarithm in eight pieces, both laws with the same codes for sign and size, the
         * bits inverted in other ways; A-law decoded as if it were mu-law. */
        int value = (int)lrintf(r.pcm[i] * 32767), size = abs(value), exponent = 7;
        while (exponent > 0 && !(size >> (exponent + 7))) exponent--;
        int mantissa = size >> (exponent ? exponent + 3 : 4) & 15;
        int code = ((value < 0 ? 0 : 0x80) | exponent << 4 | mantissa) ^ 0x55;
        int out = ~code & 0xff;
        int wrong = (((out & 15) << 3) + 132) * (1 << (out >> 4 & 7)) - 132;
        x[i] = (float)(out & 0x80 ? -wrong : wrong) / 32768;
    }
    examine(&a, x, n, r.facts.rate_hz);
    CHECK(a.found.list[0].kind == FINDING_LAWS_EXCHANGED && !analysis_passes(&a), "laws: %s",
          called(&a));
    for (size_t i = 0; i < n; i++) x[i] = rintf(r.pcm[i ^ 1] * 32767) / 32768;
    examine(&a, x, n, r.facts.rate_hz);
    CHECK(findings_confidence(&a.found, FINDING_PAIRS_EXCHANGED) >= FINDING_FAULT, "pairs: %s",
          called(&a));
    free(x);
    soundfile_free(&r);
}

/* Of one word neither direction nor speed is a fault, whatever the networks think. */
static void test_one_word(void) {
    soundfile r;
    analysis a;
    if (!load(&r, RECORDINGS[2], 60)) return;
    size_t rate = (size_t)r.facts.rate_hz, word = rate * 8 / 10;
    float *x = malloc((word + 1) * sizeof *x);
    int doubts = 0;
    for (size_t at = 0; x && at + word < r.n; at += word) {
        for (size_t i = 0; i < word; i++) x[i] = r.pcm[at + word - 1 - i];
        examine(&a, x, word, (int)rate);
        double reversed = findings_confidence(&a.found, FINDING_REVERSED);
        doubts += reversed > 0.05;
        CHECK(reversed < FINDING_FAULT, "at %zu: reversed, %g", at, reversed);
    }
    CHECK(doubts > 0, "no word was even suspected");
    free(x);
    soundfile_free(&r);
}

static void test_edges(void) {
    analysis a;
    float few[64] = {0.1f, -0.1f}, wild[12000];
    examine(&a, few, 0, 24000);
    CHECK(a.verdict == VERDICT_SILENT, "no samples: %s", analysis_verdict_name(a.verdict));
    examine(&a, few, 1, 24000);
    CHECK(a.verdict == VERDICT_TOO_SHORT, "one sample: %s", analysis_verdict_name(a.verdict));
    examine(&a, few, 64, 1000);
    CHECK(a.verdict == VERDICT_TOO_SHORT, "64 samples: %s", analysis_verdict_name(a.verdict));
    for (int i = 0; i < 12000; i++) wild[i] = i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : 1e30f;
    examine(&a, wild, 12000, 24000);
    CHECK(!analysis_passes(&a), "numbers that are none: %s", analysis_verdict_name(a.verdict));
    soundfile r;
    if (!load(&r, RECORDINGS[1], 60)) return;
    r.pcm[r.n / 2] = NAN;
    examine(&a, r.pcm, r.n, r.facts.rate_hz);
    CHECK(!analysis_passes(&a) && a.found.list[0].kind == FINDING_NOT_NUMBERS,
          "one sample that is no number: %s", called(&a));
    for (size_t i = r.n / 3; i < r.n; i++) r.pcm[i] = i % 9 == 0 ? INFINITY : NAN;
    examine(&a, r.pcm, r.n, r.facts.rate_hz);
    CHECK(!analysis_passes(&a) && a.found.list[0].kind == FINDING_NOT_NUMBERS,
          "two thirds that are no numbers: %s", called(&a));
    soundfile_free(&r);
}

int main(void) {
    test_clean();
    test_damages();
    test_direction();
    test_legacy();
    test_poor_recordings();
    test_later_and_fainter();
    test_exchanged();
    test_one_word();
    test_edges();
    return check_done("test_analyze");
}

#else

int main(void) {
    SKIP("built without kissfft: moshi analyze");
    return check_done("test_analyze");
}

#endif
