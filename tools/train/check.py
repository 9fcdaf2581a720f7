"""Is the code right? Kernels against PyTorch's own gradients, and the model of models/demo, read by
this code, against recorded tokens. Takes seconds; run it before training.

    check.py REPOSITORY
"""
import json
import math
import struct
import sys

import numpy as np
import torch
import torch.nn.functional as F
from scipy.io import wavfile

import lm_ops
import tensors
from codec import Codec, shift_add
from codec_ops import BF16, ShiftAdd
from lm import LM
from work import FRAME

TOLERANCE = 5e-3  # of bfloat16 results, relative
SAMPLE = "00_what_is_three_plus_seven_user"


def distance(a, b):
    return float((a.float() - b.float()).norm() / b.float().norm())


def as_tuple(x):
    return x if isinstance(x, tuple) else (x,)


def compare(name, fast, slow, *inputs):
    """Results and gradients of two functions."""
    a = [x.detach().clone().requires_grad_() for x in inputs]
    b = [x.detach().float().clone().requires_grad_() for x in inputs]
    y, z = as_tuple(fast(*a)), as_tuple(slow(*b))
    weights = [torch.randn_like(v) for v in z]
    sum((v.float() * w).sum() for v, w in zip(y, weights)).backward()
    sum((v * w).sum() for v, w in zip(z, weights)).backward()
    worst = max([distance(p, q) for p, q in zip(y, z)] +
                [distance(p.grad, q.grad) for p, q in zip(a, b)])
    print(f"{name}: off by {worst:.1e}")
    assert worst < TOLERANCE, name


def check_codec_ops():
    def slow(a, bias, skip=None):
        y = shift_add(a) + bias + (0 if skip is None else skip)
        return y, F.elu(y)

    for taps, channels in ((1, 16), (3, 8), (2, 64), (3, 24)):
        a, bias = torch.randn(2, 7, taps, channels).to(BF16), torch.randn(channels)
        compare(f"shift and add, {taps} taps",
                lambda a, bias: ShiftAdd.apply(a, bias, None, "both"), slow, a, bias)
    a, skip = torch.randn(2, 7, 1, 32).to(BF16), torch.randn(2, 7, 32).to(BF16)
    compare("shift and add with skip", lambda a, bias, skip: ShiftAdd.apply(a, bias, skip, "both"),
            slow, a, torch.randn(32), skip)


def check_lm_ops():
    def gate(x):
        u, v = x.chunk(2, -1)
        return F.silu(u) * v

    def rms(x, alpha):
        return x * alpha * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-8)

    def depth(qkv):
        q, k, v = qkv.view(3, 8, 3, 4, 32).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / math.sqrt(32) + torch.full((8, 8), -1e9).triu(1)
        return (torch.softmax(scores, -1) @ v).transpose(1, 2).reshape(3, 8, 128)

    def rope(qkv):
        q, k, v = qkv.view(2, 9, 3, 4, 16).permute(2, 0, 3, 1, 4)
        cosine, sine = lm_ops.angles(9, 16, 10000)

        def turn(x):
            a, b = x.reshape(2, 4, 9, 8, 2).unbind(-1)
            return torch.stack([a * cosine - b * sine, a * sine + b * cosine], -1).flatten(-2)

        return turn(q), turn(k), v

    def window(scores):
        d = torch.arange(11)[:, None] - torch.arange(11)[None]
        return torch.softmax((scores * 0.3).masked_fill((d < 0) | (d >= 5), -1e9), -1)

    compare("gate", lm_ops.Gate.apply, gate, torch.randn(3, 5, 64).to(BF16))
    compare("norm", lm_ops.RmsNorm.apply, rms, torch.randn(3, 5, 64), torch.rand(1, 1, 64) + 0.5)
    compare("depth attention", lambda x: lm_ops.DepthAttention.apply(x, 4), depth,
            torch.randn(3, 8, 384).to(BF16))
    compare("rope", lambda x: lm_ops.Rope.apply(x, 4, 10000), rope, torch.randn(2, 9, 192).to(BF16))
    compare("softmax", lambda x: lm_ops.WindowSoftmax.apply(x, 5, 0.3), window,
            (torch.randn(2, 3, 11, 11) * 2).to(BF16))


def recorded(name):
    """The I32 arrays of a recording."""
    with open(name, "rb") as file:
        data = file.read()
    size = struct.unpack("<Q", data[:8])[0]
    out = {}
    for key, entry in json.loads(data[8:8 + size]).items():
        if key != "__metadata__" and entry["dtype"] == "I32":
            begin, end = (8 + size + x for x in entry["data_offsets"])
            values = np.frombuffer(data[begin:end], np.int32).reshape(entry["shape"])
            out[key] = torch.from_numpy(values.astype(np.int64))
    return out


def check_model(repository):
    record = recorded(f"{repository}/tests/golden/demo/{SAMPLE}.inference.safetensors")
    codec, lm = Codec(), LM()
    codec.load_tensors(tensors.load(f"{repository}/models/demo/tokenizer-mimi-demo.safetensors"))
    lm.load_tensors(tensors.load(f"{repository}/models/demo/model.safetensors"))
    wave = wavfile.read(f"{repository}/samples/{SAMPLE}.wav")[1][:16 * FRAME] / np.float32(32768)
    with torch.no_grad():  # 16 frames: what both forms of the codec's context have in common
        codes = codec.encode(torch.from_numpy(wave)[None])[0].t()
    assert torch.equal(codes, record["in_codes"][:, :16]), "codes"
    text, audio = lm.generate(record["in_codes"][None])
    wanted = record["out_tokens"][:audio.shape[2]]
    assert torch.equal(text[0, :len(wanted)], wanted[:, 0]), "text"
    assert torch.equal(audio[0].t(), wanted[:, 1:]), "audio"
    print(f"models/demo: 16 frames of codes and {len(wanted)} frames of tokens are as recorded")


if __name__ == "__main__":
    torch.manual_seed(0)
    check_codec_ops()
    check_lm_ops()
    check_model(sys.argv[1] if len(sys.argv) > 1 else ".")
