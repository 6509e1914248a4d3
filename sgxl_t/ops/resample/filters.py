"""FIR filters: preparation of given taps and low-pass design."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_SEPARABLE_TAPS = 8


def setup_filter(
    f: Tensor | Sequence[float] | Sequence[Sequence[float]],
    normalize: bool = True,
    flip_filter: bool = False,
    gain: float = 1,
    separable: bool | None = None,
) -> Tensor:
    """Prepared float32 filter for `upfirdn2d`: [K] (separable) or [Kh, Kw].

    f: taps [K] or [Kh, Kw]. normalize: scale the sum to 1. flip_filter: reverse the taps. gain: of the
    two-dimensional filter. separable: keep 1-D taps 1-D; None keeps them from 8 taps on, because short ones
    are cheaper as one 2-D filter. ValueError for empty taps, more than two axes or a 2-D filter asked to be
    separable.
    """
    taps = torch.as_tensor(f, dtype=torch.float32)
    if taps.ndim == 0:
        taps = taps[None]
    if taps.ndim > 2 or taps.numel() == 0:
        raise ValueError(f"a filter of shape {tuple(taps.shape)} is no FIR filter: give taps [K] or [Kh, Kw]")
    if separable and taps.ndim == 2:
        raise ValueError(
            f"a filter of shape {tuple(taps.shape)} has two axes: give 1-D taps for separable=True"
        )
    if separable is None:
        separable = taps.ndim == 1 and taps.numel() >= _SEPARABLE_TAPS
    if taps.ndim == 1 and not separable:
        taps = taps.outer(taps)
    if normalize:
        taps = taps / taps.sum()
    if flip_filter:
        taps = taps.flip(list(range(taps.ndim)))
    return taps * gain ** (taps.ndim / 2)


def kaiser_beta(numtaps: int, width: float, fs: float) -> float:
    """Shape parameter of the Kaiser window for a transition band of `width` at sampling rate `fs`.

    Kaiser's empirical formula, as in Oppenheim and Schafer, "Discrete-Time Signal Processing", section 7.6.
    """
    attenuation = 2.285 * (numtaps - 1) * math.pi * (width / (fs / 2)) + 7.95
    if attenuation > 50:
        return 0.1102 * (attenuation - 8.7)
    if attenuation >= 21:
        return 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)
    return 0.0


def lowpass_filter(
    numtaps: int, cutoff: float, width: float, fs: float, radial: bool = False
) -> Tensor | None:
    """Kaiser-windowed low-pass filter of unit sum, float32: [numtaps], or [numtaps, numtaps] when radial.

    cutoff, width (whole transition band) and fs share one unit, for instance cycles per image. One tap
    means no filter: None. radial: rotationally symmetric jinc filter, even numtaps only. ValueError for a
    cutoff outside (0, fs/2), a width that is not positive, or odd radial taps. (Karras et al. 2021,
    "Alias-Free Generative Adversarial Networks", appendix C.)
    """
    if numtaps == 1:
        return None
    if numtaps < 1 or not 0 < cutoff <= fs / 2 or not width > 0:
        raise ValueError(
            f"{numtaps} taps, cutoff={cutoff}, width={width} at fs={fs} make no low-pass filter: "
            "use at least 1 tap, a cutoff above 0 up to fs/2 and a positive width"
        )
    if radial and numtaps % 2:
        raise ValueError(f"numtaps={numtaps} is odd: a radial filter needs an even number of taps")
    position = torch.arange(numtaps, dtype=torch.float64) - (numtaps - 1) / 2
    window = torch.kaiser_window(
        numtaps, periodic=False, beta=kaiser_beta(numtaps, width, fs), dtype=torch.float64
    )
    if radial:
        radius = torch.hypot(position[:, None], position[None, :]) / fs
        taps = (
            torch.special.bessel_j1(2 * math.pi * cutoff * radius) / (math.pi * radius) * window.outer(window)
        )
    else:
        taps = torch.sinc(2 * cutoff / fs * position) * window
    return (taps / taps.sum()).float()
