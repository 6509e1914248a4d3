"""What may happen beside the updates of a run, and the order in which it does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from sgxl_t.conditioning import Condition
from sgxl_t.metrics.runner import MetricResult
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.objectives.objective import Stats
from sgxl_t.training.parallel.main_process import on_main_process
from sgxl_t.training.parallel.runtime import Runtime
from sgxl_t.training.train_state import TrainState

Line = dict[str, float]
"""A line of stats.jsonl: numbers by name, with `images` as their position."""


@dataclass
class Snapshot:
    """The averaged model at one moment. Callbacks add what later ones in the list need.

    numbers: of this snapshot, for stats.jsonl. results, metrics: of the tracked metrics, None and empty where
    none are tracked. grid: the sample sheet [3, H, W] uint8 and its file. samples: uint8 [N, 3, R, R], the
    images on it, row by row.
    """

    images_seen: int
    generator: Generator
    condition: Condition
    numbers: Line = field(default_factory=dict)
    results: Sequence[MetricResult] | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    grid: tuple[Tensor, Path] | None = None
    samples: Tensor | None = None

    @property
    def kimg(self) -> float:
        """Thousand images seen."""
        return self.images_seen / 1000

    @property
    def line(self) -> Line | None:
        """The numbers as a line of stats.jsonl; None where there are none."""
        return {"images": self.images_seen, **self.numbers} if self.numbers else None


class Callback:
    """Takes part in a run through the hooks that it overrides.

    Processes may have different callbacks: those that write are the main process's alone. Only `on_tick` may
    wait for other processes, so a callback that overrides it must be there on all of them. The other hooks
    run where a failure of one process ends all.
    """

    state_key: str | None = None
    """Name of this callback's state in a checkpoint; None where it has no state."""

    def on_start(self, state: TrainState) -> None:
        """Before the first update, of a resumed run as well, and again after a rollback."""

    def on_loss(self, stats: Stats) -> None:
        """After each forward and backward pass; reading a value would wait for the device."""

    def on_update(self, state: TrainState) -> None:
        """After all phases of an update."""

    def on_tick(self, state: TrainState) -> Line:
        """Numbers of this tick, on all processes together."""
        return {}

    def on_numbers(self, line: Line) -> None:
        """The numbers that all callbacks gave for this tick."""

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """At every snapshot, in the order of the list."""

    def on_preview(self, snapshot: Snapshot) -> None:
        """Between snapshots, when much time has passed or the run stops; cheap, and measures nothing."""

    def after_snapshot(self, state: TrainState) -> None:
        """Once all processes are through with the snapshot or preview."""

    def on_end(self) -> None:
        """After the last update, and before a rollback."""

    def on_exit(self) -> None:
        """When the loop is left in any way, by an exception as well."""

    @property
    def ended_by(self) -> str | None:
        """Why the run should stop; None to go on."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """JSON values for the checkpoint, under `state_key`."""
        return {}

    def model_folders(self) -> dict[str, Path]:
        """Model folders that belong to the state, by their name in the checkpoint, which copies them."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any], checkpoint: Path) -> None:
        """Restores what `state_dict` gave. checkpoint: folder that holds `model_folders`."""


class Callbacks:
    """The callbacks of a run, called in order; all processes meet after files are written."""

    def __init__(self, callbacks: Iterable[Callback], runtime: Runtime, folder: Path) -> None:
        """folder: of the run."""
        self._callbacks = list(callbacks)
        self._runtime, self._folder = runtime, folder

    def start(self, state: TrainState) -> None:
        """Opens files and starts clocks."""
        with on_main_process(self._runtime, self._folder, "its records"):
            for callback in self._callbacks:
                callback.on_start(state)

    def loss(self, stats: Stats) -> None:
        """Hands on the scalars of one micro-batch."""
        for callback in self._callbacks:
            callback.on_loss(stats)

    def update(self, state: TrainState) -> None:
        """An update is done."""
        for callback in self._callbacks:
            callback.on_update(state)

    def tick(self, state: TrainState) -> None:
        """Collects a line of numbers and shows it to all."""
        line: Line = {"images": state.images_seen}
        for callback in self._callbacks:
            line |= callback.on_tick(state)
        with on_main_process(self._runtime, self._folder, "the numbers of a tick"):
            for callback in self._callbacks:
                callback.on_numbers(line)

    def snapshot(self, state: TrainState) -> None:
        """Samples, metrics and model folders of the averaged model."""
        with self._averaged(state, "a snapshot") as snapshot:
            for callback in self._callbacks:
                callback.on_snapshot(snapshot)

    def preview(self, state: TrainState) -> None:
        """Samples and last/ of the averaged model, without metrics."""
        with self._averaged(state, "a preview") as snapshot:
            for callback in self._callbacks:
                callback.on_preview(snapshot)

    @contextmanager
    def _averaged(self, state: TrainState, doing: str) -> Iterator[Snapshot]:
        """The averaged model, for the main process; all callbacks hear of the end."""
        with on_main_process(self._runtime, self._folder, doing):
            yield Snapshot(state.images_seen, state.ema.network, state.averaged_condition)
        for callback in self._callbacks:
            callback.after_snapshot(state)

    def end(self) -> None:
        """Closes files and brings the report up to date."""
        with on_main_process(self._runtime, self._folder, "the report"):
            for callback in self._callbacks:
                callback.on_end()

    def close(self) -> None:
        """Leaves nothing open when the loop is left."""
        for callback in self._callbacks:
            callback.on_exit()

    @property
    def ended_by(self) -> str | None:
        """Why the first callback that wants so asks to stop; None on processes whose callbacks do not ask."""
        return next(filter(None, (callback.ended_by for callback in self._callbacks)), None)

    def state_dict(self) -> dict[str, Any]:
        """State by key, of the callbacks that have one."""
        return {one.state_key: one.state_dict() for one in self._callbacks if one.state_key}

    def model_folders(self) -> dict[str, Path]:
        """All model folders that a checkpoint needs."""
        return {name: path for one in self._callbacks for name, path in one.model_folders().items()}

    def load_state_dict(self, state: Mapping[str, Any], checkpoint: Path) -> None:
        """Restores the states that the checkpoint has."""
        for one in self._callbacks:
            if one.state_key is not None and one.state_key in state:
                one.load_state_dict(state[one.state_key], checkpoint)
