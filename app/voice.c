/* voice.c - the networks that judge direction and rate, and a pitch follower. */
#include "voice.h"

#include "resample.h"
#include "voice_weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double ACTIVE_BELOW_LOUD_DB = 30;

/* ---- networks ------------------------------------------------------------------------------- */

/* Convolutions over time with a rectifier behind each but a network's last. Weights are [kernel,
 * in, out], in steps of VOICE_WEIGHT_STEP, each layer's followed by its biases. */
typedef struct layer {
    int kernel, stride, dilation, in, out;
    bool rectify;
} layer;

enum { HIDDEN = VOICE_HIDDEN, WIDE = VOICE_RATE_HIDDEN, SPEED_OUTPUTS = 3 };

static const layer DIRECTION_NET[] = {{5, 2, 1, MEL_BANDS, HIDDEN, true},
                                      {5, 2, 1, HIDDEN, HIDDEN, true},
                                      {5, 1, 1, HIDDEN, HIDDEN, true},
                                      {1, 1, 1, HIDDEN, 1, false}};

/* What runs over time, and what is done once with the mean and the deviation of all that. */
static const layer SPEED_NET[] = {{5, 2, 1, MEL_BANDS, WIDE, true},
                                  {5, 2, 1, WIDE, WIDE, true},
                                  {5, 1, 1, WIDE, WIDE, true},
                                  {5, 1, 2, WIDE, WIDE, true}};
static const layer SPEED_HEAD[] = {{1, 1, 1, 2 * WIDE, VOICE_RATE_HEAD, true},
                                   {1, 1, 1, VOICE_RATE_HEAD, SPEED_OUTPUTS, false}};

enum {
    DIRECTION_LAYERS = sizeof DIRECTION_NET / sizeof DIRECTION_NET[0],
    SPEED_LAYERS = sizeof SPEED_NET / sizeof SPEED_NET[0],
    /* What either sees of time, in frames, and how far apart its outputs are. */
    DIRECTION_FIELD = 29,
    SPEED_FIELD = 61,
    PACE = 4
};

static size_t frames_after(const layer *l, size_t frames) {
    size_t field = (size_t)((l->kernel - 1) * l->dilation + 1);
    return frames < field ? 0 : (frames - field) / (size_t)l->stride + 1;
}

static void convolve(const layer *l, const int16_t *weights, const int16_t *bias, const float *in,
                     size_t frames, float *out) {
    size_t inputs = (size_t)l->in, outputs = (size_t)l->out;
    for (size_t t = 0; t < frames; t++) {
        const float *x = in + t * (size_t)l->stride * inputs;
        const int16_t *w = weights;
        float *y = out + t * outputs;
        for (size_t o = 0; o < outputs; o++) y[o] = (float)bias[o];
        for (int k = 0; k < l->kernel; k++, x += (size_t)l->dilation * inputs)
            for (size_t i = 0; i < inputs; i++, w += outputs)
                for (size_t o = 0; o < outputs; o++) y[o] += x[i] * (float)w[o];
        for (size_t o = 0; o < outputs; o++) {
            y[o] *= VOICE_WEIGHT_STEP;
            if (l->rectify && y[o] < 0) y[o] = 0;
        }
    }
}

/* Takes in [frames, layers[0].in] through n layers. Their weights begin at *weights, which is moved
 * behind them; *frames becomes the length of the answer, which lies in one of the two buffers. */
static const float *run_layers(const layer *layers, int n, const int16_t **weights, const float *in,
                               size_t *frames, float *a, float *b) {
    float *buffer[2] = {a, b};
    for (int i = 0; i < n; i++) {
        const layer *l = &layers[i];
        const int16_t *bias = *weights + l->kernel * l->in * l->out;
        *frames = frames_after(l, *frames);
        convolve(l, *weights, bias, in, *frames, buffer[i & 1]);
        in = buffer[i & 1];
        *weights = bias + l->out;
    }
    return in;
}

/* Does at least a third of what the output at `place` sees sound? */
static bool heard_at(const bool *sounds, size_t place, size_t field) {
    size_t active = 0;
    for (size_t f = PACE * place; f < PACE * place + field; f++) active += sounds[f];
    return 3 * active >= field;
}

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Level above which a frame sounds; `scratch` holds as many numbers as there are frames. */
static double gate_of(const mel_picture *p, float *scratch) {
    memcpy(scratch, p->level_db, p->frames * sizeof *scratch);
    qsort(scratch, p->frames, sizeof *scratch, ascending);
    return (double)scratch[(p->frames - 1) * 95 / 100] - ACTIVE_BELOW_LOUD_DB;
}

/* A picture made ready for the networks. */
typedef struct view {
    size_t frames, active;
    float *x;     /* [frames, MEL_BANDS] */
    bool *sounds; /* [frames] */
} view;

/* Take the mean of the sounding frames off every band, and bring the rest to a common scale. */
static void normalise(view *v, const mel_picture *p) {
    double mean[MEL_BANDS] = {0}, gate = gate_of(p, v->x);
    for (size_t f = 0; f < p->frames; f++) {
        v->sounds[f] = (double)p->level_db[f] > gate;
        if (!v->sounds[f]) continue;
        v->active++;
        for (size_t b = 0; b < MEL_BANDS; b++) mean[b] += (double)p->log_energy[f * MEL_BANDS + b];
    }
    double scale = 1 / (double)(v->active ? v->active : 1);
    for (size_t i = 0; i < p->frames * MEL_BANDS; i++) {
        double x = ((double)p->log_energy[i] - mean[i % MEL_BANDS] * scale) / 3;
        v->x[i] = (float)(x < -2.5 ? -2.5 : x > 2.5 ? 2.5 : x);
    }
}

static void turn_around(view *v, float *row) {
    for (size_t f = 0, g = v->frames - 1; f < g; f++, g--) {
        float *one = v->x + f * MEL_BANDS, *other = v->x + g * MEL_BANDS;
        memcpy(row, one, MEL_BANDS * sizeof *row);
        memcpy(one, other, MEL_BANDS * sizeof *row);
        memcpy(other, row, MEL_BANDS * sizeof *row);
        bool sounds = v->sounds[f];
        v->sounds[f] = v->sounds[g];
        v->sounds[g] = sounds;
    }
}

/* Mean output of the network of direction where it is heard; 0 when that is nowhere. */
static double run_direction(const view *v, float *a, float *b) {
    const int16_t *weights = VOICE_DIRECTION;
    size_t frames = v->frames, places = 0;
    const float *y = run_layers(DIRECTION_NET, DIRECTION_LAYERS, &weights, v->x, &frames, a, b);
    double sum = 0;
    for (size_t t = 0; t < frames; t++) {
        if (!heard_at(v->sounds, t, DIRECTION_FIELD)) continue;
        sum += (double)y[t];
        places++;
    }
    return places ? sum / (double)places : 0;
}

/* The network of speed forgets when it heard what: from mean and deviation of its channels over the
 * whole recording its head concludes ("statistics pooling" of Snyder et al. 2018, X-vectors). */
static void run_speed(voice_facts *out, const view *v, float *a, float *b) {
    const int16_t *weights = VOICE_RATE;
    size_t frames = v->frames, places = 0, once = 1;
    const float *y = run_layers(SPEED_NET, SPEED_LAYERS, &weights, v->x, &frames, a, b);
    double sum[WIDE] = {0}, square[WIDE] = {0};
    for (size_t t = 0; t < frames; t++) {
        if (!heard_at(v->sounds, t, SPEED_FIELD)) continue;
        places++;
        for (size_t c = 0; c < WIDE; c++) {
            double x = (double)y[t * WIDE + c];
            sum[c] += x;
            square[c] += x * x;
        }
    }
    if (places == 0) return;
    float pooled[2 * WIDE], one[2 * WIDE], other[2 * WIDE];
    for (size_t c = 0; c < WIDE; c++) {
        double mean = sum[c] / (double)places, power = square[c] / (double)places;
        pooled[c] = (float)mean;
        /* The 1e-3 is there in training too, where a root of 0 has no derivative. */
        pooled[WIDE + c] = (float)sqrt(fmax(0, power - mean * mean) + 1e-3);
    }
    y = run_layers(SPEED_HEAD, 2, &weights, pooled, &once, one, other);
    out->too_fast = (double)y[0];
    out->too_slow = (double)y[1];
    out->rate_octaves = (double)y[2];
}

static int judge(voice_facts *out, const mel_picture *p, app_error *err) {
    /* The first layer halves the frames: half of WIDE channels is what it takes. */
    size_t n = (p->frames + 1) * (WIDE / 2 > MEL_BANDS ? WIDE / 2 : MEL_BANDS);
    view v = {.frames = p->frames};
    v.x = malloc(3 * n * sizeof *v.x);
    v.sounds = calloc(p->frames + 1, sizeof *v.sounds);
    float *a = v.x + n, *b = v.x + 2 * n;
    int rc = v.x && v.sounds ? EXIT_OK : app_no_memory(err);
    if (rc == EXIT_OK && p->frames > 0) {
        normalise(&v, p);
        out->heard_s = (double)v.active / MEL_HZ;
        run_speed(out, &v, a, b);
        double forwards = run_direction(&v, a, b);
        turn_around(&v, a);
        out->direction = 8 * (forwards - run_direction(&v, a, b));
    }
    free(v.x);
    free(v.sounds);
    return rc;
}

/* ---- pitch ---------------------------------------------------------------------------------- */

enum { PITCH_HZ = 8000, PITCH_STEP = 80, PITCH_WINDOW = 320, LAG_MIN = 20, LAG_MAX = 133 };

/* Highest normalised correlation of x[0..PITCH_WINDOW) with what comes LAG_MIN..LAG_MAX later, and
 * the first lag that comes near to it: multiples of a period correlate as well as the period. */
static int pitch_lag(const float *x, double *best) {
    double r[LAG_MAX + 1], energy = 0, later = 0;
    *best = 0;
    for (int i = 0; i < PITCH_WINDOW; i++) energy += (double)x[i] * (double)x[i];
    for (int i = LAG_MIN; i < LAG_MIN + PITCH_WINDOW; i++) later += (double)x[i] * (double)x[i];
    for (int lag = LAG_MIN; lag <= LAG_MAX; lag++) {
        float sum = 0;
        for (int i = 0; i < PITCH_WINDOW; i++) sum += x[i] * x[i + lag];
        r[lag] = (double)sum / sqrt(energy * later + 1e-12);
        if (r[lag] > *best) *best = r[lag];
        double in = (double)x[lag + PITCH_WINDOW], gone = (double)x[lag];
        later += in * in - gone * gone;
    }
    for (int lag = LAG_MIN + 1; lag < LAG_MAX; lag++)
        if (r[lag] > 0.9 * *best && r[lag] >= r[lag - 1] && r[lag] >= r[lag + 1]) return lag;
    return 0;
}

static void follow_pitch(voice_facts *out, const float *x, size_t n, float *periods) {
    double loud = 0;
    size_t sounding = 0, voiced = 0, steps = 0, jumps = 0;
    int last = 0;
    for (size_t i = 0; i < n; i++) loud += (double)x[i] * (double)x[i] / (double)n;
    for (size_t at = 0; at + PITCH_WINDOW + LAG_MAX < n; at += PITCH_STEP) {
        double energy = 0, clarity;
        for (size_t i = 0; i < PITCH_WINDOW; i++) energy += (double)x[at + i] * (double)x[at + i];
        if (energy / PITCH_WINDOW < 0.03 * loud) {
            last = 0;
            continue;
        }
        sounding++;
        int lag = pitch_lag(x + at, &clarity);
        if (clarity < 0.7) lag = 0;
        if (lag) periods[voiced++] = (float)lag;
        if (lag && last) {
            steps++;
            jumps += fabs(log2((double)lag / last)) > 0.585;
        }
        last = lag;
    }
    if (!sounding || !voiced) return;
    qsort(periods, voiced, sizeof *periods, ascending);
    out->pitch_hz = PITCH_HZ / (double)periods[voiced / 2];
    out->voiced_share = (double)voiced / (double)sounding;
    out->pitch_jumps = steps ? (double)jumps / (double)steps : 0;
}

static int measure_pitch(voice_facts *out, const float *pcm, size_t n, int rate_hz,
                         app_error *err) {
    size_t room = (size_t)((double)n * PITCH_HZ / rate_hz) + 2, have = 0, used = 0;
    resampler *r = resampler_open(rate_hz, PITCH_HZ);
    float *x = malloc(room * sizeof *x), *periods = malloc((room / PITCH_STEP + 1) * sizeof *x);
    int rc = r && x && periods ? EXIT_OK : app_no_memory(err);
    while (rc == EXIT_OK && have < room) {
        size_t got = resampler_pull(r, x + have, room - have);
        have += got;
        if (got > 0) continue;
        if (used == n) break;
        used += resampler_push(r, pcm + used, n - used);
        if (used == n) resampler_end(r);
    }
    if (rc == EXIT_OK && have > 0) follow_pitch(out, x, have, periods);
    resampler_close(r);
    free(x);
    free(periods);
    return rc;
}

int voice_measure(voice_facts *out, const float *pcm, size_t n, int rate_hz, app_error *err) {
    mel_picture p;
    memset(out, 0, sizeof *out);
    int rc = mel_picture_make(&p, pcm, n, rate_hz, err);
    if (rc != EXIT_OK) return rc;
    rc = judge(out, &p, err);
    mel_picture_free(&p);
    if (rc == EXIT_OK) rc = measure_pitch(out, pcm, n, rate_hz, err);
    return rc;
}
