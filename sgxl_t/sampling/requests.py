"""What people ask of a model in writing: seeds, truncation, prompts from a file."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

MAX_SEED = 2**63 - 1
MAX_SEEDS = 100_000
MAX_PROMPT_FILE = 16 * 2**20


def parse_seeds(text: str) -> list[int]:
    """Seeds from "3", "0-7" or "0,4,8-11", in the order written, repeats dropped.

    Raises ValueError for anything else, for a range that runs backwards and for more than 100,000 seeds.
    """
    seeds: dict[int, None] = {}
    for part in text.split(","):
        bounds = re.fullmatch(r"\s*([0-9]{1,19})\s*(?:-\s*([0-9]{1,19})\s*)?", part)
        if bounds is None:
            raise ValueError(
                f"seeds {text[:60]!r} cannot be read: write numbers and ranges such as 0-7 or 0,4,8-11"
            )
        first, last = int(bounds[1]), int(bounds[2] or bounds[1])
        if first > last:
            raise ValueError(f"the seed range {part.strip()} runs backwards: write {last}-{first}")
        if last - first + 1 + len(seeds) > MAX_SEEDS:
            raise ValueError(f"seeds {text[:60]!r} are more than {MAX_SEEDS}: ask for fewer at a time")
        seeds.update(dict.fromkeys(range(first, last + 1)))
    return check_seeds(list(seeds))


def check_seeds(seeds: int | Sequence[int]) -> list[int]:
    """One or several seeds as a list; ValueError unless each is a whole number from 0 to 2**63 - 1."""
    listed = [seeds] if isinstance(seeds, int) else list(seeds)
    if not listed:
        raise ValueError("there is no seed: give at least one whole number")
    for seed in listed:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
            raise ValueError(f"seed {seed!r} is no whole number from 0 to 2**63 - 1: choose one, such as 0")
    return listed


def check_psi(psi: float) -> float:
    """Truncation strength; ValueError unless finite and from -2 to 2."""
    if not math.isfinite(psi) or abs(psi) > 2:
        raise ValueError(
            f"psi={psi} is no number from -2 to 2: use 1 for full variety, 0.7 for more typical pictures, "
            "0 for the average one"
        )
    return psi


def read_prompts(path: str | Path) -> list[str]:
    """Prompts from a UTF-8 text file, one a line; empty lines and lines that begin with # are passed over."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} is no file: name a text file with one prompt per line")
    if path.stat().st_size > MAX_PROMPT_FILE:
        raise ValueError(f"{path} has more than {MAX_PROMPT_FILE} bytes: split it")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text: save it as UTF-8") from None
    prompts = [
        line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]
    if not prompts:
        raise ValueError(f"{path} holds no prompt: write one per line")
    return prompts
