"""Autograd of filtered leaky ReLUs that keep their input and compute slopes again in the backward pass."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from sgxl_t.ops.filtered_lrelu.plan import Plan
from sgxl_t.ops.resample.planes import BandPair


class Run(Protocol):
    """One way to compute: x, or v with the slopes at x, through `first`, the activation and `second`."""

    def __call__(
        self, plan: Plan, x: Tensor, b: Tensor, first: BandPair, second: BandPair, v: Tensor | None = None
    ) -> Tensor:
        """No gradients are recorded inside."""


def recomputed_lrelu(x: Tensor, b: Tensor, plan: Plan, run: Run) -> Tensor:
    """x [N, C, H, W] and bias b [C] of one dtype through the plan; differentiable any number of times.

    Only x and b are kept for the backward pass.
    """
    y: Tensor = _Activated.apply(x, b, plan, run)
    return y


class _Activated(torch.autograd.Function):
    """Up, activation, down."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, b: Tensor, plan: Plan, run: Run) -> Tensor:
        ctx.save_for_backward(x, b)
        ctx.plan, ctx.run = plan, run
        return run(plan, x, b, plan.up, plan.down)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad = _Slopes.apply(grads[0], *ctx.saved_tensors, ctx.plan, ctx.run, True)
        return grad, grad.sum((0, 2, 3)), None, None


class _Slopes(torch.autograd.Function):
    """The operator with its slopes at (x, b) instead of the activation, or its adjoint: linear in v."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, x: Tensor, b: Tensor, plan: Plan, run: Run, adjoint: bool) -> Tensor:
        ctx.save_for_backward(x, b)
        ctx.plan, ctx.run, ctx.adjoint = plan, run, adjoint
        turned = plan.transposed() if adjoint else plan
        return run(plan, x, b, turned.up, turned.down, v)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad = _Slopes.apply(grads[0], *ctx.saved_tensors, ctx.plan, ctx.run, not ctx.adjoint)
        return grad, None, None, None, None, None
