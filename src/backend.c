/* backend.c - devices by name and by number; names of ops. */
#include "backend.h"

#include <stdio.h>
#include <string.h>

const char *mo_op_name(mo_op_kind kind) {
    static const char *const names[MO_OP_COUNT] = {
        [MO_OP_EMBED_SUM] = "embed_sum",
        [MO_OP_NORM] = "norm",
        [MO_OP_LINEAR] = "linear",
        [MO_OP_ROPE_TABLE] = "rope_table",
        [MO_OP_ROPE_KV] = "rope_kv",
        [MO_OP_ATTEND] = "attend",
        [MO_OP_ACT] = "act",
        [MO_OP_ACT_MUL] = "act_mul",
        [MO_OP_UPSAMPLE] = "upsample",
        [MO_OP_RVQ_PICK] = "rvq_pick",
        [MO_OP_SAMPLE] = "sample",
        [MO_OP_GRID_READ] = "grid_read",
        [MO_OP_GRID_WRITE] = "grid_write",
        [MO_OP_PAD_FIRST] = "pad_first",
        [MO_OP_SHIFT] = "shift",
        [MO_OP_ADVANCE] = "advance",
    };
    return (int)kind >= 0 && kind < MO_OP_COUNT ? names[kind] : "unknown op";
}

void mo_crumb_drop(moshi_breadcrumb *crumb, const char *stage, uint64_t done, uint64_t total) {
    if (!crumb) return;
    crumb->detail = NULL; /* first: it belongs to the stage before */
    crumb->stage = stage;
    crumb->done = done;
    crumb->total = total;
}

/* Device `nth` of one backend. Backends with a device that cannot be described have none. */
static bool describe(const mo_backend_ops *ops, int nth, moshi_device_info *info) {
    memset(info, 0, sizeof *info);
    return ops->describe(nth, info) > 0;
}

int moshi_device_get(int index, moshi_device_info *info) {
    const mo_backend_ops *ops;
    if (index < 0 || !info) return MOSHI_EINVAL;
    for (int i = 0; (ops = mo_backend_at(i)) != NULL; i++)
        for (int nth = 0; describe(ops, nth, info); nth++)
            if (index-- == 0) return 1;
    memset(info, 0, sizeof *info);
    return 0;
}

int mo_device_find(mo_device *out, const char *device, moshi_error *err) {
    char known[256] = "";
    if (!device) device = "cpu";
    for (int i = 0; (out->ops = mo_backend_at(i)) != NULL; i++)
        for (out->nth = 0; describe(out->ops, out->nth, &out->info); out->nth++) {
            if (!strcmp(out->info.name, device)) return 0;
            if (out->nth == 0 && !strcmp(out->ops->name, device)) return 0;
            size_t at = strlen(known);
            snprintf(known + at, sizeof known - at, "%s%s", at ? ", " : "", out->info.name);
        }
    return mo_fail(err, MOSHI_EDEVICE, "device '%s' is not available: wanted %s", device, known);
}
