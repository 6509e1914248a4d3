"""Which columns of a table name images, captions and labels."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

FILE_COLUMNS = (
    "file_name",
    "filename",
    "file",
    "file_path",
    "filepath",
    "path",
    "image",
    "image_name",
    "image_path",
    "image_file",
    "img",
    "img_name",
    "img_path",
    "picture",
    "name",
    "image_id",
    "id",
    "key",
)
CAPTION_COLUMNS = (
    "text",
    "captions",
    "caption",
    "prompts",
    "prompt",
    "descriptions",
    "description",
    "sentences",
    "sentence",
    "alt_text",
    "alt",
    "title",
    "comment",
    "tags",
)
LABEL_COLUMNS = ("label", "labels", "class", "class_name", "category", "class_id", "target")
CONVERSATION = "conversations"
"""Column of LLaVA's tables: turns of a talk about the image, of which the first answer is the caption."""

Row = dict[str, Any]
"""The values of one row by plain column name."""


def plain(column: object) -> str:
    """A column's name as the lists above write it: lower case, underscores for spaces and hyphens."""
    return re.sub(r"[\s\-]+", "_", str(column).strip().lower())


def first_of(columns: Iterable[str], wanted: tuple[str, ...]) -> str | None:
    """The first of the wanted columns that a table has."""
    held = set(columns)
    return next((column for column in wanted if column in held), None)


def is_usable(columns: Iterable[str]) -> bool:
    """Whether a table with these plain columns names images, and captions or labels for them."""
    held = list(columns)
    notes = (*CAPTION_COLUMNS, *LABEL_COLUMNS, CONVERSATION)
    return first_of(held, FILE_COLUMNS) is not None and first_of(held, notes) is not None


def pick(row: Row, wanted: tuple[str, ...]) -> Any:
    """The first value of the wanted columns that is there; None without any."""
    return next((row[column] for column in wanted if row.get(column) is not None), None)


def caption_of(row: Row) -> Any:
    """The caption of a row, or its list of captions; of a conversation the first answer. None without any."""
    caption, turns = pick(row, CAPTION_COLUMNS), row.get(CONVERSATION)
    if caption is not None or not isinstance(turns, list):
        return caption
    answers = (turn for turn in turns if isinstance(turn, dict) and turn.get("from") in ("gpt", "assistant"))
    return next((turn.get("value") for turn in answers), None)


def label_of(row: Row) -> Any:
    """The label of a row: text that is a whole number, such as 3 or 3.0, as a number; None without any."""
    label = pick(row, LABEL_COLUMNS)
    if not isinstance(label, str):
        return label
    text = label.strip()
    if re.fullmatch(r"[+-]?[0-9]{1,18}(\.0*)?", text):
        return int(text.partition(".")[0])
    return text or None
