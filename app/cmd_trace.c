/* cmd_trace.c - `moshi trace`: run a language model over given tokens and write down what it
 * computes, step by step.
 *
 * The first step shows which intermediates there are and how large; then the file is laid out for
 * all steps and every row goes to its place as it comes, so that memory does not grow. */
#include "model.h"
#include "progress.h"
#include "tensors.h"
#include "verb.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the file calls a tap. `stack`: many taps (layers, codebooks) side by side in one array. */
typedef struct standard_array {
    const char *tap; /* pattern */
    const char *array;
    bool stack, scalar;
} standard_array;

static const standard_array STANDARD[] = {
    {"lm.in_tokens", "in_tokens", false, false},
    {"lm.layer.*.out", "hidden", true, false},
    {"lm.out_norm", "transformer_out", false, false},
    {"lm.text_logits", "text_logits", false, false},
    {"depth.*.hidden", "dep_hidden", true, false},
    {"depth.*.logits", "dep_logits", true, false},
    {"lm.text_token", "text_token", false, true},
    {"depth.*.token", "audio_tokens", true, true},
    {"lm.out_tokens", "out_tokens", false, false},
};
enum { N_STANDARD = sizeof STANDARD / sizeof STANDARD[0] };

/* One array of the output: the rows of its parts, one after another. */
typedef struct trace_array {
    char *name;
    moshi_dtype dtype;
    int ndim; /* of one part */
    int64_t shape[4];
    int parts; /* taps in a row, 0 while none was seen */
    bool stack, scalar;
    size_t part_bytes;
    int index;      /* in the file */
    int filled;     /* parts of the current row that have come */
    app_buffer row; /* parts * part_bytes */
} trace_array;

typedef struct trace {
    const arguments *args;
    char *globs[64];  /* --taps, apart */
    bool matched[64]; /* which of them named a tap */
    int n_globs;
    moshi_engine *engine;
    moshi_session *session;
    moshi_engine_info info;
    int64_t steps, done; /* steps: of the whole run */
    int32_t *codes;      /* [steps, user_codebooks] */
    int32_t *force;      /* [steps, 1 + dep_q], or NULL */
    trace_array *arrays; /* the standard ones, then those of --taps */
    size_t n_arrays;
    bool laid_out;
    int valid_index, step_index; /* of out_valid and dep_step_index */
    tensors_out *out;
    app_error error; /* of the callback, which has no way to return one */
    progress bar;
} trace;

/* ---- input ---------------------------------------------------------------------------------- */

static int check_range(const tensors_in *in, const char *name, const int32_t *data, int64_t n,
                       int most, app_error *err) {
    for (int64_t i = 0; i < n; i++)
        if (data[i] < -1 || data[i] > most)
            return app_fail(err, EXIT_USAGE,
                            "%s: array '%s': element %" PRId64 ": wanted -1..%d, found %" PRId32,
                            tensors_in_path(in), name, i, most, data[i]);
    return EXIT_OK;
}

/* user_codes [user_codebooks, steps] -> codes [steps, user_codebooks]. */
static int read_user_codes(trace *t, const tensors_in *in, app_error *err) {
    int64_t user = t->info.user_codebooks, shape[] = {user, t->steps ? t->steps : -1};
    int32_t *data;
    int rc = tensors_in_read_i32(in, "user_codes", 2, shape, &data, err);
    if (rc != EXIT_OK) return rc;
    t->steps = shape[1];
    t->codes = calloc((size_t)(user * t->steps) + 1, sizeof *t->codes);
    rc = t->codes ? check_range(in, "user_codes", data, user * t->steps, t->info.card, err)
                  : app_no_memory(err);
    for (int64_t s = 0; rc == EXIT_OK && s < t->steps; s++)
        for (int64_t k = 0; k < user; k++) t->codes[s * user + k] = data[k * t->steps + s];
    free(data);
    return rc;
}

/* Copy a forced array of `width` tokens per step into columns first .. of force. */
static int read_forced(trace *t, const tensors_in *in, const char *name, int ndim, int64_t width,
                       int64_t first, int most, app_error *err) {
    int64_t row = 1 + t->info.dep_q, shape[] = {t->steps, width};
    int32_t *data;
    int rc = tensors_in_read_i32(in, name, ndim, shape, &data, err);
    if (rc != EXIT_OK) return rc;
    rc = check_range(in, name, data, t->steps * width, most, err);
    if (rc == EXIT_OK && !t->force) {
        t->force = malloc((size_t)(t->steps * row) * sizeof *t->force);
        if (!t->force) rc = app_no_memory(err);
        for (int64_t i = 0; t->force && i < t->steps * row; i++) t->force[i] = MOSHI_FREE;
    }
    for (int64_t s = 0; rc == EXIT_OK && s < t->steps; s++)
        for (int64_t k = 0; k < width; k++) t->force[s * row + first + k] = data[s * width + k];
    free(data);
    return rc;
}

static int read_arrays(trace *t, const tensors_in *in, app_error *err) {
    int rc = EXIT_OK;
    if (t->info.user_codebooks == 0) {
        /* Nobody is listened to: the forced text says how long the run is. */
        const tensor_entry *text = tensors_in_find(in, "text_token");
        t->steps = text && text->ndim == 1 ? text->shape[0] : 0;
    } else {
        rc = read_user_codes(t, in, err);
    }
    if (rc != EXIT_OK) return rc;
    if (t->steps < 1)
        return app_fail(err, EXIT_USAGE, "%s: has no steps: wanted '%s' with at least one",
                        tensors_in_path(in), t->info.user_codebooks ? "user_codes" : "text_token");
    if (tensors_in_find(in, "text_token"))
        rc = read_forced(t, in, "text_token", 1, 1, 0, t->info.text_card, err);
    if (rc == EXIT_OK && t->info.dep_q > 0 && tensors_in_find(in, "audio_tokens"))
        rc = read_forced(t, in, "audio_tokens", 2, t->info.dep_q, 1, t->info.card, err);
    return rc;
}

static int read_input(trace *t, app_error *err) {
    tensors_in *in;
    int rc = tensors_in_open(&in, option_text(t->args, "in"), err);
    if (rc != EXIT_OK) return rc;
    rc = read_arrays(t, in, err);
    tensors_in_close(in);
    return rc;
}

/* ---- taps ----------------------------------------------------------------------------------- */

static size_t tap_bytes(const moshi_tap *tap) {
    size_t n = 4; /* both dtypes */
    for (int i = 0; i < tap->ndim; i++) n *= (size_t)tap->shape[i];
    return n;
}

static bool wanted_by_user(trace *t, const char *name) {
    bool wanted = false;
    for (int i = 0; i < t->n_globs; i++)
        if (fnmatch(t->globs[i], name, 0) == 0) wanted = t->matched[i] = true;
    return wanted;
}

/* In the first step: make room for a part, or check that it is like the others. */
static int describe_part(trace *t, trace_array *array, const moshi_tap *tap) {
    if (array->parts == 0) {
        array->dtype = tap->dtype;
        array->ndim = tap->ndim;
        memcpy(array->shape, tap->shape, sizeof array->shape);
        array->part_bytes = tap_bytes(tap);
    }
    array->parts++;
    if (array->scalar && array->part_bytes != 4)
        return app_fail(&t->error, EXIT_INTERNAL, "tap %s: wanted one number", tap->name);
    return EXIT_OK;
}

static int add_part(trace *t, trace_array *array, const moshi_tap *tap) {
    if (!t->laid_out && describe_part(t, array, tap) != EXIT_OK) return t->error.exit_code;
    if (array->part_bytes != tap_bytes(tap) || array->dtype != tap->dtype ||
        array->filled == array->parts || (array->parts > 1 && !array->stack))
        return app_fail(&t->error, EXIT_INTERNAL, "tap %s: is not what it was at the first step",
                        tap->name);
    array->filled++;
    return app_buffer_add(&array->row, tap->data, array->part_bytes, &t->error);
}

static trace_array *find_extra(trace *t, const char *name) {
    for (size_t i = N_STANDARD; i < t->n_arrays; i++)
        if (!strcmp(t->arrays[i].name, name)) return &t->arrays[i];
    return NULL;
}

static trace_array *add_extra(trace *t, const char *name) {
    trace_array *more = realloc(t->arrays, (t->n_arrays + 1) * sizeof *more);
    char *copy = strdup(name);
    if (more) t->arrays = more;
    if (!more || !copy) {
        free(copy);
        app_no_memory(&t->error);
        return NULL;
    }
    trace_array *array = &t->arrays[t->n_arrays++];
    memset(array, 0, sizeof *array);
    array->name = copy;
    return array;
}

static void on_tap(void *user, const moshi_tap *tap) {
    trace *t = user;
    if (t->error.exit_code) return;
    for (int i = 0; i < N_STANDARD; i++)
        if (fnmatch(STANDARD[i].tap, tap->name, 0) == 0 &&
            add_part(t, &t->arrays[i], tap) != EXIT_OK)
            return;
    if (!wanted_by_user(t, tap->name)) return;
    trace_array *array = find_extra(t, tap->name);
    if (!array && !t->laid_out) array = add_extra(t, tap->name);
    if (array) {
        add_part(t, array, tap);
    } else if (!t->error.exit_code) {
        app_fail(&t->error, EXIT_INTERNAL, "tap %s: was not there at the first step", tap->name);
    }
}

/* ---- output --------------------------------------------------------------------------------- */

/* [steps], [steps, parts] or [steps, (parts,) shape of a part]. A part [1, n] counts as [n]. */
static int declare_array(trace *t, trace_array *array) {
    int64_t shape[TENSOR_MAX_DIMS] = {t->steps};
    int ndim = 1;
    if (array->stack) shape[ndim++] = array->parts;
    bool leading = array >= t->arrays + N_STANDARD; /* extra taps keep every axis */
    for (int i = 0; !array->scalar && i < array->ndim; i++)
        if (leading || array->shape[i] != 1 || i == array->ndim - 1)
            shape[ndim++] = array->shape[i];
    array->index = tensors_out_add(
        t->out, array->name, array->dtype == MOSHI_I32 ? TENSOR_I32 : TENSOR_F32, ndim, shape);
    return array->index;
}

/* Arrays with an axis of zero (a model without a voice has no audio tokens) are left out. */
static int lay_out(trace *t, app_error *err) {
    int64_t steps[] = {t->steps};
    int rc = 0;
    for (size_t i = 0; rc >= 0 && i < t->n_arrays; i++)
        if (t->arrays[i].parts && t->arrays[i].part_bytes) rc = declare_array(t, &t->arrays[i]);
    if (rc >= 0 && t->info.dep_q > 0)
        rc = t->step_index = tensors_out_add(t->out, "dep_step_index", TENSOR_I32, 1, steps);
    if (rc >= 0) rc = t->valid_index = tensors_out_add(t->out, "out_valid", TENSOR_U8, 1, steps);
    if (rc < 0) return app_no_memory(err);
    t->laid_out = true;
    return tensors_out_start(t->out, err);
}

static trace_array *standard(trace *t, const char *name) {
    for (int i = 0; i < N_STANDARD; i++)
        if (!strcmp(t->arrays[i].name, name)) return &t->arrays[i];
    abort(); /* not in the table above */
}

static int write_array(trace *t, trace_array *array, app_error *err) {
    if (!array->parts || !array->part_bytes) return EXIT_OK;
    if (array->filled != array->parts)
        return app_fail(err, EXIT_INTERNAL, "step %" PRId64 ": %d of %d parts of '%s' came",
                        t->done, array->filled, array->parts, array->name);
    int rc = tensors_out_put(t->out, array->index, (uint64_t)t->done * array->row.n,
                             array->row.data, array->row.n, err);
    array->row.n = 0;
    array->filled = 0;
    return rc;
}

static int write_step(trace *t, app_error *err) {
    const trace_array *out_tokens = standard(t, "out_tokens");
    int32_t first = MOSHI_NO_TOKEN, step = (int32_t)t->done;
    int rc = t->laid_out ? EXIT_OK : lay_out(t, err);
    if (rc == EXIT_OK && out_tokens->row.n >= sizeof first)
        memcpy(&first, out_tokens->row.data, sizeof first);
    uint8_t valid = first != MOSHI_NO_TOKEN;
    for (size_t i = 0; rc == EXIT_OK && i < t->n_arrays; i++)
        rc = write_array(t, &t->arrays[i], err);
    if (rc == EXIT_OK)
        rc = tensors_out_put(t->out, t->valid_index, (uint64_t)t->done, &valid, 1, err);
    if (rc == EXIT_OK && t->info.dep_q > 0)
        rc = tensors_out_put(t->out, t->step_index, (uint64_t)t->done * sizeof step, &step,
                             sizeof step, err);
    t->done++;
    return rc;
}

/* ---- running -------------------------------------------------------------------------------- */

static int make_arrays(trace *t, app_error *err) {
    t->arrays = calloc(N_STANDARD, sizeof *t->arrays);
    if (!t->arrays) return app_no_memory(err);
    t->n_arrays = N_STANDARD;
    for (int i = 0; i < N_STANDARD; i++) {
        t->arrays[i].name = strdup(STANDARD[i].array);
        t->arrays[i].stack = STANDARD[i].stack;
        t->arrays[i].scalar = STANDARD[i].scalar;
        if (!t->arrays[i].name) return app_no_memory(err);
    }
    return EXIT_OK;
}

/* Everything to ask the engine for: the standard taps and the user's, in one string. */
static int start_trace(trace *t, app_error *err) {
    app_buffer globs = {0};
    int rc = EXIT_OK;
    for (int i = 0; rc == EXIT_OK && i < N_STANDARD; i++) {
        rc = app_buffer_add(&globs, STANDARD[i].tap, strlen(STANDARD[i].tap), err);
        if (rc == EXIT_OK) rc = app_buffer_add(&globs, " ", 1, err);
    }
    const char *taps = option_text(t->args, "taps");
    if (rc == EXIT_OK && taps) rc = app_buffer_add(&globs, taps, strlen(taps), err);
    if (rc == EXIT_OK) {
        int code = moshi_engine_trace(t->engine, globs.data, on_tap, t);
        if (code < 0) rc = app_fail_library(err, code, "");
    }
    app_buffer_free(&globs);
    return rc;
}

static int split_globs(trace *t, app_error *err) {
    const char *taps = option_text(t->args, "taps");
    while (taps && *taps) {
        size_t n = strcspn(taps, " ");
        if (n && t->n_globs == (int)(sizeof t->globs / sizeof t->globs[0]))
            return app_fail(err, EXIT_USAGE, "--taps: more than %d patterns", t->n_globs);
        if (n && !(t->globs[t->n_globs++] = strndup(taps, n))) return app_no_memory(err);
        taps += n + (taps[n] == ' ');
    }
    if (option_given(t->args, "taps") && t->n_globs == 0)
        return app_fail(err, EXIT_USAGE, "--taps: wanted patterns, found only spaces");
    return EXIT_OK;
}

static int open_engine(trace *t, app_error *err) {
    moshi_error why = {0};
    moshi_session_options options = {.flags = MOSHI_GREEDY | MOSHI_NO_AUDIO};
    int rc = model_open_engine(&t->engine, t->args, MOSHI_NO_CODEC, err);
    if (rc != EXIT_OK) return rc;
    moshi_engine_get_info(t->engine, &t->info);
    int code = moshi_session_open(&t->session, t->engine, &options, &why);
    return code < 0 ? app_fail_library(err, code, why.text) : EXIT_OK;
}

static int run_step(trace *t, app_error *err) {
    const int32_t *codes = t->codes + t->done * t->info.user_codebooks;
    const int32_t *force = t->force ? t->force + t->done * (1 + t->info.dep_q) : NULL;
    moshi_event ev;
    int rc = moshi_push_codes(t->session, t->codes ? codes : NULL, force, 1);
    if (rc == 1) rc = moshi_step(t->engine);
    if (rc < 0) return app_fail_library(err, rc, moshi_engine_problem(t->engine));
    if (rc != 1) return app_fail(err, EXIT_INTERNAL, "step %" PRId64 " did not run", t->done);
    while (moshi_pull(t->session, &ev) > 0) continue; /* everything of interest came as a tap */
    if (t->error.exit_code) {
        *err = t->error;
        return err->exit_code;
    }
    return write_step(t, err);
}

static int check_taps_found(const trace *t, app_error *err) {
    for (int i = 0; i < t->n_globs; i++)
        if (!t->matched[i])
            return app_fail(err, EXIT_USAGE, "--taps: no tap of this model matches '%s'",
                            t->globs[i]);
    return EXIT_OK;
}

static int run_steps(trace *t, app_error *err) {
    int rc = EXIT_OK;
    progress_start(&t->bar, option_given(t->args, "quiet"));
    while (rc == EXIT_OK && t->done < t->steps) {
        rc = run_step(t, err);
        if (rc == EXIT_OK && t->done == 1) rc = check_taps_found(t, err);
        if (rc == EXIT_OK) rc = app_check_interrupted(err);
        progress_draw(&t->bar, (double)t->done / (double)t->steps, "");
    }
    progress_clear(&t->bar);
    return rc;
}

static void trace_close(trace *t) {
    moshi_session_close(t->session);
    moshi_engine_close(t->engine);
    tensors_out_close(t->out);
    for (size_t i = 0; i < t->n_arrays; i++) {
        free(t->arrays[i].name);
        app_buffer_free(&t->arrays[i].row);
    }
    for (int i = 0; i < t->n_globs; i++) free(t->globs[i]);
    free(t->arrays);
    free(t->codes);
    free(t->force);
}

static int run(const arguments *args, app_error *err) {
    trace t = {.args = args};
    int rc = EXIT_OK;
    if (!option_given(args, "in") || !option_given(args, "output"))
        rc = app_fail(err, EXIT_USAGE, "trace: --%s is missing: moshi trace --in FILE -o OUT",
                      option_given(args, "in") ? "output" : "in");
    if (rc == EXIT_OK)
        rc = model_check_output(args, option_text(args, "output"), option_text(args, "lora"), err);
    if (rc == EXIT_OK) rc = split_globs(&t, err);
    if (rc == EXIT_OK) rc = make_arrays(&t, err);
    if (rc == EXIT_OK) /* Rows of many arrays come in turns. */
        rc = tensors_out_open(&t.out, option_text(args, "output"), option_text(args, "in"),
                              OUTFILE_ANYWHERE, err);
    if (rc == EXIT_OK) rc = open_engine(&t, err);
    if (rc == EXIT_OK) rc = read_input(&t, err);
    if (rc == EXIT_OK) rc = start_trace(&t, err);
    if (rc == EXIT_OK) rc = run_steps(&t, err);
    if (rc == EXIT_OK) rc = tensors_out_commit(t.out, err);
    if (rc == EXIT_OK && !option_given(args, "quiet"))
        fprintf(stderr, "moshi: %" PRId64 " step%s, written to %s\n", t.done,
                t.done == 1 ? "" : "s", option_text(args, "output"));
    trace_close(&t);
    return rc;
}

static const option_spec SPECS[] = {
    {.name = "in",
     .kind = OPTION_TEXT,
     .value = "FILE",
     .help = "the tokens: safetensors with user_codes [user codebooks, steps] (I32), and, to be "
             "forced instead of chosen, text_token [steps] and audio_tokens [steps, dep_q]"},
    {.name = "output",
     .letter = 'o',
     .kind = OPTION_TEXT,
     .value = "OUT",
     .help = "what was computed, as safetensors"},
    {.name = "taps",
     .kind = OPTION_TEXT,
     .value = "GLOBS",
     .help = "add every intermediate whose name matches: patterns with * and ?, separated by "
             "spaces; 'lm.layer.00.attn depth.*.in'"},
    MODEL_OPTION,
    THREADS_OPTION,
    DEVICE_OPTION,
    EXACT_OPTION,
    KV_OPTION,
    LORA_OPTION,
    {.name = "quiet", .kind = OPTION_FLAG, .help = "no progress or summary"},
};

const verb verb_trace = {
    .name = "trace",
    .usage = "--in FILE -o OUT [options]",
    .summary = "run a language model over given tokens and save what it computes",
    .text = "Always greedy, one step per column of user_codes. OUT gets in_tokens, hidden,\n"
            "transformer_out, text_logits, dep_hidden, dep_logits, text_token, audio_tokens,\n"
            "out_tokens (-100: no output at this step), out_valid and dep_step_index, all with\n"
            "the step as first axis; what a model does not have is left out.",
    .example = "  moshi trace -m path/to/model --in tokens.safetensors -o trace.safetensors",
    VERB_OPTIONS(SPECS),
    .max_positional = 0,
    .run = run,
};
