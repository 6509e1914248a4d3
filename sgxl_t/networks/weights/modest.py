"""Which described networks are so small that they may be built before their weights are looked at.

Others are first built on `meta`, which takes no memory but imports torch's compiler: a second and more, that
a picture from a small model need not wait for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

MOST = 1024
"""Largest width, side or length; a network of them takes some hundred megabytes at worst."""
MOST_OF = {"vocab_size": 1 << 16, "rows": 1 << 16, "channel_base": 1 << 16, "img_resolution": 256}
"""The same for what is a table's length, a divided number, or multiplies twice."""
FEW = 16
"""Largest number of layers, and of entries in a list."""


def is_modest(sizes: Mapping[str, Any]) -> bool:
    """Whether all whole numbers of a configuration, as JSON values by name, are small."""
    return all(_is_small(name, value) for name, value in sizes.items())


def _is_small(name: str, value: Any) -> bool:
    if isinstance(value, Mapping):
        return is_modest(value)
    if isinstance(value, Iterable) and not isinstance(value, str):
        entries = list(value)
        return len(entries) <= FEW and all(_is_small(name, entry) for entry in entries)
    if not isinstance(value, int):
        return True
    most = FEW if "layers" in name or "blocks" in name else MOST_OF.get(name, MOST)
    return abs(value) <= most
