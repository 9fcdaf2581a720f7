"""codec_ops.c as PyTorch functions, and an Adam whose parameters are one flat buffer."""
import math

import torch

from kernels import load, long, pointer, real

BF16 = torch.bfloat16
_C = load("codec_ops")


class ShiftAdd(torch.autograd.Function):
    """a [B, T, K, O] bf16, bias [O], skip [B, T, O] or None -> y, elu(y) or both, as `want` says:
    "raw", "activated", "both"."""

    @staticmethod
    def forward(ctx, a, bias, skip, want):
        B, T, K, O = a.shape
        a, bias = a.contiguous(), bias.float().contiguous()
        skip = skip.contiguous() if skip is not None else None
        raw = torch.empty(B, T, O, dtype=BF16) if want != "activated" else None
        activated = torch.empty(B, T, O, dtype=BF16) if want != "raw" else None
        _C.shift_add_forward(pointer(a), pointer(bias), pointer(skip), pointer(raw),
                             pointer(activated), B, T, K, O)
        ctx.sizes, ctx.want, ctx.has_skip = (B, T, K, O), want, skip is not None
        ctx.save_for_backward(*([activated] if activated is not None else []))
        return {"raw": raw, "activated": activated, "both": (raw, activated)}[want]

    @staticmethod
    def backward(ctx, *gradients):
        B, T, K, O = ctx.sizes
        gradients = [g.contiguous() if g is not None else None for g in gradients]
        g_raw = gradients[0] if ctx.want != "activated" else None
        g_activated = gradients[-1] if ctx.want != "raw" else None
        activated = ctx.saved_tensors[0] if ctx.want != "raw" else None
        g_a, g_bias = torch.empty(B, T, K, O, dtype=BF16), torch.empty(O)
        _C.shift_add_backward(pointer(g_raw), pointer(g_activated), pointer(activated),
                              pointer(g_a), pointer(g_bias), B, T, K, O)
        # The skip takes part in y as the last tap does; only convolutions of one tap have one.
        return g_a, g_bias, g_a.view(B, T, O) if ctx.has_skip else None, None


class FlatAdam:
    """AdamW. Turns every parameter and its gradient into views of flat buffers."""

    def __init__(self, parameters, betas=(0.9, 0.99), decay=lambda name: 0.0, epsilon=1e-8):
        total = sum(p.numel() for p in parameters.values())
        self.p, self.g = torch.empty(total), torch.zeros(total)
        self.m, self.v, self.decay = torch.zeros(total), torch.zeros(total), torch.zeros(total)
        start = 0
        for name, p in parameters.items():
            part = slice(start, start + p.numel())
            self.p[part] = p.data.reshape(-1)
            p.data = self.p[part].view(p.shape)
            p.grad = self.g[part].view(p.shape)
            self.decay[part] = decay(name)
            start = part.stop
        self.betas, self.epsilon, self.steps = betas, epsilon, 0

    def step(self, rate, clip):
        """Returns the norm of the gradient; a step with an infinite one is left out."""
        self.steps += 1
        norm = float(self.g.norm())
        if math.isfinite(norm):
            b1, b2 = self.betas
            _C.adamw(pointer(self.p), pointer(self.g), pointer(self.m), pointer(self.v),
                     long(self.p.numel()), real(rate), real(b1), real(b2),
                     real(1 / (1 - b1 ** self.steps)), real(1 / (1 - b2 ** self.steps)),
                     real(self.epsilon), pointer(self.decay), real(min(1.0, clip / (norm + 1e-9))))
        self.g.zero_()
        return norm

    def state(self):
        return dict(p=self.p, m=self.m, v=self.v, steps=self.steps)

    def restore(self, state):
        for name in ("p", "m", "v"):
            getattr(self, name).copy_(state[name])
        self.steps = state["steps"]
