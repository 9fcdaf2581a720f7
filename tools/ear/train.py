"""Train the network of direction in app/voice.c: python3 train.py direction STEPS.

Reads train.bin and held.bin (made by dump.c), prints errors on the held-out recordings, and writes
direction.npz. Needs numpy only; rate.py trains the network of speed.
"""

import sys

import numpy as np

BANDS = 20
HIDDEN = 32
# kernel, stride, inputs, outputs
LAYERS = [(5, 2, BANDS, HIDDEN), (5, 2, HIDDEN, HIDDEN), (5, 1, HIDDEN, HIDDEN), (1, 1, HIDDEN, 1)]
BATCH = 64


def load(path):
    """[(file index, speed, [frames, BANDS])]"""
    data, at, out = np.fromfile(path, dtype=np.uint8), 0, []
    while at < len(data):
        frames, index = np.frombuffer(data, np.int32, 2, at)
        speed = round(float(np.frombuffer(data, np.float32, 1, at + 8)[0]), 2)
        at += 12
        out.append((index, speed, np.frombuffer(data, np.float32, frames * BANDS, at).reshape(frames, BANDS)))
        at += frames * BANDS * 4
    return out


def normalise(x):
    """Take off the mean of the sounding frames; also says which frames sound."""
    level = np.log(np.exp(x).sum(1))
    sounds = level > np.sort(level)[int((len(level) - 1) * 0.95)] - 30 / 4.343
    return np.clip((x - x[sounds].mean(0)) / 3, -2.5, 2.5).astype(np.float32), sounds


def augment(x, random):
    """A noise floor and missing bands, alike in both directions of time."""
    x = x.copy()
    loud = np.sort(x.max(1))[int((len(x) - 1) * 0.95)]
    if random.random() < 0.5:
        floor = loud - random.uniform(3, 11) + random.standard_normal(BANDS) * 0.7
        x = np.logaddexp(x, floor + 0.25 * random.standard_normal(x.shape)).astype(np.float32)
    if random.random() < 0.3:
        k = random.integers(13, BANDS)
        x[:, k:] = x[:, k:].min() + 0.1 * random.standard_normal(x[:, k:].shape)
    if random.random() < 0.3:
        k = random.integers(1, 4)
        x[:, :k] = x[:, :k].min() + 0.1 * random.standard_normal(x[:, :k].shape)
    return x


class Net:
    """Convolutions over time with rectifiers between them, trained by Adam (Kingma, Ba 2014)."""

    def __init__(self, seed):
        random = np.random.default_rng(seed)
        self.weights = [
            (random.standard_normal((k * i, o)) * np.sqrt(2 / (k * i))).astype(np.float32) for k, _, i, o in LAYERS
        ]
        self.weights[-1] *= 0.1
        self.biases = [np.zeros(o, np.float32) for _, _, _, o in LAYERS]
        self.first = self.zeros()
        self.second = self.zeros()
        self.steps = 0

    def zeros(self):
        return [np.zeros_like(p) for p in self.weights + self.biases]

    def forward(self, x):
        """[batch, time, BANDS] -> [batch, places, 1], and what backward() needs."""
        kept = []
        for i, (k, stride, _, outputs) in enumerate(LAYERS):
            batch, time, channels = x.shape
            places = (time - k) // stride + 1
            strides = (x.strides[0], x.strides[1] * stride, x.strides[1], x.strides[2])
            view = np.lib.stride_tricks.as_strided(x, (batch, places, k, channels), strides)
            columns = np.ascontiguousarray(view).reshape(batch * places, k * channels)
            y = (columns @ self.weights[i] + self.biases[i]).reshape(batch, places, outputs)
            if i + 1 < len(LAYERS):
                y = np.maximum(y, 0)
            kept.append((columns, x.shape, y))
            x = np.ascontiguousarray(y)
        return x, kept

    def backward(self, kept, gradient, into):
        for i in reversed(range(len(LAYERS))):
            k, stride, inputs, outputs = LAYERS[i]
            columns, shape, y = kept[i]
            if i + 1 < len(LAYERS):
                gradient = gradient * (y > 0)
            batch, places, _ = gradient.shape
            flat = gradient.reshape(batch * places, outputs)
            into[i] += columns.T @ flat
            into[len(LAYERS) + i] += flat.sum(0)
            if i == 0:
                return
            spread = (flat @ self.weights[i].T).reshape(batch, places, k, inputs)
            gradient = np.zeros(shape, np.float32)
            for j in range(k):
                gradient[:, j : j + stride * places : stride][:, :places] += spread[:, :, j]

    def step(self, gradients, rate):
        self.steps += 1
        for i, p in enumerate(self.weights + self.biases):
            g = gradients[i] + (1e-4 * p if i < len(LAYERS) else 0)
            self.first[i] = 0.9 * self.first[i] + 0.1 * g
            self.second[i] = 0.999 * self.second[i] + 0.001 * g * g
            mean, square = self.first[i] / (1 - 0.9**self.steps), self.second[i] / (1 - 0.999**self.steps)
            p -= rate * mean / (np.sqrt(square) + 1e-8)


def draw(pictures, length, share, random):
    """A piece of `length` frames of which at least `share` sound."""
    while True:
        _, speed, x = pictures[random.integers(len(pictures))]
        y, sounds = normalise(augment(x, random))
        at = random.integers(0, len(y) - length + 1)
        if sounds[at : at + length].mean() >= share:
            return y[at : at + length], speed


def turned(x):
    return np.ascontiguousarray(x[:, ::-1])


def even(value, places):
    """The gradient of a mean over all places."""
    return np.repeat(value[:, None, None] / places, places, 1).astype(np.float32)


def train_direction(net, steps, random):
    train = [d for d in load("train.bin") if d[1] in (0.84, 1, 1.19) and len(d[2]) > 110]
    held = [normalise(d[2])[0][None] for d in load("held.bin") if d[1] == 1 and len(d[2]) > 110]
    for step in range(steps):
        x = np.stack([draw(train, 100, 0.4, random)[0] for _ in range(BATCH)])
        (one, kept), (other, kept_turned) = net.forward(x), net.forward(turned(x))
        right = 1 / (1 + np.exp(-8 * (one - other).mean((1, 2))))
        gradient, into = even((right - 1) * 8 / BATCH, one.shape[1]), net.zeros()
        net.backward(kept, gradient, into)
        net.backward(kept_turned, -gradient, into)
        net.step(into, pace(step, steps))
        if step % 500 == 499 or step + 1 == steps:
            z = np.array([8 * (net.forward(y)[0] - net.forward(turned(y))[0]).mean() for y in held])
            print(f"{step + 1}: held out: {(z > 0).mean():.4f} right, {z.mean():.2f} +- {z.std():.2f}", flush=True)


def pace(step, steps):
    """Learning rate: a short rise, then half a cosine."""
    return 3e-3 * min(1, step / 100) * (0.5 * (1 + np.cos(np.pi * step / steps)) + 0.02)


def main():
    net = Net(1)
    train_direction(net, int(sys.argv[2]), np.random.default_rng(0))
    np.savez("direction.npz", *(net.weights + net.biases))


main()
