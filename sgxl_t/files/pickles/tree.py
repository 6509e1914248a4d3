"""Reads modules out of the records of a file: attributes by name and type, tensors by dotted name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from sgxl_t.files.pickles.arrays import Array
from sgxl_t.files.pickles.storages import StoredTensor
from sgxl_t.files.pickles.values import PickledObject, RefusedError, shown

MAX_DEPTH = 32
MAX_MODULES = 20_000
MAX_TENSORS = 10_000
MAX_SIDE = 65_536


class Module:
    """One network or layer of the file, by its record."""

    def __init__(self, record: Any, where: str) -> None:
        """where: the dotted name, for messages."""
        if not isinstance(record, PickledObject) or not isinstance(record.state, dict):
            raise RefusedError(f"holds {shown(record)} as {where}, which is not a network")
        self.kind, self.state, self.where = record.name.rsplit(".", 1)[-1], record.state, where

    def has(self, name: str) -> bool:
        """Whether the attribute is there and not none."""
        return self.state.get(name) is not None

    def get(self, name: str, default: Any = None) -> Any:
        """A plain attribute; numpy values as Python's, arrays as lists."""
        value = self.state.get(name, default)
        if isinstance(value, Array):
            if value.problem:
                raise RefusedError(f"{value.problem} as {self.where}.{name}")
            value = value.value
        return value.tolist() if isinstance(value, np.ndarray) else value

    def number(self, name: str, default: float | None = None, *, limit: float = 1e9) -> float:
        """A number of at most `limit`, positive or negative."""
        value = self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= limit:
            raise RefusedError(f"holds {shown(value)} as {self.where}.{name}, where a number belongs")
        return float(value)

    def whole(self, name: str, default: int | None = None) -> int:
        """A whole number."""
        value = self.number(name, default)
        if value != int(value):
            raise RefusedError(f"holds {value:g} as {self.where}.{name}, where a whole number belongs")
        return int(value)

    def flag(self, name: str) -> bool:
        """True or false; false where it is not there."""
        value = self.get(name, False)
        if not isinstance(value, bool):
            raise RefusedError(f"holds {shown(value)} as {self.where}.{name}, where true or false belongs")
        return value

    def side(self, name: str) -> int:
        """One side of a square, stored as one number or as (width, height)."""
        value = self.get(name)
        sides = list(value) if isinstance(value, list | tuple) else [value]
        whole = all(type(side) is int and 0 <= side <= MAX_SIDE for side in sides)
        if len(sides) not in (1, 2) or not whole or len(set(sides)) != 1:
            raise RefusedError(
                f"holds {shown(value)} as {self.where}.{name}, where the size of a square belongs"
            )
        return int(sides[0])

    def children(self) -> dict[str, Any]:
        """Records of the modules inside."""
        return self._group("_modules")

    def child(self, name: str) -> Module:
        """A module inside."""
        return Module(self.children().get(name), f"{self.where}.{name}")

    def own_tensors(self) -> dict[str, StoredTensor]:
        """Parameters and buffers of any shape by name, without those that are None or not persistent."""
        left_out = self.state.get("_non_persistent_buffers_set", set())
        if not isinstance(left_out, set):
            raise RefusedError(
                f"holds {shown(left_out)} as {self.where}._non_persistent_buffers_set, where a set belongs"
            )
        both = {**self._group("_parameters"), **self._group("_buffers")}
        found = {name: value for name, value in both.items() if value is not None and name not in left_out}
        for name, value in found.items():
            if not isinstance(value, StoredTensor):
                raise RefusedError(f"holds {shown(value)} as {self.where}.{name}, where a tensor belongs")
        return found

    def _group(self, name: str) -> dict[str, Any]:
        value = self.state.get(name)
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise RefusedError(f"holds {shown(value)} as {self.where}.{name}, where a group belongs")
        return value


def tensors_of(module: Module, *, limit: int) -> dict[str, StoredTensor]:
    """All tensors of a module and the modules inside it, of any shape, by dotted name.

    limit: bytes they may have together, normally those of the file, so that a storage that is named again
    and again cannot grow.
    """
    found: dict[str, StoredTensor] = {}
    total = 0
    for prefix, part in _walk(module):
        for name, tensor in part.own_tensors().items():
            total += tensor.nbytes
            if total > limit or len(found) >= MAX_TENSORS:
                raise RefusedError(f"announces more numbers in {module.where} than it has bytes")
            found[prefix + name] = tensor
    return found


def _walk(module: Module) -> Iterator[tuple[str, Module]]:
    """Modules with the prefix of their names; the same one may come more than once, but not within itself."""
    waiting = [("", module, 0)]
    count = 0
    while waiting:
        prefix, part, depth = waiting.pop()
        count += 1
        if depth > MAX_DEPTH or count > MAX_MODULES:
            raise RefusedError(f"nests the modules of {module.where} too deeply")
        yield prefix, part
        for name, record in part.children().items():
            if record is not None:
                child = Module(record, f"{part.where}.{name}"[:200])
                waiting.append((f"{prefix}{name}.", child, depth + 1))
