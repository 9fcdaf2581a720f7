#!/usr/bin/env python3
"""eval_demo.py LIST ANSWERS - let a recogniser that knows every possible answer listen.

LIST is a table (file, question, expected, ...), ANSWERS a folder with the spoken answers as
NAME.wav, 16 bit. Prints how many were understood word for word; what was misheard goes to the
standard error. Ends with code 1 and the reason where pocketsphinx or sox is missing (Debian:
python3-pocketsphinx pocketsphinx-en-us sox).
"""
import array
import csv
import os
import random
import re
import subprocess
import sys
import tempfile

MODEL = "/usr/share/pocketsphinx/model/en-us"
RATE = 16000
UNITS = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
         "fifteen sixteen seventeen eighteen nineteen").split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
SAYINGS = [
    "hello there how can i help you",
    "my name is moshi",
    "i am fine thank you",
    "i can add numbers count and tell a joke",
    "why is six afraid of seven because seven eight nine",
    "what is brown and sticky a stick",
    "you are welcome",
    "goodbye see you soon",
    "yes i can hear you",
    "there are seven days in a week",
    " ".join(DAYS),
]
PRONUNCIATIONS = {"moshi": "M OW SH IY"}  # not in the dictionary


def all_sayings():
    """Every fixed answer; sums are spelled out by the grammar."""
    count_up = [" ".join(UNITS[1:n + 1]) for n in range(3, 11)]
    count_down = [" ".join(reversed(UNITS[1:n + 1])) for n in (3, 5)]
    days = [f"{DAYS[(i + step) % 7]} comes {where} {DAYS[i]}"
            for i in range(7) for step, where in ((1, "after"), (-1, "before"))]
    return SAYINGS + count_up + count_down + days


def grammar():
    """Answers in JSGF: any sum with any result, so that a wrong result can be heard, too."""
    digit = "(" + "|".join(UNITS[:10]) + ")"
    number = f"({'|'.join(UNITS)}|({'|'.join(TENS)}) [{'|'.join(UNITS[1:10])}])"
    answer = f"{digit} (plus|minus|times) {digit} is [minus] {number}"
    rest = "|".join(sorted(all_sayings()))
    return f"#JSGF V1.0;\ngrammar answers;\npublic <answer> = {answer} | {rest};\n"


def dictionary():
    """The lines of the model's dictionary that the grammar needs."""
    words = set(UNITS + TENS + ["plus", "minus", "times", "is"])
    words.update(word for saying in all_sayings() for word in saying.split())
    lines = [f"{word} {sounds}" for word, sounds in PRONUNCIATIONS.items()]
    with open(f"{MODEL}/cmudict-en-us.dict", encoding="utf-8") as file:
        for line in file:
            if line.strip() and re.sub(r"\(\d+\)$", "", line.split()[0]) in words:
                lines.append(line.strip())
    return "\n".join(lines) + "\n"


def make_decoder(folder):
    """A recogniser of answers; wide beams, as the grammar is small."""
    from pocketsphinx.pocketsphinx import Decoder
    for name, text in (("answers.jsgf", grammar()), ("answers.dict", dictionary())):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(text)
    config = Decoder.default_config()
    config.set_string("-hmm", f"{MODEL}/en-us")
    config.set_string("-dict", os.path.join(folder, "answers.dict"))
    config.set_string("-jsgf", os.path.join(folder, "answers.jsgf"))
    config.set_string("-logfn", os.path.join(folder, "log"))
    config.set_float("-beam", 1e-80)
    config.set_float("-wbeam", 1e-60)
    config.set_float("-pbeam", 1e-80)
    return Decoder(config)


def read_wav(path):
    """Samples at 16 kHz, a little noise under them, a quarter second of it on both sides, loud."""
    raw = subprocess.run(["sox", "-D", path, "-r", str(RATE), "-c", "1", "-b", "16", "-e", "signed",
                          "-t", "raw", "-"], check=True, stdout=subprocess.PIPE).stdout
    samples = [0.0] * (RATE // 4) + [s / 32768 for s in array.array("h", raw)] + [0.0] * (RATE // 4)
    noise = random.Random(0)
    samples = [s + 1e-3 * noise.gauss(0, 1) for s in samples]
    gain = 0.7 / max(1e-3, max(abs(s) for s in samples))
    return array.array("h", [int(s * gain * 32767) for s in samples]).tobytes()


def listen(decoder, path):
    """What is said in a file."""
    decoder.start_utt()
    decoder.process_raw(read_wav(path), False, True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return re.sub(r"\(\d+\)", "", hypothesis.hypstr) if hypothesis else ""


def main():
    table, answers = sys.argv[1:]
    understood = 0
    with tempfile.TemporaryDirectory() as folder:
        try:
            decoder = make_decoder(folder)
            subprocess.run(["sox", "--version"], check=True, stdout=subprocess.PIPE)
        except (ImportError, OSError) as problem:
            print(problem)
            return 1
        with open(table, encoding="utf-8") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                name = row["file"].rsplit(".", 1)[0] + ".wav"
                heard = listen(decoder, os.path.join(answers, name))
                understood += heard == row["expected"]
                if heard != row["expected"]:
                    print(f"  {name}: heard \"{heard}\", wanted \"{row['expected']}\"",
                          file=sys.stderr)
    print(understood)
    return 0


if __name__ == "__main__":
    sys.exit(main())
