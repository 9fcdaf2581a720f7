#include "session.h"

#include "frame.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t DEFAULT_SEED = 299792458;
/* A word whose end nobody marks is taken to last this many frames beyond its last piece. */
enum { WORD_TAIL_FRAMES = 6 };
/* End-of-padding marker: announces that a word is about to begin. */
enum { TOKEN_EPAD = 0 };

/* ---- opening and closing ------------------------------------------------------------------ */

static int options_check(moshi_session_options *out, const moshi_session_options *in,
                         const moshi_engine_info *info, moshi_error *err) {
    const int known = MOSHI_GREEDY | MOSHI_FIRST_FRAME_SERVER | MOSHI_NO_AUDIO;
    *out = in ? *in : (moshi_session_options){0};
    if (out->flags & ~known)
        return mo_fail(err, MOSHI_EINVAL, "session options: unknown flags 0x%x",
                       (unsigned)(out->flags & ~known));
    if (!isfinite(out->text_temp) || !isfinite(out->audio_temp))
        return mo_fail(err, MOSHI_EINVAL, "session options: temperatures must be finite numbers");
    if (out->seed == 0) out->seed = DEFAULT_SEED;
    if (out->text_temp == 0) out->text_temp = info->text_temp;
    if (out->audio_temp == 0) out->audio_temp = info->audio_temp;
    if (out->text_top_k == 0) out->text_top_k = info->text_top_k;
    if (out->audio_top_k == 0) out->audio_top_k = info->audio_top_k;
    if (out->flags & MOSHI_GREEDY) out->text_temp = out->audio_temp = -1;
    return 0;
}

/* One frame of output. */
static bool record_alloc(mo_record *r, size_t out, size_t user, size_t frame, size_t piece) {
    r->tokens = mo_calloc(out, sizeof *r->tokens);
    r->codes = mo_calloc(user + 1, sizeof *r->codes);
    r->pcm = mo_calloc(frame + 1, sizeof *r->pcm);
    r->piece = mo_calloc(piece, 1);
    r->word = mo_calloc(MO_WORD_BYTES + piece, 1);
    return r->tokens && r->codes && r->pcm && r->piece && r->word;
}

static bool session_alloc(moshi_session *s) {
    const moshi_engine *e = s->engine;
    size_t out = 1 + (size_t)e->info.dep_q, user = (size_t)e->info.user_codebooks;
    size_t frame = (size_t)e->info.frame_samples;
    /* a flushed half character in front of the piece, and the terminator */
    size_t piece = s->piece_cap = (size_t)e->text.longest + MO_PENDING_BYTES + 8;
    s->pcm = mo_calloc(frame * MOSHI_INPUT_FRAMES + 1, sizeof *s->pcm);
    s->codes = mo_calloc((user + out) * MOSHI_INPUT_FRAMES, sizeof *s->codes);
    s->words.cap = MO_WORD_BYTES + piece;
    s->words.word = mo_calloc(s->words.cap, 1);
    s->piece_now = mo_calloc(piece, 1);
    s->word_now = mo_calloc(s->words.cap, 1);
    s->pcm_now = mo_calloc(frame + 1, sizeof *s->pcm_now);
    s->tokens_now = mo_calloc(out, sizeof *s->tokens_now);
    s->codes_now = mo_calloc(user + 1, sizeof *s->codes_now);
    bool ok = s->pcm && s->codes && s->words.word && s->piece_now && s->word_now && s->pcm_now &&
              s->tokens_now && s->codes_now;
    for (int i = 0; ok && i < MOSHI_OUTPUT_FRAMES; i++)
        ok = record_alloc(&s->records[i], out, user, frame, piece);
    return ok;
}

void mo_session_free(moshi_session *s) {
    for (int i = 0; i < MOSHI_OUTPUT_FRAMES; i++) {
        mo_record *r = &s->records[i];
        free(r->tokens);
        free(r->codes);
        free(r->pcm);
        free(r->piece);
        free(r->word);
    }
    free(s->pcm);
    free(s->codes);
    free(s->words.word);
    free(s->piece_now);
    free(s->word_now);
    free(s->pcm_now);
    free(s->tokens_now);
    free(s->codes_now);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

void mo_session_clear(moshi_session *s) {
    s->input = MO_INPUT_NONE;
    s->ended = s->end_pulled = s->stepping = s->heard = false;
    s->pcm_at = s->pcm_n = s->codes_at = s->codes_n = 0;
    s->laid_for = UINT64_MAX;
    s->record_at = s->record_n = 0;
    s->event_at = 0;
    s->ticks = s->frames = 0;
    s->words.n_pending = 0;
    s->words.word[0] = 0;
}

int moshi_session_open(moshi_session **out, moshi_engine *engine,
                       const moshi_session_options *options, moshi_error *err) {
    if (!out || !engine)
        return mo_fail(err, MOSHI_EINVAL, "moshi_session_open: out and engine must not be NULL");
    *out = NULL;
    if (engine->flags & MOSHI_DRY_RUN)
        return mo_fail(err, MOSHI_EDEVICE,
                       "the engine was opened with MOSHI_DRY_RUN: it has no memory for sessions");
    moshi_session_options filled;
    int rc = options_check(&filled, options, &engine->info, err);
    if (rc < 0) return rc;
    moshi_session *s = mo_calloc(1, sizeof *s);
    if (!s || pthread_mutex_init(&s->lock, NULL) != 0) {
        free(s);
        return mo_fail(err, MOSHI_ENOMEM, "out of memory for a session");
    }
    s->engine = engine;
    s->options = filled;
    if (!session_alloc(s)) {
        mo_session_free(s);
        return mo_fail(err, MOSHI_ENOMEM, "out of memory for a session");
    }
    pthread_mutex_lock(&engine->lock);
    s->slot = 0;
    while (s->slot < engine->slots && engine->sessions[s->slot]) s->slot++;
    if (s->slot == engine->slots) {
        pthread_mutex_unlock(&engine->lock);
        mo_session_free(s);
        return mo_fail(err, MOSHI_EBUSY, "all %d sessions of the engine are in use", engine->slots);
    }
    mo_session_clear(s);
    mo_frame_reset_slot(engine, s->slot);
    mo_frame_write_params(engine, s);
    engine->sessions[s->slot] = s;
    pthread_mutex_unlock(&engine->lock);
    *out = s;
    return 0;
}

int moshi_session_reset(moshi_session *s) {
    if (!s) return MOSHI_EINVAL;
    moshi_engine *e = s->engine;
    pthread_mutex_lock(&e->lock);
    pthread_mutex_lock(&s->lock);
    mo_session_clear(s);
    mo_frame_reset_slot(e, s->slot);
    mo_frame_write_params(e, s);
    pthread_mutex_unlock(&s->lock);
    pthread_mutex_unlock(&e->lock);
    return 0;
}

void moshi_session_close(moshi_session *s) {
    if (!s) return;
    moshi_engine *e = s->engine;
    pthread_mutex_lock(&e->lock);
    e->sessions[s->slot] = NULL;
    pthread_mutex_unlock(&e->lock);
    mo_session_free(s);
}

int moshi_session_slot(const moshi_session *s) {
    return s ? s->slot : MOSHI_EINVAL;
}

/* ---- input -------------------------------------------------------------------------------- */

static int push_pcm(moshi_session *s, const float *pcm, size_t n) {
    if (s->ended) return MOSHI_EEND;
    if (s->input == MO_INPUT_CODES) return MOSHI_EINVAL;
    size_t cap = (size_t)s->engine->info.frame_samples * MOSHI_INPUT_FRAMES;
    if (n > cap - s->pcm_n) n = cap - s->pcm_n;
    for (size_t i = 0; i < n; i++)
        if (!isfinite(pcm[i])) return MOSHI_EINVAL;
    size_t at = (s->pcm_at + s->pcm_n) % cap, first = n < cap - at ? n : cap - at;
    if (n) {
        memcpy(s->pcm + at, pcm, first * sizeof *pcm);
        memcpy(s->pcm, pcm + first, (n - first) * sizeof *pcm);
        s->input = MO_INPUT_PCM;
    }
    s->pcm_n += n;
    return (int)n;
}

int moshi_push_pcm(moshi_session *s, const float *pcm, size_t n) {
    if (!s || (!pcm && n) || !s->engine->has_codec) return MOSHI_EINVAL;
    if (!s->engine->info.user_codebooks) return MOSHI_EINVAL; /* nobody is listened to */
    pthread_mutex_lock(&s->lock);
    int rc = push_pcm(s, pcm, n);
    pthread_mutex_unlock(&s->lock);
    return rc;
}

/* Tokens a model may be shown: -1 (nothing), 0 .. card (card itself is the initial token). */
static bool codes_valid(const moshi_engine *e, const int32_t *codes, const int32_t *force,
                        size_t frames) {
    size_t user = (size_t)e->info.user_codebooks, out = 1 + (size_t)e->info.dep_q;
    for (size_t i = 0; i < frames * user; i++)
        if (codes[i] < -1 || codes[i] > e->info.card) return false;
    for (size_t i = 0; force && i < frames * out; i++) {
        int32_t most = i % out == 0 ? e->info.text_card : e->info.card;
        if (force[i] != MOSHI_FREE && (force[i] < -1 || force[i] > most)) return false;
    }
    return true;
}

static int push_codes(moshi_session *s, const int32_t *codes, const int32_t *force, size_t frames) {
    const moshi_engine *e = s->engine;
    size_t user = (size_t)e->info.user_codebooks, out = 1 + (size_t)e->info.dep_q;
    if (s->ended) return MOSHI_EEND;
    if (s->input == MO_INPUT_PCM) return MOSHI_EINVAL;
    if (frames > MOSHI_INPUT_FRAMES - s->codes_n) frames = MOSHI_INPUT_FRAMES - s->codes_n;
    if (!codes_valid(e, codes, force, frames)) return MOSHI_EINVAL;
    for (size_t f = 0; f < frames; f++) {
        int32_t *row = s->codes + (s->codes_at + s->codes_n) % MOSHI_INPUT_FRAMES * (user + out);
        if (user) memcpy(row, codes + f * user, user * sizeof *row);
        for (size_t k = 0; k < out; k++) row[user + k] = force ? force[f * out + k] : MOSHI_FREE;
        s->codes_n++;
    }
    if (frames) s->input = MO_INPUT_CODES;
    return (int)frames;
}

int moshi_push_codes(moshi_session *s, const int32_t *codes, const int32_t *force, size_t frames) {
    if (!s || (!codes && frames && s->engine->info.user_codebooks)) return MOSHI_EINVAL;
    pthread_mutex_lock(&s->lock);
    int rc = push_codes(s, codes, force, frames);
    pthread_mutex_unlock(&s->lock);
    return rc;
}

int moshi_push_end(moshi_session *s) {
    if (!s) return MOSHI_EINVAL;
    pthread_mutex_lock(&s->lock);
    s->ended = true;
    pthread_mutex_unlock(&s->lock);
    return 0;
}

bool mo_session_has_input(const moshi_session *s) {
    if (s->input == MO_INPUT_NONE) return false;
    if (s->input == MO_INPUT_CODES) return s->codes_n > 0;
    return s->pcm_n >= (size_t)s->engine->info.frame_samples || (s->ended && s->pcm_n > 0);
}

bool mo_session_ready(moshi_session *s) {
    pthread_mutex_lock(&s->lock);
    bool ready = mo_session_has_input(s) && s->record_n < MOSHI_OUTPUT_FRAMES;
    pthread_mutex_unlock(&s->lock);
    return ready;
}

/* ---- words -------------------------------------------------------------------------------- */

/* Length of the UTF-8 character that starts with byte b; 0 for a byte that cannot start one. */
static int utf8_length(uint8_t b) {
    if (b < 0x80) return 1;
    if (b >= 0xc2 && b < 0xe0) return 2;
    if (b >= 0xe0 && b < 0xf0) return 3;
    if (b >= 0xf0 && b < 0xf5) return 4;
    return 0;
}

/* Append one byte token; gives the finished character, "" while it is unfinished, U+FFFD when it
 * can no longer become one. */
static void words_add_byte(mo_words *w, char byte, char *out) {
    static const char replacement[] = "\xef\xbf\xbd";
    out[0] = 0;
    w->pending[w->n_pending++] = byte;
    int want = utf8_length((uint8_t)w->pending[0]);
    bool continues = w->n_pending == 1 || ((uint8_t)byte & 0xc0) == 0x80;
    if (want == 0 || !continues) {
        strcpy(out, replacement);
        w->n_pending = 0;
    } else if (w->n_pending == want) {
        memcpy(out, w->pending, (size_t)want);
        out[want] = 0;
        w->n_pending = 0;
    }
}

/* Text of one token, with characters that were spread over several tokens put together. */
static void words_piece(mo_words *w, const mo_text *text, int32_t token, char *out, size_t cap) {
    out[0] = 0;
    if (token < 0 || token >= text->n) return;
    bool byte = text->kind[token] == 6;
    if (byte) {
        char one[8];
        if (mo_text_piece(text, token, one, sizeof one) == 1) words_add_byte(w, one[0], out);
        return;
    }
    size_t n = 0;
    if (w->n_pending) {
        strcpy(out, "\xef\xbf\xbd");
        n = 3;
        w->n_pending = 0;
    }
    mo_text_piece(text, token, out + n, cap - n);
}

/* Close the open word into *r. `frame` is where something else begins. */
static void words_close(moshi_session *s, mo_record *r, int64_t frame) {
    mo_words *w = &s->words;
    double rate = s->engine->info.frame_rate_hz;
    int64_t stop = w->last_frame + 1 + WORD_TAIL_FRAMES;
    if (stop > frame) stop = frame;
    if (stop < w->last_frame + 1) stop = w->last_frame + 1;
    strcpy(r->word, w->word);
    r->word_start_s = (double)w->first_frame / rate;
    r->word_stop_s = (double)stop / rate;
    w->word[0] = 0;
}

/* A piece that begins with a space begins a word; the end-of-padding marker ends one. */
static void words_add(moshi_session *s, mo_record *r, int32_t token) {
    mo_words *w = &s->words;
    const char *piece = r->piece;
    bool begins = piece[0] == ' ' || strlen(w->word) >= MO_WORD_BYTES;
    bool stale = r->frame > w->last_frame + WORD_TAIL_FRAMES;
    r->word[0] = 0;
    if (w->word[0] && (begins || stale || token == TOKEN_EPAD)) words_close(s, r, r->frame);
    if (!piece[0]) return;
    if (!w->word[0]) {
        w->first_frame = r->frame;
        piece += piece[0] == ' ';
    }
    size_t n = strlen(w->word), m = strlen(piece);
    if (n + m < w->cap) memcpy(w->word + n, piece, m + 1);
    w->last_frame = r->frame;
}

/* ---- output ------------------------------------------------------------------------------- */

void mo_session_deliver(moshi_session *s, const int32_t *tokens, const int32_t *codes,
                        const float *pcm) {
    const moshi_engine *e = s->engine;
    mo_record *r = &s->records[(s->record_at + s->record_n) % MOSHI_OUTPUT_FRAMES];
    r->frame = s->frames++;
    memcpy(r->tokens, tokens, (1 + (size_t)e->info.dep_q) * sizeof *tokens);
    memcpy(r->codes, codes, (size_t)e->info.user_codebooks * sizeof *codes);
    r->has_audio = pcm != NULL;
    if (pcm) memcpy(r->pcm, pcm, (size_t)e->info.frame_samples * sizeof *pcm);
    /* 0 and the padding token are markers, never text */
    bool marker = tokens[0] == TOKEN_EPAD || tokens[0] == e->model.lm.cfg.text_pad;
    r->piece[0] = 0;
    if (e->text.n && !marker) words_piece(&s->words, &e->text, tokens[0], r->piece, s->piece_cap);
    words_add(s, r, tokens[0]);
    s->record_n++;
}

static int emit_word(moshi_session *s, const mo_record *r, moshi_event *ev) {
    strcpy(s->word_now, r->word);
    ev->type = MOSHI_EVENT_WORD;
    ev->text = s->word_now;
    ev->n = strlen(s->word_now);
    ev->start_s = r->word_start_s;
    ev->stop_s = r->word_stop_s;
    return 1;
}

/* Parts of a record in the order they are delivered. */
enum { PART_TOKENS, PART_WORD, PART_TEXT, PART_AUDIO, PART_DONE };

/* Event for one part of a record; 0 when that part is empty. */
static int emit_part(moshi_session *s, const mo_record *r, int part, moshi_event *ev) {
    const moshi_engine_info *info = &s->engine->info;
    if (part == PART_TOKENS) {
        ev->type = MOSHI_EVENT_TOKENS;
        ev->n = 1 + (size_t)info->dep_q;
        memcpy(s->tokens_now, r->tokens, ev->n * sizeof *r->tokens);
        memcpy(s->codes_now, r->codes, (size_t)info->user_codebooks * sizeof *r->codes);
        ev->tokens = s->tokens_now;
        ev->codes = s->codes_now;
        return 1;
    }
    if (part == PART_WORD && r->word[0]) return emit_word(s, r, ev);
    if (part == PART_TEXT && r->piece[0]) {
        strcpy(s->piece_now, r->piece);
        ev->type = MOSHI_EVENT_TEXT;
        ev->text = s->piece_now;
        ev->n = strlen(s->piece_now);
        ev->token = r->tokens[0];
        return 1;
    }
    if (part == PART_AUDIO && r->has_audio) {
        ev->type = MOSHI_EVENT_AUDIO;
        ev->n = (size_t)info->frame_samples;
        memcpy(s->pcm_now, r->pcm, ev->n * sizeof *r->pcm);
        ev->pcm = s->pcm_now;
        return 1;
    }
    return 0;
}

/* Everything was delivered: the word still open, then the end. */
static int pull_end(moshi_session *s, moshi_event *ev) {
    if (!s->ended || s->end_pulled || s->stepping || mo_session_has_input(s)) return 0;
    ev->frame = s->frames;
    if (s->words.word[0]) {
        words_close(s, &s->records[s->record_at], s->frames);
        return emit_word(s, &s->records[s->record_at], ev);
    }
    ev->type = MOSHI_EVENT_END;
    ev->start_s = ev->stop_s = (double)s->frames / s->engine->info.frame_rate_hz;
    s->end_pulled = true;
    return 1;
}

static int pull(moshi_session *s, moshi_event *ev) {
    double rate = s->engine->info.frame_rate_hz;
    while (s->record_n) {
        mo_record *r = &s->records[s->record_at];
        ev->frame = r->frame;
        ev->start_s = (double)r->frame / rate;
        ev->stop_s = (double)(r->frame + 1) / rate;
        while (s->event_at < PART_DONE)
            if (emit_part(s, r, s->event_at++, ev)) return 1;
        s->event_at = 0;
        s->record_at = (s->record_at + 1) % MOSHI_OUTPUT_FRAMES;
        s->record_n--;
    }
    return pull_end(s, ev);
}

int moshi_pull(moshi_session *s, moshi_event *event) {
    if (!s || !event) return MOSHI_EINVAL;
    memset(event, 0, sizeof *event);
    pthread_mutex_lock(&s->lock);
    int rc = pull(s, event);
    pthread_mutex_unlock(&s->lock);
    return rc;
}
