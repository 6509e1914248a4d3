"""Captions replaced by an empty text, for a share of the pictures."""

from __future__ import annotations

import random
from dataclasses import replace

from sgxl_t.datasets.base import Batch


def drop_captions(batch: Batch, share: float, key: str) -> Batch:
    """The batch with about `share` of its captions empty; which ones is a function of `key`."""
    if batch.captions is None or share == 0:
        return batch
    draws = random.Random(f"captions/{key}")
    return replace(batch, captions=["" if draws.random() < share else text for text in batch.captions])
