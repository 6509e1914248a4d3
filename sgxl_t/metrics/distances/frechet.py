"""Frechet distance between two sets of features, or between their statistics."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from sgxl_t.metrics.distances.feature_statistics import FeatureStatistics


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
    check_widths(x.shape[1], y.shape[1], "x", "y")
    if min(len(x), len(y)) < 2:
        raise ValueError(f"x has {len(x)} rows and y {len(y)}: at least 2 of each are needed")
    difference = x.mean(0) - y.mean(0)
    x = (x - x.mean(0)) / (len(x) - ddof) ** 0.5
    y = (y - y.mean(0)) / (len(y) - ddof) ** 0.5
    cross = torch.linalg.svdvals(_factor(x) @ _factor(y).T).sum()
    return float(difference.square().sum() + x.square().sum() + y.square().sum() - 2 * cross)


def frechet_from_statistics(
    real: FeatureStatistics, fake: FeatureStatistics, *, ddof: int = 1, real_root: Tensor | None = None
) -> float:
    """Frechet distance from the statistics of two feature sets [N, D], [M, D]; see `frechet_distance`.

    real_root: `covariance_root(real, ddof)`, where many sets are compared with one. With S_x = A A^T the
    product S_x S_y has the eigenvalues of A^T S_y A, which is symmetric: they come out real and in less than
    half of the time. At most min(N, M) - 1 of them differ from zero; the rest would add the square roots of
    rounding errors and is left out. Warns where either has no more rows than features.
    Raises ValueError for rows that are not finite, fewer than 2 rows and widths that differ.
    """
    check_widths(real.dim, fake.dim, "real", "fake")
    covariance_x, covariance_y = real.covariance(ddof), fake.covariance(ddof)
    root = covariance_root(real, ddof) if real_root is None else real_root.to(covariance_x)
    if root.ndim != 2 or len(root) != real.dim:
        raise ValueError(
            f"the root has shape {tuple(root.shape)} for {real.dim} features: "
            "take covariance_root of the real statistics"
        )
    if min(real.n, fake.n) <= real.dim:
        warnings.warn(
            f"{real.n} real and {fake.n} generated pictures for {real.dim} features: with fewer pictures "
            "than features a Frechet distance is far too high, compare it at equal counts only",
            stacklevel=2,
        )
    product = root.T @ covariance_y @ root
    eigenvalues = torch.linalg.eigvalsh((product + product.T) / 2)
    cross = eigenvalues[-(fake.n - 1) :].clamp(min=0).sqrt().sum()
    difference = real.mean - fake.mean
    return float(difference.square().sum() + covariance_x.trace() + covariance_y.trace() - 2 * cross)


def covariance_root(statistics: FeatureStatistics, ddof: int = 1) -> Tensor:
    """A matrix A, float64 [D, min(D, n - 1)], with A A^T equal to the covariance."""
    covariance = statistics.covariance(ddof)
    rank = min(statistics.dim, statistics.n - 1)
    if rank == statistics.dim:
        # The triangular root takes a tenth of the time of the eigenvectors; it exists for full rank only.
        root, failed = torch.linalg.cholesky_ex(covariance)
        if not failed:
            return root
    values, vectors = torch.linalg.eigh(covariance)
    return vectors[:, -rank:] * values[-rank:].clamp(min=0).sqrt()


def feature_matrix(values: Any, name: str) -> Tensor:
    """Features as a float64 matrix [N, D] on the CPU; raises ValueError when they are none or not finite."""
    values = torch.as_tensor(values).detach().cpu().double()
    if values.ndim != 2:
        raise ValueError(f"{name} has shape {tuple(values.shape)}: features must be [N, D]")
    if not torch.isfinite(values).all():
        raise ValueError(f"{name} holds values that are not finite: check the images and the extractor")
    return values


def check_widths(first: int, second: int, first_name: str = "real", second_name: str = "fake") -> None:
    """Raises ValueError when two feature sets have different widths."""
    if first != second:
        raise ValueError(
            f"{first_name} has {first} features and {second_name} {second}: take both from one extractor"
        )


def _factor(centred: Tensor) -> Tensor:
    """A matrix with at most D rows and the same Gram matrix X^T X."""
    return torch.linalg.qr(centred, mode="r").R if len(centred) > centred.shape[1] else centred
