"""Training dialogues spliced together from the codes of single clips."""
import glob
import math

import numpy as np
import sentencepiece

from encode_clips import KEPT_LEAD
from lm import BOOKS, INPUTS, PAD
from make_tokenizer import MODEL
from work import FRAME, load_object, path

LENGTH = 128  # frames
GAP = 5  # frames from the end of a question to its answer
REACTION = 4  # frames from the beginning of an interruption to silence
STARTUP = 30  # frames until the codec has settled in silence
WORD_SOON = 0  # text token of the frame before a word


class Dialogues:
    def __init__(self, chance):
        self.chance = chance
        assistant = load_object("codes/assistant.pkl")
        self.silence, self.noise = assistant["silence"].astype(np.int64), assistant["noise"]
        self.answers = {a["a"]: self._with_text(a) for a in assistant["answers"]}
        self.questions = [q for name in sorted(glob.glob(path("codes/users*.pkl")))
                          for q in load_object("codes/" + name.rsplit("/", 1)[1])]
        is_sum = [any(f" {op} " in q["a"] for op in ("plus", "minus", "times"))
                  for q in self.questions]
        self.sums = [i for i, it_is in enumerate(is_sum) if it_is]
        self.chat = [i for i, it_is in enumerate(is_sum) if not it_is] or self.sums

    @staticmethod
    def _with_text(answer):
        """Frame and token of every word; no two in one frame."""
        pieces, frame, text = sentencepiece.SentencePieceProcessor(path(MODEL)), 0, []
        for i, word in enumerate(answer["a"].split()):
            if i in answer["ws"]:
                frame = max(frame, answer["ws"][i] // FRAME)
            text.append((frame, pieces.encode(word)[0]))
            frame += 1
        return dict(answer, text=text, codes=answer["codes"].astype(np.int64))

    def _background(self, db, user):
        """LENGTH frames of silence, or of noise at about `db`. A user's stream begins with the
        codec's own first codes; frame 0 is never seen by the model."""
        if db is None:
            source, settled = self.silence, 60
        else:
            source = min(self.noise, key=lambda entry: abs(entry[0] - db))[1].astype(np.int64)
            settled = 10
        rest = source[settled:]
        start = self.chance.randint(max(1, len(rest) - LENGTH))
        out = np.concatenate([rest[start:]] + [rest] * (LENGTH // len(rest) + 1))[:LENGTH].copy()
        if user:
            out[:STARTUP] = source[1:1 + STARTUP]
        return out

    def _next_question(self):
        which = self.chat if self.chance.rand() < 0.3 else self.sums or self.chat
        return self.questions[which[self.chance.randint(len(which))]]

    def one(self):
        """-> codes [1 + INPUTS, LENGTH], weights of the text, frames whose audio is trained"""
        chance, T = self.chance, LENGTH
        question = self.questions[chance.randint(len(self.questions))]
        user, own = self._background(question["db"], True), self._background(None, False)
        text, weight = np.full(T, PAD, np.int64), np.full(T, 0.3, np.float32)
        active = np.zeros(T, bool)
        t = chance.randint(1, 14) if chance.rand() < 0.9 else chance.randint(14, 60)
        while t < T - 3:
            begin = t - KEPT_LEAD
            first, last = max(0, begin), min(T, begin + len(question["codes"]))
            user[first:last] = question["codes"][first - begin:last - begin]
            answer = self.answers[question["a"]]
            start = t + math.ceil(question["end"]) + GAP
            interruption = None
            if chance.rand() < 0.12 and answer["nf"] > 14:
                interruption = start + chance.randint(5, answer["nf"] - 5)
            self._answer(own, text, weight, active, answer, start, interruption)
            if interruption is None:
                t = start + answer["nf"] + chance.randint(4, 18)
            else:
                t = interruption
            question = self._next_question()
        active |= chance.rand(T) < 0.08
        codes = np.concatenate([text[None], own.T[:BOOKS], user.T[:INPUTS - BOOKS]])
        return codes, weight, active

    @staticmethod
    def _answer(own, text, weight, active, answer, start, interruption):
        T = len(text)
        if start >= T:
            return
        silent_from = T if interruption is None else interruption + REACTION
        end = min(T, start + len(answer["codes"]), silent_from)
        if end > start:
            own[start:end] = answer["codes"][:end - start]
        active[max(0, start - 1):min(T, start + answer["nf"] + 8, silent_from + 6)] = True
        for frame, token in answer["text"]:
            at = start + frame
            if at >= silent_from:
                break
            if at < T:
                text[at], weight[at] = token, 1.0
            if 0 <= at - 1 < T and text[at - 1] == PAD:
                text[at - 1], weight[at - 1] = WORD_SOON, 1.0
        near = slice(max(0, start - 3), min(T, start + 2))
        weight[near] = np.maximum(weight[near], 0.6)
