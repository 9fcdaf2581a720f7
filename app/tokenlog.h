/* tokenlog.h - what a session heard and said, token by token, as a file.
 *
 * in_codes [user codebooks, frames] and out_tokens [n, 1 + voice codebooks] are the conversation as
 * it was heard and spoken; user_codes [user codebooks, steps], text_token [steps] and audio_tokens
 * [steps, voice codebooks] are what the model took and chose at every step, which `moshi trace`
 * repeats. Steps are frames, and one more where the first frame is stepped twice. */
#ifndef APP_TOKENLOG_H
#define APP_TOKENLOG_H

#include "moshi.h"
#include "tensors.h"

typedef struct token_log {
    tensors_out *file; /* NULL: nothing is logged */
    int user_codebooks, dep_q;
    app_buffer in_codes, out_tokens, user_codes, text_token, audio_tokens; /* rows of int32 */
    app_error failed; /* of the callback, which has no way to return one */
} token_log;

/* `not_this` as in outfile_open(). */
int token_log_open(token_log *log, const char *path, const char *not_this, app_error *err);
/* Before the first frame. The engine has one session, and its trace is the log's from now on. */
int token_log_start(token_log *log, moshi_engine *engine, app_error *err);
/* Has everything been logged so far? Ask after each step. */
int token_log_check(const token_log *log, app_error *err);
/* tokens [1 + dep_q] of one frame, as MOSHI_EVENT_TOKENS gives them. */
int token_log_add(token_log *log, const int32_t *tokens, size_t n, app_error *err);
/* Write the file, without giving it its name. */
int token_log_write(token_log *log, app_error *err);
int token_log_commit(token_log *log, app_error *err);
/* Leaves nothing behind unless it was committed. A zeroed struct is fine. */
void token_log_close(token_log *log);

#endif
