/* bench_analyze.c - how often `moshi analyze` is right: every recording as it is and with every
 * damage of damage.h, counted in one table.
 *
 *     bench_analyze [--seconds S] [--only NAME] [--list] FILE...
 *
 * --seconds takes only that much of each recording, from its first sound on; --only does one damage
 * ("clean" for none); --list prints every case on a line of its own, with its measures. */
#include "analyze.h"
#include "damage.h"
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
    printf("%s\t%s\t%s\t%.1f\t%s\t%.2f\tdir=%.2f\trate=%.3f\theard=%.2f\tsurprise=%.1f\tperiod=%d\t"
           "broken=%d/"
           "%d\tsize=%.0f\tmend=%.2f,%.2f,%.2f\trepeats=%d@%d\tgaps=%d\twraps=%d\tflat=%.5f\t"
           "rail=%.4f\tdc=%.3f\tfluct=%.1f\tvoiced=%.2f\tgain=%.1f\tmod=%.2f\n",
           path, what, analysis_verdict_name(a->verdict), a->score, f ? finding_id(f->kind) : "-",
           f ? f->confidence : 0, a->voice.direction, a->voice.rate_octaves, a->voice.heard_s,
           a->splice.surprise, a->splice.period, a->splice.broken, a->splice.boundaries,
           a->splice.size, a->splice.mend_reverse, a->splice.mend_swap, a->splice.mend_order,
           a->splice.repeats, a->splice.repeat_period, a->splice.gaps, a->splice.wraps,
           a->level.flat_share, a->level.rail_share, a->level.dc, a->level.fluctuation_db,
           a->voice.voiced_share, a->splice.prediction_gain_db, a->level.modulation);
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
    app_error err;
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
        if (!only || !strcmp(only, "clean"))
            bad |= count_case(&rows[0], path, "clean", FINDING_KINDS, pcm, n, rate, list);
        for (int d = 0; d < N_DAMAGES; d++) {
            float *spoilt;
            size_t m;
            if (only && strcmp(only, DAMAGES[d].name) != 0) continue;
            if (damage_make(&DAMAGES[d], &spoilt, &m, pcm, n, rate, seed, &err) != EXIT_OK)
                return 1;
            bad |= count_case(&rows[d + 1], path, DAMAGES[d].name, DAMAGES[d].kind, spoilt, m, rate,
                              list);
            free(spoilt);
        }
    }
    soundfile_free(&r);
    return bad;
}

static void print_row(const char *name, const tally *t) {
    if (t->cases == 0) return;
    printf("%-22s %6d %6d", name, t->cases, t->failed);
    if (strcmp(name, "clean") != 0)
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
    print_row("clean", &rows[0]);
    for (int d = 0; d < N_DAMAGES; d++) {
        print_row(DAMAGES[d].name, &rows[d + 1]);
        cases += rows[d + 1].cases, failed += rows[d + 1].failed, named += rows[d + 1].named;
    }
    if (cases)
        printf("%-22s %6d %6d %5.1f %% %5.1f %%\n", "all damages", cases, failed,
               100.0 * failed / cases, 100.0 * named / cases);
    print_auc(&rows[0], &rows[1]);
    return bad;
}
