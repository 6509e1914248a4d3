"""Images in a folder or zip, to be measured as generated ones."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sgxl_t.datasets.decode import Bounds, is_image, open_image, to_rgb
from sgxl_t.datasets.images.folder import list_folder
from sgxl_t.datasets.images.zip import check_archive
from sgxl_t.datasets.rejects import RejectedItemError, Rejects
from sgxl_t.files.content import file_hash, file_hashes, short_hash
from sgxl_t.files.regular import open_regular
from sgxl_t.files.terminal import visible


class StoredImages:
    """Images of a folder with all below it, or of a zip; all of one size, in a fixed shuffled order.

    Generated images often lie class by class; the shuffle makes every leading part a fair sample.
    """

    def __init__(self, path: str | Path, *, seed: int = 0) -> None:
        """Raises ValueError when there are no images or their sizes differ."""
        self.path, self.seed = Path(path), seed
        self.files = _ImageFiles(self.path)
        sizes = self.files.sizes()
        if len(sizes) > 1:
            (first, one), (second, other) = list(sizes.items())[:2]
            raise ValueError(
                f"{self.path} holds pictures of different sizes, such as {first[0]} x {first[1]} ({one}) and "
                f"{second[0]} x {second[1]} ({other}): a metric needs one size, which "
                "`sgxl-t prepare SRC DEST.zip --resolution R` gives them"
            )
        width, height = next(iter(sizes))
        self.size = (height, width)
        rng = torch.Generator().manual_seed(seed)
        self.order = torch.randperm(len(self.files.names), generator=rng).tolist()

    def check_count(self, count: int) -> None:
        """Raises ValueError where there are fewer images than that."""
        if len(self.order) < count:
            raise ValueError(
                f"{self.path} holds {len(self.order)} pictures and {count} are asked for: make more, or name "
                f"a metric of fewer, such as fid{len(self.order)}"
            )

    def images(self, indices: Sequence[int]) -> Tensor:
        """uint8 [n, 3, H, W] on the CPU."""
        return torch.stack([self.files.read(self.order[index]) for index in indices])

    def describe(self) -> dict[str, Any]:
        """Where the images are and their hash."""
        return {
            "model": visible(self.path),
            "model_hash": self.files.fingerprint,
            "psi": None,
            "sampler_seed": None,
            "sampling": "pictures",
        }


class _ImageFiles:
    """Names, sizes and contents of image files of a folder or zip; each process opens its own archive."""

    def __init__(self, path: Path) -> None:
        self.path, self.archive, self.rejects = path, None, Rejects()
        if path.is_dir():
            names = list(list_folder(path, self.rejects).sizes)
        else:
            try:
                self.archive = zipfile.ZipFile(path)
            except (zipfile.BadZipFile, OSError, EOFError) as error:
                raise ValueError(f"{path} is no whole zip ({error}): make it again") from None
            names = list(check_archive(self.archive, path, Bounds(min_side=1)))
        if self.rejects.items:
            name, reason, _ = self.rejects.items[0]
            raise self._unusable(name, reason)
        self.names = sorted(name for name in names if is_image(name))
        for name in names:
            if not is_image(name):
                self.rejects.pass_over("file that is no picture", name)
        if len(self.names) < 2:
            raise ValueError(f"{path} holds {len(self.names)} pictures: a metric needs at least 2")

    def sizes(self) -> dict[tuple[int, int], str]:
        """Width and height of all images, each with the first name that has it."""
        found: dict[tuple[int, int], str] = {}
        for name in self.names:
            with self._stream(name) as file:
                found.setdefault(self._opened(name, file).size, name)
        return found

    def read(self, index: int) -> Tensor:
        """uint8 [3, H, W]."""
        name = self.names[index]
        with self._stream(name) as file:
            picture = self._opened(name, file)
            try:
                pixels = np.array(to_rgb(picture))
            except Exception as error:
                raise self._unusable(name, str(error) or type(error).__name__) from None
        return torch.from_numpy(pixels).permute(2, 0, 1)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits over names and contents."""
        if self.archive is not None:
            return short_hash(*self.names, file_hash(self.path))
        paths = [os.path.join(self.path, name) for name in self.names]
        return short_hash(*self.names, *file_hashes(paths, name=str(self.path)))

    def _stream(self, name: str) -> BinaryIO:
        try:
            if self.archive is None:
                return open_regular(self.path / name)
            return cast("BinaryIO", self.archive.open(name))
        except Exception as error:  # broken archives end in many kinds of errors
            raise self._unusable(name, str(error) or type(error).__name__) from None

    def _opened(self, name: str, file: BinaryIO) -> Image.Image:
        try:
            return open_image(file, Bounds(min_side=1))
        except RejectedItemError as error:
            raise self._unusable(name, str(error)) from None

    def _unusable(self, name: str, reason: str) -> ValueError:
        return ValueError(f"{visible(self.path / name)} is no usable picture ({visible(reason)}): remove it")
