"""Whether a run is healthy: its rules over the numbers of ticks and snapshots, told in words."""

from __future__ import annotations

import json
import logging
import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sgxl_t.files.untrusted import read_json_lines
from sgxl_t.files.whole import whole_file
from sgxl_t.training.callbacks.health_rules import Line, Rule

log = logging.getLogger("sgxl_t")

FILE = "health.jsonl"


@dataclass
class Pool:
    """The newest ticks that together show so many images, as one line of their means over images."""

    images: int
    """Images that a mean needs at least."""
    _ticks: deque[tuple[int, Line]] = field(default_factory=deque)
    """Images of each tick, and its line."""
    _seen: float = 0

    def add(self, line: Line) -> Line | None:
        """The means once there are images enough; None before. A run that went back begins anew."""
        shown, self._seen = int(line["images"] - self._seen), line["images"]
        if shown <= 0:
            self._ticks.clear()
            return None
        self._ticks.append((shown, line))
        count = sum(shown for shown, _ in self._ticks)
        while count - self._ticks[0][0] >= self.images:
            count -= self._ticks.popleft()[0]
        if count < self.images:
            return None
        names = set.intersection(*(set(tick) for _, tick in self._ticks))
        return {name: sum(shown * tick[name] for shown, tick in self._ticks) / count for name in names}


class Health:
    """Watches a run by its rules; a warning is logged and kept once when it begins and once when it is over.

    Entries of RUN/health.jsonl: images and kimg of its tick or snapshot, rule, state (begins or over), value,
    text. On resume, entries past the checkpoint are dropped.
    """

    def __init__(
        self, folder: Path, rules: Sequence[Rule], *, images_seen: int, stats: Iterable[Line] = ()
    ) -> None:
        """stats: the lines up to images_seen, from which counts in a row go on as if never stopped."""
        self.path, self.rules = folder / FILE, tuple(rules)
        kept = [entry for entry in read_health(folder) or [] if entry["images"] <= images_seen]
        with whole_file(self.path) as aside:
            aside.write_text("".join(json.dumps(entry) + "\n" for entry in kept))
        self.active = {entry["rule"] for entry in warnings_on(kept)}
        self._in_a_row = dict.fromkeys((rule.name for rule in self.rules), 0)
        self._before: Line = {}
        self._pools = {size: Pool(size) for size in {rule.pooled for rule in self.rules} if size}
        for line in stats:
            self._count(line)

    def take(self, line: Line) -> None:
        """line: of stats.jsonl, of a tick or a snapshot."""
        for rule, value in self._count(line):
            if self._in_a_row[rule.name] < rule.patience:
                continue
            self._in_a_row[rule.name] = 0
            begins = rule.name not in self.active
            (self.active.add if begins else self.active.discard)(rule.name)
            text = rule.begins(value) if begins else rule.ends(value)
            (log.warning if begins else log.info)("%.1f kimg: %s", line["images"] / 1000, text)
            entry = {
                "images": line["images"],
                "kimg": line["images"] / 1000,
                "rule": rule.name,
                "state": "begins" if begins else "over",
                "value": float(f"{value:.4g}"),
                "text": text,
            }
            with self.path.open("a") as stream:
                stream.write(json.dumps(entry) + "\n")

    def _count(self, line: Line) -> list[tuple[Rule, float]]:
        """Counts how often in a row each rule speaks against its state; returns those that speak at all."""
        spoken = []
        is_tick = "skipped_steps" in line
        pooled = {size: pool.add(line) if is_tick else None for size, pool in self._pools.items()}
        for rule in self.rules:
            read = pooled[rule.pooled] if rule.pooled else line
            value = None if read is None else rule.read(read, self._before)
            if value is None or math.isnan(value):
                continue
            turns = rule.kept(value) if rule.name in self.active else rule.broken(value)
            self._in_a_row[rule.name] = self._in_a_row[rule.name] + 1 if turns else 0
            spoken.append((rule, value))
        if is_tick:
            self._before = line
        return spoken


def read_health(folder: Path) -> list[dict[str, Any]] | None:
    """All whole entries of a run, oldest first; None where the run has not been watched."""
    if not (folder / FILE).exists():
        return None
    entries = [entry.raw for entry in read_json_lines(folder / FILE)]
    return [entry for entry in entries if isinstance(entry, dict) and _is_entry(entry)]


def _is_entry(entry: dict[str, Any]) -> bool:
    words = all(isinstance(entry.get(key), str) for key in ("rule", "state", "text"))
    return words and all(isinstance(entry.get(key), int | float) for key in ("images", "kimg"))


def warnings_on(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries of warnings that have begun and are not over."""
    last = {entry["rule"]: entry for entry in entries}
    return [entry for entry in last.values() if entry["state"] == "begins"]
