"""Which described networks are so small that they may be built before their weights are looked at.

Others are first built on `meta`, which takes no memory but imports torch's compiler: a second and more, that
a picture from a small model need not wait for. A config.json may come from anywhere, so what is built at once
must stay small whatever it says: with every size at its bound no network takes more than `AT_MOST` bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

AT_MOST = 500 * 2**20
"""Bytes of the largest network within the bounds; a test builds those at the bounds and counts."""
MOST = 512
"""Largest width, side or length: weights grow with its square."""
MOST_LAYERS = 16
"""Largest number of layers, and of entries in a list."""
MOST_OF = {
    "instances": 1 << 14,
    "picture_dim": 128,
    "vocab_size": 1 << 16,
    "rows": 1 << 16,
    "channel_base": 1 << 15,
    "img_resolution": 256,
    "num_res_blocks": 2,
}
"""The same for the length of a table, what is divided by a side, and what multiplies in every block."""


def most_of(name: str) -> int:
    """The largest whole number that is modest for a size of this name."""
    return MOST_OF.get(name, MOST_LAYERS if "layers" in name else MOST)


def is_modest(sizes: Mapping[str, Any]) -> bool:
    """Whether all whole numbers of a configuration, as JSON values by name, are small."""
    return all(_is_small(name, value) for name, value in sizes.items())


def _is_small(name: str, value: Any) -> bool:
    if isinstance(value, Mapping):
        return is_modest(value)
    if isinstance(value, Iterable) and not isinstance(value, str):
        entries = list(value)
        return len(entries) <= MOST_LAYERS and all(_is_small(name, entry) for entry in entries)
    return not isinstance(value, int) or abs(value) <= most_of(name)
