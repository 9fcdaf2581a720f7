/* app.c - errors, signals, clock and environment of the program. */
#include "app.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

int app_fail(app_error *err, int exit_code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    err->exit_code = exit_code;
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    return exit_code;
}

int app_no_memory(app_error *err) {
    return app_fail(err, EXIT_MEMORY, "out of memory");
}

static volatile sig_atomic_t caught_signal;

static void on_signal(int number) {
    caught_signal = number;
}

void app_catch_signals(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    action.sa_handler = on_signal;
    /* Scripts start background jobs with SIGINT ignored; who sends it all the same means it. */
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGQUIT, &action, NULL);
    /* Under nohup, SIGHUP stays ignored. */
    struct sigaction before;
    if (sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler != SIG_IGN)
        sigaction(SIGHUP, &action, NULL);
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
    sigaction(SIGXFSZ, &action, NULL);
}

/* A file opened in place of a missing standard stream would get what is printed. */
void app_open_standard_files(void) {
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            /* Lowest free number: this one. Reading nothing and failing to write are right for
             * standard input and output; messages that nobody wants to see are dropped. */
            (void)!open("/dev/null", fd == 2 ? O_WRONLY : O_RDONLY);
}

int app_interrupted(void) {
    return caught_signal;
}

int app_check_interrupted(app_error *err) {
    int number = app_interrupted();
    if (!number) return EXIT_OK;
    return app_fail(err, EXIT_SIGNAL + number, "interrupted; nothing was written");
}

int app_buffer_add(app_buffer *buffer, const void *data, size_t n, app_error *err) {
    if (n >= SIZE_MAX / 4 - buffer->n) return app_no_memory(err);
    if (buffer->n + n + 1 > buffer->capacity) {
        size_t capacity = 2 * (buffer->n + n) + 64;
        char *more = realloc(buffer->data, capacity);
        if (!more) return app_no_memory(err);
        buffer->data = more;
        buffer->capacity = capacity;
    }
    if (n) memcpy(buffer->data + buffer->n, data, n);
    buffer->n += n;
    buffer->data[buffer->n] = 0;
    return EXIT_OK;
}

void app_buffer_free(app_buffer *buffer) {
    free(buffer->data);
    memset(buffer, 0, sizeof *buffer);
}

double app_now_s(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

const char *app_env(const char *name) {
    const char *value = getenv(name);
    if (!value || !value[0] || !strcmp(value, "0")) return NULL;
    if (!strcasecmp(value, "no") || !strcasecmp(value, "off")) return NULL;
    return value;
}

void app_print_clean(FILE *out, const char *text) {
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        /* U+0080 .. U+009F are control characters too, in two bytes. */
        bool wide = c[0] == 0xc2 && c[1] >= 0x80 && c[1] <= 0x9f;
        putc(*c < 0x20 || *c == 0x7f || wide ? '?' : *c, out);
        c += wide;
    }
}

int app_flush_stdout(app_error *err) {
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout)) return EXIT_OK;
    return app_fail(err, EXIT_USAGE, "cannot write to standard output: %s",
                    errno ? strerror(errno) : "write failed");
}

const char *app_size_text(char out[32], uint64_t bytes) {
    static const char *const units[] = {"bytes", "kB", "MB", "GB", "TB"};
    double value = (double)bytes;
    int unit = 0;
    for (; value >= 1000 && unit < 4; unit++) value /= 1000;
    snprintf(out, 32, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return out;
}
