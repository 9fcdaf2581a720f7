/* progress.c - the progress line. Only blanks and carriage returns, which every terminal knows. */
#include "progress.h"

#include <stdio.h>
#include <unistd.h>

enum { BAR = 30 };
static const double REDRAW_S = 0.1;

void progress_start(progress *p, bool quiet) {
    p->on = !quiet && isatty(STDERR_FILENO);
    p->started_s = app_now_s();
    p->drawn_s = p->started_s; /* what is quick shows no bar at all */
    p->width = 0;
}

void progress_draw(progress *p, double part, const char *note) {
    double now = app_now_s();
    if (!p->on || now - p->drawn_s < REDRAW_S) return;
    p->drawn_s = now;
    if (part < 0) part = 0;
    if (part > 1) part = 1;
    char bar[BAR + 1], line[160], left[32] = "";
    for (int i = 0; i < BAR; i++) bar[i] = i < (int)(part * BAR) ? '#' : '.';
    bar[BAR] = 0;
    double left_s = part > 0.02 ? (now - p->started_s) * (1 - part) / part : 0;
    if (left_s > 0) snprintf(left, sizeof left, ", %.0f s left", left_s);
    int n = snprintf(line, sizeof line, "[%s] %3.0f %%%s%s%s", bar, 100 * part, left,
                     note[0] ? ", " : "", note);
    if (n >= (int)sizeof line) n = (int)sizeof line - 1;
    fprintf(stderr, "\r%s%*s", line, p->width > n ? p->width - n : 0, "");
    fflush(stderr);
    p->width = n;
}

void progress_clear(progress *p) {
    if (p->width) fprintf(stderr, "\r%*s\r", p->width, "");
    fflush(stderr);
    p->width = 0;
}
