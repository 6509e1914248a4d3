"""Improved precision and recall."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sgxl_t.metrics.frechet import feature_matrix


def precision_recall(real: Any, fake: Any, k: int = 3, chunk: int = 2048) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al. 2019, section 2).

    real, fake: arrays or tensors [N, D], [M, D]. The radius of a point is the distance to its k-th nearest
    other point of its own set. Precision: share of `fake` within the radius of any real point; recall: share
    of `real` within the radius of any fake point. Distances in float64, `chunk` rows at a time.
    Raises ValueError unless both sets have more than k rows and equal widths.
    """
    real, fake = feature_matrix(real, "real"), feature_matrix(fake, "fake")
    if real.shape[1] != fake.shape[1]:
        raise ValueError(
            f"real has {real.shape[1]} features and fake {fake.shape[1]}: take both from one extractor"
        )
    if not 1 <= k < min(len(real), len(fake)):
        raise ValueError(
            f"k={k} needs more than k points on both sides, there are {len(real)} and {len(fake)}: "
            "lower k or give more images"
        )
    return _covered(fake, real, _radii(real, k, chunk), chunk), _covered(
        real, fake, _radii(fake, k, chunk), chunk
    )


def _radii(points: Tensor, k: int, chunk: int) -> Tensor:
    """Distance of every point to its k-th nearest other point [N]; the point itself is the first of k + 1."""
    return torch.cat([_distances(rows, points).kthvalue(k + 1, dim=1).values for rows in points.split(chunk)])


def _covered(probes: Tensor, points: Tensor, radii: Tensor, chunk: int) -> float:
    """Share of probes that lie within the radius of at least one point."""
    hits = [(_distances(rows, points) <= radii).any(dim=1) for rows in probes.split(chunk)]
    return float(torch.cat(hits).double().mean())


def _distances(a: Tensor, b: Tensor) -> Tensor:
    # The product form |a|^2 + |b|^2 - 2ab loses small distances.
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
