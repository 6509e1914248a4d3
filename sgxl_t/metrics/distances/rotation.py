"""EQ-R: does the image turn with the input? (Karras et al. 2021, "Alias-Free GAN", section 3)

The reference is turned by a Lanczos-3 kernel. The published number also takes the corners of the frequency
plane away from both images before it compares them, which makes it higher: hence a name of its own.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from sgxl_t.metrics.distances.equivariance import LOBES, input_of, psnr
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


def eqr(
    generator: nn.Module,
    count: int = 50_000,
    *,
    conditions: ConditionOf | None = None,
    seed: int = 0,
    batch_size: int = 16,
) -> float:
    """Rotation equivariance in dB, higher is better: `eqr50k_lanczos`.

    An image turned about its centre after generation is compared with the image of the turned input, by an
    angle drawn evenly from all, over the pixels whose taps lie inside of both. Otherwise as `eqt`.
    generator: of the stylegan3 family; ValueError otherwise. Only its variant R (conv_kernel=1,
    use_radial_filters=true) is made to turn.
    """
    input_layer = input_of(generator)
    device = device_of(generator)
    network = cast(Any, generator)

    def errors(indices: list[int]) -> Tensor:
        z = sample_latents(seed, indices, network.z_dim).to(device)
        ws = network.mapping(z, condition_of(conditions, indices, device).c)
        still = network.synthesis(ws, noise_mode="const")
        turns = torch.stack([turning(draw_angle(seed, index)) for index in indices])
        with moved_input(input_layer, turns):
            moved = network.synthesis(ws, noise_mode="const")
        return _masked_errors(still, moved, turns)

    with exact(device):
        sums = per_sample(errors, count=count, width=2, batch_size=batch_size, name="eqr_lanczos")
    return psnr(sums)


def draw_angle(seed: int, index: int) -> float:
    """Angle of one sample in radians, even over a whole turn."""
    unit = torch.rand(1, dtype=torch.float64, generator=sample_rng(seed, index, "angle"))
    return float(2 * math.pi * unit)


def turning(angle: float) -> Tensor:
    """float64 [3, 3] by which places of an image turn about its centre, axes to the right and down."""
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)


def _masked_errors(still: Tensor, moved: Tensor, turns: Tensor) -> Tensor:
    """Per sample [N, 2], float64: summed squared error over the valid pixels and number of values there."""
    sums = []
    for before, after, turn in zip(still, moved, turns, strict=True):
        reference, valid = resampled(before, turn)
        error = (reference - after.double()).square().sum(dim=0)
        sums.append([float(error[valid].sum()), float(valid.sum()) * len(before)])
    return torch.tensor(sums, dtype=torch.float64)


def resampled(image: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """image [C, R, R] read at transformed places, float64, and the mask [R, R] of those with all taps inside.

    places: [3, 3], from the places of pixels, in pictures from the centre, to where they are read; six
    Lanczos taps along each axis, with sum 1.
    """
    side, device = image.shape[-1], image.device
    steps = (torch.arange(side, device=device, dtype=torch.float64) + 0.5) / side - 0.5
    x, y = steps.expand(side, side), steps[:, None].expand(side, side)
    turn = places.to(device)
    across, down = ((turn[row, 0] * x + turn[row, 1] * y + turn[row, 2] + 0.5) * side - 0.5 for row in (0, 1))
    columns, column_taps, inside = _taps(across, side)
    rows, row_taps, inside_rows = _taps(down, side)
    known, found = image.double().flatten(1), torch.zeros(len(image), side, side, device=device).double()
    for row, row_tap in zip(rows, row_taps, strict=True):
        for column, column_tap in zip(columns, column_taps, strict=True):
            found += row_tap * column_tap * known[:, row * side + column]
    return found, inside & inside_rows


def _taps(places: Tensor, side: int) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Pixels and weights of the six taps along one axis, and whether all lie inside."""
    first = places.floor().long() - (LOBES - 1)
    pixels = [first + step for step in range(2 * LOBES)]
    weights = [_lanczos(places - pixel) for pixel in pixels]
    total = torch.stack(weights).sum(dim=0)
    inside = (first >= 0) & (pixels[-1] < side)
    return [pixel.clamp(0, side - 1) for pixel in pixels], [weight / total for weight in weights], inside


def _lanczos(x: Tensor) -> Tensor:
    return torch.sinc(x) * torch.sinc(x / LOBES) * (x.abs() < LOBES)
