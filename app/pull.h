/* pull.h - bring a repository's files into the cache. */
#ifndef APP_PULL_H
#define APP_PULL_H

#include "hub.h"

/* Download `files`, or when n_files is 0 those that a model needs. *dir gets the directory with
 * them, released by the caller. Files that are there already are not loaded again. */
int pull_repo(const hub_id *id, const char *const *files, int n_files, bool quiet, char **dir,
              app_error *err);

#endif
