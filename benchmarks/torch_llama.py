"""The same Llama in eager PyTorch, as lean as possible: fused attention and norms, no output classes, no cache."""

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, hidden: int, intermediate: int, heads: int, kv_heads: int):
        super().__init__()
        self.grouped, self.size = heads != kv_heads, hidden // heads
        for name, out in (("q_proj", heads), ("k_proj", kv_heads), ("v_proj", kv_heads), ("o_proj", heads)):
            setattr(self, name, nn.Linear(hidden, out * self.size, bias=False))
        self.gate_proj = nn.Linear(hidden, intermediate, bias=False)
        self.up_proj = nn.Linear(hidden, intermediate, bias=False)
        self.down_proj = nn.Linear(intermediate, hidden, bias=False)
        self.norm1 = nn.RMSNorm(hidden, eps=1e-6)
        self.norm2 = nn.RMSNorm(hidden, eps=1e-6)

    def forward(self, x, cos, sin):
        batch, length, hidden = x.shape
        split = lambda t: t.view(batch, length, -1, self.size).transpose(1, 2)  # noqa: E731
        h = self.norm1(x)
        q, k, v = (
            rotate(split(self.q_proj(h)), cos, sin),
            rotate(split(self.k_proj(h)), cos, sin),
            split(self.v_proj(h)),
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.grouped)
        y = y.transpose(1, 2).reshape(batch, length, hidden)
        x = x + self.o_proj(y)
        h = self.norm2(x)
        return x + self.down_proj(F.silu(self.gate_proj(h)) * self.up_proj(h))


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


class TorchLlama(nn.Module):
    def __init__(
        self, vocab: int, hidden: int, intermediate: int, layers: int, heads: int, length: int, kv_heads: int = 0
    ):
        super().__init__()
        self.embed_tokens = nn.Embedding(vocab, hidden)
        self.layers = nn.ModuleList([Block(hidden, intermediate, heads, kv_heads or heads) for _ in range(layers)])
        self.norm = nn.RMSNorm(hidden, eps=1e-6)
        self.lm_head = nn.Linear(hidden, vocab, bias=False)
        self.lm_head.weight = self.embed_tokens.weight
        size = hidden // heads
        angles = torch.outer(torch.arange(length), 1 / 10000 ** (torch.arange(0, size, 2) / size)).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, input_ids):
        x = self.embed_tokens(input_ids)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin)
        logits = self.lm_head(self.norm(x))
        return F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), input_ids[:, 1:].reshape(-1))
