"""What a sample grid shows: a condition in every row, its name, and real images of the same condition."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sgxl_t.conditioning.condition import Condition
from sgxl_t.datasets.base import ImageSource, Sample
from sgxl_t.ops.images import as_rgb
from sgxl_t.training.loop.data import real_images

LOOKED_AT, SECONDS = 5000, 2.0
"""Images that are read at most, and for how long, to find some of each class where labels are only known by
reading."""


@dataclass(frozen=True)
class Shown:
    """Rows of a sample grid.

    conditions: one a row, as the run's condition encodes them. names: in words; None where there is no
    condition. real: per row uint8 [K, 3, R, R], images of this very condition, 0 <= K <= columns.
    """

    conditions: tuple[Any, ...]
    names: tuple[str | None, ...]
    real: tuple[Tensor, ...]


def choose_rows(source: ImageSource, condition: Condition, rows: int, columns: int, seed: int) -> Shown:
    """At most `rows` rows: the first classes, or captions spread over the data with their own image."""
    if condition.kind == "class":
        labels = list(range(min(rows, source.num_classes)))
        found = _of_classes(source, labels, columns, seed)
        names = tuple(condition.label(label) for label in labels)
        return Shown(tuple(labels), names, tuple(_stacked(found[label], source) for label in labels))
    if condition.kind == "text":
        step = max(1, len(source) // rows)
        samples = [source[index] for index in range(0, len(source), step)][:rows]
        captions = tuple(sample.caption or "" for sample in samples)
        names = tuple(condition.label(caption) for caption in captions)
        return Shown(captions, names, tuple(_stacked([sample], source) for sample in samples))
    real = real_images(source, rows * columns, seed)
    parts = [real[row * columns : (row + 1) * columns] for row in range(rows)]
    return Shown((None,) * rows, (None,) * rows, tuple(parts))


def _of_classes(source: ImageSource, labels: Sequence[int], count: int, seed: int) -> dict[int, list[Sample]]:
    """At most `count` samples of each class, chosen by seed; fewer where they are not found in time."""
    found: dict[int, list[Sample]] = {label: [] for label in labels}
    for label, sample in _labelled(source, seed):
        if label in found and len(found[label]) < count:
            found[label].append(sample if isinstance(sample, Sample) else source[sample])
            if all(len(samples) == count for samples in found.values()):
                break
    return found


def _labelled(source: ImageSource, seed: int) -> Iterator[tuple[int | None, Sample | int]]:
    """Labels in an order by seed, each with the index of its image, or with the image that had to be read."""
    order: Iterable[int] = torch.randperm(len(source), generator=torch.Generator().manual_seed(seed)).tolist()
    known = source.known_labels()
    if known is not None:
        yield from ((known[index % len(known)], index) for index in order)
        return
    began = time.monotonic()
    for number, index in enumerate(order):
        if number == LOOKED_AT or time.monotonic() - began > SECONDS:
            return
        sample = source[index]
        yield sample.label, sample


def _stacked(samples: Sequence[Sample], source: ImageSource) -> Tensor:
    """uint8 [K, 3, R, R], K = 0 for none."""
    if not samples:
        return torch.zeros(0, 3, source.resolution, source.resolution, dtype=torch.uint8)
    return as_rgb(torch.stack([sample.image for sample in samples]))
