"""Long answers, interrupted a second in: when does it fall silent, is the new question answered?"""
import numpy as np

from clips import Clips
from evaluate import HARDEST, Talker, timeline, variant
from work import FRAME, frames

LEAD, GAP, INTO_ANSWER = 8, 5, 12  # frames
AUDIBLE = 0.03


def main():
    clips, talk = Clips("tests"), Talker()
    length = {a["a"]: a["n"] for a in Clips("assistant").facts}
    usable = [c for c in clips.facts if variant(c) != HARDEST]
    long = [c for c in usable if length[c["a"]] > 45000][:10]
    sums = [c for c in usable if " is " in c["a"] and len(c["q"].split()) > 3
            and c["q"].split()[-2] in ("plus", "times", "minus")][:10]
    silent_after, right = [], 0
    for first, second in zip(long, sums):
        interrupted = LEAD + frames(first["n"]) + GAP + INTO_ANSWER
        asked = interrupted + frames(second["n"])
        total = asked + 6 + frames(length[second["a"]]) + 10
        text, samples = talk([timeline(total, [(LEAD * FRAME, clips.samples(first)),
                                               (interrupted * FRAME, clips.samples(second))])])
        peaks = np.abs(samples[0]).reshape(-1, FRAME).max(1)
        last = max([f for f in range(interrupted, asked) if peaks[f] > AUDIBLE] or [interrupted])
        silent_after.append(last - interrupted)
        answer = talk.words(text[0, asked:])
        right += answer == second["a"]
        print(f"  {first['q']} -> {talk.words(text[0, :asked])} | {second['q']} -> {answer}")
    print(f"{len(silent_after)} interruptions: silent after {silent_after} frames, new question "
          f"answered right {right} times")


if __name__ == "__main__":
    main()
