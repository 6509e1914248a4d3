"""Reading stats.jsonl, the numbers of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sgxl_t.files.untrusted import read_json_lines


def read_stats(path: Path) -> list[dict[str, float]]:
    """All whole lines of a stats file; one that a crash cut, or that holds other things, is left out."""
    if not path.exists():
        return []
    lines = [entry.raw for entry in read_json_lines(path)]
    return [line for line in lines if isinstance(line, dict) and _holds_numbers(line)]


def _holds_numbers(line: dict[str, object]) -> bool:
    """Whether all values are numbers, and `images` says where they stand."""
    plain = all(
        isinstance(value, float) or (type(value) is int and abs(value) < 2**63) for value in line.values()
    )
    return plain and 0 <= line.get("images", -1) < 2**63  # type: ignore[operator]


def newest_numbers(stats: Sequence[dict[str, float]]) -> dict[str, float]:
    """The newest value of every number; ticks and snapshots write lines of their own."""
    return {name: value for line in stats for name, value in line.items()}
