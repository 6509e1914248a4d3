"""CLIP's text transformer of our own, with the names of tensors and the calls of open_clip's class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgxl_t.networks.text.blocks import Transformer

_LIMITS = {"embed_dim": 4096, "context_length": 512, "vocab_size": 300_000, "width": 4096, "layers": 64}
FIRST_LOGIT_SCALE = 2.6592600
"""Logarithm of 1 / 0.07, CLIP's first inverse temperature."""


@dataclass(frozen=True, kw_only=True)
class TextTowerConfig:
    """Sizes of a CLIP text transformer; the fields are open_clip's."""

    embed_dim: int = 64
    """Width of the space shared with pictures."""
    context_length: int = 77
    """Tokens per caption."""
    vocab_size: int = 49408
    """Different tokens."""
    width: int = 64
    """Width of a token."""
    heads: int = 4
    """Attention heads."""
    layers: int = 2
    """Transformer blocks."""
    quick_gelu: bool = False
    """x sigmoid(1.702 x) instead of GELU, as OpenAI's weights were trained."""

    def __post_init__(self) -> None:
        for name, limit in _LIMITS.items():
            value = getattr(self, name)
            if not isinstance(value, int) or not 1 <= value <= limit:
                raise ValueError(f"{name}={value} of a text tower must be a whole number from 1 to {limit}")
        if not isinstance(self.heads, int) or self.heads < 1 or self.width % self.heads:
            raise ValueError(f"heads={self.heads} of a text tower must divide its width={self.width}")


class ClipNetwork(nn.Module):
    """A text tower (Radford et al. 2021, section 2.4) and an image tower beside it, or none."""

    def __init__(self, config: TextTowerConfig, visual: nn.Module | None) -> None:
        super().__init__()
        self.visual = visual
        self.transformer = Transformer(
            config.width, config.heads, config.layers, quick_gelu=config.quick_gelu
        )
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context_length, config.width))
        self.ln_final = nn.LayerNorm(config.width)
        self.text_projection = nn.Parameter(torch.empty(config.width, config.embed_dim))
        self.logit_scale = None if visual is None else nn.Parameter(torch.tensor(FIRST_LOGIT_SCALE))
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        nn.init.normal_(self.text_projection, std=config.width**-0.5)

    def encode_text(self, text: Tensor) -> Tensor:
        """Tokens int64 [N, L] to features [N, embed_dim] of any length."""
        return self._features(text, self._states(text))

    def forward_intermediates(self, *, text: Tensor, **_: Any) -> dict[str, Any]:
        """As open_clip's for the last block with its norm: `text_features` [N, embed_dim] of unit length and,
        in the list `text_intermediates`, the last states [N, L, width]."""
        states = self._states(text)
        features = F.normalize(self._features(text, states), dim=-1)
        return {"text_features": features, "text_intermediates": [states]}

    def encode_image(self, image: Tensor) -> Tensor:
        """Normalised images [N, 3, H, W] to features [N, embed_dim]."""
        assert self.visual is not None
        return self.visual(image)

    def _states(self, text: Tensor) -> Tensor:
        x = self.token_embedding(text) + self.positional_embedding[: text.shape[1]]
        return self.ln_final(self.transformer(x, causal=True))

    def _features(self, text: Tensor, states: Tensor) -> Tensor:
        """Read at the end token, whose number is the largest."""
        rows = torch.arange(len(states), device=states.device)
        return states[rows, text.argmax(dim=1)] @ self.text_projection
