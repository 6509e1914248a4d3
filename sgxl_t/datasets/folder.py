"""A folder of pictures: flat, one folder per class, captions beside pictures, or with a table."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import BinaryIO

from sgxl_t.datasets.annotations import TABLE_NAMES, Annotations, read_dataset_json, read_table
from sgxl_t.datasets.imagenet import data_folder
from sgxl_t.datasets.listed import ListedSource
from sgxl_t.datasets.policy import Bounds, is_picture
from sgxl_t.datasets.rejects import RejectedItemError, Rejects
from sgxl_t.files.content import file_hashes

SPLIT_NAMES = {"train": ("train",), "test": ("test", "val", "valid", "validation"), "held_out": ("held_out",)}
MAX_CAPTION_BYTES = 2**20


class FolderSource(ListedSource):
    """Pictures below a folder, in the order of their paths.

    Labels: dataset.json, or a label column of the table, or else the first-level folders, when there are two
    or more and every picture lies in one (folders named by five digits are no classes). Folders called by
    WordNet numbers, as ImageNet's are, give their classes the words for them.
    Captions: name.txt beside the picture, a table metadata.{jsonl,csv,tsv,parquet}, or strings in
    dataset.json; `captions` names another table or a COCO file. Rows and lists give a picture several.
    """

    def __init__(
        self,
        folder: Path,
        *,
        resolution: int,
        split: str = "train",
        mirror: bool = False,
        rejects: Rejects | None = None,
        captions: str | Path | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        self.folder = split_folder(data_folder(folder), split)
        notes = Annotations(rejects=Rejects() if rejects is None else rejects)
        pictures, texts = _scan(self.folder)
        _read_annotations(self.folder, notes, captions)
        if not notes.captions:
            _read_texts(self.folder, pictures, texts, notes)
        if not notes.labels:
            _label_by_folder(pictures, notes)
        super().__init__(
            str(self.folder), pictures, notes, resolution=resolution, mirror=mirror, bounds=bounds or Bounds()
        )

    def _open(self, name: str) -> BinaryIO:
        return (self.folder / name).open("rb")

    def _content(self) -> list[bytes]:
        paths = [os.path.join(self.folder, entry.name) for entry in self.entries]
        return file_hashes(paths, name=str(self.folder))


def split_folder(folder: Path, split: str) -> Path:
    """The subfolder of a split, when all subfolders are splits; the folder itself is `train` otherwise."""
    if split not in SPLIT_NAMES:
        raise ValueError(f"there is no split {split!r}: use {', '.join(SPLIT_NAMES)}")
    known = {name for names in SPLIT_NAMES.values() for name in names}
    inside = {entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")}
    if inside and inside <= known:
        for name in SPLIT_NAMES[split]:
            if name in inside:
                return folder / name
    elif split == "train":
        return folder
    raise ValueError(
        f"{folder} has no split {split!r}: make a subfolder {split}/ beside train/ or use 'train'"
    )


def _scan(folder: Path) -> tuple[dict[str, int], set[str]]:
    """Picture sizes by path and the paths of text files; hidden files and folders are left alone."""
    pictures, texts = {}, set()
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            path = Path(place, name)
            inner = path.relative_to(folder).as_posix()
            if name.startswith("."):
                continue
            if is_picture(name):
                pictures[inner] = path.stat().st_size if path.exists() else 0
            elif name.lower().endswith(".txt"):
                texts.add(inner)
    return dict(sorted(pictures.items())), texts


def _read_annotations(folder: Path, notes: Annotations, captions: str | Path | None) -> None:
    if captions is not None:
        if not Path(captions).is_file():
            raise ValueError(
                f"caption file {str(captions)!r} does not exist: name a table or a COCO captions file"
            )
        read_table(Path(captions), notes)
        return
    if (folder / "dataset.json").is_file():
        read_dataset_json((folder / "dataset.json").read_bytes(), notes)
    for name in TABLE_NAMES:
        if (folder / name).is_file():
            read_table(folder / name, notes)
            return


def _read_texts(folder: Path, pictures: dict[str, int], texts: set[str], notes: Annotations) -> None:
    """Captions of the text files beside pictures; those without a picture are rejected."""
    by_stem = {name.rsplit(".", 1)[0]: name for name in pictures}
    matching = {text for text in texts if text.rsplit(".", 1)[0] in by_stem}
    for text in sorted(texts - matching):
        notes.rejects.add(text, RejectedItemError("caption without picture"))
    for text in sorted(matching):
        with (folder / text).open("rb") as file:
            notes.add_caption(by_stem[text.rsplit(".", 1)[0]], file.read(MAX_CAPTION_BYTES))


def _label_by_folder(pictures: dict[str, int], notes: Annotations) -> None:
    firsts = {name: name.split("/", 1)[0] for name in pictures if "/" in name}
    classes = set(firsts.values())
    numbered = all(re.fullmatch(r"\d{5}", name) for name in classes)
    if len(firsts) == len(pictures) and len(classes) > 1 and not numbered:
        notes.labels.update(firsts)
