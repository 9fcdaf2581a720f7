/* dump.c - the pictures that the networks of app/voice.c are trained on.
 *
 *     dump OUT SPEED... -- FILE...
 *
 * For each file and speed OUT gets int32 frames, int32 index of the file, float speed, and the
 * picture [frames, MEL_BANDS] as floats. Built by hand:
 *
 *     cc -D_GNU_SOURCE -Iapp -Iinclude tools/ear/dump.c build/current/app-parts.a \
 *         build/current/libmoshi.a -lsndfile -lkissfft-float -lcurl -ljansson -lm -pthread -o dump
 */
#include "soundfile.h"
#include "spectrum.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SPEEDS_MAX = 32 };

static int dump(FILE *out, const soundfile *r, int index, double speed) {
    mel_picture p;
    app_error err;
    if (mel_picture_make(&p, r->pcm, r->n, r->facts.rate_hz * speed, &err) != EXIT_OK)
        return fprintf(stderr, "%s\n", err.text), 1;
    int32_t head[2] = {(int32_t)p.frames, index};
    float value = (float)speed;
    fwrite(head, sizeof head, 1, out);
    fwrite(&value, sizeof value, 1, out);
    fwrite(p.log_energy, MEL_BANDS * sizeof *p.log_energy, p.frames, out);
    mel_picture_free(&p);
    return 0;
}

int main(int argc, char **argv) {
    double speeds[SPEEDS_MAX];
    int n = 0, i = 2, bad = 0;
    FILE *out = argc > 4 ? fopen(argv[1], "wb") : NULL;
    if (!out) return fprintf(stderr, "usage: dump OUT SPEED... -- FILE...\n"), 2;
    for (; i < argc && strcmp(argv[i], "--") != 0 && n < SPEEDS_MAX; i++)
        speeds[n++] = atof(argv[i]);
    for (int first = ++i; i < argc; i++) {
        soundfile r;
        app_error err;
        if (soundfile_read(&r, argv[i], 12, &err) != EXIT_OK) {
            fprintf(stderr, "%s\n", err.text);
            bad = 1;
            continue;
        }
        for (int s = 0; s < n; s++) bad |= dump(out, &r, i - first, speeds[s]);
        soundfile_free(&r);
    }
    return fclose(out) != 0 || bad;
}
