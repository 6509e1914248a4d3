"""What a run writes for people while it goes on: numbers per tick, grids, last/ and best/, the report."""

from __future__ import annotations

import logging
import math
import resource
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sgxl_t.conditioning.generate import generate
from sgxl_t.datasets.base import Batch
from sgxl_t.metrics.runner import MetricResult
from sgxl_t.model_io.model_folder import save_model
from sgxl_t.objectives.objective import Stats
from sgxl_t.ops.random import training_rng
from sgxl_t.training.build import real_pictures
from sgxl_t.training.callbacks.best import BestModel
from sgxl_t.training.callbacks.health import Health, rules_of
from sgxl_t.training.callbacks.health_numbers import AverageWatch, Variety
from sgxl_t.training.callbacks.report import write_run_report
from sgxl_t.training.callbacks.snapshots import (
    PlateauWatch,
    TrackedMetrics,
    grid_conditions,
    save_grid,
)
from sgxl_t.training.callbacks.tracking import Tracker, read_stats
from sgxl_t.training.loop.data import WatchedBatches
from sgxl_t.training.parallel.main_process import main_writes

if TYPE_CHECKING:
    from sgxl_t.training.loop.trainer import Trainer

log = logging.getLogger("sgxl_t")


class Recorder:
    """Collects numbers on every process; the main process writes."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.best = BestModel(trainer.folder)
        self.tracker: Tracker | None = None
        self.tracked: TrackedMetrics | None = None
        self.health: Health | None = None
        self.variety: Variety | None = None
        averages = [(trainer.ema, trainer.g.raw)]
        if trainer.condition_ema:
            averages.append((trainer.condition_ema, trainer.condition))
        self.average = AverageWatch(averages)
        self.plateau = PlateauWatch(trainer.config.schedule.snapshot_kimg)
        self._sums: dict[str, list[Tensor]] = defaultdict(list)
        self._tick_time, self._tick_images, self._waited = time.monotonic(), 0, 0.0

    def start(self) -> None:
        """Opens the files, fixes latents and conditions of all grids, shows real pictures."""
        trainer, settings = self.trainer, self.trainer.config.log
        self._start_clock()
        if trainer.images_seen == 0:  # weights may have come from another run since they were built
            self.average.start()
        rows = grid_conditions(trainer.source, trainer.condition.kind, settings.grid_rows)
        self._grid_given = [row for row in rows for _ in range(settings.grid_columns)]
        rng = training_rng(trainer.config.seed, "grid", 0)
        z = torch.randn(len(self._grid_given), trainer.g.raw.z_dim, generator=rng)
        self._grid_z = z.to(trainer.runtime.device)
        with main_writes(trainer.runtime, trainer.folder, "its records"):
            if trainer.runtime.is_main:
                self._open(rows)

    def _open(self, rows: Sequence[Any]) -> None:
        trainer, settings = self.trainer, self.trainer.config.log
        self.tracker = Tracker(
            trainer.folder, images_seen=trainer.images_seen, tensorboard=settings.tensorboard
        )
        trainer.source.rejects.write(trainer.folder / "rejects.jsonl")
        real = real_pictures(trainer.source, len(self._grid_z), trainer.config.seed)
        save_grid(real, trainer.folder / "samples" / "reals.png", columns=settings.grid_columns)
        if settings.track_images > 0 and settings.metrics:
            self.tracked = TrackedMetrics(trainer)
        self.health = Health(
            trainer.folder,
            rules_of(trainer.config),
            images_seen=trainer.images_seen,
            stats=read_stats(trainer.folder / "stats.jsonl"),
        )
        self.variety = Variety(rows, real, z_dim=trainer.g.raw.z_dim, seed=trainer.config.seed)

    def next_batch(self, loader: Iterator[Batch]) -> Batch:
        """The loader's next batch; the time until it comes counts as waiting."""
        began = time.monotonic()
        batch = next(loader)
        self._waited += time.monotonic() - began
        return batch

    def collect(self, stats: Stats) -> None:
        """Adds the scalars of one round; nothing is read from the device before the next tick."""
        for name, value in stats.items():
            self._sums[name].append(value)

    def tick(self) -> str:
        """Writes one line of numbers; returns the words beside the progress bar."""
        trainer, now = self.trainer, time.monotonic()
        line: dict[str, float] = {"images": trainer.images_seen}
        for name in sorted(self._sums):
            line[name] = round(float(trainer.runtime.mean(torch.stack(self._sums[name]).mean())), 6)
        self._sums.clear()
        line["blur_sigma"] = trainer.objective.sigma(trainer.images_seen)
        line["skipped_steps"] = sum(role.skipped_steps for role in trainer.roles().values())
        seconds = max(now - self._tick_time, 1e-9)
        speed = (trainer.images_seen - self._tick_images) / seconds
        line["images_per_second"] = round(speed, 2)
        waited = torch.tensor(self._waited / seconds, device=trainer.runtime.device)
        line["loader_share"] = round(float(trainer.runtime.mean(waited)), 4)
        followed = self.average.followed()
        if followed is not None:
            line["ema/followed"] = float(f"{followed:.4g}")
        line["memory_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3)
        self._start_clock()
        with main_writes(trainer.runtime, trainer.folder, "the numbers of a tick"):
            self._take(line)
        return f"{speed:.0f} img/s, G {line['loss/g']:.2f}, D {line['loss/d']:.2f}"

    def snapshot(self) -> None:
        """Writes a grid, the tracked metrics and last/; best/ becomes the best smoothed model so far."""
        with main_writes(self.trainer.runtime, self.trainer.folder, "a snapshot"):
            if self.trainer.runtime.is_main:
                self._write_snapshot()
        self._start_clock()

    @property
    def at_rest(self) -> bool:
        """Whether the schedule asks to stop where the tracked metric rests, and it does; equal everywhere."""
        return self.trainer.config.schedule.plateau and self.trainer.runtime.any(self.plateau.stop)

    def close(self) -> None:
        """Flushes files, brings the report up to date and ends the loader processes."""
        if isinstance(self.trainer.loader, WatchedBatches):
            self.trainer.loader.close()
        with main_writes(self.trainer.runtime, self.trainer.folder, "the report"):
            if self.tracker:
                self.tracker.close()
                write_run_report(self.trainer.folder)

    def _start_clock(self) -> None:
        self._tick_time, self._tick_images, self._waited = time.monotonic(), self.trainer.images_seen, 0.0

    def _take(self, line: dict[str, float]) -> None:
        """Writes a line of numbers and what health makes of it."""
        if self.tracker:
            self.tracker.scalars(line)
        if self.health:
            self.health.take(line)

    def _write_snapshot(self) -> None:
        trainer, kimg = self.trainer, self.trainer.images_seen / 1000
        condition = trainer.condition_ema.network if trainer.condition_ema else trainer.condition

        path = trainer.folder / "samples" / f"fakes_{kimg:010.3f}.png"
        pictures = generate(trainer.ema.network, condition, self._grid_given, self._grid_z)
        grid = save_grid(pictures, path, columns=trainer.config.log.grid_columns)
        metrics: dict[str, Any] = {}
        results: list[MetricResult] = []
        line: dict[str, float] = {}
        if self.tracked:
            results = self.tracked()
            metrics = self.tracked.describe(results)
            line = {one.metric: one.value for one in results if math.isfinite(one.value)}

        def write(folder: Path) -> None:
            provenance = self._provenance(kimg)
            save_model(folder, trainer.ema.network, condition, provenance, metrics=metrics)

        write(trainer.folder / "last")
        if self.tracked:
            self._judge(results, path, write)
        else:
            self.best.take_unmeasured(write)
        if self.tracker:
            self.tracker.picture("samples", grid, trainer.images_seen)
        if self.variety:
            line |= self.variety(trainer.ema.network, condition)
        if line:
            self._take({"images": trainer.images_seen, **line})
        write_run_report(trainer.folder)

    def _judge(self, results: list[MetricResult], path: Path, write: Callable[[Path], None]) -> None:
        """Keeps best/ by the first tracked metric; logs it and what the monitor makes of it."""
        trainer, first = self.trainer, results[0]
        improved = self.best.take(trainer.images_seen, first.value, write)
        shown = ", ".join(f"{one.metric} {one.value:.4g}" for one in results)
        best = " (best)" if improved else ""
        log.info("%.1f kimg: %s%s, %s", trainer.images_seen / 1000, shown, best, path)
        for note in dict.fromkeys(one.note for one in results if math.isnan(one.value)):
            log.warning("a tracked metric cannot be given: %s", note)
        objective = trainer.config.objective
        ramp = objective.blur_init_sigma > 0 and trainer.images_seen < objective.blur_fade_kimg * 1000
        self.plateau.update(trainer.images_seen, first.value, ramp=ramp)

    def _provenance(self, kimg: float) -> dict[str, Any]:
        config = self.trainer.config
        return {
            "data": config.data.source,
            "data_fingerprint": self.trainer.source.fingerprint(),
            "kimg": kimg,
            "seed": config.seed,
            "features": list(config.discriminator.features),
        }
