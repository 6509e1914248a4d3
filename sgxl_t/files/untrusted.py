"""Values from JSON that may come from anywhere: size, depth, types and ranges are checked, with the place.

    table = read_json(path)                                 # a Value
    for row in table["labels"].rows(maximum=10**7):
        name, label = row.pair()
        index = label.integer(0, 99_999)

Whatever is wrong is an UntrustedValueError, one sentence such as "dataset.json: labels[3][1] is text where a
whole number from 0 to 99999 belongs". Nothing large is built before its size has been looked at.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from sgxl_t.files.regular import read_regular
from sgxl_t.files.terminal import visible

MAX_BYTES = 256 * 2**20
"""Largest JSON file that is read unless a caller says otherwise."""
MAX_DEPTH = 64
"""Deepest nesting that is read; files of this package nest to about eight."""
MAX_MEMORY = 3 * 2**29
"""Bytes that the parsed values of one file may take, by the most that each kind of sign can stand for."""
COST = {b"{": 240, b"[": 96, b",": 72, b":": 72}
"""Bytes of a dictionary with one entry, of a list with one, of one further value, of a key with its value."""

Nan = Literal["refused", "null", "number"]


class UntrustedValueError(ValueError):
    """A value from a file that is of a wrong type, out of range, missing, too deep or too large."""


class Value:
    """A JSON value and its place: `where` is the file, `path` the way inside, such as labels[3].

    way_out: what a sentence about the value ends in, such as "restore the file"; empty for nothing.
    """

    __slots__ = ("path", "raw", "way_out", "where")

    def __init__(self, raw: Any, where: str, path: str = "", way_out: str = "") -> None:
        self.raw, self.where, self.path, self.way_out = raw, where, path, way_out

    def __getitem__(self, key: str) -> Value:
        """The value of a key; an error where it is missing or this is no group."""
        found = self.get(key)
        if found is None:
            raise self.error(f'has no "{visible(key)}"')
        return found

    def get(self, key: str) -> Value | None:
        """The value of a key; None where the key is missing or null."""
        raw = self.group().get(key)
        if raw is None:
            return None
        return Value(raw, self.where, f"{self.path}.{key}" if self.path else key, self.way_out)

    def keys(self) -> list[str]:
        """The keys of a group, in the order of the file."""
        return list(self.group())

    def group(self) -> dict[str, Any]:
        """A group of keys as it is: for facts that are shown and kept, and that nothing is built from."""
        if not isinstance(self.raw, dict):
            raise self.error(f"is {kind_of(self.raw)} where a group of keys belongs")
        return self.raw

    def rows(self, maximum: int = 10**7) -> Iterator[Value]:
        """The entries of a list of at most `maximum`."""
        if not isinstance(self.raw, list):
            raise self.error(f"is {kind_of(self.raw)} where a list belongs")
        if len(self.raw) > maximum:
            raise self.error(f"has {len(self.raw)} entries, and at most {maximum} are read")
        return (
            Value(raw, self.where, f"{self.path}[{index}]", self.way_out)
            for index, raw in enumerate(self.raw)
        )

    def pair(self) -> tuple[Value, Value]:
        """The two entries of a list of two."""
        if not isinstance(self.raw, list) or len(self.raw) != 2:
            raise self.error(f"is {kind_of(self.raw)} where a list of two belongs")
        first, second = self.rows()
        return first, second

    def text(self, maximum: int = 10_000) -> str:
        """Text of at most `maximum` characters that UTF-8 can write."""
        if not isinstance(self.raw, str):
            raise self.error(f"is {kind_of(self.raw)} where text belongs")
        if len(self.raw) > maximum:
            raise self.error(f"has {len(self.raw)} characters, and at most {maximum} are read")
        if any("\ud800" <= char <= "\udfff" for char in self.raw):
            raise self.error("holds half a character (a lone surrogate)")
        return self.raw

    def integer(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`; true and false are none."""
        if isinstance(self.raw, bool) or not isinstance(self.raw, int) or not low <= self.raw <= high:
            raise self.error(f"is {kind_of(self.raw)} where a whole number from {low} to {high} belongs")
        return self.raw

    def number(self, low: float = -math.inf, high: float = math.inf) -> float:
        """A finite number from `low` to `high`; true and false are none."""
        known = isinstance(self.raw, int | float) and not isinstance(self.raw, bool)
        if not known or not low <= self.raw <= high or not -1e308 <= self.raw <= 1e308:
            raise self.error(f"is {kind_of(self.raw)} where a number from {low:g} to {high:g} belongs")
        return float(self.raw)

    def boolean(self) -> bool:
        """True or false."""
        if not isinstance(self.raw, bool):
            raise self.error(f"is {kind_of(self.raw)} where true or false belongs")
        return self.raw

    def error(self, what: str) -> UntrustedValueError:
        """An error to raise about this value: its place, then `what`."""
        location = visible(f"{self.where}: {self.path}" if self.path else self.where)
        return UntrustedValueError(f"{location} {what}" + (f": {self.way_out}" if self.way_out else ""))


def read_json(
    path: str | Path,
    *,
    maximum: int = MAX_BYTES,
    where: str | None = None,
    way_out: str = "",
    nan: Nan = "refused",
) -> Value:
    """The value in a JSON file of at most `maximum` bytes; `where` names it in errors, or else its path."""
    data = read_regular(path, maximum)
    return parse_json(data, where or str(path), maximum=maximum, way_out=way_out, nan=nan)


def read_json_lines(path: str | Path, *, maximum: int = MAX_BYTES) -> Iterator[Value]:
    """The values of a file with JSON in each line, NaN and infinities included, as logs of numbers hold.

    Lines that are none, such as a last one that a crash cut, are left out.
    """
    for text in read_regular(path, maximum).split(b"\n"):
        with suppress(UntrustedValueError):
            yield parse_json(text, str(path), nan="number")


def parse_json(
    data: bytes | str, where: str, *, maximum: int = MAX_BYTES, way_out: str = "", nan: Nan = "refused"
) -> Value:
    """The value of JSON text; UntrustedValueError where it is none, or would take too much memory.

    Python's own reader does the parsing. What it would build is bounded first, by counting the signs that
    make values, and it is asked to build neither numbers that are none (NaN) nor whole numbers of more than a
    thousand digits, which would take long.
    nan: what to take NaN and infinities for, which Python writes though JSON has none: "null" where a table
    had empty cells, "number" in logs of numbers.
    """
    encoded = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    shown, repair = visible(where), way_out or "repair or remove it"
    if len(encoded) > maximum:
        raise UntrustedValueError(f"{shown} has {len(encoded)} bytes, more than the {maximum} that are read")
    memory = 5 * len(encoded) + sum(bytes_each * encoded.count(sign) for sign, bytes_each in COST.items())
    if memory > MAX_MEMORY:
        raise UntrustedValueError(
            f"{shown} could take {memory >> 20} MiB of memory, more than the {MAX_MEMORY >> 20} that one "
            "file may: split it, or make shards"
        )
    try:
        raw = json.loads(data, parse_int=_integer, parse_constant=_CONSTANTS[nan])
    except RecursionError:
        raise UntrustedValueError(f"{shown} is nested deeper than {MAX_DEPTH} levels: {repair}") from None
    except ValueError as error:
        raise UntrustedValueError(f"{shown} is not valid JSON ({visible(error)}): {repair}") from error
    if _deeper_than(raw, MAX_DEPTH):
        raise UntrustedValueError(f"{shown} is nested deeper than {MAX_DEPTH} levels: {repair}")
    return Value(raw, where, way_out=way_out)


def kind_of(raw: object) -> str:
    """How a JSON value is called in a sentence: null, text, a list, a group, or a short number itself."""
    if raw is None:
        return "null"
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, int | float):
        return repr(raw) if abs(raw) < 1e15 else "a huge number"
    if isinstance(raw, list):
        return f"a list of {len(raw)}"
    return "text" if isinstance(raw, str) else "a group of keys"


def _integer(digits: str) -> int:
    if len(digits) > 1000:
        raise ValueError("a number has more than 1000 digits")
    return int(digits)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number in JSON")


_CONSTANTS: dict[Nan, Callable[[str], Any]] = {
    "refused": _refuse_constant,
    "null": lambda name: None,
    "number": float,
}


def _deeper_than(raw: object, limit: int) -> bool:
    """Whether lists and groups nest more than `limit` levels, without recursion."""
    level = [raw] if isinstance(raw, list | dict) else []
    for _ in range(limit):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, list | dict)
        ]
    return bool(level)
