"""Samples of shards by number: what metrics, grids and lists need, and a stream cannot give."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice

from tqdm import tqdm

from sgxl_t.datasets.base import evenly_spaced
from sgxl_t.datasets.decode import Bounds
from sgxl_t.datasets.rejects import RejectedItemError, Rejects
from sgxl_t.datasets.shards.tar.opening import is_local, shard_name
from sgxl_t.datasets.shards.tar.samples import Group, group_name, groups

log = logging.getLogger(__name__)

ADDRESSED = 1_000_000
"""Samples that are given addresses. Of larger sets, shards that are evenly spaced over the list."""
JUDGED_SHARDS = 5
"""Shards whose samples are counted to judge how many samples all of them hold."""
HELD_SHARDS, HELD_SAMPLES = 4, 1000
"""Of sets behind URLs, these many samples of these many shards are held in memory and have addresses."""


class Addresses:
    """Numbers for samples, in the order of the shards; made when the first one is asked for.

    Twelve bytes a sample: its shard, and where its first header lies there. Sets of which nothing is local
    have addresses for a few samples only, which are kept in memory.
    """

    def __init__(self, reference: str, shards: Sequence[str], bounds: Bounds, rejects: Rejects) -> None:
        self.reference, self.bounds, self.rejects = reference, bounds, rejects
        self.shards = [shard for shard in shards if is_local(shard)]
        self._remote = [] if self.shards else list(shards)

    def __len__(self) -> int:
        return len(self._held) if self._remote else len(self._index[1])

    def name(self, index: int) -> str:
        """How sample `index` is called in the list of rejects, also when it cannot be read."""
        if self._remote:
            return group_name(self._held[index])
        shards, numbers, starts = self._index
        return f"{shard_name(shards[numbers[index]])}@{starts[index]}"

    def group(self, index: int) -> Group:
        """The bytes of sample `index`."""
        if self._remote:
            return self._held[index]
        shards, numbers, starts = self._index
        shard = shards[numbers[index]]
        found = next(groups(shard, self.bounds, self.rejects, start=starts[index]), None)
        if found is None:
            raise RejectedItemError("shard has changed", shard_name(shard))
        return found

    @cached_property
    def _index(self) -> tuple[list[str], array[int], array[int]]:
        """Shards, and by sample the number of its shard and its first byte, from the tar headers alone."""
        shards, numbers, starts = self._chosen(), array("i"), array("q")
        bar = tqdm(shards, desc="indexing shards", unit="shard", delay=2, leave=False)
        for number, shard in enumerate(bar):
            try:
                for group in groups(shard, self.bounds, self.rejects, lazy=True):
                    numbers.append(number)
                    starts.append(group["__start__"])
            except RejectedItemError as error:
                self.rejects.add(shard_name(shard), error)
        return shards, numbers, starts

    def _chosen(self) -> list[str]:
        """As many of the shards as hold about ADDRESSED samples, judged by a few of them."""
        few = evenly(self.shards, JUDGED_SHARDS)
        if len(few) == len(self.shards):
            return self.shards
        counted = sum(self._samples_of(shard) for shard in few)
        if counted * len(self.shards) <= ADDRESSED * len(few):
            return self.shards
        chosen = evenly(self.shards, max(1, ADDRESSED * len(few) // counted))
        log.info("%d of %d shards have addresses; training streams all", len(chosen), len(self.shards))
        return chosen

    def _samples_of(self, shard: str) -> int:
        count = 0
        try:
            for _ in groups(shard, self.bounds, Rejects(), lazy=True):
                count += 1
        except RejectedItemError:
            pass  # counted where the shard is read
        return count

    def held_bytes(self) -> Iterator[bytes]:
        """All bytes of the samples that are held in memory, sample after sample."""
        for group in self._held:
            for ending in sorted(group):
                if isinstance(group[ending], bytes):
                    yield f"{group['__key__']}.{ending}".encode("utf-8", "surrogateescape")
                    yield group[ending]

    @cached_property
    def _held(self) -> list[Group]:
        held: list[Group] = []
        for shard in evenly(self._remote, HELD_SHARDS):
            try:
                held.extend(islice(groups(shard, self.bounds, self.rejects), HELD_SAMPLES // HELD_SHARDS))
            except RejectedItemError as error:
                self.rejects.add(shard_name(shard), error)
        if not held:
            raise ValueError(f"none of the shards of {self.reference} can be read: check their addresses")
        return held


def evenly(shards: Sequence[str], count: int) -> list[str]:
    """At most `count` of the shards, evenly spaced."""
    return [shards[number] for number in evenly_spaced(len(shards), count)]
