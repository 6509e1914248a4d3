"""Clocks, turns and quartiles.

Not by torch.utils.benchmark: its timer runs everything twice more before each measurement, so a turn of one
slow call would take three times as long.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

REPEATS = 7
"""Turns of each side, at least."""


class Quartiles(NamedTuple):
    """First quartile, median and third quartile."""

    low: float
    median: float
    high: float

    @property
    def spread(self) -> float:
        """Inter-quartile range as a share of the median."""
        return (self.high - self.low) / self.median


def quartiles(values: Sequence[float]) -> Quartiles:
    """Of two values or more."""
    return Quartiles(*statistics.quantiles(values, n=4, method="inclusive"))


def clock_name(device: torch.device, threads: int) -> str:
    """cuda (events), cpu (time of the process: right on a busy machine, for one thread alone) or wall."""
    if device.type == "cuda":
        return "cuda"
    return "cpu" if threads == 1 and device.type == "cpu" else "wall"


def timed(run: Callable[[], object], clock: str, loops: int = 1) -> float:
    """Milliseconds of one of `loops` calls in a row."""
    if clock == "cuda":
        return _timed_on_cuda(run, loops)
    now = time.process_time if clock == "cpu" else time.perf_counter
    begun = now()
    for _ in range(loops):
        run()
    return (now() - begun) * 1000 / loops


def _timed_on_cuda(run: Callable[[], object], loops: int) -> float:
    begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begun.record()
    for _ in range(loops):
        run()
    ended.record()
    torch.cuda.synchronize()
    return begun.elapsed_time(ended) / loops


def loops_for(milliseconds: float, shortest: float) -> int:
    """Calls in a row that take `shortest` milliseconds together: short ones drown in the clock's steps."""
    return max(math.ceil(shortest / max(milliseconds, 1e-3)), 1)


def alternate(
    sides: Sequence[Callable[[], float]], repeats: int, step: Callable[[], object]
) -> list[list[float]]:
    """Times of every side, taken in turns (A B A B), so that a busy spell slows all alike.

    sides: run once and return milliseconds. step: called after each run.
    """
    times: list[list[float]] = [[] for _ in sides]
    for _ in range(repeats):
        for side, taken in zip(sides, times, strict=True):
            taken.append(side())
            step()
    return times
