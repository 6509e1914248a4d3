"""From a published file to a model folder: read, check, name where it came from, write."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from sgxl_t.conditioning.class_condition import ClassCondition
from sgxl_t.conditioning.condition import Condition, NoCondition
from sgxl_t.conditioning.official.builders import StoredTensor, read_pickle
from sgxl_t.conditioning.official.discriminator import StoredDiscriminator, read_discriminator
from sgxl_t.conditioning.official.generator import read_generator
from sgxl_t.conditioning.official.stream import BoundedReader
from sgxl_t.conditioning.official.tree import Module
from sgxl_t.conditioning.official.unpickler import RefusedError
from sgxl_t.networks.configs import ConditionSpec
from sgxl_t.networks.generator import Generator

MAX_FILE_BYTES = 16 * 2**30
"""Largest file that is read; the published ones with discriminator have about two."""
LICENCE = (
    "not Apache-2.0: the terms of whoever published the weights hold; those of the StyleGAN-XL release allow "
    "no commercial use of parts of it"
)
"""What the card says unless the user names a licence."""
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
ARCHIVES = {b"PK": "a zip", b"\x1f\x8b": "a gzip", b"BZh": "a bzip2", b"\xfd7zXZ": "an xz"}


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
        """Counters of the training, as far as they are there: cur_nimg, batch_idx, best_fid, pl_mean."""
        stored = self.content.get("progress")
        found = {}
        for name in ("cur_nimg", "batch_idx", "best_fid", "pl_mean"):
            value = stored.get(name) if isinstance(stored, dict) else None
            if isinstance(value, StoredTensor) and value.nbytes <= 8:
                value = value.read().flatten()[0].item()
            if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15:
                found[name] = float(value)
        return found

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


def read_official(path: str | Path, source: BufferedReader) -> OfficialFile:
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
        if not isinstance(content, dict) or not any(content.get(name) for name in ("G", "G_ema")):
            raise RefusedError("holds no generator under the names of the release")
        source.seek(0)
        return OfficialFile(path, size, content, hashlib.file_digest(source, "sha256").hexdigest())
    except RefusedError as error:
        raise refused(path, error) from None


def refused(path: Path, error: RefusedError) -> ValueError:
    """The one sentence that a user reads."""
    return ValueError(f"{path} {error}: nothing was written, so download the file again from its publisher")


def import_generator(file: OfficialFile, *, which: str = "G_ema") -> Generator:
    """The average generator of a file, or the raw one (`which`="G")."""
    try:
        return read_generator(file.network(which), limit=file.size)
    except RefusedError as error:
        raise refused(file.path, error) from None


def import_discriminator(file: OfficialFile, spec: ConditionSpec) -> StoredDiscriminator:
    """Heads and frozen random layers of a file's D, for a generator with condition `spec`."""
    try:
        return read_discriminator(file.network("D"), spec, limit=file.size)
    except RefusedError as error:
        raise refused(file.path, error) from None


def condition_for(spec: ConditionSpec, names: Sequence[str] | None, data: str) -> Condition:
    """The condition of a generator. names: of the classes; none takes ImageNet's, CIFAR-10's or numbers.

    ValueError when the number of names is not the number of classes.
    """
    if spec.kind == "none":
        if names is not None:
            raise ValueError("class names were given and the network has no classes: leave --labels out")
        return NoCondition()
    if names is None:
        names = _known_names(spec.num_classes, data)
    if len(names) != spec.num_classes:
        raise ValueError(
            f"{len(names)} class names were given and the network has {spec.num_classes} classes: "
            "give one per class, in the order of the labels"
        )
    return ClassCondition(names, dim=spec.dim)


def _known_names(count: int, data: str) -> list[str]:
    if count == 1000:
        from timm.data import ImageNetInfo

        table = ImageNetInfo()
        return [table.index_to_description(index, detailed=False) for index in range(count)]
    if count == len(CIFAR10) and "cifar" in data.lower():
        return list(CIFAR10)
    return [str(index) for index in range(count)]


def provenance(file: OfficialFile, licence: str | None) -> dict[str, Any]:
    """Where the weights come from and under which terms, for the card and `config.json`."""
    facts: dict[str, Any] = {
        "data": file.data_name(),
        "licence": licence or LICENCE,
        "source": {"file": file.path.name, "sha256": file.fingerprint, "bytes": file.size},
        "imported": "the average generator (G_ema) of a StyleGAN-XL pickle, read without running its code",
    }
    reached = file.progress()
    if "cur_nimg" in reached:
        facts["kimg"] = reached["cur_nimg"] / 1000
    return facts
