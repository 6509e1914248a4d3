"""Files and folders that appear whole or not at all, and what a killed process leaves of them."""

from __future__ import annotations

import ctypes
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_WRITING, _OLD = "writing", "old"
_ASIDE = re.compile(rf"\.(?P<name>.+)\.(?P<word>{_WRITING}|{_OLD})-[0-9a-f]+")
"""The names that `name_aside` gives."""
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
"""From Linux' fcntl.h and fs.h."""


def name_aside(path: Path, word: str = _WRITING) -> Path:
    """A new name beside `path` for what replaces it once it is whole; `put_back` recognises such names."""
    return path.with_name(f".{path.name}.{word}-{secrets.token_hex(4)}")


@contextmanager
def whole_file(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """Yields a name beside `path`; the file written there replaces `path` when the block ends without error.

    flush: wait until the disk has it, so that a loss of power leaves the old file or the new one; too slow
    for thousands of images.
    """
    aside = name_aside(path)
    try:
        yield aside
        if flush:
            _flush(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Writes a text file in UTF-8 that replaces an old one whole, or not at all."""
    with whole_file(path) as aside:
        aside.write_text(text, encoding="utf-8")


@contextmanager
def whole_folder(folder: Path, *, mark: str | None, parents: bool = True) -> Iterator[Path]:
    """Yields an empty folder beside `folder` that replaces it when the block ends without an error.

    mark: an old folder is replaced only when it is empty or holds a file of this name; anything else in the
    way is a ValueError, so that nobody's images vanish. None replaces any folder. Interrupted at any time,
    the old or the new one is there; where the system cannot swap folders in one step and the process is
    killed between two, `put_back` brings the old one back.

    parents: make the folders above that are missing. A run does not: where somebody has moved its folder
    away, nothing may grow in the old place.
    """
    folder = Path(os.path.abspath(folder))
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: name another folder")
    if mark is not None and folder.is_dir() and any(folder.iterdir()) and not (folder / mark).is_file():
        raise ValueError(f"{folder} holds other files and would be replaced: name another or an empty folder")
    if parents:
        folder.parent.mkdir(parents=True, exist_ok=True)
    aside, old = name_aside(folder), name_aside(folder, _OLD)
    aside.mkdir()
    try:
        yield aside
        for path in aside.rglob("*"):
            _flush(path)
        if not folder.exists():
            os.rename(aside, folder)
        elif not _exchange(aside, folder):
            os.rename(folder, old)
            os.rename(aside, folder)
        _flush(folder.parent)
    except BaseException:
        if old.exists() and not folder.exists():
            os.rename(old, folder)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def put_back(parent: Path, name: str | None = None) -> list[Path]:
    """Undoes what killed processes left half done directly in `parent`; nobody may be writing there.

    A folder that had been moved aside and not been replaced comes back; half-written files and folders are
    removed. name: only what belongs to this file or folder. Returns what came back.
    """
    back = []
    found = [(path, _ASIDE.fullmatch(path.name)) for path in (parent.iterdir() if parent.is_dir() else ())]
    for path, match in sorted((path, match) for path, match in found if match):
        if name not in (None, match["name"]):
            continue
        original = path.with_name(match["name"])
        if match["word"] == _OLD and path.is_dir() and not original.exists():
            back.append(path.rename(original))
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return back


def _exchange(one: Path, other: Path) -> bool:
    """Swaps two folders in one step; False where the system or the file system cannot."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    return rename is not None and not rename(
        _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE
    )


def _flush(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    if sys.platform == "win32" and path.is_dir():
        return  # which has no handles of folders
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
