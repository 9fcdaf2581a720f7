"""lm_ops.c as PyTorch functions. Activations are bfloat16, the residual stream is float32."""
import math

import torch

from kernels import load, long, pointer, real

BF16 = torch.bfloat16
_C = load("lm_ops")


class Gate(torch.autograd.Function):
    """[..., 2h] -> silu(first half) * second half"""

    @staticmethod
    def forward(ctx, x):
        x = x.contiguous()
        h = x.shape[-1] // 2
        y = torch.empty(*x.shape[:-1], h, dtype=BF16)
        _C.gate_forward(pointer(x), pointer(y), long(x.numel() // (2 * h)), h)
        ctx.save_for_backward(x)
        return y

    @staticmethod
    def backward(ctx, g):
        x, = ctx.saved_tensors
        g, g_x, h = g.contiguous(), torch.empty_like(x), x.shape[-1] // 2
        _C.gate_backward(pointer(x), pointer(g), pointer(g_x), long(x.numel() // (2 * h)), h)
        return g_x


class RmsNorm(torch.autograd.Function):
    """float32 [..., d], alpha [1, 1, d] -> bfloat16"""

    @staticmethod
    def forward(ctx, x, alpha):
        x, flat = x.contiguous(), alpha.detach().reshape(-1).contiguous()
        d = x.shape[-1]
        y, inverse = torch.empty(x.shape, dtype=BF16), torch.empty(x.numel() // d)
        _C.rms_forward(pointer(x), pointer(flat), pointer(y), pointer(inverse),
                       long(x.numel() // d), d)
        ctx.save_for_backward(x, flat, inverse)
        ctx.shape = alpha.shape
        return y

    @staticmethod
    def backward(ctx, g):
        x, alpha, inverse = ctx.saved_tensors
        d, g = x.shape[-1], g.contiguous()
        g_x, g_alpha = torch.empty_like(x), torch.empty(d)
        _C.rms_backward(pointer(x), pointer(alpha), pointer(g), pointer(inverse), pointer(g_x),
                        pointer(g_alpha), long(x.numel() // d), d)
        return g_x, g_alpha.view(ctx.shape)


class DepthAttention(torch.autograd.Function):
    """qkv [N, 8, 3 * D] -> [N, 8, D], causal; heads are 32 wide"""

    @staticmethod
    def forward(ctx, qkv, heads):
        qkv = qkv.contiguous()
        N, steps, width = qkv.shape
        y = torch.empty(N, steps, width // 3, dtype=BF16)
        p = torch.empty(N, heads, steps, steps)
        _C.depth_attend_forward(pointer(qkv), pointer(y), pointer(p), long(N), heads)
        ctx.save_for_backward(qkv, p)
        ctx.heads = heads
        return y

    @staticmethod
    def backward(ctx, g):
        qkv, p = ctx.saved_tensors
        g, g_qkv = g.contiguous(), torch.empty_like(qkv)
        _C.depth_attend_backward(pointer(qkv), pointer(p), pointer(g), pointer(g_qkv),
                                 long(qkv.shape[0]), ctx.heads)
        return g_qkv, None


_angles = {}


def angles(T, D, period):
    """cos and sin [T, D/2], kept."""
    key = (T, D, period)
    if key not in _angles:
        frequency = torch.exp(torch.arange(D // 2) * (-math.log(period) * 2 / D))
        angle = torch.arange(T).float()[:, None] * frequency
        _angles[key] = torch.cos(angle).contiguous(), torch.sin(angle).contiguous()
    return _angles[key]


class Rope(torch.autograd.Function):
    """qkv [B, T, 3 * H * D] -> q, k, v [B, H, T, D]; q and k turned"""

    @staticmethod
    def forward(ctx, qkv, heads, period):
        qkv = qkv.contiguous()
        B, T, width = qkv.shape
        D = width // 3 // heads
        y = torch.empty(3, B, heads, T, D, dtype=BF16)
        cosine, sine = angles(T, D, period)
        _C.rope_forward(pointer(qkv), pointer(y), pointer(cosine), pointer(sine), B, T, heads, D)
        ctx.sizes = B, T, heads, D, period
        return y[0], y[1], y[2]

    @staticmethod
    def backward(ctx, g_q, g_k, g_v):
        B, T, heads, D, period = ctx.sizes
        g_q, g_k, g_v = g_q.contiguous(), g_k.contiguous(), g_v.contiguous()
        g = torch.empty(B, T, 3 * heads * D, dtype=BF16)
        cosine, sine = angles(T, D, period)
        _C.rope_backward(pointer(g_q), pointer(g_k), pointer(g_v), pointer(g), pointer(cosine),
                         pointer(sine), B, T, heads, D)
        return g, None, None


class WindowSoftmax(torch.autograd.Function):
    """scores [..., T, T] -> weights over the `context` latest positions"""

    @staticmethod
    def forward(ctx, scores, context, scale):
        scores = scores.contiguous()
        T = scores.shape[-1]
        p = torch.empty_like(scores)
        _C.softmax_forward(pointer(scores), pointer(p), long(scores.numel() // (T * T)), T, context,
                           real(scale))
        ctx.save_for_backward(p)
        ctx.scale = scale
        return p

    @staticmethod
    def backward(ctx, g):
        p, = ctx.saved_tensors
        T, g, g_scores = p.shape[-1], g.contiguous(), torch.empty_like(p)
        _C.softmax_backward(pointer(p), pointer(g), pointer(g_scores), long(p.numel() // (T * T)), T,
                            real(ctx.scale))
        return g_scores, None, None
