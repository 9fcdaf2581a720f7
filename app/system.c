/* system.c - what /proc, /sys and uname() tell. On systems without them less is known. */
#include "system.h"

#include <dirent.h>
#include <limits.h>
#include <sndfile.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#ifdef APP_HAVE_CURL
#include <curl/curl.h>
#endif
#ifdef __GLIBC__
#include <gnu/libc-version.h>
#endif

enum { LINE = 4096 };

void system_hide_home(char *text) {
    const char *home = getenv("HOME");
    size_t n = home ? strlen(home) : 0;
    while (n > 1 && home[n - 1] == '/') n--;
    if (n < 2) return; /* "/" is nobody's */
    for (char *at = text; (at = strstr(at, home)) != NULL; at++) {
        if (at[n] && at[n] != '/') continue;
        *at = '~';
        memmove(at + 1, at + n, strlen(at + n) + 1);
    }
}

/* What follows `key`, blanks and `separator` on the first line of the file that begins with it.
 * `key` "": the first line. */
static bool find_line(const char *path, const char *key, char separator, char *out, size_t cap) {
    FILE *f = fopen(path, "r");
    char line[LINE];
    bool found = false;
    while (f && !found && fgets(line, sizeof line, f)) {
        size_t n = strlen(key);
        if (strncmp(line, key, n) != 0) continue;
        const char *value = line + n + strspn(line + n, " \t");
        if (key[0] && *value++ != separator) continue;
        value += strspn(value, " \t\"");
        snprintf(out, cap, "%.*s", (int)strcspn(value, "\"\n"), value);
        found = out[0] != 0;
    }
    if (f) fclose(f);
    return found;
}

/* "123 kB" of /proc/meminfo in bytes. */
static uint64_t meminfo(const char *key) {
    char text[64];
    if (!find_line("/proc/meminfo", key, ':', text, sizeof text)) return 0;
    return strtoull(text, NULL, 10) * 1024;
}

uint64_t system_memory_available(void) {
    return meminfo("MemAvailable");
}

uint64_t system_peak_memory(void) {
    char text[64];
    if (find_line("/proc/self/status", "VmHWM", ':', text, sizeof text))
        return strtoull(text, NULL, 10) * 1024;
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
#ifdef __APPLE__
    return (uint64_t)usage.ru_maxrss;
#else
    return (uint64_t)usage.ru_maxrss * 1024;
#endif
}

void system_peak_memory_reset(void) {
    FILE *f = fopen("/proc/self/clear_refs", "w");
    if (!f) return;
    fputs("5", f); /* proc(5): the peak becomes what is in use now */
    fclose(f);
}

/* ---- processor ------------------------------------------------------------------------------ */

/* Of the features the system lists, those that kernels could use. */
static void cpu_features(char *out, size_t cap) {
    static const char *const wanted[] = {
        "sse4_2",   "avx",      "avx2",        "fma",         "f16c",     "avx512f",
        "avx512bw", "avx512vl", "avx512dq",    "avx512_vnni", "avx_vnni", "avx512_bf16",
        "amx_bf16", "amx_int8", "avx512_fp16", "asimd",       "asimdhp",  "asimddp",
        "i8mm",     "bf16",     "sve",         "sve2"};
    char line[LINE], padded[LINE + 2], word[32];
    size_t at = 0;
    out[0] = 0;
    if (!find_line("/proc/cpuinfo", "flags", ':', line, sizeof line) &&
        !find_line("/proc/cpuinfo", "Features", ':', line, sizeof line))
        return;
    snprintf(padded, sizeof padded, " %s ", line);
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        snprintf(word, sizeof word, " %s ", wanted[i]);
        if (strstr(padded, word) && at < cap)
            at += (size_t)snprintf(out + at, cap - at, "%s%s", at ? " " : "", wanted[i]);
    }
}

static json_t *cpu_facts(void) {
    char text[LINE], cores[64];
    json_t *cpu = json_object();
    if (find_line("/proc/cpuinfo", "model name", ':', text, sizeof text))
        json_object_set_new(cpu, "model", json_text(text));
    cpu_features(text, sizeof text);
    if (text[0]) json_object_set_new(cpu, "features", json_text(text));
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    if (online > 0) json_object_set_new(cpu, "logical", json_integer(online));
    if (find_line("/proc/cpuinfo", "cpu cores", ':', cores, sizeof cores))
        json_object_set_new(cpu, "cores_per_socket", json_integer(atoi(cores)));
    return cpu;
}

/* ---- graphics, sound ------------------------------------------------------------------------ */

static const char *vendor_name(const char *id) {
    static const char *const names[][2] = {{"0x10de", "NVIDIA"},   {"0x1002", "AMD"},
                                           {"0x8086", "Intel"},    {"0x13b5", "Arm"},
                                           {"0x5143", "Qualcomm"}, {"0x106b", "Apple"},
                                           {"0x15ad", "VMware"},   {"0x1af4", "virtio (Red Hat)"},
                                           {"0x1234", "QEMU"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (!strcmp(names[i][0], id)) return names[i][1];
    return id;
}

static void add_card(json_t *gpus, const char *card) {
    char path[PATH_MAX], vendor[64] = "", device[64] = "", driver[64] = "", text[256];
    snprintf(path, sizeof path, "/sys/class/drm/%s/device/vendor", card);
    if (!find_line(path, "", 0, vendor, sizeof vendor)) return;
    snprintf(path, sizeof path, "/sys/class/drm/%s/device/device", card);
    find_line(path, "", 0, device, sizeof device);
    snprintf(path, sizeof path, "/sys/class/drm/%s/device/uevent", card);
    find_line(path, "DRIVER", '=', driver, sizeof driver);
    snprintf(text, sizeof text, "%s %s, driver %s", vendor_name(vendor), device,
             driver[0] ? driver : "none");
    json_array_append_new(gpus, json_text(text));
}

/* Model and driver only: the same files hold serial numbers. */
static void add_nvidia(json_t *gpus) {
    static const char base[] = "/proc/driver/nvidia/gpus";
    char path[PATH_MAX], model[128], version[256], text[512];
    DIR *dir = opendir(base);
    struct dirent *entry;
    if (!find_line("/proc/driver/nvidia/version", "NVRM version", ':', version, sizeof version))
        version[0] = 0;
    while (dir && (entry = readdir(dir))) {
        snprintf(path, sizeof path, "%s/%s/information", base, entry->d_name);
        if (!find_line(path, "Model", ':', model, sizeof model)) continue;
        snprintf(text, sizeof text, "NVIDIA %s, driver %s", model, version);
        json_array_append_new(gpus, json_text(text));
    }
    if (dir) closedir(dir);
}

static json_t *gpu_facts(void) {
    json_t *gpus = json_array();
    DIR *dir = opendir("/sys/class/drm");
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        size_t digits =
            strspn(entry->d_name + 4 * !strncmp(entry->d_name, "card", 4), "0123456789");
        if (!strncmp(entry->d_name, "card", 4) && digits > 0 && !entry->d_name[4 + digits])
            add_card(gpus, entry->d_name);
    }
    if (dir) closedir(dir);
    add_nvidia(gpus);
    return gpus;
}

static json_t *audio_facts(void) {
    json_t *cards = json_array();
    FILE *f = fopen("/proc/asound/cards", "r");
    char line[256];
    while (f && fgets(line, sizeof line, f)) {
        const char *name = strstr(line, "]: ");
        if (!name) continue;
        line[strcspn(line, "\n")] = 0;
        json_array_append_new(cards, json_text(name + 3));
    }
    if (f) fclose(f);
    return cards;
}

/* ---- all of it ------------------------------------------------------------------------------ */

static json_t *library_facts(void) {
    json_t *all = json_object();
    json_object_set_new(all, "jansson", json_text(JANSSON_VERSION));
    const char *sndfile = sf_version_string(), *dash = strrchr(sndfile, '-');
    json_object_set_new(all, "sndfile", json_text(dash ? dash + 1 : sndfile));
#ifdef APP_HAVE_CURL
    json_object_set_new(all, "curl", json_text(curl_version_info(CURLVERSION_NOW)->version));
#endif
#ifdef __GLIBC__
    json_object_set_new(all, "glibc", json_text(gnu_get_libc_version()));
#endif
    return all;
}

json_t *system_facts(void) {
    struct utsname u;
    char text[512];
    json_t *all = json_object(), *memory = json_object();
    if (find_line("/etc/os-release", "PRETTY_NAME", '=', text, sizeof text))
        json_object_set_new(all, "os", json_text(text));
    if (uname(&u) == 0) {
        snprintf(text, sizeof text, "%s %s %s", u.sysname, u.release, u.machine);
        json_object_set_new(all, "kernel", json_text(text));
    }
    json_object_set_new(all, "cpu", cpu_facts());
    uint64_t total = meminfo("MemTotal"), available = system_memory_available();
    if (total) json_object_set_new(memory, "total_bytes", json_integer((json_int_t)total));
    if (available)
        json_object_set_new(memory, "available_bytes", json_integer((json_int_t)available));
    json_object_set_new(all, "memory", memory);
    json_object_set_new(all, "gpus", gpu_facts());
    json_object_set_new(all, "audio", audio_facts());
    json_object_set_new(all, "libraries", library_facts());
    return all;
}
