"""Layers that keep their inputs alone and are computed once more in the backward pass.

Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sgxl_t.ops import backend


def recomputed(layer: Callable[..., Tensor], *inputs: Any) -> Tensor:
    """layer(*inputs), differentiable any number of times; nothing in between waits for the backward pass.

    The layer runs again in every backward pass, under the autocast and in the forms of its first run: it must
    draw no random numbers (noise is an input) and move no averages.
    """
    if not torch.is_grad_enabled():
        return layer(*inputs)
    chosen = backend.current()

    def run(*inputs: Any) -> Tensor:
        # A GPU's backward pass has a thread of its own, which knows nothing of the blocks around this call.
        with backend.use(chosen.conv, chosen.filter, chosen.always):
            return layer(*inputs)

    result: Tensor = checkpoint(run, *inputs, use_reentrant=False, preserve_rng_state=False)
    return result
