"""What the large encoder says of many phrases, kept in a folder so that a longer list costs its new part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from sgxl_t.conditioning.caption_cache import cached_features
from sgxl_t.networks.text.text_encoder import TextEncoder

UNSEEN = "unseen_"
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


def features_of(encoder: TextEncoder, lists: Mapping[str, Sequence[str]], cache: Path) -> dict[str, Tensor]:
    """The same for lists by name; a list and what is held out of it, `unseen_NAME`, are read as one, so that
    their files are found again wherever the line between them is drawn."""
    found: dict[str, Tensor] = {}
    for name in [name for name in lists if not name.startswith(UNSEEN)]:
        parts = [name, UNSEEN + name]
        features = teacher_features(encoder, [text for part in parts for text in lists[part]], cache)
        found |= dict(zip(parts, features.split([len(lists[part]) for part in parts]), strict=True))
    return found
