"""K-means by Lloyd's algorithm with careful seeding (Arthur & Vassilvitskii 2007), in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

CHUNK_NUMBERS = 2**26
"""Distances held at a time: 256 MiB of float32."""


@dataclass(frozen=True)
class Clusters:
    """centres float32 [K, D] on the CPU; mean_square, the mean squared distance to the nearest centre."""

    centres: Tensor
    mean_square: float
    iterations: int


@torch.no_grad()
def kmeans(
    points: Tensor,
    count: int,
    *,
    seed: int,
    iterations: int = 100,
    tolerance: float = 1e-5,
    progress: bool = False,
) -> Clusters:
    """`count` centres of points [N, D], float32; the same centres for the same points and seed.

    Distances are taken where the points lie; sums are float64 on the CPU, so that their order never changes.
    It ends when no point changes its centre, when the mean squared distance falls by less than the share
    `tolerance`, or after `iterations`. A centre that loses all its points moves to the point that is farthest
    from its own. Raises ValueError for fewer points than centres.
    """
    if not 1 <= count <= len(points):
        raise ValueError(
            f"{count} centres of {len(points)} points are not possible: ask for 1 to {len(points)} centres"
        )
    centres = _spread(points, count, seed, progress)
    nearest, squares = assign(points, centres)
    done = 0
    for done in tqdm(  # noqa: B007
        range(1, iterations + 1), desc="moving centres", delay=2, leave=False, disable=not progress
    ):
        centres = _means(points, nearest, squares, count)
        before, old = float(squares.double().sum()), nearest
        nearest, squares = assign(points, centres)
        after = float(squares.double().sum())
        if torch.equal(nearest, old) or before - after < tolerance * before:
            break
    return Clusters(centres.cpu(), float(squares.double().mean()), done)


def assign(points: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Index int64 [N] of the nearest centre of each point, and the squared distance [N] to it."""
    nearest, squares = [], []
    lengths = centres.square().sum(dim=1)
    for part in points.split(max(1, CHUNK_NUMBERS // len(centres))):
        index = torch.addmm(lengths, part, centres.T, alpha=-2).argmin(dim=1)
        nearest.append(index)
        # From the difference itself: the expanded square loses its digits where a centre is close.
        squares.append((part - centres[index]).square().sum(dim=1))
    return torch.cat(nearest), torch.cat(squares)


def _spread(points: Tensor, count: int, seed: int, progress: bool) -> Tensor:
    """First centres: points drawn in proportion to their squared distance from those drawn before."""
    rng = torch.Generator().manual_seed(seed)
    draws = torch.rand(count, generator=rng, dtype=torch.float64).tolist()
    chosen = [min(int(draws[0] * len(points)), len(points) - 1)]
    squares = (points - points[chosen[0]]).square().sum(dim=1)
    for draw in tqdm(draws[1:], desc="choosing centres", delay=2, leave=False, disable=not progress):
        sums = squares.double().cumsum(dim=0)
        position = torch.searchsorted(sums, draw * sums[-1:], right=True)
        chosen.append(min(int(position), len(points) - 1))
        squares = torch.minimum(squares, (points - points[chosen[-1]]).square().sum(dim=1))
    return points[chosen].clone()


def _means(points: Tensor, nearest: Tensor, squares: Tensor, count: int) -> Tensor:
    index = nearest.cpu()
    sums = torch.zeros(count, points.shape[1], dtype=torch.float64)
    for part, where in zip(points.split(65_536), index.split(65_536), strict=True):
        sums.index_add_(0, where, part.cpu().double())
    sizes = torch.bincount(index, minlength=count)
    means = (sums / sizes.clamp(min=1)[:, None]).to(points)
    empty = (sizes == 0).nonzero().flatten().to(points.device)
    means[empty] = points[squares.topk(len(empty)).indices]
    return means
