/* recode.c - recordings and codes through a codec. */
#include "recode.h"

#include "model.h"
#include "tensors.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- files of codes ------------------------------------------------------------------------- */

/* data: [codebooks, frames] with codebooks `across`, or [frames, 1 + codebooks] with a token of
 * text first. */
static int take_rows(code_rows *out, const int32_t *data, const int64_t *shape, bool across,
                     app_error *err) {
    size_t rows = (size_t)shape[0], columns = (size_t)shape[1];
    /* Before its largest delay is over, a model says nothing: the recording begins after that. */
    for (; !across && rows > 1 && data[1] < 0; rows--) data += columns;
    size_t frames = across ? columns : rows, codebooks = across ? rows : columns - 1;
    *out = (code_rows){malloc((frames * codebooks + 1) * sizeof *out->codes), frames, codebooks};
    if (!out->codes) return app_no_memory(err);
    for (size_t f = 0; f < frames; f++)
        for (size_t k = 0; k < codebooks; k++)
            out->codes[f * codebooks + k] =
                across ? data[k * columns + f] : data[f * columns + k + 1];
    return EXIT_OK;
}

int recode_load(code_rows *out, const char *path, app_error *err) {
    tensors_in *in = NULL;
    int32_t *data = NULL;
    int64_t shape[] = {-1, -1};
    memset(out, 0, sizeof *out);
    int rc = tensors_in_open(&in, path, err);
    if (rc != EXIT_OK) return rc;
    bool across = tensors_in_find(in, "codes") || !tensors_in_find(in, "out_tokens");
    const char *name = across ? "codes" : "out_tokens";
    rc = tensors_in_read_i32(in, name, 2, shape, &data, err);
    int64_t codebooks = across ? shape[0] : shape[1] - 1, frames = shape[across ? 1 : 0];
    if (rc == EXIT_OK && (codebooks < 1 || codebooks > AGREEMENT_CODEBOOKS || frames < 1))
        rc =
            app_fail(err, EXIT_USAGE,
                     "%s: array '%s': wanted 1..%d codebooks and at least one frame, found %" PRId64
                     " and %" PRId64,
                     path, name, AGREEMENT_CODEBOOKS, codebooks, frames);
    if (rc == EXIT_OK) rc = take_rows(out, data, shape, across, err);
    free(data);
    tensors_in_close(in);
    return rc;
}

static int check_codes(const code_rows *codes, const moshi_codec_info *info, app_error *err) {
    for (size_t i = 0; i < codes->frames * codes->codebooks; i++)
        if (codes->codes[i] < 0 || codes->codes[i] >= info->bins)
            return app_fail(
                err, EXIT_USAGE, "codes: frame %zu, codebook %zu: wanted 0..%d, found %" PRId32,
                i / codes->codebooks, i % codes->codebooks, info->bins - 1, codes->codes[i]);
    return EXIT_OK;
}

/* ---- the recording's own codes -------------------------------------------------------------- */

static int measure_own(recode_facts *out, moshi_codec *codec, const sound *heard, app_error *err) {
    code_rows own = {0};
    code_speech speech = {0};
    alignment laid;
    int rc = code_rows_encode(&own, codec, heard, err);
    if (rc == EXIT_OK) rc = code_speech_make(&speech, codec, &own, err);
    if (rc == EXIT_OK) {
        out->frames = speech.frames;
        memcpy(out->returns, speech.part, sizeof out->returns);
        rc = likeness_compare(&laid, &out->roundtrip, &speech.decoded, heard, err);
    }
    code_rows_free(&own);
    code_speech_free(&speech);
    return rc;
}

/* ---- given codes ---------------------------------------------------------------------------- */

static void keep(recode_facts *out, const recode_trial *trial) {
    if (out->n_trials == RECODE_TRIALS) return;
    int at = out->n_trials++;
    for (; at > 0 && likeness_merit(&out->trials[at - 1].alike) < likeness_merit(&trial->alike);
         at--)
        out->trials[at] = out->trials[at - 1];
    out->trials[at] = *trial;
}

static int try_fault(recode_facts *out, const code_fault *fault, finding_kind kind,
                     moshi_codec *codec, const code_rows *codes, const sound *heard,
                     app_error *err) {
    recode_trial t = {.kind = kind, .codebooks = (int)codes->codebooks};
    code_rows moved = {0};
    sound decoded = {0};
    snprintf(t.what, sizeof t.what, "%s", fault->name);
    int rc = code_rows_displace(&moved, codes, fault, err);
    if (rc == EXIT_OK) rc = code_rows_decode(&decoded, codec, &moved, err);
    if (rc == EXIT_OK) rc = likeness_compare(&t.laid, &t.alike, heard, &decoded, err);
    if (rc == EXIT_OK) keep(out, &t);
    code_rows_free(&moved);
    sound_free(&decoded);
    return rc;
}

/* The first n codebooks of each frame. */
static int try_fewer(recode_facts *out, size_t n, const codec_opener *opener,
                     const code_rows *codes, const sound *heard, app_error *err) {
    code_fault nothing = {.name = ""};
    moshi_codec *codec = NULL;
    char name[48];
    code_rows few = {malloc((codes->frames * n + 1) * sizeof *few.codes), codes->frames, n};
    int rc = few.codes ? opener->open(&codec, (int)n, opener->user, err) : app_no_memory(err);
    snprintf(name, sizeof name, "%zu codebook%s", n, n == 1 ? "" : "s");
    nothing.name = name;
    for (size_t f = 0; rc == EXIT_OK && f < codes->frames; f++)
        memcpy(few.codes + f * n, codes->codes + f * codes->codebooks, n * sizeof *few.codes);
    if (rc == EXIT_OK)
        rc = try_fault(out, &nothing, FINDING_CODEBOOKS_MISSING, codec, &few, heard, err);
    moshi_codec_close(codec);
    code_rows_free(&few);
    return rc;
}

static int try_all(recode_facts *out, const codec_opener *opener, moshi_codec *codec,
                   const code_rows *codes, const sound *heard, app_error *err) {
    static const code_fault NOTHING = {.name = "as they are"};
    int rc = try_fault(out, &NOTHING, FINDING_KINDS, codec, codes, heard, err);
    if (rc != EXIT_OK || out->trials[0].alike.si_sdr_db >= RECODE_VERY_DB) return rc;
    for (int i = 0; rc == EXIT_OK && i < CODE_SUSPECTS && codes->codebooks > 1; i++) {
        /* What undoes it, the other way round. */
        code_fault fault = CODE_SUSPECT[i];
        fault.delay = -fault.delay;
        fault.rotate = -fault.rotate;
        rc = try_fault(out, &fault, fault.delay ? FINDING_CODES_DELAYED : FINDING_CODES_REORDERED,
                       codec, codes, heard, err);
    }
    for (size_t n = 1; rc == EXIT_OK && n < codes->codebooks; n *= 2)
        rc = try_fewer(out, n, opener, codes, heard, err);
    return rc;
}

/* `heard` from where the sound of the codes begins. */
static int lay(sound *out, const sound *heard, double delay_s, app_error *err) {
    ptrdiff_t late = (ptrdiff_t)lrint(delay_s * heard->rate_hz);
    ptrdiff_t n = (ptrdiff_t)heard->n - late;
    int rc = sound_make(out, n > 0 ? (size_t)n : 0, heard->rate_hz, err);
    for (size_t i = 0; rc == EXIT_OK && i < out->n; i++) {
        ptrdiff_t from = (ptrdiff_t)i + late;
        if (from >= 0) out->pcm[i] = heard->pcm[from];
    }
    return rc;
}

/* Codes change with a few samples of delay: the recording is taken as it is, too. */
static int measure_agreement(agreement *out, double delay_s, moshi_codec *codec,
                             const code_speech *speech, const sound *heard, app_error *err) {
    agreement there = {0};
    sound laid = {0};
    int rc = lay(&laid, heard, delay_s, err);
    if (rc == EXIT_OK) rc = agreement_measure(out, codec, speech, heard, err);
    if (rc == EXIT_OK) rc = agreement_measure(&there, codec, speech, &laid, err);
    if (rc == EXIT_OK && there.part[0] > out->part[0]) *out = there;
    sound_free(&laid);
    return rc;
}

bool recode_explains(const recode_trial *t) {
    return t->alike.si_sdr_db >= RECODE_EXACT_DB / 2;
}

const recode_trial *recode_as_is(const recode_facts *facts) {
    for (int i = 0; i < facts->n_trials; i++)
        if (facts->trials[i].kind == FINDING_KINDS) return &facts->trials[i];
    return NULL;
}

static int measure_given(recode_facts *out, const codec_opener *opener, moshi_codec *codec,
                         const code_rows *codes, const sound *heard, app_error *err) {
    code_speech speech = {0};
    int rc = code_speech_make(&speech, codec, codes, err);
    if (rc == EXIT_OK) {
        out->from_codes = true;
        out->given_frames = speech.frames;
        memcpy(out->possible, speech.part, sizeof out->possible);
        rc = try_all(out, opener, codec, codes, heard, err);
    }
    if (rc == EXIT_OK)
        rc = measure_agreement(&out->codes, recode_as_is(out)->laid.delay_s, codec, &speech, heard,
                               err);
    if (rc == EXIT_OK && speech.frames >= AGREEMENT_FEWEST && speech.returns < AGREEMENT_LEAST)
        rc = agreement_explain(&out->displaced, &out->without, codec, codes, err);
    code_speech_free(&speech);
    return rc;
}

/* ---- both ----------------------------------------------------------------------------------- */

int recode_measure(recode_facts *out, const codec_opener *opener, const sound *heard,
                   const code_rows *codes, app_error *err) {
    moshi_codec *codec = NULL;
    moshi_codec_info info = {0};
    sound at_rate = {0}, shorter = *heard;
    code_rows some = codes ? *codes : (code_rows){0};
    memset(out, 0, sizeof *out);
    size_t most = (size_t)(RECODE_LONGEST_S * heard->rate_hz);
    if (shorter.n > most) shorter.n = most;
    int rc = opener->open(&codec, codes ? (int)codes->codebooks : 0, opener->user, err);
    if (rc != EXIT_OK) return rc;
    moshi_codec_get_info(codec, &info);
    if (some.frames > (size_t)(RECODE_LONGEST_S * info.frame_rate_hz))
        some.frames = (size_t)(RECODE_LONGEST_S * info.frame_rate_hz);
    out->measured = true;
    out->codebooks = info.codebooks < AGREEMENT_CODEBOOKS ? info.codebooks : AGREEMENT_CODEBOOKS;
    rc = codes ? check_codes(codes, &info, err) : EXIT_OK;
    if (rc == EXIT_OK)
        rc = sound_resample(&at_rate, &shorter, &SINC_FILE, info.sample_rate_hz, NULL, err);
    if (rc == EXIT_OK) rc = measure_own(out, codec, &at_rate, err);
    if (rc == EXIT_OK && codes) {
        size_t wanted = some.frames * (size_t)info.frame_samples, have = shorter.n;
        size_t apart = have > wanted ? have - wanted : wanted - have;
        out->as_long = heard->rate_hz == info.sample_rate_hz && apart < (size_t)info.frame_samples;
        rc = measure_given(out, opener, codec, &some, &at_rate, err);
    }
    sound_free(&at_rate);
    moshi_codec_close(codec);
    return rc;
}
