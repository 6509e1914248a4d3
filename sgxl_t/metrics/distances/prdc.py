"""Precision, recall, density and coverage: which points lie in the neighbourhoods of the other set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sgxl_t.metrics.distances.kernels import feature_sets

NEIGHBOURS = 3
"""k of the published figures: how near a neighbour must be."""
_SAME = 1e-13
"""Squared distances below this share of the squared lengths are those of equal points, up to rounding."""
_TIE = 1 + 1e-10
"""Points at the radius itself lie inside, whatever the rounding of both distances was."""


@dataclass(frozen=True)
class PRDC:
    """Shares and ratios; `density` may exceed 1."""

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: Any, fake: Any, k: int = NEIGHBOURS, chunk: int = 2048) -> PRDC:
    """Improved precision and recall, density and coverage of generated features.

    real, fake: arrays or tensors [N, D], [M, D]. The radius of a point is the distance to its k-th nearest
    other point of its own set. precision: share of `fake` within the radius of any real point; recall: share
    of `real` within the radius of any generated point (Kynkaanniemi et al. 2019, section 2). density: real
    neighbourhoods that a generated point lies in, mean over points, over k; coverage: share of real points
    with a generated one within their radius (Naeem et al. 2020, section 3).

    Squared distances are formed in float64 from centred features, `chunk` x `chunk` at a time, on the device
    of the features; N = M = 50,000 at D = 2048 takes 1e13 multiplications. Raises ValueError unless both sets
    have more than k rows, equal widths and finite values.
    """
    real, fake = feature_sets(real, fake)
    if not 1 <= k < min(len(real), len(fake)):
        raise ValueError(
            f"k={k} needs more than k points on both sides, there are {len(real)} and {len(fake)}: "
            "lower k or give more images"
        )
    # A common shift changes no distance, and small lengths keep the digits of small distances.
    centre = real.mean(dim=0, dtype=torch.float64)
    real_parts, fake_parts = (_Parts(rows, centre, chunk) for rows in (real, fake))
    real_radii, fake_radii = _squared_radii(real_parts, k), _squared_radii(fake_parts, k)
    neighbourhoods = torch.zeros(len(fake), dtype=torch.int64, device=fake.device)
    recalled, covered = (torch.zeros(len(real), dtype=torch.bool, device=real.device) for _ in range(2))
    for i, rows in real_parts:
        for j, columns in fake_parts:
            distances = _squared_distances(rows, columns)
            inside = distances <= real_radii[i, None]
            neighbourhoods[j] += inside.sum(dim=0)
            covered[i] |= inside.any(dim=1)
            recalled[i] |= (distances <= fake_radii[j]).any(dim=1)
    return PRDC(
        precision=_share(neighbourhoods > 0),
        recall=_share(recalled),
        density=float(neighbourhoods.double().mean() / k),
        coverage=_share(covered),
    )


def precision_recall(real: Any, fake: Any, k: int = NEIGHBOURS, chunk: int = 2048) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al. 2019, section 2); arguments as for `prdc`."""
    result = prdc(real, fake, k, chunk)
    return result.precision, result.recall


class _Parts:
    """Iterates over blocks of rows: their positions and the rows less a centre, in float64."""

    def __init__(self, rows: Tensor, centre: Tensor, chunk: int) -> None:
        self.rows, self.centre, self.chunk = rows, centre, chunk

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, len(self.rows), self.chunk):
            part = slice(start, start + self.chunk)
            yield part, self.rows[part].double() - self.centre


def _squared_radii(points: _Parts, k: int) -> Tensor:
    """Squared distance of every point to its k-th nearest other point [N]; itself is the first of k + 1."""
    count = len(points.rows)
    nearest = torch.full((count, k + 1), torch.inf, dtype=torch.float64, device=points.rows.device)
    for i, rows in points:
        for j, columns in points:
            if j.start < i.start:
                continue
            distances = _squared_distances(rows, columns)
            nearest[i] = _smallest(nearest[i], distances, k)
            if j.start > i.start:
                nearest[j] = _smallest(nearest[j], distances.T, k)
    return nearest.amax(dim=1) * _TIE


def _smallest(known: Tensor, found: Tensor, k: int) -> Tensor:
    return torch.cat([known, found], dim=1).topk(k + 1, dim=1, largest=False).values


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    lengths = a.square().sum(dim=1)[:, None] + b.square().sum(dim=1)
    squared = torch.addmm(lengths, a, b.T, alpha=-2)
    return squared.masked_fill_(squared < lengths * _SAME, 0)


def _share(hits: Tensor) -> float:
    return float(hits.double().mean())
