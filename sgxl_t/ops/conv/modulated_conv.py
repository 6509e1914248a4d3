"""Convolution whose weight is scaled by a style, sample by sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sgxl_t.ops.backend import conv_backend
from sgxl_t.ops.conv import winograd
from sgxl_t.ops.conv.frozen import FrozenCache
from sgxl_t.ops.conv.rounding import rounded
from sgxl_t.ops.precision import own_precision
from sgxl_t.ops.resample.resample import filter_size, upfirdn2d

EPSILON = 1e-8
"""Added to the energy of a demodulated weight."""

_NARROW = 256
_LARGE = 256**2


@dataclass(frozen=True)
class ConvSpec:
    """Numbers of a StyleGAN2 convolution.

    up: zero insertion before the convolution and the resampling filter (gain up^2) after it. down: the filter
    before it and a stride. padding: zero padding of the convolution in pixels of its finer grid; k // 2 keeps
    H' = H * up / down. demodulate: undo the style's effect on the variance. gain: factor on the demodulated
    result. flip_weight: True correlates, False convolves. ValueError unless up and down are positive and one
    of them is 1.
    """

    up: int = 1
    down: int = 1
    padding: int = 0
    demodulate: bool = True
    gain: float = 1.0
    flip_weight: bool = True

    def __post_init__(self) -> None:
        if self.up < 1 or self.down < 1 or (self.up > 1 and self.down > 1):
            raise ValueError(f"up={self.up}, down={self.down}: both must be positive and one of them 1")


def _check(x: Tensor, weight: Tensor, s: Tensor) -> None:
    """ValueError unless x [N, I, H, W], weight [O, I, k, k] and s [N, I] belong together."""
    if x.ndim != 4 or weight.ndim != 4 or x.shape[1] != weight.shape[1] or s.shape != x.shape[:2]:
        raise ValueError(
            f"x {tuple(x.shape)}, weight {tuple(weight.shape)} and style {tuple(s.shape)} do not fit: "
            "give [N, I, H, W], [O, I, k, k] and [N, I]"
        )


def _conv(
    x: Tensor, factor: Tensor, weight: Tensor, padding: int, dtype: torch.dtype | None = None
) -> Tensor:
    """x times factor [N, I] per channel, correlated with weight [O, I, k, k] on the backend chosen for it.

    dtype: of the product and of the result; None takes that of x.
    """
    dtype = x.dtype if dtype is None else dtype
    if dtype == x.dtype and conv_backend(x, weight) == "winograd":
        return winograd.conv2d(x * factor.to(x.dtype)[:, :, None, None], weight.to(x.dtype), padding)
    x = _styled(x, factor, weight, dtype)
    if padding > 1 and x.device.type == "cpu" and torch.is_grad_enabled() and weight.requires_grad:
        # oneDNN's gradient of the weight runs at half its speed for paddings above 1 (0.45 to 0.6 of it).
        x, padding = F.pad(x, [padding - 1] * 4), 1
    return F.conv2d(x, rounded(weight, dtype), padding=padding)


def _styled(
    x: Tensor, factor: Tensor, weight: Tensor, dtype: torch.dtype, *, transposed: bool = False
) -> Tensor:
    """x times factor [N, I] per channel, in `dtype` and the memory layout that suits its convolution.

    On a CPU channels-last is level or ahead for narrow layers, forward and backward together (1.0 to 1.2
    times at 48 to 128 channels and 8 to 32 pixels, 1.1 to 1.3 times with up-sampling), but at 1024 channels
    its backward pass takes 1.9 times as long. Transposed convolutions of 512 channels: 1.0 to 1.4 times
    forward, 0.6 to 1.0 times with the backward pass. Layers of 300 to 430 channels at 276 pixels: 1.1 to
    1.3 times forward, filters included; of 860 at 148 pixels 0.9 times. Other devices keep the layout that
    they are given.
    """
    x = (x * factor.to(x.dtype)[:, :, None, None]).to(dtype)
    if x.device.type != "cpu":
        return x
    better_forward = transposed or x.shape[2] * x.shape[3] >= _LARGE
    last = max(weight.shape[:2]) <= _NARROW or (better_forward and not torch.is_grad_enabled())
    return x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


class _Energies(torch.autograd.Function):
    """[O, I] sums of squares over the taps of w [O, I, k, k], with one pass over w in each direction."""

    @staticmethod
    def forward(ctx: Any, w: Tensor) -> Tensor:
        ctx.save_for_backward(w)
        return w.square().sum((2, 3))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (w,) = ctx.saved_tensors
        return w * (2 * grads[0])[:, :, None, None]


_energies = FrozenCache(lambda weight: _Energies.apply(weight))
"""Kept for sampling, where they would be a seventh of a wide layer's time."""


def _demodulation(weight: Tensor, s: Tensor, normalize: bool = False) -> Tensor:
    """[N, O] factors that undo the style's effect on the variance; see `modulated_conv_sg3`."""
    with own_precision(s):
        energy = _energies(weight)
        if not normalize:
            return (s.square() @ energy.T + EPSILON).rsqrt()
        norm = weight[0].numel() / energy.sum(1)
        return norm.sqrt() * (norm * (s.square() @ energy.T) + EPSILON).rsqrt()


def modulated_conv_sg3(
    x: Tensor,
    weight: Tensor,
    s: Tensor,
    *,
    demodulate: bool = True,
    padding: int = 0,
    input_gain: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Modulated convolution of StyleGAN3: x [N, I, H, W] to [N, O, H', W'], H' = H + 2 padding - k + 1.

    weight: [O, I, k, k], correlated with x, zero padding. s: [N, I]. input_gain: scalar, [I] or [N, I], a
    factor on x that demodulation does not undo. demodulate: weight rows are first scaled to mean square 1,
    and styles by the RMS over the *whole batch*, so a sample's result depends (through the epsilon only) on
    its batch mates. Demodulation is computed in the dtype of the weight, also under autocast. dtype: of the
    product alone, None for that of x; the result has the dtype of x.

    The weight is never copied per sample. With the energies Q[o, i] = sum_k weight[o, i, k]^2 the
    demodulation is d = r rsqrt(r^2 sum_i s_i^2 Q_oi + 1e-8), r_o^2 = I k^2 / sum_i Q_oi, and y = d
    conv(x s, weight). ValueError when shapes do not fit. (Karras et al. 2021, "Alias-Free GANs", section
    3.2 and appendix.)
    """
    _check(x, weight, s)
    s = s.to(weight.dtype)
    scale = None
    if demodulate:
        s = s * s.square().mean().rsqrt()
        scale = _demodulation(weight, s, normalize=True)
    factor = s if input_gain is None else s * input_gain
    y = _conv(x, factor, weight, padding, dtype).to(x.dtype)
    return y if scale is None else y * scale.to(y.dtype)[:, :, None, None]


def modulated_conv(
    x: Tensor,
    weight: Tensor,
    s: Tensor,
    spec: ConvSpec = ConvSpec(),
    *,
    resample_filter: Tensor | None = None,
    noise: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Modulated convolution of StyleGAN2: x [N, I, H, W] to [N, O, H', W'].

    weight: [O, I, k, k]; s: [N, I]. resample_filter: [K], [Kh, Kw] or None, see `ConvSpec`. noise: added
    after the gain, any shape that broadcasts to the result; bias [O] as well. No per-sample weight is made
    (see `modulated_conv_sg3`). ValueError when shapes do not fit. (Karras et al. 2020, section 2.2 and B.)
    """
    _check(x, weight, s)
    scale = _demodulation(weight, s.to(weight.dtype)) if spec.demodulate else None
    if spec.up == spec.down == 1:
        y = _conv(x, s, weight if spec.flip_weight else weight.flip((2, 3)), spec.padding)
    else:
        styled = _styled(x, s, weight, x.dtype, transposed=spec.up > 1)
        y = _resampled_conv(styled, rounded(weight, x.dtype), spec, resample_filter)
    if scale is not None or spec.gain != 1 or bias is not None:
        y = _scaled(y, s.new_full((1, 1), spec.gain) if scale is None else scale * spec.gain, bias)
    return y if noise is None else y.add_(noise.to(y.dtype))


def _scaled(y: Tensor, factor: Tensor, bias: Tensor | None) -> Tensor:
    """y times factor [N, O] or [1, 1] plus bias [O] in one pass.

    Overwrites y unless gradients are recorded: fresh maps cost more than the work on them.
    """
    factor, free = factor.to(y.dtype)[:, :, None, None], not torch.is_grad_enabled()
    if bias is None:
        return y.mul_(factor) if free else y * factor
    bias = bias.to(y.dtype).view(-1, 1, 1)
    return torch.addcmul(bias, y, factor, out=y) if free else torch.addcmul(bias, y, factor)


def _resampled_conv(x: Tensor, weight: Tensor, spec: ConvSpec, f: Tensor | None) -> Tensor:
    """Convolution at the finer of two grids, with the FIR filter on the side of the coarser one."""
    up, down, padding = spec.up, spec.down, spec.padding
    kernel, (kx, ky) = weight.shape[-1], filter_size(f)
    if up > 1:
        # conv_transpose2d adds the kernel unflipped at every input pixel, which is a convolution.
        spread = (weight.flip((2, 3)) if spec.flip_weight else weight).transpose(0, 1)
        y = F.conv_transpose2d(x, spread, stride=up)
        low, high = padding - kernel + 1, padding - kernel + up
        fir = [
            low + (kx + up - 1) // 2,
            high + (kx - up) // 2,
            low + (ky + up - 1) // 2,
            high + (ky - up) // 2,
        ]
        return upfirdn2d(y, f, padding=fir, gain=up**2)
    weight = weight if spec.flip_weight else weight.flip((2, 3))
    fir = [(kx - down + 1) // 2, (kx - down) // 2, (ky - down + 1) // 2, (ky - down) // 2]
    x = upfirdn2d(x, f, padding=[p + padding for p in fir])
    return F.conv2d(x, weight, stride=down)
