"""A small Mimi: the topology and tensor names of the published codec.

Channel-last; every convolution is one matrix product and a shift-and-add. With dtype float32 it is
written with plain PyTorch operations (exact: evaluation, export); with bfloat16 it goes through the
kernels of codec_ops.c (training, encoding the clips).
"""
import math

import torch
import torch.nn.functional as F

from codec_ops import BF16, ShiftAdd

CONFIG = {
    "sample_rate": 24000, "channels": 1, "frame_rate": 12.5,
    "seanet": {"channels": 1, "dimension": 128, "causal": True, "n_filters": 16,
               "n_residual_layers": 1, "activation": "ELU", "compress": 2, "dilation_base": 2,
               "disable_norm_outer_blocks": 0, "kernel_size": 7, "residual_kernel_size": 3,
               "last_kernel_size": 3, "norm": "none", "pad_mode": "constant",
               "ratios": [8, 6, 5, 4], "true_skip": True},
    "quantizer": {"dimension": 64, "n_q": 8, "bins": 256, "input_dimension": 128,
                  "output_dimension": 128},
    "transformer": {"d_model": 128, "num_heads": 4, "num_layers": 2, "causal": True,
                    "layer_scale": 0.01, "context": 32, "conv_layout": True, "max_period": 10000,
                    "gating": "none", "norm": "layer_norm", "positional_embedding": "rope",
                    "dim_feedforward": 512, "input_dimension": 128, "output_dimensions": [128]},
}
FILTERS, WIDTH = CONFIG["seanet"]["n_filters"], CONFIG["seanet"]["dimension"]
RATIOS = CONFIG["seanet"]["ratios"]
CODEBOOKS, BINS = CONFIG["quantizer"]["n_q"], CONFIG["quantizer"]["bins"]
ENTRY = CONFIG["quantizer"]["dimension"]
# The two halves of the quantiser and their codebooks: each sees the latent for itself.
HALVES = (("rvq_first", [0]), ("rvq_rest", list(range(1, CODEBOOKS))))


def codebook(level):
    """Prefix of the names of one codebook."""
    half, index = ("rvq_first", 0) if level == 0 else ("rvq_rest", level - 1)
    return f"quantizer.{half}.vq.layers.{index}._codebook."


def shift_add(a):
    """[B, T, K, O] -> y[t] = sum over k of a[t - (K-1-k), k], zeros before the start."""
    T, K = a.shape[1:3]
    y = a[:, :, K - 1]
    for shift in range(1, K):
        y = y + F.pad(a[:, :T - shift, K - 1 - shift], (0, 0, shift, 0))
    return y


def _init(seed):
    """Parameters by their published names."""
    torch.manual_seed(seed)
    P = {}

    def conv(name, out, inside, kernel, transposed=False, bias=True):
        deviation = 1 / math.sqrt(inside * (kernel / 2 if transposed else kernel))
        shape = (inside, out, kernel) if transposed else (out, inside, kernel)
        P[name + ".weight"] = torch.randn(shape) * deviation
        if bias:
            # Not zero: silent frames would reach LayerNorm as exact zeros and gradients explode.
            P[name + ".bias"] = (torch.rand(out) * 2 - 1) * deviation * (0.5 if out > 1 else 0)

    def residual(name, channels):
        conv(f"{name}.block.1.conv.conv", channels // 2, channels, 3)
        conv(f"{name}.block.3.conv.conv", channels, channels // 2, 1)
        P[f"{name}.block.3.conv.conv.weight"] *= 0.3

    conv("encoder.model.0.conv.conv", FILTERS, 1, 7)
    channels, i = FILTERS, 1
    for ratio in reversed(RATIOS):
        residual(f"encoder.model.{i}", channels)
        conv(f"encoder.model.{i + 2}.conv.conv", 2 * channels, channels, 2 * ratio)
        channels, i = 2 * channels, i + 3
    conv(f"encoder.model.{i + 1}.conv.conv", WIDTH, channels, 3)
    conv("decoder.model.0.conv.conv", channels, WIDTH, 7)
    i = 1
    for ratio in RATIOS:
        conv(f"decoder.model.{i + 1}.convtr.convtr", channels // 2, channels, 2 * ratio, True)
        channels //= 2
        residual(f"decoder.model.{i + 2}", channels)
        i += 3
    conv(f"decoder.model.{i + 1}.conv.conv", 1, channels, 3)
    P[f"decoder.model.{i + 1}.conv.conv.weight"] *= 0.1
    conv("downsample.conv.conv.conv", WIDTH, WIDTH, 4, bias=False)
    P["upsample.convtr.convtr.convtr.weight"] = torch.full((WIDTH, 1, 4), 0.5)
    hidden = CONFIG["transformer"]["dim_feedforward"]
    for side in ("encoder", "decoder"):
        for layer in range(CONFIG["transformer"]["num_layers"]):
            n = f"{side}_transformer.transformer.layers.{layer}."
            for name, out, inside in (("self_attn.in_proj_weight", 3 * WIDTH, WIDTH),
                                      ("self_attn.out_proj.weight", WIDTH, WIDTH),
                                      ("linear1.weight", hidden, WIDTH),
                                      ("linear2.weight", WIDTH, hidden)):
                P[n + name] = torch.randn(out, inside) / math.sqrt(inside)
            for k in (1, 2):
                P[f"{n}norm{k}.weight"], P[f"{n}norm{k}.bias"] = torch.ones(WIDTH), torch.zeros(WIDTH)
                P[f"{n}layer_scale_{k}.scale"] = torch.full((WIDTH,), 0.15)
    for half, _ in HALVES:
        P[f"quantizer.{half}.input_proj.weight"] = torch.randn(ENTRY, WIDTH, 1) / math.sqrt(WIDTH)
        P[f"quantizer.{half}.output_proj.weight"] = torch.randn(WIDTH, ENTRY, 1) / math.sqrt(ENTRY)
    for p in P.values():
        p.requires_grad_(True)
    return P


class Codec:
    def __init__(self, seed=0):
        self.P = _init(seed)
        self.dtype = torch.float32
        # Codebooks: usage and sums of all levels in one flat buffer, so that two processes can add
        # up their statistics in one go.
        self.flat = torch.zeros(CODEBOOKS * BINS * (1 + ENTRY))
        self.statistics = torch.zeros_like(self.flat)
        self.latest = {}  # level -> residuals of the batch, for replacing unused entries
        self.ready = False
        self._views(self.flat, 0)[0].fill_(1)

    @staticmethod
    def _views(flat, level):
        """usage [BINS], sums [BINS, ENTRY] of one level."""
        start = level * BINS * (1 + ENTRY)
        usage = flat[start:start + BINS]
        return usage, flat[start + BINS:start + BINS * (1 + ENTRY)].view(BINS, ENTRY)

    def entries(self, level):
        usage, sums = self._views(self.flat, level)
        return sums / usage.clamp(min=1e-5)[:, None]

    # ---- convolutions, [B, T, C] ----

    def _product(self, x, w, bias, K, want, skip=None):
        """x . w -> [B, T, K, O], shift-add, and what `want` says."""
        a = F.linear(x, w.to(x.dtype))
        a = a.view(x.shape[0], x.shape[1], K, -1)
        if self.dtype == BF16:
            return ShiftAdd.apply(a, bias, skip, want)
        y = shift_add(a) + bias + (0 if skip is None else skip)
        return {"raw": y, "activated": F.elu(y), "both": (y, F.elu(y))}[want]

    def _conv(self, name, x, want, skip=None):
        w, bias = self.P[name + ".weight"], self.P[name + ".bias"]
        O, I, K = w.shape
        if I == 1:  # the first: a product over the last K samples
            windows = F.pad(x[:, :, 0], (K - 1, 0)).unfold(1, K, 1).contiguous()
            return self._product(windows, w[:, 0], bias, 1, want, skip)
        return self._product(x, w.permute(2, 0, 1).reshape(K * O, I), bias, K, want, skip)

    def _down(self, name, x, stride, want):
        """Kernel 2 * stride: over whole blocks of `stride` steps it is a convolution of two taps."""
        w, bias = self.P[name + ".weight"], self.P[name + ".bias"]
        O, I, _ = w.shape
        w = w.view(O, I, 2, stride).permute(2, 0, 3, 1).reshape(2 * O, stride * I)
        B, T, C = x.shape
        return self._product(x.reshape(B, T // stride, stride * C), w, bias, 2, want)

    def _up(self, name, x, stride, want):
        """The transposed form: every step gives a block of `stride` steps and adds to the next."""
        w, bias = self.P[name + ".weight"], self.P[name + ".bias"]
        I, O, _ = w.shape
        w = w.view(I, O, 2, stride).permute(2, 3, 1, 0).flip(0).reshape(2 * stride * O, I)
        B, T, _ = x.shape
        raw, activated = self._product(x, w, bias.repeat(stride), 2, "both")
        return raw.view(B, T * stride, O), activated.view(B, T * stride, O)

    def _residual(self, name, x, activated):
        h = self._conv(name + ".block.1.conv.conv", activated, "activated")
        return self._conv(name + ".block.3.conv.conv", h, "activated", skip=x)

    def _downsample(self, x):
        """25 -> 12.5 Hz; the only convolution whose past begins as a copy of its first input."""
        w = self.P["downsample.conv.conv.conv.weight"]
        O, I, _ = w.shape
        w = w.view(O, I, 2, 2).permute(2, 0, 3, 1).reshape(2 * O, 2 * I).to(x.dtype)
        B, T, C = x.shape
        y = shift_add(F.linear(x.reshape(B, T // 2, 2 * C), w).view(B, T // 2, 2, O))
        past = x[:, :1].expand(B, 2, C).reshape(B, 1, 2 * C)
        return torch.cat([y[:, :1] + F.linear(past, w[:O]), y[:, 1:]], 1)

    def _upsample(self, z):
        w = self.P["upsample.convtr.convtr.convtr.weight"][:, 0]  # [C, 4]
        before = F.pad(z, (0, 0, 1, 0))[:, :z.shape[1]]
        halves = [z * w[:, i] + before * w[:, i + 2] for i in (0, 1)]
        return torch.stack(halves, 2).view(z.shape[0], 2 * z.shape[1], z.shape[2])

    # ---- transformers ----

    def _transformer(self, side, x):
        t = CONFIG["transformer"]
        heads, (B, T, D) = t["num_heads"], x.shape
        width, P, x = D // heads, self.P, x.float()
        frequency = torch.exp(torch.arange(width // 2) * (-math.log(t["max_period"]) * 2 / width))
        angle = torch.arange(T, dtype=torch.float32)[:, None] * frequency
        cosine, sine = torch.cos(angle), torch.sin(angle)
        distance = torch.arange(T)[:, None] - torch.arange(T)[None]
        hidden = ~((distance >= 0) & (distance < t["context"]))
        mask = torch.zeros(T, T).masked_fill(hidden, -1e9)

        def turn(v):
            a, b = v.view(B, heads, T, width // 2, 2).unbind(-1)
            return torch.stack([a * cosine - b * sine, a * sine + b * cosine], -1).flatten(-2)

        def linear(v, name):
            return F.linear(v.to(self.dtype), P[name].to(self.dtype))

        for layer in range(t["num_layers"]):
            n = f"{side}_transformer.transformer.layers.{layer}."
            h = F.layer_norm(x, (D,), P[n + "norm1.weight"], P[n + "norm1.bias"], 1e-5)
            qkv = linear(h, n + "self_attn.in_proj_weight").float()
            q, k, v = qkv.view(B, T, 3, heads, width).permute(2, 0, 3, 1, 4)
            scores = turn(q) @ turn(k).transpose(-1, -2) / math.sqrt(width) + mask
            a = (torch.softmax(scores, -1) @ v).transpose(1, 2).reshape(B, T, D)
            x = x + P[n + "layer_scale_1.scale"] * linear(a, n + "self_attn.out_proj.weight").float()
            h = F.layer_norm(x, (D,), P[n + "norm2.weight"], P[n + "norm2.bias"], 1e-5)
            h = linear(F.gelu(linear(h, n + "linear1.weight")), n + "linear2.weight").float()
            x = x + P[n + "layer_scale_2.scale"] * h
        return x

    # ---- the two halves of the codec ----

    def encode_latent(self, samples):
        """[B, samples] -> [B, frames, WIDTH]"""
        x, e = self._conv("encoder.model.0.conv.conv", samples[:, :, None].to(self.dtype), "both")
        i = 1
        for ratio in reversed(RATIOS):
            e = self._residual(f"encoder.model.{i}", x, e)
            x, e = self._down(f"encoder.model.{i + 2}.conv.conv", e, ratio, "both")
            i += 3
        x = self._conv(f"encoder.model.{i + 1}.conv.conv", e, "raw")
        return self._downsample(self._transformer("encoder", x).to(self.dtype)).float()

    def decode_latent(self, z):
        """[B, frames, WIDTH] -> [B, samples]"""
        x = self._transformer("decoder", self._upsample(z)).to(self.dtype)
        e = self._conv("decoder.model.0.conv.conv", x, "activated")
        i = 1
        for ratio in RATIOS:
            x, e = self._up(f"decoder.model.{i + 1}.convtr.convtr", e, ratio, "both")
            e = self._residual(f"decoder.model.{i + 2}", x, e)
            i += 3
        n = f"decoder.model.{i + 1}.conv.conv"  # in float32: these are the samples
        O, I, K = self.P[n + ".weight"].shape
        w = self.P[n + ".weight"].permute(2, 0, 1).reshape(K * O, I)
        a = F.linear(e.float(), w).view(e.shape[0], e.shape[1], K, O)
        return (shift_add(a) + self.P[n + ".bias"])[:, :, 0]

    # ---- quantiser ----

    def _into(self, half, z):
        return F.linear(z, self.P[f"quantizer.{half}.input_proj.weight"][:, :, 0])

    def _out_of(self, half, x):
        return F.linear(x, self.P[f"quantizer.{half}.output_proj.weight"][:, :, 0])

    @staticmethod
    def _nearest(x, entries):
        return (entries.pow(2).sum(-1)[None] - 2 * x @ entries.t()).argmin(-1)

    def quantize(self, z, train=False):
        """[B, T, WIDTH] -> quantised latent, codes [B, T, CODEBOOKS], commitment loss, the first
        codebook's vectors. In training gradients go straight through, and statistics are kept."""
        B, T, _ = z.shape
        codes, commitment, out, first = [], 0, 0, None
        for half, levels in HALVES:
            x = self._into(half, z).reshape(B * T, ENTRY)
            residual, total = x, 0
            for level in levels:
                entries, seen = self.entries(level), residual.detach()
                code = self._nearest(seen, entries)
                codes.append(code)
                if train:
                    commitment = commitment + F.mse_loss(residual, entries[code]) / len(levels)
                    usage, sums = self._views(self.statistics, level)
                    usage.index_add_(0, code, torch.ones(len(code)))
                    sums.index_add_(0, code, seen)
                    self.latest[level] = seen
                total, residual = total + entries[code], residual - entries[code]
            x = x + (total - x).detach() if train else total
            first = x.view(B, T, ENTRY) if first is None else first
            out = out + self._out_of(half, x)
        return out.view(B, T, WIDTH), torch.stack(codes, -1).view(B, T, -1), commitment, first

    def pass_through(self, z):
        """Both projections without codebooks: how training begins. -> latent, first half's x"""
        x = {half: self._into(half, z) for half, _ in HALVES}
        return sum(self._out_of(half, x[half]) for half, _ in HALVES), x["rvq_first"]

    def begin_codebooks(self, latents, usage, rounds=15):
        """k-means on latents [N, WIDTH]; `usage`: codes per step, what the averages settle at."""
        for half, levels in HALVES:
            residual = self._into(half, latents).detach()
            for level in levels:
                entries = residual[torch.randperm(len(residual))[:BINS]].clone()
                for _ in range(rounds):
                    code = self._nearest(residual, entries)
                    count = torch.bincount(code, minlength=BINS).float()
                    sums = torch.zeros_like(entries).index_add_(0, code, residual)
                    fresh = residual[torch.randint(0, len(residual), (BINS,))]
                    entries = torch.where(count[:, None] > 0, sums / count.clamp(min=1)[:, None], fresh)
                code = self._nearest(residual, entries)
                count = torch.bincount(code, minlength=BINS).float().clamp(min=0.3)
                count *= usage / count.sum()
                u, s = self._views(self.flat, level)
                u.copy_(count), s.copy_(entries * count[:, None])
                residual = residual - entries[code]
        self.ready = True

    def follow(self, decay=0.99):
        """Moving averages of the codebooks."""
        self.flat.mul_(decay).add_(self.statistics, alpha=1 - decay)

    def replace_unused(self):
        """Entries used less than 8 % of the mean become latents of the batch. -> how many"""
        replaced = 0
        for level in range(CODEBOOKS):
            usage, sums = self._views(self.flat, level)
            mean, unused = usage.mean(), usage < 0.08 * usage.mean()
            k = int(unused.sum())
            if k:
                seen = self.latest[level]
                sums[unused] = seen[torch.randint(0, len(seen), (k,))] * mean
                usage[unused] = mean
            replaced += k
        return replaced

    # ---- outside ----

    def encode(self, samples):
        return self.quantize(self.encode_latent(samples))[1]

    def decode(self, codes):
        """[B, T, CODEBOOKS] -> [B, T * 1920]"""
        latent = 0
        for half, levels in HALVES:
            x = sum(self.entries(level)[codes[..., level]] for level in levels)
            latent = latent + self._out_of(half, x)
        return self.decode_latent(latent)

    def tensors(self):
        """By their published names."""
        out = {name: p.detach() for name, p in self.P.items()}
        for level in range(CODEBOOKS):
            usage, sums = self._views(self.flat, level)
            n = codebook(level)
            out[n + "_initialized"] = torch.full((1,), float(self.ready))
            out[n + "cluster_usage"], out[n + "embedding_sum"] = usage, sums
        return out

    def load_tensors(self, tensors):
        for name, p in self.P.items():
            p.data.copy_(tensors[name])
        for level in range(CODEBOOKS):
            usage, sums = self._views(self.flat, level)
            usage.copy_(tensors[codebook(level) + "cluster_usage"])
            sums.copy_(tensors[codebook(level) + "embedding_sum"])
        self.ready = True
