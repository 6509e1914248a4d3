"""Seeds, truncations and layers as people give them: numbers, or text such as 0-7 and 4-9."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

MAX_SEED = 2**63 - 1


MAX_NUMBERS = 100_000
"""Seeds or layers of one list, at most."""


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
