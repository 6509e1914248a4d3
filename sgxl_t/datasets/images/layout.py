"""Where labels and captions are found: one set of rules for folders and archives."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from sgxl_t.datasets.decode import is_image
from sgxl_t.datasets.images.annotations import Annotations, safe_name
from sgxl_t.datasets.images.class_folders import class_folders
from sgxl_t.datasets.images.lookup import Lookup
from sgxl_t.datasets.images.members import Members
from sgxl_t.datasets.images.splits import common_folder, is_split, of_split
from sgxl_t.datasets.rejects import RejectedItemError
from sgxl_t.datasets.tables.columns import (
    CAPTION_COLUMNS,
    FILE_COLUMNS,
    caption_of,
    first_of,
    label_of,
    pick,
    plain,
)
from sgxl_t.datasets.tables.json_tables import FORMS, class_names, dataset_rows, is_caption, note_of
from sgxl_t.datasets.tables.tables import Table, open_table, table_rank
from sgxl_t.files.regular import open_regular
from sgxl_t.files.terminal import visible
from sgxl_t.files.untrusted import MAX_BYTES, UntrustedValueError, parse_json

DATASET_JSON = "dataset.json"
CAPTION_ENDINGS = (".txt", ".caption", ".captions", ".json")
"""Endings of files of captions beside images; of several the first that has captions counts."""
MAX_CAPTION_BYTES = 2**18
OTHER_IMAGES = frozenset(
    {".heic", ".heif", ".jxl", ".svg", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".exr"}
)
"""Endings of images that Pillow does not read by itself."""
MAX_COLUMNS_TOLD = 12


def read_layout(
    members: Members,
    notes: Annotations,
    where: str,
    *,
    split: str = "train",
    captions: str | Path | None = None,
) -> dict[str, int]:
    """The images of a split, their size in bytes by path; their captions and labels go into `notes`.

    An image takes its captions, and apart from that its label, from the first of these that has them:

    1. `captions`, a table or COCO file that was named; then captions come from there alone
    2. `dataset.json`, in any folder, its paths relative to that folder
    3. tables, likewise (see TABLE_STEMS, TABLE_ENDINGS and the lists of columns)
    4. files beside it: 1.txt, 1.caption or 1.json beside 1.png
    5. labels only: the folder it lies in (see `class_folders`), when no other place has labels

    What is found and not used is counted in the rejects of `notes`, with its reason and names.
    """
    layout = _Layout(members, notes, where, split)
    if captions is not None:
        layout.take_named(Path(captions))
    layout.take_found()
    layout.label_by_folder()
    return layout.images


@dataclass
class _Taking:
    """What one table gives: images it names, values taken, and rows to reject if the table is used at all."""

    hits: int = 0
    elsewhere: int = 0
    taken: int = 0
    nameless: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    bad: list[tuple[str, RejectedItemError]] = field(default_factory=list)


class _Layout:
    def __init__(self, members: Members, notes: Annotations, where: str, split: str) -> None:
        self.members, self.notes, self.rejects = members, notes, notes.rejects
        found = {name: size for name, size in members.sizes.items() if is_image(name)}
        self.base = of_split(found, split, where)
        self.images = {name: size for name, size in found.items() if name.startswith(self.base)}
        others = [name for name in found if not name.startswith(self.base)]
        self._lookup, self._others = Lookup(self.images), Lookup(others)
        around = common_folder(found)
        for name in others:
            folder = name[len(around) :].split("/", 1)[0]
            known = is_split(folder) and "/" in name[len(around) :]
            self.rejects.pass_over(
                f"picture of the split {folder}" if known else "picture outside of the splits", name
            )

    # Finding ---------------------------------------------------------------------------------------------

    def take_named(self, path: Path) -> None:
        """Take captions from a table that was named, and no others."""
        try:
            file = open_regular(path)
        except OSError as error:
            reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
            raise ValueError(
                f"caption file {str(path)!r} {reason}: name a table or a COCO captions file"
            ) from error
        self.notes.named = str(path)
        with file:
            size = os.fstat(file.fileno()).st_size
            problem = self._take_table(open_table(file, size, str(path), self.rejects), str(path), "")
        if problem is not None:
            raise ValueError(f"{visible(path)} gives no captions: {problem[0]} ({problem[1]})")

    def take_found(self) -> None:
        """Sort the members that are no images and take what they say."""
        tables: list[tuple[int, str, tuple[int, int], str]] = []
        beside: list[tuple[int, str, list[str]]] = []
        for name in self.members.sizes:
            path = PurePosixPath(name)
            rank, ending = table_rank(name), path.suffix.lower()
            images = self._lookup.beside(name) if ending in CAPTION_ENDINGS else []
            if is_image(name):
                continue
            if path.name == DATASET_JSON:
                tables.append((name.count("/"), _folder(name), (-1, 0), name))
            elif images:
                beside.append((CAPTION_ENDINGS.index(ending), name, images))
            elif rank is not None:
                tables.append((name.count("/"), _folder(name), rank, name))
            elif not (ending in CAPTION_ENDINGS and self._others.beside(name)):
                self.rejects.pass_over(file_kind(ending), name)
                if ending in CAPTION_ENDINGS[:-1]:
                    self.notes.no_captions = (
                        f"text files such as {visible(name)} lie beside no picture of the same name: move "
                        "them there, or add metadata.jsonl"
                    )
        for folder in self.members.empty:
            self.rejects.pass_over("empty folder", folder)
        for _, folder, rank, name in sorted(tables, key=lambda table: (table[2][0] >= 0, table)):
            if rank[0] < 0:
                self._take_dataset_json(name, folder)
            else:
                self._take_found_table(name, folder)
        for _, name, images in sorted(beside):
            self._take_beside(name, images)

    def label_by_folder(self) -> None:
        """Without other labels, the folders are classes."""
        found = class_folders(self.images, self.base)
        if self.notes.labels:
            for folder in found.folders if found.labels else ():
                self.rejects.pass_over(
                    f"class folder, since the labels come from {self.notes.labels_from()}", folder
                )
            return
        if found.refusal is not None:
            for folder in found.folders:
                self.rejects.pass_over("folder that counts as no class", folder)
            self.notes.no_labels = self.notes.no_labels or found.refusal
        for name in found.strays if found.labels else ():
            self.rejects.add(name, RejectedItemError("in no class folder"))
        for name, folder in found.labels.items():
            self.notes.add_label(name, folder, "folders")
        self._name_unused_folders(found.folders if found.labels else [])

    def _name_unused_folders(self, classes: list[str]) -> None:
        """Count folders within class folders, and folders beside them that hold no image."""
        if not classes:
            return
        level = classes[0].count("/") + 1
        above = classes[0].rpartition("/")[0]
        within = {_folder(name)[:-1] for name in self.images if name.count("/") > level}
        for folder in sorted(folder for folder in within if folder.startswith(above)):
            self.rejects.pass_over("folder within a class folder, which makes no class of its own", folder)
        held = {_head(name, level) for name in self.members.sizes if name.count("/") >= level}
        prefix = f"{above}/" if above else ""
        for folder in sorted(folder for folder in held - set(classes) if folder.startswith(prefix)):
            self.rejects.pass_over("folder without pictures beside the class folders", folder)

    # Taking ----------------------------------------------------------------------------------------------

    def _find(self, raw: object, folder: str, position: str, taking: _Taking) -> str | None:
        """The image that a row names; None, noted, where it names none."""
        if raw is None or raw == "":
            taking.nameless.append(position)
            return None
        text = str(raw) if isinstance(raw, int) and not isinstance(raw, bool) else raw
        name = safe_name(text.strip()) if isinstance(text, str) else None
        if name is None:
            taking.bad.append((str(raw)[:200], RejectedItemError("path leaves the data set")))
            return None
        if (found := self._lookup.find(name, folder)) is not None:
            taking.hits += 1
        elif self._others.find(name, folder) is not None:
            taking.elsewhere += 1
        else:
            taking.missing.append(name)
        return found

    def _take_dataset_json(self, name: str, folder: str) -> None:
        table = parse_json(self.members.read(name, MAX_BYTES), name)
        names = class_names(table)
        if names is not None and self.notes.class_names not in (None, names):
            self.rejects.pass_over("dataset.json with other class names than the first", name)
            return
        self.notes.class_names = names or self.notes.class_names
        numbers = {text: number for number, text in enumerate(names or ())}
        taking, texts = _Taking(), list[str]()
        for row, path, value in dataset_rows(table):
            found = self._find(path, folder, row.path, taking)
            if found is None:
                continue
            if is_caption(value) and not (isinstance(value, str) and value in numbers):
                self.notes.add_caption(found, value, name)
                texts += [] if texts or not row.path.startswith("labels") else [str(value)]
            else:
                self.notes.add_label(found, numbers[value] if isinstance(value, str) else value, name)
            taking.taken += 1
        if texts:
            self.notes.no_labels = (
                f'the texts under "labels" of {visible(name)} (first {visible(repr(texts[0][:60]))}) were '
                'read as captions: write whole numbers from 0 on, or add "class_names", a list of these texts'
            )
        if taking.missing and not taking.hits and not taking.elsewhere:
            self._pass_over_table("table that names no picture here", f"{name}: {taking.missing[0]}")
            return
        self._reject_rows(taking, name)

    def _take_found_table(self, name: str, folder: str) -> None:
        with self.members.open(name) as file:
            table = open_table(file, self.members.sizes[name], name, self.rejects)
            problem = self._take_table(table, name, folder)
        if problem is not None:
            self._pass_over_table(problem[0], f"{name}: {problem[1]}" if problem[1] else name)

    def _take_table(self, table: Table, origin: str, folder: str) -> tuple[str, str] | None:
        """Take the rows of a table; why nothing could be taken and details, or None."""
        if table.problem is not None:
            return table.problem, FORMS if table.problem.startswith("JSON") else ", ".join(table.columns)
        taking = _Taking()
        for position, row in table.rows:
            if isinstance(row, RejectedItemError):
                taking.bad.append((f"{origin}:{position}", row))
                continue
            found = self._find(pick(row, FILE_COLUMNS), folder, f"{origin}:{position}", taking)
            caption, label = caption_of(row), label_of(row)
            taking.taken += caption is not None or label is not None
            if found is not None and caption is not None:
                self.notes.add_caption(found, caption, origin)
            if found is not None and label is not None:
                self.notes.add_label(found, label, origin)
        columns = ", ".join(table.columns[:MAX_COLUMNS_TOLD])
        if taking.nameless and not (taking.hits or taking.elsewhere or taking.missing):
            return "table without a column of file names", columns
        if not taking.taken and (taking.hits or taking.elsewhere or taking.missing):
            return "table without a column of captions or labels", columns
        if taking.missing and not taking.hits and not taking.elsewhere:
            return "table that names no picture here", f"such as {taking.missing[0]}"
        self._reject_rows(taking, origin)
        held = [plain(column) for column in table.columns]
        used = first_of(held, CAPTION_COLUMNS)
        for column in table.columns if used is not None else ():
            if plain(column) in CAPTION_COLUMNS and plain(column) != used:
                self.rejects.pass_over("further column of captions in a table", f"{origin}: {column}")
        return None

    def _pass_over_table(self, reason: str, what: str) -> None:
        self.rejects.pass_over(reason, what)
        told = f"{visible(what)} is not used ({reason}): repair it"
        self.notes.no_captions = f"{told}, or put name.txt beside name.jpg"
        self.notes.no_labels = f"{told}, or sort the pictures into one folder per class"

    def _reject_rows(self, taking: _Taking, origin: str) -> None:
        for name, error in taking.bad:
            self.rejects.add(name, error)
        for position in taking.nameless:
            self.rejects.add(position, RejectedItemError("row names no picture"))
        for name in sorted(taking.missing):
            self.rejects.add(name, RejectedItemError("annotation without picture", f"in {origin}"))

    def _take_beside(self, name: str, images: Iterable[str]) -> None:
        """Take the captions of a file beside images; of a .json also a label."""
        ending = PurePosixPath(name).suffix.lower()
        origin = f"{ending} files"
        for image in images:
            taken = self.notes.captions_from(image)
            if taken is not None:
                self.notes.pass_over_caption(image, taken, name)
                continue
            try:
                caption, label = self._beside(name, ending)
            except RejectedItemError as error:
                self.notes.reject_caption(image, error)
                continue
            if caption is None and label is None:
                self.rejects.pass_over("JSON beside a picture, without caption or label", name)
            if caption is not None:
                self.notes.add_caption(image, caption, origin)
            if label is not None:
                self.notes.add_label(image, label, origin)

    def _beside(self, name: str, ending: str) -> tuple[object, object]:
        try:
            data = self.members.read(name, MAX_CAPTION_BYTES)
            return note_of(parse_json(data, name)) if ending == ".json" else (data, None)
        except UntrustedValueError:
            return None, None
        except ValueError as error:
            if ending == ".json":
                return None, None
            raise RejectedItemError("caption file too large", str(error)) from error
        except Exception as error:  # a file that vanished, a broken archive
            raise RejectedItemError("caption file cannot be read", str(error)) from error


def _folder(name: str) -> str:
    """The folder of a file as a prefix that ends in `/`; empty for the root."""
    head, slash, _ = name.rpartition("/")
    return head + slash


def _head(name: str, parts: int) -> str:
    return "/".join(name.split("/")[:parts])


def file_kind(ending: str) -> str:
    """What a file that is not used is, by its ending with the dot."""
    if ending in OTHER_IMAGES:
        return "picture of a format that is not read"
    if ending in CAPTION_ENDINGS[:-1]:
        return "text file without picture"
    return "file of no known kind"
