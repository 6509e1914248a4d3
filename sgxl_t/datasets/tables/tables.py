"""Tables of captions and labels: JSON lines, CSV, TSV, parquet and JSON, read row by row within bounds."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from sgxl_t.datasets.images.annotations import MAX_TABLE_BYTES
from sgxl_t.datasets.rejects import RejectedItemError, Rejects
from sgxl_t.datasets.tables.columns import CAPTION_COLUMNS, FILE_COLUMNS, LABEL_COLUMNS, Row, plain
from sgxl_t.datasets.tables.delimited import MAX_LINE, NO_HEADER, Delimited
from sgxl_t.datasets.tables.json_tables import MAX_ROWS, json_rows, plain_row
from sgxl_t.files.terminal import first_line, visible
from sgxl_t.files.untrusted import MAX_BYTES, UntrustedValueError, parse_json

TABLE_STEMS = (
    "metadata",
    "captions",
    "caption",
    "labels",
    "label",
    "annotations",
    "annotation",
    "prompts",
    "prompt",
)
TABLE_ENDINGS = (".jsonl", ".csv", ".tsv", ".parquet", ".json", ".txt")
MAX_UNPACKED = 2**29
"""Bytes that the values of a parquet table may take together; few of its own can stand for many."""
VALUE_BYTES = 32
"""Bytes of a value, or of one more in a list, beside its text."""
MAX_FOOTER_BYTES = 2**25

Rows = Iterator[tuple[object, Row | RejectedItemError]]
"""Place (line or path inside the file), and the row or why it is rejected."""


@dataclass
class Table:
    """The rows of a table, which are read while they are gone through.

    columns: names as the file writes them, of JSON lines those met so far. problem: why the table as a whole
    cannot be used, known before any row is read.
    """

    rows: Rows
    columns: list[str] = field(default_factory=list)
    problem: str | None = None


def table_rank(name: str) -> tuple[int, int] | None:
    """Where a file stands in the order in which tables are read; None where its name is no table's."""
    path = PurePosixPath(name.lower())
    if path.stem not in TABLE_STEMS or path.suffix not in TABLE_ENDINGS:
        return None
    return TABLE_STEMS.index(path.stem), TABLE_ENDINGS.index(path.suffix)


def open_table(file: BinaryIO, size: int, where: str, rejects: Rejects) -> Table:
    """A table by the ending of its name, `where`; ValueError where it cannot be read or is too large."""
    suffix = PurePosixPath(where).suffix.lower()
    shown = visible(where)
    if suffix not in TABLE_ENDINGS:
        raise ValueError(
            f"{shown} cannot be read as a table: its ending is none of {', '.join(TABLE_ENDINGS)}"
        )
    limit = MAX_BYTES if suffix in (".json", ".parquet") else MAX_TABLE_BYTES
    if size > limit:
        raise ValueError(f"{shown} has {size} bytes, more than the {limit} that are read: split the table")
    if suffix not in (".json", ".parquet"):
        _check_lines(file, shown)
    if suffix == ".jsonl":
        table = Table(iter(()))
        table.rows = _json_lines(file, shown, table.columns)
    elif suffix == ".parquet":
        table = _parquet(file.read(limit + 1), shown)
    elif suffix == ".json":
        found = json_rows(parse_json(file.read(limit + 1), where), where)
        table = Table(found or iter(()), problem=None if found else "JSON of no known form")
    else:
        text = Delimited(file, shown, rejects, tabs=suffix == ".tsv")
        table = Table(text.rows(), text.columns, NO_HEADER if text.headless else None)
    table.rows = _bounded(table.rows, shown)
    return table


def _check_lines(file: BinaryIO, where: str) -> None:
    """Refuse a text of far too many lines before any is looked at; quoted values may have several."""
    lines = 0
    while block := file.read(2**22):
        lines += block.count(b"\n") + block.count(b"\r")
        if lines > 4 * MAX_ROWS:  # each may end in both
            raise _too_many(where)
    file.seek(0)


def _bounded(rows: Rows, where: str) -> Rows:
    for count, row in enumerate(rows):
        if count == MAX_ROWS:
            raise _too_many(where)
        yield row


def _too_many(where: str) -> ValueError:
    return ValueError(f"{where} has more than {MAX_ROWS} rows: make shards of so many pictures")


def _json_lines(file: BinaryIO, where: str, columns: list[str]) -> Rows:
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise ValueError(f"{where}, line {number} has more than {MAX_LINE} bytes: repair it")
        if not line.strip():
            continue
        try:
            raw = parse_json(line.decode("utf-8-sig"), "this line", maximum=2 * MAX_LINE).raw
        except UnicodeDecodeError as error:
            yield number, RejectedItemError("caption is not UTF-8", str(error))
        except UntrustedValueError as error:
            yield number, RejectedItemError("line is no JSON", str(error))
        else:
            if not isinstance(raw, dict):
                yield number, RejectedItemError("line is no JSON object")
                continue
            if len(columns) < 100:
                columns += [key for key in raw if key not in columns]
            yield number, plain_row(raw)


def _parquet(data: bytes, where: str) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    wrong = f"{where} cannot be read as a table"
    if int.from_bytes(data[-8:-4], "little") > MAX_FOOTER_BYTES:
        raise ValueError(f"{wrong}: its footer has more than {MAX_FOOTER_BYTES} bytes")
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        meta, schema = file.metadata, file.schema_arrow
        if meta.num_rows > MAX_ROWS:
            raise _too_many(where)
        wanted = [name for name in schema.names if _is_wanted(name, schema.field(name).type)]
        held = 0
        for group in range(meta.num_row_groups):
            for index in range(meta.num_columns):
                column = meta.row_group(group).column(index)
                if column.path_in_schema.split(".")[0] in wanted:
                    held += column.total_uncompressed_size + VALUE_BYTES * column.num_values
        if held > MAX_UNPACKED:
            raise ValueError(f"{where} unpacks to {held} bytes, more than {MAX_UNPACKED}: split the table")
        texts = [name for name in wanted if _is_text(schema.field(name).type)]
        # Texts that occur often stay single in memory.
        file = pq.ParquetFile(io.BytesIO(data), read_dictionary=texts)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{wrong}: {first_line(error)}") from error
    return Table(_parquet_rows(file, wanted, where), list(schema.names))


def _parquet_rows(file: Any, wanted: list[str], where: str) -> Rows:
    import pyarrow as pa

    number = seen = 0
    try:
        for batch in file.iter_batches(batch_size=1024, columns=wanted) if wanted else ():
            for index in range(batch.num_rows):
                values = [column[index].as_py() for column in batch.columns]
                seen += sum(map(_length, values))
                if seen > MAX_UNPACKED:
                    raise ValueError(f"{where} unpacks to more than {MAX_UNPACKED} bytes: split the table")
                number += 1
                yield number, dict(zip(map(plain, batch.schema.names), values, strict=True))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{where} cannot be read as a table: {first_line(error)}") from error


def _is_wanted(name: str, kind: Any) -> bool:
    column = plain(name)
    if column in FILE_COLUMNS:
        return _is_text(kind)
    return column in CAPTION_COLUMNS or column in LABEL_COLUMNS


def _is_text(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return types.is_string(kind) or types.is_large_string(kind)


def _length(value: object) -> int:
    if isinstance(value, list):
        return sum(map(_length, value))
    return VALUE_BYTES + (len(value) if isinstance(value, str | bytes) else 0)
