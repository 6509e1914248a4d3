"""Samples, batches, and the source that every data set is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sgxl_t.datasets.decode import Bounds, Enlarge, Size, fitted
from sgxl_t.datasets.rejects import RejectedItemError, Rejects
from sgxl_t.ops.images import to_gray

CACHE_BYTES = 256 * 2**20
"""Images of a source are kept in memory when all of them together need at most this much."""

LABELS_BY = "sort the pictures into one folder per class, add dataset.json, or train with another condition"
CAPTIONS_BY = "put name.txt beside name.jpg, add metadata.jsonl, or train with another condition"
"""How to get labels and captions, for messages."""

MIN_RESOLUTION, MAX_RESOLUTION = 4, 4096

CONTENT_VERSION = "content 2"
"""Part of every fingerprint of files. Older ones used names and sizes alone and cannot be trusted."""


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """How images of files are read, wherever these lie.

    resolution, mirror, rejects: see ImageSource. split: part of the data, such as `train` or `test`.
    """

    resolution: int
    split: str = "train"
    mirror: bool = False
    rejects: Rejects = field(default_factory=Rejects)
    bounds: Bounds = field(default_factory=Bounds)


@dataclass(frozen=True)
class Sample:
    """One image: image uint8 [3, R, R] in [0, 255], and its class index and caption where known.

    Of a source that is gray, image is [1, R, R].

    captions: all captions of the image, () where there is none; `caption` alone stands for one. Outside of
    training `caption` is the first of them.
    """

    image: Tensor
    label: int | None = None
    caption: str | None = None
    captions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.caption is not None and not self.captions:
            object.__setattr__(self, "captions", (self.caption,))


@dataclass(frozen=True)
class Batch:
    """images uint8 [N, 3, R, R], or [N, 1, R, R] in gray; labels int64 [N] or None; captions, or None."""

    images: Tensor
    labels: Tensor | None = None
    captions: list[str] | None = None


class ImageSource(ABC):
    """Square images of one resolution with labels or captions, addressed by index.

    Subclasses define `_count` and `_read`; this class mirrors, keeps small sets in memory and replaces an
    image that turns out to be broken by the next good one, so that an index always gives the same sample.

    size: height and width. Other than the square of `resolution` only for images that are measured and never
    trained on.
    gray: reduces images to their brightness, one channel.
    enlarge: enlarges images that are smaller than the source; None for Lanczos. These three are set before
    the first image is read.
    sizes: number of images by width and height of their files, as far as known.
    several_captions: whether images are known to have more than one caption.
    no_labels, no_captions: why labels or captions that were found are not used, and what to do about it, for
    the message of `require`; None where none were found.
    """

    def __init__(
        self,
        *,
        resolution: int,
        class_names: tuple[str, ...] | None = None,
        has_captions: bool = False,
        mirror: bool = False,
        rejects: Rejects | None = None,
    ) -> None:
        self.resolution = check_resolution(resolution)
        self.class_names = class_names
        self.has_captions = has_captions
        self.mirror = mirror
        self.rejects = rejects if rejects is not None else Rejects()
        self.size: Size = (self.resolution, self.resolution)
        self.gray = False
        self.sizes = Counter[tuple[int, int]]()
        self.enlarge: Enlarge | None = None
        self.several_captions = False
        self.no_labels: str | None = None
        self.no_captions: str | None = None
        self._cache: dict[int, Sample] = {}

    @abstractmethod
    def _count(self) -> int:
        """Number of images, mirrored ones not counted."""

    @abstractmethod
    def _read(self, index: int) -> Sample:
        """Read or draw image `index`; RejectedItemError when it is broken."""

    def _name(self, index: int) -> str:
        """Name of image `index` in the list of rejects."""
        return str(index)

    @abstractmethod
    def fingerprint(self) -> str:
        """Sixteen hex digits over every byte of images, labels and captions, and over how they are read.

        Where the files lie does not matter: equal content has an equal fingerprint. Of data behind URLs and
        commands only the addresses count.
        """

    def fingerprint_of_numbered(self) -> str:
        """Fingerprint of the images that `source[index]` gives, by content also where they are fetched."""
        return self.fingerprint()

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 without labels."""
        return len(self.class_names) if self.class_names is not None else 0

    def label_counts(self) -> dict[int, int] | None:
        """Images by class index, as far as known without reading them; None where that is not known."""
        return None

    def known_labels(self) -> Sequence[int | None] | None:
        """Class index by image, mirrored ones not counted; None where it is only known by reading images."""
        return None

    def known_captions(self) -> Iterable[str] | None:
        """All captions, those of mirrored images once; None where they are only known by reading images."""
        return None

    def __len__(self) -> int:
        return self._count() * (2 if self.mirror else 1)

    def __getitem__(self, index: int) -> Sample:
        """Sample `index`; with `mirror` the second half of the indices is the first half flipped."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is outside of a source of {len(self)} pictures")
        index %= len(self)
        flipped, index = divmod(index, self._count())
        sample = self._cached(index)
        if not flipped:
            return sample
        return replace(sample, image=sample.image.flip(-1))

    def samples(self, indices: Iterable[int] | None = None) -> Iterator[Sample]:
        """One pass over all images, or over the given indices; broken ones are left out and not replaced."""
        for index in range(self._count()) if indices is None else indices:
            try:
                yield self._read_sized(index)
            except RejectedItemError as error:
                self.rejects.add(self._name(index), error)
                self.rejects.check(self._count())

    def require(self, *, labels: bool = False, captions: bool = False) -> None:
        """Raise ValueError where this source lacks the labels or captions that a condition needs."""
        if labels and self.class_names is None:
            raise ValueError(
                f"the data set has no class labels, which class conditioning needs: "
                f"{self.no_labels or LABELS_BY}"
            )
        if captions and not self.has_captions:
            raise ValueError(
                "the data set has no captions, which text conditioning needs: "
                f"{self.no_captions or CAPTIONS_BY}"
            )

    def _cached(self, index: int) -> Sample:
        if index in self._cache:
            return self._cache[index]
        sample = self._first_good(index)
        if self._count() * 3 * self.size[0] * self.size[1] <= CACHE_BYTES:
            self._cache[index] = sample
        return sample

    def _read_sized(self, index: int) -> Sample:
        return self.shown(self._read(index))

    def shown(self, sample: Sample) -> Sample:
        """A sample as it was read, brought to the size and the channels of this source."""
        image = fitted(sample.image, self.size)
        image = to_gray(image) if self.gray else image
        return sample if image is sample.image else replace(sample, image=image)

    def _first_good(self, index: int) -> Sample:
        count = self._count()
        for step in range(count):
            candidate = (index + step) % count
            try:
                return self._read_sized(candidate)
            except RejectedItemError as error:
                self.rejects.add(self._name(candidate), error)
                self.rejects.check(count)
        raise ValueError("no picture of the data set can be read: see the list of rejects")


@dataclass(frozen=True)
class Mark:
    """How far a reader of a stream has come: samples read (good, bad, filtered) of a segment of an epoch."""

    epoch: int = 0
    segment: int = 0
    taken: int = 0


START = Mark()


class StreamSource(ImageSource):
    """A source too large to address at random while training, read as an endless shuffled stream instead."""

    @abstractmethod
    def stream(
        self, *, seed: object, part: int, parts: int, mark: Mark = START
    ) -> Iterator[tuple[Mark, Sample]]:
        """Endless samples for reader `part` of `parts`, a pure function of seed and reader.

        Each sample comes with the mark behind it; from a mark the same samples follow again.
        """

    @abstractmethod
    def order_key(self) -> str:
        """Sixteen hex digits that change when marks no longer mean the same samples."""


def check_resolution(resolution: int) -> int:
    """The resolution itself when it is a power of two in bounds; ValueError otherwise."""
    fits = MIN_RESOLUTION <= resolution <= MAX_RESOLUTION and resolution & (resolution - 1) == 0
    if not fits:
        raise ValueError(
            f"resolution={resolution} is not a power of two from {MIN_RESOLUTION} to {MAX_RESOLUTION}: "
            "use 16, 32, 64, 128, 256, 512 or 1024"
        )
    return resolution


def evenly_spaced(total: int, count: int) -> list[int]:
    """At most `count` of the numbers below `total`, evenly spaced from 0 on."""
    count = min(total, count)
    return [number * total // count for number in range(count)]


def collate(samples: list[Sample]) -> Batch:
    """Stack samples; labels and captions appear when every sample has them."""
    labels = [sample.label for sample in samples if sample.label is not None]
    captions = [sample.caption for sample in samples if sample.caption is not None]
    return Batch(
        images=torch.stack([sample.image for sample in samples]),
        labels=torch.tensor(labels, dtype=torch.int64) if len(labels) == len(samples) else None,
        captions=captions if len(captions) == len(samples) else None,
    )
