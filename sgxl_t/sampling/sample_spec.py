"""What images are made from: a sample spec per image, rows of specs for grids, frames between specs."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

    from sgxl_t.conditioning.condition import Condition
    from sgxl_t.networks.text.clip import ClipModel
    from sgxl_t.sampling.image import GeneratedImage

MAX_SEED = 2**63 - 1
MAX_NUMBERS = 100_000
"""Seeds or layers of one list, at most."""
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


@dataclass(frozen=True)
class ConditionEntry:
    """A prompt or class (as resolved) with a psi and seed of its own, where it has them."""

    condition: Any
    psi: float | None = None
    seed: int | None = None

    def spec(self, seed: int, psi: float, mix: Mix | None = None) -> SampleSpec:
        """With this seed and psi, unless it has its own."""
        own_psi, own_seed = psi if self.psi is None else self.psi, seed if self.seed is None else self.seed
        return SampleSpec(self.condition, own_seed, own_psi, mix)


MAX_ALONE, MAX_LINE = 8, 16
"""Images in a line of a grid at most, where it has a single row and where it has several."""


@dataclass(frozen=True)
class GridRow:
    """One row of a grid. name: what it shows; label: the same beside the grid; columns: a title per spec."""

    name: str
    label: str
    specs: tuple[Drawable, ...]
    columns: tuple[str, ...]


def plan_rows(
    entries: Sequence[ConditionEntry],
    seeds: Sequence[int],
    psis: Sequence[float],
    *,
    name: Callable[[Any], str],
    label: Callable[[Any], str],
    mix: Mix | None = None,
    best_of: int = 1,
) -> list[GridRow]:
    """A row per prompt or class, with a spec per seed and psi; its own seed or psi replaces these.

    name, label: what a resolved condition is called in file names and beside a grid. best_of: candidates
    behind each spec (see `candidates`), which the titles of columns name.
    """
    rows = []
    for entry in entries:
        own_seeds = seeds if entry.seed is None else [entry.seed]
        own_psis = psis if entry.psi is None else [entry.psi]
        specs, columns = [], []
        for seed in own_seeds:
            for psi in own_psis:
                specs.append(entry.spec(seed, psi, mix))
                title = [] if entry.seed is not None else [_seed_title(seed, best_of)]
                title += [f"psi {psi:g}"] if len(own_psis) > 1 else []
                # With one seed for all, psi alone tells the columns apart.
                columns.append(title[-1] if len(own_seeds) == 1 and title else ", ".join(title))
        ending = "" if mix is None else f" mixed with {name(mix.condition)} in layers {spans(mix.layers)}"
        own = [] if entry.psi is None else [f"psi {entry.psi:g}"]
        own += [] if entry.seed is None else [_seed_title(entry.seed, best_of)]
        shown = " | ".join([label(entry.condition) + ending, *own])
        rows.append(GridRow(name(entry.condition) + ending, shown, tuple(specs), tuple(columns)))
    return rows


def column_titles(rows: Sequence[GridRow]) -> list[str]:
    """A title per column of the widest row; empty where rows differ in what they show there."""
    titles = []
    for column in range(max(len(row.specs) for row in rows)):
        found = {row.columns[column] for row in rows if column < len(row.columns)}
        titles.append(found.pop() if len(found) == 1 else "")
    return titles


def grid_lines(rows: Sequence[GridRow]) -> list[GridRow]:
    """The lines of a grid: a row that is too long for one goes on in lines without a label.

    A single row becomes a near-square sheet. Lines end between two seeds where seeds have several psis.
    """
    longest = max((row.specs for row in rows), key=len)
    if len(longest) <= (MAX_ALONE if len(rows) == 1 else MAX_LINE):
        return list(rows)
    width = MAX_LINE if len(rows) > 1 else math.ceil(math.sqrt(len(longest)))
    group = sum(spec.seed == longest[0].seed for spec in longest)
    group = group if group <= width else 1
    if len(rows) > 1:
        width -= width % group
    else:
        fitting = [n for n in range(width, 2 * width) if n % group == 0]
        width = next((n for n in fitting if len(longest) % n == 0), fitting[0])
    return [
        replace(row, label="" if at else row.label, specs=row.specs[at:end], columns=row.columns[at:end])
        for row in rows
        for at in range(0, len(row.specs), width)
        for end in (at + width,)
    ]


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


def parse_seeds(text: str) -> list[int]:
    """Seeds from "3", "0-7" or "0,4,8-11", in the order written, repeats dropped.

    Raises ValueError for anything else, for a range that runs backwards and for more than 100,000 seeds.
    """
    return check_seeds(parse_numbers(text, "seed", "0-7 or 0,4,8-11"))


def parse_layers(text: str) -> list[int]:
    """Layer numbers from "4-9" or "0,2,5-7"; ValueError as `parse_seeds` for anything else."""
    return parse_numbers(text, "layer", "4-9 or 0,2,5-7")


def parse_psis(text: str) -> list[float]:
    """Truncations from "0.7" or "0.3,0.5,1", repeats dropped; ValueError unless each is a valid psi."""
    try:
        psis = [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(
            f"psi {text[:40]!r} is not a list of numbers: write one such as 0.7 or 0.5,1"
        ) from None
    return [check_psi(psi) for psi in dict.fromkeys(psis)]


def check_seeds(seeds: int | Sequence[int]) -> list[int]:
    """One or several seeds as a list; ValueError unless each is a whole number from 0 to 2**63 - 1."""
    listed = [seeds] if isinstance(seeds, int) else list(seeds)
    if not listed:
        raise ValueError("there is no seed: give at least one whole number")
    for seed in listed:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
            raise ValueError(
                f"seed {seed!r} is not a whole number from 0 to 2**63 - 1: choose one, such as 0"
            )
    return listed


def check_psi(psi: float) -> float:
    """Truncation strength; ValueError unless finite and from -2 to 2."""
    if not math.isfinite(psi) or abs(psi) > 2:
        raise ValueError(
            f"psi={psi} is out of range: use -2 to 2, with 1 for full variety, 0.7 for more typical images, "
            "0 for the average one"
        )
    return psi


def spread_psi(psi: float | Sequence[float], count: int, what: str = "conditions") -> list[float]:
    """A checked truncation for each of `count` conditions, or what else, from one for all or one each."""
    psis = [psi] * count if isinstance(psi, int | float) else list(psi)
    if len(psis) != count:
        raise ValueError(f"{len(psis)} psi came with {count} {what}: give one for all, or one each")
    return [check_psi(one) for one in psis]


def spans(numbers: Sequence[int]) -> str:
    """Numbers as people write them: 0, 2, 3, 4 to 0,2-4."""
    ordered, parts = sorted(set(numbers)), list[str]()
    while ordered:
        length = 1
        while length < len(ordered) and ordered[length] == ordered[0] + length:
            length += 1
        parts.append(str(ordered[0]) + (f"-{ordered[length - 1]}" if length > 1 else ""))
        ordered = ordered[length:]
    return ",".join(parts)


def parse_numbers(text: str, noun: str, example: str) -> list[int]:
    """Numbers from text such as the example, in the order written; ValueError as `parse_seeds`."""
    numbers: dict[int, None] = {}
    for part in text.split(","):
        bounds = re.fullmatch(r"\s*([0-9]{1,19})\s*(?:-\s*([0-9]{1,19})\s*)?", part)
        if bounds is None:
            raise ValueError(
                f"{noun}s {text[:60]!r} cannot be read: write numbers and ranges such as {example}"
            )
        first, last = int(bounds[1]), int(bounds[2] or bounds[1])
        if first > last:
            raise ValueError(f"the {noun} range {part.strip()} runs backwards: write {last}-{first}")
        if last - first + 1 + len(numbers) > MAX_NUMBERS:
            raise ValueError(f"{noun}s {text[:60]!r} are more than {MAX_NUMBERS}: ask for fewer at a time")
        numbers.update(dict.fromkeys(range(first, last + 1)))
    return list(numbers)


def _seed_title(seed: int, best_of: int) -> str:
    if best_of == 1:
        return f"seed {seed}"
    return f"best of seeds {seed * best_of}-{seed * best_of + best_of - 1}"
