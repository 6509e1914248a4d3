"""Rows and lines of a grid of pictures: a row per prompt or class, a column per seed and psi."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sgxl_t.sampling.asked_numbers import spans
from sgxl_t.sampling.sample_spec import Drawable, Mix, SampleSpec


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


def _seed_title(seed: int, best_of: int) -> str:
    if best_of == 1:
        return f"seed {seed}"
    return f"best of seeds {seed * best_of}-{seed * best_of + best_of - 1}"
