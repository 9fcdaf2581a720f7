"""Step 1: the assistant's answers, the users' questions, and the questions of the tests.

    make_clips.py [LIMIT]      LIMIT: only so many questions, to try things out
"""
import random
import sys

import clips
import domain

ASSISTANT = dict(voice="en-us+f2", rate=165, pitch=50, range_=50)
TRAIN_VARIANTS = (["", ""] + "m1 m2 m3 m5 m6 m7 m8 f1 f2 f3 f5 Andy Annie Mike Michael Lee Steph "
                  "Denis adam belinda benjamin caleb david edward Alex Gene Jacky John Marco Max "
                  "Pablo Paul Pedro Quincy robert sandro shelby travis victor Zac antonio Hugo "
                  "Linda".split())
TEST_VARIANTS = "m4 f4 Ed Alicia Rob Steph2 Gene2 Andrea".split()
PER_SUM, PER_ANSWER, PER_QUESTION = 24, 60, 22


def answer(text):
    """One answer; where its words begin comes from espeak's events, which tell characters."""
    samples, phonemes, words = clips.say(text, **ASSISTANT)
    index, position = {}, 0
    for i, word in enumerate(text.split()):
        index[position + 1] = i
        position += len(word) + 1
    starts = {index[at]: sample for sample, at in words if at in index}
    return dict(a=text, ph=phonemes, ws=starts), samples


def questions(chance, variants, limit):
    phrases = domain.sum_phrases()
    wanted = [(chance.choice(phrases).format(core), reply)
              for core, reply in domain.sums() for _ in range(PER_SUM)]
    for texts, reply in domain.CHAT:
        wanted += [(text, reply) for text in texts
                   for _ in range(max(PER_QUESTION, PER_ANSWER // len(texts)))]
    chance.shuffle(wanted)
    return [clips.question(chance, text, reply, variants) for text, reply in wanted[:limit]]


def tests(chance, limit):
    """Three of four are sums; every other one is in a variant that was never trained on."""
    phrases, sums, items = domain.sum_phrases(), domain.sums(), []
    chance.shuffle(sums)
    for i in range(min(300, limit)):
        if i % 4 < 3:
            core, reply = sums[(i * 3) % 300]
            text = chance.choice(phrases).format(core)
        else:
            texts, reply = chance.choice(domain.CHAT)
            text = chance.choice(texts)
        facts, samples = clips.question(chance, text, reply,
                                        TEST_VARIANTS if i % 2 else TRAIN_VARIANTS)
        items.append((dict(facts, unseen_variant=bool(i % 2)), samples))
    return items


def main():
    limit = int(sys.argv[1]) if len(sys.argv) > 1 else 10 ** 9
    chance = random.Random(7)
    variants = [v for v in TRAIN_VARIANTS if not v or clips.works("en-us+" + v)]
    clips.save("assistant", [answer(text) for text in sorted(set(domain.answers()))])
    clips.save("users", questions(chance, variants, limit))
    clips.save("tests", tests(chance, limit))


if __name__ == "__main__":
    main()
