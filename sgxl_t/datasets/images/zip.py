"""Archives of images: StyleGAN's with dataset.json, or a zip of any folder."""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, cast

from sgxl_t.datasets.base import SourceOptions
from sgxl_t.datasets.decode import Bounds, is_image
from sgxl_t.datasets.images.annotations import Annotations, safe_name
from sgxl_t.datasets.images.layout import read_layout
from sgxl_t.datasets.images.listed import ListedSource
from sgxl_t.datasets.images.members import Members, is_system
from sgxl_t.datasets.rejects import RejectedItemError, Rejects
from sgxl_t.files.content import file_hash

MAX_RATIO = 200
"""Largest allowed ratio of unpacked to packed bytes of a whole archive."""
UTF8_MARK = 0x800
RATIO_SLACK_BYTES = 16 * 2**20
"""Archives that unpack to less than this are small enough at any ratio."""


class ZipSource(ListedSource):
    """Images of a stored or deflated zip, in the order of their names; other sizes are resized.

    Labels and captions are found by the rules of folders, `read_layout`.
    """

    def __init__(self, path: Path, options: SourceOptions, captions: str | Path | None = None) -> None:
        self.path = path
        self._handle: zipfile.ZipFile | None = None
        self._owner = 0
        notes = Annotations(rejects=options.rejects)
        self._raw: dict[str, str] = {}
        members = self._list(options.bounds, notes.rejects)
        images = read_layout(members, notes, str(path), split=options.split, captions=captions)
        super().__init__(str(path), images, notes, options)

    def _list(self, bounds: Bounds, rejects: Rejects) -> Members:
        """The members by their path with `/` between parts; names spelled otherwise are kept."""
        sizes: dict[str, int] = {}
        archive = self._archive()
        for raw, info in check_archive(archive, self.path, bounds).items():
            name = str(safe_name(spelled(info)))
            if name in sizes:
                rejects.pass_over("second member of one name", name)
            elif not stat.S_ISLNK(info.external_attr >> 16):
                sizes[name] = info.file_size
                if name != raw:
                    self._raw[name] = raw
            elif is_image(name):
                rejects.add(name, RejectedItemError("link in an archive"))
            else:
                rejects.pass_over("link in an archive", name)
        return Members(dict(sorted(sizes.items())), self._open, _empty_folders(archive, sizes))

    def _open(self, name: str) -> BinaryIO:
        return cast(BinaryIO, self._archive().open(self._raw.get(name, name)))

    def _content(self) -> list[bytes]:
        return [file_hash(self.path)]

    def _archive(self) -> zipfile.ZipFile:
        """The open archive of this process; forked workers must not share a file position."""
        if self._handle is None or self._owner != os.getpid():
            try:
                self._handle, self._owner = zipfile.ZipFile(self.path), os.getpid()
            except (zipfile.BadZipFile, OSError, EOFError) as error:
                raise ValueError(
                    f"{self.path} is not a complete zip ({error}): download or make it again"
                ) from error
        return self._handle

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None, "_owner": 0}


def spelled(info: zipfile.ZipInfo) -> str:
    """A member's path as its writer spelled it.

    macOS, and `zip` in many settings, write UTF-8 without the mark that says so, which then reads as CP437.
    """
    if info.flag_bits & UTF8_MARK or info.filename.isascii():
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def check_archive(archive: zipfile.ZipFile, path: Path, bounds: Bounds) -> dict[str, zipfile.ZipInfo]:
    """Members by name, without folders and those of systems; ValueError for paths that leave the archive and
    for too much unpacked data."""
    infos = {info.filename: info for info in archive.infolist() if not info.is_dir()}
    unpacked = sum(info.file_size for info in infos.values())
    infos = {name: info for name, info in infos.items() if not is_system(name)}
    for name, info in infos.items():
        if safe_name(name) is None:
            raise ValueError(
                f"{path} holds the path {name!r}, which leaves the archive: make the zip again without"
            )
        if is_image(name) and info.file_size > bounds.max_file_bytes:
            raise ValueError(
                f"{path} holds {name!r} that unpacks to {info.file_size} bytes, more than "
                f"{bounds.max_file_bytes}: make the zip again without it"
            )
        if info.flag_bits & 0x1:
            raise ValueError(
                f"{path} holds the encrypted member {name!r}: make the zip again without a password"
            )
    packed = path.stat().st_size
    if unpacked > MAX_RATIO * packed + RATIO_SLACK_BYTES:
        raise ValueError(
            f"{path} has {packed} bytes and would unpack to {unpacked}, more than {MAX_RATIO} times as much: "
            "it is not a plain archive of pictures, so make it again with `sgxl-t prepare`"
        )
    return infos


def _empty_folders(archive: zipfile.ZipFile, files: dict[str, int]) -> list[str]:
    """Folders that the archive names and that hold no file and no folder."""
    folders = {spelled(info).rstrip("/") for info in archive.infolist() if info.is_dir()}
    full = {name.rpartition("/")[0] for name in (*files, *folders)}
    return sorted(name for name in folders - full if not is_system(name))
