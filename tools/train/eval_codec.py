"""How the codec sounds: STOI, log-mel distance, and sentences understood before and after.

    eval_codec.py [CLIPS]
"""
import sys

import numpy as np
import torch
from scipy.signal import resample_poly

from asr import Recogniser
from clips import Clips
from spectral_loss import mel_bank
from train_codec import trained
from work import FRAME, frames


def stoi(clean, processed):
    """Short-time objective intelligibility (Taal et al. 2011) of 24 kHz signals."""
    size, padded, segment, bands, floor_db = 256, 512, 30, 15, -15.0
    window = np.hanning(size + 2)[1:-1]

    def cut(signal):
        y = resample_poly(signal, 5, 12)  # 10 kHz
        return np.stack([y[i:i + size] * window for i in range(0, len(y) - size, size // 2)])

    x, y = cut(clean), cut(processed)
    energy = 20 * np.log10(np.linalg.norm(x, axis=1) + 1e-10)
    loud = energy > energy.max() - 40
    x, y = (np.abs(np.fft.rfft(v[loud], padded)) for v in (x, y))
    f = np.linspace(0, 5000, padded // 2 + 1)
    centre = 150 * 2 ** (np.arange(bands)[:, None] / 3)
    third = ((f >= centre * 2 ** (-1 / 6)) & (f < centre * 2 ** (1 / 6))).astype(float)
    x, y = np.sqrt(x ** 2 @ third.T), np.sqrt(y ** 2 @ third.T)
    scores = []
    for end in range(segment, len(x) + 1):
        a, b = x[end - segment:end], y[end - segment:end]
        b = b * np.linalg.norm(a, axis=0) / (np.linalg.norm(b, axis=0) + 1e-10)
        b = np.minimum(b, a * (1 + 10 ** (-floor_db / 20)))
        a, b = a - a.mean(0), b - b.mean(0)
        norm = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
        scores.append((a * b).sum(0) / (norm + 1e-10))
    return float(np.mean(scores)) if scores else float("nan")


_MEL = mel_bank(1024, 80).numpy()


def log_mel(y):
    windows = np.stack([y[i:i + 1024] * np.hanning(1024) for i in range(0, len(y) - 1024, 256)])
    return np.log10(np.maximum(np.abs(np.fft.rfft(windows)) / 16 @ _MEL.T, 1e-3))


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    codec, chance, lead = trained(), np.random.RandomState(3), 3 * FRAME
    for name, kind, key in (("assistant", "answer", "a"), ("tests", "question", "q")):
        clips, recognise = Clips(name), Recogniser(kind)
        before, after, intelligible, distance = 0, 0, [], []
        chosen = chance.permutation(len(clips.facts))[:count]
        for i in chosen:
            clip = clips.facts[i]
            y = np.zeros((frames(clip["n"]) + 8) * FRAME, np.float32)
            y[lead:lead + clip["n"]] = clips.samples(clip)
            with torch.no_grad():
                coded = codec.decode(codec.encode(torch.from_numpy(y)[None]))[0].numpy()
            before += recognise(y) == clip[key]
            after += recognise(coded) == clip[key]
            intelligible.append(stoi(y, coded))
            distance.append(np.abs(log_mel(y) - log_mel(coded)).mean())
        print(f"{name}: STOI {np.mean(intelligible):.3f}, log-mel {np.mean(distance):.3f}, "
              f"understood {before} before and {after} after, of {len(chosen)}")


if __name__ == "__main__":
    main()
