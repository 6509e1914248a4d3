"""What is known of a sample beside its image: captions, and fields of its json or of tables."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from sgxl_t.datasets.decode import Bounds, open_image
from sgxl_t.datasets.images.annotations import MAX_TABLE_BYTES
from sgxl_t.datasets.rejects import FilteredItemError
from sgxl_t.datasets.shards.filters import COMPUTED, Filter, computed
from sgxl_t.datasets.shards.tar.opening import is_local
from sgxl_t.datasets.shards.tar.samples import CAPTION_ENDINGS, Group, image_ending, json_of
from sgxl_t.datasets.tables.columns import CAPTION_COLUMNS, caption_of, plain
from sgxl_t.files.terminal import first_line, visible

KEY = "key"
"""Column of tables beside shards that names the sample, as img2dataset writes it."""
MAX_TABLE_ROWS = 20_000_000
"""Rows of a table beside shards; few bytes can stand for very many equal ones."""
FOLDER_TABLE = "metadata.parquet"
CAPTION_LIST = "captions"
"""Field of the json that holds all captions of a sample, as `sgxl-t prepare` writes it."""


class Captions:
    """Takes captions from texts beside the image or from fields of the json.

    fields: names, such as `txt` for the text file; empty takes the first of the texts (.txt, .caption and so
    on), or else "caption" of the json, or else another of the columns that tables have for captions.
    Fields may hold lists.
    """

    def __init__(self, fields: tuple[str, ...] = ()) -> None:
        self.fields = fields

    def all_of(self, group: Group) -> list[Any]:
        """The captions of a sample; [] where there is none."""
        found: list[Any] = []
        for name in self.fields:
            value = group[name] if name in CAPTION_ENDINGS and name in group else json_of(group).get(name)
            found += value if isinstance(value, list) else [value]
        return [text for text in found if text] if self.fields else _found(group)

    def kept(self, group: Group) -> list[Any]:
        """The captions that a copy keeps: without named fields also those under "captions" of the json."""
        found = self.all_of(group)
        listed = json_of(group).get(CAPTION_LIST) if found and not self.fields else None
        return [*found, *listed] if isinstance(listed, list) else found

    def left_out(self, group: Group) -> list[str]:
        """Where a sample has other captions than are taken, in words; [] where fields are named."""
        if self.fields:
            return []
        taken = set(map(_plain_text, self.kept(group)))
        texts = [(f"file ending .{name}", group.get(name)) for name in CAPTION_ENDINGS]
        fields = json_of(group).items()
        texts += [(f"json field {visible(name)}", text) for name, text in fields if _is_caption(name, text)]
        return [where for where, text in texts if text and _plain_text(text) not in taken]


def _found(group: Group) -> list[Any]:
    for ending in CAPTION_ENDINGS:
        if group.get(ending) is not None:
            return [group[ending]]
    row = {plain(name): value for name, value in json_of(group).items()}
    value = caption_of(row) if row.get("caption") is None else row["caption"]
    return [text for text in value if text] if isinstance(value, list) else [] if value is None else [value]


def _is_caption(name: str, text: object) -> bool:
    return isinstance(text, str) and (
        plain(name) in CAPTION_COLUMNS or re.search("caption|prompt|text|descri", plain(name)) is not None
    )


def _plain_text(text: object) -> str:
    decoded = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    return " ".join(decoded.split())


class FieldFilter:
    """A filter on the fields of samples; samples that do not pass raise FilteredItemError.

    A field is looked for in the sample's json, then in NAME.parquet beside NAME.tar, then in metadata.parquet
    in the same folder. min_side and max_aspect come from "width" and "height", or from the image itself.
    """

    def __init__(self, expression: str, bounds: Bounds) -> None:
        self.filter, self.bounds = Filter(expression), bounds

    def check(self, group: Group) -> None:
        """Raises FilteredItemError where the sample does not pass."""
        info = json_of(group)
        if not self.filter.keeps(lambda name: self._value(name, group, info)):
            raise FilteredItemError

    def unknown(self, groups: list[Group]) -> list[str]:
        """Names of the expression that none of the samples has."""
        samples = [(group, json_of(group)) for group in groups]
        names = [name for name in self.filter.names if name not in COMPUTED]
        return [name for name in names if all(self._value(name, *sample) is None for sample in samples)]

    def _value(self, name: str, group: Group, info: dict[str, Any]) -> Any:
        value = info.get(name)
        if value is None and name in COMPUTED:
            return self._computed(name, group, info)
        if value is None and is_local(group["__url__"]):
            table = _beside(group["__url__"], self.filter.names)
            value = table.get(name, {}).get(group["__key__"].rpartition("/")[2])
        return value

    def _computed(self, name: str, group: Group, info: dict[str, Any]) -> float | None:
        value = computed(name, info.get("width"), info.get("height"))
        ending = image_ending(group)
        if value is None and ending is not None:
            value = computed(name, *open_image(io.BytesIO(group[ending]), self.bounds).size)
        return value


def _beside(shard: str, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Columns of the table that describes a shard, as values by key; empty where there is no table."""
    path = _table_of(shard)
    return {} if path is None else _columns(path, names)


def tables_beside(shards: Sequence[str]) -> list[Path]:
    """The tables that describe these local shards, each once."""
    return list(dict.fromkeys(path for path in map(_table_of, shards) if path is not None))


def _table_of(shard: str) -> Path | None:
    choices = (Path(shard).with_suffix(".parquet"), Path(shard).with_name(FOLDER_TABLE))
    return next((path for path in choices if path.is_file()), None)


@lru_cache(maxsize=16)
def _columns(path: Path, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    import pandas as pd
    import pyarrow.parquet as pq

    if path.stat().st_size > MAX_TABLE_BYTES:
        raise ValueError(
            f"{path} has more than {MAX_TABLE_BYTES} bytes: put one NAME.parquet beside each NAME.tar"
        )
    try:
        table = pq.ParquetFile(path)
        held = table.schema_arrow.names
        if table.metadata.num_rows > MAX_TABLE_ROWS:
            raise ValueError(f"it has {table.metadata.num_rows} rows, more than {MAX_TABLE_ROWS}")
        if KEY not in held:
            raise ValueError(f'it has no column "{KEY}"')
        wanted = [name for name in names if name in held]
        frame = pd.read_parquet(path, columns=[KEY, *wanted]) if wanted else pd.DataFrame({KEY: []})
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a table of samples: {first_line(error)}") from error
    keys = frame[KEY].astype(str).tolist()
    filled = frame.astype(object).where(frame.notna(), None)
    return {name: dict(zip(keys, map(_plain, filled[name]), strict=True)) for name in wanted}


def _plain(cell: Any) -> Any:
    return cell.tolist() if hasattr(cell, "tolist") else cell  # lists and numbers of numpy
