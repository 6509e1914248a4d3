"""Plain and slow versions of the operators, step by step as the papers define them.

For tests and benchmarks only: they insert zeros, filter at the full rate, throw samples away and copy
weights per sample. Arguments, shapes and results are those of the operators of the same name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sgxl_t.ops.conv.modulated_conv import EPSILON, ConvSpec
from sgxl_t.ops.filtered_lrelu.plan import LreluSpec
from sgxl_t.ops.resample.resample import factors, filter_size, parse_padding


def upfirdn2d(
    x: Tensor,
    f: Tensor | None,
    up: int | Sequence[int] = 1,
    down: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    flip_filter: bool = False,
    gain: float = 1,
) -> Tensor:
    """Zero insertion, padding, crop, filter at the full rate, decimation of x [N, C, H, W]."""
    (ux, uy), (dx, dy) = factors(up, "up"), factors(down, "down")
    left, right, top, bottom = parse_padding(padding)
    batch, channels, height, width = x.shape
    x = x.reshape(batch, channels, height, 1, width, 1)
    x = F.pad(x, [0, ux - 1, 0, 0, 0, uy - 1]).reshape(batch, channels, height * uy, width * ux)
    x = F.pad(x, [max(left, 0), max(right, 0), max(top, 0), max(bottom, 0)])
    x = x[:, :, max(-top, 0) : x.shape[2] - max(-bottom, 0), max(-left, 0) : x.shape[3] - max(-right, 0)]
    taps = x.new_ones(1) if f is None else f.to(x)
    if not flip_filter:
        taps = taps.flip(list(range(taps.ndim)))
    if taps.ndim == 1:
        taps = taps * gain**0.5
        x = F.conv2d(x, taps[None, None, None].expand(channels, 1, 1, -1), groups=channels)
        x = F.conv2d(x, taps[None, None, :, None].expand(channels, 1, -1, 1), groups=channels)
    else:
        x = F.conv2d(x, (taps * gain)[None, None].expand(channels, 1, -1, -1), groups=channels)
    return x[:, :, ::dy, ::dx]


def filtered_lrelu(
    x: Tensor,
    fu: Tensor | None = None,
    fd: Tensor | None = None,
    b: Tensor | None = None,
    spec: LreluSpec = LreluSpec(),  # noqa: B008 (frozen)
) -> Tensor:
    """x [N, C, H, W]: bias b [C], up-sampling, leaky ReLU, gain, clamp, down-sampling in turn."""
    if b is not None:
        x = x + b.to(x.dtype)[None, :, None, None]
    x = upfirdn2d(x, fu, up=spec.up, padding=spec.padding, gain=spec.up**2)
    x = F.leaky_relu(x, spec.slope) * spec.gain
    if spec.clamp is not None:
        x = x.clamp(-spec.clamp, spec.clamp)
    return upfirdn2d(x, fd, down=spec.down)


def _grouped_conv(x: Tensor, weight: Tensor, padding: int = 0, stride: int = 1) -> Tensor:
    """Correlation of every sample with its own weight [N, O, I, k, k]."""
    batch, channels, height, width = x.shape
    y = F.conv2d(
        x.reshape(1, batch * channels, height, width),
        weight.flatten(0, 1),
        padding=padding,
        stride=stride,
        groups=batch,
    )
    return y.reshape(batch, -1, *y.shape[2:])


def modulated_conv_sg3(
    x: Tensor,
    weight: Tensor,
    s: Tensor,
    *,
    demodulate: bool = True,
    padding: int = 0,
    input_gain: Tensor | None = None,
) -> Tensor:
    """x [N, I, H, W], weight [O, I, k, k], styles s [N, I]: the weight of every sample normalised, modulated
    and demodulated, then one grouped convolution."""
    if demodulate:
        weight, s = _unit_power(weight, dims=(1, 2, 3)), _unit_power(s, dims=(0, 1))
    w = _sample_weights(weight, s, demodulate)
    if input_gain is not None:
        w = w * input_gain.expand_as(s)[:, None, :, None, None]
    return _grouped_conv(x, w, padding=padding)


def _unit_power(values: Tensor, dims: tuple[int, ...]) -> Tensor:
    """values times the one factor that makes their mean square over `dims` 1; same shape."""
    power = values.square().mean(dims, keepdim=True)
    return values * power.rsqrt()


def _sample_weights(weight: Tensor, s: Tensor, demodulate: bool) -> Tensor:
    """Weight [N, O, I, k, k] of every sample: weight [O, I, k, k] times its style s [N, I].

    demodulate: the squares of all taps that lead to one output then add up to 1.
    """
    styled = weight * s[:, None, :, None, None]
    if not demodulate:
        return styled
    energy = styled.square().sum((2, 3, 4))
    return styled * (energy + EPSILON).rsqrt()[:, :, None, None, None]


def modulated_conv(
    x: Tensor,
    weight: Tensor,
    s: Tensor,
    spec: ConvSpec = ConvSpec(),  # noqa: B008 (frozen)
    *,
    resample_filter: Tensor | None = None,
    noise: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """x [N, I, H, W], weight [O, I, k, k], styles s [N, I]: the weight of every sample; zeros, convolution,
    FIR filter (or FIR filter, strided convolution)."""
    up, down, padding = spec.up, spec.down, spec.padding
    w = _sample_weights(weight, s, spec.demodulate)
    if not spec.flip_weight:
        w = w.flip((3, 4))
    (kx, ky), edge = filter_size(resample_filter), 0
    if up > 1:
        edge = weight.shape[-1] - 1
        x = upfirdn2d(x, None, up=up, padding=[edge, edge - up + 1] * 2)
    if down > 1:
        fir = [(kx - down + 1) // 2, (kx - down) // 2, (ky - down + 1) // 2, (ky - down) // 2]
        x = upfirdn2d(x, resample_filter, padding=[p + padding for p in fir])
    y = _grouped_conv(x, w, padding=padding if up == down == 1 else 0, stride=down)
    if up > 1:
        low, high = padding - edge, padding - edge + up - 1
        fir = [
            low + (kx + up - 1) // 2,
            high + (kx - up) // 2,
            low + (ky + up - 1) // 2,
            high + (ky - up) // 2,
        ]
        y = upfirdn2d(y, resample_filter, padding=fir, gain=up**2)
    y = y * spec.gain + (0 if noise is None else noise)
    return y if bias is None else y + bias[:, None, None]


def gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    """One two-dimensional convolution per channel of x [N, C, H, W]; same shape."""
    radius = math.floor(3 * sigma)
    if radius == 0:
        return x
    taps = torch.exp2(-((torch.arange(-radius, radius + 1, dtype=torch.float64) / sigma) ** 2))
    kernel = taps.outer(taps / taps.sum()) / taps.sum()
    weight = kernel.to(x).expand(x.shape[1], 1, -1, -1)
    return F.conv2d(x, weight, padding=radius, groups=x.shape[1])


def diff_augment(x: Tensor, policy: str, draws: dict[str, Tensor]) -> Tensor:
    """Images x [N, C, H, W] one by one, with Python loops."""
    images = []
    for n, image in enumerate(x):
        value = {name: draw[n].item() for name, draw in draws.items()}
        for step in policy.split(","):
            image = _STEPS[step](image, value)
        images.append(image)
    return torch.stack(images)


def _color(image: Tensor, value: dict[str, float]) -> Tensor:
    image = image + value["brightness"] - 0.5
    grey = image.mean(0)
    image = (image - grey) * (2 * value["saturation"]) + grey
    return (image - image.mean()) * (value["contrast"] + 0.5) + image.mean()


def _translation(image: Tensor, value: dict[str, float]) -> Tensor:
    down, right = int(value["translation_h"]), int(value["translation_w"])
    height, width = image.shape[1:]
    result = torch.zeros_like(image)
    for y in range(height):
        for x in range(width):
            if 0 <= y + down < height and 0 <= x + right < width:
                result[:, y, x] = image[:, y + down, x + right]
    return result


def _cutout(image: Tensor, value: dict[str, float]) -> Tensor:
    keep = torch.ones_like(image)
    height, width = image.shape[1:]
    ch, cw = int(0.2 * height + 0.5), int(0.2 * width + 0.5)
    top, left = int(value["cutout_h"]) - ch // 2, int(value["cutout_w"]) - cw // 2
    for y in range(max(top, 0), min(top + ch, height)):
        for x in range(max(left, 0), min(left + cw, width)):
            keep[:, y, x] = 0
    return image * keep


_STEPS = {"color": _color, "translation": _translation, "cutout": _cutout}
