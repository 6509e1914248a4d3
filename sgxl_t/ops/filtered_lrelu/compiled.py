"""Filtered leaky ReLU as sums of shifted slices under `torch.compile`.

Up-sampling computes every phase as a sum of shifted copies of the image, down-sampling is a sum of strided
slices; the compiler turns both into loops without intermediate copies (C++ on a CPU, Triton on a GPU). The
taps are inputs of the compiled program, so one program serves all layers of the same shape. Compiling takes
some seconds per shape, forward and backward each.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sgxl_t.ops.filtered_lrelu.plan import Plan
from sgxl_t.ops.filtered_lrelu.recomputed import recomputed_lrelu
from sgxl_t.ops.resample.band import AxisMap
from sgxl_t.ops.resample.planes import BandPair, Chunk

# Bytes of a chunk on the fine grid. Measured at 38 pixels and 1024 channels against band filters: 1.55 times
# as fast, with 1 MiB 1.2 times, with 2 or 4 MiB 1.3 times, all channels at once 0.8 times.
_CPU_BYTES = 1 << 19
_CPU_VECTOR = 16

_Axes = tuple[AxisMap, AxisMap]
_Run = Callable[..., Tensor]


def compiled_lrelu(x: Tensor, b: Tensor, plan: Plan) -> Tensor:
    """x [N, C, H, W] and bias b [C] of one dtype through the plan; differentiable any number of times.

    Only x and b are kept for the backward pass, which computes the slopes again.
    """
    return recomputed_lrelu(x, b, plan, _run)


class _Program(NamedTuple):
    """Everything that a compiled program is made for; the tensors follow as arguments.

    axis: of columns in the tensors, after that of rows (1 for channels-last images, else 2). enlarge: maps of
    x to the fine grid. first, second: maps of the input that is filtered to the fine grid and from it.
    """

    axis: int
    enlarge: _Axes
    first: _Axes
    second: _Axes
    slope: float
    clamp: float | None
    slopes: bool
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


def _run(
    plan: Plan, x: Tensor, b: Tensor, first: BandPair, second: BandPair, v: Tensor | None = None
) -> Tensor:
    """x, or v with the slopes at x, through `first`, the activation and `second`; no gradients recorded.

    On a CPU images are worked on channels-last, so that the innermost loop runs over channels.
    """
    source = x if v is None else v
    nhwc = source.is_contiguous(memory_format=torch.channels_last) and not source.is_contiguous()
    last = nhwc or x.device.type == "cpu"
    size = second.vertical.axis.out_size, second.horizontal.axis.out_size
    layout = torch.channels_last if nhwc else torch.contiguous_format
    y = torch.empty((*x.shape[:2], *size), dtype=x.dtype, device=x.device, memory_format=layout)
    taps = [*_taps(plan.up, x), *_taps(first, x), *_taps(second, x)]
    for chunk in _chunks(x, first.largest_plane):
        images = [image[chunk] for image in (x, v) if image is not None]
        if last:
            images = [image.permute(0, 2, 3, 1) for image in images]
        images = [image.contiguous() for image in images]
        program = _Program(
            1 if last else 2,
            _axes(plan.up),
            _axes(first),
            _axes(second),
            plan.slope,
            plan.clamp,
            v is not None,
            tuple(images[0].shape),
            x.dtype,
            x.device,
        )
        z = _compiled(program)(images, b.detach()[chunk.channels], taps)
        y[chunk] = z.permute(0, 3, 1, 2) if last else z
    return y


def _chunks(x: Tensor, largest_plane: int) -> list[Chunk]:
    """On a CPU, channels of one sample that fit into the second-level cache; elsewhere all of x.

    All chunks have one width, so one program serves any number of samples and channels: the last one reaches
    back into the one before where the width does not divide the channels.
    """
    samples, channels = x.shape[:2]
    if x.device.type != "cpu":
        return [Chunk(slice(0, samples), slice(0, channels))]
    planes = _CPU_BYTES // (largest_plane * x.element_size())
    width = min(max(planes // _CPU_VECTOR, 1) * _CPU_VECTOR, channels)
    starts = [min(start, channels - width) for start in range(0, channels, width)]
    return [Chunk(slice(n, n + 1), slice(c, c + width)) for n in range(samples) for c in starts]


def _axes(pair: BandPair) -> _Axes:
    """Geometry of both maps."""
    return pair.vertical.axis, pair.horizontal.axis


def _taps(pair: BandPair, like: Tensor) -> list[Tensor]:
    """Taps of both maps in the order of a correlation, gains included."""
    return [band.correlated(like.dtype, like.device) for band in pair]


_programs: dict[_Program, _Run] = {}
_works: dict[str, bool] = {}
_lock = threading.RLock()


def _compiled(program: _Program) -> _Run:
    """The compiled program, made at the first call for its shape.

    Each gets a code object of its own: the compiler counts programs per code object and refuses the ninth.
    """
    with _lock:
        if program not in _programs:
            run = _program_of(program)
            name = f"filtered_lrelu_{len(_programs)}"
            own = FunctionType(
                run.__code__.replace(co_name=name), run.__globals__, name, None, run.__closure__
            )
            _programs[program] = torch.compile(own, dynamic=False, fullgraph=True)
        return _programs[program]


def _program_of(program: _Program) -> FunctionType:
    """The program as Python code."""
    p = program
    axis, slope, clamp = p.axis, p.slope, p.clamp
    # Rounding every map in between to half precision would double the error and save no time.
    work = torch.promote_types(p.dtype, torch.float32)

    def run(images: list[Tensor], b: Tensor, taps: list[Tensor]) -> Tensor:
        images = [image.to(work) for image in images]
        x = images[0] + (b if axis == 1 else b[:, None, None])
        z = _both(x, p.enlarge, taps[0:2], axis)
        y = F.leaky_relu(z, slope)
        if p.slopes:
            v = _both(images[1], p.first, taps[2:4], axis)
            v = torch.where(z > 0, v, v * slope)
            v = v if clamp is None else torch.where(y.abs() > clamp, 0.0, v)
        else:
            v = y if clamp is None else y.clamp(-clamp, clamp)
        return _both(v, p.second, taps[4:6], axis).to(p.dtype)

    assert isinstance(run, FunctionType)
    return run


def _both(x: Tensor, axes: _Axes, taps: Sequence[Tensor], axis: int) -> Tensor:
    """Both maps of x; taps of rows and of columns."""
    for geometry, values, dim in zip(axes, taps, (axis, axis + 1), strict=True):
        x = _enlarged(x, geometry, values, dim) if geometry.up > 1 else _reduced(x, geometry, values, dim)
    return x


def _padded(x: Tensor, low: int, high: int, dim: int) -> Tensor:
    """x with zeros at both ends of `dim`."""
    edges = [0, 0] * (x.ndim - 1 - dim) + [max(low, 0), max(high, 0)]
    return F.pad(x, edges) if max(low, high) > 0 else x


def _enlarged(x: Tensor, axis: AxisMap, taps: Tensor, dim: int) -> Tensor:
    """Up-sampling: sample up * i + p of the result uses the taps of phase p only."""
    up, count = axis.up, -(-axis.out_size // axis.up)
    first_taps = [(axis.before - phase) % up for phase in range(up)]
    starts = [(phase + tap - axis.before) // up for phase, tap in enumerate(first_taps)]
    low = max(-min(starts), 0)
    reach = max(start + (axis.taps - 1 - tap) // up for start, tap in zip(starts, first_taps, strict=True))
    x = _padded(x, low, reach + count - axis.size, dim)
    phases = [
        _total(
            [
                x.narrow(dim, low + start + step, count) * taps[tap]
                for step, tap in enumerate(range(first_tap, axis.taps, up))
            ]
        )
        for start, first_tap in zip(starts, first_taps, strict=True)
    ]
    return torch.stack(phases, dim + 1).flatten(dim, dim + 1).narrow(dim, 0, axis.out_size)


def _reduced(x: Tensor, axis: AxisMap, taps: Tensor, dim: int) -> Tensor:
    """Down-sampling: a sum of slices with stride `down`."""
    span = (axis.out_size - 1) * axis.down + 1
    x = _padded(x, axis.before, span + axis.taps - 1 - axis.before - axis.size, dim)
    low = max(-axis.before, 0)
    every = (slice(None),) * dim + (slice(None, None, axis.down),)
    return _total([x.narrow(dim, low + tap, span)[every] * taps[tap] for tap in range(axis.taps)])


def _total(terms: list[Tensor]) -> Tensor:
    """Sum from left to right; `sum` would begin with an integer."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def available(device: torch.device) -> bool:
    """Whether programs can be compiled for a kind of device; warns once where they cannot."""
    with _lock:
        if device.type not in _works:
            _works[device.type] = _probe(device)
        return _works[device.type]


def _probe(device: torch.device) -> bool:
    """Compiles a very small program."""
    try:
        torch.compile(_next, dynamic=False)(torch.zeros(8, device=device))
    except Exception as error:
        warnings.warn(
            f"filter=compiled finds no working compiler for {device.type} ({type(error).__name__}): band "
            "filters are used instead; install a C++ compiler for CPUs or Triton for GPUs to change that",
            stacklevel=2,
        )
        return False
    return True


def _next(x: Tensor) -> Tensor:
    return x + 1
