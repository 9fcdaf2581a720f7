"""A small Moshi language model: the topology and tensor names of the published one.

loss() is for training: whole dialogues at once, bfloat16, through the kernels of lm_ops.c.
generate() is for evaluation: frame by frame in float32, in the order a stream is stepped in.
"""
import math

import torch
import torch.nn.functional as F

from lm_ops import BF16, DepthAttention, Gate, RmsNorm, Rope, WindowSoftmax, angles

CONFIG = {
    "dim": 256, "text_card": 256, "existing_text_padding_id": 3, "n_q": 16, "dep_q": 8,
    "card": 256, "num_heads": 4, "num_layers": 6, "hidden_scale": 3, "causal": True,
    "layer_scale": None, "context": 100, "max_period": 10000, "gating": "silu",
    "norm": "rms_norm_f32", "positional_embedding": "rope", "depformer_dim": 128,
    "depformer_dim_feedforward": 384, "depformer_num_heads": 4, "depformer_num_layers": 2,
    "depformer_layer_scale": None, "depformer_multi_linear": True, "depformer_context": 8,
    "depformer_max_period": 10000, "depformer_gating": "silu", "depformer_pos_emb": "none",
    "depformer_weights_per_step": True,
    "delays": [0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1],
}
DIM, DEPTH_DIM = CONFIG["dim"], CONFIG["depformer_dim"]
CARD, TEXT_CARD, PAD = CONFIG["card"], CONFIG["text_card"], CONFIG["existing_text_padding_id"]
BOOKS, INPUTS = CONFIG["dep_q"], CONFIG["n_q"]
HEADS, DEPTH_HEADS = CONFIG["num_heads"], CONFIG["depformer_num_heads"]
LAYERS, DEPTH_LAYERS = range(CONFIG["num_layers"]), range(CONFIG["depformer_num_layers"])
DELAYS, CONTEXT, PERIOD = CONFIG["delays"], CONFIG["context"], CONFIG["max_period"]
HIDDEN = 2 * (CONFIG["hidden_scale"] * DIM) // 3
DEPTH_HIDDEN = 2 * CONFIG["depformer_dim_feedforward"] // 3


def _init(seed):
    torch.manual_seed(seed)
    P = {}

    def matrix(name, out, inside, gain=1.0):
        P[name] = torch.randn(out, inside) / math.sqrt(inside) * gain

    for k in range(INPUTS):
        matrix(f"emb.{k}.weight", CARD + 1, DIM)
    matrix("text_emb.weight", TEXT_CARD + 1, DIM)
    for layer in LAYERS:
        n = f"transformer.layers.{layer}."
        P[n + "norm1.alpha"], P[n + "norm2.alpha"] = torch.ones(1, 1, DIM), torch.ones(1, 1, DIM)
        matrix(n + "self_attn.in_proj_weight", 3 * DIM, DIM)
        matrix(n + "self_attn.out_proj.weight", DIM, DIM, 0.4)
        matrix(n + "gating.linear_in.weight", 2 * HIDDEN, DIM)
        matrix(n + "gating.linear_out.weight", DIM, HIDDEN, 0.4)
    P["out_norm.alpha"] = torch.ones(1, 1, DIM)
    matrix("text_linear.weight", TEXT_CARD, DIM)
    for k in range(BOOKS):
        matrix(f"depformer_in.{k}.weight", DEPTH_DIM, DIM)
        matrix(f"linears.{k}.weight", CARD, DEPTH_DIM)
    for k in range(BOOKS - 1):
        matrix(f"depformer_emb.{k}.weight", CARD + 1, DEPTH_DIM)
    matrix("depformer_text_emb.weight", TEXT_CARD + 1, DEPTH_DIM)
    for layer in DEPTH_LAYERS:
        n = f"depformer.layers.{layer}."
        for norm in ("norm1", "norm2"):
            P[f"{n}{norm}.alpha"] = torch.ones(1, 1, DEPTH_DIM)
        matrix(n + "self_attn.in_proj_weight", BOOKS * 3 * DEPTH_DIM, DEPTH_DIM)
        matrix(n + "self_attn.out_proj.weight", BOOKS * DEPTH_DIM, DEPTH_DIM, 0.6)
        for k in range(BOOKS):
            matrix(f"{n}gating.{k}.linear_in.weight", 2 * DEPTH_HIDDEN, DEPTH_DIM)
            matrix(f"{n}gating.{k}.linear_out.weight", DEPTH_DIM, DEPTH_HIDDEN, 0.6)
    for p in P.values():
        p.requires_grad_(True)
    return P


class LM:
    def __init__(self, seed=0):
        self.P = _init(seed)

    def load_tensors(self, tensors):
        for name, p in self.P.items():
            p.data.copy_(tensors[name].view(p.shape))

    def embed(self, tokens):
        """[B, 1 + INPUTS, T] -> [B, T, DIM]; -1 is zero"""
        x = 0
        for k in range(1 + INPUTS):
            table = self.P["text_emb.weight"] if k == 0 else self.P[f"emb.{k - 1}.weight"]
            e = F.embedding(tokens[:, k].clamp(min=0), table)
            x = x + e * (tokens[:, k] >= 0)[..., None]
        return x

    def _depth_input(self, W, k, temporal, token):
        name = "depformer_text_emb.weight" if k == 0 else f"depformer_emb.{k - 1}.weight"
        weight = W[f"depformer_in.{k}.weight"]
        return F.linear(temporal.to(weight.dtype), weight).float() + F.embedding(token, self.P[name])

    # ---- training ----

    def _temporal_train(self, W, x):
        P, (B, T, _) = self.P, x.shape
        for layer in LAYERS:
            n = f"transformer.layers.{layer}."
            h = RmsNorm.apply(x, P[n + "norm1.alpha"])
            q, k, v = Rope.apply(F.linear(h, W[n + "self_attn.in_proj_weight"]), HEADS, PERIOD)
            scale = 1 / math.sqrt(DIM // HEADS)
            a = WindowSoftmax.apply(q @ k.transpose(-1, -2), CONTEXT, scale) @ v
            a = a.transpose(1, 2).reshape(B, T, DIM)
            x = x + F.linear(a, W[n + "self_attn.out_proj.weight"])
            h = RmsNorm.apply(x, P[n + "norm2.alpha"])
            h = Gate.apply(F.linear(h, W[n + "gating.linear_in.weight"]))
            x = x + F.linear(h, W[n + "gating.linear_out.weight"])
        return RmsNorm.apply(x, P["out_norm.alpha"])

    def _depth_train(self, W, x):
        """[BOOKS, N, DEPTH_DIM]: codebooks first, so that every product has one set of weights"""
        P = self.P

        def each(h, weights):
            return torch.stack([F.linear(h[k], weights[k]) for k in range(BOOKS)])

        for layer in DEPTH_LAYERS:
            n = f"depformer.layers.{layer}."
            w_in = W[n + "self_attn.in_proj_weight"].view(BOOKS, 3 * DEPTH_DIM, DEPTH_DIM)
            w_out = W[n + "self_attn.out_proj.weight"].view(BOOKS, DEPTH_DIM, DEPTH_DIM)
            qkv = each(RmsNorm.apply(x, P[n + "norm1.alpha"]), w_in).transpose(0, 1)
            a = DepthAttention.apply(qkv, DEPTH_HEADS).transpose(0, 1).contiguous()
            x = x + each(a, w_out)
            h = RmsNorm.apply(x, P[n + "norm2.alpha"])
            u = Gate.apply(each(h, [W[f"{n}gating.{k}.linear_in.weight"] for k in range(BOOKS)]))
            x = x + each(u, [W[f"{n}gating.{k}.linear_out.weight"] for k in range(BOOKS)])
        return x

    @staticmethod
    def delayed(codes):
        """[B, 1 + INPUTS, T] -> inputs (initial tokens first) and targets [B, 1 + BOOKS, T]"""
        B, channels, T = codes.shape
        initial = torch.full((B, channels, 1), CARD, dtype=torch.long)
        initial[:, 0] = TEXT_CARD
        grid = torch.empty(B, channels, T, dtype=torch.long)
        for k, delay in enumerate(DELAYS):
            grid[:, k, delay:] = codes[:, k, :T - delay]
            grid[:, k, :delay] = initial[:, k]
        return torch.cat([initial, grid[:, :, :-1]], 2), grid[:, :1 + BOOKS]

    def loss(self, codes, text_weight, active, dropped=None):
        """codes [B, 1 + INPUTS, T]; text_weight [B, T]; active [B, T]: frames whose audio is
        trained; dropped: inputs that are hidden. -> weighted text loss, audio losses by codebook,
        text loss of every frame"""
        W = {n: p.to(BF16) if p.dim() == 2 else p for n, p in self.P.items()}
        inputs, targets = self.delayed(codes)
        if dropped is not None:
            inputs = torch.where(dropped, torch.full_like(inputs, -1), inputs)
        out = self._temporal_train(W, self.embed(inputs))
        B, T, _ = out.shape
        logits = F.linear(out, W["text_linear.weight"]).float().reshape(B * T, -1)
        text = F.cross_entropy(logits, targets[:, 0].reshape(-1), reduction="none")
        weight = text_weight.reshape(-1)

        chosen = active.reshape(-1).nonzero()[:, 0]
        temporal = out.reshape(B * T, DIM)[chosen]
        wanted = targets.permute(0, 2, 1).reshape(B * T, 1 + BOOKS)[chosen]
        x = torch.stack([self._depth_input(W, k, temporal, wanted[:, k]) for k in range(BOOKS)])
        y, audio = self._depth_train(W, x).to(BF16), []
        for k in range(BOOKS):
            target = wanted[:, k + 1]
            target = torch.where(target >= CARD, torch.full_like(target, -100), target)
            logits = F.linear(y[k], W[f"linears.{k}.weight"]).float()
            audio.append(F.cross_entropy(logits, target, ignore_index=-100))
        return (text * weight).sum() / weight.sum(), audio, text

    # ---- generation ----

    def _rms(self, x, name):
        return x * self.P[name][0, 0] * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-8)

    @staticmethod
    def _attend(q, cache, layer, k, v, context):
        """One new position; keys and values [B, H, positions, D] so far in `cache`."""
        if layer in cache:
            k, v = (torch.cat([old, new], 2)[:, :, -context:] for old, new in
                    zip(cache[layer], (k, v)))
        cache[layer] = k, v
        return torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1) @ v

    def _temporal_step(self, x, cache, position):
        """[B, 1, DIM] -> the same"""
        P, B, width = self.P, x.shape[0], DIM // HEADS
        cosine, sine = (t[position] for t in angles(position // 256 * 256 + 256, width, PERIOD))

        def turn(v):
            a, b = v.view(B, HEADS, 1, width // 2, 2).unbind(-1)
            return torch.stack([a * cosine - b * sine, a * sine + b * cosine], -1).flatten(-2)

        for layer in LAYERS:
            n = f"transformer.layers.{layer}."
            qkv = F.linear(self._rms(x, n + "norm1.alpha"), P[n + "self_attn.in_proj_weight"])
            q, k, v = qkv.view(B, 1, 3, HEADS, width).permute(2, 0, 3, 1, 4)
            a = self._attend(turn(q), cache, layer, turn(k), v, CONTEXT)
            x = x + F.linear(a.reshape(B, 1, DIM), P[n + "self_attn.out_proj.weight"])
            h = F.linear(self._rms(x, n + "norm2.alpha"), P[n + "gating.linear_in.weight"])
            u, g = h.chunk(2, -1)
            x = x + F.linear(F.silu(u) * g, P[n + "gating.linear_out.weight"])
        return self._rms(x, "out_norm.alpha")

    def _depth_step(self, x, k, cache):
        """[B, DEPTH_DIM] -> the same, with the weights of codebook k"""
        P, B, width = self.P, x.shape[0], DEPTH_DIM // DEPTH_HEADS
        for layer in DEPTH_LAYERS:
            n = f"depformer.layers.{layer}."
            w_in = P[n + "self_attn.in_proj_weight"].view(BOOKS, 3 * DEPTH_DIM, DEPTH_DIM)[k]
            w_out = P[n + "self_attn.out_proj.weight"].view(BOOKS, DEPTH_DIM, DEPTH_DIM)[k]
            qkv = F.linear(self._rms(x, n + "norm1.alpha"), w_in)
            q, key, v = qkv.view(B, 3, DEPTH_HEADS, 1, width).unbind(1)
            a = self._attend(q, cache, layer, key, v, BOOKS)
            x = x + F.linear(a.reshape(B, DEPTH_DIM), w_out)
            h = F.linear(self._rms(x, n + "norm2.alpha"), P[f"{n}gating.{k}.linear_in.weight"])
            u, g = h.chunk(2, -1)
            x = x + F.linear(F.silu(u) * g, P[f"{n}gating.{k}.linear_out.weight"])
        return x

    @torch.no_grad()
    def generate(self, user, audio_temp=0.0, text_temp=0.0, generator=None):
        """user [B, BOOKS, T]: codes from the second frame on (the first is never seen).
        -> text [B, T], audio [B, BOOKS, T - 1], delays taken back"""

        def choose(logits, temp):
            if temp <= 0:
                return logits.argmax(-1)
            return torch.multinomial(torch.softmax(logits / temp, -1), 1, generator=generator)[:, 0]

        B, _, T = user.shape
        text = torch.full((B, T), PAD, dtype=torch.long)
        audio = torch.zeros(B, BOOKS, T + 1, dtype=torch.long)
        cache = {}
        for t in range(T):
            tokens = torch.full((B, 1 + INPUTS, 1), CARD, dtype=torch.long)
            tokens[:, 0] = TEXT_CARD
            if t >= 1:
                tokens[:, 0, 0] = text[:, t - 1]
                tokens[:, 1, 0], tokens[:, 1 + BOOKS, 0] = audio[:, 0, t - 1], user[:, 0, t - 1]
            if t >= 2:
                tokens[:, 2:1 + BOOKS, 0] = audio[:, 1:, t - 2]
                tokens[:, 2 + BOOKS:, 0] = user[:, 1:, t - 2]
            out = self._temporal_step(self.embed(tokens), cache, t)[:, 0]
            token = choose(F.linear(out, self.P["text_linear.weight"]), text_temp)
            text[:, t] = token
            depth_cache = {}
            for k in range(BOOKS):
                h = self._depth_step(self._depth_input(self.P, k, out, token), k, depth_cache)
                token = choose(F.linear(h, self.P[f"linears.{k}.weight"]), audio_temp)
                if k == 0:
                    audio[:, 0, t] = token
                elif t >= 1:  # the acoustic codebooks lag by a frame
                    audio[:, k, t - 1] = token
        return text, audio[:, :, :T - 1]
