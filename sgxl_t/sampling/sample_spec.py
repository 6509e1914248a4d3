"""What is asked for, spelled out: one shot per picture, in rows as a grid shows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from sgxl_t.conditioning.condition import Condition
from sgxl_t.sampling.requests import parse_layers

MAX_FRAMES = 10_000
"""Pictures between two shots, at most."""


@dataclass(frozen=True)
class Mix:
    """A second prompt or class (as resolved) whose styles take over these layers, counted from 0."""

    condition: Any
    layers: tuple[int, ...]


@dataclass(frozen=True)
class Shot:
    """What one picture is made from: a prompt or class (as resolved), the seed of its latent, its psi."""

    condition: Any
    seed: int
    psi: float = 1.0
    mix: Mix | None = None

    @property
    def conditions(self) -> tuple[Any, ...]:
        """All prompts or classes that it shows."""
        return (self.condition,) if self.mix is None else (self.condition, self.mix.condition)


@dataclass(frozen=True)
class Step:
    """A picture on the way from one shot to another; share: 0 is the first, 1 the last."""

    first: Shot
    last: Shot
    share: float

    @property
    def psi(self) -> float:
        """Truncation here."""
        return self.first.psi + self.share * (self.last.psi - self.first.psi)


@dataclass(frozen=True)
class Asked:
    """A prompt or class (as resolved) with the psi and seed of its own, where it has them."""

    condition: Any
    psi: float | None = None
    seed: int | None = None

    def shot(self, seed: int, psi: float, mix: Mix | None = None) -> Shot:
        """With the seed and psi given, unless it has its own."""
        own_psi, own_seed = psi if self.psi is None else self.psi, seed if self.seed is None else self.seed
        return Shot(self.condition, own_seed, own_psi, mix)


@dataclass(frozen=True)
class Row:
    """One row of a grid. name: what it shows; label: the same beside the grid; columns: a title per shot."""

    name: str
    label: str
    shots: tuple[Shot, ...]
    columns: tuple[str, ...]


def plan_rows(
    asked: Sequence[Asked],
    seeds: Sequence[int],
    psis: Sequence[float],
    *,
    name: Callable[[Any], str],
    label: Callable[[Any], str],
    mix: Mix | None = None,
    best_of: int = 1,
) -> list[Row]:
    """A row per prompt or class, with a shot per seed and psi; its own seed or psi replaces these.

    name, label: what a resolved condition is called in file names and beside a grid. best_of: candidates
    behind each shot (see `candidates`), which the titles of columns name.
    """
    rows = []
    for one in asked:
        own_seeds = seeds if one.seed is None else [one.seed]
        own_psis = psis if one.psi is None else [one.psi]
        shots, columns = [], []
        for seed in own_seeds:
            for psi in own_psis:
                shots.append(one.shot(seed, psi, mix))
                title = [] if one.seed is not None else [_seed_title(seed, best_of)]
                title += [f"psi {psi:g}"] if len(own_psis) > 1 else []
                # With one seed for all, psi alone tells the columns apart.
                columns.append(title[-1] if len(own_seeds) == 1 and title else ", ".join(title))
        ending = "" if mix is None else f" mixed with {name(mix.condition)} in layers {spans(mix.layers)}"
        own = [] if one.psi is None else [f"psi {one.psi:g}"]
        own += [] if one.seed is None else [_seed_title(one.seed, best_of)]
        shown = " | ".join([label(one.condition) + ending, *own])
        rows.append(Row(name(one.condition) + ending, shown, tuple(shots), tuple(columns)))
    return rows


def column_titles(rows: Sequence[Row]) -> list[str]:
    """A title per column of the widest row; empty where rows differ in what they show there."""
    titles = []
    for column in range(max(len(row.shots) for row in rows)):
        said = {row.columns[column] for row in rows if column < len(row.columns)}
        titles.append(said.pop() if len(said) == 1 else "")
    return titles


def candidates(shot: Shot, count: int) -> list[Shot]:
    """The shots among which the best is chosen: seeds count * seed to count * seed + count - 1.

    No two seeds share a candidate, and the winner can be made again by its own seed.
    """
    return [replace(shot, seed=shot.seed * count + number) for number in range(count)]


def plan_steps(keys: Sequence[Shot], frames: int) -> list[Step]:
    """From each shot to the next with `frames` pictures between them; every shot itself comes once.

    ValueError for fewer than two shots and a negative number of frames.
    """
    if len(keys) < 2:
        raise ValueError("there is nothing to interpolate between: give at least two prompts or classes")
    if not 0 <= frames <= MAX_FRAMES:
        raise ValueError(f"frames={frames} is no number from 0 to {MAX_FRAMES}: use one, such as 7")
    steps = [
        Step(first, last, number / (frames + 1))
        for first, last in pairwise(keys)
        for number in range(frames + 1)
    ]
    return [*steps, Step(keys[-2], keys[-1], 1.0)]


def make_mix(condition: Condition, other: Any, layers: Sequence[int] | str | None, num_ws: int) -> Mix | None:
    """The mix of one more prompt or class and layers (numbers, or text such as "4-9"), checked; None without
    both."""
    if other is None and layers is None:
        return None
    if other is None or layers is None:
        raise ValueError(
            f"a mix takes a second prompt or class and its layers: give both, layers from 0 to {num_ws - 1}"
        )
    resolved, numbers = (
        condition.resolve(other),
        parse_layers(layers) if isinstance(layers, str) else [*layers],
    )
    if len(resolved) > 1:
        raise ValueError(f"a mix takes one more prompt or class, not {len(resolved)}: name one")
    if not numbers or min(numbers) < 0 or max(numbers) >= num_ws:
        raise ValueError(f"layers {spans(numbers) or 'none'} do not fit: the model has 0 to {num_ws - 1}")
    return Mix(resolved[0], tuple(numbers))


def shot_label(condition: Condition, shot: Shot | Step) -> str:
    """What a shot shows, in words."""
    if isinstance(shot, Shot):
        return condition.label(shot.condition)
    ends = [condition.label(end.condition) for end in (shot.first, shot.last)]
    return ends[int(shot.share)] if shot.share in (0, 1) else " to ".join(ends)


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


def _seed_title(seed: int, best_of: int) -> str:
    if best_of == 1:
        return f"seed {seed}"
    return f"best of seeds {seed * best_of}-{seed * best_of + best_of - 1}"
