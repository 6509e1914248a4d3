"""An endless stream of batches that is a pure function of (seed, rank, images seen)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from sgxl_t.datasets.base import Batch, ImageSource, Sample, StreamSource, collate
from sgxl_t.datasets.loading.caption_choice import choose_caption
from sgxl_t.datasets.loading.caption_dropout import drop_captions
from sgxl_t.datasets.loading.streaming import StreamBatches
from sgxl_t.datasets.loading.workers import Restarting, loader_options
from sgxl_t.ops.random import epoch_rng

Place = tuple[int, int]
"""A position in the endless order, and the index of the picture that stands there."""


def batches(
    source: ImageSource,
    *,
    batch_size: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    images_seen: int = 0,
    num_workers: int = 0,
    caption_dropout: float = 0.0,
    position: dict[str, Any] | None = None,
    ahead: int = 0,
) -> IndexedBatches | StreamBatches:
    """Batches without end, of `batch_size` pictures each, for one rank.

    images_seen: pictures that all ranks together have consumed before; the stream goes on there.
    Pictures are shuffled anew each time the whole source has been passed. All ranks together consume the
    order of one process with batches of `world_size * batch_size`: rank r takes the r-th part of each.
    Of several captions of a picture one is drawn each time, as a function of seed and place in that order.
    caption_dropout: share of captions, in [0, 1], that are replaced by an empty text.
    ahead: batches that loader processes shall hold ready together; each holds two at least.
    Shards are streamed instead (see StreamBatches, which is what they return): position is where this rank
    was, and without one the order begins afresh, as a function of (seed, rank, images seen).
    """
    if batch_size < 1 or not 0 <= rank < world_size or images_seen < 0 or num_workers < 0:
        raise ValueError(
            f"batch_size={batch_size}, rank={rank}, world_size={world_size}, images_seen={images_seen}, "
            f"num_workers={num_workers}: counts must not be negative, and rank below world_size"
        )
    if not 0 <= caption_dropout <= 1:
        raise ValueError(f"data.caption_dropout={caption_dropout} is no share: use a number from 0 to 1")
    if isinstance(source, StreamSource):
        return StreamBatches(
            source,
            batch_size=batch_size,
            seed=seed,
            rank=rank,
            world_size=world_size,
            images_seen=images_seen,
            num_workers=num_workers,
            caption_dropout=caption_dropout,
            position=position,
            ahead=ahead,
        )
    return IndexedBatches(
        source,
        batch_size=batch_size,
        seed=seed,
        rank=rank,
        world_size=world_size,
        images_seen=images_seen,
        num_workers=num_workers,
        caption_dropout=caption_dropout,
        ahead=ahead,
    )


class IndexedBatches(Restarting["Batch | str"], Iterator[Batch]):
    """Batches of one rank from pictures that have addresses, by loader processes or by the rank itself."""

    def __init__(
        self,
        source: ImageSource,
        *,
        batch_size: int,
        seed: int,
        rank: int,
        world_size: int,
        images_seen: int,
        num_workers: int,
        caption_dropout: float,
        ahead: int,
    ) -> None:
        self.seed, self.caption_dropout = seed, caption_dropout
        self._views, self._num_workers, self._batch_size = _Views(source, seed), num_workers, batch_size
        self._ahead = ahead
        self._first, self._step = images_seen + rank * batch_size, batch_size * world_size
        super().__init__()

    def __next__(self) -> Batch:
        batch = self._next()
        if isinstance(batch, str):
            raise ValueError(batch)
        first, self._first = self._first, self._first + self._step
        return drop_captions(batch, self.caption_dropout, f"{self.seed}/{first}")

    def _open(self) -> Iterable[Batch | str]:
        places = self._places()
        if self._num_workers == 0:
            return map(self._views.batch, places)
        return DataLoader(self._views, batch_sampler=places, **loader_options(self._num_workers, self._ahead))

    def _places(self) -> Iterator[list[Place]]:
        """Places of each batch from here on, in one endless sequence of seeded permutations."""
        count, start = len(self._views.source), self._first
        epoch, order = -1, torch.empty(0)
        while True:
            batch = []
            for position in range(start, start + self._batch_size):
                if position // count != epoch:
                    epoch = position // count
                    order = torch.randperm(count, generator=epoch_rng(self.seed, epoch))
                batch.append((position, int(order[position % count])))
            yield batch
            start += self._step


class _Views(Dataset):
    """The pictures as training sees them, with one caption each; worker processes hold a copy."""

    def __init__(self, source: ImageSource, seed: int) -> None:
        self.source, self.seed = source, seed

    def batch(self, places: list[Place]) -> Batch:
        """The batch of these places."""
        return collate([self._view(position, index) for position, index in places])

    def __getitems__(self, places: list[Place]) -> Batch | str:
        """The batch in a loader process; a ValueError as text, since raised it would come as a traceback."""
        try:
            return self.batch(places)
        except ValueError as error:
            return str(error)

    def _view(self, position: int, index: int) -> Sample:
        return choose_caption(self.source[index], f"{self.seed}/{position}")
