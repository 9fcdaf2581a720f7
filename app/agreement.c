/* agreement.c - codes to sound and back, and what comes back. */
#include "agreement.h"

#include "model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A frame is silent when it is this far below the loudest one, or hardly there at all. */
static const double SILENT_PART = 0.02, SILENT_RMS = 1e-4;

static int rows_make(code_rows *out, size_t frames, size_t codebooks, app_error *err) {
    *out = (code_rows){calloc(frames * codebooks + 1, sizeof *out->codes), frames, codebooks};
    return out->codes ? EXIT_OK : app_no_memory(err);
}

void code_rows_free(code_rows *rows) {
    free(rows->codes);
    memset(rows, 0, sizeof *rows);
}

/* ---- through the codec ---------------------------------------------------------------------- */

int code_rows_encode(code_rows *out, moshi_codec *codec, const sound *in, app_error *err) {
    moshi_codec_info info;
    moshi_codec_get_info(codec, &info);
    size_t frame = (size_t)info.frame_samples, frames = (in->n + frame - 1) / frame;
    int rc = rows_make(out, frames, (size_t)info.codebooks, err);
    float *pcm = calloc(frame, sizeof *pcm);
    if (rc == EXIT_OK && !pcm) rc = app_no_memory(err);
    int done = moshi_codec_reset(codec);
    for (size_t f = 0; rc == EXIT_OK && done >= 0 && f < frames; f++) {
        size_t left = in->n - f * frame, n = left < frame ? left : frame;
        memset(pcm, 0, frame * sizeof *pcm);
        memcpy(pcm, in->pcm + f * frame, n * sizeof *pcm);
        done = moshi_codec_encode(codec, pcm, 1, out->codes + f * out->codebooks);
        rc = app_check_interrupted(err);
    }
    free(pcm);
    return rc == EXIT_OK && done < 0 ? app_fail_library(err, done, "") : rc;
}

int code_rows_decode(sound *out, moshi_codec *codec, const code_rows *in, app_error *err) {
    moshi_codec_info info;
    moshi_codec_get_info(codec, &info);
    size_t frame = (size_t)info.frame_samples;
    int rc = sound_make(out, in->frames * frame, info.sample_rate_hz, err);
    int done = moshi_codec_reset(codec);
    for (size_t f = 0; rc == EXIT_OK && done >= 0 && f < in->frames; f++) {
        done = moshi_codec_decode(codec, in->codes + f * in->codebooks, 1, out->pcm + f * frame);
        rc = app_check_interrupted(err);
    }
    return rc == EXIT_OK && done < 0 ? app_fail_library(err, done, "") : rc;
}

/* ---- agreement ------------------------------------------------------------------------------ */

static double frame_rms(const sound *s, size_t frame, size_t index) {
    double sum = 0;
    size_t from = index * frame, to = from + frame < s->n ? from + frame : s->n;
    for (size_t i = from; i < to; i++) sum += (double)s->pcm[i] * (double)s->pcm[i];
    return sqrt(sum / (double)frame);
}

static double loudest_frame(const sound *s, size_t frame, size_t frames) {
    double loudest = 0;
    for (size_t f = 0; f < frames; f++) loudest = fmax(loudest, frame_rms(s, frame, f));
    return loudest;
}

static bool is_silent(const sound *s, size_t frame, size_t index, double loudest) {
    double rms = frame_rms(s, frame, index);
    return rms < SILENT_RMS || rms < SILENT_PART * loudest;
}

/* `a` and `b` are the sounds before and after. */
static void compare(agreement *out, const code_rows *want, const code_rows *got, size_t frame,
                    const sound *a, const sound *b) {
    double loudest_a = loudest_frame(a, frame, want->frames);
    double loudest_b = loudest_frame(b, frame, want->frames);
    out->codebooks = want->codebooks < got->codebooks ? want->codebooks : got->codebooks;
    if (out->codebooks > AGREEMENT_CODEBOOKS) out->codebooks = AGREEMENT_CODEBOOKS;
    for (size_t f = 0; f < want->frames; f++) {
        if (is_silent(a, frame, f, loudest_a) && is_silent(b, frame, f, loudest_b)) continue;
        out->frames++;
        if (f >= got->frames) continue; /* the sound ended too early: nothing came back */
        for (size_t k = 0; k < out->codebooks; k++)
            out->part[k] +=
                want->codes[f * want->codebooks + k] == got->codes[f * got->codebooks + k];
    }
    for (size_t k = 0; out->frames && k < out->codebooks; k++) out->part[k] /= (double)out->frames;
    out->judged = out->frames >= AGREEMENT_FEWEST;
}

static bool all_finite(const sound *s) {
    for (size_t i = 0; i < s->n; i++)
        if (!isfinite(s->pcm[i])) return false;
    return true;
}

static int encode_and_compare(agreement *out, moshi_codec *codec, const code_speech *speech,
                              const sound *in, app_error *err) {
    moshi_codec_info info;
    code_rows again = {0};
    memset(out, 0, sizeof *out);
    moshi_codec_get_info(codec, &info);
    /* Samples that are no numbers cannot be encoded: nothing comes back. */
    int rc = all_finite(in) ? code_rows_encode(&again, codec, in, err)
                            : rows_make(&again, 0, speech->codes.codebooks, err);
    if (rc == EXIT_OK)
        compare(out, &speech->codes, &again, (size_t)info.frame_samples, &speech->decoded, in);
    code_rows_free(&again);
    return rc;
}

int code_speech_make(code_speech *out, moshi_codec *codec, const code_rows *codes, app_error *err) {
    static const code_fault nothing = {.name = ""};
    agreement a;
    memset(out, 0, sizeof *out);
    int rc = code_rows_displace(&out->codes, codes, &nothing, err);
    if (rc == EXIT_OK) rc = code_rows_decode(&out->decoded, codec, &out->codes, err);
    if (rc == EXIT_OK) rc = encode_and_compare(&a, codec, out, &out->decoded, err);
    if (rc != EXIT_OK) return rc;
    out->returns = a.part[0];
    memcpy(out->part, a.part, sizeof out->part);
    out->frames = a.frames;
    return EXIT_OK;
}

void code_speech_free(code_speech *speech) {
    code_rows_free(&speech->codes);
    sound_free(&speech->decoded);
    memset(speech, 0, sizeof *speech);
}

int agreement_measure(agreement *out, moshi_codec *codec, const code_speech *speech,
                      const sound *in, app_error *err) {
    int rc = encode_and_compare(out, codec, speech, in, err);
    if (rc != EXIT_OK) return rc;
    out->wanted = fmax(AGREEMENT_LEAST, AGREEMENT_KEPT * speech->returns);
    out->holds = out->judged && out->part[0] >= out->wanted;
    return EXIT_OK;
}

/* ---- displaced codes ------------------------------------------------------------------------ */

static int32_t code_at(const code_rows *in, ptrdiff_t frame, size_t codebook) {
    if (frame < 0) frame = 0;
    if (frame >= (ptrdiff_t)in->frames) frame = (ptrdiff_t)in->frames - 1;
    return in->codes[(size_t)frame * in->codebooks + codebook];
}

int code_rows_displace(code_rows *out, const code_rows *in, const code_fault *fault,
                       app_error *err) {
    int rc = rows_make(out, in->frames, in->codebooks, err);
    if (rc != EXIT_OK) return rc;
    size_t first = fault->rotate_all ? 0 : 1, turned = in->codebooks - first;
    for (size_t f = 0; f < in->frames; f++)
        for (size_t k = 0; k < in->codebooks; k++) {
            size_t from = k;
            if (k >= first && fault->rotate)
                from =
                    first + (k - first + turned + (size_t)(fault->rotate + (int)turned)) % turned;
            if (k >= first && fault->backwards) from = in->codebooks - 1 - (k - first);
            ptrdiff_t at = (ptrdiff_t)f - (k > 0 ? fault->delay : 0);
            out->codes[f * in->codebooks + k] = code_at(in, at, from);
        }
    return EXIT_OK;
}

const code_fault CODE_SUSPECT[CODE_SUSPECTS] = {
    {"acoustic codebooks one frame late (their delays one too small?)", -1, 0, false, false},
    {"acoustic codebooks one frame early (their delays one too large?)", 1, 0, false, false},
    {"acoustic codebooks two frames late (their delays two too small?)", -2, 0, false, false},
    {"acoustic codebooks two frames early (their delays two too large?)", 2, 0, false, false},
    {"acoustic codebooks in another order", 0, 1, false, false},
    {"acoustic codebooks in another order", 0, -1, false, false},
    {"all codebooks in another order", 0, 1, true, false},
    {"all codebooks in another order", 0, -1, true, false},
    {"acoustic codebooks in another order (last first)", 0, 0, false, true},
    {"all codebooks in another order (last first)", 0, 0, true, true},
};

int agreement_explain(const code_fault **found, double *part, moshi_codec *codec,
                      const code_rows *codes, app_error *err) {
    int rc = EXIT_OK;
    *found = NULL;
    *part = 0;
    for (size_t i = 0; rc == EXIT_OK && i < CODE_SUSPECTS; i++) {
        code_rows moved = {0};
        code_speech speech = {0};
        rc = code_rows_displace(&moved, codes, &CODE_SUSPECT[i], err);
        if (rc == EXIT_OK) rc = code_speech_make(&speech, codec, &moved, err);
        if (rc == EXIT_OK && speech.returns >= AGREEMENT_LEAST && speech.returns > *part) {
            *found = &CODE_SUSPECT[i];
            *part = speech.returns;
        }
        code_rows_free(&moved);
        code_speech_free(&speech);
    }
    return rc;
}
