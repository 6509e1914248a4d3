"""The models last/ and best/ of a run; best/ has the lowest median of three values, not the luckiest."""

from __future__ import annotations

import filecmp
import logging
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sgxl_t.files.untrusted import read_json
from sgxl_t.files.whole import whole_folder
from sgxl_t.model_io.model_folder import CONFIG, METRICS, WEIGHTS, save_model
from sgxl_t.training.callbacks.callback import Callback, Snapshot

log = logging.getLogger("sgxl_t")

BEST, LAST = "best", "last"
WAITING = "waiting"
"""Its `best/` is the newest model, which becomes the run's best/ if the next value speaks for it."""
_SMOOTH = 3
"""Values whose median counts."""


def best_smoothed(values: Sequence[float]) -> int:
    """Position of the best of one or more values, lower being better, smoothed over neighbours.

    A value counts as the median of itself and its two neighbours; the last has one neighbour and counts as
    the higher of the two, so that a lucky one stays alone there as well. The first, never better than the
    second, does not compete. Of equal medians, which a lucky value shares with a neighbour, the one that is
    nearest to its own value is best, then the newest. One or two values have no median of three: the lower
    one is best.
    """
    if len(values) < _SMOOTH:
        return min(range(len(values)), key=lambda at: (values[at], -at))

    def rank(at: int) -> tuple[float, float, int]:
        median = sorted(values[at - 1 : at + 2])[1]
        return median, abs(values[at] - median), -at

    return min(range(1, len(values)), key=rank)


class BestModel(Callback):
    """Writes last/ at every snapshot and preview, and keeps best/ at the model of the best smoothed value.

    A median is known one snapshot later. A new value can only lower the median of the one before and leaves
    older ones alone, so best/ stays, or becomes the newest model or the one before, which waits beside it.
    """

    state_key = "snapshots"

    def __init__(self, folder: Path, provenance: Mapping[str, Any]) -> None:
        """folder: of the run. provenance: what models say of their origin, beside kimg."""
        self.folder, self.provenance = folder, provenance
        self.images: list[int] = []
        self.values: list[float] = []
        self.metric: str | None = None

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Writes the models; logs the tracked metrics."""
        write = partial(self._save, snapshot)
        write(self.folder / LAST)
        if not snapshot.results:
            self.take_unmeasured(write)
            return
        first = snapshot.results[0]
        if self.values and self.metric not in (None, first.metric):
            log.warning(
                "best/ was chosen by %s and now goes by %s: it is chosen anew", self.metric, first.metric
            )
            self.images, self.values = [], []
        self.metric = first.metric
        improved = self.take(snapshot.images_seen, first.value, write)
        shown = ", ".join(_shown(snapshot))
        grid = "" if snapshot.grid is None else f", {snapshot.grid[1]}"
        log.info("%.1f kimg: %s%s%s", snapshot.kimg, shown, " (best)" if improved else "", grid)
        for note in dict.fromkeys(one.note for one in snapshot.results if math.isnan(one.value)):
            log.warning("a tracked metric cannot be given: %s", note)

    def on_preview(self, snapshot: Snapshot) -> None:
        """Writes last/ and says so."""
        self._save(snapshot, self.folder / LAST)
        grid = "" if snapshot.grid is None else f", {snapshot.grid[1]}"
        log.info("%.1f kimg: preview in %s%s", snapshot.kimg, self.folder / LAST, grid)

    def _save(self, snapshot: Snapshot, folder: Path) -> None:
        provenance = {**self.provenance, "kimg": snapshot.kimg}
        metrics = dict(snapshot.metrics)
        save_model(folder, snapshot.generator, snapshot.condition, provenance, metrics=metrics, parents=False)

    def take(self, images_seen: int, value: float, write: Callable[[Path], object]) -> bool:
        """Takes a snapshot; returns whether its model is best/ now.

        value: of the tracked metric, lower is better. One that is not finite counts as no snapshot, but
        where there is no other yet the newest model is best/. write: writes the model into a folder.
        """
        if not math.isfinite(value):
            if not self.values:
                write(self.folder / BEST)
            return not self.values
        before = best_smoothed(self.values) if self.values else None
        self.images.append(images_seen)
        self.values.append(value)
        chosen, newest = best_smoothed(self.values), len(self.values) - 1
        if chosen == newest:
            write(self.folder / BEST)
            shutil.rmtree(self.folder / WAITING, ignore_errors=True)
            return True
        if chosen != before:
            assert chosen == newest - 1
            _replace(self.folder / BEST, self.folder / WAITING / BEST)
            log.info("the model of %.1f kimg is best, by the median of three", self.images[chosen] / 1000)
        (self.folder / WAITING).mkdir(exist_ok=True)
        write(self.folder / WAITING / BEST)
        return False

    def take_unmeasured(self, write: Callable[[Path], object]) -> None:
        """Takes a snapshot of a run that tracks nothing: its model is best/, and earlier values are void."""
        self.images, self.values = [], []
        write(self.folder / BEST)
        shutil.rmtree(self.folder / WAITING, ignore_errors=True)

    def state_dict(self) -> dict[str, Any]:
        """The values so far; a checkpoint needs `model_folders` as well."""
        return {"metric": self.metric, "images": self.images, "values": self.values}

    def model_folders(self) -> dict[str, Path]:
        """best/, and the model that waits beside it, where they are there."""
        found = {BEST: self.folder / BEST, WAITING: self.folder / WAITING / BEST}
        return {name: path for name, path in found.items() if (path / CONFIG).is_file()}

    def load_state_dict(self, state: Mapping[str, Any], checkpoint: Path) -> None:
        """Restores what `state_dict` gave, and the folders as they were then.

        checkpoint: folder that holds `model_folders`. What later snapshots wrote goes.
        """
        self.images = [int(images) for images in state["images"]]
        self.values = [float(value) for value in state["values"]]
        self.metric = metric_of(state, checkpoint)
        shutil.rmtree(self.folder / WAITING, ignore_errors=True)
        for name, path in {BEST: self.folder / BEST, WAITING: self.folder / WAITING / BEST}.items():
            stored = checkpoint / name
            if stored.is_dir() and not _same_model(stored, path):
                path.parent.mkdir(exist_ok=True)
                _replace(path, stored)


def metric_of(state: Mapping[str, Any], checkpoint: Path) -> str | None:
    """The metric that the values of a callback's state are of; None where nothing says so.

    States of older versions do not name it: the first number of the checkpoint's best/ is it.
    """
    if "metric" in state:
        return None if state["metric"] is None else str(state["metric"])
    path = checkpoint / BEST / METRICS
    if not path.is_file():
        return None
    return next(iter(read_json(path, way_out="remove it").keys()), None)


def _shown(snapshot: Snapshot) -> Iterator[str]:
    """Each number with that of real pictures; density and coverage are in stats.jsonl alone."""
    for one in snapshot.results or ():
        if one.metric.endswith(("_density", "_coverage")):
            continue
        floor = snapshot.floors.get(one.metric)
        yield f"{one.metric} {one.value:.4g}" + ("" if floor is None else f" (real pictures {floor:.4g})")


def _replace(folder: Path, model: Path) -> None:
    """`folder` becomes a copy of the model folder `model`, whole or not at all."""
    with whole_folder(folder, mark=CONFIG, parents=False) as aside:
        shutil.copytree(model, aside, dirs_exist_ok=True)


def _same_model(one: Path, other: Path) -> bool:
    """Whether two model folders hold the same settings and weights."""
    same, _, _ = filecmp.cmpfiles(one, other, [CONFIG, WEIGHTS], shallow=False)
    return len(same) == 2
