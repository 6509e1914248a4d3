"""What the large encoder says of many phrases, kept in a folder so that a longer list costs its new part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from sgxl_t.conditioning.caption_cache import cached_features
from sgxl_t.networks.text.text_encoder import TextEncoder

BLOCK = 4096
"""Phrases per file; what is lost where the encoding is interrupted."""


def teacher_features(encoder: TextEncoder, texts: Sequence[str], cache: Path) -> Tensor:
    """Unit vectors float32 [N, dim] of texts, in their order."""
    # Sorted by length, so that batches hold little padding, and by letters, so that files are found again.
    order = sorted(range(len(texts)), key=lambda index: (len(texts[index]), texts[index]))
    found = torch.empty(len(texts), encoder.dim)
    with tqdm(total=len(texts), desc="reading phrases", unit="phrase", delay=2, leave=False) as shown:
        for start in range(0, len(order), BLOCK):
            part = order[start : start + BLOCK]
            found[part] = cached_features(encoder, [texts[index] for index in part], cache)
            shown.update(len(part))
    return found
