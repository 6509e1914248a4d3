"""How far two results may differ before their times are comparable."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LIMITS = {
    ("float32", "forward"): 1e-5,
    ("float32", "forward_backward"): 3e-3,
    ("bfloat16", "forward"): 5e-2,
    ("bfloat16", "forward_backward"): 2e-1,
}
"""Largest relative error by dtype and mode.

Gradients are compared by their Euclidean norm: rounding turns the slope of the few activations that lie at
the kink, and every layer behind adds its own (the plain form is as far from float64). Equality of gradients
proper is tested in float64.
"""


def relative_error(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Euclidean norm of the difference of all tensors over that of `expected`; inf for other shapes."""
    if [tensor.shape for tensor in found] != [tensor.shape for tensor in expected]:
        return float("inf")
    pairs = list(zip(found, expected, strict=True))
    whole = sum(_energy(theirs) for _, theirs in pairs)
    return (sum(_energy(ours - theirs) for ours, theirs in pairs) / whole) ** 0.5 if whole else float("inf")


def largest_error(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Largest difference over the largest value, of the worst tensor; inf for other shapes."""
    if [tensor.shape for tensor in found] != [tensor.shape for tensor in expected]:
        return float("inf")
    errors = [0.0]
    for ours, theirs in zip(found, expected, strict=True):
        top = float(theirs.abs().max())
        errors.append(float((ours - theirs).abs().max()) / top if top else float("inf"))
    # Of a NaN and a number, max() may return either.
    return float("nan") if any(error != error for error in errors) else max(errors)


def _energy(x: Tensor) -> float:
    return float(torch.linalg.vector_norm(x, dtype=torch.float64)) ** 2
