/* build.h - which build of the program this is. */
#ifndef APP_BUILD_H
#define APP_BUILD_H

#include "sha.h"

#include <stdbool.h>

/* In one line: version, what git calls the sources (where they came from git), compiler, flags for
 * sanitizers. Static. */
const char *build_id(void);

/* Hash of the program's own file; false where the system does not say where that is. */
bool build_program_sha256(char hex[SHA_HEX]);

#endif
