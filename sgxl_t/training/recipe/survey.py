"""What a data set is like, from a look at a part of it: count, sides, labels, captions, colours."""

from __future__ import annotations

import io
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch.nn import functional

from sgxl_t.datasets.base import CACHE_BYTES, ImageSource, Sample, StreamSource, evenly_spaced
from sgxl_t.datasets.decode import open_image
from sgxl_t.datasets.images.listed import ListedSource
from sgxl_t.datasets.rejects import RejectedItemError
from sgxl_t.datasets.shards.source import ShardSource
from sgxl_t.datasets.shards.tar.opening import is_local
from sgxl_t.datasets.shards.tar.samples import image_ending
from sgxl_t.training.recipe import rules

SIZES = 1000
"""Pictures of a large set whose headers are read."""
LISTED = 20_000
"""Entries of a list whose labels and captions are counted."""
FEW = 32
"""Pictures that are opened however long it takes."""
SMALL_SIDE, SAME_LOOK = 8, 0.06
"""Two pictures look the same where, at that side, they differ by no more in the root mean square, of 1."""
GRAY_DIFFERENCE = 8
"""Channels of a gray picture differ by no more, of 255: JPEGs are not exact."""


@dataclass(frozen=True, kw_only=True)
class Survey:
    """A data set in numbers, as far as a recipe depends on it.

    pictures: mirrored ones not counted; of shards behind URLs, those that were seen. all_known: whether that
    is all. smallest, usual, median: shorter sides in pixels; nine of ten pictures have the usual one; None
    where sizes are not known. classes: 0 without labels. per_class: pictures that nine of ten classes have.
    captions: whether there are some. distinct: different ones among those looked at. shared: share of the
    pictures whose captions have words in common with others. looked_at: pictures that were opened. repeated:
    how many of these look like one and the same picture. gray: without colours. read_seconds: to read and
    decode a picture. streamed: read anew each time, however small.
    """

    pictures: int
    all_known: bool = True
    smallest: int | None = None
    usual: int | None = None
    median: int | None = None
    classes: int = 0
    per_class: int = 0
    captions: bool = False
    distinct: int = 0
    shared: float = 0.0
    looked_at: int = 0
    repeated: int = 0
    gray: bool = False
    read_seconds: float = 0.0
    streamed: bool = False

    def stays_in_memory(self, resolution: int) -> bool:
        """Whether the run reads each picture once."""
        return not self.streamed and self.pictures * 3 * resolution**2 <= CACHE_BYTES


def look(source: ImageSource) -> tuple[Survey, list[Sample]]:
    """The survey, and the samples that were opened for it, evenly spaced.

    Of large sets a part is looked at, so that it takes seconds. The source is opened at any resolution.
    """
    total = len(source) // (2 if source.mirror else 1)
    began = time.monotonic()
    opened = _open_some(source, total)
    seconds = (time.monotonic() - began) / max(len(opened), 1)
    sides = sorted(min(size) for size in _sizes(source, total))
    labels, captions = _notes(source, opened)
    classes, per_class = _classes(source, labels, total)
    survey = Survey(
        pictures=total,
        all_known=not isinstance(source, ShardSource) or any(map(is_local, source.shards)),
        smallest=sides[0] if sides else None,
        usual=sides[len(sides) // 10] if sides else None,
        median=sides[len(sides) // 2] if sides else None,
        classes=classes,
        per_class=per_class,
        captions=source.has_captions,
        distinct=len(set(captions)),
        shared=shared_words(captions),
        looked_at=len(opened),
        repeated=most_alike(opened),
        gray=bool(opened) and all(map(is_gray, opened)),
        read_seconds=seconds,
        streamed=isinstance(source, StreamSource),
    )
    return survey, opened


def _open_some(source: ImageSource, total: int) -> list[Sample]:
    """Some samples, from all over the set. Broken ones are left out, and told when the run reads them."""
    chosen = evenly_spaced(total, rules.LOOKED_AT)
    order = [*chosen[::8], *(index for number, index in enumerate(chosen) if number % 8)]
    found: list[Sample] = []
    end = time.monotonic() + rules.LOOK_SECONDS
    for index in order:
        if len(found) >= FEW and time.monotonic() > end:
            break
        found += source.samples([index])
    return found


def _sizes(source: ImageSource, total: int) -> Iterable[tuple[int, int]]:
    """Width and height of some files; nothing where they are not known."""
    if source.sizes:
        return source.sizes.elements()
    if isinstance(source, ListedSource):
        return source.image_sizes(SIZES)
    return _sizes_in_shards(source, total) if isinstance(source, ShardSource) else []


def _sizes_in_shards(source: ShardSource, total: int) -> list[tuple[int, int]]:
    found = []
    for index in evenly_spaced(total, rules.LOOKED_AT):
        with suppress(RejectedItemError):
            group = source.addresses.group(index)
            if ending := image_ending(group):
                found.append(open_image(io.BytesIO(group[ending]), source.bounds).size)
    return found


def _notes(source: ImageSource, opened: Sequence[Sample]) -> tuple[list[int | None], list[str]]:
    """Labels and first captions: of the list where there is one, else of the samples that were opened."""
    if isinstance(source, ListedSource):
        some: Sequence[object] = [
            source.entries[index] for index in evenly_spaced(len(source.entries), LISTED)
        ]
    else:
        some = opened
    labels = [getattr(one, "label", None) for one in some]
    captions = [getattr(one, "caption", None) for one in some]
    return labels, [caption for caption in captions if caption is not None]


def _classes(source: ImageSource, labels: Sequence[int | None], total: int) -> tuple[int, int]:
    """Number of classes, and of pictures that nine of ten of them have."""
    counts = source.label_counts()
    if counts is None:
        seen = Counter(label for label in labels if label is not None)
        share = total / max(len(labels), 1)
        counts = {label: round(count * share) for label, count in seen.items()}
    if not source.num_classes or not counts:
        return 0, 0
    sizes = sorted(counts.get(label, 0) for label in range(source.num_classes))
    return source.num_classes, sizes[len(sizes) // 10]


def shared_words(captions: Sequence[str]) -> float:
    """Share of the captions that have a word in common with others, see SHARING_PICTURES; 0 to 1."""
    words = [set(re.findall(r"\w+", caption.lower())) for caption in captions]
    counts = Counter(word for some in words for word in some)
    most = rules.SHARING_SHARE * len(captions)
    common = {word for word, count in counts.items() if rules.SHARING_PICTURES <= count <= most}
    return sum(bool(some & common) for some in words) / max(len(captions), 1)


def most_alike(samples: Sequence[Sample]) -> int:
    """How many of the samples look like the one that has the most like it, that one included; 0 of none."""
    if not samples:
        return 0
    reduced = (functional.adaptive_avg_pool2d(one.image.float() / 255, SMALL_SIDE) for one in samples)
    small = torch.stack([image.expand(3, -1, -1).flatten() for image in reduced])
    difference = torch.cdist(small, small) / small.shape[1] ** 0.5
    return int((difference <= SAME_LOOK).sum(1).max())


def is_gray(sample: Sample) -> bool:
    """Whether an image uint8 [3, R, R] has no colours; one of a single channel has none."""
    image = sample.image.int()
    return bool((image.amax(0) - image.amin(0)).max() <= GRAY_DIFFERENCE)
