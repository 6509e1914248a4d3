"""Reads a pickle as data: a fixed list of names, of which a few build tensors and the rest nothing.

Python's own `pickle.Unpickler` calls whatever a file names. Here a name outside the list ends the reading,
a name on it stands for one of the builders in `builders.py` or for a `Record` that only remembers what it
was given, and no other object can be called, filled or changed. Nothing is ever imported.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from sgxl_t.conditioning.official.stream import Blob, BoundedReader

LAZY_BYTES = 4096
"""Byte strings from this size on stay in the file."""
MAX_TEXT_BYTES = 4 * 2**20
"""Longest text; the longest of real files is the source code that travels with each network."""
MAX_OPCODES = 20_000_000
"""Longest stream; real ones have some hundred thousand."""


_PICKLE: Any = pickle
"""The module with the inner classes of its Python implementation, which type checkers do not know."""


class RefusedError(Exception):
    """What makes a file unreadable here, as the middle of a sentence."""


@dataclass
class Record:
    """An object that is not built: its name, what it was called with, and the state set on it."""

    name: str
    state: Any = None

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


@dataclass(frozen=True)
class Named:
    """A name in the file; `build` makes its value from the arguments, none means a `Record`."""

    name: str
    build: Callable[..., Any] | None = None

    def make(self, arguments: tuple[Any, ...]) -> Any:
        """The value of calling this name."""
        if self.build is None:
            return Record(self.name)
        try:
            return self.build(*arguments)
        except (TypeError, ValueError, OverflowError, struct.error):
            raise RefusedError(f"calls {self.name} with arguments that do not fit") from None


Lookup = Callable[[str, str], Named | None]


class DataUnpickler(pickle._Unpickler):
    """The pure Python unpickler with every opcode that calls or changes an object replaced.

    reader: the stream. lookup: the value of a name, or None for one outside the list.
    """

    pop_mark: Callable[[], list[Any]]
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, reader: BoundedReader, lookup: Lookup) -> None:
        super().__init__(cast(Any, reader), encoding="latin1")
        self.reader, self.lookup = reader, lookup

    def value(self) -> Any:
        """The object that the stream holds; RefusedError for anything that is not plain data.

        Damage of any kind shows as one of a dozen errors of the interpreter's own.
        """
        try:
            return self._run()
        except EOFError:
            raise RefusedError("ends too early") from None
        except (
            pickle.UnpicklingError,
            AttributeError,
            IndexError,
            KeyError,
            MemoryError,
            OverflowError,
            TypeError,
            UnicodeError,
            ValueError,
            struct.error,
        ):
            raise RefusedError("is damaged or no pickle") from None

    def _run(self) -> Any:
        """The loop of `load`, with a limit on instructions, since each may add an object."""
        self._unframer = _PICKLE._Unframer(self.reader.read, self.reader.readline)
        self.read, self.readline = self._unframer.read, self._unframer.readline
        self.metastack: list[Any] = []
        self.stack: list[Any] = []
        self.append = self.stack.append
        self.proto = 0
        try:
            for _ in range(MAX_OPCODES):
                self.dispatch[self.read(1)[0]](self)
        except _PICKLE._Stop as stop:
            return stop.value
        raise RefusedError("is longer than any published network")

    def find_class(self, module: str, name: str) -> Any:
        """The list decides."""
        found = self.lookup(module, name)
        if found is None:
            raise RefusedError(f"asks for {f'{module}.{name}'[:120]!r}, which no network needs")
        return found

    def persistent_load(self, pid: Any) -> Any:
        """Files of networks hold none."""
        raise RefusedError("refers to objects outside itself")

    # Calls -----------------------------------------------------------------------------------------------

    def _call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(arguments, tuple) or not isinstance(function, Named | Record):
            raise RefusedError("calls something that is no name")
        return function.make(arguments) if isinstance(function, Named) else Record(function.name)

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], arguments)

    def load_newobj(self) -> None:
        self.load_reduce()

    def load_newobj_ex(self) -> None:
        self.stack.pop()
        self.load_reduce()

    def load_inst(self) -> None:
        module, name = (self.readline()[:-1].decode("ascii") for _ in range(2))
        self.append(self._call(self.find_class(module, name), tuple(self.pop_mark())))

    def load_obj(self) -> None:
        function, *arguments = self.pop_mark()
        self.append(self._call(function, tuple(arguments)))

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Record):
            target.state = state
        elif hasattr(target, "set_state"):
            target.set_state(state)
        elif not isinstance(target, dict):
            raise RefusedError("changes an object that has no state")

    # Containers ------------------------------------------------------------------------------------------

    def _key(self, key: Any) -> Hashable:
        """Nested tuples would be hashed again and again, so only plain keys count."""
        if not isinstance(key, str | int | float | bytes | Record | Named | None):
            raise RefusedError("uses a key that is neither text nor number")
        return key

    def _fill(self, target: Any, items: list[Any]) -> None:
        if isinstance(target, dict):
            target.update((self._key(key), item) for key, item in zip(items[::2], items[1::2], strict=True))
        elif not isinstance(target, Record):
            raise RefusedError("fills an object that is no dictionary")

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self._fill(self.stack[-1], items)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill(self.stack[-1], [key, value])

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._fill(self.stack[-1], items)

    def _extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Record):
            raise RefusedError("extends an object that is no list")

    def load_appends(self) -> None:
        self._extend(self.pop_mark())

    def load_append(self) -> None:
        item = self.stack.pop()
        self._extend([item])

    def load_additems(self) -> None:
        items = self.pop_mark()
        if isinstance(self.stack[-1], set):
            self.stack[-1].update(map(self._key, items))
        elif not isinstance(self.stack[-1], Record):
            raise RefusedError("adds to an object that is no set")

    def load_frozenset(self) -> None:
        self.append(frozenset(map(self._key, self.pop_mark())))

    # Bytes and text --------------------------------------------------------------------------------------

    def _bytes(self, size: int) -> None:
        if size >= LAZY_BYTES and self._unframer.current_frame is None:
            self.append(self.reader.skip(size))
        else:
            self.append(self.read(size))

    def load_binbytes(self) -> None:
        self._bytes(struct.unpack("<I", self.read(4))[0])

    def load_binbytes8(self) -> None:
        self._bytes(struct.unpack("<Q", self.read(8))[0])

    def _text(self, size: int) -> None:
        if size > MAX_TEXT_BYTES:
            raise RefusedError(f"holds a text of {size} bytes")
        self.append(str(self.read(size), "utf-8", "surrogatepass"))

    def load_binunicode(self) -> None:
        self._text(struct.unpack("<I", self.read(4))[0])

    def load_binunicode8(self) -> None:
        self._text(struct.unpack("<Q", self.read(8))[0])

    def load_frame(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        if size > MAX_TEXT_BYTES:
            raise RefusedError(f"holds a frame of {size} bytes")
        self._unframer.load_frame(size)

    def load_refused(self) -> None:
        raise RefusedError("holds an instruction that no network needs")


_REPLACED = {
    pickle.REDUCE: DataUnpickler.load_reduce,
    pickle.NEWOBJ: DataUnpickler.load_newobj,
    pickle.NEWOBJ_EX: DataUnpickler.load_newobj_ex,
    pickle.INST: DataUnpickler.load_inst,
    pickle.OBJ: DataUnpickler.load_obj,
    pickle.BUILD: DataUnpickler.load_build,
    pickle.SETITEM: DataUnpickler.load_setitem,
    pickle.SETITEMS: DataUnpickler.load_setitems,
    pickle.DICT: DataUnpickler.load_dict,
    pickle.APPEND: DataUnpickler.load_append,
    pickle.APPENDS: DataUnpickler.load_appends,
    pickle.ADDITEMS: DataUnpickler.load_additems,
    pickle.FROZENSET: DataUnpickler.load_frozenset,
    pickle.FRAME: DataUnpickler.load_frame,
    pickle.BINBYTES: DataUnpickler.load_binbytes,
    pickle.BINBYTES8: DataUnpickler.load_binbytes8,
    pickle.BINUNICODE: DataUnpickler.load_binunicode,
    pickle.BINUNICODE8: DataUnpickler.load_binunicode8,
    **dict.fromkeys(
        [
            pickle.BYTEARRAY8,
            pickle.NEXT_BUFFER,
            pickle.READONLY_BUFFER,
            pickle.EXT1,
            pickle.EXT2,
            pickle.EXT4,
        ],
        DataUnpickler.load_refused,
    ),
}
DataUnpickler.dispatch.update({code[0]: method for code, method in _REPLACED.items()})


def read_bytes(value: Blob | bytes) -> BoundedReader:
    """A reader of a byte string, wherever it lies."""
    if isinstance(value, Blob):
        return value.open()
    return BoundedReader(io.BytesIO(value), 0, len(value))
