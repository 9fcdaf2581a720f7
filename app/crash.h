/* crash.h - what is left behind when the program dies of a signal, and what the next start makes of
 * it. Reports are small text files in $XDG_STATE_HOME/moshi (~/.local/state/moshi), the last
 * CRASHES_KEPT of them. */
#ifndef APP_CRASH_H
#define APP_CRASH_H

#include "moshi.h"

#include "app.h"

enum { CRASHES_KEPT = 5 };

/* Write a report and say where it is when SIGSEGV, SIGBUS, SIGABRT, SIGILL or SIGFPE comes; then
 * let the signal do what it does. Once, early. */
void crash_install(void);

/* For engines to write to, and for reports to read. */
moshi_breadcrumb *crash_breadcrumb(void);
/* What else a report says; texts are copied. */
void crash_note_verb(const char *verb);
/* `hash` may be "". */
void crash_note_model(const char *name, const char *hash);
void crash_note_device(const char *device, const char *driver);

/* In a child that is expected to die: handlers of the parent off, no core file. */
void crash_forget(void);

/* Put the breadcrumb into words: "weights 132/400, lm.layers.3.norm1.alpha". Safe in a signal
 * handler. Returns the length, at most cap - 1. */
size_t crash_stage_text(const moshi_breadcrumb *crumb, char *out, size_t cap);

/* "SIGSEGV"; static. */
const char *crash_signal_name(int number);

typedef struct crash_report {
    char path[1024];
    char verb[32], signal[16], stage[200], device[MOSHI_DEVICE_NAME], driver[128], model[256],
        model_hash[65];
    char build[200], started[32];
    bool told; /* an earlier start has already said so */
} crash_report;

/* Newest first, and at most CRASHES_KEPT: older ones are removed. Returns how many. */
int crash_list(crash_report *reports);
/* Not to be told again. */
void crash_set_told(const crash_report *report);

/* Directory of reports and of what is remembered about devices, without a slash at the end; "" when
 * there is no home. */
const char *state_directory(void);
/* Create it, with mode 700. */
bool state_directory_make(void);

#endif
