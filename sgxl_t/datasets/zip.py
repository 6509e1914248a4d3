"""StyleGAN's archives: a zip of equal square pictures with an optional dataset.json."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, cast

from sgxl_t.datasets.annotations import MAX_TABLE_BYTES, Annotations, read_dataset_json, safe_name
from sgxl_t.datasets.listed import ListedSource
from sgxl_t.datasets.policy import Bounds, is_picture
from sgxl_t.datasets.rejects import Rejects
from sgxl_t.files.content import file_hash

MAX_RATIO = 200
"""Largest allowed ratio of unpacked to packed bytes of a whole archive."""
RATIO_SLACK_BYTES = 16 * 2**20
"""Archives that unpack to less than this are small enough at any ratio."""


class ZipSource(ListedSource):
    """Pictures of a stored or deflated zip, in the order of their names; other sizes are resized."""

    def __init__(
        self,
        path: Path,
        *,
        resolution: int,
        split: str = "train",
        mirror: bool = False,
        rejects: Rejects | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        if split != "train":
            raise ValueError(
                f"{path} has no split {split!r}: a zip is one split, so make another zip of the rest"
            )
        self.path = path
        self._handle: zipfile.ZipFile | None = None
        self._owner = 0
        bounds = bounds or Bounds()
        infos = check_archive(self._archive(), path, bounds)
        notes = Annotations(rejects=Rejects() if rejects is None else rejects)
        if "dataset.json" in infos:
            read_dataset_json(self._archive().read("dataset.json"), notes)
        pictures = {name: infos[name].file_size for name in sorted(infos) if is_picture(name)}
        super().__init__(str(path), pictures, notes, resolution=resolution, mirror=mirror, bounds=bounds)

    def _open(self, name: str) -> BinaryIO:
        return cast(BinaryIO, self._archive().open(name))

    def _content(self) -> list[bytes]:
        return [file_hash(self.path)]

    def _archive(self) -> zipfile.ZipFile:
        """The open archive of this process; forked workers must not share a file position."""
        if self._handle is None or self._owner != os.getpid():
            try:
                self._handle, self._owner = zipfile.ZipFile(self.path), os.getpid()
            except (zipfile.BadZipFile, OSError, EOFError) as error:
                raise ValueError(
                    f"{self.path} is no whole zip ({error}): download or make it again"
                ) from error
        return self._handle

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None, "_owner": 0}


def check_archive(archive: zipfile.ZipFile, path: Path, bounds: Bounds) -> dict[str, zipfile.ZipInfo]:
    """Members by name; ValueError for paths that leave the archive and for too much unpacked data."""
    infos = {info.filename: info for info in archive.infolist() if not info.is_dir()}
    for name, info in infos.items():
        if safe_name(name) is None:
            raise ValueError(
                f"{path} holds the path {name!r}, which leaves the archive: make the zip again without"
            )
        limit = MAX_TABLE_BYTES if name == "dataset.json" else bounds.max_file_bytes
        if info.file_size > limit:
            raise ValueError(
                f"{path} holds {name!r} that unpacks to {info.file_size} bytes, more than {limit}: "
                "make the zip again without it"
            )
        if info.flag_bits & 0x1:
            raise ValueError(
                f"{path} holds the encrypted member {name!r}: make the zip again without a password"
            )
    unpacked = sum(info.file_size for info in infos.values())
    packed = path.stat().st_size
    if unpacked > MAX_RATIO * packed + RATIO_SLACK_BYTES:
        raise ValueError(
            f"{path} has {packed} bytes and would unpack to {unpacked}, more than {MAX_RATIO} times as much: "
            "it is not a plain archive of pictures, so make it again with `sgxl-t prepare`"
        )
    return infos
