"""What images are made from: a sample spec per image, latents, and frames between two of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from sgxl_t.sampling.asked_numbers import parse_layers, spans

if TYPE_CHECKING:
    from torch import Tensor

    from sgxl_t.conditioning.condition import Condition
    from sgxl_t.networks.text.clip import ClipModel
    from sgxl_t.sampling.image import GeneratedImage

MAX_FRAMES = 10_000
"""Images between two specs, at most."""
MAX_CANDIDATES = 10_000

TruncationMode = Literal["class", "global", "centroid"]
"""class: the average w of the sample's class or prompt, or of all z without either (the trained networks' own
way). global: the average over all classes in equal shares. centroid: the nearest centre of k-means.

StyleGAN-T keeps the condition out of the truncated part of w, so class and global are the same there.
"""


@dataclass(frozen=True)
class SampleSettings:
    """How the images of one call are made, whatever they show.

    truncation: what psi below 1 pulls to. cutoff: truncate only the first so many styles. best_of: candidates
    for each image, of which CLIP chooses; clip: that CLIP (loaded or by reference), None for the model's own.
    batch_size: images at a time, None for as many as fit. ValueError for numbers that are out of range.
    """

    truncation: TruncationMode = "class"
    cutoff: int | None = None
    best_of: int = 1
    clip: ClipModel | str | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.best_of <= MAX_CANDIDATES:
            raise ValueError(
                f"best_of={self.best_of} is out of range: use 1 to {MAX_CANDIDATES} candidates, such as 8"
            )
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(
                f"batch_size={self.batch_size} is too small: use 1 or more, or None for as many as fit"
            )


@dataclass(frozen=True)
class Mix:
    """A second prompt or class (as resolved) whose styles take over these layers, counted from 0."""

    condition: Any
    layers: tuple[int, ...]


@dataclass(frozen=True)
class SampleSpec:
    """What one image is made from: a prompt or class (as resolved), the seed of its latent, its psi."""

    condition: Any
    seed: int
    psi: float = 1.0
    mix: Mix | None = None

    @property
    def conditions(self) -> tuple[Any, ...]:
        """All prompts or classes that it shows."""
        return (self.condition,) if self.mix is None else (self.condition, self.mix.condition)

    def label(self, condition: Condition) -> str:
        """What it shows, in words."""
        return condition.label(self.condition)


@dataclass(frozen=True, eq=False)
class LatentSpec:
    """An image of given styles: a row of latents.

    ws: float32 [num_ws, w_dim] on the CPU, truncated by `carried` already. further: truncation on top.
    condition: as resolved, or None where nobody knows it. number: of the row.
    """

    ws: Tensor
    name: str
    number: int
    condition: Any = None
    carried: float = 1.0
    further: float = 1.0

    seed: ClassVar[None] = None
    mix: ClassVar[None] = None

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits of its styles."""
        return hashlib.sha256(self.ws.numpy().tobytes()).hexdigest()[:16]

    @property
    def psi(self) -> float:
        """Truncation of the image."""
        return self.carried * self.further

    @property
    def conditions(self) -> tuple[Any, ...]:
        """The prompt or class, where it is known."""
        return () if self.condition is None else (self.condition,)

    def label(self, condition: Condition) -> str:
        """What it shows, in words."""
        return self.name


Drawable = SampleSpec | LatentSpec
"""An image that stands for itself, and may be a key of a walk."""
Space = Literal["z", "w", "text"]
Curve = Literal["straight", "sphere", "smooth"]


@dataclass(frozen=True)
class Way:
    """What moves between keys, and along which curve; see `WalkSettings`."""

    space: Literal["z", "w"] = "w"
    curve: Curve = "straight"


@dataclass(frozen=True)
class InterpolationFrame:
    """An image on the way from one key to the next; share: 0 is the first, 1 the last.

    way: None for z on the sphere with prompts and a straight line in w without. weights: of every key that
    pulls at the frame, on a smooth curve; None where its two ends alone do.
    """

    first: Drawable
    last: Drawable
    share: float
    way: Way | None = None
    weights: tuple[tuple[Drawable, float], ...] | None = None

    mix: ClassVar[None] = None

    @property
    def pulls(self) -> tuple[tuple[Drawable, float], ...]:
        """Each key that makes this frame with its weight; weights sum to 1."""
        if self.weights is not None:
            return self.weights
        return ((self.first, 1 - self.share), (self.last, self.share))

    @property
    def seed(self) -> int | None:
        """Seed of the first key, where it has one."""
        return self.first.seed

    @property
    def psi(self) -> float:
        """Truncation of this frame."""
        if self.weights is not None:
            return sum(key.psi * weight for key, weight in self.weights)
        return self.first.psi + self.share * (self.last.psi - self.first.psi)

    @property
    def conditions(self) -> tuple[Any, ...]:
        """The prompts or classes at both ends."""
        return (*self.first.conditions, *self.last.conditions)

    def label(self, condition: Condition) -> str:
        """What it shows, in words; seeds where both ends show the same."""
        ends = [end.label(condition) for end in (self.first, self.last)]
        if ends[0] == ends[1] and self.first.seed != self.last.seed:
            same = "" if condition.kind == "none" else f"{ends[0]}, "
            ends = [f"{same}seed {end.seed}" for end in (self.first, self.last)]
        return ends[int(self.share)] if self.share in (0, 1) else " to ".join(ends)


@dataclass(frozen=True)
class MovedFrame:
    """An image whose input is turned by `degrees` (to the left), then shifted by shares of its side."""

    spec: Drawable
    right: float = 0.0
    down: float = 0.0
    degrees: float = 0.0

    mix: ClassVar[None] = None

    @property
    def seed(self) -> int | None:
        """Seed of the image."""
        return self.spec.seed

    @property
    def psi(self) -> float:
        """Truncation of the image."""
        return self.spec.psi

    @property
    def conditions(self) -> tuple[Any, ...]:
        """Its prompt or class, and that of its mix."""
        return self.spec.conditions

    def label(self, condition: Condition) -> str:
        """What it shows, and how it is moved, in words."""
        how = f"turned by {self.degrees:.0f} degrees"
        if not self.degrees:
            how = f"moved by {self.right:.3f}, {self.down:.3f}" if self.right or self.down else ""
        return ", ".join(part for part in (self.spec.label(condition), how) if part)


AnySpec = SampleSpec | LatentSpec | InterpolationFrame | MovedFrame
Specs = Sequence[AnySpec]
"""What a pipeline makes images of."""


Drawn = TypeVar("Drawn", bound=AnySpec)


def candidates(spec: Drawable, count: int) -> list[Drawable]:
    """The specs among which the best is chosen: seeds count * seed to count * seed + count - 1.

    No two seeds share a candidate, and the winner can be made again by its own seed. Latents are their only
    one.
    """
    if isinstance(spec, LatentSpec):
        return [spec]
    return [replace(spec, seed=spec.seed * count + number) for number in range(count)]


def of_chosen(spec: Drawn, image: GeneratedImage) -> Drawn:
    """The spec of the image that was chosen among its candidates: with that one's seed."""
    if isinstance(spec, SampleSpec) and image.seed is not None:
        return replace(spec, seed=image.seed)
    return spec


def make_mix(condition: Condition, other: Any, layers: Sequence[int] | str | None, num_ws: int) -> Mix | None:
    """The mix of one more prompt or class and layers (numbers, or text such as "4-9"), checked.

    None without both; ValueError for one without the other, several prompts, and layers the model lacks.
    """
    if other is None and layers is None:
        return None
    if other is None or layers is None:
        raise ValueError(
            f"a mix takes a second prompt or class and its layers: give both, layers from 0 to {num_ws - 1}"
        )
    resolved = condition.resolve(other)
    numbers = parse_layers(layers) if isinstance(layers, str) else [*layers]
    if len(resolved) > 1:
        raise ValueError(f"a mix takes one more prompt or class, not {len(resolved)}: name one")
    if not numbers or min(numbers) < 0 or max(numbers) >= num_ws:
        raise ValueError(f"layers {spans(numbers) or 'none'} do not fit: the model has 0 to {num_ws - 1}")
    return Mix(resolved[0], tuple(numbers))
