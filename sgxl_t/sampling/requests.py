"""What people ask of a model in writing: seeds, truncation, prompts from a file."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_SEED = 2**63 - 1
MAX_SEEDS = 100_000
MAX_PROMPT_FILE = 16 * 2**20


@dataclass(frozen=True)
class Line:
    """A prompt or class as written, with the truncation and the seed that it names for itself."""

    text: str
    psi: float | None = None
    seed: int | None = None


def parse_seeds(text: str) -> list[int]:
    """Seeds from "3", "0-7" or "0,4,8-11", in the order written, repeats dropped.

    Raises ValueError for anything else, for a range that runs backwards and for more than 100,000 seeds.
    """
    return check_seeds(_numbers(text, "seed", "0-7 or 0,4,8-11"))


def parse_layers(text: str) -> list[int]:
    """Numbers of styles from "4-9" or "0,2,5-7"; ValueError as `parse_seeds` for anything else."""
    return _numbers(text, "layer", "4-9 or 0,2,5-7")


def _numbers(text: str, word: str, example: str) -> list[int]:
    numbers: dict[int, None] = {}
    for part in text.split(","):
        bounds = re.fullmatch(r"\s*([0-9]{1,19})\s*(?:-\s*([0-9]{1,19})\s*)?", part)
        if bounds is None:
            raise ValueError(
                f"{word}s {text[:60]!r} cannot be read: write numbers and ranges such as {example}"
            )
        first, last = int(bounds[1]), int(bounds[2] or bounds[1])
        if first > last:
            raise ValueError(f"the {word} range {part.strip()} runs backwards: write {last}-{first}")
        if last - first + 1 + len(numbers) > MAX_SEEDS:
            raise ValueError(f"{word}s {text[:60]!r} are more than {MAX_SEEDS}: ask for fewer at a time")
        numbers.update(dict.fromkeys(range(first, last + 1)))
    return list(numbers)


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


def parse_psis(text: str) -> list[float]:
    """Truncations from "0.7" or "0.3,0.5,1", repeats dropped; ValueError unless each is a psi."""
    parts = text.split(",")
    try:
        psis = [float(part) for part in parts]
    except ValueError:
        raise ValueError(f"psi {text[:40]!r} is no list of numbers: write one such as 0.7 or 0.5,1") from None
    return [check_psi(psi) for psi in dict.fromkeys(psis)]


def read_lines(path: str | Path) -> list[Line]:
    """Lines of a UTF-8 text file; empty ones and those that begin with # are passed over.

    A line is a prompt or class and may end in options: `a red fox in snow | psi=0.7 | seed=3`.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} is no file: name a text file with one prompt per line")
    if path.stat().st_size > MAX_PROMPT_FILE:
        raise ValueError(f"{path} has more than {MAX_PROMPT_FILE} bytes: split it")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text: save it as UTF-8") from None
    lines = [parse_line(line) for line in text.splitlines() if line.strip() and line.lstrip()[0] != "#"]
    if not lines:
        raise ValueError(f"{path} holds no prompt: write one per line")
    return lines


def parse_line(text: str) -> Line:
    """Prompt and options of one line; a part after a bar that has no = belongs to the prompt.

    Raises ValueError for an option other than psi and seed, one given twice, and values that are none.
    """
    prompt, options = text.strip(), dict[str, str]()
    while True:
        before, bar, last = prompt.rpartition("|")
        name, equals, value = (part.strip() for part in last.partition("="))
        if not bar or not equals:
            break
        if name not in ("psi", "seed") or name in options:
            raise ValueError(
                f"the line {text.strip()[:60]!r} has an option {name[:20]!r}: a line takes psi=NUMBER and "
                "seed=NUMBER, each once"
            )
        prompt, options[name] = before.strip(), value
    if not prompt:
        raise ValueError(f"the line {text.strip()[:60]!r} has options only: begin it with a prompt")
    psi, seed = options.get("psi"), options.get("seed")
    return Line(prompt, None if psi is None else _one_psi(psi), None if seed is None else _one_seed(seed))


def _one_psi(text: str) -> float:
    psis = parse_psis(text)
    if len(psis) > 1:
        raise ValueError(f"psi {text[:40]!r} are several numbers: a line takes one")
    return psis[0]


def _one_seed(text: str) -> int:
    if not re.fullmatch("[0-9]{1,19}", text):
        raise ValueError(f"seed {text[:40]!r} is no whole number: a line takes one, such as seed=3")
    return check_seeds(int(text))[0]


def read_prompts(path: str | Path) -> list[str]:
    """Prompts of a text file for uses that have no options by line; ValueError where a line has some."""
    lines = read_lines(path)
    for line in lines:
        if line.psi is not None or line.seed is not None:
            raise ValueError(
                f"{path} gives {line.text[:60]!r} a psi or seed of its own, which only `sgxl-t sample` and "
                "`sgxl-t interpolate` take: leave both out"
            )
    return [line.text for line in lines]
