"""Prompt files: a prompt or class per line, with a psi or seed of its own where the line names one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from sgxl_t.sampling.asked_numbers import check_seeds, parse_psis

MAX_PROMPT_FILE = 16 * 2**20


@dataclass(frozen=True)
class PromptLine:
    """A prompt or class as written, with the psi and the seed of its own where the line names them."""

    text: str
    psi: float | None = None
    seed: int | None = None


def read_lines(path: str | Path) -> list[PromptLine]:
    """Lines of a UTF-8 text file; empty ones and those that begin with # are skipped.

    A line is a prompt or class and may end in options: `a red fox in snow | psi=0.7 | seed=3`.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} is not a file: name a text file with one prompt per line")
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


def parse_line(text: str) -> PromptLine:
    """Prompt and options of one line; a part after a bar that has no = belongs to the prompt.

    Raises ValueError for an option other than psi and seed, one given twice, and values that cannot be read.
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
    return PromptLine(
        prompt, None if psi is None else _one_psi(psi), None if seed is None else _one_seed(seed)
    )


def _one_psi(text: str) -> float:
    psis = parse_psis(text)
    if len(psis) > 1:
        raise ValueError(f"psi {text[:40]!r} is a list: a line takes one number, such as psi=0.7")
    return psis[0]


def _one_seed(text: str) -> int:
    if not re.fullmatch("[0-9]{1,19}", text):
        raise ValueError(f"seed {text[:40]!r} is not a whole number: a line takes one, such as seed=3")
    return check_seeds(int(text))[0]


def read_prompts(path: str | Path) -> list[str]:
    """PromptCache of a text file for uses that have no options by line; ValueError where a line has some."""
    lines = read_lines(path)
    for line in lines:
        if line.psi is not None or line.seed is not None:
            raise ValueError(
                f"{path} gives {line.text[:60]!r} a psi or seed of its own, which only `sgxl-t sample` and "
                "`sgxl-t interpolate` take: leave both out"
            )
    return [line.text for line in lines]
