"""Write any source as a StyleGAN zip or as webdataset shards; whole or not at all."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm import tqdm

from sgxl_t.datasets.base import ImageSource
from sgxl_t.datasets.encoded import EncodedSample
from sgxl_t.datasets.enlarge import Enlarger
from sgxl_t.datasets.holdout import SPLITS, WaitingRoom, check_share, check_sides
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
    held_out: how many of the images are put aside as the split `test`.
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
    held_out: int = 0

    def as_json(self) -> str:
        """The report as one JSON object."""
        return json.dumps(asdict(self), indent=2)


class Writer(Protocol):
    """Takes samples one by one; `close` completes what is on disk."""

    def add(self, sample: EncodedSample, part: str = "") -> None:
        """Append one sample to a split, or to the whole where there are none; one split after the other."""

    def close(self, class_names: tuple[str, ...] | None, prepared: dict[str, object]) -> None:
        """Complete what is on disk."""


@dataclass(frozen=True)
class Choice:
    """Which images of a source are written, and where.

    max_images: at most so many, a seeded choice in source order; None takes all. holdout: the share of them
    that is put aside as the split `test`, of every class as nearly as whole images allow; None puts none
    aside. ValueError for numbers out of range.
    """

    max_images: int | None = None
    holdout: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_images is not None and self.max_images < 1:
            raise ValueError(f"max_images={self.max_images} is too small: use 1 or more")
        if self.holdout is not None:
            check_share(self.holdout)

    def indices(self, total: int) -> Sequence[int] | None:
        """Of the chosen images among `total`; None where all are taken."""
        if self.max_images is None or self.max_images >= total:
            return None
        return sorted(np.random.RandomState(self.seed).permutation(total)[: self.max_images].tolist())


ALL = Choice()


def write_dataset(
    source: ImageSource,
    destination: str | Path,
    *,
    format: str = "zip",
    choice: Choice = ALL,
    overwrite: bool = False,
    progress: bool = True,
    enlarger: Enlarger | None = None,
) -> Report:
    """Write `source` to a .zip file or a folder of shards and list the rejects.

    The result appears under its name only when it is complete. choice: which images, and how many of them are
    put aside: then train/ and test/ lie in it side by side, and everything reads train/ unless it is told to
    read test/.
    enlarger: what makes images larger that are smaller than the source, Lanczos without; what was used, and
    for how many images, stands in the report and beside the images under "prepared".
    Rejects, if any, are listed in `<destination>.rejects.jsonl` beside a zip, or in `rejects.jsonl` among the
    shards.
    """
    target = _check_target(Path(destination), format, overwrite)
    source.enlarge = enlarger = enlarger or Enlarger()
    with _aside(target, format) as partial:
        _check_target(target, format, overwrite)  # another process may just have made it
        writer: Writer = (
            ZipWriter(partial) if format == "zip" else ShardWriter(partial, lists=source.several_captions)
        )
        counts = Counter[str]()
        try:
            counts = _write(source, writer, choice, target, progress)
        finally:
            writer.close(source.class_names, _prepared(source, enlarger, choice, counts["test"]))
        if format == "shards":
            source.rejects.write(partial / "rejects.jsonl")
    if format == "zip":
        source.rejects.write(_rejects_file(target))
    return _report(source, enlarger, target, format, counts)


def _write(source: ImageSource, writer: Writer, choice: Choice, target: Path, progress: bool) -> Counter[str]:
    """All samples to the writer; counts them by split, those without one under "". ValueError for none."""
    total = len(source) // (2 if source.mirror else 1)
    indices = choice.indices(total)
    expected = total if indices is None else len(indices)
    if choice.holdout is not None:
        check_sides(choice.holdout, expected)  # before all of them are read
    samples = source.samples(indices)
    shown = tqdm(samples, f"writing {target.name}", expected, unit="img", disable=not progress)
    counts = Counter[str]()
    if choice.holdout is None:
        for sample in shown:
            writer.add(EncodedSample.of(sample))
            counts[""] += 1
    else:
        with closing(WaitingRoom(target.parent, share=choice.holdout, seed=choice.seed)) as room:
            for sample in shown:
                room.add(sample)
            for part, encoded in room.leave():
                writer.add(encoded, part)
                counts[part] += 1
    if not counts:
        raise ValueError(f"no picture is left to write to {target}: all {len(source.rejects)} were rejected")
    return counts


def _report(
    source: ImageSource, enlarger: Enlarger, target: Path, format: str, counts: Counter[str]
) -> Report:
    rejects = source.rejects
    return Report(
        destination=str(target),
        format=format,
        resolution=source.resolution,
        images=counts.total(),
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
        held_out=counts["test"],
    )


def _prepared(source: ImageSource, enlarger: Enlarger, choice: Choice, held_out: int) -> dict[str, object]:
    """How the images of an archive came to their size, and what of them was put aside."""
    aside = {"holdout": choice.holdout, "held_out": held_out, "seed": choice.seed}
    return {
        "resolution": source.resolution,
        "resize": "centre square, Lanczos (Pillow)",
        "enlarged": enlarger.count,
        "enlarged_by": enlarger.name if enlarger.count else None,
        **(aside if choice.holdout is not None else {}),
    }


class ZipWriter:
    """A stored zip: 00000/img00000000.png and so on, in the folder of its split, and dataset.json."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)
        self._labels: list[list[object]] = []
        self._captions: list[list[object]] = []
        self._counts = Counter[str]()

    def add(self, sample: EncodedSample, part: str = "") -> None:
        """Append one image."""
        number = self._counts[part]
        name = f"{f'{part}/' if part else ''}{number // 1000:05d}/img{number:08d}.png"
        self._put(name, sample.png)
        if sample.label is not None:
            self._labels.append([name, sample.label])
        if sample.captions:
            several = len(sample.captions) > 1
            self._captions.append([name, sample.captions if several else sample.captions[0]])
        self._counts[part] += 1

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
    """A folder of 00000.tar, 00001.tar, ..., below the folder of their split: png + txt + json per sample, as
    img2dataset writes them.

    The txt holds the first caption; all of them stand in the field "captions" of the json.
    """

    def __init__(self, folder: Path, *, lists: bool = False) -> None:
        """lists: write the field "captions" also where it holds one caption, so that it can be read alone."""
        self.folder, self.lists = folder, lists
        self._counts = Counter[str]()
        self._tar = None

    def add(self, sample: EncodedSample, part: str = "") -> None:
        """Append one sample, in a new shard after every SHARD_SAMPLES."""
        from webdataset.writer import TarWriter

        shard, inside = divmod(self._counts[part], SHARD_SAMPLES)
        if inside == 0:
            self._finish()
            path = self.folder / part / f"{shard:05d}.tar"
            path.parent.mkdir(exist_ok=True)
            self._file = path.open("wb")
            self._tar = TarWriter(self._file, encoder=False, mtime=0)
        info: dict[str, object] = {"width": sample.side, "height": sample.side}
        fields: dict[str, object] = {"__key__": f"{shard:05d}{inside:04d}", "png": sample.png}
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
        self._counts[part] += 1

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
    if path.is_dir() and path.name in SPLITS:
        return all(inner.is_file() and inner.suffix == ".tar" for inner in path.iterdir())
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
