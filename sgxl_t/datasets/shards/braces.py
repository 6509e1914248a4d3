"""Patterns with braces, such as {00000..00099}, whose names are counted before they are made."""

from __future__ import annotations

import re
from collections.abc import Iterable

RANGE = re.compile(r"(-?\d{1,15})\.\.(-?\d{1,15})(?:\.\.-?(\d{1,15}))?")
LETTERS = re.compile(r"[A-Za-z]\.\.[A-Za-z](?:\.\.-?\d+)?")
MAX_CHARS = 10_000


def expand(pattern: str, maximum: int) -> list[str]:
    """All names of a pattern, or of several joined by `::`; ValueError for more than `maximum`."""
    from webdataset.shardlists import expand_urls

    if len(pattern) > MAX_CHARS:
        raise ValueError(f"a pattern of shards has {len(pattern)} characters: use at most {MAX_CHARS}")
    count = sum(map(count_names, pattern.split("::")))
    if count > maximum:
        raise ValueError(f"{pattern!r} stands for {count} shards, and at most {maximum} are read: name fewer")
    try:
        names: Iterable[str] = expand_urls(pattern)
    except Exception as error:  # the expander has error classes of its own
        raise ValueError(
            f"{pattern!r} is not a valid pattern of shards ({error}): check its braces"
        ) from error
    return list(names)


def count_names(pattern: str) -> int:
    """How many names a pattern stands for."""
    # For each brace that is open: the names of its alternatives so far, those of the present one, its place.
    levels = [[0, 1, 0]]
    escaped = False
    for index, char in enumerate(pattern):
        if escaped or char == "\\":
            escaped = not escaped
        elif char == "{":
            levels.append([0, 1, index + 1])
        elif char == "," and len(levels) > 1:
            levels[-1][0] += levels[-1][1]
            levels[-1][1] = 1
        elif char == "}" and len(levels) > 1:
            before, last, start = levels.pop()
            levels[-1][1] *= _range(pattern[start:index]) or before + last
    return levels[0][1]


def _range(text: str) -> int:
    """Names of {FIRST..LAST..STEP}; 0 for anything else."""
    if LETTERS.fullmatch(text):
        return 52
    if match := RANGE.fullmatch(text):
        first, last, step = int(match[1]), int(match[2]), int(match[3] or 1)
        return abs(last - first) // max(step, 1) + 1
    return 10**18 if re.fullmatch(r"[-\d.]*\d\.\.-?\d[-\d.]*", text) else 0
