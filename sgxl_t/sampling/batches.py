"""Batches that fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import torch

from sgxl_t.networks.generators.generator import Generator
from sgxl_t.sampling.fast.free_memory import free_bytes, image_bytes

MOST = 16
"""Images in a batch; more gain nothing on any device that was measured."""

SHARE = 0.5
"""Part of the free memory that a batch may take: estimates err, and others want some."""

Item = TypeVar("Item")
Made = TypeVar("Made")


class BatchSize:
    """How many images fit at a time, by what is free when it is asked for.

    On a GPU the first image is made alone and its memory measured; elsewhere layer sizes tell.
    """

    def __init__(self, generator: Generator, device: torch.device) -> None:
        self.device = device
        self.most = MOST
        self._bytes = None if device.type == "cuda" else image_bytes(generator)

    @property
    def known(self) -> bool:
        """Whether the memory of an image is known."""
        return self._bytes is not None

    def now(self) -> int:
        """1 to 16; 1 while nothing is known of a GPU."""
        if self._bytes is None:
            return 1
        free = free_bytes(self.device)
        return self.most if free is None else max(min(int(free * SHARE) // self._bytes, self.most), 1)

    def watch(self, make: Callable[[Sequence[Item]], Made], items: Sequence[Item]) -> Made:
        """make(items), measured where that is still wanted."""
        if self._bytes is not None or len(items) != 1:
            return make(items)
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        made = make(items)
        self._bytes = max(torch.cuda.max_memory_allocated(self.device) - before, 1)
        return made


def in_batches(
    items: Iterator[Item],
    make: Callable[[Sequence[Item]], Sequence[Made]],
    fitting: BatchSize,
    size: int | None = None,
) -> Iterator[tuple[Item, Made]]:
    """Each item with what `make` makes of it, batch by batch. size: None takes what fits.

    Where memory runs out the batch is halved, and what was made before is not lost. ValueError where one
    image alone does not fit.
    """
    automatic, size = size is None, size or fitting.now()
    part: list[Item] = []
    while part := part or list(islice(items, size)):
        now = part[:size]
        try:
            made: Sequence[Made] | None = fitting.watch(make, now)
        except Exception as error:
            if not _out_of_memory(error):
                raise
            made = None  # handled outside of this block, where no traceback holds tensors any more
        if made is None:
            if len(now) == 1:
                raise ValueError(
                    f"the memory of {fitting.device} does not hold what one image needs: free some of it, "
                    "take another device, or --precision bf16"
                )
            size = fitting.most = len(now) // 2
            if fitting.device.type == "cuda":
                torch.cuda.empty_cache()
            continue
        part = part[size:]
        yield from zip(now, made, strict=True)
        if automatic and not part:
            size = fitting.now()


def _out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed; only CUDA's allocator has an exception of its own."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("out of memory", "can't allocate memory")
    )
