/* cmd_reply.c - `moshi reply`: a recording in, the model's spoken answer and its words out. */
#include "audiofile.h"
#include "audioout.h"
#include "json.h"
#include "model.h"
#include "progress.h"
#include "tokenlog.h"
#include "verb.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const double DEFAULT_TAIL_S = 6.0;
static const uint64_t DEFAULT_SEED = 299792458; /* the library's, for the report */

typedef struct reply {
    const arguments *args;
    bool json, times, live, quiet;
    audio_in *in;
    audio_out *out;
    token_log tokens;
    moshi_engine *engine;
    moshi_session *session;
    moshi_engine_info info;
    progress bar;
    app_buffer text; /* everything said so far */
    json_t *words;
    size_t n_words, shown; /* bytes of text already on standard output */
    int64_t frames_pushed, frames_in, frames_out, frames_expected;
    double load_s, run_s;
} reply;

/* ---- options -------------------------------------------------------------------------------- */

static bool zero_given(const arguments *args, const char *name) {
    return option_given(args, name) && option_of(args, name)->real == 0;
}

/* Nothing is left to chance: one stream's temperature is 0, or there is one candidate. */
static bool is_certain(const arguments *args, const char *temp, const char *top_k) {
    return zero_given(args, temp) || option_of(args, top_k)->integer == 1;
}

/* Options that would change nothing are refused: they show a misunderstanding. */
static int check_sampling(const arguments *args, app_error *err) {
    static const char *const sampling[] = {"seed", "text-temp", "text-top-k", "audio-temp",
                                           "audio-top-k"};
    static const char *const streams[2][2] = {{"text-temp", "text-top-k"},
                                              {"audio-temp", "audio-top-k"}};
    for (size_t i = 0; i < sizeof sampling / sizeof sampling[0]; i++) {
        int rc = option_refuse_with(args, sampling[i], "greedy", err);
        if (rc != EXIT_OK) return rc;
    }
    for (int i = 0; i < 2; i++) {
        const char *temp = streams[i][0], *top_k = streams[i][1];
        if (zero_given(args, temp) && option_given(args, top_k))
            return app_fail(err, EXIT_USAGE, "--%s has no effect with --%s 0", top_k, temp);
        if (option_of(args, top_k)->integer == 1 && option_given(args, temp))
            return app_fail(err, EXIT_USAGE, "--%s has no effect with --%s 1", temp, top_k);
    }
    if (option_given(args, "seed") && is_certain(args, "text-temp", "text-top-k") &&
        is_certain(args, "audio-temp", "audio-top-k"))
        return app_fail(err, EXIT_USAGE,
                        "--seed has no effect when words and voice are both chosen without chance "
                        "(temperature 0, or top-k 1)");
    return EXIT_OK;
}

/* Outputs that would harm the model, the recording or each other. */
static int check_outputs(const arguments *args, app_error *err) {
    static const char *const outputs[] = {"output", "tokens"};
    const char *output = option_text(args, "output"), *tokens = option_text(args, "tokens");
    if (is_standard_output(output))
        return app_fail(err, EXIT_USAGE,
                        "-o -: the words go to standard output; wanted a file name");
    if (tokens && is_standard_output(tokens))
        return app_fail(err, EXIT_USAGE,
                        "--tokens -: the words go to standard output; wanted a file name");
    if (tokens && same_file(tokens, output))
        return app_fail(err, EXIT_USAGE, "--tokens %s and -o %s name the same file", tokens,
                        output);
    int rc = EXIT_OK;
    for (int i = 0; rc == EXIT_OK && i < 2; i++)
        if (option_given(args, outputs[i]))
            rc = model_check_output(args, option_text(args, outputs[i]), option_text(args, "lora"),
                                    err);
    return rc;
}

static int check_options(const arguments *args, app_error *err) {
    if (args->n_positional < 1)
        return app_fail(err, EXIT_USAGE, "reply: which recording? moshi reply IN -o OUT.wav");
    if (!option_given(args, "output"))
        return app_fail(err, EXIT_USAGE, "reply: -o is missing: moshi reply IN -o OUT.wav");
    int rc = check_sampling(args, err);
    if (rc == EXIT_OK) rc = option_refuse_with(args, "times", "json", err);
    return rc == EXIT_OK ? check_outputs(args, err) : rc;
}

/* On the command line 0 says greedy, or the whole vocabulary; the library calls that -1. */
static float temp_of(const arguments *args, const char *name) {
    if (!option_given(args, name)) return 0;
    /* Too small for a float is as good as 0. */
    float temp = (float)option_of(args, name)->real;
    return temp > 0 ? temp : -1;
}

static int top_k_of(const arguments *args, const char *name) {
    if (!option_given(args, name)) return 0;
    long long k = option_of(args, name)->integer;
    return k > 0 ? (int)k : -1;
}

static bool is_greedy(const arguments *args) {
    return option_given(args, "greedy") || (is_certain(args, "text-temp", "text-top-k") &&
                                            is_certain(args, "audio-temp", "audio-top-k"));
}

static uint64_t seed_of(const arguments *args) {
    uint64_t seed = option_of(args, "seed")->seed;
    return seed ? seed : DEFAULT_SEED;
}

/* ---- opening -------------------------------------------------------------------------------- */

static int open_session(reply *r, app_error *err) {
    const arguments *args = r->args;
    moshi_error why = {0};
    moshi_session_options options = {
        .seed = option_of(args, "seed")->seed,
        .text_temp = temp_of(args, "text-temp"),
        .audio_temp = temp_of(args, "audio-temp"),
        .text_top_k = top_k_of(args, "text-top-k"),
        .audio_top_k = top_k_of(args, "audio-top-k"),
    };
    if (option_given(args, "greedy")) options.flags |= MOSHI_GREEDY;
    if (option_of(args, "first-frame")->choice == 1) options.flags |= MOSHI_FIRST_FRAME_SERVER;
    int rc = moshi_session_open(&r->session, r->engine, &options, &why);
    if (rc < 0) return app_fail_library(err, rc, why.text);
    return r->tokens.file ? token_log_start(&r->tokens, r->engine, err) : EXIT_OK;
}

static int open_model(reply *r, app_error *err) {
    double started = app_now_s();
    int flags = option_given(r->args, "exact-mask") ? MOSHI_EXACT_MASK : 0;
    int rc = model_open_engine(&r->engine, r->args, flags, err);
    if (rc != EXIT_OK) return rc;
    moshi_engine_get_info(r->engine, &r->info);
    if (r->info.dep_q < 1 || r->info.user_codebooks < 1 || r->info.frame_samples < 1)
        return app_fail(err, EXIT_MODEL,
                        "%s: cannot reply: wanted a model that hears and speaks, found one that "
                        "reads %d audio channels of a user and speaks %d",
                        model_choose(option_text(r->args, "model")).name, r->info.user_codebooks,
                        r->info.dep_q);
    rc = open_session(r, err);
    r->load_s = app_now_s() - started;
    return rc;
}

/* Cheap checks first: a wrong file name must not cost the loading of a large model. */
static int open_all(reply *r, app_error *err) {
    const char *input = r->args->positional[0], *tokens = option_text(r->args, "tokens");
    int rc = audio_in_open(&r->in, input, err);
    if (rc == EXIT_OK)
        rc = audio_out_open(&r->out, option_text(r->args, "output"), input,
                            option_given(r->args, "float"), err);
    if (rc == EXIT_OK && tokens) rc = token_log_open(&r->tokens, tokens, input, err);
    if (rc == EXIT_OK) rc = open_model(r, err);
    if (rc == EXIT_OK) rc = audio_in_set_rate(r->in, r->info.sample_rate_hz, err);
    if (rc == EXIT_OK) rc = audio_out_start(r->out, r->info.sample_rate_hz, err);
    if (rc != EXIT_OK) return rc;
    audio_in_warn(r->in);
    if (!r->quiet) audio_in_note(r->in, r->info.sample_rate_hz);
    return EXIT_OK;
}

/* ---- events --------------------------------------------------------------------------------- */

/* The transcript without the blank that the first piece begins with. */
static const char *spoken(const reply *r) {
    const char *text = r->text.data ? r->text.data : "";
    return text + (text[0] == ' ');
}

static int on_text(reply *r, const moshi_event *ev, app_error *err) {
    int rc = app_buffer_add(&r->text, ev->text, ev->n, err);
    if (rc != EXIT_OK || !r->live) return rc;
    progress_clear(&r->bar);
    const char *text = spoken(r);
    app_print_clean(stdout, text + r->shown);
    r->shown = strlen(text);
    return app_flush_stdout(err);
}

static int on_word(reply *r, const moshi_event *ev, app_error *err) {
    r->n_words++;
    if (r->times) {
        progress_clear(&r->bar);
        printf("%7.2f %7.2f  ", ev->start_s, ev->stop_s);
        app_print_clean(stdout, ev->text);
        putchar('\n');
        return app_flush_stdout(err);
    }
    if (!r->json) return EXIT_OK;
    json_t *word = json_pack("{s:o, s:f, s:f, s:I}", "word", json_text(ev->text), "start_s",
                             ev->start_s, "stop_s", ev->stop_s, "frame",
                             (json_int_t)(ev->start_s * r->info.frame_rate_hz + 0.5));
    return json_array_append_new(r->words, word) == 0 ? EXIT_OK : app_no_memory(err);
}

static int on_event(reply *r, const moshi_event *ev, bool *ended, app_error *err) {
    switch (ev->type) {
    case MOSHI_EVENT_TOKENS:
        r->frames_out++;
        return r->tokens.file ? token_log_add(&r->tokens, ev->tokens, ev->n, err) : EXIT_OK;
    case MOSHI_EVENT_TEXT:
        return on_text(r, ev, err);
    case MOSHI_EVENT_WORD:
        return on_word(r, ev, err);
    case MOSHI_EVENT_AUDIO:
        return audio_out_write(r->out, ev->pcm, ev->n, err);
    case MOSHI_EVENT_END:
        *ended = true;
    }
    return EXIT_OK;
}

static void draw_progress(reply *r) {
    /* Words that are being spoken are progress enough, and would share the line with the bar. */
    if (r->shown && isatty(STDOUT_FILENO)) return;
    char note[64];
    double seconds = (double)r->frames_in / r->info.frame_rate_hz;
    double real_time = seconds > 0 ? (app_now_s() - r->bar.started_s) / seconds : 0;
    snprintf(note, sizeof note, "%.1f s heard, %.2f of real time", seconds, real_time);
    progress_draw(&r->bar, (double)r->frames_in / (double)(r->frames_expected + 1), note);
}

/* Step, but for `left` frames in the queue, and take what comes out. */
static int advance(reply *r, int64_t left, bool *ended, app_error *err) {
    int advanced;
    do {
        int rc = app_check_interrupted(err);
        advanced = 0;
        if (rc == EXIT_OK) advanced = moshi_step(r->engine);
        if (advanced < 0) rc = app_fail_library(err, advanced, moshi_engine_problem(r->engine));
        moshi_event ev;
        while (rc == EXIT_OK && moshi_pull(r->session, &ev) > 0) rc = on_event(r, &ev, ended, err);
        if (rc == EXIT_OK) rc = token_log_check(&r->tokens, err);
        if (rc != EXIT_OK) return rc;
        if (advanced == 0) break;
        r->frames_in++;
        draw_progress(r);
    } while (r->frames_pushed - r->frames_in > left);
    return EXIT_OK;
}

/* Push a whole frame; the queue always has room for one, since it is emptied after each, but for
 * the frame that the encoder hears ahead where it has threads of its own. */
static int push_frame(reply *r, const float *pcm, bool *ended, app_error *err) {
    size_t n = (size_t)r->info.frame_samples;
    int taken = moshi_push_pcm(r->session, pcm, n);
    if (taken < 0) return app_fail_library(err, taken, "");
    if ((size_t)taken < n) return app_fail(err, EXIT_INTERNAL, "the input queue is full");
    const int64_t left = r->info.codec_threads > 0;
    r->frames_pushed++;
    return r->frames_pushed - r->frames_in > left ? advance(r, left, ended, err) : EXIT_OK;
}

static int run_frames(reply *r, float *pcm, app_error *err) {
    size_t frame = (size_t)r->info.frame_samples, got = frame;
    bool ended = false;
    /* The file, its last frame filled up with silence ... */
    while (got == frame) {
        int rc = audio_in_read(r->in, pcm, frame, &got, err);
        if (rc != EXIT_OK) return rc;
        if (got == 0) break;
        memset(pcm + got, 0, (frame - got) * sizeof *pcm);
        rc = push_frame(r, pcm, &ended, err);
        if (rc != EXIT_OK) return rc;
    }
    if (r->frames_in == 0)
        return app_fail(err, EXIT_USAGE, "%s: has no samples", r->args->positional[0]);
    /* ... and then silence, heard as such, while the model answers. */
    double tail = option_given(r->args, "tail") ? option_of(r->args, "tail")->real : DEFAULT_TAIL_S;
    int64_t silent = (int64_t)ceil(tail * r->info.frame_rate_hz - 1e-6);
    memset(pcm, 0, frame * sizeof *pcm);
    for (int64_t i = 0; i < silent; i++) {
        int rc = push_frame(r, pcm, &ended, err);
        if (rc != EXIT_OK) return rc;
    }
    moshi_push_end(r->session);
    int rc = advance(r, 0, &ended, err);
    if (rc == EXIT_OK && !ended) rc = app_fail(err, EXIT_INTERNAL, "the session did not end");
    return rc;
}

static int run_session(reply *r, app_error *err) {
    double tail = option_given(r->args, "tail") ? option_of(r->args, "tail")->real : DEFAULT_TAIL_S;
    r->frames_expected = (int64_t)((audio_in_facts(r->in)->seconds + tail) * r->info.frame_rate_hz);
    float *pcm = calloc((size_t)r->info.frame_samples, sizeof *pcm);
    if (!pcm) return app_no_memory(err);
    progress_start(&r->bar, r->quiet);
    int rc = run_frames(r, pcm, err);
    r->run_s = app_now_s() - r->bar.started_s;
    progress_clear(&r->bar);
    free(pcm);
    return rc;
}

/* ---- results -------------------------------------------------------------------------------- */

static json_t *model_facts(const reply *r) {
    const moshi_engine_info *i = &r->info;
    const char *name = model_choose(option_text(r->args, "model")).name;
    return json_pack("{s:o, s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:f, s:I, s:I, s:I}", "name",
                     json_text(name), "type", i->model_type, "device", i->device, "kernels",
                     i->kernels, "kv", i->kv, "threads", i->threads, "n_q", i->n_q, "dep_q",
                     i->dep_q, "context_frames", i->context, "frame_rate_hz", i->frame_rate_hz,
                     "parameters", (json_int_t)i->parameters, "weight_bytes",
                     (json_int_t)i->weight_bytes, "state_bytes", (json_int_t)i->state_bytes);
}

static int print_json(reply *r, app_error *err) {
    double seconds = (double)r->frames_in / r->info.frame_rate_hz;
    json_t *root = json_pack(
        "{s:o, s:O, s:I, s:I, s:i, s:o, s:o, s:{s:f, s:f, s:f}, s:f, s:o}", "text",
        json_text(spoken(r)), "words", r->words, "frames", (json_int_t)r->frames_out,
        "input_frames", (json_int_t)r->frames_in, "sample_rate", r->info.sample_rate_hz, "input",
        json_text(r->args->positional[0]), "output", json_text(option_text(r->args, "output")),
        "timings", "load_s", r->load_s, "run_s", r->run_s, "audio_s", seconds, "real_time_factor",
        r->run_s / seconds, "model", model_facts(r));
    if (root && is_greedy(r->args)) json_object_set_new(root, "greedy", json_true());
    if (root && !is_greedy(r->args))
        json_object_set_new(root, "seed", json_integer((json_int_t)seed_of(r->args)));
    return json_print(root, err);
}

static int report(reply *r, app_error *err) {
    int rc = EXIT_OK;
    if (r->json) {
        rc = print_json(r, err);
    } else if (!r->times) {
        putchar('\n'); /* the words are there already */
    }
    if (rc == EXIT_OK) rc = app_flush_stdout(err);
    if (rc != EXIT_OK || r->quiet) return rc;
    double seconds = (double)r->frames_in / r->info.frame_rate_hz;
    fprintf(stderr,
            "moshi: %lld frame%s, %.2f s of audio in %.2f s (real-time factor %.3f), %zu word%s, "
            "written to %s\n",
            (long long)r->frames_out, r->frames_out == 1 ? "" : "s", seconds, r->run_s,
            r->run_s / seconds, r->n_words, r->n_words == 1 ? "" : "s",
            option_text(r->args, "output"));
    if (audio_out_clipped(r->out))
        fprintf(stderr, "moshi: too loud for 16 bits, clipped: %" PRIu64 " samples\n",
                audio_out_clipped(r->out));
    return EXIT_OK;
}

static void reply_close(reply *r) {
    moshi_session_close(r->session);
    moshi_engine_close(r->engine);
    audio_in_close(r->in);
    audio_out_close(r->out);
    token_log_close(&r->tokens);
    app_buffer_free(&r->text);
    json_decref(r->words);
}

static int run(const arguments *args, app_error *err) {
    reply r = {.args = args,
               .json = option_given(args, "json"),
               .times = option_given(args, "times"),
               .quiet = option_given(args, "quiet"),
               .words = json_array()};
    r.live = !r.json && !r.times;
    int rc = r.words ? check_options(args, err) : app_no_memory(err);
    if (rc == EXIT_OK) rc = open_all(&r, err);
    if (rc == EXIT_OK) rc = run_session(&r, err);
    if (rc == EXIT_OK) audio_in_warn(r.in);
    if (rc == EXIT_OK && r.tokens.file) rc = token_log_write(&r.tokens, err);
    if (rc == EXIT_OK) rc = app_check_interrupted(err);
    if (rc == EXIT_OK) rc = audio_out_commit(r.out, err);
    if (rc == EXIT_OK && r.tokens.file) rc = token_log_commit(&r.tokens, err);
    if (rc == EXIT_OK) rc = report(&r, err);
    if (rc != EXIT_OK && r.live && r.shown) putchar('\n');
    reply_close(&r);
    return rc;
}

static const option_spec SPECS[] = {
    {.name = "output",
     .letter = 'o',
     .kind = OPTION_TEXT,
     .value = "OUT.wav",
     .help = "where the answer goes (mono, 16 bit): .wav, .flac, .ogg, .opus or .mp3"},
    MODEL_OPTION,
    {.name = "tail",
     .kind = OPTION_REAL,
     .value = "seconds",
     .max = 3600,
     .help = "silence to listen to after the recording, while the model answers (default: 6)"},
    {.name = "greedy",
     .kind = OPTION_FLAG,
     .help = "always take the most likely token, instead of sampling"},
    {.name = "seed",
     .kind = OPTION_SEED,
     .value = "N",
     .help =
         "seed of the sampling: the same seed gives the same answer (default and 0: 299792458)"},
    {.name = "text-temp",
     .kind = OPTION_REAL,
     .value = "T",
     .max = 100,
     .help = "sampling temperature of the words; 0 is greedy (default: the model's)"},
    {.name = "text-top-k",
     .kind = OPTION_INTEGER,
     .value = "K",
     .max = 1e6,
     .help = "sample words among the K most likely; 0 is all (default: the model's)"},
    {.name = "audio-temp",
     .kind = OPTION_REAL,
     .value = "T",
     .max = 100,
     .help = "the same for the voice"},
    {.name = "audio-top-k",
     .kind = OPTION_INTEGER,
     .value = "K",
     .max = 1e6,
     .help = "the same for the voice"},
    {.name = "first-frame",
     .kind = OPTION_CHOICE,
     .value = "file|server",
     .help = "how the conversation begins: as the reference's file tool does (default; nothing "
             "is lost), or as its server does"},
    {.name = "tokens",
     .kind = OPTION_TEXT,
     .value = "FILE",
     .help = "save the tokens as safetensors: what was heard (in_codes) and said (out_tokens), "
             "and for moshi trace what the model took and chose at every step"},
    {.name = "times",
     .kind = OPTION_FLAG,
     .help = "print one word per line as it is finished: start, end, word"},
    {.name = "json", .kind = OPTION_FLAG, .help = "print the result as JSON"},
    {.name = "float", .kind = OPTION_FLAG, .help = "write 32-bit float samples (wav only)"},
    {.name = "quiet", .kind = OPTION_FLAG, .help = "no progress, notes or summary"},
    THREADS_OPTION,
    CODEC_THREADS_OPTION,
    DEVICE_OPTION,
    EXACT_OPTION,
    KV_OPTION,
    LORA_OPTION,
    {.name = "exact-mask",
     .kind = OPTION_FLAG,
     .help = "let the codec see its whole context; the reference loses the oldest step of it"},
};

const verb verb_reply = {
    .name = "reply",
    .usage = "IN -o OUT.wav [options]",
    .summary = "answer a recording: spoken answer as wav, its words on standard output",
    .text = "IN is any audio file that libsndfile reads (wav, FLAC, Ogg, MP3, AIFF, ...), of any\n"
            "rate and number of channels. The model hears it as a live conversation: OUT.wav runs\n"
            "in time with it, and is as long as the recording and the silence after it. The words\n"
            "appear as they are spoken. A missing or unusable IN ends with exit code 2.",
    .example = "  moshi reply question.wav -o answer.wav\n"
               "  moshi reply question.flac -o answer.wav --greedy --json",
    VERB_OPTIONS(SPECS),
    .max_positional = 1,
    .run = run,
};
