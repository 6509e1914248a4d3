"""Differentiable augmentation with explicit randomness."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_TRANSLATION = 0.125
_CUTOUT = 0.2
_POLICIES = ("color", "translation", "cutout")


def diff_augment(
    x: Tensor,
    policy: str = "color,translation,cutout",
    *,
    generator: torch.Generator | None = None,
    draws: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Random colour, shift and cutout, drawn for every image separately; differentiable in x.

    x: [N, C, H, W] in [-1, 1]; result of the same shape. policy: comma-separated steps in order, from color,
    translation, cutout; empty for none. generator: source of randomness, required unless `draws` gives the
    drawn numbers (names and order as in `draw_augmentation`). ValueError for an unknown step or a missing
    draw. (Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training", section 4.)
    """
    steps = parse_policy(policy)
    if not steps:
        return x
    if draws is None:
        if generator is None:
            raise ValueError("diff_augment has no source of randomness: give generator or draws")
        draws = draw_augmentation(x.shape, policy, generator=generator, device=x.device)
    for step in steps:
        try:
            x = _STEPS[step](x, draws)
        except KeyError as missing:
            raise ValueError(
                f"draws has no {missing}: give every number that policy {policy!r} needs"
            ) from None
    return x


def parse_policy(policy: str) -> list[str]:
    """Steps of a policy; ValueError for an unknown one."""
    steps = [step.strip() for step in policy.split(",") if step.strip()]
    for step in steps:
        if step not in _POLICIES:
            raise ValueError(
                f"augmentation step {step!r} is unknown: discriminator.diff_augment joins some of "
                f"{', '.join(_POLICIES)} with commas, or is empty"
            )
    return steps


def draw_augmentation(
    shape: torch.Size | tuple[int, ...],
    policy: str,
    *,
    generator: torch.Generator,
    device: torch.device | str,
) -> dict[str, Tensor]:
    """Numbers for one call of `diff_augment` on images of `shape` [N, C, H, W], in drawing order.

    brightness, saturation, contrast: uniform in [0, 1), [N, 1, 1, 1]. translation_h, _w: int64 pixels, [N,
    1, 1]. cutout_h, _w: int64 centre of the square, [N, 1, 1]. The generator may live on another device
    than the images.
    """
    count, _, height, width = shape
    draws: dict[str, Tensor] = {}

    def integers(low: int, high: int) -> Tensor:
        drawn = torch.randint(low, high + 1, (count, 1, 1), generator=generator, device=generator.device)
        return drawn.to(device, non_blocking=True)

    for step in parse_policy(policy):
        if step == "color":
            for name in ("brightness", "saturation", "contrast"):
                drawn = torch.rand(count, 1, 1, 1, generator=generator, device=generator.device)
                draws[name] = drawn.to(device, non_blocking=True)
        for name, size in (("h", height), ("w", width)):
            if step == "translation":
                reach = int(size * _TRANSLATION + 0.5)
                draws[f"translation_{name}"] = integers(-reach, reach)
            elif step == "cutout":
                cut = int(size * _CUTOUT + 0.5)
                draws[f"cutout_{name}"] = integers(0, size - cut % 2)
    return draws


def _color(x: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
    """Brightness, then saturation about the pixel's grey, then contrast about the image's mean."""
    x = x + (draws["brightness"].to(x) - 0.5)
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * (draws["saturation"].to(x) * 2) + grey
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * (draws["contrast"].to(x) + 0.5) + mean


def _translation(x: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
    """Shift by whole pixels, filling with zeros: one gather from an image with a border of one zero pixel."""
    count, channels, height, width = x.shape
    rows = torch.arange(height, device=x.device)[None, :, None] + draws["translation_h"].to(x.device) + 1
    columns = torch.arange(width, device=x.device)[None, None, :] + draws["translation_w"].to(x.device) + 1
    index = rows.clamp(0, height + 1) * (width + 2) + columns.clamp(0, width + 1)
    padded = torch.nn.functional.pad(x, [1, 1, 1, 1]).flatten(2)
    index = index.reshape(count, 1, height * width).expand(-1, channels, -1)
    return padded.gather(2, index).reshape(x.shape)


def _cutout(x: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
    """Zero rectangle of a fifth of each side around the drawn centre, clipped at the border."""
    inside = None
    for name, axis in (("h", 2), ("w", 3)):
        size = x.shape[axis]
        cut = int(size * _CUTOUT + 0.5)
        first = draws[f"cutout_{name}"].to(x.device).reshape(-1, 1) - cut // 2
        position = torch.arange(size, device=x.device)
        covered = (position >= first) & (position < first + cut)
        covered = covered[:, None, :, None] if axis == 2 else covered[:, None, None, :]
        inside = covered if inside is None else inside & covered
    assert inside is not None
    return x.masked_fill(inside, 0)


_STEPS = {"color": _color, "translation": _translation, "cutout": _cutout}
