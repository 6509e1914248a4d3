"""EQ-T: does the image move with the input? (Karras et al. 2021, "Alias-Free GAN", section 3)"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from sgxl_t.metrics.sampling_rng import (
    ConditionOf,
    condition_of,
    device_of,
    exact,
    per_sample,
    sample_latents,
)
from sgxl_t.networks.generators.fourier_input import moved_input
from sgxl_t.ops.random import sample_rng

MAX_SHIFT = 1 / 8
"""Largest shift along each axis, as a share of the image."""

PEAK = 2.0
"""Range of pixel values, -1 to 1."""

LOBES = 3
"""Half width of the Lanczos kernel in pixels, which therefore has six taps."""


def eqt(
    generator: nn.Module,
    count: int = 50_000,
    *,
    fractional: bool = False,
    conditions: ConditionOf | None = None,
    seed: int = 0,
    batch_size: int = 16,
) -> float:
    """Translation equivariance in dB, higher is better: `eqt50k_int`, or `eqt50k_frac` with `fractional`.

    An image shifted after generation is compared with the image of the shifted input. Squared errors over
    the valid regions of all samples are pooled before the one logarithm. Images are float32 at psi 1 with
    constant noise, neither clamped nor quantised.
    generator: needs an input transform, as the stylegan3 family has; ValueError otherwise.
    fractional: shifts of any size, the reference moved by Lanczos-3, instead of whole pixels.
    conditions: of the samples, for a conditional generator. Latent and shift of sample i depend on seed + i
    alone, so the batch size changes the result by float rounding only.
    """
    input_layer = input_of(generator)
    device = device_of(generator)
    network = cast(Any, generator)

    def errors(indices: list[int]) -> Tensor:
        z = sample_latents(seed, indices, network.z_dim).to(device)
        ws = network.mapping(z, condition_of(conditions, indices, device).c)
        still = network.synthesis(ws, noise_mode="const")
        shifts = [draw_shift(seed, index, still.shape[-1], fractional) for index in indices]
        shares = torch.tensor(shifts, dtype=torch.float64) / still.shape[-1]
        with moved_input(input_layer, shifting(shares)):
            moved = network.synthesis(ws, noise_mode="const")
        return masked_errors(still, moved, shifts, fractional)

    name = "eqt_frac" if fractional else "eqt_int"
    with exact(device):
        sums = per_sample(errors, count=count, width=2, batch_size=batch_size, name=name)
    return psnr(sums)


def input_of(generator: nn.Module) -> nn.Module:
    """The module whose `transform` moves the whole image; ValueError where there is none."""
    family = getattr(getattr(generator, "config", None), "family", "stylegan3")
    input_layer = getattr(getattr(generator, "synthesis", None), "input", None)
    if family != "stylegan3" or not isinstance(getattr(input_layer, "transform", None), Tensor):
        what = "another kind" if family == "stylegan3" else f"family {family}"
        raise ValueError(
            f"equivariance is unsupported for a generator of {what}: it needs an input transform that moves "
            "the whole picture, so use a stylegan3 generator or leave eqt and eqr out"
        )
    return cast(nn.Module, input_layer)


def draw_shift(seed: int, index: int, resolution: int, fractional: bool) -> tuple[float, float]:
    """Shift (right, down) of one sample in pixels, uniform up to `MAX_SHIFT` of the size of the image."""
    unit = torch.rand(2, dtype=torch.float64, generator=sample_rng(seed, index, "shift"))
    pixels = (2 * unit - 1) * MAX_SHIFT * resolution
    right, down = (pixels if fractional else pixels.round()).tolist()
    return right, down


def shifting(shares: Tensor) -> Tensor:
    """float64 [N, 3, 3] for an input that shifts image n by shares[n] = (right, down), [N, 2]."""
    moves = torch.eye(3, dtype=torch.float64).repeat(len(shares), 1, 1)
    # The input takes the inverse of the movement of the image.
    moves[:, :2, 2] = -shares
    return moves


def masked_errors(
    still: Tensor, moved: Tensor, shifts: Sequence[tuple[float, float]], fractional: bool
) -> Tensor:
    """Per sample [N, 2], float64: summed squared error over the valid region and number of values there.

    still, moved: images [N, C, H, W] of the plain and of the shifted input, in about [-1, 1], not clamped.
    shifts: (right, down) in pixels.
    """
    sums = []
    for before, after, shift in zip(still, moved, shifts, strict=True):
        reference, valid = translate(before, *shift, lanczos=fractional)
        error = (reference.double() - after.double()).square().sum(dim=0)
        sums.append([float(error[valid].sum()), float(valid.sum()) * len(before)])
    return torch.tensor(sums, dtype=torch.float64)


def translate(image: Tensor, right: float, down: float, *, lanczos: bool) -> tuple[Tensor, Tensor]:
    """image [C, H, W] moved by (right, down) pixels, and the mask [H, W] of pixels that depend on it alone.

    lanczos: any shift, six taps per axis with sum 1, pixels whose taps leave the image masked; otherwise
    whole pixels.
    """
    image, columns = _translate_last(image, right, lanczos)
    image, rows = _translate_last(image.transpose(1, 2), down, lanczos)
    return image.transpose(1, 2), rows[:, None] & columns[None, :]


def _translate_last(image: Tensor, shift: float, lanczos: bool) -> tuple[Tensor, Tensor]:
    first, taps = lanczos_taps(shift) if lanczos else (-round(shift), [1.0])
    size = image.shape[-1]
    moved = torch.zeros_like(image)
    valid = torch.ones(size, dtype=torch.bool, device=image.device)
    for offset, tap in enumerate(taps, first):
        source = torch.arange(size, device=image.device) + offset
        moved += tap * image[..., source.clamp(0, size - 1)]
        valid &= (source >= 0) & (source < size)
    return moved, valid


def lanczos_taps(shift: float) -> tuple[int, list[float]]:
    """Offset of the first source pixel and six weights with sum 1 that move a row by `shift` pixels."""
    base = math.floor(-shift)
    distances = [-shift - (base + step) for step in range(1 - LOBES, LOBES + 1)]
    taps = [_sinc(distance) * _sinc(distance / LOBES) for distance in distances]
    return base + 1 - LOBES, [tap / sum(taps) for tap in taps]


def _sinc(x: float) -> float:
    return 1.0 if x == 0 else math.sin(math.pi * x) / (math.pi * x)


def psnr(sums: Tensor) -> float:
    """dB from per-sample sums [N, 2] of squared error and count; infinite without any error."""
    error, count = sums.sum(dim=0).tolist()
    if error == 0:
        return math.inf
    return 20 * math.log10(PEAK) - 10 * math.log10(error / count)
