"""What is wrong with a configuration in plain words, where the parser speaks of Python's types."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from sgxl_t.files.terminal import visible
from sgxl_t.training.config.config import TrainConfig
from sgxl_t.training.config.short_names import SHORT

KEY = re.compile(r'(?:Parser key|Group) [\'"]([\w.]+)[\'"]')
VALUE = re.compile(r"(?:Got|Given) value: ?(.*?)(?: Subclass types expect.*)?$")
GROUP = re.compile(r"Unable to load config '(.*?)'")
UNKNOWN = re.compile(r"(?:accept option|Option) '([^']+)'")
MISSING = re.compile(r"the following arguments are required: ([\w., ]+)")
SHOWN = 60
WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    type(None): "null",
}
LISTS: dict[Any, str] = {
    int: "a list of whole numbers, such as [8, 16]",
    float: "a list of numbers, such as [0.5, 1]",
    str: "a list of texts, such as [a, b]",
}


def plain_words(message: str) -> str:
    """The parser's message as the middle of one sentence: key, value, and what belongs there."""
    words = " ".join(" ".join(line.strip(" -") for line in message.splitlines()).split())
    key = ".".join(dict.fromkeys(KEY.findall(words)))
    if found := re.search(r"unrecognized arguments: (.*)", words):
        return _unknown_argument(found[1])
    if found := UNKNOWN.search(words):
        return _unknown_key(f"{key}.{found[1]}" if key else found[1])
    if found := re.search(r"argument --(\S+): expected one argument", words):
        return f"--{found[1]} has no value: give one"
    if found := MISSING.search(words):
        return f"{key} lacks {found[1]}"
    if found := re.search(r"File does not exist: '(.*?)'", words):
        return f"{key}={_shown(found[1])} does not exist: name a YAML file"
    if found := re.search(r"Problems parsing config: (.*)", words):
        return f"the file is no YAML ({visible(found[1])})"
    if words.startswith("Unexpected config"):
        return "the file holds no settings, such as the line cond: class"
    hint, value = type_of(key), VALUE.search(words) or GROUP.search(words)
    if hint is None or value is None:
        return visible(words.rstrip("."))
    return f"{key}={_shown(value[1])} is not possible: use {expected(hint)}"


def expected(hint: Any) -> str:
    """Values of a type in words, such as "class, text or none"."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return either([str(choice) for choice in inner])
    if origin in (Union, types.UnionType):
        return either([word for kind in inner for word in _choices(kind)])
    if origin is tuple:
        return LISTS.get(inner[0], "a list of groups of settings, such as [{a: 1}, {a: 2}]")
    return WORDS.get(hint, "a group of settings")


def all_keys() -> list[str]:
    """Every key of the configuration with dots."""
    return list(_keys(TrainConfig, ""))


def _keys(cls: Any, prefix: str) -> Iterator[str]:
    hints = get_type_hints(cls)
    for item in fields(cls):
        yield f"{prefix}{item.name}"
        if is_dataclass(hints[item.name]):
            yield from _keys(hints[item.name], f"{prefix}{item.name}.")


def type_of(key: str) -> Any:
    """The type of a key; of keys inside of a list's entries too. None for one that there is not."""
    hint: Any = TrainConfig
    for name in key.split("."):
        inner = get_args(hint)
        cls = inner[0] if get_origin(hint) is tuple else hint
        if not is_dataclass(cls):
            return None
        hint = get_type_hints(cls).get(name)
        if hint is None:
            return None
    return hint


def _unknown_argument(text: str) -> str:
    first = text.split()[0]
    if first.startswith("--"):
        return _unknown_key(first[2:].partition("=")[0], also=[name[2:] for name in SHORT])
    return f"{_shown(first)} stands alone: settings are given as --a.b.c VALUE"


def _unknown_key(key: str, also: Sequence[str] = ()) -> str:
    """also: what may stand on the command line beside the keys."""
    near = _nearest(key, [*also, *all_keys()])
    return f"there is no setting {_shown(key)}" + (f", did you mean {near}?" if near else "")


def _nearest(key: str, known: Sequence[str]) -> str | None:
    """The key that was meant: as a whole, or by its last name where the groups are left out or wrong."""
    if near := difflib.get_close_matches(key, known, n=1, cutoff=0.75):
        return near[0]
    last = [name.rpartition(".")[2] for name in known]
    near = difflib.get_close_matches(key.rpartition(".")[2], last, n=1, cutoff=0.75)
    return known[last.index(near[0])] if near else None


def _choices(kind: Any) -> list[str]:
    return [str(choice) for choice in get_args(kind)] if get_origin(kind) is Literal else [expected(kind)]


def either(words: Sequence[str]) -> str:
    """a; a or b; a, b or c."""
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _shown(value: str) -> str:
    return visible(value if len(value) <= SHOWN else f"{value[:SHOWN]}...") or "''"
