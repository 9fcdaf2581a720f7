/* json.h - printing results as JSON. */
#ifndef APP_JSON_H
#define APP_JSON_H

#include "app.h"

#include <jansson.h>

/* A string; file names need not be UTF-8, and bytes of those that are not become "?". */
json_t *json_text(const char *text);
/* Print `root` (NULL: an earlier step ran out of memory) to standard output and release it. */
int json_print(json_t *root, app_error *err);

#endif
