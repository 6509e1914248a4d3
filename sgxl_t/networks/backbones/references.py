"""References to several networks in one word, and to networks that a run trains itself."""

from __future__ import annotations

import re
from pathlib import Path


def split_references(references: str) -> list[str]:
    """The references that `+` joins; a `+` inside of a path or name stays where it is."""
    return re.split(r"\+(?=(?:auto|local|open_clip|package|transformers):)", references)


def trained_kinds(references: str) -> list[str]:
    """KIND of every `auto:KIND` among them."""
    return [name.removeprefix("auto:") for name in split_references(references) if name.startswith("auto:")]


def local_references(references: str, root: Path) -> str:
    """The same with `local:ROOT/KIND` for every `auto:KIND`."""
    parts = split_references(references)
    return "+".join(f"local:{root / name[5:]}" if name.startswith("auto:") else name for name in parts)
