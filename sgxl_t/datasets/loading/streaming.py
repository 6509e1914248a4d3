"""Batches of a stream of shards: which reader gives which, and where all of them are."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from sgxl_t.datasets.base import START, Batch, Mark, StreamSource, collate
from sgxl_t.datasets.captions import drop_captions
from sgxl_t.datasets.loading.options import BatchOptions
from sgxl_t.datasets.loading.workers import Restarting, loader_options
from sgxl_t.datasets.rejects import Item

log = logging.getLogger(__name__)

Delivery = tuple[int, Mark, Batch | str, tuple[list[Item], Counter[str]]]
"""What a reader hands over: its number, its mark behind the batch, the batch (or why it gives up), and what
it rejected meanwhile."""


class StreamBatches(Restarting[Delivery], Iterator[Batch]):
    """Batches of one rank, from its readers in turn: its loader processes, or the rank itself without any.

    `position()` goes into a checkpoint. Given back, the same batches follow as if nothing had happened, where
    as many ranks and workers read the same shards; otherwise the order begins afresh, and the log says so.
    Going on costs reading the headers of at most SEGMENT_SHARDS shards per reader, or these shards again
    where they are behind URLs.
    """

    def __init__(
        self,
        source: StreamSource,
        options: BatchOptions,
        *,
        images_seen: int,
        position: dict[str, Any] | None,
    ) -> None:
        self.source, self.options = source, options
        self.workers, self._first = max(1, options.num_workers), options.first(images_seen)
        self.readers = options.world_size * self.workers
        self._fixed = {"readers": self.readers, "order": source.order_key()}
        if position is not None and not self._fixed.items() <= position.items():
            log.warning(
                "the shards, or the number of processes and workers that read them, are not those of the "
                "checkpoint: the order of the samples begins afresh"
            )
            position = None
        position = position or {"base": images_seen, "next": 0, "marks": [START] * self.workers}
        self.base, self.next_worker = int(position["base"]), int(position["next"])
        self.marks = [mark if isinstance(mark, Mark) else Mark(*map(int, mark)) for mark in position["marks"]]
        super().__init__()

    def __next__(self) -> Batch:
        worker, mark, batch, news = self._next()
        self.source.rejects.merge(*news)
        if isinstance(batch, str):
            raise ValueError(batch)
        self.marks[worker], self.next_worker = mark, (worker + 1) % self.workers
        first, self._first = self._first, self._first + self.options.step
        return drop_captions(batch, self.options.caption_dropout, f"{self.options.seed}/{first}")

    def position(self) -> dict[str, Any]:
        """Where this rank is, as JSON values."""
        marks = [[mark.epoch, mark.segment, mark.taken] for mark in self.marks]
        return {**self._fixed, "base": self.base, "next": self.next_worker, "marks": marks}

    def _open(self) -> Iterable[Delivery]:
        reader, options = _Reader(self), self.options
        if options.num_workers == 0:
            return reader
        return DataLoader(reader, batch_size=None, **loader_options(options.num_workers, options.ahead))


class _Reader(IterableDataset):
    """What runs in each loader process."""

    def __init__(self, batches: StreamBatches) -> None:
        options = batches.options
        self.source, self.batch_size = batches.source, options.batch_size
        self.seed, self.first = f"{options.seed}/{batches.base}", batches.next_worker
        self.marks, self.part = list(batches.marks), options.rank * batches.workers
        self.parts = batches.readers

    def __iter__(self) -> Iterator[Delivery]:
        info = get_worker_info()
        rejects = self.source.rejects
        # Batches are asked for in turn, beginning with process 0, which takes the part of the next reader.
        worker = (self.first + (info.id if info else 0)) % len(self.marks)
        if info is not None:
            rejects.leave_writing()
        stream = self.source.stream(
            seed=self.seed, part=self.part + worker, parts=self.parts, mark=self.marks[worker]
        )
        while True:
            try:
                drawn = list(islice(stream, self.batch_size))
                batch: Batch | str = collate([sample for _, sample in drawn])
                mark = drawn[-1][0]
            except ValueError as error:  # as a message: raised here, it would arrive as a traceback
                batch, mark = str(error), START
            yield worker, mark, batch, rejects.news() if info is not None else ([], Counter())
            if isinstance(batch, str):
                return
