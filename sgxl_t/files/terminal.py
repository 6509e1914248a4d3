"""Text from files, made safe to print: names, captions and provenance may hold anything."""

from __future__ import annotations

import json
import logging
import sys
import unicodedata

_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\"}


def visible(text: object) -> str:
    r"""The text on one line with its control characters written out, such as \x1b for an escape.

    Control characters (Unicode Cc), line and paragraph separators, lone surrogates and the marks that turn
    the direction of a line would move the cursor, colour or rename the terminal, or show other words than
    there are. Everything else, emoji and all scripts, stays as it is.
    """
    return "".join(_NAMED.get(char, _written_out(char)) if _harmful(char) else char for char in str(text))


def first_line(error: Exception) -> str:
    """What an error of another library says, as far as one line takes it."""
    return visible((str(error) or type(error).__name__).splitlines()[0])


def say(text: object = "", *, err: bool = False) -> None:
    """Prints one line on stdout or stderr, with what would harm a terminal written out.

    Whatever this package prints goes through here or through `say_json`, since almost every line can hold a
    name, a caption or a sentence from a file. Several lines are several calls: a line break inside of a text
    is shown, so that no name can pass for a line of its own.
    """
    print(visible(text), file=sys.stderr if err else sys.stdout, flush=True)


def say_lines(text: str, *, err: bool = False) -> None:
    """Prints a text whose line breaks are ours, such as a table; its cells have passed `visible`."""
    for line in text.split("\n"):
        say(line, err=err)


def say_json(value: object, *, indent: int | None = 2) -> None:
    """Prints JSON for programs, in which escapes of JSON stand for what would harm a terminal."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    print("".join(_in_json(char) for char in text), flush=True)


class VisibleFormatter(logging.Formatter):
    """Lines of a log with what would harm a terminal written out; those of a traceback stay lines."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as logging writes it, with its message on one line."""
        return "\n".join(map(visible, super().format(record).split("\n")))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """The message's own line breaks are shown."""
        return visible(super().formatMessage(record))


def _in_json(char: str) -> str:
    return f"\\u{ord(char):04x}" if char != "\n" and _harmful(char) else char


def _harmful(char: str) -> bool:
    category = unicodedata.category(char)
    turns = "\u202a" <= char <= "\u202e" or "\u2066" <= char <= "\u2069"
    return category in ("Cc", "Cs", "Zl", "Zp") or turns


def _written_out(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
