"""Webdataset shards in the layout of img2dataset: `jpg|png|webp` + `txt` + `json` per sample in tar files."""

from __future__ import annotations

import json
import random
import tarfile
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from sgxl_t.datasets.annotations import clean_caption
from sgxl_t.datasets.base import Sample, StreamSource, short_hash
from sgxl_t.datasets.folder import split_folder
from sgxl_t.datasets.policy import Bounds, decode_picture, is_picture
from sgxl_t.datasets.rejects import RejectedItemError, Rejects

SHUFFLE_SAMPLES = 1000
"""Encoded samples that one reader holds to draw from."""
CLASS_FILE = "classes.json"
"""Beside the shards: {"class_names": [...]}, the names of the integer labels in the samples."""
MIN_SEEN = 100
"""Samples after which the share of rejects is judged while streaming."""

Span = tuple[int, int]
Group = dict[str, Any]


def find_shards(reference: str) -> list[Path]:
    """The .tar files a reference names: a folder (searched whole), a file, a brace pattern; [] for none."""
    path = Path(reference)
    if path.is_dir():
        return sorted(tar for tar in path.rglob("*.tar") if not tar.name.startswith("."))
    if not reference.endswith(".tar"):
        return []
    from webdataset.shardlists import expand_urls

    shards = [Path(name) for name in expand_urls(reference)]
    if missing := [shard for shard in shards if not shard.is_file()]:
        raise ValueError(
            f"{len(missing)} of {len(shards)} shards do not exist (first: {missing[0]}): check the pattern"
        )
    return shards


class ShardSource(StreamSource):
    """Samples of tar shards, streamed for training and addressed through a lazily made index elsewhere.

    Captions come from `txt`, or from "caption" in `json`; labels from "label" in `json` or from `cls`, when
    classes.json beside the shards names the classes. Broken shards and samples are skipped and counted.
    """

    def __init__(
        self,
        reference: str,
        shards: list[Path],
        *,
        resolution: int,
        split: str = "train",
        mirror: bool = False,
        rejects: Rejects | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        self.shards = complete_shards(_of_split(Path(reference), shards, split))
        self.bounds = bounds or Bounds()
        rejects = Rejects() if rejects is None else rejects
        first = next(iter(_groups(self.shards, self.bounds, rejects)), None)
        if first is None:
            raise ValueError(f"the {len(shards)} shards of {reference} hold no sample: make them again")
        super().__init__(
            resolution=resolution,
            class_names=_class_names(self.shards[0].parent),
            has_captions="txt" in first or bool(_info(first).get("caption")),
            mirror=mirror,
            rejects=rejects,
        )

    def fingerprint(self) -> str:
        sizes = [(shard.name, shard.stat().st_size) for shard in self.shards]
        return short_hash(self.resolution, self.mirror, self.class_names, *sizes)

    def stream(self, *, seed: int, images_seen: int, part: int, parts: int) -> Iterator[Sample]:
        """Endless samples of one reader. Shards are dealt out to the readers where there are enough of them.

        The reader's shards are shuffled for each pass, and encoded samples in a buffer before decoding.
        """
        from webdataset.filters import shuffle

        draws = random.Random(f"{seed}/{images_seen}/{part}/{parts}")
        mine = self.shards[part::parts] if len(self.shards) >= parts else list(self.shards)
        seen = 0
        for group in shuffle(SHUFFLE_SAMPLES, initial=SHUFFLE_SAMPLES, rng=draws)(self._endless(mine, draws)):
            seen += 1
            flip = self.mirror and draws.random() < 0.5
            try:
                sample = self._decode(group)
            except RejectedItemError as error:
                self.rejects.add(_group_name(group), error)
                self.rejects.check(max(seen, MIN_SEEN))
                continue
            yield Sample(sample.image.flip(-1), sample.label, sample.caption) if flip else sample

    def _endless(self, shards: list[Path], draws: random.Random) -> Iterator[Group]:
        while True:
            order = draws.sample(shards, len(shards))
            count = 0
            for group in _groups(order, self.bounds, self.rejects):
                count += 1
                yield group
            if count == 0:
                raise ValueError(
                    f"none of {len(shards)} shards can be read (first: {shards[0]}): make them again"
                )

    @cached_property
    def _index(self) -> list[tuple[Path, Group]]:
        """Shard and byte spans of every sample, from the tar headers alone."""
        groups = _groups(self.shards, self.bounds, self.rejects, spans=True)
        return [(Path(group["__url__"]), group) for group in groups]

    def _count(self) -> int:
        return len(self._index)

    def _name(self, index: int) -> str:
        return _group_name(self._index[index][1])

    def _read(self, index: int) -> Sample:
        shard, group = self._index[index]
        with shard.open("rb") as file:
            return self._decode({key: _span(file, value) for key, value in group.items()})

    def _decode(self, group: Group) -> Sample:
        picture = next((value for key, value in group.items() if is_picture(f"x.{key}")), None)
        if picture is None:
            raise RejectedItemError("no picture in the sample", ", ".join(k for k in group if k[0] != "_"))
        caption = None
        if self.has_captions:
            text = group.get("txt", _info(group).get("caption"))
            if text is None:
                raise RejectedItemError("no caption")
            caption = clean_caption(text, self.rejects)
        label = self._label(group) if self.class_names is not None else None
        image = decode_picture(picture, self.resolution, self.bounds, self.enlarge)
        return Sample(image, label, caption)

    def _label(self, group: Group) -> int:
        value = group["cls"].decode("ascii", "replace") if "cls" in group else _info(group).get("label")
        if value is None:
            raise RejectedItemError("no label")
        text = str(value).strip()
        if not text.isdecimal() or int(text) >= self.num_classes:
            raise RejectedItemError("label is no class", text[:100])
        return int(text)


def complete_shards(shards: list[Path]) -> list[Path]:
    """Without the shards that img2dataset is still writing: it adds NAME_stats.json to each complete one."""
    done = [shard for shard in shards if shard.with_name(shard.stem + "_stats.json").exists()]
    return done or shards


def _of_split(folder: Path, shards: list[Path], split: str) -> list[Path]:
    if not folder.is_dir():
        if split != "train":
            raise ValueError(f"{folder} has no split {split!r}: name the shards of that split themselves")
        return shards
    inside = split_folder(folder, split)
    chosen = [shard for shard in shards if shard.is_relative_to(inside)]
    if not chosen:
        raise ValueError(f"{inside} holds no .tar shards: put them there or name another split")
    return chosen


def _class_names(folder: Path) -> tuple[str, ...] | None:
    path = folder / CLASS_FILE
    if not path.is_file():
        return None
    try:
        return tuple(str(name) for name in json.loads(path.read_bytes())["class_names"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{path} is no class file: expected {{"class_names": ["cat", ...]}}') from error


def _members(
    shards: Iterable[Path], bounds: Bounds, rejects: Rejects, spans: bool
) -> Iterator[dict[str, Any]]:
    """Files of the shards as webdataset groups them; with `spans` (offset, size) in place of the bytes."""
    for shard in shards:
        try:
            with tarfile.open(shard, "r:") as tar:
                for member in tar:
                    tar.members = []  # type: ignore[attr-defined]  # tarfile would remember every header of a shard
                    if not member.isreg() or member.issparse():
                        continue
                    if member.size > bounds.max_file_bytes:
                        rejects.add(f"{shard.name}/{member.name}", RejectedItemError("file too large"))
                        continue
                    data: Any = (member.offset_data, member.size)
                    if not spans:
                        file = tar.extractfile(member)
                        data = file.read() if file is not None else b""
                    # Only the last ending counts: "a.b.jpg" is the picture of sample "a.b".
                    yield {"fname": member.name, "data": data, "__url__": str(shard)}
        except (tarfile.TarError, OSError, EOFError) as error:
            rejects.add(shard.name, RejectedItemError("shard cannot be read to its end", str(error)))
        yield {}


def _groups(shards: Iterable[Path], bounds: Bounds, rejects: Rejects, spans: bool = False) -> Iterator[Group]:
    """Samples of the shards: member bytes (or spans) by ending, with `__key__` and `__url__`."""
    from webdataset.tariterators import group_by_keys

    def skip(error: Exception) -> bool:
        rejects.add(str(error.args[0])[:200], RejectedItemError("broken sample in a shard"))
        return True

    return group_by_keys(_members(shards, bounds, rejects, spans), keys=_split_name, handler=skip)


def _split_name(name: str) -> tuple[str | None, str | None]:
    stem, dot, ending = name.rpartition(".")
    return (stem, ending.lower()) if dot and stem and "/" not in ending else (None, None)


def _group_name(group: Group) -> str:
    return f"{Path(group['__url__']).name}/{group['__key__']}"


def _info(group: Group) -> dict[str, Any]:
    """The sample's json; empty where there is none or it cannot be read."""
    try:
        info = json.loads(group.get("json", b"{}"))
    except (ValueError, RecursionError):
        return {}
    return info if isinstance(info, dict) else {}


def _span(file: Any, value: Any) -> Any:
    """The bytes of a span; anything else as it is."""
    if not isinstance(value, tuple):
        return value
    file.seek(value[0])
    return file.read(value[1])
