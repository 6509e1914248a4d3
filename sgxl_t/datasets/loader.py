"""An endless stream of batches that is a pure function of (seed, rank, images seen)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from sgxl_t.datasets.base import Batch, ImageSource, Sample, StreamSource, collate


def batches(
    source: ImageSource,
    *,
    batch_size: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    images_seen: int = 0,
    num_workers: int = 0,
) -> Iterator[Batch]:
    """Batches without end, of `batch_size` pictures each, for one rank.

    images_seen: pictures that all ranks together have consumed before; the stream goes on there.
    Pictures are shuffled anew each time the whole source has been passed. All ranks together consume the
    order of one process with batches of `world_size * batch_size`: rank r takes the r-th part of each.
    Shards are streamed instead (StreamSource.stream): seeded by (seed, rank, images seen), without replay.
    """
    if batch_size < 1 or not 0 <= rank < world_size or images_seen < 0 or num_workers < 0:
        raise ValueError(
            f"batch_size={batch_size}, rank={rank}, world_size={world_size}, images_seen={images_seen}, "
            f"num_workers={num_workers}: counts must not be negative, and rank below world_size"
        )
    if isinstance(source, StreamSource):
        data: Dataset = _Stream(source, seed=seed, rank=rank, world_size=world_size, images_seen=images_seen)
        loader = DataLoader(data, batch_size=batch_size, num_workers=num_workers, collate_fn=collate)
        return iter(loader)
    positions = _positions(len(source), batch_size, seed, rank, world_size, images_seen)
    if num_workers == 0:
        return (collate([source[i] for i in indices]) for indices in positions)
    return iter(
        DataLoader(_Indexed(source), batch_sampler=positions, num_workers=num_workers, collate_fn=collate)
    )


def _positions(
    count: int, batch_size: int, seed: int, rank: int, world_size: int, images_seen: int
) -> Iterator[list[int]]:
    """Indices of each batch: positions of one endless sequence of seeded permutations."""
    epoch, order = -1, torch.empty(0)
    start = images_seen + rank * batch_size
    while True:
        indices = []
        for position in range(start, start + batch_size):
            if position // count != epoch:
                epoch = position // count
                order = torch.randperm(count, generator=_stream(seed, epoch))
            indices.append(int(order[position % count]))
        yield indices
        start += batch_size * world_size


def _stream(seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)


class _Indexed(Dataset):
    """The face of a source that worker processes see."""

    def __init__(self, source: ImageSource) -> None:
        self.source = source

    def __getitem__(self, index: int) -> Sample:
        return self.source[index]


class _Stream(IterableDataset):
    """A shard stream whose workers read different shards."""

    def __init__(
        self, source: StreamSource, *, seed: int, rank: int, world_size: int, images_seen: int
    ) -> None:
        self.source = source
        self.seed, self.rank, self.world_size, self.images_seen = seed, rank, world_size, images_seen

    def __iter__(self) -> Iterator[Sample]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info is not None else (0, 1)
        return self.source.stream(
            seed=self.seed,
            images_seen=self.images_seen,
            part=self.rank * workers + worker,
            parts=self.world_size * workers,
        )
