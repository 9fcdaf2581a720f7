/* util.c - errors in words, checked sizes, a clock, and memory that can be made to fail. */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* sched_getaffinity */
#endif
#include "util.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <sched.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

/* ---- errors -------------------------------------------------------------------------------- */

/* Messages quote names out of hostile files, and names are cut short: control characters must not
 * reach a terminal, nor broken UTF-8 a log. */
static void make_printable(char *text) {
    size_t left = strlen(text);
    for (unsigned char *p = (unsigned char *)text; left > 0;) {
        size_t n = mo_utf8_length(p, left);
        bool control = p[0] < 0x20 || p[0] == 0x7F || (n == 2 && p[0] == 0xC2 && p[1] < 0xA0);
        if (n == 0 || control) {
            if (n == 0) n = 1;
            memset(p, *p == '\n' || *p == '\t' ? ' ' : '?', n);
        }
        p += n;
        left -= n;
    }
}

int mo_fail(moshi_error *err, int code, const char *fmt, ...) {
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        int n = vsnprintf(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
        err->code = code;
        if (n < 0) err->text[0] = 0;
        make_printable(err->text);
    }
    return code;
}

/* ---- sizes and memory ---------------------------------------------------------------------- */

bool mo_mul(size_t a, size_t b, size_t *out) {
    if (b != 0 && a > SIZE_MAX / b) return false;
    *out = a * b;
    return true;
}

bool mo_add(size_t a, size_t b, size_t *out) {
    if (a > SIZE_MAX - b) return false;
    *out = a + b;
    return true;
}

void *mo_calloc(size_t n, size_t size) {
    size_t bytes;
    if (!mo_mul(n, size, &bytes)) return NULL;
    return calloc(1, bytes ? bytes : 1);
}

/* calloc rather than aligned_alloc: its large blocks come zeroed from the system without being
 * touched. The block's own address is kept in the word before the aligned one. */
void *mo_aligned_calloc(size_t bytes) {
    return mo_aligned_calloc_to(bytes, 64);
}

void *mo_aligned_calloc_to(size_t bytes, size_t align) {
    size_t total;
    if (!mo_add(bytes, align + sizeof(void *), &total)) return NULL;
    char *block = calloc(1, total);
    if (!block) return NULL;
    size_t skip = sizeof(void *);
    skip += (align - ((uintptr_t)block + skip) % align) % align;
    memcpy(block + skip - sizeof(void *), &block, sizeof block);
    return block + skip;
}

void mo_aligned_free(void *p) {
    if (!p) return;
    void *block;
    memcpy(&block, (char *)p - sizeof(void *), sizeof block);
    free(block);
}

char *mo_format(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) return NULL;
    char *text = malloc((size_t)n + 1);
    if (!text) return NULL;
    va_start(ap, fmt);
    vsnprintf(text, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return text;
}

/* ---- globs --------------------------------------------------------------------------------- */

/* Match name against pattern[0..end). On a mismatch only the last * is extended: the earlier ones
 * have already matched as early as they can, so this is complete and never exponential. */
static bool glob_one(const char *pattern, const char *end, const char *name) {
    const char *star = NULL, *resume = NULL;
    while (*name) {
        if (pattern < end && *pattern == '*') {
            star = ++pattern;
            resume = name;
        } else if (pattern < end && (*pattern == '?' || *pattern == *name)) {
            pattern++;
            name++;
        } else if (star) {
            pattern = star;
            name = ++resume;
        } else {
            return false;
        }
    }
    while (pattern < end && *pattern == '*') pattern++;
    return pattern == end;
}

bool mo_glob(const char *globs, const char *name) {
    for (;;) {
        globs += strspn(globs, " ");
        if (!*globs) return false;
        const char *end = globs + strcspn(globs, " ");
        if (glob_one(globs, end, name)) return true;
        globs = end;
    }
}

/* ---- UTF-8 --------------------------------------------------------------------------------- */

/* Refuses overlong forms, surrogates and values past U+10FFFF. */
size_t mo_utf8_length(const void *text, size_t left) {
    const unsigned char *p = text;
    if (left == 0) return 0;
    if (p[0] < 0x80) return 1;
    size_t n = p[0] >= 0xF0 ? 4 : p[0] >= 0xE0 ? 3 : 2;
    if (p[0] < 0xC2 || p[0] > 0xF4 || left < n) return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xC0) != 0x80) return 0;
    if ((p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F)) return 0;
    if ((p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] > 0x8F)) return 0;
    return n;
}

/* ---- clock and cores ----------------------------------------------------------------------- */

double mo_now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#if defined(__linux__)
/* One line of a small system file; false when there is none. */
static bool read_line(const char *path, char *line, size_t cap) {
    FILE *f = fopen(path, "re");
    if (!f) return false;
    bool ok = fgets(line, (int)cap, f) != NULL;
    fclose(f);
    return ok;
}

/* Is `cpu` the first of the hardware threads on its core that this process may use? The list names
 * all threads of the core, as "0,64" or "0-1". */
static bool leads_core(int cpu, const cpu_set_t *allowed) {
    char path[96], line[256];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    if (!read_line(path, line, sizeof line)) return true;
    char *p = line;
    while (*p >= '0' && *p <= '9') {
        long first = strtol(p, &p, 10), last = first;
        if (*p == '-') last = strtol(p + 1, &p, 10);
        for (long i = first; i <= last && i < cpu; i++)
            if (i < CPU_SETSIZE && CPU_ISSET((size_t)i, allowed)) return false;
        if (*p == ',') p++;
    }
    return true;
}

/* Processor time a container may use, in whole processors rounded up; a large number if it has no
 * limit. Workers beyond it would be stopped in the middle of a frame. */
static int container_cores(void) {
    char line[128];
    if (read_line("/sys/fs/cgroup/cpu.max", line, sizeof line)) {
        char *end;
        long long quota = strtoll(line, &end, 10);
        long long period = strtoll(end, NULL, 10);
        if (end != line && quota > 0 && period > 0 && quota / period < 4096)
            return (int)((quota + period - 1) / period);
    }
    return 4096;
}
#endif

int mo_core_count(void) {
    int cores = 0;
#if defined(__linux__)
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0)
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
            cores += CPU_ISSET((size_t)cpu, &allowed) && leads_core(cpu, &allowed);
    int limit = container_cores();
    if (cores > limit) cores = limit;
#elif defined(__APPLE__)
    size_t size = sizeof cores;
    if (sysctlbyname("hw.physicalcpu", &cores, &size, NULL, 0) != 0) cores = 0;
#endif
    if (cores < 1) cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
    return cores < 1 ? 1 : cores;
}
