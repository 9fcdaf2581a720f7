/* probe.c - children with a deadline. They write lines into a pipe, "S text" for a stage and
 * "F json" for a fact; the pipe keeps what was written when the writer is gone. */
#include "probe.h"

#include "crash.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CODE_HUNG = 64, GRACE_S = 3, SAID_KEPT = 4096 };

struct probe {
    int fd;
    unsigned deadline_s;
    char stage[160];
    moshi_breadcrumb crumb;
};

/* ---- child ---------------------------------------------------------------------------------- */

/* One per child process: signals have no argument. */
static probe self;

static void write_line(int fd, const char *text, size_t n) {
    while (n > 0) {
        ssize_t done = write(fd, text, n);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return;
        text += done;
        n -= (size_t)done;
    }
}

/* Deadly signals and the alarm: say where the library was. Nothing here allocates or locks. */
static void on_end(int number) {
    char line[480] = "S ";
    size_t n = 2, stage = strlen(self.stage);
    const char *inner = self.crumb.stage; /* "weights 3/9" has it in better words already */
    bool repeats = inner && !strncmp(self.stage, inner, strlen(inner));
    if (!repeats) {
        memcpy(line + n, self.stage, stage);
        n += stage;
    }
    if (inner) {
        memcpy(line + n, " (", 2 * !repeats);
        n += 2 * !repeats;
        n += crash_stage_text(&self.crumb, line + n, 240);
        if (!repeats) line[n++] = ')';
    }
    line[n++] = '\n';
    write_line(self.fd, line, n);
    if (number == SIGALRM) _exit(CODE_HUNG);
    signal(number, SIG_DFL);
    raise(number);
}

void probe_stage(probe *p, const char *fmt, ...) {
    char line[sizeof p->stage + 4];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(p->stage, sizeof p->stage, fmt, ap);
    va_end(ap);
    int n = snprintf(line, sizeof line, "S %s\n", p->stage);
    write_line(p->fd, line, (size_t)n);
    alarm(p->deadline_s);
}

void probe_tell(probe *p, json_t *fact) {
    char *text = json_dumps(fact, JSON_COMPACT);
    size_t n = text ? strlen(text) : 0;
    if (text) {
        write_line(p->fd, "F ", 2);
        write_line(p->fd, text, n);
        write_line(p->fd, "\n", 1);
    }
    free(text);
    json_decref(fact);
    alarm(p->deadline_s);
}

moshi_breadcrumb *probe_breadcrumb(probe *p) {
    return &p->crumb;
}

static void run_child(int fd, int error_fd, double deadline_s, probe_fn fn, const void *ctx) {
    static const int deadly[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE, SIGALRM};
    crash_forget();
    dup2(error_fd, STDERR_FILENO);
    dup2(error_fd, STDOUT_FILENO);
    memset(&self, 0, sizeof self);
    self.fd = fd;
    self.deadline_s = (unsigned)ceil(deadline_s);
    for (size_t i = 0; i < sizeof deadly / sizeof deadly[0]; i++) signal(deadly[i], on_end);
    alarm(self.deadline_s);
    int code = fn(&self, ctx);
    alarm(0);
    _exit(code); /* nothing of the parent's is flushed twice */
}

/* ---- parent --------------------------------------------------------------------------------- */

/* Take the whole lines out of `lines`. */
static void read_lines(probe_result *out, app_buffer *lines) {
    size_t from = 0;
    for (char *end; from < lines->n && (end = memchr(lines->data + from, '\n', lines->n - from));) {
        char *line = lines->data + from;
        *end = 0;
        if (line[0] == 'S' && line[1] == ' ')
            snprintf(out->stage, sizeof out->stage, "%s", line + 2);
        json_t *fact = line[0] == 'F' ? json_loads(line + 1, 0, NULL) : NULL;
        if (fact) json_array_append_new(out->facts, fact);
        from = (size_t)(end - lines->data) + 1;
    }
    if (from) memmove(lines->data, lines->data + from, lines->n - from);
    lines->n -= from;
}

/* The last lines of what the child wrote, on one line. */
static void keep_said(probe_result *out, const app_buffer *said) {
    if (!said->n) return;
    size_t keep = sizeof out->said - 1, from = said->n > keep ? said->n - keep : 0, n = 0;
    for (size_t i = from; i < said->n; i++) {
        char c = said->data[i];
        bool space = (unsigned char)c <= ' ';
        if (space && (n == 0 || out->said[n - 1] == ' ')) continue;
        out->said[n++] = space ? ' ' : c;
    }
    while (n > 0 && out->said[n - 1] == ' ') n--;
    out->said[n] = 0;
}

/* Whatever is there to read, into `buffer`; false at the end. */
static bool drain(int fd, app_buffer *buffer, app_error *err) {
    char chunk[4096];
    ssize_t n = read(fd, chunk, sizeof chunk);
    if (n < 0) return errno == EINTR;
    return n > 0 && app_buffer_add(buffer, chunk, (size_t)n, err) == EXIT_OK;
}

/* Read until the child has closed its end or its time is over. */
static void listen_to(probe_result *out, int fd, int error_fd, double deadline_s, app_error *err) {
    struct pollfd ends[2] = {{.fd = fd, .events = POLLIN}, {.fd = error_fd, .events = POLLIN}};
    app_buffer lines = {0}, said = {0};
    double silent_since = app_now_s();
    bool open = true;
    while (open && !out->hung && !app_interrupted()) {
        int n = poll(ends, 2, 200);
        if (n < 0 && errno != EINTR) break;
        if (n > 0 && ends[0].revents) {
            open = drain(fd, &lines, err);
            read_lines(out, &lines);
            silent_since = app_now_s();
        }
        if (n > 0 && ends[1].revents && !drain(error_fd, &said, err)) ends[1].fd = -1;
        if (said.n > 4 * SAID_KEPT) { /* a chatty driver */
            memmove(said.data, said.data + said.n - SAID_KEPT, SAID_KEPT);
            said.n = SAID_KEPT;
        }
        /* Normally the child's own alarm comes first, and says where it stands. */
        out->hung = open && app_now_s() - silent_since > deadline_s + GRACE_S;
    }
    struct pollfd rest = {.fd = error_fd, .events = POLLIN};
    while (!out->hung && ends[1].fd >= 0 && poll(&rest, 1, 0) > 0 && drain(error_fd, &said, err)) {
    }
    keep_said(out, &said);
    app_buffer_free(&lines);
    app_buffer_free(&said);
}

int probe_run(probe_result *out, probe_fn fn, const void *ctx, double deadline_s, app_error *err) {
    int lines[2], errors[2], status = 0;
    memset(out, 0, sizeof *out);
    if (pipe(lines) < 0)
        return app_fail(err, EXIT_INTERNAL, "cannot make a pipe: %s", strerror(errno));
    if (pipe(errors) < 0) {
        close(lines[0]);
        close(lines[1]);
        return app_fail(err, EXIT_INTERNAL, "cannot make a pipe: %s", strerror(errno));
    }
    out->facts = json_array();
    double started = app_now_s();
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        close(lines[0]);
        close(errors[0]);
        run_child(lines[1], errors[1], deadline_s, fn, ctx);
    }
    close(lines[1]);
    close(errors[1]);
    if (child > 0) {
        listen_to(out, lines[0], errors[0], deadline_s, err);
        if (out->hung || app_interrupted()) kill(child, SIGKILL);
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
        }
    }
    close(lines[0]);
    close(errors[0]);
    if (child < 0)
        return app_fail(err, EXIT_INTERNAL, "cannot start a process: %s", strerror(errno));
    out->seconds = app_now_s() - started;
    out->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    out->code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    out->hung |= out->code == CODE_HUNG;
    return app_check_interrupted(err);
}

const char *probe_ending(const probe_result *r, char *out, size_t cap) {
    if (r->hung)
        snprintf(out, cap, "hung");
    else if (r->signal)
        snprintf(out, cap, "ended by %s", crash_signal_name(r->signal));
    else
        return NULL;
    return out;
}
