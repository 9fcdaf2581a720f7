/* sound.c - recordings in memory. */
#include "sound.h"

#include "audiofile.h"
#include "audioout.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int sound_make(sound *out, size_t n, int rate_hz, app_error *err) {
    *out = (sound){.pcm = calloc(n + 1, sizeof *out->pcm), .n = n, .rate_hz = rate_hz};
    return out->pcm ? EXIT_OK : app_no_memory(err);
}

int sound_copy(sound *out, const sound *in, app_error *err) {
    int rc = sound_make(out, in->n, in->rate_hz, err);
    if (rc == EXIT_OK && in->n) memcpy(out->pcm, in->pcm, in->n * sizeof *in->pcm);
    return rc;
}

int sound_append(sound *to, const sound *from, app_error *err) {
    float *more = realloc(to->pcm, (to->n + from->n + 1) * sizeof *more);
    if (!more) return app_no_memory(err);
    if (from->n) memcpy(more + to->n, from->pcm, from->n * sizeof *more);
    to->pcm = more;
    to->n += from->n;
    to->rate_hz = from->rate_hz;
    return EXIT_OK;
}

/* ---- in ------------------------------------------------------------------------------------- */

/* Of longer files nobody would wait for the answer, or hold it in memory several times. */
static const double LONGEST_S = 3600;
enum { BLOCK = 1 << 16 };

/* Closes `in`. */
static int read_all(sound *out, audio_in *in, const char *name, int rate_hz, app_error *err) {
    sound block = {0};
    size_t got = BLOCK;
    if (rate_hz == 0) rate_hz = audio_in_facts(in)->rate_hz;
    int rc = audio_in_set_rate(in, rate_hz, err);
    if (rc == EXIT_OK) rc = sound_make(&block, BLOCK, rate_hz, err);
    while (rc == EXIT_OK && got == BLOCK) {
        rc = audio_in_read(in, block.pcm, BLOCK, &got, err);
        block.n = got;
        if (rc == EXIT_OK) rc = sound_append(out, &block, err);
        if (rc == EXIT_OK && (double)out->n > LONGEST_S * rate_hz)
            rc = app_fail(err, EXIT_USAGE, "%s: too long: wanted at most %.0f s", name, LONGEST_S);
    }
    if (rc == EXIT_OK && out->n == 0) rc = app_fail(err, EXIT_USAGE, "%s: has no samples", name);
    sound_free(&block);
    audio_in_close(in);
    return rc;
}

int sound_load(sound *out, const char *path, int rate_hz, app_error *err) {
    audio_in *in;
    memset(out, 0, sizeof *out);
    int rc = audio_in_open(&in, path, err);
    return rc == EXIT_OK ? read_all(out, in, path, rate_hz, err) : rc;
}

int sound_load_memory(sound *out, const char *name, const void *data, size_t n, int rate_hz,
                      app_error *err) {
    audio_in *in;
    memset(out, 0, sizeof *out);
    int rc = audio_in_open_memory(&in, name, data, n, err);
    return rc == EXIT_OK ? read_all(out, in, name, rate_hz, err) : rc;
}

/* ---- another rate --------------------------------------------------------------------------- */

static void run_through(resampler *r, const sound *in, sound *out) {
    size_t done = 0, got = 0;
    bool ended = false;
    for (;;) {
        size_t more = resampler_pull(r, out->pcm + got, out->n - got);
        got += more;
        if (more > 0) continue;
        if (ended) break;
        done += resampler_push(r, in->pcm + done, in->n - done);
        if (done < in->n) continue;
        resampler_end(r);
        ended = true;
    }
    out->n = got;
}

static void describe(const resampler *r, resample_report *report) {
    const sinc_table *table = resampler_table(r);
    report->active = table->settings;
    report->taps = 2 * table->half;
    report->rows = table->rows;
    if (!table->weights) return;
    sha hash;
    sha_start(&hash, SHA_256);
    sha_add(&hash, table->weights, sinc_table_count(table) * sizeof *table->weights);
    sha_end(&hash, report->kernel_sha256);
}

int sound_resample(sound *out, const sound *in, const sinc_settings *settings, int rate_hz,
                   resample_report *report, app_error *err) {
    resample_report unwanted;
    if (!report) report = &unwanted;
    memset(out, 0, sizeof *out);
    *report = (resample_report){.in_hz = in->rate_hz, .out_hz = in->rate_hz};
    if (settings->length == 0) {
        report->active = *settings;
        return sound_copy(out, in, err);
    }
    report->out_hz = rate_hz;
    double started = app_now_s();
    resampler *r = resampler_open_with(settings, in->rate_hz, rate_hz);
    if (!r) return app_no_memory(err);
    size_t n = (size_t)ceil((double)in->n * rate_hz / in->rate_hz) + 1;
    int rc = sound_make(out, n, rate_hz, err);
    if (rc == EXIT_OK) {
        run_through(r, in, out);
        report->seconds = app_now_s() - started;
        describe(r, report);
    }
    resampler_close(r);
    return rc;
}

/* ---- out ------------------------------------------------------------------------------------ */

void sound_sha256(const sound *s, char hex[SHA_HEX]) {
    sha hash;
    sha_start(&hash, SHA_256);
    sha_add(&hash, s->pcm, s->n * sizeof *s->pcm);
    sha_end(&hash, hex);
}

int sound_save(const sound *s, const char *path, uint64_t *clipped, app_error *err) {
    audio_out *out;
    int rc = audio_out_open(&out, path, NULL, false, err);
    if (rc != EXIT_OK) return rc;
    rc = audio_out_start(out, s->rate_hz, err);
    if (rc == EXIT_OK) rc = audio_out_write(out, s->pcm, s->n, err);
    *clipped = audio_out_clipped(out);
    if (rc == EXIT_OK) rc = audio_out_commit(out, err);
    audio_out_close(out);
    return rc;
}

void sound_reverse(float *pcm, size_t n) {
    for (size_t i = 0; i < n / 2; i++) {
        float swap = pcm[i];
        pcm[i] = pcm[n - 1 - i];
        pcm[n - 1 - i] = swap;
    }
}

void sound_free(sound *s) {
    free(s->pcm);
    memset(s, 0, sizeof *s);
}
