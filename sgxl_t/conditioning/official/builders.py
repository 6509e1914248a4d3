"""The list of names that published networks use, with the few builders behind them.

A storage stays in the file until a tensor of it is asked for, so reading a file of several networks takes
the memory of the one that is wanted. Layout of a storage: a nested stream of torch's old format, five small
pickles, then an element count and the raw numbers.
"""

from __future__ import annotations

import math
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sgxl_t.conditioning.official.stream import Blob, BoundedReader
from sgxl_t.conditioning.official.unpickler import DataUnpickler, Named, Record, RefusedError, read_bytes

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
MAX_DIMS = 8
MAX_ARRAY = 4096
"""Numbers in one numpy array; those of networks hold a picture size or less than 200 sampling rates."""

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


@dataclass(frozen=True)
class Storage:
    """Numbers of one type that still lie in the file."""

    data: Blob
    dtype: torch.dtype
    numel: int

    def read(self) -> Tensor:
        """All of them, [numel]."""
        if self.numel == 0:
            return torch.empty(0, dtype=self.dtype)
        raw = bytearray(self.data.size)
        self.data.open().readinto(raw)
        return torch.frombuffer(raw, dtype=self.dtype)


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that is not read yet: a view of a storage that never shows a number twice."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers it shows."""
        return math.prod(self.shape) * self.storage.dtype.itemsize

    def read(self) -> Tensor:
        """The tensor, contiguous, in memory of its own."""
        return self.storage.read().as_strided(self.shape, self.stride, self.offset).contiguous()


@dataclass
class Array:
    """A small numpy array or scalar type on its way: arguments, then a state."""

    dtype: str = ""
    value: Any = None
    children: list[Any] = field(default_factory=list)

    def set_state(self, state: Any) -> None:
        """Byte order of a type, or (version, shape, type, order, bytes) of an array."""
        if isinstance(state, tuple) and len(state) == 5 and isinstance(state[2], Array):
            _, shape, kind, fortran, data = state
            self.value = _numbers(kind, data, shape, fortran=bool(fortran))
        elif isinstance(state, tuple) and len(state) > 2 and state[1] == ">":
            raise RefusedError("holds numbers of the other byte order")


def lookup(module: str, name: str) -> Named | None:
    """The value of a name in the file; None outside the list."""
    full = f"{module}.{name}"
    if full in _BUILDERS:
        return _BUILDERS[full]
    if full in _INERT or module.startswith(_INERT_PACKAGES) or module in _INERT_MODULES:
        return Named(full)
    return None


def _lookup_storage(module: str, name: str) -> Named | None:
    return Named(name) if module == "torch" and name in STORAGES else None


# Tensors --------------------------------------------------------------------------------------------------


class _StorageUnpickler(DataUnpickler):
    """The header of a nested stream, whose one persistent id describes the storage."""

    def persistent_load(self, pid: Any) -> Any:
        """('storage', type, key, device, count, none)."""
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            raise RefusedError("describes a storage in an unknown way")
        kind, count = pid[1], pid[4]
        if (
            not isinstance(kind, Named)
            or not isinstance(count, int)
            or count < 0
            or pid[5:] not in ((), (None,))
        ):
            raise RefusedError("describes a storage in an unknown way")
        return (STORAGES[kind.name], count)


def _storage(data: Any) -> Storage:
    """A storage from its nested stream; the announced count must be what the bytes hold."""
    if not isinstance(data, Blob | bytes):
        raise RefusedError("holds a storage without bytes")
    reader = read_bytes(data)
    parts = [_StorageUnpickler(reader, _lookup_storage).value() for _ in range(5)]
    if parts[0] != MAGIC or parts[1] != PROTOCOL:
        raise RefusedError("holds a storage of an unknown format")
    if not isinstance(parts[3], tuple) or len(parts[3]) != 2 or not isinstance(parts[3][0], torch.dtype):
        raise RefusedError("describes a storage in an unknown way")
    dtype, count = parts[3]
    try:
        (stored,) = struct.unpack("<q", reader.read(8))
    except EOFError:
        raise RefusedError("ends too early") from None
    if stored != count or reader.left != count * dtype.itemsize:
        raise RefusedError(f"announces {count} numbers and holds {reader.left} bytes of them")
    return Storage(reader.skip(reader.left), dtype, count)


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> StoredTensor:
    """A view as `torch._utils._rebuild_tensor_v2` describes it, held against its storage."""
    if not isinstance(storage, Storage) or not isinstance(offset, int):
        raise RefusedError("describes a tensor in an unknown way")
    sizes, steps = _whole(shape), _whole(stride)
    if len(sizes) != len(steps) or len(sizes) > MAX_DIMS or offset < 0:
        raise RefusedError("describes a tensor in an unknown way")
    count, last = 1, offset
    for size, step in zip(sizes, steps, strict=True):
        count *= size
        last += max(size - 1, 0) * step
    if count > storage.numel or (count > 0 and last >= storage.numel):
        raise RefusedError(f"announces a tensor {list(sizes)} over {storage.numel} numbers")
    return StoredTensor(storage, offset, sizes, steps)


def _whole(values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple) or not all(type(value) is int and value >= 0 for value in values):
        raise RefusedError("describes a tensor in an unknown way")
    return values


def _parameter(data: Any, *_: Any) -> Any:
    return data


# Numpy ----------------------------------------------------------------------------------------------------

DTYPES = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}


def _dtype(name: Any, *_: Any) -> Array:
    if not isinstance(name, str) or name.lstrip("<|=") not in DTYPES:
        raise RefusedError(f"holds numpy values of the type {str(name)[:40]!r}")
    return Array(dtype=name.lstrip("<|="))


def _scalar(kind: Any, data: Any = b"") -> Any:
    return _numbers(kind, data, ()).item()


def _numbers(kind: Any, data: Any, shape: Any, *, fortran: bool = False) -> Any:
    if isinstance(data, Blob):
        data = data.open().read(data.size)
    if isinstance(data, str):
        data = data.encode("latin1")
    sizes = _whole(shape)
    if not isinstance(kind, Array) or not kind.dtype or not isinstance(data, bytes):
        raise RefusedError("describes a numpy array in an unknown way")
    values = np.frombuffer(data[: MAX_ARRAY * 8], dtype="<" + kind.dtype)
    if len(sizes) > MAX_DIMS or values.nbytes != len(data):
        raise RefusedError("holds a numpy array that is too large")
    return values.reshape(sizes, order="F" if fortran else "C")


def _new_array(*_: Any) -> Array:
    return Array()


def _dill_array(function: Any, arguments: Any, state: Any, *_: Any) -> Array:
    array = Array()
    array.set_state(state)
    return array


# Plain values ---------------------------------------------------------------------------------------------


def _ordered(pairs: Any = (), *_: Any) -> dict[Any, Any]:
    if not isinstance(pairs, tuple | list):
        raise RefusedError("describes a dictionary in an unknown way")
    plain = [(key, value) for key, value in pairs if isinstance(key, str | int)]
    if len(plain) != len(pairs):
        raise RefusedError("uses a key that is neither text nor number")
    return OrderedDict(plain)


def _set(items: Any = (), *_: Any) -> set[Any]:
    if not isinstance(items, tuple | list) or not all(isinstance(item, str | int | Record) for item in items):
        raise RefusedError("describes a set in an unknown way")
    return set(items)


def _size(items: Any = (), *_: Any) -> tuple[Any, ...]:
    return tuple(items) if isinstance(items, tuple | list) else ()


def _encode(text: Any, codec: Any = "latin1", *_: Any) -> bytes:
    if not isinstance(text, str) or codec not in ("latin1", "latin-1"):
        raise RefusedError("encodes text in an unknown way")
    return text.encode("latin1")


def _persistent(meta: Any) -> Record:
    """A network's object: its class name and attributes. The source code beside them is left unread."""
    if not isinstance(meta, dict) or not isinstance(meta.get("class_name"), str):
        raise RefusedError("describes a network in an unknown way")
    if meta.get("type") != "class" or not isinstance(meta.get("state"), dict):
        raise RefusedError("describes a network in an unknown way")
    return Record(meta["class_name"], meta["state"])


def _load_type(name: Any = "", *_: Any) -> Any:
    """dill's own way to name a type; only sets come with values that matter."""
    return _BUILDERS["builtins.set"] if name == "set" else Record("dill._dill._load_type")


_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")
_BUILT: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered,
    "dnnlib.util.EasyDict": _ordered,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.storage._load_from_bytes": _storage,
    "torch.Size": _size,
    "torch_utils.persistence._reconstruct_persistent_obj": _persistent,
    **{f"{module}._reconstruct": _new_array for module in _NUMPY},
    **{f"{module}.scalar": _scalar for module in _NUMPY},
    "numpy.dtype": _dtype,
    "dill._dill._create_array": _dill_array,
    "dill._dill._load_type": _load_type,
    "_codecs.encode": _encode,
    **{f"{module}.set": _set for module in ("builtins", "__builtin__")},
}
_BUILDERS = {name: Named(name, build) for name, build in _BUILT.items()}

_INERT_PACKAGES = (
    "torch.nn.",
    "torch.ao.nn.",
    "timm.layers.",
    "timm.models.",
    "pg_modules.",
    "feature_networks.",
)
"""Packages whose classes discriminators consist of; their objects are remembered, never built."""
_INERT_MODULES = ("torch._C._nn", "math", "itertools", "typing")
_INERT = {
    *(
        f"dill._dill.{name}"
        for name in (
            "_create_cell",
            "_create_code",
            "_create_function",
            "_create_type",
            "_get_attr",
            "_import_module",
        )
    ),
    *(
        f"{module}.{name}"
        for module in ("builtins", "__builtin__")
        for name in (
            "bool",
            "bytes",
            "classmethod",
            "dict",
            "float",
            "frozenset",
            "getattr",
            "int",
            "list",
            "object",
            "property",
            "setattr",
            "slice",
            "staticmethod",
            "str",
            "super",
            "tuple",
            "type",
        )
    ),
    "collections.defaultdict",
    "copyreg._reconstructor",
    "copy_reg._reconstructor",
    "functools.partial",
    "numpy.ndarray",
    "numpy.float32",
    "numpy.float64",
    "numpy.int64",
    "numpy.bool_",
    "torch.device",
    "torch.dtype",
    *(f"torch.{name}" for name in ("float16", "float32", "float64", "int64", "bool", "Tensor")),
    *(f"torch.{name}" for name in STORAGES),
}


def read_pickle(reader: BoundedReader) -> Any:
    """The value of a whole file."""
    return DataUnpickler(reader, lookup).value()
