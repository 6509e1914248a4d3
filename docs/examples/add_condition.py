"""A condition of one's own: the words of a caption, hashed, without any text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from sgxl_t.networks.conditioning import Conditioning
from torch.nn import functional as F

from sgxl_t.conditioning.build import register_condition
from sgxl_t.conditioning.condition import Condition
from sgxl_t.datasets.base import Batch, ImageSource
from sgxl_t.networks.configs import ConditionSpec
from sgxl_t.training.train import main

WIDTH = 64


class Words(Condition):
    """Captions as unit vectors [N, 64]: each word counts in the place that its hash gives it."""

    def __init__(self) -> None:
        # To the networks it is a text: float vectors of unit length.
        super().__init__(ConditionSpec(kind="text", dim=WIDTH, registered="words"))

    def resolve(self, request: Any) -> list[str]:
        """What a user asks for: one prompt or several."""
        prompts = [request] if isinstance(request, str) else list(request or [])
        if not all(isinstance(prompt, str) and prompt.split() for prompt in prompts) or not prompts:
            raise ValueError(f"{request!r} is no prompt: say what to draw in words")
        return prompts

    def label(self, condition: Any) -> str:
        """For file names and grids."""
        return str(condition)

    def from_batch(self, batch: Batch) -> list[str]:
        """The conditions of a batch of data, as `encode_frozen` takes them."""
        assert batch.captions is not None
        return batch.captions

    def encode_frozen(self, conditions: Sequence[str]) -> Conditioning:
        """What networks take: the generator `c`, the heads `target`; here the same vectors."""
        vectors = torch.zeros(len(conditions), WIDTH)
        for row, text in zip(vectors, conditions, strict=True):
            for word in text.lower().split() or [""]:
                row[crc32(word.encode()) % WIDTH] += 1
        vectors = F.normalize(vectors, dim=1).to(self.device)
        return Conditioning(c=vectors, target=vectors)


@register_condition("words")
def words(source: ImageSource | None, folder: Path | None) -> Words:
    """source: the data of a new run. folder: of a model that is loaded; nothing to read in it."""
    if source is not None:
        source.require(captions=True)
    return Words()


if __name__ == "__main__":
    main()
