/* bench_cost YARDSTICK RECORDINGS MODEL KV [MODEL KV]... - what numbers of fewer bits cost.
 *
 * YARDSTICK, computed exactly, listens to RECORDINGS (names separated by spaces, six seconds of
 * silence after each); every MODEL, with its cache as KV (f32, bf16, q8_0), is led along the same
 * conversations token by token. One line for each, fields separated by tabs: megabytes of weights,
 * kilobytes of state, KL divergence of text and of audio, percent of tokens alike of text and of
 * audio. tests/cost.sh makes a table of it. */
#include "teacher.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LESSONS = 256, SILENT_FRAMES = 75 };

static moshi_kv kv_of(const char *name) {
    return strcmp(name, "q8_0") == 0   ? MOSHI_KV_Q8_0
           : strcmp(name, "bf16") == 0 ? MOSHI_KV_BF16
                                       : MOSHI_KV_F32;
}

static size_t hear(const char *model, char *recordings, lesson *lessons) {
    moshi_engine *yardstick = open_engine(model, NULL, 0, 1, 1, MOSHI_EXACT);
    size_t count = 0;
    for (char *path = strtok(recordings, " "); path; path = strtok(NULL, " ")) {
        if (count == MAX_LESSONS) test_die("more than %d recordings", MAX_LESSONS);
        size_t n;
        float *pcm = load_speech(path, SILENT_FRAMES, &n);
        lesson_record(&lessons[count++], yardstick, pcm, n);
        free(pcm);
        fprintf(stderr, "\rheard %zu recordings", count);
    }
    fputc('\n', stderr);
    moshi_engine_close(yardstick);
    return count;
}

static void compare(const char *model, const char *kv, const lesson *lessons, size_t n) {
    moshi_engine_options o = {.model = model, .threads = 1, .kv = kv_of(kv)};
    o.flags = MOSHI_NO_CODEC;
    moshi_engine *variant = open_engine_with(&o);
    moshi_engine_info info;
    moshi_engine_get_info(variant, &info);
    marks text = {0}, audio = {0};
    for (size_t i = 0; i < n; i++) lesson_take(&lessons[i], variant, &text, &audio);
    moshi_engine_close(variant);
    printf("%.1f\t%.0f\t%.1e\t%.1e\t%.2f\t%.2f\n", (double)info.weight_bytes * 1e-6,
           (double)info.state_bytes * 1e-3, text.kl / (double)text.n, audio.kl / (double)audio.n,
           100.0 * (double)text.same / (double)text.n,
           100.0 * (double)audio.same / (double)audio.n);
    fflush(stdout);
}

int main(int argc, char **argv) {
    static lesson lessons[MAX_LESSONS];
    if (argc < 5 || argc % 2 == 0) {
        fprintf(stderr, "usage: bench_cost YARDSTICK RECORDINGS MODEL KV [MODEL KV]...\n");
        return 2;
    }
    size_t n = hear(argv[1], argv[2], lessons);
    for (int i = 3; i < argc; i += 2) compare(argv[i], argv[i + 1], lessons, n);
    for (size_t i = 0; i < n; i++) lesson_free(&lessons[i]);
    return 0;
}
