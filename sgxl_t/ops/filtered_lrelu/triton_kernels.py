"""Filtered leaky ReLU as two Triton kernels: up-sampling with bias and activation, then down-sampling.

Both are one idea: a tile of the result is a small band matrix times a tile of the image times a small band
matrix, and all tiles share the matrices up to the place where their taps begin. The activations on the fine
grid are written once; the backward pass computes the slopes again from the input.

Importing this file needs the package triton. Kernels run on GPUs, and on CPUs where Triton's interpreter is
switched on (TRITON_INTERPRET=1 before the first import of triton).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from sgxl_t.ops.filtered_lrelu.plan import Plan
from sgxl_t.ops.filtered_lrelu.recomputed import recomputed_lrelu
from sgxl_t.ops.resample.planes import BandPair

_MID_ELEMENTS = 1 << 28
# Inputs that a tile reads along an axis, counted on the finer of its two grids.
_FINE_SPAN = 64
_SMALLEST_DOT = 16


def triton_lrelu(x: Tensor, b: Tensor, plan: Plan) -> Tensor:
    """x [N, C, H, W] and bias b [C] of one dtype through the plan; differentiable any number of times.

    dtype float32, float16 or bfloat16. Only x and b are kept for the backward pass.
    """
    return recomputed_lrelu(x, b, plan, _run)


def available(x: Tensor) -> bool:
    """Whether the kernels can run on maps x [N, C, H, W]."""
    if x.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return False
    return x.device.type == "cuda" or (x.device.type == "cpu" and bool(triton.knobs.runtime.interpret))


class _Map(NamedTuple):
    """Geometry of a pair of maps for the kernels: known when they are compiled."""

    height: int
    width: int
    before_v: int
    before_h: int
    taps_v: int
    taps_h: int
    up: int
    down: int
    span: int

    @property
    def step(self) -> int:
        """Results along an axis that `span` inputs suffice for."""
        return (self.span * self.up - max(self.taps_v, self.taps_h)) // self.down + 1


def _map(pair: BandPair) -> _Map:
    """The pair of maps, with tiles of about 64 samples of the finer grid."""
    v, h = pair.vertical.axis, pair.horizontal.axis
    span = max(_FINE_SPAN // v.up, _SMALLEST_DOT)
    while span * v.up < 2 * max(v.taps, h.taps):
        span *= 2
    return _Map(v.size, h.size, v.before, h.before, v.taps, h.taps, v.up, v.down, span)


def _block(step: int) -> int:
    """Side of the computed tile: a power of two."""
    return max(triton.next_power_of_2(step), _SMALLEST_DOT)


def _run(
    plan: Plan, x: Tensor, b: Tensor, first: BandPair, second: BandPair, v: Tensor | None = None
) -> Tensor:
    """x, or v with the slopes at x, through `first`, the activation and `second`; no gradients recorded."""
    samples, channels = x.shape[:2]
    mid_size = first.vertical.axis.out_size, first.horizontal.axis.out_size
    size = second.vertical.axis.out_size, second.horizontal.axis.out_size
    x = x.flatten(0, 1).contiguous()
    v = None if v is None else v.flatten(0, 1).contiguous()
    y = x.new_empty(x.shape[0], *size)
    planes = max(_MID_ELEMENTS // math.prod(mid_size), 1)
    for start in range(0, x.shape[0], planes):
        part = slice(start, start + planes)
        mid = x.new_empty(len(x[part]), *mid_size)
        _launch_up(mid, x[part], b, start, plan, None if v is None else v[part], first)
        _launch_down(y[part], mid, second)
    return y.unflatten(0, (samples, channels))


def _taps(pair: BandPair, like: Tensor) -> list[Tensor]:
    """Taps of both maps in the order of a correlation, gains included."""
    return [band.correlated(like.dtype, like.device) for band in pair]


def _launch_up(
    mid: Tensor, x: Tensor, b: Tensor, start: int, plan: Plan, v: Tensor | None, first: BandPair
) -> None:
    """Fills mid [planes, H', W'] from planes x; `start` is the number of the first plane in the batch."""
    map_x, map_v = _map(plan.up), _map(first)
    step = min(map_x.step, map_v.step)
    across = triton.cdiv(mid.shape[2], step)
    tiles = triton.cdiv(mid.shape[1], step) * across
    _up_kernel[(tiles * mid.shape[0],)](
        mid,
        x,
        x if v is None else v,
        b,
        *_taps(plan.up, x),
        *_taps(first, x),
        start,
        plan.slope,
        math.inf if plan.clamp is None else plan.clamp,
        MAP_X=tuple(map_x),
        MAP_V=tuple(map_v),
        GRID=(mid.shape[1], mid.shape[2], tiles, across, b.shape[0]),
        STEP=step,
        BLOCK=_block(step),
        SLOPES=v is not None,
    )


def _launch_down(y: Tensor, mid: Tensor, second: BandPair) -> None:
    """Fills y [planes, H', W'] from planes mid."""
    geometry = _map(second)
    step = geometry.step
    across = triton.cdiv(y.shape[2], step)
    tiles = triton.cdiv(y.shape[1], step) * across
    _down_kernel[(tiles * y.shape[0],)](
        y,
        mid,
        *_taps(second, mid),
        MAP=tuple(geometry),
        GRID=(y.shape[1], y.shape[2], tiles, across),
        STEP=step,
        BLOCK=_block(step),
    )


@triton.jit
def _up_kernel(  # type: ignore[no-untyped-def]
    mid, x, v, bias, x_rows, x_columns, v_rows, v_columns, start, slope, clamp,
    MAP_X: tl.constexpr, MAP_V: tl.constexpr, GRID: tl.constexpr,
    STEP: tl.constexpr, BLOCK: tl.constexpr, SLOPES: tl.constexpr,
):  # fmt: skip
    """One tile of mid: activation of x on the fine grid, or v there times the slope at x."""
    plane = tl.program_id(0) // GRID[2]
    tile = tl.program_id(0) % GRID[2]
    top = tile // GRID[3] * STEP
    left = tile % GRID[3] * STEP
    b = tl.load(bias + (start + plane) % GRID[4]).to(tl.float32)
    plane = plane.to(tl.int64)
    z = _mapped(x + plane * MAP_X[0] * MAP_X[1], b, x_rows, x_columns, top, left, MAP_X, BLOCK)
    y = tl.where(z > 0, z, z * slope)
    if SLOPES:
        g = _mapped(v + plane * MAP_V[0] * MAP_V[1], 0.0, v_rows, v_columns, top, left, MAP_V, BLOCK)
        y = tl.where(tl.abs(y) > clamp, 0.0, tl.where(z > 0, g, g * slope))
    else:
        y = tl.minimum(tl.maximum(y, -clamp), clamp)
    _store(mid + plane * GRID[0] * GRID[1], y, top, left, GRID[0], GRID[1], STEP, BLOCK)


@triton.jit
def _down_kernel(  # type: ignore[no-untyped-def]
    y, mid, rows, columns, MAP: tl.constexpr, GRID: tl.constexpr, STEP: tl.constexpr, BLOCK: tl.constexpr
):
    """One tile of y: mid filtered and decimated."""
    plane = (tl.program_id(0) // GRID[2]).to(tl.int64)
    tile = tl.program_id(0) % GRID[2]
    top = tile // GRID[3] * STEP
    left = tile % GRID[3] * STEP
    z = _mapped(mid + plane * MAP[0] * MAP[1], 0.0, rows, columns, top, left, MAP, BLOCK)
    _store(y + plane * GRID[0] * GRID[1], z, top, left, GRID[0], GRID[1], STEP, BLOCK)


@triton.jit
def _mapped(  # type: ignore[no-untyped-def]
    image, bias, row_taps, column_taps, top, left, MAP: tl.constexpr, BLOCK: tl.constexpr
):
    """Both maps of (image + bias), tile [BLOCK, BLOCK] of the result from (top, left) on, float32.

    MAP holds the fields of `_Map` in their order. Outside of the image are zeros, also for the bias.
    """
    first_row = _first(top, MAP[2], MAP[6], MAP[7])
    first_column = _first(left, MAP[3], MAP[6], MAP[7])
    rows = first_row + tl.arange(0, MAP[8])
    columns = first_column + tl.arange(0, MAP[8])
    inside = ((rows >= 0) & (rows < MAP[0]))[:, None] & ((columns >= 0) & (columns < MAP[1]))[None, :]
    tile = tl.load(image + rows[:, None] * MAP[1] + columns[None, :], mask=inside, other=0.0)
    tile = tl.where(inside, tile + bias, 0.0).to(image.dtype.element_ty)
    vertical = _matrix(row_taps, MAP[4], first_row, top, MAP[2], MAP[6], MAP[7], MAP[8], BLOCK)
    horizontal = _matrix(column_taps, MAP[5], first_column, left, MAP[3], MAP[6], MAP[7], MAP[8], BLOCK)
    z = tl.dot(vertical.to(tile.dtype), tile, input_precision="ieee")
    return tl.dot(z.to(tile.dtype), tl.trans(horizontal.to(tile.dtype)), input_precision="ieee")


@triton.jit
def _first(result, before, UP: tl.constexpr, DOWN: tl.constexpr):  # type: ignore[no-untyped-def]
    """First input that a result uses: (result * DOWN - before) / UP, rounded up.

    Division rounds towards zero, so the numerator is lifted above zero first.
    """
    return (result * DOWN - before + UP * 65536 + UP - 1) // UP - 65536


@triton.jit
def _matrix(  # type: ignore[no-untyped-def]
    taps, count, first_input, first_result, before,
    UP: tl.constexpr, DOWN: tl.constexpr, SPAN: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Band matrix [BLOCK, SPAN] from SPAN inputs to BLOCK results."""
    inputs = first_input + tl.arange(0, SPAN)
    results = first_result + tl.arange(0, BLOCK)
    tap = inputs[None, :] * UP + before - results[:, None] * DOWN
    return tl.load(taps + tap, mask=(tap >= 0) & (tap < count), other=0.0)


@triton.jit
def _store(  # type: ignore[no-untyped-def]
    target, values, top, left, height, width, STEP: tl.constexpr, BLOCK: tl.constexpr
):
    """Writes the part of a tile that is inside the plane and fully computed."""
    rows = top + tl.arange(0, BLOCK)
    columns = left + tl.arange(0, BLOCK)
    kept_rows = (rows < height) & (rows < top + STEP)
    kept_columns = (columns < width) & (columns < left + STEP)
    place = target + rows[:, None] * width + columns[None, :]
    tl.store(place, values.to(target.dtype.element_ty), mask=kept_rows[:, None] & kept_columns[None, :])
