"""CSV and TSV as people and programs write them: a row never takes the text of another."""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO

from sgxl_t.datasets.decode import is_image
from sgxl_t.datasets.rejects import RejectedItemError, Rejects
from sgxl_t.datasets.tables.columns import CAPTION_COLUMNS, FILE_COLUMNS, Row, first_of, is_usable, plain

MAX_LINE = 2**20
"""Longest line of a table in characters, or in bytes."""
MAX_QUOTED_LINES = 100
"""Lines that one quoted value may have."""
DELIMITERS = (",", ";", "\t", "|")
"""What may stand between the values of a .csv, in the order tried: Excel writes ; in half of the world."""
NO_HEADER = "table without a first line of column names"


class Delimited:
    """The rows of a CSV or TSV file.

    The first line names the columns; `sep=;` before it, as Excel writes, is passed over. Values may be quoted
    as CSV does, also over several lines. A quote that never ends, or ends amid a value, is a character like
    any other: it would swallow the rows that follow. Unquoted delimiters within a row belong to its last
    value where that is the caption; elsewhere the row is rejected, since nothing says what belongs where.
    """

    def __init__(self, file: BinaryIO, where: str, rejects: Rejects, *, tabs: bool) -> None:
        """Read the names of the columns. tabs: tabs part the values, whatever the header looks like."""
        self._lines, self._rejects = _Lines(file, where), rejects
        header = self._lines.take() or ""
        delimiters = ("\t",) if tabs else DELIMITERS
        if header.lower().startswith("sep=") and len(header) == 5:
            delimiters, header = (header[4],), self._lines.take() or ""
        self._delimiter = _choose(header, delimiters)
        self.columns = _split(header, self._delimiter)
        while self.columns and not self.columns[-1].strip():
            self.columns.pop()
        self.headless = any(is_image(column.strip()) for column in self.columns)
        """Whether the first line is no header but names an image."""
        self._plain = [plain(column) for column in self.columns]
        file_column = first_of(self._plain, FILE_COLUMNS)
        self._file_index = 0 if file_column is None else self._plain.index(file_column)
        self._open_end = first_of(self._plain, CAPTION_COLUMNS) == (self._plain or [""])[-1]

    def rows(self) -> Iterator[tuple[int, Row | RejectedItemError]]:
        """Each row, or why it is rejected, with the number of its first line."""
        while (line := self._lines.take()) is not None:
            number = self._lines.number
            if not line.strip():
                continue
            (fields, text), width = self._record(line), len(self.columns)
            if any(field.strip() for field in fields[width:]):
                if not self._open_end:
                    yield number, RejectedItemError("row has more values than columns", line[:100])
                    continue
                whole = _split(text, self._delimiter, spaces=True)
                fields[width - 1 :] = [self._delimiter.join(whole[width - 1 :])]
            yield number, dict(zip(self._plain, fields, strict=False))

    def _record(self, line: str) -> tuple[list[str], str]:
        """The values of the record that begins with `line`, and its text."""
        fields, text = _quoted(line, self._delimiter), line
        if fields is None and line.count('"') % 2:
            ahead = self._closing(line)
            whole = "\n".join([line, *(ahead or ())])
            fields = _quoted(whole, self._delimiter) if ahead else None
            if ahead and fields is not None:
                text = whole
                for _ in ahead:
                    self._lines.take()
        if fields is None:
            self._rejects.note("quote in a table that belongs to its text, taken as it stands")
            fields = line.split(self._delimiter)
        return fields, text

    def _closing(self, line: str) -> list[str] | None:
        """The next lines up to the one that closes the quote; None where rows begin before that."""
        named = self._names_image(line.split(self._delimiter))
        ahead: list[str] = []
        for count in range(MAX_QUOTED_LINES):
            following = self._lines.ahead(count)
            if following is None:
                return None
            fields = following.split(self._delimiter)
            if len(fields) >= len(self.columns) and (not named or self._names_image(fields)):
                return None
            ahead.append(following)
            if following.count('"') % 2:
                return ahead
        return None

    def _names_image(self, fields: list[str]) -> bool:
        return len(fields) > self._file_index and is_image(fields[self._file_index].strip(' "'))


class _Lines:
    """Lines of text with a look ahead; MAX_LINE bounds each."""

    def __init__(self, file: BinaryIO, where: str) -> None:
        start = file.read(2)
        file.seek(0)
        wide = start in (b"\xff\xfe", b"\xfe\xff")  # Excel's "Unicode text"
        # Broken bytes become lone surrogates, which reject their own row alone.
        errors = "replace" if wide else "surrogateescape"
        self._text = io.TextIOWrapper(file, "utf-16" if wide else "utf-8-sig", errors, newline=None)
        self._where, self._ahead, self.number = where, deque[str](), 0

    def ahead(self, count: int) -> str | None:
        """The line `count` places behind the next one; None past the end."""
        while len(self._ahead) <= count:
            line = self._text.readline(MAX_LINE + 1)
            if not line:
                return None
            if len(line) > MAX_LINE:
                line_number = self.number + len(self._ahead) + 1
                raise ValueError(
                    f"{self._where}, line {line_number} has more than {MAX_LINE} characters: repair it"
                )
            self._ahead.append(line.rstrip("\n"))
        return self._ahead[count]

    def take(self) -> str | None:
        """The next line; None past the end."""
        if self.ahead(0) is None:
            return None
        self.number += 1
        return self._ahead.popleft()


def _choose(header: str, delimiters: tuple[str, ...]) -> str:
    """The first delimiter that gives usable columns, or else the one that gives most of them."""
    for delimiter in delimiters:
        if is_usable(map(plain, _split(header, delimiter))):
            return delimiter
    return max(delimiters, key=lambda delimiter: len(_split(header, delimiter)))


def _split(line: str, delimiter: str, *, spaces: bool = False) -> list[str]:
    return _quoted(line, delimiter, spaces=spaces) or line.split(delimiter)


def _quoted(text: str, delimiter: str, *, spaces: bool = False) -> list[str] | None:
    """The values of a record by the rules of CSV; None where its quotes do not follow them.

    spaces: keep those before a value, so that a quote behind them is part of its text.
    """
    if '"' not in text:
        return text.split(delimiter)
    try:
        return next(csv.reader([text], delimiter=delimiter, skipinitialspace=not spaces, strict=True))
    except (csv.Error, StopIteration):
        return None
