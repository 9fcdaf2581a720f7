/* cmd_bench.c - `moshi bench`: how fast a model is on this machine, and how near to what the
 * machine can do. Everything is gathered into one JSON tree; the page is a reading of it. */
#include "bench.h"
#include "bench_report.h"
#include "build.h"
#include "crash.h"
#include "device.h"
#include "forecast.h"
#include "model.h"
#include "progress.h"
#include "system.h"
#include "verb.h"

#include <stdlib.h>
#include <string.h>

enum { USUAL_CODEBOOKS = 8 };

/* One run of the verb. */
typedef struct run_state {
    const arguments *args;
    model_choice choice;
    device_choice device;
    const char *preset, *type; /* NULL: a model */
    char numbers[32];          /* of a model: most of its bytes */
    bool codec_only, has_codec;
    int codebooks; /* that a codec from a file has; 0: a preset */
    moshi_kv kv;
    progress bar;
    bench b;
    uint64_t weight_bytes, state_bytes, parameters;
    json_t *root, *earlier;
} run_state;

/* ---- opening -------------------------------------------------------------------------------- */

static int on_load(void *user, uint64_t done, uint64_t total) {
    progress_draw(user, total ? (double)done / (double)total : 0, "loading the model");
    return app_interrupted();
}

/* Is it a codec alone, and what are its numbers? */
static int look_at_model(run_state *r, app_error *err) {
    moshi_model_info *info;
    moshi_error why = {0};
    int rc = model_locate(&r->choice, r->args, false, err);
    if (rc != EXIT_OK) return rc;
    moshi_inspect_options options = {.model = r->choice.path,
                                     .blobs = r->choice.blobs,
                                     .n_blobs = r->choice.n_blobs,
                                     .finder = {hub_look_up, &r->choice.lookup},
                                     .flags = MOSHI_INSPECT_QUICK};
    rc = moshi_inspect(&info, &options, &why);
    if (rc < 0) return model_fail(&r->choice, err, rc, why.text);
    r->codec_only = info->dim == 0;
    r->has_codec = info->codec.frame_samples > 0;
    r->codebooks = info->codec.max_codebooks;
    snprintf(r->numbers, sizeof r->numbers, "%s", info->numbers ? info->numbers : "");
    moshi_model_info_free(info);
    return EXIT_OK;
}

static int open_codec(run_state *r, int flags, app_error *err) {
    moshi_codec_info info;
    moshi_error why = {0};
    moshi_codec_options o = {.device = r->device.name,
                             .cache = device_cache(r->device.name),
                             .threads = (int)option_of(r->args, "threads")->integer,
                             .flags = flags,
                             .preset = r->preset,
                             .preset_type = r->type,
                             .codebooks = (int)option_of(r->args, "codebooks")->integer,
                             .finder = {hub_look_up, &r->choice.lookup},
                             .breadcrumb = crash_breadcrumb()};
    if (!r->preset) {
        o.model = r->choice.path;
        o.blobs = r->choice.blobs;
        o.n_blobs = r->choice.n_blobs;
    }
    if (o.codebooks == 0)
        o.codebooks =
            r->codebooks > 0 && r->codebooks < USUAL_CODEBOOKS ? r->codebooks : USUAL_CODEBOOKS;
    int rc = moshi_codec_open(&r->b.codec, &o, &why);
    if (rc < 0) return model_fail(&r->choice, err, rc, why.text);
    moshi_codec_get_info(r->b.codec, &info);
    r->b.info = (moshi_engine_info){.frame_samples = info.frame_samples,
                                    .frame_rate_hz = info.frame_rate_hz,
                                    .n_q = info.codebooks,
                                    .device = r->device.name,
                                    .kernels = info.kernels,
                                    .threads = info.threads};
    r->weight_bytes = info.weight_bytes;
    r->state_bytes = info.state_bytes;
    r->parameters = info.parameters;
    return EXIT_OK;
}

static int open_engine(run_state *r, int flags, app_error *err) {
    moshi_error why = {0};
    moshi_engine_options o = {.device = r->device.name,
                              .cache = device_cache(r->device.name),
                              .sessions = r->b.sessions,
                              .threads = (int)option_of(r->args, "threads")->integer,
                              .codec_threads = (int)option_of(r->args, "codec-threads")->integer,
                              .flags = flags | (r->has_codec ? 0 : MOSHI_NO_CODEC),
                              .kv = r->kv,
                              .preset = r->preset,
                              .preset_type = r->type,
                              .finder = {hub_look_up, &r->choice.lookup},
                              .progress = on_load,
                              .progress_user = &r->bar,
                              .breadcrumb = crash_breadcrumb()};
    if (!r->preset) {
        o.model = r->choice.path;
        o.blobs = r->choice.blobs;
        o.n_blobs = r->choice.n_blobs;
    }
    int rc = moshi_engine_open(&r->b.engine, &o, &why);
    progress_clear(&r->bar);
    if (rc < 0) return model_fail(&r->choice, err, rc, why.text);
    moshi_engine_get_info(r->b.engine, &r->b.info);
    r->weight_bytes = r->b.info.weight_bytes;
    r->state_bytes = r->b.info.state_bytes;
    r->parameters = r->b.info.parameters;
    return EXIT_OK;
}

static int open_model(run_state *r, int flags, app_error *err) {
    return r->codec_only ? open_codec(r, flags, err) : open_engine(r, flags, err);
}

static void close_model(run_state *r) {
    moshi_engine_close(r->b.engine);
    moshi_codec_close(r->b.codec);
    r->b.engine = NULL;
    r->b.codec = NULL;
}

/* Refuse what would not fit, before anything is loaded: swapping tells nothing. */
static int check_memory(run_state *r, app_error *err) {
    char a[32], b[32], c[32], d[32], e[32];
    int rc = open_model(r, MOSHI_DRY_RUN, err);
    const uint64_t measuring = rc == EXIT_OK ? bench_limits_bytes(&r->b) : 0;
    close_model(r);
    if (rc != EXIT_OK) return rc;
    uint64_t need = r->weight_bytes + r->state_bytes + measuring;
    uint64_t available = system_memory_available();
    json_object_set_new(r->root, "available_bytes", json_integer((json_int_t)available));
    if (available == 0 || need <= available) return EXIT_OK;
    return app_fail(err, EXIT_MEMORY,
                    "not enough memory: weights take %s, %d session%s %s, measuring %s: %s in all, "
                    "and %s are available",
                    app_size_text(a, r->weight_bytes), r->b.sessions, r->b.sessions == 1 ? "" : "s",
                    app_size_text(b, r->state_bytes), app_size_text(e, measuring),
                    app_size_text(c, need), app_size_text(d, available));
}

/* ---- what is asked for ---------------------------------------------------------------------- */

static int choose_preset(run_state *r, app_error *err) {
    const char *name = option_text(r->args, "preset"), *known, *words[32];
    int n = 0;
    r->preset = name;
    r->has_codec = true;
    r->codec_only = !strcmp(name, "mimi");
    r->type = option_text(r->args, "type");
    if (!r->type) r->type = r->codec_only ? "f32" : "q8_0";
    if (option_text(r->args, "model"))
        return app_fail(err, EXIT_USAGE, "--preset takes the place of a model: leave out -m");
    while (n < 32 && (known = moshi_preset_name(n)) != NULL) words[n++] = known;
    for (int i = 0; i < n; i++)
        if (!strcmp(words[i], name)) return EXIT_OK;
    known = nearest_word(name, words, n);
    char all[256] = "";
    for (int i = 0; i < n; i++) {
        size_t at = strlen(all);
        snprintf(all + at, sizeof all - at, "%s%s", i ? ", " : "", words[i]);
    }
    return app_fail(err, EXIT_USAGE, "--preset: no preset '%s'%s%s%s; there are %s", name,
                    known ? "; did you mean '" : "", known ? known : "", known ? "'?" : "", all);
}

static int read_settings(run_state *r, app_error *err) {
    const arguments *a = r->args;
    int rc = EXIT_OK;
    r->b.sessions = option_given(a, "sessions") ? (int)option_of(a, "sessions")->integer : 1;
    r->b.context = option_of(a, "context")->integer;
    r->b.frames = (int)option_of(a, "frames")->integer;
    r->b.seconds = option_given(a, "seconds") ? option_of(a, "seconds")->real : 5;
    r->kv = model_kv(a);
    if (option_given(a, "preset")) {
        rc = choose_preset(r, err);
    } else {
        if (option_given(a, "type"))
            return app_fail(err, EXIT_USAGE, "--type needs --preset: a model has its own numbers");
        r->choice = model_choose(option_text(a, "model"));
        rc = look_at_model(r, err);
    }
    if (rc == EXIT_OK && r->codec_only && (r->b.sessions > 1 || r->b.context > 0))
        return app_fail(err, EXIT_USAGE,
                        "--sessions and --context need a language model: this is a codec");
    if (rc == EXIT_OK && r->codec_only &&
        (option_given(a, "kv") || option_given(a, "codec-threads")))
        return app_fail(err, EXIT_USAGE,
                        "--kv and --codec-threads need a language model: this is a codec");
    if (rc == EXIT_OK && !r->codec_only && option_given(a, "codebooks"))
        return app_fail(err, EXIT_USAGE, "--codebooks needs a codec: a language model has its own");
    if (rc != EXIT_OK) return rc;
    json_object_set_new(r->root, "model", json_text(r->preset ? r->preset : r->choice.name));
    json_object_set_new(r->root, "preset", json_boolean(r->preset != NULL));
    json_object_set_new(r->root, "type", json_text(r->preset ? r->type : r->numbers));
    const char *path = option_text(a, "compare");
    if (path) rc = bench_load(&r->earlier, path, err);
    return rc == EXIT_OK && path ? bench_comparable(r->earlier, r->root, path, err) : rc;
}

/* ---- measuring ------------------------------------------------------------------------------ */

static void add_facts(run_state *r) {
    moshi_device_info d;
    app_error why;
    json_t *system = system_facts();
    const char *cpu = json_string_value(json_object_get(json_object_get(system, "cpu"), "model"));
    json_object_set_new(r->root, "build", json_text(build_id()));
    json_object_set_new(r->root, "cpu", json_text(cpu ? cpu : "unknown processor"));
    json_decref(system);
    if (device_find(&d, r->device.name, &why) == EXIT_OK)
        json_object_set_new(r->root, "driver", json_text(d.driver));
    json_object_set_new(r->root, "device", json_text(r->device.name));
    json_object_set_new(r->root, "kernels", json_text(r->b.info.kernels));
    json_object_set_new(r->root, "threads", json_integer(r->b.info.threads));
    if (r->b.info.cores > 0) json_object_set_new(r->root, "cores", json_integer(r->b.info.cores));
    if (r->b.info.codec_threads > 0)
        json_object_set_new(r->root, "codec_threads", json_integer(r->b.info.codec_threads));
    json_object_set_new(r->root, "parameters", json_integer((json_int_t)r->parameters));
    json_object_set_new(r->root, "weight_bytes", json_integer((json_int_t)r->weight_bytes));
    json_object_set_new(r->root, "state_bytes", json_integer((json_int_t)r->state_bytes));
    json_object_set_new(r->root, "sessions", json_integer(r->b.sessions));
    json_object_set_new(r->root, "context", json_integer(r->b.context));
    json_object_set_new(r->root, "kv", json_text(r->b.info.kv ? r->b.info.kv : ""));
}

static void add_load(run_state *r, double seconds, uint64_t peak) {
    double planned = (double)(r->weight_bytes + r->state_bytes);
    json_object_set_new(r->root, "load",
                        json_pack("{s:f, s:b, s:I, s:I, s:f}", "seconds", seconds, "generated",
                                  r->preset != NULL, "peak_bytes", (json_int_t)peak,
                                  "planned_bytes", (json_int_t)planned, "peak_share",
                                  planned > 0 ? (double)peak / planned : 0));
}

/* Loads, measures, closes. What could be measured before an interruption is in the tree. */
static int measure(run_state *r, app_error *err) {
    bench_times times = {0};
    progress_start(&r->bar, option_given(r->args, "json"));
    system_peak_memory_reset();
    double started = app_now_s();
    int rc = open_model(r, 0, err);
    double loaded = app_now_s() - started;
    if (rc == EXIT_OK) rc = bench_run(&r->b, r->device.name, &times, err);
    if (rc == EXIT_OK && times.n == 0) rc = app_check_interrupted(err);
    if (rc == EXIT_OK) {
        add_facts(r);
        add_load(r, loaded, times.peak_bytes);
        bench_add_times(r->root, &r->b, &times);
    }
    bench_times_free(&times);
    close_model(r);
    return rc;
}

static int print(run_state *r, app_error *err) {
    char verdict[256];
    const char *path = option_text(r->args, "compare");
    forecast_basis basis = forecast_basis_of(r->root);
    if (!app_interrupted()) json_object_set_new(r->root, "forecast", forecast_all(&basis));
    bench_verdict(r->root, verdict, sizeof verdict);
    json_object_set_new(r->root, "verdict", json_text(verdict));
    if (r->earlier)
        json_object_set_new(r->root, "compared", bench_beside(r->earlier, r->root, path));
    if (option_given(r->args, "json")) return json_print(json_incref(r->root), err);
    bench_print(r->root);
    if (r->earlier) bench_print_beside(json_object_get(r->root, "compared"));
    return EXIT_OK;
}

static int run(const arguments *args, app_error *err) {
    run_state r = {.args = args, .root = json_object()};
    if (!r.root) return app_no_memory(err);
    int rc = read_settings(&r, err);
    trial what = {.threads = (int)option_of(args, "threads")->integer};
    if (rc == EXIT_OK) rc = device_choose(&r.device, args, &what, err);
    if (rc == EXIT_OK) rc = check_memory(&r, err);
    if (rc == EXIT_OK) rc = measure(&r, err);
    if (rc == EXIT_OK) rc = print(&r, err);
    if (rc == EXIT_OK) rc = app_flush_stdout(err);
    if (rc == EXIT_OK && app_interrupted())
        rc =
            app_fail(err, EXIT_SIGNAL + app_interrupted(), "interrupted: fewer frames than wanted");
    json_decref(r.root);
    json_decref(r.earlier);
    model_choice_free(&r.choice);
    return rc;
}

static const option_spec SPECS[] = {
    MODEL_OPTION,
    {.name = "preset",
     .kind = OPTION_TEXT,
     .value = "NAME",
     .help = "random weights of a published size, made up in memory: moshi-7b, personaplex-7b, "
             "stt-1b, stt-2.6b, hibiki-1b, hibiki-2b, tts-1.6b, mimi"},
    {.name = "type",
     .kind = OPTION_TEXT,
     .value = "TYPE",
     .help = "numbers of a preset's matrices: f32, f16, bf16, q8_0, q6_K, q4_K, q4_0 (default: "
             "q8_0; mimi: f32)"},
    DEVICE_OPTION,
    THREADS_OPTION,
    CODEC_THREADS_OPTION,
    {.name = "sessions",
     .kind = OPTION_INTEGER,
     .value = "N",
     .min = 1,
     .max = 1024,
     .help = "conversations that step together (default: 1)"},
    {.name = "context",
     .kind = OPTION_INTEGER,
     .value = "N",
     .min = 0,
     .max = 1 << 24,
     .help = "frames that the conversation has lasted already (default: 0)"},
    KV_OPTION,
    {.name = "codebooks",
     .kind = OPTION_INTEGER,
     .value = "N",
     .min = 1,
     .max = 64,
     .help = "of a codec (default: 8, or as many as it has)"},
    {.name = "seconds",
     .kind = OPTION_REAL,
     .value = "S",
     .min = 0.1,
     .max = 3600,
     .help = "how long to time frames, at least three of them (default: 5)"},
    {.name = "frames",
     .kind = OPTION_INTEGER,
     .value = "N",
     .min = 1,
     .max = BENCH_FRAMES_MAX,
     .help = "how many frames to time instead"},
    {.name = "compare",
     .kind = OPTION_TEXT,
     .value = "FILE",
     .help = "print the figures beside those of an earlier run's --json"},
    {.name = "json", .kind = OPTION_FLAG, .help = "print everything as JSON"},
};

const verb verb_bench = {
    .name = "bench",
    .usage = "[options]",
    .summary = "how fast a model is on this machine, before or after downloading it",
    .text =
        "Times the stages of frames (Mimi's encoder, temporal transformer, depth transformer,\n"
        "Mimi's decoder) of a model or, without a download, of random weights of a published\n"
        "size; measures in the same run how fast the memory can be read and how much arithmetic\n"
        "the processor can do, and says which share of both is reached, whether a conversation\n"
        "would be in real time, and how fast the published models would run here.",
    .example = "  moshi bench --preset moshi-7b --type q4_K\n"
               "  moshi bench -m path/to/model --context 1500 --json >before.json\n"
               "  moshi bench -m path/to/model --context 1500 --compare before.json",
    VERB_OPTIONS(SPECS),
    .run = run,
};
