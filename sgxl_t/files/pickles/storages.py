"""Tensors of a file, whose numbers stay there until they are asked for.

A file of several networks then takes only the memory of the one that is wanted. Layout of a storage: a
nested stream of torch's old format, five small pickles, then an element count and the raw numbers.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sgxl_t.files.pickles.stream import Blob
from sgxl_t.files.pickles.unpickler import OPCODE_BYTES, DataUnpickler, read_bytes
from sgxl_t.files.pickles.values import Budget, Named, PickledObject, RefusedError

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
MAX_DIMS = 8
MAX_INSTRUCTIONS = 400
"""Of the small pickles before the numbers together; torch writes less than a hundred."""
HEADER_BYTES = 4096
"""Memory and time that a storage counts for; its header is read whenever a file names it anew."""

STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


@dataclass(frozen=True, eq=False, slots=True)
class Storage:
    """Numbers of one type that still lie in the file."""

    data: Blob
    dtype: torch.dtype
    numel: int

    @property
    def weight(self) -> int:
        """Bytes that it counts for."""
        return HEADER_BYTES

    def read(self, start: int, stop: int) -> Tensor:
        """The numbers from start to before stop, [stop - start]."""
        size = self.dtype.itemsize
        numbers = torch.empty(stop - start, dtype=self.dtype)
        if stop > start:
            raw = numbers.view(torch.uint8).numpy().data
            Blob(self.data.source, self.data.start + start * size, len(raw)).open().readinto(raw)
        return numbers


@dataclass(frozen=True, eq=False, slots=True)
class StoredTensor:
    """A tensor that is not read yet: a view of a storage that never shows a number twice."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the file that reading it takes: its numbers and those between them."""
        return self._span() * self.storage.dtype.itemsize

    def read(self) -> Tensor:
        """The tensor [*shape], contiguous, in memory of its own."""
        numbers = self.storage.read(self.offset, self.offset + self._span())
        return numbers.as_strided(self.shape, self.stride).contiguous()

    def _span(self) -> int:
        return span(self.shape, self.stride)


def span(shape: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """Numbers from a view's first to its last."""
    if not math.prod(shape):
        return 0
    return 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))


def storage(data: Any) -> Storage:
    """A storage from its nested stream; the announced count must be what the bytes hold."""
    if isinstance(data, PickledObject) and data.problem:
        raise RefusedError(data.problem)
    if not isinstance(data, Blob | bytes):
        raise RefusedError("holds a storage without bytes")
    reader = read_bytes(data)
    budget = Budget(MAX_INSTRUCTIONS * OPCODE_BYTES)
    parts = [_HeaderUnpickler(reader, _name, budget).value() for _ in range(5)]
    if parts[0] != MAGIC or parts[1] != PROTOCOL:
        raise RefusedError("holds a storage of an unknown format")
    if isinstance(parts[2], dict) and parts[2].get("little_endian") is False:
        raise RefusedError("holds numbers of the other byte order")
    if not isinstance(parts[3], tuple) or len(parts[3]) != 2 or not isinstance(parts[3][0], torch.dtype):
        raise RefusedError("describes a storage in an unknown way")
    dtype, count = parts[3]
    if reader.left < 8:
        raise RefusedError("holds a storage that ends too early")
    (stored,) = struct.unpack("<q", reader.read(8))
    if stored != count or reader.left != count * dtype.itemsize:
        raise RefusedError(f"announces {count} numbers and holds {reader.left} bytes of them")
    return Storage(reader.skip(reader.left), dtype, count)


class _HeaderUnpickler(DataUnpickler):
    """The header of a nested stream, whose one persistent id describes the storage."""

    def persistent_load(self, pid: Any) -> Any:
        """('storage', type, key, device, count, none)."""
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            raise RefusedError("describes a storage in an unknown way")
        kind, count = pid[1], pid[4]
        if not isinstance(kind, Named) or type(count) is not int or count < 0 or any(pid[5:]):
            raise RefusedError("describes a storage in an unknown way")
        name = kind.name.removeprefix("torch.")
        if name not in STORAGES:
            raise RefusedError(f"holds numbers of the type {kind.name[:60]!r}")
        return (STORAGES[name], count)


def _name(module: str, name: str) -> Named:
    """Names in headers build nothing, so headers do not nest."""
    return Named(f"{module}.{name}")


def tensor(source: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> StoredTensor:
    """A view as `torch._utils._rebuild_tensor_v2` describes it: its shape, within its storage."""
    if isinstance(source, PickledObject) and source.problem:
        raise RefusedError(source.problem)
    if not isinstance(source, Storage) or type(offset) is not int or offset < 0:
        raise RefusedError("describes a tensor in an unknown way")
    sizes, steps = _whole(shape), _whole(stride)
    if len(sizes) != len(steps) or len(sizes) > MAX_DIMS:
        raise RefusedError("describes a tensor in an unknown way")
    if math.prod(sizes) > source.numel or offset + span(sizes, steps) > source.numel:
        raise RefusedError(f"announces a tensor {list(sizes)} over {source.numel} numbers")
    return StoredTensor(source, offset, sizes, steps)


def parameter(data: Any, *_: Any) -> Any:
    """A parameter is its tensor here."""
    return data


def tensor_from_type(function: Any, kind: Any, arguments: Any, *_: Any) -> Any:
    """A tensor of a class of its own, or with attributes, is its numbers."""
    if not isinstance(function, Named) or not isinstance(arguments, tuple):
        raise RefusedError("describes a tensor in an unknown way")
    return function.make(arguments)


def _whole(values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple) or not all(type(value) is int and value >= 0 for value in values):
        raise RefusedError("describes a tensor in an unknown way")
    return values
