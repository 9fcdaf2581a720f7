"""Step 5: train the language model. Arguments: see schedule.py."""
import math
import random
import time

import numpy as np
import torch

from codec import HALVES, WIDTH
from codec_ops import FlatAdam
from dialogues import LENGTH, WORD_SOON, Dialogues
from lm import BOOKS, CARD, DEPTH_DIM, DIM, INPUTS, LM, PAD
from schedule import Schedule
from train_codec import trained
from work import path

BATCH = 8


def start_from_codec(lm):
    """Audio embeddings begin as random projections of the codec's quantised latents, so that codes
    that sound alike begin alike. The projection is shared by all codebooks of a voice."""

    def projection(seed, width):
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(WIDTH, width, generator=generator) / math.sqrt(WIDTH)

    codec, size = trained(), None
    with torch.no_grad():
        for half, levels in HALVES:
            for k in levels:
                out = codec.P[f"quantizer.{half}.output_proj.weight"][:, :, 0]
                latent = codec.entries(k) @ out.t()
                size = latent.norm(dim=-1).mean() if size is None else size
                latent = latent / size
                for first, scale in ((0, 0.5), (BOOKS, 0.8)):  # own voice, user's voice
                    table = latent @ projection(5 + first, DIM) * scale
                    lm.P[f"emb.{first + k}.weight"][:CARD] = table + torch.randn(CARD, DIM) * 0.02
                if k < BOOKS - 1:
                    table = latent @ projection(77, DEPTH_DIM) * 0.7
                    noise = torch.randn(CARD, DEPTH_DIM) * 0.03
                    lm.P[f"depformer_emb.{k}.weight"][:CARD] = table + noise


def hidden_inputs(chance):
    """Half of the batches hide inputs: the user's codebooks above a random one, single frames of
    the own voice. -> [BATCH, 1 + INPUTS, LENGTH] or None"""
    if chance.rand() >= 0.5:
        return None
    hidden = torch.zeros(BATCH, 1 + INPUTS, LENGTH, dtype=torch.bool)
    for row in hidden:
        if chance.rand() < 0.25:
            row[chance.randint(2 + BOOKS, 1 + INPUTS):] = True
        if chance.rand() < 0.5:
            row[1:1 + BOOKS] = torch.from_numpy(chance.rand(LENGTH) < 0.08)[None]
    return hidden


def main():
    run = Schedule("lm", 29512, peak=1.2e-3, warm_up=200, floor=0.02)
    chance = np.random.RandomState(int(time.time()) % 100000 + run.rank * 7919)
    random.seed(chance.randint(1 << 30))
    dialogues = Dialogues(chance)
    lm = LM()
    start_from_codec(lm)
    adam = FlatAdam(lm.P, betas=(0.9, 0.98),
                    decay=lambda name: 0.0 if "alpha" in name or "emb" in name else 0.05)
    run.same_everywhere(adam.p)
    state = run.resume()
    if state:
        adam.restore(state["adam"])
    weights = [3 / 10] + [1 / 10] * (BOOKS - 1)  # the first codebook says what is said

    while not run.done():
        batch = zip(*(dialogues.one() for _ in range(BATCH)))
        codes, text_weight, active = (torch.from_numpy(np.stack(x)) for x in batch)
        text, audio, text_by_frame = lm.loss(codes, text_weight, active, hidden_inputs(chance))
        loss = text + 0.5 * sum(w * a for w, a in zip(weights, audio))
        loss.backward()
        run.add_up(adam.g)
        norm = adam.step(run.rate(), clip=1.0)
        run.step += 1
        words = (codes[:, 0] != PAD) & (codes[:, 0] != WORD_SOON)
        run.report(text=text, words=text_by_frame.view(BATCH, LENGTH)[words].mean(),
                   first_book=audio[0], last_book=audio[-1], norm=norm)
        if run.step % 500 == 0 or run.done():
            run.save(adam=adam.state(), lm={name: p.detach() for name, p in lm.P.items()})


def trained_lm():
    state = torch.load(path("checkpoints/lm.pt"))
    lm = LM()
    lm.load_tensors(state["lm"])
    return lm


if __name__ == "__main__":
    main()
