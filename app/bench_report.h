/* bench_report.h - the JSON tree of `moshi bench` as a page, and beside an earlier one. */
#ifndef APP_BENCH_REPORT_H
#define APP_BENCH_REPORT_H

#include "json.h"

/* What was measured in words: "this machine: 4.1 frames/s of the 12.5 needed: ...". */
void bench_verdict(const json_t *root, char *out, size_t cap);
void bench_print(const json_t *root);

/* Figures of `root` beside those of the file `path`, an earlier `moshi bench --json`. Another model
 * or type cannot be compared: EXIT_USAGE. Other settings are told. */
int bench_load(json_t **earlier, const char *path, app_error *err);
int bench_comparable(const json_t *earlier, const json_t *root, const char *path, app_error *err);
json_t *bench_beside(const json_t *earlier, const json_t *root, const char *path);
void bench_print_beside(const json_t *compared);

#endif
