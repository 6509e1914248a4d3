"""FIR resampling along one axis as a product with a band matrix.

Up-sampling, padding, cropping, filtering and decimation along one axis are together one linear map whose
matrix holds the taps in a narrow band. Cut into blocks of rows, each multiplied with the few columns it
needs, the product visits no inserted zeros and computes no samples that decimation would throw away.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

# Columns that a block reads beyond its reach: smaller blocks waste less but starve the matrix product.
_MIN_SPAN = 16
_IDENTITY_TAPS = torch.ones(1)


class AxisMap(NamedTuple):
    """Geometry of FIR resampling along one axis; `flip` means correlation instead of convolution."""

    size: int
    taps: int
    up: int
    down: int
    before: int
    after: int
    flip: bool

    @property
    def out_size(self) -> int:
        """Samples after resampling; below 1 when the filter is larger than the padded axis."""
        return (self.size * self.up + self.before + self.after - self.taps) // self.down + 1

    @property
    def identity(self) -> bool:
        """Whether nothing but a gain is left to do."""
        return (self.taps, self.up, self.down, self.before, self.after) == (1, 1, 1, 0, 0)

    def transposed(self) -> AxisMap:
        """The adjoint map: up and down change places and the taps turn round."""
        before = self.taps - 1 - self.before
        after = self.size * self.up - self.out_size * self.down + self.before - self.up + 1
        return AxisMap(self.out_size, self.taps, self.down, self.up, before, after, not self.flip)


class _Block(NamedTuple):
    """Rows [first, last) of a band matrix, restricted to the columns [low, high) that they use."""

    first: int
    last: int
    low: int
    high: int
    matrix: Tensor


@dataclass(frozen=True)
class Band:
    """Linear map along one axis: geometry, taps [K] (None for a single tap of 1) and gain."""

    axis: AxisMap
    taps: Tensor | None
    gain: float = 1.0

    def scaled(self, gain: float) -> Band:
        """The map followed by a factor."""
        return Band(self.axis, self.taps, self.gain * gain)

    def transposed(self) -> Band:
        """The adjoint map."""
        return Band(self.axis.transposed(), self.taps, self.gain)

    @property
    def identity(self) -> bool:
        """Whether the map returns its input."""
        return self.axis.identity and self.taps is None and self.gain == 1

    @property
    def norm(self) -> float:
        """The largest factor by which the map enlarges the largest magnitude (row sum of magnitudes)."""
        taps = _IDENTITY_TAPS if self.taps is None else self.taps
        up = self.axis.up
        return abs(self.gain) * _cached(taps, ("norm", up), lambda: _norm(taps, up))

    def correlated(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Taps [K] in the order of a correlation, with the gain; float64 for that dtype, else float32."""
        taps = _IDENTITY_TAPS if self.taps is None else self.taps
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        key = ("correlated", self.axis.flip, self.gain, wide, device)
        return _cached(taps, key, lambda: _correlated(self, taps, wide, device))

    def product(self, x: Tensor, out: Tensor) -> None:
        """x [size, M] to out [out_size, M], without recording gradients."""
        for block in _blocks(self, x.dtype, x.device):
            torch.mm(block.matrix, x[block.low : block.high], out=out[block.first : block.last])


def separate(f: Tensor | None) -> tuple[Tensor | None, Tensor | None] | None:
    """Taps [Kw] along x and [Kh] along y whose outer product is exactly f; None when there are none."""
    if f is None or f.ndim == 1:
        return f, f
    if torch.compiler.is_compiling() or f.is_inference():
        return _factors(f)
    version, factors = _factor_cache.get(f, (-1, None))
    if version != f._version:
        factors = _factors(f)
        _factor_cache[f] = f._version, factors
    return factors


@torch.no_grad()
def _factors(f: Tensor) -> tuple[Tensor, Tensor] | None:
    """Row and column of f through its largest tap, if they tell all of it."""
    with torch.inference_mode(False):
        exact = f.detach().double().cpu()
        row, column = divmod(int(exact.abs().argmax()), f.shape[1])
        pivot = exact[row, column]
        if pivot == 0 or not torch.equal(exact * pivot, exact[:, column].outer(exact[row])):
            return None
        return (exact[row] / pivot).to(f.device), exact[:, column].to(f.device)


_factor_cache: MutableMapping[Tensor, tuple[int, tuple[Tensor, Tensor] | None]] = WeakTensorKeyDictionary()
_Entries = dict[tuple[object, ...], Any]
_made_cache: MutableMapping[Tensor, tuple[int, _Entries]] = WeakTensorKeyDictionary()
_Made = TypeVar("_Made")


def _cached(taps: Tensor, key: tuple[object, ...], make: Callable[[], _Made]) -> _Made:
    """What `make` returns, cached under `key` for as long as the taps live unchanged.

    Filters are few and long-lived (buffers of layers), so the cache hangs on the tensor itself: two filters
    never share an entry, and no value has to be read back from a GPU to tell them apart.
    """
    if torch.compiler.is_compiling() or taps.is_inference():
        return make()
    version, entries = _made_cache.get(taps, (-1, {}))
    if version != taps._version:
        entries = {}
        _made_cache[taps] = taps._version, entries
    if key not in entries:
        with torch.inference_mode(False):
            entries[key] = make()
    made: _Made = entries[key]
    return made


def _blocks(band: Band, dtype: torch.dtype, device: torch.device) -> list[_Block]:
    """Blocks of a band, cached with its taps."""
    taps = _IDENTITY_TAPS if band.taps is None else band.taps
    key = (band.axis, band.gain, dtype, device)
    return _cached(taps, key, lambda: _build_blocks(band, taps, dtype, device))


@torch.no_grad()
def _norm(taps: Tensor, up: int) -> float:
    """Largest sum of magnitudes of the taps that meet in one sample."""
    return max(float(taps[phase::up].abs().sum()) for phase in range(up))


@torch.no_grad()
def _correlated(band: Band, taps: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The taps as `Band.correlated` promises them."""
    taps = taps.to(device, dtype, non_blocking=True)
    return (taps if band.axis.flip else taps.flip(0)) * band.gain


@torch.no_grad()
def _build_blocks(band: Band, taps: Tensor, dtype: torch.dtype, device: torch.device) -> list[_Block]:
    """Cuts the matrix into blocks of about equal height."""
    axis = band.axis
    taps = _correlated(band, taps, torch.float64 if dtype == torch.float64 else torch.float32, device)
    span = max(2 * (axis.taps // axis.up), _MIN_SPAN)
    count = max(round(axis.out_size * axis.down / axis.up / span), 1)
    edges = [axis.out_size * i // count for i in range(count + 1)]
    blocks = []
    for first, last in pairwise(edges):
        if first == last:
            continue
        low = min(max(-((axis.before - first * axis.down) // axis.up), 0), axis.size - 1)
        high = ((last - 1) * axis.down - axis.before + axis.taps - 1) // axis.up + 1
        high = min(max(high, low + 1), axis.size)
        rows = torch.arange(first, last, device=device)[:, None] * axis.down
        tap = torch.arange(low, high, device=device)[None, :] * axis.up + axis.before - rows
        inside = (tap >= 0) & (tap < axis.taps)
        matrix = torch.where(inside, taps[tap.clamp(0, axis.taps - 1)], 0.0)
        blocks.append(_Block(first, last, low, high, matrix.to(dtype)))
    return blocks
