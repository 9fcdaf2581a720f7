/* tracefile.h - a recording as a file, so that what one build, machine or device computed can be
 * compared with what another one computes later.
 *
 * A safetensors file: every intermediate as [rows, width] under the name of its tap; under
 * "compare.*" the facts (JSON), the plan that was followed, what was chosen, said and heard of it.
 */
#ifndef APP_TRACEFILE_H
#define APP_TRACEFILE_H

#include "difference.h"
#include "sha.h"

/* Where a recording comes from. */
typedef struct trace_facts {
    char side[256], device[128], build[200];
    char model[256], model_sha256[SHA_HEX]; /* the one that both sides are variants of */
    char input[256], input_sha256[SHA_HEX];
    explained error; /* as in variant.h */
} trace_facts;

/* Does it begin like one? */
bool tracefile_is(const char *path);
/* `common` is what the forced run followed. `not_this` as in outfile_open(). */
int tracefile_write(const char *path, const char *not_this, const trace_facts *facts,
                    const recording *r, const plan *common, app_error *err);
/* Zero `r` and `common` first and free them in any case. */
int tracefile_read(trace_facts *facts, recording *r, plan *common, const char *path,
                   app_error *err);

#endif
