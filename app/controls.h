/* controls.h - speech that is known to be whole, and the same speech broken in known ways. An
 * instrument that does not tell them apart says nothing about any other sound. */
#ifndef APP_CONTROLS_H
#define APP_CONTROLS_H

#include "agreement.h"

typedef enum control_kind {
    CONTROL_CLEAN,
    CONTROL_ROUNDTRIP, /* through the codec and back */
    CONTROL_REVERSED,
    CONTROL_FRAMES_REVERSED,
    CONTROL_FRAMES_SHUFFLED,
    CONTROL_HALF_SPEED,
    CONTROL_DOUBLE_SPEED,
    CONTROL_DELAY_SHIFTED,
    CONTROL_CODEBOOKS_PERMUTED,
    CONTROL_CLIPPED,
    CONTROL_FRAMES_DROPPED,
    CONTROL_FRAMES_REPEATED,
    CONTROLS
} control_kind;

const char *control_name(control_kind kind);
const char *control_description(control_kind kind);
/* Must it pass? The first two must, the others must not. */
bool control_is_whole(control_kind kind);
/* Does it exist with this many codebooks? With one there is nothing to displace. */
bool control_applies(control_kind kind, size_t codebooks);

/* What the controls are made of: `in`, whole frames of `frame` samples, with its pauses shortened
 * to 0.4 s, since silence shows nothing. */
int control_input(sound *out, const sound *in, size_t frame, app_error *err);
/* Make it. `clean` is whole frames of `frame` samples, `codes` what `codec` makes of it. */
int control_make(sound *out, control_kind kind, const sound *clean, size_t frame,
                 const code_rows *codes, moshi_codec *codec, app_error *err);

#endif
