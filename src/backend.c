/* backend.c - devices by name and by number; names of ops. */
#include "backend.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
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
        [MO_OP_SIFT] = "sift",
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

void mo_backend_problem(mo_backend *be, const char *fmt, ...) {
    va_list ap;
    if (be->problem[0]) return;
    va_start(ap, fmt);
    vsnprintf(be->problem, sizeof be->problem, fmt, ap);
    va_end(ap);
}

int mo_room_check(mo_backend *be, uint64_t weights, uint64_t states, int sessions,
                  moshi_error *err) {
    uint64_t room = be->ops->room ? be->ops->room(be) : UINT64_MAX;
    if (weights + states <= room) return 0;
    return mo_fail(
        err, MOSHI_ENOMEM,
        "the model needs %.2f GB of the device's memory (%.2f GB of weights, %.2f GB for "
        "%d session%s), %.2f GB are free",
        (double)(weights + states) * 1e-9, (double)weights * 1e-9, (double)states * 1e-9, sessions,
        sessions == 1 ? "" : "s", (double)room * 1e-9);
}

/* ---- devices ------------------------------------------------------------------------------- */

static int list(const mo_backend_ops *ops, moshi_device_info *out, moshi_error *why) {
    memset(out, 0, MO_MOST_DEVICES * sizeof *out);
    return ops->list(out, MO_MOST_DEVICES, why);
}

/* Those that are chosen by name only come last. */
int moshi_device_list(moshi_device_info *out, int most) {
    moshi_device_info all[MO_MOST_DEVICES], later[MO_MOST_DEVICES];
    const mo_backend_ops *ops;
    int count = 0, n_later = 0;
    if (most < 0 || (most && !out)) return MOSHI_EINVAL;
    for (int i = 0; (ops = mo_backend_at(i)) != NULL; i++) {
        int n = list(ops, all, NULL);
        for (int k = 0; k < n; k++)
            if (!all[k].on_request && count < most)
                out[count++] = all[k];
            else if (all[k].on_request && n_later < MO_MOST_DEVICES)
                later[n_later++] = all[k];
    }
    for (int k = 0; k < n_later && count < most; k++) out[count++] = later[k];
    return count;
}

int moshi_device_get(int index, moshi_device_info *info) {
    enum { MOST = 4 * MO_MOST_DEVICES };
    if (index < 0 || !info) return MOSHI_EINVAL;
    memset(info, 0, sizeof *info);
    if (index >= MOST) return 0;
    moshi_device_info *all = mo_calloc(MOST, sizeof *all);
    int n = all ? moshi_device_list(all, MOST) : MOSHI_ENOMEM;
    if (index < n) *info = all[index];
    free(all);
    return n < 0 ? n : index < n;
}

static bool holds(const char *text, const char *part) {
    for (; *text; text++) {
        size_t i = 0;
        while (part[i] && tolower((unsigned char)text[i]) == tolower((unsigned char)part[i])) i++;
        if (!part[i]) return true;
    }
    return false;
}

/* "vulkan:4" asks for the fifth card, also where there is only one and it is an RTX 4090. */
static bool is_number(const char *text) {
    size_t digits = strspn(text, "0123456789");
    return digits > 0 && digits <= 2 && !text[digits];
}

/* Which of n devices of this backend `name` means: its own name, the backend's for the first one
 * that is not by request, or a part of what its maker calls it after the colon. -1: none. */
static int match(const mo_backend_ops *ops, const char *name, const moshi_device_info *all, int n) {
    const char *part = name + strlen(ops->name);
    for (int i = 0; i < n; i++)
        if (!strcmp(all[i].name, name)) return i;
    if (*part && is_number(part + 1)) return -1;
    for (int i = 0; i < n; i++)
        if (*part ? part[1] && holds(all[i].description, part + 1) : !all[i].on_request) return i;
    return -1;
}

/* Is it "vulkan" or "vulkan:..."? */
static bool is_of(const mo_backend_ops *ops, const char *device) {
    size_t n = strlen(ops->name);
    return !strncmp(device, ops->name, n) && (device[n] == 0 || device[n] == ':');
}

static int not_found(const char *device, const char *why, moshi_error *err) {
    char known[512] = "";
    moshi_device_info all[MO_MOST_DEVICES];
    int n = moshi_device_list(all, MO_MOST_DEVICES);
    for (int i = 0; i < n; i++) {
        size_t at = strlen(known);
        snprintf(known + at, sizeof known - at, "%s%s%s", at ? ", " : "", all[i].name,
                 all[i].on_request ? " (a processor, by this name only)" : "");
    }
    return mo_fail(err, MOSHI_EDEVICE, "device '%s' is not available: wanted %s%s%s", device, known,
                   why[0] ? "; " : "", why);
}

/* "vulkan:0/plain" is "vulkan:0" with kernels "plain". */
static const char *split_kernels(mo_device *out, const char *name, char *buf, size_t cap) {
    const char *slash = strchr(name, '/');
    out->kernels[0] = 0;
    if (!slash || (size_t)(slash - name) >= cap || strlen(slash + 1) >= sizeof out->kernels)
        return name;
    snprintf(buf, cap, "%.*s", (int)(slash - name), name);
    snprintf(out->kernels, sizeof out->kernels, "%s", slash + 1);
    return buf;
}

int mo_device_find(mo_device *out, const char *name, moshi_error *err) {
    moshi_device_info all[MO_MOST_DEVICES];
    moshi_error why = {0};
    char buf[128];
    const char *device = split_kernels(out, name ? name : "cpu", buf, sizeof buf);
    bool known = false;
    for (int i = 0; (out->ops = mo_backend_at(i)) != NULL; i++) {
        if (!is_of(out->ops, device)) continue;
        known = true;
        bool own = out->kernels[0] && out->ops->has_kernels;
        if (own && !out->ops->has_kernels(out->kernels, &why)) continue;
        int n = list(out->ops, all, &why);
        out->nth = match(out->ops, device, all, n);
        if (out->nth < 0) continue;
        out->info = all[out->nth];
        if (out->kernels[0])
            snprintf(out->info.name, sizeof out->info.name, "%.20s/%s", all[out->nth].name,
                     out->kernels);
        if (own) snprintf(out->info.driver, sizeof out->info.driver, "%s kernels", out->kernels);
        return 0;
    }
    if (!known && (!strcmp(device, "vulkan") || !strncmp(device, "vulkan:", 7)))
        mo_fail(&why, MOSHI_EDEVICE, "this build has no Vulkan");
    return not_found(name ? name : "cpu", why.text, err);
}

int moshi_device_details(const char *device, char *out, size_t cap, moshi_error *err) {
    mo_device found;
    if (err) *err = (moshi_error){0};
    if (!out || cap == 0)
        return mo_fail(err, MOSHI_EINVAL, "moshi_device_details: wanted room for the text");
    out[0] = 0;
    int rc = mo_device_find(&found, device, err);
    if (rc == 0 && found.ops->details) found.ops->details(found.nth, out, cap);
    return rc;
}

int moshi_device_find(const char *name, moshi_device_info *info, moshi_error *err) {
    mo_device found;
    if (err) *err = (moshi_error){0};
    if (!info) return mo_fail(err, MOSHI_EINVAL, "moshi_device_find: info must not be NULL");
    memset(info, 0, sizeof *info);
    int rc = mo_device_find(&found, name, err);
    if (rc == 0) *info = found.info;
    return rc;
}
