"""Handwritten digits: 1797 real 8 x 8 scans of ten classes (UCI, CC BY 4.0), stored in the package."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import numpy as np
import torch
import torch.nn.functional as F

from sgxl_t.datasets.base import ImageSource, Sample
from sgxl_t.files.content import short_hash

TEST_SHARE = 0.2
SPLIT_SEED = 0


class Digits(ImageSource):
    """The UCI set "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998), test part.

    8 x 8 grey values 0..16, enlarged bilinearly and repeated to RGB. Splits `train` (1437) and `test` (360)
    are stratified by class with a fixed seed. Captions name the digit, so a text model can train on it too.
    """

    def __init__(self, *, resolution: int = 16, split: str = "train", mirror: bool = False) -> None:
        names = tuple(str(digit) for digit in range(10))
        super().__init__(resolution=resolution, class_names=names, has_captions=True, mirror=mirror)
        if split not in ("train", "test"):
            raise ValueError(f"digits has no split {split!r}: use 'train' or 'test'")
        grey, labels = _stored()
        chosen = split_indices(labels)[split]
        self._labels = labels[chosen].tolist()
        self._images = enlarge(grey[chosen], resolution)
        self._fingerprint = short_hash("digits", split, resolution, mirror, grey.tobytes())

    def _count(self) -> int:
        return len(self._labels)

    def known_labels(self) -> Sequence[int | None]:
        """See `ImageSource.known_labels`."""
        return self._labels

    def _read(self, index: int) -> Sample:
        label = self._labels[index]
        return Sample(self._images[index], label, f"the digit {WORDS[label]}")

    def fingerprint(self) -> str:
        """Over the settings and all stored digits; see `ImageSource.fingerprint`."""
        return self._fingerprint


WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def enlarge(grey: np.ndarray, resolution: int) -> torch.Tensor:
    """uint8 [N, 8, 8] in 0..16 to uint8 [N, 3, R, R] in 0..255, bilinear with antialiasing below 8 px."""
    values = torch.from_numpy(grey).float()[:, None] * (255 / 16)
    size = (resolution, resolution)
    values = F.interpolate(values, size, mode="bilinear", align_corners=False, antialias=resolution < 8)
    return values.round().clamp(0, 255).to(torch.uint8).repeat(1, 3, 1, 1)


def split_indices(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Sorted indices [M] of `train` and `test` for labels [N].

    Every class gives about TEST_SHARE to the test split. Shares are rounded by largest remainder, so that the
    counts are 1437 and 360.
    """
    counts = np.bincount(labels, minlength=10)
    quota = counts * TEST_SHARE
    take = np.floor(quota).astype(int)
    missing = math.ceil(len(labels) * TEST_SHARE) - int(take.sum())
    take[np.argsort(take - quota, kind="stable")[:missing]] += 1
    random = np.random.RandomState(SPLIT_SEED)
    chosen = [random.permutation(np.flatnonzero(labels == digit))[: take[digit]] for digit in range(10)]
    test = np.sort(np.concatenate(chosen))
    return {"train": np.setdiff1d(np.arange(len(labels)), test), "test": test}


@cache
def _stored() -> tuple[np.ndarray, np.ndarray]:
    """uint8 images [1797, 8, 8] in 0..16 and int labels [1797]."""
    stored = files("sgxl_t.datasets.embedded").joinpath("assets/digits.npz")
    with stored.open("rb") as file, np.load(file) as data:
        return data["images"], data["labels"].astype(np.int64)
