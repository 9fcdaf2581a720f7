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

#endif
