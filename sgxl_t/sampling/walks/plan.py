"""From keys to frames: how many, between which keys, and with which weight of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, get_args

import torch

from sgxl_t.sampling.sample_spec import (
    MAX_FRAMES,
    Curve,
    Drawable,
    InterpolationFrame,
    LatentSpec,
    SampleSpec,
    Space,
    Way,
)
from sgxl_t.sampling.walks.curve import spline_weights


@dataclass(frozen=True)
class WalkSettings:
    """How keys are walked through.

    frames: images between two neighbours. space: what moves, "z" (latent and, with it, the features of text),
    "w" (styles) or "text" (the features of text alone); None takes z for prompts and w for everything else.
    curve: "straight", "sphere" (evenly turning, in z and text) or "smooth" (a cubic spline through all keys);
    None takes sphere in z and text and straight in w. loop: from the last key on to the first, whose image
    then ends the film as well as it begins it.
    """

    frames: int = 7
    space: Space | None = None
    curve: Curve | None = None
    loop: bool = False

    def __post_init__(self) -> None:
        for word, value, known in (("space", self.space, Space), ("curve", self.curve, Curve)):
            if value is not None and value not in get_args(known):
                raise ValueError(f"{word}={value!r} is unknown: use {', '.join(get_args(known))}")
        if not 0 <= self.frames <= MAX_FRAMES:
            raise ValueError(f"frames={self.frames} is out of range: use 0 to {MAX_FRAMES}, such as 7")


def plan_interpolation(
    keys: Sequence[Drawable], settings: WalkSettings | None = None, kind: str = "text"
) -> list[InterpolationFrame]:
    """The frames of a way from each key to the next, with `frames` images between two of them.

    K keys give (K - 1) * (frames + 1) + 1 images and a loop K * (frames + 1) + 1, of which the first and the
    last are the same. kind: of the model's condition. ValueError for fewer than two keys, and for a space or
    curve that these keys do not have.
    """
    settings = settings or WalkSettings()
    if len(keys) < 2:
        raise ValueError(
            "there is nothing to interpolate between: give at least two prompts, classes, seeds or rows of "
            "latents"
        )
    if settings.space == "text":
        keys = _one_latent(keys, kind)
    way = way_of(keys, settings, kind)
    ends = [*keys, keys[0]] if settings.loop else list(keys)
    steps = settings.frames + 1
    frames = [
        InterpolationFrame(first, last, number / steps, way)
        for first, last in pairwise(ends)
        for number in range(steps)
    ]
    frames.append(InterpolationFrame(ends[-2], ends[-1], 1.0, way))
    if way.curve != "smooth":
        return frames
    places = torch.arange(len(frames), dtype=torch.float64) / steps
    if settings.loop:
        places %= len(keys)  # the end is the beginning, to the last bit
    weights = spline_weights(len(keys), places, closed=settings.loop)
    return [
        replace(frame, weights=_weighted(keys, row))
        for frame, row in zip(frames, weights.tolist(), strict=True)
    ]


def way_of(keys: Sequence[Drawable], settings: WalkSettings, kind: str) -> Way:
    """Space and curve, chosen where they were left open; ValueError where keys do not have them."""
    rows = any(isinstance(key, LatentSpec) for key in keys)
    space = settings.space or ("z" if kind == "text" and not rows else "w")
    if rows and space != "w":
        raise ValueError(f"space={space} needs keys with a seed, and rows of latents have none: use space=w")
    inner: Any = "w" if space == "w" else "z"
    curve = settings.curve or ("straight" if space == "w" else "sphere")
    if inner == "w" and curve == "sphere":
        raise ValueError("styles lie on no sphere: use curve=straight or smooth with space=w, or space=z")
    return Way(inner, curve)


def dealt(keys: Sequence[Drawable], walks: int) -> list[list[Drawable]]:
    """The keys in so many equal parts, in order; ValueError where they do not come out even."""
    if walks < 1 or len(keys) % walks or len(keys) // walks < 2:
        raise ValueError(
            f"{len(keys)} keys cannot be dealt out to {walks} walks: give each the same number, at least two"
        )
    each = len(keys) // walks
    return [list(keys[first : first + each]) for first in range(0, len(keys), each)]


def _one_latent(keys: Sequence[Drawable], kind: str) -> list[Drawable]:
    """The keys with the seed of the first, so that the text alone moves."""
    if kind != "text":
        raise ValueError("space=text moves the features of prompts, which this model has none of: use z or w")
    first = keys[0]
    if not isinstance(first, SampleSpec):
        raise ValueError("space=text needs keys with a seed, and rows of latents have none: use space=w")
    return [replace(key, seed=first.seed) if isinstance(key, SampleSpec) else key for key in keys]


def _weighted(keys: Sequence[Drawable], weights: Sequence[float]) -> tuple[tuple[Drawable, float], ...]:
    return tuple((key, weight) for key, weight in zip(keys, weights, strict=True) if weight != 0)
