/* stimulus.c - reading what is said to a model. */
#include "stimulus.h"

#include "embedded.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int read_samples(int rate_hz, sound *to, app_error *err) {
    const moshi_blob *files = embedded_samples();
    int rc = EXIT_OK;
    for (int i = 0; rc == EXIT_OK && i < EMBEDDED_SAMPLES; i++) {
        sound one = {0};
        rc = sound_load_memory(&one, files[i].name, files[i].data, files[i].size, rate_hz, err);
        if (rc == EXIT_OK) rc = sound_append(to, &one, err);
        sound_free(&one);
    }
    return rc;
}

int stimulus_load(stimulus *out, const char *path, int rate_hz, size_t frame, double most_s,
                  double tail_s, app_error *err) {
    memset(out, 0, sizeof *out);
    sound tail = {0};
    out->source = strdup(path ? path : "two questions inside the program");
    int rc = out->source ? EXIT_OK : app_no_memory(err);
    if (rc == EXIT_OK)
        rc = path ? sound_load(&out->sound, path, rate_hz, err)
                  : read_samples(rate_hz, &out->sound, err);
    if (rc == EXIT_OK && (double)out->sound.n > most_s * rate_hz)
        out->sound.n = (size_t)(most_s * rate_hz);
    if (rc == EXIT_OK) {
        size_t fill = (frame - out->sound.n % frame) % frame;
        out->recorded = out->sound.n + fill;
        fill += (size_t)ceil(tail_s * rate_hz / (double)frame - 1e-6) * frame;
        rc = sound_make(&tail, fill, rate_hz, err);
    }
    if (rc == EXIT_OK) rc = sound_append(&out->sound, &tail, err);
    if (rc == EXIT_OK) sound_sha256(&out->sound, out->sha256);
    sound_free(&tail);
    return rc;
}

void stimulus_free(stimulus *s) {
    free(s->source);
    sound_free(&s->sound);
    memset(s, 0, sizeof *s);
}
