/* embedded.h - files inside the program: the demo model, used when no other model is named, and the
 * table of known repositories. */
#ifndef APP_EMBEDDED_H
#define APP_EMBEDDED_H

#include "moshi.h"

enum { EMBEDDED_FILES = 5 };

/* The files of the model; static. */
const moshi_blob *embedded_model(void);
/* The text of repos.txt; static. */
const char *embedded_repos(void);

#endif
