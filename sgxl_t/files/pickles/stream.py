"""Bounded reading of a pickle stream: no read beyond the file's end, large byte strings left in the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

MAX_LINE = 4096
"""Longest line; names and numbers of old pickles are lines."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A byte string that stays in its file until somebody needs it."""

    source: BinaryIO
    start: int
    size: int

    def open(self) -> BoundedReader:
        """A reader of these bytes alone."""
        return BoundedReader(self.source, self.start, self.size)


class BoundedReader:
    """The part [start, start + size) of a file as a stream; EOFError where more is asked for than is there.

    Several readers may share one file: each seeks before it reads.
    """

    def __init__(self, source: BinaryIO, start: int, size: int) -> None:
        self.source, self.start, self.size = source, start, size
        self.position = 0

    @property
    def left(self) -> int:
        """Bytes from here to the end."""
        return self.size - self.position

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes."""
        self._check(count)
        self.source.seek(self.start + self.position)
        data = self.source.read(count)
        if len(data) != count:
            raise EOFError
        self.position += count
        return data

    def readinto(self, buffer: memoryview) -> None:
        """Fills the buffer, a view of single bytes, without a copy on the way."""
        self._check(len(buffer))
        self.source.seek(self.start + self.position)
        filled = 0
        while filled < len(buffer):
            count: int = self.source.readinto(buffer[filled:])  # type: ignore[attr-defined]
            if not count:
                raise EOFError
            filled += count
        self.position += filled

    def readline(self) -> bytes:
        """To the end of the line, which must come within `MAX_LINE` bytes."""
        self.source.seek(self.start + self.position)
        line = self.source.readline(min(self.left, MAX_LINE))
        self.position += len(line)
        if not line.endswith(b"\n"):
            if self.left:
                raise ValueError(f"a line of more than {MAX_LINE} bytes")
            raise EOFError
        return line

    def skip(self, count: int) -> Blob:
        """The next `count` bytes without reading them."""
        self._check(count)
        blob = Blob(self.source, self.start + self.position, count)
        self.position += count
        return blob

    def _check(self, count: int) -> None:
        if not 0 <= count <= self.left:
            raise EOFError
