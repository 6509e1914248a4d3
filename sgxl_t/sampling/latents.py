"""From shots to styles: latents by seed, truncation for each, layers of two prompts mixed, ways between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sgxl_t.conditioning.condition import Condition
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.sampling.prompts import Prompts
from sgxl_t.sampling.sample_spec import Shot, Step
from sgxl_t.sampling.truncation import truncated_styles

PARALLEL = 1e-6
"""Sine of the angle below which two vectors count as parallel."""


def latents(seeds: Sequence[int], z_dim: int) -> Tensor:
    """float32 [N, z_dim], N(0, 1); each row is a function of its own seed alone."""
    return torch.stack([torch.randn(z_dim, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def styles(
    generator: Generator,
    condition: Condition | Prompts,
    shots: Sequence[Shot] | Sequence[Step],
    pull: Mapping[str, Any],
) -> Tensor:
    """Styles [N, num_ws, w_dim] of N shots, or of N pictures on the way between two."""
    steps = [shot for shot in shots if isinstance(shot, Step)]
    if steps:
        return styles_between(generator, condition, steps, pull)
    return styles_of(generator, condition, [shot for shot in shots if isinstance(shot, Shot)], pull)


def styles_of(
    generator: Generator, condition: Condition | Prompts, shots: Sequence[Shot], pull: Mapping[str, Any]
) -> Tensor:
    """Styles [N, num_ws, w_dim] of N shots. pull: cutoff, truncation, centroids (see `truncated_styles`).

    Layers of a mix take the styles that its condition has with the same seed and psi.
    """
    place = next(generator.parameters()).device
    z = latents([shot.seed for shot in shots], generator.z_dim).to(place)
    c = condition.encode([shot.condition for shot in shots]).c
    psi = torch.tensor([shot.psi for shot in shots])
    center = None
    if isinstance(condition, Prompts) and pull.get("truncation", "class") == "class" and (psi != 1).any():
        center = condition.centers([shot.condition for shot in shots])
    ws = truncated_styles(generator, z, c, psi=psi, center=center, **pull)
    mixes = {index: shot.mix for index, shot in enumerate(shots) if shot.mix is not None}
    if not mixes:
        return ws
    others = [replace(shots[index], condition=mix.condition, mix=None) for index, mix in mixes.items()]
    ws = ws.clone()
    for (index, mix), other in zip(mixes.items(), styles_of(generator, condition, others, pull), strict=True):
        ws[index, list(mix.layers)] = other[list(mix.layers)]
    return ws


def styles_between(
    generator: Generator, condition: Condition | Prompts, steps: Sequence[Step], pull: Mapping[str, Any]
) -> Tensor:
    """Styles [N, num_ws, w_dim] on the way between two shots, at both ends those of the shots themselves.

    Text features and latents turn on the sphere, where the model knows them; psi moves evenly. Classes have
    no vectors in between that the model has seen, so their styles move on a straight line.
    """
    firsts, lasts = [step.first for step in steps], [step.last for step in steps]
    share = torch.tensor([step.share for step in steps])[:, None]
    if condition.kind != "text":
        first, last = (styles_of(generator, condition, ends, pull) for ends in (firsts, lasts))
        return first.lerp(last, share[:, :, None].to(first))
    place = next(generator.parameters()).device
    z, other_z = (latents([shot.seed for shot in ends], generator.z_dim) for ends in (firsts, lasts))
    c, other_c = (condition.encode([shot.condition for shot in ends]).c for ends in (firsts, lasts))
    assert c is not None
    assert other_c is not None
    psi = torch.tensor([step.first.psi for step in steps]).lerp(
        torch.tensor([step.last.psi for step in steps]), share[:, 0]
    )
    z, c = slerp(z, other_z, share).to(place), slerp(c, other_c, share)
    return truncated_styles(generator, z, c, psi=psi, **pull)


def slerp(first: Tensor, last: Tensor, share: Tensor) -> Tensor:
    """Vectors [N, D] on the arc from `first` to `last` at `share` [N, 1]; exact at 0 and 1 (Shoemake 1985).

    The angle grows evenly and, between vectors of one length, the length stays. Parallel vectors, which span
    no arc, move on a straight line.
    """
    # Double precision is cheap on so little and not every device has it, so this is the CPU's.
    start, end, share = (values.cpu().double() for values in (first, last, share))
    unit, other = (F.normalize(vectors, dim=1) for vectors in (start, end))
    # More exact than the arc cosine where the vectors are close to each other.
    apart, together = ((unit + sign * other).norm(dim=1, keepdim=True) for sign in (-1, 1))
    angle = 2 * torch.atan2(apart, together)
    sine = angle.sin()
    arc = ((1 - share) * angle).sin() / sine * start + (share * angle).sin() / sine * end
    return torch.where(sine > PARALLEL, arc, start.lerp(end, share)).to(first)
