/* device.c - choosing a device. What worked before is remembered in a file of lines
 * "build|device|description|driver|model", what crashed in the reports of crash.h. */
#include "device.h"

#include "build.h"
#include "crash.h"
#include "system.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEADLINE_S = 60, MEMORY_LINES = 200, OFTEN = 2 /* crashes, not to be tried again */ };

/* ---- what was seen to work ------------------------------------------------------------------ */

static bool memory_path(char *out, size_t cap) {
    int n = snprintf(out, cap, "%s/devices.txt", state_directory());
    return state_directory()[0] && n > 0 && (size_t)n < cap;
}

static bool memory_line(char *out, size_t cap, const device_choice *c, const trial *what) {
    int n = snprintf(out, cap, "%s|%s|%s|%s|%s%s", build_id(), c->name, c->description, c->driver,
                     what->model ? what->model->name : "", what->codec ? "|codec" : "");
    return n > 0 && (size_t)n < cap && !strpbrk(out, "\n\r");
}

/* Is the line in the file? *lines: how many are. */
static bool remembered(const char *line, int *lines) {
    char path[PATH_MAX], found[2048];
    FILE *f = memory_path(path, sizeof path) ? fopen(path, "r") : NULL;
    bool known = false;
    *lines = 0;
    while (f && fgets(found, sizeof found, f)) {
        found[strcspn(found, "\n")] = 0;
        known |= !strcmp(found, line);
        ++*lines;
    }
    if (f) fclose(f);
    return known;
}

static void remember(const device_choice *c, const trial *what) {
    char path[PATH_MAX], line[2048];
    int lines;
    if (!memory_line(line, sizeof line, c, what) || remembered(line, &lines)) return;
    if (!state_directory_make() || !memory_path(path, sizeof path)) return;
    FILE *f = fopen(path, lines < MEMORY_LINES ? "a" : "w");
    if (!f) return;
    fprintf(f, "%s\n", line);
    fclose(f);
}

bool device_is_cpu(const char *name) {
    return !strncmp(name, "cpu", 3) && (name[3] == 0 || name[3] == '/');
}

/* ---- what crashed --------------------------------------------------------------------------- */

typedef struct crash_history {
    crash_report *reports; /* of this device and this build, newest first */
    int n;
    bool news; /* one was not told yet */
} crash_history;

static crash_history crashes_of(const char *device) {
    crash_history h = {.reports = calloc(CRASHES_KEPT, sizeof *h.reports)};
    int n = h.reports ? crash_list(h.reports) : 0;
    for (int i = 0; i < n; i++) {
        const crash_report *r = &h.reports[i];
        if (strcmp(r->device, device) != 0 || strcmp(r->build, build_id()) != 0) continue;
        h.news |= !r->told;
        if (h.n != i) h.reports[h.n] = *r;
        h.n++;
    }
    return h;
}

static void print_crash(const crash_report *r, const char *then) {
    char path[sizeof r->path];
    memcpy(path, r->path, sizeof path);
    system_hide_home(path);
    fprintf(stderr, "moshi: a run of '%s' was ended by %s at: %s%s%s (%s)%s\n", r->verb, r->signal,
            r->stage, r->device[0] ? " on " : "", r->device, path, then);
}

static void tell(const crash_history *h, const char *then) {
    for (int i = 0; i < h->n; i++) {
        if (h->reports[i].told) continue;
        print_crash(&h->reports[i], then);
        crash_set_told(&h->reports[i]);
    }
}

bool device_tell_crashes_of(const char *device) {
    crash_history h = crashes_of(device);
    bool any = h.n > 0;
    if (!device_is_cpu(device)) tell(&h, "; trying it again because it was asked for");
    free(h.reports);
    return any;
}

void device_tell_crashes(void) {
    crash_history h = {.reports = calloc(CRASHES_KEPT, sizeof *h.reports)};
    int n = h.reports ? crash_list(h.reports) : 0;
    for (int i = 0; i < n; i++) {
        const crash_report *r = &h.reports[i];
        bool device = r->device[0] && !device_is_cpu(r->device);
        /* One that may matter for the choice of a device is told when there is one. */
        if (device && !strcmp(r->build, build_id())) continue;
        if (!r->told) print_crash(r, "; going on as usual");
        if (!r->told) crash_set_told(r);
    }
    free(h.reports);
}

/* ---- what devices there are ----------------------------------------------------------------- */

/* What was told last, kept for the texts in it. */
static json_t *told;

static const char *text_in(const json_t *device, const char *key) {
    const char *text = json_string_value(json_object_get(device, key));
    return text ? text : "";
}

static moshi_device_info info_of(const json_t *device) {
    moshi_device_info info = {
        .kind = text_in(device, "kind"),
        .memory_bytes = (uint64_t)json_integer_value(json_object_get(device, "memory_bytes")),
        .on_request = json_is_true(json_object_get(device, "on_request"))};
    snprintf(info.name, sizeof info.name, "%s", text_in(device, "name"));
    snprintf(info.description, sizeof info.description, "%s", text_in(device, "description"));
    snprintf(info.driver, sizeof info.driver, "%s", text_in(device, "driver"));
    return info;
}

/* Facts of the devices into `told`; with a name, which of them it means: "" none, and why. */
static int ask(const char *name, char asked[MOSHI_DEVICE_NAME], app_error *why, app_error *err) {
    char ending[64];
    probe_result r;
    size_t i;
    json_t *fact;
    asked[0] = 0;
    int rc = probe_run(&r, "devices", name ? json_text(name) : NULL, DEADLINE_S, err);
    app_fail(why, EXIT_DEVICE, "no device answered");
    if (rc == EXIT_OK && probe_ending(&r, ending, sizeof ending))
        app_fail(why, EXIT_DEVICE, "looking for devices: %s%s%s", ending,
                 r.said[0] ? "; it said: " : "", r.said);
    json_array_foreach(r.facts, i, fact) {
        const char *refused = json_string_value(json_object_get(fact, "refused"));
        if (json_object_get(fact, "asked"))
            snprintf(asked, MOSHI_DEVICE_NAME, "%s", text_in(fact, "asked"));
        if (refused) app_fail(why, EXIT_DEVICE, "%s", refused);
    }
    /* Texts of the list before may be in use: lists are few, and live as long as the program. */
    if (!told) told = json_array();
    json_array_insert_new(told, 0, r.facts);
    return rc;
}

/* The newest list there is. */
static const json_t *newest(void) {
    return json_array_get(told, 0);
}

int device_find(moshi_device_info *out, const char *name, app_error *err) {
    char asked[MOSHI_DEVICE_NAME];
    app_error why;
    size_t i;
    json_t *fact;
    if (device_is_cpu(name)) {
        moshi_error e;
        if (moshi_device_find(name, out, &e) == 0) return EXIT_OK;
        return app_fail(err, EXIT_DEVICE, "%s", e.text);
    }
    int rc = ask(name, asked, &why, err);
    if (rc != EXIT_OK) return rc;
    json_array_foreach(newest(), i, fact) {
        const json_t *device = json_object_get(fact, "device");
        if (!asked[0] || strcmp(asked, text_in(device, "name")) != 0) continue;
        *out = info_of(device);
        return EXIT_OK;
    }
    *err = why;
    return EXIT_DEVICE;
}

int device_list(moshi_device_info *out, int most) {
    char asked[MOSHI_DEVICE_NAME];
    app_error why, err;
    size_t i;
    json_t *fact;
    int n = 0;
    ask(NULL, asked, &why, &err);
    json_array_foreach(newest(), i, fact) {
        const json_t *device = json_object_get(fact, "device");
        if (device && n < most) out[n++] = info_of(device);
    }
    /* A driver ended the child before the CPU's turn came. */
    if (n == 0 && most > 0 && moshi_device_find("cpu", &out[0], NULL) == 0) {
        fprintf(stderr, "moshi: %s\n", why.text);
        n = 1;
    }
    return n;
}

const char *device_driver(const char *name) {
    size_t i, k;
    json_t *list, *fact;
    json_array_foreach(told, i, list) {
        json_array_foreach(list, k, fact) {
            const json_t *device = json_object_get(fact, "device");
            if (device && !strcmp(text_in(device, "name"), name)) return text_in(device, "driver");
        }
    }
    return "";
}

int device_count(void) {
    moshi_device_info all[MOST_DEVICES];
    int n = 0, listed = device_list(all, MOST_DEVICES);
    for (int i = 0; i < listed; i++) n += !all[i].on_request;
    return n;
}

/* ---- one device ----------------------------------------------------------------------------- */

/* EXIT_OK and *works; `reason` says why not. */
static int prove(const device_choice *c, const trial *what, bool crashed, bool *works, char *reason,
                 size_t cap, app_error *err) {
    char line[2048];
    const char *verdict;
    probe_result r;
    int lines;
    trial t = *what;
    *works = device_is_cpu(c->name) ||
             (!crashed && memory_line(line, sizeof line, c, what) && remembered(line, &lines));
    if (*works) return EXIT_OK;
    t.device = c->name;
    int rc = trial_do(&t, DEADLINE_S, &r, &verdict, reason, cap, err);
    /* A model that cannot be read is not the device's fault: opening it will tell. */
    *works = rc == EXIT_OK && (!strcmp(verdict, "works") || r.code == TRIAL_MODEL);
    if (*works && r.code != TRIAL_MODEL) remember(c, what);
    json_decref(r.facts);
    return rc;
}

static void choose_this(device_choice *c, const moshi_device_info *info) {
    memcpy(c->name, info->name, sizeof c->name);
    memcpy(c->description, info->description, sizeof c->description);
    memcpy(c->driver, info->driver, sizeof c->driver);
}

static int choose_named(device_choice *c, const char *name, const trial *what, app_error *err) {
    char reason[1024];
    moshi_device_info info;
    bool works;
    c->insisted = true;
    int rc = device_find(&info, name, err);
    if (rc != EXIT_OK) return rc;
    choose_this(c, &info);
    bool crashed = device_tell_crashes_of(c->name);
    rc = prove(c, what, crashed, &works, reason, sizeof reason, err);
    if (rc == EXIT_OK && !works)
        rc = app_fail(err, EXIT_DEVICE, "device '%s' does not work: %s", name, reason);
    return rc;
}

/* Should this one be passed over? Says why. */
static int consider(device_choice *c, const trial *what, bool *take, app_error *err) {
    char reason[1024];
    crash_history h = crashes_of(c->name);
    bool avoid = h.news || h.n >= OFTEN, crashed = h.n > 0;
    *take = false;
    if (avoid && !device_is_cpu(c->name)) {
        tell(&h, "; not using that device this time");
        if (!h.news) /* told each on its own day: in short */
            fprintf(stderr, "moshi: %s crashed %d times; not using it\n", c->name, h.n);
        free(h.reports);
        return EXIT_OK;
    }
    free(h.reports);
    int rc = prove(c, what, crashed, take, reason, sizeof reason, err);
    if (rc == EXIT_OK && !*take)
        fprintf(stderr, "moshi: device '%s' does not work: %s\n", c->name, reason);
    return rc;
}

/* ---- choosing ------------------------------------------------------------------------------- */

static int wanted(const arguments *args, const char **name, app_error *err) {
    const char *named = app_env("MOSHI_DEVICE");
    bool given = option_given(args, "device"), cpu = app_env("MOSHI_USE_CPU") != NULL;
    *name = given ? option_text(args, "device") : named;
    if (!cpu) return EXIT_OK;
    if (*name && !device_is_cpu(*name))
        return app_fail(err, EXIT_USAGE,
                        "%s%s has no effect: MOSHI_USE_CPU in the environment forces the CPU",
                        given ? "--device " : "MOSHI_DEVICE=", *name);
    if (!*name) *name = "cpu";
    return EXIT_OK;
}

int device_choose(device_choice *c, const arguments *args, const trial *what, app_error *err) {
    const char *name;
    bool take = false;
    int rc = wanted(args, &name, err);
    if (rc != EXIT_OK) return rc;
    if (name && strcmp(name, "auto") != 0) return choose_named(c, name, what, err);
    if (c->n == 0) c->n = device_list(c->list, MOST_DEVICES);
    rc = app_check_interrupted(err);
    while (rc == EXIT_OK && !take && c->next < c->n) {
        const moshi_device_info *info = &c->list[c->next++];
        if (info->on_request) continue;
        choose_this(c, info);
        rc = consider(c, what, &take, err);
    }
    if (rc == EXIT_OK && !take) snprintf(c->name, sizeof c->name, "cpu");
    if (rc == EXIT_OK && c->next > 1)
        fprintf(stderr,
                "moshi: computing on '%s'; moshi doctor tells more, --device NAME insists\n",
                c->name);
    return rc;
}

const char *device_cache(const char *device) {
    static char path[PATH_MAX];
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    bool own = cache && cache[0] == '/';
    if (!device || device_is_cpu(device) || (!own && (!home || home[0] != '/'))) return NULL;
    int n =
        snprintf(path, sizeof path, "%s%s", own ? cache : home, own ? "/moshi" : "/.cache/moshi");
    if (n < 0 || n >= (int)sizeof path) return NULL;
    char *last = strrchr(path, '/');
    *last = 0;
    mkdir(path, 0700);
    *last = '/';
    return mkdir(path, 0700) == 0 || errno == EEXIST ? path : NULL;
}

bool device_give_up(const device_choice *c, int code, const char *why) {
    bool device = code == MOSHI_EDEVICE || code == MOSHI_ENOMEM;
    if (c->insisted || !device || device_is_cpu(c->name)) return false;
    fprintf(stderr, "moshi: device '%s' cannot be used: %s\n", c->name, why);
    return true;
}
