"""FIR up- and down-sampling of image batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sgxl_t.ops.precision import own_precision
from sgxl_t.ops.resample.band import AxisMap, Band, separate
from sgxl_t.ops.resample.planes import BandPair, resample_planes

# Up to this many taps a depthwise convolution is faster than two band products.
_SHORT_FILTER = 36


def factors(value: int | Sequence[int], name: str) -> tuple[int, int]:
    """A factor given once or as [x, y]; ValueError unless both are positive integers."""
    x, y = (value, value) if isinstance(value, int) else value
    if x < 1 or y < 1:
        raise ValueError(f"{name}={value} must be a positive integer or a pair [x, y] of them")
    return int(x), int(y)


def parse_padding(padding: int | Sequence[int]) -> tuple[int, int, int, int]:
    """Padding given once, as [x, y] or as [left, right, top, bottom]; negative entries crop."""
    values = [padding] if isinstance(padding, int) else list(padding)
    if len(values) not in (1, 2, 4):
        raise ValueError(
            f"padding={padding} has {len(values)} entries: give 1, [x, y] or [left, right, top, bottom]"
        )
    if len(values) == 1:
        values = values * 2
    if len(values) == 2:
        values = [values[0], values[0], values[1], values[1]]
    return values[0], values[1], values[2], values[3]


def filter_size(f: Tensor | None) -> tuple[int, int]:
    """Number of taps along x and y of a filter [K] or [Kh, Kw]; no filter counts as one tap."""
    if f is None:
        return 1, 1
    if f.ndim not in (1, 2):
        raise ValueError(f"a filter of shape {tuple(f.shape)} is no FIR filter: give taps [K] or [Kh, Kw]")
    return f.shape[-1], f.shape[0]


def upfirdn2d(
    x: Tensor,
    f: Tensor | None,
    up: int | Sequence[int] = 1,
    down: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    flip_filter: bool = False,
    gain: float = 1,
) -> Tensor:
    """Zero insertion by `up`, padding, FIR filter, then every `down`-th sample.

    x: [N, C, H, W]. f: [K] (applied along both axes), [Kh, Kw] or None for the identity. up, down: one
    factor or [x, y]. padding: counted on the upsampled grid, one value, [x, y] or [left, right, top,
    bottom]; negative values crop. flip_filter: False convolves, True correlates. gain: of the whole
    operation. Returns [N, C, H', W'] with H' = (H * up + top + bottom - Kh) // down + 1, dtype of x;
    differentiable any number of times. ValueError when the filter is larger than the padded image. (Karras
    et al. 2020, appendix B.)
    """
    vertical, horizontal = axis_maps(x.shape, f, up, down, padding, flip_filter)
    short = vertical.up == horizontal.up == 1 and vertical.taps * horizontal.taps <= _SHORT_FILTER
    pair = band_pair(x.shape, f, up, down, padding, flip_filter, gain)
    if f is None or (pair is not None and not short):
        assert pair is not None
        return resample_planes(x, pair)
    return _depthwise(x, f, vertical, horizontal, gain)


def axis_maps(
    shape: Sequence[int],
    f: Tensor | None,
    up: int | Sequence[int] = 1,
    down: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    flip_filter: bool = False,
) -> tuple[AxisMap, AxisMap]:
    """Vertical and horizontal geometry for images of `shape` [N, C, H, W]; arguments as for `upfirdn2d`."""
    if len(shape) != 4:
        raise ValueError(f"an image batch of shape {tuple(shape)} does not fit: give [N, C, H, W]")
    (ux, uy), (dx, dy), (kx, ky) = factors(up, "up"), factors(down, "down"), filter_size(f)
    px0, px1, py0, py1 = parse_padding(padding)
    vertical = AxisMap(shape[2], ky, uy, dy, py0, py1, flip_filter)
    horizontal = AxisMap(shape[3], kx, ux, dx, px0, px1, flip_filter)
    if horizontal.out_size < 1 or vertical.out_size < 1:
        raise ValueError(
            f"a {ky}x{kx} filter with padding {padding} leaves nothing of {shape[2]}x{shape[3]} pixels: "
            "pad more"
        )
    return vertical, horizontal


def band_pair(
    shape: Sequence[int],
    f: Tensor | None,
    up: int | Sequence[int] = 1,
    down: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    flip_filter: bool = False,
    gain: float = 1,
) -> BandPair | None:
    """Band maps of `upfirdn2d` with the same arguments; None when f is no outer product."""
    vertical, horizontal = axis_maps(shape, f, up, down, padding, flip_filter)
    taps = separate(f)
    return None if taps is None else BandPair(Band(vertical, taps[1], gain), Band(horizontal, taps[0]))


def _depthwise(x: Tensor, f: Tensor, vertical: AxisMap, horizontal: AxisMap, gain: float) -> Tensor:
    """`upfirdn2d` as a strided or transposed convolution of every channel by itself."""
    v, h, channels = vertical, horizontal, x.shape[1]
    f = f.to(torch.promote_types(x.dtype, torch.float32))
    f = (f.outer(f) if f.ndim == 1 else f) * gain
    taps = f.to(x)[None, None].expand(channels, 1, -1, -1)
    with own_precision(x):
        if v.up == h.up == 1:
            x = F.pad(x, [h.before, h.after, v.before, v.after])
            return F.conv2d(
                x, taps if h.flip else taps.flip((2, 3)), stride=(v.down, h.down), groups=channels
            )
        # A transposed convolution adds the taps at every sample without visiting the inserted zeros; its
        # output begins K - 1 samples before the first one that the filter covers wholly.
        spread, extra = taps.flip((2, 3)) if h.flip else taps, (v.up - 1, h.up - 1)
        x = F.conv_transpose2d(x, spread, stride=(v.up, h.up), output_padding=extra, groups=channels)
    x = F.pad(x, [h.before - h.taps + 1, h.after - h.taps + 1, v.before - v.taps + 1, v.after - v.taps + 1])
    return x[:, :, :: v.down, :: h.down]


def filter2d(
    x: Tensor, f: Tensor | None, padding: int | Sequence[int] = 0, flip_filter: bool = False, gain: float = 1
) -> Tensor:
    """FIR filter that keeps the size of x [N, C, H, W]; `padding` is added to the padding that does so."""
    (kx, ky), (px0, px1, py0, py1) = filter_size(f), parse_padding(padding)
    padding = [px0 + kx // 2, px1 + (kx - 1) // 2, py0 + ky // 2, py1 + (ky - 1) // 2]
    return upfirdn2d(x, f, padding=padding, flip_filter=flip_filter, gain=gain)


def upsample2d(
    x: Tensor,
    f: Tensor | None,
    up: int | Sequence[int] = 2,
    padding: int | Sequence[int] = 0,
    flip_filter: bool = False,
    gain: float = 1,
) -> Tensor:
    """x [N, C, H, W] to [N, C, H * up, W * up] plus `padding` (output pixels); constants stay constant."""
    (ux, uy), (kx, ky), (px0, px1, py0, py1) = factors(up, "up"), filter_size(f), parse_padding(padding)
    padding = [px0 + (kx + ux - 1) // 2, px1 + (kx - ux) // 2, py0 + (ky + uy - 1) // 2, py1 + (ky - uy) // 2]
    return upfirdn2d(x, f, up=(ux, uy), padding=padding, flip_filter=flip_filter, gain=gain * ux * uy)


def downsample2d(
    x: Tensor,
    f: Tensor | None,
    down: int | Sequence[int] = 2,
    padding: int | Sequence[int] = 0,
    flip_filter: bool = False,
    gain: float = 1,
) -> Tensor:
    """x [N, C, H, W] to [N, C, H / down, W / down]; `padding` is counted in input pixels."""
    (dx, dy), (kx, ky), (px0, px1, py0, py1) = factors(down, "down"), filter_size(f), parse_padding(padding)
    padding = [px0 + (kx - dx + 1) // 2, px1 + (kx - dx) // 2, py0 + (ky - dy + 1) // 2, py1 + (ky - dy) // 2]
    return upfirdn2d(x, f, down=(dx, dy), padding=padding, flip_filter=flip_filter, gain=gain)
