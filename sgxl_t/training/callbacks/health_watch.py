"""The rules of health, applied to the numbers of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sgxl_t.training.callbacks.callback import Callback, Line, Snapshot
from sgxl_t.training.callbacks.health import Health
from sgxl_t.training.callbacks.health_rules import Rule
from sgxl_t.training.callbacks.stats_file import read_stats
from sgxl_t.training.train_state import TrainState


class HealthWatch(Callback):
    """Warns when a rule is broken and says when it is kept again, in the log and in health.jsonl."""

    def __init__(self, folder: Path, rules: Sequence[Rule]) -> None:
        """folder: of the run."""
        self._folder, self._rules = folder, rules

    def on_start(self, state: TrainState) -> None:
        """Goes on as if the run had never stopped."""
        stats = read_stats(self._folder / "stats.jsonl")
        self._health = Health(self._folder, self._rules, images_seen=state.images_seen, stats=stats)

    def on_numbers(self, line: Line) -> None:
        """Applies the rules to a tick."""
        self._health.take(line)

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Applies the rules to the numbers of a snapshot."""
        if snapshot.line:
            self._health.take(snapshot.line)
