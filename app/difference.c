#include "difference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const float *row_of(const track *t, size_t row) {
    return (const float *)(const void *)t->data.data + row * t->width;
}

static const int32_t *ints_of(const track *t, size_t row) {
    return (const int32_t *)(const void *)t->data.data + row * t->width;
}

static size_t common_rows(const track *a, const track *b) {
    return a->rows < b->rows ? a->rows : b->rows;
}

/* ---- the first divergence ------------------------------------------------------------------- */

/* What computes a tap, by how its name ends. */
static const struct {
    const char *end, *words;
} OPERATIONS[] = {
    {".norm1", "norm before attention"},
    {".in_proj", "matrix in_proj (queries, keys, values)"},
    {".rope", "rotary embedding"},
    {".attend", "attention (scores, softmax, values)"},
    {".attn", "matrix out_proj"},
    {".norm2", "norm before the feed-forward part"},
    {".linear1", "matrix linear1"},
    {".act", "activation of the feed-forward part (SiLU or GELU)"},
    {".out", "matrix linear2"},
    {".elu", "ELU before a convolution"},
    {".elu1", "ELU of a residual block"},
    {".elu2", "second ELU of a residual block"},
    {".conv1", "convolution of a residual block"},
    {".in_tokens", "token grid (delays, initial tokens)"},
    {".out_tokens", "token grid (delays of the output)"},
    {".embed", "embedding tables"},
    {".out_norm", "norm before the heads"},
    {".text_logits", "text head"},
    {".logits", "audio head"},
    {".in", "depformer_in and embedding of the token before"},
    {".codes", "search in the codebooks"},
    {".latent", "downsampling convolution"},
    {".quantized", "codebook entries and their projection"},
    {".upsampled", "upsampling convolution"},
    {".audio", "last convolution"},
};

static void describe(const char *tap, char *out, size_t size) {
    const char *dot = strrchr(tap, '.'), *what = NULL;
    int layer, codebook;
    for (size_t i = 0; dot && i < sizeof OPERATIONS / sizeof OPERATIONS[0]; i++)
        if (!strcmp(dot, OPERATIONS[i].end)) what = OPERATIONS[i].words;
    if (!what) what = "convolution"; /* mimi.enc.model.N */
    if (sscanf(tap, "lm.layer.%d", &layer) == 1)
        snprintf(out, size, "%s, layer %d of the temporal transformer", what, layer);
    else if (sscanf(tap, "depth.%d.layer.%d", &codebook, &layer) == 2)
        snprintf(out, size, "%s, layer %d of the depth transformer, codebook %d", what, layer,
                 codebook);
    else if (sscanf(tap, "depth.%d", &codebook) == 1)
        snprintf(out, size, "%s of the depth transformer, codebook %d", what, codebook);
    else if (sscanf(tap, "mimi.enc.transformer.%d", &layer) == 1)
        snprintf(out, size, "%s, layer %d of Mimi's encoder transformer", what, layer);
    else if (sscanf(tap, "mimi.dec.transformer.%d", &layer) == 1)
        snprintf(out, size, "%s, layer %d of Mimi's decoder transformer", what, layer);
    else if (sscanf(tap, "mimi.enc.model.%d", &layer) == 1)
        snprintf(out, size, "%s, block %d of Mimi's encoder", what, layer);
    else if (sscanf(tap, "mimi.dec.model.%d", &layer) == 1)
        snprintf(out, size, "%s, block %d of Mimi's decoder", what, layer);
    else
        snprintf(out, size, "%s of %s", what,
                 !strncmp(tap, "mimi.enc", 8)   ? "Mimi's encoder"
                 : !strncmp(tap, "mimi.dec", 8) ? "Mimi's decoder"
                                                : "the language model");
}

/* Of the error one matrix makes, how much a whole row and a single element may show. Errors of
 * earlier layers add up and softmax and gates amplify them: the largest seen with quantised
 * weights was 3.9 times that of one matrix for a row, 9.3 for an element that no gate had passed
 * (demo model, q8_0 to q4_0, five recordings of 30 frames). */
static const double ROW_MARGIN = 8, ELEMENT_MARGIN = 25;

/* Relative RMS error of a row, its worst element, and the error of that one relative to itself or
 * to the RMS of the row, whichever is larger; what is smaller than `terms`, the size of what was
 * summed, counts as so large. A NaN on one side only is an infinite error. */
static double row_error(const float *a, const float *b, size_t n, double terms, size_t *worst,
                        double *alone) {
    double square = 0, error = 0, most = -1;
    for (size_t i = 0; i < n; i++) {
        double e = (double)b[i] - (double)a[i];
        if (!isfinite(b[i]) || !isfinite(a[i])) e = a[i] == b[i] ? 0 : INFINITY;
        if (isnan(a[i]) && isnan(b[i])) e = 0;
        square += isfinite(a[i]) ? (double)a[i] * (double)a[i] : 0;
        error += e * e;
        if (fabs(e) > most) {
            most = fabs(e);
            *worst = i;
        }
    }
    if (!(error > 0)) return *alone = 0;
    /* Silence is exact zeros up to rounding: nothing to be relative to. */
    square = fmax(square / (double)n, terms * terms) + 1e-12;
    *alone = most / fmax(sqrt(square), fabs((double)a[*worst]));
    return sqrt(error / (double)n / square);
}

/* The operand of a convolution, and what its matrix makes of such numbers. */
typedef struct operand {
    const track *of; /* NULL: not known */
    double ratio;
} operand;

static operand operand_of(const recording *a, const track *t, const gains *g) {
    const gain *known = gains_find(g, t->name);
    const track *of = known ? recording_find(a, known->operand) : NULL;
    if (!of || of->dtype != MOSHI_F32 || of->rows != t->rows) return (operand){0};
    return (operand){of, known->ratio};
}

static double row_rms(const track *t, size_t row) {
    const float *x = row_of(t, row);
    double sum = 0;
    for (size_t i = 0; i < t->width; i++) sum += (double)x[i] * (double)x[i];
    return sqrt(sum / (double)t->width);
}

/* What a row was summed of. The first of its numbers have the end of the row before under them. */
static double terms_of(const operand *o, size_t row) {
    if (!o->of) return 0;
    double here = row_rms(o->of, row), before = row ? row_rms(o->of, row - 1) : 0;
    double terms = o->ratio * fmax(here, before);
    return isfinite(terms) ? terms : 0;
}

/* Is the first differing row of this pair of tracks beyond what is explained, given the error of
 * one matrix? Fills *d. */
static bool diverges(const track *a, const track *b, const operand *o, double one, divergence *d) {
    const char *dot = strrchr(a->name, '.');
    bool gated = !strcmp(dot, ".act") || !strcmp(dot, ".attend");
    for (size_t row = 0; row < common_rows(a, b); row++) {
        size_t worst = 0;
        double error = 0, alone = 0, allowed = ROW_MARGIN * one;
        if (a->dtype == MOSHI_I32) {
            while (worst < a->width && ints_of(a, row)[worst] == ints_of(b, row)[worst]) worst++;
            if (worst == a->width) continue;
        } else {
            error = row_error(row_of(a, row), row_of(b, row), a->width, terms_of(o, row), &worst,
                              &alone);
            if (error <= allowed) {
                error = alone;
                allowed = ELEMENT_MARGIN * one;
                if (gated || error <= allowed) continue;
            }
        }
        *d = (divergence){.found = true, .step = (int64_t)row, .element = worst, .error = error};
        d->one_element = allowed > ROW_MARGIN * one;
        snprintf(d->tap, sizeof d->tap, "%s", a->name);
        describe(a->name, d->words, sizeof d->words);
        bool integers = a->dtype == MOSHI_I32;
        d->allowed = integers ? 0 : allowed;
        d->wanted = integers ? ints_of(a, row)[worst] : (double)row_of(a, row)[worst];
        d->got = integers ? ints_of(b, row)[worst] : (double)row_of(b, row)[worst];
        return true;
    }
    return false;
}

/* Stages in the order in which errors travel: encoder, language model, decoder. Within a stage the
 * earliest step counts, and in it the earliest operation. Chosen tokens of the free run are results
 * of everything, not causes. */
static void find_first(const recording *a, const recording *b, explained e, const gains *g,
                       divergence *d) {
    static const char *const stages[] = {"mimi.enc.", "lm.", "depth.", "mimi.dec."};
    divergence candidate;
    for (size_t s = 0; s < 4 && !d->found; s++) {
        for (size_t i = 0; i < a->n; i++) {
            const track *ta = &a->tracks[i], *tb = recording_find(b, ta->name);
            const char *dot = strrchr(ta->name, '.');
            const double error = !strncmp(ta->name, "mimi.", 5) ? e.codec : e.model;
            if (strncmp(ta->name, stages[s], strlen(stages[s])) != 0) continue;
            if (!strcmp(dot, ".token") || !strcmp(dot, ".text_token")) continue;
            if (!tb || tb->width != ta->width || tb->dtype != ta->dtype) continue;
            /* When numbers are coarse, a code near a tie is no fault. */
            if (!strcmp(dot, ".codes") && error > 1e-4) continue;
            operand o = operand_of(a, ta, g);
            if (diverges(ta, tb, &o, error, &candidate) && (!d->found || candidate.step < d->step))
                *d = candidate;
        }
    }
}

/* ---- logits --------------------------------------------------------------------------------- */

typedef struct logits_sum {
    double kl, same, rows, cosine;
} logits_sum;

static size_t largest(const float *x, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

/* `at` is the place of the largest. */
static double log_sum_exp(const float *x, size_t n, size_t at) {
    double sum = 1, high = (double)x[at];
    for (size_t i = 0; i < n; i++)
        if (i != at) sum += exp((double)x[i] - high);
    return high + log(sum);
}

static void add_logits(logits_sum *s, const track *a, const track *b) {
    if (!a || !b || a->width != b->width) return;
    for (size_t row = 0; row < common_rows(a, b); row++) {
        const float *x = row_of(a, row), *y = row_of(b, row);
        size_t bx = largest(x, a->width), by = largest(y, a->width);
        double zx = log_sum_exp(x, a->width, bx);
        double zy = log_sum_exp(y, a->width, by);
        double kl = 0, xx = 0, yy = 0, xy = 0;
        for (size_t i = 0; i < a->width; i++) {
            double p = (double)x[i] - zx, q = (double)y[i] - zy;
            kl += exp(p) * (p - q);
            xx += (double)x[i] * (double)x[i];
            yy += (double)y[i] * (double)y[i];
            xy += (double)x[i] * (double)y[i];
        }
        double cosine = xx > 0 && yy > 0 ? xy / sqrt(xx * yy) : 1;
        s->kl += kl;
        s->same += bx == by;
        s->rows++;
        if (!(cosine > s->cosine)) s->cosine = cosine;
    }
}

static void compare_logits(difference *d, const recording *a, const recording *b) {
    logits_sum text = {.cosine = 2}, audio = {.cosine = 2};
    add_logits(&text, recording_find(a, "lm.text_logits"), recording_find(b, "lm.text_logits"));
    for (int k = 0; k < a->chosen.channels - 1; k++) {
        char name[32];
        snprintf(name, sizeof name, "depth.%02d.logits", k);
        add_logits(&audio, recording_find(a, name), recording_find(b, name));
    }
    d->cosine = text.cosine;
    d->kl_text = text.rows > 0 ? text.kl / text.rows : 0;
    d->kl_audio = audio.rows > 0 ? audio.kl / audio.rows : 0;
    d->top1_text = text.rows > 0 ? text.same / text.rows : 1;
    d->top1_audio = audio.rows > 0 ? audio.same / audio.rows : 1;
}

/* ---- the rest ------------------------------------------------------------------------------- */

static double share_equal(const int32_t *a, const int32_t *b, size_t n, size_t *first) {
    size_t same = 0;
    *first = n;
    for (size_t i = n; i-- > 0;) {
        same += a[i] == b[i];
        if (a[i] != b[i]) *first = i;
    }
    return n ? (double)same / (double)n : 1;
}

static double largest_error(const recording *a, const recording *b, const char *name) {
    const track *x = recording_find(a, name), *y = recording_find(b, name);
    double most = 0, alone;
    size_t worst;
    if (!x || !y || x->width != y->width) return 0;
    for (size_t row = 0; row < common_rows(x, y); row++) {
        double e = row_error(row_of(x, row), row_of(y, row), x->width, 0, &worst, &alone);
        if (!(e <= most)) most = e;
    }
    return most;
}

static double snr_db(const recording *a, const recording *b) {
    const track *x = recording_find(a, "mimi.dec.audio"), *y = recording_find(b, "mimi.dec.audio");
    double signal = 0, noise = 0;
    if (!x || !y || x->width != y->width) return INFINITY;
    for (size_t i = 0; i < common_rows(x, y) * x->width; i++) {
        double s = (double)row_of(x, 0)[i], e = (double)row_of(y, 0)[i] - s;
        signal += s * s;
        noise += e * e;
    }
    return noise > 0 ? 10 * log10((signal + 1e-30) / noise) : INFINITY;
}

void difference_of(difference *d, const recording *a, const recording *b, explained e,
                   const gains *g) {
    size_t first;
    const track *x = recording_find(a, "mimi.enc.codes"), *y = recording_find(b, "mimi.enc.codes");
    *d = (difference){.codes_equal = 1};
    find_first(a, b, e, g, &d->first);
    if (x && y && x->width == y->width)
        d->codes_equal =
            share_equal(ints_of(x, 0), ints_of(y, 0), common_rows(x, y) * x->width, &first);
    d->hidden_error = largest_error(a, b, "lm.out_norm");
    compare_logits(d, a, b);
    d->pcm_snr_db = snr_db(a, b);
    int64_t steps = a->chosen.steps < b->chosen.steps ? a->chosen.steps : b->chosen.steps;
    size_t tokens = (size_t)steps * (size_t)a->chosen.channels;
    d->tokens_equal = share_equal(a->chosen.force, b->chosen.force, tokens, &first);
    d->parted = first < tokens ? (int64_t)(first / (size_t)a->chosen.channels) : -1;
}
