"""Writing that fails, and what to say of it."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

from safetensors import SafetensorError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EIO}
_ADVICE = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there",
    errno.EFBIG: "use a file system that takes larger files",
    errno.EIO: "check the disk",
    errno.ESTALE: "mount it again",
    errno.ENOTCONN: "mount it again",
    errno.ENOENT: "see who removed it",
    errno.EROFS: "make it writable",
    errno.EACCES: "make it writable",
    errno.EPERM: "make it writable",
}
"""What helps, by what the system says of a write that failed."""
_NUMBER = re.compile(r"(?:os error |\[Errno )(\d+)")


class WriteError(OSError):
    """Files could not be written. needed: bytes that all of them take."""

    def __init__(self, number: int, reason: str, needed: int) -> None:
        super().__init__(number, reason)
        self.needed = needed


class RunFolderError(Exception):
    """The run cannot go on because its folder takes no more files; the text is one sentence, for the user.

    On other processes than the main one it is empty.
    """


def error_number(error: BaseException) -> int | None:
    """What the operating system said, also within errors of safetensors and shutil; None if nothing."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if not isinstance(error, (OSError, SafetensorError)):
        return None
    found = _NUMBER.search(str(error))
    return int(found[1]) if found else None


def is_full(error: BaseException) -> bool:
    """Whether the file system is full, beyond the quota, or broken: no fault of the request."""
    return error_number(error) in _FULL


def as_write_error(error: OSError | SafetensorError, needed: int) -> Exception:
    """The error with the bytes that were to be written; the error itself where it came from elsewhere."""
    number = error_number(error)
    return error if number is None else WriteError(number, os.strerror(number), needed)


def refusal(error: BaseException, folder: Path) -> str | None:
    """Why `folder` takes no more files, with the room there is; None for an error of any other kind."""
    number = error_number(error)
    elsewhere = getattr(error, "filename", None)
    if number is None or (elsewhere is not None and not _inside(elsewhere, folder)):
        return None
    if elsewhere is None and number not in _ADVICE:  # of a connection, say
        return None
    needed = f", {_size(error.needed)} are needed" if isinstance(error, WriteError) else ""
    return f"{os.strerror(number)}{needed}, {_size(_free(folder))} are free"


def advice(error: BaseException) -> str:
    """What the user can do about an error that `refusal` gives a reason for."""
    return _ADVICE.get(error_number(error) or 0, "see to that")


def _inside(path: object, folder: Path) -> bool:
    return str(path).startswith((str(folder), str(folder.resolve())))


def _free(folder: Path) -> int:
    """Bytes that the file system of a folder, or of the nearest one above that is there, still takes."""
    there = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    return shutil.disk_usage(there).free


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"
