"""Step 4: all clips to codes with the trained codec.

    encode_clips.py SET RANK WORLD      SET: users or users2; rank 0 of users also encodes the
                                        assistant, silence and noise
"""
import sys

import numpy as np
import torch

from clips import Clips
from codec import BF16
from train_codec import decibel, trained
from work import FRAME, frames, save_object

LEAD, TAIL = 16, 14  # frames of silence around a clip; the codec looks back 16
KEPT_LEAD = 4
BATCH = 8


class Encoder:
    def __init__(self):
        torch.set_num_threads(1)
        self.codec = trained()

    @torch.no_grad()
    def __call__(self, signals, dtype):
        """Signals of any lengths -> [signals, frames, codebooks]; silence fills up the short."""
        self.codec.dtype = dtype
        batch = torch.zeros(len(signals), max(len(s) for s in signals))
        for row, signal in zip(batch, signals):
            row[:len(signal)] = torch.from_numpy(signal)
        return self.codec.encode(batch).numpy().astype(np.uint8)


def encode_assistant(encode, chance):
    """In float32, clean and on a frame boundary: always the same codes."""
    clips, out = Clips("assistant"), []
    for start in range(0, len(clips.facts), BATCH):
        group, signals = clips.facts[start:start + BATCH], []
        for clip in group:
            y = np.zeros((LEAD + frames(clip["n"]) + TAIL) * FRAME, np.float32)
            y[LEAD * FRAME:LEAD * FRAME + clip["n"]] = clips.samples(clip)
            signals.append(y)
        for clip, y, codes in zip(group, signals, encode(signals, torch.float32)):
            out.append(dict(a=clip["a"], ws=clip["ws"], nf=frames(clip["n"]),
                            codes=codes[LEAD:len(y) // FRAME]))
    silence = encode([np.zeros(120 * FRAME, np.float32)], torch.float32)[0]
    noise = []
    for db in range(-75, -39, 3):
        y = (chance.randn(300 * FRAME) * decibel(db)).astype(np.float32)
        noise.append((db, encode([y], BF16)[0]))
    save_object("codes/assistant.pkl", dict(answers=out, silence=silence, noise=noise))
    print(f"{len(out)} answers", flush=True)


def prepare(clips, clip, chance):
    """A user's clip somewhere inside a frame, at some loudness, half of them in noise."""
    inside, gain = chance.randint(FRAME), decibel(chance.uniform(-12, 3))
    nf = frames(clip["n"] + inside)
    y = np.zeros((LEAD + nf + TAIL) * FRAME, np.float32)
    at = LEAD * FRAME + inside
    y[at:at + clip["n"]] = np.clip(clips.samples(clip) * gain, -1, 1)
    db = chance.uniform(-75, -42) if chance.rand() < 0.5 else None
    if db is not None:
        y += (chance.randn(len(y)) * decibel(db)).astype(np.float32)
    return y, dict(a=clip["a"], db=db, nf=nf, end=(inside + clip["n"]) / FRAME)


def main():
    name, rank, world = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    chance = np.random.RandomState((100 if name == "users" else 300) + rank)
    encode = Encoder()
    if name == "users" and rank == 0:
        encode_assistant(encode, chance)
    clips, out = Clips(name), []
    mine = sorted(clips.facts[rank::world], key=lambda clip: clip["n"])  # alike lengths together
    for start in range(0, len(mine), BATCH):
        signals, facts = zip(*(prepare(clips, c, chance) for c in mine[start:start + BATCH]))
        for fact, codes in zip(facts, encode(signals, BF16)):
            fact["codes"] = codes[LEAD - KEPT_LEAD:LEAD + fact["nf"] + TAIL]
            out.append(fact)
    save_object(f"codes/{name}.{rank}.pkl", out)
    print(f"{name}, process {rank}: {len(out)} clips", flush=True)


if __name__ == "__main__":
    main()
