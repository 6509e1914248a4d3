"""Files of named edits, a line each: `at night: a fox in snow -> a fox at night`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sgxl_t.sampling.prompt_file import MAX_PROMPT_FILE


@dataclass(frozen=True)
class Edit:
    """A name, and the prompts between which it leads, as many of each: those of all lines of this name."""

    name: str | None
    firsts: tuple[str, ...]
    lasts: tuple[str, ...]


def read_edits(path: str | Path, names: Sequence[str] = ()) -> list[Edit]:
    """The edits of a UTF-8 text file, or those with these names; empty lines and lines with # are skipped.

    ValueError in one sentence for a line without a name, a colon, an arrow and both ends, and unknown names.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} is not a file: name a text file with an edit per line")
    if path.stat().st_size > MAX_PROMPT_FILE:
        raise ValueError(f"{path} has more than {MAX_PROMPT_FILE} bytes: split it")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text: save it as UTF-8") from None
    found: dict[str, list[tuple[str, str]]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip()[0] == "#":
            continue
        name, _, rest = line.partition(":")
        first, arrow, last = rest.partition("->")
        if not (arrow and name.strip() and first.strip() and last.strip()):
            raise ValueError(
                f"line {number} of {path} is no edit: write it as `at night: a fox in snow -> a fox at night`"
            )
        found.setdefault(name.strip(), []).append((first.strip(), last.strip()))
    missing = [name for name in names if name not in found]
    if missing or not found:
        raise ValueError(
            f"{path} holds no edit {missing[0]!r}: it has {', '.join(found)}"
            if missing
            else f"{path} holds no edit: write one per line"
        )
    return [
        Edit(name, tuple(one for one, _ in found[name]), tuple(other for _, other in found[name]))
        for name in (names or found)
    ]
