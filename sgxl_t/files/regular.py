"""Opening files that somebody else laid there: regular files alone, never a pipe or a device."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


class NotRegularError(OSError):
    """What a path names is no regular file, nor a link to one."""


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file, or a link to one, for reading bytes.

    Opening a named pipe would wait for its other end for ever, and a device may be endless. NotRegularError
    (an OSError) says what is there instead; FileNotFoundError and the like pass as they are.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise NotRegularError(f"{path} is {KINDS.get(stat.S_IFMT(mode), 'something else')}, not a file")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: str | Path, limit: int) -> bytes:
    """All bytes of a regular file; ValueError where it has more than `limit`, before any is read."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise ValueError(
                f"{path} has {size} bytes, more than the {limit} that are read: is it the right file?"
            )
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"{path} grew beyond {limit} bytes while it was read: is it the right file?")
    return data


def is_regular(path: str | Path) -> bool:
    """Whether the path is a regular file or a link to one; False where it is nothing, or a loop of links."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False
