"""Whether the tracked metric has come to rest, and whether the run ends there."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sgxl_t.metrics.plateau import PlateauMonitor
from sgxl_t.training.callbacks.best import metric_of
from sgxl_t.training.callbacks.callback import Callback, Snapshot

log = logging.getLogger("sgxl_t")


class PlateauRule(Callback):
    """Feeds the first tracked metric to a `PlateauMonitor`, one evaluation per snapshot interval.

    Only a verdict that differs from the one before, or from that of the run that was resumed, is logged.
    """

    state_key = "plateau"

    def __init__(self, interval_kimg: float, *, ramp_kimg: float, ends: bool) -> None:
        """ramp_kimg: until then a schedule moves, and no value counts. ends: the run stops at its plateau."""
        self.interval, self.ramp, self.ends = interval_kimg * 1000, ramp_kimg * 1000, ends
        self.monitor = PlateauMonitor()
        self.stop = False
        self.metric: str | None = None
        self.reason = "plateau"
        self._last = 0

    @property
    def ended_by(self) -> str | None:
        """What the monitor calls it."""
        return self.reason if self.stop and self.ends else None

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Looks at the first result; values of another metric, from before a resume, are left behind."""
        if not snapshot.results:
            return
        first = snapshot.results[0]
        if self.metric not in (None, first.metric):
            self.monitor, self.stop = PlateauMonitor(), False
        self.metric = first.metric
        self.update(snapshot.images_seen, first.value)

    def update(self, images_seen: int, value: float) -> None:
        """value: of the tracked metric. Snapshots off the interval do not count."""
        position = int(images_seen / self.interval)
        if position <= self._last:
            return
        self._last = position
        decision = self.monitor.update(images_seen / 1000, value, ramp=images_seen < self.ramp)
        news = decision.reason != self.reason
        self.stop, self.reason = decision.stop, decision.reason
        if not news:
            return
        trend = f"no trend before {decision.window} snapshots"
        if decision.gain is not None:
            trend = f"gain {decision.gain:.2%} per {decision.window} snapshots"
        noise = "" if decision.noise is None else f", noise {decision.noise:.1%}"
        log.info("plateau: %s, %s%s%s", decision.reason, trend, noise, ", stop" if decision.stop else "")

    def state_dict(self) -> dict[str, Any]:
        """The monitor's values and its last verdict."""
        return {
            "metric": self.metric,
            "monitor": self.monitor.state_dict(),
            "stop": self.stop,
            "reason": self.reason,
            "last": self._last,
        }

    def load_state_dict(self, state: Mapping[str, Any], checkpoint: Path) -> None:
        """Restores what `state_dict` gave."""
        self.monitor.load_state_dict(state["monitor"])
        self.metric = metric_of(state, checkpoint)
        self.stop, self._last = bool(state["stop"]), int(state["last"])
        self.reason = str(state.get("reason", self.reason))
