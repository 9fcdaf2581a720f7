/* bench_analyze.c - how often `moshi analyze` is right: every recording as it is, with changes that
 * leave it intact (noise, level, sample rate), and with every damage of damage.h, counted in one
 * table.
 *
 *     bench_analyze [--seconds S] [--only NAME,...] [--list] FILE...
 *
 * --seconds takes only that much of each recording, from its first sound on; --only does some of
 * the rows ("clean": the recording as it is); --list prints every case on a line of its own, with
 * its measures. */
#include "analyze.h"
#include "damage.h"
#include "sound.h"
#include "soundfile.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 64 };

typedef struct tally {
    int cases, failed, named;
    int as[FINDING_KINDS]; /* what failing cases were called */
    double *direction;     /* [cases] */
} tally;

static void print_case(const char *path, const char *what, const analysis *a) {
    const finding *f = a->found.n ? &a->found.list[0] : NULL;
    printf("%s\t%s\t%s\t%.1f\t%s\t%.2f\tdir=%.2f\trate=%.3f\tfast=%.2f\tslow=%.2f\theard=%."
           "2f\tsurprise=%.1f\tperiod=%d\t"
           "broken=%d/"
           "%d\tsize=%.0f\tstrange=%.1f\tmend=%.2f,%.2f,%.2f\trepeats=%d@%d\tgaps=%d\twraps=%"
           "d\tflat=%.5f\t"
           "rail=%.4f\tdc=%.3f\tfluct=%.1f\tvoiced=%.2f\tgain=%.1f\tmod=%.2f\n",
           path, what, analysis_verdict_name(a->verdict), a->score, f ? finding_id(f->kind) : "-",
           f ? f->confidence : 0, a->voice.direction, a->voice.rate_octaves, a->voice.too_fast,
           a->voice.too_slow, a->voice.heard_s, a->splice.surprise, a->splice.period,
           a->splice.broken, a->splice.boundaries, a->splice.size, a->splice.strange_db,
           a->splice.mend_reverse, a->splice.mend_swap, a->splice.mend_order, a->splice.repeats,
           a->splice.repeat_period, a->splice.gaps, a->splice.wraps, a->level.flat_share,
           a->level.rail_share, a->level.dc, a->level.fluctuation_db, a->voice.voiced_share,
           a->splice.prediction_gain_db, a->level.modulation);
}

static int count_case(tally *t, const char *path, const char *what, finding_kind kind,
                      const float *pcm, size_t n, int rate_hz, int list) {
    app_error err;
    analysis a;
    if (analyze_pcm(&a, pcm, n, rate_hz, &err) != EXIT_OK) {
        fprintf(stderr, "%s: %s\n", path, err.text);
        return 1;
    }
    t->direction = realloc(t->direction, sizeof *t->direction * (size_t)(t->cases + 1));
    t->direction[t->cases++] = a.voice.direction;
    if (!analysis_passes(&a)) {
        t->failed++;
        t->as[a.found.list[0].kind]++;
        t->named += a.found.list[0].kind == kind;
    }
    if (list) print_case(path, what, &a);
    return 0;
}

/* ---- what leaves speech intact -------------------------------------------------------------- */

typedef struct variant {
    const char *name;
    double gain;  /* 0: as it is */
    double noise; /* relative to the RMS of the recording */
    int rate_hz;  /* 0: its own */
} variant;

static const variant VARIANTS[] = {
    {"clean", 1, 0, 0},        {"noise-20-db", 1, 0.1, 0}, {"quiet-30-db", 0.0316, 0, 0},
    {"8000-hz", 1, 0, 8000},   {"16000-hz", 1, 0, 16000},  {"24000-hz", 1, 0, 24000},
    {"44100-hz", 1, 0, 44100},
};
enum { N_VARIANTS = sizeof VARIANTS / sizeof VARIANTS[0] };

/* In 16 bits, as files are. */
static int make_variant(sound *out, const variant *v, const float *pcm, size_t n, int rate_hz,
                        uint64_t seed, app_error *err) {
    sound in = {0};
    double square = 0, scale = v->gain, peak = 1e-9;
    int rc = sound_make(&in, n, rate_hz, err);
    if (rc != EXIT_OK) return rc;
    for (size_t i = 0; i < n; i++) square += (double)pcm[i] * (double)pcm[i] / (double)n;
    uint32_t state = (uint32_t)seed + 1;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        double noise = ((double)state / 4294967296.0 - 0.5) * sqrt(12 * square) * v->noise;
        in.pcm[i] = (float)((double)pcm[i] + noise);
    }
    rc = sound_resample(out, &in, &SINC_FILE, v->rate_hz ? v->rate_hz : rate_hz, NULL, err);
    sound_free(&in);
    for (size_t i = 0; i < out->n; i++) peak = fmax(peak, fabs((double)out->pcm[i]));
    if (peak * scale > 0.999) scale = 0.999 / peak;
    for (size_t i = 0; i < out->n; i++)
        out->pcm[i] = (float)(rint((double)out->pcm[i] * scale * 32768) / 32768);
    return rc;
}

/* ---- cases ---------------------------------------------------------------------------------- */

/* Is `name` among the names in `only`, separated by commas? */
static bool wanted(const char *only, const char *name) {
    size_t n = strlen(name);
    if (!only) return true;
    for (const char *p = strstr(only, name); p; p = strstr(p + 1, name))
        if ((p == only || p[-1] == ',') && (p[n] == 0 || p[n] == ',')) return true;
    return false;
}

/* From the first 20 ms that are not silent on. */
static void cut(const float **pcm, size_t *n, int rate_hz, double seconds) {
    size_t frame = (size_t)(rate_hz / 50), most = (size_t)(seconds * rate_hz), at = 0;
    float peak = 0;
    for (size_t i = 0; i < *n; i++) peak = fabsf((*pcm)[i]) > peak ? fabsf((*pcm)[i]) : peak;
    for (; at + frame < *n; at += frame) {
        float here = 0;
        for (size_t i = at; i < at + frame; i++)
            here = fabsf((*pcm)[i]) > here ? fabsf((*pcm)[i]) : here;
        if (here > 0.05f * peak) break;
    }
    *pcm += at;
    *n -= at;
    if (*n > most) *n = most;
}

static int examine(tally *rows, const char *path, double seconds, const char *only, int list,
                   uint64_t seed) {
    app_error err = {0};
    soundfile r;
    if (soundfile_read(&r, path, 30, &err) != EXIT_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    const float *pcm = r.pcm;
    size_t n = r.n;
    int rate = r.facts.rate_hz, bad = 0;
    if (seconds > 0) cut(&pcm, &n, rate, seconds);
    /* A recording shorter than what is asked for is no case. */
    if (seconds == 0 || (double)n >= seconds * rate) {
        for (int v = 0; v < N_VARIANTS; v++) {
            sound intact = {0};
            if (!wanted(only, VARIANTS[v].name)) continue;
            if (make_variant(&intact, &VARIANTS[v], pcm, n, rate, seed, &err) != EXIT_OK) return 1;
            bad |= count_case(&rows[v], path, VARIANTS[v].name, FINDING_KINDS, intact.pcm, intact.n,
                              intact.rate_hz, list);
            sound_free(&intact);
        }
        for (int d = 0; d < N_DAMAGES; d++) {
            float *spoilt;
            size_t m;
            if (!wanted(only, DAMAGES[d].name)) continue;
            if (damage_make(&DAMAGES[d], &spoilt, &m, pcm, n, rate, seed, &err) != EXIT_OK)
                return 1;
            bad |= count_case(&rows[N_VARIANTS + d], path, DAMAGES[d].name, DAMAGES[d].kind, spoilt,
                              m, rate, list);
            free(spoilt);
        }
    }
    soundfile_free(&r);
    return bad;
}

static void print_row(const char *name, const tally *t, bool intact) {
    if (t->cases == 0) return;
    printf("%-22s %6d %6d", name, t->cases, t->failed);
    if (!intact)
        printf(" %5.1f %% %5.1f %%", 100.0 * t->failed / t->cases, 100.0 * t->named / t->cases);
    else
        printf("                ");
    for (int k = 0; k < FINDING_KINDS; k++)
        if (t->as[k]) printf("  %s %d", finding_id((finding_kind)k), t->as[k]);
    putchar('\n');
}

/* How often the direction of a sound is larger than that of a reversed one. */
static void print_auc(const tally *clean, const tally *reversed) {
    double above = 0;
    if (!clean->cases || !reversed->cases) return;
    for (int i = 0; i < clean->cases; i++)
        for (int k = 0; k < reversed->cases; k++)
            above += clean->direction[i] > reversed->direction[k]    ? 1
                     : clean->direction[i] == reversed->direction[k] ? 0.5
                                                                     : 0;
    printf("direction of time, area under the curve: %.4f\n",
           above / clean->cases / reversed->cases);
}

int main(int argc, char **argv) {
    static tally rows[ROWS];
    double seconds = 0;
    const char *only = NULL;
    int list = 0, bad = 0, i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (!strcmp(argv[i], "--list"))
            list = 1;
        else if (!strcmp(argv[i], "--seconds") && i + 1 < argc)
            seconds = atof(argv[++i]);
        else if (!strcmp(argv[i], "--only") && i + 1 < argc)
            only = argv[++i];
        else
            return fprintf(stderr, "unknown option %s\n", argv[i]), 2;
    }
    for (int f = i; f < argc; f++)
        bad |= examine(rows, argv[f], seconds, only, list, (uint64_t)(f - i));
    int cases = 0, failed = 0, named = 0;
    printf("%-22s %6s %6s %7s %7s  what it was called\n", "", "cases", "failed", "found", "named");
    for (int v = 0; v < N_VARIANTS; v++) print_row(VARIANTS[v].name, &rows[v], true);
    for (int d = 0; d < N_DAMAGES; d++) {
        const tally *t = &rows[N_VARIANTS + d];
        print_row(DAMAGES[d].name, t, false);
        cases += t->cases, failed += t->failed, named += t->named;
    }
    if (cases)
        printf("%-22s %6d %6d %5.1f %% %5.1f %%\n", "all damages", cases, failed,
               100.0 * failed / cases, 100.0 * named / cases);
    print_auc(&rows[0], &rows[N_VARIANTS]);
    return bad;
}
