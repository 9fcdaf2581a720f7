"""Two streams of twelve turns, far longer than the context."""
import numpy as np

from clips import Clips
from evaluate import HARDEST, Talker, timeline, variant
from work import FRAME


def main():
    clips, talk, chance = Clips("tests"), Talker(), np.random.RandomState(5)
    length = {a["a"]: a["n"] for a in Clips("assistant").facts}
    right = turns = 0
    for first in (200, 240):
        asked = [c for c in clips.facts[first:first + 40] if variant(c) != HARDEST][:12]
        at, begins = 8 * FRAME, []
        for clip in asked:
            at += chance.randint(FRAME)
            begins.append(at)
            at += clip["n"] + length[clip["a"]] + (12 + chance.randint(25)) * FRAME
        pieces = [(begin, clips.samples(clip)) for begin, clip in zip(begins, asked)]
        text, _ = talk([timeline(-(-at // FRAME) + 10, pieces)])
        edges = [begin // FRAME for begin in begins] + [text.shape[1]]
        for clip, a, b in zip(asked, edges, edges[1:]):
            words = talk.words(text[0, a:b])
            right += words == clip["a"]
            turns += 1
            if words != clip["a"]:
                print(f"  {clip['q']} ({clip['voice']['voice']}) -> {words}")
    print(f"{right} of {turns} turns right")


if __name__ == "__main__":
    main()
