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
    """A new name beside `path` for what takes its place once it is whole, which `put_back` knows again."""
    return path.with_name(f".{path.name}.{word}-{secrets.token_hex(4)}")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a name beside `path`; the file written there takes its place when the block ends without an
    error."""
    aside = name_aside(path)
    try:
        yield aside
        _flush(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path, *, mark: str) -> Iterator[Path]:
    """Yields an empty folder beside `folder` that takes its place when the block ends without an error.

    An old folder is replaced only when it is empty or holds a file called `mark`; anything else in the way is
    a ValueError, so nobody's pictures vanish. Interrupted at any time, the old or the new one is there; where
    the system cannot swap folders in one step and kills the process between two, `put_back` brings it back.
    """
    folder = Path(os.path.abspath(folder))
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: name another folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / mark).is_file():
        raise ValueError(f"{folder} holds other files and would be replaced: name another or an empty folder")
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
    except BaseException:
        if old.exists() and not folder.exists():
            os.rename(old, folder)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def put_back(parent: Path) -> list[Path]:
    """Undoes what killed processes left half done directly in `parent`; nobody may be writing there.

    A folder that had been moved aside and not been replaced comes back; half-written files and folders are
    removed. Returns what came back.
    """
    back = []
    found = [(path, _ASIDE.fullmatch(path.name)) for path in (parent.iterdir() if parent.is_dir() else ())]
    for path, match in sorted((path, match) for path, match in found if match):
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
    if path.is_file():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
