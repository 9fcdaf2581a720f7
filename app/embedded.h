/* embedded.h - the demo model inside the program, used when no other model is named. */
#ifndef APP_EMBEDDED_H
#define APP_EMBEDDED_H

#include "moshi.h"

enum { EMBEDDED_FILES = 5 };

/* The files of the model; static. */
const moshi_blob *embedded_model(void);

#endif
