/* trial.h - what a device must go through before it is trusted: opened, known answers, memory, a
 * model's weights, its first frames. Run in a child by probe.h. */
#ifndef APP_TRIAL_H
#define APP_TRIAL_H

#include "model.h"
#include "probe.h"

typedef struct trial {
    const char *device;
    model_choice *model; /* located; NULL: no further than known answers */
    bool codec;          /* open the codec alone */
    bool measure;        /* time frames at the end, and the device itself */
    int threads, flags;  /* for the engine */
    moshi_kv kv;
} trial;

/* What the facts of one trial say. */
enum { TRIAL_WORKS, TRIAL_WRONG, TRIAL_FAILED, TRIAL_MODEL /* the model cannot be read */ };

/* A probe_fn, "trial"; ctx is what trial_do() packs. Tells {"op": {...}} for each op with known
 * answers, {"problem": text} when something fails, and {"kernels"}, {"threads"}, {"memory"},
 * {"speed"}, {"limits"}. */
int trial_run(probe *p, const json_t *ctx);

/* A probe_fn, "devices": tells {"device": {...}} for each device there is. ctx: null, or a name to
 * find: tells {"asked": NAME} of the device it means, or {"refused": text}. */
int trial_list(probe *p, const json_t *ctx);

/* Do the trial and judge it: *verdict is "works", "wrong answers", "failed", "hung", "crashed", and
 * *reason (a buffer) what happened and where, "" when it works. */
int trial_do(const trial *t, double deadline_s, probe_result *result, const char **verdict,
             char *reason, size_t cap, app_error *err);

/* The first string among the facts under this key, or NULL. */
const char *trial_fact(const probe_result *result, const char *key);

#endif
