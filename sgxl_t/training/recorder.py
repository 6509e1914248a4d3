"""What a run writes for people while it goes on: numbers per tick, grids, last/ and best/, the report."""

from __future__ import annotations

import logging
import resource
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sgxl_t.conditioning.model_folder import save_model
from sgxl_t.networks.feature_networks import load_feature_network
from sgxl_t.objectives.objective import Stats
from sgxl_t.training.build import real_pictures
from sgxl_t.training.report import write_run_report
from sgxl_t.training.runtime import stream
from sgxl_t.training.snapshots import TRACKED_NETWORK, TrackedDistance, generate, grid_conditions, save_grid
from sgxl_t.training.tracking import Tracker

if TYPE_CHECKING:
    from sgxl_t.training.trainer import Trainer

log = logging.getLogger("sgxl_t")


class Recorder:
    """Collects numbers on every process; the main process writes."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.best = float("inf")
        self.tracker: Tracker | None = None
        self.tracked: TrackedDistance | None = None
        self._sums: dict[str, list[Tensor]] = defaultdict(list)
        self._tick_time, self._tick_images = time.monotonic(), 0

    def start(self) -> None:
        """Opens the files, fixes latents and conditions of all grids, shows real pictures."""
        trainer, settings = self.trainer, self.trainer.config.log
        self._tick_time, self._tick_images = time.monotonic(), trainer.images_seen
        rows = grid_conditions(trainer.source, trainer.condition.kind, settings.grid_rows)
        self._grid_given = [row for row in rows for _ in range(settings.grid_columns)]
        rng = stream(trainer.config.seed, "grid", 0, 0)
        z = torch.randn(len(self._grid_given), trainer.g.raw.z_dim, generator=rng)
        self._grid_z = z.to(trainer.runtime.device)
        if not trainer.runtime.is_main:
            return
        self.tracker = Tracker(
            trainer.folder, images_seen=trainer.images_seen, tensorboard=settings.tensorboard
        )
        trainer.source.rejects.write(trainer.folder / "rejects.jsonl")
        real = real_pictures(trainer.source, len(z), trainer.config.seed)
        save_grid(real, trainer.folder / "samples" / "reals.png", columns=settings.grid_columns)
        if settings.track_images > 0:
            network = load_feature_network(TRACKED_NETWORK).to(trainer.runtime.device)
            self.tracked = TrackedDistance(
                trainer.source, network, settings.track_images, trainer.g.raw.z_dim, trainer.config.seed
            )

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
        speed = (trainer.images_seen - self._tick_images) / max(now - self._tick_time, 1e-9)
        line["images_per_second"] = round(speed, 2)
        line["memory_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3)
        self._tick_time, self._tick_images = now, trainer.images_seen
        if self.tracker:
            self.tracker.scalars(line)
        return f"{speed:.0f} img/s, G {line['loss/g']:.2f}, D {line['loss/d']:.2f}"

    def snapshot(self) -> None:
        """Writes a grid, the tracked distance, last/ and, when it is the best so far, best/."""
        if self.trainer.runtime.is_main:
            self._write_snapshot()
        self.trainer.runtime.wait()
        self._tick_time, self._tick_images = time.monotonic(), self.trainer.images_seen

    def close(self) -> None:
        """Flushes files and brings the report up to date."""
        if self.tracker:
            self.tracker.close()
            write_run_report(self.trainer.folder)

    def _write_snapshot(self) -> None:
        trainer, kimg = self.trainer, self.trainer.images_seen / 1000
        condition = trainer.condition_ema.network if trainer.condition_ema else trainer.condition

        def encode(given: list[Any]) -> Tensor | None:
            c = condition.encode(given)
            return None if c is None else c.detach().to(trainer.runtime.device)

        path = trainer.folder / "samples" / f"fakes_{kimg:010.3f}.png"
        pictures = generate(trainer.ema.network, encode(self._grid_given), self._grid_z)
        grid = save_grid(pictures, path, columns=trainer.config.log.grid_columns)
        metrics: dict[str, Any] = {}
        improved = True
        if self.tracked:
            distance = self.tracked(trainer.ema.network, encode(self.tracked.given(condition.kind)))
            metrics = {"fd_random": distance, "protocol": self.tracked.protocol}
            improved, self.best = distance <= self.best, min(distance, self.best)
            log.info("%.1f kimg: fd_random %.4g%s, %s", kimg, distance, " (best)" if improved else "", path)
        for name in ("last", *(["best"] if improved else [])):
            save_model(
                trainer.folder / name, trainer.ema.network, condition, self._provenance(kimg), metrics=metrics
            )
        if self.tracker:
            self.tracker.picture("samples", grid, trainer.images_seen)
            if self.tracked:
                self.tracker.scalars({"images": trainer.images_seen, "fd_random": metrics["fd_random"]})
        write_run_report(trainer.folder)

    def _provenance(self, kimg: float) -> dict[str, Any]:
        config = self.trainer.config
        return {
            "data": config.data.source,
            "data_fingerprint": self.trainer.source.fingerprint(),
            "kimg": kimg,
            "seed": config.seed,
            "features": list(config.discriminator.features),
        }
