"""Attention of a generator's small maps to the tokens of a caption (Kang et al. 2023, "GigaGAN")."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sgxl_t.networks.layers import FullyConnected, full_precision
from sgxl_t.networks.text.tokens import Text, TextBlend, TextTokens

HEAD_WIDTH = 64
"""Channels of one attention head, at most; fewer where a map's channels do not divide by it."""


class TextAttention(nn.Module):
    """x + scale * attention(x, tokens); scale starts at zero, so that a network without it is a valid start.

    Attends by distance instead of by dot product, whose slope has no bound (section 3.2). Plain tensor
    operations in float32, so that a path length penalty can differentiate twice: maps are small here.
    """

    def __init__(self, channels: int, token_dim: int) -> None:
        """channels: of the maps. token_dim: width of the tokens.

        The first weights have a random stream of their own, so that those of the layers around do not depend
        on whether a network attends.
        """
        super().__init__()
        self.heads = channels // math.gcd(channels, HEAD_WIDTH)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(_another_seed())
            self.query = FullyConnected(channels, channels, bias=False)
            self.key = FullyConnected(token_dim, channels, bias=False)
            self.value = FullyConnected(token_dim, channels)
            self.out = FullyConnected(channels, channels)
        self.scale = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor, tokens: Text) -> Tensor:
        """x [N, C, r, r] -> [N, C, r, r], dtype of x.

        tokens: of width token_dim. For a blend, whose `share` is that of one block [N], both captions are
        read and the two answers mixed: shares 0 and 1 read one caption alone, and between them the result
        moves evenly.
        """
        if isinstance(tokens, TextBlend):
            share = tokens.share.to(x).view(-1, 1, 1, 1)
            return self._read(x, tokens.first).lerp(self._read(x, tokens.last), share)
        return self._read(x, tokens)

    def _read(self, x: Tensor, text: TextTokens) -> Tensor:
        tokens, mask = text
        with full_precision(x.device):
            # Both at unit scale, or large maps or tokens would sharpen the attention.
            pixels = F.layer_norm(x.float().flatten(2).transpose(1, 2), x.shape[1:2])
            tokens = F.layer_norm(tokens.float(), tokens.shape[-1:])
            query, key, value = (
                self._split(y) for y in (self.query(pixels), self.key(tokens), self.value(tokens))
            )
            # -|q - k|^2 without |q|^2, which the softmax over keys does not see.
            scores = 2 * query @ key.transpose(2, 3) - key.square().sum(3).unsqueeze(2)
            scores = scores / math.sqrt(query.shape[3])
            if mask is not None:
                scores = scores.masked_fill(~mask[:, None, None, :], -math.inf)
            mixed = (scores.softmax(dim=3) @ value).transpose(1, 2).flatten(2)
            change = self.scale * self.out(mixed).transpose(1, 2).unflatten(2, x.shape[2:])
        return x + change.to(x.dtype)

    def _split(self, y: Tensor) -> Tensor:
        """[N, L, C] -> [N, heads, L, C / heads]."""
        return y.unflatten(2, (self.heads, -1)).transpose(1, 2)


def _another_seed() -> int:
    """Drawn from torch's global stream, also while networks are built without memory."""
    return int(torch.empty((), dtype=torch.int64, device="cpu").random_())
