/* embedded.h - files inside the program: the demo model, used when no other model is named, what
 * `moshi check` says to it, and the table of known repositories. */
#ifndef APP_EMBEDDED_H
#define APP_EMBEDDED_H

#include "moshi.h"

enum { EMBEDDED_FILES = 5, EMBEDDED_SAMPLES = 2 };

/* The files of the model; static. */
const moshi_blob *embedded_model(void);
/* Two recordings of one person asking something, with silence to answer in; static. */
const moshi_blob *embedded_samples(void);
/* The text of repos.txt; static. */
const char *embedded_repos(void);

#endif
