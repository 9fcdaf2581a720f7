"""Write direction.npz and rate.npz as a header: python3 export.py app/voice_weights.h."""

import sys

import numpy as np

STEP = 1 / 256
HEAD = """/* voice_weights.h - weights of the networks in voice.c, made by tools/ear. */
#ifndef APP_VOICE_WEIGHTS_H
#define APP_VOICE_WEIGHTS_H

#include <stdint.h>

enum { VOICE_HIDDEN = 32, VOICE_RATE_HIDDEN = 48, VOICE_RATE_HEAD = 32 };
#define VOICE_WEIGHT_STEP (1.0f / 256)

"""


def array(name, path, comment):
    saved = np.load(path)
    parts = [saved[f"arr_{i}"].reshape(-1) for i in range(len(saved.files))]
    layers = len(parts) // 2
    # Each layer's weights, then its biases.
    values = np.concatenate([x for i in range(layers) for x in (parts[i], parts[layers + i])])
    words = [str(x) for x in np.clip(np.rint(values / STEP), -32767, 32767).astype(int)]
    lines, line = [], "   "
    for word in words:
        if len(line) + len(word) + 2 > 100:
            lines.append(line)
            line = "   "
        line += f" {word},"
    lines.append(line)
    text = "\n".join(lines).rstrip(",")
    return f"/* {comment} */\nstatic const int16_t {name}[{len(words)}] = {{\n{text}}};\n\n"


def main():
    with open(sys.argv[1], "w") as out:
        out.write(HEAD)
        out.write(array("VOICE_DIRECTION", "direction.npz", "Which way time runs."))
        out.write(array("VOICE_RATE", "rate.npz", "How fast it was played."))
        out.write("#endif\n")


main()
