"""Step 3: train the codec. Arguments: see schedule.py."""
import os
import random
import time
from collections import Counter

import numpy as np
import torch
import torch.nn.functional as F

from clips import Clips
from codec import BF16, ENTRY, WIDTH, Codec
from codec_ops import FlatAdam
from schedule import Schedule
from spectral_loss import SpectralLoss
from work import FRAME, load_object, path, save_object

FRAMES = 20  # of a crop: 1.6 s
BATCH = 2
LABELS = 4  # phonemes per frame
BEFORE_CODES = 400  # steps without quantisation
SILENCE = "_"


def decibel(db):
    return 10 ** (db / 20)


class Phonemes:
    """espeak's phonemes as classes: 0 is silence, rare ones fall to one that begins alike."""

    def __init__(self, clips):
        name = "clips/phonemes.pkl"
        if not os.path.exists(path(name)):
            counts = Counter(p for clip in clips for _, p in clip["ph"] if not p.startswith(SILENCE))
            save_object(name, [SILENCE] + sorted(p for p, n in counts.items() if n >= 200))
        self.names = load_object(name)
        self._index = {name: i for i, name in enumerate(self.names)}

    def index(self, name):
        if name.startswith(SILENCE):
            return 0
        if name in self._index:
            return self._index[name]
        return next((i for i, other in enumerate(self.names) if other[0] == name[0]), 0)


class Crops:
    """Random crops: what the codec hears, what it should give, the phonemes in it."""

    def __init__(self, chance):
        self.chance = chance
        self.sets = Clips("assistant"), Clips("users")
        every = self.sets[0].facts + self.sets[1].facts
        self.phonemes = Phonemes(every)
        for clip in every:
            clip["starts"] = np.array([at for at, _ in clip["ph"]])
            clip["labels"] = np.array([self.phonemes.index(p) for _, p in clip["ph"]])

    def _noise(self, lowest, highest):
        level = decibel(self.chance.uniform(lowest, highest))
        return (self.chance.randn(FRAMES * FRAME) * level).astype(np.float32)

    def one(self):
        chance, length = self.chance, FRAMES * FRAME
        assistant = chance.rand() < 0.45
        clips = self.sets[0] if assistant else self.sets[1]
        clip = clips.facts[chance.randint(len(clips.facts))]
        samples = clips.samples(clip)
        if assistant and chance.rand() < 0.85:  # on a frame boundary, as it will be spoken
            offset = FRAME * chance.randint(-(len(samples) // FRAME), FRAMES - 4)
        else:
            offset = chance.randint(-int(len(samples) * 0.8), length - 4 * FRAME)
        wanted = np.zeros(length, np.float32)
        begin, at = max(0, -offset), max(0, offset)
        n = min(len(samples) - begin, length - at)
        wanted[at:at + n] = samples[begin:begin + n]

        moments = np.arange(FRAMES * LABELS) * (FRAME // LABELS) - offset
        i = np.searchsorted(clip["starts"], moments, side="right") - 1
        inside = (i >= 0) & (moments < len(samples))
        labels = np.where(inside, clip["labels"][np.clip(i, 0, None)], 0)

        heard = wanted
        if assistant:
            if chance.rand() < 0.3:
                heard = wanted + self._noise(-75, -50)
        else:
            wanted = np.clip(wanted * decibel(chance.uniform(-12, 3)), -1, 1).astype(np.float32)
            heard = wanted + self._noise(-75, -42) if chance.rand() < 0.6 else wanted
        return heard, wanted, labels

    def batch(self):
        return [torch.from_numpy(np.stack(x)) for x in zip(*(self.one() for _ in range(BATCH)))]


def main():
    run = Schedule("codec", 29511, peak=1.5e-3, warm_up=150, floor=0.03)
    if run.rank > 0:
        time.sleep(3)  # the first process writes the list of phonemes
    seed = int(time.time()) % 100000 + run.rank * 7919
    random.seed(seed)
    crops = Crops(np.random.RandomState(seed))
    classes = len(crops.phonemes.names)

    codec = Codec()
    codec.dtype = BF16
    # Linear readers of the phonemes, from the first codebook and from the latent. Not exported.
    readers = {"code": (torch.randn(LABELS * classes, ENTRY) * 0.05).requires_grad_(),
               "latent": (torch.randn(LABELS * classes, WIDTH) * 0.05).requires_grad_()}
    adam = FlatAdam({**codec.P, **{"reader." + k: p for k, p in readers.items()}})
    state = run.resume()
    if state:
        adam.restore(state["adam"])
        codec.flat.copy_(state["codebooks"])
        codec.ready = state["ready"]
    spectral, latents = SpectralLoss(), []

    while not run.done():
        heard, wanted, labels = crops.batch()
        codec.statistics.zero_()
        z = codec.encode_latent(heard)
        if codec.ready:
            quantised, _, commitment, first = codec.quantize(z, train=True)
        else:
            quantised, first = codec.pass_through(z)
            commitment = 0.01 * z.square().mean()
            latents = (latents + [z.detach().reshape(-1, WIDTH)])[-120:]
        log_mel, linear = spectral(codec.decode_latent(quantised), wanted)
        phonemes = [F.cross_entropy(F.linear(x, readers[name]).view(-1, classes), labels.reshape(-1))
                    for name, x in (("code", first), ("latent", z))]
        loss = 3 * log_mel + linear + 0.4 * phonemes[0] + 0.15 * phonemes[1] + 0.25 * commitment
        loss.backward()
        run.add_up(adam.g, codec.statistics)
        norm = adam.step(run.rate(), clip=3.0)
        run.step += 1

        if codec.ready:
            codec.follow()
            if run.step % 25 == 0:
                if run.rank == 0:
                    codec.replace_unused()
                run.same_everywhere(codec.flat)
        elif run.step >= BEFORE_CODES:
            codec.begin_codebooks(torch.cat(latents), usage=float(BATCH * run.world * FRAMES))
            run.same_everywhere(codec.flat)
        run.report(loss=loss, log_mel=log_mel, linear=linear, phonemes=phonemes[0],
                   commitment=commitment, norm=norm)
        if run.step % 500 == 0 or run.done():
            run.save(adam=adam.state(), codebooks=codec.flat, ready=codec.ready,
                     codec={name: p.detach() for name, p in codec.P.items()})


def trained():
    """The codec of the latest checkpoint."""
    state = torch.load(path("checkpoints/codec.pt"))
    codec = Codec()
    for name, p in codec.P.items():
        p.data.copy_(state["codec"][name])
    codec.flat.copy_(state["codebooks"])
    codec.ready = state["ready"]
    return codec


if __name__ == "__main__":
    main()
