"""How a discriminator's scores change with the features it reads: the inner half of a gradient penalty."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sgxl_t.networks.conditioning import Conditioning

Slopes = list[list[Tensor]]
"""One tensor per feature tensor and of its shape, nested like the features."""


def logits_and_slopes(
    heads: nn.Module, features: list[list[Tensor]], cond: Conditioning | Tensor | None
) -> tuple[list[Tensor], Slopes]:
    """Logits of `heads` on features [N, ...] and d(sum of scores) / d(features), with graphs to the heads.

    The score of an image is the sum over networks of the mean of its logits, read beside the first of its
    conditions where there are several. No gradient flows back into the features. Heads call this in their
    forward, so that wrappers which hook forward see one call; needs gradients enabled.
    """
    leaves = [[x.detach().requires_grad_() for x in maps] for maps in features]
    logits: list[Tensor] = heads.forward(leaves, cond)
    count = len(leaves[0][0])
    score = torch.stack([rows[:count].mean(1).sum() for rows in logits]).sum()
    slopes = iter(torch.autograd.grad(score, [x for maps in leaves for x in maps], create_graph=True))
    return logits, [[next(slopes) for _ in maps] for maps in leaves]
