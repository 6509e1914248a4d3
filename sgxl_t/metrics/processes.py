"""Several processes that measure together: shares of the work, and errors that reach all of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")

WAIT = timedelta(days=1)
"""The slowest share may take this much longer than the fastest; launchers notice processes that die."""


class NotFiniteError(ValueError):
    """Generated images hold NaN or infinite values, so that no number can be given."""


class Processes:
    """This process among those that measure together; one alone unless a launcher started more.

    Nothing is sent while images are made: each process adds up its own share, and all of them meet once at
    the end, so none waits for another in between.
    """

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.rank, self.world = rank, world

    @property
    def is_main(self) -> bool:
        """Whether this one computes, writes and prints."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """The part of `range(count)` that falls to this process; parts differ by at most one in length."""
        size, more = divmod(count, self.world)
        start = self.rank * size + min(self.rank, more)
        return range(start, start + size + (self.rank < more))

    def agree(self, work: Callable[[], T]) -> T:
        """Runs `work` here; where it fails on any process, all of them raise, so that none waits for ever.

        A ValueError stays one, with the words of the first process that failed.
        """
        error: Exception | None = None
        result: Any = None
        try:
            result = work()
        except Exception as caught:
            error = caught
        if self.world > 1:
            told: list[Any] = [None] * self.world
            kind = next(
                (one for one in (NotFiniteError, ValueError, OSError) if isinstance(error, one)), None
            )
            mine = None if error is None else (kind, str(error))
            dist.all_gather_object(told, mine)
            failures = [found for found in told if found is not None]
            if failures and error is None:
                kind, words = failures[0]
                raise (kind or RuntimeError)(words if kind else f"another process failed: {words}")
        if error is not None:
            raise error
        return result

    def from_main(self, work: Callable[[], T]) -> T:
        """Result of `work`, which runs on the main process only, on all of them."""
        box: list[Any] = [self.agree(lambda: work() if self.is_main else None)]
        if self.world > 1:
            dist.broadcast_object_list(box)
        return box[0]

    def gather_rows(self, rows: Tensor) -> Tensor:
        """float32 [n, D] of all processes, one after the other, on the main one; the own rows elsewhere."""
        if self.world == 1:
            return rows
        counts = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world)]
        dist.all_gather(counts, torch.tensor([len(rows)]))
        if not self.is_main:
            if len(rows):
                dist.send(rows.contiguous(), 0)
            return rows
        parts = [rows]
        for other in range(1, self.world):
            part = rows.new_empty(int(counts[other]), rows.shape[1])
            if len(part):
                dist.recv(part, other)
            parts.append(part)
        return torch.cat(parts)


def join_processes() -> Processes:
    """The processes that torchrun or accelerate started (RANK, WORLD_SIZE), or this one alone.

    They meet through gloo, on the CPU, where all sums are kept anyway.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Processes()
    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=WAIT)
    return Processes(dist.get_rank(), dist.get_world_size())


def leave_processes() -> None:
    """Closes what `join_processes` opened."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
