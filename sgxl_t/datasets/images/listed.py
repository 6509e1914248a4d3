"""What folders and archives share: a list of image files with annotations, checked once, read on demand."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import BinaryIO

from tqdm import tqdm

from sgxl_t.datasets.base import CONTENT_VERSION, ImageSource, Sample, SourceOptions, evenly_spaced
from sgxl_t.datasets.decode import decode_image, open_image
from sgxl_t.datasets.images.annotations import Annotations, Label
from sgxl_t.datasets.images.wordnet_names import spoken_names
from sgxl_t.datasets.rejects import RejectedItemError, rejected
from sgxl_t.files.content import short_hash

HEADER_CHECKS = 50_000
"""Up to this many images headers are read on opening; larger sets meet their broken files while reading."""


@dataclass(frozen=True)
class Entry:
    """One image: its path inside the source, its size in bytes, class index and first caption.

    more: further captions.
    """

    name: str
    size: int
    label: int | None
    caption: str | None
    more: tuple[str, ...] = ()

    @property
    def captions(self) -> tuple[str, ...]:
        """All captions; () where there is none."""
        return () if self.caption is None else (self.caption, *self.more)


class ListedSource(ImageSource):
    """Image files by name. Subclasses open one by name; the rest is the same for all of them."""

    def __init__(self, where: str, files: dict[str, int], notes: Annotations, options: SourceOptions) -> None:
        """where: name of the source in messages. files: size in bytes by name, in index order."""
        self.where, self.bounds = where, options.bounds
        notes.settle()
        labels, class_names = number_classes(notes)
        super().__init__(
            resolution=options.resolution,
            class_names=class_names,
            has_captions=bool(notes.captions),
            mirror=options.mirror,
            rejects=notes.rejects,
        )
        self.no_labels, self.no_captions = notes.no_labels, notes.no_captions
        self.entries = self._admit(files, notes, labels)
        self.several_captions = any(entry.more for entry in self.entries)

    @abstractmethod
    def _open(self, name: str) -> BinaryIO:
        """Open one file for reading."""

    @abstractmethod
    def _content(self) -> list[bytes]:
        """Hashes of the bytes of all images, in order, or of the file that holds them all."""

    @cached_property
    def _content_hash(self) -> str:
        notes = ((entry.name, entry.label, entry.captions) for entry in self.entries)
        return short_hash(CONTENT_VERSION, *notes, *self._content())

    def fingerprint(self) -> str:
        """See `ImageSource.fingerprint`."""
        return short_hash(self.resolution, self.mirror, self.class_names, self._content_hash)

    def image_sizes(self, examine: int) -> list[tuple[int, int]]:
        """Width and height in pixels of at most `examine` images, evenly spaced, by their headers."""
        found = []
        for number in evenly_spaced(len(self.entries), examine):
            entry = self.entries[number]
            try:
                with self._open(entry.name) as file:
                    found.append(open_image(file, self.bounds).size)
            except Exception as error:
                reason = error if isinstance(error, RejectedItemError) else rejected("cannot be read", error)
                self.rejects.add(entry.name, reason)
        return found

    def label_counts(self) -> dict[int, int] | None:
        """Counted from the list of entries, without reading images; see `ImageSource.label_counts`."""
        return dict(Counter(entry.label for entry in self.entries if entry.label is not None))

    def known_labels(self) -> Sequence[int | None]:
        """See `ImageSource.known_labels`."""
        return [entry.label for entry in self.entries]

    def known_captions(self) -> Iterable[str]:
        """See `ImageSource.known_captions`."""
        return (caption for entry in self.entries for caption in entry.captions)

    def _count(self) -> int:
        return len(self.entries)

    def _name(self, index: int) -> str:
        return self.entries[index].name

    def _read(self, index: int) -> Sample:
        entry = self.entries[index]
        try:
            with self._open(entry.name) as file:
                data = file.read(self.bounds.max_file_bytes + 1)
        except RejectedItemError:
            raise
        except Exception as error:  # vanished files, bad checksums and bad streams alike
            raise rejected("cannot be read", error) from error
        note = partial(self.rejects.note, name=entry.name)
        image = decode_image(data, self.size, self.bounds, self.enlarge, note=note)
        return Sample(image, entry.label, entry.caption, entry.captions)

    def _admit(self, files: dict[str, int], notes: Annotations, labels: dict[str, int]) -> list[Entry]:
        """The good entries; all others go to the list of rejects."""
        bad_notes = {name for name, _, _ in self.rejects.items}
        entries = []
        check = len(files) <= HEADER_CHECKS
        for name, size in tqdm(
            files.items(), desc=f"checking {self.where}", unit="file", delay=2, leave=False
        ):
            try:
                if self.has_captions and name not in notes.captions and name not in bad_notes:
                    raise RejectedItemError("no caption")
                if labels and name not in labels and name not in bad_notes:
                    raise RejectedItemError("no label")
                if name in bad_notes:
                    continue
                if check:
                    self._check_header(name)
            except RejectedItemError as error:
                self.rejects.add(name, error)
                continue
            texts = notes.captions.get(name, ())
            entries.append(Entry(name, size, labels.get(name), texts[0] if texts else None, texts[1:]))
        if not files:
            there = [line for line in self.rejects.summary() if line.startswith("not used")]
            found = f" ({'; '.join(there)})" if there else ""
            raise ValueError(
                f"{self.where} holds no pictures{found}: put files such as .png, .jpg or .webp there"
            )
        self.rejects.check(len(entries) + len(self.rejects))
        if not entries:
            raise ValueError(f"{self.where} holds no usable picture: all {len(self.rejects)} were rejected")
        return entries

    def _check_header(self, name: str) -> None:
        try:
            file = self._open(name)
        except Exception as error:
            raise rejected("cannot be read", error) from error
        with file:
            self.sizes[open_image(file, self.bounds).size] += 1


def number_classes(notes: Annotations) -> tuple[dict[str, int], tuple[str, ...] | None]:
    """Class index by image, and the class names; numbers stay as they are, names are sorted."""
    labels: dict[str, Label] = notes.labels
    if not labels:
        return {}, None
    if all(isinstance(label, int) for label in labels.values()):
        numbers = {name: int(label) for name, label in labels.items()}
        count = max(numbers.values()) + 1
        names = notes.class_names or tuple(map(str, range(count)))
        if count > len(names):
            raise ValueError(
                f"label {count - 1} has no name among {len(names)} class names: repair class_names"
            )
        return numbers, names
    names = tuple(sorted({str(label) for label in labels.values()}))
    index = {name: number for number, name in enumerate(names)}
    return {name: index[str(label)] for name, label in labels.items()}, spoken_names(names)
