"""Captions and labels of listed pictures: text files, tables, COCO files and dataset.json."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from sgxl_t.datasets.rejects import RejectedItemError, Rejects

MAX_CAPTION_CHARS = 1000
"""Longer captions are cut at the last space before; text encoders read about 350 characters."""
MAX_CAPTIONS = 1000
"""Captions that one picture keeps; published sets have some hundred at most."""
MAX_TABLE_BYTES = 2**30

FILE_COLUMNS = ("file_name", "filename", "image", "file", "path")
CAPTION_COLUMNS = ("text", "caption", "prompt")
LABEL_COLUMNS = ("label", "class", "class_name")
TABLE_NAMES = ("metadata.jsonl", "metadata.csv", "metadata.tsv", "metadata.parquet")

Label = int | str


@dataclass
class Annotations:
    """Captions and labels by the picture's path inside its folder or archive, with `/` between parts.

    captions: all different ones of a picture, in the order found.
    """

    captions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    labels: dict[str, Label] = field(default_factory=dict)
    class_names: tuple[str, ...] | None = None
    rejects: Rejects = field(default_factory=Rejects)
    _bad: dict[str, list[RejectedItemError]] = field(default_factory=dict)

    def add_caption(self, name: str, caption: object) -> None:
        """Keep a caption, or each of a list, behind the picture's others; bad ones wait for `settle`."""
        for one in caption if isinstance(caption, list) and caption else [caption]:
            try:
                text = clean_caption(one, self.rejects)
            except RejectedItemError as error:
                self._bad.setdefault(name, []).append(error)
                continue
            kept = self.captions.get(name, ())
            if len(kept) == MAX_CAPTIONS:
                self.rejects.note(f"caption beyond the first {MAX_CAPTIONS} of its picture left out")
            elif text not in kept:
                self.captions[name] = (*kept, text)

    def settle(self) -> None:
        """Reject pictures that have bad captions alone; beside good ones they are left out and counted."""
        for name, errors in self._bad.items():
            if name not in self.captions:
                self.rejects.add(name, errors[0])
                continue
            for error in errors:
                self.rejects.note(f"{error.reason}, and its picture has others")
        self._bad.clear()

    def add_label(self, name: str, label: object) -> None:
        """Keep an integer or named class; one-hot lists give their position."""
        if isinstance(label, list | tuple):
            if sorted(map(float, label)) != [0.0] * (len(label) - 1) + [1.0]:
                raise ValueError(
                    f"the label of {name!r} is a list that is not one-hot: give class numbers or captions"
                )
            label = [float(value) for value in label].index(1.0)
        if isinstance(label, float) and label.is_integer():
            label = int(label)
        if isinstance(label, int) and label < 0:
            raise ValueError(
                f"the label of {name!r} is {label}, and classes are numbered from 0 on: renumber the labels, "
                "or leave pictures without a class out"
            )
        bad_number = isinstance(label, int) and (isinstance(label, bool) or not 0 <= label < 2**31)
        if bad_number or not isinstance(label, int | str) or label == "":
            self.rejects.add(name, RejectedItemError("label is no class", repr(label)[:100]))
            return
        self.labels[name] = label


def clean_caption(caption: object, rejects: Rejects) -> str:
    """One line of text within MAX_CAPTION_CHARS; RejectedItemError when it is no text, broken or empty."""
    if isinstance(caption, bytes):
        try:
            caption = caption.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise RejectedItemError("caption is not UTF-8", str(error)) from error
    if not isinstance(caption, str):
        raise RejectedItemError("caption is no text", repr(caption)[:100])
    if any(0xD800 <= ord(char) <= 0xDFFF for char in caption):
        raise RejectedItemError("caption is not UTF-8")
    text = " ".join("".join(char if char.isprintable() else " " for char in caption).split())
    if not text:
        raise RejectedItemError("caption is empty")
    if len(text) > MAX_CAPTION_CHARS:
        rejects.note(f"caption cut at {MAX_CAPTION_CHARS} characters")
        text = text[: MAX_CAPTION_CHARS + 1].rsplit(" ", 1)[0][:MAX_CAPTION_CHARS]
    return text


def safe_name(name: object) -> str | None:
    """The path with `/` between parts, or None when it is absolute or leaves its folder."""
    if not isinstance(name, str) or not name or "\0" in name:
        return None
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts or ":" in path.parts[0]:
        return None
    return str(path)


def read_dataset_json(data: bytes, notes: Annotations) -> None:
    """StyleGAN's dataset.json: {"labels": [[path, int | list | string], ...] or null}.

    A list of strings gives a picture several captions, a list of numbers is a one-hot label. Two further keys
    of ours: "class_names", and "captions" ([[path, string | list], ...]) beside integer labels.
    """
    table = _parse_json(data, "dataset.json")
    if not isinstance(table, dict):
        raise ValueError('dataset.json holds no object: expected {"labels": [[path, label], ...]}')
    for key in ("labels", "captions"):
        for row in table.get(key) or []:
            if not (isinstance(row, list) and len(row) == 2):
                raise ValueError(f'dataset.json has a row {row!r:.80} under "{key}": expected [path, value]')
            name, value = safe_name(row[0]), row[1]
            if name is None:
                notes.rejects.add(str(row[0]), RejectedItemError("path leaves the data set"))
            elif isinstance(value, str) or (isinstance(value, list) and _holds_text(value)):
                notes.add_caption(name, value)
            else:
                notes.add_label(name, value)
    if table.get("class_names"):
        notes.class_names = tuple(map(str, table["class_names"]))


def _holds_text(values: list[object]) -> bool:
    return any(isinstance(value, str) for value in values)


def read_table(path: Path, notes: Annotations) -> None:
    """JSON lines, CSV, TSV or parquet with columns of file names and captions or labels; or COCO JSON.

    A picture keeps the captions of all its rows, and of lists in the column of captions.
    """
    if path.stat().st_size > MAX_TABLE_BYTES:
        raise ValueError(
            f"{path} has {path.stat().st_size} bytes, more than {MAX_TABLE_BYTES}: split the table"
        )
    if path.suffix.lower() == ".json":
        rows: Iterable[dict[str, Any]] = _coco_rows(_parse_json(path.read_bytes(), str(path)), path)
    else:
        rows = _rows(path, notes.rejects)
    for row in rows:
        raw = _pick(row, FILE_COLUMNS)
        if raw is None:
            raise ValueError(f"{path} names no picture in columns {list(row)}: name one of them file_name")
        name = safe_name(raw)
        if name is None:
            notes.rejects.add(str(raw), RejectedItemError("path leaves the data set"))
            continue
        caption, label = _pick(row, CAPTION_COLUMNS), _pick(row, LABEL_COLUMNS)
        if caption is not None:
            # Lists in a parquet file arrive as arrays.
            notes.add_caption(name, caption.tolist() if hasattr(caption, "tolist") else caption)
        if label is not None:
            notes.add_label(name, int(label) if isinstance(label, str) and label.isdecimal() else label)


def _rows(path: Path, rejects: Rejects) -> Iterable[dict[str, Any]]:
    import pandas as pd

    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        return _json_lines(path, rejects)
    try:
        if suffix == ".parquet":
            frame = pd.read_parquet(path)
        elif suffix in (".csv", ".tsv"):
            # Broken bytes become lone surrogates, which reject their own row only.
            frame = pd.read_csv(
                path,
                sep="\t" if suffix == ".tsv" else ",",
                dtype=str,
                keep_default_na=False,
                encoding_errors="surrogateescape",
            )
        else:
            raise ValueError("its ending is none of .jsonl, .csv, .tsv, .parquet and .json")
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a table: {str(error).splitlines()[0]}") from error
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def _json_lines(path: Path, rejects: Rejects) -> Iterable[dict[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except UnicodeDecodeError as error:
                rejects.add(f"{path.name}:{number}", RejectedItemError("caption is not UTF-8", str(error)))
                continue
            except (ValueError, RecursionError) as error:
                rejects.add(f"{path.name}:{number}", RejectedItemError("line is no JSON", str(error)))
                continue
            if isinstance(row, dict):
                yield row
            else:
                rejects.add(f"{path.name}:{number}", RejectedItemError("line is no JSON object"))


def _coco_rows(table: Any, path: Path) -> Iterable[dict[str, Any]]:
    """All captions of a COCO file by their id, so that the first of a picture has its lowest id."""
    try:
        names = {image["id"]: image["file_name"] for image in table["images"]}
        captions = sorted(table["annotations"], key=lambda note: note["id"])
        return [{"file_name": names[note["image_id"]], "caption": note["caption"]} for note in captions]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no COCO captions file ({error!r}): expected images with id and file_name, and "
            "annotations with id, image_id and caption"
        ) from error


def _pick(row: dict[str, Any], columns: tuple[str, ...]) -> Any:
    return next((row[column] for column in columns if row.get(column) is not None), None)


def _parse_json(data: bytes, name: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is no JSON ({error}): repair or remove it") from error
