/* stimulus.h - what `moshi check` says to a model: the recordings inside the program, or a file. */
#ifndef APP_STIMULUS_H
#define APP_STIMULUS_H

#include "sound.h"

typedef struct stimulus {
    char *source;         /* file name, or what the recordings are */
    sound sound;          /* whole frames, silence at the end included */
    size_t recorded;      /* samples before that silence */
    char sha256[SHA_HEX]; /* of all samples, as the model gets them */
} stimulus;

/* At `rate_hz`, at most `most_s` seconds, filled up to whole frames of `frame` samples, then
 * `tail_s` seconds of silence, in which the model answers and which it encodes like everything
 * else. `path` NULL: two questions with silence between them, 10.4 s. */
int stimulus_load(stimulus *out, const char *path, int rate_hz, size_t frame, double most_s,
                  double tail_s, app_error *err);
void stimulus_free(stimulus *s);

#endif
