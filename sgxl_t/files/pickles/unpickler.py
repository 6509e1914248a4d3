"""Reads a pickle as data: a few names build tensors and plain values, all others nothing.

Python's own `pickle.Unpickler` calls whatever a file names. Here a name stands for one of the builders in
`builders.py`, or for a `PickledObject` that only remembers what it was given; what such an object returns
when called is a `PickledObject` too. Nothing is ever imported or called. Unknown content does not stop the
reading, since a file holds a discriminator full of hooks and closures between two generators: only code that
needs a value fails when it finds a `PickledObject` instead. Reading stops for a stream that is cut or
damaged, and for objects that take far more memory than the file.
"""

from __future__ import annotations

import io
import pickle
import struct
import sys
from collections.abc import Callable
from typing import Any, ClassVar, cast

from sgxl_t.files.pickles.stream import Blob, BoundedReader
from sgxl_t.files.pickles.values import (
    MAX_KEY_BITS,
    Budget,
    CutError,
    Lookup,
    Named,
    PickledObject,
    RefusedError,
    plain_key,
)

LAZY_BYTES = 4096
"""Byte strings from this size on stay in the file."""
MAX_TEXT_BYTES = 4 * 2**20
"""Longest text that is read, and longest frame; the longest text of real files is the source code that
travels with each network."""
MAX_NUMBER_BYTES = 64
"""Longest whole number that is read; larger ones take for ever to print, and networks have none."""
NAME_BYTES = 256
"""What a name costs: two lines or texts, and the object."""
OPCODE_BYTES = 128
"""Memory that one instruction takes at most, besides what is counted by its size."""

_PICKLE: Any = pickle
"""The module with the inner classes of its Python implementation, which type checkers do not know."""


class DataUnpickler(pickle._Unpickler):
    """The pure Python unpickler with every opcode that calls or changes an object replaced.

    reader: the stream. lookup: the value of a name. budget: memory for the objects.
    """

    pop_mark: Callable[[], list[Any]]
    memo: dict[int, Any]
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, reader: BoundedReader, lookup: Lookup, budget: Budget) -> None:
        super().__init__(cast(Any, reader), encoding="latin1")
        self.reader, self.lookup, self.budget = reader, lookup, budget
        self._frame_start = 0

    def value(self) -> Any:
        """The object that the stream holds. CutError where it ends too early, RefusedError where it is none
        or takes too much memory.

        Damage of any kind shows as one of a dozen errors of the interpreter's own.
        """
        try:
            return self._run()
        except EOFError:
            raise CutError("ends too early") from None
        except (
            pickle.UnpicklingError,
            AttributeError,
            IndexError,
            KeyError,
            OverflowError,
            TypeError,
            UnicodeError,
            ValueError,
            struct.error,
        ):
            raise RefusedError("is damaged or no pickle") from None

    def _run(self) -> Any:
        """The loop of `load`, each instruction paid for, since each may add an object."""
        self._unframer = _PICKLE._Unframer(self.reader.read, self.reader.readline)
        self.read, self.readline = self._unframer.read, self._unframer.readline
        self.metastack: list[Any] = []
        self.stack: list[Any] = []
        self.append = self.stack.append
        self.proto = 0
        charge = self.budget.charge
        try:
            while True:
                charge(OPCODE_BYTES)
                self.dispatch[self.read(1)[0]](self)
        except _PICKLE._Stop as stop:
            return stop.value

    def find_class(self, module: str, name: str) -> Named:
        """A builder, or a name that builds nothing."""
        self.budget.charge(NAME_BYTES + len(module) + len(name))
        return self.lookup(module, name)

    def persistent_load(self, pid: Any) -> Any:
        """Files of networks hold none."""
        return PickledObject("persistent id", problem="refers to objects outside the file")

    def get_extension(self, code: int) -> None:
        """Numbers that stand for names in a registry of the writer's process."""
        self.append(Named(f"extension {code}"))

    # Calls -----------------------------------------------------------------------------------------------

    def _call(self, function: Any, arguments: Any) -> Any:
        if isinstance(function, Named) and isinstance(arguments, tuple):
            # What a builder goes through costs as much as what it makes, which may be less.
            self.budget.charge(sys.getsizeof(arguments) + sum(map(sys.getsizeof, arguments)))
            value = function.make(arguments)
        else:
            value = PickledObject(function.name if isinstance(function, Named | PickledObject) else "a call")
        self._pay(value)
        return value

    def _pay(self, value: Any) -> None:
        self.budget.charge(sys.getsizeof(value) + getattr(value, "weight", 0))

    def load_reduce(self) -> None:
        """REDUCE: a call of what is below the tuple of its arguments, by `_call`."""
        arguments = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], arguments)

    def load_newobj(self) -> None:
        """NEWOBJ: a new object, made like a call."""
        self.load_reduce()

    def load_newobj_ex(self) -> None:
        """NEWOBJ_EX: like NEWOBJ, with its keyword arguments dropped."""
        self.stack.pop()
        self.load_reduce()

    def load_inst(self) -> None:
        """INST: a call of a name that is written as two lines, with the arguments since the mark."""
        module, name = (self.readline()[:-1].decode("ascii") for _ in range(2))
        self.append(self._call(self.find_class(module, name), tuple(self.pop_mark())))

    def load_obj(self) -> None:
        """OBJ: a call of the first object since the mark with the others."""
        function, *arguments = self.pop_mark()
        self.append(self._call(function, tuple(arguments)))

    def load_build(self) -> None:
        """BUILD: gives an object its state, as data."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, PickledObject):
            target.state = state
        elif hasattr(target, "set_state"):
            target.set_state(state)
            self._pay(target)

    # Containers ------------------------------------------------------------------------------------------

    def _fill(self, target: Any, items: list[Any]) -> None:
        """Items of dictionaries; those of records, and under keys that are no plain ones, are left out."""
        if isinstance(target, dict):
            target.update(
                (key, item) for key, item in zip(items[::2], items[1::2], strict=True) if plain_key(key)
            )

    def load_setitems(self) -> None:
        """SETITEMS: fills a dict with the pairs since the mark."""
        items = self.pop_mark()
        self._fill(self.stack[-1], items)

    def load_setitem(self) -> None:
        """SETITEM: fills a dict with one pair."""
        value, key = self.stack.pop(), self.stack.pop()
        self._fill(self.stack[-1], [key, value])

    def load_dict(self) -> None:
        """DICT: a new dict of the pairs since the mark."""
        items = self.pop_mark()
        self.append({})
        self._fill(self.stack[-1], items)

    def _extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def load_appends(self) -> None:
        """APPENDS: extends a list by the items since the mark."""
        self._extend(self.pop_mark())

    def load_append(self) -> None:
        """APPEND: extends a list by one item."""
        item = self.stack.pop()
        self._extend([item])

    def load_empty_set(self) -> None:
        """EMPTY_SET: a new set, charged to the budget."""
        self.append(set())
        self._pay(self.stack[-1])

    def load_additems(self) -> None:
        """ADDITEMS: adds to a set those items since the mark that are plain keys."""
        items = self.pop_mark()
        if isinstance(self.stack[-1], set):
            self.stack[-1].update(filter(plain_key, items))

    def load_frozenset(self) -> None:
        """FROZENSET: a frozenset of those items since the mark that are plain keys."""
        self.append(frozenset(filter(plain_key, self.pop_mark())))
        self._pay(self.stack[-1])

    # Bytes, text and numbers -----------------------------------------------------------------------------

    def _skip(self, size: int) -> Blob:
        """The next bytes, left in the file, inside a frame or outside of one."""
        frame = self._unframer.current_frame
        inside = 0 if frame is None else len(frame.getbuffer()) - frame.tell()
        if not inside:
            return self.reader.skip(size)
        if size > inside:
            raise pickle.UnpicklingError("pickle exhausted before end of frame")
        start = self.reader.start + self._frame_start + frame.tell()
        frame.seek(size, io.SEEK_CUR)
        return Blob(self.reader.source, start, size)

    def _bytes(self, size: int) -> None:
        self.append(self._skip(size) if size >= LAZY_BYTES else self.read(size))
        self._pay(self.stack[-1])

    def load_binbytes(self) -> None:
        """BINBYTES: bytes with a length of 4 bytes."""
        self._bytes(struct.unpack("<I", self.read(4))[0])

    def load_binbytes8(self) -> None:
        """BINBYTES8: bytes with a length of 8 bytes."""
        self._bytes(struct.unpack("<Q", self.read(8))[0])

    def _text(self, size: int, encoding: str = "utf-8") -> None:
        if size > MAX_TEXT_BYTES:
            self._skip(size)
            self.append(PickledObject("text", problem=f"holds a text of {size} bytes"))
        else:
            self.append(str(self.read(size), encoding, "surrogatepass"))
        self._pay(self.stack[-1])

    def load_binstring(self) -> None:
        """BINSTRING: a Latin-1 string with a length of 4 bytes."""
        (size,) = struct.unpack("<I", self.read(4))
        self._text(size, "latin1")

    def load_short_binunicode(self) -> None:
        """SHORT_BINUNICODE: a string with a length of 1 byte."""
        self._text(self.read(1)[0])

    def load_binunicode(self) -> None:
        """BINUNICODE: a string with a length of 4 bytes."""
        self._text(struct.unpack("<I", self.read(4))[0])

    def load_binunicode8(self) -> None:
        """BINUNICODE8: a string with a length of 8 bytes."""
        self._text(struct.unpack("<Q", self.read(8))[0])

    def _number(self, size: int) -> None:
        if size > MAX_NUMBER_BYTES:
            self._skip(size)
            self.append(PickledObject("number", problem=f"holds a number of {size} bytes"))
        else:
            self.append(int.from_bytes(self.read(size), "little", signed=True))
        self._pay(self.stack[-1])

    def load_long1(self) -> None:
        """LONG1: an integer with a length of 1 byte."""
        self._number(self.read(1)[0])

    def load_long4(self) -> None:
        """LONG4: an integer with a length of 4 bytes."""
        self._number(struct.unpack("<I", self.read(4))[0])

    def load_frame(self) -> None:
        """FRAME: refused before it is read when it is larger than a text may be or than what is left."""
        (size,) = struct.unpack("<Q", self.read(8))
        if size > min(MAX_TEXT_BYTES, self.reader.left):
            if size > MAX_TEXT_BYTES:
                raise RefusedError(f"holds a frame of {size} bytes")
            raise EOFError
        self._frame_start = self.reader.position
        self._unframer.load_frame(size)

    def load_put(self) -> None:
        """PUT: remembers the top of the stack under a number, which must be small enough."""
        slot = int(self.readline()[:-1])
        if not 0 <= slot < 1 << MAX_KEY_BITS:
            raise pickle.UnpicklingError("a place of no object")
        self.memo[slot] = self.stack[-1]

    def load_buffer(self) -> None:
        """NEXT_BUFFER: an object that says that its data lies outside the file."""
        self.append(PickledObject("buffer", problem="refers to a buffer outside the file"))

    def load_readonly(self) -> None:
        """A mark on a buffer, without meaning for one that is not there."""


def _paid(load: Callable[[Any], None]) -> Callable[[DataUnpickler], None]:
    """An instruction of Python's that puts something of any size on the stack."""

    def load_and_pay(self: DataUnpickler) -> None:
        load(self)
        self._pay(self.stack[-1])

    return load_and_pay


_SIZED = (
    pickle.INT,
    pickle.LONG,
    pickle.STRING,
    pickle.SHORT_BINSTRING,
    pickle.UNICODE,
    pickle.SHORT_BINBYTES,
)
_REPLACED = {
    **{code: _paid(pickle._Unpickler.dispatch[code[0]]) for code in _SIZED},
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
    pickle.EMPTY_SET: DataUnpickler.load_empty_set,
    pickle.ADDITEMS: DataUnpickler.load_additems,
    pickle.FROZENSET: DataUnpickler.load_frozenset,
    pickle.FRAME: DataUnpickler.load_frame,
    pickle.BINBYTES: DataUnpickler.load_binbytes,
    pickle.BINBYTES8: DataUnpickler.load_binbytes8,
    pickle.BYTEARRAY8: DataUnpickler.load_binbytes8,
    pickle.BINSTRING: DataUnpickler.load_binstring,
    pickle.SHORT_BINUNICODE: DataUnpickler.load_short_binunicode,
    pickle.BINUNICODE: DataUnpickler.load_binunicode,
    pickle.BINUNICODE8: DataUnpickler.load_binunicode8,
    pickle.LONG1: DataUnpickler.load_long1,
    pickle.LONG4: DataUnpickler.load_long4,
    pickle.PUT: DataUnpickler.load_put,
    pickle.NEXT_BUFFER: DataUnpickler.load_buffer,
    pickle.READONLY_BUFFER: DataUnpickler.load_readonly,
}
DataUnpickler.dispatch.update({code[0]: method for code, method in _REPLACED.items()})


def read_bytes(value: Blob | bytes) -> BoundedReader:
    """A reader of a byte string, wherever it lies."""
    if isinstance(value, Blob):
        return value.open()
    return BoundedReader(io.BytesIO(value), 0, len(value))
