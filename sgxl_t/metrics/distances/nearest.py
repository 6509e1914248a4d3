"""How near images come to those of a data set, so that a generator that copies its data shows it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sgxl_t.datasets.base import evenly_spaced

RESOLUTION = 16
"""Images are compared at this resolution, by the root mean square over pixels: a small shift is little."""
ALONE = 128
"""Training images whose own nearest neighbours say what a usual distance is."""


def reduced(images: Tensor) -> Tensor:
    """uint8 [N, 3, R, R] -> float32 [N, 3 * S * S] in [0, 1], S = RESOLUTION or less."""
    resolution = min(RESOLUTION, images.shape[-1])
    return F.adaptive_avg_pool2d(images.float() / 255, resolution).flatten(1)


def nearest(images: Tensor, known: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Distances [N, K] and places [N, K] of the `count` nearest of M reduced images [M, D] to [N, D]."""
    distances, places = _distances(images, known).topk(min(count, len(known)), largest=False)
    return distances, places


def usual_distance(known: Tensor) -> float:
    """Median distance of a training image to the nearest other one, for images [N, D]; 0 for one image."""
    if len(known) < 2:
        return 0.0
    some = torch.tensor(evenly_spaced(len(known), ALONE))
    distances = _distances(known[some], known)
    distances[torch.arange(len(some)), some] = torch.inf
    return float(distances.min(dim=1).values.median())


def _distances(some: Tensor, known: Tensor) -> Tensor:
    """Root mean square differences [N, M] of reduced images [N, D] and [M, D]."""
    exact = "donot_use_mm_for_euclid_dist"  # the other way a copy is not quite at 0
    return torch.cdist(some, known, compute_mode=exact) / some.shape[1] ** 0.5
