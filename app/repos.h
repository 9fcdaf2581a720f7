/* repos.h - the published repositories the program knows by name (repos.txt, inside the program).
 */
#ifndef APP_REPOS_H
#define APP_REPOS_H

#include "app.h"

typedef struct known_repo {
    char name[64], verb[16], what[80];
    double gigabytes;
} known_repo;

enum { KNOWN_REPOS_MAX = 64 };

/* Fills `repos`; returns how many. */
int known_repos(known_repo repos[KNOWN_REPOS_MAX]);
/* The known name nearest to one that does not exist, or "". */
void nearest_repo(const char *name, char out[64]);
/* For people. */
void print_known_repos(void);

#endif
