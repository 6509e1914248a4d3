"""In which order readers take shards: a pure function of seed, reader and epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sgxl_t.datasets.shards.discover import Subset
from sgxl_t.ops.random import python_rng

Order = Literal["auto", "epochs", "resample"]
ORDERS = ("auto", "epochs", "resample")

SEGMENT_SHARDS = 8
"""Shards a reader mixes before it starts afresh. A resumed reader passes over at most these."""
SLICE_BELOW = 8
"""With fewer shards per reader than this, every reader takes a share of the samples of every shard."""


@dataclass(frozen=True)
class Unit:
    """What a reader reads of a shard: samples number `first`, `first + step`, and so on."""

    shard: str
    first: int = 0
    step: int = 1


class ShardOrder:
    """The order over subsets of shards.

    epochs: every sample once per epoch, over all readers together; each reader goes on to its next epoch by
    itself, and shares that are uneven are dealt another way in every epoch.
    resample: every reader draws shards with replacement, a subset by its weight and then a shard of it.
    auto: resample where subsets have weights, epochs otherwise.
    """

    def __init__(self, subsets: Sequence[Subset], order: Order = "auto") -> None:
        weighted = any(subset.weight is not None for subset in subsets)
        if order not in ORDERS:
            raise ValueError(f"data.order={order} is unknown: use {', '.join(ORDERS)}")
        if order == "epochs" and weighted:
            raise ValueError(
                "data.order=epochs shows every sample once, and the list of shards has weights: "
                "use data.order=resample, or take the weights out"
            )
        self.resample = order == "resample" or (order == "auto" and weighted)
        self.subsets = subsets
        self.shards = [shard for subset in subsets for shard in subset.shards]
        self._weights = [len(subset.shards) if subset.weight is None else subset.weight for subset in subsets]

    def segments(self, epoch: int, *, seed: object, part: int, parts: int) -> list[list[Unit]]:
        """What reader `part` of `parts` reads in an epoch, cut into segments; samples mix inside of one."""
        units = (self._drawn if self.resample else self._dealt)(epoch, seed, part, parts)
        size = SEGMENT_SHARDS * max((unit.step for unit in units), default=1)
        return [units[start : start + size] for start in range(0, len(units), size)]

    def _drawn(self, epoch: int, seed: object, part: int, parts: int) -> list[Unit]:
        rng = python_rng("shards", seed, epoch, part, parts)
        subsets = rng.choices(self.subsets, self._weights, k=SEGMENT_SHARDS)
        return [Unit(rng.choice(subset.shards)) for subset in subsets]

    def _dealt(self, epoch: int, seed: object, part: int, parts: int) -> list[Unit]:
        order = python_rng("shards", seed, epoch).sample(self.shards, len(self.shards))
        if parts == 1 or len(order) >= SLICE_BELOW * parts:
            return [Unit(shard) for shard in order[(part + epoch) % parts :: parts]]
        return [Unit(shard, (part + epoch + number) % parts, parts) for number, shard in enumerate(order)]
