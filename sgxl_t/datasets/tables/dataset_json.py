"""StyleGAN's dataset.json."""

from __future__ import annotations

from collections.abc import Iterator

from sgxl_t.datasets.images.annotations import MAX_CLASSES
from sgxl_t.datasets.tables.tables import MAX_ROWS
from sgxl_t.files.untrusted import Value

KEYS = ("labels", "captions")


def dataset_rows(table: Value) -> Iterator[tuple[Value, str, object]]:
    """Place, path of the picture, and caption or label of each row.

    {"labels": [[path, int | list | string], ...] or null}: text under "labels" is a caption, as StyleGAN-T
    has it, a list of texts several captions, a list of numbers a one-hot label. Two further keys of ours:
    "captions" ([[path, string | list], ...]) beside integer labels, and "class_names".
    """
    for key in KEYS:
        part = table.get(key)
        for row in part.rows(MAX_ROWS) if part is not None else ():
            raw = row.raw
            if not (isinstance(raw, list) and len(raw) == 2 and isinstance(raw[0], str)):
                raise row.error("is no [path, value]")
            yield row, raw[0], raw[1]


def class_names(table: Value) -> tuple[str, ...] | None:
    """The names under "class_names"; None without any."""
    part = table.get("class_names")
    names = () if part is None else tuple(name.text(1000) for name in part.rows(MAX_CLASSES))
    return names or None


def is_caption(value: object) -> bool:
    """Whether a value of a row is a caption or a list of captions."""
    return isinstance(value, str) or (isinstance(value, list) and any(isinstance(one, str) for one in value))
