"""Members of a folder or an archive: their names and sizes, and those that systems leave everywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

SYSTEM_NAMES = frozenset(
    {
        "__macosx",
        "$recycle.bin",
        "@eadir",
        "#recycle",
        "#snapshot",
        "desktop.ini",
        "ehthumbs.db",
        "icon\r",
        "lost+found",
        "system volume information",
        "thumbs.db",
    }
)
"""Files and folders, in lower case, that macOS, Windows, Linux and network disks make by themselves."""


def is_system(name: str) -> bool:
    """Whether a path is hidden or was made by an operating system: such members are nobody's data.

    Hidden is what has a part that begins with a dot, `._image.png` and `.DS_Store` of macOS included. The
    same for folders, zips and shards; such members are neither read nor counted.
    """
    parts = name.replace("\\", "/").lower().split("/")
    return parts[-1].endswith(":zone.identifier") or any(
        part in SYSTEM_NAMES or (part.startswith(".") and part not in (".", "..")) for part in parts
    )


@dataclass(frozen=True)
class Members:
    """The files of one folder or archive, system members left out.

    sizes: bytes by path, with `/` between parts, in the order of the paths. open: opens one of them; raises
    OSError, or what a broken archive raises. empty: folders without any file, by path.
    """

    sizes: dict[str, int]
    open: Callable[[str], BinaryIO]
    empty: list[str] = field(default_factory=list)

    def read(self, name: str, limit: int) -> bytes:
        """All bytes of a member; ValueError where it has more than `limit`, before any is read."""
        size = self.sizes[name]
        if size <= limit:
            with self.open(name) as file:
                data = file.read(limit + 1)
            size = len(data)
        if size > limit:
            raise ValueError(f"{name} has {size} bytes, more than the {limit} that are read: split it")
        return data
