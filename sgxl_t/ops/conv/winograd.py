"""3x3 convolution of stride 1 by Winograd's minimal filtering, F(4x4, 3x3).

A tile of 4x4 results needs 6x6 inputs. Between them lie 36 products per pair of channels where the sum over
taps has 144: x becomes V = B' x B, the weight U = G w G', every one of the 36 positions is one matrix product
over channels, and y = A' (U V) A. (Winograd 1980; Lavin and Gray 2016, "Fast Algorithms for Convolutional
Neural Networks"; the interpolation points are 0, 1, -1, 1/2, -2 and infinity, whose matrices lose less than
those of 0, 1, -1, 2, -2.)

Both transforms act on rows and on columns, so each is one product with a Kronecker product of the small
matrices and the image laid out as [36, tiles, channels].
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sgxl_t.ops.conv.frozen import FrozenCache, frozen
from sgxl_t.ops.conv.gemm import products
from sgxl_t.ops.precision import own_precision

_POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)
_TILE, _WINDOW = 4, 6
# Elements of the largest transformed part of an image and of a weight. On a CPU fresh pages cost more than
# the work on them, so buffers stay small enough to be used again; chunks are larger where the weight has to
# be transformed anew for each.
_CPU_ELEMENTS = 1 << 22
_CPU_ELEMENTS_TRAINING = 1 << 24
_CPU_WEIGHT_ELEMENTS = 5 << 20
_PART_MULTIPLE = 64  # matrix products with other widths lose up to half of their speed
_DEVICE_ELEMENTS = 1 << 28


class _Grid(NamedTuple):
    """Tiles of a convolution of x [samples, channels, height, width] with zero padding."""

    samples: int
    height: int
    width: int
    padding: int

    @property
    def out_size(self) -> tuple[int, int]:
        """Height and width of the result."""
        return self.height + 2 * self.padding - 2, self.width + 2 * self.padding - 2

    @property
    def tiles(self) -> tuple[int, int]:
        """Rows and columns of tiles; the last ones may reach beyond the result."""
        height, width = self.out_size
        return -(-height // _TILE), -(-width // _TILE)

    def chunks(self, channels: int, elements: int) -> Iterator[_Chunk]:
        """Groups of samples, or of rows of tiles of one sample, of about equal size."""
        rows, columns = self.tiles
        limit = max(elements // (_WINDOW**2 * columns * max(channels, 1)), 1)
        samples = max(limit // rows, 1)
        parts = -(-rows // limit)
        for first in range(0, self.samples, samples):
            last = min(first + samples, self.samples)
            for part in range(parts):
                yield _Chunk(slice(first, last), rows * part // parts, rows * (part + 1) // parts)


class _Chunk(NamedTuple):
    """Samples and rows of tiles [top, bottom) that are worked on together."""

    samples: slice
    top: int
    bottom: int


def conv2d(x: Tensor, weight: Tensor, padding: int = 0) -> Tensor:
    """x [N, I, H, W] correlated with weight [O, I, 3, 3]: [N, O, H', W'], H' = H + 2 padding - 2.

    dtype float32 or float64. The result lies channels-last in memory. Differentiable any number of times;
    only x and the weight are kept for that. The transformed weight (four times its size) is kept as long as
    the weight lives unchanged, unless gradients of the weight are recorded. In float32 the largest error is
    about 1e-5 of the largest result. ValueError for other shapes and types.
    """
    fits = x.ndim == 4 and weight.shape == (len(weight), x.shape[1], 3, 3)
    if not fits or x.dtype != weight.dtype or x.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"x {tuple(x.shape)} {x.dtype} and weight {tuple(weight.shape)} {weight.dtype} do not fit: "
            "give [N, I, H, W] and [O, I, 3, 3], both float32 or both float64"
        )
    grid = _Grid(x.shape[0], x.shape[2], x.shape[3], padding)
    if padding < 0 or min(grid.out_size) < 1:
        raise ValueError(f"padding={padding} leaves nothing of {x.shape[2]}x{x.shape[3]} pixels: pad more")
    keep = frozen(weight)
    with own_precision(x):
        y: Tensor = _Output.apply(x, weight, grid, keep)
    return y


class _Output(torch.autograd.Function):
    """(x, w) to y. Its derivatives are the other two sides of one trilinear form, and theirs likewise."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, grid: _Grid, keep: bool) -> Tensor:
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, w)
        ctx.grid, ctx.keep = grid, keep
        padded, y = _padded(x, grid), x.new_empty(grid.samples, *_cells(grid), w.shape[0])
        parts = _WeightParts(w, keep)
        for chunk in grid.chunks(max(w.shape[:2]), _chunk_elements(x, parts)):
            v = _windows(padded, chunk)
            target = y[chunk.samples, chunk.top : chunk.bottom].permute(2, 4, 0, 1, 3, 5)
            for part, u in parts:
                tiles = _kron("A", x).T @ products(v, u).flatten(1)
                target[..., part].copy_(tiles.view(*target.shape[:-1], -1))
        height, width = grid.out_size
        return y.flatten(3, 4).flatten(1, 2)[:, :height, :width].permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, w = ctx.saved_tensors
        with own_precision(grads[0]):
            dx = _Input.apply(grads[0], w, ctx.grid, ctx.keep) if ctx.needs_input_grad[0] else None
            dw = _Weight.apply(x, grads[0], ctx.grid) if ctx.needs_input_grad[1] else None
        return dx, dw, None, None


class _Input(torch.autograd.Function):
    """(y, w) to x: the transposed convolution."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, w: Tensor, grid: _Grid, keep: bool) -> Tensor:
        ctx.save_for_backward(y if ctx.needs_input_grad[1] else None, w)
        ctx.grid, ctx.keep = grid, keep
        cells, (rows, columns) = _celled(y, grid), grid.tiles
        # Windows reach two pixels into the next cell, so there is one more row and column of cells.
        x = y.new_zeros(grid.samples, rows + 1, _TILE, columns + 1, _TILE, w.shape[1])
        parts = _WeightParts(w, keep, transposed=True)
        for chunk in grid.chunks(max(w.shape[:2]), _chunk_elements(y, parts)):
            v, height = _spread(cells, chunk), chunk.bottom - chunk.top
            target = x[chunk.samples, chunk.top : chunk.bottom + 1]
            for part, u in parts:
                windows = _kron("B", y) @ products(v, u).flatten(1)
                shape = _WINDOW, _WINDOW, len(target), height, columns, u.shape[1]
                _add_windows(target[..., part], windows.view(shape))
        pad, height, width = grid.padding, grid.height, grid.width
        return x.flatten(3, 4).flatten(1, 2)[:, pad : pad + height, pad : pad + width].permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        y, w = ctx.saved_tensors
        with own_precision(grads[0]):
            dy = _Output.apply(grads[0], w, ctx.grid, ctx.keep) if ctx.needs_input_grad[0] else None
            dw = _Weight.apply(grads[0], y, ctx.grid) if ctx.needs_input_grad[1] else None
        return dy, dw, None, None


class _Weight(torch.autograd.Function):
    """(x, y) to w: the gradient of the weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, grid: _Grid) -> Tensor:
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, y if ctx.needs_input_grad[0] else None)
        ctx.grid = grid
        padded, cells = _padded(x, grid), _celled(y, grid)
        w = x.new_zeros(y.shape[1], x.shape[1], 9)
        for chunk in grid.chunks(max(x.shape[1], y.shape[1]), _chunk_elements(x)):
            v, m = _windows(padded, chunk).transpose(1, 2), _spread(cells, chunk).transpose(1, 2)
            for part in _parts(y.shape[1], x.shape[1], x.device):
                u = products(m[:, part], v)
                # Turned round afterwards: a product with nine columns is twice as slow.
                w[part].flatten(0, 1).add_((_kron("G", x).T @ u.flatten(1)).T)
        return w.unflatten(2, (3, 3))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, y = ctx.saved_tensors
        with own_precision(grads[0]):
            dx = _Input.apply(y, grads[0], ctx.grid, False) if ctx.needs_input_grad[0] else None
            dy = _Output.apply(x, grads[0], ctx.grid, False) if ctx.needs_input_grad[1] else None
        return dx, dy, None


def _chunk_elements(x: Tensor, parts: _WeightParts | None = None) -> int:
    """Elements of the largest transformed chunk of an image: small where no weight is transformed for it."""
    if x.device.type != "cpu":
        return _DEVICE_ELEMENTS
    return _CPU_ELEMENTS if parts is not None and parts.whole else _CPU_ELEMENTS_TRAINING


def _parts(count: int, others: int, device: torch.device) -> Iterator[slice]:
    """Slices of `count` channels whose weights to `others` channels stay small when transformed."""
    elements = _CPU_WEIGHT_ELEMENTS if device.type == "cpu" else _DEVICE_ELEMENTS
    step = max(elements // (_WINDOW**2 * max(others, 1) * _PART_MULTIPLE), 1) * _PART_MULTIPLE
    for first in range(0, count, step):
        yield slice(first, min(first + step, count))


def _cells(grid: _Grid) -> tuple[int, int, int, int]:
    """Rows of tiles, pixels of a tile, columns of tiles, pixels of a tile."""
    rows, columns = grid.tiles
    return rows, _TILE, columns, _TILE


def _padded(x: Tensor, grid: _Grid) -> Tensor:
    """x [N, I, H, W] with zeros around it as [N, 4 rows + 2, 4 columns + 2, I]."""
    rows, columns = grid.tiles
    height, width = rows * _TILE + 2, columns * _TILE + 2
    low = grid.padding
    edges = [0, 0, low, width - low - grid.width, low, height - low - grid.height]
    return F.pad(x.permute(0, 2, 3, 1), edges).contiguous()


def _celled(y: Tensor, grid: _Grid) -> Tensor:
    """y [N, O, H', W'] filled up with zeros to whole tiles, [N, rows, 4, columns, 4, O]."""
    (rows, columns), (height, width) = grid.tiles, grid.out_size
    edges = [0, 0, 0, columns * _TILE - width, 0, rows * _TILE - height]
    cells = F.pad(y.permute(0, 2, 3, 1), edges).contiguous()
    return cells.view(grid.samples, *_cells(grid), y.shape[1])


def _windows(padded: Tensor, chunk: _Chunk) -> Tensor:
    """Transformed windows V [36, tiles, I]."""
    rows = padded[chunk.samples, chunk.top * _TILE : chunk.bottom * _TILE + 2]
    windows = rows.unfold(1, _WINDOW, _TILE).unfold(2, _WINDOW, _TILE).permute(4, 5, 0, 1, 2, 3)
    samples, height, columns, channels = windows.shape[2:]
    v = padded.new_empty(_WINDOW**2, samples, height * columns * channels)
    step = max(_CPU_ELEMENTS // (_WINDOW**2 * columns * max(channels, 1)), 1)
    for sample in range(samples):
        for top in range(0, height, step):
            part = windows[:, :, sample, top : top + step].reshape(_WINDOW**2, -1)
            begin = top * columns * channels
            torch.mm(_kron("B", v).T, part, out=v[:, sample, begin : begin + part.shape[1]])
    return v.view(_WINDOW**2, -1, channels)


def _spread(cells: Tensor, chunk: _Chunk) -> Tensor:
    """Tiles of y taken back to the 36 positions, [36, tiles, O]."""
    tiles = cells[chunk.samples, chunk.top : chunk.bottom].permute(2, 4, 0, 1, 3, 5)
    return (_kron("A", cells) @ tiles.reshape(_TILE**2, -1)).view(_WINDOW**2, -1, cells.shape[5])


def _add_windows(cells: Tensor, windows: Tensor) -> None:
    """Adds overlapping windows [6, 6, N, rows, columns, C] to cells [N, rows + 1, 4, columns + 1, 4, C]."""
    target, source = cells.permute(2, 4, 0, 1, 3, 5), windows
    for rows, down in ((slice(0, _TILE), 0), (slice(_TILE, _WINDOW), 1)):
        for columns, right in ((slice(0, _TILE), 0), (slice(_TILE, _WINDOW), 1)):
            part = source[rows, columns]
            low, side = part.shape[:2]
            height, width = part.shape[3:5]
            target[:low, :side, :, down : down + height, right : right + width] += part


class _WeightParts:
    """Slices of the outputs of w [O, I, 3, 3] and their U [36, slice, I]; transposed: with O and I exchanged.

    whole: the weight is cached or small, and its one part is made once. For other weights each pass makes the
    parts anew, so that a transformed weight never outgrows the processor's caches.
    """

    def __init__(self, w: Tensor, keep: bool, transposed: bool = False) -> None:
        self.keep, self.transposed = keep, transposed
        self.w = w if keep else w.detach().transpose(0, 1) if transposed else w.detach()
        self.slices = list(_parts(self.w.shape[0], self.w.shape[1], w.device))
        self.whole = keep or len(self.slices) == 1
        self._made = self._whole() if self.whole else None

    def _whole(self) -> Tensor:
        if not self.keep:
            return _transform(self.w)
        u = _transforms(self.w)
        return u.transpose(1, 2) if self.transposed else u

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        """Each slice with its transform."""
        if self._made is not None:
            yield slice(None), self._made
            return
        for part in self.slices:
            yield part, _transform(self.w[part])


def _transform(w: Tensor) -> Tensor:
    """U [36, O, I] of w [O, I, 3, 3]."""
    return (_kron("G", w) @ w.reshape(-1, 9).T).view(_WINDOW**2, *w.shape[:2])


_transforms = FrozenCache(_transform)


def forget() -> None:
    """Frees the transformed weights of all layers."""
    _transforms.clear()


def _kron(name: str, like: Tensor) -> Tensor:
    """The matrix of both axes: "A" [36, 16], "B" [36, 36] or "G" [36, 9], in the dtype of `like`."""
    return _kron_of(name, like.dtype, like.device)


@lru_cache(maxsize=32)
def _kron_of(name: str, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        matrix = _matrices()[name]
        return torch.kron(matrix, matrix).to(device, dtype)


def _matrices() -> dict[str, Tensor]:
    """A [6, 4], B [6, 6] and G [6, 3] in float64 from the interpolation points.

    Polynomials of degree 3 and 2 are evaluated at five points and infinity, which determine their product;
    correlation is the transpose of that. The factors f_i = prod_j (p_i - p_j) of Lagrange's formula go into
    G, which keeps A and B short numbers.
    """
    points = torch.tensor(_POINTS, dtype=torch.float64)
    at_infinity = torch.zeros(1, _WINDOW, dtype=torch.float64)
    at_infinity[0, -1] = 1
    values = torch.cat([points[:, None] ** torch.arange(_WINDOW), at_infinity])
    distances = points[:, None] - points[None, :]
    factors = torch.cat([distances.fill_diagonal_(1).prod(1), torch.ones(1, dtype=torch.float64)])
    tile, taps = values[:, :_TILE].clone(), values[:, :3].clone()
    tile[-1], taps[-1] = at_infinity[0, -_TILE:], at_infinity[0, -3:]
    interpolation = torch.linalg.inv(values) * factors
    return {"A": tile, "B": interpolation, "G": taps / factors[:, None]}
