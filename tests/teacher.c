#include "teacher.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char thoughts[] = "lm.text_token lm.text_logits depth.*.token depth.*.logits "
                               "mimi.enc.codes";

/* depth.KK.logits of all codebooks side by side: [steps, dep_q, card]. */
static float *audio_logits(const tap_log *log, const lesson *l) {
    float *all = test_alloc(l->steps * l->dep_q * l->card, sizeof *all);
    for (size_t k = 0; k < l->dep_q; k++) {
        const float *one = tap_f32(log, l->steps * l->card, "depth.%02zu.logits", k);
        for (size_t s = 0; s < l->steps; s++)
            memcpy(all + (s * l->dep_q + k) * l->card, one + s * l->card, l->card * sizeof *all);
    }
    return all;
}

void lesson_record(lesson *l, moshi_engine *yardstick, const float *pcm, size_t n) {
    moshi_engine_info info;
    moshi_engine_get_info(yardstick, &info);
    memset(l, 0, sizeof *l);
    moshi_session_options o = {.flags = MOSHI_GREEDY | MOSHI_NO_AUDIO};
    moshi_session *session = open_session(yardstick, &o);
    tap_log log = {.slot = moshi_session_slot(session)};
    event_log events;
    event_log_init(&events, yardstick);
    moshi_engine_trace(yardstick, thoughts, tap_log_fn, &log);
    run_pcm(yardstick, session, pcm, n, n, &events);
    moshi_engine_trace(yardstick, NULL, NULL, NULL);
    moshi_session_close(session);

    const tap_series *text = tap_find(&log, "lm.text_logits");
    if (!text) test_die("nothing to learn from %zu samples", n);
    l->steps = text->calls, l->text_card = text->width;
    l->users = (size_t)info.user_codebooks, l->dep_q = (size_t)info.dep_q;
    l->card = (size_t)info.card;
    l->codes = test_alloc(l->steps * l->users, sizeof *l->codes);
    l->tokens = test_alloc(l->steps * (1 + l->dep_q), sizeof *l->tokens);
    l->text = test_alloc(l->steps * l->text_card, sizeof *l->text);
    memcpy(l->text, text->data, l->steps * l->text_card * sizeof *l->text);
    l->audio = audio_logits(&log, l);
    /* The codes of the first frame are stepped twice. */
    const int32_t *codes = tap_i32(&log, (l->steps - 1) * l->users, "mimi.enc.codes");
    memcpy(l->codes, codes, l->users * sizeof *codes);
    memcpy(l->codes + l->users, codes, (l->steps - 1) * l->users * sizeof *codes);
    for (size_t c = 0; c <= l->dep_q; c++) {
        const int32_t *chosen = c ? tap_i32(&log, l->steps, "depth.%02zu.token", c - 1)
                                  : tap_i32(&log, l->steps, "lm.text_token");
        for (size_t s = 0; s < l->steps; s++) l->tokens[s * (1 + l->dep_q) + c] = chosen[s];
    }
    event_log_free(&events);
    tap_log_free(&log);
}

void lesson_free(lesson *l) {
    free(l->codes);
    free(l->tokens);
    free(l->text);
    free(l->audio);
    memset(l, 0, sizeof *l);
}

static double log_sum_exp(const float *x, size_t n) {
    double most = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++) most = fmax(most, (double)x[i]);
    for (size_t i = 0; i < n; i++) sum += exp((double)x[i] - most);
    return most + log(sum);
}

static size_t likeliest(const float *x, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

/* One decision: `want` are the yardstick's logits, `got` the variant's. */
static void mark(marks *m, const float *want, const float *got, size_t n) {
    double zp = log_sum_exp(want, n), zq = log_sum_exp(got, n), kl = 0, mean = 0;
    for (size_t i = 0; i < n; i++) mean += (double)want[i] / (double)n;
    for (size_t i = 0; i < n; i++) {
        double p = (double)want[i], q = (double)got[i];
        kl += exp(p - zp) * ((p - zp) - (q - zq));
        m->error += (q - p) * (q - p);
        m->signal += (p - mean) * (p - mean);
        m->largest = fmax(m->largest, fabs(q - p));
    }
    m->n++;
    m->logits += n;
    m->kl += kl;
    m->worst_kl = fmax(m->worst_kl, kl);
    m->same += likeliest(want, n) == likeliest(got, n);
}

void lesson_take(const lesson *l, moshi_engine *variant, marks *text, marks *audio) {
    moshi_session_options o = {.flags = MOSHI_GREEDY | MOSHI_NO_AUDIO};
    moshi_session *session = open_session(variant, &o);
    tap_log log = {.slot = moshi_session_slot(session)};
    event_log events;
    event_log_init(&events, variant);
    moshi_engine_trace(variant, thoughts, tap_log_fn, &log);
    run_codes(variant, session, l->codes, l->tokens, l->steps, &events);
    moshi_engine_trace(variant, NULL, NULL, NULL);
    moshi_session_close(session);
    const float *got = tap_f32(&log, l->steps * l->text_card, "lm.text_logits");
    float *spoken = audio_logits(&log, l);
    for (size_t s = 0; s < l->steps; s++)
        mark(text, l->text + s * l->text_card, got + s * l->text_card, l->text_card);
    for (size_t i = 0; i < l->steps * l->dep_q; i++)
        mark(audio, l->audio + i * l->card, spoken + i * l->card, l->card);
    free(spoken);
    event_log_free(&events);
    tap_log_free(&log);
}
