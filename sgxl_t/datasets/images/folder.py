"""A folder of images: flat, one folder per class, captions beside images, or with a table."""

from __future__ import annotations

import os
import stat
from collections import deque
from pathlib import Path
from typing import BinaryIO

from sgxl_t.datasets.base import SourceOptions
from sgxl_t.datasets.decode import is_image
from sgxl_t.datasets.images.annotations import Annotations
from sgxl_t.datasets.images.imagenet import data_folder
from sgxl_t.datasets.images.layout import read_layout
from sgxl_t.datasets.images.listed import ListedSource
from sgxl_t.datasets.images.members import Members, is_system
from sgxl_t.datasets.images.splits import choose_split
from sgxl_t.datasets.rejects import RejectedItemError, Rejects
from sgxl_t.files.content import file_hashes
from sgxl_t.files.regular import open_regular


class FolderSource(ListedSource):
    """Images below a folder, in the order of their paths, with labels and captions by `read_layout`.

    Folders called by WordNet numbers, as ImageNet's are, give their classes the words for them. `captions`
    names a table or a COCO file; rows and lists give an image several. Links are followed.
    """

    def __init__(self, folder: Path, options: SourceOptions, captions: str | Path | None = None) -> None:
        self.folder = data_folder(folder)
        notes = Annotations(rejects=options.rejects)
        members = list_folder(self.folder, notes.rejects)
        images = read_layout(members, notes, str(folder), split=options.split, captions=captions)
        super().__init__(str(folder), images, notes, options)

    def _open(self, name: str) -> BinaryIO:
        return open_regular(self.folder / name)

    def _content(self) -> list[bytes]:
        paths = [os.path.join(self.folder, entry.name) for entry in self.entries]
        return file_hashes(paths, name=str(self.folder))


def split_folder(folder: Path, split: str) -> Path:
    """The subfolder of a split, when the subfolders are splits; the folder itself is `train` otherwise."""
    inside = [entry.name for entry in folder.iterdir() if entry.is_dir() and not is_system(entry.name)]
    chosen = choose_split(inside, split, str(folder))
    return folder if chosen is None else folder / chosen


def list_folder(folder: Path, rejects: Rejects) -> Members:
    """All regular files below a folder; what is none is rejected, or passed over where it is no image.

    Links are followed after everything else, and each folder is read once, so that none is read without end:
    a link to a folder that is read anyway, or that holds the data set itself, is passed over and named.
    """
    sizes: dict[str, int] = {}
    empty: list[str] = []
    seen: set[tuple[int, int]] = set()
    pending, links = deque([""]), deque[str]()
    while pending or links:
        linked = not pending
        inner = (links if linked else pending).popleft()
        path = folder / inner
        try:
            status = path.stat()
            if (status.st_dev, status.st_ino) in seen:
                rejects.pass_over("link to a folder that is read already", inner)
                continue
            if linked and folder.resolve().is_relative_to(path.resolve()):
                rejects.pass_over("link to a folder that holds the data set", inner)
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(path) as scan:
                entries = [entry for entry in scan if not is_system(entry.name)]
        except OSError:
            rejects.pass_over("folder that cannot be read", inner)
            continue
        if not entries and inner:
            empty.append(inner)
        for entry in sorted(entries, key=lambda entry: entry.name):
            name = f"{inner}/{entry.name}" if inner else entry.name
            if os.path.isdir(entry.path):  # False for a link to itself, too
                (links if entry.is_symlink() else pending).append(name)
            else:
                _list_file(entry, name, sizes, rejects)
    return Members(dict(sorted(sizes.items())), lambda name: open_regular(folder / name), sorted(empty))


def _list_file(entry: os.DirEntry[str], name: str, sizes: dict[str, int], rejects: Rejects) -> None:
    try:
        status = os.stat(entry.path)
    except OSError:
        reason = "link to nothing"
    else:
        if stat.S_ISREG(status.st_mode):
            sizes[name] = status.st_size
            return
        reason = "no regular file"
    if is_image(name):
        rejects.add(name, RejectedItemError(reason))
    else:
        rejects.pass_over(reason, name)
