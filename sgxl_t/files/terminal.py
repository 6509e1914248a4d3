"""Text from files, made safe to print: names, captions and provenance may hold anything."""

from __future__ import annotations

import unicodedata

_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\"}


def visible(text: object) -> str:
    r"""The text on one line with its control characters written out, such as \x1b for an escape.

    Control characters (Unicode Cc), line and paragraph separators, lone surrogates and the marks that turn
    the direction of a line would move the cursor, colour or rename the terminal, or show other words than
    there are. Everything else, emoji and all scripts, stays as it is.
    """
    return "".join(_NAMED.get(char, _written_out(char)) if _harmful(char) else char for char in str(text))


def _harmful(char: str) -> bool:
    category = unicodedata.category(char)
    turns = "\u202a" <= char <= "\u202e" or "\u2066" <= char <= "\u2069"
    return category in ("Cc", "Cs", "Zl", "Zp") or turns


def _written_out(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
