"""Transformer blocks of the small text towers, with the names of tensors that open_clip gives them.

Written out because a picture from a small model would otherwise wait seconds for the import of open_clip.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x), as OpenAI's CLIP was trained."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x * torch.sigmoid(1.702 * x)


class SelfAttention(nn.Module):
    """Self-attention with one product for queries, keys and values (Vaswani et al. 2017, section 3.2.2)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        """x: [N, L, C]. mask: bool [N, 1, 1, L], true where a token may be looked at."""
        count, length, width = x.shape
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = qkv.view(count, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        return self.out_proj(mixed.transpose(1, 2).reshape(count, length, width))


class Block(nn.Module):
    """Attention and a network of two layers, both behind a norm and added to what came in."""

    def __init__(self, width: int, heads: int, quick_gelu: bool, deviation: float) -> None:
        """deviation: of the first weights of what is added."""
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = SelfAttention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        widen, narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        gelu = QuickGELU() if quick_gelu else nn.GELU()
        self.mlp = nn.Sequential(OrderedDict([("c_fc", widen), ("gelu", gelu), ("c_proj", narrow)]))
        nn.init.normal_(self.attn.in_proj_weight, std=width**-0.5)
        nn.init.normal_(self.attn.out_proj.weight, std=deviation)
        nn.init.normal_(widen.weight, std=(2 * width) ** -0.5)
        nn.init.normal_(narrow.weight, std=deviation)

    def forward(self, x: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        """As the attention."""
        x = x + self.attn(self.ln_1(x), mask, causal)
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """Blocks in a row, with first weights as CLIP's (Radford et al. 2021)."""

    def __init__(self, width: int, heads: int, layers: int, *, quick_gelu: bool = False) -> None:
        super().__init__()
        deviation = width**-0.5 * (2 * layers) ** -0.5
        self.resblocks = nn.ModuleList(Block(width, heads, quick_gelu, deviation) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor | None = None, *, causal: bool = False) -> Tensor:
        """x: [N, L, width]. mask: bool [N, L], true where a token counts. causal: none looks ahead."""
        seen = None if mask is None else mask[:, None, None]
        for block in self.resblocks:
            x = block(x, seen, causal)
        return x
