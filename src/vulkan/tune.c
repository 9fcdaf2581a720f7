/* tune.c - which of the shaders that make products is the fastest here: with or without what only
 * some devices can do, in workgroups of 64, 128 or 256. All of them make the same sums in the same
 * order, so that a timing can change no result; one that gives other bits than the plain shader is
 * not taken. What was found lies in a file beside the compiled shaders.
 *
 * A program's own matrices are timed, as many as come to SAMPLE_BYTES, on made-up inputs: a single
 * one might fit a cache that a frame's weights do not. */
#include "vk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Per device and opening; what is left untimed then stays as it is. */
static const double BUDGET_S = 0.8, RUN_S = 0.02;
static const VkDeviceSize SAMPLE_BYTES = 64 << 20;
enum { RUNS = 3, MOST_SAMPLES = 64 };

/* A program of some products with inputs and outputs of their own. */
typedef struct tuning {
    vk_device *d;
    mo_program *p;
    const vk_dispatch *from[MOST_SAMPLES];
    vk_buffer *in, *out;
    size_t out_bytes;
    uint32_t *want, *got; /* outputs: plain, and of what is tried */
} tuning;

/* ---- a sample of a program ------------------------------------------------------------------ */

/* Inputs without strides: every row reads the same. */
static uint64_t input_words(const linear_push *l, int slots) {
    uint64_t plain = (uint64_t)(l->taps ? l->taps - 1 : 0) * l->tap_step + l->run;
    uint64_t records = (uint64_t)l->units * l->blocks * 12, flags = (uint64_t)slots * 64;
    uint64_t most = plain > records ? plain : records;
    return most > flags ? most : flags;
}

/* Dispatch i with the sample's own buffers; its outputs begin at word `at`. */
static void take(tuning *t, int i, uint32_t at) {
    vk_dispatch *s = &t->p->dispatches[i];
    linear_push l;
    *s = *t->from[i];
    memcpy(&l, s->push, sizeof l);
    l.src = (span){0, 0, 0};
    l.dst = (span){at, l.rows * l.cols, l.cols};
    l.has_add = 0;
    memcpy(s->push, &l, sizeof l);
    s->bind[0] = (vk_range){.buf = t->in}; /* flags: not 0 */
    s->bind[4] = (vk_range){.buf = t->in};
    s->bind[5] = (vk_range){.buf = t->in};
    s->bind[6] = (vk_range){.buf = t->out};
}

/* The first n of t->from as a program. */
static bool make_program(tuning *t, int n, int slots) {
    uint64_t in = 0, out = 0;
    uint32_t at[MOST_SAMPLES];
    for (int i = 0; i < n; i++) {
        linear_push l;
        memcpy(&l, t->from[i]->push, sizeof l);
        uint64_t words = input_words(&l, slots);
        at[i] = (uint32_t)out;
        in = words > in ? words : in;
        out += (uint64_t)l.units * l.cols;
    }
    if (in * 4 > t->d->limits.maxStorageBufferRange || out * 4 > t->d->limits.maxStorageBufferRange)
        return false;
    t->out_bytes = (size_t)out * 4;
    float *numbers = mo_calloc((size_t)in, 4);
    t->p = mo_calloc(1, sizeof *t->p);
    t->in = numbers && t->p ? mo_vk_buffer_new(t->d, (size_t)in * 4, VK_UNSEEN) : NULL;
    t->out = t->in ? mo_vk_buffer_new(t->d, t->out_bytes, VK_UNSEEN) : NULL;
    t->want = mo_calloc(1, t->out_bytes);
    t->got = mo_calloc(1, t->out_bytes);
    if (t->out && t->want && t->got) {
        /* As floats from 0.5 to 1, as bytes any. */
        uint32_t r = 1;
        for (uint64_t i = 0; i < in; i++) {
            r = r * 1664525u + 1013904223u;
            numbers[i] = 0.5f + (float)(r >> 8) * 0x1p-25f;
        }
        mo_vk_buffer_write(t->d, t->in, 0, numbers, (size_t)in * 4);
        t->p->device = t->d;
        t->p->n = 1;
        t->p->n_dispatches = n;
        t->p->starts = mo_calloc(2, sizeof *t->p->starts);
        t->p->dispatches = mo_calloc((size_t)n, sizeof *t->p->dispatches);
        t->p->exec = t->in;
    }
    free(numbers);
    if (!t->p || !t->p->starts || !t->p->dispatches) return false;
    for (int i = 0; i < n; i++) take(t, i, at[i]);
    t->p->starts[1] = n;
    return mo_vk_program_prepare(t->p);
}

static void drop_program(tuning *t) {
    if (t->p) t->p->exec = NULL; /* it is t->in */
    mo_vk_program_free(&t->d->base, t->p);
    if (!t->d->stuck) mo_vk_buffer_free(t->d, t->in);
    if (!t->d->stuck) mo_vk_buffer_free(t->d, t->out);
    free(t->want);
    free(t->got);
}

/* The program's products by shader `base`, the first one and as many as come to SAMPLE_BYTES; *all:
 * bytes of all there are. */
static int find_samples(tuning *t, const mo_program *p, int base, VkDeviceSize *all) {
    VkDeviceSize taken = 0;
    int n = 0;
    *all = 0;
    for (int i = 0; i < p->n_dispatches; i++) {
        const vk_dispatch *s = &p->dispatches[i];
        if (s->base != base) continue;
        VkDeviceSize bytes = s->bind[1].bytes;
        *all += bytes;
        if (n == MOST_SAMPLES || (n > 0 && taken + bytes > SAMPLE_BYTES)) continue;
        t->from[n++] = s;
        taken += bytes;
    }
    return n;
}

/* ---- timing --------------------------------------------------------------------------------- */

/* Best of some runs in seconds; negative when it cannot be run. */
static double time_choice(tuning *t, vk_choice c, int base) {
    double best = -1;
    for (int i = 0; i < t->p->n_dispatches; i++) {
        t->p->dispatches[i].shader = mo_vk_choice_shader(t->d, base, c);
        t->p->dispatches[i].width = c.width;
    }
    mo_vk_program_forget(t->p);
    const vk_part *part = mo_vk_program_part(t->p, 0, 1);
    for (int i = 0; part && i <= RUNS; i++) { /* the first one warms up */
        double start = mo_now_s();
        if (!mo_vk_submit(t->d, &part->commands, 1)) return -1;
        double took = mo_now_s() - start;
        if (i > 0 && (best < 0 || took < best)) best = took;
        if (took > RUN_S && best > 0) break;
    }
    return best;
}

static bool same_bits(tuning *t) {
    mo_vk_buffer_read(t->d, t->out, 0, t->got, t->out_bytes);
    mo_vk_buffer_zero(t->d, t->out, 0, t->out_bytes);
    return !t->d->lost && !memcmp(t->want, t->got, t->out_bytes);
}

/* All there are, the plain one of usual width first. */
static int list_choices(const vk_device *d, int base, vk_choice out[2 * VK_WIDTHS]) {
    static const uint8_t widths[VK_WIDTHS] = {VK_USUAL_WIDTH, 2, 0};
    int n = 0;
    for (uint8_t more = 0; more < 2; more++)
        for (int i = 0; i < VK_WIDTHS; i++) {
            const vk_choice c = {.more = more, .width = widths[i], .timed = 1};
            if (mo_vk_choice_shader(d, base, c) >= 0) out[n++] = c;
        }
    return n;
}

/* So many of the sample that a run takes about RUN_S: the first one tells. */
static void fit(tuning *t, vk_choice plain, int base) {
    const int n = t->p->n_dispatches;
    t->p->starts[1] = 1;
    double one = time_choice(t, plain, base);
    if (one > 0) t->p->starts[1] = one * n < RUN_S ? n : one > RUN_S ? 1 : (int)(RUN_S / one);
}

/* The best of what the time allows; *found without `timed` when that was not all. */
static void time_all(tuning *t, int base, double until, vk_choice *found) {
    vk_choice all[2 * VK_WIDTHS];
    int n = list_choices(t->d, base, all);
    fit(t, all[0], base);
    double best = time_choice(t, all[0], base);
    if (best < 0) return;
    mo_vk_buffer_read(t->d, t->out, 0, t->want, t->out_bytes);
    mo_vk_buffer_zero(t->d, t->out, 0, t->out_bytes);
    *found = all[0];
    for (int i = 1; i < n; i++) {
        found->timed = mo_now_s() + (RUNS + 1) * best < until;
        if (!found->timed) return;
        double took = time_choice(t, all[i], base);
        bool same = same_bits(t);
        if (took < 0 || !same || took > 0.97 * best) continue;
        best = took;
        *found = all[i];
    }
}

/* ---- programs ------------------------------------------------------------------------------- */

static void tune_shader(mo_program *p, int base, double until) {
    vk_device *d = p->device;
    VkDeviceSize all;
    tuning t = {.d = d};
    int n = find_samples(&t, p, base, &all);
    if (all < d->tune_from) return;
    vk_choice found = d->choices[base];
    if (make_program(&t, n, p->slots)) time_all(&t, base, until, &found);
    drop_program(&t);
    d->choices[base] = found;
    d->choices_fresh |= found.timed;
}

void mo_vk_tune(mo_program *p) {
    vk_device *d = p->device;
    double start = mo_now_s();
    for (int i = 0; i < p->n_dispatches && !d->lost && !d->named; i++) {
        int base = p->dispatches[i].base;
        if (base < 0 || d->choices[base].timed || d->tuned_s + mo_now_s() - start > BUDGET_S)
            continue;
        tune_shader(p, base, start + BUDGET_S - d->tuned_s);
    }
    for (int i = 0; i < p->n_dispatches; i++) {
        vk_dispatch *s = &p->dispatches[i];
        if (s->base < 0) continue;
        s->shader = mo_vk_choice_shader(d, s->base, d->choices[s->base]);
        s->width = d->choices[s->base].width;
        d->choices[s->base].used = 1;
    }
    d->tuned_s += mo_now_s() - start;
    mo_vk_choices_save(d);
    mo_vk_variants_describe(d);
}
