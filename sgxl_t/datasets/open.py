"""Opens every kind of data set by reference: embedded sets, folders, archives, shards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sgxl_t.datasets.base import (
    MAX_RESOLUTION,
    MIN_RESOLUTION,
    ImageSource,
    SourceOptions,
    StreamSource,
    check_resolution,
)
from sgxl_t.datasets.decode import Bounds, Size
from sgxl_t.datasets.embedded.digits import Digits
from sgxl_t.datasets.embedded.emoji_scenes import EmojiScenes
from sgxl_t.datasets.embedded.worlds.source import EmojiWorlds
from sgxl_t.datasets.images.folder import FolderSource
from sgxl_t.datasets.images.imagenet import TarOfTarsSource, is_tar_of_tars
from sgxl_t.datasets.images.zip import ZipSource
from sgxl_t.datasets.rejects import Rejects
from sgxl_t.datasets.shards.discover import TYPED, find_shards
from sgxl_t.datasets.shards.source import ShardOptions, ShardSource
from sgxl_t.datasets.shards.tar.opening import is_local

OpenSource = Callable[[str, SourceOptions], ImageSource]
EMBEDDED = ("digits", "emoji-scenes", "emoji-worlds")
"""Data sets that ship with the package."""
SOURCES: dict[str, OpenSource] = {}
"""Registered data sets by name."""


def register_source(name: str) -> Callable[[OpenSource], OpenSource]:
    """Decorator: a function of (detail, options) opens what is called `name` or `name:detail`.
    ValueError for a name that is taken.
    """
    if name in (*EMBEDDED, *SOURCES):
        raise ValueError(f"a data set {name!r} exists: choose another name")

    def register(opens: OpenSource) -> OpenSource:
        SOURCES[name] = opens
        return opens

    return register


def is_embedded(reference: str) -> bool:
    """Whether a data set ships with the package: one of EMBEDDED or a subset such as `emoji-worlds:24x6`."""
    return reference.partition(":")[0] in EMBEDDED


def open_source(
    reference: str | Path,
    *,
    resolution: int,
    split: str = "train",
    mirror: bool = False,
    reject_limit: float = 0.1,
    captions: str | Path | None = None,
    min_side: int = 8,
    shards: ShardOptions | None = None,
) -> ImageSource:
    """Open a data set by reference.

    reference: `digits`, `emoji-scenes`, `emoji-worlds` or a subset such as `emoji-scenes:24x8`, a folder of
    images, a .zip, a folder of .tar shards, a pattern, URL, command or .txt list of shards (see find_shards),
    or a tar of one tar per class (ILSVRC2012_img_train.tar).
    split: `train`; `test` (and `held_out` of drawn sets); a folder or zip has the splits it has folders of.
    mirror: every image also flipped. captions: table or COCO file of captions for a folder or zip.
    reject_limit: share of broken items above which reading stops with ValueError.
    min_side: images whose shorter side has fewer pixels are rejected.
    shards: how shards are read; other sources refuse a filter, caption fields and an order.
    """
    reference = str(reference)
    check_resolution(resolution)
    if captions is not None and not Path(reference).is_dir() and not _is_zip(reference):
        raise ValueError(
            f"captions={captions} needs a folder of pictures or a zip, and {reference!r} is neither"
        )
    options = SourceOptions(
        resolution=resolution,
        split=split,
        mirror=mirror,
        rejects=Rejects(reject_limit),
        bounds=Bounds(min_side=min_side),
    )
    source = _open(reference, options, captions, shards)
    if shards is not None and not isinstance(source, StreamSource):
        _refuse(shards, reference)
    return source


def open_to_measure(
    reference: str | Path, size: Size, *, split: str = "train", shards: ShardOptions | None = None
) -> ImageSource:
    """Open a data set, see `open_source`, whose images come at any height and width.

    They are cut to the shape around their centre and resized as ever; those of the size already stay as they
    are. `rejects` notes how many files have another size, where their headers have been looked at.
    """
    fitting = 1 << (max(*size, MIN_RESOLUTION) - 1).bit_length()
    source = open_source(reference, resolution=min(fitting, MAX_RESOLUTION), split=split, shards=shards)
    source.size = size
    height, width = size
    others = source.sizes.total() - source.sizes[width, height]
    if others:
        source.rejects.notes[f"brought to {width} x {height} px from another size"] = others
    return source


def _is_zip(reference: str) -> bool:
    return reference.lower().endswith(".zip") and Path(reference).is_file()


def _refuse(shards: ShardOptions, reference: str) -> None:
    for name, value in (
        ("filter", shards.filter),
        ("caption_fields", list(shards.caption_fields)),
        ("order", "" if shards.order == "auto" else shards.order),
    ):
        if value:
            raise ValueError(
                f"data.{name}={value} only works with shards, which {reference!r} is not: leave it out, or "
                "make shards with sgxl-t prepare"
            )


def _open(
    reference: str, options: SourceOptions, captions: str | Path | None, shards: ShardOptions | None
) -> ImageSource:
    """Embedded sets, shards, a tar of tars, a zip or a folder, whichever the reference names."""
    kind, _, detail = reference.partition(":")
    if reference == "digits":
        return Digits(resolution=options.resolution, split=options.split, mirror=options.mirror)
    if kind == "emoji-scenes":
        return EmojiScenes(
            detail or None, resolution=options.resolution, split=options.split, mirror=options.mirror
        )
    if kind == "emoji-worlds":
        return EmojiWorlds(
            detail or None, resolution=options.resolution, split=options.split, mirror=options.mirror
        )
    if kind in SOURCES:
        return SOURCES[kind](detail, options)
    path = Path(reference)
    if is_local(reference) and is_tar_of_tars(path):
        return TarOfTarsSource(path, options)
    if subsets := find_shards(reference, options.split, TYPED if shards is None else shards.consent):
        return ShardSource(reference, subsets, options, shards)
    if _is_zip(reference):
        return ZipSource(path, options, captions)
    if path.is_dir():
        return FolderSource(path, options, captions)
    raise ValueError(
        f"data set {reference!r} does not exist: name a folder, a .zip, .tar shards, 'digits' "
        "or 'emoji-worlds:24x6'"
    )
