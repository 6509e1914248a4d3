"""What decides which batches a rank gets, and how they are loaded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """The same for every batch of a run.

    batch_size: images of one batch on one rank. rank, world_size: of the process that takes the batches.
    num_workers: loader processes; 0 loads in this process. ahead: batches that the loader processes keep
    ready together, each at least two. caption_dropout: share of captions, in [0, 1], that are replaced by an
    empty text. alike: images of one class that stand together in the order, on average; 1 mixes all.
    """

    batch_size: int
    seed: int
    rank: int = 0
    world_size: int = 1
    num_workers: int = 0
    ahead: int = 0
    caption_dropout: float = 0.0
    alike: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 1 or not 0 <= self.rank < self.world_size or self.num_workers < 0:
            raise ValueError(
                f"batch_size={self.batch_size}, rank={self.rank}, world_size={self.world_size}, "
                f"num_workers={self.num_workers}: use a batch_size of 1 or more, a rank below world_size, "
                "and no negative numbers"
            )
        if self.alike < 1:
            raise ValueError(f"data.alike={self.alike} must be at least 1: 1 mixes images of all classes")
        if not 0 <= self.caption_dropout <= 1:
            raise ValueError(
                f"data.caption_dropout={self.caption_dropout} is out of range: use a number from 0 to 1"
            )

    @property
    def step(self) -> int:
        """Images that all ranks together take in one round."""
        return self.batch_size * self.world_size

    def first(self, images_seen: int) -> int:
        """Place of this rank's next image in the order of all images, of which so many have been seen."""
        if images_seen < 0:
            raise ValueError(f"images_seen={images_seen} is negative: count from 0")
        return images_seen + self.rank * self.batch_size
