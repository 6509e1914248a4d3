"""Stand-ins for objects of a file that are not built, and the memory that all of them may take."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MAX_KEY_BITS = 60
"""Larger whole numbers could be chosen to have equal hashes, which makes dictionaries slow without end."""
FAILED_BYTES = 16_384
"""What a call costs whose arguments do not fit, so that a stream of such calls ends soon."""
SPARE_BYTES, BYTES_PER_BYTE, MOST_BYTES = 64 * 2**20, 8, 256 * 2**20
"""Memory of the objects of one file: so many bytes, and so many more for each of the file's, but no more than
the last. Real files, whose tensors stay outside, need some 30 MB."""


class RefusedError(Exception):
    """What makes a file or a value unreadable here, as the middle of a sentence."""


class CutError(RefusedError):
    """The file ends before its content does."""


@dataclass(eq=False, slots=True)
class PickledObject:
    """An object that is not built: its name, the state set on it, and why it could not be built, if it could
    have been."""

    name: str
    state: Any = None
    problem: str = ""

    @property
    def weight(self) -> int:
        """Bytes that it counts for, besides its own."""
        return FAILED_BYTES if self.problem else 0


@dataclass(frozen=True, eq=False, slots=True)
class Named:
    """A name in the file; `build` makes its value from the arguments, none means a `PickledObject`."""

    name: str
    build: Callable[..., Any] | None = None

    def make(self, arguments: tuple[Any, ...]) -> Any:
        """The value of calling this name; a record that says why where the arguments do not fit."""
        if self.build is None:
            return PickledObject(self.name)
        try:
            return self.build(*arguments)
        except RefusedError as error:
            return PickledObject(self.name, problem=str(error))
        except (TypeError, ValueError, OverflowError, struct.error):
            return PickledObject(self.name, problem=f"calls {self.name} with arguments that do not fit")


def shown(value: Any) -> str:
    """A value of a file in a few words; what holds others may be nested too deeply to be printed."""
    if isinstance(value, PickledObject):
        return f"an object of {value.name[:120]}" + (f" that {value.problem}" if value.problem else "")
    if isinstance(value, Named):
        return f"the name {value.name[:120]}"
    if isinstance(value, str | bool | int | float | None):
        return repr(value[:60] if isinstance(value, str) else value)
    if isinstance(value, list | tuple) and len(value) <= 8 and all(type(item) is int for item in value):
        return str(list(value))
    return f"a {type(value).__name__}"


Lookup = Callable[[str, str], Named]


class Budget:
    """Memory that objects may take, counted and never given back, so that it bounds the time as well."""

    def __init__(self, limit: int) -> None:
        self.limit = self.left = limit

    def charge(self, size: int) -> None:
        """Takes `size` bytes; RefusedError when they are spent."""
        self.left -= size
        if self.left < 0:
            raise RefusedError(
                f"makes objects of more than {self.limit // 2**20} MB beside its tensors, far more than any "
                "network of its size"
            )


def budget_for(file_bytes: int) -> Budget:
    """The budget of a file of this size."""
    return Budget(min(SPARE_BYTES + BYTES_PER_BYTE * file_bytes, MOST_BYTES))


def plain_key(key: Any) -> bool:
    """Whether it may be a key of a dictionary or an item of a set: nested tuples would be hashed again and
    again, and large whole numbers may have chosen hashes."""
    if isinstance(key, int):
        return key.bit_length() <= MAX_KEY_BITS
    return isinstance(key, str | float | bytes | PickledObject | Named | None)
