"""A file of either release as data: which networks, counters and facts it holds.

Needs little besides torch, so that what is no such file is refused at once.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from sgxl_t.files.pickles.builders import read_pickle
from sgxl_t.files.pickles.storages import StoredTensor
from sgxl_t.files.pickles.stream import BoundedReader
from sgxl_t.files.pickles.tree import Module
from sgxl_t.files.pickles.values import CutError, PickledObject, RefusedError
from sgxl_t.files.terminal import visible

MAX_FILE_BYTES = 16 * 2**30
"""Largest file that is read; the published ones with discriminator have about two."""
ARCHIVES = {b"PK": "a zip", b"\x1f\x8b": "a gzip", b"BZh": "a bzip2", b"\xfd7zXZ": "an xz"}
COUNTERS = ("cur_nimg", "batch_idx", "best_fid", "pl_mean")
MAX_COUNT = 1e15


@dataclass(frozen=True)
class OfficialFile:
    """What a published file holds, read as data."""

    path: Path
    size: int
    content: Mapping[str, Any]
    """G, D, G_ema as records, and what else is there."""
    fingerprint: str
    """SHA-256 of the file."""

    def network(self, name: str) -> Module:
        """One of the networks; RefusedError when it is not there."""
        if self.content.get(name) is None:
            raise RefusedError(f"holds no {name}")
        return Module(self.content[name], name)

    def progress(self) -> dict[str, float]:
        """Counters of the training, as far as they are there; ValueError for one that is no number."""
        stored = self.content.get("progress")
        if not isinstance(stored, dict):
            return {}
        counters = Module(PickledObject("progress", stored), "progress")
        try:
            return {name: _counter(counters, name) for name in COUNTERS if counters.has(name)}
        except RefusedError as error:
            raise ValueError(
                f"{self.path} {error}: nothing was written, leave --training-state out"
            ) from None

    def kimg(self) -> float | None:
        """Thousand images that the training has seen; None where the file does not say."""
        try:
            reached = self.progress().get("cur_nimg")
        except ValueError:
            return None
        return None if reached is None else reached / 1000

    def data_name(self) -> str:
        """Name of the data set without the folders of whoever trained on it."""
        stored = self.content.get("training_set_kwargs")
        path = stored.get("path") if isinstance(stored, dict) else None
        if not isinstance(path, str):
            return "not stated in the file"
        return (
            re.sub(r"[^\w.-]", "", re.split(r"[/\\]", path.rstrip("/\\"))[-1])[:80]
            or "not stated in the file"
        )


def _counter(counters: Module, name: str) -> float:
    value = counters.get(name)
    if not isinstance(value, StoredTensor):
        return counters.number(name, limit=MAX_COUNT)
    number = float(value.read().flatten()[0].item()) if value.shape in ((), (1,)) else math.nan
    if not abs(number) <= MAX_COUNT:
        raise RefusedError(
            f"holds a tensor of shape {list(value.shape)} as {counters.where}.{name}, where a number belongs"
        )
    return number


def read_official(path: str | Path, source: BinaryIO) -> OfficialFile:
    """The content of an open file; nothing in it is run, and tensors stay in the file until they are asked
    for, so `source` must stay open as long as the result is used. ValueError for anything else than networks.
    """
    path = Path(path)
    try:
        source.seek(0, 2)
        size = source.tell()
        if size > MAX_FILE_BYTES:
            raise RefusedError(f"has {size} bytes, more than the {MAX_FILE_BYTES} of any published network")
        source.seek(0)
        start = source.read(8)
        for magic, kind in ARCHIVES.items():
            if start.startswith(magic):
                raise RefusedError(f"is {kind} archive and not the pickle that was published")
        content = read_pickle(BoundedReader(source, 0, size))
        if not isinstance(content, dict) or not any(content.get(name) is not None for name in ("G", "G_ema")):
            raise RefusedError("holds no generator under the names of the release")
        source.seek(0)
        return OfficialFile(
            path, size, content, hashlib.file_digest(cast(io.BufferedReader, source), "sha256").hexdigest()
        )
    except CutError:
        raise ValueError(
            f"{path} ends before its content does, so it is cut: nothing was written, download the file "
            "again from its publisher"
        ) from None
    except RefusedError as error:
        raise ValueError(
            f"{path} {visible(error)}: nothing was written, name a snapshot as the release's training "
            "writes it"
        ) from None
