"""Alias-free leaky ReLU: up-sampling, leaky ReLU, down-sampling."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sgxl_t.ops.backend import filter_backend
from sgxl_t.ops.bias_act import bias_act
from sgxl_t.ops.filtered_lrelu.plan import LreluSpec, Plan
from sgxl_t.ops.resample.planes import band_planes, split
from sgxl_t.ops.resample.resample import band_pair, upfirdn2d


def filtered_lrelu(
    x: Tensor,
    fu: Tensor | None = None,
    fd: Tensor | None = None,
    b: Tensor | None = None,
    spec: LreluSpec = LreluSpec(),  # noqa: B008 (frozen)
) -> Tensor:
    """Leaky ReLU at a higher sampling rate: x [N, C, H, W] to [N, C, H', W'], dtype of x.

    In order: add b [C]; up-sample by `up` with filter fu (gain up^2) and `padding`; leaky ReLU with `slope`,
    times `gain`, clamped; down-sample by `down` with filter fd. Filters: [K] applied along both axes, [Kh,
    Kw] or None, constants without gradient. H' = (H * up + top + bottom - (Ku - 1) - (Kd - 1) + down - 1)
    // down. Differentiable any number of times in x and b. ValueError for a bias that does not fit or
    filters larger than the padded image. (Karras et al. 2021, "Alias-Free Generative Adversarial Networks",
    section 3.2.)
    """
    if b is not None and (x.ndim != 4 or b.shape != x.shape[1:2]):
        raise ValueError(f"bias {tuple(b.shape)} does not fit x {tuple(x.shape)}: give [C] for [N, C, H, W]")
    up, down, gain, slope, clamp = spec.up, spec.down, spec.gain, spec.slope, spec.clamp
    first = band_pair(x.shape, fu, up=up, padding=spec.padding, gain=up**2)
    if first is not None and not first.identity:
        size = first.vertical.axis.out_size, first.horizontal.axis.out_size
        second = band_pair((*x.shape[:2], *size), fd, down=down)
        if second is not None:
            first = first._replace(vertical=first.vertical.scaled(gain))
            plan = Plan(first, second, slope, clamp, split(x, first.largest_plane))
            return _planned(x, x.new_zeros(x.shape[1]) if b is None else b.to(x.dtype), plan)
    x = upfirdn2d(bias_act(x, b), fu, up=up, padding=spec.padding, gain=up**2)
    x = bias_act(x, act="linear" if slope == 1 else "lrelu", alpha=slope, gain=gain, clamp=clamp)
    return upfirdn2d(x, fd, down=down)


def _planned(x: Tensor, b: Tensor, plan: Plan) -> Tensor:
    """The plan on the backend chosen for x, or with band products where that backend cannot run.

    The other backends are imported when they are first wanted: they load compilers.
    """
    backend = filter_backend(x)
    if backend == "compiled":
        from sgxl_t.ops.filtered_lrelu import compiled

        if compiled.available(x.device):
            return compiled.compiled_lrelu(x, b, plan)
    if backend == "triton":
        if find_spec("triton") is not None:
            from sgxl_t.ops.filtered_lrelu import triton_kernels as kernels

            if kernels.available(x):
                return kernels.triton_lrelu(x, b, plan)
        warnings.warn(
            f"filter=triton cannot run on {x.dtype} on {x.device.type}: band filters are used instead; it "
            "needs the package triton, a GPU and at most float32",
            stacklevel=3,
        )
    y: Tensor = _FilteredLrelu.apply(x, b, plan)
    return y


class _FilteredLrelu(torch.autograd.Function):
    """Keeps one byte per upsampled sample for the backward pass: on which side of the kink it lies.

    The byte is the sign of the sample, doubled where the clamp cut it. Bytes, because conversions between
    them and floats are several times faster on a CPU than the same with booleans.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, b: Tensor, plan: Plan) -> Tensor:
        sides: list[Tensor] = []
        if any(ctx.needs_input_grad) and not _reaches_clamp(x, b, plan):
            plan = plan._replace(clamp=None)

        def activate(z: Tensor, spare: Tensor, number: int) -> None:
            if any(ctx.needs_input_grad):
                sides.append(torch.sign(z, out=spare).to(torch.int8))
            F.leaky_relu(z, plan.slope, inplace=True)
            if plan.clamp is not None:
                if sides:
                    sides[-1] *= 1 + (z.abs() > plan.clamp).to(torch.int8)
                z.clamp_(-plan.clamp, plan.clamp)

        y = band_planes(x, plan.chunks, plan.up, activate, plan.down, b)
        ctx.plan = plan
        ctx.save_for_backward(*sides)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        grad = _Slopes.apply(grads[0], ctx.plan.transposed(), *ctx.saved_tensors)
        return grad, grad.sum((0, 2, 3)), None


def _reaches_clamp(x: Tensor, b: Tensor, plan: Plan) -> bool:
    """False only where it is known without waiting for a device that the clamp cuts nothing."""
    if plan.clamp is None or not x.numel():
        return False
    if x.device.type != "cpu":
        return True
    low, high = torch.aminmax(x)
    largest = max(-float(low), float(high)) + float(b.abs().max())
    largest *= plan.up.vertical.norm * plan.up.horizontal.norm * max(abs(plan.slope), 1)
    return not largest < plan.clamp


class _Slopes(torch.autograd.Function):
    """The activation replaced by its slopes: linear, and its gradient is the same operator transposed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: Plan, *sides: Tensor) -> Tensor:
        def scale(z: Tensor, spare: Tensor, number: int) -> None:
            side = spare.copy_(sides[number])
            torch.ops.aten.leaky_relu_backward.grad_input(z, side, plan.slope, False, grad_input=z)
            if plan.clamp is not None:
                torch.ops.aten.hardtanh_backward.grad_input(z, side, -1.5, 1.5, grad_input=z)

        ctx.plan = plan
        ctx.save_for_backward(*sides)
        return band_planes(x, plan.chunks, plan.up, scale, plan.down)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        sides = ctx.saved_tensors
        return _Slopes.apply(grads[0], ctx.plan.transposed(), *sides), None, *[None] * len(sides)
