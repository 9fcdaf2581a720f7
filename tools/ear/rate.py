"""Train the network of speed in app/voice.c: python3 rate.py rate STEPS [seed].

Reads train.bin (made by dump.c at the SPEEDS below) and writes rate.npz. Needs PyTorch, and one core
for ten minutes.
"""

import sys

import numpy as np
import torch
from torch import nn

BANDS, HIDDEN, HEAD = 20, 48, 32
# kernel, stride, dilation, inputs
LAYERS = [(5, 2, 1, BANDS), (5, 2, 1, HIDDEN), (5, 1, 1, HIDDEN), (5, 1, 2, HIDDEN)]
FIELD, PACE = 61, 4
SPEEDS = {"slow": [0.5, 0.6, 0.71, 0.71], "as it is": [0.84, 1, 1, 1.19], "fast": [1.41, 1.41, 1.68, 2]}
SHARES = {"slow": 0.3, "as it is": 0.4, "fast": 0.3}
BATCH, SHORTEST, LONGEST = 64, 70, 400
# People differ, in octaves: how fast they speak, how large they are.
TEMPO, TRACT = 0.15, 0.1
LOWEST_HZ, HIGHEST_HZ = 120, 3800


def load(path):
    """{speed: [[frames, BANDS]]} of all that are not too short."""
    data, at, out = np.memmap(path, dtype=np.uint8, mode="r"), 0, {}
    while at < len(data):
        frames = int(np.frombuffer(data, np.int32, 1, at)[0])
        speed = round(float(np.frombuffer(data, np.float32, 1, at + 8)[0]), 2)
        picture = np.frombuffer(data, np.float32, frames * BANDS, at + 12).reshape(frames, BANDS)
        at += 12 + frames * BANDS * 4
        if frames > SHORTEST + 10:
            out.setdefault(speed, []).append(picture)
    return out


def prepare(x, valid):
    """Take off the mean of the sounding frames of x [batch, time, BANDS]; also says which sound."""
    level = torch.logsumexp(x, 2).masked_fill(~valid, -1e9)
    n = valid.sum(1)
    loud = torch.sort(level, 1)[0].gather(1, (x.shape[1] - n + (n - 1) * 95 // 100)[:, None])
    sounds = (level > loud - 30 / 4.343) & valid
    weight = sounds.float()[:, :, None]
    mean = (x * weight).sum(1) / weight.sum(1).clamp(min=1)
    return ((x - mean[:, None]) / 3).clamp(-2.5, 2.5), sounds


class Net(nn.Module):
    """[batch, time, BANDS] -> odds of too fast, odds of too slow (logarithms), octaves of tempo and of
    the vocal tract."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(i, HIDDEN, k, s, dilation=d) for k, s, d, i in LAYERS)
        self.head = nn.ModuleList([nn.Linear(2 * HIDDEN, HEAD), nn.Linear(HEAD, 4)])
        self.drop = nn.Dropout(0.1)

    def forward(self, x, sounds):
        x = x.transpose(1, 2)
        for layer in self.layers:
            x = torch.relu(layer(x))
        places = x.shape[2]
        heard = 3 * sounds.float().unfold(1, FIELD, PACE)[:, :places].sum(2) >= FIELD
        weight = heard.float()[:, None]
        n = weight.sum(2).clamp(min=1)
        mean = (x * weight).sum(2) / n
        square = ((x - mean[:, :, None]) ** 2 * weight).sum(2) / n
        pooled = self.drop(torch.cat([mean, (square + 1e-3).sqrt()], 1))
        return self.head[1](torch.relu(self.head[0](pooled)))

    def save(self, path):
        """Weights as [kernel * inputs, outputs], then biases; the speed is the mean of both octaves."""
        weights = [c.weight.permute(2, 1, 0).flatten(0, 1) for c in self.layers]
        weights += [d.weight.t() for d in self.head]
        biases = [m.bias for m in [*self.layers, *self.head]]
        mean = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 0.5], [0, 0, 0.5]])
        weights[-1], biases[-1] = weights[-1] @ mean, biases[-1] @ mean
        np.savez(path, *(p.detach().numpy() for p in weights + biases))


def draw(pictures, stretch, random):
    """A piece of a recording, spoken `stretch` times as fast as it was."""
    frames = 0
    while frames < SHORTEST:
        x = pictures[random.integers(len(pictures))]
        frames = int(min(len(x) / stretch, random.integers(90, LONGEST + 1)))
    at = random.random() * max(0, len(x) - 1 - frames * stretch) + np.arange(frames) * stretch
    at = np.minimum(at, len(x) - 1.001)
    left = at.astype(int)
    part = (at - left)[:, None].astype(np.float32)
    return x[left] * (1 - part) + x[left + 1] * part


def batch_of(pictures, random):
    """Pictures, which of their frames are valid; octaves of speed, and how far tempo and tract are off."""
    x, valid = np.zeros((BATCH, LONGEST, BANDS), np.float32), np.zeros((BATCH, LONGEST), bool)
    off, octaves = random.standard_normal((2, BATCH)).clip(-2, 2) * [[TEMPO], [TRACT]], np.zeros(BATCH)
    for b in range(BATCH):
        kind = random.choice(list(SHARES), p=list(SHARES.values()))
        speed = SPEEDS[kind][random.integers(4)]
        piece = draw(pictures[speed], 2 ** off[0, b], random)
        x[b, : len(piece)], valid[b, : len(piece)], octaves[b] = piece, True, np.log2(speed)
    return torch.from_numpy(x), torch.from_numpy(valid), torch.tensor(octaves).float(), torch.tensor(off).float()


def mel(hz):
    return torch.log1p(torch.as_tensor(hz) / 700)


def warp(x, tract):
    """Move the formants by so many octaves, at the same tempo."""
    low, step = mel(LOWEST_HZ), (mel(HIGHEST_HZ) - mel(LOWEST_HZ)) / (BANDS + 1)
    hz = 700 * torch.expm1(low + step * (torch.arange(BANDS) + 1))
    at = ((mel(hz[None] * 2 ** -tract[:, None]) - low) / step - 1).clamp(0, BANDS - 1.001)
    left = at.long()
    part, left = (at - left)[:, None], left[:, None].expand(-1, x.shape[1], -1)
    return x.gather(2, left) * (1 - part) + x.gather(2, left + 1) * part


def augment(x):
    """Noise floors and missing bands."""
    loud, lowest = torch.quantile(x.amax(2), 0.9, 1), x.amin((1, 2))
    floor = (loud - torch.empty(BATCH).uniform_(3, 11))[:, None] + torch.randn(BATCH, BANDS) * 0.7
    noisy = torch.logaddexp(x, floor[:, None] + 0.25 * torch.randn_like(x))
    x = torch.where(torch.rand(BATCH, 1, 1) < 0.5, noisy, x)
    band = torch.arange(BANDS)[None]
    top = torch.where(torch.rand(BATCH) < 0.3, torch.randint(13, BANDS, (BATCH,)), BANDS)
    bottom = torch.where(torch.rand(BATCH) < 0.3, torch.randint(1, 4, (BATCH,)), 0)
    missing = (band >= top[:, None]) | (band < bottom[:, None])
    return torch.where(missing[:, None], lowest[:, None, None] + 0.1 * torch.randn_like(x), x)


def loss_of(found, octaves, off):
    """What lies between ordinary speed and 4/3 or 3/4 counts as neither."""
    odds, huber = nn.functional.binary_cross_entropy_with_logits, nn.functional.huber_loss
    fast, slow = octaves >= 0.45, octaves <= -0.45
    loss = 2 * sum(huber(found[:, 2 + i], octaves + off[i], delta=0.4) for i in range(2))
    loss += odds(found[:, 0], fast.float(), weight=(fast | (octaves < 0.1)).float())
    return loss + odds(found[:, 1], slow.float(), weight=(slow | (octaves > -0.1)).float())


def main():
    steps, seed = int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    random, pictures, net, mean = np.random.default_rng(seed), load("train.bin"), Net(), 0
    adam = torch.optim.Adam(net.parameters(), weight_decay=1e-5)
    for step in range(steps):
        for group in adam.param_groups:
            group["lr"] = 2.5e-3 * min(1, step / 100) * (0.5 * (1 + np.cos(np.pi * step / steps)) + 0.01)
        x, valid, octaves, off = batch_of(pictures, random)
        loss = loss_of(net(*prepare(augment(warp(x, off[1])), valid)), octaves, off)
        adam.zero_grad()
        loss.backward()
        adam.step()
        mean += loss.item() / 500
        if step % 500 == 499:
            print(f"{step + 1}: loss {mean:.4f}", flush=True)
            mean = 0
    net.save("rate.npz")


main()
