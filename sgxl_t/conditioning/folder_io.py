"""Folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_folder(folder: Path, *, mark: str) -> Iterator[Path]:
    """Yields an empty folder beside `folder` that takes its place when the block ends without an error.

    An old folder is replaced only when it is empty or holds a file called `mark`; anything else in the way is
    a ValueError, so nobody's pictures vanish. Interrupted at any time, the old or the new one is there.
    """
    folder = Path(os.path.abspath(folder))
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: name another folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / mark).is_file():
        raise ValueError(f"{folder} holds other files and would be replaced: name another or an empty folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside, old = (folder.parent / f".{folder.name}.{word}-{os.getpid()}" for word in ("writing", "old"))
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        yield aside
        for path in aside.rglob("*"):
            _flush(path)
        if folder.exists():
            os.rename(folder, old)
        os.rename(aside, folder)
    except BaseException:
        if old.exists() and not folder.exists():
            os.rename(old, folder)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _flush(path: Path) -> None:
    if path.is_file():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
