/* probe.h - doing something dangerous in a child process: whatever becomes of it, the program lives
 * on and knows how far it came. The child is the program itself, started anew: what drivers leave
 * in a process (threads, locks, Metal's services) does not survive a fork without that. */
#ifndef APP_PROBE_H
#define APP_PROBE_H

#include "json.h"
#include "moshi.h"

/* The child's side. */
typedef struct probe probe;

/* Runs in the child. What it returns, 0..63, becomes probe_result.code. */
typedef int (*probe_fn)(probe *p, const json_t *ctx);

/* What a child can do, by name. */
typedef struct probe_entry {
    const char *name;
    probe_fn fn;
} probe_entry;

typedef struct probe_result {
    int code;        /* what the function returned; of no meaning when it did not return */
    int signal;      /* that ended the child, or 0 */
    bool hung;       /* no sign of life until the deadline */
    double seconds;  /* it took */
    char stage[240]; /* where it was last */
    char said[400];  /* the end of what it wrote to its standard output and error */
    json_t *facts;   /* array of what it told; release with json_decref() */
} probe_result;

/* Do `what` in a child, with `ctx` (a few kilobytes at most; the reference is taken). The deadline
 * is the longest silence: each stage and fact is a sign of life. EXIT_OK whenever the child was
 * started, whatever became of it. */
int probe_run(probe_result *out, const char *what, json_t *ctx, double deadline_s, app_error *err);
/* In a few words why it failed: "hung", "ended by SIGABRT"; NULL when the function returned. */
const char *probe_ending(const probe_result *r, char *out, size_t cap);

/* ---- in the child */

/* Called first by main(): ends the process when that was started by probe_run(), else returns. */
void probe_child(int argc, char **argv, const probe_entry *entries, size_t n);

/* Say what comes next, before it comes. */
void probe_stage(probe *p, const char *fmt, ...) APP_PRINTF(2, 3);
/* Tell the parent; takes the reference. */
void probe_tell(probe *p, json_t *fact);
/* For the library to write to: what it says is added to the stage when the child dies or hangs. */
moshi_breadcrumb *probe_breadcrumb(probe *p);

#endif
