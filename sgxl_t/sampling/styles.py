"""From sample specs to what the synthesis takes: styles (mixed, truncated, interpolated) and tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sgxl_t.conditioning.condition import Condition
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.synthesis_t import SynthesisT
from sgxl_t.networks.text.tokens import Text, TextBlend, TextTokens
from sgxl_t.ops.random import latents
from sgxl_t.sampling.prompt_cache import PromptCache
from sgxl_t.sampling.sample_spec import (
    Curve,
    Drawable,
    InterpolationFrame,
    LatentSpec,
    MovedFrame,
    SampleSpec,
    Specs,
    Way,
)
from sgxl_t.sampling.truncation.truncation import Truncation, retruncated_styles, truncated_styles

PARALLEL = 1e-6
"""Sine of the angle below which two vectors count as parallel."""


def styles(
    generator: Generator,
    condition: Condition | PromptCache,
    specs: Specs,
    truncation: Truncation,
) -> Tensor:
    """Styles [N, num_ws, w_dim] of N specs, rows of latents, or frames between them."""
    makers: dict[type, Any] = {
        SampleSpec: spec_styles,
        LatentSpec: latent_styles,
        InterpolationFrame: interpolated_styles,
        MovedFrame: moved_styles,
    }
    made: list[Tensor | None] = [None] * len(specs)
    for kind, make in makers.items():
        places = [place for place, spec in enumerate(specs) if isinstance(spec, kind)]
        if len(places) == len(specs):
            alike: Tensor = make(generator, condition, specs, truncation)
            return alike
        found = make(generator, condition, [specs[place] for place in places], truncation) if places else ()
        for place, ws in zip(places, found, strict=True):
            made[place] = ws
    return torch.stack([ws for ws in made if ws is not None])


def latent_styles(
    generator: Generator,
    condition: Condition | PromptCache,
    specs: Sequence[LatentSpec],
    truncation: Truncation,
) -> Tensor:
    """Styles [N, num_ws, w_dim] of N rows of latents, pulled to their centres where that was asked for."""
    device = next(generator.parameters()).device
    ws = torch.stack([spec.ws for spec in specs]).to(device)
    psi = torch.tensor([spec.further for spec in specs], dtype=torch.float32)
    conditions = [spec.condition for spec in specs]
    known = condition.kind == "none" or None not in conditions
    c = condition.encode(conditions).c if known and (psi != 1).any() else None
    return retruncated_styles(generator, ws, c, psi, truncation)


def spec_styles(
    generator: Generator,
    condition: Condition | PromptCache,
    specs: Sequence[SampleSpec],
    truncation: Truncation,
    z: Tensor | None = None,
) -> Tensor:
    """Styles [N, num_ws, w_dim] of N specs.

    Layers of a mix take the styles that its condition has with the same seed and psi.
    z: latents [N, z_dim] in place of those of the seeds.
    """
    device = next(generator.parameters()).device
    z = (latents([spec.seed for spec in specs], generator.z_dim) if z is None else z).to(device)
    c = condition.encode([spec.condition for spec in specs]).c
    psi = torch.tensor([spec.psi for spec in specs], dtype=torch.float32)
    center = None
    if isinstance(condition, PromptCache) and truncation.mode == "class" and (psi != 1).any():
        center = condition.centers([spec.condition for spec in specs])
    ws = truncated_styles(generator, z, c, psi=psi, center=center, **truncation.options())
    mixes = {index: spec.mix for index, spec in enumerate(specs) if spec.mix is not None}
    if not mixes:
        return ws
    others = [replace(specs[index], condition=mix.condition, mix=None) for index, mix in mixes.items()]
    other_ws = spec_styles(generator, condition, others, truncation, z[list(mixes)])
    ws = ws.clone()
    for (index, mix), other in zip(mixes.items(), other_ws, strict=True):
        ws[index, list(mix.layers)] = other[list(mix.layers)]
    return ws


def interpolated_styles(
    generator: Generator,
    condition: Condition | PromptCache,
    frames: Sequence[InterpolationFrame],
    truncation: Truncation,
) -> Tensor:
    """Styles [N, num_ws, w_dim] of N frames; those at a key are the styles of that key.

    In w the styles of the keys are weighed. In z the latents move and, with them, the features of prompts;
    psi moves evenly. Classes have no vectors in between that the model has seen, so there the styles that
    each class gives the same z are weighed.
    """
    text = condition.kind == "text"
    ways = [frame.way or (Way("z", "sphere") if text else Way("w", "straight")) for frame in frames]
    made: list[Tensor | None] = [None] * len(frames)
    for way in dict.fromkeys(ways):
        places = [place for place, one in enumerate(ways) if one == way]
        part = [frames[place] for place in places]
        if way.space == "w":
            found = _between_styles(generator, condition, part, truncation)
        else:
            found = _between_latents(generator, condition, part, truncation, way.curve)
        for place, ws in zip(places, found, strict=True):
            made[place] = ws
    return torch.stack([ws for ws in made if ws is not None])


def _between_styles(
    generator: Generator,
    condition: Condition | PromptCache,
    frames: Sequence[InterpolationFrame],
    truncation: Truncation,
) -> Tensor:
    """Styles [N, num_ws, w_dim] of N frames that move in w."""
    keys = list(dict.fromkeys(key for frame in frames for key, _ in frame.pulls))
    ws = styles(generator, condition, keys, truncation)
    return torch.einsum("nk,kld->nld", _weights(frames, keys).to(ws), ws)


def _between_latents(
    generator: Generator,
    condition: Condition | PromptCache,
    frames: Sequence[InterpolationFrame],
    truncation: Truncation,
    curve: Curve,
) -> Tensor:
    """Styles [N, num_ws, w_dim] of N frames that move in z, along a curve."""
    device = next(generator.parameters()).device
    keys = list(dict.fromkeys(key for frame in frames for key, _ in frame.pulls))
    seeds = [key.seed for key in keys if key.seed is not None]
    assert len(seeds) == len(keys), "rows of latents move in w"
    weights = _weights(frames, keys)
    z = _moved(latents(seeds, generator.z_dim), frames, keys, weights, curve).to(device)
    psi = torch.tensor([frame.psi for frame in frames], dtype=torch.float32)
    options = truncation.options()
    if condition.kind == "text":
        c = condition.encode([key.condition for key in keys]).c
        assert c is not None
        return truncated_styles(generator, z, _moved(c, frames, keys, weights, curve), psi=psi, **options)
    # One row for every frame and every class that pulls at it.
    parts: dict[tuple[int, Any], float] = {}
    for number, frame in enumerate(frames):
        for key, weight in frame.pulls:
            parts[number, key.condition] = parts.get((number, key.condition), 0.0) + weight
    rows = torch.tensor([number for number, _ in parts])
    c = condition.encode([one for _, one in parts]).c
    ws = truncated_styles(generator, z[rows.to(device)], c, psi=psi[rows], **options)
    shares = torch.tensor(list(parts.values())).to(ws)[:, None, None]
    return torch.zeros(len(frames), *ws.shape[1:]).to(ws).index_add(0, rows.to(device), shares * ws)


def _weights(frames: Sequence[InterpolationFrame], keys: Sequence[Drawable]) -> Tensor:
    """float64 [N, K]: how much each of K keys pulls at each of N frames."""
    place = {key: number for number, key in enumerate(keys)}
    weights = torch.zeros(len(frames), len(keys), dtype=torch.float64)
    for row, frame in zip(weights, frames, strict=True):
        for key, weight in frame.pulls:
            row[place[key]] += weight
    return weights


def _moved(
    vectors: Tensor,
    frames: Sequence[InterpolationFrame],
    keys: Sequence[Drawable],
    weights: Tensor,
    curve: Curve,
) -> Tensor:
    """Vectors [N, D] of N frames between those of K keys [K, D].

    sphere: on the arc between the two ends. smooth: the spline, brought back to the length that its keys have
    there, since neither z nor features of text mean anything off their sphere. straight: a weighted sum.
    """
    place = {key: number for number, key in enumerate(keys)}
    if curve == "sphere":
        firsts, lasts = ([place[end] for end in ends] for ends in _ends(frames))
        share = torch.tensor([frame.share for frame in frames])[:, None]
        return slerp(vectors[firsts], vectors[lasts], share)
    known = vectors.cpu().double()
    found = weights @ known
    if curve == "smooth":
        found = F.normalize(found, dim=1) * (weights @ known.norm(dim=1))[:, None]
    return found.to(vectors)


def _ends(frames: Sequence[InterpolationFrame]) -> tuple[list[Drawable], list[Drawable]]:
    return [frame.first for frame in frames], [frame.last for frame in frames]


def moved_styles(
    generator: Generator,
    condition: Condition | PromptCache,
    frames: Sequence[MovedFrame],
    truncation: Truncation,
) -> Tensor:
    """Styles [N, num_ws, w_dim] of N frames of pictures that move: those of the pictures."""
    return styles(generator, condition, [frame.spec for frame in frames], truncation)


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


def token_context(
    generator: Generator,
    condition: Condition | PromptCache,
    specs: Specs,
) -> Text | None:
    """Tokens of the prompts of N specs or frames; None for a generator that attends to none.

    Between two prompts there is no sentence, so both are read, and the second weighs as much as the share of
    the way. A mix reads its second prompt in the blocks whose last layer takes its style. Truncation leaves
    tokens alone.
    """
    synthesis = generator.synthesis
    if not isinstance(synthesis, SynthesisT) or not synthesis.attends:
        return None
    layers = synthesis.last_layers()
    firsts, lasts, shares = [], list[Any](), list[list[float]]()
    for frame in specs:
        spec = frame.spec if isinstance(frame, MovedFrame) else frame
        if isinstance(spec, InterpolationFrame):
            firsts.append(spec.first.condition)
            lasts.append(spec.last.condition)
            shares.append([spec.share] * len(layers))
        else:
            firsts.append(spec.condition)
            lasts.append(spec.condition if spec.mix is None else spec.mix.condition)
            mixed = () if spec.mix is None else spec.mix.layers
            shares.append([float(layer in mixed) for layer in layers])
    if None in firsts or None in lasts:
        raise ValueError(
            "the model reads the words of a prompt and the prompt of these latents is not known: name it"
        )
    first = condition.encode(firsts).tokens
    if first is None or firsts == lasts:
        return first
    last = condition.encode(lasts).tokens
    assert isinstance(first, TextTokens)
    assert isinstance(last, TextTokens)
    return TextBlend(first, last, torch.tensor(shares, device=first.values.device))
