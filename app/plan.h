/* plan.h - how much memory a model would take, per device and number of sessions. */
#ifndef APP_PLAN_H
#define APP_PLAN_H

#include "json.h"
#include "model.h"
#include "probe.h"

enum { PLAN_ROWS = 3, PLAN_DEVICES = 8 };

/* One device, found out by a dry run of what `reply` or `codec` would open. */
typedef struct device_plan {
    char device[MOSHI_DEVICE_NAME];
    char problem[256]; /* "", or why there is no plan */
    uint64_t weights;  /* bytes */
    uint64_t state;    /* of one session, kept from frame to frame */
    uint64_t scratch;  /* per session, of one frame */
    int n;
    int sessions[PLAN_ROWS];
    uint64_t total[PLAN_ROWS];
} device_plan;

typedef struct memory_plan {
    device_plan devices[PLAN_DEVICES];
    int n;
} memory_plan;

/* What `choice` needs for 1, 8 and `sessions` (0: no third row) conversations with keys and values
 * as `kv`; a codec alone is always one stream. `info` tells which parts there are. */
void plan_make(memory_plan *plan, model_choice *choice, const moshi_model_info *info, int sessions,
               moshi_kv kv);
/* A probe_fn, "plan": each device as plan_json() has it, one fact after the other. */
int plan_run(probe *p, const json_t *ctx);
void plan_print(const memory_plan *plan);
json_t *plan_json(const memory_plan *plan);

#endif
