"""Small numpy arrays and scalars of a file, as attributes of layers are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sgxl_t.files.pickles.stream import Blob
from sgxl_t.files.pickles.values import RefusedError, shown

MAX_ARRAY = 4096
"""Numbers in one array; those of networks hold an image size or less than 200 sampling rates."""
MAX_DIMS = 8
DTYPES = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}


@dataclass(eq=False, slots=True)
class Array:
    """An array or dtype while it is read: arguments first, then a state. problem: why it cannot be read."""

    dtype: str = ""
    value: Any = None
    problem: str = ""

    @property
    def weight(self) -> int:
        """Bytes of its numbers."""
        return getattr(self.value, "nbytes", 0)

    def set_state(self, state: Any) -> None:
        """Byte order of a type, or (version, shape, type, order, bytes) of an array."""
        try:
            if isinstance(state, tuple) and len(state) == 5 and isinstance(state[2], Array):
                _, shape, kind, fortran, data = state
                self.value = _numbers(kind, data, shape, fortran=bool(fortran))
            elif isinstance(state, tuple) and len(state) > 2 and state[1] == ">":
                raise RefusedError("holds numbers of the other byte order")
        except RefusedError as error:
            self.problem = str(error)


def dtype(name: Any, *_: Any) -> Array:
    """A type of numbers."""
    if not isinstance(name, str) or name.lstrip("<|=") not in DTYPES:
        raise RefusedError(f"holds numpy values of the type {shown(name)}")
    return Array(dtype=name.lstrip("<|="))


def scalar(kind: Any, data: Any = b"") -> Any:
    """One number, as Python's."""
    return _numbers(kind, data, ()).item()


def new_array(*_: Any) -> Array:
    """An array that waits for its state."""
    return Array()


def dill_array(function: Any, arguments: Any, state: Any, *_: Any) -> Array:
    """An array with its state, as dill stores it."""
    array = Array()
    array.set_state(state)
    return array


def _numbers(kind: Any, data: Any, shape: Any, *, fortran: bool = False) -> Any:
    if not isinstance(kind, Array) or not kind.dtype or kind.problem:
        raise RefusedError(getattr(kind, "problem", "") or "describes a numpy array in an unknown way")
    if not isinstance(data, Blob | bytes | str) or not isinstance(shape, tuple) or len(shape) > MAX_DIMS:
        raise RefusedError("describes a numpy array in an unknown way")
    if (data.size if isinstance(data, Blob) else len(data)) > MAX_ARRAY * 8:
        raise RefusedError("holds a numpy array that is too large")
    if isinstance(data, Blob):
        data = data.open().read(data.size)
    raw = data.encode("latin1") if isinstance(data, str) else data
    if not all(type(side) is int and 0 <= side <= MAX_ARRAY for side in shape):
        raise RefusedError("describes a numpy array in an unknown way")
    try:
        return np.frombuffer(raw, dtype="<" + kind.dtype).reshape(shape, order="F" if fortran else "C")
    except ValueError:
        raise RefusedError("describes a numpy array in an unknown way") from None
