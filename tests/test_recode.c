/* test_recode.c - a recording and the codes it should have been decoded from: whatever happened to
 * the codes is named. */
#include "analyze.h"
#include "check.h"
#include "sound.h"

#include <stdlib.h>
#include <string.h>

#ifdef APP_HAVE_KISSFFT

static int open_demo(moshi_codec **out, int codebooks, const void *user, app_error *err) {
    moshi_codec_options options = {.model = user, .codebooks = codebooks};
    moshi_error why;
    int rc = moshi_codec_open(out, &options, &why);
    return rc < 0 ? app_fail(err, EXIT_MODEL, "%s", why.text) : EXIT_OK;
}

static const codec_opener OPENER = {open_demo, "models/demo"};

/* Codes of a recording, and the codec. */
typedef struct bench {
    sound speech;
    moshi_codec *codec;
    code_rows codes;
} bench;

static bool setup(bench *b) {
    app_error err = {0};
    memset(b, 0, sizeof *b);
    if (!CHECK(sound_load(&b->speech, "samples/03_tell_me_the_days_of_the_week_user.wav", 24000,
                          &err) == EXIT_OK &&
                   open_demo(&b->codec, 8, OPENER.user, &err) == EXIT_OK,
               "%s", err.text))
        return false;
    if (b->speech.n > 50000) b->speech.n = 50000;
    return CHECK(code_rows_encode(&b->codes, b->codec, &b->speech, &err) == EXIT_OK, "%s",
                 err.text);
}

static void examine(analysis *a, const sound *s, const code_rows *codes) {
    app_error err = {0};
    CHECK(analyze_pcm(a, s->pcm, s->n, s->rate_hz, &err) == EXIT_OK &&
              analyze_codec(a, s->pcm, s->n, &OPENER, codes, &err) == EXIT_OK,
          "%s", err.text);
}

static const char *called(const analysis *a) {
    return a->found.n ? finding_id(a->found.list[0].kind) : "nothing";
}

/* Decoded after `fault`, quieter and at another rate, and compared with the codes without it. */
static void test_fault(bench *b, const code_fault *fault, finding_kind kind) {
    app_error err = {0};
    code_rows moved = {0};
    sound decoded = {0}, played = {0};
    analysis a;
    if (!CHECK(code_rows_displace(&moved, &b->codes, fault, &err) == EXIT_OK &&
                   code_rows_decode(&decoded, b->codec, &moved, &err) == EXIT_OK &&
                   sound_resample(&played, &decoded, &SINC_FILE, 48000, NULL, &err) == EXIT_OK,
               "%s", err.text))
        return;
    for (size_t i = 0; i < played.n; i++) played.pcm[i] *= 0.5f;
    examine(&a, &played, &b->codes);
    if (kind == FINDING_KINDS) {
        CHECK(a.codec.trials[0].kind == kind && a.codec.trials[0].alike.si_sdr_db > 30,
              "nothing happened, but: %s, %g dB", a.codec.trials[0].what,
              a.codec.trials[0].alike.si_sdr_db);
        CHECK(findings_confidence(&a.found, FINDING_UNLIKE_CODES) < FINDING_FAULT &&
                  findings_confidence(&a.found, FINDING_CODES_DELAYED) < FINDING_FAULT,
              "nothing happened: %s", called(&a));
        CHECK(a.codec.codes.judged && a.codec.codes.holds, "agreement %g of %zu frames, wanted %g",
              a.codec.codes.part[0], a.codec.codes.frames, a.codec.codes.wanted);
    } else {
        CHECK(!analysis_passes(&a) && a.found.list[0].kind == kind, "%s: called %s", fault->name,
              called(&a));
        CHECK(!strcmp(a.codec.trials[0].what, fault->name), "%s: undone by %s", fault->name,
              a.codec.trials[0].what);
    }
    code_rows_free(&moved);
    sound_free(&decoded);
    sound_free(&played);
}

static void test_fewer(bench *b) {
    app_error err = {0};
    moshi_codec *two = NULL;
    code_rows few = {calloc(b->codes.frames * 2, sizeof *few.codes), b->codes.frames, 2};
    sound decoded = {0};
    analysis a;
    for (size_t i = 0; i < few.frames * 2; i++)
        few.codes[i] = b->codes.codes[i / 2 * b->codes.codebooks + i % 2];
    CHECK(open_demo(&two, 2, OPENER.user, &err) == EXIT_OK &&
              code_rows_decode(&decoded, two, &few, &err) == EXIT_OK,
          "%s", err.text);
    examine(&a, &decoded, &b->codes);
    CHECK(a.found.n && a.found.list[0].kind == FINDING_CODEBOOKS_MISSING &&
              a.codec.trials[0].codebooks == 2,
          "2 of 8 codebooks: called %s, %d codebooks", called(&a), a.codec.trials[0].codebooks);
    moshi_codec_close(two);
    code_rows_free(&few);
    sound_free(&decoded);
}

/* The recording that was encoded has the codes, though not the samples. */
static void test_source(bench *b) {
    analysis a;
    examine(&a, &b->speech, &b->codes);
    CHECK(a.codec.codes.part[0] == 1 && a.codec.codes.part[7] == 1 && a.codec.codes.holds,
          "what was encoded: %g, %g come back", a.codec.codes.part[0], a.codec.codes.part[7]);
    CHECK(findings_confidence(&a.found, FINDING_UNLIKE_CODES) < FINDING_FAULT, "called %s",
          called(&a));
}

static void test_without_codes(bench *b) {
    analysis a;
    examine(&a, &b->speech, NULL);
    CHECK(a.codec.measured && !a.codec.from_codes && a.codec.codebooks == 8 && a.codec.frames > 5,
          "%d codebooks, %zu frames", a.codec.codebooks, a.codec.frames);
    CHECK(a.codec.roundtrip.estoi > 0.3 && a.codec.roundtrip.estoi < 1, "ESTOI %g",
          a.codec.roundtrip.estoi);
}

static void test_bad_codes(bench *b) {
    app_error err = {0};
    analysis a;
    b->codes.codes[9] = 1 << 20;
    CHECK(analyze_pcm(&a, b->speech.pcm, b->speech.n, 24000, &err) == EXIT_OK, "%s", err.text);
    CHECK(analyze_codec(&a, b->speech.pcm, b->speech.n, &OPENER, &b->codes, &err) == EXIT_USAGE &&
              strstr(err.text, "frame 1, codebook 1") && strstr(err.text, "1048576"),
          "a code out of range: %s", err.text);
}

int main(void) {
    static const code_fault NOTHING = {.name = "as they are"};
    bench b;
    if (setup(&b)) {
        test_fault(&b, &NOTHING, FINDING_KINDS);
        test_without_codes(&b);
        for (int i = 0; i < CODE_SUSPECTS; i += i < 5 ? 5 : 4) {
            code_fault fault = CODE_SUSPECT[i];
            fault.delay = -fault.delay;
            fault.rotate = -fault.rotate;
            test_fault(&b, &fault, i < 4 ? FINDING_CODES_DELAYED : FINDING_CODES_REORDERED);
        }
        test_fewer(&b);
        test_source(&b);
        test_bad_codes(&b);
    }
    moshi_codec_close(b.codec);
    code_rows_free(&b.codes);
    sound_free(&b.speech);
    return check_done("test_recode");
}

#else

int main(void) {
    SKIP("built without kissfft: comparing with codes");
    return check_done("test_recode");
}

#endif
