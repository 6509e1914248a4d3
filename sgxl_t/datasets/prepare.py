"""Write any source as a StyleGAN zip or as webdataset shards; whole or not at all."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image
from tqdm import tqdm

from sgxl_t.datasets.base import ImageSource, Sample
from sgxl_t.datasets.enlarge import Enlarger
from sgxl_t.datasets.shards.class_files import CLASS_FILE
from sgxl_t.datasets.shards.fields import CAPTION_LIST
from sgxl_t.files.lock import lock_beside, locked
from sgxl_t.files.whole import put_back, whole_file, whole_folder

SHARD_SAMPLES = 1000
PREPARED_FILE = "prepared.json"
FORMATS = ("zip", "shards")


@dataclass(frozen=True)
class Report:
    """What was written, and what was left out and why.

    not_used: what was found beside the images and not used, by reason: {"count", "names" of the first}.
    summary: all of it in words. rejects_file: the list of the rejected images; None where all are good.
    """

    destination: str
    format: str
    resolution: int
    images: int
    classes: int
    captions: bool
    rejected: int
    reasons: dict[str, int]
    notes: dict[str, int]
    not_used: dict[str, dict[str, object]]
    summary: list[str]
    rejects_file: str | None
    enlarged: int = 0
    enlarged_by: str | None = None

    def as_json(self) -> str:
        """The report as one JSON object."""
        return json.dumps(asdict(self), indent=2)


class Writer(Protocol):
    """Takes samples one by one; `close` completes what is on disk."""

    def add(self, sample: Sample) -> None:
        """Append one sample."""

    def close(self, class_names: tuple[str, ...] | None, prepared: dict[str, object]) -> None:
        """Complete what is on disk."""


def write_dataset(
    source: ImageSource,
    destination: str | Path,
    *,
    format: str = "zip",
    max_images: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
    enlarger: Enlarger | None = None,
) -> Report:
    """Write `source` to a .zip file or a folder of shards and list the rejects.

    The result appears under its name only when it is complete. max_images: a seeded choice, in source order.
    enlarger: what makes images larger that are smaller than the source, Lanczos without; what was used, and
    for how many images, stands in the report and beside the images under "prepared".
    Rejects, if any, are listed in `<destination>.rejects.jsonl` beside a zip, or in `rejects.jsonl` among the
    shards.
    """
    if max_images is not None and max_images < 1:
        raise ValueError(f"max_images={max_images} is too small: use 1 or more")
    target = _check_target(Path(destination), format, overwrite)
    total = len(source) // (2 if source.mirror else 1)
    indices: Sequence[int] | None = None
    if max_images is not None and max_images < total:
        indices = sorted(np.random.RandomState(seed).permutation(total)[:max_images].tolist())
    source.enlarge = enlarger = enlarger or Enlarger()
    count = 0
    with _aside(target, format) as partial:
        _check_target(target, format, overwrite)  # another process may just have made it
        writer: Writer = (
            ZipWriter(partial) if format == "zip" else ShardWriter(partial, lists=source.several_captions)
        )
        try:
            label, expected = f"writing {target.name}", total if indices is None else len(indices)
            for sample in tqdm(source.samples(indices), label, expected, unit="img", disable=not progress):
                writer.add(sample)
                count += 1
            if count == 0:
                raise ValueError(
                    f"no picture is left to write to {target}: all {len(source.rejects)} were rejected"
                )
        finally:
            writer.close(source.class_names, _prepared(source, enlarger))
        if format == "shards":
            source.rejects.write(partial / "rejects.jsonl")
    if format == "zip":
        source.rejects.write(_rejects_file(target))
    return _report(source, enlarger, target, format, count)


def _report(source: ImageSource, enlarger: Enlarger, target: Path, format: str, count: int) -> Report:
    rejects = source.rejects
    return Report(
        destination=str(target),
        format=format,
        resolution=source.resolution,
        images=count,
        classes=source.num_classes,
        captions=source.has_captions,
        rejected=len(rejects),
        reasons=rejects.by_reason(),
        notes=dict(rejects.notes),
        not_used={reason: asdict(unused) for reason, unused in rejects.unused.items()},
        summary=rejects.summary(),
        rejects_file=str(_rejects_file(target)) if rejects.items else None,
        enlarged=enlarger.count,
        enlarged_by=enlarger.name if enlarger.count else None,
    )


def _prepared(source: ImageSource, enlarger: Enlarger) -> dict[str, object]:
    """How the images of an archive came to their size."""
    return {
        "resolution": source.resolution,
        "resize": "centre square, Lanczos (Pillow)",
        "enlarged": enlarger.count,
        "enlarged_by": enlarger.name if enlarger.count else None,
    }


class ZipWriter:
    """A stored zip: 00000/img00000000.png and so on, and dataset.json."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)
        self._labels: list[list[object]] = []
        self._captions: list[list[object]] = []
        self._count = 0

    def add(self, sample: Sample) -> None:
        """Append one image."""
        name = f"{self._count // 1000:05d}/img{self._count:08d}.png"
        self._put(name, encode_png(sample))
        if sample.label is not None:
            self._labels.append([name, sample.label])
        if sample.captions:
            several = len(sample.captions) > 1
            self._captions.append([name, sample.captions if several else sample.captions[0]])
        self._count += 1

    def close(self, class_names: tuple[str, ...] | None, prepared: dict[str, object]) -> None:
        """Write dataset.json and the directory of the zip.

        Captions stand under "labels" as StyleGAN-T's tools expect, except beside integer labels; several of
        one image as a list.
        """
        table: dict[str, object] = {"labels": self._labels or self._captions or None}
        if self._labels and self._captions:
            table["captions"] = self._captions
        if class_names is not None:
            table["class_names"] = class_names
        table["prepared"] = prepared
        self._put("dataset.json", json.dumps(table).encode())
        self._zip.close()

    def _put(self, name: str, data: bytes) -> None:
        # A fixed date makes equal input give equal bytes.
        self._zip.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)


class ShardWriter:
    """A folder of 00000.tar, 00001.tar, ...: png + txt + json per sample, as img2dataset writes them.

    The txt holds the first caption; all of them stand in the field "captions" of the json.
    """

    def __init__(self, folder: Path, *, lists: bool = False) -> None:
        """lists: write the field "captions" also where it holds one caption, so that it can be read alone."""
        self.folder, self.lists = folder, lists
        self._count = 0
        self._tar = None

    def add(self, sample: Sample) -> None:
        """Append one sample, in a new shard after every SHARD_SAMPLES."""
        from webdataset.writer import TarWriter

        shard, inside = divmod(self._count, SHARD_SAMPLES)
        if inside == 0:
            self._finish()
            path = self.folder / f"{shard:05d}.tar"
            self._file = path.open("wb")
            self._tar = TarWriter(self._file, encoder=False, mtime=0)
        side = sample.image.shape[-1]
        info: dict[str, object] = {"width": side, "height": side}
        fields: dict[str, object] = {"__key__": f"{shard:05d}{inside:04d}", "png": encode_png(sample)}
        if sample.captions:
            info["caption"] = sample.captions[0]
            fields["txt"] = sample.captions[0].encode()
            if self.lists or len(sample.captions) > 1:
                info[CAPTION_LIST] = sample.captions
        if sample.label is not None:
            info["label"] = sample.label
        fields["json"] = json.dumps(info).encode()
        assert self._tar is not None
        self._tar.write(fields)
        self._count += 1

    def close(self, class_names: tuple[str, ...] | None, prepared: dict[str, object]) -> None:
        """Complete the last shard and write the names of the classes and how the images were prepared."""
        self._finish()
        (self.folder / PREPARED_FILE).write_text(json.dumps(prepared, indent=1) + "\n")
        if class_names is not None:
            (self.folder / CLASS_FILE).write_text(json.dumps({"class_names": class_names}, indent=1) + "\n")

    def _finish(self) -> None:
        if self._tar is not None:
            self._tar.close()
            self._file.close()
            self._tar = None


def encode_png(sample: Sample) -> bytes:
    """The image as PNG, fast rather than small."""
    buffer = io.BytesIO()
    Image.fromarray(sample.image.permute(1, 2, 0).numpy()).save(buffer, "png", compress_level=1)
    return buffer.getvalue()


def _check_target(target: Path, format: str, overwrite: bool) -> Path:
    if format not in FORMATS:
        raise ValueError(f"format={format!r} is unknown: use {' or '.join(FORMATS)}")
    if format == "zip" and target.suffix.lower() != ".zip":
        raise ValueError(f"{target} does not end in .zip: name it {target}.zip or use the format 'shards'")
    if format == "shards" and target.suffix.lower() in (".zip", ".tar"):
        raise ValueError(
            f"{target} names a file, and shards need a folder: drop the ending or use the format 'zip'"
        )
    if target.is_dir() if format == "zip" else target.is_file():
        raise ValueError(f"{target} exists and is of another kind: name another destination")
    taken = target.is_file() or (target.is_dir() and any(target.iterdir()))
    if taken and not overwrite:
        raise ValueError(f"{target} exists: name another destination or allow overwriting")
    if taken and target.is_dir() and not all(_is_ours(path) for path in target.iterdir()):
        raise ValueError(f"{target} holds other files than shards: name another destination")
    return target


def _is_ours(path: Path) -> bool:
    return path.is_file() and (
        path.suffix == ".tar" or path.name in (CLASS_FILE, PREPARED_FILE, "rejects.jsonl")
    )


def _rejects_file(target: Path) -> Path:
    zipped = target.suffix.lower() == ".zip"
    return target.with_name(target.name + ".rejects.jsonl") if zipped else target / "rejects.jsonl"


@contextmanager
def _aside(target: Path, format: str) -> Iterator[Path]:
    """A new file or folder beside the target, which replaces it at the end and is removed after any failure.

    Meanwhile no other process writes to the target: a second one ends with one sentence. What one left that
    was killed is removed.
    """
    with ExitStack() as held:
        try:
            what, way_out = f"{target} is being written", "wait for it, or name another destination"
            held.enter_context(locked(lock_beside(target), what, way_out))
            put_back(target.parent, target.name)
            whole = whole_file(target) if format == "zip" else whole_folder(target, mark=None)
            partial = held.enter_context(whole)
            if format == "zip":
                partial.touch()  # tells now, not after an hour, that the folder cannot be written
        except OSError as error:
            raise ValueError(
                f"{target} cannot be written ({error.strerror or error}): choose a folder you may write to"
            ) from error
        yield partial
