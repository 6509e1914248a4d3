"""What a network attends to: the tokens of captions, and the way from one caption's tokens to another's."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class TextTokens(NamedTuple):
    """Tokens of N captions as a text encoder gives them."""

    values: Tensor
    """[N, L, token_dim]."""
    mask: Tensor | None = None
    """Bool [N, L], true where a token counts, at least once in every row; none counts all."""


class TextBlend(NamedTuple):
    """Two captions per image; a network mixes what it reads of them."""

    first: TextTokens
    """Of the captions at share 0."""
    last: TextTokens
    """Of the captions at share 1."""
    share: Tensor
    """[N, B], 0 to 1: the weight of the last captions in each of B blocks."""


Text = TextTokens | TextBlend


def leading(ids: Tensor, counts: Tensor) -> Tensor:
    """Mask bool [N, L] of the first counts[n] tokens of ids [N, L], at least one each."""
    places = torch.arange(ids.shape[1], device=ids.device)
    return places[None, :] < counts.clamp(min=1)[:, None]
