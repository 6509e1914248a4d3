"""ImageNet as it is handed out: folders called by WordNet numbers, and the training set's tar of tars."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from sgxl_t.datasets.base import SourceOptions
from sgxl_t.datasets.decode import Bounds, is_image
from sgxl_t.datasets.images.annotations import Annotations, safe_name
from sgxl_t.datasets.images.listed import ListedSource
from sgxl_t.datasets.images.members import is_system
from sgxl_t.datasets.rejects import RejectedItemError, Rejects
from sgxl_t.files.content import file_hash
from sgxl_t.files.regular import open_regular

LOOK = 8
"""Members of an archive that are looked at to see whether it holds archives."""
MAX_MEMBERS = 50_000_000
"""Largest number of files in all archives together; all of ImageNet has 14 million."""
DATA_FOLDERS = ("ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")


def data_folder(folder: Path) -> Path:
    """Where the images lie when `folder` is the root of an unpacked ILSVRC download; else the folder."""
    return next((folder / inner for inner in DATA_FOLDERS if (folder / inner).is_dir()), folder)


def is_tar_of_tars(path: Path) -> bool:
    """Whether the first files of a tar are tars themselves."""
    if path.suffix.lower() != ".tar" or not path.is_file():
        return False
    first: list[str] = []
    # An archive that breaks off among the first is still known by those before.
    with suppress(tarfile.TarError, OSError, EOFError), tarfile.open(path, "r:") as tar:
        for member in islice(_files(tar), LOOK):
            first.append(member.name)
    return bool(first) and all(name.lower().endswith(".tar") for name in first)


class TarOfTarsSource(ListedSource):
    """A tar with one tar of images per class, such as ILSVRC2012_img_train.tar, read where it lies.

    Nothing is unpacked: one pass over the headers notes where each image begins, and images are read from
    there, in the order of classes and then of names, which is nearly the order of the file. Archives that
    break off, members that are no plain files and paths that leave the archive are rejected and listed.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        if options.split != "train":
            raise ValueError(
                f"{path} has no split {options.split!r}: a tar of tars is one split, so use 'train'"
            )
        self.path = path
        notes = Annotations(rejects=options.rejects)
        self._spans: dict[str, tuple[int, int]] = {}
        for name, label, offset, size in _images(path, options.bounds, notes.rejects):
            self._spans[name] = (offset, size)
            notes.labels[name] = label
        # By class, so that reading in order walks through one inner archive after the other.
        files = {name: self._spans[name][1] for name in sorted(self._spans)}
        super().__init__(str(path), files, notes, options)

    def _open(self, name: str) -> BinaryIO:
        offset, size = self._spans[name]
        with open_regular(self.path) as file:
            file.seek(offset)
            data = file.read(size)
        if len(data) < size:
            raise RejectedItemError("cannot be read", "the archive ends before the picture does")
        return io.BytesIO(data)

    def _content(self) -> list[bytes]:
        return [file_hash(self.path)]


def _images(path: Path, bounds: Bounds, rejects: Rejects) -> Iterator[tuple[str, str, int, int]]:
    """Name "class/file", class, offset in the outer file and size of every image, in the file's order."""
    count = 0
    try:
        with tarfile.open(path, "r:") as outer:
            for member in _files(outer):
                label = _class_of(member.name)
                if label is None or member.issparse():
                    rejects.add(member.name[:200], RejectedItemError("no archive of one class"))
                    continue
                for found in _inner(outer, member, label, bounds, rejects):
                    yield found
                    count += 1
                    if count > MAX_MEMBERS:
                        raise ValueError(f"{path} holds more than {MAX_MEMBERS} pictures: split it")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ValueError(f"{path} breaks off or is not a plain tar ({error}): download it again") from None


def _inner(
    outer: tarfile.TarFile, member: tarfile.TarInfo, label: str, bounds: Bounds, rejects: Rejects
) -> Iterator[tuple[str, str, int, int]]:
    # extractfile gives a view that ends with the member, so no inner header can point outside of it.
    view = outer.extractfile(member)
    assert view is not None
    try:
        with tarfile.open(fileobj=cast(Any, view), mode="r:") as inner:
            for item in _files(inner, rejects, label):
                name = safe_name(item.name)
                where = f"{label}/{item.name}"[:200]
                if is_system(item.name):
                    continue
                if name is None:
                    rejects.add(where, RejectedItemError("path leaves the archive"))
                elif not is_image(name):
                    rejects.add(where, RejectedItemError("no picture", "by its ending"))
                elif item.size > bounds.max_file_bytes:
                    rejects.add(where, RejectedItemError("file too large", f"{item.size} bytes"))
                elif item.offset_data + item.size > member.size:
                    rejects.add(where, RejectedItemError("cannot be read", "its archive breaks off"))
                else:
                    yield f"{label}/{name}", label, member.offset_data + item.offset_data, item.size
    except (tarfile.TarError, OSError, EOFError) as error:
        rejects.add(member.name[:200], RejectedItemError("archive cannot be read to its end", str(error)))


def _files(
    tar: tarfile.TarFile, rejects: Rejects | None = None, label: str = ""
) -> Iterator[tarfile.TarInfo]:
    """Plain files of a tar; links, devices and sparse files are rejected, folders passed over."""
    for member in tar:
        tar.members = []  # type: ignore[attr-defined]  # tarfile would remember every header
        if member.isreg() and not member.issparse():
            yield member
        elif not member.isdir() and rejects is not None:
            rejects.add(f"{label}/{member.name}"[:200], RejectedItemError("no plain file"))


def _class_of(name: str) -> str | None:
    """The class that an inner archive is called by, None for names that are none or leave the archive."""
    safe = safe_name(name)
    stem = PurePosixPath(safe).stem if safe is not None and safe.lower().endswith(".tar") else ""
    return stem or None
