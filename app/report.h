/* report.h - what `moshi analyze` writes to files: a page (--report) and pictures (--png). All of
 * them appear at the end, together. */
#ifndef APP_REPORT_H
#define APP_REPORT_H

#include "html_report.h"
#include "options.h"

typedef struct report report;

/* *out is NULL when neither option was given; the functions below do nothing then. Refuses to write
 * over anything that is read. */
int report_open(report **out, const arguments *args, app_error *err);
int report_add(report *r, const char *path, const soundfile *file, const analysis *a,
               app_error *err);
int report_commit(report *r, app_error *err);
/* Leaves nothing behind that was not committed. */
void report_close(report *r);

#endif
