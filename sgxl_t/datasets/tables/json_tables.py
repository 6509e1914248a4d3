"""Captions and labels in JSON: StyleGAN's dataset.json, COCO, lists of rows, objects by image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from sgxl_t.datasets.images.annotations import MAX_CLASSES
from sgxl_t.datasets.tables.columns import CAPTION_COLUMNS, LABEL_COLUMNS, Row, caption_of, label_of, plain
from sgxl_t.files.untrusted import Value

FORMS = (
    "COCO captions (images with id and file_name, annotations with id, image_id and caption), a list of rows "
    '[{"file_name": ..., "text": ...}], or {"0.png": "caption"}'
)
MAX_ROWS = 2_000_000
DATASET_KEYS = ("labels", "captions")
LABEL_FILES = ("label", "labels")
"""Stems of files whose texts are labels and not captions."""


def json_rows(value: Value, name: str) -> Iterator[tuple[str, Row]] | None:
    """Rows of a JSON file with their places inside; None where it has none of the forms."""
    raw = value.raw
    if isinstance(raw, dict) and {"images", "annotations"} <= raw.keys():
        notes = raw["annotations"]
        captions = isinstance(notes, list) and any(isinstance(n, dict) and "caption" in n for n in notes)
        return _coco_rows(value) if captions else None
    if isinstance(raw, list) and raw and all(isinstance(row, dict) for row in raw):
        return ((row.path, plain_row(row.raw)) for row in value.rows())
    values = raw.values() if isinstance(raw, dict) else ()
    if values and all(isinstance(one, str | list | dict | int | float) for one in values):
        return _named_rows(raw, name)
    return None


def note_of(value: Value) -> tuple[object, object]:
    """Caption and label in the JSON file of one image, None where there is none."""
    if not isinstance(value.raw, dict):
        return None, None
    row = plain_row(value.raw)
    return caption_of(row), label_of(row)


def plain_row(raw: dict[str, object]) -> Row:
    """A JSON object as a row of a table."""
    return {plain(key): value for key, value in raw.items()}


def _named_rows(raw: dict[str, object], name: str) -> Iterator[tuple[str, Row]]:
    stem = PurePosixPath(name).stem.lower()
    for key, value in raw.items():
        if isinstance(value, dict):
            row = plain_row(value)
        else:
            number = isinstance(value, int | float) or stem in LABEL_FILES
            row = {(LABEL_COLUMNS if number else CAPTION_COLUMNS)[0]: value}
        yield key, {**row, "file_name": key}


def _coco_rows(value: Value) -> Iterator[tuple[str, Row]]:
    """All captions of a COCO file by their id, so that the first of an image has its lowest id."""
    names = {_identity(image["id"]): image["file_name"].text() for image in value["images"].rows()}
    notes = sorted(value["annotations"].rows(), key=lambda note: note["id"].integer(0, 2**63 - 1))
    for note in notes:
        identity = _identity(note["image_id"])
        if identity not in names:
            raise note["image_id"].error("is the id of no image of the file")
        if (caption := note.get("caption")) is not None:
            yield note.path, {"file_name": names[identity], "caption": caption.raw}


def _identity(value: Value) -> int | str:
    return value.text() if isinstance(value.raw, str) else value.integer(0, 2**63 - 1)


def dataset_rows(table: Value) -> Iterator[tuple[Value, str, object]]:
    """Place, path of the image, and caption or label of each row.

    {"labels": [[path, int | list | string], ...] or null}: text under "labels" is a caption, as StyleGAN-T
    has it, a list of texts several captions, a list of numbers a one-hot label. Two further keys of ours:
    "captions" ([[path, string | list], ...]) beside integer labels, and "class_names".
    """
    for key in DATASET_KEYS:
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
