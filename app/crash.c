/* crash.c - crash reports. The handler only uses what is safe in a handler: memory prepared
 * beforehand, open(), write(), mkdir(), and backtrace_symbols_fd(), whose library was loaded by a
 * call at installation. */
#include "crash.h"

#include "build.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#if defined(__has_include)
#if __has_include(<execinfo.h>)
#include <execinfo.h>
#define HAVE_BACKTRACE
#endif
#endif

enum { FRAMES_MAX = 64, STACK_BYTES = 1 << 16, HEAD_BYTES = 2048 };

static const struct {
    int number;
    const char *name;
} SIGNALS[] = {{SIGSEGV, "SIGSEGV"}, {SIGBUS, "SIGBUS"},   {SIGABRT, "SIGABRT"},
               {SIGILL, "SIGILL"},   {SIGFPE, "SIGFPE"},   {SIGKILL, "SIGKILL"},
               {SIGTERM, "SIGTERM"}, {SIGALRM, "SIGALRM"}, {SIGINT, "SIGINT"}};
enum { CAUGHT = 5 /* the first so many */ };

const char *crash_signal_name(int number) {
    for (size_t i = 0; i < sizeof SIGNALS / sizeof SIGNALS[0]; i++)
        if (SIGNALS[i].number == number) return SIGNALS[i].name;
    return "a signal";
}

/* ---- what a report says --------------------------------------------------------------------- */

/* One per process: signals have no argument. */
static struct {
    moshi_breadcrumb crumb;
    char verb[32], model[256], model_hash[65], device[MOSHI_DEVICE_NAME], driver[128], started[32];
    char directory[PATH_MAX], path[PATH_MAX + 64];
    struct sigaction before[CAUGHT];
    volatile sig_atomic_t busy;
} crash;

/* One line of it, with nothing in it that could pass for another. */
static void note(char *out, size_t cap, const char *text) {
    snprintf(out, cap, "%s", text ? text : "");
    for (char *c = out; *c; c++)
        if ((unsigned char)*c < ' ') *c = ' ';
}

moshi_breadcrumb *crash_breadcrumb(void) {
    return &crash.crumb;
}
void crash_note_verb(const char *verb) {
    note(crash.verb, sizeof crash.verb, verb);
}
void crash_note_model(const char *name, const char *hash) {
    note(crash.model, sizeof crash.model, name);
    note(crash.model_hash, sizeof crash.model_hash, hash);
}
void crash_note_device(const char *device, const char *driver) {
    note(crash.device, sizeof crash.device, device);
    note(crash.driver, sizeof crash.driver, driver);
}

/* ---- text in a signal handler --------------------------------------------------------------- */

typedef struct plain_text {
    char *out;
    size_t n, cap;
} plain_text;

static void add(plain_text *t, const char *s) {
    while (*s && t->n + 1 < t->cap) t->out[t->n++] = *s++;
    t->out[t->n] = 0;
}

static void add_number(plain_text *t, uint64_t x) {
    char digits[24];
    int at = (int)sizeof digits;
    digits[--at] = 0;
    do {
        digits[--at] = (char)('0' + x % 10);
        x /= 10;
    } while (x);
    add(t, digits + at);
}

size_t crash_stage_text(const moshi_breadcrumb *crumb, char *out, size_t cap) {
    plain_text t = {.out = out, .cap = cap};
    const char *stage = crumb->stage, *detail = crumb->detail;
    add(&t, stage ? stage : "start");
    if (crumb->total || crumb->done) {
        add(&t, crumb->total ? " " : ", frame ");
        add_number(&t, crumb->done);
    }
    if (crumb->total) {
        add(&t, "/");
        add_number(&t, crumb->total);
    }
    if (detail) {
        add(&t, ", ");
        add(&t, detail);
    }
    return t.n;
}

static void write_all(int fd, const char *text, size_t n) {
    while (n > 0) {
        ssize_t done = write(fd, text, n);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return;
        text += done;
        n -= (size_t)done;
    }
}

static void add_line(plain_text *t, const char *key, const char *value) {
    add(t, key);
    add(t, ": ");
    add(t, value);
    add(t, "\n");
}

/* Every directory on the way that is missing. */
static void make_directories(void) {
    char part[PATH_MAX];
    size_t n = strlen(crash.directory);
    if (n >= sizeof part) return;
    memcpy(part, crash.directory, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (part[i] != '/' && part[i] != 0) continue;
        char kept = part[i];
        part[i] = 0;
        mkdir(part, 0700);
        part[i] = kept;
    }
}

static void write_report(int fd, int number) {
    char head[HEAD_BYTES], stage[200];
    plain_text t = {.out = head, .cap = sizeof head};
    crash_stage_text(&crash.crumb, stage, sizeof stage);
    add(&t, "moshi crash report\n");
    add_line(&t, "signal", crash_signal_name(number));
    add_line(&t, "verb", crash.verb);
    add_line(&t, "stage", stage);
    add_line(&t, "device", crash.device);
    add_line(&t, "driver", crash.driver);
    add_line(&t, "model", crash.model);
    add_line(&t, "model hash", crash.model_hash);
    add_line(&t, "build", build_id());
    add_line(&t, "started", crash.started);
    add(&t, "\nbacktrace (addr2line -e moshi ADDRESS names the lines):\n");
    write_all(fd, head, t.n);
#ifdef HAVE_BACKTRACE
    void *frames[FRAMES_MAX];
    backtrace_symbols_fd(frames, backtrace(frames, FRAMES_MAX), fd);
#endif
}

static void say(int number, bool written) {
    char line[PATH_MAX + 512], stage[200];
    plain_text t = {.out = line, .cap = sizeof line};
    crash_stage_text(&crash.crumb, stage, sizeof stage);
    add(&t, "\nmoshi: ended by ");
    add(&t, crash_signal_name(number));
    add(&t, " at: ");
    add(&t, stage);
    if (crash.device[0]) {
        add(&t, " (");
        add(&t, crash.device);
        add(&t, ")");
    }
    add(&t, written ? "; report: " : "; no report could be written");
    add(&t, written ? crash.path : "");
    add(&t, "\n");
    write_all(STDERR_FILENO, line, t.n);
}

static void on_crash(int number) {
    int saved = errno;
    for (int i = 0; i < CAUGHT; i++) sigaction(SIGNALS[i].number, &crash.before[i], NULL);
    if (!crash.busy) { /* another thread may crash meanwhile; one report is enough */
        crash.busy = 1;
        int fd = -1;
        if (crash.path[0]) {
            make_directories();
            fd = open(crash.path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        }
        if (fd >= 0) {
            write_report(fd, number);
            close(fd);
        }
        say(number, fd >= 0);
    }
    errno = saved;
    raise(number); /* delivered when this handler returns, to whoever had it before */
}

/* ---- installing ----------------------------------------------------------------------------- */

const char *state_directory(void) {
    if (crash.directory[0]) return crash.directory;
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n = -1;
    if (state && state[0] == '/')
        n = snprintf(crash.directory, sizeof crash.directory, "%s/moshi", state);
    else if (home && home[0] == '/')
        n = snprintf(crash.directory, sizeof crash.directory, "%s/.local/state/moshi", home);
    if (n < 0 || n >= (int)sizeof crash.directory) crash.directory[0] = 0;
    return crash.directory;
}

bool state_directory_make(void) {
    struct stat st;
    if (!state_directory()[0]) return false;
    make_directories();
    return stat(crash.directory, &st) == 0 && S_ISDIR(st.st_mode);
}

void crash_install(void) {
    static char stack[STACK_BYTES];
    struct sigaction action;
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    time_t now = time(NULL);
    struct tm utc;
    if (!gmtime_r(&now, &utc)) memset(&utc, 0, sizeof utc);
    strftime(crash.started, sizeof crash.started, "%Y-%m-%dT%H:%M:%SZ", &utc);
    if (state_directory()[0]) {
        char stamp[32];
        strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", &utc);
        snprintf(crash.path, sizeof crash.path, "%s/crash-%s-%ld.txt", crash.directory, stamp,
                 (long)getpid());
    }
#ifdef HAVE_BACKTRACE
    void *frames[2];
    backtrace(frames, 2); /* loads what it needs now, when there is still a heap to trust */
#endif
    sigaltstack(&alternate, NULL); /* a stack that ran over is no place for a handler */
    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    action.sa_handler = on_crash;
    action.sa_flags = SA_ONSTACK;
    for (int i = 0; i < CAUGHT; i++) sigaction(SIGNALS[i].number, &action, &crash.before[i]);
}

void crash_forget(void) {
    struct rlimit none = {0, 0};
    for (int i = 0; i < CAUGHT; i++) signal(SIGNALS[i].number, SIG_DFL);
    setrlimit(RLIMIT_CORE, &none);
}

/* ---- reading -------------------------------------------------------------------------------- */

/* The value of "key: value" where `line` is that, else NULL. */
static const char *value_of(const char *line, const char *key) {
    size_t n = strlen(key);
    return !strncmp(line, key, n) && !strncmp(line + n, ": ", 2) ? line + n + 2 : NULL;
}

static void read_report(crash_report *r) {
    const struct {
        const char *key;
        char *to;
        size_t cap;
    } fields[] = {{"verb", r->verb, sizeof r->verb},
                  {"signal", r->signal, sizeof r->signal},
                  {"stage", r->stage, sizeof r->stage},
                  {"device", r->device, sizeof r->device},
                  {"driver", r->driver, sizeof r->driver},
                  {"model", r->model, sizeof r->model},
                  {"model hash", r->model_hash, sizeof r->model_hash},
                  {"build", r->build, sizeof r->build},
                  {"started", r->started, sizeof r->started}};
    FILE *f = fopen(r->path, "r");
    char line[1024];
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
            const char *value = value_of(line, fields[i].key);
            if (value && !fields[i].to[0]) note(fields[i].to, fields[i].cap, value);
        }
        r->told |= !strcmp(line, "told");
    }
    if (f) fclose(f);
}

static int is_report(const struct dirent *entry) {
    size_t n = strlen(entry->d_name);
    return !strncmp(entry->d_name, "crash-", 6) && n > 10 && !strcmp(entry->d_name + n - 4, ".txt");
}

int crash_list(crash_report *reports) {
    struct dirent **entries;
    int n = state_directory()[0] ? scandir(crash.directory, &entries, is_report, alphasort) : -1;
    int kept = 0;
    for (int i = n - 1; i >= 0; i--) { /* names sort by time */
        char path[sizeof reports->path];
        int length = snprintf(path, sizeof path, "%s/%s", crash.directory, entries[i]->d_name);
        if (length < (int)sizeof path && kept < CRASHES_KEPT) {
            memset(&reports[kept], 0, sizeof reports[kept]);
            memcpy(reports[kept].path, path, sizeof path);
            read_report(&reports[kept++]);
        } else if (length < (int)sizeof path) {
            unlink(path);
        }
        free(entries[i]);
    }
    if (n >= 0) free(entries);
    return kept;
}

void crash_set_told(const crash_report *report) {
    int fd = open(report->path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd < 0) return;
    write_all(fd, "told\n", 5);
    close(fd);
}
