/* repos.h - the published repositories the program knows by name (repos.txt, inside the program).
 */
#ifndef APP_REPOS_H
#define APP_REPOS_H

#include "app.h"

typedef struct known_repo {
    char name[64], verb[16], what[80];
    char shape[32], form[24], file[48]; /* of its weights, see repos.txt; "-": not known */
    double gigabytes;
} known_repo;

enum { KNOWN_REPOS_MAX = 64 };

/* Fills `repos`; returns how many. */
int known_repos(known_repo repos[KNOWN_REPOS_MAX]);
/* Those whose weights have this shape and form; returns how many, at most `max`. */
int repos_like(const char *shape, const char *form, known_repo *found, int max);
/* The known name nearest to one that does not exist, or "". */
void nearest_repo(const char *name, char out[64]);
/* For people. */
void print_known_repos(void);

#endif
