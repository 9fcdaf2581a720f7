"""A recogniser for the domain: pocketsphinx with a grammar in which operands and result of a sum are
free, so that it can also hear a wrong answer."""
import re

import numpy as np
from pocketsphinx.pocketsphinx import Decoder
from scipy.signal import resample_poly

import domain
from work import path

ACOUSTIC = "/usr/share/pocketsphinx/model/en-us"
NOT_IN_DICTIONARY = {"moshi": "M OW SH IY"}


def _dictionary():
    words = set(domain.ONES) | set(domain.TENS.values())
    words |= {w for s in domain.answers() + domain.questions() for w in s.split()}
    lines, found = [], set()
    with open(f"{ACOUSTIC}/cmudict-en-us.dict") as file:
        for line in file:
            word = re.sub(r"\(\d+\)$", "", line.split()[0])
            if word in words:
                lines.append(line.strip())
                found.add(word)
    lines += [f"{word} {NOT_IN_DICTIONARY[word]}" for word in sorted(words - found)]
    name = path("asr/words.dict")
    with open(name, "w") as file:
        file.write("\n".join(lines) + "\n")
    return name


def _grammar(kind):
    digit = "(" + "|".join(domain.ONES[:10]) + ")"
    small = "|".join(domain.ONES)
    large = f"({'|'.join(domain.TENS.values())}) [{'|'.join(domain.ONES[1:10])}]"
    if kind == "answer":
        chat = "|".join(sorted({answer for _, answer in domain.CHAT}))
        rule = f"{digit} (plus|minus|times) {digit} is [minus] ({small}|{large}) | {chat}"
    else:
        chat = "|".join(sorted({q for texts, _ in domain.CHAT for q in texts}))
        rule = (f"[what is|what's|how much is|tell me] {digit} (plus|minus|times) {digit} | {chat}")
    name = path(f"asr/{kind}.jsgf")
    with open(name, "w") as file:
        file.write(f"#JSGF V1.0;\ngrammar g;\npublic <s> = {rule};\n")
    return name


class Recogniser:
    def __init__(self, kind="answer"):
        config = Decoder.default_config()
        for key, value in (("-hmm", f"{ACOUSTIC}/en-us"), ("-dict", _dictionary()),
                           ("-jsgf", _grammar(kind)), ("-logfn", path("asr/log"))):
            config.set_string(key, value)
        for key, value in (("-beam", 1e-80), ("-wbeam", 1e-60), ("-pbeam", 1e-80)):
            config.set_float(key, value)
        self.decoder = Decoder(config)

    def __call__(self, samples):
        """24 kHz samples -> the words that were heard"""
        silence = np.zeros(4000)
        y = np.concatenate([silence, resample_poly(samples, 2, 3), silence])
        y = y + np.random.RandomState(0).randn(len(y)) * 1e-3  # it expects a noise floor
        y = y / max(1e-3, np.abs(y).max()) * 0.7
        self.decoder.start_utt()
        self.decoder.process_raw((y * 32767).astype(np.int16).tobytes(), False, True)
        self.decoder.end_utt()
        heard = self.decoder.hyp()
        return re.sub(r"\(\d+\)", "", heard.hypstr) if heard else ""
