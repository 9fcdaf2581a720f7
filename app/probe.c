/* probe.c - children with a deadline. They write lines into a pipe, "S text" for a stage and
 * "F json" for a fact; the pipe keeps what was written when the writer is gone. */
#include "probe.h"

#include "crash.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __APPLE__
#include <mach-o/dyld.h>
#endif

extern char **environ;

enum { CODE_HUNG = 64, GRACE_S = 3, SAID_KEPT = 4096, MOST_CONTEXT = 12000 };

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

static const char WORD[] = "--probe";
enum { LINES_FD = 3 };

void probe_child(int argc, char **argv, const probe_entry *entries, size_t n) {
    static const int deadly[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE, SIGALRM};
    if (argc != 3 || strcmp(argv[1], WORD) != 0 || fcntl(LINES_FD, F_GETFD) < 0) return;
    json_t *told = json_loadf(stdin, 0, NULL);
    size_t i = 0;
    while (i < n && strcmp(entries[i].name, argv[2]) != 0) i++;
    if (!told || i == n) return;
    fcntl(LINES_FD, F_SETFD, FD_CLOEXEC);
    crash_forget();
    self.fd = LINES_FD;
    self.deadline_s = (unsigned)ceil(json_number_value(json_object_get(told, "deadline")));
    for (size_t k = 0; k < sizeof deadly / sizeof deadly[0]; k++) signal(deadly[k], on_end);
    alarm(self.deadline_s);
    int code = entries[i].fn(&self, json_object_get(told, "context"));
    alarm(0);
    fflush(NULL);
    _exit(code); /* what drivers do at the end of a process is nobody's concern */
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

/* A way to start this program again, also when another lies at its place by now. */
static const char *own_program(void) {
#ifdef __APPLE__
    static char path[PATH_MAX];
    uint32_t cap = sizeof path;
    if (_NSGetExecutablePath(path, &cap) == 0) return path;
#endif
    return "/proc/self/exe";
}

/* Pipes: what the child is to do, what it tells, what it says. */
typedef struct pipes {
    int ctx[2], lines[2], errors[2];
} pipes;

static void close_end(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

static void pipes_close(pipes *p) {
    for (int i = 0; i < 2; i++) {
        close_end(&p->ctx[i]);
        close_end(&p->lines[i]);
        close_end(&p->errors[i]);
    }
}

static bool pipes_open(pipes *p) {
    *p = (pipes){{-1, -1}, {-1, -1}, {-1, -1}};
    int *all[] = {p->ctx, p->lines, p->errors};
    for (int i = 0; i < 3; i++) {
        if (pipe(all[i]) < 0) {
            int saved = errno;
            pipes_close(p);
            errno = saved;
            return false;
        }
        fcntl(all[i][0], F_SETFD, FD_CLOEXEC);
        fcntl(all[i][1], F_SETFD, FD_CLOEXEC);
    }
    return true;
}

/* Pipes are closed on exec(), the copies made here are not. An end may have the number LINES_FD
 * itself: all others are copied before, and it goes by way of another number, since a copy onto
 * itself would still be closed. */
static int spawn(pid_t *child, const pipes *p, const char *what) {
    static char name[] = "moshi", word[sizeof WORD];
    char function[32];
    char *argv[] = {name, word, function, NULL};
    posix_spawn_file_actions_t actions;
    memcpy(word, WORD, sizeof word);
    snprintf(function, sizeof function, "%s", what);
    int rc = posix_spawn_file_actions_init(&actions);
    if (rc) return rc;
    rc = posix_spawn_file_actions_adddup2(&actions, p->ctx[0], STDIN_FILENO);
    if (!rc) rc = posix_spawn_file_actions_adddup2(&actions, p->errors[1], STDOUT_FILENO);
    if (!rc) rc = posix_spawn_file_actions_adddup2(&actions, p->lines[1], STDERR_FILENO);
    if (!rc) rc = posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, LINES_FD);
    if (!rc) rc = posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
    if (!rc) rc = posix_spawn(child, own_program(), &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return rc;
}

/* Written before there is a reader, which no pipe is too small for. */
static bool send_context(const pipes *p, json_t *ctx, double deadline_s) {
    json_t *all =
        json_pack("{s:f, s:o}", "deadline", deadline_s, "context", ctx ? ctx : json_null());
    char *text = all ? json_dumps(all, JSON_COMPACT) : NULL;
    size_t n = text ? strlen(text) : 0;
    bool ok = n > 0 && n <= MOST_CONTEXT;
    if (ok) write_line(p->ctx[1], text, n);
    free(text);
    json_decref(all);
    return ok;
}

int probe_run(probe_result *out, const char *what, json_t *ctx, double deadline_s, app_error *err) {
    pipes p;
    pid_t child;
    int status = 0;
    memset(out, 0, sizeof *out);
    if (!pipes_open(&p)) {
        json_decref(ctx);
        return app_fail(err, EXIT_INTERNAL, "cannot make a pipe: %s", strerror(errno));
    }
    out->facts = json_array();
    double started = app_now_s();
    fflush(NULL);
    int failed = send_context(&p, ctx, deadline_s) ? spawn(&child, &p, what) : E2BIG;
    close_end(&p.ctx[0]);
    close_end(&p.ctx[1]);
    close_end(&p.lines[1]);
    close_end(&p.errors[1]);
    if (!failed) {
        listen_to(out, p.lines[0], p.errors[0], deadline_s, err);
        if (out->hung || app_interrupted()) kill(child, SIGKILL);
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
        }
    }
    pipes_close(&p);
    if (failed) return app_fail(err, EXIT_INTERNAL, "cannot start a process: %s", strerror(failed));
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
