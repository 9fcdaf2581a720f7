/* cmd_doctor.c - `moshi doctor`: one page about this machine, its devices and a model. Everything
 * is gathered into one JSON tree; the page is a reading of it. */
#include "build.h"
#include "crash.h"
#include "forecast.h"
#include "json.h"
#include "model.h"
#include "progress.h"
#include "system.h"
#include "trial.h"
#include "verb.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEADLINE_S = 60, PROBLEMS_SHOWN = 5 };

/* Text of a member, or "". */
static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static double number_of(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

/* Texts that may hold paths. */
static json_t *hidden_text(const char *text) {
    char *copy = strdup(text);
    if (copy) system_hide_home(copy);
    json_t *value = copy ? json_text(copy) : NULL;
    free(copy);
    return value;
}

/* ---- gathering: devices --------------------------------------------------------------------- */

typedef struct doctor {
    const arguments *args;
    json_t *root;
    model_choice model;
    bool model_runs, codec_only, has_codec;
    double deadline_s;
    int worked, examined;
    size_t findings; /* of inspect */
    bool failed;     /* something examined failed */
} doctor;

/* What the child told, as members of the device's object. */
static void add_facts(json_t *device, const probe_result *r) {
    size_t i;
    json_t *fact, *ops = json_array();
    json_array_foreach(r->facts, i, fact) {
        json_t *op = json_object_get(fact, "op");
        if (op)
            json_array_append(ops, op);
        else if (!json_object_get(fact, "problem"))
            json_object_update(device, fact);
    }
    json_object_set_new(device, "ops", ops);
}

static int examine(doctor *d, json_t *device, app_error *err) {
    probe_result r;
    char reason[1024];
    const char *verdict;
    trial t = {.device = text_of(device, "name"),
               .model = d->model_runs ? &d->model : NULL,
               .codec = d->codec_only,
               .measure = true,
               .threads = (int)option_of(d->args, "threads")->integer,
               .flags = d->has_codec ? 0 : MOSHI_NO_CODEC};
    int rc = trial_do(&t, d->deadline_s, &r, &verdict, reason, sizeof reason, err);
    if (rc != EXIT_OK) {
        json_decref(r.facts);
        return rc;
    }
    bool works = !strcmp(verdict, "works");
    add_facts(device, &r);
    forecast_basis basis = forecast_basis_of(device);
    if (works && json_object_get(device, "limits"))
        json_object_set_new(device, "forecast", forecast_all(&basis));
    json_object_set_new(device, "verdict", json_text(verdict));
    if (!works) {
        json_object_set_new(device, "stage", hidden_text(r.stage));
        json_object_set_new(device, "reason", hidden_text(reason));
    }
    json_object_set_new(device, "seconds", json_real(r.seconds));
    json_decref(r.facts);
    d->examined++;
    d->worked += works;
    d->failed |= !works;
    return EXIT_OK;
}

/* A processor that plays a graphics card would only be slow. */
static void list_untried(json_t *device) {
    json_object_set_new(device, "verdict", json_string("not tried"));
    json_object_set_new(device, "reason",
                        json_pack("s++",
                                  "it is a processor that plays a graphics card, and only "
                                  "used when named: moshi doctor --device ",
                                  text_of(device, "name"), " examines it"));
}

/* Every device, or the one that was named. */
static int add_devices(doctor *d, app_error *err) {
    const char *only = option_text(d->args, "device"), *refused = NULL;
    json_t *devices = json_array(), *fact;
    probe_result r;
    size_t i;
    char ending[64];
    json_object_set_new(d->root, "devices", devices);
    int rc = probe_run(&r, "devices", only ? json_text(only) : NULL, d->deadline_s, err);
    if (rc == EXIT_OK && probe_ending(&r, ending, sizeof ending)) {
        char text[700];
        snprintf(text, sizeof text, "looking for devices: %s%s%s", ending,
                 r.said[0] ? "; it said: " : "", r.said);
        json_object_set_new(d->root, "devices_problem", hidden_text(text));
        d->failed = true;
    }
    const char *asked = only;
    json_array_foreach(r.facts, i, fact) {
        if (json_object_get(fact, "asked")) asked = text_of(fact, "asked");
        if (json_object_get(fact, "refused")) refused = text_of(fact, "refused");
    }
    json_array_foreach(r.facts, i, fact) {
        json_t *device = json_object_get(fact, "device");
        if (rc != EXIT_OK || !device) continue;
        if (asked && strcmp(asked, text_of(device, "name")) != 0) continue;
        json_array_append(devices, device);
        if (!asked && json_is_true(json_object_get(device, "on_request")))
            list_untried(device);
        else
            rc = examine(d, device, err);
    }
    if (rc == EXIT_OK && only && d->examined == 0)
        rc = app_fail(err, EXIT_DEVICE, "%s", refused ? refused : "no device answered");
    json_decref(r.facts);
    return rc;
}

/* ---- gathering: model, crashes -------------------------------------------------------------- */

static int on_inspect(void *user, uint64_t done, uint64_t total) {
    progress_draw(user, total ? (double)done / (double)total : 0, "reading the model's numbers");
    return app_interrupted();
}

static json_t *findings_json(const moshi_model_info *info) {
    json_t *all = json_array();
    for (size_t i = 0; i < info->n_findings; i++) {
        const moshi_finding *f = &info->findings[i];
        json_array_append_new(all,
                              json_pack("{s:s, s:b, s:o, s:o}", "kind", f->kind, "fatal", f->fatal,
                                        "tensor", f->tensor ? json_text(f->tensor) : json_null(),
                                        "text", hidden_text(f->text)));
    }
    return all;
}

/* What inspect says of it: NULL and *why when nothing could be read. */
static moshi_model_info *inspect(doctor *d, moshi_error *why) {
    moshi_model_info *info = NULL;
    progress bar;
    app_error err;
    if (model_locate(&d->model, d->args, true, &err) != EXIT_OK) {
        snprintf(why->text, sizeof why->text, "%.1000s", err.text);
        return NULL;
    }
    moshi_inspect_options options = {.model = d->model.path,
                                     .blobs = d->model.blobs,
                                     .n_blobs = d->model.n_blobs,
                                     .finder = {hub_look_up, &d->model.lookup},
                                     .threads = (int)option_of(d->args, "threads")->integer,
                                     .progress = on_inspect,
                                     .progress_user = &bar};
    progress_start(&bar, false);
    int rc = moshi_inspect(&info, &options, why);
    progress_clear(&bar);
    return rc < 0 ? NULL : info;
}

static void add_model(doctor *d) {
    json_t *model = json_object();
    moshi_error why = {0};
    json_object_set_new(d->root, "model", model);
    d->model = model_choose(option_text(d->args, "model"));
    json_object_set_new(model, "name", hidden_text(d->model.name));
    moshi_model_info *info = inspect(d, &why);
    d->model_runs = info && info->runs;
    json_object_set_new(model, "runs", json_boolean(d->model_runs));
    if (!d->model_runs)
        json_object_set_new(model, "reason", hidden_text(info ? info->reason : why.text));
    d->failed |= !d->model_runs;
    if (!info) return;
    json_object_set_new(model, "summary", hidden_text(info->summary));
    json_object_set_new(model, "findings", findings_json(info));
    d->codec_only = info->dim == 0;
    d->has_codec = info->codec.frame_samples > 0;
    d->findings = info->n_findings;
    d->failed |= d->findings > 0;
    moshi_model_info_free(info);
}

static void add_crashes(doctor *d) {
    crash_report *reports = calloc(CRASHES_KEPT, sizeof *reports);
    json_t *all = json_array();
    int n = reports ? crash_list(reports) : 0;
    for (int i = 0; i < n; i++) {
        const crash_report *r = &reports[i];
        json_array_append_new(
            all, json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "file", hidden_text(r->path),
                           "started", json_text(r->started), "verb", json_text(r->verb), "signal",
                           json_text(r->signal), "stage", hidden_text(r->stage), "device",
                           json_text(r->device), "build", json_text(r->build)));
    }
    json_object_set_new(d->root, "crashes", all);
    free(reports);
}

/* ---- the page ------------------------------------------------------------------------------- */

static void print_row(const char *name, const char *text) {
    printf("%-12s %s\n", name, text[0] ? text : "unknown");
}

static void print_list(const char *name, const json_t *list) {
    size_t i;
    json_t *item;
    if (json_array_size(list) == 0) print_row(name, "none");
    json_array_foreach(list, i, item) {
        print_row(i ? "" : name, json_string_value(item));
    }
}

static void print_system(const json_t *root) {
    const json_t *s = json_object_get(root, "system"), *cpu = json_object_get(s, "cpu");
    const json_t *memory = json_object_get(s, "memory");
    const char *name;
    json_t *version;
    char line[256];
    print_row("build", text_of(root, "build"));
    print_row("system", text_of(s, "os"));
    print_row("kernel", text_of(s, "kernel"));
    snprintf(line, sizeof line, "%s, %.0f logical cores", text_of(cpu, "model"),
             number_of(cpu, "logical"));
    print_row("processor", line);
    print_row("features", text_of(cpu, "features"));
    snprintf(line, sizeof line, "%.1f GB, %.1f GB available",
             1e-9 * number_of(memory, "total_bytes"), 1e-9 * number_of(memory, "available_bytes"));
    print_row("memory", line);
    print_list("graphics", json_object_get(s, "gpus"));
    print_list("sound", json_object_get(s, "audio"));
    printf("%-12s", "libraries");
    json_object_foreach(json_object_get(s, "libraries"), name, version) {
        printf(" %s %s", name, json_string_value(version));
    }
    printf("\n");
}

static void print_speed(const json_t *speed) {
    double x = number_of(speed, "real_time");
    printf(
        "  speed      %.1fx real time: %.1f ms a frame (encode %.1f, model %.1f, decode %.1f)%s\n",
        x, number_of(speed, "frame_ms"), number_of(speed, "encode_ms"), number_of(speed, "step_ms"),
        number_of(speed, "decode_ms"), x < 1 ? "; too slow to talk with" : "");
}

static void print_ops(const json_t *ops) {
    size_t i;
    json_t *op;
    int cases = 0, wrong = 0;
    json_array_foreach(ops, i, op) {
        cases += (int)number_of(op, "cases");
        if (number_of(op, "failed") == 0) continue;
        wrong++;
        printf("  WRONG      %s: %.0f of %.0f cases; %s\n", text_of(op, "name"),
               number_of(op, "failed"), number_of(op, "cases"), text_of(op, "problem"));
    }
    if (wrong == 0 && cases > 0)
        printf("  answers    all right: %zu operations, %d cases\n", json_array_size(ops), cases);
}

/* Which kernels were chosen, and what the driver says. */
static void print_details(const json_t *device) {
    const char *name, *kernels = text_of(device, "kernels");
    json_t *text;
    if (kernels[0] && strcmp(text_of(device, "kind"), "cpu") != 0)
        printf("  %-10s %s\n", "kernels", kernels);
    json_object_foreach(json_object_get(device, "details"), name, text) {
        printf("  %-10s %s\n", name, json_string_value(text));
    }
}

static void print_device(const json_t *device) {
    const json_t *speed = json_object_get(device, "speed"),
                 *limits = json_object_get(device, "limits"),
                 *forecast = json_object_get(device, "forecast");
    const char *reason = text_of(device, "reason"), *verdict = text_of(device, "verdict");
    printf("\ndevice %s: %s\n", text_of(device, "name"), verdict);
    printf("  is         %s; %s", text_of(device, "description"), text_of(device, "driver"));
    const double threads = number_of(device, "threads"); /* a card computes with none of them */
    if (threads > 0 && !strcmp(text_of(device, "kind"), "cpu"))
        printf(", %.0f thread%s", threads, threads > 1 ? "s" : "");
    printf("\n");
    if (reason[0]) printf("  why        %s\n", reason);
    print_details(device);
    print_ops(json_object_get(device, "ops"));
    if (json_object_get(device, "memory"))
        printf("  memory     the model takes %.1f MB\n", 1e-6 * number_of(device, "memory"));
    if (speed) print_speed(speed);
    if (limits)
        printf("  limits     memory is read at %.1f GB/s, float32 %.0f GFLOP/s\n",
               1e-9 * number_of(limits, "read_bytes_s"), 1e-9 * number_of(limits, "flops"));
    if (json_array_size(forecast) > 0) {
        printf("  forecast   the published models would run here at about:\n");
        forecast_print(forecast, 0);
    }
}

static void print_model(const json_t *model) {
    const json_t *findings = json_object_get(model, "findings");
    size_t i;
    json_t *finding;
    bool runs = json_is_true(json_object_get(model, "runs"));
    bool sound = runs && json_array_size(findings) == 0;
    printf("\nmodel %s: %s\n", text_of(model, "name"),
           sound  ? "sound"
           : runs ? "runs, but is not sound"
                  : "does not run");
    if (text_of(model, "summary")[0]) printf("  is         %s\n", text_of(model, "summary"));
    if (sound) printf("  health     no NaN, no zeros, nothing odd in its numbers\n");
    if (text_of(model, "reason")[0]) printf("  why        %s\n", text_of(model, "reason"));
    json_array_foreach(findings, i, finding) {
        if (i == PROBLEMS_SHOWN) {
            printf("  and        %zu more; see moshi inspect\n", json_array_size(findings) - i);
            break;
        }
        printf("  %-10s %s\n", text_of(finding, "kind"), text_of(finding, "text"));
    }
}

static void print_crashes(const json_t *crashes) {
    size_t i;
    json_t *c;
    json_array_foreach(crashes, i, c) {
        if (i == 0) printf("\ncrashes\n");
        printf("  %s  %s of %s at: %s%s%s; %s\n", text_of(c, "started"), text_of(c, "signal"),
               text_of(c, "verb"), text_of(c, "stage"), text_of(c, "device")[0] ? " on " : "",
               text_of(c, "device"), text_of(c, "file"));
    }
}

static void print_page(const json_t *root) {
    size_t i;
    json_t *device;
    printf("moshi doctor\n\n");
    print_system(root);
    if (text_of(root, "devices_problem")[0])
        printf("\ndevices      %s\n", text_of(root, "devices_problem"));
    json_array_foreach(json_object_get(root, "devices"), i, device) {
        print_device(device);
    }
    print_model(json_object_get(root, "model"));
    print_crashes(json_object_get(root, "crashes"));
    printf("\nresult       %s\n", text_of(root, "result"));
}

/* ---- verb ----------------------------------------------------------------------------------- */

static int gather(doctor *d, app_error *err) {
    json_object_set_new(d->root, "build", json_text(build_id()));
    json_object_set_new(d->root, "system", system_facts());
    add_model(d);
    int rc = app_check_interrupted(err);
    if (rc == EXIT_OK) rc = add_devices(d, err);
    if (rc != EXIT_OK) return rc;
    add_crashes(d);
    char text[128];
    snprintf(text, sizeof text, "%d of %d devices work; the model %s", d->worked, d->examined,
             !d->model_runs ? "does not run"
             : d->findings  ? "runs, but is not sound"
                            : "is sound");
    json_object_set_new(d->root, "result", json_text(text));
    return EXIT_OK;
}

static int run(const arguments *args, app_error *err) {
    doctor d = {.args = args, .root = json_object(), .deadline_s = DEADLINE_S};
    if (!d.root) return app_no_memory(err);
    if (option_given(args, "deadline")) d.deadline_s = option_of(args, "deadline")->real;
    int rc = gather(&d, err);
    if (rc == EXIT_OK && option_given(args, "json"))
        rc = json_print(json_incref(d.root), err);
    else if (rc == EXIT_OK)
        print_page(d.root);
    json_decref(d.root);
    model_choice_free(&d.model);
    if (rc == EXIT_OK) rc = app_flush_stdout(err);
    if (rc != EXIT_OK) return rc;
    if (d.worked == 0) return app_fail(err, EXIT_DEVICE, "no device works");
    if (d.failed) return app_fail(err, EXIT_FAILED, "something examined does not work");
    return EXIT_OK;
}

static const option_spec SPECS[] = {
    MODEL_OPTION,
    {.name = "device",
     .kind = OPTION_TEXT,
     .value = "NAME",
     .help = "examine this device only (default: all there are)"},
    THREADS_OPTION,
    {.name = "deadline",
     .kind = OPTION_REAL,
     .value = "SECONDS",
     .min = 1,
     .max = 3600,
     .help = "how long a device may show no sign of life (default: 60)"},
    {.name = "json", .kind = OPTION_FLAG, .help = "print the same facts as JSON"},
};

const verb verb_doctor = {
    .name = "doctor",
    .usage = "[options]",
    .summary = "examine this machine, its devices and a model; a page for bug reports",
    .text =
        "Prints what the machine is, whether each device gives the right answers (known cases of\n"
        "every operation, compared with plain C), how fast the model would run on it, whether\n"
        "the model's files are sound, and the last crashes. Each device is tried in a process\n"
        "of its own: one that crashes, hangs or computes wrong is named with the stage where it\n"
        "stopped, and the rest goes on. The page holds no names of users and no serial numbers.\n"
        "Exit code 1 when something examined does not work, 4 when no device works.",
    .example = "  moshi doctor\n"
               "  moshi doctor -m path/to/model --json",
    VERB_OPTIONS(SPECS),
    .run = run,
};
