/* soundpair.h - two recordings beside each other: is each of them speech, and is one the other? */
#ifndef APP_SOUNDPAIR_H
#define APP_SOUNDPAIR_H

#include "analyze.h"
#include "json.h"
#include "likeness.h"
#include "soundfile.h"

typedef struct pair_side {
    const char *path;
    soundfile file;
    analysis found;
} pair_side;

typedef struct sound_pair {
    pair_side a, b;
    bool equal; /* the same samples at the same rate */
    bool laid;  /* there was something to compare: the two below are filled in */
    alignment where;
    likeness alike; /* of b to a */
} sound_pair;

/* Is it a recording? Anything the audio library can read. */
bool sound_pair_is_sound(const char *path);
/* Zero the pair first, sound_pair_free() it in any case. */
int sound_pair_measure(sound_pair *p, const char *a, const char *b, app_error *err);
void sound_pair_free(sound_pair *p);

void sound_pair_print(const sound_pair *p);
/* Add members "a", "b" and "alike" to an object. */
void sound_pair_json(json_t *root, const sound_pair *p);

#endif
