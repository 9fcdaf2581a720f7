/* moshi_device_check(): every op is covered, the CPU passes, and devices with one thing wrong are
 * found out by that op and no other. Linked with faulty_devices.c. */
#include "check.h"
#include "faulty_devices.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct found {
    int before, after, n_wrong, cancel_at;
    bool in_turn, named;
    char wrong[1024]; /* "[ELU][GELU]" */
    double worst;
} found;

static int note(void *user, const moshi_op_check *c) {
    found *f = user;
    if (c->cases == 0) {
        f->in_turn = f->before++ == f->after;
        return f->cancel_at && f->before == f->cancel_at;
    }
    f->after++;
    if (c->failed == 0) return 0;
    f->n_wrong++;
    f->named &= strstr(c->problem, "element [") && strstr(c->problem, " instead of ");
    if (c->worst > f->worst) f->worst = c->worst;
    size_t at = strlen(f->wrong);
    snprintf(f->wrong + at, sizeof f->wrong - at, "[%s]", c->op);
    return 0;
}

static int check_device(const char *device, found *f, moshi_error *err) {
    *f = (found){.named = true};
    return moshi_device_check(device, 1, NULL, note, f, err);
}

static void test_cpu(void) {
    moshi_error err;
    found f;
    int rc = check_device("cpu", &f, &err);
    CHECK(rc == 0 && f.n_wrong == 0, "the CPU: %d %s", rc, f.wrong);
    CHECK(f.before >= 19 && f.before == f.after && f.in_turn, "%d ops begun, %d done", f.before,
          f.after);
    f = (found){.cancel_at = 3};
    rc = moshi_device_check(NULL, 2, NULL, note, &f, &err);
    CHECK(rc == MOSHI_ECANCELLED && f.before == 3, "cancelled: %d after %d", rc, f.before);
    CHECK(check_device("toaster", &f, &err) == MOSHI_EDEVICE && strstr(err.text, "toaster"),
          "unknown device: %s", err.text);
    CHECK(moshi_device_check("cpu", 1, NULL, NULL, NULL, &err) == MOSHI_EINVAL, "no function");
    CHECK(moshi_device_check("cpu", -1, NULL, note, &f, NULL) == MOSHI_EINVAL, "threads");
}

/* Each fault is named by the ops it touches. */
static void test_faults(void) {
    static const struct {
        const char *device, *wrong;
        bool whole; /* infinitely wrong */
    } faults[] = {
        {"faulty:elu", "[ELU]", false},
        {"faulty:gelu", "[GELU]", false},
        {"faulty:trim", "[transposed convolution][upsampling]", false},
        {"faulty:softmax", "[attention (softmax)]", false},
    };
    moshi_error err;
    found f;
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        int rc = check_device(faults[i].device, &f, &err);
        CHECK(rc == f.n_wrong && rc > 0, "%s: %d ops wrong", faults[i].device, rc);
        CHECK(!strcmp(f.wrong, faults[i].wrong), "%s: found %s", faults[i].device, f.wrong);
        CHECK(f.named && f.worst > 1e-6 && f.worst < 10, "%s: worst %g", faults[i].device, f.worst);
    }
    check_device("faulty:block", &f, &err);
    CHECK(strstr(f.wrong, "[linear bf16]") && strstr(f.wrong, "[linear f16]"), "block: %s",
          f.wrong);
    CHECK(!strstr(f.wrong, "[linear f32]") && !strstr(f.wrong, "norm]"), "block: %s", f.wrong);
    check_device("faulty:nan", &f, &err);
    CHECK(strstr(f.wrong, "[linear f32]") && !strstr(f.wrong, "ELU") && isinf(f.worst), "nan: %s",
          f.wrong);
    int rc = check_device("faulty:refuse", &f, &err);
    CHECK(rc == MOSHI_EDEVICE && f.before == 0, "a device that does not open: %s", err.text);
}

/* ---- coverage: which kinds of ops did the device see? --------------------------------------- */

static void test_coverage(void) {
    moshi_error err;
    found f;
    faulty_kinds_seen = 0;
    check_device("faulty:no-memory", &f, &err);
    for (int kind = 0; kind < MO_OP_COUNT; kind++)
        CHECK(faulty_kinds_seen >> kind & 1, "no case of %s", mo_op_name((mo_op_kind)kind));
}

int main(void) {
    unsetenv("MOSHI_FAULTY");
    test_cpu();
    test_faults();
    test_coverage();
    return check_done("test_selftest");
}
