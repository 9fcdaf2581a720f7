"""Step 1b: more questions, in voices that espeak-ng does not come with.

Variants with random formants, pitch, breath and echo are written into a private copy of its data
directory. Other languages and MBROLA's voices must go from that copy: espeak-ng lists at most 350.

    make_voices.py [LIMIT]
"""
import os
import random
import shutil
import subprocess
import sys

from work import WORK, path

VARIANTS = 240
# Variants of the tests, and those that no person sounds like.
KEPT_FOR_TESTS = {"m4", "f4", "ed", "Alicia", "rob", "steph2", "Gene2", "Andrea"}
NOT_HUMAN = {"whisper", "whisperf", "fast", "Demonic", "Mr serious", "announcer", "Storm",
             "robosoft6", "robosoft7", "robosoft8", "UniRobot"}
PER_SUM, PER_ANSWER, PER_QUESTION = 28, 90, 34


def private_data():
    """A copy of espeak-ng-data with English only; returns its directory of variants."""
    line = subprocess.run(["espeak-ng", "--version"], capture_output=True, text=True).stdout
    source = line.split("Data at:")[1].strip()
    copy = path("espeak-ng-data/")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(source, copy)
    for folder, _, files in os.walk(os.path.join(copy, "lang")):
        for name in files:
            if not name.startswith("en"):
                os.remove(os.path.join(folder, name))
    shutil.rmtree(os.path.join(copy, "voices", "mb"), ignore_errors=True)
    return os.path.join(copy, "voices", "!v")


def write_variant(chance, folder, name):
    female = chance.random() < 0.5
    base = chance.uniform(130, 210) if female else chance.uniform(65, 115)
    shift = chance.uniform(1.0, 1.22) if female else chance.uniform(0.86, 1.06)
    lines = ["language variant", f"name {name}", f"gender {'female' if female else 'male'}",
             f"pitch {base:.0f} {base * chance.uniform(1.2, 1.7):.0f}"]
    for formant in range(9):
        lines.append(f"formant {formant} {100 * shift * chance.uniform(.94, 1.06):.0f} "
                     f"{chance.uniform(75, 130):.0f} {chance.uniform(85, 150):.0f}")
    # (chance of having it, line)
    for likely, line in (
            (.4, lambda: f"roughness {chance.randint(0, 4)}"),
            (.4, lambda: f"flutter {chance.randint(0, 8)}"),
            (.4, lambda: f"consonants {chance.randint(70, 130)} {chance.randint(70, 130)}"),
            (.25, lambda: f"echo {chance.randint(20, 140)} {chance.randint(5, 25)}"),
            (.3, lambda: "breath " + " ".join(str(chance.randint(0, 5)) for _ in range(8))),
            (.3, lambda: f"intonation {chance.randint(1, 4)}"),
            (.3, lambda: "stressAdd " + " ".join(str(chance.randint(-20, 40)) for _ in range(8))),
            (.3, lambda: f"voicing {chance.randint(60, 130)}")):
        if chance.random() < likely:
            lines.append(line())
    with open(os.path.join(folder, name), "w") as file:
        file.write("\n".join(lines) + "\n")


def main():
    limit = int(sys.argv[1]) if len(sys.argv) > 1 else 10 ** 9
    folder = private_data()
    stock = [v for v in os.listdir(folder) if v not in KEPT_FOR_TESTS | NOT_HUMAN]
    made = [f"rnd{i}" for i in range(VARIANTS)]
    chance = random.Random(21)
    for name in made:
        write_variant(chance, folder, name)

    os.environ["ESPEAK_DATA"] = WORK
    import clips  # starts espeak-ng, now with the private data
    import domain
    made = [v for v in made if clips.works("en-us+" + v)]
    stock = [v for v in stock if clips.works("en-us+" + v)]
    print(f"{len(made)} made variants and {len(stock)} of the stock ones work")

    chance = random.Random(99)
    phrases = domain.sum_phrases()
    wanted = [(chance.choice(phrases).format(core), answer)
              for core, answer in domain.sums() for _ in range(PER_SUM)]
    for texts, answer in domain.CHAT:
        wanted += [(text, answer) for text in texts
                   for _ in range(max(PER_QUESTION, PER_ANSWER // len(texts)))]
    chance.shuffle(wanted)
    items = [clips.question(chance, text, answer, made if chance.random() < 0.6 else stock)
             for text, answer in wanted[:limit]]
    clips.save("users2", items)


if __name__ == "__main__":
    main()
