/* misread.h - samples that were taken for something they are not: wrong byte order, wrong number
 * format, wrong number of channels.
 *
 * Every mistake is undone on trial. Speech is predictable from sample to sample and noise is not,
 * so the right reading shows as a leap of the prediction gain. */
#ifndef APP_MISREAD_H
#define APP_MISREAD_H

#include "finding.h"

/* Look at n samples as they came from the file (numbers that are not finite included). */
int misread_find(findings *found, const float *raw, size_t n, int rate_hz, app_error *err);

enum { MISREAD_READINGS = 18 };

/* Undo mistake number `which` (0 .. MISREAD_READINGS - 1) on n samples: *out is a new array, or
 * NULL when these samples cannot come from it; *what says what was done, and *kind what had
 * happened. */
int misread_undo(float **out, size_t *n_out, finding_kind *kind, const char **what, int which,
                 const float *raw, size_t n, app_error *err);

#endif
