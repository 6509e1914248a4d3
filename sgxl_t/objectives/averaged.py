"""Features of images wherever things are in them."""

from __future__ import annotations

from torch import Tensor
from torch.utils._pytree import tree_leaves


def averaged(features: object) -> list[Tensor]:
    """Nested lists of maps [N, C, ...] over their places: float32 [N, C]."""
    return [one.float().flatten(2).mean(2) for one in tree_leaves(features)]
