"""A share of a data set put aside before anything trains on it: which pictures, and where they wait."""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from sgxl_t.datasets.base import Sample
from sgxl_t.datasets.encoded import EncodedSample

SPLITS = ("train", "test")
"""What the two parts are called, as all readers of data sets know them."""


def held_out(keys: Sequence[bytes], labels: Sequence[int | None], share: float) -> list[bool]:
    """Which pictures are put aside: `share` of all, of every class as nearly as whole pictures allow.

    keys: per picture, equal for equal pictures and otherwise as good as random, such as `content_key`. The
    lowest of each class are taken, so that the choice does not depend on names or order and changes little
    when pictures are added. Equal pictures stay together.
    """
    classes: dict[int | None, list[bytes]] = defaultdict(list)
    for key, label in zip(keys, labels, strict=True):
        classes[label].append(key)
    wanted = {label: share * len(members) for label, members in classes.items()}
    quota = {label: math.floor(count) for label, count in wanted.items()}
    # The classes that lose most by rounding down get one more, until the sum is right.
    most_lost = sorted(classes, key=lambda label: (quota[label] - wanted[label], min(classes[label])))
    for label in most_lost[: round(share * len(keys)) - sum(quota.values())]:
        quota[label] += 1
    taken = {key for label, members in classes.items() for key in sorted(members)[: quota[label]]}
    return [key in taken for key in keys]


def content_key(sample: Sample, seed: int) -> bytes:
    """A key of a picture for `held_out`: of its pixels and the seed alone."""
    return hashlib.sha256(f"holdout {seed}/".encode() + sample.image.numpy().tobytes()).digest()


def check_share(share: float) -> None:
    """ValueError unless some pictures are put aside and some are left."""
    if not 0 < share < 1:
        raise ValueError(f"holdout={share} is out of range: use a share above 0 and below 1, such as 0.1")


def check_sides(share: float, total: int) -> None:
    """ValueError where a share of so many pictures leaves one of the parts empty."""
    aside = round(share * total)
    if not 0 < aside < total:
        raise ValueError(
            f"holdout={share:g} of {total} pictures puts {aside} aside and leaves {total - aside}: use a "
            "share that leaves some on both sides, or more pictures"
        )


class WaitingRoom:
    """Samples in the order they came, their pictures in a file, until it is known which part they go to."""

    def __init__(self, folder: Path, *, share: float, seed: int) -> None:
        """folder: where the file lies meanwhile; it has no name there and goes with this object."""
        self.share, self.seed = share, seed
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._waiting: list[tuple[int, EncodedSample]] = []
        self._keys: list[bytes] = []

    def add(self, sample: Sample) -> None:
        """Takes one sample."""
        encoded = EncodedSample.of(sample)
        self._keys.append(content_key(sample, self.seed))
        self._waiting.append((self._file.write(encoded.png), encoded.without_picture()))

    def leave(self) -> Iterator[tuple[str, EncodedSample]]:
        """Each sample with the part that it belongs to, first those of `train`, then those of `test`.

        ValueError where a part would be empty.
        """
        check_sides(self.share, len(self._keys))
        aside = held_out(self._keys, [sample.label for _, sample in self._waiting], self.share)
        for number, part in enumerate(SPLITS):
            self._file.seek(0)
            for (size, sample), held in zip(self._waiting, aside, strict=True):
                png = self._file.read(size)
                if held == bool(number):
                    yield part, sample.with_picture(png)

    def close(self) -> None:
        """Gives the room on the disk back."""
        self._file.close()
