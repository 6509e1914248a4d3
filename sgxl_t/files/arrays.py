"""Arrays in .npz and .npy files that may come from anywhere: sizes are known before memory is taken."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from sgxl_t.files.regular import open_regular
from sgxl_t.files.terminal import visible

MAX_ARRAYS = 64
"""Arrays of one file; files of this package hold at most six."""
MAX_DIMENSIONS = 8
KINDS = "biufU"
"""Truth values, numbers and text; no objects, which would be pickles."""


class BrokenArraysError(ValueError):
    """A file of arrays that is damaged, of another kind, or larger in memory than on disk."""


@dataclass(frozen=True)
class Header:
    """Shape and type of an array that has not been read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    start: int
    """Where its numbers begin in its member."""


class StoredArrays(Mapping[str, Header]):
    """Headers of the arrays of a file by name; `read` reads one. See `open_arrays`."""

    def __init__(self, archive: zipfile.ZipFile, headers: dict[str, Header]) -> None:
        self._archive, self._headers = archive, headers

    def __getitem__(self, name: str) -> Header:
        return self._headers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers)

    def __len__(self) -> int:
        return len(self._headers)

    def read(self, name: str) -> np.ndarray[Any, Any]:
        """One array [*shape]; BrokenArraysError where it is missing, or its checksum is wrong."""
        if name not in self._headers:
            raise BrokenArraysError(f"it holds no array {name}")
        header = self._headers[name]
        with _as_broken(), self._archive.open(f"{name}.npy") as file:
            file.read(header.start)
            return _numbers(cast(BinaryIO, file), header)


@contextmanager
def open_arrays(path: str | Path) -> Iterator[StoredArrays]:
    """The arrays of an .npz file, none of which has been read yet; what is read is never more than the file.

    BrokenArraysError for compressed and damaged files, objects, and headers that claim other sizes than
    there are bytes; OSError where the file cannot be opened.
    """
    with open_regular(path) as file, ExitStack() as held:
        with _as_broken():
            archive = held.enter_context(zipfile.ZipFile(file))
            headers = _headers(archive, file.seek(0, os.SEEK_END))
        yield StoredArrays(archive, headers)


def _headers(archive: zipfile.ZipFile, size: int) -> dict[str, Header]:
    members = archive.infolist()
    if len(members) > MAX_ARRAYS:
        raise BrokenArraysError(f"it has {len(members)} members, more than {MAX_ARRAYS}")
    if any(member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 0x1 for member in members):
        raise BrokenArraysError("it is compressed or encrypted")
    if sum(member.file_size for member in members) > size:
        raise BrokenArraysError("its members overlap")
    headers = {}
    for member in members:
        with archive.open(member) as file:
            name = member.filename.removesuffix(".npy")
            headers[name] = _header(cast(BinaryIO, file), member.file_size)
    return headers


def read_array(path: str | Path) -> np.ndarray[Any, Any]:
    """The array [any shape] of an .npy file; errors as of `open_arrays`."""
    with open_regular(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        with _as_broken():
            return _numbers(file, _header(file, size))


def _header(file: BinaryIO, size: int) -> Header:
    """The header at the start of `size` bytes that hold one array and nothing else."""
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read:
        raise BrokenArraysError(f"an array has version {version} of its format, which is not read")
    shape, fortran, dtype = read[version](file)
    start = file.tell()
    if dtype.kind not in KINDS or len(shape) > MAX_DIMENSIONS or any(side < 0 for side in shape):
        raise BrokenArraysError(
            f"an array of {visible(dtype)} and shape {shape} holds neither numbers nor text"
        )
    if math.prod(shape) * dtype.itemsize != size - start:
        raise BrokenArraysError(f"an array of {visible(dtype)} and shape {shape} has {size - start} bytes")
    return Header(shape, dtype, fortran, start)


def _numbers(file: BinaryIO, header: Header) -> np.ndarray[Any, Any]:
    """What stands behind a header."""
    count = math.prod(header.shape) * header.dtype.itemsize
    data = bytearray(file.read(count))
    file.read(1)  # the end of a member, where its checksum is looked at
    if len(data) != count:
        raise BrokenArraysError("an array breaks off")
    if not count:
        return np.zeros(header.shape, header.dtype)
    flat = np.frombuffer(data, header.dtype)
    return flat.reshape(header.shape, order="F" if header.fortran else "C")


@contextmanager
def _as_broken() -> Iterator[None]:
    """Whatever zipfile and numpy raise on damaged files, as one kind of error."""
    try:
        yield
    except BrokenArraysError:
        raise
    except Exception as error:  # they have many kinds; a place before the file's start is an OSError
        raise BrokenArraysError(visible(str(error) or type(error).__name__)[:200]) from error
