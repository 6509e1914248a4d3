"""Inputs of the operations, and the comparison with the plain operators up to second gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sgxl_t.ops.resample import filters

F64 = torch.float64


def normal(*shape: int, seed: int = 0, requires_grad: bool = True) -> Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)), dtype=F64)
    return values.requires_grad_(requires_grad)


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-8 * max(theirs.abs().max().item(), 1e-3))


def assert_equal_to_second_order(
    fast: Callable[..., Tensor], plain: Callable[..., Tensor], inputs: Sequence[Tensor]
) -> None:
    """Values, first gradients, and gradients of a scalar made of the first gradients."""
    results = []
    for call in (fast, plain):
        y = call(*inputs)
        cot = normal(*y.shape, seed=5, requires_grad=True)
        first = torch.autograd.grad((y * cot).sum(), inputs, create_graph=True)
        scalar = sum(
            (g * normal(*g.shape, seed=7, requires_grad=False)).sum() + g.pow(3).sum() for g in first
        )
        second = torch.autograd.grad(scalar, [*inputs, cot], allow_unused=True, materialize_grads=True)
        results.append([y, *first, *second])
    for ours, theirs in zip(*results, strict=True):
        assert ours.shape == theirs.shape
        assert_close(ours, theirs)


UP = filters.lowpass_filter(12, 5.66, 4.7, 32)
UP4 = filters.lowpass_filter(24, 5.66, 4.7, 64)
DOWN = filters.lowpass_filter(12, 6.7, 4.3, 32)
RADIAL = filters.lowpass_filter(12, 6.7, 4.3, 32, radial=True)
SKEW = torch.tensor([0.1, -0.4, 0.8, 0.3, 0.25])

LRELU_CASES: dict[str, dict[str, Any]] = {
    "same rate": {"fu": UP, "fd": DOWN, "up": 2, "down": 2, "padding": [9, 8, 9, 8], "clamp": 256},
    "clamped": {"fu": UP, "fd": DOWN, "up": 2, "down": 2, "padding": [9, 8, 9, 8], "clamp": 0.4},
    "growing": {"fu": UP4, "fd": DOWN, "up": 4, "down": 2, "padding": [-6, -9, 2, 5], "clamp": None},
    "shrinking": {"fu": UP, "fd": UP4, "up": 2, "down": 4, "padding": [14, 17, 12, 15], "clamp": 0.8},
    "radial": {"fu": UP, "fd": RADIAL, "up": 2, "down": 2, "padding": [9, 8, 9, 8], "clamp": 0.4},
    "uneven taps": {"fu": SKEW, "fd": SKEW[:4], "up": 2, "down": 2, "padding": [3, 1, 2, 2], "clamp": None},
    "only up": {"fu": UP, "fd": None, "up": 2, "down": 1, "padding": [5, 6, 4, 7], "clamp": 0.6},
    "only down": {"fu": None, "fd": DOWN, "up": 1, "down": 2, "padding": [7, 5, 6, 8], "clamp": None},
    "to rgb": {"fu": None, "fd": None, "gain": 1.0, "slope": 1.0, "clamp": 0.5},
}
