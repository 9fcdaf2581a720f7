/* soundpair.c - two recordings beside each other. */
#include "soundpair.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Voices have nothing above half of this that matters, and both are brought to one rate. */
enum { COMMON_HZ = 24000 };

bool sound_pair_is_sound(const char *path) {
    struct stat st;
    audio_in *in;
    app_error ignored;
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode)) return false;
    if (audio_in_open(&in, path, &ignored) != EXIT_OK) return false;
    audio_in_close(in);
    return true;
}

/* ---- measuring ------------------------------------------------------------------------------ */

static int examine(pair_side *s, const char *path, app_error *err) {
    s->path = path;
    int rc = soundfile_read(&s->file, path, ANALYZE_LONGEST_S, err);
    if (rc == EXIT_OK)
        rc = analyze_pcm(&s->found, s->file.pcm, s->file.n, s->file.facts.rate_hz, err);
    if (rc == EXIT_OK && s->file.facts.channels > 1) analyze_channels(&s->found, s->file.cancel);
    if (rc == EXIT_OK) analyze_length(&s->found, s->file.facts.seconds, s->file.facts.promised_s);
    return rc;
}

/* Files of wild numbers are refused by sound_load(): then there is nothing to lay side by side. */
static int lay(sound_pair *p, app_error *err) {
    sound a = {0}, b = {0};
    app_error refused;
    bool both = sound_load(&a, p->a.path, COMMON_HZ, &refused) == EXIT_OK &&
                sound_load(&b, p->b.path, COMMON_HZ, &refused) == EXIT_OK;
    int rc = both ? likeness_compare(&p->where, &p->alike, &b, &a, err) : EXIT_OK;
    p->laid = both && rc == EXIT_OK;
    sound_free(&a);
    sound_free(&b);
    return rc == EXIT_OK ? app_check_interrupted(err) : rc;
}

int sound_pair_measure(sound_pair *p, const char *a, const char *b, app_error *err) {
    int rc = examine(&p->a, a, err);
    if (rc == EXIT_OK) rc = examine(&p->b, b, err);
    if (rc != EXIT_OK) return rc;
    const soundfile *x = &p->a.file, *y = &p->b.file;
    p->equal = x->facts.rate_hz == y->facts.rate_hz && x->n == y->n && x->whole && y->whole &&
               (x->n == 0 || !memcmp(x->pcm, y->pcm, x->n * sizeof *x->pcm));
    return lay(p, err);
}

void sound_pair_free(sound_pair *p) {
    soundfile_free(&p->a.file);
    soundfile_free(&p->b.file);
    memset(p, 0, sizeof *p);
}

/* ---- output --------------------------------------------------------------------------------- */

static void print_one(const char *letter, const pair_side *s) {
    const analysis *a = &s->found;
    printf("%s  ", letter);
    app_print_clean(stdout, s->path);
    printf(": %s", analysis_verdict_name(a->verdict));
    if (analysis_has_score(a)) printf(", score %.0f", a->score);
    printf("\n    %s, %d Hz, %d channel%s, %.2f s\n", s->file.facts.format, s->file.facts.rate_hz,
           s->file.facts.channels, s->file.facts.channels == 1 ? "" : "s", a->seconds);
    if (a->found.n && a->found.list[0].confidence >= FINDING_FAULT)
        printf("    %s: %s\n", finding_name(a->found.list[0].kind), a->found.list[0].evidence);
}

void sound_pair_print(const sound_pair *p) {
    const alignment *w = &p->where;
    const likeness *l = &p->alike;
    print_one("A", &p->a);
    print_one("B", &p->b);
    printf("A against B\n");
    if (p->equal) printf("    the same samples\n");
    if (!p->laid) printf("    cannot be laid side by side: one holds no plausible samples\n");
    if (!p->laid || p->equal) return;
    printf("    B lies %+.4f s from A, %+.1f dB%s; %.2f s in common\n", w->delay_s, w->gain_db,
           w->inverted ? ", upside down" : "", w->common_s);
    printf("    SNR %.1f dB (whatever the level), mel-cepstral distance %.1f dB", l->si_sdr_db,
           l->mel_cepstral_db);
    if (l->understood) printf(", ESTOI %.2f", l->estoi);
    printf("\n");
}

static json_t *side_json(const pair_side *s) {
    const analysis *a = &s->found;
    json_t *score = analysis_has_score(a) ? json_real(a->score) : json_null();
    json_t *o =
        json_pack("{s:o, s:s, s:i, s:i, s:f, s:s, s:o, s:b}", "what", json_text(s->path), "format",
                  s->file.facts.format, "rate_hz", s->file.facts.rate_hz, "channels",
                  s->file.facts.channels, "seconds", a->seconds, "analysis",
                  analysis_verdict_name(a->verdict), "score", score, "passes", analysis_passes(a));
    if (o && a->found.n && a->found.list[0].confidence >= FINDING_FAULT)
        json_object_set_new(o, "finding", json_string(finding_id(a->found.list[0].kind)));
    return o;
}

void sound_pair_json(json_t *root, const sound_pair *p) {
    const alignment *w = &p->where;
    const likeness *l = &p->alike;
    json_object_set_new(root, "a", side_json(&p->a));
    json_object_set_new(root, "b", side_json(&p->b));
    json_object_set_new(root, "equal", json_boolean(p->equal));
    if (!p->laid) return;
    json_object_set_new(root, "alike",
                        json_pack("{s:f, s:f, s:b, s:f, s:f, s:f, s:f, s:f}", "delay_s", w->delay_s,
                                  "gain_db", w->gain_db, "inverted", w->inverted, "common_s",
                                  w->common_s, "snr_db", l->si_sdr_db, "stoi", l->stoi, "estoi",
                                  l->estoi, "mel_cepstral_db", l->mel_cepstral_db));
}
