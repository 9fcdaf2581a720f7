/* tokenlog.c - tokens collected from taps and events, and written at the end. */
#include "tokenlog.h"

#include "model.h"

#include <stdlib.h>
#include <string.h>

int token_log_open(token_log *log, const char *path, const char *not_this, app_error *err) {
    memset(log, 0, sizeof *log);
    return tensors_out_open(&log->file, path, not_this, OUTFILE_IN_ORDER, err);
}

/* Events bring tokens delay-aligned, and none for the first frames; what the model took and chose
 * is wanted for every step, so it is taken where it is made. */
static void on_tap(void *user, const moshi_tap *tap) {
    token_log *log = user;
    app_error *err = &log->failed;
    bool codes = !strcmp(tap->name, "mimi.enc.codes"), text = !strcmp(tap->name, "lm.text_token");
    size_t n = 1, wanted = codes ? (size_t)log->user_codebooks : 1;
    size_t row = (size_t)log->user_codebooks * sizeof(int32_t);
    if (err->exit_code) return;
    for (int i = 0; i < tap->ndim; i++) n *= (size_t)tap->shape[i];
    if (n != wanted || tap->dtype != MOSHI_I32 || (!codes && log->in_codes.n < row)) {
        app_fail(err, EXIT_INTERNAL, "tap %s: wanted %zu tokens, found %zu", tap->name, wanted, n);
        return;
    }
    app_buffer *to = codes ? &log->in_codes : text ? &log->text_token : &log->audio_tokens;
    int rc = app_buffer_add(to, tap->data, n * sizeof(int32_t), err);
    /* A step takes the codes that came last: those of the first frame may be stepped twice. */
    if (rc == EXIT_OK && text)
        app_buffer_add(&log->user_codes, log->in_codes.data + log->in_codes.n - row, row, err);
}

int token_log_start(token_log *log, moshi_engine *engine, app_error *err) {
    moshi_engine_info info;
    moshi_engine_get_info(engine, &info);
    log->user_codebooks = info.user_codebooks;
    log->dep_q = info.dep_q;
    int rc = moshi_engine_trace(engine, "mimi.enc.codes lm.text_token depth.*.token", on_tap, log);
    return rc < 0 ? app_fail_library(err, rc, "") : EXIT_OK;
}

int token_log_check(const token_log *log, app_error *err) {
    if (!log->failed.exit_code) return EXIT_OK;
    *err = log->failed;
    return err->exit_code;
}

int token_log_add(token_log *log, const int32_t *tokens, size_t n, app_error *err) {
    return app_buffer_add(&log->out_tokens, tokens, n * sizeof *tokens, err);
}

/* An array of the file, and the bytes it is made of. */
typedef struct log_array {
    const char *name;
    const app_buffer *rows;
    int64_t width; /* of a row; 0: one number */
    bool turned;   /* wanted as [width, rows] */
    int index;
} log_array;

static int64_t count_rows(const log_array *a) {
    return (int64_t)(a->rows->n / sizeof(int32_t)) / (a->width ? a->width : 1);
}

static int declare(token_log *log, log_array *a, app_error *err) {
    int64_t rows = count_rows(a), by_row[] = {rows, a->width}, turned[] = {a->width, rows};
    a->index = tensors_out_add(log->file, a->name, TENSOR_I32, a->width ? 2 : 1,
                               a->turned ? turned : by_row);
    return a->index < 0 ? app_no_memory(err) : EXIT_OK;
}

static int put(token_log *log, const log_array *a, app_error *err) {
    const int32_t *from = (const int32_t *)(const void *)a->rows->data;
    size_t bytes = a->rows->n;
    if (!a->turned || bytes == 0)
        return tensors_out_put(log->file, a->index, 0, a->rows->data, bytes, err);
    int64_t rows = count_rows(a);
    int32_t *to = malloc(bytes);
    if (!to) return app_no_memory(err);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < a->width; k++) to[k * rows + r] = from[r * a->width + k];
    int rc = tensors_out_put(log->file, a->index, 0, to, bytes, err);
    free(to);
    return rc;
}

int token_log_write(token_log *log, app_error *err) {
    log_array arrays[] = {
        {"in_codes", &log->in_codes, log->user_codebooks, true, 0},
        {"user_codes", &log->user_codes, log->user_codebooks, true, 0},
        {"text_token", &log->text_token, 0, false, 0},
        {"audio_tokens", &log->audio_tokens, log->dep_q, false, 0},
        {"out_tokens", &log->out_tokens, 1 + log->dep_q, false, 0},
    };
    size_t n = sizeof arrays / sizeof arrays[0];
    int rc = EXIT_OK;
    for (size_t i = 0; rc == EXIT_OK && i < n; i++) rc = declare(log, &arrays[i], err);
    if (rc == EXIT_OK) rc = tensors_out_start(log->file, err);
    /* In the order of the file, for pipes. */
    for (size_t i = 0; rc == EXIT_OK && i < n; i++) rc = put(log, &arrays[i], err);
    return rc;
}

int token_log_commit(token_log *log, app_error *err) {
    return tensors_out_commit(log->file, err);
}

void token_log_close(token_log *log) {
    tensors_out_close(log->file);
    app_buffer_free(&log->in_codes);
    app_buffer_free(&log->out_tokens);
    app_buffer_free(&log->user_codes);
    app_buffer_free(&log->text_token);
    app_buffer_free(&log->audio_tokens);
}
