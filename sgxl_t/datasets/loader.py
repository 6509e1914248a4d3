"""An endless stream of batches that is a pure function of (seed, rank, images seen)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from sgxl_t.datasets.base import Batch, ImageSource, Sample, StreamSource, collate
from sgxl_t.datasets.caption_choice import choose_caption
from sgxl_t.datasets.caption_dropout import drop_captions
from sgxl_t.datasets.streaming import StreamBatches


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
) -> Iterator[Batch]:
    """Batches without end, of `batch_size` pictures each, for one rank.

    images_seen: pictures that all ranks together have consumed before; the stream goes on there.
    Pictures are shuffled anew each time the whole source has been passed. All ranks together consume the
    order of one process with batches of `world_size * batch_size`: rank r takes the r-th part of each.
    Of several captions of a picture one is drawn each time, as a function of seed and place in that order.
    caption_dropout: share of captions, in [0, 1], that are replaced by an empty text.
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
        )
    views = _Views(source, seed)
    places = _places(len(source), batch_size, seed, rank, world_size, images_seen)
    if num_workers == 0:
        read: Iterator[Batch] = (collate([views[place] for place in batch]) for batch in places)
    else:
        loader = DataLoader(views, batch_sampler=places, num_workers=num_workers, collate_fn=collate)
        read = iter(loader)
    if caption_dropout == 0:
        return read
    first, step = images_seen + rank * batch_size, batch_size * world_size
    return (
        drop_captions(batch, caption_dropout, f"{seed}/{first + number * step}")
        for number, batch in enumerate(read)
    )


Place = tuple[int, int]
"""A position in the endless order, and the index of the picture that stands there."""


def _places(
    count: int, batch_size: int, seed: int, rank: int, world_size: int, images_seen: int
) -> Iterator[list[Place]]:
    """Places of each batch in one endless sequence of seeded permutations."""
    epoch, order = -1, torch.empty(0)
    start = images_seen + rank * batch_size
    while True:
        batch = []
        for position in range(start, start + batch_size):
            if position // count != epoch:
                epoch = position // count
                order = torch.randperm(count, generator=_stream(seed, epoch))
            batch.append((position, int(order[position % count])))
        yield batch
        start += batch_size * world_size


def _stream(seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)


class _Views(Dataset):
    """The pictures as training sees them, with one caption each; worker processes hold a copy."""

    def __init__(self, source: ImageSource, seed: int) -> None:
        self.source, self.seed = source, seed

    def __getitem__(self, place: Place) -> Sample:
        position, index = place
        return choose_caption(self.source[index], f"{self.seed}/{position}")
