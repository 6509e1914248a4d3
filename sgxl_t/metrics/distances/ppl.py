"""Perceptual path length in W: how much an image changes for a small step of w (Karras et al. 2019)."""

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
from sgxl_t.ops.images import as_rgb

EPSILON = 1e-4
"""Step along the line from one style to the other, as a share of it."""

MAX_RESOLUTION = 256
"""Larger images are box-averaged by whole factors to about this size."""

Distance = Callable[[Tensor, Tensor], Tensor]
"""Two batches of images [N, 3, H, W] in [0, 255], float32, to their distances [N]; see lpips.py."""


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

    Per sample: the distance of the images of w0 and of lerp(w0, w1, 1e-4), over 1e-8, where w0 and w1
    belong to one condition and share the constant noise; then the mean without the extreme percents.
    Images are neither cropped, clamped nor quantised.
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
        images = [
            lpips_input(network.synthesis(ws, noise_mode="const", tokens=cond.tokens))
            for ws in (start, torch.lerp(start, end, EPSILON))
        ]
        return distance(*images) / EPSILON**2

    with exact(device):
        return trimmed_mean(per_sample(distances, count=count, batch_size=batch_size, name="ppl2_wend")[:, 0])


def lpips_input(images: Tensor) -> Tensor:
    """images [N, 1 or 3, R, R] in [-1, 1] -> RGB [N, 3, S, S] in [0, 255]; S: R, at most about 256."""
    factor = max(1, images.shape[-1] // MAX_RESOLUTION)
    return (as_rgb(F.avg_pool2d(images, factor)) + 1) * 127.5


def trimmed_mean(distances: Tensor) -> float:
    """Mean of values [N] without those below the 1 % and above the 99 % order statistic, in float64.

    The lower bound is the value of rank floor(0.01 (N - 1)), the upper of rank ceil(0.99 (N - 1)).
    """
    ordered = distances.double().flatten().sort().values
    cut = (len(ordered) - 1) // 100
    low, high = ordered[cut], ordered[len(ordered) - 1 - cut]
    return float(ordered[(ordered >= low) & (ordered <= high)].mean())
