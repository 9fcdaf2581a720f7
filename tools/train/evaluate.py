"""What the evaluations share: the exported model, and talking to it."""
import numpy as np
import sentencepiece
import torch

import tensors
from codec import Codec
from export import MIMI, WEIGHTS
from lm import LM
from make_tokenizer import MODEL
from work import FRAME, path

UNSEEN_VARIANTS = {"m4", "f4", "Alicia", "Gene2", "Andrea"}
HARDEST = "Alicia"  # extreme formants


def variant(clip):
    return clip["voice"]["voice"].split("+")[-1]


class Talker:
    def __init__(self):
        torch.set_num_threads(2)
        self.codec, self.lm = Codec(), LM()
        self.codec.load_tensors(tensors.load(path("out/" + MIMI)))
        self.lm.load_tensors(tensors.load(path("out/" + WEIGHTS)))
        self.pieces = sentencepiece.SentencePieceProcessor(path(MODEL))

    def words(self, tokens):
        return self.pieces.decode([int(t) for t in tokens if int(t) not in (0, 3)])

    @torch.no_grad()
    def __call__(self, signals, text_temp=0.0, audio_temp=0.0, generator=None):
        """Signals of one length -> text tokens [B, T], samples [B, T * 1920]"""
        heard = self.codec.encode(torch.from_numpy(np.stack(signals))).permute(0, 2, 1)
        text, audio = self.lm.generate(heard[:, :, 1:], audio_temp, text_temp, generator)
        return text, self.codec.decode(audio.permute(0, 2, 1)).numpy()


def timeline(n_frames, pieces):
    """Silence with pieces (sample, samples) in it."""
    y = np.zeros(n_frames * FRAME, np.float32)
    for at, samples in pieces:
        y[at:at + len(samples)] += samples
    return y
