"""Distances by kernels between two sets of features: KID and CMMD."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sgxl_t.metrics.distances.frechet import check_widths

_BLOCK = 2048
"""Rows and columns of the kernel matrix that exist at one time."""
_SIGMA = 10.0
"""Width of CMMD's Gaussian kernel."""
_SCALE = 1000.0
"""CMMD is reported a thousandfold."""

Kernel = Callable[[Tensor, Tensor], Tensor]


def kid(
    real: Any, fake: Any, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Kernel Inception distance (Binkowski et al. 2018): mean and standard deviation over random subsets.

    real, fake: arrays or tensors [N, D], [M, D]; computed in float64 on their device. Each subset holds
    min(subset_size, N, M) rows of either set, drawn without repetition. The standard deviation is that of
    the population. Not multiplied by 1000; slightly negative values are possible since the estimate is
    unbiased. Rows are drawn, generated ones first, as torch-fidelity draws them for the same seed.
    Raises ValueError for values that are not finite, fewer than 2 rows, widths that differ and no subsets.
    """
    real, fake = feature_sets(real, fake)
    if subsets < 1 or subset_size < 2:
        raise ValueError(
            f"{subsets} subsets of {subset_size} rows: give at least 1 subset of at least 2 rows"
        )
    size = min(subset_size, len(real), len(fake))
    # Unlike newer generators, this one draws the same numbers in every version of numpy.
    random = np.random.RandomState(seed)
    subsets_of_rows = (
        (random.choice(len(fake), size, replace=False), random.choice(len(real), size, replace=False))
        for _ in range(subsets)
    )
    return kid_of_subsets(real, fake, ((ours, theirs) for theirs, ours in subsets_of_rows))


def kid_of_subsets(real: Any, fake: Any, indices: Iterable[tuple[Any, Any]]) -> tuple[float, float]:
    """`kid` over given subsets: pairs of row numbers of real and of generated features."""
    real, fake = feature_sets(real, fake)
    values = [
        kid_full(real[torch.as_tensor(ours).long()], fake[torch.as_tensor(theirs).long()])
        for ours, theirs in indices
    ]
    return float(np.mean(values)), float(np.std(values))


def kid_full(real: Any, fake: Any) -> float:
    """Kernel Inception distance of all rows at once: no subsets, no seed and less variance than `kid`.

    real, fake: [N, D], [M, D], see `kid`. The kernel matrices, N^2 + M^2 + N M values, pass in blocks.
    """
    real, fake = feature_sets(real, fake)
    within = [
        (_kernel_sum(_cubic, rows, rows) - _diagonal_sum(rows)) / (len(rows) * (len(rows) - 1))
        for rows in (real, fake)
    ]
    return sum(within) - 2 * _kernel_sum(_cubic, real, fake) / (len(real) * len(fake))


def cmmd(real: Any, fake: Any) -> float:
    """CLIP maximum mean discrepancy (Jayasumana et al. 2024), times 1000.

    real, fake: CLIP embeddings of unit length [N, D], [M, D]. The biased estimate, diagonals included, with
    the kernel exp(-|a - b|^2 / (2 sigma^2)), sigma 10, in float64. Blocked like `kid_full`.
    Raises ValueError for rows that are not of unit length and for what `kid` refuses.
    """
    real, fake = feature_sets(real, fake)
    for rows, name in ((real, "real"), (fake, "fake")):
        lengths = torch.linalg.vector_norm(rows, dim=1)
        if (lengths - 1).abs().max() > 1e-3:
            raise ValueError(
                f"{name} holds embeddings of length {float(lengths.min()):.3g} to "
                f"{float(lengths.max()):.3g}: divide each by its length"
            )
    real_mean, fake_mean, cross = (
        _kernel_sum(_gaussian, a, b) / (len(a) * len(b))
        for a, b in ((real, real), (fake, fake), (real, fake))
    )
    return _SCALE * (real_mean + fake_mean - 2 * cross)


def feature_sets(real: Any, fake: Any) -> tuple[Tensor, Tensor]:
    """Two feature sets as tensors [N, D], [M, D], float32 or float64, on the device where they lie.

    Raises ValueError for other shapes, values that are not finite (with the count of rows), fewer than 2 rows
    and widths that differ.
    """
    sets = [_feature_set(real, "real"), _feature_set(fake, "fake")]
    check_widths(sets[0].shape[1], sets[1].shape[1])
    return sets[0], sets[1].to(sets[0].device)


def _feature_set(values: Any, name: str) -> Tensor:
    values = torch.as_tensor(values).detach()
    if values.ndim != 2:
        raise ValueError(f"{name} has shape {tuple(values.shape)}: features must be [N, D]")
    if len(values) < 2:
        raise ValueError(f"{name} holds features of {len(values)} pictures: at least 2 are needed")
    if values.device.type == "mps":  # Apple's accelerator has no float64.
        values = values.cpu()
    if values.dtype != torch.float64:
        values = values.float()
    bad = sum(int((~torch.isfinite(rows).all(dim=1)).sum()) for rows in values.split(_BLOCK))
    if bad:
        raise ValueError(
            f"{bad} of {len(values)} rows of {name} hold NaN or infinite values: "
            "check the images and the extractor"
        )
    return values


def _kernel_sum(kernel: Kernel, a: Tensor, b: Tensor) -> float:
    """Sum of the kernel over all pairs; of one set with itself only the blocks on and above the diagonal."""
    total = 0.0
    for i, rows in enumerate(a.split(_BLOCK)):
        rows = rows.double()
        for j, columns in enumerate(b.split(_BLOCK)):
            if a is b and j < i:
                continue
            value = float(kernel(rows, columns.double()).sum())
            total += 2 * value if a is b and j > i else value
    return total


def _cubic(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T).div_(a.shape[1]).add_(1).pow_(3)


def _diagonal_sum(rows: Tensor) -> float:
    squares = torch.cat([part.double().square().sum(dim=1) for part in rows.split(_BLOCK)])
    return float((squares / rows.shape[1] + 1).pow(3).sum())


def _gaussian(a: Tensor, b: Tensor) -> Tensor:
    """The kernel less 1: the ones cancel in the discrepancy, and without them no digits are lost."""
    squared = a.square().sum(dim=1)[:, None] + b.square().sum(dim=1) - 2 * (a @ b.T)
    return squared.clamp_(min=0).div_(-2 * _SIGMA**2).expm1_()
