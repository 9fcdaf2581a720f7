/* soundfile.h - a whole audio file in memory, as it is: for examining, not for playing. */
#ifndef APP_SOUNDFILE_H
#define APP_SOUNDFILE_H

#include "audiofile.h"

typedef struct soundfile {
    audio_facts facts;
    float *pcm;    /* [n] mean of the channels */
    size_t n;      /* samples read: at most what the caller asked for */
    bool whole;    /* false: the file is longer */
    double cancel; /* power of the mean of the channels relative to the mean of their powers; 1 for
                      equal channels, 0.5 for strangers, 0 when they cancel each other */
} soundfile;

/* At most `longest_s` seconds of a file. Samples that are no finite numbers are kept. */
int soundfile_read(soundfile *out, const char *path, double longest_s, app_error *err);
void soundfile_free(soundfile *r);

#endif
