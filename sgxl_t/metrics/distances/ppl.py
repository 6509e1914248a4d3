"""Perceptual path length in W: how far a picture moves for a small step of the style (Karras et al. 2019)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgxl_t.metrics.sampling_rng import (
    ConditionOf,
    condition_of,
    device_of,
    exact,
    per_sample,
    sample_latents,
)

EPSILON = 1e-4
"""Step along the line from one style to the other, as a share of it."""

MAX_SIDE = 256
"""Larger pictures are box-averaged by whole factors to about this side."""

Distance = Callable[[Tensor, Tensor], Tensor]
"""Two batches of pictures [N, 3, H, W] in [0, 255], float32, to their distances [N]; see lpips.py."""


def ppl(
    generator: nn.Module,
    distance: Distance,
    count: int = 50_000,
    *,
    conditions: ConditionOf | None = None,
    seed: int = 0,
    batch_size: int = 16,
) -> float:
    """Perceptual path length `ppl2_wend`, lower is smoother (Karras et al. 2019, section 4.1).

    Per sample: the distance of the pictures of w0 and of lerp(w0, w1, 1e-4), over 1e-8, where w0 and w1
    belong to one condition and share the constant noise; then the mean without the extreme percents.
    Pictures are neither cropped, clamped nor quantised.
    distance: `load_lpips(...)`, on the generator's device. conditions: of the samples, for a conditional
    generator, with tokens for one that attends to them. The latents of sample i depend on seed + i alone.
    """
    device = device_of(generator)
    network = cast(Any, generator)

    def distances(indices: list[int]) -> Tensor:
        cond = condition_of(conditions, indices, device)
        start, end = (
            network.mapping(sample_latents(seed, indices, network.z_dim, purpose).to(device), cond.c)
            for purpose in ("z", "other end")
        )
        pictures = [
            judged(network.synthesis(ws, noise_mode="const", tokens=cond.tokens))
            for ws in (start, torch.lerp(start, end, EPSILON))
        ]
        return distance(*pictures) / EPSILON**2

    with exact(device):
        return trimmed_mean(per_sample(distances, count=count, batch_size=batch_size, name="ppl2_wend")[:, 0])


def judged(images: Tensor) -> Tensor:
    """Pictures [N, C, R, R] in [-1, 1] as the distance takes them: [0, 255], RGB, at most about 256 px."""
    factor = images.shape[-1] // MAX_SIDE
    if factor > 1:
        images = F.avg_pool2d(images, factor)
    if images.shape[1] == 1:
        images = images.repeat(1, 3, 1, 1)
    return (images + 1) * 127.5


def trimmed_mean(distances: Tensor) -> float:
    """Mean of values [N] without those below the 1 % and above the 99 % order statistic, in float64.

    The lower bound is the value of rank floor(0.01 (N - 1)), the upper of rank ceil(0.99 (N - 1)).
    """
    ordered = distances.double().flatten().sort().values
    cut = (len(ordered) - 1) // 100
    low, high = ordered[cut], ordered[len(ordered) - 1 - cut]
    return float(ordered[(ordered >= low) & (ordered <= high)].mean())
