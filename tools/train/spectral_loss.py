"""Distance of two signals by ear: log-mel and linear magnitudes in windows of four sizes."""
import math
import random

import numpy as np
import torch
import torch.nn.functional as F

from codec_ops import BF16

SIZES = ((2048, 100), (1024, 80), (512, 64), (256, 32))  # window, mel bands; hop a quarter
PAIRS = ((0, 2), (1, 3), (0, 3), (1, 2))  # which two of them a step uses


def mel_bank(window, bands, rate=24000, lowest=0.0, highest=12000.0):
    def mel(hz):
        return 2595 * np.log10(1 + hz / 700)

    f = np.linspace(0, rate / 2, window // 2 + 1)
    edges = 700 * (10 ** (np.linspace(mel(lowest), mel(highest), bands + 2) / 2595) - 1)
    bank = np.zeros((bands, len(f)))
    for i in range(bands):
        up = (f - edges[i]) / (edges[i + 1] - edges[i])
        down = (edges[i + 2] - f) / (edges[i + 2] - edges[i + 1])
        bank[i] = np.maximum(0, np.minimum(up, down))
        if bank[i].sum() == 0:  # narrower than a bin
            bank[i, np.argmin(np.abs(f - edges[i + 1]))] = 1
    return torch.tensor(bank, dtype=torch.float32)


class _Frames(torch.autograd.Function):
    """[B, L] -> [B, frames, window] bf16, hop window/4."""

    @staticmethod
    def forward(ctx, y, window):
        ctx.window, ctx.length = window, y.shape[1]
        return y.to(BF16).unfold(1, window, window // 4).contiguous()

    @staticmethod
    def backward(ctx, g):
        B, frames, _ = g.shape
        hop = ctx.window // 4
        g = g.view(B, frames, 4, hop).float()
        out = torch.zeros(B, frames + 3, hop)
        for j in range(4):
            out[:, j:j + frames] += g[:, :, j]
        out = out.view(B, -1)
        return F.pad(out, (0, ctx.length - out.shape[1])), None


class SpectralLoss:
    """The Fourier transform is a product with windowed sines: bfloat16 products are fast here."""

    def __init__(self):
        self.banks = []
        for window, bands in SIZES:
            t, f = np.arange(window), np.arange(window // 2 + 1)
            shape = np.hanning(window + 1)[:-1] * 2 / math.sqrt(window)
            angle = 2 * np.pi * f[:, None] * t[None] / window
            basis = np.concatenate([np.cos(angle) * shape, -np.sin(angle) * shape])
            self.banks.append((window, torch.tensor(basis, dtype=BF16),
                               mel_bank(window, bands).to(BF16)))

    @staticmethod
    def _magnitudes(y, window, basis):
        frames = _Frames.apply(F.pad(y, (window // 2, window // 2)), window)
        s = F.linear(frames, basis).float()
        k = window // 2 + 1
        return torch.sqrt(s[..., :k].square() + s[..., k:].square() + 1e-9)

    @staticmethod
    def _log_mel(magnitudes, bank):
        return torch.log10(F.linear(magnitudes.to(BF16), bank).float().clamp(min=1e-3))

    def __call__(self, made, wanted):
        """-> log-mel distance, linear distance"""
        log_distance, linear_distance = 0, 0
        for i in random.choice(PAIRS):
            window, basis, bank = self.banks[i]
            with torch.no_grad():
                y = self._magnitudes(wanted, window, basis)
                y_mel = self._log_mel(y, bank)
            x = self._magnitudes(made, window, basis)
            log_distance = log_distance + (self._log_mel(x, bank) - y_mel).abs().mean()
            linear_distance = linear_distance + (x - y).abs().mean() / (y.mean() + 0.02)
            if window >= 1024:  # harmonics: linear bins below 5 kHz
                k = x.shape[-1] * 5 // 12
                a, b = (torch.log10(v[..., :k].clamp(min=3e-3)) for v in (x, y))
                log_distance = log_distance + 0.5 * (a - b).abs().mean()
        return log_distance / 2, linear_distance / 2
