"""Unseen questions, one by one: are the words right, and is the speech understood?

    eval_replies.py [COUNT [FIRST [TEXT_TEMP AUDIO_TEMP [NOISE_DB]]]]
"""
import sys

import numpy as np
import torch

from asr import Recogniser
from clips import Clips
from evaluate import UNSEEN_VARIANTS, Talker, timeline, variant
from train_codec import decibel
from work import FRAME, frames

LEAD, BATCH = 8, 25  # frames of silence in front; questions at once


def main():
    numbers = [float(x) for x in sys.argv[1:]] + [100, 0, 0, 0][len(sys.argv) - 1:]
    count, first, text_temp, audio_temp = int(numbers[0]), int(numbers[1]), numbers[2], numbers[3]
    noise = decibel(numbers[4]) if len(numbers) > 4 else 0
    clips = Clips("tests")
    length = {a["a"]: frames(a["n"]) for a in Clips("assistant").facts}
    chance, signals, asked = np.random.RandomState(11), [], clips.facts[first:first + count]
    for clip in asked:
        at = LEAD * FRAME + chance.randint(FRAME)
        y = timeline(LEAD + 17 + frames(clip["n"]) + length[clip["a"]],
                     [(at, clips.samples(clip) * decibel(chance.uniform(-9, 0)))])
        signals.append((y + chance.randn(len(y)) * noise).astype(np.float32))

    talk, recognise = Talker(), Recogniser("answer")
    generator = torch.Generator().manual_seed(1)
    right, understood, unseen, unseen_right, delays = 0, 0, 0, 0, []
    order = sorted(range(len(asked)), key=lambda i: len(signals[i]))
    for start in range(0, len(order), BATCH):
        group = order[start:start + BATCH]
        longest = max(len(signals[i]) for i in group)
        batch = [np.pad(signals[i], (0, longest - len(signals[i]))) for i in group]
        text, samples = talk(batch, text_temp, audio_temp, generator)
        for row, i in enumerate(group):
            clip, words, heard = asked[i], talk.words(text[row]), recognise(samples[row])
            right += words == clip["a"]
            understood += heard == clip["a"]
            if variant(clip) in UNSEEN_VARIANTS:
                unseen += 1
                unseen_right += words == clip["a"]
            spoken = [t for t in range(text.shape[1]) if int(text[row, t]) not in (0, 3)]
            if spoken:
                delays.append(spoken[0] - LEAD - clip["n"] / FRAME)
            if words != clip["a"] or heard != clip["a"]:
                print(f"  {clip['q']} ({clip['voice']['voice']}): said '{words}', heard '{heard}'")
    print(f"{len(asked)} questions: words right {right}, speech understood {understood}; never heard "
          f"variants {unseen_right} of {unseen}; first word {np.mean(delays or [0]):.1f} frames "
          "after the end of speech")


if __name__ == "__main__":
    main()
