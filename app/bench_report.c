#include "bench_report.h"

#include "bench.h"
#include "forecast.h"

#include <stdio.h>
#include <string.h>

static double number(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

static const char *text(const json_t *object, const char *key) {
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "";
}

/* ---- the page ------------------------------------------------------------------------------- */

/* Models that do the same: write down what is said (stt-), say what is written (tts-), talk. */
static bool alike(const char *a, const char *b) {
    static const char *const kinds[] = {"stt-", "tts-"};
    for (int i = 0; i < 2; i++)
        if (!strncmp(a, kinds[i], 4) != !strncmp(b, kinds[i], 4)) return false;
    return true;
}

/* The largest of the published models that would be in real time and could do in place of `model`,
 * or NULL. */
static const json_t *largest_in_time(const json_t *forecasts, const char *model) {
    const json_t *best = NULL;
    size_t i;
    json_t *f;
    json_array_foreach(forecasts, i, f) {
        bool larger = !best || number(f, "memory_bytes") > number(best, "memory_bytes");
        if (number(f, "real_time") >= 1 && larger && alike(text(f, "preset"), model)) best = f;
    }
    return best;
}

void bench_verdict(const json_t *root, char *out, size_t cap) {
    const json_t *frame = json_object_get(json_object_get(root, "stages"), "frame");
    double rate = number(root, "frames_s"), need = number(root, "frame_rate_hz");
    double x = number(root, "real_time"), sessions = number(root, "sessions");
    size_t n =
        (size_t)snprintf(out, cap, "this machine: %.1f frames/s of the %.1f needed: ", rate, need);
    if (n >= cap) return;
    if (x < 1)
        n += (size_t)snprintf(out + n, cap - n, "%.2fx real time, too slow to talk with", x);
    else
        n += (size_t)snprintf(out + n, cap - n, "%.1fx real time", x);
    if (n < cap && x >= 1 && number(frame, "p99_ms") > 1e3 / need)
        n += (size_t)snprintf(out + n, cap - n, ", but not in every frame");
    if (n < cap && sessions > 1)
        n += (size_t)snprintf(out + n, cap - n, "; %.0f sessions, %.1f frames/s together", sessions,
                              rate * sessions);
    const json_t *other =
        x < 1 ? largest_in_time(json_object_get(root, "forecast"), text(root, "model")) : NULL;
    if (n < cap && other)
        snprintf(out + n, cap - n, "; %s as %s would run at %.1fx real time", text(other, "preset"),
                 text(other, "type"), number(other, "real_time"));
}

static void print_share(bool known, double share) {
    if (known)
        printf(" %5.0f %%", 100 * share);
    else
        printf(" %7s", "-");
}

static void print_stage(const json_t *stages, const char *name, double limit) {
    const json_t *s = json_object_get(stages, name);
    double bytes = number(s, "weight_bytes") + number(s, "kv_bytes");
    if (number(s, "median_ms") <= 0) return;
    printf("%-10s %9.2f %9.2f %9.2f", name, number(s, "median_ms"), number(s, "p90_ms"),
           number(s, "p99_ms"));
    if (bytes > 0) printf(" %10.1f %8.2f", 1e-6 * bytes, 1e-9 * number(s, "read_bytes_s"));
    if (bytes > 0) print_share(limit > 0, number(s, "share_of_read"));
    if (number(s, "operations") > 0) {
        printf(" %8.1f", 1e-6 * number(s, "operations") / number(s, "median_ms"));
        print_share(limit > 0, number(s, "share_of_flops"));
    }
    printf("\n");
}

/* Where the time of all threads together goes: products and attention; norms, quantising, rotation,
 * activations, sampling; waiting for other threads and handing out work. Medians, as the times: one
 * frame in which the system took a processor away does not count as waiting. */
static void print_threads(const json_t *stages) {
    printf("\n%-10s %9s %14s %9s\n", "threads at", "products", "other kernels", "waiting");
    for (int i = 0; i < BENCH_STAGES; i++) {
        const json_t *s = json_object_get(stages, bench_stage_name(i));
        double rest = 100 * number(s, "rest"), waiting = 100 * number(s, "waiting");
        if (number(s, "median_ms") > 0 && rest + waiting > 0)
            printf("%-10s %7.1f %% %12.1f %% %7.1f %%\n", bench_stage_name(i), 100 - rest - waiting,
                   rest, waiting);
    }
}

/* Of as much as a frame reads, and of memory where a cache may keep some of that. */
static void print_read_limit(const json_t *limits) {
    const double read = number(limits, "read_bytes_s"), memory = number(limits, "memory_bytes_s");
    char size[32];
    printf("\nlimits     read %.1f GB/s", 1e-9 * read);
    if (memory != read)
        printf(" over %s", app_size_text(size, (uint64_t)number(limits, "read_over_bytes")));
    if (memory != read && memory > 0) printf(", %.1f GB/s", 1e-9 * memory);
    if (memory > 0) printf(" from memory");
}

static void print_stages(const json_t *root) {
    const json_t *stages = json_object_get(root, "stages"), *l = json_object_get(root, "limits");
    double limit = number(l, "read_bytes_s");
    printf("\n%-10s %9s %9s %9s %10s %8s %7s %8s %7s\n", "stage", "median ms", "p90 ms", "p99 ms",
           "MB read", "GB/s", "of max", "GFLOP/s", "of max");
    for (int i = 0; i < BENCH_STAGES; i++) print_stage(stages, bench_stage_name(i), limit);
    if (number(json_object_get(stages, "frame"), "rest") > 0) print_threads(stages);
    if (limit <= 0) return;
    print_read_limit(l);
    printf(", float32 %.0f GFLOP/s", 1e-9 * number(l, "flops"));
    if (number(l, "int8_ops") > 0) printf(", int8 %.0f GOP/s", 1e-9 * number(l, "int8_ops"));
    printf("\n");
}

static void print_load(const json_t *root) {
    const json_t *load = json_object_get(root, "load");
    char a[32], b[32];
    printf("loaded     in %.2f s%s; peak %s of memory, %.0f %% of weights and state (%s)\n",
           number(load, "seconds"),
           json_is_true(json_object_get(load, "generated")) ? " (random numbers)" : "",
           app_size_text(a, (uint64_t)number(load, "peak_bytes")), 100 * number(load, "peak_share"),
           app_size_text(b, (uint64_t)number(load, "planned_bytes")));
}

void bench_print(const json_t *root) {
    char verdict[256];
    printf("model      %s, %s, %.1f M parameters\n", text(root, "model"), text(root, "type"),
           1e-6 * number(root, "parameters"));
    printf("machine    %s; %s, %s kernels, %.0f thread%s", text(root, "cpu"), text(root, "device"),
           text(root, "kernels"), number(root, "threads"), number(root, "threads") == 1 ? "" : "s");
    if (number(root, "codec_threads") > 0)
        printf(" and %.0f to hear ahead", number(root, "codec_threads"));
    if (number(root, "cores") > number(root, "threads") + number(root, "codec_threads"))
        printf(" of %.0f cores", number(root, "cores"));
    printf("\n");
    if (text(root, "kv")[0])
        printf(
            "settings   %.0f session%s, %.0f frames of context before the first, key/value cache "
            "%s\n",
            number(root, "sessions"), number(root, "sessions") == 1 ? "" : "s",
            number(root, "context"), text(root, "kv"));
    printf("timed      %.0f frames\n", number(root, "frames"));
    print_load(root);
    print_stages(root);
    bench_verdict(root, verdict, sizeof verdict);
    printf("\n%s\n", verdict);
    const json_t *all = json_object_get(root, "forecast");
    if (json_array_size(all) > 0) {
        printf("\nThe published models would run here at about:\n");
        forecast_print(all, number(root, "available_bytes"));
    } else if (all && number(json_object_get(root, "limits"), "read_bytes_s") > 0) {
        printf("\nNo forecast for the published models: there was no memory to measure it with\n");
    }
}

/* ---- beside another ------------------------------------------------------------------------- */

int bench_load(json_t **earlier, const char *path, app_error *err) {
    json_error_t why;
    *earlier = json_load_file(path, 0, &why);
    if (!*earlier) return app_fail(err, EXIT_USAGE, "%s: %s", path, why.text);
    if (json_is_object(json_object_get(*earlier, "stages")) && text(*earlier, "model")[0])
        return EXIT_OK;
    json_decref(*earlier);
    *earlier = NULL;
    return app_fail(err, EXIT_USAGE, "%s: wanted what moshi bench --json prints", path);
}

int bench_comparable(const json_t *earlier, const json_t *root, const char *path, app_error *err) {
    static const char *const keys[] = {"model", "type"};
    for (int i = 0; i < 2; i++)
        if (strcmp(text(earlier, keys[i]), text(root, keys[i])) != 0)
            return app_fail(err, EXIT_USAGE,
                            "%s: cannot be compared: its %s is '%s', this run's '%s'", path,
                            keys[i], text(earlier, keys[i]), text(root, keys[i]));
    return EXIT_OK;
}

/* A figure of both runs, if either has it; null where one has not. */
static void add_pair(json_t *figures, const char *name, const char *unit, double then, double now) {
    if (then <= 0 && now <= 0) return;
    json_t *pair = json_pack("{s:s, s:s, s:o, s:o}", "name", name, "unit", unit, "then",
                             then > 0 ? json_real(then) : json_null(), "now",
                             now > 0 ? json_real(now) : json_null());
    if (then > 0 && now > 0) json_object_set_new(pair, "ratio", json_real(now / then));
    json_array_append_new(figures, pair);
}

/* Noted where it differs. */
static void add_setting(json_t *differs, const char *name, const json_t *a, const json_t *b) {
    json_t *then = json_object_get(a, name), *now = json_object_get(b, name);
    if ((then || now) && !json_equal(then, now))
        json_array_append_new(
            differs, json_pack("{s:s, s:O?, s:O?}", "name", name, "then", then, "now", now));
}

json_t *bench_beside(const json_t *a, const json_t *b, const char *path) {
    static const char *const settings[] = {"cpu",           "device",   "kernels", "threads",
                                           "codec_threads", "sessions", "context", "kv"};
    const json_t *x = json_object_get(a, "stages"), *y = json_object_get(b, "stages");
    json_t *differs = json_array(), *figures = json_array();
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        add_setting(differs, settings[i], a, b);
    add_setting(differs, "read_over_bytes", json_object_get(a, "limits"),
                json_object_get(b, "limits"));
    for (int i = 0; i < BENCH_STAGES; i++) {
        const char *name = bench_stage_name(i);
        add_pair(figures, name, "ms", number(json_object_get(x, name), "median_ms"),
                 number(json_object_get(y, name), "median_ms"));
    }
    add_pair(figures, "frames/s", "", number(a, "frames_s"), number(b, "frames_s"));
    add_pair(figures, "share of read (frame)", "%",
             100 * number(json_object_get(x, "frame"), "share_of_read"),
             100 * number(json_object_get(y, "frame"), "share_of_read"));
    add_pair(figures, "waiting (frame)", "%", 100 * number(json_object_get(x, "frame"), "waiting"),
             100 * number(json_object_get(y, "frame"), "waiting"));
    add_pair(figures, "read limit", "GB/s",
             1e-9 * number(json_object_get(a, "limits"), "read_bytes_s"),
             1e-9 * number(json_object_get(b, "limits"), "read_bytes_s"));
    add_pair(figures, "loading", "s", number(json_object_get(a, "load"), "seconds"),
             number(json_object_get(b, "load"), "seconds"));
    add_pair(figures, "peak memory", "MB", 1e-6 * number(json_object_get(a, "load"), "peak_bytes"),
             1e-6 * number(json_object_get(b, "load"), "peak_bytes"));
    return json_pack("{s:s, s:o, s:o}", "file", path, "settings", differs, "figures", figures);
}

/* "q8_0", "3", "unknown" */
static void setting_text(char out[64], const json_t *s, const char *key) {
    const json_t *value = json_object_get(s, key);
    if (json_is_string(value))
        snprintf(out, 64, "%s", json_string_value(value));
    else if (json_is_number(value))
        snprintf(out, 64, "%.12g", json_number_value(value));
    else
        snprintf(out, 64, "unknown");
}

static void print_setting(const json_t *s) {
    char then[64], now[64];
    setting_text(then, s, "then");
    setting_text(now, s, "now");
    printf("note: %s differs: %s, now %s\n", text(s, "name"), then, now);
}

static void print_figure(const json_t *figure, const char *key) {
    const json_t *value = json_object_get(figure, key);
    if (json_is_number(value))
        printf(" %10.2f", json_number_value(value));
    else
        printf(" %10s", "-");
}

void bench_print_beside(const json_t *compared) {
    const json_t *settings = json_object_get(compared, "settings"),
                 *figures = json_object_get(compared, "figures");
    size_t i;
    json_t *item;
    printf("\nbeside %s (then, now)\n", text(compared, "file"));
    json_array_foreach(settings, i, item) {
        print_setting(item);
    }
    json_array_foreach(figures, i, item) {
        printf("%-22s", text(item, "name"));
        print_figure(item, "then");
        print_figure(item, "now");
        printf(" %s", text(item, "unit"));
        if (number(item, "ratio") > 0) printf("  x %.2f", number(item, "ratio"));
        printf("\n");
    }
}
