"""The length of a run: as configured, or what fits its minutes (`schedule.fit_minutes`)."""

from __future__ import annotations

import time

import torch

from sgxl_t.training.config.parts import ScheduleConfig
from sgxl_t.training.parallel.runtime import Runtime
from sgxl_t.training.train_state import TrainState

SETTLED_SHARE = 0.2
"""Share of the minutes before speed is judged: first updates, and pictures that are read, are slow."""
END_SHARE, END_SECONDS = 0.02, 3.0
"""Left for the last snapshot and checkpoint: a share of the minutes, or so many seconds if that is more."""


class FittedLength:
    """How many images a run trains in all.

    With `fit_minutes`, the configured length is an estimate. Once the speed of this process is known, the run
    is as long as fits its minutes, counted from its start, so that learning rates fall to their end and the
    last snapshot is made in time. What fitted is part of the state: a run that has ended so stays ended.
    """

    def __init__(self, schedule: ScheduleConfig, runtime: Runtime) -> None:
        self.configured = round(schedule.kimg * 1000)
        self._runtime = runtime
        self._seconds = None
        if schedule.fit_minutes and schedule.max_minutes is not None:
            self._seconds = schedule.max_minutes * 60
        self._began, self._first = time.monotonic(), 0

    def of(self, state: TrainState) -> int:
        """Images of the whole run; what fitted another configured length does not count."""
        of, fitted = state.fitted or (0, 0)
        return fitted if of == self.configured else self.configured

    def start(self, state: TrainState) -> None:
        """The first update of this process is about to begin."""
        self._began, self._first = time.monotonic(), state.images_seen
        if state.images_seen < self.of(state):
            state.fitted = None  # a run that was stopped has new minutes

    def fit(self, state: TrainState) -> None:
        """Shortens or lengthens the run; all processes call it."""
        if self._seconds is None:
            return
        now = time.monotonic()
        spent, training = now - self._runtime.began, now - self._began
        if self._runtime.any(training < SETTLED_SHARE * self._seconds and spent < self._seconds / 2):
            return
        left = self._seconds - spent - max(END_SHARE * self._seconds, END_SECONDS)
        more = (state.images_seen - self._first) / training * max(left, 0.0)
        mean = self._runtime.mean(torch.tensor(more, dtype=torch.float32, device=self._runtime.device))
        state.fitted = self.configured, state.images_seen + int(mean)
