"""Frechet distance between two sets of features."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def frechet_distance(x: Any, y: Any, *, ddof: int = 1) -> float:
    """Frechet distance of the normal distributions fitted to two feature sets (Heusel et al. 2017).

    x, y: arrays or tensors [N, D] and [M, D], finite, N and M at least 2. Returns
    |mu_x - mu_y|^2 + tr S_x + tr S_y - 2 tr (S_x S_y)^(1/2), at least 0 up to rounding, in float64.
    ddof: 1 divides covariances by N - 1 (the usual tools), 0 by N (the StyleGAN line's own code).

    With centred features X, Y the last trace is the sum of singular values of X Y^T over
    sqrt((N - ddof) (M - ddof)). They are taken from triangular factors of X and Y, at most D wide, so the
    result stays exact where covariances are singular (N < D) and no matrix square root is needed.
    Raises ValueError for other shapes and for values that are not finite.
    """
    x, y = feature_matrix(x, "x"), feature_matrix(y, "y")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"x has {x.shape[1]} features and y {y.shape[1]}: take both from one extractor")
    if min(len(x), len(y)) < 2:
        raise ValueError(f"x has {len(x)} rows and y {len(y)}: at least 2 of each are needed")
    difference = x.mean(0) - y.mean(0)
    x = (x - x.mean(0)) / (len(x) - ddof) ** 0.5
    y = (y - y.mean(0)) / (len(y) - ddof) ** 0.5
    cross = torch.linalg.svdvals(_factor(x) @ _factor(y).T).sum()
    return float(difference.square().sum() + x.square().sum() + y.square().sum() - 2 * cross)


def feature_matrix(values: Any, name: str) -> Tensor:
    """Features as a float64 matrix [N, D] on the CPU; raises ValueError when they are none or not finite."""
    values = torch.as_tensor(values).detach().cpu().double()
    if values.ndim != 2:
        raise ValueError(f"{name} has shape {tuple(values.shape)}: features must be [N, D]")
    if not torch.isfinite(values).all():
        raise ValueError(f"{name} holds values that are not finite: check the images and the extractor")
    return values


def _factor(centred: Tensor) -> Tensor:
    """A matrix with at most D rows and the same Gram matrix X^T X."""
    return torch.linalg.qr(centred, mode="r").R if len(centred) > centred.shape[1] else centred
