/* The model in models/demo against recorded runs of the original on the sample recordings, in both
 * first-frame conventions: every code heard, every token spoken, the words, and some of the
 * sound. */
#include "check.h"
#include "drive.h"

#include <stdlib.h>
#include <string.h>

typedef struct sample {
    const char *name, *words;
} sample;

static const sample samples[] = {
    {"00_what_is_three_plus_seven_user", "three plus seven is ten"},
    {"03_tell_me_the_days_of_the_week_user",
     "monday tuesday wednesday thursday friday saturday sunday"},
    {"05_tell_me_nine_times_nine_user", "nine times nine is eighty one"},
    {"11_make_me_laugh_user", "why is six afraid of seven because seven eight nine"},
    {"barge_user", "monday tuesday wednesday three plus seven is ten"},
};

static void check_sound(const sample *s, const tensors *g, const event_log *log) {
    const tensor *want = tensors_find(g, "out_audio");
    if (!want) return;
    size_t first = (size_t)tensors_i32(g, 1, "audio_first_frame")[0] * 1920;
    if (!CHECK(first + want->count <= log->n_pcm, "%s: only %zu samples", s->name, log->n_pcm))
        return;
    double d = max_diff(log->pcm + first, want->f, want->count);
    CHECK(d < 1e-5, "%s: sound differs by %g", s->name, d);
}

/* Words of the transcript, one space between them. */
static void check_words(const sample *s, const event_log *log) {
    char words[1024] = "", heard[1024] = "";
    for (const char *line = log->n_words ? log->words : ""; *line;) {
        size_t word = strcspn(line, " "), all = strcspn(line, "\n") + 1;
        if (strlen(words) + word + 2 < sizeof words) {
            if (*words) strcat(words, " ");
            strncat(words, line, word);
        }
        line += all;
    }
    CHECK(!strcmp(words, s->words), "%s: words are \"%s\"", s->name, words);
    const char *text = log->n_text ? log->text : "";
    snprintf(heard, sizeof heard, "%s", text + (*text == ' '));
    CHECK(!strcmp(heard, s->words), "%s: text is \"%s\"", s->name, heard);
}

static void test_sample(moshi_engine *engine, const sample *s, bool server) {
    char path[256];
    tensors g;
    snprintf(path, sizeof path, "tests/golden/demo/%s.%s.safetensors", s->name,
             server ? "server" : "inference");
    if (!CHECK(tensors_load(&g, path), "%s not read", path)) return;
    size_t n;
    snprintf(path, sizeof path, "samples/%s.wav", s->name);
    float *pcm = load_speech(path, 12, &n); /* as when it was recorded */
    CHECK((size_t)tensors_i32(&g, 1, "input_samples")[0] == n, "%s: another recording", s->name);
    const tensor *in = tensors_find(&g, "in_codes"), *out = tensors_find(&g, "out_tokens");
    size_t frames = (size_t)in->shape[1];
    moshi_session_options o = {.flags = MOSHI_GREEDY | (server ? MOSHI_FIRST_FRAME_SERVER : 0)};
    moshi_session *session = open_session(engine, &o);
    tap_log taps = {.slot = moshi_session_slot(session)};
    event_log log;
    event_log_init(&log, engine);
    moshi_engine_trace(engine, "mimi.enc.codes", tap_log_fn, &taps);
    run_pcm(engine, session, pcm, n, 0, &log);
    const int32_t *heard = tap_i32(&taps, frames * 8, "mimi.enc.codes");
    int wrong = 0;
    for (size_t t = 0; t < frames; t++)
        for (size_t k = 0; k < 8; k++) wrong += heard[t * 8 + k] != in->i[k * frames + t];
    CHECK(wrong == 0, "%s: %d codes heard differ", s->name, wrong);
    if (CHECK(log.frames == (size_t)out->shape[0], "%s: %zu frames", s->name, log.frames)) {
        size_t bad = first_diff(log.tokens, out->i, out->count);
        CHECK(bad == out->count, "%s %s: token %zu of frame %zu differs", s->name,
              server ? "server" : "inference", bad % 9, bad / 9);
    }
    check_sound(s, &g, &log);
    check_words(s, &log);
    moshi_engine_trace(engine, NULL, NULL, NULL);
    moshi_session_close(session);
    tap_log_free(&taps);
    event_log_free(&log);
    tensors_free(&g);
    free(pcm);
}

int main(void) {
    moshi_engine *engine = open_engine("models/demo", NULL, 0, 2, 2, 0);
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++)
        for (int server = 0; server < 2; server++) test_sample(engine, &samples[i], server);
    moshi_engine_close(engine);
    return check_done("test_demo_model");
}
