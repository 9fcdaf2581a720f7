/* progress.h - one line on standard error that is drawn over again; nothing when that is not a
 * terminal. */
#ifndef APP_PROGRESS_H
#define APP_PROGRESS_H

#include "app.h"

typedef struct progress {
    bool on;
    double started_s, drawn_s;
    int width; /* characters on the line now */
} progress;

void progress_start(progress *p, bool quiet);
/* At most ten times a second: a bar at `part` (0..1), the time left, and `note`. */
void progress_draw(progress *p, double part, const char *note);
/* Clear the line. */
void progress_clear(progress *p);

#endif
