"""Losses, speed and memory of a tick."""

from __future__ import annotations

import resource
import time
from collections import defaultdict

import torch
from torch import Tensor

from sgxl_t.objectives.objective import Stats
from sgxl_t.training.callbacks.callback import Callback, Line
from sgxl_t.training.loop.data import TrainingBatches
from sgxl_t.training.parallel.runtime import Runtime
from sgxl_t.training.train_state import TrainState


class Statistics(Callback):
    """Means over the micro-batches of all processes since the last tick; time at snapshots does not count."""

    def __init__(self, runtime: Runtime, data: TrainingBatches) -> None:
        self._runtime, self._data = runtime, data
        self._values: dict[str, list[Tensor]] = defaultdict(list)
        self._since, self._images_before, self._waited_before = time.monotonic(), 0, 0.0

    def on_start(self, state: TrainState) -> None:
        """Starts the clock."""
        self._start_clock(state)

    def after_snapshot(self, state: TrainState) -> None:
        """Starts the clock anew."""
        self._start_clock(state)

    def on_loss(self, stats: Stats) -> None:
        """Keeps the scalars; nothing is read from the device before the next tick."""
        for name, value in stats.items():
            self._values[name].append(value)

    def on_tick(self, state: TrainState) -> Line:
        """Mean losses; blur in pixels, skipped steps, images per second, share of waiting, GiB of memory."""
        runtime, seconds = self._runtime, max(time.monotonic() - self._since, 1e-9)
        line: Line = {}
        for name in sorted(self._values):
            line[name] = round(float(runtime.mean(torch.stack(self._values[name]).mean())), 6)
        self._values.clear()
        line["blur_sigma"] = state.objective.sigma(state.images_seen)
        line["skipped_steps"] = state.skipped_steps
        line["images_per_second"] = round((state.images_seen - self._images_before) / seconds, 2)
        waited = torch.tensor((self._data.waited - self._waited_before) / seconds, device=runtime.device)
        line["loader_share"] = round(float(runtime.mean(waited)), 4)
        line["memory_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3)
        self._start_clock(state)
        return line

    def _start_clock(self, state: TrainState) -> None:
        self._since, self._images_before = time.monotonic(), state.images_seen
        self._waited_before = self._data.waited
