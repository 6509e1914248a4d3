"""Tokenizers of encoders without weights: every caption is as long as it can be, whatever its words are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

CAPTION = 77
"""Tokens of a caption, where an encoder takes any number."""


class FullCaptions:
    """In place of a tokenizer of open_clip."""

    def __init__(self, context_length: int) -> None:
        self.context_length = context_length

    def __call__(self, texts: Sequence[str], context_length: int | None = None) -> Tensor:
        """int64 [N, context_length]."""
        return torch.arange(context_length or self.context_length).repeat(len(texts), 1)


class FullHubCaptions:
    """In place of a tokenizer of the transformers library."""

    pad_token_id = -1

    def __call__(self, texts: Sequence[str], *, max_length: int, **_: Any) -> dict[str, Tensor]:
        """input_ids and attention_mask, int64 [N, L], L at most CAPTION."""
        ids = torch.arange(min(max_length, CAPTION)).repeat(len(texts), 1)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
