/* html_report.h - a page about examined recordings: one file that loads nothing from anywhere, for
 * any browser, by day and by night, and for readers who cannot see the pictures. */
#ifndef APP_HTML_REPORT_H
#define APP_HTML_REPORT_H

#include "plots.h"
#include "soundfile.h"

/* {0} is empty; the error that the functions report goes where `err` of the first call points. */
typedef struct html_report {
    int files, failed;
    char worst[160]; /* what was found in the only file, in words */
    markup summary;  /* a row of the table for each file */
    markup sections;
} html_report;

/* What somebody else says of the same recording. */
typedef struct html_note {
    const char *says;
    bool fails; /* then the page says that it failed, whatever the samples say */
} html_note;

/* `note` may be NULL. */
int html_report_add(html_report *r, const char *path, const soundfile *file, const analysis *a,
                    const plot_set *plots, const html_note *note, app_error *err);
/* The whole page. */
int html_report_page(app_buffer *out, const html_report *r, app_error *err);
void html_report_free(html_report *r);

#endif
