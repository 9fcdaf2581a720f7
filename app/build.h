/* build.h - which build of the program this is. */
#ifndef APP_BUILD_H
#define APP_BUILD_H

/* In one line: version, what git calls the sources (where they came from git), compiler, flags for
 * sanitizers. Static. */
const char *build_id(void);

#endif
