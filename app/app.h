/* app.h - what every verb of the program shares: exit codes, errors in words, interruption. */
#ifndef APP_H
#define APP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#if defined(__GNUC__)
#define APP_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define APP_PRINTF(fmt, args)
#endif

/* One exit code per class of trouble, the same for every verb. */
enum {
    EXIT_OK = 0,
    EXIT_FAILED = 1,    /* the thing examined failed */
    EXIT_USAGE = 2,     /* wrong usage, or an input or output file that cannot be used */
    EXIT_MODEL = 3,     /* model file missing, damaged or not supported */
    EXIT_DEVICE = 4,    /* device or backend not available */
    EXIT_MEMORY = 5,    /* out of memory */
    EXIT_NETWORK = 7,   /* what was wanted from the network did not come, or not whole */
    EXIT_INTERNAL = 70, /* a defect of the program */
    EXIT_SIGNAL = 128   /* plus the number of the signal that interrupted: 130 for Ctrl-C */
};

/* What went wrong. `exit_code` is one of EXIT_*; `text` is one line without a full stop. */
typedef struct app_error {
    int exit_code;
    char text[2048];
} app_error;

/* Fill *err and return exit_code, so that `return app_fail(...)` reads well. */
int app_fail(app_error *err, int exit_code, const char *fmt, ...) APP_PRINTF(3, 4);
int app_no_memory(app_error *err);

/* First of all: make sure that files 0 to 2 are what they should be. */
void app_open_standard_files(void);
/* Let SIGINT, SIGTERM, SIGQUIT and SIGHUP end long work at the next frame; a closed pipe and a file
 * that grows too large become write errors. */
void app_catch_signals(void);
/* The signal that asked the program to stop, or 0. */
int app_interrupted(void);
/* EXIT_OK, or the failure to return when the user interrupted. */
int app_check_interrupted(app_error *err);

/* Bytes that grow at the end. A zeroed struct is empty. */
typedef struct app_buffer {
    char *data; /* terminated once something was added */
    size_t n, capacity;
} app_buffer;

int app_buffer_add(app_buffer *buffer, const void *data, size_t n, app_error *err);
void app_buffer_free(app_buffer *buffer);

/* Monotonic seconds. */
double app_now_s(void);
/* Value of an environment variable; NULL when unset or one of "", "0", "no", "off". */
const char *app_env(const char *name);
/* "15.8 GB" */
const char *app_size_text(char out[32], uint64_t bytes);
/* Print text that others wrote (a model, a file): a terminal would obey control characters in it,
 * so each of them comes out as '?'. */
void app_print_clean(FILE *out, const char *text);
/* Write everything still buffered for standard output; failures (pipe closed, disk full) count. */
int app_flush_stdout(app_error *err);

#endif
