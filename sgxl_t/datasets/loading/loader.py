"""An endless stream of batches that is a pure function of (seed, rank, images seen)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from sgxl_t.datasets.base import Batch, ImageSource, Sample, StreamSource, collate
from sgxl_t.datasets.captions import choose_caption, drop_captions
from sgxl_t.datasets.loading.options import BatchOptions
from sgxl_t.datasets.loading.order import labels_in_order, shuffled
from sgxl_t.datasets.loading.streaming import StreamBatches
from sgxl_t.datasets.loading.workers import Restarting, loader_options
from sgxl_t.ops.random import epoch_rng

Slot = tuple[int, int]
"""A position in the endless order, and the index of the image that stands there."""


def batches(
    source: ImageSource,
    options: BatchOptions,
    *,
    images_seen: int = 0,
    position: dict[str, Any] | None = None,
) -> IndexedBatches | StreamBatches:
    """Batches without end for one rank, [batch_size] images each.

    images_seen: images that all ranks together have consumed before; the order goes on there.
    Images are shuffled anew each time the whole source has been passed. All ranks together consume the order
    of one process with batches of `world_size * batch_size`: rank r takes the r-th part of each.
    With `alike` above 1 images of one class stand together (see `shuffled`); not for shards.
    Of several captions of an image one is drawn each time, as a function of seed and place in that order.
    Shards are streamed instead (see StreamBatches, which is what they return): position is where this rank
    was, and without one the order begins afresh, as a function of (seed, rank, images seen).
    """
    if isinstance(source, StreamSource):
        labels_in_order(source, options.alike)
        return StreamBatches(source, options, images_seen=images_seen, position=position)
    return IndexedBatches(source, options, images_seen=images_seen)


class IndexedBatches(Restarting["Batch | str"], Iterator[Batch]):
    """Batches of one rank from images that have addresses, by loader processes or by the rank itself."""

    def __init__(self, source: ImageSource, options: BatchOptions, *, images_seen: int) -> None:
        self.options = options
        self._views = _Views(source, options.seed)
        self._first = options.first(images_seen)
        self._labels = labels_in_order(source, options.alike)
        super().__init__()

    def __next__(self) -> Batch:
        batch = self._next()
        if isinstance(batch, str):
            raise ValueError(batch)
        first, self._first = self._first, self._first + self.options.step
        return drop_captions(batch, self.options.caption_dropout, f"{self.options.seed}/{first}")

    def _open(self) -> Iterable[Batch | str]:
        slots = self._slots()
        if self.options.num_workers == 0:
            return map(self._views.batch, slots)
        workers = loader_options(self.options.num_workers, self.options.ahead)
        return DataLoader(self._views, batch_sampler=slots, **workers)

    def _slots(self) -> Iterator[list[Slot]]:
        """Slots of each batch from here on, in one endless sequence of seeded permutations."""
        count, start = len(self._views.source), self._first
        epoch, order = -1, torch.empty(0)
        while True:
            batch = []
            for position in range(start, start + self.options.batch_size):
                if position // count != epoch:
                    epoch = position // count
                    order = shuffled(
                        count, self._labels, self.options.alike, epoch_rng(self.options.seed, epoch)
                    )
                batch.append((position, int(order[position % count])))
            yield batch
            start += self.options.step


class _Views(Dataset):
    """The images as training sees them, with one caption each; worker processes hold a copy."""

    def __init__(self, source: ImageSource, seed: int) -> None:
        self.source, self.seed = source, seed

    def batch(self, slots: list[Slot]) -> Batch:
        """The batch of these slots."""
        return collate([self._view(position, index) for position, index in slots])

    def __getitems__(self, slots: list[Slot]) -> Batch | str:
        """The batch in a loader process; a ValueError as text, since raised it would come as a traceback."""
        try:
            return self.batch(slots)
        except ValueError as error:
            return str(error)

    def _view(self, position: int, index: int) -> Sample:
        return choose_caption(self.source[index], f"{self.seed}/{position}")
